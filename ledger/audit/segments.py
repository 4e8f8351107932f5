"""An audit spread over the stretches between Close records (D17).

A Close names the hash of the state just before it, and the bundle may have that state as a file. So each
stretch is replayed from the state that the Close before it names, all at once, and ends with a state whose
hash must be the one that the next Close names. The first begins with nothing: if every stretch ends in the
state that the next one began with, nobody's word was taken for anything, and all is as if it had been
replayed in one go. Where a file is not the state at its Close, that is a finding, and what follows is
replayed from the state that was computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from ledger import rules
from ledger.audit import past
from ledger.audit.bundle import Bundle
from ledger.audit.replay import Broken, Mark, Replayed, apply_all
from ledger.audit.spread import Spread
from ledger.audit.trust import check_depth
from ledger.audit.verdict import Findings, Progress
from ledger.records import Invalid, reject

FOLDER = "states/"
_MOST_DEPTH = 200


class Start(NamedTuple):
    """Where a stretch begins: after how many records, and the state there as rules.dump() wrote it."""

    path: str
    size: int
    data: bytes


class Segment(NamedTuple):
    """A stretch to replay: the records up to before `end`, from a state; None is the beginning."""

    entries: Sequence[bytes]
    known: past.Index
    start: Start | None
    end: int
    seconds: Sequence[int]


class Ended(NamedTuple):
    """What a stretch came to."""

    data: bytes
    broken: dict[int, Broken]
    marks: list[Mark]


def starts(bundle: Bundle, known: past.Index, size: int) -> list[Start]:
    """The states of the bundle that a Close names, in order; each has still to be shown to be it."""
    found: dict[int, Start] = {}
    for path, digest in bundle.named.items():
        places = known.closes.get(digest, ()) if path.startswith(FOLDER) else ()
        if not places:
            continue
        try:
            content = bundle.source.read(path)
        except Invalid:
            content = None
        # Of another content, or too large to be read, it is a finding or a start less.
        if content is not None and sha256(content).digest() == digest:
            found |= {place: Start(path, place, content) for place in places if 0 < place < size}
    return [found[place] for place in sorted(found)]


def replay_segment(segment: Segment) -> Ended:
    """Replay one stretch; Invalid (D17) where its start is no state of this size."""
    state = rules.State() if segment.start is None else _loaded(segment.start)
    done = Replayed(segment.entries[: segment.end], state)
    # A second of before this stretch has its mark in an earlier one.
    later = [second for second in segment.seconds if second > state.time]
    apply_all(done, segment.known, later, _quiet, close_marks=False)
    return Ended(rules.dump(state), done.broken, done.marks)


def _quiet(_stage: str, _done: int, _total: int) -> None:
    """The process that gave this work out tells how far it is."""


def _loaded(start: Start) -> rules.State:
    check_depth("D17", start.path, start.data, _MOST_DEPTH)
    try:
        state = rules.load(start.data)
    except Exception as error:
        # Its hash is what a Close says; still, no bytes may stop an auditor.
        reject("D17", start.path, f"is no state: {type(error).__name__}: {error}")
    if state.size != start.size:
        reject(
            "D17", start.path, f"is the state after {state.size} records, the Close is record {start.size}"
        )
    return state


class SideBySide:
    """Takes all records, stretch beside stretch."""

    def __init__(self, bundle: Bundle, findings: Findings, spread: Spread) -> None:
        self._bundle, self._findings, self._spread = bundle, findings, spread

    def __call__(self, done: Replayed, seconds: Sequence[int], progress: Progress) -> None:
        """As replay.take_all does, with the same result."""
        total = len(done.entries)
        known = past.index(done.entries, lambda place: progress("index", place, total), self._spread)
        if not done.state.size:
            found = starts(self._bundle, known, total)
            begins = [start for start in found if _is_state(start, self._findings)]
            _join(done, known, begins, seconds, self._spread, self._findings, progress)
        # Only what is left: all of it if there was no state to start from, or none that was right.
        apply_all(done, known, seconds, progress)


def _join(
    done: Replayed,
    known: past.Index,
    begins: Sequence[Start],
    seconds: Sequence[int],
    spread: Spread,
    findings: Findings,
    progress: Progress,
) -> None:
    """Replay all stretches, and join them as long as each ends where the next one began."""
    if not begins:
        return
    total = len(done.entries)
    points: list[Start | None] = [None, *begins]
    ends = [start.size for start in begins] + [total]
    work = [
        Segment(done.entries, known, start, end, seconds) for start, end in zip(points, ends, strict=True)
    ]
    marks: list[Mark] = []
    data = b""
    for place, ended in enumerate(spread(replay_segment, work)):
        progress("rules", ends[place], total)
        data = ended.data
        done.broken |= ended.broken
        marks += ended.marks
        if place < len(begins) and begins[place].data != data:
            size = begins[place].size
            theirs, mine = sha256(begins[place].data).hexdigest(), sha256(data).hexdigest()
            why = f"has the SHA-256 {theirs}, the state after {size} records has {mine}"
            findings.add("D17", begins[place].path, why)
            break
    done.marks += marks
    done.state = rules.load(data)


def _is_state(start: Start, findings: Findings) -> bool:
    try:
        _loaded(start)
    except Invalid as broken:
        findings.take(broken)
        return False
    return True
