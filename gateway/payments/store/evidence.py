"""Evidence of money: what rails saw, how far it has come, and what was decided about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.payments.model import Payment
from gateway.payments.store import tables
from gateway.rails import Evidence, Kind, Stage


class Decision(StrEnum):
    """What was decided about a piece of evidence; None where nothing was asked.

    The first three are a policy's answer to late money, the others a person's.
    """

    LATE = "late"  # came after the time, and nothing is decided yet
    ACCEPTED = "accepted"  # late, and counts
    HELD = "held"  # late, and does not count: in the queue
    ASSIGNED = "assigned"  # pays the invoice that a person named
    KEPT = "kept"  # stays where it is and pays nothing
    REFUND = "refund"  # goes back, and pays nothing
    REOPENED = "reopened"  # was to go back, which was cancelled: asked about again
    RETAINED = "retained"  # nobody's for a year, and the city's since


_COUNTS = frozenset({None, Decision.ACCEPTED, Decision.ASSIGNED})
_SPENT = frozenset({Decision.KEPT, Decision.REFUND, Decision.RETAINED})


@dataclass(frozen=True)
class Decided:
    """One decision about a piece of evidence: it stands for ever, a newer one holds."""

    key: str
    action: Decision
    invoice_id: str | None
    receiver: bytes | None
    actor: str
    why: str
    at_s: int


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
    decision: Decision | None = None

    @property
    def payment(self) -> Payment:
        """The part that decides a state."""
        at_s = self.seen_s if self.at_s is None else self.at_s
        return Payment(
            self.kind,
            self.stage,
            self.asset,
            self.amount_minor,
            at_s,
            is_accepted=self.decision in _COUNTS,
            is_spent=self.decision in _SPENT,
        )


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
        None if row.decision is None else Decision(row.decision),
    )


def evidence(connection: Connection, key: str) -> Seen | None:
    """The piece of evidence with this key."""
    row = connection.execute(select(tables.evidence).where(tables.evidence.c.key == key)).first()
    return None if row is None else _seen_of(row)


def add_evidence(connection: Connection, new: Evidence, invoice_id: str | None, now: int) -> None:
    """Store a piece of evidence for the first time."""
    connection.execute(
        insert(tables.evidence).values(
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
    _note_stage(connection, new.key, new.stage, now)


def _note_stage(connection: Connection, key: str, stage: Stage, now: int) -> None:
    connection.execute(insert(tables.evidence_event).values(key=key, stage=stage.value, at_s=now))


def set_stage(connection: Connection, key: str, stage: Stage, now: int) -> None:
    """Note how far a piece of evidence has come."""
    connection.execute(
        update(tables.evidence).where(tables.evidence.c.key == key).values(stage=stage.value, changed_s=now)
    )
    _note_stage(connection, key, stage, now)


def stages_of(connection: Connection, key: str) -> list[tuple[str, int]]:
    """How a piece of evidence came so far: stage and second."""
    rows = connection.execute(
        select(tables.evidence_event)
        .where(tables.evidence_event.c.key == key)
        .order_by(tables.evidence_event.c.sequence)
    )
    return [(row.stage, row.at_s) for row in rows]


def locked_evidence(connection: Connection, key: str) -> Seen | None:
    """The piece of evidence with this key; nobody else decides about it until we commit."""
    row = connection.execute(
        select(tables.evidence).where(tables.evidence.c.key == key).with_for_update()
    ).first()
    return None if row is None else _seen_of(row)


def decide(connection: Connection, made: Decided) -> None:
    """Note a decision for ever, and that it is the newest."""
    connection.execute(
        insert(tables.decision).values(
            key=made.key,
            action=made.action.value,
            invoice_id=made.invoice_id,
            receiver=made.receiver,
            actor=made.actor,
            why=made.why,
            at_s=made.at_s,
        )
    )
    connection.execute(
        update(tables.evidence)
        .where(tables.evidence.c.key == made.key)
        .values(decision=made.action.value, changed_s=made.at_s)
    )


def decisions_of(connection: Connection, key: str) -> list[Decided]:
    """All decisions about a piece of evidence, oldest first."""
    rows = connection.execute(
        select(tables.decision).where(tables.decision.c.key == key).order_by(tables.decision.c.sequence)
    )
    return [
        Decided(
            row.key,
            Decision(row.action),
            row.invoice_id,
            None if row.receiver is None else bytes(row.receiver),
            row.actor,
            row.why,
            row.at_s,
        )
        for row in rows
    ]


def undecided(connection: Connection, most: int) -> list[Seen]:
    """Late money about which the policy has said nothing yet, oldest first."""
    rows = connection.execute(
        select(tables.evidence)
        .where(tables.evidence.c.decision == Decision.LATE.value, tables.evidence.c.stage != Stage.GONE.value)
        .order_by(tables.evidence.c.seen_s, tables.evidence.c.key)
        .limit(most)
    )
    return [_seen_of(row) for row in rows]


def nobodys(connection: Connection, kind: Kind, before_s: int, most: int) -> list[Seen]:
    """Final money of a kind that belongs to no invoice, seen before a second and not yet disposed of."""
    rows = connection.execute(
        select(tables.evidence)
        .where(
            tables.evidence.c.invoice_id.is_(None),
            tables.evidence.c.kind == kind.value,
            tables.evidence.c.stage == Stage.FINAL.value,
            tables.evidence.c.seen_s < before_s,
            tables.evidence.c.decision.is_(None)
            | tables.evidence.c.decision.in_([Decision.KEPT.value, Decision.REOPENED.value]),
        )
        .order_by(tables.evidence.c.seen_s, tables.evidence.c.key)
        .limit(most)
    )
    return [_seen_of(row) for row in rows]


def strangers_flushes(connection: Connection, most: int) -> list[Seen]:
    """Final flushes of addresses that were never given out and brought the city something, oldest first."""
    column = tables.evidence.c
    rows = connection.execute(
        select(tables.evidence)
        .where(
            column.invoice_id.is_(None),
            column.transfer_id.is_(None),
            column.kind.in_((Kind.FLUSH.value, Kind.ROUTER.value)),
            # Only a flush has one; what came when its asset was not allowed has neither.
            column.address != b"",
            column.stage == Stage.FINAL.value,
            column.decision.is_(None) | (column.decision == Decision.KEPT.value),
        )
        .order_by(column.seen_s, column.key)
        .limit(most)
    )
    return [seen for seen in map(_seen_of, rows) if seen.city_minor]


def set_invoice(connection: Connection, key: str, invoice_id: str, reference: str) -> None:
    """Note whose money it is, once a later telling of it names the reference."""
    connection.execute(
        update(tables.evidence)
        .where(tables.evidence.c.key == key)
        .values(invoice_id=invoice_id, reference=reference)
    )


def set_commitment(connection: Connection, key: str, evidence_hash: bytes) -> None:
    """Note the commitment to what is private about a piece of evidence."""
    connection.execute(
        update(tables.evidence).where(tables.evidence.c.key == key).values(evidence_hash=evidence_hash)
    )


def set_booked(connection: Connection, key: str, evidence_hash: bytes, transfer_id: bytes) -> None:
    """Note under which transfer the city's share was submitted."""
    connection.execute(
        update(tables.evidence)
        .where(tables.evidence.c.key == key)
        .values(evidence_hash=evidence_hash, transfer_id=transfer_id, problem=None)
    )


def set_answer(connection: Connection, key: str, position: int | None, problem: str | None) -> None:
    """Note where the ledger recorded a transfer, or why it could not be booked."""
    connection.execute(
        update(tables.evidence).where(tables.evidence.c.key == key).values(position=position, problem=problem)
    )


def evidence_of(connection: Connection, invoice_id: str) -> list[Seen]:
    """All evidence of an invoice, in the order it was seen."""
    rows = connection.execute(
        select(tables.evidence)
        .where(tables.evidence.c.invoice_id == invoice_id)
        .order_by(tables.evidence.c.seen_s, tables.evidence.c.key)
    )
    return [_seen_of(row) for row in rows]


_UNSETTLED = [stage.value for stage in Stage if stage not in {Stage.FINAL, Stage.GONE}]


def unsettled(connection: Connection, kinds: Sequence[Kind]) -> list[Seen]:
    """Evidence of these kinds that is neither final nor gone."""
    rows = connection.execute(
        select(tables.evidence).where(
            tables.evidence.c.kind.in_([kind.value for kind in kinds]),
            tables.evidence.c.stage.in_(_UNSETTLED),
        )
    )
    return [_seen_of(row) for row in rows]


def unmatched(connection: Connection, after: tuple[int, str], most: int) -> list[Seen]:
    """Money of no invoice, or held because it was late, or not to be booked: a person decides (P5)."""
    seen_s, key = after
    column = tables.evidence.c
    rows = connection.execute(
        select(tables.evidence)
        .where(
            column.invoice_id.is_(None)
            | column.problem.is_not(None)
            | (column.decision == Decision.HELD.value),
            column.decision.is_(None) | column.decision.not_in(sorted(spent.value for spent in _SPENT)),
            column.stage != Stage.GONE.value,
            (column.seen_s > seen_s) | ((column.seen_s == seen_s) & (column.key > key)),
        )
        .order_by(tables.evidence.c.seen_s, tables.evidence.c.key)
        .limit(most)
    )
    return [_seen_of(row) for row in rows]


def unbooked(connection: Connection, kinds: Collection[Kind]) -> list[Seen]:
    """Final revenue of an invoice that was not submitted, because something on the ledger was missing."""
    rows = connection.execute(
        select(tables.evidence).where(
            tables.evidence.c.problem.is_not(None),
            tables.evidence.c.transfer_id.is_(None),
            tables.evidence.c.invoice_id.is_not(None),
            tables.evidence.c.stage == Stage.FINAL.value,
            tables.evidence.c.kind.in_([kind.value for kind in kinds]),
        )
    )
    return [_seen_of(row) for row in rows]


def unanswered(connection: Connection) -> list[Seen]:
    """What was submitted to the ledger and of which no answer is noted."""
    rows = connection.execute(
        select(tables.evidence).where(
            tables.evidence.c.transfer_id.is_not(None),
            tables.evidence.c.position.is_(None),
            tables.evidence.c.problem.is_(None),
        )
    )
    return [_seen_of(row) for row in rows]


def add_private(connection: Connection, commitment: bytes, salt: bytes, content: bytes) -> None:
    """Keep what a commitment hides."""
    connection.execute(insert(tables.private).values(commitment=commitment, salt=salt, content=content))


def private(connection: Connection, commitment: bytes) -> bytes | None:
    """What a commitment hides; None where it was erased."""
    found = connection.execute(
        select(tables.private.c.content).where(tables.private.c.commitment == commitment)
    ).scalar()
    return None if found is None else bytes(found)


def is_erased(connection: Connection, name: bytes) -> bool:
    """Whether what is private about this evidence was erased at somebody's request; name: of listing.py."""
    found = select(tables.erased.c.line).where(tables.erased.c.name == name)
    return connection.execute(found).first() is not None
