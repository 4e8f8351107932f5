"""The chain against the ledger: contracts, heads and offices (T6, T7, T10)."""

from __future__ import annotations

from collections.abc import Sequence

from ledger import rules
from ledger.audit.bundle import Bundle
from ledger.audit.holdings import check_holdings
from ledger.audit.replay import Replayed
from ledger.audit.resume import Home, Resumed
from ledger.audit.rpc import Log, Refused, Rpc
from ledger.audit.tree import Tree
from ledger.audit.trust import Anchor
from ledger.audit.verdict import Findings, Progress, Verdict
from ledger.records import WORD, address_word, encode_name, keccak256

ANCHORED = "0x" + keccak256(b"Anchored(uint64,bytes32,uint64)").hex()
ENACTED = "0x" + keccak256(b"Enacted(bytes32,bytes32,bytes32,uint64)").hex()


def check_chains(
    nodes: Sequence[Rpc],
    bundle: Bundle,
    tree: Tree,
    done: Replayed,
    resumed: Resumed,
    verdict: Verdict,
    findings: Findings,
    progress: Progress,
) -> int:
    """Compare the ledger with every chain that a node was named for; returns the newest block time."""
    genesis = done.state.genesis
    newest = 0
    if genesis is None:
        findings.say("there is no Genesis, so no chain was compared")
        return newest
    homes = {genesis.chain_id} | {contract.chain_id for contract in done.state.contracts.values()}
    homes |= {
        done.state.assets[account.record.asset].chain_id
        for account in done.state.accounts.values()
        if account.record.kind == "chain"
    }
    for node in nodes:
        if node.chain_id not in homes:
            findings.add("T6", node.name, f"is chain {node.chain_id}, the ledger is on {sorted(homes)}")
    missing = sorted(homes - {node.chain_id for node in nodes})
    for chain_id in missing:
        findings.say(f"no node of chain {chain_id} was named, so it was not compared")
    for done_nodes, node in enumerate(nodes):
        progress("chain", done_nodes, len(nodes))
        if node.chain_id not in homes:
            continue
        try:
            newest = max(newest, _check_chain(node, bundle, tree, done, resumed, verdict, findings))
        except Refused as refused:
            raise node.wrong(str(refused)) from None
    verdict.chain_checked = not missing
    return newest


def _check_chain(
    node: Rpc,
    bundle: Bundle,
    tree: Tree,
    done: Replayed,
    resumed: Resumed,
    verdict: Verdict,
    findings: Findings,
) -> int:
    latest = node.block("latest")
    if latest is None:
        raise node.wrong("has no latest block")
    try:
        final = node.block("finalized")
    except Refused:
        final = None
    if final is None:
        findings.say(f"{node.name} knows no finalized block: its latest was taken")
        final = latest
    _check_code(node, done.state, final[0], findings)
    _check_heads(node, bundle, tree, resumed, latest[0], findings)
    genesis = done.state.genesis
    if genesis is not None and genesis.chain_id == node.chain_id:
        _check_council(node, done.state, latest, findings)
    check_holdings(node, bundle, done, final[0], verdict, findings)
    return latest[1]


def _check_code(node: Rpc, state: rules.State, block: int, findings: Findings) -> None:
    """Each registered contract has the code that its record names (T6, LEAKS 18)."""
    for name, contract in state.contracts.items():
        if contract.chain_id != node.chain_id:
            continue
        found = keccak256(node.code(contract.at, block))
        if found != contract.code_hash:
            named = contract.code_hash.hex()
            why = f"code of 0x{contract.at.hex()} is 0x{found.hex()}, its record names 0x{named}"
            findings.add("T6", f"contract {name}", why)


# --- heads ---------------------------------------------------------------------


def _check_heads(
    node: Rpc, bundle: Bundle, tree: Tree, resumed: Resumed, latest: int, findings: Findings
) -> None:
    """Every head on this chain is in anchors.json and is this log's (T7, LEAKS 22)."""
    contracts = {anchor.contract for anchor in bundle.anchors if anchor.chain_id == node.chain_id}
    trust = bundle.trust
    if trust is not None and trust.chain_id == node.chain_id and "anchor" in trust.contracts:
        contracts.add(trust.contracts["anchor"])
    for contract in sorted(contracts):
        stated = [a for a in bundle.anchors if (a.chain_id, a.contract) == (node.chain_id, contract)]
        logs = [log for log in node.logs(contract, [ANCHORED], 0, latest) if len(log.topics) == 2]
        heads = {int.from_bytes(log.topics[1], "big"): log for log in logs if len(log.data) == 2 * WORD}
        _check_stated(stated, heads, findings)
        _check_view(node, contract, latest, heads.get(max(heads, default=0)), findings)
        heads = _counted((node.chain_id, contract), heads, tree, resumed)
        forked = _check_log(contract, stated, heads, tree, findings)
        largest = max(heads, default=0)
        if largest > tree.size:
            which = "forked: heads above differ" if forked else "older than the chain"
            why = f"the chain has size {largest}, this bundle {tree.size}: it is {which}"
            findings.add("T7", f"anchor 0x{contract.hex()}", why, severity="critical")


def _counted(home: Home, heads: dict[int, Log], tree: Tree, resumed: Resumed) -> dict[int, Log]:
    """The heads that count: without those that are not this log's and that an act made void (LEAKS 02)."""
    roots = tree.roots(heads)
    return {
        size: log
        for size, log in heads.items()
        if roots.get(size) == log.data[:WORD] or not resumed.excuse(home, size, log.data[:WORD])
    }


def _check_stated(stated: Sequence[Anchor], heads: dict[int, Log], findings: Findings) -> None:
    for anchor in stated:
        log = heads.get(anchor.size)
        where = f"anchors.json size {anchor.size}"
        if log is None:
            findings.add("T7", where, "the chain has no such head")
            continue
        rows: tuple[tuple[str, bytes | int, bytes | int], ...] = (
            ("root", anchor.root, log.data[:WORD]),
            ("time", anchor.time, int.from_bytes(log.data[WORD:], "big")),
            ("block", anchor.block, log.block),
            ("blockHash", anchor.block_hash, log.block_hash),
            ("transaction", anchor.transaction, log.transaction),
        )
        for name, said, found in rows:
            if said != found:
                findings.add("T7", where, f"{name} is {_shown(said)}, on the chain it is {_shown(found)}")


def _shown(value: bytes | int) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _check_log(
    contract: bytes, stated: Sequence[Anchor], heads: dict[int, Log], tree: Tree, findings: Findings
) -> bool:
    """Whether a head on the chain is not a prefix of this log."""
    forked = False
    known = {anchor.size for anchor in stated}
    newest = max(known, default=0)
    for size, root in sorted(tree.roots(heads).items()):
        where = f"anchor 0x{contract.hex()} size {size}"
        if root != heads[size].data[:WORD]:
            forked = True
            findings.add(
                "T7",
                where,
                f"the chain's root is 0x{heads[size].data[:WORD].hex()}, the log's 0x{root.hex()}",
            )
        elif size not in known and size < newest:
            findings.add("T7", where, "anchors.json leaves it out")
        elif size not in known:
            findings.say(
                f"size {size} is anchored in block {heads[size].block}, after anchors.json was written"
            )
    return forked


def _check_view(node: Rpc, contract: bytes, latest: int, log: Log | None, findings: Findings) -> None:
    where = f"anchor 0x{contract.hex()}"
    try:
        size, time, root = node.call(contract, "head()", block=latest, least=3)[:3]
    except Refused as refused:
        findings.add("T7", where, f"head() does not answer: {refused}")
        return
    expected = (bytes(WORD),) * 3 if log is None else (log.topics[1], log.data[WORD:], log.data[:WORD])
    if (size, time, root) != expected:
        found = f"size {int.from_bytes(size, 'big')}, root 0x{root.hex()}"
        findings.add("T7", where, f"head() is {found}, its newest event says otherwise")


# --- offices -------------------------------------------------------------------


def _check_council(node: Rpc, state: rules.State, latest: tuple[int, int], findings: Findings) -> None:
    """The Council contract is this ledger's, and has enacted nothing that the ledger has not (T10)."""
    genesis = state.genesis
    assert genesis is not None
    block, now = latest
    where = f"council 0x{genesis.council.hex()}"
    views = (
        ("ledger()", genesis.ledger),
        ("founding()", genesis.founding),
        ("retentionEnd()", genesis.retention_end.to_bytes(WORD, "big")),
        ("anchor()", address_word(genesis.anchor)),
    )
    try:
        for signature, recorded in views:
            found = node.call(genesis.council, signature, block=block)[0]
            if found != recorded:
                findings.add(
                    "T10", where, f"{signature} is 0x{found.hex()}, the Genesis says 0x{recorded.hex()}"
                )
        for holder, role in state.roles.items():
            words = (encode_name(role), address_word(holder))
            seated = any(node.call(genesis.council, "seated(bytes32,address)", *words, block=block)[0])
            here = rules.is_seated(state, holder, role, now)
            if seated and not here:
                findings.add("T10", where, f"0x{holder.hex()} is seated as {role}, in the ledger it is not")
            elif here and not seated:
                findings.say(
                    f"nobody has brought the seat of 0x{holder.hex()} ({role}) to the Council contract"
                )
    except Refused as refused:
        findings.add("T10", where, f"does not answer: {refused}")
    for log in node.logs(genesis.council, [ENACTED], 0, block):
        proposal = state.proposals.get(log.topics[2]) if len(log.topics) == 4 else None
        if proposal is None or proposal.effective_s is None:
            shown = log.topics[2].hex() if len(log.topics) > 2 else "?"
            findings.add(
                "T10", where, f"enacted 0x{shown} in block {log.block}, which is not in effect in the ledger"
            )
