"""The outbox: events, the endpoints that want them, and when each is due where.

An event is written in the transaction that made it true, so it exists exactly if its
cause does. A delivery waits while an earlier event of the same invoice is pending at the
same endpoint, and for nothing else: no invoice and no endpoint holds up another.

Every function takes the caller's connection and commits nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    Row,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)

from gateway.db import Integer64, insert_into, metadata
from gateway.webhooks import signing
from gateway.webhooks.egress import Target
from gateway.webhooks.events import versioned
from ledger.records import reject

AnyRow = Row[*tuple[Any, ...]]

ENDPOINTS_MAX: Final = 10
LEASE_S: Final = 120  # well above the time that one request may take
ROTATION_S: Final = 24 * 3600
BODY_MAX: Final = 64 * 1024

endpoints: Final = Table(
    "webhook_endpoint",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("previous_secret", LargeBinary),
    Column("previous_until", Integer64),
    Column("created", Integer64, nullable=False),
    # Which events are wanted, comma after each; empty: all.
    Column("wants", Text, nullable=False, server_default=""),
    Column("disabled", Integer64),
    Column("disabled_why", Text),
    # Since when no attempt succeeds: then it is given one at a time.
    Column("failing_since_s", Integer64),
    sqlite_strict=True,
)

# One counter for each invoice: its row lock makes the order of numbers the order of commits.
sequences: Final = Table(
    "webhook_sequence",
    metadata,
    Column("invoice_id", Text, primary_key=True),
    Column("last", Integer64, nullable=False),
    sqlite_strict=True,
)

events: Final = Table(
    "webhook_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("invoice_id", Text, nullable=False),
    Column("sequence", Integer64, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created", Integer64, nullable=False),
    UniqueConstraint("invoice_id", "sequence"),
    sqlite_strict=True,
)

deliveries: Final = Table(
    "webhook_delivery",
    metadata,
    Column("event_id", Text, ForeignKey("webhook_event.id"), primary_key=True),
    Column("endpoint_id", Text, ForeignKey("webhook_endpoint.id"), primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("sequence", Integer64, nullable=False),
    Column("attempt", Integer64, nullable=False),
    Column("due", Integer64, nullable=False),
    Column("leased_until", Integer64, nullable=False),
    Column("state", Text, nullable=False),
    Column("last_status", Integer64),
    Column("last_error", Text),
    CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="state"),
    sqlite_strict=True,
)
_pending: Final = deliveries.c.state == "pending"
# Each endpoint's own queue: a claim steps from endpoint to endpoint, whatever waits at each.
Index(
    "ix_webhook_delivery_due",
    deliveries.c.endpoint_id,
    deliveries.c.due,
    deliveries.c.sequence,
    sqlite_where=_pending,
    postgresql_where=_pending,
)
Index(
    "ix_webhook_delivery_order",
    deliveries.c.endpoint_id,
    deliveries.c.invoice_id,
    deliveries.c.sequence,
    sqlite_where=_pending,
    postgresql_where=_pending,
)

# What each attempt came to, for the merchant's page; kept for a while.
attempts: Final = Table(
    "webhook_attempt",
    metadata,
    Column("id", Integer64, primary_key=True, autoincrement=True),
    Column("event_id", Text, ForeignKey("webhook_event.id"), nullable=False, index=True),
    Column("endpoint_id", Text, ForeignKey("webhook_endpoint.id"), nullable=False),
    Column("attempt", Integer64, nullable=False),
    Column("at_s", Integer64, nullable=False, index=True),
    Column("took_ms", Integer64, nullable=False),
    Column("status", Integer64),
    Column("error", Text),
    Index("ix_webhook_attempt_endpoint", "endpoint_id", "id"),
    sqlite_strict=True,
)


class Sealer:
    """Keeps secrets unreadable in the database; the first key seals, all of them open.

    keys: Fernet keys from the settings, 32 bytes in URL-safe base64. What was opened is kept in memory
    for the next delivery: opening takes as long as sending.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            reject("webhook-key", "settings", "no key to seal secrets with")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            reject("webhook-key", "settings", "a key is 32 bytes in URL-safe base64")
        self.unseal = lru_cache(maxsize=4_096)(self._unseal)

    def seal(self, secret: str) -> bytes:
        """Encrypt a secret."""
        return self._fernet.encrypt(secret.encode())

    def _unseal(self, sealed: bytes) -> str:
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            reject("webhook-key", "settings", "no key opens the endpoint's secret")


@dataclass(frozen=True)
class Claim:
    """One delivery that is ours until the lease ends."""

    event_id: str
    endpoint_id: str
    attempt: int
    leased_until: int
    url: str
    body: bytes
    sealed: tuple[bytes, ...]


@dataclass(frozen=True)
class Conclusion:
    """What came of a claim: its new state, when it is due again, and how the attempt went."""

    claim: Claim
    state: Literal["pending", "delivered", "dead"]
    status: int | None
    error: str | None
    due: int
    at_s: int
    took_ms: int = 0


def add_endpoint(
    connection: Connection,
    sealer: Sealer,
    merchant_id: str,
    target: Target,
    now: int,
    scheme: Literal["v1", "v1a"] = "v1",
    wants: Sequence[str] = (),
) -> tuple[str, str]:
    """Register an endpoint and give its id and what its owner checks with, which is shown once.

    That is the `whsec_` secret, or the `whpk_` key for `v1a`. wants: types of events, `invoice.paid`, or
    families, `invoice.*`; none: all.
    """
    mine = select(func.count()).where(endpoints.c.merchant_id == merchant_id, endpoints.c.disabled.is_(None))
    if (count := connection.scalar(mine) or 0) >= ENDPOINTS_MAX:
        reject("webhook-endpoints", merchant_id, f"{count} endpoints, at most {ENDPOINTS_MAX}")
    endpoint_id = "ep_" + secrets.token_hex(16)
    secret = signing.new_secret() if scheme == "v1" else signing.new_key()
    row: dict[str, Any] = {"id": endpoint_id, "merchant_id": merchant_id, "url": target.url, "created": now}
    row["wants"] = "".join(f"{want}," for want in wants)
    connection.execute(insert(endpoints).values(**row, secret=sealer.seal(secret)))
    return endpoint_id, _shown(secret)


def rotate_secret(
    connection: Connection,
    sealer: Sealer,
    merchant_id: str,
    endpoint_id: str,
    now: int,
    *,
    keep_old: bool = True,
) -> str:
    """Give an endpoint a new secret; the old one signs beside it for 24 hours.

    keep_old=False drops the old one at once, for a secret that leaked.
    """
    row = locked_endpoint(connection, merchant_id, endpoint_id)
    if keep_old and row.previous_until is not None and row.previous_until > now:
        # A third secret would push out one that was promised to hold.
        reject("webhook-rotation", endpoint_id, f"the old one holds until {row.previous_until}, now is {now}")
    old = sealer.unseal(row.secret)
    secret = signing.new_key() if old.startswith("whsk_") else signing.new_secret()
    kept = {"previous_secret": row.secret, "previous_until": now + ROTATION_S}
    gone = {"previous_secret": None, "previous_until": None}
    change = update(endpoints).where(endpoints.c.id == endpoint_id)
    connection.execute(change.values(secret=sealer.seal(secret), **(kept if keep_old else gone)))
    return _shown(secret)


def disable_endpoint(connection: Connection, endpoint_id: str, why: str, now: int) -> None:
    """Send an endpoint nothing more; what it still waited for is dead."""
    of_it = (deliveries.c.endpoint_id == endpoint_id, _pending)
    connection.execute(update(deliveries).where(*of_it).values(state="dead", last_error=why))
    change = update(endpoints).where(endpoints.c.id == endpoint_id, endpoints.c.disabled.is_(None))
    connection.execute(change.values(disabled=now, disabled_why=why))


def enable_endpoint(connection: Connection, merchant_id: str, endpoint_id: str) -> None:
    """Send an endpoint events again, from the next one on."""
    locked_endpoint(connection, merchant_id, endpoint_id)
    change = update(endpoints).where(endpoints.c.id == endpoint_id)
    connection.execute(change.values(disabled=None, disabled_why=None, failing_since_s=None))


def change_endpoint(
    connection: Connection,
    merchant_id: str,
    endpoint_id: str,
    target: Target | None = None,
    wants: Sequence[str] | None = None,
) -> None:
    """Send an endpoint's events elsewhere, or other events; what waits goes to the new address."""
    locked_endpoint(connection, merchant_id, endpoint_id)
    values: dict[str, Any] = {} if target is None else {"url": target.url, "failing_since_s": None}
    if wants is not None:
        values["wants"] = "".join(f"{want}," for want in wants)
    if values:
        connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(**values))


def does_want(wants: str, event_type: str) -> bool:
    """Whether an endpoint that wants these is sent an event of this type."""
    family = event_type.partition(".")[0]
    return not wants or not {event_type, f"{family}.*"}.isdisjoint(wants.split(","))


def enqueue(
    connection: Connection,
    merchant_id: str,
    invoice_id: str,
    event_type: str,
    body: bytes,
    now: int,
    only: str | None = None,
) -> str:
    """Write an event in the caller's transaction and give its id, which never changes.

    only: the one endpoint that it is for, whatever that wants. What is no invoice's has a name of its own
    in the place of the invoice's id.
    """
    assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", event_type), f"not an event type: {event_type}"
    body = versioned(body)
    assert len(body) <= BODY_MAX, f"{len(body)} bytes, at most {BODY_MAX}"
    event_id = signing.new_id()
    sequence = _next_sequence(connection, invoice_id)
    row = {"id": event_id, "merchant_id": merchant_id, "invoice_id": invoice_id, "sequence": sequence}
    connection.execute(insert(events).values(**row, type=event_type, body=body, created=now))
    live = select(endpoints.c.id, endpoints.c.wants).where(
        endpoints.c.merchant_id == merchant_id, endpoints.c.disabled.is_(None)
    )
    pending = {"invoice_id": invoice_id, "sequence": sequence, "attempt": 0, "due": now, "leased_until": 0}
    rows = [
        {"event_id": event_id, "endpoint_id": endpoint_id, "state": "pending", **pending}
        for endpoint_id, wants in connection.execute(live)
        if (does_want(wants, event_type) if only is None else endpoint_id == only)
    ]
    if rows:
        connection.execute(insert(deliveries), rows)
    return event_id


def claim(
    connection: Connection, now: int, limit: int, per_endpoint: int, busy: Mapping[str, int] | None = None
) -> list[Claim]:
    """Take deliveries that are due, at most `per_endpoint` under way at one endpoint.

    busy: how many requests the caller has under way at each endpoint already. An endpoint whose last
    attempt failed is given one at a time, so that it cannot use up what others need.
    If the process dies before it records an outcome, the lease ends and another takes
    the delivery: so events arrive at least once, never at most once.
    """
    found, rooms = {}, {}
    for endpoint in _with_due(connection, now):
        share = per_endpoint if endpoint.failing_since_s is None else 1
        room = min(share - (busy or {}).get(endpoint.id, 0), limit)
        if room > 0:
            found[endpoint.id], rooms[endpoint.id] = endpoint, room
    if not rooms:
        return []
    take = _take_at_once if connection.dialect.name == "postgresql" else _take_in_turn
    return [_claim(row, found[row.endpoint_id], now) for row in take(connection, now, rooms, limit)]


def _claim(row: AnyRow, endpoint: AnyRow, now: int) -> Claim:
    sealed = [endpoint.secret]
    if endpoint.previous_until is not None and endpoint.previous_until > now:
        sealed.append(endpoint.previous_secret)
    held = (row.event_id, row.endpoint_id, row.attempt, now + LEASE_S)
    return Claim(*held, endpoint.url, bytes(row.body), tuple(bytes(secret) for secret in sealed))


def _with_due(connection: Connection, now: int) -> list[AnyRow]:
    """Endpoints at which something is due, from a chance place on, so that all have their turn."""
    start = "ep_" + secrets.token_hex(16)
    found: list[str] = []
    for above, until in ((start, "ep_g"), ("", start)):
        bounds = {"now": now, "above": above, "until": until}
        found += [row.id for row in connection.execute(_STEPS, bounds)]
    rows = connection.execute(_LIVE, {"ids": found}) if found else ()
    by_id = {row.id: row for row in rows}
    return [by_id[id] for id in found if id in by_id]


_LIVE: Final = select(endpoints).where(
    endpoints.c.id.in_(bindparam("ids", expanding=True)), endpoints.c.disabled.is_(None)
)

# From one endpoint's queue to the next by the index: the queues themselves are not read.
_LEAST: Final = """
    SELECT min(endpoint_id) FROM webhook_delivery
    WHERE state = 'pending' AND due <= :now AND leased_until <= :now AND endpoint_id <= :until
      AND endpoint_id >"""
_STEPS: Final = text(
    "WITH RECURSIVE steps(id) AS ("
    + _LEAST
    + " CAST(:above AS text) UNION ALL SELECT ("
    + _LEAST
    + " steps.id) FROM steps WHERE steps.id IS NOT NULL)"
    + " SELECT id FROM steps WHERE id IS NOT NULL LIMIT 200"
)

# What an endpoint may be sent next: due, nobody's, and with no earlier event of its invoice still waiting.
_NEXT: Final = """
    SELECT d.event_id, d.endpoint_id FROM webhook_delivery d
    WHERE d.endpoint_id = {endpoint} AND d.state = 'pending' AND d.due <= :now AND d.leased_until <= :now
      AND NOT EXISTS (
          SELECT 1 FROM webhook_delivery f
          WHERE f.endpoint_id = d.endpoint_id AND f.invoice_id = d.invoice_id AND f.sequence < d.sequence
            AND f.state = 'pending'
      )
    ORDER BY d.due, d.sequence LIMIT {room}
"""

# The tests stand in the query that locks: PostgreSQL repeats them on the row as it is once it is locked.
_AT_ONCE: Final = text(
    """
    UPDATE webhook_delivery AS t SET attempt = t.attempt + 1, leased_until = :until
    FROM (
        SELECT x.event_id, x.endpoint_id
        FROM unnest(CAST(:ids AS text[]), CAST(:rooms AS bigint[])) AS e(id, room),
        LATERAL ("""
    + _NEXT.format(endpoint="e.id", room="e.room")
    + """ FOR UPDATE OF d SKIP LOCKED) x LIMIT :most
    ) chosen, webhook_event
    WHERE t.event_id = chosen.event_id AND t.endpoint_id = chosen.endpoint_id
      AND webhook_event.id = t.event_id
    RETURNING t.event_id, t.endpoint_id, t.attempt, webhook_event.body
    """
)
_ONE_OF_MANY: Final = text(
    """
    UPDATE webhook_delivery SET attempt = attempt + 1, leased_until = :until
    WHERE (event_id, endpoint_id) IN ("""
    + _NEXT.format(endpoint=":id", room=":room")
    + """)
    RETURNING event_id, endpoint_id, attempt,
        (SELECT body FROM webhook_event WHERE webhook_event.id = webhook_delivery.event_id) AS body
    """
)


def _take_at_once(connection: Connection, now: int, rooms: Mapping[str, int], most: int) -> list[AnyRow]:
    asked = {"ids": list(rooms), "rooms": list(rooms.values()), "most": most}
    return list(connection.execute(_AT_ONCE, {**asked, "now": now, "until": now + LEASE_S}))


def _take_in_turn(connection: Connection, now: int, rooms: Mapping[str, int], most: int) -> list[AnyRow]:
    # SQLite knows no LATERAL; there one endpoint after the other is asked, and nobody else writes meanwhile.
    taken: list[AnyRow] = []
    for id, room in rooms.items():
        asked = {"id": id, "room": min(room, most - len(taken)), "now": now, "until": now + LEASE_S}
        taken += connection.execute(_ONE_OF_MANY, asked)
        if len(taken) == most:
            break
    return taken


_concluding: Final = (
    update(deliveries)
    .where(
        deliveries.c.event_id == bindparam("of_event"),
        deliveries.c.endpoint_id == bindparam("of_endpoint"),
        _pending,
        deliveries.c.attempt == bindparam("of_attempt"),
        deliveries.c.leased_until == bindparam("of_lease"),
    )
    .values(leased_until=0)
)


def record(connection: Connection, concluded: Sequence[Conclusion]) -> int:
    """Write what came of claims, and give how many still were the caller's; a lease that was lost is not.

    An attempt stays in the history either way: it was made.
    """
    if not concluded:
        return 0
    rows = [
        {
            "of_event": one.claim.event_id,
            "of_endpoint": one.claim.endpoint_id,
            "of_attempt": one.claim.attempt,
            "of_lease": one.claim.leased_until,
            "state": one.state,
            "last_status": one.status,
            "last_error": one.error,
            "due": one.due,
        }
        for one in concluded
    ]
    ours = connection.execute(_concluding, rows).rowcount
    told = [
        {
            "event_id": one.claim.event_id,
            "endpoint_id": one.claim.endpoint_id,
            "attempt": one.claim.attempt,
            "at_s": one.at_s,
            "took_ms": one.took_ms,
            "status": one.status,
            "error": one.error,
        }
        for one in concluded
    ]
    connection.execute(insert(attempts), told)
    _note_failing(connection, concluded)
    return ours


def _note_failing(connection: Connection, concluded: Sequence[Conclusion]) -> None:
    succeeded = {one.claim.endpoint_id for one in concluded if one.error is None}
    failed = {one.claim.endpoint_id: one.at_s for one in concluded if one.error is not None}
    id, since = endpoints.c.id, endpoints.c.failing_since_s
    # In one order, so that two workers never wait for each other.
    for endpoint_id in sorted(failed.keys() - succeeded):
        change = update(endpoints).where(id == endpoint_id, since.is_(None))
        connection.execute(change.values(failing_since_s=failed[endpoint_id]))
    recovered = select(id).where(id.in_(succeeded), since.is_not(None)).order_by(id)
    for endpoint_id in connection.scalars(recovered).all() if succeeded else ():
        connection.execute(update(endpoints).where(id == endpoint_id).values(failing_since_s=None))


def redeliver(connection: Connection, merchant_id: str, event_id: str, endpoint_id: str, now: int) -> None:
    """Send an event once more, with its old id and a fresh schedule.

    The endpoint may have been registered after the event. What is pending becomes due now.
    """
    endpoint = locked_endpoint(connection, merchant_id, endpoint_id)
    if endpoint.disabled is not None:
        reject("webhook-endpoint", endpoint_id, f"it is disabled: {endpoint.disabled_why}")
    event = connection.execute(
        select(events).where(events.c.id == event_id, events.c.merchant_id == merchant_id)
    ).one_or_none()
    if event is None:
        reject("webhook-event", event_id, "the merchant has no such event")
    row = {"event_id": event_id, "endpoint_id": endpoint_id}
    placed = {"invoice_id": event.invoice_id, "sequence": event.sequence}
    fresh = {"attempt": 0, "due": now, "leased_until": 0, "state": "pending"}
    key = (deliveries.c.event_id, deliveries.c.endpoint_id)
    pending = connection.execute(
        update(deliveries).where(*_key(event_id, endpoint_id), _pending).values(due=now)
    )
    if pending.rowcount == 0:
        upsert = insert_into(connection, deliveries).values(**row, **placed, **fresh)
        connection.execute(upsert.on_conflict_do_update(index_elements=key, set_=fresh))


def deliveries_of(connection: Connection, merchant_id: str, invoice_id: str) -> Sequence[AnyRow]:
    """List an invoice's events and what became of each at each endpoint, oldest first."""
    told = deliveries.c
    columns = (told.endpoint_id, told.attempt, told.due, told.state, told.last_status, told.last_error)
    return connection.execute(
        select(events.c.id, events.c.sequence, events.c.type, events.c.created, *columns)
        .outerjoin(deliveries, told.event_id == events.c.id)
        .where(events.c.invoice_id == invoice_id, events.c.merchant_id == merchant_id)
        .order_by(events.c.sequence, told.endpoint_id)
    ).all()


def locked_endpoint(connection: Connection, merchant_id: str, endpoint_id: str) -> AnyRow:
    """A merchant's endpoint, locked, so that two rotations cannot both think themselves the first."""
    one = select(endpoints).where(endpoints.c.id == endpoint_id, endpoints.c.merchant_id == merchant_id)
    row = connection.execute(one.with_for_update()).one_or_none()
    if row is None:
        reject("webhook-endpoint", endpoint_id, "the merchant has no such endpoint")
    return row


def _next_sequence(connection: Connection, invoice_id: str) -> int:
    # An invoice that is made in one statement has its first event and no counter yet. Two who come here at
    # once count the same events; the second then finds the row of the first, and raises it.
    told = select(func.coalesce(func.max(events.c.sequence), 0)).where(events.c.invoice_id == invoice_id)
    upsert = insert_into(connection, sequences).values(invoice_id=invoice_id, last=told.scalar_subquery() + 1)
    raised = upsert.on_conflict_do_update(index_elements=["invoice_id"], set_={"last": sequences.c.last + 1})
    return int(connection.execute(raised.returning(sequences.c.last)).scalar_one())


def _key(event_id: str, endpoint_id: str) -> tuple[Any, Any]:
    return deliveries.c.event_id == event_id, deliveries.c.endpoint_id == endpoint_id


def _shown(secret: str) -> str:
    return signing.public_key(secret) if secret.startswith("whsk_") else secret
