"""Moving a refund by a round: the only door to its state, for whichever way its money goes."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from gateway.db import Connection
from gateway.payments import store
from gateway.payments.outgoing import Promised
from gateway.payments.refund_model import MOVES, Refund, RefundState
from gateway.payments.service import Payments
from gateway.payments.store import refunds as rows
from ledger.records import Transfer, hash_struct

STEP: Final = "refunds"


class RefundMoves:
    """Locks and moves refunds."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    def locked(self, connection: Connection, id: str) -> Refund:
        """A refund, locked after its invoice: always in this order, so that nobody waits in a circle."""
        found = rows.refund(connection, id)
        assert found is not None
        if found.invoice_id is not None:
            store.locked_invoice(connection, found.invoice_id)
        locked = rows.locked_refund(connection, id)
        assert locked is not None
        return locked

    def move(
        self, connection: Connection, refund: Refund, state: RefundState, why: str, now: int, **noted: Any
    ) -> None:
        """Move a refund, and its invoice with it; `noted` are columns that become known with it."""
        assert state in MOVES[refund.state], f"{refund.state} to {state} is no move"
        rows.set_refund_state(connection, refund.id, state, STEP, why, now, **noted)
        if refund.invoice_id is not None:
            self._payments.states.follow(connection, refund.invoice_id, now, changed=True)


def booked_transfer(refund: Refund, promised: Promised, evidence: bytes) -> Transfer:
    """What the ledger books when a refund has gone (SPEC W5): the receipt's accounts, the other way round."""
    return Transfer(
        time=0,
        id=sha256(b"refunded " + refund.id.encode()).digest(),
        debit=promised.receipt.credit,
        credit=promised.receipt.debit,
        asset=promised.receipt.asset,
        amount=refund.amount_minor,
        purpose=promised.receipt.purpose,
        authority=hash_struct(promised.refund),
        evidence=evidence,
    )
