"""Deposits in the chain's own coin: seen by balances, paid by the event of their flush."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from contracts.bindings import COIN
from gateway.db import reading
from gateway.payments import store as payments_store
from gateway.payments.store import Invoice, tables
from gateway.rails import Kind
from gateway.rails.evm import EvmRail, HttpNode, Place, Pool
from gateway.rails.evm.balances import AT_ONCE, balance_code, read_balances
from gateway.rails.evm.rpc import Refused
from gateway.watching.coins import ALL_EVERY
from gateway.worker import Worker
from tests import servers
from tests.gateway.anvil_town import AnvilTown

COIN_ASSET = "ETH"


@pytest.fixture
def coin_worker(anvil_town: AnvilTown) -> Iterator[Worker]:
    """A worker of a city that takes the coin."""
    town, old = anvil_town, anvil_town.city.worker
    node = HttpNode(town.node.url)
    place = Place(town.city.plan.deployment, {town.token: "USDT", COIN: COIN_ASSET})
    rail = EvmRail(Pool([node], servers.CHAIN_ID), place)
    yield Worker(old.gateway, old.publication, rail, old._city, old._relayer, old._bank)
    node.close()


def coin_invoice(town: AnvilTown, wei: int) -> Invoice:
    """An invoice in the coin: its address and terms are as for any asset."""
    made = town.invoice()
    of = tables.invoice.c.id == made.id
    with town.city.gateway.engine.begin() as connection:
        connection.execute(update(tables.invoice).where(of).values(asset=COIN_ASSET, due=wei))
    return replace(made, asset=COIN_ASSET, due_minor=wei)


def give(town: AnvilTown, invoice: Invoice, wei: int) -> None:
    assert invoice.deposit_address is not None
    town.city.city.transfer(town.payer, COIN, invoice.deposit_address, wei)


def test_balances_of_many_addresses_are_read_with_one_question(anvil_town: AnvilTown):
    node = HttpNode(anvil_town.node.url)
    addresses = [number.to_bytes(20, "big") for number in range(0x9000, 0x9000 + AT_ONCE + 40)]
    for at in (0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 39):
        anvil_town.node.call("anvil_setBalance", "0x" + addresses[at].hex(), hex(at + 2**200))
    block = anvil_town.block()
    expected = {at: at + 2**200 for at in (0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 39)}
    assert read_balances(node, addresses, block) == [expected.get(at, 0) for at in range(len(addresses))]
    assert read_balances(node, [], block) == []

    class NoCreation:
        """A node that runs no creation in a call."""

        name = "no creation"
        asked = 0

        def ask(self, *_: object) -> Any:
            raise Refused(self.name, -32000, "unsupported")

        def ask_all(self, asked: Any) -> list[Any]:
            NoCreation.asked += 1
            return node.ask_all(asked)

    found = read_balances(NoCreation(), addresses[:50], block)
    assert (found, NoCreation.asked) == ([expected.get(at, 0) for at in range(50)], 1)
    assert len(balance_code(addresses[:AT_ONCE])) < 49_152
    node.close()


def test_a_deposit_in_the_coin_is_flushed_at_once_and_pays_at_the_time_it_came(
    anvil_town: AnvilTown, coin_worker: Worker
):
    town, wei = anvil_town, 10**16
    first, second = coin_invoice(town, wei), coin_invoice(town, wei)
    give(town, first, wei)
    came_s = int(town.node.call("eth_getBlockByNumber", "latest", *(False,))["timestamp"], 16)
    assert coin_worker.flush() == 1
    # Nobody looked for a long time at what was flushed; it came in time all the same.
    town.node.call("evm_increaseTime", 10_000)
    town.city.clock.wait(10_000)
    for _ in range(3):
        town.mine(65)
        coin_worker.poll_chain()
        coin_worker.flush()
    assert (town.status(first), town.status(second)) == ("final", "expired")
    [seen] = town.seen(first)
    assert (seen.kind, seen.asset, seen.amount_minor) == (Kind.ROUTER, COIN_ASSET, wei)
    assert seen.city_minor == -(-wei * first.share_bps // 10_000)
    assert seen.at_s is not None
    assert seen.at_s <= came_s + 5
    treasury = town.city.plan.deployment.treasury
    assert town.city.city.balance(COIN, treasury) == seen.city_minor
    # What comes again to the same address is flushed again.
    give(town, first, 5)
    # Addresses of what was paid are looked at now and then.
    coin_worker._coins._looks = ALL_EVERY
    assert coin_worker.flush() == 1
    for _ in range(2):
        town.mine(65)
        coin_worker.poll_chain()
    # It came long after the time: the address was empty in between.
    assert town.payments.look(first.id)[1].held_minor == 5
    assert town.city.city.balance(COIN, first.deposit_address or b"") == 0


def test_a_payment_in_the_coin_by_wallet_is_seen_by_the_routers_event(
    anvil_town: AnvilTown, coin_worker: Worker
):
    town, wei = anvil_town, 10**16
    invoice = coin_invoice(town, wei)
    deployment = town.city.plan.deployment
    # The router's own words about the coin, without a Transfer beside them.
    receipt = town.city.city.transfer(town.payer, COIN, invoice.deposit_address or b"", wei)
    assert receipt["logs"] == []
    town.flush_coin(invoice)
    coin_worker.poll_chain()
    assert town.status(invoice) == "detected"
    [seen] = town.seen(invoice)
    assert seen.document
    assert b'"kind":"evm-coin"' in seen.document
    assert deployment.treasury.hex().encode() in seen.document


def test_a_hundred_open_invoices_in_the_coin_cost_one_question_a_block(
    anvil_town: AnvilTown, coin_worker: Worker
):
    town = anvil_town
    for _ in range(100):
        coin_invoice(town, 10**15)
    asked: list[str] = []
    node = coin_worker.rail.pool.endpoints[0].node
    real = node.ask

    def count(method: str, *parameters: object) -> Any:
        asked.append(method)
        return real(method, *parameters)

    node.ask = count  # type: ignore[method-assign]
    coin_worker._coins.poll()
    assert asked.count("eth_call") == 1
    assert asked.count("eth_getBalance") == 0
    asked.clear()
    coin_worker._coins.poll()
    assert asked.count("eth_call") == 0, "nothing is new"
    with reading(town.city.gateway.engine) as connection:
        assert payments_store.counts(connection) == {"open": 100}
