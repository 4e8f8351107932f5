"""Several nodes of one chain: who is believed, who is set aside and why (field failures 06, 07).

A node that lies, lags, limits or dies is left alone for a while, longer each time, and the others are
asked. What is final is what two nodes say of the same block, where two can be asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from gateway.rails.evm.blocks import MALFORMED, read_block
from gateway.rails.evm.rpc import Limited, Node, Refused, quantity
from ledger.records import Unavailable

BACK_OFF_S, BACK_OFF_MOST_S = 1.0, 300.0
LAG_BLOCKS = 20

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Head:
    """How far the chain is, the time of its newest block, and up to where it is final."""

    latest: int
    time_s: int
    final: int
    latest_hash: bytes = b""
    final_hash: bytes = b""


@dataclass(frozen=True)
class Condition:
    """How a node does. lag_blocks: how far behind the furthest; why: for what it was set aside last."""

    name: str
    is_used: bool
    latest: int | None
    lag_blocks: int | None
    failures: int
    why: str
    aside_s: float


class Endpoint:
    """A node, and what is known of it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.head: Head | None = None
        # In a row: how long it is left alone follows from it.
        self.failures = 0
        self.aside_until = 0.0
        # From when on its failures are forgotten, if it does well until then.
        self.calm_from = 0.0
        self.why = ""


class Pool:
    """The nodes of one chain. needed: how many must agree on what is final (1: as many as can be asked)."""

    def __init__(
        self,
        nodes: Sequence[Node],
        chain_id: int,
        *,
        needed: int = 1,
        lag_blocks: int = LAG_BLOCKS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        assert 0 < needed <= len(nodes)
        self.chain_id, self.needed, self._lag_blocks, self._now = chain_id, needed, lag_blocks, now
        self.endpoints = [Endpoint(node) for node in nodes]
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(len(nodes), "node") if len(nodes) > 1 else None

    @property
    def name(self) -> str:
        """What the chain is called in errors."""
        return f"evm-{self.chain_id}"

    def usable(self) -> list[Endpoint]:
        """Nodes that may be asked now, the best first."""
        now = self._now()
        # One that has been left alone for long enough gets another chance, after those that did well.
        may = [endpoint for endpoint in self.endpoints if endpoint.aside_until <= now]
        return sorted(may, key=lambda one: (one.failures, -(one.head.latest if one.head else -1)))

    def set_aside(self, endpoint: Endpoint, why: str, least_s: float = 0) -> None:
        """Leave a node alone for a while, twice as long each time."""
        with self._lock:
            # Alone it is asked again soon: there is nobody else.
            most = BACK_OFF_MOST_S if len(self.endpoints) > 1 else 0
            wait = min(BACK_OFF_S * 2 ** min(endpoint.failures, 16), most)
            wait = max(wait, least_s)
            endpoint.failures += 1
            endpoint.aside_until = self._now() + wait
            endpoint.calm_from = endpoint.aside_until + wait
            endpoint.why = why[:300]

    def did_well(self, endpoint: Endpoint) -> None:
        """Forget a node's failures, once it has done well for as long as it was left alone."""
        with self._lock:
            if self._now() >= endpoint.calm_from:
                endpoint.failures = 0

    def conditions(self) -> list[Condition]:
        """How each node does, for status and metrics."""
        now = self._now()
        known = [endpoint.head.latest for endpoint in self.endpoints if endpoint.head]
        furthest = max(known, default=0)
        return [
            Condition(
                endpoint.node.name,
                endpoint.aside_until <= now,
                endpoint.head.latest if endpoint.head else None,
                furthest - endpoint.head.latest if endpoint.head else None,
                endpoint.failures,
                endpoint.why,
                max(endpoint.aside_until - now, 0),
            )
            for endpoint in self.endpoints
        ]

    # --- asking one -------------------------------------------------------------------

    def read(self, reading: Callable[[Endpoint], _Read], among: Sequence[Endpoint] | None = None) -> _Read:
        """What the first node says that answers; Unavailable where none does."""
        told = []
        for endpoint in self.usable() if among is None else among:
            found = self._try(endpoint, reading)
            if not isinstance(found, Unavailable):
                return found
            told.append(str(found))
        raise Unavailable(self.name, "; ".join(told)[:500] or f"no node can be asked: {self._asides()}")

    def ask(self, method: str, *parameters: object) -> Any:
        """The answer of the first node that answers; Refused with its error."""
        return self.read(lambda endpoint: endpoint.node.ask(method, *parameters))

    def ask_all(self, asked: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Many answers of one node; an error stands as Refused in its place."""
        return self.read(lambda endpoint: endpoint.node.ask_all(asked))

    def _try(self, endpoint: Endpoint, reading: Callable[[Endpoint], _Read]) -> _Read | Unavailable:
        try:
            found = reading(endpoint)
        except Unavailable as error:
            self.set_aside(endpoint, error.why, error.retry_s if isinstance(error, Limited) else 0)
            return error
        # That it answers says that it lives; that it is right is for `head` to see.
        return found

    def _asides(self) -> str:
        return "; ".join(f"{endpoint.node.name}: {endpoint.why}" for endpoint in self.endpoints)[:400]

    # --- asking all -------------------------------------------------------------------

    def head(self) -> Head:
        """Where the chain is, by those who agree; the others are set aside."""
        return self.agreed()[0]

    def agreed(self) -> tuple[Head, list[Endpoint]]:
        """Where the chain is, and the nodes that say so, the furthest first.

        Unavailable where nobody answers rightly, and where as many say one as say another.
        """
        asked = self.usable()
        heads = self._each(asked, self._head_of)
        told = []
        there: list[tuple[Endpoint, Head]] = []
        for endpoint, found in zip(asked, heads, strict=True):
            if isinstance(found, Head):
                endpoint.head = found
                there.append((endpoint, found))
            else:
                told.append(str(found))
        if len(there) < self.needed:
            why = "; ".join(told) or self._asides()
            raise Unavailable(self.name, f"{len(there)} nodes of {self.needed} needed answer: {why}"[:500])
        there = self._near(there)
        if len(there) < self.needed:
            raise Unavailable(self.name, f"{len(there)} nodes of {self.needed} needed keep up")
        return self._agree(there)

    def confirmed(self, reading: Callable[[Endpoint], _Read]) -> _Read:
        """What the nodes that agree about the final block all read in final blocks.

        Unavailable where fewer answer than are needed, or as many say one as say another; whoever is alone
        with what it says is set aside. A reading that is Refused says nothing.
        """
        _, asked = self.agreed()
        told = [
            (endpoint, found)
            for endpoint, found in zip(asked, self._each(asked, reading), strict=True)
            if not isinstance(found, Unavailable | Refused)
        ]
        counted = Counter(found for _, found in told).most_common(2)
        if not counted or counted[0][1] < self.needed:
            raise Unavailable(self.name, f"no {self.needed} nodes say the same of final blocks")
        if len(counted) > 1 and counted[0][1] == counted[1][1]:
            names = " and ".join(endpoint.node.name for endpoint, _ in told)
            raise Unavailable(self.name, f"{names} say different things of final blocks")
        for endpoint, found in told:
            if found != counted[0][0]:
                self.set_aside(endpoint, "says another thing of final blocks than the others")
        return counted[0][0]

    def _near(self, there: list[tuple[Endpoint, Head]]) -> list[tuple[Endpoint, Head]]:
        """Those who keep up. One alone cannot be far ahead of all others: it may have made that up."""
        heights = sorted((head.latest for _, head in there), reverse=True)
        furthest = heights[0] if len(heights) < 3 else heights[1]
        kept = []
        for endpoint, head in there:
            if furthest - head.latest > self._lag_blocks:
                self.set_aside(endpoint, f"lags: block {head.latest}, others are at {furthest}")
            elif len(heights) >= 3 and head.latest - furthest > self._lag_blocks:
                self.set_aside(endpoint, f"says block {head.latest}, others are at {furthest}")
            else:
                kept.append((endpoint, head))
        return kept

    def _agree(self, there: list[tuple[Endpoint, Head]]) -> tuple[Head, list[Endpoint]]:
        """Let each say which block stands at a height that is final."""
        # The highest that two call final, or as many as are needed: one that makes up finality moves
        # nothing, and of three or more one that is slow about it stops nothing.
        finals = sorted((head.final for _, head in there), reverse=True)
        final = finals[max(self.needed, min(2, len(finals))) - 1]
        hashes = self._each([endpoint for endpoint, _ in there], lambda one: self._hash_of(one, final))
        told = [
            (endpoint, head, found)
            for (endpoint, head), found in zip(there, hashes, strict=True)
            if isinstance(found, bytes)
        ]
        counted = Counter(found for _, _, found in told).most_common(2)
        if not counted or counted[0][1] < self.needed:
            raise Unavailable(self.name, f"no {self.needed} nodes tell block {final}")
        if len(counted) > 1 and counted[0][1] == counted[1][1]:
            for endpoint, _, _ in told:
                endpoint.why = f"disagrees about the final block {final}"
            names = " and ".join(endpoint.node.name for endpoint, _, _ in told)
            raise Unavailable(self.name, f"{names} disagree about the final block {final}")
        believed = counted[0][0]
        agreeing = []
        for endpoint, head, found in told:
            if found != believed:
                why = f"says 0x{found.hex()[:16]} is the final block {final}, others 0x{believed.hex()[:16]}"
                self.set_aside(endpoint, why)
            else:
                self.did_well(endpoint)
                agreeing.append((endpoint, head))
        agreeing.sort(key=lambda one: -one[1].latest)
        first = agreeing[0][1]
        head = Head(first.latest, first.time_s, final, first.latest_hash, believed)
        return head, [endpoint for endpoint, _ in agreeing]

    def _each(
        self, asked: Sequence[Endpoint], reading: Callable[[Endpoint], _Read]
    ) -> list[_Read | Unavailable]:
        """All of them at once, so that one that is slow costs its own time only."""
        if self._threads is None or len(asked) < 2:
            return [self._try(endpoint, reading) for endpoint in asked]
        return list(self._threads.map(lambda endpoint: self._try(endpoint, reading), asked))

    def _head_of(self, endpoint: Endpoint) -> Head:
        node = endpoint.node
        try:
            chain_id = quantity(node.ask("eth_chainId"))
        except (Refused, *MALFORMED) as error:
            raise Unavailable(node.name, f"it does not tell its chain: {error}"[:300]) from error
        final, latest = read_block(node, "finalized"), read_block(node, "latest")
        head = Head(latest.number, latest.time_s, final.number, latest.hash, final.hash)
        if chain_id != self.chain_id:
            raise Unavailable(node.name, f"the node is of chain {chain_id}, not of {self.chain_id}")
        if not 0 <= head.final <= head.latest:
            raise Unavailable(node.name, f"block {head.final} is final and {head.latest} the newest")
        return head

    def _hash_of(self, endpoint: Endpoint, block: int) -> bytes:
        if endpoint.head is not None and endpoint.head.final == block:
            return endpoint.head.final_hash
        return read_block(endpoint.node, block).hash
