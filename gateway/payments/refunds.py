"""Refunds: in the units received, bounded by what came, to a proven address, final when final (P6).

A request reserves its amount under the invoice's lock, so that two at once are never more than
what came. Then somebody approves, and the money goes by the way of its source: the merchant's own
wallet, or the Treasury contract against the receipt on the ledger. `refunded` is said when
the outgoing transfer is final, never when it was sent (field failure 30).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from gateway.db import Connection, reading
from gateway.eip55 import checksummed
from gateway.payments import store
from gateway.payments.accounts import account_back, account_name
from gateway.payments.bounds import check_left, check_receipt_left, check_why, piece_of, received, reserved
from gateway.payments.going_back import GoingBack
from gateway.payments.outgoing import Outgoing, Sight, TreasuryDoor
from gateway.payments.parts import parts_to_take
from gateway.payments.receivers import WAIT_S, check_receiver, prove_receiver
from gateway.payments.refund_model import GIVEN_LATER, MOVES, Proof, Refund, RefundState, Source
from gateway.payments.service import Payments
from gateway.payments.store import Decided, Decision, Invoice, bank
from gateway.payments.store import refunds as rows
from gateway.rails import BankEntry, Evidence
from ledger.records import reject
from ledger.rules import TENGE

KEY_LIMIT: Final = 255
# Whose keys those of bills are; what is sent back from the queue has keys of its own.
OF_BILLS: Final = "operator"


@dataclass(frozen=True)
class Prepared:
    """What the merchant's own wallet is to send. link: EIP-681, for a QR code."""

    chain_id: int
    to: bytes
    data: bytes
    value: int
    link: str


class Refunds:
    """The use cases. sight: eyes on the chain; outgoing, treasury: how the city's share goes back."""

    def __init__(
        self,
        payments: Payments,
        sight: Sight | None = None,
        outgoing: Outgoing | None = None,
        treasury: TreasuryDoor | None = None,
    ) -> None:
        self._payments, self._sight = payments, sight
        self._engine, self._clock = payments.engine, payments.clock
        self._going = GoingBack(payments, sight, outgoing, treasury)

    # --- asking -------------------------------------------------------------------

    def request(
        self,
        actor: str,
        invoice_id: str,
        evidence_key: str | None,
        amount_minor: int,
        to: bytes | None,
        idempotency_key: str,
        *,
        source: Source | None = None,
        signature: bytes | None = None,
        iban: str | None = None,
        why: str = "",
    ) -> Refund:
        """Reserve an amount of what an invoice received, to go back.

        to None: where the payer fixed before paying. Any other address proves itself by its signature
        over the terms (gateway/payments/receivers.py), and then waits 48 hours or for an owner. Tenge go
        to the account that they came from; iban, or `to` as its SHA-256, is needed only where none was told.
        The same Idempotency-Key with the same request gives the same refund.
        """
        if not 1 <= len(idempotency_key) <= KEY_LIMIT:
            reject("idempotency", "Idempotency-Key", f"a refund needs a key of 1 to {KEY_LIMIT} characters")
        invoice, _, _ = self._payments.look(invoice_id)
        source = source or (Source.CITY if invoice.merchant_id is None else Source.MERCHANT)
        if iban is not None:
            to = account_name(iban)
        asked = repr((invoice_id, evidence_key, amount_minor, to, source.value)).encode()
        owner, digest = invoice.merchant_id or OF_BILLS, sha256(asked).digest()
        if (known := self._known(owner, idempotency_key, digest)) is not None:
            return known
        with reading(self._engine) as connection:
            piece = piece_of(connection, invoice, evidence_key)
        asset, receiver, proof = invoice.asset if piece is None else piece.asset, b"", Proof.BANK
        if asset == TENGE:
            assert piece is not None
            check_receipt_left(self._engine, self._payments.view, piece, amount_minor)
        else:
            # A node may be asked about a contract's signature, so before any lock.
            receiver, proof = self._receiver(invoice, asset, amount_minor, to, signature)
        now = self._clock()
        with self._engine.begin() as connection:
            # One after the other: what is left is counted under this lock.
            store.locked_invoice(connection, invoice_id)
            if (found := rows.refund_asked(connection, owner, idempotency_key)) is not None:
                return _same(found, digest)
            account = None
            if asset == TENGE:
                assert piece is not None
                # Read under the lock: what was erased meanwhile is not kept once more.
                account = account_back(connection, piece, to, iban)
                receiver, proof = account.receiver, account.proof
            refund = Refund(
                id=f"r_{secrets.token_hex(12)}",
                invoice_id=invoice_id,
                evidence_key=None if piece is None else piece.key,
                merchant_id=invoice.merchant_id,
                source=source,
                asset=asset,
                amount_minor=amount_minor,
                receiver=receiver,
                proof=proof,
                ripe_s=now + WAIT_S if proof in GIVEN_LATER else now,
                state=RefundState.REQUESTED,
                created_s=now,
                changed_s=now,
            )
            check_left(connection, invoice, refund)
            added = rows.add_refund(connection, refund, owner, idempotency_key, digest, actor, why)
            assert added, "asked under the lock"
            if piece is None:
                seen = store.evidence_of(connection, invoice_id)
                rows.add_parts(connection, refund.id, parts_to_take(connection, invoice, seen, refund))
            if account is not None:
                bank.add_account(connection, refund.id, account.iban)
            self._payments.states.follow(connection, invoice_id, now, changed=True)
        return refund

    def _known(self, owner: str, key: str, digest: bytes) -> Refund | None:
        with reading(self._engine) as connection:
            found = rows.refund_asked(connection, owner, key)
        return None if found is None else _same(found, digest)

    def _receiver(
        self, invoice: Invoice, asset: str, amount_minor: int, to: bytes | None, signature: bytes | None
    ) -> tuple[bytes, Proof]:
        if to is None or to == invoice.refund_to:
            if invoice.refund_to is None:
                reject(
                    "P6", "to", "the payer fixed no address before paying, so one must be given and proved"
                )
            return invoice.refund_to, Proof.FIXED
        check_receiver(to, self._sight)
        with reading(self._engine) as connection:
            if store.deposits_among(connection, [to]):
                reject("P6", "to", "this is a deposit address of an invoice")
        if signature is None or self._sight is None:
            reject(
                "P6", "signature", f"{checksummed(to)} was not fixed before paying, and has signed nothing"
            )
        return to, prove_receiver(self._sight, invoice.id, asset, amount_minor, to, signature)

    # --- deciding -----------------------------------------------------------------

    def approve(self, id: str, actor: str, *, is_owner: bool = False) -> Refund:
        """Let a refund go; the same again changes nothing.

        An address that was given after paying is approved after its 48 hours, or by an owner.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            refund = _one(connection, id)
            if refund.state is not RefundState.REQUESTED:
                if refund.state is RefundState.CANCELLED:
                    reject("P6", "refund", "it was cancelled")
                return refund
            if now < refund.ripe_s and not is_owner:
                why = f"its address was given after paying: it may go from {refund.ripe_s} on, now is {now}"
                reject("P6", "refund", why)
            self._move(connection, refund, RefundState.APPROVED, actor, "", now)
        self._going.start(id)
        return self.look(id)

    def cancel(self, id: str, actor: str, why: str) -> Refund:
        """Let a refund not go; refused once it may be under way. What it reserved is free again.

        What a wallet may have sent by now is looked for first, at the newest block: Unavailable where the
        chain cannot be asked. In tenge a promise that is not in effect stops nobody; money that left does.
        """
        self._going.look_for(self.look(id))
        now = self._clock()
        with self._engine.begin() as connection:
            refund = _one(connection, id)
            if refund.state is RefundState.CANCELLED:
                return refund
            if RefundState.CANCELLED not in MOVES[refund.state]:
                reject("P6", "refund", f"it is {refund.state.value} and may be under way")
            if refund.record_id is not None:
                check_why("P6", why)
                self._going.check_not_out(connection, refund)
            self._move(connection, refund, RefundState.CANCELLED, actor, why, now)
            if refund.invoice_id is None:
                _reopen(connection, refund, actor, why, now)
        return self.look(id)

    def report(self, id: str, transaction: bytes, actor: str) -> Refund:
        """Name the transaction by which a wallet sent the coin back; the chain decides whether it did.

        A token's transfer is found without: it leaves a log.
        """
        with self._engine.begin() as connection:
            refund = _one(connection, id)
            is_coin = self._sight is not None and self._sight.is_coin(refund.asset)
            if refund.source is not Source.MERCHANT or refund.state is not RefundState.PENDING or not is_coin:
                why = f"a refund in {refund.asset} that is {refund.state.value} takes no transaction"
                reject("P6", "refund", why)
            if len(transaction) != 32:
                reject("E2", "transaction", f"a transaction's hash has 32 bytes, this has {len(transaction)}")
            if (other := rows.refund_reported(connection, transaction)) not in {None, id}:
                reject("conflict", "transaction", f"it was named for the refund {other}")
            why = f"{actor} names 0x{transaction.hex()}"
            rows.set_refund(connection, id, reported=transaction, problem=why)
        return self.look(id)

    def take_bank(
        self, connection: Connection, entries: Sequence[BankEntry], came: Sequence[Evidence]
    ) -> list[Evidence]:
        """Note what a bank's file says of refunds, in the transaction that takes the file.

        Returns the money that the file says came: `came`, less and more what came back of refunds.
        """
        return self._going.take_bank(connection, entries, came)

    def retry(self, id: str, actor: str, why: str) -> Refund:
        """Try once more what certainly did not go, and what the ledger still promises."""
        now = self._clock()
        with self._engine.begin() as connection:
            refund = _one(connection, id)
            if refund.state is not RefundState.FAILED or refund.record_id is None:
                why = f"it is {refund.state.value}: only a failed one that is promised is tried again"
                reject("P6", "refund", why)
            self._move(connection, refund, RefundState.PENDING, actor, why, now)
        return self.look(id)

    def _move(
        self, connection: Connection, refund: Refund, state: RefundState, actor: str, why: str, now: int
    ) -> None:
        assert state in MOVES[refund.state], f"{refund.state} to {state} is no move"
        rows.set_refund_state(connection, refund.id, state, actor, why, now)
        if refund.invoice_id is not None:
            self._payments.states.follow(connection, refund.invoice_id, now, changed=True)

    # --- what follows by itself -----------------------------------------------------

    def follow(self) -> int:
        """Bring refunds that are under way to what the chain and the ledger say; returns how many moved."""
        return self._going.follow()

    # --- reading --------------------------------------------------------------------

    def look(self, id: str) -> Refund:
        """One refund."""
        with reading(self._engine) as connection:
            found = rows.refund(connection, id) if id.isascii() and id.isprintable() else None
        if found is None:
            reject("not_found", "refund", f"no refund is called {id[:40]!a}")
        return found

    def of(self, merchant_id: str | None, before: tuple[int, str], most: int) -> list[Refund]:
        """A merchant's refunds, newest first, a page at a time (keyset); None is the city."""
        with reading(self._engine) as connection:
            return rows.refunds_of_merchant(connection, merchant_id, before, most)

    def events(self, id: str) -> list[tuple[str, str, str, int]]:
        """The moves of a refund: state, who, why, when."""
        with reading(self._engine) as connection:
            return rows.refund_events(connection, id)

    def left(self, invoice_id: str) -> int:
        """How much of what an invoice received in its own asset can still be asked back."""
        invoice, _, _ = self._payments.look(invoice_id)
        with reading(self._engine) as connection:
            return received(connection, invoice, invoice.asset) - reserved(
                connection, invoice_id, invoice.asset
            )

    def prepared(self, refund: Refund) -> Prepared:
        """What the merchant's wallet is to send for an approved refund: no key of ours can."""
        if refund.source is not Source.MERCHANT or refund.state is not RefundState.PENDING:
            reject(
                "P6",
                "refund",
                f"a {refund.source.value}'s refund that is {refund.state.value} has no transaction",
            )
        if self._sight is None:
            reject("P6", "refund", "there is no chain here")
        token, chain_id = self._sight.token(refund.asset), self._sight.chain_id
        if self._sight.is_coin(refund.asset):
            link = f"ethereum:{checksummed(refund.receiver)}@{chain_id}?value={refund.amount_minor}"
            return Prepared(chain_id, refund.receiver, b"", refund.amount_minor, link)
        data = _TRANSFER + refund.receiver.rjust(32, b"\0") + refund.amount_minor.to_bytes(32, "big")
        where = f"address={checksummed(refund.receiver)}&uint256={refund.amount_minor}"
        return Prepared(
            chain_id, token, data, 0, f"ethereum:{checksummed(token)}@{chain_id}/transfer?{where}"
        )


# transfer(address,uint256)
_TRANSFER: Final = bytes.fromhex("a9059cbb")


def _one(connection: Connection, id: str) -> Refund:
    """A refund, locked after its invoice: always in this order, so that nobody waits in a circle."""
    found = rows.refund(connection, id)
    if found is None:
        reject("not_found", "refund", f"no refund is called {id[:40]!a}")
    if found.invoice_id is not None:
        store.locked_invoice(connection, found.invoice_id)
    locked = rows.locked_refund(connection, id)
    assert locked is not None
    return locked


def _reopen(connection: Connection, refund: Refund, actor: str, why: str, now: int) -> None:
    """Put money of no invoice back into the queue: what was decided about it will not be done."""
    assert refund.evidence_key is not None
    seen = store.locked_evidence(connection, refund.evidence_key)
    if seen is not None and seen.decision is Decision.REFUND:
        told = f"the refund {refund.id} was cancelled: {why}"
        store.decide(connection, Decided(seen.key, Decision.REOPENED, None, None, actor, told, now))


def _same(found: tuple[bytes, Refund], digest: bytes) -> Refund:
    if found[0] != digest:
        reject("idempotency", "Idempotency-Key", "this key was used for another refund")
    return found[1]
