"""Money above what was asked: a merchant's policy keeps it as a credit, or asks for it to go back."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from gateway.db import Connection
from gateway.merchants.policy import Over
from gateway.payments.model import Derived, Status, counts
from gateway.payments.parts import going_back
from gateway.payments.refund_model import Proof, Refund, RefundState, Source
from gateway.payments.store import Invoice, Seen
from gateway.payments.store import refunds as rows
from gateway.rails import PAYS, Stage

POLICY = "policy"


def ask_back(
    connection: Connection, invoice: Invoice, derived: Derived, seen: Sequence[Seen], now: int
) -> Refund | None:
    """Request a refund of what is over, where the policy says so and the payer said to where.

    In the transaction that made it final, under the invoice's lock: what was asked back already is
    not asked back again. Nothing goes before somebody approves.
    """
    wanted = invoice.policy.over_policy is Over.REFUND and derived.status is Status.FINAL
    if not wanted or not derived.over_minor or invoice.refund_to is None or invoice.merchant_id is None:
        return None
    # Only what is final can go back, though more may be on its way.
    final = sum(
        piece.amount_minor
        for piece in seen
        if piece.kind in PAYS
        and piece.stage is Stage.FINAL
        and piece.asset == invoice.asset
        and counts(invoice.terms, piece.payment)
    )
    known = rows.refunds_of_invoice(connection, invoice.id)
    # What goes back of money that does not count is nothing of this.
    back = [one for one in going_back(connection, invoice, seen) if one.asset == invoice.asset]
    left = final - invoice.due_minor - sum(one.amount_minor for one in back if not one.is_held)
    if left <= 0:
        return None
    # Named by what had been asked back before it, so that the same again is the same.
    key = f"over {invoice.id} {len(known)}"
    digest = sha256(f"{key} {left}".encode()).digest()
    refund = Refund(
        id=f"r_{digest.hex()[:24]}",
        invoice_id=invoice.id,
        evidence_key=None,
        merchant_id=invoice.merchant_id,
        source=Source.MERCHANT,
        asset=invoice.asset,
        amount_minor=left,
        receiver=invoice.refund_to,
        proof=Proof.FIXED,
        ripe_s=now,
        state=RefundState.REQUESTED,
        created_s=now,
        changed_s=now,
    )
    added = rows.add_refund(connection, refund, invoice.merchant_id, key, digest, POLICY, "overpaid")
    return refund if added else None
