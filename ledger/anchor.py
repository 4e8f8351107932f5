"""Anchoring a head on an EVM chain: the only web3 of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from eth_account.signers.local import LocalAccount

from contracts.bindings import City, Gap, Signature
from contracts.events import Anchored
from ledger import store
from ledger.anchor_store import Sent
from ledger.anchoring import Held, Signed
from ledger.records import Unavailable
from ledger.watcher import SignedHead

# After this long without a block, a transaction is replaced by one that pays more.
PATIENCE_S: Final = 60
# Wei for one unit of gas: above this a person decides, because the head can wait for anchor_gap.
MOST_FEE_WEI: Final = 500 * 10**9
# At most this many blocks in one question: nodes refuse longer ones.
RANGE_BLOCKS: Final = 10_000


class EvmAnchor:
    """LedgerAnchor of one deployment, through one node; the account holds the operator's seat.

    The account is for nothing else: whatever of it waits is an anchor that may be replaced.
    """

    def __init__(
        self,
        city: City,
        operator: LocalAccount,
        clock: Callable[[], int],
        *,
        patience_s: int = PATIENCE_S,
        most_fee_wei: int = MOST_FEE_WEI,
    ) -> None:
        self._city, self._operator, self._clock = city, operator, clock
        self._patience_s, self._most_fee_wei = patience_s, most_fee_wei

    @property
    def name(self) -> str:
        """Which chain and contract this is."""
        return f"chain {self.chain_id}, anchor 0x{self.contract.hex()}"

    @property
    def chain_id(self) -> int:
        """The chain's id."""
        return self._city.deployment.chain_id

    @property
    def contract(self) -> bytes:
        """Where LedgerAnchor stands."""
        return self._city.deployment.anchor

    def held(self) -> Held:
        """The head in the newest block, whoever brought it; size 0 before the first."""
        head = self._city.head()
        return Held(head.size, head.root)

    def finals(self, after: store.Anchored | None) -> list[store.Anchored]:
        """The heads above `after` that stand in blocks which the chain will not take back, in order.

        Without those that a resumption left out: there another history stands, or one of ours that
        counts there no more.
        """
        deployment, known = self._city.deployment, 0 if after is None else after.size
        first = deployment.block if after is None else after.block
        found: list[Anchored] = []
        for start, end in _ranges(first, self._city.final_block()):
            found += self._city.heads_between(start, end)
        if all(event.size <= known for event in found):
            return []
        # A resumption that may still be taken back costs only time: what it leaves out is not noted yet.
        gaps = self._gaps(first)
        return [
            store.Anchored(
                deployment.chain_id,
                deployment.anchor,
                event.size,
                event.root,
                event.transaction,
                event.block,
                event.block_hash,
                event.time,
            )
            for event in found
            if event.size > known and not any(gap.has(event.size, event.time) for gap in gaps)
        ]

    def voided(self, heads: Sequence[store.Anchored]) -> list[store.Anchored]:
        """Those of these heads that a resumption from an earlier one has left out."""
        gaps = self._gaps(min((head.block for head in heads), default=self._city.newest_block()))
        return [head for head in heads if any(gap.has(head.size, head.time_s) for gap in gaps)]

    def _gaps(self, first: int) -> list[Gap]:
        """What the resumptions since a block left out, also those that are not final."""
        return [
            gap
            for start, end in _ranges(first, self._city.newest_block())
            for gap in self._city.gaps(start, end)
        ]

    def prepare(
        self, size: int, root: bytes, path: list[bytes], head: SignedHead, before: Sent | None
    ) -> Signed | None:
        """Sign a transaction for a head; None while the one before may still bring this very head.

        One that waits for an older head, or too long, is replaced: same nonce, higher fee. The
        contract checks the watcher's signature and the path, and what it would refuse is not sent.
        """
        nonce, now = self._city.nonce(self._operator), self._clock()
        base, tip = self._city.fees()
        fee = 2 * base + tip
        if before is not None and before.nonce == nonce:
            if before.size == size and 0 <= now - before.time_s < self._patience_s:
                return None
            # A node takes a replacement that pays a tenth more; with an eighth no rounding matters.
            fee = max(fee, before.fee_wei + before.fee_wei // 8 + 1)
            tip = max(tip, before.tip_wei + before.tip_wei // 8 + 1)
        if fee > self._most_fee_wei:
            most = self._most_fee_wei
            why = f"an anchor would cost {fee} wei for each unit of gas, at most {most} is allowed"
            raise Unavailable("chain", why)
        signature = Signature(head.signer, head.valid_until, *head.on(self.chain_id))
        transaction, raw = self._city.signed_append(
            self._operator, size, root, path, signature, nonce, fee, min(tip, fee)
        )
        return Signed(Sent(size, root, transaction, nonce, fee, min(tip, fee), now), raw)

    def send(self, signed: Signed) -> None:
        """Hand it to the node; that it is in a block is seen by asking what the chain holds."""
        self._city.send_signed(signed.raw, f"LedgerAnchor.append of size {signed.sent.size}")


def _ranges(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Blocks from first to last in pieces that nodes answer, both ends included."""
    for start in range(first, last + 1, RANGE_BLOCKS):
        yield start, min(start + RANGE_BLOCKS - 1, last)
