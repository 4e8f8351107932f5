"""A merchant's statement: gross, the city's share and net of each piece of money, and sums by day."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from contracts.bindings import city_part
from gateway.db import Engine, reading
from gateway.kz import business_date
from gateway.merchants.statements import store
from gateway.merchants.statements.store import Entry
from gateway.rails import Kind

ROWS_MOST = 1_000
COLUMNS = (
    "time_s", "day", "invoice", "reference", "title", "kind", "stage", "asset", "gross", "city", "net", "tiyn",
    "evidence",
)  # fmt: skip
# A cell that a spreadsheet would run begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Line:
    """One line: net_minor = gross_minor - city_minor; tiyn: the gross at the rate that was quoted."""

    entry: Entry
    city_minor: int
    tiyn: int

    @property
    def net_minor(self) -> int:
        """What is the merchant's."""
        return self.entry.gross_minor - self.city_minor


def line_of(entry: Entry) -> Line:
    """A line; of a deposit the city's share goes with its flush, by the same arithmetic as on chain."""
    city = entry.city_minor
    if entry.kind is Kind.DEPOSIT:
        city = city_part(entry.gross_minor, entry.share_bps)
    return Line(entry, city, entry.gross_minor * entry.tiyn // entry.due_minor)


def page(
    engine: Engine, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> list[Line]:
    """Lines of an interval, oldest first, after the last one of the page before."""
    with reading(engine) as connection:
        found = store.entries(connection, merchant_id, since_s, until_s, after, most)
    return [line_of(entry) for entry in found]


def lines(engine: Engine, merchant_id: str, since_s: int, until_s: int) -> Iterator[Line]:
    """All lines of an interval, read a page at a time."""
    after = (-1, "")
    while found := page(engine, merchant_id, since_s, until_s, after, ROWS_MOST):
        yield from found
        after = found[-1].entry.at_s, found[-1].entry.key
        if len(found) < ROWS_MOST:
            return


def by_day(engine: Engine, merchant_id: str, since_s: int, until_s: int) -> dict[date, int]:
    """What came on each business day of Almaty, in tiyn at the quoted rates; days without are not in it."""
    sums: dict[date, int] = {}
    for line in lines(engine, merchant_id, since_s, until_s):
        day = business_date(line.entry.at_s)
        sums[day] = sums.get(day, 0) + line.tiyn
    return sums


def as_row(line: Line) -> dict[str, str]:
    """A line as text, for CSV and JSON alike."""
    entry = line.entry
    values = (
        str(entry.at_s), business_date(entry.at_s).isoformat(), entry.invoice_id, entry.reference or "", entry.title,
        entry.kind.value, entry.stage.value, entry.asset, str(entry.gross_minor), str(line.city_minor),
        str(line.net_minor), str(line.tiyn), entry.key,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def as_csv(found: Sequence[Line]) -> str:
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
