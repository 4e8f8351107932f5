"""A gateway from its settings: PostgreSQL, a node, processes of their own; two workers do nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from sqlalchemy import select
from web3 import Web3

from contracts.bindings import City, Quote, Signature
from gateway import db
from gateway.demo import SALE_CODE, START_S
from gateway.embedded import ORIGIN, WATCHER_NAME
from gateway.keyring import sealer
from gateway.plan import Plan
from gateway.rates_simulator import RatesSimulator
from gateway.server import Server
from gateway.settings import Settings
from gateway.steps import store as steps
from gateway.webhooks import store as webhooks
from gateway.webhooks.egress import Egress
from ledger import store as ledger_store
from ledger.records import Invalid, Transfer, decode
from tests import servers
from tests.gateway.conftest import build

SECRET = "a secret of 32 characters at least for tests alone"
WAIT_S = 90
NO_TRANSACTIONS = (False,)


@dataclass
class Shop:
    """A merchant's server: remembers the ids that arrive."""

    arrived: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def serve(self) -> ThreadingHTTPServer:
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                shop.arrived.append((self.headers["webhook-id"], json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server


@dataclass
class Site:
    """Where a gateway runs: folder, database, node, rate sources, a merchant with a webhook endpoint."""

    folder: Path
    database: str
    node: servers.Anvil
    shift_s: int
    told: dict[str, str]
    shop: Shop
    endpoint: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        return Plan.load(self.folder / "plan.json")

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QAZYNA_")}
        return {
            **kept,
            "PYTHONPATH": str(servers.ROOT),
            "QAZYNA_FOLDER": str(self.folder),
            "QAZYNA_DATABASE": self.database,
            "QAZYNA_RPC_URLS": f"http://127.0.0.1:{servers.closed_port()} {self.node.url}",
            "QAZYNA_SECRET": SECRET,
            "QAZYNA_ORIGIN": ORIGIN,
            "QAZYNA_WATCHER": WATCHER_NAME,
            "QAZYNA_EGRESS_ALLOW": "127.0.0.0/8",
            "QAZYNA_TIME_SHIFT_S": str(self.shift_s),
            "QAZYNA_LAG_MOST_S": "60",
            **more,
        }

    def command(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words], env=self.environment(**more), cwd=servers.ROOT,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def start(self, *words: str, **more: str) -> tuple[subprocess.Popen[str], str]:
        """Start a process and give the address of its metrics, once it says that it runs."""
        log = (self.folder / f"{words[0]}-{len(self.running)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", *words], env=self.environment(**more), cwd=servers.ROOT,
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        log.close()
        self.running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"metrics at (http://[0-9.]+:[0-9]+)/metrics", line)
        assert found, f"{line!r}: {Path(log.name).read_text()[-2000:]}"
        return process, found[1]

    def end(self, process: subprocess.Popen[str]) -> int:
        """Ask a process to end as a supervisor would, and wait for it."""
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        assert process.stdout is not None
        process.stdout.close()
        self.running.remove(process)
        return code

    def merchant(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.told['merchant_key']}"}


def until(what: Callable[[], Any], why: str, wait_s: float = WAIT_S) -> Any:
    """What becomes true in time."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in {wait_s} s: {why}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: servers.Postgres) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site") / "city"
    postgres.execute("CREATE DATABASE site")
    database = postgres.url("site")
    with ExitStack() as stack:
        node = stack.enter_context(servers.anvil("--timestamp", str(START_S)))
        build(folder, database, node.url)
        shift_s = int(node.call("eth_getBlockByNumber", "latest", *NO_TRANSACTIONS)["timestamp"], 16)
        shift_s -= int(time.time())
        prices = {"exchange-a": {"USDT/KZT": Decimal("512.40")}}
        official = {"USD": (Decimal("511.90"), 1)}
        rates = stack.enter_context(RatesSimulator(lambda: int(time.time()) + shift_s, official, prices))
        bank = {"kind": "national_bank", "url": rates.daily_url, "currency": "USD", "max_age_s": 345_600}
        exchange = {"kind": "exchange", "name": "exchange-a", "url": rates.exchange_url("exchange-a"),
                    "symbol": "USDT/KZT", "max_age_s": 600}  # fmt: skip
        plan = {"assets": {"USDT": {"decimals": 6, "sources": [bank, exchange]}}}
        (folder / "rates.json").write_text(json.dumps(plan))
        keys = json.loads((folder / "keys.json").read_text())
        (folder / "keys").mkdir()
        for name in ("gateway", "relayer", "operator", "log", "ml_dsa", "watcher", "cosigner"):
            path = folder / "keys" / name
            path.touch(0o600)
            path.write_text(keys[name])
        shop = Shop()
        server = shop.serve()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        told = json.loads((folder / "town.json").read_text())
        engine = db.engine(database)
        stack.callback(engine.dispose)
        with engine.begin() as connection:
            target = Egress(["127.0.0.0/8"]).parse(f"http://127.0.0.1:{server.server_port}/hook")
            endpoint, _ = webhooks.add_endpoint(
                connection, sealer(SECRET), told["merchant_id"], target, int(time.time()) + shift_s
            )
        made = Site(folder, database, node, shift_s, told, shop, endpoint)
        # From here on the chain goes on by itself.
        node.call("evm_setIntervalMining", 1)
        yield made
        for process in made.running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    postgres.execute("DROP DATABASE site WITH (FORCE)")


@pytest.fixture
def engine(site: Site) -> Iterator[db.Engine]:
    opened = db.engine(site.database)
    yield opened
    opened.dispose()


def pay(site: Site, wallet: dict[str, Any]) -> None:
    """As a payer's wallet does, by what the API tells it."""
    keys = json.loads((site.folder / "keys.json").read_text())
    payer = Account.from_key(bytes.fromhex(keys["payer"]))
    quote = Quote(
        bytes.fromhex(wallet["invoice"][2:]), SALE_CODE, bytes.fromhex(wallet["merchant"][2:]),
        bytes.fromhex(wallet["token"][2:]), int(wallet["amount"]), wallet["share_bps"], wallet["valid_until"],
        int(wallet["nonce"]),
    )  # fmt: skip
    signature = Signature(b"", 0, wallet["v"], bytes.fromhex(wallet["r"][2:]), bytes.fromhex(wallet["s"][2:]))
    City(Web3(Web3.HTTPProvider(site.node.url)), site.plan.deployment).pay(payer, quote, signature)


def server_of(site: Site, monkeypatch: pytest.MonkeyPatch, **more: str) -> Server:
    """The parts of a process, in this one."""
    for name in [name for name in os.environ if name.startswith("QAZYNA_")]:
        monkeypatch.delenv(name)
    for name, value in site.environment(**more).items():
        if name.startswith("QAZYNA_"):
            monkeypatch.setenv(name, value)
    return Server(Settings())


def test_the_tables_of_a_database_are_checked_and_brought_up_to_date(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    empty = {
        "QAZYNA_DATABASE": f"sqlite:///{tmp_path}/new.db",
        "QAZYNA_HEADS_DATABASE": f"sqlite:///{tmp_path}/h.db",
    }
    refused = site.command("worker", **empty)
    assert (refused.returncode, "qazyna db upgrade" in refused.stderr) == (1, True)
    with server_of(site, monkeypatch, **empty) as server:
        assert {found for _, found, _ in server.versions()} == {None}
        server.upgrade()
        assert all(found == wanted for _, found, wanted in server.versions())
    with server_of(site, monkeypatch) as server:
        assert all(found == wanted for _, found, wanted in server.versions())


def test_a_step_that_is_none_and_a_step_without_its_key_are_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with server_of(site, monkeypatch, QAZYNA_KEYS=str(tmp_path)) as server:
        with pytest.raises(Invalid, match="webhoks"):
            server.steps(["webhoks"])
        with pytest.raises(Invalid, match="keys of the log"):
            server.steps(["record"])
        with pytest.raises(Invalid, match="the gateway's key"):
            server.application()
        names = {step.name for step in server.steps()}
    assert {"webhooks", "chain", "flush"} <= names
    assert not names & {"record", "publish"}


def test_two_workers_and_a_server_take_a_payment_from_quote_to_receipt(site: Site, engine: db.Engine):
    first, metrics = site.start("worker")
    second, other_metrics = site.start("worker")
    port = str(servers.free_port())
    server, server_metrics = site.start("serve", "--mode", "server", QAZYNA_PORT=port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
        until(lambda: _answers(http), "the server answers")
        orders = [{"purpose": SALE_CODE, "title": "Tea", "amount": "1250000", "asset": "USDT",
                   "reference": f"site-{number}"} for number in range(3)]  # fmt: skip
        # Until a worker has seen the chain nobody is quoted.
        made = [
            until(lambda order=order: _created(http, site, order), "an invoice is made") for order in orders
        ]
        for invoice in made[:2]:
            pay(site, invoice["wallet"])
        until(
            lambda: _status(http, site, made[0]) in {"detected", "confirming", "paid", "final"}, "it is seen"
        )
        site.node.call("anvil_mine", hex(100))
        for invoice in made[:2]:
            until(lambda one=invoice: _status(http, site, one) == "final", "it is final")
            until(lambda one=invoice: http.get(f"/v1/receipts/{one['id']}").status_code == 200, "its receipt")
        assert _status(http, site, made[2]) == "open"
        assert http.get("/healthz").json() == {"status": "alive"}
        assert http.get("/readyz").status_code == 200
        assert (
            httpx.get(f"{server_metrics}/metrics", trust_env=False, timeout=60).text.count(
                "/v1/invoices/{id}"
            )
            > 0
        )
    until(lambda: "invoice.final" in {body["type"] for _, body in site.shop.arrived}, "webhooks arrive")
    until(lambda: _are_all_told(site, engine), "all webhooks arrive")
    until(lambda: len(set(_sizes(metrics, other_metrics))) == 1, "what is recorded is public, for both")
    _check_two_workers(metrics, other_metrics)
    assert [site.end(process) for process in (first, second, server)] == [0, 0, 0]
    _check_each_once(site, engine)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def _created(http: httpx.Client, site: Site, order: dict[str, str]) -> dict[str, Any] | None:
    answer = http.post("/v1/invoices", json=order, headers=site.merchant())
    assert answer.status_code in {201, 503}, answer.text
    if answer.status_code == 503:
        assert answer.json()["where"] in {"quotes", "rates"}, answer.text
        return None
    found: dict[str, Any] = answer.json()
    return found


def _status(http: httpx.Client, site: Site, invoice: dict[str, Any]) -> str:
    return str(http.get(f"/v1/invoices/{invoice['id']}", headers=site.merchant()).json()["status"])


def _numbers(address: str) -> dict[str, float]:
    text = httpx.get(f"{address}/metrics", trust_env=False, timeout=60).text
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def _are_all_told(site: Site, engine: db.Engine) -> bool:
    with db.reading(engine) as connection:
        known = set(connection.scalars(select(webhooks.events.c.id)))
        states = set(connection.scalars(select(webhooks.deliveries.c.state)))
    return states == {"delivered"} and {id for id, _ in site.shop.arrived} == known


def _sizes(*addresses: str) -> list[float]:
    told = [_numbers(address) for address in addresses]
    return [one[name] for one in told for name in ("qazyna_recorded_size", "qazyna_published_size")]


def _check_two_workers(*addresses: str) -> None:
    """One is the writer; both know the same, and are ready."""
    told = [_numbers(address) for address in addresses]
    assert sorted(one["qazyna_is_writer"] for one in told) == [0.0, 1.0]
    for one in told:
        assert one['qazyna_chain_lag_seconds{rail="evm-31337"}'] < 60
        assert one['qazyna_quotes_stopped{asset="USDT"}'] == 0
        assert {name for name in one if name.startswith("qazyna_unreadable") and one[name]} == set()
        assert one["qazyna_recorded_size"] == one["qazyna_published_size"]
    failures = [one[name] for one in told for name in one if name.startswith("qazyna_node_failures")]
    assert max(failures) > 0, "one of the two nodes is dead, and somebody has asked it"
    assert all(
        httpx.get(f"{address}/readyz", trust_env=False, timeout=60).status_code == 200
        for address in addresses
    )


def _check_each_once(site: Site, engine: db.Engine) -> None:
    ids = Counter(id for id, _ in site.shop.arrived)
    assert set(ids.values()) == {1}, "an event arrived twice though nobody died"
    with db.reading(engine) as connection:
        known = set(connection.scalars(select(webhooks.events.c.id)))
        waiting = connection.scalars(select(webhooks.deliveries.c.state)).all()
        done = {one.name: one for one in steps.all_done(connection)}
    assert set(ids) == known
    assert set(waiting) == {"delivered"}
    transfers = [decode(data) for data in ledger_store.records(engine)]
    booked = [record.id for record in transfers if isinstance(record, Transfer)]
    assert len(booked) == len(set(booked)) == 2
    assert {"chain", "expire", "flush"} <= done.keys()
    assert all(one.error is None for one in done.values()), done


def test_two_processes_that_send_webhooks_alone_send_each_once(site: Site, engine: db.Engine, tmp_path: Path):
    """They need neither a node nor a key: only the database and the secret."""
    now, merchant = int(time.time()) + site.shift_s, site.told["merchant_id"]
    site.shop.arrived.clear()
    with engine.begin() as connection:
        ids = [
            webhooks.enqueue(
                connection, merchant, f"i{n % 100}", "invoice.paid", b'{"type":"invoice.paid"}', now
            )
            for n in range(400)
        ]
    alone = {"QAZYNA_KEYS": str(tmp_path), "QAZYNA_RPC_URLS": "", "QAZYNA_FOLDER": str(tmp_path)}
    alone["QAZYNA_HEADS_DATABASE"] = f"sqlite:///{site.folder}/heads.db"
    processes = [site.start("worker", "--only", "webhooks", **alone)[0] for _ in range(2)]
    until(lambda: len(site.shop.arrived) >= len(ids), "all arrive")
    assert [site.end(process) for process in processes] == [0, 0]
    assert sorted(id for id, _ in site.shop.arrived) == sorted(ids)


def test_when_the_writer_dies_the_standby_goes_on(site: Site):
    first, metrics = site.start("worker", "--only", "record", "--only", "publish")
    until(lambda: _numbers(metrics)["qazyna_is_writer"] == 1, "the first is the writer")
    second, other = site.start("worker", "--only", "record", "--only", "publish")
    time.sleep(1)
    assert _numbers(other)["qazyna_is_writer"] == 0
    first.kill()
    first.wait()
    assert first.stdout is not None
    first.stdout.close()
    site.running.remove(first)
    until(lambda: _numbers(other)["qazyna_is_writer"] == 1, "the second has taken over")
    assert site.end(second) == 0


def test_ff51_a_production_server_does_not_start_with_a_key_that_everybody_knows(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    anvils = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    production = {
        "QAZYNA_MODE": "production",
        "QAZYNA_PUBLIC_URL": "https://city.example",
        "QAZYNA_EGRESS_ALLOW": "",
        "QAZYNA_TIME_SHIFT_S": "0",
        "QAZYNA_KEYS": str(tmp_path),
    }

    def refused(**more: str) -> str:
        with pytest.raises(Invalid) as found:
            server_of(site, monkeypatch, **{**production, **more})
        return str(found.value)

    (tmp_path / "relayer").write_text(anvils)
    (tmp_path / "relayer").chmod(0o600)
    told = site.command("worker", "--list", **production)
    assert (told.returncode, "everybody knows this key" in told.stderr) == (1, True)
    assert anvils not in told.stderr + told.stdout
    (tmp_path / "relayer").write_text("11" * 32)
    assert "no random number" in refused()
    (tmp_path / "relayer").write_text("12")
    assert "1 bytes of hex" in refused()
    (tmp_path / "relayer").write_text(os.urandom(32).hex())
    (tmp_path / "relayer").chmod(0o644)
    assert "its mode is 644" in refused()
    (tmp_path / "relayer").chmod(0o600)
    with server_of(site, monkeypatch, **production) as server:
        assert server.keyring.is_strict
    for name, value in {
        "QAZYNA_EGRESS_ALLOW": "10.0.0.0/8",
        "QAZYNA_TIME_SHIFT_S": "5",
        "QAZYNA_SECRET": "x",
        "QAZYNA_RPC_URLS": " ",
        "QAZYNA_METRICS_HOST": "0.0.0.0",
        "QAZYNA_KEY_GATEWAY": anvils,
    }.items():
        more = {"QAZYNA_METRICS_PORT": "9000"} if "METRICS" in name else {}
        assert name in refused(**{name: value}, **more) or "everybody knows" in refused(**{name: value})
