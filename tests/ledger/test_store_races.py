"""Several at once on PostgreSQL: two that sign, and whoever holds what the writer needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from ledger import store, tables
from ledger.database import engine as open_engine
from ledger.database import reading
from ledger.records import Invalid, Unavailable
from ledger.writer import Writer
from tests import city
from tests.ledger.running import Ledger, fees

WAIT_S = 30
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"


@pytest.fixture
def ledger(postgres_database: str, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger whose records and signed heads are both on PostgreSQL."""
    engine, heads = open_engine(postgres_database), open_engine(postgres_database)
    yield Ledger(tmp_path, engine, heads)
    engine.dispose()
    heads.dispose()


@dataclass
class Thread:
    """Something that is done beside the test; `end` waits and gives what it raised."""

    work: Callable[[], object]
    raised: BaseException | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.raised = error

    def end(self) -> BaseException | None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        return self.raised


def until_waiting(engine: Engine) -> None:
    """Until a session of this database waits for a lock of another."""
    deadline = time.monotonic() + WAIT_S
    with engine.connect() as connection:
        while not connection.execute(text(WAITING)).scalar():
            connection.rollback()
            assert time.monotonic() < deadline, "nobody waits for a lock"
            time.sleep(0.01)


def signed_sizes(ledger: Ledger) -> list[int]:
    with reading(ledger.heads) as connection:
        return [row[0] for row in connection.execute(select(tables.head.c.size).order_by(tables.head.c.size))]


def head(size: int) -> store.Head:
    return store.Head(size, city.digest(f"root {size}"), b"note", None)


def test_of_two_that_swap_the_head_at_once_one_waits_and_is_told_what_the_other_signed(ledger: Ledger):
    store.create(ledger.engine, ledger.heads)

    def swap() -> None:
        with ledger.heads.begin() as connection:
            store.swap_head(connection, 0, head(8))

    with ledger.heads.begin() as connection:
        store.swap_head(connection, 0, head(7))
        late = Thread(swap)
        until_waiting(ledger.engine)
        assert late.raised is None
    refused = late.end()
    assert isinstance(refused, Invalid)
    assert refused.rule == "L9"
    assert refused.why == "the last signed size is 7, this writer knows 0"
    assert signed_sizes(ledger) == [7]


def test_whoever_swaps_first_wins_however_many_try(ledger: Ledger):
    store.create(ledger.engine, ledger.heads)
    last = 0
    for _ in range(5):
        gate = threading.Barrier(4)

        def swap(size: int, expected: int = last, gate: threading.Barrier = gate) -> None:
            with ledger.heads.begin() as connection:
                connection.execute(text("SELECT 1"))
                gate.wait(WAIT_S)
                store.swap_head(connection, expected, head(size))

        racers = [Thread(lambda size=last + n, swap=swap: swap(size)) for n in range(1, 5)]
        ends = [racer.end() for racer in racers]
        assert ends.count(None) == 1
        assert all(isinstance(one, Invalid) and one.rule == "L9" for one in ends if one is not None)
        last = signed_sizes(ledger)[-1]
    assert len(signed_sizes(ledger)) == 5


def test_two_writers_that_seal_at_once_sign_one_history_that_the_second_goes_on_with(ledger: Ledger):
    first, log = ledger.opened()
    ledger.ask(fees(log, 0, 1)[0])
    first.drain()
    second: Writer = ledger.writer()
    ledger.ask(fees(log, 1, 1)[0])
    second.drain()
    gate = threading.Barrier(2)

    def seal(writer: Writer) -> None:
        gate.wait(WAIT_S)
        writer.seal()

    # The first one's memory ends a record earlier: either size may be signed first, and both lie on one way.
    ends = [racer.end() for racer in [Thread(lambda one=one: seal(one)) for one in (first, second)]]
    assert all(isinstance(one, Invalid) and one.rule == "L9" for one in ends if one is not None)
    assert None in ends
    second.seal()
    assert signed_sizes(ledger)[-1] == second.tree.size
    assert ledger.writer().tree.root() == second.tree.root()


def goes_on(ledger: Ledger, writer: Writer, late: Thread, asked: bytes, position: int, sqlstate: str) -> None:
    """What went wrong was the database's, nobody's money was judged by it, and the next try takes it."""
    trouble = late.end()
    assert isinstance(trouble, Unavailable), trouble
    assert trouble.service == "ledger database"
    cause = trouble.__cause__
    assert getattr(getattr(cause, "orig", cause), "sqlstate", None) == sqlstate
    assert ledger.answer(asked) is None
    assert len(ledger.records()) == position
    writer.drain()
    recorded = ledger.answer(asked)
    assert recorded is not None
    assert recorded.position == position


def test_ff71_a_serialisation_failure_is_never_a_verdict_about_money(ledger: Ledger):
    with ledger.engine.begin() as connection:
        # As an operator may have it for all that is done in this database.
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(
            text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
        )
    ledger.engine.dispose()
    writer, log = ledger.opened()
    fee = fees(log, 0, 1)[0]
    ledger.ask(fee)
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE ledger_edge SET fence = fence"))
        late = Thread(writer.step)
        until_waiting(ledger.heads)
    goes_on(ledger, writer, late, fee.id, len(log.records), "40001")


def test_ff71_a_deadlock_is_never_a_verdict_about_money(ledger: Ledger):
    writer, log = ledger.opened()
    before, fee = fees(log, 0, 2)
    ledger.ask(before)
    writer.drain()
    ledger.ask(fee)
    with ledger.engine.connect() as connection:
        # This one never gives way, so the server ends the writer's transaction.
        connection.execute(text("SET deadlock_timeout = '1h'"))
        connection.execute(text("SELECT * FROM ledger_balance FOR UPDATE"))
        late = Thread(writer.step)
        until_waiting(ledger.heads)
        connection.execute(text("UPDATE ledger_edge SET fence = fence"))
        connection.rollback()
        connection.execute(text("RESET deadlock_timeout"))
    goes_on(ledger, writer, late, fee.id, len(log.records) + 1, "40P01")
