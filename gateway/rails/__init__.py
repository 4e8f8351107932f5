"""Rails: the ways money comes in. A rail returns Evidence and knows nothing of invoices' states.

Rails do not know each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """How far a piece of evidence has come; `gone` when its block or booking is no more."""

    DETECTED = "detected"
    CONFIRMING = "confirming"
    PAID = "paid"
    FINAL = "final"
    GONE = "gone"


class Kind(StrEnum):
    """What a piece of evidence does."""

    ROUTER = "router"  # pays an invoice and is city revenue, in one transaction
    DEPOSIT = "deposit"  # pays an invoice; its revenue comes with the flush
    FLUSH = "flush"  # brings a deposit's city share to the treasury
    BANK = "bank"  # pays an invoice and is city revenue
    TAKEN_BACK = "taken_back"  # a credit that the bank took back: a person decides


PAYS = frozenset({Kind.ROUTER, Kind.DEPOSIT, Kind.BANK})
BOOKS = frozenset({Kind.ROUTER, Kind.FLUSH, Kind.BANK})


@dataclass(frozen=True)
class Evidence:
    """Money that a rail saw: known by its destination or reference, never by its sender or amount.

    key: the log (chain, block hash, transaction, index) or the bank's identity of a movement.
    number: the invoice's 32 bytes on chain, or b""; address: the deposit address paid, or b"";
    reference: the payment reference in a bank transfer, or "".
    amount_minor and city_minor are base units of the asset, and amount_minor is above 0. at_s: when
    the money moved, where the rail can tell; None: when it was seen. document is public and is published
    with the ledger; private is personal, stays with the city, and can be erased.
    """

    key: str
    kind: Kind
    stage: Stage
    asset: str
    amount_minor: int
    city_minor: int
    block: int | None = None
    number: bytes = b""
    address: bytes = b""
    reference: str = ""
    document: bytes = b""
    at_s: int | None = None
    private: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class BankEntry:
    """What the bank has booked that may be of a payment that the city made: money out, or back again.

    key: the bank's identity of the movement; is_back: it came back, and otherwise it left. undoes: the key of
    what it takes back, where the bank says so. reference: the end-to-end reference, or "" where the bank told
    none; text: what else was written on it. receiver_iban: to whose account, where the bank tells it.
    transactions: above 1 for a batch that is not listed. is_evidence: it is told as Evidence under the same
    key too, as money that came. reason: the bank's code for why it comes back. private is personal.
    """

    key: str
    is_back: bool
    asset: str
    amount_minor: int
    reference: str
    text: str = field(repr=False)
    receiver_iban: str | None = field(repr=False)
    transactions: int
    undoes: str | None = None
    is_evidence: bool = False
    reason: str = ""
    private: bytes = field(default=b"", repr=False)
