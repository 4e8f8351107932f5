"""A price feed on a chain as a rate source: Chainlink's AggregatorV3 interface, read by eth_call.

A feed says what one whole token is worth in a currency; where that is not tenge, another source says what
the currency is worth. A feed that answers is not a feed that is right: a round can be open, old, of an
earlier answer, negative, or of other decimals than one believes. Each of these is Unavailable.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from gateway.rails.evm.rpc import Refused, data, quantity
from gateway.rates import RateSource, SourcedRate
from ledger.records import Unavailable, keccak256

LATEST_ROUND = keccak256(b"latestRoundData()")[:4]
DECIMALS = keccak256(b"decimals()")[:4]
WORD = 32
DECIMALS_MOST = 36
_WITHOUT_TRANSACTIONS = (False,)
ANSWER_LIMIT = 1 << 128
# A block's time may run a little ahead of ours.
AHEAD_S = 60


class Chain(Protocol):
    """Whoever answers JSON-RPC: a node, or a pool of them."""

    def ask(self, method: str, *parameters: object) -> Any:
        """The result of one question."""
        ...


@dataclass(frozen=True)
class Round:
    """What latestRoundData gives, and where: the block that it was read at."""

    round: int
    answer: int
    started_s: int
    updated_s: int
    answered_in: int
    decimals: int
    block: int
    block_hash: bytes
    block_time_s: int


@dataclass(frozen=True)
class ChainFeed:
    """A feed of one asset. address: the aggregator or its proxy, 20 bytes.

    decimals: of the asset. heartbeat_s: how old an answer may be; a feed that is older has stopped.
    through: what one whole unit of the feed's currency is worth in tiyn (an asset of 0 decimals); None:
    the feed is in tenge. through_age_s: how old that may be.
    """

    chain: Chain
    chain_id: int
    address: bytes
    asset: str
    decimals: int
    name: str
    heartbeat_s: int
    through: RateSource | None = None
    through_age_s: int = 0

    def fetch(self, now_s: int) -> SourcedRate:
        """Ask for the last round; its own time tells its age."""
        told = self._read()
        self._check(told, now_s)
        price, step = Fraction(told.answer, 10**told.decimals) * 100, None
        if self.through is not None:
            step = self.through.fetch(now_s)
            age_s = now_s - step.time_s
            if not -AHEAD_S <= age_s <= self.through_age_s:
                why = f"{step.source} is {age_s} s old, at most {self.through_age_s}"
                raise Unavailable(self.name, why)
            price = price * step.fraction / 100
        rate = price / 10**self.decimals
        body = self._document(told, step)
        name = hashlib.sha256(body).hexdigest()
        return SourcedRate(
            self.asset, rate.numerator, rate.denominator, self.name, told.updated_s, name, body
        )

    def _read(self) -> Round:
        try:
            if (chain_id := quantity(self.chain.ask("eth_chainId"))) != self.chain_id:
                raise Unavailable(self.name, f"the node is of chain {chain_id}, not of {self.chain_id}")
            block = self.chain.ask("eth_getBlockByNumber", "latest", *_WITHOUT_TRANSACTIONS)
            number = quantity(block["number"])
            # Both of one block: a feed that is replaced in between would mix two of them.
            rounds, decimals = (self._call(selector, number) for selector in (LATEST_ROUND, DECIMALS))
            place = (number, data(block["hash"], WORD), quantity(block["timestamp"]))
        except (Refused, ValueError, TypeError, KeyError) as error:
            raise Unavailable(self.name, f"{type(error).__name__}: {error}"[:300]) from error
        if len(rounds) != 5 * WORD or len(decimals) != WORD:
            why = f"{len(rounds)} and {len(decimals)} bytes, {5 * WORD} and {WORD} are a feed's"
            raise Unavailable(self.name, why)
        words = [rounds[at : at + WORD] for at in range(0, 5 * WORD, WORD)]
        round, _, started_s, updated_s, answered_in = (int.from_bytes(word, "big") for word in words)
        answer = int.from_bytes(words[1], "big", signed=True)
        held = (round, answer, started_s, updated_s, answered_in, int.from_bytes(decimals, "big"))
        return Round(*held, *place)

    def _call(self, selector: bytes, block: int) -> bytes:
        asked = {"to": "0x" + self.address.hex(), "data": "0x" + selector.hex()}
        return data(self.chain.ask("eth_call", asked, hex(block)))

    def _check(self, told: Round, now_s: int) -> None:
        problem = ""
        if told.decimals > DECIMALS_MOST:
            problem = f"{told.decimals} decimals, at most {DECIMALS_MOST}"
        elif not 0 < told.answer < ANSWER_LIMIT:
            problem = f"the answer is {told.answer}"
        elif told.updated_s == 0 or told.started_s == 0:
            problem = f"round {told.round} is not complete"
        elif told.answered_in < told.round:
            problem = f"round {told.round} repeats the answer of round {told.answered_in}"
        elif not told.started_s <= told.updated_s <= told.block_time_s:
            problem = f"updated at {told.updated_s}, begun at {told.started_s}, block of {told.block_time_s}"
        elif not -AHEAD_S <= now_s - told.updated_s <= self.heartbeat_s:
            problem = f"the answer is {now_s - told.updated_s} s old, at most {self.heartbeat_s}"
        if problem:
            raise Unavailable(self.name, problem)

    def _document(self, told: Round, step: SourcedRate | None) -> bytes:
        """What is published as the source's answer: anyone with a node of that chain asks again."""
        said: dict[str, Any] = {
            "kind": "evm-feed",
            "chainId": str(self.chain_id),
            "feed": "0x" + self.address.hex(),
            "block": str(told.block),
            "blockHash": "0x" + told.block_hash.hex(),
            "roundId": str(told.round),
            "answer": str(told.answer),
            "startedAt": str(told.started_s),
            "updatedAt": str(told.updated_s),
            "answeredInRound": str(told.answered_in),
            "decimals": str(told.decimals),
        }
        if step is not None:
            said["through"] = {
                "source": step.source,
                "sha256": step.sha256,
                "numerator": str(step.numerator),
                "denominator": str(step.denominator),
                "time": str(step.time_s),
            }
        return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
