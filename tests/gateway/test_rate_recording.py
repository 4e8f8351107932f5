"""The ledger always has a rate that may be used, and nobody has to think of it."""

from __future__ import annotations

import logging

import pytest

from gateway.rate_recording import AGAIN_S, RateRecorder
from ledger import rules
from ledger.records import Rate
from ledger.writer import submit
from tests.gateway.conftest import Town


def recorder(town: Town) -> RateRecorder:
    city = town.city
    return RateRecorder(
        city.gateway.engine, city.gateway.payments.view, city.rate_desk, ["USDT", "KZT"], city.clock
    )


def last(town: Town) -> Rate:
    return town.city.gateway.payments.view.refresh().last_rate["USDT"]


def test_a_rate_is_recorded_when_the_ledgers_own_is_half_as_old_as_it_may_be(town: Town):
    state = town.city.gateway.payments.view.refresh()
    half = rules.parameter(state, "rate_age", town.city.clock()) // 2
    work = recorder(town)
    town.city.clock.wait(max(half - (town.city.clock() - last(town).time), 0) + 1)
    before = last(town)
    assert work.step() == 1
    # Of many who ask in one hour one is heard, whatever the sources say meanwhile.
    town.city.clock.wait(61)
    assert recorder(town).step() == 0
    town.record()
    now = town.city.clock()
    assert before.time < last(town).time <= now
    assert work.step() == 0
    town.city.clock.wait(half)
    assert work.step() == 1


def test_a_rate_that_the_rules_refuse_is_told_and_brought_again_an_hour_later(
    town: Town, caplog: pytest.LogCaptureFixture
):
    town.city.clock.wait(rules.DAY)
    with town.city.gateway.engine.begin() as connection:
        wrong = Rate(0, "USDT", 1, 10**6, b"\1" * 32, b"\2" * 32)
        submit(connection, wrong, town.city.clock(), f"rate USDT {town.city.clock() // AGAIN_S}".encode())
    town.record()
    with caplog.at_level(logging.WARNING):
        assert recorder(town).step() == 0
    assert "Q2" in caplog.text
    town.city.clock.wait(AGAIN_S)
    assert recorder(town).step() == 1


def test_the_worker_records_rates_by_itself(town: Town):
    town.city.clock.wait(rules.DAY)
    before = last(town).time
    town.city.worker.round()
    town.record()
    assert last(town).time > before
