"""What the sender asks of a chain, in the words that it thinks in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contracts.transactions import explain
from gateway.rails.evm import Head, Pool, Refused
from gateway.rails.evm.blocks import MALFORMED, read_block
from gateway.rails.evm.pool import Endpoint
from gateway.rails.evm.rpc import data, quantity, to_hex
from gateway.sending.call import Call
from ledger.records import WORD, Unavailable

REVERTED_CODE = 3
NONCE_SEARCH_BLOCKS = 1 << 20


class Forgotten(Exception):
    """A node that has a block and no longer its state."""


class Answer(StrEnum):
    """What nodes said to a transaction that was offered."""

    TAKEN = "taken"
    USED = "used"  # its nonce is used: by itself or by another, which the chain will tell
    CHEAP = "cheap"  # it must offer more
    POOR = "poor"  # the account cannot pay for it
    EARLY = "early"  # not yet: what comes before it has to be taken first, or there is no room now
    SILENT = "silent"  # nobody said anything: it may have been taken
    REFUSED = "refused"  # it can never be taken


# Words of geth, Nethermind, Erigon, Besu, reth, anvil and py-evm; anything else is a refusal.
_WORDS = (
    (Answer.TAKEN, ("already known", "already imported", "known transaction", "alreadyknown")),
    (Answer.USED, ("nonce too low", "nonce is too low", "oldnonce", "already been used", "invalid nonce")),
    (
        # geth: nonce too high, gapped-nonce, in-flight limit, future transaction; Besu: too distant, lower
        # nonce exists; Nethermind: NonceGap, NonceTooFarInFuture; Erigon and reth: too distant, nonce gap.
        Answer.EARLY,
        ("nonce too high", "noncetoohigh", "nonce is too high", "nonce gap", "noncegap", "gapped-nonce",
         "gapped nonce", "future nonce", "nonce too far", "noncetoofar", "too distant", "lower nonce exists",
         "future transaction", "in-flight transaction limit", "pool is full", "account limit exceeded"),
    ),
    (
        Answer.CHEAP,
        ("underpriced", "fee too low", "feetoolow", "less than block base fee", "max fee per gas",
         "fee cap", "base fee", "replacement not allowed"),
    ),
    (Answer.POOR, ("insufficient", "balance", "funds")),
)  # fmt: skip


@dataclass(frozen=True)
class Receipt:
    """What a transaction did, as the chain has it now."""

    transaction: bytes
    block: int
    block_hash: bytes
    succeeded: bool


@dataclass(frozen=True)
class Facts:
    """What is known of the chain and the account in one step. used: nonces used, now and finally."""

    head: Head
    nodes: list[Endpoint]
    used: int
    used_finally: int
    base_fee: int
    tip: int


class AccountChain:
    """One account on one chain."""

    def __init__(self, pool: Pool, address: bytes) -> None:
        self.pool, self.address = pool, address
        self.name = pool.name

    def facts(self, tip_least: int, tip_most: int) -> Facts:
        """Where the chain is, and how far the account."""
        head, nodes = self.pool.agreed()
        used_finally = self._used_finally(nodes, head.final)
        used = self.used(nodes, "latest")
        base_fee = self.pool.read(lambda one: read_block(one.node, "latest").base_fee, nodes)
        tip = min(max(self._tip(nodes), tip_least), tip_most)
        # A chain that went back between the two questions must not make less of what is final.
        return Facts(head, nodes, max(used, used_finally), used_finally, base_fee, tip)

    def used(self, nodes: Sequence[Endpoint], block: int | str) -> int:
        """How many nonces the account has used up to a block; Forgotten where the node will not say."""
        tag = to_hex(block) if isinstance(block, int) else block

        def read(endpoint: Endpoint) -> int:
            try:
                return quantity(endpoint.node.ask("eth_getTransactionCount", to_hex(self.address), tag))
            except Refused as error:
                raise Forgotten(endpoint.node.name, f"nonce at {tag}: {error}"[:300]) from error
            except MALFORMED as error:
                raise Unavailable(endpoint.node.name, f"nonce at {tag}: {error}"[:300]) from error

        return self.pool.read(read, nodes)

    def _used_finally(self, nodes: Sequence[Endpoint], final: int) -> int:
        try:
            return self.used(nodes, final)
        except Forgotten:
            # A node that keeps only the newest states: then nothing is dropped, and what is unknown stays so.
            return 0

    def receipts(self, nodes: Sequence[Endpoint], hashes: Sequence[bytes]) -> dict[bytes, Receipt]:
        """The receipts that the first of these nodes has."""
        asked = [("eth_getTransactionReceipt", (to_hex(hash),)) for hash in hashes]

        def read(endpoint: Endpoint) -> dict[bytes, Receipt]:
            found = {}
            try:
                for hash, told in zip(hashes, endpoint.node.ask_all(asked), strict=True):
                    if isinstance(told, Refused):
                        raise Unavailable(endpoint.node.name, f"receipt: {told.message}"[:300])
                    if told is not None:
                        found[hash] = _receipt(told, hash)
            except MALFORMED as error:
                raise Unavailable(endpoint.node.name, f"receipt: {error}"[:300]) from error
            return found

        return self.pool.read(read, nodes) if hashes else {}

    def confirms(self, facts: Facts, receipt: Receipt) -> bool:
        """Whether the chain has the receipt's block, and a second node the receipt, where there is one."""
        block = self.pool.read(lambda one: read_block(one.node, receipt.block), facts.nodes)
        if block.hash != receipt.block_hash:
            return False
        if len(facts.nodes) < 2:
            return True
        second = self.receipts(facts.nodes[1:], [receipt.transaction])
        return second.get(receipt.transaction) == receipt

    def is_waiting(self, nodes: Sequence[Endpoint], hashes: Sequence[bytes]) -> bool:
        """Whether a node knows one of these transactions."""
        asked = [("eth_getTransactionByHash", (to_hex(hash),)) for hash in hashes]
        told = self.pool.read(lambda one: one.node.ask_all(asked), nodes)
        return any(isinstance(found, dict) for found in told)

    def offer(self, nodes: Sequence[Endpoint], raw: bytes) -> tuple[Answer, str, set[str]]:
        """Offer a transaction to every node; the best answer, why it is not better, and who has its nonce.

        Only those who have it, by name, can take what comes after it.
        """
        best, why, holders = Answer.SILENT, "no node answers", set()
        order = list(Answer)
        for endpoint in nodes:
            answer, said = self._offer(endpoint, raw)
            if answer in {Answer.TAKEN, Answer.USED}:
                holders.add(endpoint.node.name)
            # A node's answer counts for more than another's silence.
            if best is Answer.SILENT or (
                answer is not Answer.SILENT and order.index(answer) < order.index(best)
            ):
                best, why = answer, said
        return best, why, holders

    def _offer(self, endpoint: Endpoint, raw: bytes) -> tuple[Answer, str]:
        try:
            endpoint.node.ask("eth_sendRawTransaction", to_hex(raw))
            return Answer.TAKEN, ""
        except Refused as refused:
            said = refused.message.lower()
            for answer, words in _WORDS:
                if any(word in said for word in words):
                    return answer, "" if answer is Answer.TAKEN else str(refused)
            return Answer.REFUSED, str(refused)
        except Unavailable as error:
            self.pool.set_aside(endpoint, error.why)
            return Answer.SILENT, str(error)

    def simulate(self, nodes: Sequence[Endpoint], call: Call, block: int | str = "latest") -> str | None:
        """Why the chain would refuse a call after a block; None where it would not."""
        asked = {
            "from": to_hex(self.address),
            "to": to_hex(call.to),
            "data": to_hex(call.data),
            "value": to_hex(call.value),
            "gas": to_hex(call.gas_limit),
        }
        try:
            tag = to_hex(block) if isinstance(block, int) else block
            self.pool.read(lambda one: one.node.ask("eth_call", asked, tag), nodes)
        except Refused as refused:
            if refused.code != REVERTED_CODE and "revert" not in refused.message.lower():
                # The node's own trouble, or ours: no verdict about the call.
                raise Unavailable(refused.service, refused.message) from refused
            rule, why = explain(refused.data)
            return f"{rule}: {why or refused.message}"[:300]
        return None

    def user_of(self, facts: Facts, nonce: int) -> bytes | None:
        """The hash of the transaction that used a nonce finally; None where no node can tell any more.

        Found by halving: the count of used nonces grows with the blocks.
        """
        try:
            block = self._block_of(facts, nonce)
        except Forgotten:
            return None
        return self.pool.read(lambda one: self._sent_in(one, block, nonce), facts.nodes)

    def _block_of(self, facts: Facts, nonce: int) -> int:
        low, high, step = facts.head.final, facts.head.final, 1
        while low > 0 and self.used(facts.nodes, low) > nonce:
            if facts.head.final - low > NONCE_SEARCH_BLOCKS:
                raise Forgotten(self.name, f"nonce {nonce} was used long ago")
            high, low, step = low, max(low - step, 0), step * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.used(facts.nodes, middle) > nonce else (middle, high)
        return high

    def _sent_in(self, endpoint: Endpoint, block: int, nonce: int) -> bytes | None:
        try:
            told = endpoint.node.ask("eth_getBlockByNumber", *(to_hex(block), True))
            for sent in told["transactions"]:
                if data(sent["from"], 20) == self.address and quantity(sent["nonce"]) == nonce:
                    return data(sent["hash"], WORD)
        except (Refused, *MALFORMED) as error:
            raise Unavailable(endpoint.node.name, f"transactions of {block}: {error}"[:300]) from error
        return None

    def _tip(self, nodes: Sequence[Endpoint]) -> int:
        def read(endpoint: Endpoint) -> int:
            try:
                return quantity(endpoint.node.ask("eth_maxPriorityFeePerGas"))
            except (Refused, *MALFORMED):
                # Not every node has an opinion.
                return 0

        return self.pool.read(read, nodes)


def _receipt(told: Any, hash: bytes) -> Receipt:
    if data(told["transactionHash"], WORD) != hash:
        raise ValueError("the receipt of another transaction")
    status = quantity(told["status"])
    if status > 1:
        raise ValueError(f"status {status}")
    return Receipt(hash, quantity(told["blockNumber"]), data(told["blockHash"], WORD), status == 1)
