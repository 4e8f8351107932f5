"""Attempts as a merchant's page lists them, redelivery of all since a time, and forgetting. SQL alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, func, literal, select

from gateway.db import insert_into
from gateway.webhooks import store
from gateway.webhooks.store import attempts, deliveries, does_want, endpoints, events
from ledger.records import reject

REDELIVER_MAX: Final = 100_000
KEEP_S: Final = 90 * 86_400
FORGET_AT_ONCE: Final = 5_000


@dataclass(frozen=True)
class Attempt:
    """One request: when, how long it took, its status or why there was none. id: its place in the list."""

    id: int
    event_id: str
    event_type: str
    endpoint_id: str
    attempt: int
    at_s: int
    took_ms: int
    status: int | None
    error: str | None


@dataclass(frozen=True)
class Waiting:
    """What the outbox holds: how many wait, since when the oldest is due, how many failed for good."""

    pending: int
    oldest_due_s: int | None
    failing_endpoints: int


def attempts_of(
    connection: Connection,
    merchant_id: str,
    before: int | None = None,
    most: int = 50,
    *,
    endpoint_id: str | None = None,
    event_id: str | None = None,
) -> list[Attempt]:
    """A merchant's attempts, newest first, after the last one of the page before (keyset)."""
    wanted = [endpoints.c.merchant_id == merchant_id]
    if before is not None:
        wanted.append(attempts.c.id < before)
    if endpoint_id is not None:
        wanted.append(attempts.c.endpoint_id == endpoint_id)
    if event_id is not None:
        wanted.append(attempts.c.event_id == event_id)
    rows = connection.execute(
        select(attempts, events.c.type)
        .join(endpoints, endpoints.c.id == attempts.c.endpoint_id)
        .join(events, events.c.id == attempts.c.event_id)
        .where(*wanted)
        .order_by(attempts.c.id.desc())
        .limit(most)
    )
    return [
        Attempt(
            row.id,
            row.event_id,
            row.type,
            row.endpoint_id,
            row.attempt,
            row.at_s,
            row.took_ms,
            row.status,
            row.error,
        )
        for row in rows
    ]


def redeliver_since(
    connection: Connection, merchant_id: str, endpoint_id: str, since_s: int, now: int
) -> int:
    """Send an endpoint all that it wants of what happened since a time, again or for the first time.

    Each event keeps its id, so a receiver that has it forgets it; what still waits becomes due now, and
    events of one invoice arrive in their order. Returns how many; refused above 100,000.
    """
    endpoint = store.locked_endpoint(connection, merchant_id, endpoint_id)
    if endpoint.disabled is not None:
        reject("webhook-endpoint", endpoint_id, f"it is disabled: {endpoint.disabled_why}")
    since = (events.c.merchant_id == merchant_id, events.c.created >= since_s)
    types = connection.scalars(select(events.c.type).where(*since).distinct()).all()
    wanted = (*since, events.c.type.in_([type for type in types if does_want(endpoint.wants, type)]))
    count = connection.scalar(select(func.count()).select_from(events).where(*wanted)) or 0
    if count > REDELIVER_MAX:
        reject("webhook-redelivery", endpoint_id, f"{count} events since {since_s}, at most {REDELIVER_MAX}")
    columns = ("event_id", "endpoint_id", "invoice_id", "sequence", "attempt", "due", "leased_until", "state")
    again = select(
        events.c.id,
        literal(endpoint_id),
        events.c.invoice_id,
        events.c.sequence,
        literal(0),
        literal(now),
        literal(0),
        literal("pending"),
    ).where(*wanted)
    upsert = insert_into(connection, deliveries).from_select(columns, again)
    # Not what is under way: its lease stays, else it would be sent twice at once.
    fresh = {"attempt": 0, "due": now, "state": "pending"}
    free = deliveries.c.leased_until <= now
    connection.execute(
        upsert.on_conflict_do_update(index_elements=["event_id", "endpoint_id"], set_=fresh, where=free)
    )
    return count


def forget(connection: Connection, now: int, keep_s: int = KEEP_S) -> int:
    """Let attempts go that are older than 90 days, some at a time; the deliveries keep their last one."""
    old = select(attempts.c.id).where(attempts.c.at_s < now - keep_s).order_by(attempts.c.id)
    return connection.execute(delete(attempts).where(attempts.c.id.in_(old.limit(FORGET_AT_ONCE)))).rowcount


def waiting(connection: Connection) -> Waiting:
    """What waits in the outbox now."""
    pending = deliveries.c.state == "pending"
    row = connection.execute(select(func.count(), func.min(deliveries.c.due)).where(pending)).one()
    failing = endpoints.c.failing_since_s.is_not(None) & endpoints.c.disabled.is_(None)
    count = connection.scalar(select(func.count()).select_from(endpoints).where(failing)) or 0
    return Waiting(row[0], row[1], count)
