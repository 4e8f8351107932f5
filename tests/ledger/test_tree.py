"""The fast tree equals the slow one: at every size to 1,000 leaves, sampled to 10^7, and a receipt at 10^9."""

from __future__ import annotations

import functools
import random
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import proof, tree
from ledger.records import Invalid, Transfer, encode
from tests import city
from tests.ledger import wide_tree

LEAVES = [proof.leaf_hash(number.to_bytes(4, "big")) for number in range(70_000)]


class Tiles:
    """Published tiles by level, index and width: reading one that was not published fails."""

    def __init__(self) -> None:
        self.files: dict[tuple[int, int, int], bytes] = {}
        self.reads = 0

    def read(self, level: int, index: int, width: int) -> bytes:
        self.reads += 1
        return self.files[level, index, width]

    def publish(self, old_size: int, leaves: list[bytes]) -> None:
        for level, index, width, data in tree.tiles_to_write(old_size, leaves, self.read):
            assert 1 <= width <= 256
            assert len(data) == 32 * width
            assert self.files.setdefault((level, index, width), data) == data
        self.reads = 0


@pytest.fixture(scope="module")
def grown() -> Tiles:
    """A log that published a checkpoint at every size from 1 to 1,000."""
    tiles = Tiles()
    for size in range(1_000):
        tiles.publish(size, [LEAVES[size]])
    return tiles


@pytest.fixture(scope="module")
def large() -> Tiles:
    """A log of 70,000 leaves, published in three uneven batches."""
    tiles = Tiles()
    for start, end in ((0, 1), (1, 300), (300, 65_537), (65_537, 70_000)):
        tiles.publish(start, LEAVES[start:end])
    return tiles


def test_the_root_and_the_edge_are_right_at_every_size_up_to_1000() -> None:
    fast = tree.Tree()
    assert fast.root() == proof.EMPTY_ROOT
    for size in range(1, 1_001):
        fast.append(LEAVES[size - 1])
        assert fast.size == size
        assert fast.root() == proof.root_of(LEAVES[:size])
        assert len(fast.edge()) == size.bit_count()
        assert tree.Tree.from_edge(size, fast.edge()).root() == fast.root()


def test_the_paths_equal_the_slow_ones_for_every_size_up_to_1000(grown: Tiles) -> None:
    chance = random.Random(1_000)
    for size in range(1, 1_001):
        leaves = LEAVES[:size]
        assert tree.root_from_tiles(size, grown.read) == proof.root_of(leaves)
        # Every index and old size of the small trees; of the others, those beside a power of two and a few.
        near = {size - 1, size // 2, *(b + d for b in (1, 64, 256, 512) for d in (-1, 0))}
        if size > 300:
            near = {size - 1, chance.randrange(size), chance.choice((255, 256))}
        chosen = range(size) if size <= 40 else sorted(i for i in near if i < size)
        for index in chosen:
            fast = tree.inclusion_proof(index, size, grown.read)
            assert fast == proof.inclusion_path(index, leaves)
            assert tree.consistency_proof(index + 1, size, grown.read) == proof.consistency_path(
                index + 1, leaves
            )


@settings(deadline=None)
@given(st.integers(1, 10**7), st.data())
def test_roots_and_paths_are_those_of_the_definition_at_sampled_sizes_up_to_ten_million(
    size: int, data: st.DataObject
) -> None:
    edges = [n for n in (0, 255, 256, 65_535, 65_536, size // 2, size - 1) if n < size]
    index = data.draw(st.one_of(st.sampled_from(edges), st.integers(0, size - 1)))
    root = wide_tree.root(0, size)
    assert tree.root_from_tiles(size, wide_tree.tile) == root
    path = tree.inclusion_proof(index, size, wide_tree.tile)
    assert path == wide_tree.inclusion(index, 0, size)
    proof.check_inclusion(proof.leaf_hash(wide_tree.entry(index)), index, size, path, root)
    growth = tree.consistency_proof(index + 1, size, wide_tree.tile)
    assert growth == wide_tree.consistency(index + 1, 0, size)
    proof.check_consistency(index + 1, wide_tree.root(0, index + 1), size, root, growth)


def test_the_definition_in_blocks_is_that_of_proof() -> None:
    leaves = [proof.leaf_hash(wide_tree.entry(index)) for index in range(66_000)]
    for size in (1, 2, 300, 65_535, 65_536, 65_537, 66_000):
        assert wide_tree.root(0, size) == proof.root_of(leaves[:size])
    assert wide_tree.inclusion(65_537, 0, 66_000) == proof.inclusion_path(65_537, leaves)


def test_a_receipt_of_a_billion_records_with_three_cosigners_has_at_most_2100_bytes() -> None:
    size, index = 10**9, 123_456_789
    root = wide_tree.root(0, size)
    log = Ed25519PrivateKey.from_private_bytes(city.digest("log ed25519"))
    text = proof.format_checkpoint(proof.Checkpoint("alatau.qazyna/ledger", size, root))
    lines = [proof.sign(text, "alatau.qazyna/ledger", proof.ED25519, log)]
    verifiers = [proof.Verifier("alatau.qazyna/ledger", proof.ED25519, log.public_key().public_bytes_raw())]
    for number in range(3):
        key = Ed25519PrivateKey.from_private_bytes(city.digest(f"witness {number}"))
        name = f"witness-{number}.example/ledger"
        lines.append(proof.sign(text, name, proof.COSIGNATURE, key, city.START_S))
        verifiers.append(proof.Verifier(name, proof.COSIGNATURE, key.public_key().public_bytes_raw()))
    path = tree.inclusion_proof(index, size, wide_tree.tile)
    assert len(path) == 30
    note = proof.format_note((text, tuple(lines)))
    receipt = proof.format_receipt(proof.Receipt(index, tuple(path), note))
    assert len(receipt) <= 2_100
    checked = proof.check_receipt(receipt, wide_tree.entry(index), verifiers, verifiers)
    assert (checked.size, checked.root) == (size, root)
    # The record itself may ride along, for whoever wants to read it without the log.
    record = encode(city.revenue(city.registered()))
    assert len(record) == Transfer.words.size
    whole = proof.format_receipt(proof.Receipt(index, tuple(path), note, record))
    assert len(whole) - len(receipt) < 480


def test_every_proof_of_a_tree_of_300_verifies(grown: Tiles) -> None:
    root = proof.root_of(LEAVES[:300])
    edge = tree.Tree()
    for index in range(300):
        edge.append(LEAVES[index])
        path = tree.inclusion_proof(index, 300, grown.read)
        proof.check_inclusion(LEAVES[index], index, 300, path, root)
        growth = tree.consistency_proof(index + 1, 300, grown.read)
        proof.check_consistency(index + 1, edge.root(), 300, root, growth)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_the_two_trees_agree_on_sampled_sizes(size: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, size), max_size=4)) | {size})
    tiles, fast, start = Tiles(), tree.Tree(), 0
    for end in cuts:
        tiles.publish(start, LEAVES[start:end])
        fast.extend(LEAVES[start:end])
        start = end
    index, old_size = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert fast.root() == proof.root_of(LEAVES[:size]) == tree.root_from_tiles(size, tiles.read)
    assert tree.inclusion_proof(index, size, tiles.read) == proof.inclusion_path(index, LEAVES[:size])
    fast_growth = tree.consistency_proof(old_size, size, tiles.read)
    assert fast_growth == proof.consistency_path(old_size, LEAVES[:size])


@functools.cache
def _grown_to(thousands: int) -> tuple[bytes, ...]:
    """The right edge of a tree that grew leaf by leaf."""
    grown = (
        tree.Tree.from_edge((thousands - 1) * 1_000, list(_grown_to(thousands - 1)))
        if thousands
        else tree.Tree()
    )
    grown.extend(LEAVES[max(0, thousands - 1) * 1_000 : thousands * 1_000])
    return tuple(grown.edge())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 69_999), st.integers(1, 70_000))
def test_proofs_across_three_levels_of_tiles_verify(large: Tiles, index: int, old_size: int) -> None:
    root = tree.root_from_tiles(70_000, large.read)
    path = tree.inclusion_proof(index, 70_000, large.read)
    proof.check_inclusion(LEAVES[index], index, 70_000, path, root)
    thousands = old_size // 1_000
    old = tree.Tree.from_edge(thousands * 1_000, list(_grown_to(thousands)))
    old.extend(LEAVES[thousands * 1_000 : old_size])
    growth = tree.consistency_proof(old_size, 70_000, large.read)
    proof.check_consistency(old_size, old.root(), 70_000, root, growth)


def test_the_tiles_of_a_size_are_those_that_were_published(large: Tiles, grown: Tiles) -> None:
    for size, tiles in ((70_000, large), (65_537, large), *((size, grown) for size in range(1, 301))):
        for level, index, width in proof.tiles_for_size(size):
            hashes = proof.decode_tile(tiles.files[level, index, width], width)
            assert len(hashes) == width
    full_and_last = set(proof.tiles_for_size(70_000))
    assert {key for key in large.files if key[2] == 256} == {key for key in full_and_last if key[2] == 256}


def test_a_tile_s_hash_stands_for_256_hashes_of_the_level_below(large: Tiles) -> None:
    for number, value in enumerate(proof.decode_tile(large.files[1, 0, 256], 256)):
        assert value == proof.root_of(LEAVES[256 * number : 256 * number + 256])
    assert large.files[2, 0, 1] == proof.root_of(LEAVES[:65_536])


def test_a_partial_tile_is_never_hashed_upward() -> None:
    tiles = Tiles()
    tiles.publish(0, LEAVES[:255])
    assert {key[0] for key in tiles.files} == {0}
    tiles.publish(255, LEAVES[255:256])
    assert tiles.files[1, 0, 1] == proof.root_of(LEAVES[:256])
    assert (0, 1, 0) not in tiles.files


def test_publishing_nothing_writes_nothing_and_publishing_again_writes_the_same(grown: Tiles) -> None:
    assert not list(tree.tiles_to_write(300, [], grown.read))
    grown.publish(250, LEAVES[250:300])


def test_appending_costs_one_hash_a_leaf_and_a_proof_reads_few_tiles(large: Tiles) -> None:
    large.reads = 0
    tree.inclusion_proof(12_345, 70_000, large.read)
    assert large.reads <= 5
    large.reads = 0
    tree.consistency_proof(12_345, 70_000, large.read)
    assert large.reads <= 5
    assert len(tree.Tree.from_edge(2**40 - 1, [LEAVES[0]] * 40).edge()) == 40


def test_a_tile_of_another_length_is_refused(grown: Tiles) -> None:
    with pytest.raises(Invalid) as refusal:
        tree.inclusion_proof(3, 300, lambda *tile: grown.read(*tile)[:-1])
    assert refusal.value.rule == "X23"


def test_an_edge_that_does_not_fit_its_size_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        tree.Tree.from_edge(3, [LEAVES[0]])
    with pytest.raises(AssertionError):
        tree.Tree.from_edge(1, [LEAVES[0][:31]])


def test_fold_is_the_root_of_a_whole_subtree() -> None:
    assert tree.fold(LEAVES[0]) == LEAVES[0]
    assert tree.fold(b"".join(LEAVES[:256])) == proof.root_of(LEAVES[:256])
    assert tree.fold(b"".join(LEAVES[:2])) == sha256(b"\x01" + LEAVES[0] + LEAVES[1]).digest()
