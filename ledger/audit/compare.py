"""What the replay is compared with: rule files, trust.json, keys, anchors, time (D11, D13, D16, T)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from ledger import records, rules
from ledger.audit.bundle import Bundle
from ledger.audit.replay import First, Replayed
from ledger.audit.resume import Resumed, check_resumptions
from ledger.audit.tree import Tree
from ledger.audit.trust import Anchor, Trust, vkey_hash
from ledger.audit.verdict import Findings
from ledger.proof import Key
from ledger.records import RULE_FILES, WORD, rules_hash

# Where what this auditor runs lies.
_HERE = Path(records.__file__).parent


def own_rules_hash() -> bytes:
    """The hash that a Rules record must name for this auditor to be the right one (LEAKS 19)."""
    return rules_hash([_HERE.joinpath(name).read_bytes() for name in RULE_FILES])


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


def check_keys(bundle: Bundle, state: rules.State, findings: Findings, *, cosigned: bool) -> None:
    """Checkpoint and manifest are signed with the keys in force at the last record (D16).

    Of a key that no KeyChange names, trust.json alone says who it is.
    """
    trust = bundle.trust
    if trust is None:
        return
    for key in sorted(rules.KEYS):
        files = {"checkpoint": bundle.signed}
        if key == "log-ed25519":
            files["manifest"] = bundle.manifest_signed
        if key != "watcher" or cosigned:
            _check_key(key, trust, state, files, findings)


def _check_key(
    key: str, trust: Trust, state: rules.State, files: dict[str, set[Key]], findings: Findings
) -> None:
    changes = state.keys.get(key, [])
    started = [digest for valid_from, digest in changes if valid_from <= state.time]
    mine = {vkey_hash(verifier): verifier.key for verifier in trust.named(key)}
    if started:
        needed = started[-1:]
    else:
        # A watcher cosigns, but not each of them (X12); the log's keys all sign.
        needed = [] if key == "watcher" else sorted(set(mine) - {digest for _, digest in changes})
    for digest in needed:
        if digest not in mine:
            why = f"0x{digest.hex()} is in force, trust.json does not name that key"
            findings.add("D16", f"trust.json {key}", why)
            continue
        for path, signed in files.items():
            # An unreadable manifest is a finding of its own.
            if mine[digest] not in signed and signed:
                findings.add("D16", path, f"{key} 0x{digest.hex()} is in force and did not sign it")


def check_anchors(bundle: Bundle, tree: Tree, done: Replayed, resumed: Resumed, findings: Findings) -> None:
    """Anchors are in order, of the ledger's contract, and have the log's roots (T1, T2, T5; LEAKS 22)."""
    anchors, state = bundle.anchors, done.state
    roots = tree.roots(anchor.size for anchor in anchors)
    known = {(c.chain_id, c.at) for name, c in state.contracts.items() if name.startswith("anchor")}
    if state.genesis is not None:
        known.add((state.genesis.chain_id, state.genesis.anchor))
    check_resumptions(resumed, anchors, findings)
    stated: dict[int, bytes] = {}
    newest: dict[tuple[int, bytes], Anchor] = {}
    last_size = 0
    for place, anchor in enumerate(anchors):
        where = f"anchors.json entry {place}"
        size, home = anchor.size, (anchor.chain_id, anchor.contract)
        before = newest.get(home)
        if size < last_size:
            findings.add("T1", where, f"size {size} stands after size {last_size}")
        if before and not (
            before.size < size and before.block <= anchor.block and before.time <= anchor.time
        ):
            old = f"size {before.size}, block {before.block}, time {before.time}"
            findings.add("T1", where, f"size {size}, block {anchor.block}, time {anchor.time} after {old}")
        if home not in known:
            why = f"0x{anchor.contract.hex()} on chain {anchor.chain_id} is no anchor of this ledger"
            findings.add("T5", where, why)
        if roots.get(size) != anchor.root and resumed.excuse(home, size, anchor.root, anchor.time):
            continue
        other, root = stated.setdefault(size, anchor.root), roots.get(size)
        if other != anchor.root:
            findings.add("T2", where, f"size {size} has the roots 0x{other.hex()} and 0x{anchor.root.hex()}")
        if root is None:
            findings.add("T2", where, f"size {size} is beyond the {tree.size} records of this bundle")
        elif root != anchor.root:
            findings.add("T2", where, f"root 0x{anchor.root.hex()}, at {size} the log has 0x{root.hex()}")
        newest[home] = anchor
        last_size = size
    if not anchors:
        findings.say("no anchor covers any record")
    elif last_size < tree.size:
        findings.say(f"anchors cover {last_size} of {tree.size} records")


def check_gaps(done: Replayed, now: int, resumed: Resumed, findings: Findings) -> None:
    """The records that waited longest for their anchor did so no longer than anchor_gap (T4).

    now: the latest time that is known; what no anchor covers has waited until then at least. The notice
    of a resumption does not count: nothing could be anchored while it ran, and that stays in sight.
    """
    for first in _longest(done):
        most = rules.parameter(done.state, "anchor_gap", first.time)
        until = now if first.covered is None else first.covered
        waited, spared = until - first.time, resumed.spared(first.time, until)
        how = "has waited" if first.covered is None else "waited"
        if waited - spared > most:
            why = f"{how} {waited} s for an anchor, at most {most} s is allowed"
            findings.add("T4", f"record {first.place}", why)
        elif waited > most:
            told = f"record {first.place} {how} {waited} s for an anchor"
            resumed.note(f"{told}, {spared} s of them the notice of a resumption")


def _longest(done: Replayed) -> Iterator[First]:
    """The first record of each stretch, and the first that fell under another anchor_gap within it."""

    def time_of(data: bytes) -> int:
        return int.from_bytes(data[WORD : 2 * WORD], "big")

    changes = sorted({start for start, _ in done.state.parameters.get("anchor_gap", ())})
    ends = [*(first.place for first in done.firsts[1:]), len(done.entries)]
    for first, end in zip(done.firsts, ends, strict=False):
        yield first
        for start in changes:
            if start > first.time:
                place = bisect_left(done.entries, start, first.place, end, key=time_of)
                if place < end:
                    yield First(place, time_of(done.entries[place]), first.covered)


def check_overdue(done: Replayed, now: int, findings: Findings) -> None:
    """What should have been recorded by now and was not (L1, Q6; LEAKS 04, 11)."""
    state = done.state
    for late in rules.overdue(state, now):
        account = state.accounts.get(late.where.removeprefix("account "))
        asset = "" if account is None else account.record.asset
        amount = None if account is None else abs(account.balance)
        findings.add(late.rule, late.where, late.why, amount=amount, asset=asset)
