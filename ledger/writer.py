"""The one writer: decide, store, sign, publish, witness, anchor, in that order.

Each step is idempotent, and a comment says what holds if the process dies there. The
state of the rules is in memory and is rebuilt from the records at start; the database
checks a second time. If the two disagree, that is our bug: the process stops.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from ledger import rules, store
from ledger.database import Connection, Engine, reading
from ledger.proof import leaf_hash
from ledger.publish import LogKeys, Publisher
from ledger.records import Invalid, Record, Transfer, Unavailable, decode, encode, reject
from ledger.tree import Tree
from ledger.watcher import Clock, SignedHead

BATCH_RECORDS = 1_000


class Witness(Protocol):
    """Somebody who fetches what was published, replays it, and signs for it or refuses."""

    def sign(self, folder: Path) -> SignedHead:
        """Sign the head of the bundle in a folder, or raise Invalid."""
        ...


class Anchor(Protocol):
    """A chain that takes heads."""

    def size(self) -> int:
        """The size that the chain holds; 0 before the first head."""
        ...

    def append(self, size: int, root: bytes, path: list[bytes], head: SignedHead) -> store.Anchored:
        """Have the chain take a head that extends what it holds."""
        ...


def submit(connection: Connection, record: Record, now: int, key: bytes | None = None) -> bytes:
    """Ask for a record, inside the caller's transaction; returns the submission's id.

    The writer sets the time. The id is the transfer's own, or made from `key` (what makes this
    submission one and no other), or from the content.
    """
    template = encode(replace(record, time=0))
    if isinstance(record, Transfer):
        id = record.id
    else:
        id = sha256(b"submission " + (template if key is None else key)).digest()
    store.submit(connection, id, template, now)
    return id


@contextmanager
def only_writer(engine: Engine, lock: Path) -> Iterator[None]:
    """Hold the writer's lock: advisory on PostgreSQL, a file lock beside SQLite; Unavailable if taken."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            if not store.try_lock(connection):
                raise Unavailable("writer", "another writer holds the ledger's advisory lock")
            try:
                yield
            finally:
                store.unlock(connection)
        return
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("writer", f"another writer holds {lock.name}") from None
        yield


class Writer:
    """The sequencer. Create it only while holding only_writer()."""

    def __init__(self, engine: Engine, heads: Engine, keys: LogKeys, clock: Clock) -> None:
        """Rebuild the state from the records, and refuse to go on below what was signed (L9)."""
        self.engine, self.heads, self.keys, self.clock = engine, heads, keys, clock
        store.create(engine, heads)
        with engine.begin() as connection:
            self._fence = store.take_fence(connection)
            size, edge = store.size_and_edge(connection)
        self.state = rules.State()
        self.tree = Tree()
        for data in store.records(engine):
            rules.apply(self.state, data)
            self.tree.append(leaf_hash(data))
        assert self.state.size == size, f"{self.state.size} records, the edge says {size}"
        assert b"".join(self.tree.edge()) == edge, "records and edge disagree"
        self._check_not_rolled_back()

    def _check_not_rolled_back(self) -> None:
        with reading(self.heads) as connection:
            head = store.last_head(connection)
        with reading(self.engine) as connection:
            anchored = max((anchor.size for anchor in store.anchors(connection)), default=0)
        signed = 0 if head is None else head[0]
        for what, size in (("signed", signed), ("anchored", anchored)):
            if size > self.tree.size:
                reject("L9", what, f"size {size} was {what}, the database has {self.tree.size} records")
        if head is not None and self._root_at(signed) != head[1]:
            reject(
                "L9",
                "signed",
                f"at size {signed} the signed root is {head[1].hex()}, the records' is another",
            )

    def _root_at(self, size: int) -> bytes:
        # Re-read: what is signed is what is stored, not what memory believes (field failure 74).
        tree = Tree()
        tree.extend(leaf_hash(data) for data in store.records(self.engine, 0, size))
        assert tree.size == size
        return tree.root()

    def step(self) -> int:
        """Decide what waits, at most one batch, and commit it; returns how many answers that gave.

        Dies before the commit: nothing happened, the inbox still waits. Dies after it: the
        answers are there, and the next start rebuilds memory from the records.
        """
        now = max(self.clock(), self.state.time)
        with reading(self.engine) as connection:
            taken = store.waiting(connection, BATCH_RECORDS)
        if not taken:
            return 0
        first = self.state.size
        records: list[tuple[bytes, bytes]] = []
        answers: list[tuple[bytes, int | None, Invalid | None]] = []
        transfers: list[tuple[bytes, int]] = []
        changes: dict[str, tuple[bool, int, int]] = {}
        for submission in taken:
            position = self.state.size
            try:
                record = replace(decode(submission.template), time=now)
                data = encode(record)
                rules.apply(self.state, data)
            except Invalid as refused:
                answers.append((submission.id, None, refused))
                continue
            records.append((data, leaf_hash(data)))
            answers.append((submission.id, position, None))
            if isinstance(record, Transfer):
                transfers.append((record.id, position))
                self._add_change(changes, record.debit, record.amount, 0)
                self._add_change(changes, record.credit, 0, record.amount)
        self.tree.extend(leaf for _, leaf in records)
        batch = store.Batch(first, records, transfers, answers, changes, b"".join(self.tree.edge()))
        with self.engine.begin() as connection:
            store.commit(connection, self._fence, batch)
        return len(answers)

    def _add_change(
        self, changes: dict[str, tuple[bool, int, int]], account: str, debit: int, credit: int
    ) -> None:
        is_money = self.state.accounts[account].record.kind in rules.MONEY
        _, debits, credited = changes.get(account, (is_money, 0, 0))
        changes[account] = (is_money, debits + debit, credited + credit)

    def drain(self) -> None:
        """Answer all that waits."""
        while self.step():
            pass

    def seal(self) -> bytes:
        """Sign the head of all committed records; returns the note. Sealing the same size is the same note.

        Dies before the swap: nothing was signed that anybody saw. Dies after it: the note is
        in the heads' store and the next seal gives it again.
        """
        with reading(self.heads) as connection:
            head = store.last_head(connection)
        size = self.tree.size
        if head is not None and head[0] == size:
            return head[2]
        root = self._root_at(size)
        assert root == self.tree.root(), "stored records and the tree in memory disagree"
        note = self.keys.sign_checkpoint(size, root, self.clock())
        with self.heads.begin() as connection:
            store.swap_head(connection, 0 if head is None else head[0], size, root, note)
        return note

    def publish(
        self, publisher: Publisher, witness: Witness | None = None, anchors: tuple[Anchor, ...] = ()
    ) -> int:
        """Seal, publish, have it witnessed, anchor; returns the size that is now public.

        Each step reads what the one before left in a store, so after a crash it is enough to
        call this again: tiles are written again with the same bytes, a witness signs the same
        head again, and a chain that has the head is only noted.
        """
        note = self.seal()
        publisher.publish(self.engine, note)
        if witness is not None:
            head = witness.sign(publisher.folder)
            publisher.add_cosignature(head.cosignature)
            for anchor in anchors:
                self._anchor(publisher, anchor, head)
        publisher.finish(self.engine)
        return self.tree.size

    def _anchor(self, publisher: Publisher, anchor: Anchor, head: SignedHead) -> None:
        old, size = anchor.size(), self.tree.size
        if old > size:
            reject("L9", "anchor", f"the chain holds size {old}, this ledger has {size}")
        if old == size:
            return
        path = publisher.consistency(old, size) if old else []
        anchored = anchor.append(size, self.tree.root(), path, head)
        with self.engine.begin() as connection:
            store.add_anchor(connection, anchored)
