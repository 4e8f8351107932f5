"""The lines of a merchant's statement, read from the evidence. SQL and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, and_, func, or_, select

from gateway.db import metadata
from gateway.payments import store as payments
from gateway.rails import PAYS, Kind, Stage

assert payments  # Its tables are in the metadata once it is imported.


@dataclass(frozen=True)
class Entry:
    """One piece of money that came. gross_minor: base units of the asset.

    city_minor: what went to the city in the same transaction; 0 where that comes with a flush.
    at_s: when it moved, or when it was seen.
    """

    key: str
    invoice_id: str
    reference: str | None
    title: str
    kind: Kind
    stage: Stage
    asset: str
    gross_minor: int
    city_minor: int
    share_bps: int
    tiyn: int
    due_minor: int
    at_s: int


def _tables() -> tuple[Table, Table]:
    return metadata.tables["evidence"], metadata.tables["invoice"]


def entries(
    connection: Connection, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> list[Entry]:
    """What came from since_s on and before until_s, oldest first, after the last of the page before."""
    evidence, invoice = _tables()
    at_s: Any = func.coalesce(evidence.c.at_s, evidence.c.seen_s)
    last_s, key = after
    rows = connection.execute(
        select(
            evidence,
            at_s.label("moved_s"),
            invoice.c.merchant_reference,
            invoice.c.title,
            invoice.c.share_bps,
            invoice.c.tiyn,
            invoice.c.due,
        )
        .join(invoice, invoice.c.id == evidence.c.invoice_id)
        .where(
            invoice.c.merchant_id == merchant_id,
            evidence.c.kind.in_([kind.value for kind in PAYS]),
            evidence.c.stage != Stage.GONE.value,
            at_s >= since_s,
            at_s < until_s,
            or_(at_s > last_s, and_(at_s == last_s, evidence.c.key > key)),
        )
        .order_by(at_s, evidence.c.key)
        .limit(most)
    )
    return [
        Entry(
            row.key,
            row.invoice_id,
            row.merchant_reference,
            row.title,
            Kind(row.kind),
            Stage(row.stage),
            row.asset,
            row.amount,
            row.city,
            row.share_bps,
            row.tiyn,
            row.due,
            row.moved_s,
        )
        for row in rows
    ]
