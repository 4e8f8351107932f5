"""The states of a refund and the moves between them (P6). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.payments.model import Returned


class RefundState(StrEnum):
    """Where a refund stands."""

    REQUESTED = "requested"  # its amount is reserved; somebody may still say no
    APPROVED = "approved"  # may go
    PENDING = "pending"  # prepared: a wallet, the ledger or the sender has it, nothing is out yet
    SENT = "sent"  # a transfer is on the chain, and can still go
    UNKNOWN = "unknown"  # nobody can say whether it went: asked, never tried again (field failure 19)
    FINAL = "final"  # refunded
    FAILED = "failed"  # certainly did not go; may be tried again
    CANCELLED = "cancelled"  # will not go, and reserves nothing


_S = RefundState
# Every legal move.
MOVES: dict[RefundState, frozenset[RefundState]] = {
    _S.REQUESTED: frozenset({_S.APPROVED, _S.CANCELLED}),
    _S.APPROVED: frozenset({_S.PENDING, _S.CANCELLED}),
    _S.PENDING: frozenset({_S.SENT, _S.UNKNOWN, _S.FINAL, _S.FAILED, _S.CANCELLED}),
    # A block that is gone takes the transfer with it.
    _S.SENT: frozenset({_S.FINAL, _S.UNKNOWN, _S.FAILED, _S.PENDING}),
    _S.UNKNOWN: frozenset({_S.SENT, _S.FINAL, _S.FAILED, _S.PENDING}),
    _S.FAILED: frozenset({_S.PENDING, _S.CANCELLED}),
    _S.FINAL: frozenset(),
    _S.CANCELLED: frozenset(),
}
# What a round looks after.
UNDER_WAY = frozenset({_S.APPROVED, _S.PENDING, _S.SENT, _S.UNKNOWN})


class Source(StrEnum):
    """Whose money goes back."""

    MERCHANT = "merchant"  # the merchant's own wallet sends it
    CITY = "city"  # the Treasury contract pays it against the proved receipt


class Proof(StrEnum):
    """How it is known that a receiver is right."""

    FIXED = "fixed"  # the payer said so before paying
    SIGNED = "signed"  # the address signed the terms of the refund (EIP-712)
    CONTRACT = "contract"  # the address is a contract and says so (ERC-1271)
    BANK = "bank"  # the account that the money came from, as the bank told it
    SEATS = "seats"  # the Authority and the Auditor sign where it goes, on the ledger


# Given after paying by whoever asks: such a refund waits, or an owner lets it go.
GIVEN_LATER = frozenset({Proof.SIGNED, Proof.CONTRACT})


@dataclass(frozen=True)
class Refund:
    """One refund. amount_minor: base units of the asset; receiver: an address, or the SHA-256 of an IBAN.

    ripe_s: before that nobody but an owner may let it go. since_block: no transfer before it can be this
    refund, nor can one of the transactions that are `earlier`. scanned_block: up to this final block the
    chain has no transfer of it. credited_block: Treasury credited it there, since nobody received it.
    """

    id: str
    invoice_id: str | None
    evidence_key: str | None
    merchant_id: str | None
    source: Source
    asset: str
    amount_minor: int
    receiver: bytes
    proof: Proof
    ripe_s: int
    state: RefundState
    created_s: int
    changed_s: int
    since_block: int | None = None
    outgoing_id: str | None = None
    reported: bytes | None = None
    transfer_key: str | None = None
    record_id: bytes | None = None
    transfer_id: bytes | None = None
    problem: str | None = None
    earlier: frozenset[bytes] = frozenset()
    scanned_block: int | None = None
    credited_block: int | None = None

    @property
    def unseen_from(self) -> int:
        """The first block in which its transfer can still be."""
        first = self.since_block or 0
        return first if self.scanned_block is None else max(first, self.scanned_block + 1)

    @property
    def returned(self) -> Returned:
        """What an invoice's state follows from."""
        is_final = self.state is RefundState.FINAL
        return Returned(self.asset, self.amount_minor, is_final, self.state is not RefundState.UNKNOWN)


@dataclass(frozen=True)
class Part:
    """So much of a refund that names no money is of this piece, which did not count when it was asked for."""

    evidence_key: str
    amount_minor: int


def reserves(state: RefundState) -> bool:
    """Whether a refund takes from what may still be refunded."""
    return state is not RefundState.CANCELLED
