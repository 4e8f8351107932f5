"""What was answered under an Idempotency-Key, and what is left of quotas. SQL and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    delete,
    select,
    tuple_,
    update,
)

from gateway.db import Hash32, Integer64, insert_into, metadata

_answer = Table(
    "api_answer",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Hash32, nullable=False),
    Column("claimed_s", Integer64, nullable=False),
    Column("claim", Text, nullable=False),
    # NULL while it is being answered. The content is sealed: an answer may hold a new key.
    Column("status", Integer, nullable=True),
    Column("media_type", Text, nullable=True),
    Column("content", LargeBinary, nullable=True),
    Index("ix_api_answer_age", "claimed_s"),
)

_lease = Table(
    # How much of a quota processes have taken for a minute. A caller is a hash: an address is a person's,
    # and a row is gone two minutes later.
    "quota_lease",
    metadata,
    Column("period", Integer64, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("caller", Hash32, primary_key=True),
    Column("taken", Integer64, nullable=False),
)


@dataclass(frozen=True)
class Answer:
    """What is known of a request; status None: it is being answered since claimed_s."""

    request: bytes
    claimed_s: int
    claim: str
    status: int | None
    media_type: str | None
    content: bytes | None


def claim(connection: Connection, owner: str, key: str, request: bytes, claim: str, now: int) -> bool:
    """Be the one who answers; False where another was first."""
    new = insert_into(connection, _answer).values(
        owner=owner, key=key, request=request, claimed_s=now, claim=claim
    )
    added = new.on_conflict_do_nothing(index_elements=["owner", "key"]).returning(_answer.c.key)
    return connection.execute(added).first() is not None


def take_over(connection: Connection, owner: str, key: str, old: str, claim: str, now: int) -> bool:
    """Be the one who answers in place of one who died over it."""
    changed = connection.execute(
        update(_answer)
        .where(*_of(owner, key), _answer.c.claim == old, _answer.c.status.is_(None))
        .values(claim=claim, claimed_s=now)
    )
    return changed.rowcount == 1


def answer(connection: Connection, owner: str, key: str) -> Answer | None:
    """What is known of a request."""
    row = connection.execute(select(_answer).where(*_of(owner, key))).first()
    if row is None:
        return None
    content = None if row.content is None else bytes(row.content)
    return Answer(bytes(row.request), row.claimed_s, row.claim, row.status, row.media_type, content)


def finish(
    connection: Connection, owner: str, key: str, claim: str, status: int, media_type: str, content: bytes
) -> None:
    """Keep an answer; nothing where the claim was taken over."""
    connection.execute(
        update(_answer)
        .where(*_of(owner, key), _answer.c.claim == claim)
        .values(status=status, media_type=media_type, content=content)
    )


def release(connection: Connection, owner: str, key: str, claim: str) -> None:
    """Forget a claim that led to no answer worth keeping: the request may be made again."""
    connection.execute(
        delete(_answer).where(*_of(owner, key), _answer.c.claim == claim, _answer.c.status.is_(None))
    )


def forget(connection: Connection, before_s: int) -> int:
    """Remove answers older than a second; returns how many."""
    return int(connection.execute(delete(_answer).where(_answer.c.claimed_s < before_s)).rowcount)


def _of(owner: str, key: str) -> tuple[Any, Any]:
    return _answer.c.owner == owner, _answer.c.key == key


def lease(
    connection: Connection, period: int, name: str, caller: bytes, wanted: int, most: int
) -> tuple[int, int]:
    """Take so many of a caller's quota, or what is left of it; gives that, and what all have taken."""
    new = insert_into(connection, _lease).values(
        period=period, name=name, caller=caller, taken=min(wanted, most)
    )
    raised = new.on_conflict_do_update(
        index_elements=["period", "name", "caller"],
        set_={"taken": _lease.c.taken + wanted},
        where=_lease.c.taken < most,
    )
    taken: int | None = connection.execute(raised.returning(_lease.c.taken)).scalar()
    if taken is None:
        return 0, most
    return min(wanted, most) - max(0, taken - most), min(taken, most)


def forget_leases(connection: Connection, before: int) -> None:
    """Delete what was taken in periods before this one, but for rows that another deletes just now."""
    key = (_lease.c.period, _lease.c.name, _lease.c.caller)
    old = select(*key).where(_lease.c.period < before).with_for_update(skip_locked=True)
    connection.execute(delete(_lease).where(tuple_(*key).in_(old)))
