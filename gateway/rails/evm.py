"""The EVM rail: logs in, evidence out; quotes and deposit addresses, computed without a call.

Push is no part of it: the truth is a range of blocks asked for from a cursor. What is not
final is asked for again each time, so a block that is gone takes its evidence with it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import FilterParams, LogReceipt

from contracts.bindings import City, Deployment, Quote, Terms, quote_digest, sign_digest
from gateway.rails import Evidence, Kind, Stage
from ledger.records import WORD, Unavailable, keccak256

TRANSFER = keccak256(b"Transfer(address,address,uint256)")
PAID = keccak256(b"Paid(bytes32,bytes32,address,address,uint256,uint256)")
FLUSHED = keccak256(b"Flushed(bytes32,address,address,uint256,uint256)")
RANGE_BLOCKS = 2_000


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

    def deposit_address(self, number: bytes, purpose: str, payee: bytes, share_bps: int) -> bytes:
        """Where money for these terms can be sent."""
        return self.city.deposit_address(Terms(number, purpose, payee, share_bps))

    def sign_quote(
        self, number: bytes, purpose: str, payee: bytes, asset: str, amount: int, share_bps: int, until: int
    ) -> bytes:
        """The 65 bytes r, s, v of the gateway's seat over a quote."""
        quote = Quote(number, purpose, payee, self.place.token(asset), amount, share_bps, until)
        signed = sign_digest(self._seat, quote_digest(self.place.deployment.domain, quote))
        return signed.r + signed.s + bytes([signed.v])


@dataclass(frozen=True)
class Head:
    """How far the chain is, and up to where it is final."""

    latest: int
    final: int


class EvmRail:
    """Reads one chain. confirmations: how many blocks make a payment `paid` before it is final."""

    def __init__(self, web3: Web3, place: Place, confirmations: int = 2) -> None:
        self.web3, self.place, self.confirmations = web3, place, confirmations
        self.name = f"evm-{place.deployment.chain_id}"

    def head(self) -> Head:
        """Ask the chain where it is; Unavailable if it does not answer."""
        try:
            final = self.web3.eth.get_block("finalized")["number"]
            return Head(self.web3.eth.block_number, final)
        except (Web3Exception, RequestException, OSError, ValueError) as error:
            raise Unavailable(self.name, f"{type(error).__name__}: {error}") from error

    def scan(self, first: int, last: int, head: Head, deposits: Collection[bytes]) -> list[Evidence]:
        """The evidence in a range of blocks, both ends included, in the order of the logs."""
        if first > last:
            return []
        tokens = [Web3.to_checksum_address(token) for token in self.place.tokens]
        moved = self._logs(first, last, tokens, [TRANSFER])
        named = self._logs(
            first, last, [Web3.to_checksum_address(self.place.deployment.router)], [PAID, FLUSHED]
        )
        by_transaction: dict[bytes, list[LogReceipt]] = {}
        for log in moved:
            if _address(log, 2) == self.place.deployment.treasury:
                by_transaction.setdefault(bytes(log["transactionHash"]), []).append(log)
        found: list[tuple[LogReceipt, Evidence]] = []
        for log in named:
            evidence = self._split(log, by_transaction.get(bytes(log["transactionHash"]), []), head)
            if evidence is not None:
                found.append((log, evidence))
        watched = frozenset(deposits)
        found.extend((log, self._deposit(log, head)) for log in moved if _address(log, 2) in watched)
        found.sort(key=lambda pair: (pair[0]["blockNumber"], pair[0]["logIndex"]))
        return [evidence for _, evidence in found]

    def _logs(self, first: int, last: int, addresses: list[Any], topics: list[bytes]) -> list[LogReceipt]:
        logs: list[LogReceipt] = []
        try:
            for start in range(first, last + 1, RANGE_BLOCKS):
                asked: FilterParams = {
                    "fromBlock": start,
                    "toBlock": min(start + RANGE_BLOCKS - 1, last),
                    "address": addresses,
                    "topics": [["0x" + topic.hex() for topic in topics]],
                }
                logs.extend(self.web3.eth.get_logs(asked))
        except (Web3Exception, RequestException, OSError, ValueError) as error:
            raise Unavailable(self.name, f"{type(error).__name__}: {error}") from error
        return [log for log in logs if not log.get("removed")]

    def stage(self, block: int, head: Head) -> Stage:
        """How far a block has come."""
        if block <= head.final:
            return Stage.FINAL
        depth = head.latest - block + 1
        if depth >= self.confirmations:
            return Stage.PAID
        return Stage.CONFIRMING if depth > 1 else Stage.DETECTED

    def _split(self, log: LogReceipt, moved: list[LogReceipt], head: Head) -> Evidence | None:
        """A payment or a flush: believed only with the Transfer that moved the city's share."""
        paid = bytes(log["topics"][0]) == PAID
        token = _address(log, 3)
        if token not in self.place.tokens:
            return None
        words = _words(log)
        amount, city = words[-2], words[-1]
        document = b""
        if city:
            # Paid is told before its transfers, Flushed after them.
            transfer = _nearest(log, moved, token, city, after=paid)
            if transfer is None:
                return None
            moved.remove(transfer)
            document = evidence_document(self.place.deployment.chain_id, transfer, city)
        return Evidence(
            key=self._key(log),
            kind=Kind.ROUTER if paid else Kind.FLUSH,
            stage=self.stage(log["blockNumber"], head),
            asset=self.place.tokens[token],
            amount_minor=amount,
            city_minor=city,
            block=log["blockNumber"],
            number=bytes(log["topics"][1]) if paid else b"",
            address=b"" if paid else _address(log, 2),
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


def gone(stored: Iterable[tuple[str, int | None]], found: Sequence[Evidence], first: int) -> list[str]:
    """Keys of stored evidence, with its block, that stood from `first` on and is not there any more."""
    there = {evidence.key for evidence in found}
    return [key for key, block in stored if block is not None and block >= first and key not in there]


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
