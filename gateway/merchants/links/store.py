"""Payment links. SQL and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    insert,
    select,
    update,
)

from gateway.db import Amount, Integer64, metadata, newest_first

_link = Table(
    "payment_link",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey("merchant.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("asset", Text, nullable=False),
    # NULL: the payer says how much.
    Column("tiyn", Amount, nullable=True),
    Column("reusable", Integer, nullable=False),
    Column("created_s", Integer64, nullable=False),
    Column("expires_s", Integer64, nullable=True),
    Column("closed_s", Integer64, nullable=True),
    Index("ix_payment_link_page", "merchant_id", "created_s", "id"),
)


@dataclass(frozen=True)
class Link:
    """A payment link. tiyn None: the payer says how much; expires_s None: never."""

    id: str
    merchant_id: str
    title: str
    purpose: str
    asset: str
    tiyn: int | None
    reusable: bool
    created_s: int
    expires_s: int | None
    closed_s: int | None = None


def add(connection: Connection, link: Link) -> None:
    """Store a link."""
    connection.execute(
        insert(_link).values(
            id=link.id,
            merchant_id=link.merchant_id,
            title=link.title,
            purpose=link.purpose,
            asset=link.asset,
            tiyn=link.tiyn,
            reusable=int(link.reusable),
            created_s=link.created_s,
            expires_s=link.expires_s,
        )
    )


def _link_of(row: Any) -> Link:
    return Link(
        row.id,
        row.merchant_id,
        row.title,
        row.purpose,
        row.asset,
        row.tiyn,
        bool(row.reusable),
        row.created_s,
        row.expires_s,
        row.closed_s,
    )


def link(connection: Connection, id: str) -> Link | None:
    """The link with this id."""
    row = connection.execute(select(_link).where(_link.c.id == id)).first()
    return None if row is None else _link_of(row)


def links_of(connection: Connection, merchant_id: str, before: tuple[int, str], most: int) -> list[Link]:
    """A merchant's links, newest first, after the last one of the page before."""
    theirs = select(_link).where(_link.c.merchant_id == merchant_id)
    page = newest_first(theirs, _link.c.created_s, _link.c.id, before, most)
    return [_link_of(row) for row in connection.execute(page)]


def close(connection: Connection, id: str, now: int) -> None:
    """Let a link make no more invoices; again changes nothing."""
    connection.execute(update(_link).where(_link.c.id == id, _link.c.closed_s.is_(None)).values(closed_s=now))
