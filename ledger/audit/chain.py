"""The chain against the ledger: contracts and offices (T6, T10); heads and holdings stand beside."""

from __future__ import annotations

from collections.abc import Sequence

from ledger import rules
from ledger.audit.bundle import Bundle
from ledger.audit.heads import check_heads
from ledger.audit.holdings import check_holdings
from ledger.audit.replay import Replayed
from ledger.audit.resume import Resumed
from ledger.audit.rpc import Refused, Rpc
from ledger.audit.tree import Tree
from ledger.audit.verdict import Findings, Progress, Verdict
from ledger.records import WORD, address_word, encode_name, keccak256

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
    check_heads(node, bundle, tree, resumed, latest[0], findings)
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
