"""The engine and the column types of every database here.

SQLite and PostgreSQL hold the same tables. Integers in SQLite end at 2^63, so amounts
are 16 bytes; big-endian, so that bytes sort as the numbers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    Engine,
    LargeBinary,
    TypeDecorator,
    create_engine,
    event,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql import operators
from typing_extensions import override

from ledger.records import reject

BUSY_TIMEOUT_MS: Final = 15_000
READ_ONLY: Final = "qazyna_read_only"

naming: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# STRICT tables of SQLite know INTEGER, not BIGINT; both hold 64 bits.
Integer64: Final = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")


class Amount(TypeDecorator[int]):
    """An unsigned integer below 2^128, kept as 16 big-endian bytes."""

    impl = LargeBinary(16)
    cache_ok = True

    class Comparator(TypeDecorator.Comparator[int]):  # type: ignore[type-arg, misc, unused-ignore]
        """Amounts compare and sort in SQL; they are added in Python."""

        @override
        def operate(self, op: Callable[..., Any], *other: Any, **options: Any) -> Any:
            # SQLite reads a blob in arithmetic as 0: a sum would be wrong without an error.
            ordering = operators.is_comparison(op) or operators.is_ordering_modifier(op)
            assert ordering, f"no arithmetic on amounts in SQL: {op}"
            return super().operate(op, *other, **options)

    comparator_factory = Comparator  # type: ignore[assignment, unused-ignore]

    @override
    def process_bind_param(self, value: int | None, dialect: Dialect) -> bytes | None:
        if value is None:
            return None
        assert type(value) is int, f"an amount is an int, not {type(value).__name__}"
        assert 0 <= value < 1 << 128, f"an amount is 0 to 2^128 - 1, not {value}"
        return value.to_bytes(16, "big")

    @override
    def process_result_value(self, value: bytes | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        assert len(value) == 16, f"a stored amount has 16 bytes, not {len(value)}"
        return int.from_bytes(value, "big")


class Hash32(TypeDecorator[bytes]):
    """Exactly 32 bytes."""

    impl = LargeBinary(32)
    cache_ok = True

    @override
    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        assert value is None or (type(value) is bytes and len(value) == 32), "a hash is 32 bytes"
        return value

    @override
    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        assert value is None or len(value) == 32, "a stored hash has 32 bytes"
        return None if value is None else bytes(value)


def engine(url: str) -> Engine:
    """Open the database that a URL names: a SQLite file or PostgreSQL by psycopg 3."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        reject("database-url", "settings", "the database URL cannot be parsed")
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    if parsed.get_backend_name() != "sqlite":
        reject("database-url", "settings", f"sqlite or postgresql, not {parsed.get_backend_name()}")
    if parsed.database in (None, "", ":memory:") or "mode" in parsed.query:
        # In memory each thread would see a database of its own, and nothing would be durable.
        reject("database-url", "settings", "a SQLite database is a file")
    opened = create_engine(parsed.set(drivername="sqlite+pysqlite"))
    event.listen(opened, "connect", _prepare_sqlite)
    event.listen(opened, "begin", _begin_sqlite)
    return opened


def reading(opened: Engine) -> Connection:
    """Connect for reading only: on SQLite this does not wait for the writer."""
    return opened.connect().execution_options(**{READ_ONLY: True, "postgresql_readonly": True})


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin late (not before SELECT, not before DDL); we begin ourselves below.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    assert mode == "wal", f"SQLite journal mode is {mode}, not wal"
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Else REPLACE deletes the row that is in its way without asking the trigger that refuses it.
    connection.execute("PRAGMA recursive_triggers = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and later writes cannot wait in WAL, it fails at once with
    # "database is locked"; so whoever may write takes the write lock first and queues.
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


__all__ = ["Amount", "Connection", "Engine", "Hash32", "Integer64", "engine", "naming", "reading"]
