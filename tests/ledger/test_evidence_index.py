"""Evidence is found wherever it was used, with a memory that does not grow and rows that do not change."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import OperationalError

from ledger import evidence_index, tables
from ledger.database import engine, reading
from ledger.evidence_index import EvidenceIndex
from ledger.following import Follower
from ledger.lookup import Stored
from ledger.migrations import upgrade
from ledger.records import Invalid, Transfer, Unavailable, encode
from ledger.rules import replay
from ledger.store import Waiting
from ledger.writer import Writer
from tests import city
from tests.ledger.running import Ledger, fees, template

RUN = 64


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run every 64 records."""
    monkeypatch.setattr(evidence_index, "RUN_RECORDS", RUN)


def pay(at: Writer, paid: list[Transfer], each: int = 50) -> None:
    """Have fees written, in batches."""
    for start in range(0, len(paid), each):
        at.append([Waiting(None, fee.id, template(fee)) for fee in paid[start : start + each]])


def runs(ledger: Ledger) -> list[tuple[int, int]]:
    """From where to where each run in the database goes."""
    table = tables.evidence
    chosen = select(table.c.start, table.c.stop).where(table.c.bucket == 0).order_by(table.c.start)
    with reading(ledger.engine) as connection:
        return [tuple(row) for row in connection.execute(chosen)]


def again(fee: Transfer, number: int) -> Transfer:
    """Another fee with the same evidence."""
    return replace(fees(city.registered(), number, 1)[0], evidence=fee.evidence)


def is_refused(ledger: Ledger, at: Writer, fee: Transfer) -> bool:
    """Whether a fee is refused because its evidence was used."""
    pay(at, [fee])
    try:
        return ledger.answer(fee.id) is None
    except Invalid as refused:
        return refused.rule == "M3" and "evidence" in refused.why


@pytest.mark.parametrize("is_started_again", [False, True])
def test_evidence_of_every_earlier_record_is_refused_in_runs_and_after_them(
    ledger: Ledger, is_started_again: bool
):
    at, log = ledger.opened()
    paid = fees(log, 0, 5 * RUN)
    pay(at, paid)
    assert len(runs(ledger)) >= 4
    assert at._past.evidence.sealed == runs(ledger)[-1][1]
    if is_started_again:
        at = ledger.writer()
    size = at.tree.size
    for number, fee in enumerate(random.Random(1).sample(paid, 40), 1_000):
        assert is_refused(ledger, at, again(fee, number))
    assert at.tree.size == size
    pay(at, fees(log, 2_000, 3))
    assert at.tree.size == size + 3


def test_runs_follow_each_other_without_a_gap_whoever_seals_them(ledger: Ledger):
    at, log = ledger.opened()
    pay(at, fees(log, 0, 3 * RUN))
    behind = EvidenceIndex()
    behind.size, behind.sealed = at.tree.size, 0
    # Another process seals what is sealed already: refused, and it goes on with what is there.
    behind._newest[:] = bytes(8 * at.tree.size)
    behind.seal(ledger.engine)
    with reading(ledger.engine) as connection:
        behind.forget_sealed(connection)
    assert behind.sealed == runs(ledger)[-1][1]
    pay(at, fees(log, 1_000, 3 * RUN))
    pay(ledger.writer(), fees(log, 2_000, 2 * RUN))
    found = runs(ledger)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert {stop - start for start, stop in found} == {RUN}


def test_a_thief_who_grinds_for_the_same_8_bytes_gets_neither_a_double_nor_a_refusal(ledger: Ledger):
    """FF75: the index has 8 bytes, the verdict all 32; and 8 bytes that no evidence has are nothing special."""
    at, log = ledger.opened()
    tail = city.digest("ground")[-8:]
    ground = [
        replace(fee, evidence=city.digest(f"front {number}")[:24] + end)
        for number, fee in enumerate(fees(log, 0, 3 * RUN))
        for end in ([tail, bytes(8)][number % 2],)
    ]
    pay(at, ground)
    assert len(runs(ledger)) >= 2
    for is_new in (False, True):
        writer = ledger.writer() if is_new else at
        size = writer.tree.size
        for number in (0, 1, RUN, 2 * RUN + 1, 3 * RUN - 1):
            assert is_refused(ledger, writer, again(ground[number], 10_000 * (1 + is_new) + number))
        assert writer.tree.size == size
        for number, end in enumerate((tail, bytes(8))):
            new = city.digest(f"new {size} {number}")[:24] + end
            pay(writer, [replace(fees(log, 9_000 + size + number, 1)[0], evidence=new)])
        assert writer.tree.size == size + 2


def test_whoever_reads_finds_the_same_and_writes_nothing(ledger: Ledger):
    at, log = ledger.opened()
    follower = Follower(ledger.engine)
    follower.follow()
    pay(at, fees(log, 0, 4 * RUN))
    paid = fees(log, 1_000, 4 * RUN)
    pay(at, paid)
    before = runs(ledger)
    state = follower.follow()
    assert runs(ledger) == before
    late = Follower(ledger.engine).follow()
    for past in (state.past, late.past):
        assert all(past.has_evidence(fee.evidence) for fee in paid)
        assert not past.has_evidence(city.digest("never"))
        assert len(past.evidence._newest) < 8 * 3 * RUN
    # At an earlier moment what came later is not known.
    early = Stored(lambda: ledger.engine, replay(log.records)[0])
    assert not early.has_evidence(paid[0].evidence)


def test_what_was_written_before_there_were_runs_is_found_and_put_into_runs(ledger: Ledger):
    upgrade(ledger.engine, ledger.heads)
    at, log = ledger.opened()
    evidence_index.RUN_RECORDS = 1 << 16  # put back by the fixture
    paid = fees(log, 0, 4 * RUN)
    pay(at, paid)
    assert runs(ledger) == []
    evidence_index.RUN_RECORDS = RUN
    at = ledger.writer()
    size = at.tree.size
    assert is_refused(ledger, at, again(paid[3], 1_000))
    assert len(runs(ledger)) == size // RUN
    with reading(ledger.engine) as connection:
        assert connection.execute(select(func.count()).select_from(tables.evidence)).scalar_one() > RUN


def test_a_database_that_stops_answering_while_runs_are_read_leaves_no_hole(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    at, log = ledger.opened()
    paid = fees(log, 0, 4 * RUN)
    pay(at, paid)
    past = Stored(lambda: ledger.engine, at.state, is_reader=True)
    read = evidence_index._runs

    def broken(connection: Connection, before: int) -> Iterator[bytes]:
        yield from islice(read(connection, before), 3)
        raise OperationalError("SELECT", None, OSError("gone"))

    monkeypatch.setattr(evidence_index, "_runs", broken)
    with pytest.raises(Unavailable):
        past.has_evidence(paid[0].evidence)
    with pytest.raises(Unavailable):
        past.prepare([encode(fee) for fee in paid], [])
    monkeypatch.setattr(evidence_index, "_runs", read)
    assert past.prepare([encode(fee) for fee in paid], []) == {
        value for fee in paid for value in (fee.id, fee.evidence)
    }


@pytest.mark.parametrize("what", ["UPDATE ledger_evidence SET stop = 9", "DELETE FROM ledger_evidence"])
def test_leak_19_the_database_refuses_to_forget_where_evidence_was_used(ledger: Ledger, what: str):
    at, log = ledger.opened()
    pay(at, fees(log, 0, 2 * RUN))
    pay(at, fees(log, 1_000, 1))
    before = runs(ledger)
    assert before
    with pytest.raises(Exception, match="insert-only"), ledger.engine.begin() as connection:
        connection.execute(text(what))
    assert runs(ledger) == before


def test_memory_of_the_newest_is_bounded_by_two_runs(ledger: Ledger):
    at, log = ledger.opened()
    for first in range(0, 10 * RUN, RUN // 2):
        pay(at, fees(log, first, RUN // 2))
        assert len(at._past.evidence._newest) < 8 * 2 * RUN


@pytest.mark.parametrize("lost", [3, RUN + 3])
def test_a_writer_whose_database_went_back_leaves_no_run_of_what_is_not_there(ledger: Ledger, lost: int):
    """A replica that lacked the last records takes over while the writer lives."""
    at, log = ledger.opened()
    # The last batch makes a run full, and is counted when the next one comes.
    paid = fees(log, 0, 3 * RUN - at.tree.size)
    pay(at, paid)
    older = replace(ledger, engine=engine(f"sqlite:///{ledger.folder}/older.db"))
    older.heads = engine(f"sqlite:///{ledger.folder}/older-heads.db")
    pay(older.opened()[0], paid[:-lost])
    at.engine = older.engine
    with pytest.raises((Unavailable, AssertionError)):
        pay(at, fees(log, 1_000, 1))
    # The next writer goes on with other records in their place, as many as it takes to seal.
    other = older.writer()
    new = fees(log, 2_000, 3 * RUN)
    pay(other, new)
    found = runs(older)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    late = older.writer()
    size = late.tree.size
    for number, fee in enumerate(new[: RUN + RUN]):
        assert is_refused(older, late, again(fee, 5_000 + number))
    assert late.tree.size == size


def test_a_writer_whose_database_has_as_many_other_records_writes_nothing_there(ledger: Ledger):
    """The copy that took over went on as far as this one had come, under the same fence, with the same sums."""
    at, log = ledger.opened()
    paid = fees(log, 0, 2)
    pay(at, [paid[0]])
    older = replace(ledger, engine=engine(f"sqlite:///{ledger.folder}/older.db"))
    older.heads = engine(f"sqlite:///{ledger.folder}/older-heads.db")
    pay(older.opened()[0], [replace(paid[1], amount=paid[0].amount)])
    at.engine = older.engine
    before = older.records()
    # What was used there, and is unknown in memory.
    with pytest.raises(AssertionError, match="are not those"):
        pay(at, [again(paid[1], 7)])
    assert older.records() == before
    assert is_refused(older, older.writer(), again(paid[1], 8))


def test_a_run_that_is_missing_between_others_is_written_again(ledger: Ledger):
    at, log = ledger.opened()
    paid = fees(log, 0, 6 * RUN)
    pay(at, paid)
    table = tables.evidence
    with ledger.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER ledger_evidence_no_delete"))
        else:
            connection.execute(text("ALTER TABLE ledger_evidence DISABLE TRIGGER USER"))
        connection.execute(table.delete().where(table.c.start == 2 * RUN))
    late = ledger.writer()
    for number, fee in enumerate(paid[2 * RUN - 20 : 3 * RUN]):
        assert is_refused(ledger, late, again(fee, 5_000 + number))
    assert (2 * RUN, 3 * RUN) in runs(ledger)
