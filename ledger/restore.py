"""Getting the ledger back from what is public, when its database is lost or old (L9).

The records are all in the bundle, so a server or a backup that is gone costs none of them. What
comes back goes through the rules as it did the first time, and ends at a root that was signed. A record
that breaks a rule is in the log for ever like the others: it comes back as the breach that it is, without
effect, so that what the Council acknowledged stays acknowledged (G16, K1). A
bundle that is older than what was signed is refused: going on from there would be a second history.
What is not public does not come back: answers to refused submissions, and what still waited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ledger import store
from ledger.database import Engine, reading
from ledger.database import engine as open_engine
from ledger.fast import ID, is_transfer
from ledger.proof import (
    TILE_WIDTH,
    Checkpoint,
    Verifiers,
    check_checkpoint,
    decode_bundle,
    leaf_hash,
    tile_path,
)
from ledger.publish import LogKeys
from ledger.records import BY_TYPE_HASH, WORD, ZERO_HASH, Invalid, Rate, Record, reject
from ledger.rules import TIME_LIMIT_S
from ledger.target import Target, read
from ledger.tree import Tree
from ledger.writer import BATCH_RECORDS, Writer, submission_id

# The members by which a record names a file.
_FILES = frozenset({"act", "document", "legal_ref", "evidence", "source1", "source2"})
_PLACES = {
    type_hash: [WORD * place for place, (name, _, _) in enumerate(kind.members, 1) if name in _FILES]
    for type_hash, kind in BY_TYPE_HASH.items()
}


# What is being done, how many records are done, and of how many.
Progress = Callable[[str, int, int], None]


def restore(
    engine: Engine,
    heads: Engine,
    bundle: Target,
    keys: LogKeys,
    log: Verifiers,
    progress: Progress = lambda _what, _done, _total: None,
) -> int:
    """Bring a ledger's database up to a published bundle; returns how many records came back.

    log: the log's keys, all of which must have signed the checkpoint. Hold only_writer() around it.
    Dies in between: what came back so far is a ledger, and running it again goes on. Invalid (L9)
    where bundle, database and signed heads are not one history.
    """
    store.create(engine, heads)
    note = read(bundle, "checkpoint")
    checkpoint, _ = check_checkpoint(note, log, log)
    with store.asking("store of signed heads"), reading(heads) as connection:
        signed = store.last_head(connection)
    if signed is not None and signed.size > checkpoint.size:
        why = f"size {signed.size} was signed, the bundle has {checkpoint.size}: records are missing from it"
        reject("L9", "checkpoint", why)
    with TemporaryDirectory() as folder:
        # The signed heads would refuse a database that is behind them, which is just what is mended here.
        scratch = open_engine(f"sqlite:///{Path(folder) / 'heads.db'}")
        try:
            writer = _Restoring(engine, scratch, keys, lambda: 0)
            came, tree = _go_on(writer, bundle, checkpoint, signed, progress)
        finally:
            scratch.dispose()
    _take_documents(engine, bundle)
    if signed is None or signed.size < checkpoint.size:
        head = store.Head(checkpoint.size, checkpoint.root, note, b"".join(tree.edge()))
        with store.asking("store of signed heads"), heads.begin() as connection:
            store.swap_head(connection, 0 if signed is None else signed.size, head)
    return came


# What stands for a record that has no effect: no transfer, and nothing that moves money or takes effect.
_NOTHING = Rate(0, "none", 1, 1, ZERO_HASH, ZERO_HASH)


class _Restoring(Writer):
    """A writer of records that were signed before: what breaks a rule is recorded as a breach."""

    def _replay(self, end: int, *, is_signed: bool) -> None:  # noqa: ARG002 - the bundle's root covers all
        super()._replay(end, is_signed=True)

    def _dated(self, taken: Sequence[store.Waiting], word: bytes) -> list[bytes]:  # noqa: ARG002
        # As it was published, were its time another one or none at all.
        return [template for _, _, template in taken]

    def _decidable(
        self,
        taken: Sequence[store.Waiting],
        now: int,  # noqa: ARG002
    ) -> tuple[Sequence[store.Waiting], list[store.Answered]]:
        # What is in the log has its place, whatever it says.
        return taken, []

    def _now(self) -> int:
        # No clock: these were recorded long ago, and what was dated wrongly then comes back with its date.
        return max(self.clock(), self.state.time)

    def _judge(self, data: bytes) -> Record:
        try:
            return super()._judge(data)
        except Invalid as broken:
            # rules.take, by the name of the rule that is known here.
            self.state.breaches[self.state.size] = broken.rule
            self.state.size += 1
            return _NOTHING

    def _decide(self, taken: Sequence[store.Waiting], now: int) -> tuple[store.Batch, dict[str, int]]:
        batch, balances = super()._decide(taken, now)
        breaches = self.state.breaches
        # Nothing of a breach is in the past: its id is free, and nobody's submission was answered with it.
        transfers = [row for row in batch.transfers if row[1] not in breaches]
        answers = [answered for answered in batch.answers if answered.position not in breaches]
        return replace(batch, transfers=transfers, answers=answers), balances


def _go_on(
    writer: Writer, bundle: Target, checkpoint: Checkpoint, signed: store.Head | None, progress: Progress
) -> tuple[int, Tree]:
    """Write what the database lacks; the records that it has must be the published ones."""
    had = writer.tree.size
    if had > checkpoint.size:
        reject("L9", "database", f"it has {had} records, the bundle {checkpoint.size}")
    # First all of it is read and led to the signed root: nothing of a bundle that is not whole is written.
    roots = {had: writer.tree.root(), checkpoint.size: checkpoint.root}
    if signed is not None:
        roots.setdefault(signed.size, signed.root)
        if roots[signed.size] != signed.root:
            why = f"at size {signed.size} {signed.root.hex()} was signed, there is {roots[signed.size].hex()}"
            reject("L9", "signed", why)
    tree = Tree()
    for data in _published(bundle, 0, checkpoint.size):
        _check(tree, roots)
        tree.append(leaf_hash(data))
        if tree.size % TILE_WIDTH == 0:
            progress("read", tree.size, checkpoint.size)
    _check(tree, roots)
    progress("read", tree.size, checkpoint.size)
    came = 0
    for time_s, group in groupby(_published(bundle, had, checkpoint.size), _time):
        writer.clock = lambda time_s=time_s: time_s  # type: ignore[misc]
        while batch := list(islice(group, BATCH_RECORDS)):
            came += _write(writer, batch)
            progress("written", had + came, checkpoint.size)
    if writer.tree.root() != checkpoint.root:
        why = f"the records led to {writer.tree.root().hex()}, signed is {checkpoint.root.hex()}"
        reject("L9", "database", why)
    return came, tree


def _write(writer: Writer, batch: list[bytes]) -> int:
    before, waiting = writer.tree.size, []
    for data in batch:
        template = data[:WORD] + bytes(WORD) + data[2 * WORD :]
        id = data[ID] if is_transfer(data) else submission_id(template)
        waiting.append(store.Waiting(None, id, data))
    writer.append(waiting)
    assert writer.tree.size == before + len(batch), "a record was left out"
    return len(batch)


def _check(tree: Tree, roots: dict[int, bytes]) -> None:
    expected = roots.get(tree.size)
    if expected is not None and tree.root() != expected:
        found = tree.root().hex()
        reject("L9", f"size {tree.size}", f"the bundle's records make {found}, {expected.hex()} is expected")


def _published(bundle: Target, start: int, end: int) -> Iterator[bytes]:
    for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        width = min(TILE_WIDTH, end - index * TILE_WIDTH)
        content = read(bundle, tile_path("entries", index, width))
        yield from decode_bundle(content, width)[max(0, start - index * TILE_WIDTH) :]


def _time(data: bytes) -> int:
    # Of a breach it may be any number of any length; what is not before the limit is never taken (H2).
    return min(int.from_bytes(data[WORD : 2 * WORD], "big"), TIME_LIMIT_S)


def _take_documents(engine: Engine, bundle: Target) -> None:
    """The public documents that the records name, as far as the bundle has them."""
    with store.asking(), reading(engine) as connection:
        known = set(store.document_names(connection))
    wanted: set[bytes] = set()
    for data in store.records(engine):
        # A breach may end before the words that its kind has.
        ends = [place for place in _PLACES.get(data[:WORD], ()) if place + WORD <= len(data)]
        wanted.update(data[place : place + WORD] for place in ends)
    for name in sorted(wanted - known):
        # Many are commitments, of which no file was ever public.
        content = bundle.find(f"documents/{name.hex()}")
        if content is not None:
            with store.asking(), engine.begin() as connection:
                if store.add_document(connection, content) != name:
                    reject("L9", f"documents/{name.hex()}", "has another SHA-256 than its name")
