"""The auditor's tree: of the lowest level only what is asked for is in memory, made again from the records."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from ledger import proof
from ledger.audit.entries import Entries
from ledger.audit.source import Folder
from ledger.audit.tree import Tree
from ledger.proof import TILE_WIDTH, encode_bundle, leaf_hash, tile_path
from ledger.records import Unavailable

RECORDS = [b"record %d" % number for number in range(2 * TILE_WIDTH + 19)]
LEAVES = [leaf_hash(data) for data in RECORDS]


def grown(folder: Path, size: int) -> Tree:
    bundles = [RECORDS[at : min(at + TILE_WIDTH, size)] for at in range(0, size, TILE_WIDTH)]
    contents = [encode_bundle(some) for some in bundles]
    for index, content in enumerate(contents):
        path = folder / tile_path("entries", index, len(bundles[index]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    entries = Entries(Folder(str(folder)), size)
    tree = Tree(entries)
    for content, some in zip(contents, bundles, strict=True):
        entries.add(content, len(some))
        tree.extend([leaf_hash(data) for data in some])
    return tree


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 531])
def test_its_hashes_are_those_of_proof(tmp_path: Path, size: int) -> None:
    tree = grown(tmp_path, size)
    assert tree.range.root() == proof.root_of(LEAVES[:size])
    roots = tree.roots([0, *range(1, size + 1, 7), size])
    assert roots == {n: proof.root_of(LEAVES[:n]) for n in roots}
    for index in {0, 1, size // 2, size - 1} & set(range(size)):
        assert tree.path(index) == proof.inclusion_path(index, LEAVES[:size])
    for level, index, width in proof.tiles_for_size(size):
        whole = tree.tile(level, index, width)
        assert whole is not None
        assert tree.tile(level, index, width - 1) == whole[:-32]
        assert tree.tile(level, index, width + 1) is None or width == TILE_WIDTH
    assert tree.tile(0, size // TILE_WIDTH + 1, 1) is None
    assert tree.tile(3, 0, 1) is None


def test_a_record_that_changed_since_it_was_hashed_gives_no_tile(tmp_path: Path) -> None:
    tree = grown(tmp_path, 300)
    changed = [*RECORDS[:3], b"another", *RECORDS[4:TILE_WIDTH]]
    (tmp_path / tile_path("entries", 0, TILE_WIDTH)).write_bytes(encode_bundle(changed))
    with pytest.raises(Unavailable, match="changed while it was read"):
        tree.tile(0, 0, TILE_WIDTH)


def test_leaves_are_not_kept(tmp_path: Path) -> None:
    """Of 32 bytes a record nothing is in memory but what was last asked for."""
    leaves, content = LEAVES[:TILE_WIDTH], encode_bundle(RECORDS[:TILE_WIDTH])
    entries = Entries(Folder(str(tmp_path)), 100 * TILE_WIDTH)
    tree = Tree(entries)
    tracemalloc.start()
    try:
        for _ in range(100):
            entries.add(content, TILE_WIDTH)
            tree.extend(leaves)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < tree.size
