"""The fast twin of proof.py: roots from a right edge, proofs and tiles from tiles.

Writer and publisher use this; auditors need only proof.py, and tests prove the two equal.
A tree of n leaves is kept as the roots of its whole subtrees, one for each bit set in n,
largest first: the right edge. So an append costs one or two hashes whatever the size is.

No I/O: tiles come through a callable, and go to whoever publishes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256

from ledger.proof import EMPTY_ROOT, TILE_WIDTH, decode_tile, split_of

# (level, index, width) -> the tile's bytes, 32 for each hash.
ReadTile = Callable[[int, int, int], bytes]


class Tree:
    """A tree that grows at its right edge."""

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        assert len(edge) == size.bit_count(), f"{len(edge)} hashes for a tree of size {size}"
        assert all(len(value) == 32 for value in edge)
        self.size = size
        self._edge = list(edge)

    @classmethod
    def from_edge(cls, size: int, edge: Sequence[bytes]) -> Tree:
        """Take up a tree where edge() left it."""
        return cls(size, edge)

    def edge(self) -> list[bytes]:
        """The roots of the whole subtrees, largest first: all that has to be stored."""
        return self._edge.copy()

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        edge, size = self._edge, self.size
        for leaf in leaves:
            value, full = leaf, size
            while full & 1:
                value = sha256(b"\x01" + edge.pop() + value).digest()
                full >>= 1
            edge.append(value)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """The root of the whole tree, or of the empty one."""
        if not self._edge:
            return EMPTY_ROOT
        *left, root = self._edge
        for value in reversed(left):
            root = sha256(b"\x01" + value + root).digest()
        return root


@lru_cache(maxsize=512)
def nodes(tile: bytes) -> tuple[bytes, ...]:
    """Every whole subtree inside a tile: for each height the roots over so many hashes, end to end.

    Kept for the tiles that were last asked for, by what is in them, so that it can never be stale.
    With it a proof costs the same however high the tree has grown.
    """
    heights = [tile]
    while len(heights[-1]) >= 64:
        below = heights[-1]
        pairs = range(0, len(below) - len(below) % 64, 64)
        heights.append(b"".join([sha256(b"\x01" + below[at : at + 64]).digest() for at in pairs]))
    return tuple(heights)


def fold(hashes: bytes) -> bytes:
    """The root over hashes laid end to end; their number is a power of two."""
    while len(hashes) > 32:
        hashes = b"".join(
            [sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)]
        )
    return hashes


def tiles_to_write(
    old_size: int, leaves: Sequence[bytes], read_tile: ReadTile
) -> Iterator[tuple[int, int, int, bytes]]:
    """Give every tile (level, index, width, bytes) that new leaf hashes after old_size add or widen.

    Only the old right edge is read, at most one partial tile a level. Published tiles do not change, so
    doing it again after a crash writes the same bytes.
    """
    level, new = 0, b"".join(leaves)
    old_count = old_size
    while new:
        index, width = divmod(old_count, TILE_WIDTH)
        hashes = (b"".join(decode_tile(read_tile(level, index, width), width)) if width else b"") + new
        above = []
        for at in range(0, len(hashes), 32 * TILE_WIDTH):
            tile = hashes[at : at + 32 * TILE_WIDTH]
            yield level, index + at // (32 * TILE_WIDTH), len(tile) // 32, tile
            # A partial tile will still grow: only whole ones have a hash in the level above.
            if len(tile) == 32 * TILE_WIDTH:
                above.append(fold(tile))
        level, old_count, new = level + 1, old_count // TILE_WIDTH, b"".join(above)


class _Hashes:
    """The hashes of one tree of a given size, read from its tiles once each."""

    def __init__(self, size: int, read_tile: ReadTile) -> None:
        self.size = size
        self._read_tile = read_tile
        self._tiles: dict[tuple[int, int], bytes] = {}

    def root(self, start: int, end: int) -> bytes:
        """The root over the leaves from start to end, a range that the splits of some tree lead to."""
        count = end - start
        if count & (count - 1) == 0:
            return self._whole(start, count.bit_length() - 1)
        split = split_of(count)
        left, right = self.root(start, start + split), self.root(start + split, end)
        return sha256(b"\x01" + left + right).digest()

    def _whole(self, start: int, height: int) -> bytes:
        # A level of tiles stands for eight levels of the tree: read the nearest below, fold the rest.
        level, rest = divmod(height, 8)
        index, first = divmod(start >> 8 * level, TILE_WIDTH)
        tile = self._tiles.get((level, index))
        if tile is None:
            width = min(TILE_WIDTH, (self.size >> 8 * level) - TILE_WIDTH * index)
            tile = b"".join(decode_tile(self._read_tile(level, index, width), width))
            self._tiles[level, index] = tile
        # Of whole lowest tiles there are too many to keep; those above and at the edge serve every proof.
        if level == 0 and len(tile) == 32 * TILE_WIDTH:
            return fold(tile[32 * first : 32 * (first + (1 << rest))])
        at = 32 * (first >> rest)
        return nodes(tile)[rest][at : at + 32]


def root_from_tiles(size: int, read_tile: ReadTile, grown: int = 0) -> bytes:
    """The root of a published tree, from its right edge of tiles; grown: the size it has now, if larger."""
    return _Hashes(max(size, grown), read_tile).root(0, size) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """The inclusion path of a leaf in the tree of this size, as proof.inclusion_path gives it."""
    assert 0 <= index < size
    hashes = _Hashes(size, read_tile)
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + split_of(end - start)
        if index < middle:
            path.append(hashes.root(middle, end))
            end = middle
        else:
            path.append(hashes.root(start, middle))
            start = middle
    return path[::-1]


def consistency_proof(old_size: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """The consistency path between two sizes, as proof.consistency_path gives it."""
    assert 0 < old_size <= size
    hashes = _Hashes(size, read_tile)
    path = []
    start, end = 0, size
    while end != old_size:
        middle = start + split_of(end - start)
        if old_size <= middle:
            path.append(hashes.root(middle, end))
            end = middle
        else:
            path.append(hashes.root(start, middle))
            start = middle
    if start > 0:  # Else the old tree is one whole subtree, and its verifier has the root.
        path.append(hashes.root(start, end))
    return path[::-1]
