"""Rates in use: believed, kept, recorded; asked seldom, and never made up."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.embedded import RATES
from gateway.rate_desk import PAUSE_S, RateDesk, rate_record
from gateway.rates import SourcedRate
from gateway.rates_simulator import Misbehaviour
from ledger.records import Invalid, Unavailable
from ledger.writer import submit
from tests.gateway.conftest import DAY, Town


def break_all(town: Town, how: Misbehaviour) -> None:
    for name in ("exchange-a", "exchange-b", "nationalbank"):
        town.city.outside.rates.misbehaves[name] = how


def test_a_rate_is_asked_for_once_a_minute(town: Town):
    desk = town.city.rate_desk
    first = desk.current("USDT")
    break_all(town, Misbehaviour.STATUS_500)
    town.wait(59)
    assert desk.current("USDT") is first
    town.wait(1)
    assert desk.current("USDT") is first  # the last good one, with its own time
    assert desk.current("USDT").time_s == town.city.clock() - 60


def test_the_last_good_rate_serves_so_long_and_not_a_second_longer(town: Town):
    desk = town.city.rate_desk
    desk.current("USDT")
    break_all(town, Misbehaviour.STATUS_500)
    town.wait(900)
    desk.current("USDT")
    town.wait(PAUSE_S + 1)
    with pytest.raises(Unavailable, match="last good rate is 906 s old"):
        desk.current("USDT")


def test_failed_sources_are_left_alone_for_a_moment(town: Town):
    desk, rates = town.city.rate_desk, town.city.outside.rates
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
        town.city.rate_desk.current("USDT")


def test_an_asset_without_sources_has_no_rate(town: Town):
    with pytest.raises(Unavailable):
        town.city.rate_desk.current("DOGE")


def test_a_recorded_rate_has_two_sources_and_their_answers_are_published(town: Town):
    believed = town.city.rate_desk.current("USDT")
    with town.city.gateway.engine.begin() as connection:
        record = rate_record(connection, believed)
    assert (record.numerator, record.denominator) == (believed.numerator, believed.denominator)
    assert record.source1 != record.source2
    lonely = type(believed)(believed.asset, 1, 1, 1, believed.sources[:1])
    with town.city.gateway.engine.begin() as connection, pytest.raises(Invalid) as refused:
        rate_record(connection, lonely)
    assert refused.value.rule == "Q1"


def another_process(town: Town) -> RateDesk:
    """A desk that has only just started, on the same database; it has a memory of its own."""
    return RateDesk(town.city.outside.rate_sources, RATES, town.city.clock, town.city.gateway.engine)


def price(town: Town, tenge: str) -> None:
    """The market moves, and the official dollar with it: nothing but the step stands against it."""
    rates = town.city.outside.rates
    rates.official["USD"] = (Decimal(tenge), 1)
    for exchange in rates.exchanges.values():
        exchange["USDT/KZT"] = Decimal(tenge)


def check_restart(town: Town) -> None:
    before = town.city.rate_desk.current("USDT")
    price(town, "570.00")  # 11 % more than 512.10; a day's step is 10 %
    town.wait(3_600)
    with pytest.raises(Unavailable, match=r"Q4.*basis points from the last good rate, at most 1000"):
        another_process(town).current("USDT")
    # It cannot be walked there in two starts, and what was refused has not become the last good rate.
    with pytest.raises(Unavailable, match="Q4"):
        another_process(town).current("USDT")
    price(town, "513.00")
    after = another_process(town).current("USDT")
    assert (after.fraction * 10**4, after.time_s) == (513, before.time_s + 3_600)


def test_ff31_a_restart_does_not_forget_the_last_good_rate(town: Town):
    check_restart(town)


def test_ff31_a_restart_does_not_forget_the_last_good_rate_on_postgresql(postgres_town: Town):
    check_restart(postgres_town)


def check_two_processes(town: Town) -> None:
    first, second = another_process(town), another_process(town)
    assert first.current("USDT").fraction * 10**4 == Decimal("512.10")
    town.wait(60)
    price(town, "550.00")
    first.current("USDT")
    # From 512.10 this is a step of 18 %, from 550 one of 10 %: the second goes by what the first believed.
    town.wait(60)
    price(town, "604.00")
    assert second.current("USDT").fraction * 10**4 == 604
    town.wait(60)
    price(town, "540.00")
    with pytest.raises(Unavailable, match=r"Q4.*1060 basis points"):
        first.current("USDT")


def test_ff31_two_processes_have_one_last_good_rate(town: Town):
    check_two_processes(town)


def test_ff31_two_processes_have_one_last_good_rate_on_postgresql(postgres_town: Town):
    check_two_processes(postgres_town)


# What a process of the gateway does for a rate: its list, its desk, the database; with a clock that is told.
PROCESS = """
import sys, httpx
from pathlib import Path
from gateway import db
from gateway.rate_desk import RateDesk
from gateway.rate_plan import policy_of, read_plan, sources_of
from ledger.records import Unavailable
database, path, now = sys.argv[1:]
plan = read_plan(Path(path))
sources = sources_of(plan, httpx.Client(trust_env=False), None, 0)
try:
    rate = RateDesk(sources, policy_of(plan), lambda: int(now), db.engine(database)).current("USDT")
    print(rate.time_s, float(rate.fraction * 10**4))
except Unavailable as refused:
    print(refused)
"""


def process(town: Town, path: Path) -> str:
    """What a process that starts now says of the rate, and ends."""
    rates = town.city.outside.rates
    bank = {"kind": "national_bank", "url": rates.daily_url, "currency": "USD", "max_age_s": 4 * 86_400}
    exchanges = [
        {
            "kind": "exchange",
            "name": name,
            "url": rates.exchange_url(name),
            "symbol": "USDT/KZT",
            "max_age_s": 600,
        }
        for name in rates.exchanges
    ]
    path.write_text(json.dumps({"assets": {"USDT": {"decimals": 6, "sources": [bank, *exchanges]}}}))
    database = town.city.gateway.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", PROCESS, database, str(path), str(town.city.clock())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_ff31_a_process_that_starts_is_held_to_what_another_believed_and_ended(town: Town, tmp_path: Path):
    path = tmp_path / "rates.json"
    assert process(town, path) == f"{town.city.clock()} 512.1"
    town.wait(3_600)
    price(town, "570.00")
    assert "Q4" in (told := process(town, path))
    assert "1131 basis points from the last good rate, at most 1000" in told
    # This one, which runs on, is held to it as well.
    with pytest.raises(Unavailable, match="Q4"):
        town.city.rate_desk.current("USDT")
    price(town, "520.00")
    assert process(town, path) == f"{town.city.clock()} 520.0"
    town.wait(PAUSE_S)
    assert town.city.rate_desk.current("USDT").time_s == town.city.clock() - PAUSE_S


def test_ff31_two_processes_that_ask_at_once_are_held_against_each_other(town: Town):
    """The second asked before the first had believed, and answers after it."""
    first, second = another_process(town), another_process(town)
    town.wait(3_600)

    class Slow:
        name = "nationalbank"

        def fetch(self, now_s: int) -> SourcedRate:
            price(town, "480.00")
            first.current("USDT")
            price(town, "540.00")
            return sources[0].fetch(now_s)

    sources = town.city.outside.rate_sources["USDT"]
    second._sources = {"USDT": (Slow(), *sources[1:])}
    # 540 is within the day's step of 512.10, and 12.5 % from the 480 of the first.
    with pytest.raises(Unavailable, match=r"Q4.*1250 basis points"):
        second.current("USDT")
    assert another_process(town).current("USDT").fraction * 10**4 == 480


def test_a_second_process_asks_no_sources_while_the_first_has_a_fresh_rate(town: Town):
    believed = another_process(town).current("USDT")
    break_all(town, Misbehaviour.STATUS_500)
    town.wait(59)
    told = another_process(town).current("USDT")
    assert told == believed
    # The same sources with the same bytes: it can be put on the ledger all the same.
    with town.city.gateway.engine.begin() as connection:
        record = rate_record(connection, told)
    assert bytes(record.source1) in {bytes.fromhex(source.sha256) for source in believed.sources}


# --- held to the ledger ------------------------------------------------------------------------------


def held(town: Town) -> RateDesk:
    """A desk that has only just started and knows the ledger, as the server's does."""
    gateway = town.city.gateway
    return RateDesk(
        town.city.outside.rate_sources, RATES, town.city.clock, gateway.engine, gateway.payments.view
    )


def is_recorded(town: Town, desk: RateDesk) -> bool:
    """Put the rate in use on the ledger; whether it stands there, or was refused for its step."""
    gateway, now = town.city.gateway, town.city.clock()
    believed = desk.current("USDT")
    with gateway.engine.begin() as connection:
        submit(connection, rate_record(connection, believed), now, f"tried {now}".encode())
    town.record()
    last = gateway.payments.view.refresh().last_rate["USDT"]
    return Fraction(last.numerator, last.denominator) == believed.fraction


def test_what_the_ledger_would_not_record_is_not_quoted_whatever_small_steps_led_there(town: Town):
    """Ten per cent in each minute are a step each: the ledger's band of the day is what stops the walk."""
    unheld = another_process(town)
    for tenge in ("550.00", "604.00"):
        town.wait(60)
        price(town, tenge)
        unheld.current("USDT")
    assert not is_recorded(town, unheld)
    town.wait(60)
    with pytest.raises(Unavailable, match=r"Q4.*the ledger would not record it.*1795 of 10,000.*is 1000"):
        held(town).current("USDT")
    with pytest.raises(Unavailable, match="the ledger would not record it"):
        town.city.rate_desk.current("USDT")


def test_after_silence_a_true_move_is_quoted_on_the_day_on_which_it_is_recorded(town: Town):
    before = town.city.gateway.payments.view.refresh().last_rate["USDT"]
    price(town, "640.00")  # a quarter more than 512.10: the third day has room for it
    town.wait(before.time + 2 * DAY - town.city.clock())
    for desk in (held(town), town.city.rate_desk):
        with pytest.raises(Unavailable, match="Q4"):
            desk.current("USDT")
    # The last good rate may be an hour younger than the ledger's.
    town.wait(3_601)
    assert held(town).current("USDT").fraction * 10**4 == 640
    assert is_recorded(town, town.city.rate_desk)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([61, 3_600, DAY, 2 * DAY, 5 * DAY]), st.integers(-3_000, 3_000)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_rate_in_use_is_refused_by_the_ledger(town: Town, steps: list[tuple[int, int]]):
    """Whatever the market does: quoted, and put on the ledger in the same second, it stands there."""
    tenge = Decimal("512.10")
    for seconds, by_bps in steps:
        town.wait(seconds)
        tenge = min(
            max((tenge * (10_000 + by_bps) / 10_000).quantize(Decimal("0.01")), Decimal(1)), Decimal(10**6)
        )
        price(town, str(tenge))
        try:
            town.city.rate_desk.current("USDT")
        except Unavailable:
            continue
        assert is_recorded(town, town.city.rate_desk)
