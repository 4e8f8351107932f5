"""Every table of payments as rows that any program can read: the city is never locked in (field failure 54).

Bytes are hex with 0x, amounts and all other integers are text of digits, what is not there is null (JSON)
or empty (CSV). What a salted commitment hides is exported only where it is asked for: it is personal.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, Table, select, tuple_

from gateway.payments.store import tables
from ledger.records import reject

PAGE_ROWS: Final = 1_000
# What belongs to a person and can be erased (L7).
PERSONAL: Final = frozenset({tables.private.name})
TABLES: Final = {table.name: table for table in tables.ALL}


class Form(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSON_LINES = "jsonl"


def export_table(
    connection: Connection, name: str, form: Form = Form.JSON_LINES, *, is_personal: bool = False
) -> Iterator[str]:
    """The lines of one table, a page of the database at a time, in the order of its key.

    The caller's connection decides what is seen: one transaction for all tables makes one picture.
    """
    table = TABLES.get(name)
    if table is None:
        reject(
            "not_found", "table", f"no table is called {name[:40]!a}; there are {', '.join(sorted(TABLES))}"
        )
    if name in PERSONAL and not is_personal:
        reject("L7", name, "this is personal; it is exported only where it is asked for by that name")
    columns = [column.name for column in table.columns]
    if form is Form.CSV:
        yield _csv_line(columns)
    for row in _rows(connection, table):
        shown = [_shown(row[column]) for column in columns]
        if form is Form.CSV:
            yield _csv_line(["" if value is None else value for value in shown])
        else:
            yield json.dumps(dict(zip(columns, shown, strict=True)), ensure_ascii=False) + "\n"


def _rows(connection: Connection, table: Table) -> Iterator[dict[str, object]]:
    key = list(table.primary_key.columns)
    after: tuple[object, ...] | None = None
    while True:
        asked = select(table).order_by(*key).limit(PAGE_ROWS)
        if after is not None:
            asked = asked.where(tuple_(*key) > after if len(key) > 1 else key[0] > after[0])
        page = connection.execute(asked).mappings().all()
        yield from (dict(row) for row in page)
        if len(page) < PAGE_ROWS:
            return
        after = tuple(page[-1][column.name] for column in key)


def _shown(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return "0x" + bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)


def _csv_line(values: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_harmless(value) for value in values])
    return line.getvalue()


def _harmless(value: str) -> str:
    """What a spreadsheet would take for a formula is text: a title is whatever a merchant wrote."""
    return f"'{value}" if value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
