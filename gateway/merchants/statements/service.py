"""A merchant's statement: gross, the city's share and net of each piece of final money, and sums by day.

Late money that the policy held stands there too, beside the sums and not in them (field failure 10).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import date

from gateway.db import Engine, reading
from gateway.kz import business_date
from gateway.merchants.statements import store
from gateway.merchants.statements.store import Entry

ROWS_MOST = 1_000
COLUMNS = (
    "final_s", "day", "moved_s", "invoice", "reference", "title", "method", "asset", "gross", "city", "net",
    "tiyn", "evidence", "held",
)  # fmt: skip
# A cell that a spreadsheet would run begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def page(
    engine: Engine, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> list[Entry]:
    """Lines of an interval, oldest first, after the last one of the page before."""
    with reading(engine) as connection:
        return store.entries(connection, merchant_id, since_s, until_s, after, most)


def lines(engine: Engine, merchant_id: str, since_s: int, until_s: int) -> Iterator[Entry]:
    """All lines of an interval, read a page at a time."""
    after = (-1, "")
    while found := page(engine, merchant_id, since_s, until_s, after, ROWS_MOST):
        yield from found
        after = found[-1].noted_s, found[-1].key
        if len(found) < ROWS_MOST:
            return


def worth(entry: Entry) -> int:
    """The gross in tiyn at the rate that was quoted, rounded down."""
    return entry.gross_minor * entry.tiyn // entry.due_minor


def by_day(engine: Engine, merchant_id: str, since_s: int, until_s: int) -> dict[date, int]:
    """What was final on each business day of Almaty, in tiyn at the quoted rates; empty days are left out."""
    sums: dict[date, int] = {}
    for line in lines(engine, merchant_id, since_s, until_s):
        if line.held_minor:
            continue
        day = business_date(line.noted_s)
        sums[day] = sums.get(day, 0) + worth(line)
    return sums


def as_row(line: Entry) -> dict[str, str]:
    """A line as text, for CSV and JSON alike."""
    values = (
        str(line.noted_s), business_date(line.noted_s).isoformat(), str(line.at_s), line.invoice_id,
        line.reference or "", line.title, line.method, line.asset, str(line.gross_minor),
        str(line.city_minor), str(line.net_minor), str(worth(line)), line.key.removeprefix(store.HELD),
        str(line.held_minor),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def as_csv(found: Sequence[Entry]) -> str:
    """Lines as CSV (RFC 4180) with a heading."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for line in found:
        writer.writerow([_cell(value) for value in as_row(line).values()])
    return out.getvalue()


def _cell(text: str) -> str:
    # Titles and references are strangers' text: a spreadsheet must not take them for formulas.
    return f"'{text}" if text.startswith(_FORMULA) else text
