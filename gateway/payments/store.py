"""The rows of payments: invoices, evidence, events, cursors. SQL and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)

from gateway.db import Amount, Hash32, Integer64, metadata
from gateway.payments.model import Payment, Status, Terms
from gateway.rails import Evidence, Kind, Stage

_invoice = Table(
    "invoice",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Hash32, nullable=False, unique=True),
    Column("merchant_id", Text, nullable=True, index=True),
    Column("merchant_reference", Text, nullable=True),
    Column("purpose", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("tiyn", Amount, nullable=False),
    Column("asset", Text, nullable=False),
    Column("due", Amount, nullable=False),
    Column("share_bps", Integer, nullable=False),
    Column("rate", Text, nullable=False),
    Column("payee", LargeBinary, nullable=False),
    Column("deposit_address", LargeBinary, nullable=True, unique=True),
    Column("quote_signature", LargeBinary, nullable=True),
    Column("reference", Text, nullable=False, unique=True),
    Column("created_s", Integer64, nullable=False),
    Column("expires_s", Integer64, nullable=False),
    Column("status", Text, nullable=False),
    Column("voided", Integer, nullable=False, default=0),
    UniqueConstraint("merchant_id", "merchant_reference"),
)
_event = Table(
    "invoice_event",
    metadata,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
_evidence = Table(
    "evidence",
    metadata,
    Column("key", Text, primary_key=True),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=True, index=True),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False, index=True),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("city", Amount, nullable=False),
    Column("block", Integer64, nullable=True),
    Column("address", LargeBinary, nullable=False),
    Column("reference", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("evidence_hash", Hash32, nullable=True),
    Column("transfer_id", Hash32, nullable=True),
    Column("seen_s", Integer64, nullable=False),
    Column("changed_s", Integer64, nullable=False),
)
_private = Table(
    # What a salted commitment hides. Erasing a row leaves the proof valid (L7).
    "private_evidence",
    metadata,
    Column("commitment", Hash32, primary_key=True),
    Column("salt", Hash32, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
_cursor = Table(
    "rail_cursor",
    metadata,
    Column("rail", Text, primary_key=True),
    Column("position", Integer64, nullable=False),
)
_file = Table(
    "bank_file",
    metadata,
    Column("sha256", Hash32, primary_key=True),
    Column("name", Text, nullable=False),
    Column("problem", Text, nullable=True),
    Column("read_s", Integer64, nullable=False),
)
_idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Hash32, nullable=False),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=False),
)


@dataclass(frozen=True)
class Invoice:
    """An invoice as it was asked for. due_minor: base units of asset; tiyn: what it is in tenge.

    number: its 32 bytes on chain; payee: the merchant's address, zero for the city;
    rate: JSON text of the quote (numerator, denominator, sources, time, spread), or "{}".
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
    status: Status = Status.OPEN
    voided: bool = False

    @property
    def terms(self) -> Terms:
        """What decides the state."""
        return Terms(self.due_minor, self.expires_s, 0, self.voided)

    @property
    def quote(self) -> dict[str, Any]:
        """The rate that was quoted, for people and for recomputing (P1)."""
        found: dict[str, Any] = json.loads(self.rate)
        return found


@dataclass(frozen=True)
class Seen:
    """A stored piece of evidence."""

    key: str
    invoice_id: str | None
    kind: Kind
    stage: Stage
    asset: str
    amount_minor: int
    city_minor: int
    block: int | None
    address: bytes
    reference: str
    document: bytes
    evidence_hash: bytes | None
    transfer_id: bytes | None
    seen_s: int

    @property
    def payment(self) -> Payment:
        """The part that decides a state."""
        return Payment(self.kind, self.stage, self.amount_minor, self.seen_s)


def add_invoice(connection: Connection, invoice: Invoice) -> None:
    """Store a new invoice and its first event."""
    connection.execute(
        insert(_invoice).values(
            id=invoice.id,
            number=invoice.number,
            merchant_id=invoice.merchant_id,
            merchant_reference=invoice.merchant_reference,
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
            reference=invoice.reference,
            created_s=invoice.created_s,
            expires_s=invoice.expires_s,
            status=invoice.status.value,
            voided=int(invoice.voided),
        )
    )
    connection.execute(
        insert(_event).values(invoice_id=invoice.id, status=invoice.status.value, at_s=invoice.created_s)
    )


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
        status=Status(row.status),
        voided=bool(row.voided),
    )


def _one_invoice(connection: Connection, *conditions: Any) -> Invoice | None:
    row = connection.execute(select(_invoice).where(*conditions)).first()
    return None if row is None else _invoice_of(row)


def invoice(connection: Connection, id: str) -> Invoice | None:
    """The invoice with this id."""
    return _one_invoice(connection, _invoice.c.id == id)


def invoice_for(connection: Connection, evidence: Evidence | Seen) -> Invoice | None:
    """The invoice that the money was meant for: by number, deposit address or reference, never by amount."""
    if isinstance(evidence, Evidence) and evidence.number:
        return _one_invoice(connection, _invoice.c.number == evidence.number)
    if evidence.address:
        return _one_invoice(connection, _invoice.c.deposit_address == evidence.address)
    return (
        _one_invoice(connection, _invoice.c.reference == evidence.reference) if evidence.reference else None
    )


def invoice_of_merchant(connection: Connection, merchant_id: str, reference: str) -> Invoice | None:
    """The invoice that a merchant gave this reference."""
    return _one_invoice(
        connection, _invoice.c.merchant_id == merchant_id, _invoice.c.merchant_reference == reference
    )


def invoices_of(
    connection: Connection, merchant_id: str, before: tuple[int, str], most: int
) -> list[Invoice]:
    """A merchant's invoices, newest first, after the last one of the page before (keyset)."""
    created, id = before
    rows = connection.execute(
        select(_invoice)
        .where(
            _invoice.c.merchant_id == merchant_id,
            (_invoice.c.created_s < created) | ((_invoice.c.created_s == created) & (_invoice.c.id < id)),
        )
        .order_by(_invoice.c.created_s.desc(), _invoice.c.id.desc())
        .limit(most)
    )
    return [_invoice_of(row) for row in rows]


def set_status(connection: Connection, id: str, status: Status, at_s: int) -> None:
    """Note a move: the event stays, the column is what lists are filtered by."""
    connection.execute(update(_invoice).where(_invoice.c.id == id).values(status=status.value))
    connection.execute(insert(_event).values(invoice_id=id, status=status.value, at_s=at_s))


def events_of(connection: Connection, id: str) -> list[tuple[str, int]]:
    """The moves of an invoice: status and second."""
    rows = connection.execute(
        select(_event.c.status, _event.c.at_s).where(_event.c.invoice_id == id).order_by(_event.c.sequence)
    )
    return [(row.status, row.at_s) for row in rows]


def open_deposits(connection: Connection) -> dict[bytes, str]:
    """Deposit addresses of all invoices, with the invoice; watching goes on after they are paid."""
    rows = connection.execute(
        select(_invoice.c.deposit_address, _invoice.c.id).where(_invoice.c.deposit_address.is_not(None))
    )
    return {bytes(row.deposit_address): row.id for row in rows}


def expiring(connection: Connection, now: int) -> list[Invoice]:
    """Open invoices whose time is over."""
    rows = connection.execute(
        select(_invoice).where(_invoice.c.status == Status.OPEN.value, _invoice.c.expires_s < now)
    )
    return [_invoice_of(row) for row in rows]


# --- evidence -----------------------------------------------------------------------


def _seen_of(row: Any) -> Seen:
    return Seen(
        row.key,
        row.invoice_id,
        Kind(row.kind),
        Stage(row.stage),
        row.asset,
        row.amount,
        row.city,
        row.block,
        bytes(row.address),
        row.reference,
        bytes(row.document),
        None if row.evidence_hash is None else bytes(row.evidence_hash),
        None if row.transfer_id is None else bytes(row.transfer_id),
        row.seen_s,
    )


def evidence(connection: Connection, key: str) -> Seen | None:
    """The piece of evidence with this key."""
    row = connection.execute(select(_evidence).where(_evidence.c.key == key)).first()
    return None if row is None else _seen_of(row)


def add_evidence(connection: Connection, new: Evidence, invoice_id: str | None, now: int) -> None:
    """Store a piece of evidence for the first time."""
    connection.execute(
        insert(_evidence).values(
            key=new.key,
            invoice_id=invoice_id,
            kind=new.kind.value,
            stage=new.stage.value,
            asset=new.asset,
            amount=new.amount_minor,
            city=new.city_minor,
            block=new.block,
            address=new.address,
            reference=new.reference,
            document=new.document,
            seen_s=now,
            changed_s=now,
        )
    )


def set_stage(connection: Connection, key: str, stage: Stage, now: int) -> None:
    """Note how far a piece of evidence has come."""
    connection.execute(
        update(_evidence).where(_evidence.c.key == key).values(stage=stage.value, changed_s=now)
    )


def set_booked(connection: Connection, key: str, evidence_hash: bytes, transfer_id: bytes) -> None:
    """Note under which transfer the city's share was submitted."""
    connection.execute(
        update(_evidence)
        .where(_evidence.c.key == key)
        .values(evidence_hash=evidence_hash, transfer_id=transfer_id)
    )


def evidence_of(connection: Connection, invoice_id: str) -> list[Seen]:
    """All evidence of an invoice, in the order it was seen."""
    rows = connection.execute(
        select(_evidence)
        .where(_evidence.c.invoice_id == invoice_id)
        .order_by(_evidence.c.seen_s, _evidence.c.key)
    )
    return [_seen_of(row) for row in rows]


def unsettled(connection: Connection, kinds: Sequence[Kind]) -> list[Seen]:
    """Evidence of these kinds that is neither final nor gone."""
    rows = connection.execute(
        select(_evidence).where(
            _evidence.c.kind.in_([kind.value for kind in kinds]),
            _evidence.c.stage.not_in([Stage.FINAL.value, Stage.GONE.value]),
        )
    )
    return [_seen_of(row) for row in rows]


def unmatched(connection: Connection) -> list[Seen]:
    """Money that belongs to no invoice: a person decides (P5)."""
    rows = connection.execute(
        select(_evidence)
        .where(_evidence.c.invoice_id.is_(None))
        .order_by(_evidence.c.seen_s, _evidence.c.key)
    )
    return [_seen_of(row) for row in rows]


def unflushed(connection: Connection) -> list[Invoice]:
    """Invoices whose deposit address has final money that no live flush has taken."""
    deposits = select(_evidence.c.invoice_id).where(
        _evidence.c.kind == Kind.DEPOSIT.value, _evidence.c.stage == Stage.FINAL.value
    )
    found = connection.execute(select(_invoice).where(_invoice.c.id.in_(deposits))).all()
    kept = []
    for row in found:
        seen = evidence_of(connection, row.id)
        came = sum(s.amount_minor for s in seen if s.kind is Kind.DEPOSIT and s.stage is Stage.FINAL)
        left = sum(s.amount_minor for s in seen if s.kind is Kind.FLUSH and s.stage is not Stage.GONE)
        if came > left:
            kept.append(_invoice_of(row))
    return kept


def add_private(connection: Connection, commitment: bytes, salt: bytes, content: bytes) -> None:
    """Keep what a commitment hides."""
    connection.execute(insert(_private).values(commitment=commitment, salt=salt, content=content))


def cursor(connection: Connection, rail: str) -> int | None:
    """Where a rail has processed everything up to, itself included."""
    found: int | None = connection.execute(select(_cursor.c.position).where(_cursor.c.rail == rail)).scalar()
    return found


def move_cursor(connection: Connection, rail: str, position: int) -> None:
    """Move a rail's cursor; it and what was found commit together (field failure 05)."""
    if cursor(connection, rail) is None:
        connection.execute(insert(_cursor).values(rail=rail, position=position))
    else:
        connection.execute(update(_cursor).where(_cursor.c.rail == rail).values(position=position))


def is_file_read(connection: Connection, sha256: bytes) -> bool:
    """Whether a bank's file with this content was taken before."""
    return connection.execute(select(_file.c.sha256).where(_file.c.sha256 == sha256)).first() is not None


def add_file(connection: Connection, sha256: bytes, name: str, problem: str | None, now: int) -> None:
    """Note that a bank's file was taken, or why it could not be."""
    connection.execute(insert(_file).values(sha256=sha256, name=name, problem=problem, read_s=now))


def idempotent(connection: Connection, owner: str, key: str) -> tuple[bytes, str] | None:
    """What a caller asked before under this Idempotency-Key: hash of the request, invoice."""
    row = connection.execute(
        select(_idempotency).where(_idempotency.c.owner == owner, _idempotency.c.key == key)
    ).first()
    return None if row is None else (bytes(row.request), row.invoice_id)


def add_idempotent(connection: Connection, owner: str, key: str, request: bytes, invoice_id: str) -> None:
    """Remember what was answered under an Idempotency-Key."""
    connection.execute(
        insert(_idempotency).values(owner=owner, key=key, request=request, invoice_id=invoice_id)
    )


def counts(connection: Connection) -> dict[str, int]:
    """How many invoices are in each status."""
    rows = connection.execute(select(_invoice.c.status, func.count()).group_by(_invoice.c.status))
    return {row[0]: row[1] for row in rows}
