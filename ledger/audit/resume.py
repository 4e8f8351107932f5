"""An anchor that goes on from an earlier head, where heads of another history stand (LEAKS 02).

Whoever steals the keys of an operator and a watcher can append a head of a tree that is not the
ledger's, and then that contract takes the ledger's own no more. The Council goes on by a Contract
record `anchor@SIZE`. It names another contract, which counts 14 days later, and then what older
anchors hold above that size is void. Or it names the contract itself, and then what counts is what
that contract has left out: it resumed by the same act, from the head of that size, after a notice
of 14 days. Either way it stays among the exceptions for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ledger import rules
from ledger.audit.trust import Anchor
from ledger.audit.verdict import Findings
from ledger.records import Contract

Home = tuple[int, bytes]
NAME: Final = re.compile(r"anchor@(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Resumption:
    """A contract that goes on from the head of a size.

    effective: when the act came into effect; since: when it counts in the ledger. itself: whether the
    contract was an anchor before, so that it is its own later heads that are left out.
    """

    home: Home
    size: int
    effective: int
    act: bytes
    itself: bool

    @property
    def since(self) -> int:
        """From when on another contract counts, and when a notice may be over."""
        return self.effective + rules.NOTICE_S


@dataclass(frozen=True)
class Gap:
    """What a contract left out when it resumed by an act: heads after this one, up to a second."""

    size: int
    time: int
    until: int
    act: bytes

    def has(self, size: int, time: int) -> bool:
        """Whether the head of this size that was anchored in this second is void there."""
        return (self.time, self.size) < (time, size) and time <= self.until


@dataclass
class Resumed:
    """The resumptions of a ledger, and what they excused."""

    resumptions: list[Resumption]
    now: int
    exceptions: list[str] = field(default_factory=list)

    def allows(self, home: Home, size: int, act: bytes) -> bool:
        """Whether an act in effect lets this contract go on from its own head of this size."""
        return any(
            one.itself and (one.home, one.size, one.act) == (home, size, act) for one in self.resumptions
        )

    def excuse(self, home: Home, size: int, root: bytes, time: int, gaps: Iterable[Gap] = ()) -> bool:
        """Whether a head that is not this log's is void; if so it is noted.

        gaps: what the contract itself has left out, by acts that the ledger has; only a chain says that.
        """
        act = next((gap.act for gap in gaps if gap.has(size, time)), None) or self._by(home, size)
        if act is None:
            return False
        where = _shown(home)
        self.note(f"{where} holds size {size} with root 0x{root.hex()}, which is void by act 0x{act.hex()}")
        return True

    def note(self, sentence: str) -> None:
        """Keep a sentence among the exceptions, once."""
        if sentence not in self.exceptions:
            self.exceptions.append(sentence)

    def spared(self, start: int, end: int) -> int:
        """How many of these seconds were the notice of one resumption, which nothing could be anchored in."""
        notices = [min(end, one.since) - max(start, one.effective) for one in self.resumptions]
        return max([0, *notices])

    def _by(self, home: Home, size: int) -> bytes | None:
        for one in self.resumptions:
            if not one.itself and one.home != home and size > one.size and one.since <= self.now:
                return one.act
        return None


def read_resumptions(state: rules.State) -> Resumed:
    """What the ledger's Contract records in effect say of anchors that resume."""
    contracts = [
        (proposal.effective_s, proposal.record)
        for proposal in state.proposals.values()
        if isinstance(proposal.record, Contract) and proposal.effective_s is not None
    ]
    homes = set() if state.genesis is None else {(state.genesis.chain_id, state.genesis.anchor)}
    found = []
    for effective, record in sorted(contracts, key=lambda pair: pair[0]):
        home = record.chain_id, record.at
        if match := NAME.fullmatch(record.name):
            found.append(Resumption(home, int(match[1]), effective, record.act, home in homes))
        if record.name.startswith("anchor"):
            homes.add(home)
    return Resumed(found, state.time)


def check_resumptions(resumed: Resumed, anchors: list[Anchor], findings: Findings) -> None:
    """Each goes on from a head that is anchored, and another contract takes none before it counts (T5)."""
    for one in resumed.resumptions:
        where = f"contract anchor@{one.size}"
        held = any(
            anchor.size == one.size and ((anchor.chain_id, anchor.contract) == one.home) == one.itself
            for anchor in anchors
        )
        if not held:
            who = "this contract does not hold" if one.itself else "no other anchor holds"
            findings.add("T5", where, f"goes on from size {one.size}, which {who}")
        for place, anchor in enumerate(anchors):
            if one.itself or (anchor.chain_id, anchor.contract) != one.home:
                continue
            if anchor.time < one.since:
                why = f"is of {anchor.time}, this anchor counts from {one.since}"
                findings.add("T5", f"anchors.json entry {place}", why)


def _shown(home: Home) -> str:
    return f"0x{home[1].hex()} on chain {home[0]}"
