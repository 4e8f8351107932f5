"""What the log promised a payer, held against the log (LEAKS 20; docs/bundle.md has the form)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.audit.replay import Replayed
from ledger.audit.trust import NUMBER, Trust
from ledger.audit.verdict import Findings, printable
from ledger.proof import ED25519, open_note
from ledger.records import WORD, Invalid, Transfer, Unavailable, decode

TITLE: Final = "qazyna promise v1"
_MOST_BYTES: Final = 10_000
_TEXT = re.compile(
    rf"{TITLE}\n(?P<origin>[^\n]+)\ninvoice (?P<invoice>[!-~]+)\n"
    r"transfer (?P<id>[0-9a-f]{64})\nasset (?P<asset>[!-~]+)\n"
    rf"amount (?P<amount>{NUMBER.pattern})\ndeadline (?P<deadline>{NUMBER.pattern})\n",
    re.ASCII,
)


@dataclass(frozen=True)
class Promise:
    """That a transfer of this id, asset and amount is recorded at the deadline at the latest."""

    invoice: str
    id: bytes
    asset: str
    amount: int
    deadline: int


def read_promise(path: str, trust: Trust | None) -> Promise:
    """Read a payer's file; Unavailable where it is no promise that a trusted key of the log signed."""
    if trust is None:
        raise Unavailable("promise", f"{path}: there is no trusted key to check it with")
    try:
        with Path(path).open("rb") as opened:
            content = opened.read(_MOST_BYTES)
        text = open_note(content, trust.of_log(ED25519))[0]
    except (OSError, ValueError, Invalid) as error:
        raise Unavailable("promise", f"{path} is no promise of {trust.origin}: {error}") from None
    match = _TEXT.fullmatch(text)
    if match is None or match["origin"] != trust.origin:
        raise Unavailable("promise", f"{path} is signed by {trust.origin} and is no promise of its")
    return Promise(
        match["invoice"],
        bytes.fromhex(match["id"]),
        match["asset"],
        int(match["amount"]),
        int(match["deadline"]),
    )


def check_promises(
    paths: Sequence[str], trust: Trust | None, done: Replayed, now: int, findings: Findings
) -> None:
    """Each promise is kept, or not due by the latest time that is known (D19)."""
    promises = {path: read_promise(path, trust) for path in paths}
    wanted = {promise.id for promise in promises.values()}
    found: dict[bytes, tuple[int, Transfer]] = {}
    for index, data in enumerate(done.entries if wanted else ()):
        # The id is the first member after the time.
        if (
            data[:WORD] == Transfer.type_hash
            and data[2 * WORD : 3 * WORD] in wanted
            and done.in_effect(index)
        ):
            record = decode(data)
            assert isinstance(record, Transfer)
            found[record.id] = (index, record)
    for path, promise in promises.items():
        _check(path, promise, found.get(promise.id), now, findings)


def _check(
    path: str, promise: Promise, found: tuple[int, Transfer] | None, now: int, findings: Findings
) -> None:
    where = f"promise {printable(path)}"
    what = f"{promise.amount} base units of {promise.asset} for invoice {promise.invoice}"
    if found is None and now <= promise.deadline:
        findings.say(
            f"{where}: {what} is not recorded yet, and not due before {promise.deadline}; it is {now}"
        )
        return
    if found is None:
        why = (
            f"{what} was promised by {promise.deadline}, at {now} no record has transfer 0x{promise.id.hex()}"
        )
    else:
        index, record = found
        if (record.asset, record.amount) != (promise.asset, promise.amount):
            why = f"{what} was promised, record {index} has {record.amount} of {record.asset}"
        elif record.time > promise.deadline:
            why = f"{what} was promised by {promise.deadline}, record {index} is of {record.time}"
        else:
            findings.say(f"{where}: kept, {what} is record {index}")
            return
    findings.add("D19", where, why, amount=promise.amount, asset=promise.asset)
