from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from ledger import store
from ledger.database import reading
from ledger.proof import (
    check_checkpoint,
    check_receipt,
    decode_bundle,
    leaf_hash,
    parse_receipt,
    root_of,
    tile_path,
    tiles_for_size,
)
from ledger.records import Invalid, Unavailable, encode
from ledger.target import Folder, Remote, Target, open_target, read
from ledger.tree import root_from_tiles
from tests import bundles, city
from tests.ledger.running import KEYS, Ledger, fees


class Crashed(Exception):
    """The process ended here."""


class Crashing:
    """A target whose process ends before its n-th write, or right after it."""

    def __init__(self, target: Target, writes: int) -> None:
        self.target, self.left = target, writes

    def find(self, path: str) -> bytes | None:
        return self.target.find(path)

    def write(self, path: str, content: bytes) -> None:
        if self.left == 0:
            raise Crashed
        self.left -= 1
        self.target.write(path, content)


def check_stands(target: Target) -> int:
    """Whatever checkpoint stands there is provable from the files that stand there; returns its size."""
    note = target.find("checkpoint")
    if note is None:
        return 0
    checkpoint, _ = check_checkpoint(note, KEYS.verifiers(), KEYS.verifiers())

    def tile(level: int, index: int, width: int) -> bytes:
        full = target.find(tile_path(level, index))
        return read(target, tile_path(level, index, width)) if full is None else full[: 32 * width]

    assert root_from_tiles(checkpoint.size, tile) == checkpoint.root
    leaves = []
    for level, index, width in tiles_for_size(checkpoint.size):
        if level == 0:
            entries = decode_bundle(read(target, tile_path("entries", index, width)), width)
            leaves += [leaf_hash(entry) for entry in entries]
    assert root_of(leaves) == checkpoint.root
    return checkpoint.size


def publish(ledger: Ledger, writer, target: Target | Path | str) -> None:
    publisher = ledger.publisher(target)
    writer.publish(publisher, ledger.watcher())


def documents(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        for text in bundles.PUBLIC:
            store.add_document(connection, text.encode())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_published_is_valid_and_holds_the_exact_bytes(ledger: Ledger):
    writer, log = ledger.opened()
    documents(ledger)
    ledger.feed(writer, [encode(replace(fee, time=log.now)) for fee in fees(log, 0, 300)])
    publish(ledger, writer, ledger.folder / "bundle")
    from ledger.audit import audit

    verdict = audit(str(ledger.folder / "bundle"))
    # Nothing is anchored here, which the auditor says (T4).
    assert {finding.rule for finding in verdict.findings} <= {"T4"}, verdict.findings
    stored = []
    for level, index, width in tiles_for_size(writer.tree.size):
        if level == 0:
            place = ledger.folder / "bundle" / tile_path("entries", index, width)
            stored += decode_bundle(place.read_bytes(), width)
    assert stored == ledger.records()


def test_publishing_again_writes_nothing(ledger: Ledger):
    writer, _ = ledger.opened()
    documents(ledger)
    bundle = ledger.folder / "bundle"
    publish(ledger, writer, bundle)
    before = files(bundle)
    ledger.clock.now += 60  # A watcher that is asked again states another time; its first word stands.
    publish(ledger, writer, Crashing(Folder(bundle), 0))
    assert files(bundle) == before


@pytest.mark.parametrize("sizes", [(40, 61), (61, 300), (250, 262)])
def test_a_publisher_that_dies_between_any_two_writes_leaves_what_the_next_one_completes(
    tmp_path: Path, sizes: tuple[int, int]
):
    from ledger.database import engine

    ledger = Ledger(
        tmp_path, engine(f"sqlite:///{tmp_path}/ledger.db"), engine(f"sqlite:///{tmp_path}/heads.db")
    )
    records = bundles.busy(310).records[: sizes[1]]
    writer = ledger.writer()
    ledger.feed(writer, records[: sizes[0]])
    publish(ledger, writer, tmp_path / "first")
    documents(ledger)
    ledger.feed(writer, records[sizes[0] :])
    publish(ledger, writer, tmp_path / "whole")
    first, whole = files(tmp_path / "first"), files(tmp_path / "whole")
    for writes in range(len(whole) + 3):
        memory = _Memory(dict(first))
        try:
            publish(ledger, writer, Crashing(memory, writes))
        except Crashed:
            assert check_stands(memory) in sizes
        else:
            assert memory.files.items() >= whole.items()
            break
        publish(ledger, writer, memory)
        assert check_stands(memory) == sizes[1]
        assert memory.files.items() >= whole.items()
    else:
        pytest.fail("publishing never ended")
    ledger.engine.dispose()
    ledger.heads.dispose()


class _Memory:
    """A target in a dictionary."""

    def __init__(self, found: dict[str, bytes]) -> None:
        self.files = found

    def find(self, path: str) -> bytes | None:
        return self.files.get(path)

    def write(self, path: str, content: bytes) -> None:
        self.files[path] = content


def test_a_write_that_is_cut_short_leaves_the_file_that_was(tmp_path: Path):
    target = Folder(tmp_path)
    target.write("checkpoint", b"old")
    (tmp_path / ".checkpoint.new").write_bytes(b"ne")
    assert target.find("checkpoint") == b"old"
    target.write("checkpoint", b"new")
    assert files(tmp_path) == {"checkpoint": b"new"}


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_bundle_is_published_to_any_target_of_fsspec(ledger: Ledger, scheme: str):
    writer, log = ledger.opened()
    documents(ledger)
    where = f"{scheme}://{ledger.folder}/elsewhere"
    publish(ledger, writer, where)
    ledger.ask(fees(log, 0, 1)[0])
    writer.drain()
    publish(ledger, writer, where)
    assert check_stands(open_target(where)) == len(log.records) + 1
    publish(ledger, writer, ledger.folder / "bundle")
    system, root = fsspec.core.url_to_fs(where)
    copied = ledger.folder / "copied"
    system.get(root, str(copied), recursive=True)
    # Partial tiles of the size before may stay; everything else is byte for byte the same.
    assert files(copied).items() >= files(ledger.folder / "bundle").items()
    assert check_stands(Folder(copied)) == len(log.records) + 1


def test_a_target_that_does_not_answer_is_unavailable(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="bundle"):
        Folder(tmp_path).write("file/below", b"")

    class Silent:
        def cat_file(self, path: str) -> bytes:
            raise TimeoutError(path)

        def makedirs(self, path: str, **_: bool) -> None:
            raise ConnectionError(path)

    with pytest.raises(Unavailable, match="bundle"):
        Remote(Silent(), "x").find("checkpoint")
    with pytest.raises(Unavailable, match="bundle"):
        Remote(Silent(), "x").write("checkpoint", b"")


def test_a_receipt_leads_from_the_record_to_the_published_checkpoint(ledger: Ledger):
    writer, log = ledger.opened()
    ledger.feed(writer, [encode(replace(fee, time=log.now)) for fee in fees(log, 0, 260)])
    publisher = ledger.publisher()
    writer.publish(publisher, ledger.watcher())
    everything = ledger.records()
    for index in (0, 255, 256, len(everything) - 1):
        receipt = publisher.receipt(index, everything[index])
        verifiers = publisher.trust.verifiers
        check_receipt(receipt, everything[index], verifiers, verifiers)
        assert parse_receipt(receipt).index == index
        with pytest.raises(Invalid):
            check_receipt(receipt, everything[index - 1], verifiers, verifiers)
    with pytest.raises(Invalid, match="X14"):
        publisher.receipt(len(everything), everything[0])


def test_only_the_first_word_of_a_watcher_on_a_head_is_kept(ledger: Ledger):
    writer, _ = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    writer.publish(publisher, watcher)
    before = (publisher.folder / "checkpoint").read_bytes()
    ledger.clock.now += 5
    publisher.add_cosignature(watcher.sign(publisher.target).cosignature)
    assert (publisher.folder / "checkpoint").read_bytes() == before


def test_documents_are_published_under_their_hash_once(ledger: Ledger):
    writer, _ = ledger.opened()
    documents(ledger)
    publish(ledger, writer, ledger.folder / "bundle")
    with reading(ledger.engine) as connection:
        names = store.document_names(connection)
        assert {name.hex(): store.document(connection, name) for name in names} == {
            name: content
            for path, content in files(ledger.folder / "bundle").items()
            if (name := path.removeprefix("documents/")) != path
        }
    assert names == sorted(city.digest(text) for text in bundles.PUBLIC)


def test_a_bundle_in_two_places_and_one_that_was_away_gets_what_it_missed(ledger: Ledger):
    class Away(_Memory):
        is_away = False

        def write(self, path: str, content: bytes) -> None:
            if self.is_away:
                raise Unavailable("bundle", f"{path}: no answer")
            super().write(path, content)

    writer, log = ledger.opened()
    documents(ledger)
    publisher, watcher, away = ledger.publisher(), ledger.watcher(), Away({})
    others = [ledger.publisher(away), ledger.publisher(f"memory://{ledger.folder}/third")]
    for round in range(3):
        away.is_away = round == 1
        for fee in fees(log, 300 * round, 300):
            ledger.ask(fee)
        writer.drain()
        writer.publish(publisher, watcher)
        silent = publisher.mirror(ledger.engine, others)
        assert [error.service for error in silent] == ["bundle"] * away.is_away
        for other in others[away.is_away :]:
            assert check_stands(other.target) == writer.tree.size
            for path, content in files(publisher.folder).items():
                # Partial tiles of sizes that a place never saw are not there, and nobody misses them.
                assert other.target.find(path) in {content, None if ".p/" in path else content}
