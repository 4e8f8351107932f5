"""A merchant's account: opening balance, all that moved, closing balance, for each asset; and it adds up.

The balance is what is the merchant's and has not gone to it: what its provider holds until it has paid it
out. A direct settlement goes in the paying transaction itself, so that it leaves nothing.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field

from gateway.db import Engine, reading
from gateway.kz import business_date
from gateway.merchants.statements.store import Movement, movements

PARTS = ("payment", "correction", "fee", "refund", "settlement")
SUMS = ("payments", "corrections", "fees", "refunds", "settlements")
COLUMNS = ("at_s", "day", "kind", "id", "invoice", "reference", "asset", *PARTS, "balance")
ROWS_MOST = 1_000
_NUMBER = re.compile("-?[0-9]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass
class Sums:
    """An asset in an interval: opening + payments + corrections + fees + refunds + settlements = closing."""

    asset: str
    opening: int = 0
    payments: int = 0
    corrections: int = 0
    fees: int = 0
    refunds: int = 0
    settlements: int = 0
    closing: int = 0

    def add(self, moved: Movement) -> None:
        """Take in a movement of the interval."""
        for part, total in zip(PARTS, SUMS, strict=True):
            setattr(self, total, getattr(self, total) + getattr(moved, part))
        self.closing += moved.change

    def as_text(self) -> dict[str, str]:
        """For JSON and CSV alike."""
        return {name: str(getattr(self, name)) for name in ("asset", "opening", *SUMS, "closing")}


@dataclass(frozen=True)
class Line:
    """A movement, and what the balance of its asset is after it."""

    moved: Movement
    balance: int

    def as_text(self) -> dict[str, str]:
        """For JSON and CSV alike."""
        moved = self.moved
        values = (
            str(moved.at_s), business_date(moved.at_s).isoformat(), moved.kind, moved.id, moved.invoice_id,
            moved.reference, moved.asset, *(str(getattr(moved, part)) for part in PARTS), str(self.balance),
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


@dataclass
class Account:
    """An interval of an account. lines: a page of them, oldest first; is_first, has_more: which page."""

    since_s: int
    until_s: int
    sums: list[Sums] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    is_first: bool = True
    has_more: bool = False


def account(
    engine: Engine, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> Account:
    """The account from since_s on and before until_s; its lines after the last one of the page before.

    Added up from the first movement on each time, so that it rests on nothing but rows that stay.
    """
    told, sums = Account(since_s, until_s, is_first=after < (since_s, "")), dict[str, Sums]()
    with reading(engine) as connection:
        for moved in movements(connection, merchant_id, until_s):
            own = sums.setdefault(moved.asset, Sums(moved.asset))
            if moved.at_s < since_s:
                own.opening += moved.change
                own.closing += moved.change
                continue
            own.add(moved)
            if (moved.at_s, moved.id) <= after:
                continue
            if len(told.lines) < most:
                told.lines.append(Line(moved, own.closing))
            else:
                told.has_more = True
    told.sums = [sums[asset] for asset in sorted(sums)]
    return told


def as_csv(told: Account) -> str:
    """The account as CSV (RFC 4180): openings, lines, and closings with their sums."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="")
    writer.writeheader()
    for one in told.sums if told.is_first else ():
        row = {"at_s": told.since_s, "kind": "opening", "asset": one.asset, "balance": one.opening}
        writer.writerow(row)
    for line in told.lines:
        writer.writerow({name: _cell(value) for name, value in line.as_text().items()})
    if not told.has_more:
        for one in told.sums:
            totals = {part: getattr(one, total) for part, total in zip(PARTS, SUMS, strict=True)}
            row = {"at_s": told.until_s, "kind": "closing", "asset": one.asset, "balance": one.closing}
            writer.writerow(row | totals)
    return out.getvalue()


def _cell(text: str) -> str:
    # References are strangers' text: a spreadsheet must not take them for formulas. A number is one.
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
