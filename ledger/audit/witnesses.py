"""Whether as many witnesses have cosigned as a policy asks for: the ledger's own, or the auditor's (D20).

A log that keeps two histories needs witnesses who sign both. Whoever is shown one history can tell only
by counting strangers' cosignatures, so the count is stated where the keys are, in trust.json, and an
auditor may bring a policy of his own, in the file that the writer reads too (docs/operator.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ledger.proof import ED25519, Verifier, open_note, parse_vkey
from ledger.records import Invalid, Unavailable, reject

# As many as a note has room for beside the log's own lines.
MOST_WITNESSES = 16
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Quorum:
    """k of n: how many witnesses, each of a name, must have cosigned; `source` says who asks for it."""

    source: str
    needed: int
    verifiers: tuple[Verifier, ...]

    @property
    def names(self) -> list[str]:
        """The witnesses, each once."""
        return sorted({verifier.name for verifier in self.verifiers})

    def cosigned(self, note: bytes) -> list[str]:
        """The names of those whose cosignature stands under a note and is right."""
        return sorted({verifier.name for verifier in self.verifiers if _has_signed(note, verifier)})


def _has_signed(note: bytes, verifier: Verifier) -> bool:
    # One by one: a witness with a wrong signature costs its own and nobody else's.
    try:
        return verifier.key in open_note(note, [verifier])[1]
    except Invalid:
        return False


def check_quorum(where: str, source: str, needed: int, verifiers: tuple[Verifier, ...]) -> Quorum:
    """Refuse a quorum that cannot be reached, counts a key twice, or is of keys that state no time (D1)."""
    quorum = Quorum(source, needed, verifiers)
    count = len(quorum.names)
    if not 1 <= needed <= count <= MOST_WITNESSES:
        reject("D1", where, f"a quorum of {needed} of {count} witnesses, of 1 to {MOST_WITNESSES}")
    owners: dict[bytes, str] = {}
    for verifier in verifiers:
        if verifier.key_type == ED25519:
            reject("D1", where, f"the key of {verifier.name} is a log's kind of key and states no time")
        owner = owners.setdefault(verifier.public_key, verifier.name)
        if owner != verifier.name:
            reject("D1", where, f"{owner} and {verifier.name} have one key: one witness, not two")
    return quorum


def parse_policy(text: str, where: str) -> Quorum:
    """Read `quorum K` and a line `witness URL VKEY...` for each; where it listens is not asked (D1)."""
    needed: int | None = None
    verifiers: list[Verifier] = []
    names: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "quorum" and len(words) == 2 and words[1].isascii() and words[1].isdecimal():
            if needed is not None:
                reject("D1", f"{where} line {number}", f"a quorum of {words[1]}, it was {needed} before")
            needed = int(words[1][:9])
        elif words[0] == "witness" and len(words) >= 3:
            keys = [parse_vkey(vkey) for vkey in words[2:]]
            if len({key.name for key in keys}) != 1 or keys[0].name in names:
                said = f"{len(keys)} keys of {', '.join(sorted({key.name for key in keys}))}"
                reject("D1", f"{where} line {number}", f"{said}: one name for each line, each name once")
            names.append(keys[0].name)
            verifiers += keys
        else:
            why = f"{line[:80]!r} is neither `quorum K` nor `witness URL VKEY...`"
            reject("D1", f"{where} line {number}", why)
    if needed is None:
        reject("D1", where, f"names {len(names)} witnesses and no quorum")
    return check_quorum(where, where, needed, tuple(verifiers))


def read_policy(path: str | Path) -> Quorum:
    """The policy that an auditor brings; Unavailable where it cannot be read."""
    try:
        with Path(path).open("rb") as opened:
            return parse_policy(opened.read(_MOST_BYTES).decode(), str(path))
    except (OSError, ValueError, Invalid) as error:
        raise Unavailable("witnesses", f"{path} cannot be read: {error}") from None
