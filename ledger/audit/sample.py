"""What an auditor picks: records by a seed of theirs, and the records that name a file they hold (A3)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ledger.audit.replay import PLACES, Replayed
from ledger.audit.tree import Tree
from ledger.audit.verdict import Findings
from ledger.proof import check_inclusion, leaf_hash
from ledger.records import BY_TYPE_HASH, WORD, Invalid, Unavailable, as_json, decode, member_name

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One record that was picked, with the proof that leads from it to the root."""

    index: int
    record: dict[str, str]
    leaf: bytes
    path: tuple[bytes, ...]
    in_effect: bool

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value}" for name, value in self.record.items())
        hashes = " ".join(value.hex() for value in self.path)
        return (
            f"record {self.index}: {shown}{'' if self.in_effect else ' (no effect: it breaks a rule)'};"
            f" leaf {self.leaf.hex()}, proof of {len(self.path)} hashes leads to the root: {hashes}"
        )

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        proof = ["0x" + value.hex() for value in self.path]
        return {
            "index": str(self.index),
            "record": self.record,
            "leaf": "0x" + self.leaf.hex(),
            "path": proof,
            "inEffect": self.in_effect,
        }


@dataclass(frozen=True)
class Held:
    """A file that the auditor holds: which records name it, and as what."""

    name: str
    digest: bytes
    named: tuple[tuple[int, str, str], ...]  # Index, kind and member.

    def __str__(self) -> str:
        places = ", ".join(f"record {index} ({kind}.{member})" for index, kind, member in self.named)
        return f"{self.name}, SHA-256 {self.digest.hex()}: {places or 'no record names it'}"

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        named = [{"index": str(index), "kind": kind, "member": member} for index, kind, member in self.named]
        return {"file": self.name, "sha256": "0x" + self.digest.hex(), "named": named}


def pick(seed: str, root: bytes, size: int, count: int) -> list[int]:
    """Which records: SHA-256(seed || root || counter as 8 bytes) modulo the size, each once, in that order.

    The root is in it, so that the city could not know the sample before it signed the records.
    """
    found: dict[int, None] = {}
    counter = 0
    while len(found) < min(count, size):
        digest = sha256(seed.encode() + root + counter.to_bytes(8, "big")).digest()
        found.setdefault(int.from_bytes(digest, "big") % size)
        counter += 1
    return list(found)


def take_sample(
    seed: str, count: int, root: bytes, tree: Tree, done: Replayed, findings: Findings
) -> list[Sample]:
    """Pick records and prove that each is in the tree of the checkpoint (X14 to X16)."""
    samples = []
    for index in pick(seed, root, len(done.entries), count):
        data = done.entries[index]
        leaf, path = leaf_hash(data), tree.path(index)
        try:
            check_inclusion(leaf, index, tree.size, path, root)
        except Invalid as broken:
            findings.take(broken, f"record {index}")
            continue
        try:
            shown = as_json(decode(data))
        except Invalid:
            shown = {"record": "unknown", "bytes": "0x" + data.hex()}
        samples.append(Sample(index, shown, leaf, tuple(path), done.in_effect(index)))
    return samples


def look_up(paths: list[str], done: Replayed) -> list[Held]:
    """Which records name each file as act, document, evidence or source; several in one pass."""
    digests = {path: _digest(path) for path in paths}
    named: dict[bytes, list[tuple[int, str, str]]] = {digest: [] for digest in digests.values()}
    for index, data in enumerate(done.entries):
        for place, member in PLACES.get(data[:WORD], ()):
            rows = named.get(data[place : place + WORD])
            if rows is not None:
                rows.append((index, BY_TYPE_HASH[data[:WORD]].__name__, member_name(member)))
    return [Held(path, digest, tuple(named[digest])) for path, digest in digests.items()]


def _digest(path: str) -> bytes:
    found = sha256()
    try:
        with Path(path).open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                found.update(chunk)
    except (OSError, ValueError) as error:
        raise Unavailable("evidence", f"{path} cannot be read: {error}") from None
    return found.digest()
