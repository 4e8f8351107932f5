"""Keeping an invoice's stored status, and what merchants are told, to what the evidence says."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence

from gateway.db import Connection
from gateway.payments import store
from gateway.payments.model import MOVES, Derived, Payment, derive, follow
from gateway.payments.over import ask_back
from gateway.payments.parts import going_back
from gateway.payments.store import Invoice, Seen
from gateway.payments.store.coins import coin_held
from gateway.rails import Kind, Stage
from gateway.webhooks import store as webhooks
from ledger.rules import TENGE

Clock = Callable[[], int]
EVIDENCE_TOLD = 50
LOGGER = logging.getLogger(__name__)


class States:
    """Derives the state of an invoice from its rows.

    rail: whose blindness stops its time, if any; coin: the asset that leaves no log when it comes.
    """

    def __init__(self, rail: str | None, coin: str | None = None) -> None:
        self._rail, self._coin = rail, coin

    def derive(self, connection: Connection, invoice: Invoice, now: int) -> tuple[Derived, list[Seen]]:
        """The state of an invoice now, and its evidence."""
        seen = store.evidence_of(connection, invoice.id)
        back = going_back(connection, invoice, seen)
        until = min(now, self.known_until(connection, invoice.asset, now))
        payments = [piece.payment for piece in seen]
        if self._coin is not None and invoice.asset == self._coin:
            payments += self._held(connection, invoice, seen)
        return derive(invoice.terms, payments, until, back, now), seen

    def _held(self, connection: Connection, invoice: Invoice, seen: Sequence[Seen]) -> list[Payment]:
        """What the address holds of the coin: detected and no more, until its flush is the evidence.

        It is no row of evidence: nothing is final, booked, settled or refunded by it. Evidence of a later
        block than it was read at may be its flush, and then it would count twice.
        """
        held = coin_held(connection, invoice.id)
        later = [piece for piece in seen if piece.stage is not Stage.GONE and piece.asset == invoice.asset]
        if held is None or any((piece.block or 0) > held.block for piece in later):
            return []
        in_time = held.since_s <= invoice.expires_s
        return [
            Payment(
                Kind.DEPOSIT, Stage.DETECTED, invoice.asset, held.balance, held.since_s, is_accepted=in_time
            )
        ]

    def known_until(self, connection: Connection, asset: str, now: int) -> int:
        """Up to when all payments in an asset are known: nothing expires that may be paid unseen."""
        if asset == TENGE or self._rail is None:
            return now
        return store.seen_until(connection, self._rail)

    def follow(
        self, connection: Connection, invoice_id: str, now: int, *, changed: bool = False
    ) -> tuple[Invoice, Derived]:
        """Bring the stored status to what the evidence says; changed: the money did."""
        invoice = store.locked_invoice(connection, invoice_id)
        derived, seen = self.derive(connection, invoice, now)
        if any(piece.kind is Kind.DEPOSIT for piece in seen):
            store.note_waiting(connection, invoice_id, seen)
        if derived.status is not invoice.status and derived.status not in MOVES[invoice.status]:
            LOGGER.error("invoice %s: %s to %s is no move", invoice.id, invoice.status, derived.status)
        if ask_back(connection, invoice, derived, seen, now) is not None:
            derived, seen = self.derive(connection, invoice, now)
            changed = True
        status = follow(invoice.status, derived)
        if status is not invoice.status:
            store.set_status(connection, invoice_id, status, now)
            self._tell(connection, invoice, derived, seen, now)
        elif changed:
            # More money, or less: the merchant learns of it though the status is the same.
            self._tell(connection, invoice, derived, seen, now, "updated")
        return invoice, derived

    def tell_new(self, connection: Connection, invoice: Invoice, now: int) -> None:
        """Tell the merchant of an invoice that was just made."""
        self._tell(connection, invoice, derive(invoice.terms, [], now), [], now)

    def _tell(
        self,
        connection: Connection,
        invoice: Invoice,
        derived: Derived,
        seen: Sequence[Seen],
        now: int,
        event: str | None = None,
    ) -> None:
        """Tell the merchant: invoice.<status>, or invoice.updated where only the money changed."""
        if invoice.merchant_id is None:
            return
        type, body = self.event(invoice, derived, seen, now, event)
        webhooks.enqueue(connection, invoice.merchant_id, invoice.id, type, body, now)

    def event(
        self,
        invoice: Invoice,
        derived: Derived,
        seen: Sequence[Seen],
        now: int,
        event: str | None = None,
    ) -> tuple[str, bytes]:
        """The type and the body of what a merchant is told of an invoice."""
        type = f"invoice.{event or derived.status.value}"
        data = {
            "invoice": invoice.id,
            "reference": invoice.merchant_reference,
            "status": derived.status.value,
            "notes": sorted(note.value for note in derived.notes),
            "asset": invoice.asset,
            "due": str(invoice.due_minor),
            "paid": str(derived.paid_minor),
            "missing": str(derived.missing_minor),
            "over": str(derived.over_minor),
            "held": str(derived.held_minor),
            "refunded": str(derived.refunded_minor),
            # The newest: an event has a bounded size, whoever sends how many small payments.
            "evidence": [piece.key for piece in seen if piece.stage is not Stage.GONE][-EVIDENCE_TOLD:],
        }
        body = json.dumps({"type": type, "timestamp": now, "data": data}, separators=(",", ":"))
        return type, body.encode()
