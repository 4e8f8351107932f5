"""The EVM rail: logs in, evidence out; quotes and deposit addresses, computed without a call.

Push is no part of it: the truth is a range of blocks asked for from a cursor. What is not
final is asked for again each time, so a block that is gone takes its evidence with it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import FilterParams, LogReceipt

from contracts.bindings import (
    City,
    Deployment,
    Flushed,
    Paid,
    Quote,
    Terms,
    decode_event,
    load_artifact,
    quote_digest,
    sign_digest,
)
from gateway.rails import Evidence, Kind, Stage
from ledger.records import WORD, Invalid, Unavailable, keccak256

TRANSFER = keccak256(b"Transfer(address,address,uint256)")


def _topic(name: str) -> bytes:
    """The first topic of one of the router's events, as its artifact says."""
    abi = load_artifact("PaymentRouter")["abi"]
    event = next(entry for entry in abi if (entry["type"], entry.get("name")) == ("event", name))
    return keccak256(f"{name}({','.join(member['type'] for member in event['inputs'])})".encode())


PAID, FLUSHED = _topic("Paid"), _topic("Flushed")
RANGE_BLOCKS = 2_000
_AMOUNT_LIMIT = 1 << 128


def rail_name(chain_id: int) -> str:
    """Under which name the cursor of a chain is kept."""
    return f"evm-{chain_id}"


@dataclass(frozen=True)
class Place:
    """The contracts and tokens that count on one chain. tokens: asset name by token address."""

    deployment: Deployment
    tokens: dict[bytes, str]

    def token(self, asset: str) -> bytes:
        """The token of an asset."""
        return next(token for token, name in self.tokens.items() if name == asset)


class Quotes:
    """Signs quotes and gives deposit addresses; never asks the chain (field failure 52)."""

    def __init__(self, city: City, place: Place, seat: LocalAccount) -> None:
        self.city, self.place, self._seat = city, place, seat
        self.rail = rail_name(place.deployment.chain_id)

    def deposit_address(self, number: bytes, purpose: str, payee: bytes, share_bps: int) -> bytes:
        """Where money for these terms can be sent."""
        return self.city.deposit_address(Terms(number, purpose, payee, share_bps))

    def sign_quote(
        self,
        number: bytes,
        purpose: str,
        payee: bytes,
        asset: str,
        amount: int,
        share_bps: int,
        until: int,
        nonce: int,
    ) -> bytes:
        """The 65 bytes r, s, v of the gateway's seat over a quote."""
        token = self.place.token(asset)
        quote = Quote(number, purpose, payee, token, amount, share_bps, until, nonce)
        signed = sign_digest(self._seat, quote_digest(self.place.deployment.domain, quote))
        return signed.r + signed.s + bytes([signed.v])


@dataclass(frozen=True)
class Head:
    """How far the chain is, the time of its newest block, and up to where it is final."""

    latest: int
    time_s: int
    final: int


class EvmRail:
    """Reads one chain. confirmations: how many blocks make a payment `paid` before it is final.

    range_blocks: for how many blocks a node is asked at once.
    """

    def __init__(
        self, web3: Web3, place: Place, confirmations: int = 2, range_blocks: int = RANGE_BLOCKS
    ) -> None:
        self.web3, self.place, self.confirmations, self.range_blocks = (
            web3,
            place,
            confirmations,
            range_blocks,
        )
        self.name = rail_name(place.deployment.chain_id)

    def head(self) -> Head:
        """Ask the chain where it is; Unavailable if it does not answer, or not rightly."""
        expected = self.place.deployment.chain_id
        with self._asking():
            chain_id = self.web3.eth.chain_id
            final = self.web3.eth.get_block("finalized")["number"]
            latest = self.web3.eth.get_block("latest")
            head = Head(latest["number"], latest["timestamp"], final)
        if chain_id != expected:
            raise Unavailable(self.name, f"the node is of chain {chain_id}, not of {expected}")
        if not 0 <= head.final <= head.latest:
            raise Unavailable(self.name, f"block {head.final} is final and {head.latest} the newest")
        return head

    def scan(self, first: int, last: int, head: Head, deposits: Collection[bytes]) -> list[Evidence]:
        """The evidence in a range of blocks, both ends included, in the order of the logs."""
        if first > last:
            return []
        tokens = frozenset(self.place.tokens)
        moved = self._logs(first, last, tokens, [TRANSFER])
        named = self._logs(first, last, frozenset({self.place.deployment.router}), [PAID, FLUSHED])
        with self._asking():
            # A node that has not come so far answers with fewer logs and no error. It would move the
            # cursor over payments that it has not seen (field failures 04, 05).
            self.web3.eth.get_block(last)
        by_transaction: dict[bytes, list[LogReceipt]] = {}
        for log in moved:
            if _address(log, 2) == self.place.deployment.treasury:
                by_transaction.setdefault(bytes(log["transactionHash"]), []).append(log)
        found: list[tuple[LogReceipt, Evidence]] = []
        for log in named:
            with self._asking():
                is_paid = bytes(log["topics"][0]) == PAID
                event: Paid | Flushed = decode_event(Paid, log) if is_paid else decode_event(Flushed, log)
            transfers = by_transaction.get(bytes(log["transactionHash"]), [])
            evidence = self._split(log, event, transfers, head)
            if evidence is not None:
                found.append((log, evidence))
        watched = frozenset(deposits)
        # A transfer of nothing is no money: anybody can send it in anybody's name.
        found.extend(
            (log, self._deposit(log, head))
            for log in moved
            if _address(log, 2) in watched and 0 < _words(log)[0] < _AMOUNT_LIMIT
        )
        found.sort(key=_place)
        times = self._times({log["blockNumber"]: log for log, _ in found}.values())
        return [replace(evidence, at_s=times[log["blockNumber"]]) for log, evidence in found]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What a node answers wrongly is told as what it does not answer: neither moves anything."""
        try:
            yield
        except (Web3Exception, RequestException, OSError, Invalid, *_MALFORMED) as error:
            raise Unavailable(self.name, f"{type(error).__name__}: {error}"[:500]) from error

    def _logs(
        self, first: int, last: int, addresses: frozenset[bytes], topics: list[bytes]
    ) -> list[LogReceipt]:
        logs: list[LogReceipt] = []
        for start in range(first, last + 1, self.range_blocks):
            end = min(start + self.range_blocks - 1, last)
            asked: FilterParams = {
                "fromBlock": start,
                "toBlock": end,
                "address": [Web3.to_checksum_address(address) for address in sorted(addresses)],
                "topics": [["0x" + topic.hex() for topic in topics]],
            }
            with self._asking():
                answered = [log for log in self.web3.eth.get_logs(asked) if not log.get("removed")]
                for log in answered:
                    _check_log(log, start, end, addresses, topics)
            logs.extend(answered)
        return sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"]))

    def _times(self, logs: Iterable[LogReceipt]) -> dict[int, int]:
        """The time of each block that holds evidence; most nodes say it in the log itself."""
        times: dict[int, int] = {}
        for log in logs:
            with self._asking():
                told: Any = log.get("blockTimestamp")
                if told is None:
                    block = self.web3.eth.get_block(log["blockNumber"])
                    if bytes(block["hash"]) != bytes(log["blockHash"]):
                        raise ValueError(f"block {log['blockNumber']} has changed while it was read")
                    told = block["timestamp"]
                times[log["blockNumber"]] = int(told, 16) if isinstance(told, str) else int(told)
        return times

    def stage(self, block: int, head: Head) -> Stage:
        """How far a block has come."""
        if block <= head.final:
            return Stage.FINAL
        depth = head.latest - block + 1
        if depth >= self.confirmations:
            return Stage.PAID
        return Stage.CONFIRMING if depth > 1 else Stage.DETECTED

    def _split(
        self, log: LogReceipt, event: Paid | Flushed, moved: list[LogReceipt], head: Head
    ) -> Evidence | None:
        """A payment or a flush: believed only with the Transfer that moved the city's share."""
        paid = isinstance(event, Paid)
        amount, city = event.amount, event.city_amount
        if event.token not in self.place.tokens or not 0 < amount < _AMOUNT_LIMIT or city > amount:
            return None
        document = b""
        if city:
            # Paid is told before its transfers, Flushed after them.
            transfer = _nearest(log, moved, event.token, city, after=paid)
            if transfer is None:
                return None
            # One transfer stands for one payment (field failure 15).
            moved.remove(transfer)
            document = evidence_document(self.place.deployment.chain_id, transfer, city)
        return Evidence(
            key=self._key(log),
            kind=Kind.ROUTER if paid else Kind.FLUSH,
            stage=self.stage(log["blockNumber"], head),
            asset=self.place.tokens[event.token],
            amount_minor=amount,
            city_minor=city,
            block=log["blockNumber"],
            number=event.invoice if paid else b"",
            # Whoever flushes names the invoice; the address is what we gave.
            address=event.deposit if isinstance(event, Flushed) else b"",
            document=document,
        )

    def _deposit(self, log: LogReceipt, head: Head) -> Evidence:
        return Evidence(
            key=self._key(log),
            kind=Kind.DEPOSIT,
            stage=self.stage(log["blockNumber"], head),
            asset=self.place.tokens[_token(log)],
            amount_minor=_words(log)[-1],
            city_minor=0,
            block=log["blockNumber"],
            address=_address(log, 2),
        )

    def _key(self, log: LogReceipt) -> str:
        """The log is the identity: chain, block hash, transaction, index (field failures 14, 15)."""
        block, transaction = bytes(log["blockHash"]).hex(), bytes(log["transactionHash"]).hex()
        return f"evm:{self.place.deployment.chain_id}:{block}:{transaction}:{log['logIndex']}"


def evidence_document(chain_id: int, transfer: LogReceipt, amount: int) -> bytes:
    """The public evidence that an ERC-20 Transfer log moved money, in the form of docs/bundle.md."""
    told = {
        "kind": "evm-log",
        "chainId": str(chain_id),
        "blockHash": "0x" + bytes(transfer["blockHash"]).hex(),
        "transaction": "0x" + bytes(transfer["transactionHash"]).hex(),
        "logIndex": str(transfer["logIndex"]),
        "token": "0x" + _token(transfer).hex(),
        "to": "0x" + _address(transfer, 2).hex(),
        "amount": str(amount),
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


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


# What web3 raises where an answer has another shape than the standard says.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError)


def _check_log(
    log: LogReceipt, first: int, last: int, addresses: frozenset[bytes], asked: list[bytes]
) -> None:
    """Refuse a log that was not asked for, or that is not of the shape of its event."""
    topics = [bytes(topic) for topic in log["topics"]]
    if not topics or topics[0] not in asked or _token(log) not in addresses:
        raise ValueError(f"a log of {log['address']} that was not asked for")
    if not first <= log["blockNumber"] <= last:
        raise ValueError(f"a log of block {log['blockNumber']}, asked for {first} to {last}")
    sizes = {len(topic) for topic in topics}
    sizes |= {len(bytes(log["blockHash"])), len(bytes(log["transactionHash"]))}
    if sizes != {WORD} or log["logIndex"] < 0:
        raise ValueError(f"a log with words of {sorted(sizes)} bytes, expected {WORD}")
    shape = (len(topics), len(bytes(log["data"])))
    # The others' shape is checked where they are decoded.
    if topics[0] == TRANSFER and shape != (3, WORD):
        raise ValueError(f"a Transfer with {shape[0]} topics and {shape[1]} bytes, expected 3 and {WORD}")


def _place(found: tuple[LogReceipt, Evidence]) -> tuple[int, int]:
    return found[0]["blockNumber"], found[0]["logIndex"]


def _token(log: LogReceipt) -> bytes:
    return bytes.fromhex(log["address"][2:])


def _address(log: LogReceipt, topic: int) -> bytes:
    return bytes(log["topics"][topic])[12:] if len(log["topics"]) > topic else b""


def _words(log: LogReceipt) -> list[int]:
    data = bytes(log["data"])
    return [int.from_bytes(data[at : at + WORD], "big") for at in range(0, len(data), WORD)]


def _nearest(
    log: LogReceipt, moved: list[LogReceipt], token: bytes, amount: int, *, after: bool
) -> LogReceipt | None:
    sign = 1 if after else -1
    fitting = [
        transfer
        for transfer in moved
        if _token(transfer) == token
        and _words(transfer)[-1] == amount
        and sign * (transfer["logIndex"] - log["logIndex"]) > 0
    ]
    return min(fitting, key=lambda transfer: sign * transfer["logIndex"], default=None)
