"""A writer remembers no payment: what it must know of them it looks up, and answers as if it remembered."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import text

from ledger import rules, store, tables, writer
from ledger.database import reading
from ledger.lookup import Stored, index_named
from ledger.proof import leaf_hash
from ledger.records import WORD, Invalid, Record, Transfer, decode, encode, hash_struct
from ledger.store import Waiting
from ledger.tree import Tree
from tests import city
from tests.ledger.running import Ledger, fees, template
from tests.ledger.test_writer import everything, forge
from tests.vectors import make


def fed(ledger: Ledger, name: str) -> tuple[writer.Writer, city.Log]:
    """A writer that has written one of the vectors' logs."""
    at, log = ledger.writer(), make.at(name)
    ledger.feed(at, log.records)
    ledger.clock.now = log.now
    return at, log


def refused(ledger: Ledger, at: writer.Writer, record: Record) -> str:
    """By which rule a record is refused."""
    id = ledger.ask(record, key=encode(replace(record, time=0)) + b"again")
    at.drain()
    with pytest.raises(Invalid) as why:
        ledger.answer(id)
    return why.value.rule


def test_nothing_of_a_payment_stays_in_memory(ledger: Ledger):
    at, log = ledger.opened()
    numbers = iter(range(10**6))

    def pay(count: int) -> None:
        start = fees(log, 0, 1)[0]
        for _ in range(count // 500):
            batch = [
                replace(start, id=n.to_bytes(32, "big"), evidence=sha256(n.to_bytes(8)).digest())
                for n in (next(numbers) + 1 for _ in range(500))
            ]
            at.append([Waiting(None, fee.id, template(fee)) for fee in batch])

    tracemalloc.start()
    pay(2_000)
    before, _ = tracemalloc.get_traced_memory()
    pay(5_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Rules that remember need more than 700 bytes a payment: 3,500,000.
    assert after - before < 300_000


def test_an_id_or_evidence_of_any_earlier_record_is_refused_wherever_it_was_used(ledger: Ledger):
    at, log = fed(ledger, "trade")
    swap = make.exchanged(log)
    ledger.ask(swap)
    first = city.revenue(log, 5, "kzt", "first")
    ledger.ask(first)
    at.drain()
    at = ledger.writer()  # with nothing in memory of all that
    new = city.revenue(log, 5, "kzt", "new")
    again = make.exchanged(log, 1_000, 50, "2")
    for record in (
        replace(new, evidence=first.evidence),
        replace(new, id=swap.id),
        replace(new, id=city.digest("newer"), evidence=swap.evidence),
        replace(again, id=first.id),
        replace(again, evidence=first.evidence),
        replace(make.refund(make.receipts(log)["said"], 1), id=first.id),
    ):
        assert refused(ledger, at, record) == "M3"
    # And within one batch, in which one is taken and the other is not.
    one = city.revenue(log, 5, "kzt", "one")
    twin = replace(one, id=city.digest("twin"))
    at.append([Waiting(None, record.id, template(record)) for record in (one, twin)])
    assert ledger.answer(one.id) is not None
    with pytest.raises(Invalid, match="M3"):
        ledger.answer(twin.id)


def test_evidence_with_the_same_tail_is_other_evidence(ledger: Ledger):
    """The index has 8 bytes of it, the verdict all 32 (FF75)."""
    at, log = ledger.opened()
    one, other = fees(log, 0, 2)
    ledger.ask(one)
    at.drain()
    ledger.ask(replace(other, evidence=bytes(24) + one.evidence[-8:]))
    at.drain()
    assert ledger.answer(other.id) is not None


@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_refund_a_match_and_a_correction_find_what_they_name(ledger: Ledger, is_indexed: bool):
    at, log = fed(ledger, "trade")
    known = make.receipts(log)
    if is_indexed:
        while index_named(ledger.engine):
            pass
    at = ledger.writer()
    for digest, record in log.state.receipts.items():
        found = at.state.past.named(digest)
        assert found is not None
        assert found[1] == record
        assert at.state.past.at(found[0]) == record
    assert at.state.past.named(city.digest("none")) is None
    assert at.state.past.at(0) is None
    assert at.state.past.at(10**9) is None
    log.add(make.matched(log, known["unmatched 1"], 1))
    back = log.act(make.refund(known["said"], 1))
    log.add(make.refunded(back, log.state.receipts[known["said"]], 1))
    ledger.feed(at, log.records[at.tree.size :])
    assert ledger.records() == log.records
    assert rules.dump(at.state) == rules.dump(log.state)


def test_what_was_taken_a_moment_ago_is_found_in_its_own_batch(ledger: Ledger):
    at, log = fed(ledger, "trade")
    came = replace(city.revenue(log, 9, "kzt", "now"), time=log.now)
    asked: Sequence[Record] = (came, make.refund(hash_struct(came), 4), fees(log, 7, 1)[0])
    at.append([
        Waiting(None, r.id if isinstance(r, Transfer) else sha256(template(r)).digest(), template(r)) for r in asked
    ])  # fmt: skip
    written = [decode(data) for data in ledger.records()[len(log.records) :]]
    assert [type(record).__name__ for record in written] == ["Transfer", "Refund", "Transfer"]
    assert rules.dump(rules.replay(ledger.records())[0]) == rules.dump(at.state)


def test_a_dry_run_says_what_would_be_answered_and_leaves_no_trace(ledger: Ledger):
    at, log = fed(ledger, "trade")
    one, other = fees(log, 0, 2)
    asked = [
        one,
        replace(other, evidence=one.evidence),
        other,
        replace(other, id=city.digest("x"), debit="no"),
    ]
    rows, state, root = everything(ledger), rules.dump(at.state), at.tree.root()
    for _ in range(2):
        found = at.dry_run(asked)
        assert [getattr(answer, "rule", None) for answer in found] == [None, "M3", None, "M1"]
        assert found[0] == replace(one, time=log.now)
        assert (everything(ledger), rules.dump(at.state), at.tree.root()) == (rows, state, root)
    ledger.ask(one)
    at.drain()
    assert ledger.answer(one.id).position == len(log.records)
    assert [answer.rule for answer in at.dry_run([one]) if isinstance(answer, Invalid)] == ["M3"]


def test_when_nothing_waits_the_hashes_of_what_was_written_are_indexed(ledger: Ledger):
    at, _ = fed(ledger, "trade")
    stop = threading.Event()
    running = threading.Thread(target=at.run, args=(stop,))
    running.start()
    try:
        deadline, found = time.monotonic() + 60, 0
        while found < at.tree.size:
            assert time.monotonic() < deadline, f"{found} of {at.tree.size} are indexed"
            with reading(ledger.engine) as connection:
                found = len(connection.execute(tables.named.select()).all())
            time.sleep(0.01)
    finally:
        stop.set()
        running.join()
    assert index_named(ledger.engine) == 0


def test_a_transfer_under_another_id_is_refused_and_the_writer_goes_on(ledger: Ledger):
    at, log = ledger.opened()
    one, other = fees(log, 0, 2)
    with ledger.engine.begin() as connection:
        store.submit(connection, city.digest("another"), template(one), 0)
        store.submit(connection, other.id, template(other), 0)
    at.drain()
    with pytest.raises(Invalid, match="was submitted under"):
        ledger.answer(city.digest("another"))
    assert ledger.answer(other.id) is not None


# --- starting ------------------------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot every few records."""
    monkeypatch.setattr(writer, "SNAPSHOT_RECORDS", 5)


def paid(ledger: Ledger, at: writer.Writer, log: city.Log, first: int, count: int) -> None:
    for fee in fees(log, first, count):
        ledger.ask(fee)
    at.drain()


@pytest.mark.usefixtures("often")
def test_a_start_goes_on_from_the_last_snapshot_and_ends_in_the_same_state(ledger: Ledger):
    at, log = fed(ledger, "trade")
    at.seal()
    size = at.tree.size
    paid(ledger, at, log, 0, 20)
    again = ledger.writer()
    assert again.kept_size == size
    assert rules.dump(again.state) == rules.dump(at.state)
    assert again.tree.root() == at.tree.root()
    whole = writer.Writer(ledger.engine, ledger.heads, at.keys, ledger.clock, from_start=True)
    assert whole.kept_size == 0
    assert rules.dump(whole.state) == rules.dump(again.state)
    paid(ledger, whole, log, 30, 3)
    whole.seal()
    assert rules.replay(ledger.records())[1] == []
    with reading(ledger.engine) as connection:
        kept = [row.size for row in connection.execute(tables.snapshot.select())]
    assert kept == [size + 23] or kept == [size, size + 23]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("what", ["bent", "missing", "of other rules", "no hash", "no edge"])
def test_a_snapshot_that_is_not_the_one_that_was_signed_for_is_not_believed(ledger: Ledger, what: str):
    at, _ = fed(ledger, "trade")
    at.seal()
    state = rules.load(rules.dump(at.state))
    state.accounts["bank-kzt"].balance += 10**6
    bent = rules.dump(state)
    with ledger.engine.begin() as connection, ledger.heads.begin() as heads:
        heads.execute(text("DROP TRIGGER signed_head_no_update"))
        match what:
            case "bent":
                connection.execute(tables.snapshot.update().values(state=bent))
            case "missing":
                connection.execute(tables.snapshot.delete())
            case "of other rules":
                other = b'{"o":["State",{"more":null}]}'
                connection.execute(tables.snapshot.update().values(state=other))
                heads.execute(tables.head.update().values(state=sha256(other).digest()))
            case "no hash":
                heads.execute(tables.head.update().values(state=None))
            case _:
                heads.execute(tables.head.update().values(edge=None))
    again = ledger.writer()
    assert again.kept_size == 0
    assert rules.dump(again.state) == rules.dump(at.state)


@pytest.mark.usefixtures("often")
def test_a_record_changed_after_the_snapshot_and_before_the_head_is_found_at_the_start(ledger: Ledger):
    at, log = fed(ledger, "trade")
    at.seal()
    paid(ledger, at, log, 0, 3)
    writer.SNAPSHOT_RECORDS = 100  # the next head has none; put back by the fixture
    at.seal()
    data = ledger.records()[-2]
    forge(ledger, len(log.records) + 1, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Invalid, match="L9"):
        ledger.writer()


def test_the_past_of_a_replay_does_not_know_what_comes_later(ledger: Ledger):
    at, log = ledger.opened()
    paid(ledger, at, log, 0, 5)
    early = Stored(lambda: ledger.engine, rules.replay(log.records)[0])
    late = ledger.records()[len(log.records) :]
    assert early.prepare(late, []) == set()
    assert not early.has_id(decode(late[0]).id)
    assert early.named(hash_struct(decode(late[0]))) is None
    tree = Tree()
    tree.extend(map(leaf_hash, ledger.records()))
    assert tree.root() == at.tree.root()
    assert len(late[0]) % WORD == 0
