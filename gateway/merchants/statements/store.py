"""The lines of a merchant's statement, read from the settlements. SQL and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, or_, select

from gateway.payments.store import tables


@dataclass(frozen=True)
class Entry:
    """One piece of final money: gross = city + net, base units of the asset.

    key: of the evidence; tiyn and due_minor: what the invoice asked for, in tenge and in the asset;
    at_s: when the money moved; noted_s: when it was final.
    """

    key: str
    invoice_id: str
    reference: str | None
    title: str
    method: str
    asset: str
    gross_minor: int
    city_minor: int
    net_minor: int
    tiyn: int
    due_minor: int
    at_s: int
    noted_s: int


def entries(
    connection: Connection, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> list[Entry]:
    """What was final from since_s on and before until_s, oldest first, after the last of the page before."""
    settled, invoice, (last_s, key) = tables.settlement, tables.invoice, after
    rows = connection.execute(
        select(
            settled,
            invoice.c.merchant_reference,
            invoice.c.title,
            invoice.c.tiyn,
            invoice.c.due,
        )
        .join(invoice, invoice.c.id == settled.c.invoice_id)
        .where(
            settled.c.merchant_id == merchant_id,
            settled.c.noted_s >= max(since_s, last_s),
            settled.c.noted_s < until_s,
            or_(settled.c.noted_s > last_s, and_(settled.c.noted_s == last_s, settled.c.id > key)),
        )
        .order_by(settled.c.noted_s, settled.c.id)
        .limit(most)
    )
    return [
        Entry(
            row.id,
            row.invoice_id,
            row.merchant_reference,
            row.title,
            row.method,
            row.asset,
            row.gross,
            row.city,
            row.net,
            row.tiyn,
            row.due,
            row.at_s,
            row.noted_s,
        )
        for row in rows
    ]
