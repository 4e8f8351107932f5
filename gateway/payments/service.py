"""What can be done with payments: each use case in one database transaction.

Evidence comes in from rails; the state of an invoice follows from it. When money is
final, the city's share goes to the ledger's inbox in the same transaction as the
evidence, the state and the webhook, so that a crash keeps all of it or none. Each use
case has a file of its own beside this one; `Payments` is the door to all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gateway.db import Connection, Engine, reading
from gateway.ledger_view import LedgerView
from gateway.merchants.policy import Policy
from gateway.payments import store
from gateway.payments.booking import Booking
from gateway.payments.creation import CITY, ChainQuotes, Creation, Limits, Rates, Request
from gateway.payments.late import Lateness
from gateway.payments.model import Derived, Status
from gateway.payments.state import EVIDENCE_TOLD, Clock, States
from gateway.payments.store import Invoice, Seen
from gateway.payments.taking import Taking
from gateway.rails import BOOKS, Evidence
from ledger import store as ledger_store
from ledger.records import reject

EXPIRED_AT_ONCE = 500
_ID = re.compile("[0-9abcdefghjkmnpqrstvwxyz]{26}")


class Payments:
    """The use cases."""

    def __init__(
        self,
        engine: Engine,
        view: LedgerView,
        clock: Clock,
        rates: Rates,
        chain: ChainQuotes | None,
        limits: Limits | None = None,
    ) -> None:
        self.engine, self.view, self.clock, self.rates, self.chain = engine, view, clock, rates, chain
        self.states = States(
            None if chain is None else chain.rail, None if chain is None else chain.coin_asset
        )
        self.booking = Booking(engine, view, clock)
        # When nobody is quoted; None: nobody asks.
        self.limits = limits
        self._creation = Creation(engine, view, clock, rates, chain, self.states, limits)
        self._taking = Taking(clock, self.states, self.booking)
        self._lateness = Lateness(engine, clock, rates, self.states)

    def create(self, request: Request, idempotency_key: str | None = None) -> Invoice:
        """Make an invoice with a quote that is locked until it expires (P1), or find the one there is."""
        return self._creation.create(request, idempotency_key)

    def create_at_once(
        self, request: Request, idempotency_key: str | None, key_id: str, policy: Policy
    ) -> Invoice | None:
        """Make an invoice in one statement; None where `create` must take the steps one by one."""
        return self._creation.create_at_once(request, idempotency_key, key_id, policy)

    def take(self, connection: Connection, seen: Iterable[Evidence]) -> list[str]:
        """Store evidence and everything that follows from it; returns the invoices that it touched."""
        return self._taking.take(connection, seen)

    def decide_late(self) -> int:
        """Decide by policy and rate about money that came late; returns how many were decided."""
        return self._lateness.decide()

    def book_again(self) -> int:
        """Book what could not be booked before; returns how many pieces went to the ledger."""
        return self.booking.book_again()

    def take_answers(self) -> None:
        """Note where the ledger recorded what was submitted; what it refused goes to the queue."""
        self.booking.take_answers()

    def expire(self) -> int:
        """Move invoices without enough money whose time is over; returns how many were looked at."""
        now, after, looked = self.clock(), (-1, ""), 0
        while True:
            # A page a transaction: after an outage there may be many, and nobody waits for all of them.
            with self.engine.begin() as connection:
                chain_s = 0 if self.chain is None else store.seen_until(connection, self.chain.rail)
                late = store.expiring(connection, now, min(now, chain_s), after, EXPIRED_AT_ONCE)
                for invoice in late:
                    self.states.follow(connection, invoice.id, now)
            looked += len(late)
            if len(late) < EXPIRED_AT_ONCE:
                return looked
            after = (late[-1].expires_s, late[-1].id)

    def void(self, invoice_id: str) -> Derived:
        """Withdraw an invoice, for ever; money that comes all the same is told like any other."""
        now = self.clock()
        with self.engine.begin() as connection:
            if not _ID.fullmatch(invoice_id) or not store.set_voided(connection, invoice_id):
                reject("not_found", "invoice", f"no invoice is called {invoice_id[:40]!a}")
            return self.states.follow(connection, invoice_id, now)[1]

    def claim(self, invoice_id: str, actor: str) -> bool:
        """Claim the goods of an order: True once, and only on final money (field failures 20, 42)."""
        now = self.clock()
        with self.engine.begin() as connection:
            if not _ID.fullmatch(invoice_id) or store.invoice(connection, invoice_id) is None:
                reject("not_found", "invoice", f"no invoice is called {invoice_id[:40]!a}")
            # Locked, so that no refund starts between looking and handing over.
            invoice = store.locked_invoice(connection, invoice_id)
            derived, _ = self.states.derive(connection, invoice, now)
            if derived.status is not Status.FINAL:
                reject(
                    "P4",
                    "claim",
                    f"goods are released on final money, this invoice is {derived.status.value}",
                )
            return store.claim_order(connection, invoice_id, actor, now)

    def look(self, id: str) -> tuple[Invoice, Derived, list[Seen]]:
        """An invoice, its state now, and its evidence."""
        with reading(self.engine) as connection:
            invoice = store.invoice(connection, id) if _ID.fullmatch(id) else None
            if invoice is None:
                reject("not_found", "invoice", f"no invoice is called {id[:40]!a}")
            derived, seen = self.states.derive(connection, invoice, self.clock())
            return invoice, derived, seen

    def position(self, id: str) -> int | None:
        """Where on the ledger the city's share of an invoice is recorded; None while it is not."""
        with reading(self.engine) as connection:
            return _position(connection, store.evidence_of(connection, id))

    def told(self, invoices: Sequence[Invoice]) -> list[tuple[Invoice, Derived, int | None]]:
        """Invoices with their states now, and where on the ledger the city's share of each is recorded."""
        now, found = self.clock(), []
        with reading(self.engine) as connection:
            for invoice in invoices:
                derived, seen = self.states.derive(connection, invoice, now)
                found.append((invoice, derived, _position(connection, seen)))
        return found


def _position(connection: Connection, seen: Sequence[Seen]) -> int | None:
    for piece in seen:
        if piece.transfer_id is not None and piece.kind in BOOKS:
            position = ledger_store.position_of_transfer(connection, piece.transfer_id)
            if position is not None:
                return position
    return None


def is_settled(status: Status) -> bool:
    """Whether a merchant may hand over the goods."""
    return status in {Status.PAID, Status.FINAL}


__all__ = [
    "CITY",
    "EVIDENCE_TOLD",
    "ChainQuotes",
    "Clock",
    "Payments",
    "Rates",
    "Request",
    "is_settled",
]
