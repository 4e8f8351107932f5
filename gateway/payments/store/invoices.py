"""Invoices: what was asked for, and where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, update

from gateway.db import insert_into, newest_first
from gateway.merchants.policy import NO_POLICY, Policy
from gateway.payments.model import Status, Terms
from gateway.payments.store import tables
from gateway.rails import Evidence
from ledger.rules import TENGE

# Above SQLite's oldest bound on parameters by nothing, and few enough for one plan.
CHUNK = 500


class Origin(StrEnum):
    """Who asked for an invoice: a merchant's program, or a page of ours."""

    API = "api"
    LINK = "link"
    TILL = "till"
    FEE = "fee"


@dataclass(frozen=True)
class Invoice:
    """An invoice as it was asked for. due_minor: base units of asset; tiyn: what it is in tenge.

    number: its 32 bytes on chain; payee: the merchant's address, zero for the city;
    rate: JSON text of the quote (numerator, denominator, sources, time, spread), or "{}".
    policy: the merchant's when this was made; refund_to: where the payer wants money back, fixed
    before paying; return_url: the merchant's page that the payer may go back to.
    """

    id: str
    number: bytes
    merchant_id: str | None
    merchant_reference: str | None
    purpose: str
    title: str
    tiyn: int
    asset: str
    due_minor: int
    share_bps: int
    rate: str
    payee: bytes
    deposit_address: bytes | None
    quote_signature: bytes | None
    reference: str
    created_s: int
    expires_s: int
    nonce: int = 0
    attempt: int = 0
    status: Status = Status.OPEN
    voided: bool = False
    policy: Policy = NO_POLICY
    refund_to: bytes | None = None
    return_url: str | None = None
    origin: Origin = Origin.API

    @property
    def terms(self) -> Terms:
        """What decides the state."""
        tolerance = self.policy.tolerance_minor(self.due_minor)
        return Terms(self.asset, self.due_minor, self.tiyn, self.expires_s, tolerance, self.voided)

    @property
    def in_tenge(self) -> bool:
        """Whether a bank transfer can pay it. A merchant's money is never taken on the city's account."""
        return self.merchant_id is None

    @property
    def quote(self) -> dict[str, Any]:
        """The rate that was quoted, for people and for recomputing (P1)."""
        found: dict[str, Any] = json.loads(self.rate)
        return found


def add_invoice(connection: Connection, invoice: Invoice) -> bool:
    """Store a new invoice and its first event; False if this attempt of its reference exists."""
    added = connection.execute(
        insert_into(connection, tables.invoice)
        .on_conflict_do_nothing(index_elements=["merchant_id", "merchant_reference", "attempt"])
        .values(
            id=invoice.id,
            number=invoice.number,
            merchant_id=invoice.merchant_id,
            merchant_reference=invoice.merchant_reference,
            attempt=invoice.attempt,
            purpose=invoice.purpose,
            title=invoice.title,
            tiyn=invoice.tiyn,
            asset=invoice.asset,
            due=invoice.due_minor,
            share_bps=invoice.share_bps,
            rate=invoice.rate,
            payee=invoice.payee,
            deposit_address=invoice.deposit_address,
            quote_signature=invoice.quote_signature,
            nonce=invoice.nonce,
            reference=invoice.reference,
            created_s=invoice.created_s,
            expires_s=invoice.expires_s,
            status=invoice.status.value,
            voided=int(invoice.voided),
            policy=invoice.policy.to_json(),
            refund_to=invoice.refund_to,
            return_url=invoice.return_url,
            origin=invoice.origin.value,
        )
        .returning(tables.invoice.c.id)
    )
    if added.first() is None:
        return False
    connection.execute(
        insert(tables.invoice_event).values(
            invoice_id=invoice.id, status=invoice.status.value, at_s=invoice.created_s
        )
    )
    return True


def _invoice_of(row: Any) -> Invoice:
    return Invoice(
        id=row.id,
        number=bytes(row.number),
        merchant_id=row.merchant_id,
        merchant_reference=row.merchant_reference,
        purpose=row.purpose,
        title=row.title,
        tiyn=row.tiyn,
        asset=row.asset,
        due_minor=row.due,
        share_bps=row.share_bps,
        rate=row.rate,
        payee=bytes(row.payee),
        deposit_address=None if row.deposit_address is None else bytes(row.deposit_address),
        quote_signature=None if row.quote_signature is None else bytes(row.quote_signature),
        reference=row.reference,
        created_s=row.created_s,
        expires_s=row.expires_s,
        nonce=row.nonce,
        attempt=row.attempt,
        status=Status(row.status),
        voided=bool(row.voided),
        policy=Policy.from_json(row.policy),
        refund_to=None if row.refund_to is None else bytes(row.refund_to),
        return_url=row.return_url,
        origin=Origin(row.origin),
    )


def _one_invoice(connection: Connection, *conditions: Any) -> Invoice | None:
    row = connection.execute(select(tables.invoice).where(*conditions)).first()
    return None if row is None else _invoice_of(row)


def invoice(connection: Connection, id: str) -> Invoice | None:
    """The invoice with this id."""
    return _one_invoice(connection, tables.invoice.c.id == id)


def locked_invoice(connection: Connection, id: str) -> Invoice:
    """The invoice with this id, which exists; nobody else derives its state until we commit."""
    row = connection.execute(select(tables.invoice).where(tables.invoice.c.id == id).with_for_update()).one()
    return _invoice_of(row)


def invoice_for(connection: Connection, evidence: Evidence) -> Invoice | None:
    """The invoice that the money was meant for: by number, deposit address or reference, never by amount.

    None where the invoice does not take that money: another asset has no rate here, and tenge
    for a merchant is not the city's.
    """
    if evidence.number:
        found = _one_invoice(connection, tables.invoice.c.number == evidence.number)
    elif evidence.address:
        found = _one_invoice(connection, tables.invoice.c.deposit_address == evidence.address)
    elif evidence.reference:
        found = _one_invoice(connection, tables.invoice.c.reference == evidence.reference)
        return found if found is not None and found.in_tenge else None
    else:
        return None
    return found if found is not None and found.asset == evidence.asset else None


def invoice_of_merchant(connection: Connection, merchant_id: str, reference: str) -> Invoice | None:
    """The newest invoice that a merchant gave this reference."""
    row = connection.execute(
        select(tables.invoice)
        .where(tables.invoice.c.merchant_id == merchant_id, tables.invoice.c.merchant_reference == reference)
        .order_by(tables.invoice.c.attempt.desc())
        .limit(1)
    ).first()
    return None if row is None else _invoice_of(row)


def invoices_of(
    connection: Connection, merchant_id: str, before: tuple[int, str], most: int
) -> list[Invoice]:
    """A merchant's invoices, newest first, after the last one of the page before (keyset)."""
    theirs = select(tables.invoice).where(tables.invoice.c.merchant_id == merchant_id)
    page = newest_first(theirs, tables.invoice.c.created_s, tables.invoice.c.id, before, most)
    return [_invoice_of(row) for row in connection.execute(page)]


def set_status(connection: Connection, id: str, status: Status, at_s: int) -> None:
    """Note a move: the event stays, the column is what lists are filtered by."""
    connection.execute(update(tables.invoice).where(tables.invoice.c.id == id).values(status=status.value))
    connection.execute(insert(tables.invoice_event).values(invoice_id=id, status=status.value, at_s=at_s))


def set_voided(connection: Connection, id: str) -> bool:
    """Withdraw an invoice; False if there is none."""
    changed = connection.execute(update(tables.invoice).where(tables.invoice.c.id == id).values(voided=1))
    return changed.rowcount == 1


def events_of(connection: Connection, id: str) -> list[tuple[str, int]]:
    """The moves of an invoice: status and second."""
    rows = connection.execute(
        select(tables.invoice_event.c.status, tables.invoice_event.c.at_s)
        .where(tables.invoice_event.c.invoice_id == id)
        .order_by(tables.invoice_event.c.sequence)
    )
    return [(row.status, row.at_s) for row in rows]


def open_deposits(connection: Connection) -> dict[bytes, str]:
    """Deposit addresses of all invoices, with the invoice; watching goes on after they are paid.

    For few invoices: `deposits_among` asks about the addresses that a range of blocks paid to.
    """
    rows = connection.execute(
        select(tables.invoice.c.deposit_address, tables.invoice.c.id).where(
            tables.invoice.c.deposit_address.is_not(None)
        )
    )
    return {bytes(row.deposit_address): row.id for row in rows}


def deposits_among(connection: Connection, addresses: Iterable[bytes]) -> dict[bytes, str]:
    """Those of these addresses that are deposit addresses, with their invoice; however many are open."""
    found: dict[bytes, str] = {}
    column = tables.invoice.c.deposit_address
    for part in _chunks(sorted(set(addresses))):
        rows = connection.execute(select(column, tables.invoice.c.id).where(column.in_(part)))
        found.update((bytes(row.deposit_address), row.id) for row in rows)
    return found


def expiring(
    connection: Connection,
    tenge_s: int,
    chain_s: int,
    after: tuple[int, str] = (-1, ""),
    most: int = CHUNK,
) -> list[Invoice]:
    """Invoices without enough money whose time is over: in tenge by the clock, else by what was seen.

    The oldest first, a page at a time; after: the second and id of the last one of the page before.
    """
    column, last_s, last_id = tables.invoice.c, *after
    until = or_(
        (column.asset == TENGE) & (column.expires_s < tenge_s),
        (column.asset != TENGE) & (column.expires_s < chain_s),
    )
    # Said once more without the asset, so that the index ends the search.
    bound = column.expires_s < max(tenge_s, chain_s)
    beyond = (column.expires_s > last_s) | ((column.expires_s == last_s) & (column.id > last_id))
    found: list[Invoice] = []
    for status in (Status.OPEN, Status.DETECTED):
        asked = select(tables.invoice).where(
            column.status == status.value, column.expires_s >= last_s, bound, until, beyond
        )
        rows = connection.execute(asked.order_by(column.expires_s, column.id).limit(most))
        found.extend(_invoice_of(row) for row in rows)
    return sorted(found, key=lambda one: (one.expires_s, one.id))[:most]


def counts(connection: Connection) -> dict[str, int]:
    """How many invoices are in each status."""
    rows = connection.execute(select(tables.invoice.c.status, func.count()).group_by(tables.invoice.c.status))
    return {row[0]: row[1] for row in rows}


def _chunks(addresses: list[bytes]) -> Iterable[list[bytes]]:
    return (addresses[at : at + CHUNK] for at in range(0, len(addresses), CHUNK))
