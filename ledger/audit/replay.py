"""The replay: every record through the rules, against the anchors' times and the documents it names."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger import proof, records, rules
from ledger.audit.bundle import Bundle, loose_documents
from ledger.audit.tree import Tree
from ledger.audit.trust import Anchor
from ledger.audit.verdict import Findings, Progress
from ledger.records import BY_TYPE_HASH, WORD, ZERO_HASH, Invalid, Record, Transfer, decode, rules_hash

SKEW_S = 900
# The members by which a record names a file that may be published.
_FILES = frozenset({"act", "document", "legal_ref", "evidence", "source1", "source2"})
_PLACES = {
    type_hash: [WORD * place for place, (name, _, _) in enumerate(kind.members, 1) if name in _FILES]
    for type_hash, kind in BY_TYPE_HASH.items()
}
_TIME = slice(WORD, 2 * WORD)


@dataclass
class Replayed:
    """What the records say, and what of them other checks need."""

    state: rules.State = field(default_factory=rules.State)
    # Transfers that took effect, with their index, of accounts on a chain and of accounts in a bank.
    chain: list[tuple[int, Transfer]] = field(default_factory=list)
    bank: list[tuple[int, Transfer]] = field(default_factory=list)
    # Index and time of the first record of each interval between anchors.
    firsts: list[tuple[int, int]] = field(default_factory=list)
    last_time: int = 0


def own_rules_hash() -> bytes:
    """The hash that a Rules record must name for this auditor to be the right one (LEAKS 19)."""
    files = [module.__file__ for module in (records, rules, proof)]
    return rules_hash([Path(name).read_bytes() for name in files if name])


@dataclass(frozen=True)
class _Interval:
    """Records before `end` that are covered by the same anchors: their times lie in between (L3)."""

    end: int
    earliest: int
    latest: int | None


def intervals(anchors: Sequence[Anchor], size: int) -> Iterator[_Interval]:
    """The stretches between anchors in order, the last one without an anchor that covers it."""
    ordered = sorted((anchor for anchor in anchors if anchor.size <= size), key=lambda anchor: anchor.size)
    # With several chains one size has several times: the first to have it bounds its records.
    latest: list[int] = []
    for anchor in reversed(ordered):
        latest.append(min([anchor.time, *latest[-1:]]))
    earliest = 0
    for anchor, bound in zip(ordered, reversed(latest), strict=True):
        yield _Interval(anchor.size, earliest, bound)
        earliest = max(earliest, anchor.time)
    yield _Interval(size, earliest, None)


def replay(
    entries: Sequence[bytes], trusted: int, bundle: Bundle, findings: Findings, progress: Progress
) -> Replayed:
    """Apply the records in order; those from `trusted` on are not what the checkpoint covers."""
    done = Replayed()
    published, loose = bundle.documents(), loose_documents(bundle)
    named: set[bytes] = set()
    stretches = intervals(bundle.anchors, len(entries))
    now = _Interval(0, 0, None)
    for index, data in enumerate(entries[:trusted]):
        if index % 1_000 == 0:
            progress("rules", index, trusted)
        started = index >= now.end
        while index >= now.end:
            now = next(stretches)
        for place in _PLACES.get(data[:WORD], ()):
            named.add(data[place : place + WORD])
        record: Record | None = None
        try:
            # rules.replay, step by step: what is invalid has no effect, and its place is taken.
            record = rules.apply(done.state, data)
        except Invalid as broken:
            done.state.size = index + 1
            _take(broken, data, findings)
        except Exception as error:
            # A hostile record must not stop the audit: what the rules cannot read has no effect.
            findings.add("D12", f"record {index}", f"the rules stopped with {type(error).__name__}: {error}")
            done.state.size = index + 1
            continue
        time = int.from_bytes(data[_TIME], "big")
        _check_time(index, time, now, findings)
        if started:
            done.firsts.append((index, time))
        if record is not None:
            done.last_time = time
        if isinstance(record, Transfer):
            _keep(done, index, record)
    if trusted < len(entries):
        findings.say(
            f"records from {trusted} on were not replayed: their bytes are not those that were signed"
        )
    for digest in sorted(loose - named):
        findings.add("D2", f"documents/{digest.hex()}", "neither the manifest nor a record names it")
    named.discard(ZERO_HASH)
    there = len(named & published)
    findings.say(f"{there} of {len(named)} documents that records name are published and match")
    return done


def _check_time(index: int, time: int, now: _Interval, findings: Findings) -> None:
    if time < now.earliest - SKEW_S:
        why = f"time {time} is more than {SKEW_S} s before the anchor before it, {now.earliest}"
        findings.add("L3", f"record {index}", why)
    if now.latest is not None and time > now.latest + SKEW_S:
        why = f"time {time} is more than {SKEW_S} s after the anchor that covers it, {now.latest}"
        findings.add("L3", f"record {index}", why)


def _take(broken: Invalid, data: bytes, findings: Findings) -> None:
    """A record that breaks a rule, with the money it is about (LEAKS 26)."""
    try:
        record = decode(data)
    except Invalid:
        record = None
    amount = getattr(record, "amount", None)
    asset = getattr(record, "asset", "")
    findings.add(broken.rule, broken.where, broken.why, amount=amount, asset=asset if amount else "")


def _keep(done: Replayed, index: int, transfer: Transfer) -> None:
    kinds = {done.state.accounts[name].record.kind for name in (transfer.debit, transfer.credit)}
    if "chain" in kinds:
        done.chain.append((index, transfer))
    if "bank" in kinds:
        done.bank.append((index, transfer))


# --- what the replay is compared with ------------------------------------------


def check_rule_files(state: rules.State, findings: Findings) -> None:
    """The rule files in force at the last record are this auditor's (D11)."""
    mine = own_rules_hash()
    in_force = [digest for valid_from, digest in state.rule_files if valid_from <= state.time]
    if not in_force:
        findings.say(f"no Rules record is in force; this auditor's rules are 0x{mine.hex()}")
    elif in_force[-1] != mine:
        findings.add("D11", "rules", f"0x{in_force[-1].hex()} is in force, this auditor has 0x{mine.hex()}")


def check_genesis(bundle: Bundle, state: rules.State, findings: Findings) -> None:
    """Genesis and contracts are those that trust.json names (D13, LEAKS 18)."""
    trust, genesis = bundle.trust, state.genesis
    if trust is None or genesis is None:
        findings.add("D13", "record 0", "there is no Genesis to compare with trust.json")
        return
    pairs = [
        ("ledger", trust.ledger, genesis.ledger),
        ("chainId", trust.chain_id.to_bytes(WORD, "big"), genesis.chain_id.to_bytes(WORD, "big")),
        ("council", trust.contracts.get("council", b""), genesis.council),
        ("anchor", trust.contracts.get("anchor", b""), genesis.anchor),
    ]
    for name, address in trust.contracts.items():
        contract = state.contracts.get(name)
        if contract is not None:
            pairs.append((f"contracts.{name}", address, contract.at))
        elif name not in {"council", "anchor"}:
            findings.say(f"no Contract record in effect names the {name} of trust.json")
    for name, trusted, recorded in pairs:
        if trusted != recorded:
            findings.add("D13", name, f"trust.json says 0x{trusted.hex()}, the ledger 0x{recorded.hex()}")


def check_anchors(bundle: Bundle, tree: Tree, done: Replayed, findings: Findings) -> None:
    """Anchors are in order, of the ledger's contract, and have the log's roots (L1, L2, L5; LEAKS 22)."""
    anchors, state = bundle.anchors, done.state
    roots = tree.roots(anchor.size for anchor in anchors)
    known = {(c.chain_id, c.at) for name, c in state.contracts.items() if name.startswith("anchor")}
    if state.genesis is not None:
        known.add((state.genesis.chain_id, state.genesis.anchor))
    stated: dict[int, bytes] = {}
    newest: dict[tuple[int, bytes], Anchor] = {}
    last_size = 0
    for place, anchor in enumerate(anchors):
        where = f"anchors.json entry {place}"
        home = (anchor.chain_id, anchor.contract)
        before = newest.get(home)
        if anchor.size < last_size:
            findings.add("L1", where, f"size {anchor.size} stands after size {last_size}")
        if before and not (
            before.size < anchor.size and before.block <= anchor.block and before.time <= anchor.time
        ):
            old = f"size {before.size}, block {before.block}, time {before.time}"
            findings.add(
                "L1", where, f"size {anchor.size}, block {anchor.block}, time {anchor.time} after {old}"
            )
        if home not in known:
            findings.add(
                "L5",
                where,
                f"0x{anchor.contract.hex()} on chain {anchor.chain_id} is no anchor of this ledger",
            )
        other = stated.setdefault(anchor.size, anchor.root)
        if other != anchor.root:
            findings.add(
                "L2", where, f"size {anchor.size} has the roots 0x{other.hex()} and 0x{anchor.root.hex()}"
            )
        root = roots.get(anchor.size)
        if root is None:
            findings.add("L2", where, f"size {anchor.size} is beyond the {tree.size} records of this bundle")
        elif root != anchor.root:
            findings.add(
                "L2", where, f"root 0x{anchor.root.hex()}, at {anchor.size} the log has 0x{root.hex()}"
            )
        newest[home] = anchor
        last_size = anchor.size
    if not anchors:
        findings.say("no anchor covers any record")
    elif last_size < tree.size:
        findings.say(f"anchors cover {last_size} of {tree.size} records")


def check_gaps(bundle: Bundle, done: Replayed, now: int, findings: Findings) -> None:
    """The first record of each stretch waited for its anchor no longer than anchor_gap (L4).

    now: the latest time that is known; what no anchor covers has waited until then at least.
    """
    stretches = list(intervals(bundle.anchors, done.state.size))
    ends = [stretch.end for stretch in stretches]
    for index, time in done.firsts:
        covered = stretches[min(bisect_right(ends, index), len(ends) - 1)].latest
        most = rules.parameter(done.state, "anchor_gap", time)
        waited = (now if covered is None else covered) - time
        if waited > most:
            how = "has waited" if covered is None else "waited"
            findings.add(
                "L4", f"record {index}", f"{how} {waited} s for an anchor, at most {most} s is allowed"
            )
