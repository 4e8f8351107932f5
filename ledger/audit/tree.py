"""The tree that the records make, compared with every tile of the bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from ledger.audit.bundle import Bundle
from ledger.audit.entries import Entries
from ledger.audit.source import Source
from ledger.audit.spread import Spread, stretches
from ledger.audit.verdict import Findings, Progress
from ledger.proof import (
    EMPTY_ROOT,
    ENTRIES,
    TILE_WIDTH,
    decode_bundle,
    leaf_hash,
    node_hash,
    parse_tile_path,
    split_of,
    tile_path,
    tiles_for_size,
)
from ledger.records import Invalid

# How many bundles one job hashes.
_EACH = 1_024


@dataclass
class Range:
    """The roots of the whole subtrees at a tree's right edge, each with its height, largest first."""

    edge: list[tuple[int, bytes]] = field(default_factory=list)

    def push(self, value: bytes, height: int = 0) -> list[tuple[int, bytes]]:
        """Add a whole subtree; returns each whole subtree that this completes, lowest first."""
        made = [(height, value)]
        while self.edge and self.edge[-1][0] == height:
            value = node_hash(self.edge.pop()[1], value)
            height += 1
            made.append((height, value))
        self.edge.append((height, value))
        return made

    def root(self) -> bytes:
        """The root over all that was added."""
        if not self.edge:
            return EMPTY_ROOT
        root = self.edge[-1][1]
        for _, value in self.edge[-2::-1]:
            root = sha256(b"\x01" + value + root).digest()
        return root


class Tree:
    """Every hash that tiles hold, level by level, as the records make them.

    Of the lowest level only what is asked for is in memory, made again from the records: it has 32 bytes
    for each of them, all others together an eighth of a byte.
    """

    def __init__(self, entries: Entries) -> None:
        """entries: the records that are added here one bundle after the other."""
        self.size = 0
        self.range = Range()
        # Which of the lowest tiles of the bundle are missing or not what the records make.
        self.unlike: list[int] = []
        self._entries = entries
        self._above: list[bytearray] = []
        self._leaves = lru_cache(maxsize=8)(self._hashed)

    @property
    def levels(self) -> int:
        """How many levels of tiles there are."""
        return 1 + len(self._above)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add the leaf hashes of the next bundle; of a whole one only its root goes into the right edge."""
        if len(leaves) == TILE_WIDTH:
            self.extend_whole([_top(leaves)])
            return
        for leaf in leaves:
            self.range.push(leaf)
        self.size += len(leaves)

    def extend_whole(self, tops: Sequence[bytes]) -> None:
        """Add whole bundles by the root over each."""
        assert self.size % TILE_WIDTH == 0
        for top in tops:
            # Every eighth height is a hash of the next level's tiles.
            for height, value in self.range.push(top, 8):
                level, rest = divmod(height, 8)
                if rest == 0:
                    if level == self.levels:
                        self._above.append(bytearray())
                    self._above[level - 1] += value
        self.size += TILE_WIDTH * len(tops)

    def _hashed(self, index: int) -> bytes:
        start = index * TILE_WIDTH
        records = self._entries[start : min(start + TILE_WIDTH, self.size)]
        return b"".join([sha256(b"\x00" + data).digest() for data in records])

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """The bytes of a tile; None where the tree has not so many hashes."""
        if TILE_WIDTH * index + width > self.size >> 8 * level:
            return None
        if level == 0:
            return self._leaves(index)[: 32 * width]
        start = 32 * TILE_WIDTH * index
        return bytes(self._above[level - 1][start : start + 32 * width])

    def _hash(self, level: int, place: int) -> bytes:
        if level == 0:
            index, place = divmod(place, TILE_WIDTH)
            return self._leaves(index)[32 * place : 32 * place + 32]
        return bytes(self._above[level - 1][32 * place : 32 * place + 32])

    def path(self, index: int) -> list[bytes]:
        """The inclusion path of a leaf in the whole tree, the leaf's side first."""
        found, start, end = [], 0, self.size
        while end - start > 1:
            middle = start + split_of(end - start)
            if index < middle:
                found.append(self._between(middle, end))
                end = middle
            else:
                found.append(self._between(start, middle))
                start = middle
        return found[::-1]

    def _between(self, start: int, end: int) -> bytes:
        """The root over the leaves from start to end; start is a multiple of the largest subtree in it."""
        walked = Range()
        while start < end:
            # The largest whole subtree of some level of tiles that begins here.
            level = max(n for n in range(self.levels) if not start % 256**n and start + 256**n <= end)
            walked.push(self._hash(level, start >> 8 * level), 8 * level)
            start += 256**level
        return walked.root()

    def roots(self, sizes: Iterable[int]) -> dict[int, bytes]:
        """The root at each of these sizes, in one pass: whole tiles where no size lies inside."""
        found, walked, at = {}, Range(), 0
        for size in sorted({size for size in sizes if 0 <= size <= self.size}):
            while at < size:
                if at % TILE_WIDTH == 0 and size - at >= TILE_WIDTH:
                    walked.push(self._hash(1, at // TILE_WIDTH), 8)
                    at += TILE_WIDTH
                else:
                    walked.push(self._hash(0, at))
                    at += 1
            found[size] = walked.root()
        return found


def _lenient(content: bytes) -> list[bytes]:
    """The entries of a bundle that does not decode, as far as it goes."""
    entries, at = [], 0
    while at + 2 <= len(content):
        end = at + 2 + int.from_bytes(content[at : at + 2], "big")
        entries.append(content[at + 2 : end])
        at = end
    return entries


class _Hashed(NamedTuple):
    """Whole bundles, one after another: the SHA-256 of each, the root over its records, and whether the
    tile of their hashes is what they make.
    """

    digests: bytes
    tops: list[bytes]
    alike: list[bool]


def hash_bundles(job: tuple[Source, int, int]) -> _Hashed:
    """Hash whole bundles from first to before last; stops before one that is missing or broken."""
    source, first, last = job
    digests, tops, alike = bytearray(), [], []
    for index in range(first, last):
        try:
            content = source.read(tile_path(ENTRIES, index, TILE_WIDTH))
            if content is None:
                break
            entries = decode_bundle(content, TILE_WIDTH)
        except Invalid:
            break
        hashes = [sha256(b"\x00" + entry).digest() for entry in entries]
        digests += sha256(content).digest()
        tops.append(_top(hashes))
        alike.append(_read(source, tile_path(0, index, TILE_WIDTH)) == b"".join(hashes))
    return _Hashed(bytes(digests), tops, alike)


def _top(hashes: Sequence[bytes]) -> bytes:
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


def _read_whole(
    bundle: Bundle, size: int, records: Entries, tree: Tree, progress: Progress, spread: Spread
) -> None:
    """Take whole bundles that other processes hash, up to the first that one of them did not like."""
    # A checkpoint may state any size: no more is given out than there are files.
    there = sum(path.startswith(f"tile/{ENTRIES}/") for path in bundle.source.paths or ())
    jobs = [(bundle.source, *part) for part in stretches(0, min(size // TILE_WIDTH, there), _EACH)]
    for hashed, (_, first, last) in zip(spread(hash_bundles, jobs), jobs, strict=True):
        progress("records", first * TILE_WIDTH, size)
        records.take(hashed.digests, len(hashed.tops) * TILE_WIDTH)
        tree.extend_whole(hashed.tops)
        tree.unlike += [index for index, same in enumerate(hashed.alike, first) if not same]
        if len(hashed.tops) < last - first:
            break


def read_records(
    bundle: Bundle, size: int, findings: Findings, progress: Progress, spread: Spread | None = None
) -> tuple[Entries, Tree]:
    """The records up to the checkpoint's size, and their tree; stops where entries are missing or broken."""
    records = Entries(bundle.source, size)
    tree = Tree(records)
    # What a network serves is asked for once, by one.
    if spread is not None and bundle.source.paths is not None:
        _read_whole(bundle, size, records, tree, progress, spread)
    for index in range(len(records) // TILE_WIDTH, -(-size // TILE_WIDTH)):
        progress("records", index * TILE_WIDTH, size)
        width = min(TILE_WIDTH, size - index * TILE_WIDTH)
        path = tile_path(ENTRIES, index, width)
        entries: list[bytes] = []
        whole = False
        content: bytes | None = None
        try:
            content = bundle.source.read(path)
            if content is None:
                findings.add("D9", path, f"is missing; records from {len(records)} on were not read")
                break
            entries = _lenient(content)
            entries = decode_bundle(content, width)
            whole = True
        except Invalid as broken:
            findings.take(broken, path)
        if not whole or content is None:
            _name_first(bundle, index, width, entries, findings)
            break
        records.add(content, width)
        leaves = [sha256(b"\x00" + entry).digest() for entry in entries]
        tree.extend(leaves)
        if _read(bundle.source, tile_path(0, index, width)) != b"".join(leaves):
            tree.unlike.append(index)
    return records, tree


def _name_first(bundle: Bundle, index: int, width: int, entries: list[bytes], findings: Findings) -> None:
    """Name the first record of a broken bundle that its tile does not have (D8)."""
    tile = _read(bundle.source, tile_path(0, index, width)) or b""
    for place in range(width):
        stated = tile[32 * place : 32 * place + 32]
        if place >= len(entries) or leaf_hash(entries[place]) != stated:
            number = index * TILE_WIDTH + place
            findings.add("D8", f"record {number}", "its length or bytes are not those of its tile's hash")
            return


def _read(source: Source, path: str) -> bytes | None:
    try:
        return source.read(path)
    except Invalid:
        return None


def check_tiles(bundle: Bundle, tree: Tree, findings: Findings, progress: Progress) -> int:
    """Compare root and every tile; return how many records the checkpoint's tree surely has (D8 to D10)."""
    assert bundle.checkpoint is not None
    checkpoint = bundle.checkpoint
    complete = tree.size == checkpoint.size
    holds = complete and tree.range.root() == checkpoint.root
    if complete and not holds:
        made = tree.range.root().hex()
        findings.add(
            "D10", "checkpoint", f"the records make the root {made}, signed is {checkpoint.root.hex()}"
        )
    tiles = list(tiles_for_size(tree.size))
    expected = {tile_path(*tile) for tile in tiles}
    trusted = tree.size
    unlike = set(tree.unlike)
    for done, (level, index, width) in enumerate(tiles):
        progress("tiles", done, len(tiles))
        if level == 0 and index not in unlike:
            continue
        path = tile_path(level, index, width)
        found, made_tile = _read(bundle.source, path), tree.tile(level, index, width)
        assert made_tile is not None
        if found == made_tile:
            continue
        if found is None:
            if complete:
                findings.add("D9", path, "is missing")
        elif len(found) != len(made_tile):
            findings.add("D9", path, f"has {len(found)} bytes, not {len(made_tile)}")
        else:
            for place in range(width):
                if found[32 * place : 32 * place + 32] == made_tile[32 * place : 32 * place + 32]:
                    continue
                number = index * TILE_WIDTH + place
                stated, real = found[32 * place :][:32].hex(), made_tile[32 * place :][:32].hex()
                if level == 0 and not holds:
                    findings.add("D8", f"record {number}", f"its hash is {real}, its tile has {stated}")
                    trusted = min(trusted, number)
                else:
                    findings.add("D9", path, f"hash {place} is {stated}, the records make {real}")
    _check_others(bundle, tree, expected, complete, findings)
    return trusted


def _check_others(bundle: Bundle, tree: Tree, expected: set[str], complete: bool, findings: Findings) -> None:
    """Tiles of earlier sizes may stay where they are the start of what the log has (D2, D9)."""
    entries_expected = {path.replace("tile/0/", f"tile/{ENTRIES}/", 1) for path in expected}
    for path in sorted(bundle.source.paths or ()):
        if not path.startswith("tile/") or path in expected or path in entries_expected:
            continue
        try:
            level, index, width = parse_tile_path(path)
        except Invalid as broken:
            findings.add("D2", path, broken.why)
            continue
        whole = tree.tile(0 if level == ENTRIES else level, index, width)
        if whole is None:
            if complete:
                findings.add("D2", path, f"no tree of {tree.size} records has it")
            continue
        content = _read(bundle.source, path)
        if level == ENTRIES and content is not None:
            try:
                content = b"".join(leaf_hash(entry) for entry in decode_bundle(content, width))
            except Invalid as broken:
                findings.take(broken, path)
                continue
        if content != whole:
            findings.add("D9", path, "is not the start of what the log has")
