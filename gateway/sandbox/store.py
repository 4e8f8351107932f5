"""The sandbox's tables: no rail reads them, and nothing in them can reach the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
    update,
)

from gateway.db import Amount, Integer64, insert_into, metadata, newest_first
from gateway.payments.model import Payment, Terms
from gateway.rails import Kind, Stage

_invoice = Table(
    "sandbox_invoice",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("tiyn", Amount, nullable=False),
    Column("asset", Text, nullable=False),
    Column("due", Amount, nullable=False),
    Column("rate", Text, nullable=False),
    Column("created_s", Integer64, nullable=False),
    Column("expires_s", Integer64, nullable=False),
    Column("voided", Integer, nullable=False, server_default="0"),
    Column("return_url", Text, nullable=True),
    UniqueConstraint("merchant_id", "reference", "attempt"),
    Index("ix_sandbox_invoice_page", "merchant_id", "created_s", "id"),
)
_payment = Table(
    "sandbox_payment",
    metadata,
    Column("number", Integer64, primary_key=True, autoincrement=True),
    Column("invoice_id", Text, ForeignKey("sandbox_invoice.id"), nullable=False, index=True),
    Column("amount", Amount, nullable=False),
    Column("stage", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)


@dataclass(frozen=True)
class SandboxInvoice:
    """An invoice that nobody can pay. due_minor: base units of the asset; tiyn: the price."""

    id: str
    merchant_id: str
    reference: str
    attempt: int
    purpose: str
    title: str
    tiyn: int
    asset: str
    due_minor: int
    rate: str
    created_s: int
    expires_s: int
    voided: bool = False
    return_url: str | None = None

    @property
    def terms(self) -> Terms:
        """What decides the state."""
        return Terms(self.asset, self.due_minor, self.tiyn, self.expires_s, 0, self.voided)

    @property
    def quote(self) -> dict[str, Any]:
        """The rate that was quoted."""
        found: dict[str, Any] = json.loads(self.rate)
        return found


def add(connection: Connection, new: SandboxInvoice) -> bool:
    """Store an invoice; False if this attempt of its reference exists."""
    values = {
        "id": new.id,
        "merchant_id": new.merchant_id,
        "reference": new.reference,
        "attempt": new.attempt,
        "purpose": new.purpose,
        "title": new.title,
        "tiyn": new.tiyn,
        "asset": new.asset,
        "due": new.due_minor,
        "rate": new.rate,
        "created_s": new.created_s,
        "expires_s": new.expires_s,
        "return_url": new.return_url,
    }
    statement = insert_into(connection, _invoice).values(**values)
    unique = ["merchant_id", "reference", "attempt"]
    added = statement.on_conflict_do_nothing(index_elements=unique).returning(_invoice.c.id)
    return connection.execute(added).first() is not None


def _invoice_of(row: Any) -> SandboxInvoice:
    return SandboxInvoice(
        row.id,
        row.merchant_id,
        row.reference,
        row.attempt,
        row.purpose,
        row.title,
        row.tiyn,
        row.asset,
        row.due,
        row.rate,
        row.created_s,
        row.expires_s,
        bool(row.voided),
        row.return_url,
    )


def invoice(
    connection: Connection, merchant_id: str | None, id: str, *, lock: bool = False
) -> SandboxInvoice | None:
    """One invoice, of a merchant's where one is named; lock: nobody else changes it until we commit."""
    asked = select(_invoice).where(_invoice.c.id == id)
    if merchant_id is not None:
        asked = asked.where(_invoice.c.merchant_id == merchant_id)
    row = connection.execute(asked.with_for_update() if lock else asked).first()
    return None if row is None else _invoice_of(row)


def newest(connection: Connection, merchant_id: str, reference: str) -> SandboxInvoice | None:
    """The newest invoice of a reference."""
    row = connection.execute(
        select(_invoice)
        .where(_invoice.c.merchant_id == merchant_id, _invoice.c.reference == reference)
        .order_by(_invoice.c.attempt.desc())
        .limit(1)
    ).first()
    return None if row is None else _invoice_of(row)


def invoices(
    connection: Connection, merchant_id: str, before: tuple[int, str], most: int
) -> list[SandboxInvoice]:
    """A merchant's invoices, newest first, after the last one of the page before."""
    theirs = select(_invoice).where(_invoice.c.merchant_id == merchant_id)
    page = newest_first(theirs, _invoice.c.created_s, _invoice.c.id, before, most)
    return [_invoice_of(row) for row in connection.execute(page)]


def void(connection: Connection, id: str) -> None:
    """Void an invoice."""
    connection.execute(update(_invoice).where(_invoice.c.id == id).values(voided=1))


def pay(connection: Connection, id: str, amount_minor: int, stage: Stage, now: int) -> None:
    """Note a payment that never was, and bring all of the invoice's to a stage."""
    if amount_minor:
        connection.execute(
            insert(_payment).values(invoice_id=id, amount=amount_minor, stage=stage.value, at_s=now)
        )
    connection.execute(update(_payment).where(_payment.c.invoice_id == id).values(stage=stage.value))


def payments(connection: Connection, invoice: SandboxInvoice) -> list[Payment]:
    """The payments of an invoice."""
    rows = connection.execute(
        select(_payment).where(_payment.c.invoice_id == invoice.id).order_by(_payment.c.number)
    )
    return [Payment(Kind.DEPOSIT, Stage(row.stage), invoice.asset, row.amount, row.at_s) for row in rows]
