"""How approved refunds go, and how it is known that they went.

What holds if the process dies here: each step is one transaction, and what it starts has a name that
follows from the refund. So the same step again finds what it did, and the chain or the ledger
is asked before anything is tried again (field failures 19, 23, 24, 43).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

from gateway.db import Connection, reading
from gateway.payments import store
from gateway.payments.by_bank import Bank, check_nothing_left
from gateway.payments.by_wallet import Wallets
from gateway.payments.credited import Credited
from gateway.payments.outgoing import Moved, Outgoing, Sight, TreasuryDoor
from gateway.payments.promises import Promises
from gateway.payments.refund_model import MOVES, UNDER_WAY, Refund, RefundState, Source
from gateway.payments.refund_moves import RefundMoves, booked_transfer
from gateway.payments.service import Payments
from gateway.payments.store import refunds as rows
from gateway.rails import BankEntry, Evidence
from gateway.sending.call import State
from ledger import store as ledger_store
from ledger.records import Invalid, Unavailable, decode, hash_struct, reject
from ledger.records import Refund as RefundRecord
from ledger.rules import TENGE
from ledger.writer import submit

LOGGER = logging.getLogger(__name__)
AT_ONCE: Final = 200
KIND: Final = "refund"
# After so many a person has to look: each costs gas.
TRIES: Final = 3
SIGNED_LATE: Final = (
    "the seats signed it after it was cancelled: the ledger holds its money for it, and no other"
)


class GoingBack:
    """Brings refunds that were approved to their end."""

    def __init__(
        self,
        payments: Payments,
        sight: Sight | None,
        outgoing: Outgoing | None,
        treasury: TreasuryDoor | None,
    ) -> None:
        self._payments, self._sight, self._outgoing, self._treasury = payments, sight, outgoing, treasury
        self._engine, self._clock = payments.engine, payments.clock
        self._moves = RefundMoves(payments)
        self._wallets = Wallets(payments, sight, self._moves)
        self._bank, self._promises = Bank(payments, self._moves), Promises(payments)
        self._credited = Credited(payments, sight, self._promises, self._book_paid)

    def start(self, id: str) -> None:
        """Begin an approved refund; what cannot begin now is begun by the next round."""
        try:
            self._begin(id)
        except (Invalid, Unavailable) as error:
            LOGGER.warning("refund %s does not begin: %s", id, error)
            with self._engine.begin() as connection:
                rows.set_refund(connection, id, problem=str(error))

    def look_for(self, refund: Refund) -> None:
        """See at once whether a wallet has sent a refund; Unavailable where the chain cannot be asked."""
        if refund.source is Source.MERCHANT and refund.state in UNDER_WAY:
            self._wallets.look(refund)

    def check_not_out(self, connection: Connection, refund: Refund) -> None:
        """Refuse to cancel what is promised, where the money may have gone or the promise is in effect."""
        if refund.asset != TENGE:
            reject("P6", "refund", f"it is {refund.state.value} and may be under way")
        check_nothing_left(connection, refund)
        if self._promises.is_in_effect(refund):
            why = "the seats have signed it, and a refund in effect is never taken back on the ledger"
            reject("P6", "refund", f"{why}: have the bank pay it, and what cannot be paid comes back")

    def follow(self) -> int:
        """One round over all that is under way; returns how many moved."""
        moved, after = 0, (-1, "")
        self._tell_signed()
        while True:
            with reading(self._engine) as connection:
                page = rows.refunds_in(connection, UNDER_WAY, AT_ONCE, after)
            moved += self._wallets.follow([one for one in page if one.source is Source.MERCHANT])
            credited = [one for one in page if one.credited_block is not None]
            moved += self._credited.follow(credited)
            for refund in page:
                if refund.credited_block is None:
                    moved += self._follow_one(refund)
            if len(page) < AT_ONCE:
                return moved
            after = (page[-1].created_s, page[-1].id)

    def _tell_signed(self) -> None:
        """Tell of what the seats signed although it was cancelled: the ledger holds its money for it."""
        with reading(self._engine) as connection:
            cancelled = rows.cancelled_promises(connection, AT_ONCE)
        for refund in cancelled:
            if refund.problem == SIGNED_LATE or not self._promises.is_in_effect(refund):
                continue
            LOGGER.error("refund %s: %s", refund.id, SIGNED_LATE)
            with self._engine.begin() as connection:
                rows.set_refund(connection, refund.id, problem=SIGNED_LATE)

    def _follow_one(self, refund: Refund) -> int:
        try:
            if refund.state is RefundState.APPROVED:
                self._begin(refund.id)
                return 1
            return self._follow_city(refund) if refund.source is Source.CITY else 0
        except Invalid as refused:
            # The ledger's answer is an answer: the promise is not made, and nothing can go.
            why = str(refused)
            return self._note_state(refund, RefundState.FAILED, why, problem=why, record_id=None)
        except Unavailable as error:
            # Told, and asked again: what is not known is not known (field failure 19).
            LOGGER.warning("refund %s waits: %s", refund.id, error)
            with self._engine.begin() as connection:
                rows.set_refund(connection, refund.id, problem=str(error))
            return 0

    def _begin(self, id: str) -> None:
        with reading(self._engine) as connection:
            asked = rows.refund(connection, id)
        assert asked is not None
        # A node is asked before anything is locked.
        beginning = self._wallets.beginning(asked) if asked.source is Source.MERCHANT else None
        now = self._clock()
        with self._engine.begin() as connection:
            refund = self._moves.locked(connection, id)
            if refund.state is not RefundState.APPROVED:
                return
            noted: dict[str, Any] = {"problem": None}
            if refund.source is Source.CITY:
                noted["record_id"] = self._promise(connection, refund, now)
            elif beginning is not None:
                noted["since_block"] = beginning.since_block
                noted["earlier"] = rows.encode_earlier(beginning.earlier)
            self._moves.move(connection, refund, RefundState.PENDING, "", now, **noted)

    def take_bank(
        self, connection: Connection, entries: Sequence[BankEntry], came: Sequence[Evidence]
    ) -> list[Evidence]:
        """Note what a bank's file says of refunds (gateway/payments/by_bank.py); returns what came."""
        return self._bank.take(connection, entries, came)

    # --- by the Treasury contract ---------------------------------------------------------

    def _promise(self, connection: Connection, refund: Refund, now: int) -> bytes:
        """Ask the ledger for the Refund record, under a key that follows from the refund."""
        assert refund.evidence_key is not None
        seen = store.evidence(connection, refund.evidence_key)
        assert seen is not None
        assert seen.position is not None
        receipt = decode(next(ledger_store.records(self._engine, seen.position, seen.position + 1)))
        told = {
            "kind": "refund",
            "refund": refund.id,
            "receipt": "0x" + hash_struct(receipt).hex(),
            "asset": refund.asset,
            "amount": str(refund.amount_minor),
            "proof": refund.proof.value,
        }
        document = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
        record = RefundRecord(
            time=0,
            id=sha256(b"refund " + refund.id.encode()).digest(),
            receipt_hash=hash_struct(receipt),
            amount=refund.amount_minor,
            to=refund.receiver.rjust(32, b"\0"),
            document=ledger_store.add_document(connection, document),
        )
        return submit(connection, record, now, refund.id.encode())

    def _follow_city(self, refund: Refund) -> int:
        if refund.outgoing_id is not None:
            return self._follow_call(refund)
        promised = self._promises.of(refund)
        if refund.asset == TENGE:
            # A bank's transfer is made by people, and the bank's files tell when it has gone.
            return self._bank.settle(refund, promised)
        if promised is None or self._treasury is None or self._outgoing is None or self._sight is None:
            return 0
        # Proofs are made before the transaction; only what is stored is decided inside it.
        attempt = self._next_attempt(refund)
        call = self._treasury.refund_call(f"{refund.id}/{attempt}", promised)
        if call is None:
            return 0
        if (ended := self._brought(refund)) is not None:
            return ended
        now = self._clock()
        with self._engine.begin() as connection:
            locked = self._moves.locked(connection, refund.id)
            if locked.outgoing_id is not None or locked.state is not RefundState.PENDING:
                return 0
            # Reserve, then queue; the sender signs, persists and broadcasts, in this order.
            if not rows.reserve_attempt(connection, KIND, refund.id, attempt, now):
                return 0
            id = self._outgoing.queue(connection, self._sight.rail, call, now)
            rows.set_attempt(connection, KIND, refund.id, attempt, "queued", "", outgoing_id=id)
            rows.set_refund(connection, refund.id, outgoing_id=id, problem=None)
        return 1

    def _next_attempt(self, refund: Refund) -> int:
        with reading(self._engine) as connection:
            return len(rows.attempts_of(connection, KIND, refund.id)) + 1

    def _follow_call(self, refund: Refund) -> int:
        assert self._outgoing is not None
        assert refund.outgoing_id is not None
        with reading(self._engine) as connection:
            outcome = self._outgoing.outcome(connection, refund.outgoing_id)
        match outcome.state:
            case State.FINAL:
                return self._note_paid(refund, outcome.transaction, outcome.block)
            case State.REVERTED | State.DROPPED:
                # It certainly did not go and cannot any more: only now another try is allowed.
                if (ended := self._brought(refund)) is not None:
                    return ended
                return self._again(refund, f"{outcome.state.value}: {outcome.why}")
            case State.UNKNOWN:
                return self._note_state(refund, RefundState.UNKNOWN, outcome.why)
            case State.SENT | State.MINED:
                return self._note_state(refund, RefundState.SENT, "")
            case State.QUEUED | State.SIGNED:
                return 0

    def _brought(self, refund: Refund) -> int | None:
        """What follows where somebody else had it paid, who may be anybody; None where nobody had."""
        assert self._treasury is not None
        assert self._sight is not None
        promised = self._promises.of(refund)
        first = None if promised is None else self._treasury.paid_since(promised)
        if promised is None or first is None:
            return None
        found = self._sight.let_go(refund.asset, hash_struct(promised.refund), first)
        if found is None:
            # Not final yet, and no try of ours can go any more.
            return 0
        if found.moved is not None:
            return int(self._book_paid(refund, found.moved))
        self._credited.note(refund, found.block, found.transaction)
        return self._note_state(refund, RefundState.SENT, "credited by the treasury")

    def _note_state(self, refund: Refund, state: RefundState, why: str, **noted: Any) -> int:
        with self._engine.begin() as connection:
            locked = self._moves.locked(connection, refund.id)
            if locked.state is state or state not in MOVES[locked.state]:
                return 0
            self._moves.move(connection, locked, state, why, self._clock(), **noted)
        return 1

    def _again(self, refund: Refund, why: str) -> int:
        now = self._clock()
        with self._engine.begin() as connection:
            locked = self._moves.locked(connection, refund.id)
            if locked.outgoing_id != refund.outgoing_id or locked.state not in UNDER_WAY:
                return 0
            tries = rows.attempts_of(connection, KIND, refund.id)
            rows.set_attempt(connection, KIND, refund.id, tries[-1][0], "failed", why)
            self._moves.move(connection, locked, RefundState.FAILED, why, now, outgoing_id=None, problem=why)
            if len(tries) < TRIES:
                failed = replace(locked, state=RefundState.FAILED)
                self._moves.move(connection, failed, RefundState.PENDING, "tried again", now)
        return 1

    def _note_paid(self, refund: Refund, transaction: bytes | None, block: int | None) -> int:
        """The call is final: the Transfer that it made is the proof."""
        assert self._sight is not None
        assert block is not None
        assert transaction is not None
        seen = self._sight.moved(
            refund.asset, {self._sight.treasury}, {refund.receiver}, block, block, is_final=True
        )
        mine = [
            one for one in seen if (one.transaction, one.amount_minor) == (transaction, refund.amount_minor)
        ]
        if mine:
            return int(self._book_paid(refund, mine[0]))
        # Success is the expected Transfer, not the absence of an error (field failure 21). Treasury
        # credits whoever cannot receive: then it is the receiver's to pull, and this waits for it.
        if not self._credited.note(refund, block, transaction):
            raise Unavailable(
                self._sight.rail, "the refund was executed and no Transfer to the receiver is seen"
            )
        self._note_state(refund, RefundState.SENT, "credited by the treasury")
        return 1

    def _book_paid(self, refund: Refund, moved: Moved) -> bool:
        """The ledger books a refund by the movement that ended it (W5); False while it is behind."""
        promised = self._promises.of(refund)
        if promised is None:
            return False
        now = self._clock()
        with self._engine.begin() as connection:
            locked = self._moves.locked(connection, refund.id)
            if locked.state is RefundState.FINAL or rows.is_transfer_taken(connection, moved.key):
                return False
            evidence = ledger_store.add_document(connection, moved.document)
            record = booked_transfer(refund, promised, evidence)
            submit(connection, record, now)
            if tries := rows.attempts_of(connection, KIND, refund.id):
                rows.set_attempt(connection, KIND, refund.id, tries[-1][0], "final", "")
            noted = {"transfer_key": moved.key, "transfer_id": record.id, "problem": None}
            self._moves.move(connection, locked, RefundState.FINAL, f"transfer {moved.key}", now, **noted)
        return True
