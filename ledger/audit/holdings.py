"""The treasury's tokens and coin: each movement on the chain is one transfer, and the other way (T8, T9)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from ledger import rules
from ledger.audit.bundle import Bundle
from ledger.audit.movements import transfers
from ledger.audit.moves import COIN, Move, Place, coin_moves, is_pulled_later, token_moves
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
    # What is there at a block and not in the balance, less what is in the balance and not yet there.
    uncounted: int = 0

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
    routers = {
        contract.at
        for name, contract in state.contracts.items()
        if contract.chain_id == node.chain_id and (name == "router" or name.startswith("router-"))
    }
    if holding.token == COIN:
        return coin_moves(node, sorted(routers), holding.owner, block)
    return token_moves(node, holding.token, holding.owner, block, sorted(routers))


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
    matched, early = _check_records(node, bundle, done, block, holding, moves, verdict, findings)
    unasked = _unasked(node, done, holding, {at: move for at, move in moves.items() if at not in matched})
    left = {at: move for at, move in moves.items() if at not in matched and at not in unasked}
    late = _check_left(node, bundle, done, holding, left, verdict, findings)
    if unasked:
        more = sum(move.amount for move in unasked.values())
        holding.uncounted += more
        told = f"{more} base units of {holding.asset} by {len(unasked)} movements that no payment was"
        findings.say(f"0x{holding.owner.hex()} got {told}, and that the ledger does not count")
    # Somebody may always have something on its way: what waits is counted and hides nothing.
    holding.uncounted += late - early
    _check_balance(node, holding, block, findings)


def _unasked(node: Rpc, done: Replayed, holding: Holding, moves: dict[Place, Move]) -> dict[Place, Move]:
    """What came in without the city's doing, or when the ledger may not take it (decision 0042)."""
    asset = done.state.assets[holding.asset]

    def is_refused(move: Move) -> bool:
        found = None if move.is_out or move.block is None else node.block(hex(move.block))
        return found is not None and not asset.valid_from <= found[1] < asset.valid_to

    return {place: move for place, move in moves.items() if move.is_unasked or is_refused(move)}


def _check_records(
    node: Rpc,
    bundle: Bundle,
    done: Replayed,
    block: int,
    holding: Holding,
    moves: dict[Place, Move],
    verdict: Verdict,
    findings: Findings,
) -> tuple[dict[Place, int], int]:
    """Each transfer has its movement; returns which record names which, and the sum of those yet to come."""
    matched: dict[Place, int] = {}
    early = 0
    for index, transfer in transfers(done, "chain"):
        if not holding.accounts & {transfer.debit, transfer.credit}:
            continue
        where = f"record {index}"
        try:
            evidence = _evidence(bundle, index, transfer)
            place = evidence.place
            if place in matched:
                reject("T8", where, f"record {matched[place]} has the same movement as evidence")
            matched[place] = index
            move = moves.get(place)
            change = transfer.amount if transfer.debit in holding.accounts else -transfer.amount
            if move is None and _is_later(node, evidence, block):
                verdict.pending.append(f"{where}: its movement is not final for {node.name}")
                early += change
                continue
            _check_match(node, done, holding, index, transfer, evidence, move)
            if move is not None and move.block is None:
                if not is_pulled_later(node, move, holding.owner, block):
                    told = f"{move.amount} {holding.asset} were credited to 0x{move.to.hex()}"
                    reject("T8", where, f"{told}, which has not pulled them by block {block}")
                verdict.pending.append(f"{where}: the pull of its credit is not final for {node.name}")
                early += change
        except Invalid as broken:
            findings.add("T8", broken.where, broken.why, amount=transfer.amount, asset=transfer.asset)
    return matched, early


def _check_left(
    node: Rpc,
    bundle: Bundle,
    done: Replayed,
    holding: Holding,
    moves: dict[Place, Move],
    verdict: Verdict,
    findings: Findings,
) -> int:
    """Each movement is a transfer, or is newer than the ledger; returns the sum of these.

    moves: those that no transfer is of.
    """
    late = 0
    last_block = max((a.block for a in bundle.anchors if a.chain_id == node.chain_id), default=None)
    due = _unpaid(done, holding)
    for place, move in sorted(moves.items(), key=lambda item: (item[1].log.block, item[1].log.index)):
        # What is credited and not pulled has not moved.
        if move.block is None:
            continue
        amount, went_out = move.amount, move.is_out
        ordered = went_out and due.get(move.authority) == (move.to, amount)
        way = "debit to" if went_out else "receipt at"
        what = f"{way} 0x{move.to.hex()} of {amount} {holding.asset}"
        where = f"transaction 0x{place[0].hex()} log {place[1]}"
        if (ordered or not went_out) and _is_fresh(node, move.block, last_block, done.state.time):
            verdict.pending.append(f"{where}: {what} is newer than the ledger")
            late += -amount if went_out else amount
            continue
        why = f"{what} in block {move.block} is no transfer of the ledger" + (
            "" if ordered or not went_out else " and no order or refund authorises it"
        )
        weight = "critical" if went_out else "high"
        findings.add("T8", where, why, amount=amount, asset=holding.asset, severity=weight)
    return late


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
    to = holding.owner if comes_in else _recipient(done.state, transfer, where)
    if comes_in == move.is_out:
        way = "left" if move.is_out else "came to"
        reject("T8", where, f"its movement {way} 0x{holding.owner.hex()}, the ledger means the other way")
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
    if move.is_out and move.authority != transfer.authority:
        # Two orders may be alike but for their name: the payment of one is none of the other.
        by = f"by 0x{move.authority.hex()}" if move.authority else "by no order or refund"
        reject("T8", where, f"it left {by}, the ledger means 0x{transfer.authority.hex()}")


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


def _unpaid(done: Replayed, holding: Holding) -> dict[bytes, tuple[bytes, int]]:
    """To whom and how much each order and refund in effect still lets go."""
    state = done.state
    due: dict[bytes, tuple[bytes, int]] = {}
    for digest, order in state.orders.items():
        over = digest in state.paid_orders or digest in state.void_orders
        if order.account in holding.accounts and not over:
            due[digest] = state.accounts[order.payee].record.owner[12:], order.amount
    for digest, refund in state.refunds.items():
        came = rules.receipt(state, refund.receipt_hash)
        account = "" if came is None else came.debit
        if account in holding.accounts and digest not in state.booked_refunds:
            due[digest] = refund.to[12:], refund.amount
    return due


def _is_fresh(node: Rpc, block: int, last_block: int | None, last_time: int) -> bool:
    """Whether the ledger could not yet have it: after the newest anchor, or just before the newest record."""
    if last_block is None or block > last_block:
        return True
    found = node.block(hex(block))
    return found is not None and found[1] + SKEW_S > last_time


def _check_balance(node: Rpc, holding: Holding, block: int, findings: Findings) -> None:
    where, is_coin = f"0x{holding.owner.hex()}", holding.token == COIN
    if is_coin:
        held = node.balance(holding.owner, block)
    else:
        try:
            words = node.call(holding.token, "balanceOf(address)", address_word(holding.owner), block=block)
        except Refused as refused:
            findings.add("T9", where, f"{holding.asset} does not answer: {refused}")
            return
        held = int.from_bytes(words[0], "big")
    differs = held - holding.balance - holding.uncounted
    if differs > 0 and is_coin:
        # Of the coin no less than is known of: anybody can force some on anybody, and no event names it.
        findings.say(
            f"{where} holds {differs} base units of {holding.asset} that no event of a contract names"
        )
    elif differs:
        why = f"holds {held} {holding.asset}, the ledger has {holding.balance}"
        if holding.uncounted:
            why += f", and {holding.uncounted} is on its way or nobody's payment"
        findings.add("T9", where, why, amount=abs(differs), asset=holding.asset)
