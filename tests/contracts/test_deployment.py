"""What is deployed is read back: other code, other arguments and other founders are each seen."""

from __future__ import annotations

from dataclasses import replace

from web3 import Web3

from contracts.deployment import show, verify
from ledger.records import Quorum
from tests.contracts.world import RETENTION_END_S, World, founding


def test_a_deployment_is_what_the_sources_give(world: World) -> None:
    assert verify(world.w3, world.city.deployment, RETENTION_END_S, founding()) == []


def test_another_end_of_retention_or_other_founders_are_seen(world: World) -> None:
    deployment = world.city.deployment
    wrong = verify(world.w3, deployment, RETENTION_END_S + 1, founding())
    assert {(each.contract, each.why.split("()")[0]) for each in wrong} == {
        ("council", "retentionEnd"),
        ("treasury", "retentionEnd"),
    }
    last = founding()[-1]
    assert isinstance(last, Quorum)
    others = [*founding()[:-1], replace(last, needed=2)]
    assert [each.contract for each in verify(world.w3, deployment, RETENTION_END_S, others)] == ["council"]


def test_a_swapped_contract_is_seen(world: World) -> None:
    deployment = world.city.deployment
    swapped = replace(deployment, treasury=deployment.router)
    assert [each.contract for each in verify(world.w3, swapped, RETENTION_END_S, founding())] == ["treasury"]
    noted = replace(deployment, code_hashes={**deployment.code_hashes, "anchor": bytes(32)})
    assert [each.contract for each in verify(world.w3, noted, RETENTION_END_S, founding())] == ["anchor"]
    gone = replace(deployment, council=bytes(19) + b"\1")
    assert verify(Web3(world.w3.provider), gone, RETENTION_END_S, founding())[0].contract == "council"


def test_it_can_be_shown(world: World) -> None:
    told = "\n".join(show(world.city))
    assert all(
        getattr(world.city.deployment, name).hex() in told
        for name in ("council", "anchor", "watchdog", "treasury", "router")
    )
    assert "3 must sign" in told
