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


_UNFINAL = frozenset({Status.DETECTED, Status.CONFIRMING, Status.PAID})
_COVERED = _UNFINAL | {Status.FINAL}
_PENDING, _BACK = Status.REFUND_PENDING, frozenset({Status.REFUND_PENDING, Status.REFUNDED})

# Every legal move: those that evidence, people and time can make, and no other (a test walks them all).
# Stages that are not reached one after the other were not seen: money is found when it is final already.
MOVES: dict[Status, frozenset[Status]] = {
    # A refund asked for while nothing counts is of late money that is held, in the seconds before `expire`.
    # Refunded it is never at once: a refund is asked for first, and that is told.
    Status.OPEN: _COVERED | {Status.EXPIRED, Status.VOID, _PENDING},
    # Blocks can go, so all is reversible until it is final. Refunded without a step between: a refund of
    # final money was done while other money covered the price, and then the block of that is gone.
    Status.DETECTED: _COVERED - {Status.DETECTED} | _BACK | {Status.OPEN, Status.EXPIRED, Status.VOID},
    Status.CONFIRMING: _COVERED - {Status.CONFIRMING} | _BACK | {Status.OPEN, Status.EXPIRED, Status.VOID},
    Status.PAID: _COVERED - {Status.PAID} | _BACK | {Status.OPEN, Status.EXPIRED, Status.VOID},
    # Only a refund leads away from final, and it is pending first. Where other money covers the price
    # meanwhile and is not final yet, that decides: it is the weakest piece that is needed.
    Status.FINAL: _UNFINAL | {_PENDING},
    # Money that was on its way, or came late and is accepted. Open again: only where two clocks disagree.
    Status.EXPIRED: _COVERED | {Status.OPEN, Status.VOID, _PENDING},
    # What was voided is void for ever; money that comes all the same is told like any other.
    Status.VOID: _COVERED | {_PENDING},
    # It is done, or cancelled: then whatever else is there decides. Or new money covers both.
    _PENDING: _COVERED | {Status.REFUNDED, Status.OPEN, Status.EXPIRED, Status.VOID},
    # A final refund stays; what leads away is new money, or one more refund.
    Status.REFUNDED: _COVERED | {_PENDING},
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

    is_known: False while nobody can say whether it has gone (field failure 19). is_held: it is of money that
    does not count (gateway/payments/parts.py), so that it takes nothing from what does.
    """

    asset: str
    amount_minor: int
    is_final: bool
    is_known: bool = True
    is_held: bool = False


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

    The weakest piece that is needed decides: an invoice is final when final money covers it, and what goes
    back on top of it, since only final money is ever given back. Goods would go otherwise for a payment
    that can be taken back, after the first was refunded. Money that is gone does not count, money of a
    flush was counted as its deposit, and late money counts once it was accepted.
    now: up to when all payments are known, which is not the clock while a rail is blind
    (field failure 07); clock: the clock, where it is another.
    """
    live = [p for p in payments if p.kind in PAYS and p.stage is not Stage.GONE and not p.is_spent]
    live = [p for p in live if p.asset in {terms.asset, TENGE}]
    counted = [p for p in live if counts(terms, p)]
    held = [p for p in live if not counts(terms, p)]
    paid, back = worth(terms, counted), worth(terms, [one for one in returned if not one.is_held])
    # Nobody pays an invoice with nothing, however much may be missing.
    needed = max(terms.due_minor - terms.tolerance_minor, 1)
    status = Status.VOID if terms.voided else Status.EXPIRED if now > terms.expires_s else Status.OPEN
    if paid >= needed + back:
        status = _STATUS[_covering_stage(terms, counted, needed + back)]
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


def follow(before: Status, derived: Derived) -> Status:
    """The status to keep: what was derived, but what was final stays final unless money goes back.

    Anything else would be our own bug, and the answer to it is not to take back what was told as final.
    """
    goes_back = derived.notes & {Note.REFUND_PENDING, Note.REFUNDED}
    return before if before is Status.FINAL and not goes_back else derived.status


def _covering_stage(terms: Terms, live: list[Payment], needed: int) -> Stage:
    """The furthest stage at which the money that has come at least so far covers what is needed."""
    for at in reversed(range(len(_ORDER))):
        if worth(terms, (p for p in live if _ORDER.index(p.stage) >= at)) >= needed:
            return _ORDER[at]
    return Stage.DETECTED
