"""A folder in which seats are asked for signatures (`to-sign`), and in which they come back (`signed`).

What is in `to-sign` is typed data for `qazyna sign`; what that prints is put into `signed` under any name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gateway.acts_file import read_text
from gateway.budget.typed_data import typed_data
from ledger import rules
from ledger.records import Approval, Invalid, Record, encode, hash_struct, reject

SIGNED_DAYS = 60


class SigningFolder:
    """Both folders of one file of acts."""

    def __init__(self, folder: Path, now: int) -> None:
        """now: Unix seconds; from then on a signature may be given for SIGNED_DAYS."""
        self._folder, self._now = folder, now

    def signatures(self) -> list[tuple[str, Approval]]:
        """What `qazyna sign` printed, in the order of the files' names: the last JSON line of each."""
        folder = self._folder / "signed"
        found = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name.startswith("."):
                continue
            lines = [line for line in read_text(path).splitlines() if line.strip().startswith("{")]
            if not lines:
                reject("signed", str(path), "has no line of JSON, as `qazyna sign --key` prints it last")
            found.append((str(path), _approval(lines[-1], str(path))))
        return found

    def write_requests(self, state: rules.State, waiting: Sequence[rules.Proposal]) -> list[Path]:
        """A file of typed data for each proposal that waits; one that is there and in time stays as it is."""
        genesis = state.genesis
        assert genesis is not None
        folder, until = self._folder / "to-sign", self._now + SIGNED_DAYS * rules.DAY
        folder.mkdir(parents=True, exist_ok=True)
        domain = genesis.chain_id, genesis.council, genesis.ledger
        paths = []
        for proposal in waiting:
            digest = hash_struct(proposal.record).hex()
            path = folder / f"{proposal.index:06}-{type(proposal.record).__name__}-{digest[:16]}.json"
            known = _deadline(path)
            is_good = self._now < known <= until and read_text(path) == _asked(
                proposal.record, known, *domain
            )
            if not is_good:
                path.write_text(_asked(proposal.record, until, *domain), encoding="utf-8")
            paths.append(path)
        return paths


def _asked(record: Record, until: int, chain_id: int, council: bytes, ledger: bytes) -> str:
    """What stands in a file that asks for a signature."""
    return json.dumps(typed_data(record, until, chain_id, council, ledger), indent=1) + "\n"


def _deadline(path: Path) -> int:
    """Until when a file that is there asks for a signature; 0 where none is, or it is something else."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["message"]["validUntil"])
    except (OSError, ValueError, OverflowError, KeyError, TypeError, RecursionError):
        return 0


def _approval(line: str, where: str) -> Approval:
    try:
        told = json.loads(line)
        raw = [bytes.fromhex(told[name].removeprefix("0x")) for name in ("approves", "signer", "r", "s")]
        until, v = int(told["validUntil"]), int(told["v"])
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _no_signature(where, repr(error))
    approves, signer, r, s = raw
    approval = Approval(0, approves, signer, until, v, r, s)
    try:
        encode(approval)
    except Invalid as broken:
        _no_signature(where, str(broken))
    return approval


def _no_signature(where: str, why: str) -> NoReturn:
    reject("signed", where, f"its last line of JSON is no signature that `qazyna sign` prints: {why[:200]}")
