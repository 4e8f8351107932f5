"""The tenge rail: a bank's files in, evidence out."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict

from gateway.rails import Evidence, Kind, Stage
from gateway.rails.tenge.camt import Credit, read_notification
from gateway.rails.tenge.reference import find_reference
from ledger.records import Invalid
from ledger.rules import TENGE


def read_file(content: bytes, accounts: Collection[str]) -> list[Evidence]:
    """The evidence in a camt.053 or camt.054 file: credits to the city's accounts, and credits taken back.

    A credit is final when the bank has booked it. A batch that the bank did not list names no
    payer's reference that could be believed, and a credit taken back after it was booked is no
    state of an invoice: both go to the queue for a person. Debits are not payments to us; the
    auditor compares them with the statement (L8).
    """
    return [
        _evidence(entry, Stage.FINAL if entry.booked else Stage.DETECTED)
        for entry in read_notification(content, accounts)
        if entry.credit != entry.reversal
    ]


def read_file_keys(content: bytes) -> set[str]:
    """The keys of all evidence in a file on whichever account; none where the file cannot be read."""
    try:
        return {f"bank:{entry.identity}" for entry in read_notification(content)}
    except Invalid:
        return set()


def _evidence(entry: Credit, stage: Stage) -> Evidence:
    # Everything that a bank tells of a payment may be personal: it stays behind a salted commitment.
    private = json.dumps(asdict(entry), sort_keys=True, default=str).encode()
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
        private=private,
    )
