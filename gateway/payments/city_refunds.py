"""The city's refunds as an operator sees them: what to have the bank pay, and what the bank booked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.db import Engine, reading
from gateway.payments.by_bank import IS_OUT, bank_reference
from gateway.payments.refund_model import Refund, RefundState
from gateway.payments.store import bank
from gateway.payments.store import refunds as rows
from gateway.payments.store.bank import BankBooking
from ledger.rules import TENGE


@dataclass(frozen=True)
class ToPay:
    """A payment that a person has the bank make. iban: None where only its hash is known."""

    iban: str | None
    amount_minor: int
    reference: str


@dataclass(frozen=True)
class CityRefund:
    """A refund, what is to be paid of it now by bank, and what the bank booked."""

    refund: Refund
    pay: ToPay | None
    booked: Sequence[BankBooking]


def city_refunds(engine: Engine, before: tuple[int, str], most: int) -> list[CityRefund]:
    """The city's refunds, newest first, a page at a time."""
    with reading(engine) as connection:
        found = rows.refunds_of_merchant(connection, None, before, most)
        ids = [one.id for one in found if one.asset == TENGE]
        booked, accounts = bank.bookings_of(connection, ids), bank.accounts_of(connection, ids)
    made = []
    for refund in found:
        mine = [one for one in booked if one.refund_id == refund.id]
        made.append(CityRefund(refund, _to_pay(refund, mine, accounts.get(refund.id)), mine))
    return made


def _to_pay(refund: Refund, booked: Sequence[BankBooking], iban: str | None) -> ToPay | None:
    """What is to be paid: nothing before it may go, and nothing while something left under its reference."""
    is_out = any(not one.is_back and one.state in IS_OUT for one in booked)
    if refund.asset != TENGE or refund.state is not RefundState.PENDING or is_out:
        return None
    return ToPay(iban, refund.amount_minor, bank_reference(refund.id))
