"""Refunds that a merchant's own wallet sends: seen on the chain, and final when their transfer is.

What proves a refund came after it was approved: it stands in a block after the newest that was seen then,
and is none of the transactions that had sent the like before and could still move to a later block.

Each refund keeps up to which final block it was looked for, so that a round asks for what is new, however
long ago it was asked. What is passed over all nodes that agree are asked about, since nobody looks again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.db import reading
from gateway.payments import store
from gateway.payments.outgoing import CoinSent, Moved, Seen, Sight
from gateway.payments.refund_model import UNDER_WAY, Refund, RefundState
from gateway.payments.refund_moves import RefundMoves
from gateway.payments.service import Payments
from gateway.payments.store import refunds as rows
from ledger.records import Invalid, Unavailable

LOGGER = logging.getLogger(__name__)
# Of one question in one round; a refund that is further behind is looked for in the next ones.
BLOCKS_A_ROUND: Final = 20_000


@dataclass(frozen=True)
class Beginning:
    """From when on a transfer can be a refund: its first block, and what it cannot be in whatever block."""

    since_block: int
    earlier: frozenset[bytes]


class Wallets:
    """Watches for what merchants' wallets send back."""

    def __init__(self, payments: Payments, sight: Sight | None, moves: RefundMoves) -> None:
        self._engine, self._clock = payments.engine, payments.clock
        self._sight, self._moves = sight, moves

    def beginning(self, refund: Refund) -> Beginning | None:
        """Where the chain is now: nothing that was sent before can be this refund."""
        if self._sight is None:
            return None
        head = self._sight.head()
        # A block that is not final can go, and what it held can come again higher up. The coin leaves no log:
        # of it only the block is held against what is named later.
        wallet, first = self._wallets([refund])[refund.id], head.final + 1
        seen = self._sight.moved(refund.asset, {wallet}, {refund.receiver}, first, head.latest)
        earlier = frozenset(one.transaction for one in seen if one.amount_minor == refund.amount_minor)
        return Beginning(head.latest + 1, earlier)

    def follow(self, refunds: Sequence[Refund]) -> int:
        """See which merchants' wallets have sent: one question for each asset, however many refunds.

        Those that are further behind than the others are asked about apart.
        """
        waiting = [
            one for one in refunds if one.state is not RefundState.APPROVED and one.since_block is not None
        ]
        if not waiting or self._sight is None:
            return 0
        try:
            head = self._sight.head()
        except Unavailable as error:
            LOGGER.warning("refunds by wallet wait: %s", error)
            return 0
        moved = 0
        groups: dict[tuple[str, int], list[Refund]] = {}
        for one in waiting:
            if self._sight.is_coin(one.asset):
                moved += self._follow_coin(one, head.final)
            else:
                first = min(one.unseen_from, head.final + 1)
                groups.setdefault((one.asset, first), []).append(one)
        for (_, first), mine in sorted(groups.items()):
            moved += self._follow_tokens(mine, first, head)
        return moved

    def look(self, refund: Refund) -> None:
        """Look for one refund now, up to the newest block; Unavailable where the chain cannot be asked."""
        if self._sight is None or refund.since_block is None or refund.state is RefundState.APPROVED:
            return
        head = self._sight.head()
        if self._sight.is_coin(refund.asset):
            self._find_coin(refund, head.final)
        else:
            self._scan([refund], refund.unseen_from, head.latest, head)

    # --- tokens -----------------------------------------------------------------------------

    def _follow_tokens(self, refunds: list[Refund], first: int, head: Seen) -> int:
        """Look for refunds of one asset from one block on; what fails of one merchant stops no other."""
        try:
            return self._scan(refunds, first, min(head.latest, first + BLOCKS_A_ROUND - 1), head)
        except Unavailable as error:
            LOGGER.warning("%d refunds by wallet wait: %s", len(refunds), error)
            if len({one.merchant_id for one in refunds}) == 1 or not self._is_there():
                self._tell(refunds, str(error))
                return 0
        # The chain can be asked, and not this: half of them each, down to whose question it is that fails.
        ordered = sorted(refunds, key=lambda one: (one.merchant_id or "", one.created_s, one.id))
        middle = len(ordered) // 2
        while 0 < middle < len(ordered) and ordered[middle].merchant_id == ordered[middle - 1].merchant_id:
            middle += 1
        if middle == len(ordered):
            middle = next(at for at, one in enumerate(ordered) if one.merchant_id == ordered[-1].merchant_id)
        return sum(self._follow_tokens(half, first, head) for half in (ordered[:middle], ordered[middle:]))

    def _is_there(self) -> bool:
        assert self._sight is not None
        try:
            self._sight.head()
        except Unavailable:
            return False
        return True

    def _tell(self, refunds: Sequence[Refund], problem: str) -> None:
        with self._engine.begin() as connection:
            for refund in refunds:
                rows.set_refund(connection, refund.id, problem=problem)

    def _scan(self, refunds: Sequence[Refund], first: int, last: int, head: Seen) -> int:
        assert self._sight is not None
        asset, wallets = refunds[0].asset, self._wallets(refunds)
        whose, receivers = set(wallets.values()), {one.receiver for one in refunds}
        settled = min(last, head.final)
        seen = self._sight.moved(asset, whose, receivers, first, settled, is_final=True)
        seen += self._sight.moved(asset, whose, receivers, max(first, head.final + 1), last)
        moved = self._match(refunds, wallets, seen, head, is_whole=last >= head.latest)
        with self._engine.begin() as connection:
            rows.set_scanned(connection, [one.id for one in refunds], settled)
            for one in refunds:
                if one.problem is not None:
                    rows.set_refund(connection, one.id, problem=None)
        return moved

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
        self,
        refunds: Sequence[Refund],
        wallets: dict[str, bytes],
        seen: Sequence[Moved],
        head: Seen,
        *,
        is_whole: bool,
    ) -> int:
        """One transfer stands for one refund, in the order in which they were asked (field failure 15).

        is_whole: all up to the newest block was asked for, so that what is not seen is not there.
        """
        with reading(self._engine) as connection:
            taken = rows.transfers_taken(connection, [one.key for one in seen])
        left, count = {one.key: one for one in seen}, 0
        for refund in refunds:
            fitting = [
                one
                for one in left.values()
                if (one.sender, one.receiver) == (wallets[refund.id], refund.receiver)
                and one.amount_minor == refund.amount_minor
                and one.block >= (refund.since_block or 0)
                and one.transaction not in refund.earlier
                and taken.get(one.key, refund.id) == refund.id
            ]
            mine = next((one for one in fitting if one.key == refund.transfer_key), None)
            mine = mine or next(iter(fitting), None)
            if mine is not None:
                del left[mine.key]
            elif not is_whole:
                continue
            count += self._note_wallet(refund.id, mine, head.final)
        return count

    # --- the coin ---------------------------------------------------------------------------

    def _follow_coin(self, refund: Refund, final: int) -> int:
        try:
            return self._find_coin(refund, final)
        except Unavailable as error:
            # Of this one nothing is known; the others are looked at.
            self._tell([refund], str(error))
            return 0

    def _find_coin(self, refund: Refund, final: int) -> int:
        """The coin leaves no log: only the transaction that was named is looked at."""
        assert self._sight is not None
        if refund.reported is None:
            return 0
        asked = CoinSent(
            refund.asset, refund.reported, self._wallets([refund])[refund.id], refund.receiver,
            refund.amount_minor, refund.since_block or 0,
        )  # fmt: skip
        try:
            found = self._sight.coin_moved(asked, final, refund.transfer_key)
        except Invalid as refused:
            return self._forget_report(refund, refused.why, final)
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
