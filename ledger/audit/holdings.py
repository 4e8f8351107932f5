"""The treasury's tokens and coin: each movement on the chain is one transfer, and the other way (T8, T9)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from ledger import rules
from ledger.audit.bundle import Bundle
from ledger.audit.movements import transfers
from ledger.audit.moves import COIN, Move, Place, coin_moves, token_moves
from ledger.audit.replay import SKEW_S, Replayed
from ledger.audit.rpc import Refused, Rpc
from ledger.audit.trust import hexadecimal, number, parse_json
from ledger.audit.verdict import Findings, Verdict
from ledger.records import WORD, Invalid, Transfer, address_word, reject

_MEMBERS = {"blockHash", "chainId", "kind", "logIndex", "token", "amount", "to", "transaction"}
# What evidence names: the Transfer log of a token, or, for the coin, a log of the router or the treasury.
_KINDS = ("evm-log", "evm-coin")


@dataclass(frozen=True)
class Evidence:
    """What a document of kind evm-log or evm-coin says."""

    kind: str
    place: Place
    block_hash: bytes
    chain_id: int
    token: bytes
    to: bytes
    amount: int


@dataclass
class Holding:
    """One token, or the coin, that one owner holds, and the accounts of the ledger that say so."""

    asset: str
    token: bytes
    owner: bytes
    accounts: set[str] = field(default_factory=set)
    balance: int = 0

    @property
    def evidence(self) -> str:
        """The kind of evidence of what moves here."""
        return "evm-coin" if self.token == COIN else "evm-log"


def parse_evidence(data: bytes, where: str) -> Evidence:
    """Read the evidence of a payment on a chain; another spelling of it is another document, and refused."""
    thing = parse_json("T8", where, data)
    if not isinstance(thing, dict) or set(thing) != _MEMBERS or thing["kind"] not in _KINDS:
        reject("T8", where, f"is no evidence of kind {' or '.join(_KINDS)} with {sorted(_MEMBERS)}")
    if json.dumps(thing, sort_keys=True, separators=(",", ":")).encode() != data:
        reject("T8", where, "has spaces or members out of order")
    return Evidence(
        thing["kind"],
        (hexadecimal("T8", where, thing, "transaction", WORD), number("T8", where, thing, "logIndex")),
        hexadecimal("T8", where, thing, "blockHash", WORD),
        number("T8", where, thing, "chainId", 2**256),
        hexadecimal("T8", where, thing, "token", 20),
        hexadecimal("T8", where, thing, "to", 20),
        number("T8", where, thing, "amount", 2**256),
    )


def check_holdings(
    node: Rpc, bundle: Bundle, done: Replayed, block: int, verdict: Verdict, findings: Findings
) -> None:
    """Match every holding on this node's chain, up to a final block."""
    holdings: dict[tuple[bytes, bytes], Holding] = {}
    for name, account in done.state.accounts.items():
        asset = done.state.assets[account.record.asset]
        if account.record.kind == "chain" and asset.chain_id == node.chain_id:
            owner = account.record.owner[12:]
            holding = holdings.setdefault((asset.token, owner), Holding(asset.asset, asset.token, owner))
            holding.accounts.add(name)
            holding.balance += account.balance
    for holding in holdings.values():
        _check_holding(node, bundle, done, block, holding, verdict, findings)


def _movements(node: Rpc, state: rules.State, holding: Holding, block: int) -> dict[Place, Move]:
    if holding.token != COIN:
        return token_moves(node, holding.token, holding.owner, block)
    routers = {
        contract.at
        for name, contract in state.contracts.items()
        if contract.chain_id == node.chain_id and (name == "router" or name.startswith("router-"))
    }
    return coin_moves(node, sorted(routers), holding.owner, block)


def _check_holding(
    node: Rpc,
    bundle: Bundle,
    done: Replayed,
    block: int,
    holding: Holding,
    verdict: Verdict,
    findings: Findings,
) -> None:
    moves = _movements(node, done.state, holding, block)
    matched: dict[Place, int] = {}
    pending = False
    for index, transfer in transfers(done, "chain"):
        if not holding.accounts & {transfer.debit, transfer.credit}:
            continue
        try:
            evidence = _evidence(bundle, index, transfer)
            move = moves.get(evidence.place)
            if evidence.place in matched:
                reject(
                    "T8",
                    f"record {index}",
                    f"record {matched[evidence.place]} has the same movement as evidence",
                )
            matched[evidence.place] = index
            if move is None and _is_later(node, evidence, block):
                verdict.pending.append(f"record {index}: its movement is not final for {node.name}")
                pending = True
                continue
            _check_match(node, done, holding, index, transfer, evidence, move)
        except Invalid as broken:
            findings.add("T8", broken.where, broken.why, amount=transfer.amount, asset=transfer.asset)
    last_block = max((a.block for a in bundle.anchors if a.chain_id == node.chain_id), default=None)
    due: dict[tuple[bytes, int], int] = {}
    for order in _unpaid(done, holding):
        due[order] = due.get(order, 0) + 1
    for place, move in sorted(moves.items(), key=lambda item: (item[1].log.block, item[1].log.index)):
        if place in matched:
            continue
        log, amount, went_out = move.log, move.amount, move.is_out
        key = (move.to, amount)
        ordered = went_out and due.get(key, 0) > 0
        if ordered:
            due[key] -= 1
        way = "debit to" if went_out else "receipt at"
        what = f"{way} 0x{key[0].hex()} of {amount} {holding.asset}"
        where = f"transaction 0x{log.transaction.hex()} log {log.index}"
        if (ordered or not went_out) and _is_fresh(node, log.block, last_block, done.state.time):
            verdict.pending.append(f"{where}: {what} is newer than the ledger")
            pending = True
            continue
        why = f"{what} in block {log.block} is no transfer of the ledger" + (
            "" if ordered or not went_out else " and no order or refund authorises it"
        )
        weight = "critical" if went_out else "high"
        findings.add("T8", where, why, amount=amount, asset=holding.asset, severity=weight)
    if not pending:
        _check_balance(node, holding, block, findings)


def _evidence(bundle: Bundle, index: int, transfer: Transfer) -> Evidence:
    where = f"record {index}"
    content = bundle.document(transfer.evidence)
    if content is None:
        reject("T8", where, f"its evidence 0x{transfer.evidence.hex()} is not published")
    return parse_evidence(content, where)


def _is_later(node: Rpc, evidence: Evidence, block: int) -> bool:
    """Whether the movement stands in a block after the final one."""
    if evidence.chain_id != node.chain_id:
        return False
    try:
        receipt = node.ask("eth_getTransactionReceipt", "0x" + evidence.place[0].hex())
    except Refused:
        return False
    return isinstance(receipt, dict) and node.quantity(receipt.get("blockNumber")) > block


def _check_match(
    node: Rpc,
    done: Replayed,
    holding: Holding,
    index: int,
    transfer: Transfer,
    evidence: Evidence,
    move: Move | None,
) -> None:
    where = f"record {index}"
    if evidence.kind != holding.evidence:
        why = f"its evidence is of kind {evidence.kind}, of {holding.asset} it is {holding.evidence}"
        reject("T8", where, why)
    if evidence.chain_id != node.chain_id or move is None:
        place = (
            f"log {evidence.place[1]} of transaction 0x{evidence.place[0].hex()} on chain {evidence.chain_id}"
        )
        reject("T8", where, f"no movement of {holding.asset} is {place}")
    comes_in = transfer.debit in holding.accounts
    to = holding.owner
    if not comes_in:
        to = _recipient(done.state, transfer, where)
    rows: Iterable[tuple[str, bytes, bytes, bytes]] = (
        ("block", move.log.block_hash, evidence.block_hash, move.log.block_hash),
        ("token", move.token, evidence.token, holding.token),
        ("recipient", move.to, evidence.to, to),
        ("amount", _word(move.amount), _word(evidence.amount), _word(transfer.amount)),
    )
    for name, chain, stated, recorded in rows:
        if not chain == stated == recorded:
            found = f"on the chain 0x{chain.hex()}, in the evidence 0x{stated.hex()}"
            reject("T8", where, f"{name} is {found}, the ledger means 0x{recorded.hex()}")


def _recipient(state: rules.State, transfer: Transfer, where: str) -> bytes:
    """To whom the order, or the refund, that a debit names lets money go."""
    order, refund = state.orders.get(transfer.authority), state.refunds.get(transfer.authority)
    if order is not None:
        return state.accounts[order.payee].record.owner[12:]
    if refund is None:
        reject("T8", where, f"no order or refund 0x{transfer.authority.hex()} authorises it")
    if any(refund.to[:12]):
        reject("T8", where, f"its refund goes to 0x{refund.to.hex()}, which is no address")
    return refund.to[12:]


def _word(amount: int) -> bytes:
    return amount.to_bytes(WORD, "big")


def _unpaid(done: Replayed, holding: Holding) -> Iterable[tuple[bytes, int]]:
    """To whom and how much orders and refunds in effect still let go."""
    state = done.state
    for digest, order in state.orders.items():
        over = digest in state.paid_orders or digest in state.void_orders
        if order.account in holding.accounts and not over:
            yield state.accounts[order.payee].record.owner[12:], order.amount
    for digest, refund in state.refunds.items():
        came = rules.receipt(state, refund.receipt_hash)
        account = "" if came is None else came.debit
        if account in holding.accounts and digest not in state.booked_refunds:
            yield refund.to[12:], refund.amount


def _is_fresh(node: Rpc, block: int, last_block: int | None, last_time: int) -> bool:
    """Whether the ledger could not yet have it: after the newest anchor, or just before the newest record."""
    if last_block is None or block > last_block:
        return True
    found = node.block(hex(block))
    return found is not None and found[1] + SKEW_S > last_time


def _check_balance(node: Rpc, holding: Holding, block: int, findings: Findings) -> None:
    where = f"0x{holding.owner.hex()}"
    if holding.token == COIN:
        _check_coin_balance(node, holding, block, findings)
        return
    try:
        words = node.call(holding.token, "balanceOf(address)", address_word(holding.owner), block=block)
    except Refused as refused:
        findings.add("T9", where, f"{holding.asset} does not answer: {refused}")
        return
    held = int.from_bytes(words[0], "big")
    if held != holding.balance:
        why = f"holds {held} {holding.asset}, the ledger has {holding.balance}"
        findings.add("T9", where, why, amount=abs(held - holding.balance), asset=holding.asset)


def _check_coin_balance(node: Rpc, holding: Holding, block: int, findings: Findings) -> None:
    """Of the coin no less than the ledger says; anybody can force some on anybody, and no event names it."""
    where, held = f"0x{holding.owner.hex()}", node.balance(holding.owner, block)
    if held < holding.balance:
        why = f"holds {held} {holding.asset}, the ledger has {holding.balance}"
        findings.add("T9", where, why, amount=holding.balance - held, asset=holding.asset)
    elif held > holding.balance:
        more = held - holding.balance
        findings.say(f"{where} holds {more} base units of {holding.asset} that no event of a contract names")
