"""The EVM rail on a real chain: what counts as money, what a reorganisation takes back, what a bad node may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest
from web3 import Web3

from contracts.bindings import City, Terms, deploy_token
from gateway import db
from gateway.db import reading
from gateway.demo import RETENTION_END_S
from gateway.ledger_view import LedgerView
from gateway.payments import store
from gateway.payments.service import Payments
from gateway.payments.store import Invoice
from gateway.rails import Kind, Stage
from gateway.rails.evm import PAID, TRANSFER, EvmRail, Place, Term, log_of
from gateway.rails.evm.split import split
from gateway.worker import Worker
from ledger import store as ledger_store
from ledger.records import Unavailable, keccak256
from tests.gateway.conftest import Node, Refuse, Silence, Town, call


def word(value: bytes | int) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def token_call(signature: str, *words: bytes | int) -> bytes:
    return keccak256(signature.encode())[:4] + b"".join(map(word, words))


def pay_call(town: Town, invoice: Invoice) -> bytes:
    quote, signed = town.quote(invoice)
    router = town.city.city._contracts["router"]
    return bytes.fromhex(router.encode_abi("pay", args=[quote.words(), signed.r, signed.vs])[2:])


def fund(town: Town, units: int) -> list[bytes]:
    """What a contract does first that pays from the payer's allowance."""
    router = town.city.plan.deployment.router
    payer = town.city.keys.address("payer")
    town.city.city._send_token(town.payer, town.token, "approve", town.next_contract(after=1), units)
    me = town.next_contract()
    return [
        call(town.token, token_call("transferFrom(address,address,uint256)", payer, me, units)),
        call(town.token, token_call("approve(address,uint256)", router, units)),
    ]


def test_a_payment_by_wallet_goes_through_every_state_to_the_ledger(town: Town):
    invoice = town.invoice()
    receipt = town.pay(invoice)
    states = []
    for _ in range(4):
        town.poll()
        states.append(town.status(invoice))
        town.mine()
    assert states == ["detected", "paid", "final", "final"]
    town.record()
    [transfer] = town.revenue()
    share = -(-invoice.due_minor * invoice.share_bps // 10_000)
    assert transfer.amount == share == town.treasury()
    [seen] = town.seen(invoice)
    assert seen.kind is Kind.ROUTER
    assert seen.block == receipt["blockNumber"]
    assert seen.position == town.payments.position(invoice.id) is not None
    assert town.events(invoice) == ["invoice.open", "invoice.detected", "invoice.paid", "invoice.final"]


def test_a_payment_by_plain_transfer_is_booked_when_its_flush_is_final(town: Town):
    invoice = town.invoice()
    town.deposit(invoice)
    town.finalise()
    assert town.status(invoice) == "final"
    assert town.submitted() == []
    assert town.city.worker.flush() == 1
    town.poll()
    assert town.submitted() == []
    town.finalise()
    assert len(town.submitted()) == 1
    town.record()
    assert [transfer.amount for transfer in town.revenue()] == [town.treasury()]


def test_two_payments_by_router_in_one_transaction_are_two(town: Town):
    first, second = town.invoice(), town.invoice()
    router = town.city.plan.deployment.router
    parts = fund(town, first.due_minor + second.due_minor)
    town.send(*parts, call(router, pay_call(town, first)), call(router, pay_call(town, second)))
    town.settle()
    assert (town.status(first), town.status(second)) == ("final", "final")
    booked = town.revenue()
    assert sum(transfer.amount for transfer in booked) == town.treasury()
    assert len({transfer.evidence for transfer in booked}) == 2


def test_ff59_one_transfer_to_the_treasury_is_not_the_proof_of_two_payments(town: Town):
    """Logs as a router would write them that forgot the second payment's transfer."""
    first, second = town.invoice(), town.invoice()
    router, rail = town.city.plan.deployment.router, town.city.worker.rail
    parts = fund(town, first.due_minor + second.due_minor)
    receipt = town.send(*parts, call(router, pay_call(town, first)), call(router, pay_call(town, second)))
    logs = [log for log in receipt["logs"] if len(log["data"]) >= 32]
    paid = [log for log in logs if bytes(log["topics"][0]) == PAID]
    moved = [
        log
        for log in logs
        if bytes(log["topics"][0]) == TRANSFER
        and bytes(log["topics"][2])[12:] == town.city.plan.deployment.treasury
    ]
    assert len(paid) == len(moved) == 2
    left, [one, another] = [log_of(moved[0])], map(log_of, paid)
    assert split(rail.place, one, left, Stage.FINAL) is not None
    # The same event told again has no second transfer, and an earlier one is not what moved its money.
    assert split(rail.place, one, left, Stage.FINAL) is None
    assert split(rail.place, another, [log_of(moved[0])], Stage.FINAL) is None


def test_a_batch_sender_pays_two_deposit_addresses_and_one_of_them_twice(town: Town):
    first, second = town.invoice(), town.invoice()
    half = first.due_minor // 2
    parts = fund(town, 10**9)
    pay = "transfer(address,uint256)"
    town.send(
        *parts,
        call(town.token, token_call(pay, first.deposit_address, half)),
        call(town.token, token_call(pay, second.deposit_address, second.due_minor)),
        call(town.token, token_call(pay, first.deposit_address, first.due_minor - half)),
    )
    town.settle()
    assert (town.status(first), town.status(second)) == ("final", "final")
    assert len([piece for piece in town.seen(first) if piece.kind is Kind.DEPOSIT]) == 2
    assert sum(transfer.amount for transfer in town.revenue()) == town.treasury()


def test_flushes_of_two_addresses_in_one_transaction_are_two(town: Town):
    both = [town.invoice(), town.invoice()]
    for invoice in both:
        town.deposit(invoice)
    town.settle()
    flushed = [piece for invoice in both for piece in town.seen(invoice) if piece.kind is Kind.FLUSH]
    assert len({piece.key.split(":")[3] for piece in flushed}) == 1
    assert len(town.revenue()) == 2
    assert sum(transfer.amount for transfer in town.revenue()) == town.treasury()


def test_anybody_may_flush_and_it_is_credited_once(town: Town):
    invoice = town.invoice()
    town.deposit(invoice)
    town.flush(invoice)
    town.finalise()
    assert town.city.worker.flush() == 0
    town.settle()
    town.settle()
    assert town.status(invoice) == "final"
    assert [transfer.amount for transfer in town.revenue()] == [town.treasury()]


def test_a_flush_of_forged_terms_for_an_invoice_is_not_its_money(town: Town):
    """Anybody can make an address that names this invoice and pays himself; it is not the one we gave."""
    invoice = town.invoice()
    thief = town.city.keys.address("builder")
    forged = Terms(invoice.number, invoice.purpose, thief, invoice.share_bps)
    town.city.city.transfer(town.payer, town.token, town.city.city.deposit_address(forged), invoice.due_minor)
    town.city.city.flush(town.payer, [forged], town.token)
    town.settle()
    assert town.status(invoice) == "open"
    assert town.revenue() == []
    assert [piece.kind for piece in town.unmatched()] == [Kind.FLUSH]


def test_two_workers_flush_once(town: Town, node: Node):
    invoice = town.invoice()
    town.deposit(invoice)
    town.finalise()
    before = town.city.outside.web3.eth.block_number
    assert [town.city.worker.flush(), node.worker.flush()] == [1, 0]
    assert town.city.outside.web3.eth.block_number == before + 1


def test_a_flush_that_nobody_finished_is_taken_up_by_another(town: Town, node: Node):
    invoice = town.invoice()
    town.deposit(invoice)
    town.finalise()
    assert invoice.deposit_address is not None
    # It dies after it has queued the flush, and before it sends it.
    assert town.city.worker._flushes.queue() == 1
    assert node.worker.flush() == 0
    assert town.city.city.balance(town.token, invoice.deposit_address) == 0
    town.finalise()
    assert len(town.submitted()) == 1


def test_a_transfer_of_nothing_changes_nothing(town: Town):
    """It costs a stranger nothing, and would else move any invoice to detected and past its expiry."""
    invoice = town.invoice()
    town.deposit(invoice, 0)
    town.finalise()
    assert town.status(invoice) == "open"
    assert town.seen(invoice) == []


def test_another_allowed_token_pays_nothing_of_an_invoice(town: Town):
    other = deploy_token(town.city.outside.web3, town.payer, "Other", "OTHR")
    town.city.worker.rail.place.tokens[other] = "OTHR"
    town.city.city.mint(town.payer, other, town.city.keys.address("payer"), 10**12)
    invoice = town.invoice()
    town.deposit(invoice, invoice.due_minor, other)
    town.settle()
    assert town.status(invoice) == "open"
    assert [(piece.asset, piece.amount_minor) for piece in town.unmatched()] == [("OTHR", invoice.due_minor)]


def test_partial_money_is_told_expires_and_is_topped_up_late(town: Town):
    invoice = town.invoice()
    town.deposit(invoice, 1_000)
    town.poll()
    assert (town.status(invoice), town.notes(invoice)) == ("detected", {"partially_paid"})
    town.wait(901)
    town.poll()
    town.payments.expire()
    assert town.stored_status(invoice) == town.status(invoice) == "expired"
    town.deposit(invoice, invoice.due_minor - 1_000)
    town.settle()
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"late"})
    assert sum(transfer.amount for transfer in town.revenue()) == town.treasury()
    assert town.events(invoice)[1:3] == ["invoice.detected", "invoice.expired"]


def test_money_that_came_in_time_is_not_late_because_we_looked_late(town: Town):
    invoice = town.invoice()
    town.pay(invoice)
    town.wait(10_000)
    town.poll()
    assert town.notes(invoice) == set()


def test_each_more_money_is_told_to_the_merchant(town: Town):
    invoice = town.invoice()
    town.deposit(invoice, 1_000)
    town.poll()
    town.deposit(invoice, 1_000)
    town.poll()
    assert town.events(invoice) == ["invoice.open", "invoice.detected", "invoice.updated"]


@pytest.mark.parametrize("by", ["router", "deposit"])
def test_a_reorganisation_takes_the_payment_back_and_the_same_transaction_pays_again_once(
    town: Town, by: str
):
    invoice = town.invoice()
    web3 = town.city.outside.web3
    snapshot = web3.provider.make_request("evm_snapshot", [])["result"]
    receipt = town.pay(invoice) if by == "router" else town.deposit(invoice)
    raw = town.chain.find_transaction(bytes(receipt["transactionHash"])).transaction.encode()
    town.mine()
    town.poll()
    assert town.status(invoice) == "paid"
    web3.provider.make_request("evm_revert", [snapshot])
    # The chain is shorter now: what stood above it is no more.
    town.poll()
    assert town.status(invoice) == town.stored_status(invoice) == "open"
    town.mine(3)
    town.poll()
    assert [piece.stage for piece in town.seen(invoice)] == [Stage.GONE]
    web3.eth.send_raw_transaction(raw)
    town.settle()
    town.settle()
    assert town.status(invoice) == "final"
    assert town.notes(invoice) == set()
    assert sorted(piece.stage for piece in town.seen(invoice) if piece.kind is not Kind.FLUSH) == [
        Stage.FINAL,
        Stage.GONE,
    ]
    assert [transfer.amount for transfer in town.revenue()] == [town.treasury()]


def test_evidence_that_comes_back_with_its_block_counts_again(town: Town):
    invoice = town.invoice()
    town.pay(invoice)
    town.mine()
    town.poll()
    [piece] = town.seen(invoice)
    with town.city.gateway.engine.begin() as connection:
        store.set_stage(connection, piece.key, Stage.GONE, 0)
    town.finalise()
    assert town.status(invoice) == "final"


def test_a_worker_with_an_older_view_changes_nothing_after_one_with_a_newer(town: Town, node: Node):
    """Two workers at once: the slower one's answer is from before a reorganisation, and is dropped."""
    invoice = town.invoice()
    snapshot = town.city.outside.web3.provider.make_request("evm_snapshot", [])["result"]
    paid = town.pay(invoice)["blockNumber"]

    def meanwhile(method: str, parameters: list[object], answer: object) -> object:
        if method == "eth_getLogs" and int(str(parameters[0]["toBlock"]), 16) == paid:  # type: ignore[index]
            town.city.outside.web3.provider.make_request("evm_revert", [snapshot])
            town.mine(3)
            town.poll()
            node.wrong = None
        return answer

    node.wrong = meanwhile
    node.worker.poll_chain()
    assert town.status(invoice) == "open"
    assert town.seen(invoice) == []


def refuse(status: int) -> Never:
    raise Refuse(status)


def silence() -> Never:
    raise Silence


def changed_log(**changes: Any) -> Callable[[str, list[Any], Any], Any]:
    """A node that tells every log with these members changed."""
    return lambda m, _, a: [{**log, **changes} for log in a] if m == "eth_getLogs" else a


def instead(method: str, told: Any) -> Callable[[str, list[Any], Any], Any]:
    """A node that answers one method like this."""
    return lambda m, _, a: told if m == method else a


MISBEHAVIOURS: dict[str, Callable[[str, list[Any], Any], Any]] = {
    "limits the rate": lambda *_: refuse(429),
    "is broken": lambda *_: refuse(500),
    "is silent": lambda *_: silence(),
    "answers with a page": lambda *_: b"<html>Service unavailable</html>",
    "answers with nothing": lambda *_: b"",
    "answers with a list": lambda *_: b"[]",
    "answers with an error": lambda *_: b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit"}}',
    "has no logs at all": instead("eth_getLogs", None),
    "has a log that is none": instead("eth_getLogs", [None]),
    "has an empty block": instead("eth_getBlockByNumber", {}),
    "has no block": instead("eth_getBlockByNumber", None),
    "is of another chain": instead("eth_chainId", "0x1"),
    "has a log without data": changed_log(data="0x"),
    "has a log without topics": changed_log(topics=[]),
    "has a log with one topic": changed_log(topics=["0x" + TRANSFER.hex()]),
    "has a log of another block": changed_log(blockNumber="0x0"),
    "has a log of another token": changed_log(address="0x" + "11" * 20),
    "has a log without a place": changed_log(logIndex="zero"),
    "has a newest block below the final one": lambda m, p, a: (
        {**a, "number": "0x0"} if m == "eth_getBlockByNumber" and p[0] == "latest" else a
    ),
    # It says it is at the head, and has not the last block of the range: that it has no logs says nothing.
    "is behind": lambda m, p, a: (
        None if m == "eth_getBlockByNumber" and p[0][:2] == "0x" else [] if m == "eth_getLogs" else a
    ),
}


def test_a_node_that_misbehaves_is_unavailable_and_moves_nothing(town: Town, node: Node):
    invoice = town.invoice()
    town.pay(invoice)
    town.city.outside.finalise()
    with reading(town.city.gateway.engine) as connection:
        before = store.cursor(connection, town.city.worker.rail.name)
    for what, wrong in MISBEHAVIOURS.items():
        node.wrong = wrong
        node.asking["timeout"] = 0.3 if what == "is silent" else 60
        with pytest.raises(Unavailable):
            print(what, node.worker.poll_chain())
        with reading(town.city.gateway.engine) as connection:
            assert store.cursor(connection, town.city.worker.rail.name) == before, what
        assert town.seen(invoice) == [], what
    node.wrong = None
    node.asking["timeout"] = 60
    node.worker.poll_chain()
    assert town.status(invoice) == "final"


def test_block_times_are_asked_for_where_the_logs_do_not_say_them(town: Town, node: Node):
    invoice = town.invoice()
    receipt = town.pay(invoice)
    node.wrong = lambda method, _, answer: (
        [{name: value for name, value in log.items() if name != "blockTimestamp"} for log in answer]
        if method == "eth_getLogs"
        else answer
    )
    node.worker.poll_chain()
    [seen] = town.seen(invoice)
    assert seen.at_s == town.city.outside.web3.eth.get_block(receipt["blockNumber"])["timestamp"]


def test_what_cannot_be_booked_yet_waits_in_the_queue_and_stops_nobody(town: Town, tmp_path: Path):
    """A rule that is missing on the ledger is the city's fault: the payer has paid, and the rail goes on."""
    first, second = town.invoice(), town.invoice()
    town.pay(first)
    town.deposit(second)
    town.city.outside.finalise()
    engine = db.engine(f"sqlite:///{tmp_path}/empty.db")
    heads = db.engine(f"sqlite:///{tmp_path}/empty-heads.db")
    ledger_store.create(engine, heads)
    known = town.payments
    blind = Payments(known.engine, LedgerView(engine), known.clock, known.rates, known.chain)
    worker = town.city.worker
    gateway = replace(town.city.gateway, payments=blind)
    Worker(gateway, None, worker.rail, worker._city, worker._relayer, worker._bank).poll_chain()
    assert (town.status(first), town.status(second)) == ("final", "final")
    [waiting] = town.unmatched()
    assert (waiting.invoice_id, (waiting.problem or "")[:2]) == (first.id, "V1")
    assert town.submitted() == []
    assert blind.book_again() == 0
    assert town.payments.book_again() == 1
    assert town.payments.book_again() == 0
    town.settle()
    assert town.unmatched() == []
    assert sum(transfer.amount for transfer in town.revenue()) == town.treasury()
    engine.dispose()
    heads.dispose()


def test_what_the_ledger_refuses_stands_in_the_queue(town: Town):
    """The asset's term ended between payment and record: nobody may miss that money."""
    invoice = town.invoice()
    town.pay(invoice)
    town.finalise()
    [id] = town.submitted()
    town.city.clock.wait(RETENTION_END_S - town.city.clock() + 1)
    town.record()
    assert town.revenue() == []
    [waiting] = town.unmatched()
    assert (waiting.transfer_id, waiting.invoice_id) == (id, invoice.id)
    assert "V2" in (waiting.problem or "")


def test_the_rail_gives_the_same_evidence_on_another_node(town: Town, anvil_url: str):
    """The same code against anvil: a deposit, a reorganisation by snapshot, and the payment again."""
    web3 = Web3(Web3.HTTPProvider(anvil_url))
    account = town.city.keys.account("deployer")
    web3.provider.make_request("anvil_setBalance", [account.address, hex(10**20)])
    token = deploy_token(web3, account, "Sample dollar", "USDT")
    start = web3.eth.block_number
    deployment = replace(town.city.plan.deployment, chain_id=web3.eth.chain_id, block=start)
    city = City(web3, deployment)
    rail = EvmRail(web3, Place(deployment, {token: "USDT"}))
    address = bytes.fromhex("aa" * 20)
    city.mint(account, token, town.city.keys.address("deployer"), 1_000)
    snapshot = web3.provider.make_request("evm_snapshot", [])["result"]
    city.transfer(account, token, address, 7)
    head = rail.head()
    [seen] = rail.scan(start + 1, head.latest, head, {address}.intersection)
    assert (seen.kind, seen.amount_minor, seen.at_s) == (Kind.DEPOSIT, 7, head.time_s)
    assert web3.provider.make_request("evm_revert", [snapshot])["result"] is True
    assert rail.scan(start + 1, rail.head().latest, rail.head(), {address}.intersection) == []
    web3.provider.make_request("evm_mine", [])
    city.transfer(account, token, address, 7)
    head = rail.head()
    [again] = rail.scan(start + 1, head.latest, head, {address}.intersection)
    assert again.key != seen.key


def test_ff13_a_token_outside_its_term_pays_nothing_by_itself_and_is_not_lost(town: Town):
    """The Council ended the token; what comes all the same waits for a person."""
    rail, invoice, before = town.city.worker.rail, town.invoice(), town.invoice()
    town.deposit(before)
    town.mine()
    ends_s = town.city.outside.web3.eth.get_block("latest")["timestamp"] + 1
    deployment = rail.place.deployment
    rail.place = Place(deployment, rail.place.tokens, {(deployment.router, town.token): Term(0, ends_s)})
    town.wait(60)
    town.deposit(invoice)
    town.finalise()
    assert (town.status(before), town.status(invoice)) == ("final", "open")
    [waiting] = town.unmatched()
    assert (waiting.invoice_id, waiting.amount_minor) == (None, invoice.due_minor)
    assert invoice.deposit_address is not None
    assert invoice.deposit_address.hex() in waiting.reference


def test_ff06_the_lag_is_told_and_grows_while_nothing_is_seen(town: Town, node: Node):
    node.worker.poll_chain()
    watch = node.worker._watch
    near = watch.sight()
    assert near.position > 0
    node.wrong = MISBEHAVIOURS["is broken"]
    town.wait(500)
    with pytest.raises(Unavailable):
        node.worker.poll_chain()
    # A block's time may be a few seconds ahead of the clock.
    assert 490 <= watch.sight().lag_s - near.lag_s <= 500
    [condition] = node.worker.rail.conditions()
    assert (condition.failures, "500" in condition.why) == (1, True)
    node.wrong = None
    node.worker.poll_chain()
    assert watch.sight().lag_s <= near.lag_s + 1


def test_a_block_is_read_when_it_is_new_and_once_more_when_it_is_final(town: Town, node: Node):
    invoice = town.invoice()
    node.worker.poll_chain()
    town.pay(invoice)
    read: list[tuple[int, int]] = []

    def note(method: str, parameters: list[Any], answer: Any) -> Any:
        if method == "eth_getLogs":
            read.append((int(parameters[0]["fromBlock"], 16), int(parameters[0]["toBlock"], 16)))
        return answer

    node.wrong = note
    height = town.city.outside.web3.eth.block_number
    stages = []
    for _ in range(4):
        node.worker.poll_chain()
        node.worker.poll_chain()
        stages.append(town.status(invoice))
        town.mine()
    assert stages == ["detected", "paid", "final", "final"]
    assert len([one for one in read if one[0] <= height <= one[1]]) == 2
