"""An operator founds a fresh ledger by commands and files of signatures; then a fee is paid in and audited."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from web3 import Web3

from contracts.bindings import deploy_token
from gateway.cli import app
from gateway.server import Server
from gateway.settings import Settings
from ledger import rules, store
from ledger.audit import audit
from ledger.records import ZERO_HASH, Invalid, Transfer, Unavailable, as_json, decode
from ledger.watcher import Watcher
from ledger.writer import Writer, only_writer, submit
from tests import servers
from tests.city import CODE, digest
from tests.contracts.world import COUNCIL, DEPLOYER, ETHER, RETENTION_END_S, founding, wallet
from tests.gateway.conftest import MERCHANT_IBAN

ACT = f"0x{digest('act').hex()}"
KEYS = ("gateway", "log", "ml_dsa", "watcher", "cosigner")
END = str(RETENTION_END_S)
NOTHING = f"0x{ZERO_HASH.hex()}"


def account(name: str, kind: str, owner: str, asset: str = "KZT") -> dict[str, str]:
    told = {
        "record": "Account",
        "account": name,
        "asset": asset,
        "fund": "RETAINED",
        "kind": kind,
        "owner": owner,
    }
    return {**told, "party": NOTHING, "act": ACT}


def rounds(now: int) -> list[list[dict[str, str]]]:
    """The Council's acts, those that rest on others after them."""
    dates = {"validFrom": str(now), "act": ACT}
    tenge = {"asset": "KZT", "decimals": "2", "chainId": "0", "token": "0x" + "00" * 20}
    dollar = {"asset": "USDT", "decimals": "6", "chainId": "@chainId", "token": "@token:USDT"}
    return [
        [
            {"record": "Rules", "sha256": "@rules", **dates},
            {"record": "Contracts", "act": ACT},
            {"record": "Asset", **tenge, **dates, "validTo": END},
            {"record": "Asset", **dollar, **dates, "validTo": END},
            {"record": "RevenueRule", "code": CODE, "fund": "RETAINED", "minShare": "10000", **dates},
        ],
        [
            account("bank-kzt", "bank", "@iban"),
            account("treasury-usdt", "chain", "@treasury", "USDT"),
            account("fees-kzt", "revenue", f"@code:{CODE}"),
        ],
    ]


@dataclass
class Operator:
    """Who types the commands, and a Council whose members sign on machines of their own."""

    folder: Path
    now: int
    council: list[Path]

    def run(self, *words: str) -> str:
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def found(self, *more: str) -> str:
        paths = str(self.folder / "founding.json"), "--plan", str(self.folder / "acts.json")
        return self.run("ledger", "found", *paths, *more)

    def write(self, name: str, told: object) -> None:
        (self.folder / name).write_text(json.dumps(told))

    def acts(self, told: object) -> None:
        self.write("acts.json", {"legalRef": ACT, "rounds": told})

    def sign(self, *members: Path) -> int:
        """Have members of the Council sign all that is asked for; returns how many files there are."""
        asked = sorted((self.folder / "found" / "to-sign").iterdir())
        signed = self.folder / "found" / "signed"
        signed.mkdir(exist_ok=True)
        for path in asked:
            for member in members:
                said = self.run("sign", str(path), "--key", str(member))
                (signed / f"{path.stem}-{member.name}").write_text(said)
        return len(asked)

    def records(self) -> list[bytes]:
        with Server(Settings()) as server:
            return list(store.records(server.engine))


@pytest.fixture
def operator(tmp_path: Path, anvil: servers.Anvil, monkeypatch: pytest.MonkeyPatch) -> Operator:
    folder, now = tmp_path / "city", int(time.time()) - 60
    folder.mkdir()
    for name, value in {
        "FOLDER": str(folder),
        "RPC_URLS": anvil.url,
        "ORIGIN": "city.example/ledger",
        "SECRET": "a secret of 32 characters at least for tests alone",
    }.items():
        monkeypatch.setenv(f"QAZYNA_{name}", value)
    council = []
    for number, key in enumerate(COUNCIL[:4]):
        path = tmp_path / f"council-{number}"
        path.write_text(key.secret.secret.hex())
        path.chmod(0o600)
        council.append(path)
    made = Operator(folder, now, council)
    made.run("keys", "new", *KEYS)
    seats = [replace(one, time=now) for one in founding()]
    made.write(
        "founding.json",
        {
            "ledger": f"0x{digest(str(tmp_path)).hex()}",
            "retentionEnd": END,
            "founding": [as_json(one) for one in seats],
        },
    )
    made.acts(rounds(now))
    anvil.call("anvil_setBalance", wallet(DEPLOYER).address, hex(100 * ETHER))
    token = deploy_token(Web3(Web3.HTTPProvider(anvil.url)), wallet(DEPLOYER), "Dollar", "USDT")
    payer = tmp_path / "deployer"
    payer.write_text(bytes(wallet(DEPLOYER).key).hex())
    asked = [str(folder / "founding.json"), "--key", str(payer), "--rpc", anvil.url]
    made.run("contracts", "deploy", *asked, "--token", f"USDT=0x{token.hex()}", "--iban", MERCHANT_IBAN)
    made.run("db", "upgrade")
    return made


def founded(operator: Operator) -> None:
    """Sign and ask again until all is in effect."""
    for _ in range(8):
        if "founded: all 3 rounds in effect" in operator.found():
            return
        operator.sign(*operator.council[:3])
    raise AssertionError("the founding does not come to its end")


def test_a_fresh_ledger_is_founded_by_commands_and_a_fee_that_is_paid_in_is_audited_valid(operator: Operator):
    # A rehearsal says what would be, and leaves nothing at all.
    said = operator.found("--dry-run")
    assert "would be: round 0: 14 records proposed" in said
    assert "waiting: 0 of 3 rounds would be in effect, 1 proposals need signatures" in said
    assert operator.records() == []
    assert not (operator.folder / "found").exists()

    said = operator.found()
    assert "waiting: 0 of 3 rounds in effect, 1 proposals need signatures" in said
    assert [type(decode(data)).__name__ for data in operator.records()][:2] == ["Genesis", "Seat"]
    # Asked again without a new signature, nothing comes of it; nor of fewer than the quorum.
    before = operator.records()
    assert operator.found().count("to sign: ") == 1
    assert operator.records() == before
    assert operator.sign(*operator.council[:2]) == 1
    assert "waiting: 0 of 3" in operator.found()
    founded(operator)
    records = operator.records()
    assert "founded: all 3 rounds in effect" in operator.found()
    assert operator.records() == records
    state, findings = rules.replay(records)
    assert findings == []
    assert set(state.accounts) == {"bank-kzt", "treasury-usdt", "fees-kzt"}
    assert set(state.contracts) == {"council", "anchor", "watchdog", "treasury", "router"}
    # More signatures than are needed are no mistake.
    operator.sign(operator.council[3])
    operator.found()
    assert operator.records() == records

    verdict = paid_and_published(operator, state)
    assert verdict.findings == []
    assert verdict.last_line().startswith(f"valid: {len(records) + 1} records, ")
    assert next(total for total in verdict.totals if total.asset == "KZT").revenue == 4_325_00


def paid_and_published(operator: Operator, state: rules.State) -> Any:
    """A resident's fee, recorded by the writer that a worker would be, published and watched."""
    authority = next(
        digest_ for digest_, one in state.proposals.items() if type(one.record).__name__ == "RevenueRule"
    )
    fee = Transfer(
        0, digest("fee 1"), "bank-kzt", "fees-kzt", "KZT", 4_325_00, CODE, authority, digest("bank's entry")
    )
    with Server(Settings()) as server, only_writer(server.engine, operator.folder / "writer.lock"):
        writer = Writer(server.engine, server.heads, server.log_keys(), server.clock)
        with server.engine.begin() as connection:
            submit(connection, fee, server.clock())
        writer.drain()
        keys = server.keyring
        seat, cosigner = keys.seat("watcher"), keys.cosigner()
        watcher = Watcher("watcher", server.log_keys().verifiers(), seat, cosigner, server.clock)
        writer.publish(server.publisher, watcher)
        return audit(server.publisher.folder)


def refused(operator: Operator, rule: str, *needed: str) -> None:
    """The command is refused by a rule, names place and numbers, and writes nothing."""
    before = operator.records()
    for more in (["--dry-run"], []):
        with pytest.raises(Invalid) as error:
            operator.found(*more)
        assert error.value.rule == rule, error.value
        for each in needed:
            assert each in str(error.value)
        assert operator.records() == before


def test_what_does_not_fit_is_refused_by_rule_and_place_and_nothing_is_recorded(operator: Operator):
    founding_told = json.loads((operator.folder / "founding.json").read_text())
    late = [{**one, "time": str(operator.now + 90_000)} for one in founding_told["founding"]]
    operator.write("founding.json", {**founding_told, "founding": late})
    refused(operator, "found", "founding[0].time", str(operator.now + 90_000))
    operator.write("founding.json", {**founding_told, "ledger": "0x" + "11" * 32})
    refused(operator, "found", "11" * 32, "plan.json")
    # Another seat than the Genesis of the deployed contracts binds cannot be told here; the Council says no.
    operator.write("founding.json", founding_told)
    for told, needed in [
        ([[]], "round 1"),
        ([[{"record": "Asset"}]], "round 1 record 1"),
        ([[{**account("a", "bank", "@nobody")}]], "'@nobody' is none of"),
        ([[{**account("a", "bank", "@iban"), "time": "5"}]], "states time 5"),
        ([[{"record": "Rate", "asset": "USDT", "numerator": "1", "denominator": "1", "source1": ACT,
            "source2": ACT}]], "no act that is approved"),
    ]:  # fmt: skip
        operator.acts(told)
        with pytest.raises(Invalid, match=re.escape(needed)):
            operator.found()
    assert operator.records() == []

    # A signature that is not the seat's, one of nothing that waits, and a file that is none.
    operator.acts(rounds(operator.now))
    operator.found()
    operator.sign(*operator.council[:2])
    good = sorted((operator.folder / "found" / "signed").iterdir())
    text = good[0].read_text()
    told = json.loads(text.splitlines()[-1])
    for changed, rule, needed in [
        ({"validUntil": str(int(told["validUntil"]) + 1)}, "A6", str(good[0])),
        ({"validUntil": str(operator.now)}, "A3", str(good[0])),
        ({"approves": "0x" + "22" * 32}, "found", "none of 1 that wait"),
        ({"r": "0x12"}, "signed", "is no signature"),
    ]:
        good[0].write_text(json.dumps({**told, **changed}))
        refused(operator, rule, needed)
    good[0].write_text("nothing")
    refused(operator, "signed", "has no line of JSON")
    good[0].write_text(text)
    operator.found()
    assert len(operator.records()) == 14 + 2
    # A ledger that was founded otherwise is told apart.
    operator.write("acts.json", {"legalRef": f"0x{digest('other').hex()}", "rounds": rounds(operator.now)})
    refused(operator, "found", "this ledger has Genesis")


def test_an_act_of_a_later_round_that_the_rules_refuse_is_named_before_anything_of_its_round_is_written(
    operator: Operator,
):
    told = rounds(operator.now)
    told[1].append({**account("slush", "bank", ACT), "fund": "SLUSH"})
    operator.acts(told)
    for _ in range(2):
        operator.found()
        operator.sign(*operator.council[:3])
    with pytest.raises(Invalid, match=r"N2 at .*round 2 record 4"):
        operator.found()
    assert not [data for data in operator.records() if type(decode(data)).__name__ == "Account"]


@pytest.mark.parametrize(
    "change",
    [
        {"validUntil": "1"},  # nobody signed in time
        {"record": {}},
        {"validUntil": "soon"},
        {"validUntil": str(1 << 63)},
    ],
)
def test_a_request_that_is_out_of_time_or_asks_for_something_else_is_written_again(
    operator: Operator, change: dict[str, Any]
):
    operator.found()
    (path,) = (operator.folder / "found" / "to-sign").iterdir()
    asked = path.read_text()
    operator.found()
    assert path.read_text() == asked
    told = json.loads(asked)
    path.write_text(json.dumps({**told, "message": {**told["message"], **change}}, indent=1) + "\n")
    operator.found()
    again = json.loads(path.read_text())
    assert again["message"]["record"] == told["message"]["record"]
    assert 0 <= int(again["message"]["validUntil"]) - int(told["message"]["validUntil"]) < 600
    founded(operator)


def test_a_founding_that_dies_before_it_writes_leaves_nothing_that_another_writer_records_at_its_own_time(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
):
    """The Genesis binds the second of each founding record: at another one no seat would ever be in office."""

    def dies(*_: object) -> None:
        raise Unavailable("power", "gone")

    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", dies)
        with pytest.raises(Unavailable, match="gone"):
            operator.found()
    with Server(Settings()) as server, only_writer(server.engine, operator.folder / "writer.lock"):
        Writer(server.engine, server.heads, server.log_keys(), server.clock).drain()
    assert operator.records() == []
    operator.found()
    assert len(operator.records()) == 14
    founded(operator)


def test_while_a_worker_is_the_writer_nothing_is_founded(operator: Operator):
    with (
        Server(Settings()) as server,
        only_writer(server.engine, operator.folder / "writer.lock"),
        pytest.raises(Unavailable, match="another writer"),
    ):
        operator.found()
    assert operator.records() == []
