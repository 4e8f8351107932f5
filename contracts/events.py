"""What the contracts say: each event as it is in a log.

Addresses are 20 bytes and hashes 32. A log that is not the event it is read as is Invalid, C:event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from web3 import Web3
from web3.types import LogReceipt

from contracts.transactions import answering, load_artifact
from ledger.records import (
    keccak256,
    reject,
)


@dataclass(frozen=True, slots=True)
class Event:
    """Where an event stands."""

    at: bytes
    block: int
    block_hash: bytes
    transaction: bytes
    log_index: int

    artifact: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Anchored(Event):
    """A head was anchored."""

    size: int
    root: bytes
    time: int
    artifact: ClassVar[str] = "LedgerAnchor"


@dataclass(frozen=True, slots=True)
class ResumptionAnnounced(Event):
    """The Council has announced that the log goes on from an earlier head; from_s: not before this second."""

    resumption_hash: bytes
    head_size: int
    head_time: int
    act: bytes
    from_s: int
    artifact: ClassVar[str] = "LedgerAnchor"


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The log goes on from an earlier head: those after it, up to this event's block, count no more."""

    resumption_hash: bytes
    head_size: int
    head_time: int
    artifact: ClassVar[str] = "LedgerAnchor"


@dataclass(frozen=True, slots=True)
class Enacted(Event):
    """An act of the Council came into force, or will when its notice has passed."""

    kind: bytes
    record_hash: bytes
    object: bytes
    index: int
    artifact: ClassVar[str] = "Council"


@dataclass(frozen=True, slots=True)
class Executed(Event):
    """An order was paid, or credited where the payee could not receive."""

    order_hash: bytes
    milestone_hash: bytes
    payee: bytes
    token: bytes
    amount: int
    artifact: ClassVar[str] = "Treasury"


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """An auditor stopped an order."""

    order_hash: bytes
    auditor: bytes
    until: int
    artifact: ClassVar[str] = "Treasury"


@dataclass(frozen=True, slots=True)
class Refunded(Event):
    """Money of a receipt went back, or was credited where the receiver could not receive."""

    refund_hash: bytes
    receipt_hash: bytes
    to: bytes
    token: bytes
    amount: int
    artifact: ClassVar[str] = "Treasury"


@dataclass(frozen=True, slots=True)
class Disputed(Event):
    """A commitment is held."""

    commitment_hash: bytes
    dispute_hash: bytes
    by: bytes
    artifact: ClassVar[str] = "Treasury"


@dataclass(frozen=True, slots=True)
class Resolved(Event):
    """A dispute is settled: 0, the commitment goes on; 1, it has ended."""

    commitment_hash: bytes
    resolution_hash: bytes
    outcome: int
    artifact: ClassVar[str] = "Treasury"


@dataclass(frozen=True, slots=True)
class Breached(Event):
    """A breach was shown; commitment_hash is zero where it freezes all of Treasury."""

    rule: bytes
    index: int
    commitment_hash: bytes
    artifact: ClassVar[str] = "Watchdog"


@dataclass(frozen=True, slots=True)
class Lifted(Event):
    """A breach was acknowledged and freezes no more."""

    rule: bytes
    index: int
    commitment_hash: bytes
    artifact: ClassVar[str] = "Watchdog"


@dataclass(frozen=True, slots=True)
class Withdrawn(Event):
    """A seat took its signature over a record back."""

    record_hash: bytes
    signer: bytes
    artifact: ClassVar[str] = "Council"


@dataclass(frozen=True, slots=True)
class Paid(Event):
    """A quote was paid."""

    invoice: bytes
    token: bytes
    amount: int
    city_amount: int
    artifact: ClassVar[str] = "PaymentRouter"


@dataclass(frozen=True, slots=True)
class Flushed(Event):
    """A deposit address was emptied. Evidence only if the address is the one given for that invoice."""

    invoice: bytes
    deposit: bytes
    token: bytes
    amount: int
    city_amount: int
    artifact: ClassVar[str] = "PaymentRouter"


@dataclass(frozen=True, slots=True)
class Transfer(Event):
    """A token moved; `at` is the token."""

    sender: bytes
    receiver: bytes
    amount: int
    artifact: ClassVar[str] = "TestToken"


_AnyEvent = TypeVar("_AnyEvent", bound=Event)


def _event_abi(kind: type[Event]) -> tuple[bytes, list[dict[str, Any]]]:
    """An event's first topic and its members."""
    for entry in load_artifact(kind.artifact)["abi"]:
        if entry["type"] == "event" and entry["name"] == kind.__name__:
            types = ",".join(member["type"] for member in entry["inputs"])
            return keccak256(f"{kind.__name__}({types})".encode()), entry["inputs"]
    raise AssertionError(kind)


def decode_event(kind: type[_AnyEvent], log: LogReceipt) -> _AnyEvent:
    """Read a log as an event of this kind; any other log is refused."""
    topic, members = _event_abi(kind)
    indexed = [member for member in members if member["indexed"]]
    plain = [member for member in members if not member["indexed"]]
    topics = [bytes(found) for found in log["topics"]]
    where = f"{kind.__name__} in log {log['logIndex']} of 0x{bytes(log['transactionHash']).hex()}"
    if topics[:1] != [topic] or len(topics) != 1 + len(indexed):
        reject(
            "C:event",
            where,
            f"{len(topics)} topics, expected {1 + len(indexed)} of which the first is 0x{topic.hex()}",
        )
    try:
        values = [
            abi_decode([member["type"]], word)[0] for member, word in zip(indexed, topics[1:], strict=True)
        ]
        values += abi_decode([member["type"] for member in plain], bytes(log["data"]))
    except DecodingError as error:
        reject("C:event", where, str(error))
    named = {member["name"]: value for member, value in zip(indexed + plain, values, strict=True)}
    ordered = [named[member["name"]] for member in members]
    found = [bytes.fromhex(value[2:]) if isinstance(value, str) else value for value in ordered]
    place = (
        bytes.fromhex(log["address"][2:]),
        log["blockNumber"],
        bytes(log["blockHash"]),
        bytes(log["transactionHash"]),
        log["logIndex"],
    )
    return kind(*place, *found)


def read_events(
    w3: Web3,
    kind: type[_AnyEvent],
    at: Sequence[bytes],
    first_block: int,
    last_block: int,
    *topics: bytes | None,
) -> list[_AnyEvent]:
    """All events of a kind at these addresses, both blocks included; topics: the indexed members to match."""
    wanted: list[Any] = [_event_abi(kind)[0], *topics]
    with answering(f"events {kind.__name__}"):
        logs = w3.eth.get_logs(
            {
                "address": [Web3.to_checksum_address(address) for address in at],
                "fromBlock": first_block,
                "toBlock": last_block,
                "topics": [None if topic is None else Web3.to_hex(topic) for topic in wanted],
            }
        )
    return [decode_event(kind, log) for log in logs]
