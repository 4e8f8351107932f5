"""Logs as nodes write them, read strictly and in bulk, and ranges that halve where a node refuses them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from web3.types import LogReceipt

from contracts.transactions import load_artifact
from gateway.rails.evm.blocks import MALFORMED, read_block
from gateway.rails.evm.rpc import Node, Refused, TooMuch, data, is_too_much, quantity, to_hex
from ledger.records import WORD, Unavailable, keccak256

TRANSFER = keccak256(b"Transfer(address,address,uint256)")


def _topic(name: str) -> bytes:
    """The first topic of one of the router's events, as its artifact says."""
    abi = load_artifact("PaymentRouter")["abi"]
    event = next(entry for entry in abi if (entry["type"], entry.get("name")) == ("event", name))
    return keccak256(f"{name}({','.join(member['type'] for member in event['inputs'])})".encode())


PAID, FLUSHED = _topic("Paid"), _topic("Flushed")
# Topics and words of data of each event: Transfer(from, to | amount), Paid(invoice, token | amount, city),
# Flushed(invoice, deposit, token | amount, city).
SHAPES = {TRANSFER: (3, 1), PAID: (3, 2), FLUSHED: (4, 2)}
_SHAPES = {to_hex(topic): (topics, 2 + 2 * WORD * words) for topic, (topics, words) in SHAPES.items()}
_TRANSFER = to_hex(TRANSFER)
# So often a smaller range is tried on a node that is silent: it may be dead, and each try costs a timeout.
SILENCES_MOST = 3
_WORD_TEXT, _ADDRESS_TEXT = 2 + 2 * WORD, 2 + 2 * 20


@dataclass(frozen=True, slots=True)
class Log:
    """One log. at: who wrote it; time_s: the time of its block, where the node says it."""

    at: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: bytes
    transaction: bytes
    index: int
    time_s: int | None = None

    def address(self, topic: int) -> bytes:
        """An address among the topics."""
        return self.topics[topic][12:]

    def word(self, place: int) -> int:
        """A number in the data."""
        return int.from_bytes(self.data[WORD * place : WORD * (place + 1)], "big")


def read_log(raw: Any) -> Log:
    """A log, read as the standard says; ValueError and its like for anything else."""
    time = raw.get("blockTimestamp")
    return Log(
        data(raw["address"], 20),
        tuple(data(topic, WORD) for topic in raw["topics"]),
        data(raw["data"]),
        quantity(raw["blockNumber"]),
        data(raw["blockHash"], WORD),
        data(raw["transactionHash"], WORD),
        quantity(raw["logIndex"]),
        None if time is None else quantity(time),
    )


def log_of(told: LogReceipt) -> Log:
    """A log of a receipt that web3 read."""
    time: Any = told.get("blockTimestamp")
    return Log(
        bytes.fromhex(told["address"][2:]),
        tuple(bytes(topic) for topic in told["topics"]),
        bytes(told["data"]),
        told["blockNumber"],
        bytes(told["blockHash"]),
        bytes(told["transactionHash"]),
        told["logIndex"],
        int(time, 16) if isinstance(time, str) else time,
    )


def check_shape(log: Log) -> None:
    """Refuse a log of one of our events that has another shape."""
    topics, words = SHAPES[log.topics[0]]
    if (len(log.topics), len(log.data)) != (topics, WORD * words):
        told = f"{len(log.topics)} topics and {len(log.data)} bytes, expected {topics} and {WORD * words}"
        raise ValueError(f"an event with {told}")


class Query:
    """Which logs are asked for: Transfers of tokens, and what the router says."""

    def __init__(self, tokens: Collection[bytes], router: bytes) -> None:
        self._tokens = frozenset(map(to_hex, tokens))
        self._router = to_hex(router)
        self._addresses = sorted({*self._tokens, self._router})
        self._topics = [to_hex(topic) for topic in (TRANSFER, PAID, FLUSHED)]

    def parameters(self, first: int, last: int) -> dict[str, object]:
        """What eth_getLogs is given."""
        return {
            "fromBlock": to_hex(first),
            "toBlock": to_hex(last),
            "address": self._addresses,
            "topics": [self._topics],
        }

    def sort(self, logs: Any, first: int, last: int) -> tuple[list[Any], list[Any]]:
        """Check an answer, and part it in Transfers and what the router says; still as nodes write it.

        Each log of a busy token passes here and few are ours, so that no more is done for one than to
        see that it was asked for and has the shape of its event.
        """
        if not isinstance(logs, list):
            raise TypeError(f"no list of logs: {logs!r:.60}")
        moved: list[Any] = []
        said: list[Any] = []
        blocks: dict[str, bool] = {}
        tokens, router, shapes = self._tokens, self._router, _SHAPES
        for log in logs:
            if log.get("removed"):
                continue
            number, topics, at = log["blockNumber"], log["topics"], log["address"].lower()
            if number not in blocks:
                blocks[number] = first <= quantity(number) <= last
            first_topic = topics[0]
            is_moved = first_topic == _TRANSFER
            if not blocks[number]:
                raise ValueError(f"a log of block {number}, asked for {first} to {last}")
            if (at not in tokens) if is_moved else (at != router):
                raise ValueError(f"a log of {at[:_ADDRESS_TEXT]} that was not asked for")
            if (len(topics), len(log["data"])) != shapes[first_topic]:
                raise ValueError(f"an event with {len(topics)} topics and {log['data']!r:.80}")
            if len(topics[-1]) != _WORD_TEXT:
                raise ValueError(f"a topic {topics[-1]!r:.80}")
            (moved if is_moved else said).append(log)
        return moved, said


class Ranges:
    """How many blocks one node is asked about at once: halved where it refuses, doubled where it answers."""

    def __init__(self, most: int) -> None:
        self.most = self.now = most

    def logs(self, node: Node, query: Query, first: int, last: int) -> tuple[list[Any], list[Any]]:
        """Transfers, and what the router said, in a range of blocks of any size."""
        moved: list[Any] = []
        said: list[Any] = []
        start, silences = first, 0
        while start <= last:
            end = min(start + self.now - 1, last)
            try:
                answered = _ask(node, query, start, end)
            except TooMuch as error:
                silences += error.timed_out
                if end == start or silences > SILENCES_MOST:
                    raise Unavailable(node.name, f"{end - start + 1} blocks: {error.why}") from error
                self.now = max((end - start + 1) // 2, 1)
                continue
            try:
                some_moved, some_said = query.sort(answered, start, end)
            except MALFORMED as error:
                raise Unavailable(node.name, f"{type(error).__name__}: {error}"[:300]) from error
            moved += some_moved
            said += some_said
            start = end + 1
            self.now = min(self.now * 2, self.most)
        return moved, said


def _ask(node: Node, query: Query, first: int, last: int) -> Any:
    try:
        return node.ask("eth_getLogs", query.parameters(first, last))
    except Refused as error:
        told = f"{error.message} ({error.code})"
        raise (TooMuch if is_too_much(error) else Unavailable)(node.name, told) from error


def check_has(node: Node, block: int) -> None:
    """Unavailable where a node has not come so far.

    It answers with fewer logs and no error then, and would move the cursor over payments that it
    has not seen (field failures 04, 05).
    """
    read_block(node, block)


def block_time(node: Node, block: int, block_hash: bytes) -> int:
    """The time of a block, where the logs do not say it."""
    found = read_block(node, block)
    if found.hash != block_hash:
        raise Unavailable(node.name, f"block {block} has changed while it was read")
    return found.time_s


def receiver(raw: Any) -> str:
    """To whom a Transfer went, as it is written: 40 hexadecimal digits in lower case."""
    text: str = raw["topics"][2]
    return text[-40:].lower()


def ordered(logs: Sequence[Log]) -> list[Log]:
    """Logs in the order of the chain."""
    return sorted(logs, key=lambda log: (log.block, log.index))
