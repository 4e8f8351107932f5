"""The gateway's tables, and its engine and column types, which are the ledger's.

The ledger has tables of its own in the same database, so that evidence, invoice, inbox and
webhook commit together; it does not know this file.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, MetaData, Select, Table, literal, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from ledger.database import Amount, Hash32, Integer64, engine, naming, reading

metadata: Final = MetaData(naming_convention=naming)


def create_all(opened: Engine) -> None:
    """Create the tables that are missing."""
    metadata.create_all(opened)


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what to do on a conflict."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def newest_first(
    query: Select[Any], time: ColumnElement[int], id: ColumnElement[str], before: tuple[int, str], most: int
) -> Select[Any]:
    """A page of rows, newest first, after the last one of the page before: its time and id."""
    # Compared as one row, so that an index is entered where the page begins and not at its first row.
    place = tuple_(literal(before[0]), literal(before[1]))
    return query.where(tuple_(time, id) < place).order_by(time.desc(), id.desc()).limit(most)


__all__ = [
    "Amount",
    "Connection",
    "Engine",
    "Hash32",
    "Integer64",
    "create_all",
    "engine",
    "insert_into",
    "metadata",
    "newest_first",
    "reading",
]
