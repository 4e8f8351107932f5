"""Who reads the ledger remembers no payment either, and comes to the state that the rules make."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from gateway.ledger_view import LedgerView
from ledger import following, rules, store, tables, writer
from ledger.database import Engine
from ledger.following import Follower
from ledger.lookup import index_named
from ledger.records import Invalid, Unavailable, encode
from ledger.store import Waiting
from tests import city
from tests.ledger.running import Ledger, fees, template
from tests.ledger.test_lookup import fed, paid
from tests.ledger.test_writer import everything, forge
from tests.vectors import make


def pay(at: writer.Writer, log: city.Log, numbers: range) -> None:
    start = fees(log, 0, 1)[0]
    for first in range(numbers.start, numbers.stop, 500):
        some = range(first, min(first + 500, numbers.stop))
        batch = [
            replace(start, id=(n + 1).to_bytes(32, "big"), evidence=sha256(n.to_bytes(8)).digest())
            for n in some
        ]
        at.append([Waiting(None, fee.id, template(fee)) for fee in batch])


def grown(read: Callable[[], object], more: Callable[[], object]) -> int:
    """By how many bytes memory grows when more is read."""
    read()
    more()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    read()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


@pytest.mark.parametrize("who", ["the view", "the city page", "the watcher"])
def test_a_reader_keeps_nothing_of_a_payment_in_memory(ledger: Ledger, who: str) -> None:
    at, log = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    view, page = LedgerView(ledger.engine), Follower(ledger.engine, broken=[])
    pay(at, log, range(2_000))
    at.publish(publisher)

    def more() -> None:
        pay(at, log, range(2_000, 7_000))
        at.publish(publisher)

    readers = {
        "the view": view.refresh,
        "the city page": lambda: page.follow(publisher.published()),
        "the watcher": lambda: watcher.sign(publisher.target),
    }
    # Rules that remember need more than 700 bytes a payment: 3,500,000.
    assert grown(readers[who], more) < 300_000
    state = {"the view": view.refresh, "the city page": page.follow, "the watcher": lambda: watcher.state}[
        who
    ]()
    assert rules.dump(state) == rules.dump(at.state)


@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_reader_finds_what_refunds_and_matches_name_and_writes_nothing(
    ledger: Ledger, is_indexed: bool
) -> None:
    at, log = fed(ledger, "trade")
    known = make.receipts(log)
    view = LedgerView(ledger.engine)
    view.refresh()
    log.add(make.matched(log, known["unmatched 1"], 1))
    back = log.act(make.refund(known["said"], 1))
    log.add(make.refunded(back, log.state.receipts[known["said"]], 1))
    ledger.feed(at, log.records[at.tree.size :])
    while is_indexed and index_named(ledger.engine):
        pass
    rows = everything(ledger)
    for reader in (view, LedgerView(ledger.engine), view.lately(0)):
        assert rules.dump(reader.refresh()) == rules.dump(log.state)
        for digest, receipt in log.state.receipts.items():
            assert reader.receipt(digest) == receipt
        assert reader.receipt(city.digest("none")) is None
    assert everything(ledger) == rows


def statements(engine: Engine) -> list[str]:
    """What is asked of a database from now on."""
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    return asked


def test_where_nothing_is_new_a_view_asks_once_and_reads_nothing(ledger: Ledger) -> None:
    fed(ledger, "trade")
    view = LedgerView(ledger.engine)
    state = view.refresh()
    asked = statements(ledger.engine)
    for _ in range(3):
        assert view.refresh() is state
    selects = [one for one in asked if one.startswith("SELECT")]
    assert len(selects) == 3
    assert all("ledger_record.position >" in one for one in selects)


def test_a_view_starts_from_the_snapshot_that_was_signed_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SNAPSHOT_RECORDS", 5)
    at, log = fed(ledger, "trade")
    at.seal()
    paid(ledger, at, log, 0, 20)
    read: list[int] = []
    replay = following.replay

    def counted(past: Any, runs: Any, records: Any, *more: Any) -> None:
        read.append(len(records))
        replay(past, runs, records, *more)

    monkeypatch.setattr(following, "replay", counted)
    said = rules.dump(at.state)
    assert rules.dump(LedgerView(ledger.engine, ledger.heads).refresh()) == said
    assert sum(read) == 20
    read.clear()
    # One that is another is not believed, and without any all is read.
    with ledger.engine.begin() as connection:
        state = rules.load(connection.execute(tables.snapshot.select()).one().state)
        state.accounts["bank-kzt"].balance += 1
        connection.execute(tables.snapshot.update().values(state=rules.dump(state)))
    for heads in (ledger.heads, None):
        assert rules.dump(LedgerView(ledger.engine, heads).refresh()) == said
    assert sum(read) == 2 * at.tree.size


def test_a_breach_in_the_database_stops_the_view_and_is_named_by_the_page(ledger: Ledger) -> None:
    at, log = fed(ledger, "trade")
    paid(ledger, at, log, 0, 3)
    first = fees(log, 0, 1)[0]
    lie = replace(first, time=log.now, debit="no-such-account")
    forge(ledger, len(log.records), encode(lie))
    broken: list[Invalid] = []
    page, view = Follower(ledger.engine, broken=broken), LedgerView(ledger.engine)
    for _ in range(2):
        with pytest.raises(Invalid, match="M1"):
            view.refresh()
        state = page.follow()
        assert state.breaches == {len(log.records): "M1"}
        assert [one.rule for one in broken] == ["M1"]
    # As the rules that remember take it, to the byte; and nothing of a breach is in the past.
    slow, _ = rules.replay(ledger.records())
    assert rules.dump(state) == rules.dump(slow)
    for past in (state.past, slow.past):
        assert not past.has_id(first.id)
        assert not past.has_evidence(first.evidence)
        assert past.named(rules.keccak256(encode(lie))) is None
        assert past.at(len(log.records)) is None


def test_a_database_that_is_away_for_a_moment_costs_a_view_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, log = fed(ledger, "trade")
    view = LedgerView(ledger.engine)
    before = view.refresh()
    paid(ledger, at, log, 0, 3)
    page, left = store.page, [1]

    def away(*asked: Any) -> Any:
        if left and left.pop():
            raise Unavailable("ledger database", "no answer")
        return page(*asked)

    monkeypatch.setattr(store, "page", away)
    with pytest.raises(Unavailable):
        view.refresh()
    assert view.refresh() is before
    # In the middle of a record it begins again.
    log.act(make.refund(make.receipts(log)["said"], 1))
    ledger.feed(at, log.records[len(log.records) - 3 :])
    named = [1]

    def silent(past: Any, digest: bytes) -> Any:
        if named and named.pop():
            raise Unavailable("ledger database", "no answer")
        return looked(past, digest)

    looked = following.Stored.named
    monkeypatch.setattr(following.Stored, "named", silent)
    with pytest.raises(Unavailable):
        view.refresh()
    assert rules.dump(view.refresh()) == rules.dump(at.state)


def test_a_watcher_whose_disk_fails_reads_all_again_and_forgets_no_head(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at, log = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    at.publish(publisher, watcher)
    small = ledger.publisher(tmp_path / "small")
    small.publish(ledger.engine, at.seal())
    size = at.tree.size
    paid(ledger, at, log, 0, 5)
    at.publish(publisher)

    def full(*_: Any) -> None:
        raise Unavailable("watcher's copy", "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("ledger.watcher.add", full)
        with pytest.raises(Unavailable):
            watcher.sign(publisher.target)
    assert watcher.tree.size == 0
    assert watcher.sign(small.target).size == size
    assert watcher.sign(publisher.target).size == size + 5
    assert rules.dump(watcher.state) == rules.dump(at.state)
    with monkeypatch.context() as patched:
        patched.setattr("ledger.watcher.add", full)
        paid(ledger, at, log, 10, 5)
        at.publish(publisher)
        with pytest.raises(Unavailable):
            watcher.sign(publisher.target)
    with pytest.raises(Invalid, match="L9"):
        watcher.sign(small.target)
