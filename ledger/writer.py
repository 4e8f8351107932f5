"""The one writer: decide, store, sign, publish, witness, anchor, in that order.

Each step is idempotent, and a comment says what holds if the process dies there. The
state of the rules is in memory; at start it is taken from a snapshot whose hash was kept
with a signed head, or from nothing, and from the records since then. What must be known
of all transfers for ever is looked up in the database (decision 0014), so that memory
does not grow with them. The database checks a second time. If the two disagree, that is
our bug: the process stops. A database that does not answer is no verdict: nothing is
refused, and the memory is built again. Nor is a clock that cannot be believed: all waits.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from ledger import rules, store
from ledger.anchoring import Anchor, Outcome, anchor_all, check_not_behind, resumptions
from ledger.closing import Closes
from ledger.cosigning import Policy
from ledger.database import Connection, Engine, reading
from ledger.fast import ID, Runs, is_transfer
from ledger.lookup import Stored, index_named, replay
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
from ledger.timekeeping import FUTURE_S, Timekeeper
from ledger.tree import Tree
from ledger.watcher import Clock, SignedHead

LOGGER = logging.getLogger(__name__)
BATCH_RECORDS: Final = 1_000
# RFC 6962 section 2.1: what stands before a leaf.
LEAF: Final = b"\x00"
# Where a record's time stands.
_TIME: Final = slice(WORD, 2 * WORD)
IDLE_S: Final = 0.010
STANDBY_POLL_S: Final = 0.2
# How many records are replayed at most at a start, but for those since the last signed head.
SNAPSHOT_RECORDS: Final = 50_000
REBUILD_RECORDS: Final = 5_000
# When nothing has waited so many times in a row, hashes of so many records are indexed between two looks.
IDLE_LOOKS: Final = 50
IDLE_RECORDS: Final = 500


class Witness(Protocol):
    """Somebody who fetches what was published, replays it, and signs for it or refuses."""

    def sign(self, bundle: Target) -> SignedHead:
        """Sign the head of a bundle, or raise Invalid."""
        ...


def submit(connection: Connection, record: Record, now: int, key: bytes | None = None) -> bytes:
    """Ask for a record, inside the caller's transaction; returns the submission's id.

    The writer sets the time, and a record that wants one over now + 60 s is refused (H2). The id is the
    transfer's own, or made from `key` (what makes this submission one and no other), or from the content.
    Unavailable when the inbox is full.
    """
    if record.time > now + FUTURE_S:
        reject("H2", "time", _too_late(record.time, now))
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
    with store.asking():
        session = engine.connect()
    with session as connection:
        while not _try_lock(connection):
            _wait_for_turn("the ledger's advisory lock", deadline)
        try:
            yield
        finally:
            try:
                with store.asking():
                    store.unlock(connection)
            except Unavailable:
                # Where the session has gone, its lock has gone with it; it must not stay in the pool.
                connection.invalidate()


def _try_lock(connection: Connection) -> bool:
    with store.asking():
        return store.try_lock(connection)


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
            undone = state.past.at(proposal.record.index)
            assert undone is not None
            return [(undone.credit, undone.amount, undone.debit, undone.amount)]
    return []


def _too_late(wanted: int, now: int) -> str:
    return f"it asks for {wanted}, which is more than {FUTURE_S} s after {now}"


def _decidable(
    taken: Sequence[store.Waiting], now: int
) -> tuple[Sequence[store.Waiting], list[store.Answered]]:
    """What can be decided, and refusals of the rest.

    That is transfers under another id than their own, because the row of a transfer is the answer to its
    submission, so that one of another id would have none; and what wants a time that is too late (H2).
    """
    latest = (now + FUTURE_S).to_bytes(WORD, "big")
    strange = [
        one
        for one in taken
        if one.template[_TIME] > latest or (is_transfer(one.template) and one.template[ID] != one.id)
    ]
    if not strange:
        return taken, []
    answers = []
    for _, id, template in strange:
        if template[_TIME] > latest:
            refused = Invalid("H2", "time", _too_late(int.from_bytes(template[_TIME], "big"), now))
        else:
            why = f"a transfer of id 0x{template[ID].hex()} was submitted under 0x{id.hex()}"
            refused = Invalid("inbox", f"0x{id.hex()}", why)
        answers.append(store.Answered(id, None, refused, template))
    return [one for one in taken if one not in strange], answers


def _edge_of(size: int, edge: bytes) -> Tree:
    return Tree.from_edge(size, [edge[at : at + WORD] for at in range(0, len(edge), WORD)])


def _tree_of(head: store.Head) -> Tree | None:
    """The tree at a signed head, from the edge that was kept with it; None if it does not make its root."""
    if head.edge is None or len(head.edge) != WORD * head.size.bit_count():
        return None
    tree = _edge_of(head.size, head.edge)
    return tree if tree.root() == head.root else None


class Writer:
    """The sequencer. Create it only while holding only_writer()."""

    def __init__(
        self,
        engine: Engine,
        heads: Engine,
        keys: LogKeys,
        clock: Clock,
        *,
        from_start: bool = False,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        """Rebuild the state, and refuse to go on below what was signed (L9).

        from_start: read and replay every record, whatever was kept. timekeeper: says whether the clock
        can be believed; without one it is only compared with the last record.
        """
        self.engine, self.heads, self.keys, self.clock = engine, heads, keys, clock
        self._from_start = from_start
        self._timekeeper = timekeeper or Timekeeper()
        # The chains that were asked whether they hold more than this ledger has.
        self._agreed: set[str] = set()
        store.create(engine, heads)
        with store.asking(), engine.begin() as connection:
            self._fence = store.take_fence(connection)
        self._rebuild()

    def catch_up(self) -> None:
        """Have state and tree as the database has it, or raise Unavailable.

        They may be ahead of it where a commit failed, and in the middle of it where building them again did:
        whoever asks how much there is calls this first.
        """
        if self._is_behind:
            self._rebuild()

    def _rebuild(self) -> None:
        """Take state and tree from a snapshot and the records since, and check what was signed on the way."""
        self._is_behind = True
        with store.asking("store of signed heads"), reading(self.heads) as connection:
            head, kept = store.last_head(connection), store.last_head_with_state(connection)
        with store.asking(), reading(self.engine) as connection:
            size, edge = store.size_and_edge(connection)
            anchored = max((anchor.size for anchor in store.anchors(connection)), default=0)
        signed = 0 if head is None else head.size
        for what, least in (("signed", signed), ("anchored", anchored)):
            if least > size:
                reject("L9", what, f"size {least} was {what}, the database has {size} records")
        self._begin(None if self._from_start else kept)
        while self.tree.size < size:
            end = min(self.tree.size + REBUILD_RECORDS, size)
            if self.tree.size < signed:
                end = min(end, signed)
            self._replay(end, is_signed=end <= signed)
            if head is not None and self.tree.size == signed and self.tree.root() != head.root:
                found = self.tree.root().hex()
                reject("L9", "signed", f"at size {signed} {head.root.hex()} was signed, stored is {found}")
        assert self.state.size == size, f"{self.state.size} records, the edge says {size}"
        assert b"".join(self.tree.edge()) == edge, "records and edge disagree"
        # Here, so that the first batch does not wait for the index of evidence.
        self._past.forget()
        self._is_behind = False

    def _begin(self, kept: store.Head | None) -> None:
        """State and tree as they were kept with a signed head, or of an empty ledger.

        A snapshot is no more than its hash: without the one that was kept with the head, or if it is
        not what these rules write, everything is replayed.
        """
        self.state, self.tree, self.kept_size = rules.State(), Tree(), 0
        if kept is not None:
            with store.asking(), reading(self.engine) as connection:
                data = store.snapshot(connection, kept.size)
            tree = _tree_of(kept)
            if data is not None and sha256(data).digest() == kept.state and tree is not None:
                try:
                    self.state, self.tree, self.kept_size = rules.load(data), tree, kept.size
                except Invalid:
                    self.state = rules.State()
        self._past = Stored(lambda: self.engine, self.state)
        self.state.past, self._runs = self._past, Runs(self.state)
        self._is_named = False

    def _replay(self, end: int, *, is_signed: bool) -> None:
        """Take the stored records up to before end, all of which must be what the rules accept.

        Unless they are signed: those are in the log for ever, whoever put them there, and what of them
        breaks a rule is a breach, which has no effect and which an act may acknowledge (G16, K1).
        """
        with store.asking():
            records = list(store.records(self.engine, self.tree.size, end))
        replay(self._past, self._runs, records, [], [] if is_signed else None)
        self.tree.extend([leaf_hash(data) for data in records])

    # --- deciding and storing -------------------------------------------------------

    def step(self) -> int:
        """Decide what waits, at most one batch, and commit it; returns how many answers that gave.

        Dies before the commit: nothing happened, the inbox still waits. Dies after it: the
        answers are there, and the next start rebuilds memory from the records.
        """
        self.catch_up()
        with store.asking(), reading(self.engine) as connection:
            taken = store.waiting(connection, BATCH_RECORDS)
        return self.append(taken) if taken else 0

    def append(self, taken: Sequence[store.Waiting]) -> int:
        """Decide submissions in order and commit them as one batch; returns how many answers that gave.

        Unavailable, and nothing is decided, while the clock cannot be believed.
        """
        self.catch_up()
        now = self._now()
        # From the first effect on memory to the commit the two differ: whatever ends this in
        # between leaves the mark, and the next step rebuilds memory from what the database has.
        self._is_behind = True
        batch, balances = self._decide(taken, now)
        with store.asking(), self.engine.begin() as connection:
            stored = store.commit(connection, self._fence, batch)
            assert stored == balances, f"the database has {stored}, memory {balances}"
            self._closes.keep(connection)
        self._is_behind = self._is_named = False
        return len(taken)

    def drain(self) -> None:
        """Answer all that waits."""
        while self.step():
            pass

    def _now(self) -> int:
        """The time of what is recorded next."""
        return self._timekeeper.stamp(self.clock(), self.state.time)

    def _decide(self, taken: Sequence[store.Waiting], now: int) -> tuple[store.Batch, dict[str, int]]:
        """Ask the rules about each in order; returns what to write, and the balances that it must lead to."""
        word = now.to_bytes(WORD, "big")
        state, first = self.state, self.state.size
        records: list[bytes] = []
        sequences = [sequence for sequence, _, _ in taken if sequence is not None]
        taken, answers = self._decidable(taken, now)
        asked = self._dated(taken, word)
        moved: dict[str, list[int]] = {}
        suspects, at = self._past.prepare(asked, records), 0
        self._runs.moved.clear()
        self._closes = Closes()
        while at < len(asked):
            count = self._runs.take(asked[at:] if at else asked, suspects)
            records += asked[at : at + count]
            at += count
            if at == len(asked):
                break
            _, id, template = taken[at]
            self._closes.before(state, asked[at])
            try:
                record = self._judge(asked[at])
            except Invalid as refused:
                answers.append(store.Answered(id, None, refused, template))
            else:
                if not isinstance(record, Transfer):
                    answers.append(store.Answered(id, first + len(records), None, None))
                for debit, debits, credit, credits in _postings(state, record):
                    moved.setdefault(debit, [0, 0])[0] += debits
                    moved.setdefault(credit, [0, 0])[1] += credits
                records.append(asked[at])
                self._closes.after(state, record)
            at += 1
        for (debit, credit), amount in self._runs.moved.items():
            moved.setdefault(debit, [0, 0])[0] += amount
            moved.setdefault(credit, [0, 0])[1] += amount
        transfers = [
            (data[ID], position) for position, data in enumerate(records, first) if is_transfer(data)
        ]
        accounts = {account: state.accounts[account] for account in moved}
        changes = {
            account: (accounts[account].record.kind in rules.MONEY, debits, credits)
            for account, (debits, credits) in moved.items()
        }

        def edge() -> bytes:
            self.tree.extend([sha256(LEAF + data).digest() for data in records])
            return b"".join(self.tree.edge())

        before = b"".join(self.tree.edge())
        batch = store.Batch(first, records, transfers, answers, changes, edge, now, sequences, before)
        return batch, {account: held.balance for account, held in accounts.items()}

    def _decidable(
        self, taken: Sequence[store.Waiting], now: int
    ) -> tuple[Sequence[store.Waiting], list[store.Answered]]:
        """What the rules are asked about, and refusals of the rest."""
        return _decidable(taken, now)

    def _dated(self, taken: Sequence[store.Waiting], word: bytes) -> list[bytes]:
        """The records that submissions ask for, at this time."""
        return [template[:WORD] + word + template[2 * WORD :] for _, _, template in taken]

    def _judge(self, data: bytes) -> Record:
        """Take a record into the state, or raise Invalid."""
        return rules.apply(self.state, data)

    def dry_run(self, asked: Sequence[Record]) -> list[Record | Invalid]:
        """What would become of these if they came now, in this order: as it would be recorded, or why not.

        Nothing is written, and nothing is remembered: another state is asked, with a past of its own.
        """
        self.catch_up()
        state = rules.load(rules.dump(self.state))
        state.past = past = Stored(lambda: self.engine, state, self._past.evidence, is_reader=True)
        now = self._now()
        records = [encode(replace(record, time=now)) for record in asked]
        taken: list[bytes] = []
        past.prepare(records, taken)
        found: list[Record | Invalid] = []
        for data in records:
            try:
                found.append(rules.apply(state, data))
            except Invalid as refused:
                found.append(refused)
            else:
                taken.append(data)
        return found

    def run(self, stop: threading.Event) -> None:
        """Answer what comes until told to stop.

        What arrives while one batch is committed is the next batch, so batches grow with the load;
        when nothing waits, the inbox is looked at again after 10 ms. Unavailable is raised to
        whoever runs this; it is safe to call again.
        """
        looks = 0
        while not stop.is_set():
            looks = 0 if self.step() else looks + 1
            if looks >= IDLE_LOOKS and not self._is_named:
                self._is_named = index_named(self.engine, IDLE_RECORDS) == 0
            elif looks:
                stop.wait(IDLE_S)

    # --- signing and making public --------------------------------------------------

    def seal(self) -> bytes:
        """Sign the head of all committed records; returns the note. Sealing the same size is the same note.

        Dies before the swap: nothing was signed that anybody saw. Dies after it: the note is
        in the heads' store and the next seal gives it again.
        """
        self.catch_up()
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
        kept = self._keep_snapshot(size)
        with store.asking("store of signed heads"), self.heads.begin() as connection:
            store.swap_head(connection, expected, store.Head(size, stored.root(), note, edge, kept))
        if kept is not None:
            self.kept_size = size
        return note

    def _keep_snapshot(self, size: int) -> bytes | None:
        """Keep the state if there is much to replay since the last one; returns its hash for the head.

        Dies after it: no head has its hash, so nobody starts from it, and the one before is still there.
        """
        if size - self.kept_size < SNAPSHOT_RECORDS:
            return None
        data = rules.dump(self.state)
        with store.asking(), self.engine.begin() as connection:
            store.keep_snapshot(connection, size, data, self.kept_size)
        return sha256(data).digest()

    def _stored_tree(self, head: store.Head | None, size: int) -> Tree:
        """The tree of the stored bytes: what is signed is what is stored, not what memory believes (FF74).

        Bytes that no head covers yet are read again. For those before the last head its edge stands,
        which adds up to the root that was signed; that their bytes are still the same is checked at
        each start, by each watcher once, and by every auditor, and never needs this key.
        """
        tree = Tree()
        if head is not None and head.edge is not None:
            tree = _edge_of(head.size, head.edge)
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
        self.catch_up()
        if not self.tree.size:
            return 0  # Before its Genesis a ledger has no domain to sign in, and nothing to show.
        # Before anything is signed (L9); a chain that is silent now is asked again the next time.
        unchecked = [anchor for anchor in anchors if anchor.name not in self._agreed]
        late = check_not_behind(self.tree.size, publisher, unchecked, resumptions(self.state))
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
        # Publishing reads what is new anyway; so a refund that comes never waits for more than this.
        while index_named(self.engine):
            pass
        if not outcome.silent:
            self._timekeeper.ask_again()
        _tell(outcome)
        return self.tree.size

    def follow(self, publisher: Publisher, anchors: tuple[Anchor, ...]) -> None:
        """Note what has become final since, where there is nothing to sign or send."""
        outcome = anchor_all(self.engine, publisher, anchors, None)
        if outcome.noted:
            publisher.finish(self.engine)
        _tell(outcome)


def _tell(outcome: Outcome) -> None:
    """Say what is to be known and raise what went wrong, once all else is done."""
    for sentence in outcome.told:
        LOGGER.warning("%s", sentence)
    if outcome.broken:
        raise outcome.broken[0]
    if outcome.silent:
        why = "; ".join(error.why for error in outcome.silent)
        raise Unavailable(outcome.silent[0].service, why)
