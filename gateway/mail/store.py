"""The outbox of letters: which are due, who has them in hand, what became of them. SQL and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from gateway.merchants.store import letters as _letters


@dataclass(frozen=True)
class Letter:
    """A letter that is to be sent. body: the event that it tells, as JSON; attempt: this one, from 1."""

    id: str
    recipient: str
    kind: str
    body: str
    created_s: int
    attempt: int


@dataclass(frozen=True)
class Waiting:
    """What the outbox holds: how many wait and since when, and how many were given up."""

    count: int
    oldest_s: int | None
    given_up: int


def claim(connection: Connection, now: int, lease_s: int, most: int) -> Sequence[Letter]:
    """Take letters that are due, oldest first; nobody else takes them before the lease ends."""
    rows = connection.execute(
        select(_letters)
        .where(_letters.c.sent_s.is_(None), _letters.c.gave_up_s.is_(None), _letters.c.due_s <= now)
        .order_by(_letters.c.due_s, _letters.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()
    found = [
        Letter(row.id, row.recipient, row.kind, row.body, row.created_s, row.attempts + 1) for row in rows
    ]
    connection.execute(
        update(_letters).where(_letters.c.id.in_([one.id for one in found])).values(due_s=now + lease_s)
    )
    return found


def sent(connection: Connection, letter: Letter, now: int) -> None:
    """Note that the server took it."""
    connection.execute(
        update(_letters)
        .where(_letters.c.id == letter.id)
        .values(sent_s=now, attempts=letter.attempt, error=None, gave_up_s=None)
    )


def failed(connection: Connection, letter: Letter, error: str, due_s: int | None, now: int) -> None:
    """Note why the server did not take it, and when to try again; None: no more."""
    connection.execute(
        update(_letters)
        .where(_letters.c.id == letter.id, _letters.c.sent_s.is_(None))
        .values(
            attempts=letter.attempt,
            error=error,
            due_s=now if due_s is None else due_s,
            gave_up_s=now if due_s is None else None,
        )
    )


def put_back(connection: Connection, letters: Sequence[Letter], due_s: int) -> None:
    """Give letters back that nobody was asked to take: that was no attempt."""
    connection.execute(
        update(_letters)
        .where(_letters.c.id.in_([one.id for one in letters]), _letters.c.sent_s.is_(None))
        .values(due_s=due_s)
    )


def waiting(connection: Connection) -> Waiting:
    """What the outbox holds now."""
    unsent = _letters.c.sent_s.is_(None)
    row = connection.execute(
        select(func.count(), func.min(_letters.c.created_s)).where(unsent, _letters.c.gave_up_s.is_(None))
    ).one()
    given_up = connection.execute(
        select(func.count()).where(unsent, _letters.c.gave_up_s.is_not(None))
    ).scalar()
    return Waiting(row[0], row[1], given_up or 0)
