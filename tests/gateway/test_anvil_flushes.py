"""Flushes on a real node: in batches, through the sender, and one that cannot go stops no other."""

from __future__ import annotations

from typing import Any

import pytest
from web3 import Web3

from contracts.bindings import Signature, sign_digest
from gateway.db import reading
from gateway.payments.store import Invoice
from gateway.rails import Kind
from gateway.relayer.flushes import Policy
from gateway.sending import store as sending_store
from ledger.records import keccak256
from tests.gateway.anvil_town import AnvilTown, check_against_a_rescan, compiled


def states(town: AnvilTown) -> dict[str, int]:
    with reading(town.city.gateway.engine) as connection:
        return sending_store.counts(connection, town.city.worker.rail.name)


def deny(town: AnvilTown, *denied: bytes) -> None:
    """The token turns on these holders: its code is changed, its balances stay."""
    code = compiled()["DenyingToken"]["runtime"]
    town.node.call("anvil_setCode", Web3.to_checksum_address(town.token), code)
    selector = keccak256(b"deny(address)")[:4]
    for holder in denied:
        town.transact(town.payer, town.token, selector + holder.rjust(32, b"\0"))


def flushed(town: AnvilTown, invoices: list[Invoice]) -> list[int]:
    """The gas that each transaction used which flushes these invoices, all of them in one block."""
    for invoice in invoices:
        town.deposit(invoice)
    town.finalise()
    relayer = town.city.keys.account("relayer").address.lower()
    with town.unmined():
        assert town.city.worker.flush() == len(invoices)
        town.mine()
        block = town.node.call("eth_getBlockByNumber", "latest", *(True,))
    sent = [one["hash"] for one in block["transactions"] if one["from"] == relayer]
    return [int(town.node.call("eth_getTransactionReceipt", one)["gasUsed"], 16) for one in sent]


def test_ff28_deposits_are_flushed_in_batches_and_a_flush_costs_far_less_than_one_for_each(
    anvil_town: AnvilTown,
):
    town = anvil_town
    relayer = town.city.keys.account("relayer").address
    before = int(town.node.call("eth_getTransactionCount", relayer, "latest"), 16)
    alone = [town.invoice() for _ in range(5)]
    together = [town.invoice() for _ in range(25)]
    flushes = town.city.worker._flushes
    flushes.policy = Policy(batch=1)
    one_by_one = flushed(town, alone)
    assert len(one_by_one) == 5
    flushes.policy = Policy()
    in_batches = flushed(town, together)
    # Twenty and five: two transactions for 25 addresses.
    assert len(in_batches) == 2
    # For each address the larger batch uses less than the cheapest that went alone, by a quarter at least.
    assert max(in_batches) / 20 < 0.75 * min(one_by_one), (in_batches, one_by_one)
    assert sum(in_batches) < 0.80 * 25 * min(one_by_one), (in_batches, one_by_one)
    town.finalise()
    town.city.worker.flush()
    assert int(town.node.call("eth_getTransactionCount", relayer, "latest"), 16) == before + 7
    town.record()
    check_against_a_rescan(town, alone + together, [])
    assert states(town) == {"final": 7}


def test_ff28_a_few_wait_for_more_and_what_is_not_worth_its_gas_waits_for_more_of_its_own(
    anvil_town: AnvilTown,
):
    town = anvil_town
    small, large = town.invoice(), town.invoice()
    least = small.due_minor
    town.city.worker._flushes.policy = Policy(wait_s=600, least_minor={"USDT": least})
    town.deposit(small, least - 1)
    town.deposit(large)
    town.finalise()
    assert town.city.worker.flush() == 0
    town.city.clock.wait(600)
    assert town.city.worker.flush() == 1
    town.finalise()
    town.city.clock.wait(600)
    town.city.worker.flush()
    assert town.city.city.balance(town.token, small.deposit_address or b"") == least - 1
    # With the rest it is worth it.
    town.deposit(small, 1)
    town.finalise()
    town.city.clock.wait(600)
    assert town.city.worker.flush() == 1
    town.finalise()
    assert town.city.city.balance(town.token, small.deposit_address or b"") == 0


def test_a_flush_that_is_refused_is_tried_alone_so_that_it_holds_up_no_other(anvil_town: AnvilTown):
    """The token refuses the treasury's money from one address: its neighbours in the batch go on."""
    town = anvil_town
    invoices = [town.invoice() for _ in range(3)]
    for invoice in invoices:
        town.deposit(invoice)
    town.finalise()
    deny(town, invoices[1].deposit_address or b"")
    worker = town.city.worker
    for _ in range(12):
        worker.flush()
        town.city.clock.wait(700)
    town.finalise()
    held = [town.city.city.balance(town.token, invoice.deposit_address or b"") for invoice in invoices]
    assert held == [0, invoices[1].due_minor, 0]
    assert states(town)["dropped"] >= 1
    # When it is let go, it goes.
    town.transact(town.payer, town.token, keccak256(b"deny(address)")[:4] + bytes(32))
    for _ in range(3):
        town.city.clock.wait(30_000)
        worker.flush()
        town.finalise()
    town.record()
    check_against_a_rescan(town, invoices, [])


@pytest.mark.parametrize("by", ["router", "deposit"])
def test_ff60_a_merchant_whom_the_token_refuses_keeps_no_payer_from_paying(anvil_town: AnvilTown, by: str):
    town = anvil_town
    invoice, other = town.invoice(), town.invoice()
    merchant = town.city.keys.address("merchant")
    deny(town, merchant)
    if by == "router":
        town.pay(invoice)
    else:
        town.deposit(invoice)
        town.deposit(other)
    town.settle()
    assert town.status(invoice) == "final"
    share = -(-invoice.due_minor * invoice.share_bps // 10_000)
    owed = town.city.city.credit("router", merchant, town.token)
    assert owed == (invoice.due_minor - share) * (1 if by == "router" else 2)
    check_against_a_rescan(
        town, [] if by == "router" else [invoice, other], [invoice] if by == "router" else []
    )


def test_ff61_a_permit_that_somebody_brought_first_leaves_the_payment_paid(anvil_town: AnvilTown):
    town = anvil_town
    web3, payer = town.city.outside.web3, town.city.keys.address("payer")
    invoice: Invoice = town.invoice()
    quote, signature = town.quote(invoice)
    router = town.city.plan.deployment.router
    deadline = town.city.clock() + 10_000
    asked = {"to": "0x" + town.token.hex(), "data": "0x" + keccak256(b"DOMAIN_SEPARATOR()")[:4].hex()}
    domain = bytes.fromhex(town.node.call("eth_call", asked, "latest")[2:])
    named = keccak256(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
    words = [payer.rjust(32, b"\0"), router.rjust(32, b"\0"), quote.amount.to_bytes(32, "big"), bytes(32),
             deadline.to_bytes(32, "big")]  # fmt: skip
    digest = keccak256(b"\x19\x01" + domain + keccak256(named + b"".join(words)))
    permit: Signature = sign_digest(town.payer, digest)
    # Whoever sees it in the pool brings it to the token itself.
    thief = town.city.keys.account("builder")
    data = keccak256(b"permit(address,address,uint256,uint256,uint8,bytes32,bytes32)")[:4] + b"".join(
        [*words[:3], words[4], permit.v.to_bytes(32, "big"), permit.r, permit.s]
    )
    town.transact(thief, town.token, data)
    receipt: Any = town.city.city.pay_with_permit(
        town.payer, quote, signature, quote.amount, deadline, permit
    )
    assert receipt["status"] == 1
    assert web3.eth.block_number >= receipt["blockNumber"]
    town.settle()
    assert [piece.kind for piece in town.seen(invoice)] == [Kind.ROUTER]
    check_against_a_rescan(town, [], [invoice])
