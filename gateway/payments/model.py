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


# Every legal move. All is reversible until final, since blocks can go; after final only what is
# added can differ (money that comes later), and that does not change the status.
MOVES: dict[Status, frozenset[Status]] = {
    Status.OPEN: frozenset(Status) - {Status.OPEN},
    Status.DETECTED: frozenset({Status.OPEN, Status.CONFIRMING, Status.PAID, Status.FINAL, Status.EXPIRED}),
    Status.CONFIRMING: frozenset({Status.OPEN, Status.DETECTED, Status.PAID, Status.FINAL, Status.EXPIRED}),
    Status.PAID: frozenset({Status.OPEN, Status.DETECTED, Status.CONFIRMING, Status.FINAL, Status.EXPIRED}),
    Status.FINAL: frozenset(),
    Status.EXPIRED: frozenset({Status.DETECTED, Status.CONFIRMING, Status.PAID, Status.FINAL, Status.OPEN}),
    Status.VOID: frozenset({Status.DETECTED, Status.CONFIRMING, Status.PAID, Status.FINAL}),
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
    """What was asked: base units due, until when, and how much may be missing."""

    due_minor: int
    expires_s: int
    tolerance_minor: int = 0
    voided: bool = False


@dataclass(frozen=True)
class Payment:
    """The part of a piece of evidence that decides a state."""

    kind: Kind
    stage: Stage
    amount_minor: int
    seen_s: int


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
    """
    live = [p for p in payments if p.kind in PAYS and p.stage is not Stage.GONE]
    paid = sum(p.amount_minor for p in live)
    needed = terms.due_minor - terms.tolerance_minor
    notes = set()
    if live and paid < needed:
        notes.add(Note.PARTIAL)
    if paid > terms.due_minor:
        notes.add(Note.OVER)
    if any(p.seen_s > terms.expires_s for p in live):
        notes.add(Note.LATE)
    status = Status.VOID if terms.voided else Status.EXPIRED if now > terms.expires_s else Status.OPEN
    if live and paid >= needed:
        status = _STATUS[_covering_stage(live, needed)]
    elif live and now <= terms.expires_s:
        status = Status.DETECTED
    return Derived(
        status, frozenset(notes), paid, max(terms.due_minor - paid, 0), max(paid - terms.due_minor, 0)
    )


def _covering_stage(live: list[Payment], needed: int) -> Stage:
    """The furthest stage at which the money that has come at least so far covers what is needed."""
    for at in reversed(range(len(_ORDER))):
        covered = sum(p.amount_minor for p in live if _ORDER.index(p.stage) >= at)
        if covered >= needed:
            return _ORDER[at]
    return Stage.DETECTED
