"""Billing a city fee."""

from __future__ import annotations

from gateway.city_fees.catalogue import fee
from gateway.kz import business_date
from gateway.payments.service import Payments, Request
from gateway.payments.store import Invoice
from ledger.rules import TENGE

BILL_LIFETIME_S = 30 * 86_400
QUOTE_LIFETIME_S = 900


def bill(payments: Payments, id: str, asset: str) -> Invoice:
    """Make an invoice for a fee at today's price; without a spread, whatever it is paid in (LEAKS 09)."""
    found = fee(id)
    lifetime = BILL_LIFETIME_S if asset == TENGE else QUOTE_LIFETIME_S
    tiyn = found.tiyn(business_date(payments.clock()))
    return payments.create(Request(found.code, found.id, tiyn, asset, lifetime_s=lifetime))
