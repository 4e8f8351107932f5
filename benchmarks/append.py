"""How fast the one writer decides and commits: every rule, leaf, tree and byte, one transaction a batch.

Handed to the writer in memory, in batches of 1,000, so that what is measured is the writer and not
whoever fills the inbox; `ledger.append.inbox` is the same from rows that wait in the inbox.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from benchmarks.cpu import microseconds_each
from benchmarks.references import Bare, rate
from benchmarks.result import Result, Results, Wanted, in_turn
from benchmarks.sample import PAIRS, Transfers, batches, registered, written
from benchmarks.servers import durable_postgres
from ledger import store
from ledger.store import Waiting
from ledger.writer import Writer
from tests.ledger.running import Ledger

COUNT, RUNS = 30_000, 5


def _append(writer: Writer, taken: list[Waiting]) -> float:
    before = writer.tree.size
    ready = batches(taken)
    found = rate(len(taken), lambda: [writer.append(batch) for batch in ready])
    assert writer.tree.size == before + len(taken), "some were refused"
    return found


def _from_inbox(ledger: Ledger, writer: Writer, taken: list[Waiting]) -> float:
    for batch in batches(taken):
        with ledger.engine.begin() as connection:
            store.submit_all(connection, [(waiting.id, waiting.template) for waiting in batch], 0)
    before = writer.tree.size
    found = rate(len(taken), writer.drain)
    assert writer.tree.size == before + len(taken), "some were refused"
    return found


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Single-writer appends on both databases."""
    if any(map(wanted, ("ledger.append.hot", "ledger.append.spread", "ledger.append.inbox", "reference"))):
        yield from _on_postgresql(wanted)
    if wanted("ledger.append.sqlite"):
        yield from _on_sqlite()


def _on_postgresql(wanted: Wanted) -> Results:
    log = registered()
    transfers = Transfers(log)
    with durable_postgres() as server:
        bare = Bare(server.url("postgres"))
        server.execute("CREATE DATABASE ledger")
        with written(server.url("ledger"), log) as (ledger, writer):
            # The first run makes log files that later ones use again.
            _append(writer, transfers.take(COUNT))
            same = [waiting.template for waiting in transfers.take(COUNT)]
            hot, spread, inbox, copied, inserted = in_turn(
                RUNS,
                lambda: _append(writer, transfers.take(COUNT)),
                lambda: _append(writer, transfers.take(COUNT, PAIRS)),
                lambda: _from_inbox(ledger, writer, transfers.take(COUNT)),
                lambda: bare.copy(same),
                lambda: bare.insert(same),
            )
            # The same again for its CPU alone: rates move with what else the machine does, this hardly.
            more = transfers.take(2 * COUNT)
            cpu = microseconds_each(server.pid, 2 * COUNT, lambda: _append(writer, more))
            copy_cpu = microseconds_each(server.pid, 2 * COUNT, lambda: bare.copy([*same, *same]))
        one_by_one = bare.one_by_one(same[0])
    n = f"{COUNT} x {RUNS}"
    yield Result("ledger.append.cpu", sum(cpu), "us of CPU a transfer", sum(copy_cpu), str(2 * COUNT))
    yield Result("ledger.append.cpu.python", cpu[0], "us of CPU a transfer", copy_cpu[0], str(2 * COUNT))
    yield Result("ledger.append.hot", hot, "transfers/s", copied, n)
    yield Result("ledger.append.spread", spread, "transfers/s", copied, n)
    yield Result("ledger.append.hot_to_spread", hot, "transfers/s", spread, n)
    yield Result("ledger.append.inbox", inbox, "transfers/s", copied, n)
    yield Result("reference.copy", copied, "rows/s", None, n)
    yield Result("reference.insert_500", inserted, "rows/s", copied, n)
    yield Result("reference.insert_1_clients_16", one_by_one, "rows/s", copied, "4 s of pgbench")
    yield Result("ledger.append.hot_to_insert_1", hot, "transfers/s", one_by_one, n)


def _on_sqlite() -> Results:
    log = registered()
    transfers = Transfers(log)
    with written("", log) as (ledger, writer):
        bare = _bare_sqlite(str(ledger.folder / "bare.db"))
        same = [waiting.template for waiting in transfers.take(COUNT)]
        hot, spread, inbox, inserted = in_turn(
            RUNS,
            lambda: _append(writer, transfers.take(COUNT)),
            lambda: _append(writer, transfers.take(COUNT, PAIRS)),
            lambda: _from_inbox(ledger, writer, transfers.take(COUNT)),
            lambda: rate(COUNT, lambda: _insert_batches(bare, same)),
        )
        bare.close()
    n = f"{COUNT} x {RUNS}"
    yield Result("ledger.append.sqlite.hot", hot, "transfers/s", inserted, n)
    yield Result("ledger.append.sqlite.spread", spread, "transfers/s", inserted, n)
    yield Result("ledger.append.sqlite.inbox", inbox, "transfers/s", inserted, n)
    yield Result("reference.sqlite.insert_1000", inserted, "rows/s", None, n)


def _bare_sqlite(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE bare (position INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    return connection


def _insert_batches(connection: sqlite3.Connection, contents: Sequence[bytes]) -> None:
    for at in range(0, len(contents), 1_000):
        connection.execute("BEGIN IMMEDIATE")
        rows = [(content,) for content in contents[at : at + 1_000]]
        connection.executemany("INSERT INTO bare (data) VALUES (?)", rows)
        connection.execute("COMMIT")
