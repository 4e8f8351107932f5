"""The one writer: decide, store, sign, publish, witness, anchor, in that order.

Each step is idempotent, and a comment says what holds if the process dies there. The
state of the rules is in memory and is rebuilt from the records at start; the database
checks a second time. If the two disagree, that is our bug: the process stops. A database
that does not answer is no verdict: nothing is refused, and the memory is built again.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from ledger import rules, store
from ledger.anchoring import Anchor, Outcome, anchor_all, check_not_behind
from ledger.cosigning import Policy
from ledger.database import Connection, Engine, reading
from ledger.proof import leaf_hash
from ledger.publish import LogKeys, Publisher
from ledger.records import (
    WORD,
    Approval,
    Exchange,
    Invalid,
    Record,
    Reversal,
    Transfer,
    Unavailable,
    encode,
    reject,
)
from ledger.target import Target
from ledger.tree import Tree
from ledger.watcher import Clock, SignedHead

BATCH_RECORDS: Final = 1_000
IDLE_S: Final = 0.010
STANDBY_POLL_S: Final = 0.2


class Witness(Protocol):
    """Somebody who fetches what was published, replays it, and signs for it or refuses."""

    def sign(self, bundle: Target) -> SignedHead:
        """Sign the head of a bundle, or raise Invalid."""
        ...


def submit(connection: Connection, record: Record, now: int, key: bytes | None = None) -> bytes:
    """Ask for a record, inside the caller's transaction; returns the submission's id.

    The writer sets the time. The id is the transfer's own, or made from `key` (what makes this
    submission one and no other), or from the content. Unavailable when the inbox is full.
    """
    template = encode(replace(record, time=0))
    named = template if key is None else key
    id = record.id if isinstance(record, Transfer) else submission_id(named)
    store.submit(connection, id, template, now)
    return id


def submission_id(key: bytes) -> bytes:
    """The id of a submission that is no transfer, by its key or else its template."""
    return sha256(b"submission " + key).digest()


@contextmanager
def only_writer(engine: Engine, lock: Path, standby_s: float = 0) -> Iterator[None]:
    """Hold the writer's lock: advisory on PostgreSQL, a file lock beside SQLite.

    Unavailable if another process still holds it after standby_s seconds. Both locks end with
    the process that holds them, however it ends; the fence stops one that only believes it does.
    """
    deadline = time.monotonic() + standby_s
    with _advisory(engine, deadline) if engine.dialect.name == "postgresql" else _file(lock, deadline):
        yield


@contextmanager
def _advisory(engine: Engine, deadline: float) -> Iterator[None]:
    with engine.connect() as connection:
        while not store.try_lock(connection):
            _wait_for_turn("the ledger's advisory lock", deadline)
        try:
            yield
        finally:
            store.unlock(connection)


@contextmanager
def _file(lock: Path, deadline: float) -> Iterator[None]:
    with lock.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait_for_turn(lock.name, deadline)
        yield


def _wait_for_turn(what: str, deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise Unavailable("writer", f"another writer holds {what}") from None
    time.sleep(STANDBY_POLL_S)


def _postings(state: rules.State, record: Record) -> list[tuple[str, int, str, int]]:
    """What a record that was just taken moved: account and debits, account and credits."""
    if isinstance(record, Transfer):
        return [(record.debit, record.amount, record.credit, record.amount)]
    if isinstance(record, Exchange):
        return [(record.to_account, record.amount_to, record.from_account, record.amount_from)]
    if isinstance(record, Approval):
        proposal = state.proposals[record.approves]
        completed = proposal.effective_s is not None
        if completed and isinstance(proposal.record, Reversal):
            undone = state.reversible[proposal.record.index]
            return [(undone.credit, undone.amount, undone.debit, undone.amount)]
    return []


class Writer:
    """The sequencer. Create it only while holding only_writer()."""

    def __init__(self, engine: Engine, heads: Engine, keys: LogKeys, clock: Clock) -> None:
        """Rebuild the state from the records, and refuse to go on below what was signed (L9)."""
        self.engine, self.heads, self.keys, self.clock = engine, heads, keys, clock
        # The chains that were asked whether they hold more than this ledger has.
        self._agreed: set[str] = set()
        store.create(engine, heads)
        with store.asking(), engine.begin() as connection:
            self._fence = store.take_fence(connection)
        self._rebuild()

    def _rebuild(self) -> None:
        """Take state and tree from the records, one page at a time, and check what was signed on the way."""
        self._is_behind = True
        with store.asking("store of signed heads"), reading(self.heads) as connection:
            head = store.last_head(connection)
        with store.asking(), reading(self.engine) as connection:
            size, edge = store.size_and_edge(connection)
            anchored = max((anchor.size for anchor in store.anchors(connection)), default=0)
        signed = 0 if head is None else head.size
        for what, least in (("signed", signed), ("anchored", anchored)):
            if least > size:
                reject("L9", what, f"size {least} was {what}, the database has {size} records")
        state, tree = rules.State(), Tree()
        with store.asking():
            for data in store.records(self.engine, 0, size):
                rules.apply(state, data)
                tree.append(leaf_hash(data))
                if head is not None and tree.size == signed and tree.root() != head.root:
                    found = tree.root().hex()
                    reject(
                        "L9", "signed", f"at size {signed} {head.root.hex()} was signed, stored is {found}"
                    )
        assert state.size == size, f"{state.size} records, the edge says {size}"
        assert b"".join(tree.edge()) == edge, "records and edge disagree"
        self.state, self.tree = state, tree
        self._is_behind = False

    # --- deciding and storing -------------------------------------------------------

    def step(self) -> int:
        """Decide what waits, at most one batch, and commit it; returns how many answers that gave.

        Dies before the commit: nothing happened, the inbox still waits. Dies after it: the
        answers are there, and the next start rebuilds memory from the records.
        """
        with store.asking(), reading(self.engine) as connection:
            taken = store.waiting(connection, BATCH_RECORDS)
        return self.append(taken) if taken else 0

    def append(self, taken: Sequence[store.Waiting]) -> int:
        """Decide submissions in order and commit them as one batch; returns how many answers that gave."""
        if self._is_behind:
            self._rebuild()
        # From the first effect on memory to the commit the two differ: whatever ends this in
        # between leaves the mark, and the next step rebuilds memory from what the database has.
        self._is_behind = True
        batch, balances = self._decide(taken)
        with store.asking(), self.engine.begin() as connection:
            stored = store.commit(connection, self._fence, batch)
            assert stored == balances, f"the database has {stored}, memory {balances}"
        self._is_behind = False
        return len(taken)

    def drain(self) -> None:
        """Answer all that waits."""
        while self.step():
            pass

    def _decide(self, taken: Sequence[store.Waiting]) -> tuple[store.Batch, dict[str, int]]:
        """Ask the rules about each in order; returns what to write, and the balances that it must lead to."""
        now = max(self.clock(), self.state.time)
        word = now.to_bytes(WORD, "big")
        state, apply, first = self.state, rules.apply, self.state.size
        records: list[tuple[bytes, bytes]] = []
        answers: list[store.Answered] = []
        transfers: list[tuple[bytes, int]] = []
        moved: dict[str, list[int]] = {}
        for _, id, template in taken:
            data = template[:WORD] + word + template[2 * WORD :]
            try:
                record = apply(state, data)
            except Invalid as refused:
                answers.append(store.Answered(id, None, refused, template))
                continue
            position = first + len(records)
            records.append((data, leaf_hash(data)))
            if isinstance(record, Transfer):
                assert record.id == id, "a transfer is submitted under its own id"
                transfers.append((id, position))
            else:
                answers.append(store.Answered(id, position, None, None))
            for debit, debits, credit, credits in _postings(state, record):
                moved.setdefault(debit, [0, 0])[0] += debits
                moved.setdefault(credit, [0, 0])[1] += credits
        self.tree.extend([leaf for _, leaf in records])
        accounts = {account: state.accounts[account] for account in moved}
        changes = {
            account: (accounts[account].record.kind in rules.MONEY, debits, credits)
            for account, (debits, credits) in moved.items()
        }
        edge = b"".join(self.tree.edge())
        sequences = [sequence for sequence, _, _ in taken if sequence is not None]
        batch = store.Batch(first, records, transfers, answers, changes, edge, now, sequences)
        return batch, {account: held.balance for account, held in accounts.items()}

    def run(self, stop: threading.Event) -> None:
        """Answer what comes until told to stop.

        What arrives while one batch is committed is the next batch, so batches grow with the load;
        when nothing waits, the inbox is looked at again after 10 ms. Unavailable is raised to
        whoever runs this; it is safe to call again.
        """
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)

    # --- signing and making public --------------------------------------------------

    def seal(self) -> bytes:
        """Sign the head of all committed records; returns the note. Sealing the same size is the same note.

        Dies before the swap: nothing was signed that anybody saw. Dies after it: the note is
        in the heads' store and the next seal gives it again.
        """
        if self._is_behind:
            self._rebuild()
        with store.asking("store of signed heads"), reading(self.heads) as connection:
            head = store.last_head(connection)
        size, edge = self.tree.size, b"".join(self.tree.edge())
        if head is not None and head.size == size:
            return head.note
        if head is not None and head.size > size:
            reject("L9", "signed", f"size {head.size} was signed, this writer has {size} records")
        stored = self._stored_tree(head, size)
        if stored.root() != self.tree.root():
            decided = self.tree.root().hex()
            reject("L2", f"size {size}", f"the stored root is {stored.root().hex()}, decided was {decided}")
        note = self.keys.sign_checkpoint(size, stored.root(), self.clock())
        expected = 0 if head is None else head.size
        with store.asking("store of signed heads"), self.heads.begin() as connection:
            store.swap_head(connection, expected, store.Head(size, stored.root(), note, edge))
        return note

    def _stored_tree(self, head: store.Head | None, size: int) -> Tree:
        """The tree of the stored bytes: what is signed is what is stored, not what memory believes (FF74).

        Bytes that no head covers yet are read again. For those before the last head its edge stands,
        which adds up to the root that was signed; that their bytes are still the same is checked at
        each start, by each watcher once, and by every auditor, and never needs this key.
        """
        tree = Tree()
        if head is not None and head.edge is not None:
            hashes = [head.edge[at : at + WORD] for at in range(0, len(head.edge), WORD)]
            tree = Tree.from_edge(head.size, hashes)
            if tree.root() != head.root:
                why = f"the edge kept with it makes {tree.root().hex()}, signed is {head.root.hex()}"
                reject("L2", f"size {head.size}", why)
        with store.asking():
            tree.extend(leaf_hash(data) for data in store.records(self.engine, tree.size, size))
        if tree.size != size:
            reject("L2", f"size {size}", f"{tree.size} records are stored, {size} were committed")
        return tree

    def publish(
        self,
        publisher: Publisher,
        witness: Witness | None = None,
        anchors: tuple[Anchor, ...] = (),
        policy: Policy | None = None,
    ) -> int:
        """Seal, publish, have it witnessed, anchor; returns the size that is now public.

        Each step reads what the one before left in a store, so after a crash it is enough to
        call this again: tiles are written again with the same bytes, a witness signs the same
        head again, and a chain that has the head is only asked how firmly it holds it. Without
        the cosignatures that the policy asks for the head is public, and no chain gets it.
        """
        if not self.tree.size:
            return 0  # Before its Genesis a ledger has no domain to sign in, and nothing to show.
        # Before anything is signed (L9); a chain that is silent now is asked again the next time.
        unchecked = [anchor for anchor in anchors if anchor.name not in self._agreed]
        late = check_not_behind(self.tree.size, publisher, unchecked)
        self._agreed.update(anchor.name for anchor in unchecked if anchor not in late)
        note = self.seal()
        publisher.publish(self.engine, note)
        outcome = Outcome()
        if witness is not None:
            head = witness.sign(publisher.target)
            publisher.add_cosignature(head.cosignature)
            short = None if policy is None else policy.collect(publisher)
            outcome = anchor_all(self.engine, publisher, anchors, head if short is None else None)
            if short is not None:
                outcome.silent.insert(0, short)
        publisher.finish(self.engine)
        _tell(outcome)
        return self.tree.size

    def follow(self, publisher: Publisher, anchors: tuple[Anchor, ...]) -> None:
        """Note what has become final since, where there is nothing to sign or send."""
        outcome = anchor_all(self.engine, publisher, anchors, None)
        if outcome.noted:
            publisher.finish(self.engine)
        _tell(outcome)


def _tell(outcome: Outcome) -> None:
    """Raise what went wrong, once all else is done."""
    if outcome.broken:
        raise outcome.broken[0]
    if outcome.silent:
        why = "; ".join(error.why for error in outcome.silent)
        raise Unavailable(outcome.silent[0].service, why)
