"""Asking the ledger to record the city's money: gross, once for each piece of evidence."""

from __future__ import annotations

import json
import logging
import secrets
from hashlib import sha256

from gateway.db import Connection, Engine, reading
from gateway.erasure.listing import evidence_name
from gateway.ledger_view import LedgerView
from gateway.payments import store
from gateway.payments.state import Clock
from gateway.payments.store import Seen
from gateway.rails import BOOKS, Evidence
from ledger import store as ledger_store
from ledger.records import ZERO_HASH, Invalid, Transfer, decode, hash_struct
from ledger.writer import submit

LOGGER = logging.getLogger(__name__)
# The purpose of money of which nobody knows what it is for.
UNMATCHED = "unmatched"


def transfer_id(key: str) -> bytes:
    """The id under which evidence is booked: the same however often it is tried (field failure 81)."""
    return sha256(b"transfer " + key.encode()).digest()


def receiver_word(receiver: bytes | None) -> bytes:
    """An address as the ledger's word; zero where nobody said anything."""
    return bytes(32) if receiver is None else receiver.rjust(32, b"\0")


class Booking:
    """Submits transfers in the caller's transaction and notes what became of them."""

    def __init__(self, engine: Engine, view: LedgerView, clock: Clock) -> None:
        self._engine, self._view, self._clock = engine, view, clock

    def keep_proof(self, connection: Connection, piece: Evidence) -> None:
        """Keep what proves final money but is personal, behind a salted commitment (L7).

        Where it was erased and the bank's file is read again, salt and content are forgotten here: the
        commitment is all that a record needs (field failure 76).
        """
        if piece.private and not piece.document:
            salt = secrets.token_bytes(32)
            commitment = sha256(salt + piece.private).digest()
            if not store.is_erased(connection, bytes.fromhex(evidence_name(piece.key))):
                store.add_private(connection, commitment, salt, piece.private)
            store.set_commitment(connection, piece.key, commitment)

    def try_book(self, connection: Connection, seen: Seen, now: int) -> bool:
        """Submit the city's share, or note why it cannot be yet."""
        try:
            self._book(connection, seen, now)
        except Invalid as refused:
            # An account or a rule is missing. That must not stop the rail for everybody: the
            # invoice is paid, and its revenue waits in the queue until it can be booked.
            LOGGER.warning("%s is not booked: %s", seen.key, refused)
            store.set_answer(connection, seen.key, None, str(refused))
            return False
        return True

    def _book(self, connection: Connection, piece: Seen, now: int) -> None:
        assert piece.invoice_id is not None
        invoice = store.invoice(connection, piece.invoice_id)
        assert invoice is not None
        rule, authority = self._view.revenue_rule(invoice.purpose, now)
        debit = self._view.money_account(rule.fund, piece.asset)
        credit = self._view.revenue_account(invoice.purpose, rule.fund, piece.asset)
        evidence_hash = _evidence_hash(connection, piece)
        assert evidence_hash is not None, "what moves the city's money has a document or a commitment"
        transfer = Transfer(
            time=0,
            id=transfer_id(piece.key),
            debit=debit,
            credit=credit,
            asset=piece.asset,
            amount=piece.city_minor,
            purpose=invoice.purpose,
            authority=authority,
            evidence=evidence_hash,
            refund_to=receiver_word(invoice.refund_to),
        )
        submit(connection, transfer, now)
        store.set_booked(connection, piece.key, evidence_hash, transfer.id)

    # --- what nobody could match (SPEC W3, W4) ----------------------------------------------

    def book_unmatched(self, connection: Connection, piece: Seen, now: int) -> None:
        """Count money of the bank apart until somebody claims it, where there is an account for that."""
        found = self._view.unmatched_account(piece.asset)
        evidence_hash = piece.evidence_hash
        if found is None or evidence_hash is None or piece.transfer_id is not None:
            return
        fund, payable = found
        transfer = Transfer(
            time=0,
            id=transfer_id(piece.key),
            debit=self._view.money_account(fund, piece.asset),
            credit=payable,
            asset=piece.asset,
            amount=piece.city_minor,
            purpose=UNMATCHED,
            authority=ZERO_HASH,
            evidence=evidence_hash,
        )
        submit(connection, transfer, now)
        store.set_booked(connection, piece.key, evidence_hash, transfer.id)

    def try_match(self, connection: Connection, piece: Seen, now: int) -> None:
        """Give unmatched money to the code of the invoice that it was assigned to."""
        assert piece.invoice_id is not None
        invoice = store.invoice(connection, piece.invoice_id)
        assert invoice is not None
        self._match(connection, piece, invoice.purpose, f"invoice {invoice.id}", now)

    def retain(self, connection: Connection, piece: Seen, code: str, now: int) -> None:
        """Give what is nobody's to a code; booked gross where it was not booked before."""
        evidence_hash = _evidence_hash(connection, piece)
        if piece.transfer_id is not None:
            self._match(connection, piece, code, "nobody for a year", now)
        elif evidence_hash is not None and piece.city_minor:
            rule, authority = self._view.revenue_rule(code, now)
            transfer = Transfer(
                time=0,
                id=transfer_id(piece.key),
                debit=self._view.money_account(rule.fund, piece.asset),
                credit=self._view.revenue_account(code, rule.fund, piece.asset),
                asset=piece.asset,
                amount=piece.city_minor,
                purpose=code,
                authority=authority,
                evidence=evidence_hash,
            )
            submit(connection, transfer, now)
            store.set_booked(connection, piece.key, evidence_hash, transfer.id)

    def _match(self, connection: Connection, piece: Seen, code: str, whose: str, now: int) -> None:
        assert piece.position is not None
        receipt = decode(next(ledger_store.records(self._engine, piece.position, piece.position + 1)))
        assert isinstance(receipt, Transfer)
        if receipt.purpose != UNMATCHED:
            return
        rule, _ = self._view.revenue_rule(code, now)
        told = {"kind": "match", "receipt": "0x" + hash_struct(receipt).hex(), "of": whose}
        document = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
        transfer = Transfer(
            time=0,
            id=sha256(b"match " + piece.key.encode()).digest(),
            debit=receipt.credit,
            credit=self._view.revenue_account(code, rule.fund, piece.asset),
            asset=piece.asset,
            amount=piece.city_minor,
            purpose=code,
            authority=hash_struct(receipt),
            evidence=ledger_store.add_document(connection, document),
        )
        submit(connection, transfer, now)
        store.set_booked(connection, piece.key, piece.evidence_hash or transfer.evidence, transfer.id)

    def book_again(self) -> int:
        """Book what could not be booked before; returns how many pieces went to the ledger."""
        with reading(self._engine) as connection:
            if not store.unbooked(connection, BOOKS):
                return 0
        with self._engine.begin() as connection:
            waiting = store.unbooked(connection, BOOKS)
            return sum([self.try_book(connection, seen, self._clock()) for seen in waiting])

    def take_answers(self) -> None:
        """Note where the ledger recorded what was submitted; what it refused goes to the queue."""
        with reading(self._engine) as connection:
            if not store.unanswered(connection):
                return
        with self._engine.begin() as connection:
            for seen in store.unanswered(connection):
                assert seen.transfer_id is not None
                try:
                    recorded = ledger_store.answer(connection, seen.transfer_id)
                except Invalid as refused:
                    LOGGER.warning("the ledger refused %s: %s", seen.key, refused)
                    store.set_answer(connection, seen.key, None, str(refused))
                    continue
                if recorded is not None:
                    store.set_answer(connection, seen.key, recorded.position, None)


def _evidence_hash(connection: Connection, piece: Seen) -> bytes | None:
    """By what a record names the evidence: a public document, which is kept for it, or a commitment."""
    return ledger_store.add_document(connection, piece.document) if piece.document else piece.evidence_hash
