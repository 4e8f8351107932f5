"""What deposit addresses hold of the chain's coin, which leaves no log: shown, and never booked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Column, Connection, ForeignKey, LargeBinary, Table, Text, select, update

from gateway.db import Amount, Integer64, insert_into, metadata

coin = Table(
    # What a deposit address holds of the chain's coin, and since when.
    "coin_deposit",
    metadata,
    Column("invoice_id", Text, ForeignKey("invoice.id"), primary_key=True),
    Column("address", LargeBinary, nullable=False, unique=True),
    Column("balance", Amount, nullable=False),
    Column("block", Integer64, nullable=False),
    Column("since_s", Integer64, nullable=False),
)


@dataclass(frozen=True)
class Held:
    """What an address held when it was last looked at. block: at which; since_s: since when it holds any."""

    balance: int
    block: int
    since_s: int


def coin_held(connection: Connection, invoice_id: str) -> Held | None:
    """What an invoice's address holds; None where it holds nothing."""
    row = connection.execute(select(coin).where(coin.c.invoice_id == invoice_id)).first()
    return Held(row.balance, row.block, row.since_s) if row is not None and row.balance else None


def coins_held(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """What was last seen to be held by these invoices' addresses; those that held nothing are left out."""
    rows = connection.execute(
        select(coin.c.invoice_id, coin.c.balance).where(coin.c.invoice_id.in_(list(ids)))
    )
    return {row.invoice_id: row.balance for row in rows if row.balance}


def set_coin(connection: Connection, invoice_id: str, address: bytes, held: Held, *, is_new: bool) -> None:
    """Note what an address holds; is_new: it held nothing before, so it has been there since now."""
    row = insert_into(connection, coin).values(
        invoice_id=invoice_id, address=address, balance=held.balance, block=held.block, since_s=held.since_s
    )
    changed: dict[str, int] = {"balance": held.balance, "block": held.block}
    if is_new:
        changed["since_s"] = held.since_s
    connection.execute(row.on_conflict_do_update(index_elements=["invoice_id"], set_=changed))


def coin_gone(connection: Connection, invoice_id: str) -> None:
    """Note that an address holds nothing any more."""
    connection.execute(update(coin).where(coin.c.invoice_id == invoice_id).values(balance=0))


def coin_since(connection: Connection, address: bytes) -> int | None:
    """Since when an address has held what it holds, or held last."""
    found: int | None = connection.execute(select(coin.c.since_s).where(coin.c.address == address)).scalar()
    return found
