"""A chain's JSON-RPC: one question, one checked answer; nothing here signs or sends."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from ledger.audit.source import fetch
from ledger.audit.trust import parse_json
from ledger.records import WORD, Invalid, Unavailable, keccak256

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


_HEADER_ONLY = (False,)
# So often one question about events is halved: a chain of 10^8 blocks at 2,000 a question needs as many.
MOST_HALVED = 100_000


class Refused(Exception):
    """The node answered that it cannot or will not do this."""


@dataclass(frozen=True)
class Log:
    """An event that a contract wrote."""

    at: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: bytes
    transaction: bytes
    index: int


class Rpc:
    """One node."""

    def __init__(self, address: str) -> None:
        parts = urllib.parse.urlsplit(address)
        # An address can carry a key: what is printed is only where it leads.
        self.name = f"rpc {parts.hostname or address[:60]}"
        self._address = address
        if parts.scheme not in {"http", "https"}:
            raise Unavailable(self.name, f"{parts.scheme or 'nothing'} is neither http nor https")
        self.chain_id = self.quantity(self.ask("eth_chainId"))

    def wrong(self, why: str) -> Unavailable:
        """The node's answer cannot be read, so nothing is known."""
        return Unavailable(self.name, why)

    def ask(self, method: str, *parameters: object) -> Any:
        """The result of one call; Refused if the node says no."""
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        headers = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self._address, json.dumps(question).encode(), headers)  # noqa: S310
        except ValueError as error:
            raise self.wrong(f"is no address: {error}") from None
        body = fetch(request, self.name)
        if body is None:
            raise self.wrong("answered 404")
        try:
            answer = parse_json("rpc", self.name, body)
        except Invalid as broken:
            raise self.wrong(broken.why) from None
        if not isinstance(answer, dict):
            raise self.wrong(f"answered {method} with no object")
        if answer.get("error") is not None:
            raise Refused(f"{method}: {json.dumps(answer['error'])[:200]}")
        return answer.get("result")

    def quantity(self, value: object) -> int:
        """A number as nodes write it."""
        if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
            raise self.wrong(f"{str(value)[:80]!r} is no number")
        return int(value, 16)

    def data(self, value: object, length: int | None = None) -> bytes:
        """Bytes as nodes write them."""
        if not isinstance(value, str) or not _DATA.fullmatch(value):
            raise self.wrong(f"{str(value)[:80]!r} is no hex")
        found = bytes.fromhex(value[2:])
        if length is not None and len(found) != length:
            raise self.wrong(f"{len(found)} bytes, not {length}")
        return found

    def block(self, tag: str) -> tuple[int, int] | None:
        """Number and time of a block, None if there is none."""
        found = self.ask("eth_getBlockByNumber", tag, *_HEADER_ONLY)
        if not isinstance(found, dict):
            return None
        return self.quantity(found.get("number")), self.quantity(found.get("timestamp"))

    def code(self, address: bytes, block: int) -> bytes:
        """The code at an address."""
        return self.data(self.ask("eth_getCode", "0x" + address.hex(), hex(block)))

    def balance(self, address: bytes, block: int) -> int:
        """What an address holds of the chain's coin."""
        return self.quantity(self.ask("eth_getBalance", "0x" + address.hex(), hex(block)))

    def call(self, address: bytes, signature: str, *words: bytes, block: int, least: int = 1) -> list[bytes]:
        """What a view answers, as at least so many words; Refused if it has no such answer."""
        data = keccak256(signature.encode())[:4] + b"".join(words)
        question = {"to": "0x" + address.hex(), "data": "0x" + data.hex()}
        answer = self.data(self.ask("eth_call", question, hex(block)))
        if len(answer) < least * WORD:
            raise Refused(f"{signature} of 0x{address.hex()} answered {len(answer)} bytes")
        return [answer[at : at + WORD] for at in range(0, len(answer) - WORD + 1, WORD)]

    def logs(self, address: bytes, topics: list[str | None], first: int, last: int) -> list[Log]:
        """Every event of an address with these topics, both blocks included; halves what is too much."""
        found: list[Log] = []
        waiting, halved = [(first, last)], 0
        while waiting:
            first, last = waiting.pop()
            question = {
                "address": "0x" + address.hex(),
                "topics": topics,
                "fromBlock": hex(first),
                "toBlock": hex(last),
            }
            try:
                answer = self.ask("eth_getLogs", question)
            except Refused as refused:
                # A node that states a block of its own invention could be asked for ever.
                if first >= last or halved == MOST_HALVED:
                    raise self.wrong(f"{refused}, blocks {first} to {last}, halved {halved} times") from None
                middle, halved = (first + last) // 2, halved + 1
                waiting += [(middle + 1, last), (first, middle)]
                continue
            if not isinstance(answer, list):
                raise self.wrong("answered eth_getLogs with no list")
            found += [log for log in map(self._log, answer) if log is not None]
        return found

    def _log(self, thing: object) -> Log | None:
        if not isinstance(thing, dict) or not isinstance(thing.get("topics"), list):
            raise self.wrong("an event is no object with topics")
        if thing.get("removed") is True:
            return None
        return Log(
            self.data(thing.get("address"), 20),
            tuple(self.data(topic, WORD) for topic in thing["topics"]),
            self.data(thing.get("data")),
            self.quantity(thing.get("blockNumber")),
            self.data(thing.get("blockHash"), WORD),
            self.data(thing.get("transactionHash"), WORD),
            self.quantity(thing.get("logIndex")),
        )
