"""What the bank booked of refunds, and to which accounts it is to pay them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.db import insert_into
from gateway.payments.store import tables


class BookingState(StrEnum):
    """What a booking of the bank means for its refund."""

    FITS = "fits"  # pays it, once the ledger's promise is in effect
    USED = "used"  # paid it
    WRONG = "wrong"  # counts for nothing: a person looks
    RETURNED = "returned"  # went out, and came back
    BACK = "back"  # came back after it had counted: it is in the queue as money
    UNDONE = "undone"  # came back before it had counted: as if nothing had been


@dataclass(frozen=True)
class BankBooking:
    """One booking under a refund's reference. is_back: it came back; commitment: to what the bank said."""

    key: str
    refund_id: str
    amount_minor: int
    is_back: bool
    state: BookingState
    why: str
    commitment: bytes
    seen_s: int


def _of(row: Any) -> BankBooking:
    return BankBooking(
        row.key,
        row.refund_id,
        row.amount,
        bool(row.is_back),
        BookingState(row.state),
        row.why,
        bytes(row.commitment),
        row.seen_s,
    )


def booking(connection: Connection, key: str) -> BankBooking | None:
    """The booking with this key."""
    row = connection.execute(select(tables.bank_refund).where(tables.bank_refund.c.key == key)).first()
    return None if row is None else _of(row)


def returned_why(connection: Connection, key: str) -> str | None:
    """Why money came back of a refund; None for other money."""
    found = booking(connection, key)
    return None if found is None else found.why


def add_booking(connection: Connection, made: BankBooking) -> None:
    """Note a booking for the first time."""
    connection.execute(
        insert(tables.bank_refund).values(
            key=made.key,
            refund_id=made.refund_id,
            amount=made.amount_minor,
            is_back=int(made.is_back),
            state=made.state.value,
            why=made.why,
            commitment=made.commitment,
            seen_s=made.seen_s,
        )
    )


def set_booking(connection: Connection, key: str, state: BookingState, why: str) -> None:
    """Note what a booking means by now."""
    connection.execute(
        update(tables.bank_refund).where(tables.bank_refund.c.key == key).values(state=state.value, why=why)
    )


def bookings_of(connection: Connection, ids: Collection[str]) -> list[BankBooking]:
    """What the bank booked of these refunds, in the order in which it was seen."""
    column = tables.bank_refund.c
    rows = connection.execute(
        select(tables.bank_refund)
        .where(column.refund_id.in_(sorted(ids)))
        .order_by(column.seen_s, column.is_back, column.key)
    )
    return [_of(row) for row in rows]


def add_account(connection: Connection, refund_id: str, iban: str) -> None:
    """Keep to which account a refund is to be paid."""
    new = insert_into(connection, tables.refund_account).values(refund_id=refund_id, iban=iban)
    connection.execute(new.on_conflict_do_nothing(index_elements=["refund_id"]))


def accounts_of(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """To which accounts these refunds are to be paid, where that is known and not erased."""
    column = tables.refund_account.c
    rows = connection.execute(select(column.refund_id, column.iban).where(column.refund_id.in_(sorted(ids))))
    return {row.refund_id: row.iban for row in rows}
