"""Rates in use: believed, kept, recorded; asked seldom, and never made up."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.rate_desk import PAUSE_S, rate_record
from gateway.rates_simulator import Misbehaviour
from ledger.records import Invalid, Unavailable
from tests.gateway.conftest import Town


def break_all(town: Town, how: Misbehaviour) -> None:
    for name in ("exchange-a", "exchange-b", "nationalbank"):
        town.city.outside.rates.misbehaves[name] = how


def test_a_rate_is_asked_for_once_a_minute(town: Town):
    desk = town.city.outside.rate_desk
    first = desk.current("USDT")
    break_all(town, Misbehaviour.STATUS_500)
    town.wait(59)
    assert desk.current("USDT") is first
    town.wait(1)
    assert desk.current("USDT") is first  # the last good one, with its own time
    assert desk.current("USDT").time_s == town.city.clock() - 60


def test_the_last_good_rate_serves_so_long_and_not_a_second_longer(town: Town):
    desk = town.city.outside.rate_desk
    desk.current("USDT")
    break_all(town, Misbehaviour.STATUS_500)
    town.wait(900)
    desk.current("USDT")
    town.wait(PAUSE_S + 1)
    with pytest.raises(Unavailable, match="last good rate is 906 s old"):
        desk.current("USDT")


def test_failed_sources_are_left_alone_for_a_moment(town: Town):
    desk, rates = town.city.outside.rate_desk, town.city.outside.rates
    break_all(town, Misbehaviour.STATUS_500)
    with pytest.raises(Unavailable):
        desk.current("USDT")
    rates.misbehaves.clear()
    town.wait(PAUSE_S - 1)
    with pytest.raises(Unavailable):
        desk.current("USDT")
    town.wait(1)
    assert desk.current("USDT").numerator > 0


def test_sources_that_contradict_each_other_are_unavailable_and_no_fault_of_the_caller(town: Town):
    town.city.outside.rates.exchanges["exchange-a"]["USDT/KZT"] = Decimal(540)
    with pytest.raises(Unavailable, match="Q"):
        town.city.outside.rate_desk.current("USDT")


def test_an_asset_without_sources_has_no_rate(town: Town):
    with pytest.raises(Unavailable):
        town.city.outside.rate_desk.current("DOGE")


def test_a_recorded_rate_has_two_sources_and_their_answers_are_published(town: Town):
    believed = town.city.outside.rate_desk.current("USDT")
    with town.city.gateway.engine.begin() as connection:
        record = rate_record(connection, believed)
    assert (record.numerator, record.denominator) == (believed.numerator, believed.denominator)
    assert record.source1 != record.source2
    lonely = type(believed)(believed.asset, 1, 1, 1, believed.sources[:1])
    with town.city.gateway.engine.begin() as connection, pytest.raises(Invalid) as refused:
        rate_record(connection, lonely)
    assert refused.value.rule == "Q1"
