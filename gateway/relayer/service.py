"""Gasless payments: a payer signs, the gateway brings it to the router and pays for gas (EIP-3009, Permit2).

Whoever calls is anonymous, so that nothing is sent that was not seen to go: the caller holds an open
invoice, the payer's own signature or its contract wallet's word stands over that invoice's quote, the token
is ours, the chain was asked, and gas is bounded for each invoice, payer and hour (field failure 27).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any

from contracts.bindings import COIN, GAS, Quote, authorization_digest, city_part, permit2_digest
from contracts.transactions import explain
from gateway.db import Connection, reading
from gateway.eip55 import checksummed
from gateway.payments import store as payments_store
from gateway.payments.model import Status
from gateway.payments.service import Payments
from gateway.payments.store import Invoice
from gateway.rails.evm import TRANSFER, EvmRail, Refused
from gateway.rails.evm.blocks import MALFORMED
from gateway.rails.evm.logs import Log, read_log
from gateway.rails.evm.rpc import to_hex
from gateway.rails.evm.sight import EvmSight
from gateway.relayer import store
from gateway.relayer.authorization import (
    FUNCTIONS,
    Authorization,
    Scheme,
    bring_call,
    nonce_of,
    quote_of,
)
from gateway.relayer.store import Gasless
from gateway.relayer.tokens import Tokens
from gateway.relayer.typed_data import authorization_asked, permit2_asked
from gateway.relayer.wallets import Wallets
from gateway.sending import service as sending
from gateway.sending.service import Call, State
from ledger.records import WORD, Invalid, Unavailable, reject

HOUR_S, DAY_S = 3_600, 86_400
# As many as the API takes for a number.
NONCE_BYTES = 15
# What one authorization may cost.
GAS_MOST = max(GAS[name] for name in FUNCTIONS.values())
_ID = re.compile("[0-9a-f]{32}")


class Progress(StrEnum):
    """How far a gasless payment has come."""

    QUEUED = "queued"
    SENT = "sent"
    UNKNOWN = "unknown"  # it may have been executed: the chain is asked, and nothing is sent again meanwhile
    MINED = "mined"
    PAID = "paid"  # final, and the payer's tokens moved
    FAILED = store.FAILED  # nothing moved, and nothing can any more


_OPEN = (Progress.QUEUED, Progress.SENT, Progress.UNKNOWN, Progress.MINED)
_PROGRESS = {
    State.QUEUED: Progress.QUEUED,
    State.SIGNED: Progress.QUEUED,
    State.SENT: Progress.SENT,
    State.UNKNOWN: Progress.UNKNOWN,
    State.MINED: Progress.MINED,
    State.REVERTED: Progress.FAILED,
    State.DROPPED: Progress.FAILED,
}


@dataclass(frozen=True)
class Policy:
    """What the gateway is ready to pay for.

    tries: for each invoice; a_day, failures_a_day, at_once: for each payer, at_once of those that are on
    their way; gas_an_hour: for all together; contracts_percent, contract_failures_an_hour: of that hour, for
    all payers with code together; left_s: how long a quote must still be valid.

    A contract may say one thing when it is asked and another in a block, and costs its owner nothing: all
    contracts together take no more than a fifth of the hour from keys, and fail a few times only. A key can
    fail only where its owner pays for a transaction in between, and is bounded by its own failures.
    """

    tries: int = 3
    a_day: int = 20
    failures_a_day: int = 3
    at_once: int = 3
    gas_an_hour: int = 50_000_000
    contracts_percent: int = 20
    contract_failures_an_hour: int = 5
    left_s: int = 60


@dataclass(frozen=True)
class Told:
    """How far it is: what the payer's page shows. transaction: 32 bytes once there is one."""

    id: str
    progress: Progress
    transaction: bytes | None
    why: str


@dataclass(frozen=True)
class Signable:
    """One thing that a payer may sign. typed_data: as eth_signTypedData_v4 takes it (EIP-712)."""

    scheme: Scheme
    nonce: int
    typed_data: dict[str, Any]


class Relayer:
    """Takes authorizations, queues them for the sender, and says what became of them."""

    def __init__(
        self, payments: Payments, rail: EvmRail, sender: bytes, policy: Policy | None = None
    ) -> None:
        self._payments, self._engine, self._rail, self._sender = payments, payments.engine, rail, sender
        self.policy = Policy() if policy is None else policy
        self._tokens = Tokens(rail.pool, rail.place.deployment.chain_id)
        self._wallets = Wallets(EvmSight(rail.pool, rail.place), rail.pool)
        # What has been spent is counted and added to by one at a time, or many at once would each fit.
        self._turn = threading.Lock()

    def authorize(self, invoice_id: str, asked: Authorization) -> Told:
        """Bring an authorization; the same again tells how far it is. Invalid where it is not paid for."""
        now = self._payments.clock()
        invoice, derived, _ = self._payments.look(invoice_id)
        quote = self._quote(invoice, now)
        nonce = nonce_of(quote, asked)
        with reading(self._engine) as connection:
            known = self._known(connection, invoice, quote, asked, nonce)
            if known is not None and known.state != Progress.FAILED:
                return self._told(connection, known)
            if derived.status is not Status.OPEN or derived.paid_minor:
                why = f"this invoice is {derived.status.value} and has {derived.paid_minor}"
                reject("gasless", "invoice", f"{why}; an authorization pays an open one whole")
            self._check_limits(connection, invoice, asked.payer, now)
        self._check_time(invoice, now)
        asked = replace(asked, signature=self._wallets.checked(asked, self._digest(quote, asked)))
        # Of a key too: one that delegates to code (EIP-7702) is asked by Permit2 as a contract is.
        has_code = self._wallets.has_code(asked.payer)
        if has_code:
            with reading(self._engine) as connection:
                self._check_contracts(connection, now)
        call = bring_call(
            self._rail.place.deployment.router,
            invoice,
            quote,
            asked,
            1 if known is None else known.attempt + 1,
        )
        # Before anything is stored: what the chain refuses costs nobody anything.
        self._simulate(call)
        with self._turn, self._engine.begin() as connection:
            return self._bring(connection, invoice, quote, asked, nonce, call, now, has_code)

    def signable(self, invoice: Invoice, payer: bytes) -> list[Signable]:
        """What a payer may sign for an invoice, the best first; empty where nothing signed is brought.

        Whether the payer can (has tokens, gave Permit2 an allowance), the payer's own wallet knows.
        """
        now = self._payments.clock()
        try:
            quote = self._quote(invoice, now)
            self._check_time(invoice, now)
        except Invalid:
            return []
        deployment = self._rail.place.deployment
        found = []
        if (domain := self._tokens.domain(quote.token)) is not None:
            found.append(
                Signable(Scheme.EIP3009, 0, authorization_asked(domain, quote, payer, deployment.router))
            )
        # One payer pays one quote once: its hash is the nonce here too, so that asking again changes nothing.
        nonce = int.from_bytes(quote.hash()[:NONCE_BYTES], "big")
        city = city_part(quote.amount, quote.share_bps)
        asked = permit2_asked(deployment.chain_id, quote, city, nonce, deployment.router)
        return [*found, Signable(Scheme.PERMIT2, nonce, asked)]

    def look(self, invoice_id: str, id: str) -> Told:
        """How far an authorization is; Invalid where there is none."""
        invoice, _, _ = self._payments.look(invoice_id)
        with reading(self._engine) as connection:
            known = store.authorization_by_id(connection, invoice.id, id) if _ID.fullmatch(id) else None
            if known is None:
                reject("not_found", "authorization", f"this invoice has no authorization {id[:40]!a}")
            return self._told(connection, known)

    def follow(self) -> int:
        """Bring what was stored to what the sender found out; returns how many have ended."""
        with reading(self._engine) as connection:
            waiting = store.in_state(connection, [progress.value for progress in _OPEN])
            outcomes = {one.call_id: sending.outcome(connection, one.call_id) for one in waiting}
        ended = 0
        for one in waiting:
            outcome = outcomes[one.call_id]
            if outcome.state is State.FINAL:
                assert outcome.transaction is not None
                progress, why = self._moved(one, outcome.transaction)
            else:
                progress, why = _PROGRESS[outcome.state], outcome.why
            if (progress, why) != (one.state, one.why):
                # What was never signed has cost nothing, and takes nothing from the hour.
                spared = outcome.state is State.DROPPED and outcome.transaction is None
                gas = GAS[FUNCTIONS[Scheme(one.scheme)]] if spared else 0
                with self._engine.begin() as connection:
                    store.set_state(connection, one.call_id, progress.value, why, gas)
            ended += progress not in _OPEN
        return ended

    # --- what is asked for --------------------------------------------------------------

    def _quote(self, invoice: Invoice, now: int) -> Quote:
        """The quote that was signed for an invoice, if its token may be paid so."""
        place = self._rail.place
        if invoice.quote_signature is None or invoice.asset not in place.tokens.values():
            reject("gasless", "invoice", f"{invoice.asset} is not paid by an authorization")
        token = place.token(invoice.asset)
        if token == COIN or not place.is_allowed(place.deployment.router, token, now):
            reject("gasless", "invoice", f"{invoice.asset} is not taken by an authorization now")
        return quote_of(invoice, token)

    def _check_time(self, invoice: Invoice, now: int) -> None:
        left_s = invoice.expires_s - now
        if left_s < self.policy.left_s:
            why = f"its quote is valid for {left_s} s, an authorization needs {self.policy.left_s}"
            reject("gasless", "invoice", why)

    def _check_limits(self, connection: Connection, invoice: Invoice, payer: bytes, now: int) -> None:
        brought = store.of_invoice(connection, invoice.id)
        if any(one.state in _OPEN or one.state == Progress.PAID for one in brought):
            reject("gasless", "invoice", "another authorization for this invoice is on its way")
        tries = sum(one.attempt for one in brought)
        if tries >= self.policy.tries:
            reject("quota", "invoice", f"{tries} authorizations of this invoice failed, that is all")
        self._check_payer(connection, payer, now)
        gas, most = store.gas_since(connection, now - HOUR_S), self.policy.gas_an_hour
        if gas + GAS_MOST > most:
            reject(
                "quota", "gas", f"{gas} gas was spent in an hour, {GAS_MOST} more may be: {most} is the most"
            )

    def _check_payer(self, connection: Connection, payer: bytes, now: int) -> None:
        policy, since_s = self.policy, now - DAY_S
        count = store.count_of_payer(connection, payer, since_s)
        if count >= policy.a_day:
            why = f"{count} authorizations of this address came in a day, {policy.a_day} is the most"
            reject("quota", "payer", why)
        waiting = store.count_of_payer(connection, payer, since_s, [progress.value for progress in _OPEN])
        if waiting >= policy.at_once:
            # One balance is seen by each of them, and pays for one.
            why = f"{waiting} authorizations of this address are on their way, {policy.at_once} is the most"
            reject("quota", "payer", why)
        failed = store.failures_of_payer(connection, payer, since_s)
        if failed >= policy.failures_a_day:
            most = f"{policy.failures_a_day} is the most: pay the network's fee yourself"
            reject("quota", "payer", f"{failed} authorizations of this address failed in a day, {most}")

    def _check_contracts(self, connection: Connection, now: int) -> None:
        """Refuse a payer with code where those have had their part of the hour (field failure 27)."""
        policy, since_s = self.policy, now - HOUR_S
        failed = store.contract_failures(connection, since_s)
        if failed >= policy.contract_failures_an_hour:
            most = f"{policy.contract_failures_an_hour} is the most: pay the network's fee yourself"
            reject("quota", "contracts", f"{failed} authorizations of contracts failed in an hour, {most}")
        gas = store.contract_gas_since(connection, since_s)
        share = policy.gas_an_hour * policy.contracts_percent // 100
        if gas + GAS_MOST > share:
            why = f"{gas} gas was spent for contracts in an hour, {GAS_MOST} more may be: {share} is the most"
            reject("quota", "contracts", why)

    def _digest(self, quote: Quote, asked: Authorization) -> bytes:
        """What the payer had to sign."""
        if len(asked.payer) != 20:
            reject("gasless", "payer", f"an address has 20 bytes, this has {len(asked.payer)}")
        deployment = self._rail.place.deployment
        if asked.scheme is Scheme.EIP3009:
            separator = self._tokens.separator(quote.token)
            return authorization_digest(separator, quote, asked.payer, deployment.router)
        city = city_part(quote.amount, quote.share_bps)
        return permit2_digest(deployment.chain_id, quote, city, asked.nonce, deployment.router)

    # --- what is done -------------------------------------------------------------------

    def _simulate(self, call: Call) -> None:
        asked = {
            "from": to_hex(self._sender),
            "to": to_hex(call.to),
            "data": to_hex(call.data),
            "gas": to_hex(call.gas_limit),
        }
        try:
            self._rail.pool.ask("eth_call", asked, "latest")
        except Refused as refused:
            rule, why = explain(refused.data)
            reject(rule, "authorization", why or refused.message)

    def _known(
        self, connection: Connection, invoice: Invoice, quote: Quote, asked: Authorization, nonce: bytes
    ) -> Gasless | None:
        known = store.authorization(connection, quote.token, asked.payer, nonce)
        if known is not None and (known.invoice_id, known.scheme) != (invoice.id, asked.scheme):
            reject("conflict", "authorization", "this authorization was brought for another invoice")
        return known

    def _bring(
        self,
        connection: Connection,
        invoice: Invoice,
        quote: Quote,
        asked: Authorization,
        nonce: bytes,
        call: Call,
        now: int,
        has_code: bool,
    ) -> Told:
        # Of two that come at once one is first, and the other is told what became of that (field failure 22).
        payments_store.locked_invoice(connection, invoice.id)
        known = self._known(connection, invoice, quote, asked, nonce)
        if known is not None and known.state != Progress.FAILED:
            return self._told(connection, known)
        self._check_limits(connection, invoice, asked.payer, now)
        if has_code:
            self._check_contracts(connection, now)
        attempt, spent = (1, 0) if known is None else (known.attempt + 1, known.gas_limit)
        id = sha256(quote.token + asked.payer + nonce).hexdigest()[:32]
        new = Gasless(
            id, quote.token, asked.payer, nonce, asked.scheme.value, invoice.id, attempt, call.id,
            spent + call.gas_limit, Progress.QUEUED.value, "", now, has_code,
        )  # fmt: skip
        if not store.bring(connection, new):
            reject("conflict", "authorization", "it is being brought; ask again")
        sending.queue(connection, self._rail.name, call, now)
        return self._told(connection, new)

    def _told(self, connection: Connection, known: Gasless) -> Told:
        outcome = sending.outcome(connection, known.call_id)
        progress = Progress(known.state)
        if progress in _OPEN and outcome.state is not State.FINAL:
            progress = _PROGRESS[outcome.state]
        return Told(known.id, progress, outcome.transaction, known.why or outcome.why)

    def _moved(self, one: Gasless, transaction: bytes) -> tuple[Progress, str]:
        """Paid is what moved the payer's tokens to us, not what did not revert (field failure 21)."""
        told = self._rail.pool.ask("eth_getTransactionReceipt", to_hex(transaction))
        try:
            logs = [read_log(raw) for raw in told["logs"]]
        except MALFORMED as error:
            raise Unavailable(self._rail.name, f"receipt 0x{transaction.hex()}: {error}"[:300]) from error
        invoice, _, _ = self._payments.look(one.invoice_id)
        city = city_part(invoice.due_minor, invoice.share_bps)
        deployment = self._rail.place.deployment
        to, amount = (deployment.router, invoice.due_minor)
        if one.scheme == Scheme.PERMIT2:
            to, amount = (deployment.treasury, city) if city else (invoice.payee, invoice.due_minor)
        if any(_is_transfer(log, one.token, one.payer, to, amount) for log in logs):
            return Progress.PAID, ""
        why = f"no Transfer of {amount} from {checksummed(one.payer)} to {checksummed(to)} was made"
        return Progress.FAILED, why


def _is_transfer(log: Log, token: bytes, payer: bytes, to: bytes, amount: int) -> bool:
    return (
        log.at == token
        and log.topics[:1] == (TRANSFER,)
        and (len(log.topics), len(log.data)) == (3, WORD)
        and (log.address(1), log.address(2), log.word(0)) == (payer, to, amount)
    )


__all__ = ["Authorization", "Policy", "Progress", "Relayer", "Scheme", "Signable", "Told"]
