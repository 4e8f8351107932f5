"""Reads one chain: a range of blocks in, evidence out; what is final by two nodes where there are two."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from web3 import Web3

from contracts.bindings import COIN
from gateway.rails import Evidence, Kind, Stage
from gateway.rails.evm.balances import read_balances
from gateway.rails.evm.blocks import MALFORMED, read_block
from gateway.rails.evm.logs import (
    Log,
    Query,
    Ranges,
    block_time,
    check_has,
    ordered,
    read_log,
    receiver,
)
from gateway.rails.evm.place import Place
from gateway.rails.evm.pool import Condition, Endpoint, Head, Pool
from gateway.rails.evm.rpc import WebNode
from gateway.rails.evm.split import AMOUNT_LIMIT, evidence_key, split
from ledger.records import Unavailable

RANGE_BLOCKS = 500

# Which of these addresses are ours.
Ours = Callable[[Collection[bytes]], Collection[bytes]]


class EvmRail:
    """Reads one chain. confirmations: how many blocks make a payment `paid` before it is final.

    nodes: a Web3 of one node, or a pool of several. range_blocks: for how many blocks a node is asked at
    once, at most; where that is too much for it, it is asked for fewer.
    """

    def __init__(
        self, nodes: Web3 | Pool, place: Place, confirmations: int = 2, range_blocks: int = RANGE_BLOCKS
    ) -> None:
        chain_id = place.deployment.chain_id
        self.pool = nodes if isinstance(nodes, Pool) else Pool([WebNode(nodes)], chain_id)
        self.place, self.confirmations, self.range_blocks = place, confirmations, range_blocks
        self.name = place.rail
        self._ranges = {endpoint: Ranges(range_blocks) for endpoint in self.pool.endpoints}
        self._agreeing: list[Endpoint] = []

    def head(self) -> Head:
        """Ask the chain where it is; Unavailable if it does not answer, or not rightly."""
        head, self._agreeing = self.pool.agreed()
        return head

    def conditions(self) -> list[Condition]:
        """How each node does."""
        return self.pool.conditions()

    def is_block(self, block: int, hash: bytes) -> bool:
        """Whether the chain still has this block at its height."""
        found = self.pool.read(lambda endpoint: read_block(endpoint.node, block), self._agreeing)
        return found.hash == hash

    def scan(self, first: int, last: int, head: Head, ours: Ours) -> list[Evidence]:
        """The evidence in a range of blocks, both ends included, in the order of the logs.

        ours: says which of the addresses that money went to are deposit addresses of ours.
        """
        if first > last:
            return []
        among = self._agreeing or self.pool.usable()
        told, found = self.pool.read(lambda one: (one, self._read(one, first, last, head, ours)), among)
        final = min(last, head.final)
        others = [endpoint for endpoint in among if endpoint is not told]
        if first > final or not others:
            return found
        try:
            other, again = self.pool.read(
                lambda one: (one, self._read(one, first, final, head, ours)), others
            )
        except Unavailable:
            # It was there a moment ago, and is set aside now: then there is no second.
            if self.pool.needed > 1:
                raise
            return found
        if _final(found, final) == again:
            return found
        return self._decide(first, last, head, ours, told, other, found, again)

    def _decide(
        self,
        first: int,
        last: int,
        head: Head,
        ours: Ours,
        one: Endpoint,
        other: Endpoint,
        found: list[Evidence],
        again: list[Evidence],
    ) -> list[Evidence]:
        """Two nodes tell different logs of final blocks: a third says which of them is left alone."""
        final = min(last, head.final)
        where = f"about the logs of blocks {first} to {final}"
        thirds = [endpoint for endpoint in self._agreeing if endpoint not in (one, other)]
        if not thirds:
            one.why = other.why = f"{one.node.name} and {other.node.name} disagree {where}"
            raise Unavailable(self.name, one.why)
        third = self.pool.read(lambda node: self._read(node, first, final, head, ours), thirds)
        if third == _final(found, final):
            self.pool.set_aside(other, f"disagrees with two others {where}")
            return found
        if third == again:
            self.pool.set_aside(one, f"disagrees with two others {where}")
            self._agreeing = [endpoint for endpoint in self._agreeing if endpoint is not one]
            return self.scan(first, last, head, ours)
        raise Unavailable(self.name, f"no two nodes agree {where}")

    def stage(self, block: int, head: Head) -> Stage:
        """How far a block has come."""
        if block <= head.final:
            return Stage.FINAL
        depth = head.latest - block + 1
        if depth >= self.confirmations:
            return Stage.PAID
        return Stage.CONFIRMING if depth > 1 else Stage.DETECTED

    def balances(self, addresses: Sequence[bytes], block: int) -> list[int]:
        """What these addresses hold of the chain's coin at a block, in their order."""
        return self.pool.read(lambda endpoint: read_balances(endpoint.node, addresses, block), self._agreeing)

    # --- one node ---------------------------------------------------------------------

    def _read(self, endpoint: Endpoint, first: int, last: int, head: Head, ours: Ours) -> list[Evidence]:
        node, deployment = endpoint.node, self.place.deployment
        query = Query([token for token in self.place.tokens if token != COIN], deployment.router)
        moved, said = self._ranges[endpoint].logs(node, query, first, last)
        check_has(node, last)
        treasury = deployment.treasury.hex()
        # Looked up by what came, so that it does not matter how many addresses were given out.
        receivers = {receiver(raw) for raw in moved} - {treasury}
        try:
            candidates = [bytes.fromhex(text) for text in receivers]
            watched = {address.hex() for address in ours(candidates)} | {treasury}
            transfers = ordered([read_log(raw) for raw in moved if receiver(raw) in watched])
            events = ordered([read_log(raw) for raw in said])
            found = [
                *self._splits(
                    events, [log for log in transfers if log.address(2) == deployment.treasury], head
                ),
                *self._deposits([log for log in transfers if log.address(2) != deployment.treasury], head),
            ]
        except MALFORMED as error:
            raise Unavailable(node.name, f"{type(error).__name__}: {error}"[:300]) from error
        found.sort(key=lambda pair: (pair[0].block, pair[0].index))
        times: dict[int, int] = {}
        for log, _ in found:
            if log.block not in times:
                told = log.time_s
                times[log.block] = block_time(node, log.block, log.block_hash) if told is None else told
        return [self._timed(log, evidence, times[log.block]) for log, evidence in found]

    def _splits(self, events: list[Log], moved: list[Log], head: Head) -> list[tuple[Log, Evidence]]:
        by_transaction: dict[bytes, list[Log]] = {}
        for log in moved:
            by_transaction.setdefault(log.transaction, []).append(log)
        found = []
        for log in events:
            transfers = by_transaction.get(log.transaction, [])
            evidence = split(self.place, log, transfers, self.stage(log.block, head))
            if evidence is not None:
                found.append((log, evidence))
        return found

    def _deposits(self, moved: list[Log], head: Head) -> list[tuple[Log, Evidence]]:
        # A transfer of nothing is no money: anybody can send it in anybody's name.
        return [(log, self._deposit(log, head)) for log in moved if 0 < log.word(0) < AMOUNT_LIMIT]

    def _deposit(self, log: Log, head: Head) -> Evidence:
        return Evidence(
            key=evidence_key(self.place.deployment.chain_id, log),
            kind=Kind.DEPOSIT,
            stage=self.stage(log.block, head),
            asset=self.place.tokens[log.at],
            amount_minor=log.word(0),
            city_minor=0,
            block=log.block,
            address=log.address(2),
        )

    def _timed(self, log: Log, evidence: Evidence, at_s: int) -> Evidence:
        timed = replace(evidence, at_s=at_s)
        token = log.at if evidence.kind is Kind.DEPOSIT else self.place.token(evidence.asset)
        if self.place.is_allowed(self.place.deployment.router, token, at_s):
            return timed
        # It came all the same, so that a person decides about it; it pays no invoice by itself.
        reference = f"not allowed at {at_s}: 0x{(evidence.address or evidence.number).hex()}"
        return replace(timed, address=b"", number=b"", reference=reference)


def _final(found: Iterable[Evidence], last: int) -> list[Evidence]:
    return [piece for piece in found if piece.block is not None and piece.block <= last]


def gone(
    stored: Iterable[tuple[str, int | None]], found: Sequence[Evidence], first: int, last: int | None
) -> list[str]:
    """Keys of stored evidence, with its block, that stood in the range and is not there any more.

    last None: the range ends with the chain, so what stood above it is not there either.
    """
    there = {evidence.key for evidence in found}
    return [
        key
        for key, block in stored
        if block is not None and first <= block and (last is None or block <= last) and key not in there
    ]
