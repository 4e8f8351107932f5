"""When the writer does not believe its clock, and what becomes of what waits meanwhile (H2, LEAKS 03)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ledger import store
from ledger.audit.replay import SKEW_S as AUDITED_SKEW_S
from ledger.database import engine as open_engine
from ledger.records import Invalid, Unavailable, decode
from ledger.rules import DAY
from ledger.timekeeping import FUTURE_S, SKEW_S, ChainTime, Timekeeper, steady
from ledger.writer import Writer
from tests.ledger.running import KEYS, Ledger, fees, template


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger; no clock is a matter of the database."""
    engine, heads = (open_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("ledger", "heads"))
    yield Ledger(tmp_path, engine, heads)
    engine.dispose()
    heads.dispose()


@dataclass
class Steady:
    """Seconds that pass when a test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Chain:
    """A chain of which only the newest block's time is asked."""

    newest: int
    is_silent: bool = False
    asked: int = 0

    def time(self) -> ChainTime:
        return ChainTime("chain 7", self._newest)

    def _newest(self) -> int:
        self.asked += 1
        if self.is_silent:
            raise Unavailable("chain", "no answer")
        return self.newest


def start(ledger: Ledger, *chains: Chain, steady: Callable[[], float], confirmed: int = 0) -> Writer:
    """A writer whose clock is compared with these."""
    keeper = Timekeeper(steady, [chain.time() for chain in chains], confirmed)
    return Writer(ledger.engine, ledger.heads, KEYS, ledger.clock, timekeeper=keeper)


def passes(ledger: Ledger, seconds: int, at: Steady, *chains: Chain) -> None:
    """Time passes for the clock and for everything else."""
    ledger.clock.now += seconds
    at.now += seconds
    for chain in chains:
        chain.newest += seconds


def waits(ledger: Ledger, writer: Writer, id: bytes, *numbers: int) -> None:
    """The writer stops and says these numbers; the submission is neither recorded nor refused."""
    before = ledger.records()
    with pytest.raises(Unavailable) as stopped:
        writer.step()
    assert stopped.value.service == "clock"
    assert all(str(number) in stopped.value.why for number in numbers)
    assert ledger.records() == before
    assert ledger.answer(id) is None


def test_a_clock_that_is_before_the_last_record_stops_the_writer_and_nothing_is_lost(ledger: Ledger):
    writer, log = ledger.opened()
    earlier, first, second = fees(log, 0, 3)
    ledger.ask(earlier)
    writer.drain()
    last = writer.state.time
    assert last == ledger.clock.now
    ledger.ask(first)
    ledger.clock.now = last - FUTURE_S - 1
    waits(ledger, writer, first.id, last, ledger.clock.now)
    with pytest.raises(Unavailable, match="clock"):
        writer.dry_run([second])
    # A minute is what the clocks of two machines may differ by.
    ledger.clock.now = last - FUTURE_S
    writer.drain()
    assert ledger.answer(first.id).position == len(log.records) + 1
    assert decode(ledger.records()[-1]).time == last


def test_a_stopped_writer_does_not_build_its_memory_again(ledger: Ledger):
    writer, log = ledger.opened()
    first, second = fees(log, 0, 2)
    ledger.ask(first)
    writer.drain()
    state = writer.state
    ledger.ask(second)
    ledger.clock.now -= DAY
    with pytest.raises(Unavailable, match="clock"):
        writer.step()
    ledger.clock.now += DAY
    writer.drain()
    assert writer.state is state


@pytest.mark.parametrize("extra_s", [0, 1])
def test_leak_03_a_record_that_wants_a_time_over_now_and_60_s_is_refused(ledger: Ledger, extra_s: int):
    writer, log = ledger.opened()
    fee, other = fees(log, 0, 2)
    wanted = ledger.clock() + FUTURE_S + extra_s
    late = template(fee)[:32] + wanted.to_bytes(32, "big") + template(fee)[64:]
    with ledger.engine.begin() as connection:
        store.submit(connection, fee.id, late, ledger.clock())
    ledger.ask(other)
    writer.drain()
    assert ledger.answer(other.id).position == len(log.records) + 1 - extra_s
    if extra_s:
        with pytest.raises(Invalid, match=f"H2.*{wanted}.*{ledger.clock()}"):
            ledger.answer(fee.id)
        with pytest.raises(Invalid, match=f"H2.*{wanted}.*{ledger.clock()}"):
            ledger.ask(replace(fees(log, 2, 1)[0], time=wanted))
    else:
        assert ledger.answer(fee.id).position == len(log.records)
    assert all(decode(data).time <= ledger.clock() for data in ledger.records())


def test_leak_03_a_clock_that_jumps_before_anything_is_written_is_seen_by_the_chain(ledger: Ledger):
    _, log = ledger.opened()
    at, chain = Steady(), Chain(ledger.clock.now)
    writer = start(ledger, chain, steady=at)
    fee = fees(log, 0, 1)[0]
    ledger.ask(fee)
    right = ledger.clock.now
    ledger.clock.now += 30 * DAY
    waits(ledger, writer, fee.id, ledger.clock.now, right)
    ledger.clock.now = right
    writer.drain()
    assert decode(ledger.records()[-1]).time == right


def test_the_chain_allows_the_skew_that_the_audit_allows_and_no_second_more(ledger: Ledger):
    assert SKEW_S == AUDITED_SKEW_S
    _, log = ledger.opened()
    at, chain = Steady(), Chain(ledger.clock.now)
    writer = start(ledger, chain, steady=at)
    first, second = fees(log, 0, 2)
    ledger.ask(first)
    ledger.clock.now = chain.newest + SKEW_S + 1
    waits(ledger, writer, first.id, ledger.clock.now, chain.newest)
    ledger.clock.now -= 1
    writer.drain()
    assert ledger.answer(first.id) is not None
    # It goes on by itself when the chain shows a block.
    ledger.ask(second)
    ledger.clock.now += 1
    waits(ledger, writer, second.id, ledger.clock.now, chain.newest)
    chain.newest += 1
    writer.drain()
    assert ledger.answer(second.id) is not None


def test_a_chain_that_stands_still_stops_nobody_while_time_passes_alike(ledger: Ledger):
    _, log = ledger.opened()
    at, chain = Steady(), Chain(ledger.clock.now)
    writer = start(ledger, chain, steady=at)
    for number in range(5):
        ledger.ask(fees(log, number, 1)[0])
        writer.drain()
        passes(ledger, SKEW_S, at)
        chain.is_silent = True
    ledger.ask(fees(log, 9, 1)[0])
    ledger.clock.now += SKEW_S + 1
    waits(ledger, writer, fees(log, 9, 1)[0].id, ledger.clock.now)


def test_a_batch_asks_no_chain_while_the_clock_agrees_and_publishing_asks_now_and_then(ledger: Ledger):
    _, log = ledger.opened()
    at, chain = Steady(), Chain(ledger.clock.now)
    writer = start(ledger, chain, steady=at)
    publisher, watcher = ledger.publisher(), ledger.watcher()
    for number in range(10):
        ledger.ask(fees(log, number, 1)[0])
        writer.drain()
        passes(ledger, 10, at, chain)
    assert chain.asked == 1
    writer.publish(publisher, watcher)
    writer.publish(publisher, watcher)
    assert chain.asked == 2


def test_a_writer_that_no_chain_has_told_the_time_waits_and_says_why(ledger: Ledger):
    _, log = ledger.opened()
    at, chain, other = Steady(), Chain(ledger.clock.now, is_silent=True), Chain(0, is_silent=True)
    writer = start(ledger, chain, other, steady=at)
    fee = fees(log, 0, 1)[0]
    ledger.ask(fee)
    with pytest.raises(Unavailable, match=r"clock.*chain 7: no answer; chain 7: no answer"):
        writer.step()
    assert ledger.answer(fee.id) is None
    # One of them is enough.
    chain.is_silent = False
    writer.drain()
    assert ledger.answer(fee.id) is not None


def test_leak_03_without_a_chain_a_jump_is_seen_by_the_steady_clock_until_it_goes_back(ledger: Ledger):
    _, log = ledger.opened()
    at = Steady()
    writer = start(ledger, steady=at)
    first, second, third = fees(log, 0, 3)
    ledger.ask(first)
    writer.drain()
    passes(ledger, 3_600, at)
    ledger.clock.now += FUTURE_S
    ledger.ask(second)
    writer.drain()
    right = ledger.clock.now
    ledger.ask(third)
    ledger.clock.now += FUTURE_S + 1
    waits(ledger, writer, third.id, ledger.clock.now, right)
    # Not once, and then no more.
    waits(ledger, writer, third.id, ledger.clock.now, right)
    ledger.clock.now = right
    writer.drain()
    assert decode(ledger.records()[-1]).time == right


def test_a_person_may_say_that_the_clock_is_right_up_to_a_time(ledger: Ledger):
    _, log = ledger.opened()
    at, chain = Steady(), Chain(ledger.clock.now - 10 * DAY)
    first, second = fees(log, 0, 2)
    ledger.ask(first)
    waits(ledger, start(ledger, chain, steady=at), first.id, ledger.clock.now, chain.newest)
    writer = start(ledger, chain, steady=at, confirmed=ledger.clock.now + 5)
    writer.drain()
    assert ledger.answer(first.id) is not None
    ledger.ask(second)
    ledger.clock.now += 6
    waits(ledger, writer, second.id, ledger.clock.now, chain.newest)


def test_the_steady_clock_goes_on_with_time_and_takes_no_setting():
    before, wall = steady(), time.time()
    time.sleep(0.05)
    assert steady() - before == pytest.approx(time.time() - wall, abs=0.04)
    assert time.get_clock_info("monotonic").adjustable is False
