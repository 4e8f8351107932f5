"""Endpoints and events as lists show them, and an event for one endpoint alone. SQL and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Index, func, insert, select

from gateway.db import newest_first
from gateway.webhooks import signing
from gateway.webhooks.store import deliveries, endpoints, events
from ledger.records import reject

Index("ix_webhook_event_page", events.c.merchant_id, events.c.created, events.c.id)


@dataclass(frozen=True)
class Endpoint:
    """Where events go."""

    id: str
    url: str
    created_s: int
    disabled_s: int | None
    disabled_why: str | None


@dataclass(frozen=True)
class Delivery:
    """What became of an event at one endpoint."""

    endpoint: str
    state: str
    attempts: int
    due_s: int
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True)
class Event:
    """An event with its deliveries; about: the invoice or other thing that it is of."""

    id: str
    type: str
    about: str
    created_s: int
    body: bytes
    deliveries: Sequence[Delivery]


def endpoints_of(connection: Connection, owner: str) -> list[Endpoint]:
    """The endpoints of a merchant, or of its sandbox, oldest first."""
    rows = connection.execute(
        select(endpoints)
        .where(endpoints.c.merchant_id == owner)
        .order_by(endpoints.c.created, endpoints.c.id)
    )
    return [Endpoint(row.id, row.url, row.created, row.disabled, row.disabled_why) for row in rows]


def check_endpoint(connection: Connection, owner: str, id: str) -> Endpoint:
    """One endpoint of the owner; refused where it has no such."""
    found = next((one for one in endpoints_of(connection, owner) if one.id == id), None)
    if found is None:
        reject("not_found", "endpoint", f"no endpoint is called {id[:50]!a}")
    return found


def _event_of(row: Any, told: Sequence[Delivery]) -> Event:
    return Event(row.id, row.type, row.invoice_id, row.created, bytes(row.body), told)


def _deliveries(connection: Connection, ids: Sequence[str]) -> dict[str, list[Delivery]]:
    found: dict[str, list[Delivery]] = {id: [] for id in ids}
    rows = connection.execute(
        select(deliveries).where(deliveries.c.event_id.in_(ids)).order_by(deliveries.c.endpoint_id)
    )
    for row in rows:
        told = (row.endpoint_id, row.state, row.attempt, row.due, row.last_status, row.last_error)
        found[row.event_id].append(Delivery(*told))
    return found


def event(connection: Connection, owner: str, id: str) -> Event:
    """One event of the owner; refused where it has no such."""
    row = connection.execute(select(events).where(events.c.id == id, events.c.merchant_id == owner)).first()
    if row is None:
        reject("not_found", "event", f"no event is called {id[:50]!a}")
    return _event_of(row, _deliveries(connection, [id])[id])


def events_of(connection: Connection, owner: str, before: tuple[int, str], most: int) -> list[Event]:
    """The owner's events, newest first, after the last one of the page before."""
    theirs = select(events).where(events.c.merchant_id == owner)
    rows = connection.execute(newest_first(theirs, events.c.created, events.c.id, before, most)).all()
    told = _deliveries(connection, [row.id for row in rows])
    return [_event_of(row, told[row.id]) for row in rows]


def send_test(connection: Connection, owner: str, endpoint_id: str, body: bytes, now: int) -> str:
    """Write a test event for one endpoint alone, and give its id."""
    event_id = signing.new_id()
    # It is about itself, so that it waits for nothing and nothing waits for it.
    row = {"id": event_id, "merchant_id": owner, "invoice_id": event_id, "sequence": 1}
    connection.execute(insert(events).values(**row, type="webhook.test", body=body, created=now))
    pending = {"invoice_id": event_id, "sequence": 1, "attempt": 0, "due": now, "leased_until": 0}
    connection.execute(
        insert(deliveries).values(event_id=event_id, endpoint_id=endpoint_id, state="pending", **pending)
    )
    return event_id


def waiting(connection: Connection) -> tuple[int, int | None]:
    """How many deliveries wait, and since when the oldest of them is due."""
    row = connection.execute(
        select(func.count(), func.min(deliveries.c.due)).where(deliveries.c.state == "pending")
    ).one()
    return int(row[0]), row[1]
