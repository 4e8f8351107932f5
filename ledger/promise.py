"""A promise to a payer: what was paid is recorded by a deadline, signed by the log (LEAKS 20).

Money on a chain leaves a trace that anybody can hold against the ledger; a tenge receipt that
was never recorded leaves none. With this note in hand the payer, or anybody, can prove the
omission: `python -m ledger.audit BUNDLE --promise FILE`. The form is in docs/bundle.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ledger.proof import ED25519, format_note, sign
from ledger.publish import LogKeys
from ledger.records import AMOUNT_LIMIT, WORD, reject

TITLE: Final = "qazyna promise v1"
# From the second at which a payment was first seen.
DEADLINE_S: Final = 3 * 86_400
_WORD = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class Promise:
    """amount is in base units of the asset; deadline is Unix seconds; transfer_id is the record's own id."""

    invoice: str
    transfer_id: bytes
    asset: str
    amount: int
    deadline: int


def sign_promise(keys: LogKeys, promise: Promise) -> bytes:
    """The promise as a signed note; the same promise is the same bytes.

    Its first line keeps it from being read as a checkpoint or a manifest. Only Ed25519: the
    ML-DSA signature of C2SP covers nothing but trees.
    """
    for what, text in (("invoice", promise.invoice), ("asset", promise.asset)):
        if not _WORD.fullmatch(text):
            reject("promise", what, f"{text[:80]!r} is not 1 to 64 visible ASCII characters")
    if not 0 < promise.amount < AMOUNT_LIMIT:
        reject("promise", "amount", f"{promise.amount} is not from 1 to below 2^128")
    assert len(promise.transfer_id) == WORD
    lines = [
        TITLE,
        keys.origin,
        f"invoice {promise.invoice}",
        f"transfer {promise.transfer_id.hex()}",
        f"asset {promise.asset}",
        f"amount {promise.amount}",
        f"deadline {promise.deadline}",
    ]
    text = "\n".join(lines) + "\n"
    return format_note((text, (sign(text, keys.origin, ED25519, keys.ed25519),)))
