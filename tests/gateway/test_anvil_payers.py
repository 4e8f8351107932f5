"""Whoever pays, and through whatever contract: what moved is what counts (field failures 01, 02, 03, 13, 15)."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from contracts.bindings import PERMIT2, city_part, permit2_digest, sign_digest
from gateway.payments.store import Invoice
from gateway.rails import Kind
from gateway.relayer.encoding import router_call
from gateway.relayer.service import Authorization, Progress, Scheme
from ledger.records import keccak256
from tests.gateway.anvil_town import AnvilTown, check_against_a_rescan, compiled
from tests.servers import ROOT

OWNERS: list[LocalAccount] = [Account.from_key(bytes([number]) * 32) for number in (0x21, 0x22, 0x23)]


@pytest.fixture(scope="session")
def payers() -> dict[str, dict[str, Any]]:
    return compiled()


def create(town: AnvilTown, made: dict[str, Any], *arguments: object) -> Any:
    """A contract that the payer deploys, and that then has tokens."""
    web3 = town.city.outside.web3
    data = (
        web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"])
        .constructor(*arguments)
        .data_in_transaction
    )
    receipt = town.transact(town.payer, None, bytes.fromhex(data[2:]))
    contract = web3.eth.contract(receipt["contractAddress"], abi=made["abi"])
    town.city.city.transfer(town.payer, town.token, bytes.fromhex(contract.address[2:]), 10**9)
    return contract


def call(town: AnvilTown, contract: Any, function: str, *arguments: object) -> Any:
    data = contract.encode_abi(function, args=arguments)
    return town.transact(town.payer, bytes.fromhex(contract.address[2:]), bytes.fromhex(data[2:]))


def transfer_data(invoice: Invoice, amount: int) -> bytes:
    assert invoice.deposit_address is not None
    return keccak256(b"transfer(address,uint256)")[:4] + encode(
        ["address", "uint256"], ["0x" + invoice.deposit_address.hex(), amount]
    )


def signed(account: LocalAccount, *words: tuple[str, object]) -> tuple[int, bytes, bytes]:
    digest = keccak256(encode([kind for kind, _ in words], [value for _, value in words]))
    made = sign_digest(account, digest)
    return made.v, made.r, made.s


def test_ff02_a_batch_sender_pays_many_and_one_of_them_twice(anvil_town: AnvilTown, payers: Any):
    town = anvil_town
    invoices = [town.invoice() for _ in range(5)]
    batch = create(town, payers["BatchSender"])
    half = invoices[0].due_minor // 2
    amounts = [half, *(invoice.due_minor for invoice in invoices[1:]), invoices[0].due_minor - half]
    to = [Web3.to_checksum_address(invoice.deposit_address or b"") for invoice in [*invoices, invoices[0]]]
    call(town, batch, "send", Web3.to_checksum_address(town.token), to, amounts)
    town.poll()
    assert {town.status(invoice) for invoice in invoices} == {"detected"}
    # Two in one transaction are two (field failure 15).
    assert len(town.seen(invoices[0])) == 2
    town.settle()
    check_against_a_rescan(town, invoices, [])


def test_ff02_a_multisig_pays_by_transfer_and_through_the_router(anvil_town: AnvilTown, payers: Any):
    town = anvil_town
    multisig = create(town, payers["Multisig"], [owner.address for owner in OWNERS])
    deposited, by_router = town.invoice(), town.invoice()
    quote, signature = town.quote(by_router)
    router = town.city.plan.deployment.router
    approve = keccak256(b"approve(address,uint256)")[:4] + encode(
        ["address", "uint256"], ["0x" + router.hex(), 10**9]
    )
    chain_id = town.city.plan.deployment.chain_id
    steps = [
        (town.token, transfer_data(deposited, deposited.due_minor)),
        (town.token, approve),
        (router, router_call("pay", quote.words(), signature.r, signature.vs)),
    ]
    for nonce, (to, data) in enumerate(steps):
        words = (("uint256", chain_id), ("address", multisig.address), ("uint256", nonce),
                 ("address", "0x" + to.hex()), ("bytes32", keccak256(data)))  # fmt: skip
        both = [signed(owner, *words) for owner in OWNERS[1:]]
        v, r, s = zip(*both, strict=True)
        call(town, multisig, "execute", Web3.to_checksum_address(to), data, list(v), list(r), list(s))
    town.settle()
    check_against_a_rescan(town, [deposited], [by_router])


def test_ff02_a_relay_like_erc_4337_pays_for_two_wallets_at_once(anvil_town: AnvilTown, payers: Any):
    town = anvil_town
    entry = create(town, payers["EntryPoint"])
    wallets = [create(town, payers["Wallet"], entry.address, owner.address) for owner in OWNERS[:2]]
    invoices = [town.invoice() for _ in wallets]
    chain_id = town.city.plan.deployment.chain_id
    operations = []
    for wallet, owner, invoice in zip(wallets, OWNERS, invoices, strict=False):
        data = transfer_data(invoice, invoice.due_minor)
        v, r, s = signed(
            owner, ("uint256", chain_id), ("address", wallet.address), ("uint256", 0),
            ("address", "0x" + town.token.hex()), ("bytes32", keccak256(data)),
        )  # fmt: skip
        operations.append((wallet.address, 0, Web3.to_checksum_address(town.token), data, v, r, s))
    call(town, entry, "handle", operations)
    town.settle()
    check_against_a_rescan(town, invoices, [])


def test_ff03_nothing_that_an_anonymous_caller_sends_changes_who_is_credited(anvil_town: AnvilTown):
    """The page and the API take neither a sender nor a transaction to credit; the chain alone says whose it is."""
    town = anvil_town
    mine, theirs = town.invoice(), town.invoice()
    receipt = town.deposit(mine)
    client = town.client()
    claims = {
        "transaction": "0x" + bytes(receipt["transactionHash"]).hex(),
        "sender": town.payer.address,
        "payer": town.payer.address,
        "from": town.payer.address,
    }
    for path in (
        f"/v1/invoices/{theirs.id}",
        f"/v1/invoices/{theirs.id}/authorizations",
        f"/pay/{theirs.id}",
    ):
        client.post(path, json=claims)
        client.post(path, data=claims)
        client.get(path, params=claims)
        client.patch(path, json=claims)
        client.put(path, json=claims)
    town.settle()
    assert (town.status(mine), town.status(theirs)) == ("final", "open")
    check_against_a_rescan(town, [mine, theirs], [])


def test_ff13_a_fake_token_and_an_event_in_the_routers_words_move_nothing(anvil_town: AnvilTown, payers: Any):
    town = anvil_town
    fake = create(town, payers["FakeToken"])
    invoice = town.invoice()
    deployment = town.city.plan.deployment
    call(town, fake, "transfer", Web3.to_checksum_address(invoice.deposit_address or b""), invoice.due_minor)
    call(town, fake, "pretend", invoice.number, Web3.to_checksum_address(town.token),
         Web3.to_checksum_address(deployment.treasury), invoice.due_minor)  # fmt: skip
    town.settle()
    assert town.status(invoice) == "open"
    assert town.seen(invoice) == []
    check_against_a_rescan(town, [invoice], [])


@pytest.mark.parametrize("share", ["merchant", "city"])
def test_permit2_pays_without_gas_of_the_payers(anvil_town: AnvilTown, share: str):
    town = anvil_town
    code = (ROOT / "var" / "permit2" / "code.hex").read_text().strip()
    town.node.call("anvil_setCode", Web3.to_checksum_address(PERMIT2), code)
    approve = keccak256(b"approve(address,uint256)")[:4]
    town.transact(
        town.payer, town.token, approve + encode(["address", "uint256"], ["0x" + PERMIT2.hex(), 2**255])
    )
    invoice = town.invoice() if share == "merchant" else town.bill("USDT")
    quote, _ = town.quote(invoice)
    deployment = town.city.plan.deployment
    digest = permit2_digest(
        deployment.chain_id, quote, city_part(quote.amount, quote.share_bps), 77, deployment.router
    )
    made = sign_digest(town.payer, digest)
    payer = town.city.keys.address("payer")
    asked = Authorization(Scheme.PERMIT2, payer, made.r + made.s + bytes([made.v]), 77)
    relayer = town.city.gateway.relayer
    assert relayer is not None
    told = relayer.authorize(invoice.id, asked)
    assert relayer.authorize(invoice.id, asked).id == told.id
    with town.unmined():
        town.city.worker.send()
        town.mine()
    town.finalise()
    town.city.worker.send()
    assert relayer.look(invoice.id, told.id).progress is Progress.PAID
    [seen] = town.seen(invoice)
    assert seen.kind is Kind.ROUTER
    town.record()
    check_against_a_rescan(town, [], [invoice])
