"""Refunds that a merchant's own wallet sends: seen on the chain, and final when their transfer is."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway.db import reading
from gateway.payments import store
from gateway.payments.outgoing import CoinSent, Moved, Sight
from gateway.payments.refund_model import UNDER_WAY, Refund, RefundState
from gateway.payments.refund_moves import RefundMoves
from gateway.payments.service import Payments
from gateway.payments.store import refunds as rows
from ledger.records import Invalid, Unavailable

LOGGER = logging.getLogger(__name__)


class Wallets:
    """Watches for what merchants' wallets send back."""

    def __init__(self, payments: Payments, sight: Sight | None, moves: RefundMoves) -> None:
        self._engine, self._clock = payments.engine, payments.clock
        self._sight, self._moves = sight, moves

    def follow(self, refunds: Sequence[Refund]) -> int:
        """See which merchants' wallets have sent: one question for each asset, however many refunds."""
        waiting = [
            one for one in refunds if one.state is not RefundState.APPROVED and one.since_block is not None
        ]
        if not waiting or self._sight is None:
            return 0
        moved = 0
        try:
            head = self._sight.head()
            for asset in sorted({one.asset for one in waiting}):
                mine = [one for one in waiting if one.asset == asset]
                wallets = self._wallets(mine)
                if self._sight.is_coin(asset):
                    moved += sum(self._follow_coin(one, wallets[one.id], head.final) for one in mine)
                    continue
                first = min(one.since_block or 0 for one in mine)
                receivers = {one.receiver for one in mine}
                seen = self._sight.moved(asset, set(wallets.values()), receivers, first, head.latest)
                moved += self._match(mine, wallets, seen, head.final)
        except Unavailable as error:
            LOGGER.warning("refunds by wallet wait: %s", error)
        return moved

    def _follow_coin(self, refund: Refund, wallet: bytes, final: int) -> int:
        """The coin leaves no log: only the transaction that was named is looked at."""
        assert self._sight is not None
        if refund.reported is None:
            return 0
        asked = CoinSent(
            refund.asset, refund.reported, wallet, refund.receiver, refund.amount_minor,
            refund.since_block or 0,
        )  # fmt: skip
        try:
            found = self._sight.coin_moved(asked, final, refund.transfer_key)
        except Invalid as refused:
            return self._forget_report(refund, refused.why, final)
        except Unavailable as error:
            # Of this one nothing is known; the others are looked at.
            with self._engine.begin() as connection:
                rows.set_refund(connection, refund.id, problem=str(error))
            return 0
        if found is not None and found.key != refund.transfer_key:
            with reading(self._engine) as connection:
                is_taken = rows.is_transfer_taken(connection, found.key)
            if is_taken:
                why = f"what 0x{refund.reported.hex()} moved stands for another refund"
                return self._forget_report(refund, why, final)
        return self._note_wallet(refund.id, found, final)

    def _forget_report(self, refund: Refund, why: str, final: int) -> int:
        """Tell why what was named proves nothing; another transaction may be named."""
        with self._engine.begin() as connection:
            rows.set_refund(connection, refund.id, reported=None, problem=why)
        return self._note_wallet(refund.id, None, final)

    def _wallets(self, refunds: Sequence[Refund]) -> dict[str, bytes]:
        with reading(self._engine) as connection:
            found = {}
            for refund in refunds:
                assert refund.invoice_id is not None
                invoice = store.invoice(connection, refund.invoice_id)
                assert invoice is not None
                found[refund.id] = invoice.payee
        return found

    def _match(
        self, refunds: Sequence[Refund], wallets: dict[str, bytes], seen: Sequence[Moved], final: int
    ) -> int:
        """One transfer stands for one refund, in the order in which they were asked (field failure 15)."""
        left, count = {one.key: one for one in seen}, 0
        for refund in refunds:
            fitting = [
                one
                for one in left.values()
                if (one.sender, one.receiver) == (wallets[refund.id], refund.receiver)
                and one.amount_minor == refund.amount_minor
                and one.block >= (refund.since_block or 0)
            ]
            mine = next((one for one in fitting if one.key == refund.transfer_key), None)
            mine = mine or next(iter(fitting), None)
            if mine is not None:
                del left[mine.key]
            count += self._note_wallet(refund.id, mine, final)
        return count

    def _note_wallet(self, id: str, moved: Moved | None, final: int) -> int:
        now = self._clock()
        with self._engine.begin() as connection:
            refund = self._moves.locked(connection, id)
            if refund.state not in UNDER_WAY:
                return 0
            if moved is None:
                if refund.state is not RefundState.SENT:
                    return 0
                # Its block is gone.
                self._moves.move(
                    connection, refund, RefundState.PENDING, "its block is gone", now, transfer_key=None
                )
                return 1
            if refund.transfer_key != moved.key and rows.is_transfer_taken(connection, moved.key):
                return 0
            state = RefundState.FINAL if moved.block <= final else RefundState.SENT
            if state is refund.state and refund.transfer_key == moved.key:
                return 0
            if state is refund.state:
                rows.set_refund(connection, id, transfer_key=moved.key)
                return 1
            self._moves.move(connection, refund, state, f"transfer {moved.key}", now, transfer_key=moved.key)
        return 1
