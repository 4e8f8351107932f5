"""What is deployed is read back: other code, other arguments and other founders are each seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hexbytes import HexBytes
from typer.testing import CliRunner
from web3 import HTTPProvider, Web3
from web3.types import TxParams

from contracts.bindings import deploy, plan
from contracts.create2 import FACTORY
from contracts.deployment import show, verify
from contracts.transactions import CONTRACTS, transact
from gateway.cli import app
from ledger.records import Invalid, Quorum, as_json
from tests import servers
from tests.city import digest
from tests.contracts.world import (
    DEPLOYER,
    ETHER,
    LEDGER,
    PAYER,
    RETENTION_END_S,
    World,
    founding,
    refused,
    wallet,
)


def test_a_deployment_is_what_the_sources_give(world: World) -> None:
    assert verify(world.w3, world.city.deployment, RETENTION_END_S, founding()) == []


def test_another_end_of_retention_or_other_founders_are_seen(world: World) -> None:
    deployment = world.city.deployment
    wrong = verify(world.w3, deployment, RETENTION_END_S + 1, founding())
    told = {(each.contract, each.why.split("()")[0]) for each in wrong if "()" in each.why}
    assert told == {("council", "retentionEnd"), ("treasury", "retentionEnd")}
    # Either would put every contract at another place.
    assert {each.contract for each in wrong if "puts it at" in each.why} == set(CONTRACTS)
    last = founding()[-1]
    assert isinstance(last, Quorum)
    others = [*founding()[:-1], replace(last, needed=2)]
    wrong = verify(world.w3, deployment, RETENTION_END_S, others)
    assert [each.contract for each in wrong if "founding()" in each.why] == ["council"]
    assert {each.contract for each in wrong if "puts it at" in each.why} == set(CONTRACTS)


def test_a_swapped_contract_is_seen(world: World) -> None:
    deployment = world.city.deployment
    swapped = replace(deployment, treasury=deployment.router)
    wrong = verify(world.w3, swapped, RETENTION_END_S, founding())
    assert [each.contract for each in wrong] == ["treasury", "treasury"]
    noted = replace(deployment, code_hashes={**deployment.code_hashes, "anchor": bytes(32)})
    assert [each.contract for each in verify(world.w3, noted, RETENTION_END_S, founding())] == ["anchor"]
    gone = replace(deployment, council=bytes(19) + b"\1")
    assert {each.contract for each in verify(world.w3, gone, RETENTION_END_S, founding())} == {"council"}


def test_one_byte_of_any_contracts_code_that_is_another_is_seen() -> None:
    with servers.anvil() as node:
        node.call("anvil_setBalance", wallet(DEPLOYER).address, hex(100 * ETHER))
        w3 = Web3(HTTPProvider(node.url))
        made = deploy(w3, wallet(DEPLOYER), LEDGER, RETENTION_END_S, founding())
        assert verify(w3, made, RETENTION_END_S, founding()) == []
        for name in CONTRACTS:
            place = Web3.to_checksum_address(getattr(made, name))
            code = bytes(w3.eth.get_code(place))
            # Behind the last instruction: nothing that is asked would answer otherwise.
            other = code[:-1] + bytes([code[-1] ^ 1])
            node.call("anvil_setCode", place, f"0x{other.hex()}")
            assert {each.contract for each in verify(w3, made, RETENTION_END_S, founding())} == {name}
            node.call("anvil_setCode", place, f"0x{code.hex()}")
        assert verify(w3, made, RETENTION_END_S, founding()) == []


def test_code_ledger_and_founders_decide_the_places_and_nothing_else(world: World) -> None:
    planned = plan(1, LEDGER, RETENTION_END_S, founding()).places
    assert planned == {name: getattr(world.city.deployment, name) for name in CONTRACTS}
    assert planned == plan(2, LEDGER, RETENTION_END_S, founding()).places
    for other in (
        plan(1, digest("another ledger"), RETENTION_END_S, founding()),
        plan(1, LEDGER, RETENTION_END_S + 1, founding()),
        plan(1, LEDGER, RETENTION_END_S, founding()[1:]),
    ):
        assert not set(other.places.values()) & set(planned.values())


def test_whoever_deploys_again_finds_what_stands(world: World) -> None:
    stranger = wallet(PAYER)
    before = world.w3.eth.get_transaction_count(stranger.address)
    again = deploy(world.w3, stranger, LEDGER, RETENTION_END_S, founding())
    assert again == replace(world.city.deployment, block=0)
    assert world.w3.eth.get_transaction_count(stranger.address) == before


def test_a_deployment_that_was_cut_off_is_gone_on_with_by_anybody(world: World) -> None:
    ledger = digest("cut off")
    planned = plan(world.city.deployment.chain_id, ledger, RETENTION_END_S, founding())
    factory = Web3.to_checksum_address(FACTORY)
    for name in ("council", "watchdog"):
        data = HexBytes(ledger + planned.codes[name])
        asked: TxParams = {"to": factory, "data": data, "gas": 15_000_000}
        transact(world.w3, wallet(PAYER), asked, name)
    made = deploy(world.w3, wallet(DEPLOYER), ledger, RETENTION_END_S, founding())
    assert {name: getattr(made, name) for name in CONTRACTS} == planned.places
    assert verify(world.w3, made, RETENTION_END_S, founding()) == []


def test_founders_that_are_refused_are_refused_with_the_councils_words(world: World) -> None:
    with refused("C:NoQuorum", "Council.constructor"):
        deploy(world.w3, wallet(DEPLOYER), digest("two"), RETENTION_END_S, founding()[:2])


def test_the_command_deploys_verifies_and_shows(tmp_path: Path) -> None:
    with servers.anvil() as node:
        node.call("anvil_setBalance", wallet(DEPLOYER).address, hex(100 * ETHER))
        commands_on(node.url, tmp_path)


def commands_on(rpc: str, tmp_path: Path) -> None:
    city, key = tmp_path / "city.json", tmp_path / "key"
    told = {
        "ledger": f"0x{digest('by command').hex()}",
        "retentionEnd": str(RETENTION_END_S),
        "founding": [as_json(record) for record in founding()],
    }
    city.write_text(json.dumps(told))
    key.write_text(wallet(DEPLOYER).key.hex())
    noted = str(tmp_path / "deployment.json")
    run = CliRunner().invoke
    with refused("C:NotDeployed", "council"):
        run(app, ["contracts", "verify", str(city), "--rpc", rpc], catch_exceptions=False)
    planned = run(app, ["contracts", "show", str(city)], catch_exceptions=False).stdout
    made = run(app, ["contracts", "deploy", str(city), "--key", str(key), "--rpc", rpc, "--write", noted])
    assert made.exit_code == 0, made.output
    assert made.stdout.splitlines()[-1].startswith("valid: 5 contracts of ledger 0x")
    place = load(noted)["contracts"]["treasury"]
    assert place in planned
    assert place in made.stdout
    for more in ([], ["--deployment", noted]):
        assert run(app, ["contracts", "verify", str(city), "--rpc", rpc, *more]).exit_code == 0
    shown = run(app, ["contracts", "show", str(city), "--rpc", rpc], catch_exceptions=False).stdout
    assert "3 must sign" in shown
    other = load(noted)
    other["contracts"]["treasury"] = other["contracts"]["router"]
    (tmp_path / "other.json").write_text(json.dumps(other))
    asked = ["contracts", "verify", str(city), "--rpc", rpc, "--deployment", str(tmp_path / "other.json")]
    wrong = run(app, asked)
    assert wrong.exit_code == 1
    assert "is not what Treasury.sol gives" in wrong.stdout
    city.write_text("[]")
    with pytest.raises(Invalid, match="C:founding"):
        run(app, ["contracts", "show", str(city)], catch_exceptions=False)


def load(path: str) -> dict[str, dict[str, str]]:
    content: dict[str, dict[str, str]] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def test_it_can_be_shown(world: World) -> None:
    told = "\n".join(show(world.city))
    assert all(
        getattr(world.city.deployment, name).hex() in told
        for name in ("council", "anchor", "watchdog", "treasury", "router")
    )
    assert "3 must sign" in told
