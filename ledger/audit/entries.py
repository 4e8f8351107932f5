"""The records of a bundle, read where they lie: a log of ten million does not fit into memory.

Each bundle of 256 is read again whenever it is needed, and its bytes must then still be those
of which the tree was made: what is judged is what was hashed.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, overload

from ledger.audit.source import Source
from ledger.proof import ENTRIES, TILE_WIDTH, decode_bundle, tile_path
from ledger.records import Invalid, Unavailable

# Of records that are in memory, how many are handed out at once.
_CHUNK = 16 * TILE_WIDTH


class Entries(Sequence[bytes]):
    """The records that were read, in order; add() takes the next bundle, once its form is known."""

    def __init__(self, source: Source, size: int) -> None:
        """size: that of the checkpoint, which says how wide the last bundle is."""
        self._source, self._whole, self._size = source, size, 0
        self._digests = bytearray()
        # What came over a network is kept on disk, so that nobody is asked for it twice.
        self._kept: IO[bytes] | None = None
        if source.paths is None:
            self._kept = NamedTemporaryFile()  # noqa: SIM115 - closed when this goes
            weakref.finalize(self, self._kept.close)
        self._places = [0]
        self._bundle = lru_cache(maxsize=8)(self._read)

    def add(self, content: bytes, count: int) -> None:
        """Take a bundle's bytes, in which there are so many records."""
        self._digests += sha256(content).digest()
        self._size += count
        if self._kept is not None:
            self._kept.write(content)
            self._places.append(self._places[-1] + len(content))

    def take(self, digests: bytes, count: int) -> None:
        """Take several bundles of a folder that were read elsewhere, by the SHA-256 of each."""
        assert self._kept is None
        self._digests += digests
        self._size += count

    @property
    def source(self) -> Source:
        """Where they lie."""
        return self._source

    def __getstate__(self) -> tuple[object, ...]:
        """For another process, which reads them from the same place."""
        if self._kept is not None:
            self._kept.flush()
        kept = None if self._kept is None else self._kept.name
        return self._source, self._whole, self._size, self._digests, self._places, kept

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._source, self._whole, self._size, self._digests, self._places, kept = state
        self._kept = None
        if kept is not None:
            self._kept = Path(kept).open("rb")  # noqa: SIM115 - closed when this goes
            weakref.finalize(self, self._kept.close)
        self._bundle = lru_cache(maxsize=8)(self._read)

    def _read(self, index: int) -> list[bytes]:
        width = min(TILE_WIDTH, self._whole - index * TILE_WIDTH)
        path = tile_path(ENTRIES, index, width)
        content = self._content(path, index)
        if content is None or sha256(content).digest() != self._digests[32 * index : 32 * index + 32]:
            raise Unavailable("bundle", f"{path} changed while it was read")
        return decode_bundle(content, width)

    def _content(self, path: str, index: int) -> bytes | None:
        if self._kept is None:
            try:
                return self._source.read(path)
            except Invalid:
                return None
        self._kept.seek(self._places[index])
        return self._kept.read(self._places[index + 1] - self._places[index])

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Part: ...
    def __getitem__(self, place: int | slice) -> bytes | Part:
        if isinstance(place, slice):
            start, stop, step = place.indices(self._size)
            assert step == 1
            return Part(self, start, max(start, stop))
        place = range(self._size)[place]
        return self._bundle(place // TILE_WIDTH)[place % TILE_WIDTH]

    def __iter__(self) -> Iterator[bytes]:
        for _, records in self.chunks(0, self._size):
            yield from records

    def chunks(self, start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
        """The records from start to before end, a bundle at a time, each with the index of its first."""
        while start < end:
            stop = min(end, start - start % TILE_WIDTH + TILE_WIDTH)
            index = start // TILE_WIDTH
            if stop - start == TILE_WIDTH:
                records = self._read(index)
            else:
                # Of one bundle many parts may be asked for, one after the other: one for each anchor in it.
                records = self._bundle(index)
                records = records[start % TILE_WIDTH : start % TILE_WIDTH + stop - start]
            yield start, records
            start = stop


class Part(Sequence[bytes]):
    """A stretch of the records, read where they lie as well."""

    def __init__(self, entries: Entries, start: int, stop: int) -> None:
        self._entries, self._start, self._stop = entries, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Part: ...
    def __getitem__(self, place: int | slice) -> bytes | Part:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            assert step == 1
            return Part(self._entries, self._start + start, self._start + max(start, stop))
        return self._entries[self._start + range(len(self))[place]]

    def __iter__(self) -> Iterator[bytes]:
        for _, records in self.chunks(0, len(self)):
            yield from records

    def chunks(self, start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
        """As those of Entries, counted from the start of this part."""
        for first, records in self._entries.chunks(self._start + start, self._start + end):
            yield first - self._start, records


def chunks(
    entries: Sequence[bytes], start: int = 0, end: int | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """The records from start to before end, some at a time, each with the index of its first."""
    end = len(entries) if end is None else end
    if isinstance(entries, Entries | Part):
        yield from entries.chunks(start, end)
        return
    for first in range(start, end, _CHUNK):
        yield first, list(entries[first : min(end, first + _CHUNK)])
