"""Refunds that Treasury credited, since the receiver could not receive: they end when the receiver pulls.

A pull takes all that is credited to one receiver in one asset, so that one can end several refunds: each is
proved by what the treasury said of it itself (decision 0029).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from gateway.payments.by_wallet import BLOCKS_A_ROUND
from gateway.payments.outgoing import Credit, Moved, Pull, Sight
from gateway.payments.promises import Promises
from gateway.payments.refund_model import Refund
from gateway.payments.service import Payments
from gateway.payments.store import refunds as rows
from ledger.records import Unavailable, hash_struct

LOGGER = logging.getLogger(__name__)
WAITS: Final = "credited, waiting for the receiver to pull"

# Books a refund by the movement that ended it; False where it cannot be booked yet.
Book = Callable[[Refund, Moved], bool]


class Credited:
    """Watches for what receivers pull."""

    def __init__(self, payments: Payments, sight: Sight | None, promises: Promises, book: Book) -> None:
        self._engine, self._sight = payments.engine, sight
        self._promises, self._book = promises, book

    def note(self, refund: Refund, block: int, transaction: bytes) -> bool:
        """Note that a call which is final credited its receiver; False where it did not."""
        assert self._sight is not None
        if not self._sight.is_credited(_credit(refund, block, transaction)):
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
            moved += self._follow_group(asset, mine, first, last)
        return moved

    def _follow_group(self, asset: str, refunds: Sequence[Refund], first: int, last: int) -> int:
        assert self._sight is not None
        try:
            return self._scan(asset, refunds, first, last)
        except Unavailable as error:
            LOGGER.warning("%d credited refunds wait: %s", len(refunds), error)
            if len(refunds) == 1:
                return 0
        try:
            self._sight.head()
        except Unavailable:
            return 0
        # The chain can be asked, and not this: what fails of one receiver stops no other.
        return sum(self._follow_group(asset, [one], first, last) for one in refunds)

    def _scan(self, asset: str, refunds: Sequence[Refund], first: int, last: int) -> int:
        assert self._sight is not None
        pulls = self._sight.pulled(asset, {one.receiver for one in refunds}, first, last)
        ended, waiting = 0, []
        for refund in refunds:
            paid = self._paid(refund, [one for one in pulls if one.receiver == refund.receiver])
            if paid is None:
                waiting.append(refund.id)
            else:
                # What cannot be booked yet is looked at again, from the same block on.
                ended += self._book(refund, paid)
        with self._engine.begin() as connection:
            rows.set_scanned(connection, waiting, last)
        return ended

    def _paid(self, refund: Refund, pulls: Sequence[Pull]) -> Moved | None:
        """What a refund paid by the first of these pulls that took it."""
        assert self._sight is not None
        assert refund.credited_block is not None
        fitting = [one for one in pulls if one.block >= refund.credited_block]
        if not fitting:
            return None
        promised = self._promises.of(refund)
        if promised is None:
            return None
        # By whose transaction it was credited the chain says: anybody may have had it paid.
        found = self._sight.let_go(refund.asset, hash_struct(promised.refund), refund.credited_block)
        if found is None:
            return None
        credit = _credit(refund, refund.credited_block, found.transaction)
        paid = (self._sight.paid_by_pull(credit, one) for one in fitting)
        return next((one for one in paid if one is not None), None)


def _credit(refund: Refund, block: int, transaction: bytes) -> Credit:
    return Credit(refund.asset, refund.receiver, refund.amount_minor, block, transaction)
