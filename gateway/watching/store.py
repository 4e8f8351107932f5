"""The rows of watching: up to which block logs were taken, and what deposit addresses hold of the coin."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Connection, ForeignKey, LargeBinary, Table, Text, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.db import Amount, Hash32, Integer64, metadata
from gateway.payments.store.tables import invoice as _invoice

_tail = Table(
    # The newest block whose logs were taken; its hash says whether the chain still has them.
    "rail_tail",
    metadata,
    Column("rail", Text, primary_key=True),
    Column("number", Integer64, nullable=False),
    Column("hash", Hash32, nullable=False),
)
_coin = Table(
    # What a deposit address holds of the chain's coin, and since when: the coin leaves no log.
    "coin_deposit",
    metadata,
    Column("invoice_id", Text, ForeignKey("invoice.id"), primary_key=True),
    Column("address", LargeBinary, nullable=False, unique=True),
    Column("balance", Amount, nullable=False),
    Column("block", Integer64, nullable=False),
    Column("since_s", Integer64, nullable=False),
)


@dataclass(frozen=True)
class Tail:
    """The newest block whose logs were taken."""

    number: int
    hash: bytes


@dataclass(frozen=True)
class Deposit:
    """An invoice's deposit address."""

    invoice_id: str
    address: bytes


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def tail(connection: Connection, rail: str) -> Tail | None:
    """The newest block whose logs were taken."""
    row = connection.execute(select(_tail).where(_tail.c.rail == rail)).first()
    return None if row is None else Tail(row.number, row.hash)


def set_tail(connection: Connection, rail: str, new: Tail) -> None:
    """Note it, in the transaction that takes the logs."""
    row = _insert(connection, _tail).values(rail=rail, number=new.number, hash=new.hash)
    changed = {"number": new.number, "hash": new.hash}
    connection.execute(row.on_conflict_do_update(index_elements=["rail"], set_=changed))


def coin_deposits(
    connection: Connection, asset: str, statuses: Sequence[str], expired_after_s: int, after: str, most: int
) -> list[Deposit]:
    """Deposit addresses of invoices in the coin in these statuses, by id (keyset)."""
    rows = connection.execute(
        select(_invoice.c.id, _invoice.c.deposit_address)
        .where(
            _invoice.c.asset == asset,
            _invoice.c.deposit_address.is_not(None),
            _invoice.c.status.in_(list(statuses)),
            _invoice.c.expires_s > expired_after_s,
            _invoice.c.id > after,
        )
        .order_by(_invoice.c.id)
        .limit(most)
    )
    return [Deposit(row.id, bytes(row.deposit_address)) for row in rows]


def coins_held(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """What was last seen to be held by these invoices' addresses; those that held nothing are left out."""
    rows = connection.execute(
        select(_coin.c.invoice_id, _coin.c.balance).where(_coin.c.invoice_id.in_(list(ids)))
    )
    return {row.invoice_id: row.balance for row in rows if row.balance}


def set_coin(
    connection: Connection, deposit: Deposit, balance: int, block: int, at_s: int, *, is_new: bool
) -> None:
    """Note what an address holds; is_new: it held nothing before, so it has been there since now."""
    row = _insert(connection, _coin).values(
        invoice_id=deposit.invoice_id, address=deposit.address, balance=balance, block=block, since_s=at_s
    )
    changed: dict[str, int] = {"balance": balance, "block": block}
    if is_new:
        changed["since_s"] = at_s
    connection.execute(row.on_conflict_do_update(index_elements=["invoice_id"], set_=changed))


def coin_gone(connection: Connection, invoice_id: str) -> None:
    """Note that an address holds nothing any more."""
    connection.execute(update(_coin).where(_coin.c.invoice_id == invoice_id).values(balance=0))


def coin_since(connection: Connection, address: bytes) -> int | None:
    """Since when an address has held what it holds, or held last."""
    found: int | None = connection.execute(select(_coin.c.since_s).where(_coin.c.address == address)).scalar()
    return found
