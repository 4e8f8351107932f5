"""The rows of watching: up to which block logs were taken, and whose balances are to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Table, Text, select

from gateway.db import Hash32, Integer64, insert_into, metadata
from gateway.payments.store.coins import coin as _coin
from gateway.payments.store.tables import invoice as _invoice

_tail = Table(
    # The newest block whose logs were taken; its hash says whether the chain still has them.
    "rail_tail",
    metadata,
    Column("rail", Text, primary_key=True),
    Column("number", Integer64, nullable=False),
    Column("hash", Hash32, nullable=False),
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


def tail(connection: Connection, rail: str) -> Tail | None:
    """The newest block whose logs were taken."""
    row = connection.execute(select(_tail).where(_tail.c.rail == rail)).first()
    return None if row is None else Tail(row.number, row.hash)


def set_tail(connection: Connection, rail: str, new: Tail) -> None:
    """Note it, in the transaction that takes the logs."""
    row = insert_into(connection, _tail).values(rail=rail, number=new.number, hash=new.hash)
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


def coin_holders(connection: Connection, statuses: Sequence[str], expired_after_s: int) -> list[Deposit]:
    """Addresses that held some when they were last looked at, and are not among `coin_deposits`, by id."""
    expected = _invoice.c.status.in_(list(statuses)) & (_invoice.c.expires_s > expired_after_s)
    rows = connection.execute(
        select(_coin.c.invoice_id, _coin.c.address)
        .join(_invoice, _invoice.c.id == _coin.c.invoice_id)
        .where(_coin.c.balance != 0, ~expected)
        .order_by(_coin.c.invoice_id)
    )
    return [Deposit(row.invoice_id, bytes(row.address)) for row in rows]
