"""A node of a chain with a mempool, finality and reorganisations, as far as an anchor asks it; it misbehaves.

It has the interface of contracts.bindings.City, so what is tested is the anchor that runs in earnest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

from contracts.bindings import Gap, Head, Signature
from contracts.events import Anchored
from ledger.proof import check_consistency
from ledger.records import Unavailable, keccak256, reject

BASE_FEE_WEI, TIP_WEI = 10**9, 10**8


@dataclass(frozen=True)
class Transaction:
    """An append that waits or was mined."""

    hash: bytes
    nonce: int
    size: int
    root: bytes
    path: tuple[bytes, ...]
    fee_wei: int
    tip_wei: int
    valid_until: int


@dataclass
class Block:
    """A block of at most one transaction; hash says which branch it is on."""

    hash: bytes
    time_s: int
    transaction: Transaction | None = None
    reverted: bool = False


def _nothing(_where: str) -> None:
    """Nothing goes wrong."""


@dataclass
class Node:
    """One chain. lag: how many blocks finality is behind; a transaction below the base fee waits for ever."""

    chain_id: int
    clock: Callable[[], int]
    contract: bytes = bytes(20)
    lag: int = 2
    mines_at_once: bool = True
    is_silent: bool = False
    loses_reply: bool = False
    base_fee_wei: int = BASE_FEE_WEI
    may_be_away: Callable[[str], None] = _nothing
    blocks: list[Block] = field(default_factory=list)
    pool: dict[int, Transaction] = field(default_factory=dict)
    branches: int = 0
    # All that was ever handed over, by hash; which ones replaced which.
    seen: dict[bytes, Transaction] = field(default_factory=dict)
    replaced: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blocks.append(self._block(None))

    # --- what City has ---

    @property
    def deployment(self) -> SimpleNamespace:
        return SimpleNamespace(chain_id=self.chain_id, anchor=self.contract, block=0)

    def head(self) -> Head:
        self._ask("asked for its head")
        return self._head()

    def nonce(self, _account: object) -> int:
        self._ask("asked for a nonce")
        return self._nonce()

    def fees(self) -> tuple[int, int]:
        self._ask("asked for fees")
        return self.base_fee_wei, TIP_WEI

    def final_block(self) -> int:
        self._ask("asked what is final")
        return max(0, len(self.blocks) - 1 - self.lag)

    def heads_between(self, first_block: int, last_block: int) -> list[Anchored]:
        self._ask("asked for events")
        return self.heads_in(first_block, last_block)

    def newest_block(self) -> int:
        self._ask("asked for its newest block")
        return len(self.blocks) - 1

    def gaps(self, _first_block: int, _last_block: int) -> list[Gap]:
        self._ask("asked for resumptions")
        return []

    def signed_append(
        self,
        _account: object,
        size: int,
        root: bytes,
        path: Sequence[bytes],
        watcher: Signature,
        nonce: int,
        fee_wei: int,
        tip_wei: int,
    ) -> tuple[bytes, bytes]:
        self._ask("asked to try a transaction")
        if why := self._refusal(size, root, path, watcher.valid_until):
            reject("C:NotConsistent", "LedgerAnchor.append", why)
        words = f"{self.chain_id} {size} {root.hex()} {nonce} {fee_wei} {tip_wei}".encode()
        made = Transaction(
            keccak256(words), nonce, size, root, tuple(path), fee_wei, tip_wei, watcher.valid_until
        )
        self.seen[made.hash] = made
        return made.hash, made.hash

    def send_signed(self, raw: bytes, where: str) -> None:
        self._ask("handed a transaction")
        one = self.seen[raw]
        if one.nonce < self._nonce():
            raise Unavailable("chain", f"{where}: nonce too low")
        waits = self.pool.get(one.nonce)
        if waits is not None and waits != one:
            if one.fee_wei * 10 < waits.fee_wei * 11 or one.tip_wei * 10 < waits.tip_wei * 11:
                raise Unavailable("chain", f"{where}: replacement transaction underpriced")
            self.replaced.append(waits.hash)
        self.pool[one.nonce] = one
        if self.mines_at_once:
            self.mine()
        if self.loses_reply:
            self.loses_reply = False
            raise Unavailable("chain", "the reply was lost")
        self.may_be_away("after it took a transaction")

    # --- what happens to a chain ---

    def mine(self, count: int = 1) -> None:
        """Add blocks; the first takes what waits, if it pays enough."""
        for _ in range(count):
            waits = self.pool.get(self._nonce())
            if waits is not None and waits.fee_wei < self.base_fee_wei:
                waits = None
            if waits is not None:
                del self.pool[waits.nonce]
            reverts = waits is not None and bool(
                self._refusal(waits.size, waits.root, waits.path, waits.valid_until)
            )
            block = self._block(waits)
            block.reverted = reverts
            self.blocks.append(block)

    def reorganise(self, depth: int, *, loses: bool = False) -> None:
        """Take the newest blocks back, never final ones; what was in them waits again, or is lost."""
        depth = min(depth, self.lag, len(self.blocks) - 1)
        gone = self.blocks[len(self.blocks) - depth :]
        del self.blocks[len(self.blocks) - depth :]
        self.branches += 1
        for block in gone:
            if block.transaction is not None and not loses:
                self.pool.setdefault(block.transaction.nonce, block.transaction)
        # The other branch is as long as this one was.
        self.blocks += [self._block(None) for _ in range(depth)]

    def sizes(self) -> list[int]:
        """The sizes that this chain holds now, in order."""
        return [event.size for event in self.heads_in(0, len(self.blocks))]

    def heads_in(self, first_block: int, last_block: int) -> list[Anchored]:
        """The heads in these blocks, as whoever stands on the chain sees them."""
        found = []
        for number in range(first_block, min(last_block + 1, len(self.blocks))):
            block = self.blocks[number]
            if block.transaction is not None and not block.reverted:
                one = block.transaction
                place = (self.contract, number, block.hash, one.hash, 0)
                found.append(Anchored(*place, size=one.size, root=one.root, time=block.time_s))
        return found

    # --- inside ---

    def _ask(self, what: str) -> None:
        if self.is_silent:
            raise Unavailable("chain", f"no answer when {what}")
        self.may_be_away(f"when it was {what}")

    def _nonce(self) -> int:
        return sum(block.transaction is not None for block in self.blocks)

    def _head(self) -> Head:
        for block in reversed(self.blocks):
            if block.transaction is not None and not block.reverted:
                return Head(block.transaction.size, block.time_s, block.transaction.root)
        return Head(0, 0, bytes(32))

    def _refusal(self, size: int, root: bytes, path: Sequence[bytes], valid_until: int) -> str:
        newest = self._head()
        if self.clock() > valid_until:
            return f"the watcher's signature was valid until {valid_until}, it is {self.clock()}"
        if size <= newest.size:
            return f"size {size} does not grow from {newest.size}"
        if newest.size:
            try:
                check_consistency(newest.size, newest.root, size, root, path)
            except Exception as error:
                return str(error)
        return ""

    def _block(self, transaction: Transaction | None) -> Block:
        number = len(self.blocks)
        time_s = max(self.clock(), self.blocks[-1].time_s if self.blocks else 0)
        return Block(keccak256(b"%d %d %d" % (self.chain_id, self.branches, number)), time_s, transaction)
