"""Refunds, and the numbered tries to send something out."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.db import insert_into, newest_first
from gateway.payments.refund_model import Part, Proof, Refund, RefundState, Source
from gateway.payments.store import tables

# How many values one question names: databases bound it.
KEYS_AT_ONCE = 500


def _refund_of(row: Any) -> Refund:
    return Refund(
        id=row.id,
        invoice_id=row.invoice_id,
        evidence_key=row.evidence_key,
        merchant_id=row.merchant_id,
        source=Source(row.source),
        asset=row.asset,
        amount_minor=row.amount,
        receiver=bytes(row.receiver),
        proof=Proof(row.proof),
        ripe_s=row.ripe_s,
        state=RefundState(row.state),
        created_s=row.created_s,
        changed_s=row.changed_s,
        since_block=row.since_block,
        outgoing_id=row.outgoing_id,
        reported=None if row.reported is None else bytes(row.reported),
        transfer_key=row.transfer_key,
        record_id=None if row.record_id is None else bytes(row.record_id),
        transfer_id=None if row.transfer_id is None else bytes(row.transfer_id),
        problem=row.problem,
        earlier=frozenset(map(bytes.fromhex, json.loads(row.earlier))),
        scanned_block=row.scanned_block,
        credited_block=row.credited_block,
    )


def add_refund(
    connection: Connection,
    refund: Refund,
    owner: str,
    idempotency_key: str,
    request: bytes,
    actor: str,
    why: str,
) -> bool:
    """Store a new refund and its first event; False if this owner's key made one before."""
    new = insert_into(connection, tables.refund).values(
        id=refund.id,
        invoice_id=refund.invoice_id,
        evidence_key=refund.evidence_key,
        merchant_id=refund.merchant_id,
        source=refund.source.value,
        asset=refund.asset,
        amount=refund.amount_minor,
        receiver=refund.receiver,
        proof=refund.proof.value,
        ripe_s=refund.ripe_s,
        state=refund.state.value,
        owner=owner,
        idempotency_key=idempotency_key,
        request=request,
        since_block=refund.since_block,
        created_s=refund.created_s,
        changed_s=refund.changed_s,
    )
    added = new.on_conflict_do_nothing(index_elements=["owner", "idempotency_key"]).returning(
        tables.refund.c.id
    )
    if connection.execute(added).first() is None:
        return False
    _note(connection, refund.id, refund.state, actor, why, refund.created_s)
    return True


def refund_asked(connection: Connection, owner: str, key: str) -> tuple[bytes, Refund] | None:
    """What an owner asked before under this key: hash of the request, refund."""
    row = connection.execute(
        select(tables.refund).where(tables.refund.c.owner == owner, tables.refund.c.idempotency_key == key)
    ).first()
    return None if row is None else (bytes(row.request), _refund_of(row))


def refund(connection: Connection, id: str) -> Refund | None:
    """The refund with this id."""
    row = connection.execute(select(tables.refund).where(tables.refund.c.id == id)).first()
    return None if row is None else _refund_of(row)


def locked_refund(connection: Connection, id: str) -> Refund | None:
    """The refund with this id; nobody else moves it until we commit."""
    row = connection.execute(select(tables.refund).where(tables.refund.c.id == id).with_for_update()).first()
    return None if row is None else _refund_of(row)


def refunds_of_invoice(connection: Connection, invoice_id: str) -> list[Refund]:
    """All refunds of an invoice, oldest first."""
    rows = connection.execute(
        select(tables.refund)
        .where(tables.refund.c.invoice_id == invoice_id)
        .order_by(tables.refund.c.created_s, tables.refund.c.id)
    )
    return [_refund_of(row) for row in rows]


def refunds_of_evidence(connection: Connection, key: str) -> list[Refund]:
    """All refunds of a piece of evidence, oldest first."""
    rows = connection.execute(
        select(tables.refund)
        .where(tables.refund.c.evidence_key == key)
        .order_by(tables.refund.c.created_s, tables.refund.c.id)
    )
    return [_refund_of(row) for row in rows]


def add_parts(connection: Connection, refund_id: str, parts: Sequence[Part]) -> None:
    """Note of which money that does not count a refund is; once, when it is asked for."""
    for part in parts:
        connection.execute(
            insert(tables.refund_part).values(
                refund_id=refund_id, evidence_key=part.evidence_key, amount=part.amount_minor
            )
        )


def parts_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[Part]]:
    """Of which money that does not count these refunds are."""
    column = tables.refund_part.c
    found: dict[str, list[Part]] = {}
    for start in range(0, len(ids), KEYS_AT_ONCE):
        some = column.refund_id.in_(ids[start : start + KEYS_AT_ONCE])
        asked = select(tables.refund_part).where(some).order_by(column.refund_id, column.evidence_key)
        for row in connection.execute(asked):
            found.setdefault(row.refund_id, []).append(Part(row.evidence_key, row.amount))
    return found


def parts_of_evidence(connection: Connection, key: str) -> list[tuple[int, RefundState, Source]]:
    """What refunds that named no money took of this piece: how much, and the refund's state and source."""
    part, refund = tables.refund_part.c, tables.refund.c
    rows = connection.execute(
        select(part.amount, refund.state, refund.source)
        .where(part.evidence_key == key, refund.id == part.refund_id)
        .order_by(refund.id)
    )
    return [(row.amount, RefundState(row.state), Source(row.source)) for row in rows]


def refunds_of_merchant(
    connection: Connection, merchant_id: str | None, before: tuple[int, str], most: int
) -> list[Refund]:
    """A merchant's refunds, or the city's, newest first, after the last of the page before (keyset)."""
    column = tables.refund.c
    whose = column.merchant_id.is_(None) if merchant_id is None else column.merchant_id == merchant_id
    page = newest_first(select(tables.refund).where(whose), column.created_s, column.id, before, most)
    return [_refund_of(row) for row in connection.execute(page)]


def refunds_in(
    connection: Connection, states: Collection[RefundState], most: int, after: tuple[int, str] = (-1, "")
) -> list[Refund]:
    """Refunds in these states, oldest first, a page at a time."""
    column, (created, id) = tables.refund.c, after
    rows = connection.execute(
        select(tables.refund)
        .where(
            column.state.in_(sorted(state.value for state in states)),
            (column.created_s > created) | ((column.created_s == created) & (column.id > id)),
        )
        .order_by(column.created_s, column.id)
        .limit(most)
    )
    return [_refund_of(row) for row in rows]


def cancelled_promises(connection: Connection, most: int) -> list[Refund]:
    """The newest refunds that were cancelled after the ledger was asked to promise them."""
    column = tables.refund.c
    rows = connection.execute(
        select(tables.refund)
        .where(column.state == RefundState.CANCELLED.value, column.record_id.is_not(None))
        .order_by(column.created_s.desc(), column.id)
        .limit(most)
    )
    return [_refund_of(row) for row in rows]


def _note(connection: Connection, id: str, state: RefundState, actor: str, why: str, at_s: int) -> None:
    connection.execute(
        insert(tables.refund_event).values(refund_id=id, state=state.value, actor=actor, why=why, at_s=at_s)
    )


def set_refund_state(
    connection: Connection, id: str, state: RefundState, actor: str, why: str, now: int, **noted: Any
) -> None:
    """Move a refund and note for ever who did it and why; `noted` are columns that become known with it."""
    connection.execute(
        update(tables.refund)
        .where(tables.refund.c.id == id)
        .values(state=state.value, changed_s=now, **noted)
    )
    _note(connection, id, state, actor, why, now)


def set_refund(connection: Connection, id: str, **noted: Any) -> None:
    """Note what became known of a refund without moving it."""
    connection.execute(update(tables.refund).where(tables.refund.c.id == id).values(**noted))


def refund_events(connection: Connection, id: str) -> list[tuple[str, str, str, int]]:
    """The moves of a refund: state, who, why, when."""
    rows = connection.execute(
        select(tables.refund_event)
        .where(tables.refund_event.c.refund_id == id)
        .order_by(tables.refund_event.c.sequence)
    )
    return [(row.state, row.actor, row.why, row.at_s) for row in rows]


def refund_reported(connection: Connection, transaction: bytes) -> str | None:
    """The refund for which a transaction was named."""
    found: str | None = connection.execute(
        select(tables.refund.c.id).where(tables.refund.c.reported == transaction)
    ).scalar()
    return found


def is_transfer_taken(connection: Connection, key: str) -> bool:
    """Whether a transfer on chain stands for a refund already: one for each (field failure 15)."""
    return bool(transfers_taken(connection, [key]))


def transfers_taken(connection: Connection, keys: Collection[str]) -> dict[str, str]:
    """Which refund each of these transfers stands for, where it does."""
    column, found = tables.refund.c, {}
    asked = sorted(keys)
    for start in range(0, len(asked), KEYS_AT_ONCE):
        some = asked[start : start + KEYS_AT_ONCE]
        rows = connection.execute(select(column.id, column.transfer_key).where(column.transfer_key.in_(some)))
        found.update({row.transfer_key: row.id for row in rows})
    return found


def set_scanned(connection: Connection, ids: Sequence[str], block: int) -> None:
    """Note that up to a final block the chain has nothing more of these refunds; never less than before."""
    column = tables.refund.c
    for start in range(0, len(ids), KEYS_AT_ONCE):
        connection.execute(
            update(tables.refund)
            .where(
                column.id.in_(ids[start : start + KEYS_AT_ONCE]),
                column.scanned_block.is_(None) | (column.scanned_block < block),
            )
            .values(scanned_block=block)
        )


def encode_earlier(transactions: Collection[bytes]) -> str:
    """Transactions as the column `earlier` holds them."""
    return json.dumps([one.hex() for one in sorted(transactions)])


# --- approvals on the ledger ------------------------------------------------------------


def open_promises(connection: Connection) -> list[bytes]:
    """The submissions of Refund records whose refunds are not at their end."""
    column = tables.refund.c
    ends = (RefundState.FINAL.value, RefundState.CANCELLED.value)
    rows = connection.execute(
        select(column.record_id).where(column.record_id.is_not(None), column.state.not_in(ends))
    )
    return [bytes(row.record_id) for row in rows]


def add_approvals(connection: Connection, found: Collection[tuple[int, bytes]]) -> None:
    """Note where approvals stand, and what they approve: position, hash."""
    for position, approves in found:
        new = insert_into(connection, tables.approval_place).values(position=position, approves=approves)
        connection.execute(new.on_conflict_do_nothing(index_elements=["position"]))


def approvals_of(connection: Connection, approves: bytes) -> list[int]:
    """Where the approvals of a record stand, in their order."""
    column = tables.approval_place.c
    rows = connection.execute(
        select(column.position).where(column.approves == approves).order_by(column.position)
    )
    return [row.position for row in rows]


# --- tries ------------------------------------------------------------------------------


def reserve_attempt(connection: Connection, kind: str, reference: str, attempt: int, now: int) -> bool:
    """Take the number of a try before anything is signed; False if it was taken (field failures 23, 24)."""
    new = insert_into(connection, tables.attempt).values(
        kind=kind, reference=reference, attempt=attempt, state="reserved", why="", at_s=now
    )
    taken = new.on_conflict_do_nothing(index_elements=["kind", "reference", "attempt"])
    return connection.execute(taken.returning(tables.attempt.c.attempt)).first() is not None


def attempts_of(connection: Connection, kind: str, reference: str) -> list[tuple[int, str | None, str]]:
    """The tries for something: number, the sender's id, state."""
    rows = connection.execute(
        select(tables.attempt)
        .where(tables.attempt.c.kind == kind, tables.attempt.c.reference == reference)
        .order_by(tables.attempt.c.attempt)
    )
    return [(row.attempt, row.outgoing_id, row.state) for row in rows]


def set_attempt(
    connection: Connection, kind: str, reference: str, attempt: int, state: str, why: str, **noted: Any
) -> None:
    """Note what came of a try."""
    connection.execute(
        update(tables.attempt)
        .where(
            tables.attempt.c.kind == kind,
            tables.attempt.c.reference == reference,
            tables.attempt.c.attempt == attempt,
        )
        .values(state=state, why=why, **noted)
    )
