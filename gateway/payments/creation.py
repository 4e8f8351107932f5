"""Asking for money: an invoice with a quote that is locked until it expires (P1)."""

from __future__ import annotations

import json
import re
import secrets
import threading
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Protocol

from gateway.db import Connection, Engine, reading
from gateway.ledger_view import LedgerView
from gateway.merchants.policy import Policy, policy_of
from gateway.payments import store
from gateway.payments.model import Status, derive
from gateway.payments.return_url import check_return_url
from gateway.payments.state import Clock, States
from gateway.payments.store import Invoice, Origin
from gateway.payments.store.at_once import AtOnce
from gateway.rails.tenge.reference import RANDOM_BYTES, new_reference, reference_of
from gateway.rates import CombinedRate, quote_amount
from ledger.records import ZERO_ADDRESS, Unavailable, reject
from ledger.rules import SHARE_WHOLE, TENGE

CITY = "city"
CREATE_ATTEMPTS = 5
# As many as share a word of the router's storage.
NONCES_AT_ONCE = 128
# A record of the ledger that comes in this time is as one that comes after it.
LATELY_S = 1.0
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Of the 26 characters of an id; seconds in 35 bits last until the year 3058.
_TIME_CHARACTERS, _RANDOM_CHARACTERS = 7, 19
_TIME_BYTES = 8
# Visible text of any language: no controls, no surrogates, no line or paragraph separators.
_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class ChainQuotes(Protocol):
    """What an invoice needs of a chain: computed here, without a call to it (field failure 52)."""

    rail: str
    # The asset that is the chain's coin, where it is taken here.
    coin_asset: str | None

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

    merchant_id None: the city itself. lifetime_s None: as the merchant's policy says. refund_to: the
    address that money may go back to, as the payer says before paying. return_url: a page of the merchant's,
    shown as a link when there is nothing more to pay; nobody fetches it. origin: the door.
    """

    purpose: str
    title: str
    tiyn: int
    asset: str
    merchant_id: str | None = None
    merchant_reference: str | None = None
    payee: bytes = ZERO_ADDRESS
    spread_bps: int = 0
    lifetime_s: int | None = None
    refund_to: bytes | None = None
    return_url: str | None = None
    origin: Origin = Origin.API

    @property
    def digest(self) -> bytes:
        """What the caller asked, and nothing that may have changed here since."""
        asked = (self.purpose, self.title, self.tiyn, self.asset, self.merchant_id, self.merchant_reference)
        back = b"" if self.refund_to is None else self.refund_to
        then = b"" if self.return_url is None else self.return_url.encode()
        return sha256(repr(asked).encode() + back + then).digest()


class Limits(Protocol):
    """When nobody is quoted; Unavailable with both numbers then."""

    def check(self, asset: str) -> None:
        """Refuse to quote in this asset now."""
        ...

    def check_lag(self) -> None:
        """Refuse where it is not known what was paid on the chain lately."""
        ...


def new_id(now: int) -> str:
    """Make an id that nobody can guess: the second first, then 95 random bits.

    What was made together lies together in every index by id: a new one goes to the end, and not to a
    place at random among all there are.
    """
    time = "".join(ALPHABET[now >> 5 * place & 31] for place in reversed(range(_TIME_CHARACTERS)))
    return time + "".join(ALPHABET[byte % 32] for byte in secrets.token_bytes(_RANDOM_CHARACTERS))


def number_of(id: str, now: int) -> bytes:
    """The 32 bytes that a chain calls an invoice by: its second, and 192 bits of the hash of its id."""
    digest = sha256(b"invoice " + id.encode()).digest()
    return now.to_bytes(_TIME_BYTES, "big") + digest[: 32 - _TIME_BYTES]


class _Overtaken(Exception):
    """Another request made the same invoice first."""


class Nonces:
    """Numbers that no other quote has: of two quotes with one number a single one could be paid.

    Taken from the database a page at a time; what a process that ends did not use is a gap.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._left, self._lock = engine, list[int](), threading.Lock()

    def next(self) -> int:
        """One more."""
        with self._lock:
            if not self._left:
                with self._engine.begin() as connection:
                    first = store.reserve_nonces(connection, NONCES_AT_ONCE)
                self._left = list(range(first + NONCES_AT_ONCE - 1, first - 1, -1))
            return self._left.pop()


class Creation:
    """Makes invoices."""

    def __init__(
        self,
        engine: Engine,
        view: LedgerView,
        clock: Clock,
        rates: Rates,
        chain: ChainQuotes | None,
        states: States,
        limits: Limits | None = None,
    ) -> None:
        self._engine, self._view, self._clock, self._rates, self._chain = engine, view, clock, rates, chain
        self._states, self._nonces, self._limits = states, Nonces(engine), limits
        self._fast = AtOnce(engine) if AtOnce.serves(engine) else None

    def create(self, request: Request, idempotency_key: str | None = None) -> Invoice:
        """Make an invoice, or find the one that answers this request already.

        The same Idempotency-Key with the same request gives the same invoice for ever. The same
        merchant reference gives the same invoice while that can be paid or has money; when it
        expired unpaid, the reference is quoted anew (field failure 45).
        """
        _check_request(request, idempotency_key)
        # Overtaken once, the next look finds what the other made; more often is no accident.
        for _ in range(CREATE_ATTEMPTS):
            now = self._clock()
            with reading(self._engine) as connection:
                known, attempt = self._known(connection, request, idempotency_key, now)
                policy = policy_of(connection, request.merchant_id)
            if known is not None:
                return known
            invoice = replace(self._quoted(request, policy, now), attempt=attempt)
            try:
                with self._engine.begin() as connection:
                    # Asked again under the write lock: of two that come at once one is first.
                    known, attempt = self._known(connection, request, idempotency_key, now)
                    if known is not None:
                        return known
                    self._add(connection, invoice, request, idempotency_key, now)
                return invoice
            except _Overtaken:
                continue
        raise Unavailable("invoices", f"overtaken {CREATE_ATTEMPTS} times by the same request")

    def create_at_once(
        self, request: Request, idempotency_key: str | None, key_id: str, policy: Policy
    ) -> Invoice | None:
        """Make an invoice in one statement, if nothing stands in the way; None, and nothing made, if it does.

        key_id: of the merchant's key that asks, whose standing is looked at again in that statement; policy:
        as it was read lately. `create` takes the steps one by one, and says what stood in the way.
        """
        if self._fast is None or request.merchant_id is None or request.merchant_reference is None:
            return None
        _check_request(request, idempotency_key)
        now = self._clock()
        invoice = self._quoted(request, policy, now, self._check(request, now, self._view.lately(LATELY_S)))
        event = self._states.event(
            invoice, derive(invoice.terms, [], invoice.created_s), [], invoice.created_s
        )
        made = self._fast.add(invoice, key_id, idempotency_key, request.digest, event[1])
        return invoice if made else None

    def _add(
        self, connection: Connection, invoice: Invoice, request: Request, key: str | None, now: int
    ) -> None:
        if not store.add_invoice(connection, invoice):
            raise _Overtaken
        owner = request.merchant_id or CITY
        if key is not None and not store.add_idempotent(connection, owner, key, request.digest, invoice.id):
            raise _Overtaken
        self._states.tell_new(connection, invoice, now)

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
        derived, _ = self._states.derive(connection, same, now)
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

    def _quoted(self, request: Request, policy: Policy, now: int, share_bps: int | None = None) -> Invoice:
        if share_bps is None:
            share_bps = self._check(request, now)
        id = new_id(now)
        number = number_of(id, now)
        due, rate = self._due(request, share_bps)
        expires = now + (policy.lifetime_s if request.lifetime_s is None else request.lifetime_s)
        deposit, signature, nonce = None, None, 0
        if request.asset != TENGE and self._chain is not None:
            deposit = self._chain.deposit_address(number, request.purpose, request.payee, share_bps)
            nonce = self._nonces.next()
            signature = self._chain.sign_quote(
                number, request.purpose, request.payee, request.asset, due, share_bps, expires, nonce
            )
        return Invoice(
            id=id,
            number=number,
            merchant_id=request.merchant_id,
            merchant_reference=request.merchant_reference,
            purpose=request.purpose,
            title=request.title,
            tiyn=request.tiyn,
            asset=request.asset,
            due_minor=due,
            share_bps=share_bps,
            rate=json.dumps(rate),
            payee=request.payee,
            deposit_address=deposit,
            quote_signature=signature,
            # No bank transfer pays a merchant: there it need only be another than all others.
            reference=reference_of(nonce)
            if nonce and request.merchant_id is not None
            else new_reference(secrets.token_bytes(RANDOM_BYTES)),
            created_s=now,
            expires_s=expires,
            nonce=nonce,
            policy=policy,
            refund_to=request.refund_to,
            return_url=request.return_url,
            origin=request.origin,
        )

    def _check(self, request: Request, now: int, lately: LedgerView | None = None) -> int:
        """Refuse what could not be taken or booked, better here than after it is paid; returns the share."""
        if not 0 < request.tiyn < 1 << 128:
            reject("E4", "amount", f"an amount is at least 1 tiyn and below 2^128, this is {request.tiyn}")
        if request.merchant_id is None and request.spread_bps:
            # What a fee costs is what the law says, whatever it is paid in (LEAKS 09).
            why = f"a fee of the city is quoted at 0 basis points, this asks for {request.spread_bps}"
            reject("Q6", "spread", why)
        if request.asset == TENGE and request.merchant_id is not None:
            # It would come to the city's account and be booked as the city's revenue (G5).
            reject("P7", "asset", "a merchant is not paid in tenge here: there are no payouts yet")
        view = lately or self._view
        view.check_asset(request.asset, now)
        rule, _ = view.revenue_rule(request.purpose, now)
        view.revenue_account(request.purpose, rule.fund, request.asset)
        return SHARE_WHOLE if request.merchant_id is None else rule.min_share

    def _due(self, request: Request, share_bps: int) -> tuple[int, dict[str, object]]:
        """What is due in units of the asset, and the rate by which.

        Of what is the city's as a whole there is no spread, also where a merchant's till takes it (Q6).
        """
        if request.asset == TENGE:
            return request.tiyn, {}
        if self._limits is not None:
            self._limits.check(request.asset)
        believed = self._rates.current(request.asset)
        spread_bps = 0 if share_bps == SHARE_WHOLE else request.spread_bps
        return quote_amount(request.tiyn, believed, spread_bps), {
            "numerator": str(believed.numerator),
            "denominator": str(believed.denominator),
            "spread_bps": spread_bps,
            "time_s": believed.time_s,
            "sources": [{"name": source.source, "sha256": source.sha256} for source in believed.sources],
        }


def _check_request(request: Request, key: str | None) -> None:
    """Refuse text that no page could show and not every database could keep, and what is no address."""
    texts = {"title": request.title, "reference": request.merchant_reference, "Idempotency-Key": key}
    for where, text in texts.items():
        if text is not None and not _TEXT.fullmatch(text):
            reject("text", where, "1 visible character or more, and no control characters or surrogates")
    if request.refund_to is not None and (len(request.refund_to) != 20 or request.refund_to == ZERO_ADDRESS):
        reject("E2", "refund_to", "an address has 20 bytes, and is not zero")
    if request.return_url is not None:
        check_return_url(request.return_url)
