"""The tenge rail: a bank's files in, evidence out."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict

from gateway.rails import BankEntry, Evidence, Kind, Stage
from gateway.rails.tenge.camt import Credit, read_notification
from gateway.rails.tenge.reference import find_reference
from ledger.records import Invalid
from ledger.rules import TENGE


def read_file(content: bytes, accounts: Collection[str]) -> tuple[list[Evidence], list[BankEntry]]:
    """What a camt.053 or camt.054 file says: money that came, and what may be of a payment of the city's.

    The evidence is of credits to the city's accounts, and of credits taken back.

    A credit is final when the bank has booked it. A batch that the bank did not list names no
    payer's reference that could be believed, and a credit taken back after it was booked is no
    state of an invoice: both go to the queue for a person. Debits are not payments to us: they, and what
    comes back of them, are entries once they are booked; the auditor compares all with the statement (L8).
    """
    read = read_notification(content, accounts)
    came = [
        _evidence(entry, Stage.FINAL if entry.booked else Stage.DETECTED)
        for entry in read
        if entry.credit != entry.reversal
    ]
    return came, [_entry(entry) for entry in read if entry.booked and _is_ours(entry)]


def _is_ours(entry: Credit) -> bool:
    """Whether it may be of a payment of ours: it left, or the bank itself says that it comes back.

    What a payer writes on a transfer says nothing of the kind: refunds' references are known to who got one.
    """
    if entry.credit:
        return entry.reversal or entry.return_reason is not None
    return not entry.reversal


def _private(entry: Credit) -> bytes:
    # Everything that a bank tells of a payment may be personal: it stays behind a salted commitment.
    return json.dumps(asdict(entry), sort_keys=True, default=str).encode()


def _entry(entry: Credit) -> BankEntry:
    undoes = entry.reversed_identity
    return BankEntry(
        key=f"bank:{entry.identity}",
        is_back=entry.credit,
        asset=TENGE,
        amount_minor=entry.amount_tiyn,
        reference=entry.end_to_end_id or "",
        text=entry.remittance,
        receiver_iban=entry.creditor_iban,
        transactions=entry.transactions,
        undoes=None if undoes is None else f"bank:{undoes}",
        is_evidence=entry.credit and not entry.reversal,
        reason=entry.return_reason or "",
        private=_private(entry),
    )


def taken_back_key(key: str, amount_tiyn: int) -> str | None:
    """Under which key a credit is taken back, where the bank keeps its reference and the amount."""
    account, is_credit, reference = key.partition(":credit:")
    return f"{account}:debit-reversal:{amount_tiyn}:{reference}" if is_credit else None


def read_file_keys(content: bytes) -> set[str]:
    """The keys of all evidence in a file on whichever account; none where the file cannot be read."""
    try:
        return {f"bank:{entry.identity}" for entry in read_notification(content)}
    except Invalid:
        return set()


def _evidence(entry: Credit, stage: Stage) -> Evidence:
    told = " ".join(filter(None, [entry.remittance, entry.end_to_end_id]))
    believed = entry.credit and entry.transactions <= 1
    return Evidence(
        key=f"bank:{entry.identity}",
        kind=Kind.BANK if entry.credit else Kind.TAKEN_BACK,
        stage=stage,
        asset=TENGE,
        amount_minor=entry.amount_tiyn,
        city_minor=entry.amount_tiyn,
        reference=(find_reference(told) or "") if believed else "",
        private=_private(entry),
    )
