"""The heads on a chain against this log, and the resumptions that left some of them out (T7, T11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ledger.audit.bundle import Bundle
from ledger.audit.resume import Gap, Home, Resumed
from ledger.audit.rpc import Log, Refused, Rpc
from ledger.audit.tree import Tree
from ledger.audit.trust import Anchor
from ledger.audit.verdict import Findings
from ledger.records import WORD, keccak256


def _topic(event: str) -> str:
    return "0x" + keccak256(event.encode()).hex()


ANCHORED = _topic("Anchored(uint64,bytes32,uint64)")
ANNOUNCED = _topic("ResumptionAnnounced(bytes32,uint64,uint64,bytes32,uint64)")
RESUMED = _topic("Resumed(bytes32,uint64,uint64)")


class Head(NamedTuple):
    """A head that a contract took, with its event."""

    size: int
    time: int
    root: bytes
    log: Log


class Announced(NamedTuple):
    """A resumption that the Council announced on a chain, which may happen from a second on."""

    size: int
    time: int
    act: bytes
    since: int
    log: Log


class Went(NamedTuple):
    """A resumption that has happened; announced: None where the chain has no such announcement."""

    size: int
    time: int
    announced: Announced | None
    log: Log


@dataclass(frozen=True)
class Said:
    """All that one anchor contract has said, each in the order of the chain."""

    heads: list[Head]
    announced: dict[bytes, Announced]
    went: list[Went]

    def newest(self) -> tuple[int, int, bytes]:
        """What head() must answer: the last head, or the one that the log went on from since."""
        found: tuple[int, int, bytes] = (0, 0, bytes(WORD))
        roots: dict[tuple[int, int], bytes] = {}
        events: list[Head | Went] = [*self.heads, *self.went]
        for event in sorted(events, key=lambda event: (event.log.block, event.log.index)):
            place = event.size, event.time
            if isinstance(event, Head):
                roots[place] = event.root
            found = (*place, roots.get(place, bytes(WORD)))
        return found


def check_heads(
    node: Rpc, bundle: Bundle, tree: Tree, resumed: Resumed, latest: int, findings: Findings
) -> None:
    """Every head on this chain is in anchors.json and is this log's, or void by an act (LEAKS 02, 22)."""
    contracts = {anchor.contract for anchor in bundle.anchors if anchor.chain_id == node.chain_id}
    trust = bundle.trust
    if trust is not None and trust.chain_id == node.chain_id and "anchor" in trust.contracts:
        contracts.add(trust.contracts["anchor"])
    for contract in sorted(contracts):
        home = node.chain_id, contract
        stated = [a for a in bundle.anchors if (a.chain_id, a.contract) == home]
        said = _read(node, contract, latest)
        _check_stated(stated, said.heads, findings)
        _check_view(node, contract, latest, said.newest(), findings)
        gaps = _check_resumptions(node, home, said, resumed, findings)
        roots = tree.roots(head.size for head in said.heads)
        heads = [
            head
            for head in said.heads
            if roots.get(head.size) == head.root
            or not resumed.excuse(home, head.size, head.root, head.time, gaps)
        ]
        forked = _check_log(contract, stated, heads, gaps, roots, findings)
        largest = max((head.size for head in heads), default=0)
        if largest > tree.size:
            which = "forked: heads above differ" if forked else "older than the chain"
            why = f"the chain has size {largest}, this bundle {tree.size}: it is {which}"
            findings.add("T7", f"anchor 0x{contract.hex()}", why, severity="critical")


def _read(node: Rpc, contract: bytes, latest: int) -> Said:
    def logs(topic: str, words: int) -> list[tuple[Log, list[bytes]]]:
        found = [
            (log, [log.topics[1], *(log.data[at : at + WORD] for at in range(0, len(log.data), WORD))])
            for log in node.logs(contract, [topic], 0, latest)
            if len(log.topics) == 2 and len(log.data) == words * WORD
        ]
        return sorted(found, key=lambda pair: (pair[0].block, pair[0].index))

    heads = [Head(_number(size), _number(time), root, log) for log, (size, root, time) in logs(ANCHORED, 2)]
    announced = {
        name: Announced(_number(size), _number(time), act, _number(since), log)
        for log, (name, size, time, act, since) in logs(ANNOUNCED, 4)
    }
    went = [
        Went(_number(size), _number(time), announced.get(name), log)
        for log, (name, size, time) in logs(RESUMED, 2)
    ]
    return Said(heads, announced, went)


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")


def _check_stated(stated: Sequence[Anchor], heads: Sequence[Head], findings: Findings) -> None:
    for anchor in stated:
        # After a resumption one size may have been anchored twice.
        same = [head for head in heads if head.size == anchor.size]
        head = next((head for head in same if head.log.transaction == anchor.transaction), None)
        head = head or (same[-1] if same else None)
        where = f"anchors.json size {anchor.size}"
        if head is None:
            findings.add("T7", where, "the chain has no such head")
            continue
        rows: tuple[tuple[str, bytes | int, bytes | int], ...] = (
            ("root", anchor.root, head.root),
            ("time", anchor.time, head.time),
            ("block", anchor.block, head.log.block),
            ("blockHash", anchor.block_hash, head.log.block_hash),
            ("transaction", anchor.transaction, head.log.transaction),
        )
        for name, said, found in rows:
            if said != found:
                findings.add("T7", where, f"{name} is {_shown(said)}, on the chain it is {_shown(found)}")


def _shown(value: bytes | int) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _check_view(
    node: Rpc, contract: bytes, latest: int, newest: tuple[int, int, bytes], findings: Findings
) -> None:
    where = f"anchor 0x{contract.hex()}"
    try:
        size, time, root = node.call(contract, "head()", block=latest, least=3)[:3]
    except Refused as refused:
        findings.add("T7", where, f"head() does not answer: {refused}")
        return
    if (_number(size), _number(time), root) != newest:
        found = f"size {_number(size)}, root 0x{root.hex()}"
        findings.add("T7", where, f"head() is {found}, its newest event says otherwise")


def _check_resumptions(node: Rpc, home: Home, said: Said, resumed: Resumed, findings: Findings) -> list[Gap]:
    """What this contract left out by acts that the ledger has; any other resumption is a finding (T11)."""
    where = f"anchor 0x{home[1].hex()}"
    for one in said.announced.values():
        if not resumed.allows(home, one.size, one.act):
            what = f"announced to go on from size {one.size}, by act 0x{one.act.hex()}"
            why = f"{what}: no Contract record anchor@{one.size} in effect names this contract and that act"
            findings.add("T11", where, f"in block {one.log.block} it {why}")
        elif one not in {done.announced for done in said.went}:
            may = f"may go on from size {one.size}, not before {one.since}"
            findings.say(f"{where} {may}, by act 0x{one.act.hex()}")
    gaps = []
    for done in said.went:
        act = None if done.announced is None else done.announced.act
        if act is None:
            why = f"in block {done.log.block} it went on from size {done.size}, which was not announced"
            findings.add("T11", where, why)
            continue
        found = node.block(hex(done.log.block))
        if found is None:
            raise node.wrong(f"has no block {done.log.block}, of which it gave an event")
        gap = Gap(done.size, done.time, found[1], act)
        if not resumed.allows(home, done.size, act):
            continue
        gaps.append(gap)
        count = sum(gap.has(head.size, head.time) for head in said.heads)
        resumed.note(
            f"0x{home[1].hex()} on chain {home[0]} went on from size {done.size} at {gap.until}"
            f" by act 0x{act.hex()}: {count} heads after it are void"
        )
    return gaps


def _check_log(
    contract: bytes,
    stated: Sequence[Anchor],
    heads: Sequence[Head],
    gaps: Iterable[Gap],
    roots: dict[int, bytes],
    findings: Findings,
) -> bool:
    """Whether a head on the chain is not a prefix of this log."""
    forked = False
    known = {anchor.size for anchor in stated}
    newest = max(known, default=0)
    for head in sorted(heads, key=lambda head: head.size):
        size, root = head.size, roots.get(head.size)
        where = f"anchor 0x{contract.hex()} size {size}"
        if root is None:
            continue  # Larger than this bundle, which is said of the largest.
        if root != head.root:
            forked = True
            findings.add("T7", where, f"the chain's root is 0x{head.root.hex()}, the log's 0x{root.hex()}")
        elif size in known or any(gap.has(size, head.time) for gap in gaps):
            continue
        elif size < newest:
            findings.add("T7", where, "anchors.json leaves it out")
        else:
            findings.say(f"size {size} is anchored in block {head.log.block}, after anchors.json was written")
    return forked
