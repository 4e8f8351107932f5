"""A smart-contract wallet pays without gas by its own word (ERC-1271), and is told what does not go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from web3 import Web3

from contracts.bindings import PERMIT2, authorization_digest, city_part, permit2_digest, sign_digest
from gateway.payments.store import Invoice
from gateway.rails import Kind
from gateway.relayer.authorization import Authorization, Scheme
from gateway.relayer.service import HOUR_S, Policy, Progress, Relayer, Told
from gateway.relayer.wallets import SIGNATURE_BYTES_MOST, UNDEPLOYED, wrapped
from ledger.records import Invalid, keccak256
from tests.gateway.anvil_town import AnvilTown, check_against_a_rescan, compiled
from tests.gateway.test_anvil_payers import OWNERS, call, create, signed
from tests.gateway.test_relayer import domain
from tests.gateway.test_relayer import signed as signed_by_key
from tests.servers import ROOT

NONCE = 77


def put_permit2(town: AnvilTown) -> None:
    code = (ROOT / "var" / "permit2" / "code.hex").read_text().strip()
    town.node.call("anvil_setCode", Web3.to_checksum_address(PERMIT2), code)


@pytest.fixture
def multisig(anvil_town: AnvilTown) -> Any:
    """Two of three owners, with tokens that Permit2 may move."""
    town = anvil_town
    put_permit2(town)
    wallet = create(town, compiled()["Multisig"], [owner.address for owner in OWNERS])
    approve = keccak256(b"approve(address,uint256)")[:4] + encode(
        ["address", "uint256"], ["0x" + PERMIT2.hex(), 2**255]
    )
    words = (("uint256", town.city.plan.deployment.chain_id), ("address", wallet.address), ("uint256", 0),
             ("address", "0x" + town.token.hex()), ("bytes32", keccak256(approve)))  # fmt: skip
    v, r, s = zip(*(signed(owner, *words) for owner in OWNERS[:2]), strict=True)
    token = Web3.to_checksum_address(town.token)
    call(town, wallet, "execute", token, approve, list(v), list(r), list(s))
    return wallet


def relayer_of(town: AnvilTown) -> Relayer:
    found = town.city.gateway.relayer
    assert found is not None
    return found


def digest_of(town: AnvilTown, invoice: Invoice) -> bytes:
    quote, _ = town.quote(invoice)
    deployment = town.city.plan.deployment
    city = city_part(quote.amount, quote.share_bps)
    return permit2_digest(deployment.chain_id, quote, city, NONCE, deployment.router)


def owners_signature(town: AnvilTown, wallet: Any, digest: bytes, owners: Any = OWNERS[1:]) -> bytes:
    """What the wallet itself takes: r, s, v of two owners over the hash and the wallet."""
    chain_id = town.city.plan.deployment.chain_id
    words = (("uint256", chain_id), ("address", wallet.address), ("bytes32", digest))
    return b"".join(r + s + bytes([v]) for v, r, s in (signed(owner, *words) for owner in owners))


def by_permit2(town: AnvilTown, wallet: Any, invoice: Invoice, owners: Any = OWNERS[1:]) -> Authorization:
    signature = owners_signature(town, wallet, digest_of(town, invoice), owners)
    return Authorization(Scheme.PERMIT2, bytes.fromhex(wallet.address[2:]), signature, NONCE)


def refused(town: AnvilTown, invoice: Invoice, asked: Authorization) -> str:
    with pytest.raises(Invalid) as error:
        relayer_of(town).authorize(invoice.id, asked)
    assert error.value.rule == "gasless"
    return str(error.value)


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_multisig_pays_by_permit2_without_gas_and_it_is_booked(
    anvil_town: AnvilTown, multisig: Any, is_wrapped: bool
):
    """As the page's payer does it: over HTTP. A wallet that wraps for ERC-6492 after its deployment is unwrapped."""
    town = anvil_town
    invoice = town.invoice()
    asked = by_permit2(town, multisig, invoice)
    signature = wrapped(b"\x07" * 20, b"created", asked.signature) if is_wrapped else asked.signature
    body = {
        "scheme": "permit2", "payer": multisig.address, "signature": "0x" + signature.hex(), "nonce": str(NONCE)
    }  # fmt: skip
    client = town.client()
    answer = client.post(f"/v1/invoices/{invoice.id}/authorizations", json=body)
    assert answer.status_code == 202, answer.text
    again = client.post(f"/v1/invoices/{invoice.id}/authorizations", json=body)
    assert again.json()["id"] == answer.json()["id"]
    with town.unmined():
        town.city.worker.send()
        town.mine()
    town.finalise()
    town.city.worker.send()
    assert relayer_of(town).look(invoice.id, answer.json()["id"]).progress is Progress.PAID
    [seen] = town.seen(invoice)
    assert seen.kind is Kind.ROUTER
    town.record()
    check_against_a_rescan(town, [], [invoice])


def test_a_wallets_word_is_asked_and_nothing_is_sent_without_it(anvil_town: AnvilTown, multisig: Any):
    town = anvil_town
    invoice, other = town.invoice(), town.invoice()
    good = by_permit2(town, multisig, invoice)
    # Twice the same owner; of another invoice; one owner's own 65 bytes; one byte changed; too long; not ERC-6492.
    for wrong in (
        by_permit2(town, multisig, invoice, [OWNERS[0], OWNERS[0]]),
        by_permit2(town, multisig, other),
        replace(good, signature=good.signature[:65]),
        replace(good, signature=good.signature[:-1] + b"\x1d"),
    ):
        assert "ERC-1271" in refused(town, invoice, wrong)
    long = replace(good, signature=good.signature + bytes(SIGNATURE_BYTES_MOST))
    assert f"65 to {SIGNATURE_BYTES_MOST}" in refused(town, invoice, long)
    assert "ERC-6492" in refused(town, invoice, replace(good, signature=good.signature + UNDEPLOYED))
    assert town.city.gateway.payments.look(invoice.id)[1].status.value == "open"


def test_a_wallet_that_is_not_deployed_is_told_to_be_deployed_first(anvil_town: AnvilTown, multisig: Any):
    town = anvil_town
    invoice = town.invoice()
    good = by_permit2(town, multisig, invoice)
    nobody = replace(good, payer=b"\x5a" * 20, signature=wrapped(b"\x07" * 20, b"make", good.signature))
    for asked in (nobody, replace(nobody, scheme=Scheme.EIP3009)):
        told = refused(town, invoice, asked)
        assert "ERC-6492" in told
        assert "deploy it first" in told


def test_eip_3009_of_a_contract_wallet_is_refused_and_names_the_other_ways(
    anvil_town: AnvilTown, multisig: Any
):
    """The router's door takes v, r and s (contracts/src/interfaces/IPayments.sol): `bytes` cannot be brought."""
    town = anvil_town
    invoice = town.invoice()
    payer = bytes.fromhex(multisig.address[2:])
    quote, _ = town.quote(invoice)
    digest = authorization_digest(domain(town), quote, payer, town.city.plan.deployment.router)
    one = sign_digest(OWNERS[0], digest)
    for signature in (owners_signature(town, multisig, digest), one.r + one.s + bytes([one.v])):
        told = refused(town, invoice, Authorization(Scheme.EIP3009, payer, signature))
        assert "Permit2" in told
        assert "allowance" in told


def two_faced(town: AnvilTown) -> Any:
    """A wallet whose owner spends the relayer's gas: it says yes to whoever asks, and no in a block."""
    token, spender = Web3.to_checksum_address(town.token), Web3.to_checksum_address(PERMIT2)
    return create(town, compiled()["TwoFaced"], token, spender)


def attack(
    town: AnvilTown, relayer: Relayer, wallets: list[Any], most: int
) -> tuple[list[tuple[str, Told]], Invalid]:
    """Bring authorizations of such wallets until one is refused; each of an invoice of its own."""
    brought: list[tuple[str, Told]] = []
    for number in range(most):
        payer = bytes.fromhex(wallets[number % len(wallets)].address[2:])
        invoice = town.invoice()
        try:
            told = relayer.authorize(invoice.id, Authorization(Scheme.PERMIT2, payer, b"yes" * 30, number))
        except Invalid as refused:
            return brought, refused
        brought.append((invoice.id, told))
    pytest.fail(f"{most} authorizations of contracts were taken")


def let_mine(town: AnvilTown) -> None:
    with town.unmined():
        town.city.worker.send()
        town.mine()
    town.finalise()
    town.city.worker.send()


def check_key_is_served(town: AnvilTown, relayer: Relayer) -> None:
    invoice = town.invoice()
    told = relayer.authorize(invoice.id, signed_by_key(town, invoice))
    let_mine(town)
    assert relayer.look(invoice.id, told.id).progress is Progress.PAID


def test_ff27_wallets_that_change_their_word_in_the_block_take_no_gas_from_payers_with_keys(
    anvil_town: AnvilTown, monkeypatch: pytest.MonkeyPatch
):
    """They go when they are asked, and cost gas when they are brought; they have a fifth of the hour."""
    town, relayer = anvil_town, relayer_of(anvil_town)
    put_permit2(town)
    monkeypatch.setattr(relayer, "policy", Policy(gas_an_hour=8_000_000))
    brought, refused = attack(town, relayer, [two_faced(town) for _ in range(4)], 20)
    assert (refused.rule, refused.where, len(brought)) == ("quota", "contracts", 2)
    assert "1400000 gas was spent for contracts in an hour, 700000 more may be" in refused.why
    assert refused.why.endswith("1600000 is the most")
    let_mine(town)
    ends = [relayer.look(id, told.id) for id, told in brought]
    assert [(end.progress, "refused" in end.why) for end in ends] == [(Progress.FAILED, True)] * 2
    assert all(end.transaction for end in ends), "they were to be refused in a block, and cost gas"
    check_key_is_served(town, relayer)


def test_ff27_after_a_few_failures_contract_wallets_pay_by_themselves_for_an_hour(
    anvil_town: AnvilTown, multisig: Any, monkeypatch: pytest.MonkeyPatch
):
    town, relayer = anvil_town, relayer_of(anvil_town)
    wallet = two_faced(town)
    monkeypatch.setattr(relayer, "policy", Policy(contract_failures_an_hour=2))
    invoice = town.invoice()
    asked = Authorization(Scheme.PERMIT2, bytes.fromhex(wallet.address[2:]), b"yes" * 30, NONCE)
    for _ in range(2):
        # The same again is another attempt, and another failure.
        told = relayer.authorize(invoice.id, asked)
        let_mine(town)
        assert relayer.look(invoice.id, told.id).progress is Progress.FAILED
    invoice = town.invoice()
    with pytest.raises(Invalid) as refused:
        relayer.authorize(invoice.id, by_permit2(town, multisig, invoice))
    assert (refused.value.rule, refused.value.where) == ("quota", "contracts")
    assert "2 authorizations of contracts failed in an hour, 2 is the most" in refused.value.why
    check_key_is_served(town, relayer)
    town.wait(HOUR_S + 1)
    invoice = town.invoice()
    assert relayer.authorize(invoice.id, by_permit2(town, multisig, invoice)).progress is Progress.QUEUED
