"""Promises to payers: what was paid for good will be on the ledger by a deadline (LEAKS 20)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.payments.store import Invoice, Seen
from gateway.rails import Stage
from ledger.promise import DEADLINE_S, Promise, sign_promise
from ledger.publish import LogKeys
from ledger.records import reject


def promises_of(invoice: Invoice, seen: Sequence[Seen]) -> list[Promise]:
    """One for each payment that is final and was handed to the ledger, in the order in which they came.

    The amount is the city's share, for a fee all of it. The same payment has the same promise
    whenever it is asked for, so that nobody can be given a later deadline.
    """
    return [
        Promise(invoice.id, piece.transfer_id, piece.asset, piece.city_minor, piece.seen_s + DEADLINE_S)
        for piece in seen
        if piece.stage is Stage.FINAL and piece.transfer_id is not None and piece.city_minor > 0
    ]


def promise_note(keys: LogKeys, invoice: Invoice, seen: Sequence[Seen], number: int) -> bytes:
    """The signed note of one of them, counted from 1; a payer keeps it and can prove an omission with it."""
    promised = promises_of(invoice, seen)
    if not 0 < number <= len(promised):
        why = f"{len(promised)} payments of this invoice are final, promise {number} was asked for"
        reject("not_found", "promise", why)
    return sign_promise(keys, promised[number - 1])
