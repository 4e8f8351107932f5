"""The states of an invoice and the moves between them (P3). Pure: rows of evidence in, state out.

Nothing here is stored and then trusted: the state is derived again from the evidence
each time, so a reorganised block or a late booking changes it by itself. API, page and
webhook read this one state (field failure 17).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.rails import PAYS, Kind, Stage
from ledger.rules import TENGE


class Status(StrEnum):
    """Where an invoice stands."""

    OPEN = "open"
    DETECTED = "detected"
    CONFIRMING = "confirming"
    PAID = "paid"
    FINAL = "final"
    EXPIRED = "expired"
    VOID = "void"
    REFUND_PENDING = "refund_pending"
    REFUNDED = "refunded"


class Note(StrEnum):
    """What else is true of an invoice."""

    PARTIAL = "partially_paid"
    OVER = "overpaid"
    LATE = "late"
    # Money is here that does not count: it came late and was not accepted, or not yet.
    HELD = "held"
    # Some money is going back, or has gone; where it is so much that the rest does not cover what
    # was asked, the status says so too.
    REFUND_PENDING = "refund_pending"
    REFUNDED = "refunded"
    # Whether it was paid, or whether a refund has gone, cannot be seen just now.
    UNKNOWN = "unknown"


_COVERED = frozenset({Status.DETECTED, Status.CONFIRMING, Status.PAID, Status.FINAL})
_BACK = frozenset({Status.REFUND_PENDING, Status.REFUNDED})


def _others(status: Status) -> frozenset[Status]:
    return frozenset(Status) - {status}


# Every legal move. All is reversible until final, since blocks can go. From final on only a refund
# leads, and new money from there back: a refund that is pending can fail, one that is final cannot.
# What was voided is void for ever; money that comes all the same is told like any other.
MOVES: dict[Status, frozenset[Status]] = {
    Status.OPEN: _others(Status.OPEN),
    Status.DETECTED: _others(Status.DETECTED),
    Status.CONFIRMING: _others(Status.CONFIRMING),
    Status.PAID: _others(Status.PAID),
    Status.FINAL: _BACK,
    # To open again only where a clock was put back.
    Status.EXPIRED: _others(Status.EXPIRED),
    Status.VOID: _COVERED | _BACK,
    Status.REFUND_PENDING: _others(Status.REFUND_PENDING),
    Status.REFUNDED: _COVERED | {Status.REFUND_PENDING},
}

_ORDER = (Stage.DETECTED, Stage.CONFIRMING, Stage.PAID, Stage.FINAL)
_STATUS = {
    Stage.DETECTED: Status.DETECTED,
    Stage.CONFIRMING: Status.CONFIRMING,
    Stage.PAID: Status.PAID,
    Stage.FINAL: Status.FINAL,
}


@dataclass(frozen=True)
class Terms:
    """What was asked: due_minor base units of the asset, worth so many tiyn when it was quoted.

    expires_s: until when; tolerance_minor: how much may be missing.
    """

    asset: str
    due_minor: int
    tiyn: int
    expires_s: int
    tolerance_minor: int = 0
    voided: bool = False


@dataclass(frozen=True)
class Payment:
    """The part of a piece of evidence that decides a state.

    amount_minor: in the payment's own asset; at_s: when the money moved, or else when it was seen.
    is_accepted: whether it counts although it came late; of what came in time nobody asks. is_spent:
    it was decided that it pays nothing, because it was kept apart or given back.
    """

    kind: Kind
    stage: Stage
    asset: str
    amount_minor: int
    at_s: int
    is_accepted: bool = True
    is_spent: bool = False


@dataclass(frozen=True)
class Returned:
    """Money of an invoice that goes back, in units received. is_final: the outgoing transfer is.

    is_known: False while nobody can say whether it has gone (field failure 19).
    """

    asset: str
    amount_minor: int
    is_final: bool
    is_known: bool = True


@dataclass(frozen=True)
class Derived:
    """The state of an invoice: its status, what is there, what is missing, what does not count.

    All in base units of what was asked; paid_minor is what counts, refunds not taken off.
    """

    status: Status
    notes: frozenset[Note]
    paid_minor: int
    missing_minor: int
    over_minor: int
    held_minor: int = 0
    refunded_minor: int = 0


def derive(
    terms: Terms,
    payments: Iterable[Payment],
    now: int,
    returned: Sequence[Returned] = (),
    clock: int | None = None,
) -> Derived:
    """The state that the evidence makes.

    The weakest piece that is needed decides: an invoice is final when final money covers it. What goes
    back must be there on top, at whatever stage: a surplus that is given back before it is final takes
    nothing from an invoice that is. Money that is gone does not count, money of a flush was counted as
    its deposit, and late money counts once it was accepted.
    now: up to when all payments are known, which is not the clock while a rail is blind
    (field failure 07); clock: the clock, where it is another.
    """
    live = [p for p in payments if p.kind in PAYS and p.stage is not Stage.GONE and not p.is_spent]
    live = [p for p in live if p.asset in {terms.asset, TENGE}]
    counted = [p for p in live if counts(terms, p)]
    held = [p for p in live if not counts(terms, p)]
    paid, back = worth(terms, counted), worth(terms, returned)
    # Nobody pays an invoice with nothing, however much may be missing.
    needed = max(terms.due_minor - terms.tolerance_minor, 1)
    status = Status.VOID if terms.voided else Status.EXPIRED if now > terms.expires_s else Status.OPEN
    if paid >= needed + back:
        status = _STATUS[_covering_stage(terms, counted, needed)]
    elif returned:
        status = Status.REFUNDED if all(one.is_final for one in returned) else Status.REFUND_PENDING
    elif counted and status is Status.OPEN:
        status = Status.DETECTED
    is_blind = (
        clock is not None and now <= terms.expires_s < clock and status in {Status.OPEN, Status.DETECTED}
    )
    notes = {
        Note.PARTIAL: bool(counted) and paid < needed,
        Note.OVER: paid > terms.due_minor,
        Note.LATE: any(p.at_s > terms.expires_s for p in live),
        Note.HELD: bool(held),
        Note.REFUND_PENDING: any(not one.is_final for one in returned),
        Note.REFUNDED: any(one.is_final for one in returned),
        Note.UNKNOWN: is_blind or any(not one.is_known for one in returned),
    }
    return Derived(
        status,
        frozenset(note for note, holds in notes.items() if holds),
        paid,
        max(terms.due_minor - paid, 0),
        max(paid - terms.due_minor, 0),
        worth(terms, held),
        worth(terms, [one for one in returned if one.is_final]),
    )


def counts(terms: Terms, payment: Payment) -> bool:
    """Whether a payment that is there counts: it came in time, or was accepted."""
    return not payment.is_spent and (payment.at_s <= terms.expires_s or payment.is_accepted)


def worth(terms: Terms, payments: Iterable[Payment | Returned]) -> int:
    """Payments in base units of what was asked (field failure 35).

    Tenge count at the rate that was quoted: their sum is rounded down, so that the price in any
    number of parts is the price. Any other asset has no rate here.
    """
    own, tenge = 0, 0
    for payment in payments:
        if payment.asset == terms.asset:
            own += payment.amount_minor
        elif payment.asset == TENGE:
            tenge += payment.amount_minor
    return own + tenge * terms.due_minor // terms.tiyn


def follow(before: Status, derived: Status) -> Status:
    """The status to keep: what was derived, unless the move is none of MOVES.

    That would be our own bug, and the answer to it is not to lose the evidence: what was final
    stays final unless money goes back, and everything else is what the evidence says.
    """
    return before if before is Status.FINAL and derived not in _BACK else derived


def _covering_stage(terms: Terms, live: list[Payment], needed: int) -> Stage:
    """The furthest stage at which the money that has come at least so far covers what is needed."""
    for at in reversed(range(len(_ORDER))):
        if worth(terms, (p for p in live if _ORDER.index(p.stage) >= at)) >= needed:
            return _ORDER[at]
    return Stage.DETECTED
