"""A merchant's statement: lines from settlements, and all that moved on its account. SQL and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge

from sqlalchemy import Connection, and_, or_, select

from gateway.payments.refund_model import RefundState, Source
from gateway.payments.store import Decision, tables
from gateway.payments.store.settlements import PayoutState

PAGE = 5_000
DIRECT = "direct"
HELD = "held:"


@dataclass(frozen=True)
class Entry:
    """One piece of final money: gross = city + net, base units of the asset.

    key: of the evidence; tiyn and due_minor: what the invoice asked for, in tenge and in the asset;
    at_s: when the money moved; noted_s: when it was final.

    Late money that the policy held is a line of its own (its key begins with `held:`): it pays nothing, so
    gross, city and net are 0, held_minor is what came, and noted_s when it was held. It stays, whatever a
    person decides; what a flush made of the money is another, with its gross.
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
    held_minor: int = 0


def entries(
    connection: Connection, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> list[Entry]:
    """What was final or held from since_s on and before until_s, oldest first, after the last one told.

    Within a second what was final stands before what was held.
    """
    settled = _settled(connection, merchant_id, since_s, until_s, after, most)
    held = _held(connection, merchant_id, since_s, until_s, after, most)
    return sorted([*settled, *held], key=lambda entry: (entry.noted_s, entry.key.startswith(HELD)))[:most]


def _held(
    connection: Connection, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> list[Entry]:
    """Late money that the policy did not take, by the moment at which it was held."""
    decided, seen, invoice, (last_s, key) = tables.decision, tables.evidence, tables.invoice, after
    rows = connection.execute(
        select(
            seen, decided.c.at_s.label("held_s"), invoice.c.merchant_reference, invoice.c.title,
            invoice.c.tiyn, invoice.c.due, invoice.c.id.label("of"),
        )
        .join(seen, seen.c.key == decided.c.key)
        .join(invoice, invoice.c.id == decided.c.invoice_id)
        .where(
            invoice.c.merchant_id == merchant_id,
            decided.c.action == Decision.HELD.value,
            decided.c.at_s >= max(since_s, last_s),
            decided.c.at_s < until_s,
            or_(
                decided.c.at_s > last_s,
                and_(decided.c.at_s == last_s, seen.c.key > key.removeprefix(HELD))
                if key.startswith(HELD)
                else decided.c.at_s == last_s,
            ),
        )
        .order_by(decided.c.at_s, seen.c.key)
        .limit(most)
    )  # fmt: skip
    return [
        Entry(
            HELD + row.key, row.of, row.merchant_reference, row.title, "held", row.asset, 0, 0, 0, row.tiyn,
            row.due, row.held_s if row.at_s is None else row.at_s, row.held_s, row.amount,
        )
        for row in rows
    ]  # fmt: skip


def _settled(
    connection: Connection, merchant_id: str, since_s: int, until_s: int, after: tuple[int, str], most: int
) -> list[Entry]:
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
            settled.c.noted_s > last_s
            if key.startswith(HELD)
            else or_(settled.c.noted_s > last_s, and_(settled.c.noted_s == last_s, settled.c.id > key)),
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


@dataclass(frozen=True, order=True)
class Movement:
    """One event of the account at a second, in base units of its asset; each part has the sign of its effect.

    kind: payment, refund or payout; id: of the evidence, refund or payout, which makes the order one.
    correction: money that a person gave to an invoice; fee: the city's share, which comes back with a refund
    that the city pays; settlement: what went to the merchant, from whose wallet its own refunds come.
    """

    at_s: int
    id: str
    kind: str = field(compare=False)
    asset: str = field(compare=False)
    invoice_id: str = field(default="", compare=False)
    reference: str = field(default="", compare=False)
    payment: int = field(default=0, compare=False)
    correction: int = field(default=0, compare=False)
    fee: int = field(default=0, compare=False)
    refund: int = field(default=0, compare=False)
    settlement: int = field(default=0, compare=False)

    @property
    def change(self) -> int:
        """By how much the balance changes."""
        return self.payment + self.correction + self.fee + self.refund + self.settlement


def movements(connection: Connection, merchant_id: str, until_s: int) -> Iterator[Movement]:
    """All that moved before a second, oldest first: rows that nobody can change, a page at a time."""
    return merge(
        _payments(connection, merchant_id, until_s),
        _refunds(connection, merchant_id, until_s),
        _payouts(connection, merchant_id, until_s),
    )


def _payments(connection: Connection, merchant_id: str, until_s: int) -> Iterator[Movement]:
    settled, invoice, decision = tables.settlement, tables.invoice, tables.decision
    given = (
        select(decision.c.key)
        .where(decision.c.key == settled.c.id, decision.c.action == Decision.ASSIGNED.value)
        .exists()
        .label("given")
    )
    after: tuple[int, str] = (-1, "")
    while True:
        last_s, last = after
        page = connection.execute(
            select(settled, invoice.c.merchant_reference, given)
            .join(invoice, invoice.c.id == settled.c.invoice_id)
            .where(
                settled.c.merchant_id == merchant_id,
                settled.c.noted_s < until_s,
                or_(settled.c.noted_s > last_s, and_(settled.c.noted_s == last_s, settled.c.id > last)),
            )
            .order_by(settled.c.noted_s, settled.c.id)
            .limit(PAGE)
        ).all()
        for row in page:
            yield Movement(
                row.noted_s, row.id, "payment", row.asset, row.invoice_id, row.merchant_reference or "",
                payment=0 if row.given else row.gross,
                correction=row.gross if row.given else 0,
                fee=-row.city,
                # A provider has it until it pays it out.
                settlement=-row.net if row.method == DIRECT else 0,
            )  # fmt: skip
        if len(page) < PAGE:
            return
        after = (page[-1].noted_s, page[-1].id)


def _refunds(connection: Connection, merchant_id: str, until_s: int) -> Iterator[Movement]:
    refund, happened, invoice = tables.refund, tables.refund_event, tables.invoice
    rows = connection.execute(
        select(refund, happened.c.at_s, invoice.c.merchant_reference)
        .join(happened, happened.c.refund_id == refund.c.id)
        .join(invoice, invoice.c.id == refund.c.invoice_id)
        .where(
            refund.c.merchant_id == merchant_id,
            happened.c.state == RefundState.FINAL.value,
            happened.c.at_s < until_s,
        )
        .order_by(happened.c.at_s, refund.c.id)
    )
    for row in rows:
        by_city = row.source == Source.CITY.value
        yield Movement(
            row.at_s, row.id, "refund", row.asset, row.invoice_id or "", row.merchant_reference or "",
            refund=-row.amount,
            fee=row.amount if by_city else 0,
            settlement=0 if by_city else row.amount,
        )  # fmt: skip


def _payouts(connection: Connection, merchant_id: str, until_s: int) -> Iterator[Movement]:
    payout, happened = tables.payout, tables.payout_event
    rows = connection.execute(
        select(payout, happened.c.at_s)
        .join(happened, happened.c.payout_id == payout.c.id)
        .where(
            payout.c.merchant_id == merchant_id,
            happened.c.state == PayoutState.PAID.value,
            happened.c.at_s < until_s,
        )
        .order_by(happened.c.at_s, payout.c.id)
    )
    for row in rows:
        reference = row.bank_reference or ""
        yield Movement(row.at_s, row.id, "payout", row.asset, reference=reference, settlement=-row.amount)
