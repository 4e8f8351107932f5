"""A bill whose price ran out before anything was paid: its payer makes the next one, and the old one stays.

Only what a page of ours had made: where a merchant's program asks for money, it alone knows what still
stands. Nothing is made while money for the old one may be on its way, or who paid in time would pay twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from gateway.city_fees.service import bill
from gateway.db import Connection, reading
from gateway.merchants import store as merchants
from gateway.merchants.links.service import Links
from gateway.payments import store
from gateway.payments.model import Derived, Status
from gateway.payments.service import CITY, Payments, Request
from gateway.payments.store import Invoice, Origin, Seen
from gateway.relayer import store as relayer_store
from ledger.records import Invalid, reject

# Who stood at a till has come back by then, or has paid another way.
TILL_S = 86_400


class Renewable(StrEnum):
    """Whether a payer may make the next one."""

    NO = "no"
    WAITING = "waiting"  # its time is over, and money came or may be on its way
    OFFERED = "offered"


class Renewal:
    """The next invoice of one that expired wholly unpaid."""

    def __init__(self, payments: Payments, links: Links, spread_bps: int) -> None:
        self._payments, self._links, self._spread_bps = payments, links, spread_bps

    def of(self, invoice: Invoice, derived: Derived, seen: Sequence[Seen]) -> Renewable:
        """Whether the next one is offered. No time passes unseen: nothing expires while the rail is blind."""
        if derived.status is not Status.EXPIRED:
            return Renewable.NO
        with reading(self._payments.engine) as connection:
            if seen or derived.paid_minor or derived.held_minor or _is_brought(connection, invoice):
                return Renewable.WAITING
        return Renewable.OFFERED if self._is_ours(invoice) else Renewable.NO

    def renew(self, id: str) -> Invoice:
        """Make the next invoice, for the same amount and reference at the rate of now; again gives the same.

        A fee costs what it costs by law today. Invalid where it is not offered: the old one says why.
        """
        invoice, derived, seen = self._payments.look(id)
        found = self.of(invoice, derived, seen)
        if found is not Renewable.OFFERED:
            why = f"this invoice is {derived.status.value}, {derived.paid_minor} of {invoice.due_minor} came"
            reject("renewal", "invoice", f"{why}; the next one of it is not offered: {found.value}")
        return self._renew_fee(invoice) if invoice.origin is Origin.FEE else self._renew_sale(invoice)

    def _is_ours(self, invoice: Invoice) -> bool:
        """Whether a page of ours made it, and would make it now."""
        if invoice.origin is Origin.TILL:
            return self._payments.clock() < invoice.expires_s + TILL_S
        if invoice.origin is not Origin.LINK:
            return invoice.origin is Origin.FEE
        try:
            link = self._links.look(str(invoice.merchant_reference).partition(":")[0], invoice.merchant_id)
        except Invalid:
            return False
        return self._links.is_open(link)

    def _renew_fee(self, invoice: Invoice) -> Invoice:
        # The bill has no reference of the payer's: what came after it is known by a key made of its id.
        key = f"after:{invoice.id}"
        with reading(self._payments.engine) as connection:
            known = store.idempotent(connection, CITY, key)
            if known is not None:
                found = store.invoice(connection, known[1])
                assert found is not None
                return found
        return bill(self._payments, invoice.title, invoice.asset, key)

    def _renew_sale(self, invoice: Invoice) -> Invoice:
        assert invoice.merchant_id is not None
        assert invoice.merchant_reference is not None
        with reading(self._payments.engine) as connection:
            merchant = merchants.merchant_at(connection, invoice.merchant_id, self._payments.clock())
            newest = store.invoice_of_merchant(connection, invoice.merchant_id, invoice.merchant_reference)
        assert merchant is not None
        assert newest is not None
        if newest.id != invoice.id:
            # Somebody pressed before: that one is shown, unless it ran out as well and nothing is in its way.
            _, derived, seen = self._payments.look(newest.id)
            if derived.status is Status.VOID:
                reject("renewal", "invoice", "the payee withdrew the one that came after this")
            if self.of(newest, derived, seen) is not Renewable.OFFERED:
                return newest
        asked = Request(
            purpose=invoice.purpose,
            title=invoice.title,
            tiyn=invoice.tiyn,
            asset=invoice.asset,
            merchant_id=invoice.merchant_id,
            merchant_reference=invoice.merchant_reference,
            payee=merchant.wallet,
            spread_bps=self._spread_bps,
            refund_to=invoice.refund_to,
            return_url=invoice.return_url,
            origin=invoice.origin,
        )
        return self._payments.create(asked)


def _is_brought(connection: Connection, invoice: Invoice) -> bool:
    """Whether a payer's signature was brought that has not come to nothing."""
    return any(one.state != relayer_store.FAILED for one in relayer_store.of_invoice(connection, invoice.id))


__all__ = ["Renewable", "Renewal"]
