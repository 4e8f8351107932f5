"""What is remembered of transfers for ever, looked up in the records instead of kept in memory.

Before the replay one pass finds which ids and which pieces of evidence stand in the log more than
once, and which transfers other records name by their hash. All others can never matter to a later
record, so nothing of them is kept but 16 bytes until that pass ends (decision 0014).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ledger import rules
from ledger.audit.entries import chunks
from ledger.fast import AUTHORITY, EVIDENCE, ID, is_transfer
from ledger.records import WORD, Refund, Transfer, decode, keccak256

# Values are compared in parts, so that one part at a time is a set in memory.
_PARTS = 64
_BOUNDS = [part * (1 << 64) // _PARTS for part in range(1, _PARTS)]
_RECEIPT = slice(3 * WORD, 4 * WORD)
assert [name for name, *_ in Refund.members][:3] == ["time", "id", "receipt_hash"]

# Told how many records of a pass are done.
Told = Callable[[int], None]


@dataclass
class Index:
    """Where in a log its transfers' repeated ids and evidence stand, and the transfers that are named."""

    ids: dict[bytes, list[int]] = field(default_factory=dict)
    evidence: dict[bytes, list[int]] = field(default_factory=dict)
    named: dict[bytes, list[int]] = field(default_factory=dict)

    def suspects(self) -> set[bytes]:
        """Every value that a record may not be the first to have."""
        return {*self.ids, *self.evidence}


class _Tails:
    """The last 8 bytes of many values, in parts by their size."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]

    def add(self, values: list[bytes]) -> None:
        """Take some more."""
        tails = array("Q", b"".join([value[-8:] for value in values]))
        ordered, start = sorted(tails), 0
        for part, bound in zip(self._parts, [*_BOUNDS, 1 << 64], strict=True):
            end = bisect_left(ordered, bound, start)
            part.extend(ordered[start:end])
            start = end

    def repeated(self) -> set[bytes]:
        """Those that were added more than once, as they were in memory; forgets all."""
        found: set[bytes] = set()
        for at, part in enumerate(self._parts):
            self._parts[at] = array("Q")
            if len(set(part)) == len(part):
                continue
            ordered = sorted(part)
            twice = {one for one, other in pairwise(ordered) if one == other}
            found.update(array("Q", (one,)).tobytes() for one in twice)
        return found


def index(entries: Sequence[bytes], told: Told = lambda _done: None) -> Index:
    """Go through a log once, or a second time where something is repeated or named."""
    ids, evidence = _Tails(), _Tails()
    authorities: set[bytes] = set()
    named: set[bytes] = set()
    others: set[bytes] = set()
    for first, records in _gathered(chunks(entries)):
        told(first)
        transfers = [data for data in records if is_transfer(data)]
        ids.add([data[ID] for data in transfers])
        evidence.add([data[EVIDENCE] for data in transfers])
        authorities.update([data[AUTHORITY] for data in transfers])
        if len(transfers) < len(records):
            rest = [data for data in records if not is_transfer(data)]
            others.update(map(keccak256, rest))
            named.update(data[_RECEIPT] for data in rest if data[:WORD] == Refund.type_hash)
    # What a transfer names is mostly a rule, an order or a refund; a receipt is a transfer itself.
    return _located(entries, ids.repeated(), evidence.repeated(), (named | authorities) - others)


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


def _located(entries: Sequence[bytes], ids: set[bytes], evidence: set[bytes], named: set[bytes]) -> Index:
    found = Index()
    if not (ids or evidence or named):
        return found
    for first, records in chunks(entries):
        for place, data in enumerate(records, first):
            if not is_transfer(data):
                continue
            # The tail only says where to look: whole values are compared.
            if data[ID][-8:] in ids:
                found.ids.setdefault(data[ID], []).append(place)
            if data[EVIDENCE][-8:] in evidence:
                found.evidence.setdefault(data[EVIDENCE], []).append(place)
            if named and (digest := keccak256(data)) in named:
                found.named.setdefault(digest, []).append(place)
    for values in (found.ids, found.evidence):
        for value in [value for value, places in values.items() if len(places) == 1]:
            del values[value]
    return found


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
