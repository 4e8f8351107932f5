"""The states of an invoice and the moves between them (P3). Pure: rows of evidence in, state out.

Nothing here is stored and then trusted: the state is derived again from the evidence
each time, so a reorganised block or a late booking changes it by itself. API, page and
webhook read this one state (field failure 17).
"""

from __future__ import annotations

from collections.abc import Iterable
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


class Note(StrEnum):
    """What else is true of an invoice that has money."""

    PARTIAL = "partially_paid"
    OVER = "overpaid"
    LATE = "late"


_LIVE = frozenset({Status.DETECTED, Status.CONFIRMING, Status.PAID, Status.FINAL})

# Every legal move. All is reversible until final, since blocks can go; after final only what is
# added can differ (money that comes later), and that does not change the status. What was voided
# is void for ever; money that comes all the same is told like any other.
MOVES: dict[Status, frozenset[Status]] = {
    Status.OPEN: frozenset(Status) - {Status.OPEN},
    Status.DETECTED: frozenset(Status) - {Status.DETECTED},
    Status.CONFIRMING: frozenset(Status) - {Status.CONFIRMING},
    Status.PAID: frozenset(Status) - {Status.PAID},
    Status.FINAL: frozenset(),
    # To open again only where a clock was put back.
    Status.EXPIRED: frozenset(Status) - {Status.EXPIRED},
    Status.VOID: _LIVE,
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
    """

    kind: Kind
    stage: Stage
    asset: str
    amount_minor: int
    at_s: int


@dataclass(frozen=True)
class Derived:
    """The state of an invoice: its status, what is there and what is missing."""

    status: Status
    notes: frozenset[Note]
    paid_minor: int
    missing_minor: int
    over_minor: int


def derive(terms: Terms, payments: Iterable[Payment], now: int) -> Derived:
    """The state that the evidence makes.

    The weakest piece that is needed decides: an invoice is final when final money covers it.
    Money that is gone does not count, and money of a flush was counted as its deposit.
    now: up to when all payments are known, which is not the clock while a rail is blind
    (field failure 07).
    """
    counted = {terms.asset, TENGE}
    live = [p for p in payments if p.kind in PAYS and p.stage is not Stage.GONE and p.asset in counted]
    paid = worth(terms, live)
    # Nobody pays an invoice with nothing, however much may be missing.
    needed = max(terms.due_minor - terms.tolerance_minor, 1)
    notes = set()
    if live and paid < needed:
        notes.add(Note.PARTIAL)
    if paid > terms.due_minor:
        notes.add(Note.OVER)
    if any(p.at_s > terms.expires_s for p in live):
        notes.add(Note.LATE)
    status = Status.VOID if terms.voided else Status.EXPIRED if now > terms.expires_s else Status.OPEN
    if paid >= needed:
        status = _STATUS[_covering_stage(terms, live, needed)]
    elif live and status is Status.OPEN:
        status = Status.DETECTED
    return Derived(
        status, frozenset(notes), paid, max(terms.due_minor - paid, 0), max(paid - terms.due_minor, 0)
    )


def worth(terms: Terms, payments: Iterable[Payment]) -> int:
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
    stays final, and everything else is what the evidence says.
    """
    return before if before is Status.FINAL else derived


def _covering_stage(terms: Terms, live: list[Payment], needed: int) -> Stage:
    """The furthest stage at which the money that has come at least so far covers what is needed."""
    for at in reversed(range(len(_ORDER))):
        if worth(terms, (p for p in live if _ORDER.index(p.stage) >= at)) >= needed:
            return _ORDER[at]
    return Stage.DETECTED
