"""Billing a city fee."""

from __future__ import annotations

from gateway.city_fees.catalogue import fee
from gateway.kz import business_date
from gateway.payments.service import Payments, Request
from gateway.payments.store import Invoice, Origin
from ledger.rules import TENGE

BILL_LIFETIME_S = 30 * 86_400
QUOTE_LIFETIME_S = 900


def bill(payments: Payments, id: str, asset: str, idempotency_key: str | None = None) -> Invoice:
    """Make an invoice for a fee at today's price; without a spread, whatever it is paid in (LEAKS 09).

    idempotency_key: the same key gives the same bill.
    """
    found = fee(id)
    lifetime = BILL_LIFETIME_S if asset == TENGE else QUOTE_LIFETIME_S
    tiyn = found.tiyn(business_date(payments.clock()))
    asked = Request(found.code, found.id, tiyn, asset, lifetime_s=lifetime, origin=Origin.FEE)
    return payments.create(asked, idempotency_key)
