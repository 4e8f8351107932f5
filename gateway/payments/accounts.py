"""To which account tenge go back: the one that they came from, as the bank told it (P6; LEAKS 12).

The account is personal. It stands behind the evidence's commitment and beside its refund, where both can be
erased; a record of the ledger has its SHA-256 alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256

from gateway.db import Connection
from gateway.kz import check_iban
from gateway.payments import store
from gateway.payments.refund_model import Proof
from gateway.payments.store import Seen
from ledger.records import reject


@dataclass(frozen=True)
class Account:
    """Where tenge go back to. iban: as the bank is told it; proof: how it is known to be right."""

    iban: str
    proof: Proof

    @property
    def receiver(self) -> bytes:
        """As the ledger names it."""
        return account_name(self.iban)


def account_name(iban: str) -> bytes:
    """How a record names a bank account: by the SHA-256 of its IBAN."""
    return sha256(iban.encode()).digest()


def told_account(connection: Connection, seen: Seen) -> str | None:
    """The account that money came from; None where the bank did not tell it, or it was erased."""
    told = None if seen.evidence_hash is None else store.private(connection, seen.evidence_hash)
    account: str | None = None if told is None else json.loads(told).get("debtor_iban")
    return account or None


def account_back(connection: Connection, seen: Seen, to: bytes | None, iban: str | None) -> Account:
    """The account that the tenge of a bill go back to.

    to: its SHA-256, iban: the account itself; neither is needed where the bank told the account, and then
    no other one is taken. Where it did not, an operator names one, and the city's seats sign where it goes.
    """
    told = told_account(connection, seen)
    if told is None:
        if iban is None:
            reject("P6", "iban", f"the bank told no account with {seen.key}, or it was erased: name one")
        check_iban(iban, "iban")
        return Account(iban, Proof.SEATS)
    if (iban is not None and iban != told) or to not in {None, account_name(told)}:
        reject("P6", "iban", f"this money came from the account ending in {told[-4:]}: it goes back there")
    return Account(told, Proof.BANK)
