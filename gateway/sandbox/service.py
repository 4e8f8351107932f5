"""The sandbox: the same requests, states and webhooks as live, and no money, no chain, no ledger.

What is made here lives in tables of its own, so that no mistake can book it; it reads the same rates
and allow-list, so that what is refused live is refused here.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass

from gateway.db import Connection, Engine, reading
from gateway.ledger_view import LedgerView
from gateway.merchants.roles import sandbox_of
from gateway.payments.model import Derived, Status, derive
from gateway.payments.service import Clock, Rates
from gateway.rails import Stage
from gateway.rates import quote_amount
from gateway.sandbox import store
from gateway.sandbox.store import SandboxInvoice
from gateway.webhooks import store as webhooks
from ledger.records import Unavailable, reject
from ledger.rules import TENGE

PREFIX = "test_"
LIFETIME_S = 900
ATTEMPTS = 5
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(f"{PREFIX}[{_ALPHABET}]{{26}}")
_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True)
class Order:
    """What an invoice is asked for."""

    merchant_id: str
    reference: str
    purpose: str
    title: str
    tiyn: int
    asset: str
    spread_bps: int = 0
    return_url: str | None = None


class Sandbox:
    """The use cases, each in one transaction."""

    def __init__(self, engine: Engine, view: LedgerView, clock: Clock, rates: Rates) -> None:
        self._engine, self._view, self._clock, self._rates = engine, view, clock, rates

    def create(self, order: Order) -> tuple[SandboxInvoice, Derived]:
        """Make an invoice; the same reference gives the same one while it can be paid or has money."""
        for where, text in (("title", order.title), ("reference", order.reference)):
            if not _TEXT.fullmatch(text):
                reject("text", where, "1 visible character or more, and no control characters or surrogates")
        for _ in range(ATTEMPTS):
            now = self._clock()
            with reading(self._engine) as connection:
                known, attempt = self._known(connection, order, now)
            if known is not None:
                return known
            # The rate may have to be asked for, and is kept for all: no transaction waits for that.
            invoice = self._quoted(order, attempt, now)
            with self._engine.begin() as connection:
                known, _ = self._known(connection, order, now)
                if known is not None:
                    return known
                if store.add(connection, invoice):
                    derived = self._derive(connection, invoice, now)
                    self._tell(connection, invoice, derived, now)
                    return invoice, derived
        raise Unavailable("sandbox", f"overtaken {ATTEMPTS} times by the same request")

    def _known(
        self, connection: Connection, order: Order, now: int
    ) -> tuple[tuple[SandboxInvoice, Derived] | None, int]:
        """The invoice that this reference has already, or else which attempt of it comes next."""
        same = store.newest(connection, order.merchant_id, order.reference)
        if same is None:
            return None, 0
        derived = self._derive(connection, same, now)
        if derived.paid_minor == 0 and derived.status in {Status.EXPIRED, Status.VOID}:
            return None, same.attempt + 1
        return (self._same(same, order), derived), 0

    def _same(self, same: SandboxInvoice, order: Order) -> SandboxInvoice:
        if (same.tiyn, same.purpose, same.asset) != (order.tiyn, order.purpose, order.asset):
            was = f"{same.tiyn} tiyn in {same.asset} for {same.purpose}"
            now = f"{order.tiyn} in {order.asset} for {order.purpose}"
            reject("conflict", "reference", f"this reference has an invoice of {was}, not of {now}")
        return same

    def _quoted(self, order: Order, attempt: int, now: int) -> SandboxInvoice:
        if not 0 < order.tiyn < 1 << 128:
            reject("E4", "amount", f"an amount is at least 1 tiyn and below 2^128, this is {order.tiyn}")
        if order.asset == TENGE:
            reject("P7", "asset", "a merchant is not paid in tenge here: there are no payouts yet")
        self._view.check_asset(order.asset, now)
        self._view.revenue_rule(order.purpose, now)
        believed = self._rates.current(order.asset)
        rate = {
            "numerator": str(believed.numerator),
            "denominator": str(believed.denominator),
            "spread_bps": order.spread_bps,
            "time_s": believed.time_s,
            "sources": [{"name": source.source, "sha256": source.sha256} for source in believed.sources],
        }
        id = PREFIX + "".join(_ALPHABET[byte % 32] for byte in secrets.token_bytes(26))
        return SandboxInvoice(
            id,
            order.merchant_id,
            order.reference,
            attempt,
            order.purpose,
            order.title,
            order.tiyn,
            order.asset,
            quote_amount(order.tiyn, believed, order.spread_bps),
            json.dumps(rate),
            now,
            now + LIFETIME_S,
            return_url=order.return_url,
        )

    def pay(
        self, merchant_id: str, id: str, amount_minor: int | None, stage: Stage
    ) -> tuple[SandboxInvoice, Derived]:
        """Pretend that money came: by default what is missing. All of the invoice's comes to the stage."""
        now = self._clock()
        with self._engine.begin() as connection:
            invoice = self._one(connection, merchant_id, id, lock=True)
            before = self._derive(connection, invoice, now)
            amount = before.missing_minor if amount_minor is None else amount_minor
            if before.paid_minor + amount >= 1 << 128:
                reject("E4", "amount", "an amount is below 2^128")
            store.pay(connection, id, amount, stage, now)
            derived = self._derive(connection, invoice, now)
            if (before.status, before.paid_minor) != (derived.status, derived.paid_minor):
                self._tell(connection, invoice, derived, now, changed=before.status is derived.status)
        return invoice, derived

    def void(self, merchant_id: str, id: str) -> tuple[SandboxInvoice, Derived]:
        """Void an invoice that has no money; again changes nothing."""
        now = self._clock()
        with self._engine.begin() as connection:
            invoice = self._one(connection, merchant_id, id, lock=True)
            if not invoice.voided:
                derived = self._derive(connection, invoice, now)
                if derived.paid_minor:
                    reject("conflict", "invoice", f"it has {derived.paid_minor}: refund it")
                store.void(connection, id)
                invoice = self._one(connection, merchant_id, id)
                self._tell(connection, invoice, self._derive(connection, invoice, now), now)
            return invoice, self._derive(connection, invoice, now)

    def look(self, merchant_id: str | None, id: str) -> tuple[SandboxInvoice, Derived]:
        """An invoice and its state now; merchant_id: None for its page, which whoever has the id may see."""
        with reading(self._engine) as connection:
            invoice = self._one(connection, merchant_id, id)
            return invoice, self._derive(connection, invoice, self._clock())

    def list(
        self, merchant_id: str, before: tuple[int, str], most: int
    ) -> list[tuple[SandboxInvoice, Derived]]:
        """A merchant's invoices, newest first."""
        now = self._clock()
        with reading(self._engine) as connection:
            found = store.invoices(connection, merchant_id, before, most)
            return [(invoice, self._derive(connection, invoice, now)) for invoice in found]

    def _one(
        self, connection: Connection, merchant_id: str | None, id: str, *, lock: bool = False
    ) -> SandboxInvoice:
        found = store.invoice(connection, merchant_id, id, lock=lock) if _ID.fullmatch(id) else None
        if found is None:
            reject("not_found", "invoice", f"no invoice of the sandbox is called {id[:40]!a}")
        return found

    def _derive(self, connection: Connection, invoice: SandboxInvoice, now: int) -> Derived:
        return derive(invoice.terms, store.payments(connection, invoice), now)

    def _tell(
        self,
        connection: Connection,
        invoice: SandboxInvoice,
        derived: Derived,
        now: int,
        *,
        changed: bool = False,
    ) -> None:
        """Write the event that a live invoice would have, marked, for endpoints of the sandbox alone."""
        type = "invoice.updated" if changed else f"invoice.{derived.status.value}"
        told = {
            "invoice": invoice.id,
            "reference": invoice.reference,
            "status": derived.status.value,
            "notes": sorted(note.value for note in derived.notes),
            "asset": invoice.asset,
            "due": str(invoice.due_minor),
            "paid": str(derived.paid_minor),
            "missing": str(derived.missing_minor),
            "over": str(derived.over_minor),
            "held": str(derived.held_minor),
            "refunded": str(derived.refunded_minor),
            "evidence": [],
            "sandbox": True,
        }
        body = json.dumps({"type": type, "timestamp": now, "data": told}, separators=(",", ":"))
        owner = sandbox_of(invoice.merchant_id)
        webhooks.enqueue(connection, owner, invoice.id, type, body.encode(), now)
