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
from gateway.payments import store
from gateway.payments.going_back import GoingBack
from gateway.payments.outgoing import Outgoing, Sight, TreasuryDoor
from gateway.payments.receivers import WAIT_S, check_receiver, prove_receiver
from gateway.payments.refund_model import MOVES, Proof, Refund, RefundState, Source, reserves
from gateway.payments.service import Payments
from gateway.payments.store import Decision, Invoice, Seen
from gateway.payments.store import refunds as rows
from gateway.rails import BOOKS, PAYS, BankEntry, Evidence, Kind, Stage
from ledger.records import reject
from ledger.rules import TENGE

KEY_LIMIT: Final = 255


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
        why: str = "",
    ) -> Refund:
        """Reserve an amount of what an invoice received, to go back.

        to None: where the payer fixed before paying. Any other address proves itself by its signature
        over the terms (gateway/payments/receivers.py), and then waits 48 hours or for an owner.
        The same Idempotency-Key with the same request gives the same refund.
        """
        if not 1 <= len(idempotency_key) <= KEY_LIMIT:
            reject("idempotency", "Idempotency-Key", f"a refund needs a key of 1 to {KEY_LIMIT} characters")
        invoice, _, _ = self._payments.look(invoice_id)
        source = source or (Source.CITY if invoice.merchant_id is None else Source.MERCHANT)
        asked = repr((invoice_id, evidence_key, amount_minor, to, source.value)).encode()
        owner, digest = invoice.merchant_id or "city", sha256(asked).digest()
        if (known := self._known(owner, idempotency_key, digest)) is not None:
            return known
        with reading(self._engine) as connection:
            asset = _asset(connection, invoice, evidence_key)
        # A node may be asked about a contract's signature, so before any lock.
        receiver, proof = self._receiver(invoice, asset, amount_minor, to, signature)
        now = self._clock()
        refund = Refund(
            id=f"r_{secrets.token_hex(12)}",
            invoice_id=invoice_id,
            evidence_key=evidence_key,
            merchant_id=invoice.merchant_id,
            source=source,
            asset=asset,
            amount_minor=amount_minor,
            receiver=receiver,
            proof=proof,
            ripe_s=now if proof is Proof.FIXED else now + WAIT_S,
            state=RefundState.REQUESTED,
            created_s=now,
            changed_s=now,
        )
        with self._engine.begin() as connection:
            # One after the other: what is left is counted under this lock.
            store.locked_invoice(connection, invoice_id)
            if (found := rows.refund_asked(connection, owner, idempotency_key)) is not None:
                return _same(found, digest)
            _check_left(connection, invoice, refund)
            added = rows.add_refund(connection, refund, owner, idempotency_key, digest, actor, why)
            assert added, "asked under the lock"
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
            reject("P6", "signature", f"0x{to.hex()} was not fixed before paying, and has signed nothing")
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
        """Let a refund not go; refused once it may be under way.

        What a wallet may have sent by now is looked for first, at the newest block: Unavailable where the
        chain cannot be asked.
        """
        self._going.look_for(self.look(id))
        now = self._clock()
        with self._engine.begin() as connection:
            refund = _one(connection, id)
            if refund.state is RefundState.CANCELLED:
                return refund
            if RefundState.CANCELLED not in MOVES[refund.state] or refund.record_id is not None:
                reject("P6", "refund", f"it is {refund.state.value} and may be under way")
            self._move(connection, refund, RefundState.CANCELLED, actor, why, now)
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
            link = f"ethereum:0x{refund.receiver.hex()}@{chain_id}?value={refund.amount_minor}"
            return Prepared(chain_id, refund.receiver, b"", refund.amount_minor, link)
        data = _TRANSFER + refund.receiver.rjust(32, b"\0") + refund.amount_minor.to_bytes(32, "big")
        where = f"address=0x{refund.receiver.hex()}&uint256={refund.amount_minor}"
        return Prepared(chain_id, token, data, 0, f"ethereum:0x{token.hex()}@{chain_id}/transfer?{where}")


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


def _same(found: tuple[bytes, Refund], digest: bytes) -> Refund:
    if found[0] != digest:
        reject("idempotency", "Idempotency-Key", "this key was used for another refund")
    return found[1]


def _asset(connection: Connection, invoice: Invoice, evidence_key: str | None) -> str:
    if evidence_key is None:
        return invoice.asset
    return _evidence(connection, invoice, evidence_key).asset


def _evidence(connection: Connection, invoice: Invoice, key: str) -> Seen:
    found = store.evidence(connection, key)
    if found is None or found.invoice_id != invoice.id:
        reject("not_found", "evidence", f"the invoice has no evidence {key[:80]!a}")
    return found


def received(connection: Connection, invoice: Invoice, asset: str) -> int:
    """Final money of an invoice in an asset, in units received: what came, not its worth (29)."""
    return sum(
        seen.amount_minor
        for seen in store.evidence_of(connection, invoice.id)
        if seen.kind in PAYS
        and seen.stage is Stage.FINAL
        and seen.asset == asset
        and seen.decision is not Decision.RETAINED
    )


def reserved(connection: Connection, invoice_id: str, asset: str) -> int:
    """What of it goes back already, or is asked back."""
    return sum(
        refund.amount_minor
        for refund in rows.refunds_of_invoice(connection, invoice_id)
        if refund.asset == asset and reserves(refund.state)
    )


def _check_left(connection: Connection, invoice: Invoice, refund: Refund) -> None:
    """Refuse more than what is left: of the invoice, of the piece of evidence, of the city's receipt."""
    if not 0 < refund.amount_minor < 1 << 128:
        reject("E4", "amount", f"a refund is of 1 unit or more and below 2^128, not of {refund.amount_minor}")
    came = received(connection, invoice, refund.asset)
    left = came - reserved(connection, invoice.id, refund.asset)
    if refund.amount_minor > left:
        reject(
            "F1",
            "amount",
            f"{came} final {refund.asset} came and {left} are left, this is {refund.amount_minor}",
        )
    if refund.evidence_key is not None:
        seen = _evidence(connection, invoice, refund.evidence_key)
        if seen.stage is not Stage.FINAL:
            reject("P6", "evidence", f"this money is {seen.stage.value}, only final money goes back")
        bound = seen.city_minor if refund.source is Source.CITY else seen.amount_minor
        gone = sum(
            one.amount_minor
            for one in rows.refunds_of_evidence(connection, seen.key)
            if reserves(one.state) and one.source is refund.source
        )
        if refund.amount_minor > bound - gone:
            reject(
                "F1",
                "amount",
                f"{bound - gone} of {bound} are left of this, the refund is {refund.amount_minor}",
            )
    if refund.source is Source.CITY:
        _check_receipt(connection, invoice, refund)
    elif invoice.merchant_id is None or refund.asset == TENGE:
        reject("P6", "source", "this money never was a merchant's")
    else:
        _check_flushed(connection, invoice)


def _check_receipt(connection: Connection, invoice: Invoice, refund: Refund) -> None:
    if refund.evidence_key is None:
        reject("P6", "evidence", "the city pays back against one receipt, so the evidence must be named")
    seen = _evidence(connection, invoice, refund.evidence_key)
    if seen.kind not in BOOKS or seen.position is None:
        reject("F1", "evidence", "this is not on the ledger yet, so no receipt bounds the refund")


def _check_flushed(connection: Connection, invoice: Invoice) -> None:
    """Money on a deposit address is nobody's yet: the merchant gets it when it is split."""
    seen = store.evidence_of(connection, invoice.id)
    came = sum(s.amount_minor for s in seen if s.kind is Kind.DEPOSIT and s.stage is Stage.FINAL)
    left = sum(s.amount_minor for s in seen if s.kind is Kind.FLUSH and s.stage is Stage.FINAL)
    if came > left:
        reject(
            "P6", "evidence", f"{came} came to the deposit address and {left} of it were split: flush first"
        )
