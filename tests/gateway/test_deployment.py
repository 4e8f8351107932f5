"""A gateway from commands alone: keys, contracts, plan, tables, then a worker and a server that start."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from web3 import Web3

from contracts.bindings import deploy_token
from gateway.keyring import Keyring
from gateway.plan import Plan
from gateway.server import Server
from gateway.settings import Settings
from ledger.records import as_json
from tests import servers
from tests.city import digest
from tests.contracts.world import DEPLOYER, ETHER, RETENTION_END_S, founding, wallet
from tests.gateway.conftest import MERCHANT_IBAN

ROLES = ("gateway", "relayer", "operator", "log", "ml_dsa", "watcher", "cosigner", "deployer", "vasp-sample")
HEX_KEY = re.compile(r"\b[0-9a-f]{64}\b")


class Machine:
    """Where an operator types: a folder, settings, and the command."""

    def __init__(self, folder: Path, rpc: str, database: str) -> None:
        self.folder, self.rpc = folder, rpc
        self.settings = {
            "QAZYNA_FOLDER": str(folder),
            "QAZYNA_RPC_URLS": rpc,
            "QAZYNA_DATABASE": database,
            "QAZYNA_ORIGIN": "city.example/ledger",
            "QAZYNA_SECRET": "a secret of 32 characters at least for tests alone",
        }

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QAZYNA_")}
        return {**kept, "PYTHONPATH": str(servers.ROOT), **self.settings}

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words], env=self.environment, cwd=servers.ROOT,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", *words], env=self.environment, cwd=servers.ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "metrics at" in line, line + process.stdout.read()
        return process


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    assert process.stdout is not None
    process.stdout.close()
    return code


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    folder = tmp_path / "city"
    database = ""
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres_database")
    with servers.anvil() as node:
        node.call("anvil_setBalance", wallet(DEPLOYER).address, hex(100 * ETHER))
        yield Machine(folder, node.url, database)


def founding_file(machine: Machine, name: str) -> str:
    path = machine.folder.parent / f"{name}.json"
    told = {
        "ledger": f"0x{digest(name).hex()}",
        "retentionEnd": str(RETENTION_END_S),
        "founding": [as_json(record) for record in founding()],
    }
    path.write_text(json.dumps(told))
    return str(path)


def test_a_gateway_starts_from_commands_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    told = machine.run("keys", "new", *ROLES)
    keys = machine.folder / "keys"
    assert {path.name for path in keys.iterdir()} == set(ROLES)
    assert keys.stat().st_mode & 0o777 == 0o700
    secret = {path.read_text().strip() for path in keys.iterdir()}
    assert len(secret) == len(ROLES)
    assert not secret & set(HEX_KEY.findall(told)), "a key was shown"
    assert Keyring(keys, is_strict=True, environment={}).account("gateway").address in told
    token = _token(machine)
    _give(machine, Keyring(keys, is_strict=True, environment={}).account("deployer").address)
    asked = [founding_file(machine, "ours"), "--key", str(keys / "deployer"), "--rpc", machine.rpc,
             "--token", f"USDT={token}", "--iban", MERCHANT_IBAN]  # fmt: skip
    assert f"plan: {machine.folder}/plan.json" in machine.run("contracts", "deploy", *asked).replace("\n", "")
    plan = Plan.load(machine.folder / "plan.json")
    assert (plan.asset, plan.bank_iban, plan.token.hex()) == ("USDT", MERCHANT_IBAN, token[2:].lower())
    assert plan.deployment.block > 0
    # Whoever deploys again finds what stands, and still knows from which block on to look.
    machine.run("contracts", "deploy", *asked)
    assert Plan.load(machine.folder / "plan.json") == plan
    _lists(machine)
    machine.run("db", "upgrade")
    steps = machine.run("worker", "--list")
    assert {"chain", "record", "publish", "settlements"} <= set(re.findall(r"^(\w+) ", steps, re.MULTILINE))
    for name in [name for name in os.environ if name.startswith("QAZYNA_")]:
        monkeypatch.delenv(name)
    for name, value in machine.settings.items():
        monkeypatch.setenv(name, value)
    with Server(Settings()) as server:
        assert server.gateway.settlements is not None
        assert list(server.gateway.settlements._providers) == ["sample"]
    machine.settings["QAZYNA_PORT"] = port = str(servers.free_port())
    worker, server_process = machine.start("worker"), machine.start("serve", "--mode", "server")
    try:
        _answers(f"http://127.0.0.1:{port}/healthz")
        assert worker.poll() is None
    finally:
        assert [ended(worker), ended(server_process)] == [0, 0]


def _token(machine: Machine) -> str:
    web3 = Web3(Web3.HTTPProvider(machine.rpc))
    return "0x" + deploy_token(web3, wallet(DEPLOYER), "Tether", "USDT").hex()


def _give(machine: Machine, address: str) -> None:
    web3 = Web3(Web3.HTTPProvider(machine.rpc))
    web3.provider.make_request("anvil_setBalance", [address, hex(100 * ETHER)])  # type: ignore[arg-type]


def _lists(machine: Machine) -> None:
    dead = f"http://127.0.0.1:{servers.closed_port()}"
    bank = {"kind": "national_bank", "url": dead, "currency": "USD", "max_age_s": 345_600}
    exchange = {"kind": "exchange", "name": "a", "url": dead, "symbol": "USDT/KZT", "max_age_s": 600}
    rates = {"assets": {"USDT": {"decimals": 6, "sources": [bank, exchange]}}}
    (machine.folder / "rates.json").write_text(json.dumps(rates))
    address = "0x" + "5a" * 20
    providers = {"providers": [{"name": "sample", "url": dead, "addresses": [address]}]}
    (machine.folder / "vasp.json").write_text(json.dumps(providers))


def _answers(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert httpx.get(url, trust_env=False, timeout=60).status_code == 200
        except httpx.HTTPError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)
        else:
            return


def test_a_key_is_never_overwritten_and_none_is_made_where_one_is_there(tmp_path: Path):
    machine = Machine(tmp_path, "", "")
    machine.run("keys", "new", "relayer")
    before = (tmp_path / "keys" / "relayer").read_bytes()
    told = machine.run("keys", "new", "gateway", "relayer", code=1)
    assert "never overwritten" in told
    assert (tmp_path / "keys" / "relayer").read_bytes() == before
    assert not (tmp_path / "keys" / "gateway").exists()
    for wrong in ("../gateway", "Gateway", ""):
        assert "a key's name" in machine.run("keys", "new", wrong, code=1)
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"relayer"}


@pytest.mark.parametrize("machine", ["sqlite"], indirect=True)
def test_a_plan_that_would_be_wrong_is_refused_before_anything_is_deployed(machine: Machine):
    key = machine.folder.parent / "key"
    key.write_text(wallet(DEPLOYER).key.hex())
    token = _token(machine)
    web3 = Web3(Web3.HTTPProvider(machine.rpc))
    block = web3.eth.block_number
    asked = ["contracts", "deploy", founding_file(machine, "first"), "--key", str(key), "--rpc", machine.rpc]
    for more, why in (
        (["--token", f"USDT={token}"], "K5"),
        (["--iban", MERCHANT_IBAN], "needs a token"),
        (["--token", "USDT=0x12", "--iban", MERCHANT_IBAN], "of 20 bytes"),
        (["--token", "USDT=0x" + "12" * 20, "--iban", MERCHANT_IBAN], "no contract"),
        (["--token", f"USDT={token}", "--token", f"USDT={token}", "--iban", MERCHANT_IBAN], "named twice"),
    ):
        assert why in machine.run(*asked, *more, code=1)
    assert web3.eth.block_number == block
    good = ["--token", f"USDT={token}", "--iban", MERCHANT_IBAN]
    machine.run(*asked, *good)
    before = (machine.folder / "plan.json").read_bytes()
    other = founding_file(machine, "second")
    told = machine.run("contracts", "deploy", other, "--key", str(key), "--rpc", machine.rpc, *good, code=1)
    assert "is not overwritten" in told
    assert (machine.folder / "plan.json").read_bytes() == before
