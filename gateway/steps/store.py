"""Whose turn a step is, and when it was last done. SQL and nothing else.

On PostgreSQL a step is held by an advisory lock of the session, which ends with the process that holds
it, however it ends. On SQLite, which one machine has, it is held by a lock on a file beside the database.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from sqlalchemy import Column, Connection, Engine, Table, Text, func, select
from sqlalchemy.exc import DBAPIError

from gateway.db import Integer64, insert_into, metadata
from ledger.records import Unavailable

# The first half of each advisory lock; the writer's own locks have other numbers.
LOCK_CLASS = 0x57A6

_step = Table(
    "worker_step",
    metadata,
    Column("name", Text, primary_key=True),
    Column("started_ms", Integer64, nullable=False),
    Column("took_ms", Integer64, nullable=False),
    # When it last came to its end without an error; 0: never.
    Column("succeeded_ms", Integer64, nullable=False),
    Column("error", Text, nullable=True),
)


@dataclass(frozen=True)
class Done:
    """How a step went the last time, wherever that was."""

    name: str
    started_ms: int
    took_ms: int
    succeeded_ms: int
    error: str | None


def done(connection: Connection, name: str) -> Done | None:
    """How a step went the last time; None where it never ran."""
    row = connection.execute(select(_step).where(_step.c.name == name)).first()
    return None if row is None else Done(*row)


def all_done(connection: Connection) -> list[Done]:
    """How each step went the last time."""
    return [Done(*row) for row in connection.execute(select(_step).order_by(_step.c.name))]


def failing(connection: Connection, since_ms: int) -> list[Done]:
    """The steps that were begun since then and failed: who has gone since tells nothing any more."""
    chosen = select(_step).where(_step.c.error.is_not(None), _step.c.started_ms >= since_ms)
    return [Done(*row) for row in connection.execute(chosen.order_by(_step.c.name))]


def note(connection: Connection, name: str, started_ms: int, took_ms: int, error: str | None) -> None:
    """Note that a step was done, or that it was begun and failed."""
    succeeded = {} if error is not None else {"succeeded_ms": started_ms + took_ms}
    told = {"started_ms": started_ms, "took_ms": took_ms, "error": error, **succeeded}
    new = insert_into(connection, _step).values(name=name, **{"succeeded_ms": 0, **told})
    connection.execute(new.on_conflict_do_update(index_elements=["name"], set_=told))


class Locks:
    """The steps that this process holds; one session of the database for all of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._lock = engine, threading.Lock()
        self._session: Connection | None = None

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Hold a step while the block runs; False where another process has it."""
        if self._engine.dialect.name != "postgresql":
            with self._file(name) as is_ours:
                yield is_ours
            return
        is_ours = self._ask(func.pg_try_advisory_lock, name)
        try:
            yield is_ours
        finally:
            # Where the session has gone, its locks have gone with it.
            if is_ours and self._session is not None:
                with suppress(Unavailable):
                    self._ask(func.pg_advisory_unlock, name)

    def close(self) -> None:
        """Give back whatever is held."""
        with self._lock:
            self._drop()

    def _ask(self, function: Callable[[int, int], Any], name: str) -> bool:
        key = crc32(name.encode()) - (1 << 31)
        with self._lock:
            try:
                if self._session is None:
                    self._session = self._engine.connect()
                answer = bool(self._session.execute(select(function(LOCK_CLASS, key))).scalar())
                self._session.commit()
                return answer
            except DBAPIError as error:
                self._drop()
                raise Unavailable("database", str(error).partition("\n")[0]) from error

    def _drop(self) -> None:
        if self._session is not None:
            # Out of the pool, and closed for good: its locks must not stay with whoever gets it next.
            with suppress(DBAPIError):
                self._session.detach()
            with suppress(DBAPIError):
                self._session.close()
            self._session = None

    @contextmanager
    def _file(self, name: str) -> Iterator[bool]:
        database = self._engine.url.database
        assert database is not None, "a SQLite database is a file"
        with Path(f"{database}.{name}.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
