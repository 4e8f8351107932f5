"""A tree of any size whose tiles can be had without keeping it: each 65,536 leaves are alike.

By the definition of RFC 6962 section 2.1 alone, every range of one block computed once; no code of ours
but the two hashes. So it can say what roots, paths and tiles are at 10^7 and at 10^9 leaves.
"""

from __future__ import annotations

from functools import cache

from ledger.proof import leaf_hash, node_hash

BLOCK = 1 << 16


def entry(index: int) -> bytes:
    """The record at an index: the same within its block."""
    return b"record of block %d" % (index // BLOCK)


def _split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


@cache
def _alike(block: int, count: int) -> bytes:
    if count == 1:
        return leaf_hash(entry(block * BLOCK))
    left = _split(count)
    return node_hash(_alike(block, left), _alike(block, count - left))


@cache
def _across(start: int, end: int) -> bytes:
    middle = start + _split(end - start)
    return node_hash(root(start, middle), root(middle, end))


def root(start: int, end: int) -> bytes:
    """MTH(D[start:end])."""
    block = start // BLOCK
    if block == (end - 1) // BLOCK:
        return _alike(block, end - start)
    return _across(start, end)


def inclusion(index: int, start: int, end: int) -> list[bytes]:
    """PATH(index, D[start:end]), the leaf's side first."""
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*inclusion(index, start, middle), root(middle, end)]
    return [*inclusion(index, middle, end), root(start, middle)]


def consistency(old: int, start: int, end: int, *, is_whole: bool = True) -> list[bytes]:
    """SUBPROOF(old, D[start:end], is_whole)."""
    if old == end:
        return [] if is_whole else [root(start, end)]
    middle = start + _split(end - start)
    if old <= middle:
        return [*consistency(old, start, middle, is_whole=is_whole), root(middle, end)]
    return [*consistency(old, middle, end, is_whole=False), root(start, middle)]


@cache
def tile(level: int, index: int, width: int) -> bytes:
    """A hash tile of C2SP tlog-tiles."""
    each = 256**level
    first = 256 * index
    return b"".join(root(each * at, each * (at + 1)) for at in range(first, first + width))
