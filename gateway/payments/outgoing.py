"""What payments need of a chain to send money back: somebody who sends, and eyes to see that it went.

Both are named by what they do, so that payments speak neither web3 nor HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.db import Connection
from gateway.sending.call import Call, Outcome
from ledger.records import Approval, Refund, Transfer


class Outgoing(Protocol):
    """Who sends transactions: durably, each call once (gateway/sending)."""

    def queue(self, connection: Connection, chain: str, call: Call, now: int) -> str:
        """Have a call done once, in the caller's transaction; the same call again is the same id."""
        ...

    def outcome(self, connection: Connection, id: str) -> Outcome:
        """How far a call has come."""
        ...


@dataclass(frozen=True)
class Moved:
    """A Transfer log that was seen. key: chain, block hash, transaction, index; document: its evidence."""

    key: str
    asset: str
    sender: bytes
    receiver: bytes
    amount_minor: int
    block: int
    transaction: bytes
    document: bytes


@dataclass(frozen=True)
class CoinSent:
    """What a transaction is said to have done: sent so much of the coin from a wallet to a receiver.

    since_block: none before it can have been this.
    """

    asset: str
    transaction: bytes
    sender: bytes
    receiver: bytes
    amount_minor: int
    since_block: int


@dataclass(frozen=True)
class Credit:
    """What Treasury credited by a transaction of a block, since the receiver could not receive."""

    asset: str
    receiver: bytes
    amount_minor: int
    block: int
    transaction: bytes


@dataclass(frozen=True)
class Pull:
    """A receiver took all that was credited to it in an asset, in a block."""

    receiver: bytes
    block: int
    amount_minor: int


@dataclass(frozen=True)
class Let:
    """What Treasury let go by one refund, whoever had it done. moved: None where it was credited."""

    block: int
    transaction: bytes
    moved: Moved | None


@dataclass(frozen=True)
class Seen:
    """How far a chain is: its newest block, and up to which it is final."""

    latest: int
    final: int


class Sight(Protocol):
    """What is seen of a chain. Every method asks a node: never within a transaction of the database."""

    rail: str
    chain_id: int
    treasury: bytes

    def token(self, asset: str) -> bytes:
        """The token of an asset."""
        ...

    def is_coin(self, asset: str) -> bool:
        """Whether an asset is the chain's coin, which leaves no log when it moves."""
        ...

    def is_ours(self, address: bytes) -> bool:
        """Whether an address is a contract of the city or a token: no money goes back there."""
        ...

    def head(self) -> Seen:
        """Where the chain is."""
        ...

    def moved(
        self,
        asset: str,
        senders: Collection[bytes],
        receivers: Collection[bytes],
        first: int,
        last: int,
        *,
        is_final: bool = False,
    ) -> list[Moved]:
        """The transfers of an asset from one of these to one of those, in a range of blocks.

        is_final: all of them are final, so that nodes must agree on the answer. None where last < first.
        """
        ...

    def let_go(self, asset: str, refund_hash: bytes, first: int) -> Let | None:
        """What Treasury said of one refund in a final block from `first` on; None where it said nothing."""
        ...

    def is_credited(self, credit: Credit) -> bool:
        """Whether a transaction of a final block had Treasury credit a receiver, who could not receive."""
        ...

    def pulled(self, asset: str, receivers: Collection[bytes], first: int, last: int) -> list[Pull]:
        """When receivers pulled what Treasury had credited to them, in a range of final blocks."""
        ...

    def paid_by_pull(self, credit: Credit, pull: Pull) -> Moved | None:
        """What a refund paid that was credited, once a pull took it; None where this pull did not."""
        ...

    def coin_moved(self, asked: CoinSent, final: int, known_key: str | None = None) -> Moved | None:
        """The transfer, if a transaction made it; None where it is in no block.

        Invalid with the reason where it does not prove it. final: up to this block nodes must agree;
        known_key: of what was seen of it before.
        """
        ...

    def is_signed_by_contract(self, address: bytes, digest: bytes, signature: bytes) -> bool:
        """Whether a contract says that a signature is its own (ERC-1271)."""
        ...


@dataclass(frozen=True)
class Promised:
    """A refund in effect on the ledger, with its receipt and who signed it, and where both stand."""

    refund: Refund
    position: int
    receipt: Transfer
    receipt_position: int
    approvals: Sequence[Approval]


class TreasuryDoor(Protocol):
    """How the Treasury contract is asked to pay a promised refund."""

    def refund_call(self, reference: str, promised: Promised) -> Call | None:
        """The call, with its proofs in an anchored head; None while it is not anchored or not due."""
        ...

    def paid_since(self, promised: Promised) -> int | None:
        """From which block on to look for who had it paid; None while the treasury has not paid it."""
        ...
