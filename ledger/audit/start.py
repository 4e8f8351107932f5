"""Where an audit may start: the state that a Close in effect names (D17)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from ledger import rules
from ledger.audit.trust import check_depth
from ledger.audit.verdict import Findings
from ledger.records import WORD, Approval, Close, Invalid, Unavailable, decode, encode, keccak256, reject

# A state is deeper than what strangers send, and large: a year's ids, receipts and proposals.
_MOST_DEPTH = 200
_MOST_BYTES = 1 << 32


def read_state(path: str, entries: Sequence[bytes], findings: Findings) -> rules.State | None:
    """The state in a file if a Close names its hash; else a finding, and None: start at the beginning."""
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(_MOST_BYTES)
    except (OSError, ValueError) as error:
        raise Unavailable("state", f"{path} cannot be read: {error}") from None
    try:
        return _read(path, data, entries)
    except Invalid as broken:
        findings.take(broken)
        findings.say("every record was replayed from the beginning")
        return None


def _read(path: str, data: bytes, entries: Sequence[bytes]) -> rules.State:
    digest = sha256(data).digest()
    # Last word of a Close: what it says the state is.
    places = [
        index
        for index, entry in enumerate(entries)
        if entry[:WORD] == Close.type_hash and entry[-WORD:] == digest
    ]
    if not places:
        reject("D17", path, f"no Close record names its SHA-256, 0x{digest.hex()}")
    check_depth("D17", path, data, _MOST_DEPTH)
    try:
        state = rules.load(data)
        first = None if state.genesis is None else encode(state.genesis)
    except Exception as error:
        # Only the log's keeper can have put its hash into a Close; still, no bytes may stop an auditor.
        reject("D17", path, f"is no state: {type(error).__name__}: {error}")
    if state.size not in places:
        reject("D17", path, f"is the state after {state.size} records, the Close is record {places[0]}")
    if first != entries[0]:
        reject("D17", path, "has another Genesis than record 0")
    return state


def check_start(
    path: str, start: int, state: rules.State, entries: Sequence[bytes], findings: Findings
) -> None:
    """The Close that named the state took effect; whose word that is, is said (D17)."""
    close = entries[start]
    record, digest = decode(close), keccak256(close)
    assert isinstance(record, Close)
    if state.closed.get(record.year) != record.state_hash:
        findings.add("D17", path, f"the Close of {record.year} in record {start} is not in effect")
        return
    signers = [
        "0x" + approval.signer.hex()
        for entry in entries[start:]
        if entry[:WORD] == Approval.type_hash
        and entry[2 * WORD : 3 * WORD] == digest
        and isinstance(approval := decode(entry), Approval)
    ]
    findings.say(
        f"started from the state of the Close of {record.year}: records before {start} were hashed and not"
        f" replayed; that they are valid is the word of {', '.join(signers)}"
    )
