"""The rows of payments: invoices, evidence, events, cursors. SQL and nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.db import Amount, Hash32, Integer64, metadata
from gateway.payments.model import Payment, Status, Terms
from gateway.rails import Evidence, Kind, Stage
from ledger.rules import TENGE

_invoice = Table(
    "invoice",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Hash32, nullable=False, unique=True),
    Column("merchant_id", Text, nullable=True),
    Column("merchant_reference", Text, nullable=True),
    # A reference is quoted again when its quote expired unpaid; of two at once the database takes one.
    Column("attempt", Integer, nullable=False),
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
    Column("nonce", Integer64, nullable=False),
    Column("reference", Text, nullable=False, unique=True),
    Column("created_s", Integer64, nullable=False),
    Column("expires_s", Integer64, nullable=False),
    Column("status", Text, nullable=False),
    Column("voided", Integer, nullable=False, default=0),
    UniqueConstraint("merchant_id", "merchant_reference", "attempt"),
    Index("ix_invoice_page", "merchant_id", "created_s", "id"),
    Index("ix_invoice_due", "status", "expires_s"),
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
    # Under which transfer the city's share was submitted, and where the ledger recorded it.
    Column("transfer_id", Hash32, nullable=True, index=True),
    Column("position", Integer64, nullable=True),
    # Why it could not be booked: a person decides.
    Column("problem", Text, nullable=True),
    Column("at_s", Integer64, nullable=True),
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
    # Up to when all that happened is known; and a count that tells one poll from another.
    Column("seen_until_s", Integer64, nullable=False, default=0),
    Column("round", Integer64, nullable=False, default=0),
)
_nonce = Table(
    "quote_nonce",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("next", Integer64, nullable=False),
)
_flush = Table(
    # Who flushes a deposit address: nobody else until then.
    "flush_claim",
    metadata,
    Column("invoice_id", Text, ForeignKey("invoice.id"), primary_key=True),
    Column("until_s", Integer64, nullable=False),
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
    nonce: int = 0
    attempt: int = 0
    status: Status = Status.OPEN
    voided: bool = False

    @property
    def terms(self) -> Terms:
        """What decides the state."""
        return Terms(self.asset, self.due_minor, self.tiyn, self.expires_s, 0, self.voided)

    @property
    def in_tenge(self) -> bool:
        """Whether a bank transfer can pay it. A merchant's money is never taken on the city's account."""
        return self.merchant_id is None

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
    position: int | None
    problem: str | None
    at_s: int | None
    seen_s: int

    @property
    def payment(self) -> Payment:
        """The part that decides a state."""
        at_s = self.seen_s if self.at_s is None else self.at_s
        return Payment(self.kind, self.stage, self.asset, self.amount_minor, at_s)


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def add_invoice(connection: Connection, invoice: Invoice) -> bool:
    """Store a new invoice and its first event; False if this attempt of its reference exists."""
    added = connection.execute(
        _insert(connection, _invoice)
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
        )
        .returning(_invoice.c.id)
    )
    if added.first() is None:
        return False
    connection.execute(
        insert(_event).values(invoice_id=invoice.id, status=invoice.status.value, at_s=invoice.created_s)
    )
    return True


def reserve_nonces(connection: Connection, count: int) -> int:
    """Take so many numbers of quotes, from the one that is returned on; nobody gets them again."""
    new = _insert(connection, _nonce).values(id=1, next=count)
    raised = new.on_conflict_do_update(index_elements=["id"], set_={"next": _nonce.c.next + count})
    return int(connection.execute(raised.returning(_nonce.c.next)).scalar_one()) - count


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
    )


def _one_invoice(connection: Connection, *conditions: Any) -> Invoice | None:
    row = connection.execute(select(_invoice).where(*conditions)).first()
    return None if row is None else _invoice_of(row)


def invoice(connection: Connection, id: str) -> Invoice | None:
    """The invoice with this id."""
    return _one_invoice(connection, _invoice.c.id == id)


def locked_invoice(connection: Connection, id: str) -> Invoice:
    """The invoice with this id, which exists; nobody else derives its state until we commit."""
    row = connection.execute(select(_invoice).where(_invoice.c.id == id).with_for_update()).one()
    return _invoice_of(row)


def invoice_for(connection: Connection, evidence: Evidence) -> Invoice | None:
    """The invoice that the money was meant for: by number, deposit address or reference, never by amount.

    None where the invoice does not take that money: another asset has no rate here, and tenge
    for a merchant is not the city's.
    """
    if evidence.number:
        found = _one_invoice(connection, _invoice.c.number == evidence.number)
    elif evidence.address:
        found = _one_invoice(connection, _invoice.c.deposit_address == evidence.address)
    elif evidence.reference:
        found = _one_invoice(connection, _invoice.c.reference == evidence.reference)
        return found if found is not None and found.in_tenge else None
    else:
        return None
    return found if found is not None and found.asset == evidence.asset else None


def invoice_of_merchant(connection: Connection, merchant_id: str, reference: str) -> Invoice | None:
    """The newest invoice that a merchant gave this reference."""
    row = connection.execute(
        select(_invoice)
        .where(_invoice.c.merchant_id == merchant_id, _invoice.c.merchant_reference == reference)
        .order_by(_invoice.c.attempt.desc())
        .limit(1)
    ).first()
    return None if row is None else _invoice_of(row)


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


def expiring(connection: Connection, tenge_s: int, chain_s: int) -> list[Invoice]:
    """Invoices without enough money whose time is over: in tenge by the clock, else by what was seen."""
    until = or_(
        (_invoice.c.asset == TENGE) & (_invoice.c.expires_s < tenge_s),
        (_invoice.c.asset != TENGE) & (_invoice.c.expires_s < chain_s),
    )
    waiting = [Status.OPEN.value, Status.DETECTED.value]
    rows = connection.execute(
        select(_invoice).where(_invoice.c.status.in_(waiting), until).order_by(_invoice.c.id)
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
        row.position,
        row.problem,
        row.at_s,
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
            at_s=new.at_s,
            seen_s=now,
            changed_s=now,
        )
    )


def set_stage(connection: Connection, key: str, stage: Stage, now: int) -> None:
    """Note how far a piece of evidence has come."""
    connection.execute(
        update(_evidence).where(_evidence.c.key == key).values(stage=stage.value, changed_s=now)
    )


def set_invoice(connection: Connection, key: str, invoice_id: str, reference: str) -> None:
    """Note whose money it is, once a later telling of it names the reference."""
    connection.execute(
        update(_evidence).where(_evidence.c.key == key).values(invoice_id=invoice_id, reference=reference)
    )


def set_commitment(connection: Connection, key: str, evidence_hash: bytes) -> None:
    """Note the commitment to what is private about a piece of evidence."""
    connection.execute(update(_evidence).where(_evidence.c.key == key).values(evidence_hash=evidence_hash))


def set_booked(connection: Connection, key: str, evidence_hash: bytes, transfer_id: bytes) -> None:
    """Note under which transfer the city's share was submitted."""
    connection.execute(
        update(_evidence)
        .where(_evidence.c.key == key)
        .values(evidence_hash=evidence_hash, transfer_id=transfer_id, problem=None)
    )


def set_answer(connection: Connection, key: str, position: int | None, problem: str | None) -> None:
    """Note where the ledger recorded a transfer, or why it could not be booked."""
    connection.execute(
        update(_evidence).where(_evidence.c.key == key).values(position=position, problem=problem)
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


def unmatched(connection: Connection, after: tuple[int, str], most: int) -> list[Seen]:
    """Money that belongs to no invoice, or that could not be booked: a person decides (P5)."""
    seen_s, key = after
    rows = connection.execute(
        select(_evidence)
        .where(
            _evidence.c.invoice_id.is_(None) | _evidence.c.problem.is_not(None),
            _evidence.c.stage != Stage.GONE.value,
            (_evidence.c.seen_s > seen_s) | ((_evidence.c.seen_s == seen_s) & (_evidence.c.key > key)),
        )
        .order_by(_evidence.c.seen_s, _evidence.c.key)
        .limit(most)
    )
    return [_seen_of(row) for row in rows]


def unbooked(connection: Connection, kinds: Collection[Kind]) -> list[Seen]:
    """Final revenue of an invoice that was not submitted, because something on the ledger was missing."""
    rows = connection.execute(
        select(_evidence).where(
            _evidence.c.problem.is_not(None),
            _evidence.c.transfer_id.is_(None),
            _evidence.c.invoice_id.is_not(None),
            _evidence.c.stage == Stage.FINAL.value,
            _evidence.c.kind.in_([kind.value for kind in kinds]),
        )
    )
    return [_seen_of(row) for row in rows]


def unanswered(connection: Connection) -> list[Seen]:
    """What was submitted to the ledger and of which no answer is noted."""
    rows = connection.execute(
        select(_evidence).where(
            _evidence.c.transfer_id.is_not(None),
            _evidence.c.position.is_(None),
            _evidence.c.problem.is_(None),
        )
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


def claim_flush(connection: Connection, invoice_id: str, now: int, lease_s: int) -> bool:
    """Take a deposit address for flushing; False while another has it."""
    claim = _insert(connection, _flush).values(invoice_id=invoice_id, until_s=now + lease_s)
    taken = claim.on_conflict_do_update(
        index_elements=["invoice_id"], set_={"until_s": now + lease_s}, where=_flush.c.until_s <= now
    )
    return connection.execute(taken.returning(_flush.c.invoice_id)).first() is not None


def add_private(connection: Connection, commitment: bytes, salt: bytes, content: bytes) -> None:
    """Keep what a commitment hides."""
    connection.execute(insert(_private).values(commitment=commitment, salt=salt, content=content))


def private(connection: Connection, commitment: bytes) -> bytes | None:
    """What a commitment hides; None where it was erased."""
    found = connection.execute(select(_private.c.content).where(_private.c.commitment == commitment)).scalar()
    return None if found is None else bytes(found)


def cursor(connection: Connection, rail: str) -> int | None:
    """Where a rail has processed everything up to, itself included."""
    found: int | None = connection.execute(select(_cursor.c.position).where(_cursor.c.rail == rail)).scalar()
    return found


def lock_rail(connection: Connection, rail: str, start: int = 0) -> tuple[int, int]:
    """Keep other workers from committing for this rail until we do; returns its position and round.

    start: where a rail begins that was never asked.
    """
    new = _insert(connection, _cursor).values(rail=rail, position=start, seen_until_s=0, round=0)
    connection.execute(new.on_conflict_do_nothing(index_elements=["rail"]))
    asked = select(_cursor.c.position, _cursor.c.round).where(_cursor.c.rail == rail).with_for_update()
    row = connection.execute(asked).one()
    return row.position, row.round


def move_cursor(connection: Connection, rail: str, position: int, seen_until_s: int) -> None:
    """Move a locked rail's cursor, never back; it and what was found commit together (field failure 05)."""
    known = connection.execute(select(_cursor).where(_cursor.c.rail == rail)).one()
    connection.execute(
        update(_cursor)
        .where(_cursor.c.rail == rail)
        .values(
            position=max(position, known.position),
            seen_until_s=max(seen_until_s, known.seen_until_s),
            round=known.round + 1,
        )
    )


def seen_until(connection: Connection, rail: str) -> int:
    """Up to when everything that happened on a rail is known; 0 if it was never asked."""
    found: int | None = connection.execute(
        select(_cursor.c.seen_until_s).where(_cursor.c.rail == rail)
    ).scalar()
    return found or 0


def is_file_read(connection: Connection, sha256: bytes) -> bool:
    """Whether a bank's file with this content was taken before."""
    return connection.execute(select(_file.c.sha256).where(_file.c.sha256 == sha256)).first() is not None


def add_file(connection: Connection, sha256: bytes, name: str, problem: str | None, now: int) -> None:
    """Note that a bank's file was taken, or why it could not be."""
    connection.execute(insert(_file).values(sha256=sha256, name=name, problem=problem, read_s=now))


def unread_files(connection: Connection) -> list[tuple[str, str, int]]:
    """The bank's files that could not be taken: name, why, when."""
    rows = connection.execute(
        select(_file).where(_file.c.problem.is_not(None)).order_by(_file.c.read_s, _file.c.name)
    )
    return [(row.name, row.problem, row.read_s) for row in rows]


def idempotent(connection: Connection, owner: str, key: str) -> tuple[bytes, str] | None:
    """What a caller asked before under this Idempotency-Key: hash of the request, invoice."""
    row = connection.execute(
        select(_idempotency).where(_idempotency.c.owner == owner, _idempotency.c.key == key)
    ).first()
    return None if row is None else (bytes(row.request), row.invoice_id)


def add_idempotent(connection: Connection, owner: str, key: str, request: bytes, invoice_id: str) -> bool:
    """Remember what was answered under an Idempotency-Key; False if another was first."""
    new = _insert(connection, _idempotency).values(
        owner=owner, key=key, request=request, invoice_id=invoice_id
    )
    added = new.on_conflict_do_nothing(index_elements=["owner", "key"]).returning(_idempotency.c.key)
    return connection.execute(added).first() is not None


def counts(connection: Connection) -> dict[str, int]:
    """How many invoices are in each status."""
    rows = connection.execute(select(_invoice.c.status, func.count()).group_by(_invoice.c.status))
    return {row[0]: row[1] for row in rows}
