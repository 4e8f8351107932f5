"""What can be done with payment links."""

from __future__ import annotations

import re
import secrets

from gateway.db import reading
from gateway.merchants import store as merchants
from gateway.merchants.links import store
from gateway.merchants.links.store import Link
from gateway.payments.service import Payments, Request
from gateway.payments.store import Invoice, Origin
from ledger.records import reject

PREFIX = "pl_"
_ID = re.compile(PREFIX + "[0-9a-f]{24}")
_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class Links:
    """The use cases."""

    def __init__(self, payments: Payments, spread_bps: int) -> None:
        self._payments, self._spread_bps = payments, spread_bps

    def create(
        self,
        merchant_id: str,
        title: str,
        purpose: str,
        asset: str,
        tiyn: int | None,
        *,
        reusable: bool,
        expires_s: int | None,
    ) -> Link:
        """Make a link; its asset and purpose must be such that an invoice could be made now."""
        now = self._payments.clock()
        if not _TEXT.fullmatch(title):
            reject("text", "title", "1 visible character or more, and no control characters or surrogates")
        if tiyn is not None and not 0 < tiyn < 1 << 128:
            reject("E4", "amount", f"an amount is at least 1 tiyn and below 2^128, this is {tiyn}")
        if expires_s is not None and expires_s <= now:
            reject("expired", "expires_s", f"{expires_s} is not after now, {now}")
        view = self._payments.view
        view.check_asset(asset, now)
        rule, _ = view.revenue_rule(purpose, now)
        view.revenue_account(purpose, rule.fund, asset)
        id = PREFIX + secrets.token_hex(12)
        link = Link(id, merchant_id, title, purpose, asset, tiyn, reusable, now, expires_s)
        with self._payments.engine.begin() as connection:
            store.add(connection, link)
        return link

    def look(self, id: str, merchant_id: str | None = None) -> Link:
        """One link; merchant_id: only if it is that merchant's."""
        with reading(self._payments.engine) as connection:
            found = store.link(connection, id) if _ID.fullmatch(id) else None
        if found is None or (merchant_id is not None and found.merchant_id != merchant_id):
            reject("not_found", "link", f"no payment link is called {id[:40]!a}")
        return found

    def list(self, merchant_id: str, before: tuple[int, str], most: int) -> list[Link]:
        """A merchant's links, newest first."""
        with reading(self._payments.engine) as connection:
            return store.links_of(connection, merchant_id, before, most)

    def close(self, merchant_id: str, id: str) -> Link:
        """Let a link make no more invoices; those that it made go on."""
        self.look(id, merchant_id)
        with self._payments.engine.begin() as connection:
            store.close(connection, id, self._payments.clock())
        return self.look(id, merchant_id)

    def is_open(self, link: Link) -> bool:
        """Whether it makes invoices now."""
        now = self._payments.clock()
        return link.closed_s is None and (link.expires_s is None or now < link.expires_s)

    def pay(self, id: str, tiyn: int | None) -> Invoice:
        """Make the invoice of a payer who opened a link, at the rate of now.

        A link that is not reusable has one invoice at a time: the same one for all who open it until it
        expires unpaid, and for ever once money came.
        """
        link = self.look(id)
        if not self.is_open(link):
            reject("expired", "link", "this payment link is closed")
        if link.tiyn is not None:
            tiyn = link.tiyn
        if tiyn is None:
            reject("E4", "amount", "this link is for an amount that the payer says")
        now = self._payments.clock()
        with reading(self._payments.engine) as connection:
            merchant = merchants.merchant_at(connection, link.merchant_id, now)
        assert merchant is not None
        reference = f"{link.id}:{secrets.token_hex(8)}" if link.reusable else link.id
        asked = Request(
            purpose=link.purpose,
            title=link.title,
            tiyn=tiyn,
            asset=link.asset,
            merchant_id=merchant.id,
            merchant_reference=reference,
            payee=merchant.wallet,
            spread_bps=self._spread_bps,
            origin=Origin.LINK,
        )
        return self._payments.create(asked)
