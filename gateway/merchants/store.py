"""Merchants, their keys, and the changes that wait: where money goes, and who is told."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    insert,
    or_,
    select,
    update,
)

from gateway.db import Hash32, Integer64, metadata, newest_first
from gateway.merchants.roles import CASHIER, OPERATOR, OWNER, ROLES, SCOPES, Caller

# The first key of a merchant is its owner's.
MERCHANT: Final = OWNER
HOLD_S: Final = 48 * 3600
# How often it is noted that a key is in use: each request would be a write.
USE_NOTED_S: Final = 60
LIVE_PREFIX, SANDBOX_PREFIX = "qz", "qzsandbox"

_merchant = Table(
    "merchant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("bin", Text, nullable=False, unique=True),
    Column("iban", Text, nullable=False),
    Column("wallet", LargeBinary, nullable=False),
    Column("created_s", Integer64, nullable=False),
    Column("contact", Text, nullable=True),
)
_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=True, index=True),
    Column("role", Text, nullable=False),
    # With spaces between; NULL: all of the role's, as they are now.
    Column("scopes", Text, nullable=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("sandbox", Integer, nullable=False, server_default="0"),
    # The key itself is never stored: a copy of this table opens nothing.
    Column("hash", Hash32, nullable=False),
    Column("created_s", Integer64, nullable=False),
    Column("expires_s", Integer64, nullable=True),
    Column("last_used_s", Integer64, nullable=True),
    Column("revoked_s", Integer64, nullable=True),
)
_change = Table(
    # What is asked to change and holds only after a while (LEAKS 21). The row is altered when somebody
    # cancels it, and when it was told that it holds; what holds at an instant follows from the rows.
    "merchant_change",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False, index=True),
    Column("field", Text, nullable=False),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("asked_s", Integer64, nullable=False),
    Column("effective_s", Integer64, nullable=False),
    Column("cancelled_s", Integer64, nullable=True),
    Column("cancelled_by", Text, nullable=True),
    # When it was told that it holds.
    Column("told_s", Integer64, nullable=True),
)
Index("ix_merchant_change_untold", _change.c.told_s, _change.c.effective_s)
letters = Table(
    # Letters to be sent, by gateway/mail.
    "email_outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False, index=True),
    Column("recipient", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_s", Integer64, nullable=False),
    Column("sent_s", Integer64, nullable=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # Not before; while somebody sends it, also the end of their lease.
    Column("due_s", Integer64, nullable=False, server_default="0"),
    Column("gave_up_s", Integer64, nullable=True),
    Column("error", Text, nullable=True),
)
Index("ix_email_outbox_due", letters.c.sent_s, letters.c.gave_up_s, letters.c.due_s)
Index("ix_api_key_page", _key.c.merchant_id, _key.c.created_s, _key.c.id)


@dataclass(frozen=True)
class Merchant:
    """A merchant; wallet is the address its net goes to, contact the e-mail that is told of changes."""

    id: str
    name: str
    bin: str
    iban: str
    wallet: bytes
    contact: str | None = None


@dataclass(frozen=True)
class Key:
    """A key as lists show it; nothing here opens anything."""

    id: str
    merchant_id: str | None
    role: str
    scopes: frozenset[str]
    name: str
    sandbox: bool
    created_s: int
    expires_s: int | None
    last_used_s: int | None
    revoked_s: int | None


@dataclass(frozen=True)
class Change:
    """One change of a merchant's data. field: wallet, iban or contact; old and new as text."""

    id: str
    merchant_id: str
    field: str
    old: str
    new: str
    key_id: str
    asked_s: int
    effective_s: int
    cancelled_s: int | None = None


# --- merchants ----------------------------------------------------------------------


def add_merchant(connection: Connection, merchant: Merchant, now: int) -> None:
    """Store a merchant."""
    connection.execute(
        insert(_merchant).values(
            id=merchant.id,
            name=merchant.name,
            bin=merchant.bin,
            iban=merchant.iban,
            wallet=merchant.wallet,
            created_s=now,
            contact=merchant.contact,
        )
    )


def _merchant_of(row: Any) -> Merchant:
    return Merchant(row.id, row.name, row.bin, row.iban, bytes(row.wallet), row.contact)


def _one(connection: Connection, column: str, value: str) -> Merchant | None:
    row = connection.execute(select(_merchant).where(_merchant.c[column] == value)).first()
    return None if row is None else _merchant_of(row)


def merchant(connection: Connection, id: str) -> Merchant | None:
    """The merchant with this id, as it was taken on; `merchant_at` says what holds now."""
    return _one(connection, "id", id)


def merchant_of_bin(connection: Connection, number: str) -> Merchant | None:
    """The merchant with this BIN."""
    return _one(connection, "bin", number)


def merchants(connection: Connection, after: str, most: int) -> list[Merchant]:
    """Merchants in the order of their ids, after one."""
    rows = connection.execute(
        select(_merchant).where(_merchant.c.id > after).order_by(_merchant.c.id).limit(most)
    )
    return [_merchant_of(row) for row in rows]


def merchant_at(connection: Connection, id: str, now: int) -> Merchant | None:
    """The merchant with what holds at an instant: a change holds from its hour on, if nobody cancelled it."""
    found = merchant(connection, id)
    if found is None:
        return None
    held = {"wallet": found.wallet, "iban": found.iban, "contact": found.contact}
    rows = connection.execute(
        select(_change)
        .where(
            _change.c.merchant_id == id,
            _change.c.effective_s <= now,
            # Too late: what held already was not undone by this.
            or_(_change.c.cancelled_s.is_(None), _change.c.cancelled_s >= _change.c.effective_s),
        )
        .order_by(_change.c.effective_s, _change.c.id)
    )
    for row in rows:
        # A contact that was erased is none.
        held[row.field] = bytes.fromhex(row.new[2:]) if row.field == "wallet" else row.new or None
    return Merchant(found.id, found.name, found.bin, held["iban"], held["wallet"], held["contact"])  # type: ignore[arg-type]


# --- changes that wait ----------------------------------------------------------------


def add_change(connection: Connection, change: Change) -> None:
    """Store a change that is asked for."""
    connection.execute(
        insert(_change).values(
            id=change.id,
            merchant_id=change.merchant_id,
            field=change.field,
            old=change.old,
            new=change.new,
            key_id=change.key_id,
            asked_s=change.asked_s,
            effective_s=change.effective_s,
        )
    )


def _change_of(row: Any) -> Change:
    return Change(
        row.id,
        row.merchant_id,
        row.field,
        row.old,
        row.new,
        row.key_id,
        row.asked_s,
        row.effective_s,
        row.cancelled_s,
    )


def lock_merchant(connection: Connection, id: str) -> None:
    """Let nobody else change this merchant until we commit."""
    connection.execute(select(_merchant.c.id).where(_merchant.c.id == id).with_for_update())


def change(connection: Connection, merchant_id: str, id: str) -> Change | None:
    """One change of a merchant."""
    row = connection.execute(
        select(_change).where(_change.c.id == id, _change.c.merchant_id == merchant_id)
    ).first()
    return None if row is None else _change_of(row)


def waiting_changes(connection: Connection, merchant_id: str, now: int) -> list[Change]:
    """The changes that do not hold yet and that nobody cancelled."""
    rows = connection.execute(
        select(_change)
        .where(
            _change.c.merchant_id == merchant_id,
            _change.c.effective_s > now,
            _change.c.cancelled_s.is_(None),
        )
        .order_by(_change.c.asked_s, _change.c.id)
    )
    return [_change_of(row) for row in rows]


def cancel_change(connection: Connection, id: str, key_id: str, now: int) -> bool:
    """Cancel a change that does not hold yet; False where it was cancelled or holds."""
    done = connection.execute(
        update(_change)
        .where(_change.c.id == id, _change.c.cancelled_s.is_(None), _change.c.effective_s > now)
        .values(cancelled_s=now, cancelled_by=key_id)
    )
    return done.rowcount == 1


def untold_changes(connection: Connection, now: int, most: int) -> list[Change]:
    """Changes that hold and nobody was told so, oldest first; nobody else gets them until we commit."""
    rows = connection.execute(
        select(_change)
        .where(_change.c.told_s.is_(None), _change.c.effective_s <= now, _change.c.cancelled_s.is_(None))
        .order_by(_change.c.effective_s, _change.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    return [_change_of(row) for row in rows]


def note_told(connection: Connection, ids: Sequence[str], now: int) -> None:
    """Note that it was told of these changes that they hold."""
    connection.execute(update(_change).where(_change.c.id.in_(ids)).values(told_s=now))


def add_email(
    connection: Connection, merchant_id: str, recipient: str, kind: str, body: str, now: int
) -> None:
    """Put a letter into the outbox, in the transaction of what it tells."""
    connection.execute(
        insert(letters).values(
            id=f"em_{secrets.token_hex(8)}",
            merchant_id=merchant_id,
            recipient=recipient,
            kind=kind,
            body=body,
            created_s=now,
        )
    )


def emails(connection: Connection, merchant_id: str) -> Sequence[tuple[str, str, str]]:
    """The letters of a merchant: to whom, what kind, body; oldest first."""
    rows = connection.execute(
        select(letters)
        .where(letters.c.merchant_id == merchant_id)
        .order_by(letters.c.created_s, letters.c.id)
    )
    return [(row.recipient, row.kind, row.body) for row in rows]


# --- keys -----------------------------------------------------------------------------


def new_key(
    connection: Connection,
    role: str,
    merchant_id: str | None,
    now: int,
    *,
    name: str = "",
    scopes: frozenset[str] | None = None,
    sandbox: bool = False,
    expires_s: int | None = None,
) -> str:
    """Make a key and give it, the only time it is seen: qz_<id>_<secret>, or qzsandbox_<id>_<secret>.

    scopes: None for all of the role's.
    """
    assert role in ROLES, role
    assert scopes is None or scopes <= ROLES[role] <= set(SCOPES), scopes
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    connection.execute(
        insert(_key).values(
            id=id,
            merchant_id=merchant_id,
            role=role,
            scopes=None if scopes is None else " ".join(sorted(scopes)),
            name=name,
            sandbox=int(sandbox),
            hash=sha256(secret.encode()).digest(),
            created_s=now,
            expires_s=expires_s,
        )
    )
    return f"{SANDBOX_PREFIX if sandbox else LIVE_PREFIX}_{id}_{secret}"


def _scopes_of(row: Any) -> frozenset[str]:
    # What a role lost since is lost to its keys too.
    return ROLES[row.role] if row.scopes is None else ROLES[row.role] & frozenset(row.scopes.split())


def caller(connection: Connection, key: str, now: int) -> Caller | None:
    """Who holds this key; None if nobody does or it expired. A revoked key's caller says so."""
    prefix, _, rest = key.partition("_")
    id, _, secret = rest.partition("_")
    known_prefix = prefix in {LIVE_PREFIX, SANDBOX_PREFIX}
    row = connection.execute(select(_key).where(_key.c.id == id)).first() if known_prefix else None
    # Compared in constant time, and also where there is no such key.
    known = bytes(32) if row is None else bytes(row.hash)
    same = hmac.compare_digest(known, sha256(secret.encode()).digest())
    if row is None or not same or bool(row.sandbox) is not (prefix == SANDBOX_PREFIX):
        return None
    if row.expires_s is not None and row.expires_s <= now:
        return None
    return Caller(
        row.id,
        row.role,
        row.merchant_id,
        _scopes_of(row),
        bool(row.sandbox),
        row.created_s,
        revoked=row.revoked_s is not None,
    )


def revoked_s(connection: Connection, id: str) -> int | None:
    """When a key was revoked; None if it was not."""
    found: int | None = connection.execute(select(_key.c.revoked_s).where(_key.c.id == id)).scalar()
    return found


def note_use(connection: Connection, id: str, now: int) -> None:
    """Note that a key is in use, where that was not noted lately."""
    old = or_(_key.c.last_used_s.is_(None), _key.c.last_used_s <= now - USE_NOTED_S)
    connection.execute(update(_key).where(_key.c.id == id, old).values(last_used_s=now))


def key_id(key: str) -> str:
    """The part of a key that names it and opens nothing."""
    return key.split("_")[1]


def _key_of(row: Any) -> Key:
    return Key(
        row.id,
        row.merchant_id,
        row.role,
        _scopes_of(row),
        row.name,
        bool(row.sandbox),
        row.created_s,
        row.expires_s,
        row.last_used_s,
        row.revoked_s,
    )


def one_key(connection: Connection, id: str) -> Key | None:
    """The key with this id."""
    row = connection.execute(select(_key).where(_key.c.id == id)).first()
    return None if row is None else _key_of(row)


def keys_of(
    connection: Connection, merchant_id: str, before: tuple[int, str], most: int, *, sandbox: bool | None
) -> list[Key]:
    """A merchant's keys, newest first, after the last one of the page before; sandbox None: both kinds."""
    kind = [] if sandbox is None else [_key.c.sandbox == int(sandbox)]
    theirs = select(_key).where(_key.c.merchant_id == merchant_id, *kind)
    page = newest_first(theirs, _key.c.created_s, _key.c.id, before, most)
    return [_key_of(row) for row in connection.execute(page)]


def expire(connection: Connection, id: str, at_s: int) -> None:
    """Let a key expire at a second, or earlier if that was settled before."""
    later = or_(_key.c.expires_s.is_(None), _key.c.expires_s > at_s)
    connection.execute(update(_key).where(_key.c.id == id, later).values(expires_s=at_s))


def revoke(connection: Connection, id: str, now: int) -> bool:
    """Let a key open nothing any more; False if there is no such key. Revoking again changes nothing."""
    known = connection.execute(select(_key.c.id).where(_key.c.id == id)).first() is not None
    connection.execute(update(_key).where(_key.c.id == id, _key.c.revoked_s.is_(None)).values(revoked_s=now))
    return known


__all__ = ["CASHIER", "MERCHANT", "OPERATOR", "OWNER", "Caller", "Change", "Key", "Merchant"]
