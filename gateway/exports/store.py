"""Reads and fills whole tables, whatever they are. SQL and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, Integer, MetaData, Table, func, insert, inspect, select, text

from gateway import migrations
from gateway.db import metadata as gateway_tables
from gateway.db import reading
from ledger import migrations as ledger_migrations
from ledger import tables as ledger_tables
from ledger.database import Amount, Hash32
from ledger.records import reject

PAGE: Final = 2_000
# Where each history of tables notes its step; an import must find the same.
VERSIONS: Final = {migrations.VERSION_TABLE, *ledger_migrations.VERSION_TABLES.values()}
# The stores that put tables into the gateway's metadata are loaded with its migrations.
MAIN: Final[tuple[MetaData, ...]] = (ledger_tables.ledger, gateway_tables)
HEADS: Final[tuple[MetaData, ...]] = (ledger_tables.heads,)


def tables_of(metadata: Sequence[MetaData]) -> list[Table]:
    """Tables in an order in which each comes after those that its rows name."""
    return [table for one in metadata for table in one.sorted_tables]


def kinds(table: Table) -> dict[str, str]:
    """Each column's kind: integer, amount (below 2^128), bytes or text."""
    return {column.name: _kind(column.type) for column in table.columns}


def _kind(of: Any) -> str:
    if isinstance(of, Amount):
        return "amount"
    if isinstance(of, Hash32) or of.python_type is bytes:
        return "bytes"
    if of.python_type in {int, bool}:
        return "integer"
    assert of.python_type is str, f"no way to export {of!r}"
    return "text"


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Read everything as it stood at one instant, however long the reading takes."""
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


def unknown_tables(connection: Connection, metadata: Sequence[MetaData]) -> list[str]:
    """Tables in the database that no part of this version has: they would be forgotten."""
    known = {table.name for table in tables_of(metadata)} | VERSIONS
    return sorted(set(inspect(connection).get_table_names()) - known)


def rows(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """Every row, in the order of its key, a page at a time."""
    statement = select(table).order_by(*table.primary_key.columns)
    with connection.execution_options(yield_per=PAGE).execute(statement) as found:
        for row in found.mappings():
            yield dict(row)


def count(connection: Connection, table: Table) -> int:
    """How many rows there are."""
    return connection.scalar(select(func.count()).select_from(table)) or 0


def check_empty(connection: Connection, metadata: Sequence[MetaData]) -> None:
    """Refuse a database that has rows: an import adds to nothing and replaces nothing.

    The one row that says the ledger is empty goes, to make room for the one that comes.
    """
    edge = ledger_tables.edge
    for table in tables_of(metadata):
        if table is edge:
            size = connection.scalar(select(edge.c.size)) or 0
            if size == 0:
                connection.execute(edge.delete())
                continue
        if found := count(connection, table):
            reject("import", table.name, f"it has {found} rows, an import needs 0")


def fill(connection: Connection, table: Table, page: Sequence[dict[str, Any]]) -> None:
    """Add rows as they are."""
    if page:
        connection.execute(insert(table), list(page))


def go_on_counting(connection: Connection, table: Table) -> None:
    """Let the next row that gets a number get one above those that were imported (PostgreSQL)."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        name = connection.execute(
            text("SELECT pg_get_serial_sequence(:table, :column)"),
            {"table": table.name, "column": column.name},
        ).scalar()
        if name is not None and isinstance(column.type, Integer):
            highest = connection.scalar(select(func.max(column)))
            if highest is not None:
                connection.execute(select(func.setval(name, highest)))
