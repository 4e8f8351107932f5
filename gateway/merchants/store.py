"""Merchants and their keys."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Column, Connection, ForeignKey, LargeBinary, Table, Text, insert, select, update

from gateway.db import Hash32, Integer64, metadata

_merchant = Table(
    "merchant",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("bin", Text, nullable=False, unique=True),
    Column("iban", Text, nullable=False),
    Column("wallet", LargeBinary, nullable=False),
    Column("created_s", Integer64, nullable=False),
)
_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=True, index=True),
    Column("scope", Text, nullable=False),
    # The key itself is never stored: a copy of this table opens nothing.
    Column("hash", Hash32, nullable=False),
    Column("created_s", Integer64, nullable=False),
    Column("revoked_s", Integer64, nullable=True),
)

MERCHANT, OPERATOR = "merchant", "operator"


@dataclass(frozen=True)
class Merchant:
    """A merchant; wallet is the address its net goes to."""

    id: str
    name: str
    bin: str
    iban: str
    wallet: bytes


@dataclass(frozen=True)
class Caller:
    """Who a key belongs to and what it may do."""

    key_id: str
    scope: str
    merchant_id: str | None


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
        )
    )


def _one(connection: Connection, column: str, value: str) -> Merchant | None:
    row = connection.execute(select(_merchant).where(_merchant.c[column] == value)).first()
    return None if row is None else Merchant(row.id, row.name, row.bin, row.iban, bytes(row.wallet))


def merchant(connection: Connection, id: str) -> Merchant | None:
    """The merchant with this id."""
    return _one(connection, "id", id)


def merchant_of_bin(connection: Connection, number: str) -> Merchant | None:
    """The merchant with this BIN."""
    return _one(connection, "bin", number)


def new_key(connection: Connection, scope: str, merchant_id: str | None, now: int) -> str:
    """Make a key and give it, the only time it is seen: qz_<id>_<secret>."""
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    connection.execute(
        insert(_key).values(
            id=id,
            merchant_id=merchant_id,
            scope=scope,
            hash=sha256(secret.encode()).digest(),
            created_s=now,
            revoked_s=None,
        )
    )
    return f"qz_{id}_{secret}"


def caller(connection: Connection, key: str) -> Caller | None:
    """Who holds this key; None if nobody does."""
    prefix, _, rest = key.partition("_")
    id, _, secret = rest.partition("_")
    row = connection.execute(select(_key).where(_key.c.id == id)).first() if prefix == "qz" else None
    # Compared in constant time, and also where there is no such key.
    known = bytes(32) if row is None else bytes(row.hash)
    same = hmac.compare_digest(known, sha256(secret.encode()).digest())
    if row is None or not same or row.revoked_s is not None:
        return None
    return Caller(row.id, row.scope, row.merchant_id)


def key_id(key: str) -> str:
    """The part of a key that names it and opens nothing."""
    return key.split("_")[1]


def revoke(connection: Connection, id: str, now: int) -> bool:
    """Let a key open nothing any more; False if there is no such key. Revoking again changes nothing."""
    known = connection.execute(select(_key.c.id).where(_key.c.id == id)).first() is not None
    connection.execute(update(_key).where(_key.c.id == id, _key.c.revoked_s.is_(None)).values(revoked_s=now))
    return known
