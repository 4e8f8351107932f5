"""A watcher: fetches what was published, replays it, and signs the head or refuses.

It knows nothing of the writer's database and keeps its own state from head to head, so
that it sees each record once, and a log that forgets or forks cannot get its signature.
Without that signature no chain takes the head (LEAKS 02).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import rules
from ledger.proof import (
    COSIGNATURE,
    TILE_WIDTH,
    Verifier,
    Verifiers,
    check_checkpoint,
    decode_bundle,
    format_checkpoint,
    format_note,
    leaf_hash,
    sign,
    tile_path,
)
from ledger.records import WORD, domain_separator, keccak256, reject
from ledger.tree import Tree

_HEAD_TYPE_HASH = keccak256(b"Head(uint64 size,bytes32 root,uint64 validUntil)")
VALID_S = 3_600

Clock = Callable[[], int]


@dataclass(frozen=True)
class SignedHead:
    """A watcher's word on a head: a note signature line, and a signature for LedgerAnchor."""

    size: int
    root: bytes
    cosignature: bytes
    signer: bytes
    valid_until: int
    v: int
    r: bytes
    s: bytes


def head_digest(domain: bytes, size: int, root: bytes, valid_until: int) -> bytes:
    """The 32 bytes that a watcher signs for LedgerAnchor."""
    words = [_HEAD_TYPE_HASH, size.to_bytes(WORD, "big"), root, valid_until.to_bytes(WORD, "big")]
    return keccak256(b"\x19\x01" + domain + keccak256(b"".join(words)))


class Watcher:
    """Follows one log."""

    def __init__(
        self, name: str, log: Verifiers, seat: coincurve.PrivateKey, cosigner: Ed25519PrivateKey, clock: Clock
    ) -> None:
        """log: the log's keys, all of which must have signed a head; seat: the key of the watcher's seat."""
        self.name, self.log, self.clock = name, log, clock
        self._seat, self._cosigner = seat, cosigner
        self.state = rules.State()
        self.tree = Tree()

    @property
    def address(self) -> bytes:
        """The holder of the seat."""
        return keccak256(self._seat.public_key.format(compressed=False)[1:])[12:]

    def verifier(self) -> Verifier:
        """The key of the cosignature."""
        return Verifier(self.name, COSIGNATURE, self._cosigner.public_key().public_bytes_raw())

    def sign(self, folder: Path) -> SignedHead:
        """Replay what is new in the bundle and sign its head; Invalid if any record breaks a rule.

        A refusal leaves the watcher where it was up to the bad record, so it refuses again.
        """
        note = (folder / "checkpoint").read_bytes()
        checkpoint, _ = check_checkpoint(note, self.log, self.log)
        if checkpoint.size < self.tree.size:
            reject("L9", "checkpoint", f"size {checkpoint.size} is before {self.tree.size}, which was seen")
        for data in _entries(folder, self.tree.size, checkpoint.size):
            rules.apply(self.state, data)
            self.tree.append(leaf_hash(data))
        if self.tree.root() != checkpoint.root:
            reject(
                "L2",
                "checkpoint",
                f"the records' root is {self.tree.root().hex()}, signed is {checkpoint.root.hex()}",
            )
        assert self.state.genesis is not None
        genesis, until = self.state.genesis, self.clock() + VALID_S
        domain = domain_separator(genesis.chain_id, genesis.council, genesis.ledger)
        digest = head_digest(domain, checkpoint.size, checkpoint.root, until)
        signature = self._seat.sign_recoverable(digest, hasher=None)
        text = format_checkpoint(checkpoint)
        line = format_note((text, (sign(text, self.name, COSIGNATURE, self._cosigner, self.clock()),)))
        return SignedHead(
            checkpoint.size,
            checkpoint.root,
            line[len(text.encode()) + 1 :],
            self.address,
            until,
            27 + signature[64],
            signature[:32],
            signature[32:64],
        )


def _entries(folder: Path, start: int, end: int) -> list[bytes]:
    """The published records from start to before end."""
    found: list[bytes] = []
    for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        width = min(TILE_WIDTH, end - index * TILE_WIDTH)
        content = (folder / tile_path("entries", index, width)).read_bytes()
        found.extend(decode_bundle(content, width)[max(0, start - index * TILE_WIDTH) :])
    return found
