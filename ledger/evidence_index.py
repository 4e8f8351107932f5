"""Where evidence was used: exact, and at the same cost however long the ledger is (decision 0024).

Evidence is random by nature, and an index of random keys costs more with every record. So each process keeps
a filter of fixed size, which says of nearly all that is new that it is new. For the rest the place is found:
of the newest records in memory, of all others in runs, which are written once and never again. A run has, of
each record, the last 8 bytes of its evidence and its place, in buckets by the first bits of those 8. All of
this only says where to look: the record there says whether it is the same evidence (FF75).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import combinations
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from struct import Struct, pack, unpack
from typing import Final

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, Engine, func, literal, select
from sqlalchemy.exc import IntegrityError

from ledger import tables
from ledger.batch import insert_rows
from ledger.fast import EVIDENCE, is_transfer
from ledger.records import Transfer, Unavailable
from ledger.store import asking

# How many records a run has: their places in it are two bytes each.
RUN_RECORDS: Final = 1 << 16
BUCKET_BITS: Final = 10
TAIL_BYTES: Final = 8
# A Bloom filter in words of 64 bits: 4 bytes of a tail say which word and the other 4 which 3 bits of it, so
# that one look at memory is enough. What nobody touched takes no memory.
FILTER_BYTES: Final = 1 << 26
_SHIFT: Final = 32 - (FILTER_BYTES // 8).bit_length() + 1
_MASKS: Final = tuple(1 << a | 1 << b | 1 << c for a, b, c in list(combinations(range(64), 3))[::5])
_TAIL: Final = slice(EVIDENCE.stop - TAIL_BYTES, EVIDENCE.stop)
_PLACE: Final = Struct(">H")
# Of a record that is no transfer; evidence that ends so is told apart by looking at the record.
_NONE: Final = bytes(TAIL_BYTES)
_BUCKETS_EACH: Final = 16
_PAGE: Final = 10_000


class EvidenceIndex:
    """The evidence of the first `size` records of one database, and perhaps of some that follow."""

    def __init__(self) -> None:
        self.size = 0
        # Before this one all is in runs; from it to size, all is here.
        self.sealed = 0
        self._newest = bytearray()
        self._filter = memoryview(mmap(-1, FILTER_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS)).cast("Q")

    @property
    def is_full(self) -> bool:
        """Whether there is a run to seal."""
        return len(self._newest) >= TAIL_BYTES * RUN_RECORDS

    def add(self, records: Iterable[bytes]) -> None:
        """Add the records that follow, which are in the database by now."""
        self._add([data[_TAIL] if is_transfer(data) else _NONE for data in records])

    def load(self, connection: Connection, size: int) -> None:
        """Add records from the database up to before `size`, at most a run: ask again until all are there."""
        if not self.size:
            sealed = _sealed(connection)
            for entries in _runs(connection, sealed):
                self._note(entries[: _count(entries) * TAIL_BYTES])
            # Only now: if the database stops answering on the way, all of it is read again.
            self.size = self.sealed = sealed
        end = min(size, self.size + RUN_RECORDS)
        while self.size < end:
            self._add(_stored_tails(connection, self.size, min(end, self.size + _PAGE)))

    def seal(self, engine: Engine) -> None:
        """Write a run of the oldest records that have none.

        What is written for ever is read from the records that stand there, in the same transaction: no
        database that went back, or that another went on with, gets a run of what this process remembers.
        Dies before the commit: the next call does the same. Of two at once the second one's rows are refused,
        and it takes over what is there. Others read the new run or have its records themselves.
        """
        try:
            with asking(), engine.begin() as connection:
                start = _sealed(connection)
                if start > self.sealed:
                    return
                run = [
                    tail
                    for at in range(start, start + RUN_RECORDS, _PAGE)
                    for tail in _stored_tails(connection, at, min(at + _PAGE, start + RUN_RECORDS))
                ]
                insert_rows(connection, tables.evidence, _packed(start, b"".join(run)))
        except (IntegrityError, UniqueViolation):
            pass

    def forget_sealed(self, connection: Connection) -> None:
        """Leave to the database what is in runs there."""
        sealed = min(_sealed(connection), self.size)
        if sealed > self.sealed:
            del self._newest[: TAIL_BYTES * (sealed - self.sealed)]
            self.sealed = sealed

    def suspects(self, evidence: Sequence[bytes]) -> list[bytes]:
        """Those that may have been used; the others have not."""
        words = unpack(f">{2 * len(evidence)}I", b"".join([one[-TAIL_BYTES:] for one in evidence]))
        bits, shift, masks, count = self._filter, _SHIFT, _MASKS, len(_MASKS)
        return [
            one
            for one, high, low in zip(evidence, words[::2], words[1::2], strict=True)
            if not ~bits[high >> shift] & masks[low % count]
        ]

    def positions(self, connection: Connection, evidence: Iterable[bytes]) -> set[int]:
        """Of which records the evidence ends in the same 8 bytes as one of these, or has none."""
        tails = {one[-TAIL_BYTES:] for one in evidence}
        found = {self.sealed + place for tail in tails for place in _places(self._newest, tail)}
        of_bucket: dict[int, list[bytes]] = {}
        for tail in tails:
            of_bucket.setdefault(_bucket(int.from_bytes(tail)), []).append(tail)
        table, buckets = tables.evidence, sorted(of_bucket)
        for at in range(0, len(buckets), _BUCKETS_EACH):
            some = table.c.bucket.in_(buckets[at : at + _BUCKETS_EACH])
            chosen = select(table.c.bucket, table.c.start, table.c.entries).where(some)
            for bucket, start, stored in connection.execute(chosen):
                found.update(_found(start, bytes(stored), of_bucket[bucket]))
        return found

    def _add(self, tails: Collection[bytes]) -> None:
        joined = b"".join(tails)
        self._note(joined)
        self._newest += joined
        self.size += len(tails)

    def _note(self, tails: bytes) -> None:
        words = unpack(f">{len(tails) // 4}I", tails)
        bits, shift, masks, count = self._filter, _SHIFT, _MASKS, len(_MASKS)
        for high, low in zip(words[::2], words[1::2], strict=True):
            bits[high >> shift] |= masks[low % count]


def _bucket(tail: int) -> int:
    return tail >> 8 * TAIL_BYTES - BUCKET_BITS


def _packed(start: int, run: bytes) -> list[tuple[int, int, int, bytes]]:
    """The rows of a run: in each bucket first all tails, then their places in the run."""
    count = len(run) // TAIL_BYTES
    # The first bucket is always there, so that its rows say which runs there are.
    buckets: dict[int, list[int]] = {0: []}
    for place, tail in enumerate(unpack(f">{count}Q", run)):
        buckets.setdefault(_bucket(tail), []).append(place)
    return [
        (
            bucket,
            start,
            start + count,
            b"".join([run[TAIL_BYTES * place : TAIL_BYTES * (place + 1)] for place in places])
            + pack(f">{len(places)}H", *places),
        )
        for bucket, places in sorted(buckets.items())
    ]


def _count(entries: bytes) -> int:
    return len(entries) // (TAIL_BYTES + _PLACE.size)


def _found(start: int, entries: bytes, tails: Iterable[bytes]) -> Iterator[int]:
    end = _count(entries) * TAIL_BYTES
    for tail in tails:
        for at in _places(entries, tail, end):
            yield start + _PLACE.unpack_from(entries, end + at * _PLACE.size)[0]


def _places(packed: bytes | bytearray, tail: bytes, end: int | None = None) -> Iterator[int]:
    """The places of a tail among others, one behind the other."""
    at = packed.find(tail, 0, end)
    while at >= 0:
        if at % TAIL_BYTES == 0:
            yield at // TAIL_BYTES
        at = packed.find(tail, at + 1, end)


# --- what is asked -----------------------------------------------------------------


def _sealed(connection: Connection) -> int:
    """Before which record all is in runs: each one begins where another ended, or before that."""
    table, sealed = tables.evidence, 0
    chosen = select(table.c.start, table.c.stop).where(table.c.bucket == 0).order_by(table.c.start)
    for start, stop in connection.execute(chosen):
        if start > sealed:
            # What stands behind a gap does not close it.
            break
        sealed = max(sealed, stop)
    return sealed


def _runs(connection: Connection, before: int) -> Iterator[bytes]:
    table = tables.evidence
    for bucket in range(0, 1 << BUCKET_BITS, _BUCKETS_EACH):
        some = table.c.bucket.between(bucket, bucket + _BUCKETS_EACH - 1)
        with closing(connection.execute(select(table.c.entries).where(some, table.c.start < before))) as rows:
            for (entries,) in rows:
                yield bytes(entries)


def _stored_tails(connection: Connection, start: int, end: int) -> list[bytes]:
    """The last bytes of the evidence of the records from start to before end."""
    record = tables.record
    tail = func.substr(record.c.data, literal(_TAIL.start + 1), literal(TAIL_BYTES))
    kind, size = (
        func.substr(record.c.data, literal(1), literal(len(Transfer.type_hash))),
        func.length(record.c.data),
    )
    rows = connection.execute(
        select(kind, size, tail)
        .where(record.c.position >= start, record.c.position < end)
        .order_by(record.c.position)
    )
    is_paid = (Transfer.type_hash, Transfer.words.size)
    found = [bytes(tail) if (bytes(kind), size) == is_paid else _NONE for kind, size, tail in rows]
    if len(found) != end - start:
        why = f"{len(found)} records stand from {start} to {end}: it went back, and is to be read again"
        raise Unavailable("ledger database", why)
    return found
