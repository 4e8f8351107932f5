"""The replay: every record through the rules, against the anchors' times and the documents it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from ledger import rules
from ledger.audit.bundle import Bundle, loose_documents
from ledger.audit.trust import Anchor
from ledger.audit.verdict import Findings, Progress, printable
from ledger.records import BY_TYPE_HASH, WORD, ZERO_HASH, Invalid, decode

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
) -> tuple[set[bytes], list[First]]:
    """The documents that records name and the first record of each stretch; times are checked (T3)."""
    named: set[bytes] = set()
    firsts, index = [], 0
    for stretch in intervals(bundle.anchors, len(entries)):
        if index >= stretch.end:
            continue
        progress("times", index, len(entries))
        firsts.append(First(index, int.from_bytes(entries[index][_TIME], "big"), stretch.latest))
        # Words compare as the numbers they are.
        low = max(0, stretch.earliest - LATE_S - SKEW_S).to_bytes(WORD, "big")
        high = _NEVER if stretch.latest is None else (stretch.latest + SKEW_S).to_bytes(WORD, "big")
        for index in range(index, stretch.end):  # noqa: B020 - goes on where the stretch before ended
            data = entries[index]
            if not low <= data[_TIME] <= high:
                _name_time(index, int.from_bytes(data[_TIME], "big"), stretch, findings)
            for place, _ in PLACES.get(data[:WORD], ()):
                named.add(data[place : place + WORD])
        index = stretch.end
    return named, firsts


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
) -> Replayed:
    """Apply the records in order; those from `trusted` on are not what the checkpoint covers.

    start: the state to go on from. seconds: when to note what the books said, in order.
    """
    covered = entries[:trusted]
    done = Replayed(covered, rules.State() if start is None else start)
    named, done.firsts = survey(covered, bundle, findings, progress)
    _apply(done, seconds, progress)
    _tell(done, findings)
    if trusted < len(entries):
        findings.say(
            f"records from {trusted} on were not replayed: their bytes are not those that were signed"
        )
    for digest in sorted(loose_documents(bundle) - named):
        findings.add("D2", f"documents/{digest.hex()}", "neither the manifest nor a record names it")
    named.discard(ZERO_HASH)
    there = len(named & bundle.documents())
    findings.say(f"{there} of {len(named)} documents that records name are published and match")
    if bundle.source.paths is None and there < len(named):
        findings.say("behind an address only documents that the manifest names were looked for")
    return done


def _apply(done: Replayed, seconds: Sequence[int], progress: Progress) -> None:
    state, entries, apply = done.state, done.entries, rules.apply
    bounds = [second.to_bytes(WORD, "big") for second in seconds]
    bound = bounds[0] if bounds else _NEVER
    mark: Mark | None = None
    for index in range(state.size, len(entries)):
        data = entries[index]
        if index % 1_000 == 0:
            progress("rules", index, len(entries))
        if data[_TIME] >= bound and mark is None:
            # It may be invalid, and its time anything: then this mark is kept until one is valid.
            mark = mark_of(state)
        try:
            apply(state, data)
        except Invalid as broken:
            # rules.take, with the record at hand: what is invalid has no effect, and its place is taken.
            state.breaches[index] = broken.rule
            state.size = index + 1
            done.broken[index] = _broken(broken, data)
            continue
        except Exception as error:
            # A hostile record must not stop the audit: what the rules cannot read has no effect.
            why = f"the rules stopped with {type(error).__name__}: {error}"
            state.size = index + 1
            done.broken[index] = Broken("D12", f"record {index}", why)
            continue
        while mark is not None and len(done.marks) < len(seconds) and state.time >= seconds[len(done.marks)]:
            done.marks.append(mark)
            bound = bounds[len(done.marks)] if len(done.marks) < len(bounds) else _NEVER
        mark = None
    done.marks += [mark_of(state)] * (len(seconds) - len(done.marks))


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
