"""A watcher: fetches what was published, replays it, and signs the head or refuses.

It knows nothing of the writer's database and keeps its own state from head to head, so
that it sees each record once, and a log that forgets or forks cannot get its signature.
What it signed last is in a file of its own, so that a restart does not make it forget.
Without that signature no chain takes the head (LEAKS 02).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import rules
from ledger.breaches import check_acknowledged
from ledger.database import Engine
from ledger.fast import Runs
from ledger.lookup import Stored, replay
from ledger.proof import (
    COSIGNATURE,
    TILE_WIDTH,
    Checkpoint,
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
from ledger.records import WORD, Invalid, Unavailable, domain_separator, head_digest, keccak256, reject
from ledger.target import Folder, Target, read
from ledger.tree import Tree
from ledger.watcher_store import add, open_copy

VALID_S = 3_600
SEEN = "seen"
# How many records are taken in one go.
BATCH = 4 * TILE_WIDTH

Clock = Callable[[], int]


@dataclass(frozen=True)
class SignedHead:
    """A watcher's word on a head: a note signature line, and a signature for LedgerAnchor.

    elsewhere: v, r and s for each further chain, since a signature for one chain is none for another.
    """

    size: int
    root: bytes
    cosignature: bytes
    signer: bytes
    valid_until: int
    v: int
    r: bytes
    s: bytes
    elsewhere: Mapping[int, tuple[int, bytes, bytes]] = field(default_factory=dict)

    def on(self, chain_id: int) -> tuple[int, bytes, bytes]:
        """The signature for a chain; else the home chain's, which fails there."""
        return self.elsewhere.get(chain_id, (self.v, self.r, self.s))


class Watcher:
    """Follows one log."""

    def __init__(
        self,
        name: str,
        log: Verifiers,
        seat: coincurve.PrivateKey,
        cosigner: Ed25519PrivateKey,
        clock: Clock,
        memory: Path | None = None,
    ) -> None:
        """log: the log's keys, all of which must have signed a head; seat: the key of the watcher's seat.

        memory: a folder that outlives this process, where it notes what it signed last. The past is looked
        up in a copy of the records beside it.
        """
        self.name, self.log, self.clock = name, log, clock
        self._seat, self._cosigner = seat, cosigner
        self._memory = None if memory is None else Folder(memory)
        self._folder = memory
        self._begin((0, Tree().root()))

    def _begin(self, known: tuple[int, bytes]) -> None:
        """Read from the first record on; known: size and root that a head must lead to all the same."""
        self._known = known
        self.state, self.tree = rules.State(), Tree()
        self._broken: list[Invalid] = []
        self._copy: Engine | None = None

    @property
    def address(self) -> bytes:
        """The holder of the seat."""
        return keccak256(self._seat.public_key.format(compressed=False)[1:])[12:]

    def verifier(self) -> Verifier:
        """The key of the cosignature."""
        return Verifier(self.name, COSIGNATURE, self._cosigner.public_key().public_bytes_raw())

    def sign(self, bundle: Target | Path) -> SignedHead:
        """Replay what is new in the bundle and sign its head; Invalid if any record breaks a rule.

        Unless an act in the same log acknowledges that record: then it is an exception, for ever.
        """
        target = Folder(bundle) if isinstance(bundle, Path) else bundle
        note = read(target, "checkpoint")
        checkpoint, _ = check_checkpoint(note, self.log, self.log)
        leaves = self._check_tree(target, checkpoint)
        start, entries = self.tree.size, _entries(target, self.tree.size, checkpoint.size)
        while records := list(islice(entries, BATCH)):
            at = self.tree.size - start
            places = range(WORD * at, WORD * (at + len(records)), WORD)
            self._take(records, [leaves[place : place + WORD] for place in places])
        check_acknowledged(self.state, self._broken)
        if self.state.genesis is None:
            reject("H1", "checkpoint", "an empty log has no Genesis, so there is no domain to sign in")
        # Dies after this: the same head is signed again, and no other of its size.
        if self._memory is not None:
            self._memory.write(SEEN, f"{checkpoint.size} {checkpoint.root.hex()}\n".encode())
        genesis, until = self.state.genesis, self.clock() + VALID_S
        v, r, s = self._seal(
            checkpoint, domain_separator(genesis.chain_id, genesis.council, genesis.ledger), until
        )
        elsewhere = {
            contract.chain_id: self._seal(
                checkpoint, domain_separator(contract.chain_id, contract.at, genesis.ledger), until
            )
            for name, contract in self.state.contracts.items()
            # A further chain has a Council contract of its own, which the ledger names `council-...`.
            if name.startswith("council-") and contract.chain_id != genesis.chain_id
        }
        text = format_checkpoint(checkpoint)
        line = format_note((text, (sign(text, self.name, COSIGNATURE, self._cosigner, self.clock()),)))
        return SignedHead(
            checkpoint.size,
            checkpoint.root,
            line[len(text.encode()) + 1 :],
            self.address,
            until,
            v,
            r,
            s,
            elsewhere,
        )

    def _take(self, records: list[bytes], leaves: list[bytes]) -> None:
        """Take records that have these leaf hashes; what breaks a rule has its place and no effect."""
        for at, data in enumerate(records):
            if leaf_hash(data) != leaves[at]:
                raise Unavailable("bundle", f"record {self.tree.size + at} changed while it was read")
        copy, first, taken = self._opened(), self.tree.size, list[bytes]()
        is_whole = False
        try:
            replay(self._past, self._runs, records, taken, self._broken)
            # The state has what was taken until then, and so do copy and tree.
            add(copy, first, taken)
            self._past.forget()
            self.tree.extend(leaves[: len(taken)])
            is_whole = True
        finally:
            if not is_whole:
                # Its own disk did not answer: it reads everything again, and what it saw stays known.
                copy.dispose()
                self._begin((self.tree.size, self.tree.root()))

    def _opened(self) -> Engine:
        if self._copy is None:
            self._copy = open_copy(self, self._folder)
            copy = self._copy
            self._past = Stored(lambda: copy, self.state)
            self.state.past, self._runs = self._past, Runs(self.state)
        return self._copy

    def _seal(self, checkpoint: Checkpoint, domain: bytes, until: int) -> tuple[int, bytes, bytes]:
        digest = head_digest(domain, checkpoint.size, checkpoint.root, until)
        signature = self._seat.sign_recoverable(digest, hasher=None)
        return 27 + signature[64], signature[:32], signature[32:64]

    def _check_tree(self, target: Target, checkpoint: Checkpoint) -> bytes:
        """The new leaf hashes, once they lead from what was seen to the head; else nothing was taken in.

        Files of a bundle can be anybody's until they lead to a root that the log signed, so no
        record is applied before.
        """
        size, root = self._seen()
        if checkpoint.size < size:
            reject("L9", "checkpoint", f"size {checkpoint.size} is before {size}, which was seen")
        tree, leaves = Tree.from_edge(self.tree.size, self.tree.edge()), bytearray()
        for data in _entries(target, tree.size, checkpoint.size):
            leaf = leaf_hash(data)
            leaves += leaf
            tree.append(leaf)
            if tree.size == size and tree.root() != root:
                why = f"at size {size} the root was {root.hex()}, now it is {tree.root().hex()}"
                reject("L9", "checkpoint", why)
        if tree.root() != checkpoint.root:
            why = f"the records' root is {tree.root().hex()}, signed is {checkpoint.root.hex()}"
            reject("L2", "checkpoint", why)
        return bytes(leaves)

    def _seen(self) -> tuple[int, bytes]:
        """The last head that this watcher signed, or has replayed."""
        noted = None if self._memory is None else self._memory.find(SEEN)
        if noted is None:
            return max(self._known, (self.tree.size, self.tree.root()))
        size, root = noted.decode().split()
        return int(size), bytes.fromhex(root)


def _entries(target: Target, start: int, end: int) -> Iterator[bytes]:
    """The published records from start to before end."""
    for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        width = min(TILE_WIDTH, end - index * TILE_WIDTH)
        content = read(target, tile_path("entries", index, width))
        yield from decode_bundle(content, width)[max(0, start - index * TILE_WIDTH) :]
