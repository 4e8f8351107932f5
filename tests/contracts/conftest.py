"""Chains for the tests of contracts: each module has its own, because its tests move the clock by weeks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from web3 import HTTPProvider, Web3

from contracts.devchain import DevChain
from tests import servers
from tests.contracts.world import (
    AUDITOR,
    DAY,
    DEPLOYER,
    ETHER,
    MERCHANT,
    OPERATOR,
    PAYER,
    START_S,
    World,
    found,
    wallet,
)


@pytest.fixture(scope="module", params=["devchain", "anvil"])
def chain(request: pytest.FixtureRequest) -> Iterator[Web3]:
    """An own chain for this module: its tests move the clock by weeks."""
    rich = [str(wallet(key).address) for key in (DEPLOYER, PAYER, OPERATOR, AUDITOR, MERCHANT)]
    if request.param == "devchain":
        with DevChain(None, dict.fromkeys(rich, 100 * ETHER), lambda: START_S) as machine:
            yield Web3(machine.provider)
        return
    with servers.anvil() as node:
        for address in rich:
            node.call("anvil_setBalance", address, hex(100 * ETHER))
        yield Web3(HTTPProvider(node.url))


@pytest.fixture(scope="module")
def founded(chain: Web3) -> World:
    """Deployed, with the acts of the first day enacted and their notice over."""
    return found(chain)


@pytest.fixture
def world(founded: World) -> Iterator[World]:
    """The founded city, put back after each test."""
    snapshot = founded.ask("evm_snapshot")
    yield replace(founded, log=list(founded.log))
    founded.ask("evm_revert", snapshot)


@pytest.fixture
def open_world(world: World) -> World:
    """The same when 14 days have passed: direct settlement is in force, the builder has waited."""
    world.wait(14 * DAY + 1)
    return world
