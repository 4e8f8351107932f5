"""The outbox: events, the endpoints that want them, and when each is due where.

An event is written in the transaction that made it true, so it exists exactly if its
cause does. A delivery waits while an earlier event of the same invoice is pending at the
same endpoint, and for nothing else: no invoice and no endpoint holds up another.

Every function takes the caller's connection and commits nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
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
    and_,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.db import Integer64, metadata
from gateway.webhooks import signing
from gateway.webhooks.egress import Target
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
    Column("disabled", Integer64),
    Column("disabled_why", Text),
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
Index(
    "ix_webhook_delivery_due",
    deliveries.c.due,
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


class Sealer:
    """Keeps secrets unreadable in the database; the first key seals, all of them open.

    keys: Fernet keys from the settings, 32 bytes in URL-safe base64.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            reject("webhook-key", "settings", "no key to seal secrets with")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            reject("webhook-key", "settings", "a key is 32 bytes in URL-safe base64")

    def seal(self, secret: str) -> bytes:
        """Encrypt a secret."""
        return self._fernet.encrypt(secret.encode())

    def unseal(self, sealed: bytes) -> str:
        """Decrypt a secret."""
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


def add_endpoint(
    connection: Connection,
    sealer: Sealer,
    merchant_id: str,
    target: Target,
    now: int,
    scheme: Literal["v1", "v1a"] = "v1",
) -> tuple[str, str]:
    """Register an endpoint and give its id and what its owner checks with, which is shown once.

    That is the `whsec_` secret, or the `whpk_` key for `v1a`.
    """
    mine = select(func.count()).where(endpoints.c.merchant_id == merchant_id, endpoints.c.disabled.is_(None))
    if (count := connection.scalar(mine) or 0) >= ENDPOINTS_MAX:
        reject("webhook-endpoints", merchant_id, f"{count} endpoints, at most {ENDPOINTS_MAX}")
    endpoint_id = "ep_" + secrets.token_hex(16)
    secret = signing.new_secret() if scheme == "v1" else signing.new_key()
    row = {"id": endpoint_id, "merchant_id": merchant_id, "url": target.url, "created": now}
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
    row = _endpoint(connection, merchant_id, endpoint_id)
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
    _endpoint(connection, merchant_id, endpoint_id)
    change = update(endpoints).where(endpoints.c.id == endpoint_id)
    connection.execute(change.values(disabled=None, disabled_why=None))


def enqueue(
    connection: Connection, merchant_id: str, invoice_id: str, event_type: str, body: bytes, now: int
) -> str:
    """Write an event in the caller's transaction and give its id, which never changes."""
    assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", event_type), f"not an event type: {event_type}"
    assert len(body) <= BODY_MAX, f"{len(body)} bytes, at most {BODY_MAX}"
    event_id = signing.new_id()
    sequence = _next_sequence(connection, invoice_id)
    row = {"id": event_id, "merchant_id": merchant_id, "invoice_id": invoice_id, "sequence": sequence}
    connection.execute(insert(events).values(**row, type=event_type, body=body, created=now))
    wanted = select(endpoints.c.id).where(
        endpoints.c.merchant_id == merchant_id, endpoints.c.disabled.is_(None)
    )
    pending = {"invoice_id": invoice_id, "sequence": sequence, "attempt": 0, "due": now, "leased_until": 0}
    rows = [
        {"event_id": event_id, "endpoint_id": endpoint_id, "state": "pending", **pending}
        for endpoint_id in connection.scalars(wanted)
    ]
    if rows:
        connection.execute(insert(deliveries), rows)
    return event_id


def claim(connection: Connection, now: int, limit: int, per_endpoint: int) -> list[Claim]:
    """Take deliveries that are due, at most `per_endpoint` under way at one endpoint.

    If the process dies before it records an outcome, the lease ends and another takes
    the delivery: so events arrive at least once, never at most once.
    """
    first = deliveries.alias()
    behind = (
        select(first.c.event_id)
        .where(
            first.c.endpoint_id == deliveries.c.endpoint_id,
            first.c.invoice_id == deliveries.c.invoice_id,
            first.c.sequence < deliveries.c.sequence,
            first.c.state == "pending",
        )
        .exists()
    )
    # What is leased comes first in the rank, and so uses up the endpoint's share.
    rank = func.row_number().over(
        partition_by=deliveries.c.endpoint_id,
        order_by=(deliveries.c.leased_until.desc(), deliveries.c.due, deliveries.c.sequence),
    )
    key = (deliveries.c.event_id, deliveries.c.endpoint_id)
    ranked = select(*key, rank.label("rank")).where(_pending, deliveries.c.due <= now, ~behind).subquery()
    fair = select(ranked.c.event_id, ranked.c.endpoint_id).where(ranked.c.rank <= per_endpoint)
    free = and_(_pending, deliveries.c.due <= now, deliveries.c.leased_until <= now)
    chosen = (
        select(deliveries.c.attempt, *key, events.c.body, endpoints)
        .join(events, events.c.id == deliveries.c.event_id)
        .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id)
        # Asked again beside the subquery: PostgreSQL repeats this test on the row it locked.
        .where(free, endpoints.c.disabled.is_(None), tuple_(*key).in_(fair))
        .order_by(deliveries.c.due, deliveries.c.sequence)
        .limit(limit)
        .with_for_update(skip_locked=True, of=deliveries)
    )
    claims = [_claim(row, now) for row in connection.execute(chosen)]
    for taken in claims:
        lease = {"attempt": taken.attempt, "leased_until": taken.leased_until}
        connection.execute(update(deliveries).where(*_key(taken.event_id, taken.endpoint_id)).values(**lease))
    return claims


def record(
    connection: Connection,
    claimed: Claim,
    state: Literal["pending", "delivered", "dead"],
    status: int | None,
    error: str | None,
    due: int,
) -> bool:
    """Write what came of a claim; False where the lease was lost to another."""
    ours = (
        *_key(claimed.event_id, claimed.endpoint_id),
        _pending,
        deliveries.c.attempt == claimed.attempt,
        deliveries.c.leased_until == claimed.leased_until,
    )
    outcome = {"state": state, "last_status": status, "last_error": error, "due": due, "leased_until": 0}
    return connection.execute(update(deliveries).where(*ours).values(**outcome)).rowcount == 1


def redeliver(connection: Connection, merchant_id: str, event_id: str, endpoint_id: str, now: int) -> None:
    """Send an event once more, with its old id and a fresh schedule.

    The endpoint may have been registered after the event. What is pending becomes due now.
    """
    endpoint = _endpoint(connection, merchant_id, endpoint_id)
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
        upsert = _insert(connection, deliveries).values(**row, **placed, **fresh)
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


def _endpoint(connection: Connection, merchant_id: str, endpoint_id: str) -> AnyRow:
    # Locked, so that two rotations cannot both think themselves the first.
    one = select(endpoints).where(endpoints.c.id == endpoint_id, endpoints.c.merchant_id == merchant_id)
    row = connection.execute(one.with_for_update()).one_or_none()
    if row is None:
        reject("webhook-endpoint", endpoint_id, "the merchant has no such endpoint")
    return row


def _next_sequence(connection: Connection, invoice_id: str) -> int:
    upsert = _insert(connection, sequences).values(invoice_id=invoice_id, last=1)
    raised = upsert.on_conflict_do_update(index_elements=["invoice_id"], set_={"last": sequences.c.last + 1})
    return int(connection.execute(raised.returning(sequences.c.last)).scalar_one())


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _claim(row: AnyRow, now: int) -> Claim:
    sealed = [row.secret]
    if row.previous_until is not None and row.previous_until > now:
        sealed.append(row.previous_secret)
    taken = (row.event_id, row.endpoint_id, row.attempt + 1, now + LEASE_S)
    return Claim(*taken, row.url, bytes(row.body), tuple(bytes(secret) for secret in sealed))


def _key(event_id: str, endpoint_id: str) -> tuple[Any, Any]:
    return deliveries.c.event_id == event_id, deliveries.c.endpoint_id == endpoint_id


def _shown(secret: str) -> str:
    return signing.public_key(secret) if secret.startswith("whsk_") else secret
