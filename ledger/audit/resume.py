"""An anchor that goes on from an earlier head, where an older one was poisoned (LEAKS 02).

Whoever steals the keys of an operator and a watcher can append a head of a tree that is not the
ledger's, and that contract takes no other any more. The Council then registers a new contract by
the name `anchor@SIZE`: from 14 days after the act it counts, and what older anchors hold above
that size is void. It stays among the exceptions for ever.
"""

from __future__ import annotations

import re
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
    """A contract that goes on from the head of a size; since: when that is in force."""

    home: Home
    size: int
    since: int
    act: bytes


@dataclass
class Resumed:
    """The resumptions of a ledger, and what they excused."""

    resumptions: list[Resumption]
    now: int
    exceptions: list[str] = field(default_factory=list)

    def is_void(self, home: Home, size: int) -> bool:
        """Whether what this contract holds at this size counts no more."""
        return self._by(home, size) is not None

    def excuse(self, home: Home, size: int, root: bytes) -> bool:
        """Whether a head that is not this log's is void; if so it is noted."""
        by = self._by(home, size)
        if by is None:
            return False
        where = f"0x{home[1].hex()} on chain {home[0]}"
        told = f"{where} holds size {size} with root 0x{root.hex()}, which is void by act 0x{by.act.hex()}"
        if told not in self.exceptions:
            self.exceptions.append(told)
        return True

    def _by(self, home: Home, size: int) -> Resumption | None:
        for one in self.resumptions:
            if one.home != home and size > one.size and one.since <= self.now:
                return one
        return None


def read_resumptions(state: rules.State) -> Resumed:
    """What the ledger's Contract records in effect say of anchors that resume."""
    found = []
    for proposal in state.proposals.values():
        record = proposal.record
        if isinstance(record, Contract) and proposal.effective_s is not None:
            match = NAME.fullmatch(record.name)
            if match:
                since = proposal.effective_s + rules.NOTICE_S
                found.append(Resumption((record.chain_id, record.at), int(match[1]), since, record.act))
    return Resumed(found, state.time)


def check_resumptions(resumed: Resumed, anchors: list[Anchor], findings: Findings) -> None:
    """Each goes on from a head that an older anchor holds, and takes none before it counts (T5)."""
    for one in resumed.resumptions:
        where = f"contract anchor@{one.size}"
        held = any(
            anchor.size == one.size and (anchor.chain_id, anchor.contract) != one.home for anchor in anchors
        )
        if not held:
            findings.add("T5", where, f"goes on from size {one.size}, which no other anchor holds")
        for place, anchor in enumerate(anchors):
            if (anchor.chain_id, anchor.contract) == one.home and anchor.time < one.since:
                why = f"is of {anchor.time}, this anchor counts from {one.since}"
                findings.add("T5", f"anchors.json entry {place}", why)
