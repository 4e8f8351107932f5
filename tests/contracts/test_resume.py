"""A resumption from the first question to the chain, by the commands that seats and whoever pays have (LEAKS 02)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account.messages import encode_typed_data
from typer.testing import CliRunner, Result
from web3 import HTTPProvider, Web3

from contracts.bindings import City, deploy
from contracts.resumption import Resumption
from gateway.budget.explain import LANGUAGES
from gateway.budget.typed_data import message_hash, read_typed_data
from gateway.cli import app
from ledger.records import Invalid, as_json, hash_struct
from tests import servers
from tests.city import ACT, Key, digest
from tests.contracts.world import (
    COUNCIL,
    DAY,
    DEPLOYER,
    ETHER,
    LEDGER,
    OPERATOR,
    PAYER,
    RETENTION_END_S,
    World,
    founding,
    wallet,
)


@dataclass
class Town:
    """A city on anvil whose newest head is forged, with the files that the commands take."""

    world: World
    rpc: str
    folder: Path

    @property
    def asked(self) -> Path:
        return self.folder / "asked.json"

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments], catch_exceptions=False)

    def ask(self, size: int = 3, act: bytes = ACT, *more: str) -> Result:
        asked = ["--size", str(size), "--act", f"0x{act.hex()}", "--to", str(self.asked), "--rpc", self.rpc]
        return self.run("contracts", "resume", "ask", str(self.folder / "city.json"), *asked, *more)

    def sign(self, *keys: Key) -> list[str]:
        """Each seat signs on a device of its own; what was printed is the file."""
        files = []
        for number, each in enumerate(keys):
            key, file = self.folder / f"key-{number}", self.folder / f"signed-{number}"
            key.write_text(each.secret.to_hex())
            file.write_text(self.run("sign", str(self.asked), "--key", str(key)).stdout)
            files.append(str(file))
        return files

    def bring(self, step: str, *signed: str) -> Result:
        payer = self.folder / "payer"
        payer.write_text(wallet(PAYER).key.hex())
        where = [str(self.folder / "city.json"), str(self.asked), *signed]
        return self.run("contracts", "resume", step, *where, "--key", str(payer), "--rpc", self.rpc)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    told = {
        "ledger": f"0x{LEDGER.hex()}",
        "retentionEnd": str(RETENTION_END_S),
        "founding": [as_json(record) for record in founding()],
    }
    (tmp_path / "city.json").write_text(json.dumps(told))
    with servers.anvil() as node:
        for each in (DEPLOYER, OPERATOR, PAYER):
            node.call("anvil_setBalance", wallet(each).address, hex(100 * ETHER))
        w3 = Web3(HTTPProvider(node.url))
        world = World(w3, City(w3, deploy(w3, wallet(DEPLOYER), LEDGER, RETENTION_END_S, founding())))
        # Three records of the ledger, and then two that somebody with stolen keys put there.
        for entries in ([b"one", b"two", b"three"], [b"forged", b"forged too"]):
            world.log += entries
            world.anchor()
            world.wait(60)
        yield Town(world, node.url, tmp_path)


def test_leak_02_by_commands_an_anchor_goes_on_from_an_earlier_head_by_quorum_and_notice(town: Town) -> None:
    assert town.ask().exit_code == 0
    first = town.world.city.head_at(3)
    typed = read_typed_data(json.loads(town.asked.read_text()))
    asked = typed.record
    assert isinstance(asked, Resumption)
    assert (asked.head_size, asked.head_time, asked.root, asked.act) == (3, first.time, first.root, ACT)
    # Two seats are too few, and a seat of another role is none.
    with pytest.raises(Invalid, match=r"^C:"):
        town.bring("announce", *town.sign(*COUNCIL[:2]))
    with pytest.raises(Invalid, match=r"^C:"):
        town.bring("announce", *town.sign(*COUNCIL[:2], OPERATOR))
    signed = town.sign(*COUNCIL[:3])
    with pytest.raises(Invalid, match=r"^C:NotAnnounced"):
        town.bring("finish", *signed)
    announced = town.bring("announce", *signed)
    assert announced.exit_code == 0
    assert announced.stdout.startswith(f"announced: 0x{hash_struct(asked).hex()}, from size 3, not before ")
    town.world.wait(14 * DAY - 60)
    with pytest.raises(Invalid, match=r"^C:NoticeNotOver"):
        town.bring("finish", *signed)
    assert town.world.city.head().size == 5
    town.world.wait(120)
    done = town.bring("finish", *signed)
    assert (done.exit_code, "newest head is size 3" in done.stdout) == (0, True)
    assert town.world.city.head() == first
    # What is true can be anchored again.
    town.world.log[3:] = [b"four"]
    town.world.anchor()
    assert town.world.city.head().size == 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_resumption_is_told_before_it_is_signed(town: Town, language: str) -> None:
    town.ask()
    told = json.loads(town.asked.read_text())
    typed = read_typed_data(told)
    assert encode_typed_data(full_message=told).body == message_hash(typed)
    shown = town.run("sign", str(town.asked), "--explain", "--language", language).stdout
    head = town.world.city.head_at(3)
    for part in ("(headSize): 3\n", f"({head.time})\n", f"0x{head.root.hex()}", f"0x{ACT.hex()}", "14 "):
        assert part in shown
    assert f"hashStruct: 0x{typed.approves.hex()}" in shown


def test_only_a_head_that_the_chain_has_and_an_act_are_asked_for(town: Town) -> None:
    with pytest.raises(Invalid, match=r"^C:UnknownHead"):
        town.ask(size=4)
    with pytest.raises(Invalid, match="C:resumption at --act"):
        town.ask(act=bytes(32))
    with pytest.raises(Invalid, match="C:resumption at --act"):
        town.ask(act=ACT[:31])
    with pytest.raises(Invalid, match="C:resumption at --days"):
        town.ask(3, ACT, "--days", "0")
    assert not town.asked.exists()


def test_signatures_of_something_else_and_what_is_for_another_city_are_refused_before_the_chain_is_asked(
    town: Town,
) -> None:
    town.ask(act=digest("another act"))
    others = town.sign(*COUNCIL[:3])
    town.ask()
    with pytest.raises(Invalid, match=r"C:resumption at .*signed-0.*asked is 0x"):
        town.bring("announce", *others)
    (town.folder / "signed-0").write_text("")
    with pytest.raises(Invalid, match=r"FF58 at .*signed-0"):
        town.bring("announce", *others)
    signed = town.sign(*COUNCIL[:3])
    told = json.loads(town.asked.read_text())
    elsewhere = {**told, "domain": {**told["domain"], "chainId": "1"}}
    town.asked.write_text(json.dumps(elsewhere))
    with pytest.raises(
        Invalid, match=r"C:resumption at .*asked.json: is for council 0x[0-9a-f]{40} on chain 1,"
    ):
        town.bring("announce", *signed)
    # What a hand changed after the signing is not what was signed.
    changed = {**told, "message": {**told["message"], "validUntil": "1999999999"}}
    town.asked.write_text(json.dumps(changed))
    with pytest.raises(Invalid, match=r"C:resumption at .*signed-0.*until 1999999999"):
        town.bring("announce", *signed)
