"""What can be done with payments: each use case in one database transaction.

Evidence comes in from rails; the state of an invoice follows from it. When money is
final, the city's share goes to the ledger's inbox in the same transaction as the
evidence, the state and the webhook, so that a crash keeps all of it or none.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from gateway.db import Connection, Engine, reading
from gateway.ledger_view import LedgerView
from gateway.payments import store
from gateway.payments.model import MOVES, Derived, Status, derive
from gateway.payments.store import Invoice, Seen
from gateway.rails import BOOKS, Evidence, Stage
from gateway.rails.tenge.reference import RANDOM_BYTES, new_reference
from gateway.rates import CombinedRate, quote_amount
from gateway.webhooks import store as webhooks
from ledger import store as ledger_store
from ledger.records import ZERO_ADDRESS, Transfer, reject
from ledger.rules import SHARE_WHOLE, TENGE
from ledger.writer import submit

Clock = Callable[[], int]
CITY = "city"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class ChainQuotes(Protocol):
    """What an invoice needs of a chain: computed here, without a call to it (field failure 52)."""

    def deposit_address(self, number: bytes, purpose: str, payee: bytes, share_bps: int) -> bytes:
        """Where money for these terms can be sent."""
        ...

    def sign_quote(
        self, number: bytes, purpose: str, payee: bytes, asset: str, amount: int, share_bps: int, until: int
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


class Payments:
    """The use cases."""

    def __init__(
        self, engine: Engine, view: LedgerView, clock: Clock, rates: Rates, chain: ChainQuotes | None
    ) -> None:
        self.engine, self.view, self.clock, self.rates, self.chain = engine, view, clock, rates, chain

    # --- asking -------------------------------------------------------------------

    def create(self, request: Request, idempotency_key: str | None = None) -> Invoice:
        """Make an invoice with a quote that is locked until it expires (P1).

        The same Idempotency-Key with the same request, or the same merchant reference while
        the invoice is open, gives the same invoice (field failure 45).
        """
        now = self.clock()
        owner = request.merchant_id or CITY
        digest = sha256(repr(request).encode()).digest()
        with reading(self.engine) as connection:
            known = self._known(connection, owner, idempotency_key, digest, request)
        if known is not None:
            return known
        invoice = self._quoted(request, now)
        with self.engine.begin() as connection:
            # Asked again under the write lock: of two that come at once one is first.
            known = self._known(connection, owner, idempotency_key, digest, request)
            if known is not None:
                return known
            store.add_invoice(connection, invoice)
            if idempotency_key is not None:
                store.add_idempotent(connection, owner, idempotency_key, digest, invoice.id)
            self._tell(connection, invoice, derive(invoice.terms, [], now), [], now)
        return invoice

    def _known(
        self, connection: Connection, owner: str, key: str | None, digest: bytes, request: Request
    ) -> Invoice | None:
        if key is not None and (found := store.idempotent(connection, owner, key)) is not None:
            if found[0] != digest:
                reject("idempotency", "Idempotency-Key", "this key was used for another request")
            return store.invoice(connection, found[1])
        if request.merchant_id is None or request.merchant_reference is None:
            return None
        same = store.invoice_of_merchant(connection, request.merchant_id, request.merchant_reference)
        if same is not None and (same.tiyn, same.purpose, same.asset) != (
            request.tiyn,
            request.purpose,
            request.asset,
        ):
            reject(
                "conflict",
                "reference",
                f"this reference has an invoice of {same.tiyn} tiyn, not {request.tiyn}",
            )
        return same

    def _quoted(self, request: Request, now: int) -> Invoice:
        if request.tiyn <= 0:
            reject("E4", "amount", f"an amount is at least 1 tiyn, this is {request.tiyn}")
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
        deposit, signature = None, None
        if request.asset != TENGE and self.chain is not None:
            deposit = self.chain.deposit_address(number, request.purpose, request.payee, share_bps)
            signature = self.chain.sign_quote(
                number, request.purpose, request.payee, request.asset, due, share_bps, expires
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
        )

    # --- taking evidence ----------------------------------------------------------

    def take(self, connection: Connection, seen: Iterable[Evidence]) -> list[str]:
        """Store evidence and everything that follows from it; returns the invoices that it touched.

        The caller's transaction also moves the rail's cursor. Evidence that is known is only
        brought to its new stage, so that taking it again changes nothing.
        """
        now = self.clock()
        touched: dict[str, None] = {}
        for piece in seen:
            known = store.evidence(connection, piece.key)
            if known is None:
                invoice = store.invoice_for(connection, piece)
                store.add_evidence(connection, piece, None if invoice is None else invoice.id, now)
                invoice_id = None if invoice is None else invoice.id
            else:
                if (known.asset, known.amount_minor) != (piece.asset, piece.amount_minor):
                    reject(
                        "conflict", piece.key, f"was {known.amount_minor}, is told as {piece.amount_minor}"
                    )
                # What is final stays final: a rail that says otherwise has read an older view.
                if known.stage in {piece.stage, Stage.FINAL}:
                    continue
                store.set_stage(connection, piece.key, piece.stage, now)
                invoice_id = known.invoice_id
            if invoice_id is not None:
                touched[invoice_id] = None
                if piece.stage is Stage.FINAL and piece.kind in BOOKS and piece.city_minor:
                    self._book(connection, invoice_id, piece, now)
        for invoice_id in touched:
            self._follow(connection, invoice_id, now)
        return list(touched)

    def _book(self, connection: Connection, invoice_id: str, piece: Evidence, now: int) -> None:
        """Ask the ledger for the city's share: gross, once for each piece of evidence."""
        invoice = store.invoice(connection, invoice_id)
        assert invoice is not None
        rule, authority = self.view.revenue_rule(invoice.purpose, now)
        if piece.document:
            evidence_hash = ledger_store.add_document(connection, piece.document)
        else:
            salt = secrets.token_bytes(32)
            evidence_hash = sha256(salt + piece.private).digest()
            store.add_private(connection, evidence_hash, salt, piece.private)
        transfer = Transfer(
            time=0,
            id=sha256(b"transfer " + piece.key.encode()).digest(),
            debit=self.view.money_account(rule.fund, piece.asset),
            credit=self.view.revenue_account(invoice.purpose, rule.fund, piece.asset),
            asset=piece.asset,
            amount=piece.city_minor,
            purpose=invoice.purpose,
            authority=authority,
            evidence=evidence_hash,
        )
        submit(connection, transfer, now)
        store.set_booked(connection, piece.key, evidence_hash, transfer.id)

    def _follow(self, connection: Connection, invoice_id: str, now: int) -> None:
        invoice = store.invoice(connection, invoice_id)
        assert invoice is not None
        seen = store.evidence_of(connection, invoice_id)
        derived = derive(invoice.terms, [piece.payment for piece in seen], now)
        if derived.status is invoice.status:
            return
        assert derived.status in MOVES[invoice.status], f"{invoice.status} to {derived.status}"
        store.set_status(connection, invoice_id, derived.status, now)
        self._tell(connection, invoice, derived, seen, now)

    def _tell(
        self, connection: Connection, invoice: Invoice, derived: Derived, seen: Sequence[Seen], now: int
    ) -> None:
        if invoice.merchant_id is None:
            return
        body = json.dumps(
            {
                "type": f"invoice.{derived.status.value}",
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
                    "evidence": [piece.key for piece in seen if piece.stage is not Stage.GONE],
                },
            },
            separators=(",", ":"),
        )
        webhooks.enqueue(
            connection, invoice.merchant_id, invoice.id, f"invoice.{derived.status.value}", body.encode(), now
        )

    def expire(self) -> int:
        """Move open invoices whose time is over; returns how many."""
        now = self.clock()
        with self.engine.begin() as connection:
            late = store.expiring(connection, now)
            for invoice in late:
                self._follow(connection, invoice.id, now)
        return len(late)

    # --- reading --------------------------------------------------------------------

    def look(self, id: str) -> tuple[Invoice, Derived, list[Seen]]:
        """An invoice, its state now, and its evidence."""
        with reading(self.engine) as connection:
            invoice = store.invoice(connection, id)
            if invoice is None:
                reject("not_found", "invoice", f"no invoice is called {id[:40]!a}")
            seen = store.evidence_of(connection, id)
        return invoice, derive(invoice.terms, [piece.payment for piece in seen], self.clock()), seen

    def position(self, id: str) -> int | None:
        """Where on the ledger the city's share of an invoice is recorded; None while it is not."""
        with reading(self.engine) as connection:
            for piece in store.evidence_of(connection, id):
                if piece.transfer_id is not None and piece.kind in BOOKS:
                    return ledger_store.position_of_transfer(connection, piece.transfer_id)
        return None


def is_settled(status: Status) -> bool:
    """Whether a merchant may hand over the goods."""
    return status in {Status.PAID, Status.FINAL}
