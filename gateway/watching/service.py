"""Take what a chain shows: each block once when it is new, and once more when it is final.

What holds if the process dies: evidence, what follows from it, the cursor and the tail commit together,
so that a restart reads again what was not taken, and nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from gateway.db import Connection, reading
from gateway.payments import store as payments_store
from gateway.payments.service import Payments
from gateway.payments.store import Seen
from gateway.payments.store.coins import coin_since
from gateway.rails import Evidence, Kind, Stage
from gateway.rails.evm import EvmRail, Head, gone
from gateway.watching import store
from gateway.watching.store import Tail

CHAIN_KINDS = (Kind.ROUTER, Kind.DEPOSIT, Kind.FLUSH)

# What else is to be done, in the same transaction, with evidence that was taken.
Taken = Callable[[Connection, Sequence[Evidence]], None]


@dataclass(frozen=True)
class Sight:
    """How far a rail sees. lag_s: how long ago that was which is known; lag_blocks: not yet final here."""

    rail: str
    position: int
    seen_until_s: int
    lag_s: int


class ChainWatch:
    """Watches one chain for payments; any number of these may run."""

    def __init__(self, payments: Payments, rail: EvmRail, taken: Taken | None = None) -> None:
        self._payments, self._engine, self.rail = payments, payments.engine, rail
        self._taken = taken

    def poll(self) -> list[str]:
        """Take what the chain shows from the cursor on; returns the invoices that it touched."""
        rail = self.rail
        head = rail.head()
        with self._engine.begin() as connection:
            start = rail.place.deployment.block
            position, round = payments_store.lock_rail(connection, rail.name, start)
            tail = store.tail(connection, rail.name)
        kept = self._kept(tail, position, head)
        touched: list[str] = []
        for first, last, found in self._scans(list(_ranges(position, kept, head, rail.range_blocks)), head):
            if not self._take(round, touched, found, first, last, head):
                # Another worker took these blocks, perhaps as they are after a reorganisation.
                return touched
            round += 1
        self._end(round, touched, kept, head)
        return touched

    def _scans(self, ranges: list[tuple[int, int]], head: Head) -> Iterator[tuple[int, int, list[Evidence]]]:
        """The evidence of each range; while one is taken the node is asked about the next."""

        def scan(place: tuple[int, int]) -> list[Evidence]:
            return self.rail.scan(*place, head, self._ours)

        if len(ranges) < 2:
            for place in ranges:
                yield *place, scan(place)
            return
        with ThreadPoolExecutor(1, "scan") as ahead:
            asked = ahead.submit(scan, ranges[0])
            for place, following in zip(ranges, [*ranges[1:], None], strict=True):
                found = asked.result()
                if following is not None:
                    asked = ahead.submit(scan, following)
                yield *place, found

    def sight(self) -> Sight:
        """How far it sees, for status and metrics; over a limit nobody is quoted (field failure 06)."""
        with reading(self._engine) as connection:
            position = payments_store.cursor(connection, self.rail.name) or 0
            seen_until_s = payments_store.seen_until(connection, self.rail.name)
        lag_s = max(self._payments.clock() - seen_until_s, 0)
        return Sight(self.rail.name, position, seen_until_s, lag_s)

    def _ours(self, addresses: Collection[bytes]) -> Collection[bytes]:
        with reading(self._engine) as connection:
            return payments_store.deposits_among(connection, addresses)

    def _kept(self, tail: Tail | None, position: int, head: Head) -> int:
        """Up to which block what was taken still stands: it is not read again before it is final."""
        if tail is None or not position < tail.number <= head.latest:
            return position
        if (tail.number, tail.hash) == (head.latest, head.latest_hash):
            return tail.number
        return tail.number if self.rail.is_block(tail.number, tail.hash) else position

    def _take(
        self, round: int, touched: list[str], found: list[Evidence], first: int, last: int, head: Head
    ) -> bool:
        """Take a range of blocks; False if another was there since we looked."""
        rail = self.rail
        with self._engine.begin() as connection:
            position, now_round = payments_store.lock_rail(connection, rail.name)
            if now_round != round:
                return False
            found = [self._since(connection, piece) for piece in found]
            found += _gone(self._standing(connection), found, first, last)
            # Only what is final is passed; the rest is asked for again when it is.
            passed = min(last, head.final) if first == position + 1 else position
            payments_store.move_cursor(connection, rail.name, max(position, passed), 0)
            touched.extend(self._payments.take(connection, found))
            if self._taken is not None:
                self._taken(connection, found)
        return True

    def _end(self, round: int, touched: list[str], kept: int, head: Head) -> None:
        """What follows from the head alone: how deep blocks are now, and up to when all is known."""
        rail = self.rail
        # Read under the head that was told, and still so afterwards: else it is read again next time.
        is_whole = rail.is_block(head.latest, head.latest_hash)
        with self._engine.begin() as connection:
            position, now_round = payments_store.lock_rail(connection, rail.name)
            if now_round != round:
                return
            standing = self._standing(connection)
            moved = [_as_gone(piece) for piece in standing if _block(piece) > head.latest]
            for piece in standing:
                stage = rail.stage(_block(piece), head)
                if head.final < _block(piece) <= kept and stage is not piece.stage:
                    moved.append(_again(piece, stage))
            if is_whole:
                store.set_tail(connection, rail.name, Tail(head.latest, head.latest_hash))
            payments_store.move_cursor(connection, rail.name, position, head.time_s)
            touched.extend(self._payments.take(connection, moved))

    def _standing(self, connection: Connection) -> list[Seen]:
        """What was taken of this chain and is not final."""
        prefix = f"evm:{self.rail.place.deployment.chain_id}:"
        found = payments_store.unsettled(connection, CHAIN_KINDS)
        return [piece for piece in found if piece.key.startswith(prefix) and piece.block is not None]

    def _since(self, connection: Connection, piece: Evidence) -> Evidence:
        """A deposit in the coin came when the address was first seen to hold it, not when it was flushed."""
        if piece.kind is not Kind.ROUTER or not piece.address or piece.at_s is None:
            return piece
        since = coin_since(connection, piece.address)
        return piece if since is None else replace(piece, at_s=min(since, piece.at_s))


def _ranges(position: int, kept: int, head: Head, most: int) -> Iterator[tuple[int, int]]:
    """The blocks to read: those that became final since, then those that are new."""
    parts = [(position + 1, head.final), (max(kept, head.final, position) + 1, head.latest)]
    if max(kept, position) <= head.final:
        parts = [(position + 1, head.latest)]
    for first, last in parts:
        for start in range(first, last + 1, most):
            yield start, min(start + most - 1, last)


def _block(piece: Seen) -> int:
    assert piece.block is not None
    return piece.block


def _gone(stored: Sequence[Seen], found: Sequence[Evidence], first: int, last: int) -> list[Evidence]:
    """What stood on blocks that are no more."""
    standing = {piece.key: piece for piece in stored}
    keys = gone([(key, piece.block) for key, piece in standing.items()], found, first, last)
    return [_as_gone(standing[key]) for key in keys]


def _as_gone(seen: Seen) -> Evidence:
    return _again(seen, Stage.GONE)


def _again(seen: Seen, stage: Stage) -> Evidence:
    return Evidence(seen.key, seen.kind, stage, seen.asset, seen.amount_minor, seen.city_minor, seen.block)
