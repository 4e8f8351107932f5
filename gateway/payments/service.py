"""What can be done with payments: each use case in one database transaction.

Evidence comes in from rails; the state of an invoice follows from it. When money is
final, the city's share goes to the ledger's inbox in the same transaction as the
evidence, the state and the webhook, so that a crash keeps all of it or none.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Protocol

from gateway.db import Connection, Engine, reading
from gateway.ledger_view import LedgerView
from gateway.payments import store
from gateway.payments.model import MOVES, Derived, Status, derive, follow
from gateway.payments.store import Invoice, Seen
from gateway.rails import BOOKS, PAYS, Evidence, Stage
from gateway.rails.tenge.reference import RANDOM_BYTES, new_reference
from gateway.rates import CombinedRate, quote_amount
from gateway.webhooks import store as webhooks
from ledger import store as ledger_store
from ledger.records import ZERO_ADDRESS, Invalid, Transfer, Unavailable, reject
from ledger.rules import SHARE_WHOLE, TENGE
from ledger.writer import submit

Clock = Callable[[], int]
CITY = "city"
EVIDENCE_TOLD = 50
CREATE_ATTEMPTS = 5
# As many as share a word of the router's storage.
NONCES_AT_ONCE = 128
LOGGER = logging.getLogger(__name__)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(f"[{_ALPHABET}]{{26}}")
# Visible text of any language: no controls, no surrogates, no line or paragraph separators.
_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class ChainQuotes(Protocol):
    """What an invoice needs of a chain: computed here, without a call to it (field failure 52)."""

    rail: str

    def deposit_address(self, number: bytes, purpose: str, payee: bytes, share_bps: int) -> bytes:
        """Where money for these terms can be sent."""
        ...

    def sign_quote(
        self,
        number: bytes,
        purpose: str,
        payee: bytes,
        asset: str,
        amount: int,
        share_bps: int,
        until: int,
        nonce: int,
    ) -> bytes:
        """The 65 bytes r, s, v of the gateway's seat over a quote."""
        ...


class Rates(Protocol):
    """Where a believed rate comes from; Unavailable when there is none."""

    def current(self, asset: str) -> CombinedRate:
        """The rate that holds now."""
        ...


@dataclass(frozen=True)
class Request:
    """What an invoice is asked for. tiyn: the price; asset: what it is to be paid in.

    merchant_id None: the city itself. share_bps None: the least share of the purpose's rule.
    """

    purpose: str
    title: str
    tiyn: int
    asset: str
    merchant_id: str | None = None
    merchant_reference: str | None = None
    payee: bytes = ZERO_ADDRESS
    spread_bps: int = 0
    lifetime_s: int = 900

    @property
    def digest(self) -> bytes:
        """What the caller asked, and nothing that may have changed here since."""
        asked = (self.purpose, self.title, self.tiyn, self.asset, self.merchant_id, self.merchant_reference)
        return sha256(repr(asked).encode()).digest()


class _Overtaken(Exception):
    """Another request made the same invoice first."""


class Payments:
    """The use cases."""

    def __init__(
        self, engine: Engine, view: LedgerView, clock: Clock, rates: Rates, chain: ChainQuotes | None
    ) -> None:
        self.engine, self.view, self.clock, self.rates, self.chain = engine, view, clock, rates, chain
        self._nonces: list[int] = []
        self._nonces_lock = threading.Lock()

    # --- asking -------------------------------------------------------------------

    def create(self, request: Request, idempotency_key: str | None = None) -> Invoice:
        """Make an invoice with a quote that is locked until it expires (P1).

        The same Idempotency-Key with the same request gives the same invoice for ever. The same
        merchant reference gives the same invoice while that can be paid or has money; when it
        expired unpaid, the reference is quoted anew (field failure 45).
        """
        _check_texts(request, idempotency_key)
        # Overtaken once, the next look finds what the other made; more often is no accident.
        for _ in range(CREATE_ATTEMPTS):
            now = self.clock()
            with reading(self.engine) as connection:
                known, attempt = self._known(connection, request, idempotency_key, now)
            if known is not None:
                return known
            invoice = replace(self._quoted(request, now), attempt=attempt)
            try:
                with self.engine.begin() as connection:
                    # Asked again under the write lock: of two that come at once one is first.
                    known, attempt = self._known(connection, request, idempotency_key, now)
                    if known is not None:
                        return known
                    self._add(connection, invoice, request, idempotency_key, now)
                return invoice
            except _Overtaken:
                continue
        raise Unavailable("invoices", f"overtaken {CREATE_ATTEMPTS} times by the same request")

    def _add(
        self, connection: Connection, invoice: Invoice, request: Request, key: str | None, now: int
    ) -> None:
        if not store.add_invoice(connection, invoice):
            raise _Overtaken
        owner = request.merchant_id or CITY
        if key is not None and not store.add_idempotent(connection, owner, key, request.digest, invoice.id):
            raise _Overtaken
        self._tell(connection, invoice, derive(invoice.terms, [], now), [], now)

    def _known(
        self, connection: Connection, request: Request, key: str | None, now: int
    ) -> tuple[Invoice | None, int]:
        """The invoice that answers a request already, or else which attempt of its reference comes next."""
        owner = request.merchant_id or CITY
        if key is not None and (found := store.idempotent(connection, owner, key)) is not None:
            if found[0] != request.digest:
                reject("idempotency", "Idempotency-Key", "this key was used for another request")
            return store.invoice(connection, found[1]), 0
        if request.merchant_id is None or request.merchant_reference is None:
            return None, 0
        same = store.invoice_of_merchant(connection, request.merchant_id, request.merchant_reference)
        if same is None:
            return None, 0
        derived = self._derive(connection, same, store.evidence_of(connection, same.id), now)
        if derived.paid_minor == 0 and derived.status in {Status.EXPIRED, Status.VOID}:
            return None, same.attempt + 1
        if (same.tiyn, same.purpose, same.asset) != (request.tiyn, request.purpose, request.asset):
            reject(
                "conflict",
                "reference",
                f"this reference has an invoice of {same.tiyn} tiyn in {same.asset} for {same.purpose}, "
                f"not of {request.tiyn} in {request.asset} for {request.purpose}",
            )
        return same, 0

    def _quoted(self, request: Request, now: int) -> Invoice:
        if not 0 < request.tiyn < 1 << 128:
            reject("E4", "amount", f"an amount is at least 1 tiyn and below 2^128, this is {request.tiyn}")
        if request.asset == TENGE and request.merchant_id is not None:
            # It would come to the city's account and be booked as the city's revenue (G5).
            reject("P7", "asset", "a merchant is not paid in tenge here: there are no payouts yet")
        self.view.check_asset(request.asset, now)
        rule, _ = self.view.revenue_rule(request.purpose, now)
        # Better refused here than after it is paid.
        self.view.revenue_account(request.purpose, rule.fund, request.asset)
        share_bps = SHARE_WHOLE if request.merchant_id is None else rule.min_share
        id = "".join(_ALPHABET[byte % 32] for byte in secrets.token_bytes(26))
        number = sha256(b"invoice " + id.encode()).digest()
        due, rate = request.tiyn, {}
        if request.asset != TENGE:
            believed = self.rates.current(request.asset)
            due = quote_amount(request.tiyn, believed, request.spread_bps)
            rate = {
                "numerator": str(believed.numerator),
                "denominator": str(believed.denominator),
                "spread_bps": request.spread_bps,
                "time_s": believed.time_s,
                "sources": [{"name": source.source, "sha256": source.sha256} for source in believed.sources],
            }
        expires = now + request.lifetime_s
        deposit, signature, nonce = None, None, 0
        if request.asset != TENGE and self.chain is not None:
            deposit = self.chain.deposit_address(number, request.purpose, request.payee, share_bps)
            nonce = self._next_nonce()
            signature = self.chain.sign_quote(
                number, request.purpose, request.payee, request.asset, due, share_bps, expires, nonce
            )
        return Invoice(
            id,
            number,
            request.merchant_id,
            request.merchant_reference,
            request.purpose,
            request.title,
            request.tiyn,
            request.asset,
            due,
            share_bps,
            json.dumps(rate),
            request.payee,
            deposit,
            signature,
            new_reference(secrets.token_bytes(RANDOM_BYTES)),
            now,
            expires,
            nonce,
        )

    def _next_nonce(self) -> int:
        """A number that no other quote has: of two with one number a single one could be paid.

        Taken from the database a page at a time; what a process that ends did not use is a gap.
        """
        with self._nonces_lock:
            if not self._nonces:
                with self.engine.begin() as connection:
                    first = store.reserve_nonces(connection, NONCES_AT_ONCE)
                self._nonces = list(range(first + NONCES_AT_ONCE - 1, first - 1, -1))
            return self._nonces.pop()

    # --- taking evidence ----------------------------------------------------------

    def take(self, connection: Connection, seen: Iterable[Evidence]) -> list[str]:
        """Store evidence and everything that follows from it; returns the invoices that it touched.

        The caller's transaction also moves the rail's cursor. Evidence that is known is only
        brought to its new stage, so that taking it again changes nothing.
        """
        now = self.clock()
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
            if piece.stage is Stage.FINAL:
                self._settle(connection, piece, now)
            if invoice_id is not None:
                changed = piece.kind in PAYS and counted is (piece.stage is Stage.GONE)
                touched[invoice_id] = touched.get(invoice_id, False) or changed
        # In one order, so that two workers never wait for each other.
        for invoice_id, changed in sorted(touched.items()):
            self._follow(connection, invoice_id, now, changed=changed)
        return list(touched)

    def _name(self, connection: Connection, piece: Evidence) -> str | None:
        """Money that was announced without its reference, and is booked with it, finds its invoice."""
        invoice = store.invoice_for(connection, piece) if piece.reference else None
        if invoice is None:
            return None
        store.set_invoice(connection, piece.key, invoice.id, piece.reference)
        return invoice.id

    def _settle(self, connection: Connection, piece: Evidence, now: int) -> None:
        """Keep what proves final money, and ask the ledger for the city's share of it."""
        if piece.private and not piece.document:
            salt = secrets.token_bytes(32)
            commitment = sha256(salt + piece.private).digest()
            store.add_private(connection, commitment, salt, piece.private)
            store.set_commitment(connection, piece.key, commitment)
        seen = store.evidence(connection, piece.key)
        assert seen is not None
        if seen.invoice_id is not None and seen.kind in BOOKS and seen.city_minor:
            self._try_book(connection, seen, now)

    def _try_book(self, connection: Connection, seen: Seen, now: int) -> bool:
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
        """Ask the ledger for the city's share: gross, once for each piece of evidence."""
        assert piece.invoice_id is not None
        invoice = store.invoice(connection, piece.invoice_id)
        assert invoice is not None
        rule, authority = self.view.revenue_rule(invoice.purpose, now)
        debit = self.view.money_account(rule.fund, piece.asset)
        credit = self.view.revenue_account(invoice.purpose, rule.fund, piece.asset)
        evidence_hash = piece.evidence_hash
        if piece.document:
            evidence_hash = ledger_store.add_document(connection, piece.document)
        assert evidence_hash is not None, "what moves the city's money has a document or a commitment"
        transfer = Transfer(
            time=0,
            id=sha256(b"transfer " + piece.key.encode()).digest(),
            debit=debit,
            credit=credit,
            asset=piece.asset,
            amount=piece.city_minor,
            purpose=invoice.purpose,
            authority=authority,
            evidence=evidence_hash,
        )
        submit(connection, transfer, now)
        store.set_booked(connection, piece.key, evidence_hash, transfer.id)

    def _follow(self, connection: Connection, invoice_id: str, now: int, *, changed: bool = False) -> None:
        """Bring the stored status to what the evidence says; changed: the money did."""
        invoice = store.locked_invoice(connection, invoice_id)
        seen = store.evidence_of(connection, invoice_id)
        derived = self._derive(connection, invoice, seen, now)
        if derived.status is not invoice.status and derived.status not in MOVES[invoice.status]:
            LOGGER.error("invoice %s: %s to %s is no move", invoice.id, invoice.status, derived.status)
        status = follow(invoice.status, derived.status)
        if status is not invoice.status:
            store.set_status(connection, invoice_id, status, now)
            self._tell(connection, invoice, derived, seen, now)
        elif changed:
            # More money, or less: the merchant learns of it though the status is the same.
            self._tell(connection, invoice, derived, seen, now, "updated")

    def _derive(self, connection: Connection, invoice: Invoice, seen: Sequence[Seen], now: int) -> Derived:
        payments = [piece.payment for piece in seen]
        return derive(invoice.terms, payments, min(now, self._known_until(connection, invoice.asset, now)))

    def _known_until(self, connection: Connection, asset: str, now: int) -> int:
        """Up to when all payments in an asset are known: nothing expires that may be paid unseen."""
        if asset == TENGE or self.chain is None:
            return now
        return store.seen_until(connection, self.chain.rail)

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
        type = f"invoice.{event or derived.status.value}"
        body = json.dumps(
            {
                "type": type,
                "timestamp": now,
                "data": {
                    "invoice": invoice.id,
                    "reference": invoice.merchant_reference,
                    "status": derived.status.value,
                    "notes": sorted(note.value for note in derived.notes),
                    "asset": invoice.asset,
                    "due": str(invoice.due_minor),
                    "paid": str(derived.paid_minor),
                    "missing": str(derived.missing_minor),
                    "over": str(derived.over_minor),
                    # The newest: an event has a bounded size, whoever sends how many small payments.
                    "evidence": [piece.key for piece in seen if piece.stage is not Stage.GONE][
                        -EVIDENCE_TOLD:
                    ],
                },
            },
            separators=(",", ":"),
        )
        webhooks.enqueue(connection, invoice.merchant_id, invoice.id, type, body.encode(), now)

    def expire(self) -> int:
        """Move invoices without enough money whose time is over; returns how many were looked at."""
        now = self.clock()
        with self.engine.begin() as connection:
            chain_s = 0 if self.chain is None else store.seen_until(connection, self.chain.rail)
            late = store.expiring(connection, now, min(now, chain_s))
            for invoice in late:
                self._follow(connection, invoice.id, now)
        return len(late)

    def book_again(self) -> int:
        """Book what could not be booked before; returns how many pieces went to the ledger."""
        with reading(self.engine) as connection:
            if not store.unbooked(connection, BOOKS):
                return 0
        with self.engine.begin() as connection:
            waiting = store.unbooked(connection, BOOKS)
            return sum([self._try_book(connection, seen, self.clock()) for seen in waiting])

    def take_answers(self) -> None:
        """Note where the ledger recorded what was submitted; what it refused goes to the queue."""
        with reading(self.engine) as connection:
            if not store.unanswered(connection):
                return
        with self.engine.begin() as connection:
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

    # --- reading --------------------------------------------------------------------

    def look(self, id: str) -> tuple[Invoice, Derived, list[Seen]]:
        """An invoice, its state now, and its evidence."""
        with reading(self.engine) as connection:
            invoice = store.invoice(connection, id) if _ID.fullmatch(id) else None
            if invoice is None:
                reject("not_found", "invoice", f"no invoice is called {id[:40]!a}")
            seen = store.evidence_of(connection, id)
            return invoice, self._derive(connection, invoice, seen, self.clock()), seen

    def position(self, id: str) -> int | None:
        """Where on the ledger the city's share of an invoice is recorded; None while it is not."""
        with reading(self.engine) as connection:
            for piece in store.evidence_of(connection, id):
                if piece.transfer_id is not None and piece.kind in BOOKS:
                    position = ledger_store.position_of_transfer(connection, piece.transfer_id)
                    if position is not None:
                        return position
        return None


def _check_texts(request: Request, key: str | None) -> None:
    """Refuse text that no page could show and not every database could keep."""
    texts = {"title": request.title, "reference": request.merchant_reference, "Idempotency-Key": key}
    for where, text in texts.items():
        if text is not None and not _TEXT.fullmatch(text):
            reject("text", where, "1 visible character or more, and no control characters or surrogates")


def _check_same(known: Seen, piece: Evidence) -> None:
    """Refuse another telling of known money that differs in what it is or whose it is (T13)."""
    if (known.kind, known.asset, known.amount_minor) != (piece.kind, piece.asset, piece.amount_minor):
        why = f"was {known.amount_minor} {known.asset}, is told as {piece.amount_minor} {piece.asset}"
        reject("conflict", piece.key, why)
    if known.reference and piece.reference and known.reference != piece.reference:
        reject("conflict", piece.key, f"was for {known.reference}, is told for {piece.reference}")


def is_settled(status: Status) -> bool:
    """Whether a merchant may hand over the goods."""
    return status in {Status.PAID, Status.FINAL}
