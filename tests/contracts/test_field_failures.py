"""Field failures on the chain: each has its tests by number, in Solidity or here."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from web3 import HTTPProvider, Web3

from contracts.bindings import COIN, permit2_digest, sign_digest
from ledger.records import Invalid
from tests import servers
from tests.contracts.world import (
    BUILDER,
    DAY,
    DEPLOYER,
    ETHER,
    GATEWAY,
    MERCHANT,
    OPERATOR,
    PAYER,
    World,
    found,
    quote_for,
    wallet,
)

ON_CHAIN = (13, 21, 22, *range(55, 63))


def names() -> str:
    """The names of all tests of contracts."""
    solidity = (servers.ROOT / "contracts" / "test").glob("*.sol")
    python = (servers.ROOT / "tests" / "contracts").glob("test_*.py")
    return "\n".join(
        name
        for path in (*solidity, *python)
        for name in re.findall(r"(?:function|def) (test\w+)", path.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("number", ON_CHAIN)
def test_each_field_failure_of_the_chain_has_a_test(number: int) -> None:
    assert re.search(rf"^test(Fuzz)?_ff{number}_", names(), re.MULTILINE)


def test_ff22_of_two_that_pay_one_quote_in_the_same_block_one_pays_and_one_is_refused() -> None:
    with servers.anvil() as node, ThreadPoolExecutor(2) as pool:
        payers = [wallet(PAYER), wallet(MERCHANT)]
        for account in (wallet(DEPLOYER), wallet(OPERATOR), *payers):
            node.call("anvil_setBalance", account.address, hex(100 * ETHER))
        world = found(Web3(HTTPProvider(node.url)))
        world.wait(14 * DAY + 1)
        quote, signature = quote_for(world, COIN, ETHER, merchant=BUILDER.address)
        node.call("evm_setAutomine", *[False])
        # Each has tried it before it was sent, and nothing refused.
        tried = [pool.submit(world.city.pay, account, quote, signature) for account in payers]
        deadline_s = time.monotonic() + 30
        while len(world.w3.eth.get_block("pending")["transactions"]) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        node.call("evm_mine")
        refusals = [each.exception(60) for each in tried]
        (refusal,) = (each for each in refusals if each is not None)
        assert isinstance(refusal, Invalid)
        assert refusal.rule == "C:QuoteUsed"
        (receipt,) = (each.result() for each, why in zip(tried, refusals, strict=True) if why is None)
        assert len(world.w3.eth.get_block(receipt["blockNumber"])["transactions"]) == 2
        city = world.city
        paid = city.balance(COIN, city.deployment.treasury) + city.balance(COIN, BUILDER.address)
        assert paid == ETHER


def test_ff61_a_permit_that_is_worth_nothing_leaves_the_allowance_to_decide(open_world: World) -> None:
    city, payer = open_world.city, wallet(PAYER)
    city.mint(wallet(DEPLOYER), open_world.token, PAYER.address, 1_000)
    quote, signature = quote_for(open_world, open_world.token, 1_000)
    spent = sign_digest(payer, b"\1" * 32)
    with pytest.raises(Invalid, match="C:ERC20InsufficientAllowance"):
        city.pay_with_permit(payer, quote, signature, 1_000, quote.valid_until, spent)
    city.allow(payer, open_world.token, 1_000)
    city.pay_with_permit(payer, quote, signature, 1_000, quote.valid_until, spent)
    assert city.is_quote_used(GATEWAY.address, quote)


def test_a_payment_without_permit2_on_the_chain_is_refused_and_costs_nothing(open_world: World) -> None:
    city, payer = open_world.city, wallet(PAYER)
    quote, signature = quote_for(open_world, open_world.token, 1_000)
    digest = permit2_digest(city.deployment.chain_id, quote, 30, 1, city.deployment.router)
    with pytest.raises(Invalid, match="C:"):
        city.pay_with_permit2(payer, quote, signature, PAYER.address, 1, sign_digest(payer, digest))
    assert not city.is_quote_used(GATEWAY.address, quote)


def test_ff55_a_refusal_changes_nothing_and_the_next_try_pays(open_world: World) -> None:
    city, payer = open_world.city, wallet(PAYER)
    city.mint(wallet(DEPLOYER), open_world.token, PAYER.address, 1_000)
    quote, signature = quote_for(open_world, open_world.token, 1_000)
    with pytest.raises(Invalid):
        city.pay(payer, quote, signature)
    city.allow(payer, open_world.token, 1_000)
    with pytest.raises(Invalid):
        city.pay(payer, replace(quote, amount=999), signature)
    city.pay(payer, quote, signature)
    assert city.balance(open_world.token, PAYER.address) == 0
