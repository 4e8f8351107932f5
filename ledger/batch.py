"""One group commit: records, ids, balances, answers and the tree's edge in one transaction.

One statement for each table: COPY on PostgreSQL, a prepared INSERT on SQLite. What changes
an account is added up before, so a batch on one hot account costs what a spread one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, NamedTuple

import psycopg
from sqlalchemy import BigInteger, Boolean, Connection, Table, Text, insert, select, update
from sqlalchemy.dialects import sqlite

from ledger import tables
from ledger.records import WORD, Invalid, Unavailable

POSTGRESQL: Final = "postgresql"
AMOUNT_BYTES: Final = 16


class Answered(NamedTuple):
    """The writer's answer: a position, or why not and what was refused."""

    id: bytes
    position: int | None
    refused: Invalid | None
    template: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one group commit writes. A transfer's row is its answer, so answers are all the others."""

    first: int
    records: Sequence[bytes]
    transfers: Sequence[tuple[bytes, int]]  # id, position
    answers: Sequence[Answered]
    changes: Mapping[str, tuple[bool, int, int]]  # account: is money, debits and credits to add
    edge: Callable[
        [], bytes
    ]  # asked for once, while the database takes the records: hashing needs no less time
    time_s: int = 0
    taken: Sequence[int] = ()  # what leaves the inbox
    edge_before: bytes | None = None  # the right edge of the records that this was decided upon


def commit(connection: Connection, fence: int, batch: Batch) -> dict[str, int]:
    """Write a batch, in the caller's transaction; returns the balances it led to, as the database has them.

    Unavailable for a writer whose fencing number is not the newest.
    """
    size = batch.first + len(batch.records)
    # Whoever takes the fence waits for the end of this transaction, so it holds until then.
    edge_now = select(tables.edge.c.fence, tables.edge.c.size, tables.edge.c.hashes)
    now = connection.execute(edge_now.with_for_update()).one()
    if now.fence != fence:
        raise Unavailable("writer", f"writer {now.fence} has taken over from writer {fence}")
    assert now.size == batch.first, f"the ledger has {now.size} records, this writer's memory {batch.first}"
    # As many records need not be the same: an older copy that another went on with has its own.
    is_same = batch.edge_before is None or bytes(now.hashes) == batch.edge_before
    assert is_same, f"the {now.size} records of the ledger are not those of this writer's memory"
    edge = _insert_records(connection, batch)
    insert_rows(connection, tables.answer, [_answer_row(answered) for answered in batch.answers])
    balances = _change_balances(connection, batch, size)
    _take_out(connection, batch.taken)
    connection.execute(update(tables.edge).values(size=size, hashes=edge))
    return balances


def raw(connection: Connection) -> psycopg.Connection[Any]:
    """The driver's own connection, in the same transaction: for COPY and for arrays."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _copy_type(column: object) -> str:
    kinds = ((BigInteger, "int8"), (Text, "text"), (Boolean, "bool"))
    return next((name for kind, name in kinds if isinstance(column, kind)), "bytea")


# How the two tables that get a row for each payment are copied: as PostgreSQL's documentation of COPY
# (binary format) lays it out, packed here because the driver's rows cost more than all the rules.
_BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_RECORD_START: Final = Struct(">hiqi")  # 2 fields; position; the length of the data
_TRANSFER: Final = Struct(f">hi{WORD}siq")


@contextmanager
def _copying(connection: Connection, table: Table, rows: list[bytes]) -> Iterator[None]:
    """Send rows; the database takes them while the caller does something else, and has them at the end."""
    with raw(connection).cursor() as cursor, cursor.copy(_COPY[table][0].encode()) as copy:
        copy.write(b"".join([_BEGIN, *rows, _END]))
        yield


def _insert_records(connection: Connection, batch: Batch) -> bytes:
    """Insert records and transfers; returns the tree's right edge after them."""
    if connection.dialect.name != POSTGRESQL or not batch.records:
        insert_rows(connection, tables.record, list(enumerate(batch.records, batch.first)))
        insert_rows(connection, tables.transfer, batch.transfers)
        return batch.edge()
    start, pack = _RECORD_START.pack, _TRANSFER.pack
    records = [start(2, 8, at, len(data)) + data for at, data in enumerate(batch.records, batch.first)]
    with _copying(connection, tables.record, records):
        edge = batch.edge()
        transfers = [pack(2, WORD, id, 8, position) for id, position in batch.transfers]
    if transfers:
        with _copying(connection, tables.transfer, transfers):
            pass
    return edge


# For each table its COPY and the types of its columns; and the INSERT of SQLite.
_COPY: Final = {
    table: (
        f"COPY {table.name} ({', '.join(table.columns.keys())}) FROM STDIN (FORMAT BINARY)",
        [_copy_type(column.type) for column in table.columns],
    )
    for table in (
        *(tables.record, tables.transfer, tables.evidence, tables.named),
        *(tables.answer, tables.balance_then),
    )
}
_INSERT: Final = {table: str(insert(table).compile(dialect=sqlite.dialect())) for table in _COPY}


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows that have a value for each column, as the driver takes it."""
    if not rows:
        return
    if connection.dialect.name != POSTGRESQL:
        connection.exec_driver_sql(_INSERT[table], list(rows))
        return
    statement, types = _COPY[table]
    with raw(connection).cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _answer_row(answered: Answered) -> tuple[object, ...]:
    id, position, refused, template = answered
    if refused is None:
        return id, position, None, None, None, None
    return id, None, refused.rule, refused.where, refused.why, template


def _change_balances(connection: Connection, batch: Batch, size: int) -> dict[str, int]:
    if not batch.changes:
        return {}
    accounts = sorted(batch.changes)
    known = _balances_of(connection, accounts)
    rows = []
    for account in accounts:
        is_money, debits, credits = batch.changes[account]
        before = known.get(account, (0, 0))
        rows.append((account, is_money, before[0] + debits, before[1] + credits))
    _set_balances(connection, rows)
    then = [(a, batch.time_s, size, _amount(debits), _amount(credits)) for a, _, debits, credits in rows]
    insert_rows(connection, tables.balance_then, then)
    return {account: debits - credits for account, _, debits, credits in rows}


def _amount(value: int) -> bytes:
    # Totals can outgrow an amount only after 2^128 units: the bytes overflow, and nothing is written.
    return value.to_bytes(AMOUNT_BYTES, "big")


def _balances_of(connection: Connection, accounts: list[str]) -> dict[str, tuple[int, int]]:
    balance = tables.balance
    columns = f"SELECT account, debits, credits FROM {balance.name}"
    if connection.dialect.name == POSTGRESQL:
        query = f"{columns} WHERE account = ANY(%s)"
        rows = raw(connection).cursor(binary=True).execute(query.encode(), (accounts,)).fetchall()
        return {row[0]: (int.from_bytes(row[1]), int.from_bytes(row[2])) for row in rows}
    statement = select(balance).where(balance.c.account.in_(accounts))
    return {row.account: (row.debits, row.credits) for row in connection.execute(statement)}


def _set_balances(connection: Connection, rows: Sequence[tuple[str, bool, int, int]]) -> None:
    values = [(account, is_money, _amount(d), _amount(c)) for account, is_money, d, c in rows]
    name = tables.balance.name
    update_row = "ON CONFLICT (account) DO UPDATE SET debits = excluded.debits, credits = excluded.credits"
    into = f"INSERT INTO {name} (account, is_money, debits, credits)"
    if connection.dialect.name == POSTGRESQL:
        arrays = "unnest(%b::text[], %b::bool[], %b::bytea[], %b::bytea[])"
        columns = [list(column) for column in zip(*values, strict=True)]
        raw(connection).execute(f"{into} SELECT * FROM {arrays} {update_row}".encode(), columns)
    else:
        connection.exec_driver_sql(f"{into} VALUES (?, ?, ?, ?) {update_row}", values)


def _take_out(connection: Connection, sequences: Sequence[int]) -> None:
    if not sequences:
        return
    if connection.dialect.name == POSTGRESQL:
        statement = f"DELETE FROM {tables.inbox.name} WHERE sequence = ANY(%b)"
        raw(connection).execute(statement.encode(), (list(sequences),))
    else:
        connection.exec_driver_sql(
            f"DELETE FROM {tables.inbox.name} WHERE sequence = ?", [(sequence,) for sequence in sequences]
        )


__all__ = ["Answered", "Batch", "commit", "insert_rows", "raw"]
