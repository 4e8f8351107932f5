"""Taking evidence: storing what a rail saw and everything that follows from it, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.db import Connection
from gateway.payments import store
from gateway.payments.booking import Booking
from gateway.payments.late import judge_at_once
from gateway.payments.settled import note_settled
from gateway.payments.state import Clock, States
from gateway.payments.store import Seen
from gateway.rails import BOOKS, PAYS, Evidence, Kind, Stage
from ledger.records import reject


class Taking:
    """Takes evidence. It never asks anything outside the database: a rail waits for nobody."""

    def __init__(self, clock: Clock, states: States, booking: Booking) -> None:
        self._clock, self._states, self._booking = clock, states, booking

    def take(self, connection: Connection, seen: Iterable[Evidence]) -> list[str]:
        """Store evidence and what follows; returns the invoices that it touched.

        The caller's transaction also moves the rail's cursor. Evidence that is known is only
        brought to its new stage, so that taking it again changes nothing.
        """
        now = self._clock()
        touched: dict[str, bool] = {}
        for piece in seen:
            known = store.evidence(connection, piece.key)
            counted = known is not None and known.invoice_id is not None and known.stage is not Stage.GONE
            if known is None:
                invoice = store.invoice_for(connection, piece)
                invoice_id = None if invoice is None else invoice.id
                store.add_evidence(connection, piece, invoice_id, now)
            else:
                _check_same(known, piece)
                # What is final stays final: a rail that says otherwise has read an older view.
                if known.stage in {piece.stage, Stage.FINAL}:
                    continue
                store.set_stage(connection, piece.key, piece.stage, now)
                invoice_id = known.invoice_id or self._name(connection, piece)
            if invoice_id is not None:
                self._judge(connection, piece.key, invoice_id, now)
            if piece.stage is Stage.FINAL:
                self._settle(connection, piece, now)
            if invoice_id is not None:
                changed = piece.kind in PAYS and counted is (piece.stage is Stage.GONE)
                touched[invoice_id] = touched.get(invoice_id, False) or changed
        # In one order, so that two workers never wait for each other.
        for invoice_id, changed in sorted(touched.items()):
            self._states.follow(connection, invoice_id, now, changed=changed)
        return list(touched)

    def _name(self, connection: Connection, piece: Evidence) -> str | None:
        """Money that was announced without its reference, and is booked with it, finds its invoice."""
        invoice = store.invoice_for(connection, piece) if piece.reference else None
        if invoice is None:
            return None
        store.set_invoice(connection, piece.key, invoice.id, piece.reference)
        return invoice.id

    def _judge(self, connection: Connection, key: str, invoice_id: str, now: int) -> None:
        seen, invoice = store.evidence(connection, key), store.invoice(connection, invoice_id)
        assert seen is not None
        assert invoice is not None
        judge_at_once(connection, seen, invoice, now)

    def _settle(self, connection: Connection, piece: Evidence, now: int) -> None:
        """Keep what proves final money, ask the ledger for the city's share, note the merchant's."""
        self._booking.keep_proof(connection, piece)
        seen = store.evidence(connection, piece.key)
        assert seen is not None
        if seen.kind not in BOOKS:
            return
        if seen.invoice_id is None:
            if seen.kind is Kind.BANK:
                self._booking.book_unmatched(connection, seen, now)
            return
        note_settled(connection, seen, now)
        if seen.city_minor:
            self._booking.try_book(connection, seen, now)


def _check_same(known: Seen, piece: Evidence) -> None:
    """Refuse another telling of known money that differs in what it is or whose it is (T13)."""
    if (known.kind, known.asset, known.amount_minor) != (piece.kind, piece.asset, piece.amount_minor):
        why = f"was {known.amount_minor} {known.asset}, is told as {piece.amount_minor} {piece.asset}"
        reject("conflict", piece.key, why)
    if known.reference and piece.reference and known.reference != piece.reference:
        reject("conflict", piece.key, f"was for {known.reference}, is told for {piece.reference}")
