"""The replay: every record through the rules, against the anchors' times and the documents it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from ledger import rules
from ledger.audit import past
from ledger.audit.bundle import Bundle, loose_documents
from ledger.audit.entries import chunks
from ledger.audit.trust import Anchor
from ledger.audit.verdict import Findings, Progress, printable
from ledger.fast import Runs, is_transfer
from ledger.records import BY_TYPE_HASH, WORD, ZERO_HASH, Invalid, Transfer, decode

SKEW_S = 900
# So long after it was signed a head may still come into a block, for so long does a watcher's signature
# last; records that were written meanwhile are older than that anchor, and honest.
LATE_S = 3_600
# The members by which a record names a file that may be published.
FILES = frozenset({"act", "document", "legal_ref", "evidence", "source1", "source2"})
PLACES = {
    type_hash: [(WORD * place, name) for place, (name, _, _) in enumerate(kind.members, 1) if name in FILES]
    for type_hash, kind in BY_TYPE_HASH.items()
}
_TIME = slice(WORD, 2 * WORD)
((_EVIDENCE_AT, _),) = PLACES[Transfer.type_hash]
_EVIDENCE = slice(_EVIDENCE_AT, _EVIDENCE_AT + WORD)
_NEVER = b"\xff" * (WORD + 1)


@dataclass(frozen=True)
class Broken:
    """A record that breaks a rule: which, why, and the money it is about (LEAKS 26)."""

    rule: str
    where: str
    why: str
    amount: int | None = None
    asset: str = ""


class Mark(NamedTuple):
    """What the books said at the beginning of a second: totals, and what came to and from accounts."""

    totals: list[rules.Totals]
    accounts: dict[str, tuple[int, int]]  # balance, refunded


class First(NamedTuple):
    """The first record of a stretch between anchors, and the time of the anchor that covers it."""

    place: int
    time: int
    covered: int | None


@dataclass
class Replayed:
    """What the records say, and what of them other checks need."""

    entries: Sequence[bytes] = ()
    state: rules.State = field(default_factory=rules.State)
    broken: dict[int, Broken] = field(default_factory=dict)
    firsts: list[First] = field(default_factory=list)
    # For each second that was asked for, in order.
    marks: list[Mark] = field(default_factory=list)

    def in_effect(self, index: int) -> bool:
        """Whether the rules took this record."""
        return index < self.state.size and index not in self.state.breaches and index not in self.broken


class Interval(NamedTuple):
    """Records before `end` that are covered by the same anchors: their times lie in between (T3)."""

    end: int
    earliest: int
    latest: int | None


def intervals(anchors: Sequence[Anchor], size: int) -> Iterator[Interval]:
    """The stretches between anchors in order, the last one without an anchor that covers it."""
    ordered = sorted((anchor for anchor in anchors if anchor.size <= size), key=lambda anchor: anchor.size)
    # With several chains one size has several times: the first to have it bounds its records.
    latest = list(accumulate((anchor.time for anchor in reversed(ordered)), min))
    earliest = 0
    for anchor, bound in zip(ordered, reversed(latest), strict=True):
        yield Interval(anchor.size, earliest, bound)
        earliest = max(earliest, anchor.time)
    yield Interval(size, earliest, None)


def survey(
    entries: Sequence[bytes], bundle: Bundle, findings: Findings, progress: Progress
) -> tuple[set[bytes], int, list[First]]:
    """The bundle's documents that records name, how often any is named, and the first record of each stretch.

    Times are checked on the way (T3).
    """
    there = bundle.documents()
    named: set[bytes] = set()
    times, firsts, place = 0, [], 0
    for stretch in intervals(bundle.anchors, len(entries)):
        if place >= stretch.end:
            continue
        firsts.append(First(place, int.from_bytes(entries[place][_TIME], "big"), stretch.latest))
        for first, records in chunks(entries, place, stretch.end):
            progress("times", first, len(entries))
            _check_times(first, records, stretch, findings)
            words = _words_named(records)
            times += len(words)
            named |= there.intersection(words)
        place = stretch.end
    return named, times, firsts


def _words_named(records: list[bytes]) -> list[bytes]:
    """By which hashes these records name files."""
    words = [data[_EVIDENCE] for data in records if is_transfer(data)]
    if len(words) < len(records):
        words += [
            data[place : place + WORD]
            for data in records
            if not is_transfer(data)
            for place, _ in PLACES.get(data[:WORD], ())
        ]
    return [word for word in words if word != ZERO_HASH]


def _check_times(first: int, records: list[bytes], stretch: Interval, findings: Findings) -> None:
    # Words compare as the numbers they are.
    low = max(0, stretch.earliest - LATE_S - SKEW_S).to_bytes(WORD, "big")
    high = _NEVER if stretch.latest is None else (stretch.latest + SKEW_S).to_bytes(WORD, "big")
    times = [data[_TIME] for data in records]
    if low <= min(times) and max(times) <= high:
        return
    for place, time in enumerate(times, first):
        if not low <= time <= high:
            _name_time(place, int.from_bytes(time, "big"), stretch, findings)


def _name_time(index: int, time: int, stretch: Interval, findings: Findings) -> None:
    if time < stretch.earliest - LATE_S - SKEW_S:
        why = f"time {time} is more than {LATE_S + SKEW_S} s before the anchor before it, {stretch.earliest}"
    else:
        why = f"time {time} is more than {SKEW_S} s after the anchor that covers it, {stretch.latest}"
    findings.add("T3", f"record {index}", why)


def replay(
    entries: Sequence[bytes],
    trusted: int,
    bundle: Bundle,
    findings: Findings,
    progress: Progress,
    *,
    start: rules.State | None = None,
    seconds: Sequence[int] = (),
    take: Take | None = None,
) -> Replayed:
    """Apply the records in order; those from `trusted` on are not what the checkpoint covers.

    start: the state to go on from, without its past. seconds: when to note what the books said, in
    order. take: how to go through them; without it one after another, in runs (take_all).
    """
    covered = entries[:trusted]
    done = Replayed(covered, rules.State() if start is None else start)
    named, times, done.firsts = survey(covered, bundle, findings, progress)
    (take or take_all)(done, seconds, progress)
    _tell(done, findings)
    if trusted < len(entries):
        findings.say(
            f"records from {trusted} on were not replayed: their bytes are not those that were signed"
        )
    # Where records were not read, one of those may name what no other does.
    if bundle.checkpoint is not None and trusted >= bundle.checkpoint.size:
        for digest in sorted(loose_documents(bundle) - named):
            findings.add("D2", f"documents/{digest.hex()}", "neither the manifest nor a record names it")
    if bundle.source.paths is None and len(named) < times:
        looked = "the sources of rates and what the manifest names"
        findings.say(f"records name documents {times} times; behind an address only {looked} were looked for")
    else:
        findings.say(f"records name documents {times} times; {len(named)} of these are published and match")
    return done


class _Marks:
    """Notes what the books said before the first valid record of each second that was asked for, or later."""

    def __init__(self, done: Replayed, seconds: Sequence[int]) -> None:
        self._done, self._seconds = done, seconds
        self._mark: Mark | None = None

    @property
    def next_s(self) -> int:
        """Before which second no mark is due; 0 while one waits for a valid record."""
        if self._mark is not None:
            return 0
        noted = len(self._done.marks)
        return self._seconds[noted] if noted < len(self._seconds) else _NO_SECOND

    def before(self, data: bytes) -> None:
        """A record comes. It may be invalid, and its time anything: the mark is kept until one is valid."""
        if self._mark is None and data[_TIME] >= min(self.next_s, _NO_SECOND).to_bytes(WORD, "big"):
            self._mark = mark_of(self._done.state)

    def after(self) -> None:
        """It was valid."""
        marks, seconds = self._done.marks, self._seconds
        while (
            self._mark is not None
            and len(marks) < len(seconds)
            and self._done.state.time >= seconds[len(marks)]
        ):
            marks.append(self._mark)
        self._mark = None

    def close(self) -> None:
        """The log is over: of later seconds the books say what they say now."""
        missing = len(self._seconds) - len(self._done.marks)
        self._done.marks += [mark_of(self._done.state)] * missing


_NO_SECOND = rules.TIME_LIMIT_S


# A way to take all records into a state, and the marks of these seconds.
Take = Callable[[Replayed, Sequence[int], Progress], None]


def take_plainly(done: Replayed, seconds: Sequence[int], progress: Progress) -> None:
    """Each record through rules.apply, the whole past in memory: slow, and nothing but the rules to read."""
    rules.recall(done.state, done.entries)
    marks = _Marks(done, seconds)
    for first, records in chunks(done.entries, done.state.size):
        progress("rules", first, len(done.entries))
        for data in records:
            _apply_one(done, data, marks)
    marks.close()


def take_all(done: Replayed, seconds: Sequence[int], progress: Progress) -> None:
    """In runs, the past looked up in the records."""
    total = len(done.entries)
    apply_all(
        done, past.index(done.entries, lambda place: progress("index", place, total)), seconds, progress
    )


def apply_all(
    done: Replayed,
    known: past.Index,
    seconds: Sequence[int],
    progress: Progress,
    *,
    close_marks: bool = True,
) -> None:
    """Runs of plain revenue by their fast twin, the rest by rules.apply; known: the index of this log."""
    state, marks, suspects = done.state, _Marks(done, seconds), known.suspects()
    state.past = past.Listed(done.entries, known, state)
    runs = Runs(state)
    for first, records in chunks(done.entries, state.size):
        progress("rules", first, len(done.entries))
        at = 0
        while at < len(records):
            at += runs.take(records[at:] if at else records, suspects, marks.next_s)
            if at < len(records):
                _apply_one(done, records[at], marks)
                at += 1
    if close_marks:
        marks.close()


def _apply_one(done: Replayed, data: bytes, marks: _Marks) -> None:
    state, place = done.state, done.state.size
    marks.before(data)
    try:
        rules.apply(state, data)
    except Invalid as broken:
        # rules.take, with the record at hand: what is invalid has no effect, and its place is taken.
        state.breaches[place] = broken.rule
        state.size = place + 1
        done.broken[place] = _broken(broken, data)
    except Exception as error:
        # A hostile record must not stop the audit: what the rules cannot read has no effect.
        why = f"the rules stopped with {type(error).__name__}: {error}"
        state.size = place + 1
        done.broken[place] = Broken("D12", f"record {place}", why)
    else:
        marks.after()


def mark_of(state: rules.State) -> Mark:
    """What the books say now."""
    return Mark(rules.totals(state), {n: (a.balance, a.refunded) for n, a in state.accounts.items()})


def _broken(broken: Invalid, data: bytes) -> Broken:
    try:
        record = decode(data)
    except Invalid:
        record = None
    amount = getattr(record, "amount", None) or getattr(record, "amount_from", None)
    asset = getattr(record, "asset", "") if amount else ""
    return Broken(broken.rule, broken.where, broken.why, amount, asset)


def _tell(done: Replayed, findings: Findings) -> None:
    """Every breach that no act acknowledges is a finding; the others stand in the exceptions (K1)."""
    state = done.state
    for index, rule in state.breaches.items():
        # Of what came before the state that the replay started from, only the rule is known.
        before = "was broken before the state from which this audit started"
        done.broken.setdefault(index, Broken(rule, f"record {index}", before))
    for index, broken in sorted(done.broken.items()):
        if index not in state.acknowledged:
            findings.add(broken.rule, broken.where, broken.why, amount=broken.amount, asset=broken.asset)


def acknowledged(done: Replayed) -> list[str]:
    """Breaches that an act made exceptions, the largest amount of each rule first (LEAKS 26)."""
    rows = [(done.broken[index], index, act) for index, act in done.state.acknowledged.items()]
    return [
        printable(
            f"{broken.rule} at {broken.where}: {broken.why}; acknowledged by act 0x{act.hex()}"
            + (f" ({broken.amount} base units of {broken.asset})" if broken.amount else "")
        )
        for broken, _, act in sorted(rows, key=lambda row: (-(row[0].amount or 0), row[1]))
    ]
