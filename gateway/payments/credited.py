"""Refunds that Treasury credited, since the receiver could not receive: they end when the receiver pulls.

A pull takes all that is credited to one receiver in one asset, and the ledger books one movement for each
refund. So nothing more is sent to a receiver who has a refund to pull, and a pull is of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from gateway.db import reading
from gateway.payments.by_wallet import BLOCKS_A_ROUND
from gateway.payments.outgoing import Moved, Sight
from gateway.payments.refund_model import Refund
from gateway.payments.service import Payments
from gateway.payments.store import refunds as rows
from ledger.records import Unavailable

LOGGER = logging.getLogger(__name__)
WAITS: Final = "credited, waiting for the receiver to pull"

# Books a refund by the movement that ended it; False where it cannot be booked yet.
Book = Callable[[Refund, Moved], bool]


class Credited:
    """Watches for what receivers pull."""

    def __init__(self, payments: Payments, sight: Sight | None, book: Book) -> None:
        self._engine, self._sight, self._book = payments.engine, sight, book

    def note(self, refund: Refund, block: int, transaction: bytes) -> bool:
        """Note that a call which is final credited its receiver; False where it did not."""
        assert self._sight is not None
        asked = (refund.asset, refund.receiver, refund.amount_minor, block, transaction)
        if not self._sight.is_credited(*asked):
            return False
        with self._engine.begin() as connection:
            rows.set_refund(connection, refund.id, credited_block=block, problem=f"{WAITS} (block {block})")
        return True

    def follow(self, refunds: Sequence[Refund]) -> int:
        """See who has pulled, up to the final block; each is asked about from where it was left."""
        if not refunds or self._sight is None:
            return 0
        try:
            final = self._sight.head().final
        except Unavailable as error:
            LOGGER.warning("credited refunds wait: %s", error)
            return 0
        moved = 0
        groups: dict[tuple[str, int], list[Refund]] = {}
        for one in refunds:
            assert one.credited_block is not None
            first = max(one.credited_block, (one.scanned_block or 0) + 1)
            if first <= final:
                groups.setdefault((one.asset, first), []).append(one)
        for (asset, first), mine in sorted(groups.items()):
            last = min(final, first + BLOCKS_A_ROUND - 1)
            try:
                moved += self._scan(asset, mine, first, last)
            except Unavailable as error:
                LOGGER.warning("%d credited refunds wait: %s", len(mine), error)
        return moved

    def _scan(self, asset: str, refunds: Sequence[Refund], first: int, last: int) -> int:
        assert self._sight is not None
        left = self._sight.pulled(asset, {one.receiver for one in refunds}, first, last)
        with reading(self._engine) as connection:
            taken = rows.transfers_taken(connection, [one.key for one in left])
        ended, waiting = 0, []
        for refund in refunds:
            mine = [one for one in left if one.receiver == refund.receiver and one.key not in taken]
            fitting = next((one for one in mine if one.amount_minor == refund.amount_minor), None)
            if fitting is None:
                self._tell_others(refund, mine)
                waiting.append(refund.id)
                continue
            left.remove(fitting)
            # What cannot be booked yet is looked at again, from the same block on.
            ended += self._book(refund, fitting)
        with self._engine.begin() as connection:
            rows.set_scanned(connection, waiting, last)
        return ended

    def _tell_others(self, refund: Refund, pulled: Sequence[Moved]) -> None:
        """A pull of another amount: what was credited besides went with it, and a person has to look."""
        if not pulled:
            return
        amounts = " and ".join(str(one.amount_minor) for one in pulled)
        why = f"credited, and the receiver pulled {amounts}, the refund is of {refund.amount_minor}"
        with self._engine.begin() as connection:
            rows.set_refund(connection, refund.id, problem=why)
