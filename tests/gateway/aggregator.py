"""A price feed that says what a test tells it: latestRoundData() and decimals() as Chainlink's aggregators give them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from contracts import transactions

MEMBERS = ("round", "answer", "started_s", "updated_s", "answered_in", "decimals")


def _runtime() -> bytes:
    """By hand: six words of storage; any call with another selector sets them all."""
    setting = b"".join(bytes([0x60, 4 + 32 * at, 0x35, 0x60, at, 0x55]) for at in range(6)) + b"\x00"
    told = b"".join(bytes([0x60, at, 0x54, 0x60, 32 * at, 0x52]) for at in range(5)) + b"\x60\xa0\x60\x00\xf3"
    decimals = b"\x60\x05\x54\x60\x00\x52\x60\x20\x60\x00\xf3"
    selector = b"\x60\x00\x35\x60\xe0\x1c"

    def jump(to: int, called: bytes) -> bytes:
        return b"\x80\x63" + called + b"\x14\x61" + to.to_bytes(2, "big") + b"\x57"

    start = len(selector) + 2 * len(jump(0, bytes(4)))
    first = start + len(setting)
    second = first + 1 + len(told)
    jumps = jump(first, bytes.fromhex("feaf968c")) + jump(second, bytes.fromhex("313ce567"))
    return selector + jumps + setting + b"\x5b" + told + b"\x5b" + decimals


@dataclass(frozen=True)
class Says:
    """A round."""

    round: int
    answer: int
    started_s: int
    updated_s: int
    answered_in: int
    decimals: int = 8

    @classmethod
    def now(cls, answer: int, now: int, decimals: int = 8) -> Says:
        return cls(7, answer, now - 60, now - 60, 7, decimals)


@dataclass
class Aggregator:
    """A feed that stands on a chain."""

    web3: Web3
    account: LocalAccount
    address: bytes

    @classmethod
    def deployed(cls, web3: Web3, account: LocalAccount) -> Aggregator:
        code = _runtime()
        # PUSH2 size, DUP1, PUSH1 12, PUSH1 0, CODECOPY, PUSH1 0, RETURN: 12 bytes before the code.
        creation = b"\x61" + len(code).to_bytes(2, "big") + b"\x80\x60\x0c\x60\x00\x39\x60\x00\xf3" + code
        receipt: Any = transactions.transact(web3, account, {"data": creation, "gas": 500_000}, "aggregator")
        return cls(web3, account, bytes.fromhex(receipt["contractAddress"][2:]))

    def say(self, said: Says, **changes: int) -> None:
        said = replace(said, **changes)
        words = b"".join((getattr(said, name) % (1 << 256)).to_bytes(32, "big") for name in MEMBERS)
        to = Web3.to_checksum_address(self.address)
        asked: Any = {"to": to, "data": b"\x12\x34\x56\x78" + words, "gas": 500_000}
        transactions.transact(self.web3, self.account, asked, "aggregator")
