"""What is remembered of transfers for ever, looked up in the records instead of kept in memory.

Before the replay one pass finds which ids and which pieces of evidence stand in the log more than
once, and which transfers other records name by their hash. All others can never matter to a later
record, so nothing of them is kept but 16 bytes until that pass ends, most of them on disk (decision 0014).
"""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from ledger import rules
from ledger.audit.entries import chunks
from ledger.audit.spread import Spread, in_turn, stretches
from ledger.fast import AUTHORITY, EVIDENCE, ID, is_transfer
from ledger.records import WORD, Close, Exchange, Refund, Reversal, Transfer, Unavailable, decode, keccak256

# Values are compared in parts, so that one part at a time is a set in memory.
_PARTS = 64
_BOUNDS = [part * (1 << 64) // _PARTS for part in range(1, _PARTS)]
_RECEIPT = slice(3 * WORD, 4 * WORD)
# Their id is the first word after the time; the evidence of those that have any is the last.
_WITH_ID = {kind.type_hash: kind.words.size for kind in (Exchange, Refund, Reversal)}
assert all(kind.members[1][0] == "id" for kind in (Exchange, Refund, Reversal))
assert all(kind.members[-1][0] == "evidence" for kind in (Exchange, Reversal))
assert Close.members[-1][0] == "state_hash"
assert [name for name, *_ in Refund.members][:3] == ["time", "id", "receipt_hash"]

# How many records one job goes through.
_EACH = 1 << 18
# Of ids, and of evidence, how many may wait in memory, 8 bytes each.
_MOST_IN_MEMORY = 1 << 20

# Told how many records of a pass are done.
Told = Callable[[int], None]


@dataclass
class Index:
    """Where in a log its transfers' repeated ids and evidence stand, and the transfers that are named."""

    ids: dict[bytes, list[int]] = field(default_factory=dict)
    evidence: dict[bytes, list[int]] = field(default_factory=dict)
    named: dict[bytes, list[int]] = field(default_factory=dict)
    # Where a Close names the state with a hash.
    closes: dict[bytes, list[int]] = field(default_factory=dict)

    def suspects(self) -> set[bytes]:
        """Every value that a record may not be the first to have."""
        return {*self.ids, *self.evidence}


class _Tails:
    """The last 8 bytes of many values, in parts by their size; what is too much for memory is on disk."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]
        self._count = 0
        self._kept: IO[bytes] | None = None
        # Of each part, where in the file its pieces are and how many bytes each has.
        self._pieces: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]

    def add(self, values: list[bytes]) -> None:
        """Take some more."""
        tails = array("Q", b"".join([value[-8:] for value in values]))
        ordered, start = sorted(tails), 0
        for part, bound in zip(self._parts, [*_BOUNDS, 1 << 64], strict=True):
            end = bisect_left(ordered, bound, start)
            part.extend(ordered[start:end])
            start = end
        self._count += len(values)

    def join(self, other: _Tails) -> None:
        """Take those of another stretch, which has all of its own in memory."""
        for mine, theirs in zip(self._parts, other._parts, strict=True):
            mine.extend(theirs)
        self._count += other._count
        if self._count > _MOST_IN_MEMORY:
            self._put_away()

    def _put_away(self) -> None:
        try:
            if self._kept is None:
                self._kept = TemporaryFile()  # noqa: SIM115 - closed when this goes
                weakref.finalize(self, self._kept.close)
            at = self._kept.tell()
            for place, part in enumerate(self._parts):
                self._kept.write(part)
                self._pieces[place].append((at, 8 * len(part)))
                at += 8 * len(part)
                self._parts[place] = array("Q")
            self._kept.flush()
        except OSError as error:
            with suppress(OSError):
                # What it has not written it would try to write again when it goes.
                if self._kept is not None:
                    self._kept.close()
            raise Unavailable("audit", f"{8 * self._count} bytes of the index: {error.strerror}") from None
        self._count = 0

    def _take(self, place: int) -> array[int]:
        """A whole part, which is forgotten."""
        part = self._parts[place]
        self._parts[place] = array("Q")
        for at, size in self._pieces[place]:
            assert self._kept is not None
            self._kept.seek(at)
            part.frombytes(self._kept.read(size))
        return part

    def repeated(self) -> set[bytes]:
        """Those that were added more than once, as they are in memory; forgets all."""
        found: set[bytes] = set()
        for place in range(_PARTS):
            part = self._take(place)
            if len(set(part)) == len(part):
                continue
            twice = {one for one, other in pairwise(sorted(part)) if one == other}
            found.update(array("Q", (one,)).tobytes() for one in twice)
        return found


@dataclass
class Scan:
    """What one stretch of the log has: the tails of ids and evidence, and what names what."""

    ids: _Tails = field(default_factory=_Tails)
    evidence: _Tails = field(default_factory=_Tails)
    named: set[bytes] = field(default_factory=set)
    # Ids and evidence of what is no transfer, which may be those of one.
    other_ids: set[bytes] = field(default_factory=set)
    other_evidence: set[bytes] = field(default_factory=set)
    others: set[bytes] = field(default_factory=set)  # hashes of what is no transfer
    closes: dict[bytes, list[int]] = field(default_factory=dict)  # by the hash of the state they name

    def join(self, other: Scan) -> None:
        """Take another stretch, the one after this."""
        self.ids.join(other.ids)
        self.evidence.join(other.evidence)
        self.named |= other.named
        self.other_ids |= other.other_ids
        self.other_evidence |= other.other_evidence
        self.others |= other.others
        for digest, places in other.closes.items():
            self.closes.setdefault(digest, []).extend(places)


class Wanted(NamedTuple):
    """Tails of ids and evidence, and hashes, whose places are looked for."""

    ids: set[bytes]
    evidence: set[bytes]
    named: set[bytes]


_Stretch = tuple[Sequence[bytes], int, int]


def scan(stretch: _Stretch) -> Scan:
    """Go through records from start to before end."""
    entries, start, end = stretch
    found = Scan()
    for first, records in _gathered(chunks(entries, start, end)):
        transfers = [data for data in records if is_transfer(data)]
        found.ids.add([data[ID] for data in transfers])
        found.evidence.add([data[EVIDENCE] for data in transfers])
        # What a transfer names is mostly a rule, an order or a refund; a receipt is a transfer itself.
        found.named.update([data[AUTHORITY] for data in transfers])
        if len(transfers) < len(records):
            _scan_others(found, first, records)
    return found


def _scan_others(found: Scan, first: int, records: list[bytes]) -> None:
    for place, data in enumerate(records, first):
        if is_transfer(data):
            continue
        found.others.add(keccak256(data))
        if len(data) == _WITH_ID.get(data[:WORD]):
            found.other_ids.add(data[2 * WORD : 3 * WORD])
            found.other_evidence.add(data[-WORD:])
        if data[:WORD] == Refund.type_hash:
            found.named.add(data[_RECEIPT])
        elif data[:WORD] == Close.type_hash:
            found.closes.setdefault(data[-WORD:], []).append(place)


def locate(job: tuple[_Stretch, Wanted]) -> Index:
    """Where in a stretch the wanted values stand; the tail only says where to look."""
    (entries, start, end), wanted = job
    found = Index()
    for first, records in chunks(entries, start, end):
        for place, data in enumerate(records, first):
            if not is_transfer(data):
                continue
            if data[ID][-8:] in wanted.ids:
                found.ids.setdefault(data[ID], []).append(place)
            if data[EVIDENCE][-8:] in wanted.evidence:
                found.evidence.setdefault(data[EVIDENCE], []).append(place)
            if wanted.named and (digest := keccak256(data)) in wanted.named:
                found.named.setdefault(digest, []).append(place)
    return found


def index(entries: Sequence[bytes], told: Told = lambda _done: None, spread: Spread = in_turn) -> Index:
    """Go through a log once, and a second time where something is repeated or named."""
    every = [(entries, *stretch) for stretch in stretches(0, len(entries), _EACH)]
    scanned = Scan()
    for done, part in enumerate(spread(scan, every)):
        told(done * _EACH)
        scanned.join(part)
    scanned.ids.add(sorted(scanned.other_ids))
    scanned.evidence.add(sorted(scanned.other_evidence))
    wanted = Wanted(scanned.ids.repeated(), scanned.evidence.repeated(), scanned.named - scanned.others)
    found = Index(closes=scanned.closes)
    if any(wanted):
        for part in spread(locate, [(stretch, wanted) for stretch in every]):
            for name in ("ids", "evidence", "named"):
                mine = getattr(found, name)
                for value, places in getattr(part, name).items():
                    mine.setdefault(value, []).extend(places)
    for values, others in ((found.ids, scanned.other_ids), (found.evidence, scanned.other_evidence)):
        for value in [value for value, places in values.items() if len(places) == 1 and value not in others]:
            del values[value]
    return found


def _gathered(
    some: Iterable[tuple[int, list[bytes]]], most: int = 8_192
) -> Iterator[tuple[int, list[bytes]]]:
    """Larger pieces, since many small ones cost more than they hold."""
    start, gathered = 0, list[bytes]()
    for first, records in some:
        if not gathered:
            start = first
        gathered += records
        if len(gathered) >= most:
            yield start, gathered
            gathered = []
    if gathered:
        yield start, gathered


class Listed:
    """A rules.Past that answers from an index and from the records themselves."""

    def __init__(self, entries: Sequence[bytes], known: Index, state: rules.State) -> None:
        """state: the one that this is the past of; its size and breaches say what was taken."""
        self._entries, self._index, self._state = entries, known, state

    def has_id(self, id: bytes) -> bool:
        """Whether a transfer that was taken has this id."""
        return any(map(self._is_taken, self._index.ids.get(id, ())))

    def has_evidence(self, evidence: bytes) -> bool:
        """Whether a transfer that was taken has this evidence."""
        return any(map(self._is_taken, self._index.evidence.get(evidence, ())))

    def named(self, digest: bytes) -> tuple[int, Transfer] | None:
        """The transfer with this hash that was taken, and its index."""
        # The same bytes may stand there twice, refused where they stand first.
        for place in self._index.named.get(digest, ()):
            if (found := self.at(place)) is not None:
                return place, found
        return None

    def at(self, index: int) -> Transfer | None:
        """The transfer that was taken as the record at this index."""
        if not self._is_taken(index) or not is_transfer(data := self._entries[index]):
            return None
        record = decode(data)
        assert isinstance(record, Transfer)
        return record

    def add(self, index: int, digest: bytes, record: Transfer) -> None:
        """Nothing to keep: from now on the state's size is beyond it."""

    def _is_taken(self, index: int) -> bool:
        return index < self._state.size and index not in self._state.breaches
