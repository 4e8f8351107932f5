"""How fast invoices are made over HTTP, beside a bare FastAPI endpoint with one INSERT.

Each application has two workers of uvicorn, the same PostgreSQL (durable), and 16 clients; they are
measured in turn within the same seconds. A third is the gateway on a database with 100,000 open
invoices. Each of our requests carries a key, is admitted, quoted at a believed rate, signed, given a
deposit address, stored with its event and Idempotency-Key, and told to the merchant's outbox.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
from sqlalchemy import create_engine

from benchmarks.api_app import rows
from benchmarks.result import Result, Results, Wanted
from benchmarks.servers import durable_postgres
from gateway.db import engine as open_engine
from gateway.embedded import Clock
from gateway.merchants import store as merchants
from gateway.rates_simulator import RatesSimulator
from tests import servers
from tests.gateway.conftest import build

CLIENTS, WORKERS, SECONDS, RUNS = 16, 2, 6, 5
OPEN = 100_000


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Requests a second, and the 99th percentile of how long one takes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="qazyna-bench-")))
        server = stack.enter_context(durable_postgres())
        for name in ("city", "bare"):
            server.execute(f"CREATE DATABASE {name}")
        build(folder / "city", server.url("city"))
        bearers = _keys(server.url("city"))
        server.execute("CREATE DATABASE full_city TEMPLATE city")
        fill(server.url("full_city"), "m_0123456789abcdef", OPEN)
        rows.metadata.create_all(create_engine(server.url("bare")))
        told = outside(stack, folder / "city")
        (folder / "bearers").write_text("\n".join(bearers))
        ports = {
            name: stack.enter_context(
                served(folder, application, told | {"database": server.url(name)}, name)
            )
            for name, application in (("bare", "bare"), ("city", "ours"), ("full_city", "ours"))
        }
        for port in ports.values():
            _ask(port, 2, folder)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in ports}
        for _ in range(RUNS):
            for name, port in ports.items():
                found[name].append(_ask(port, SECONDS, folder))

    def of(name: str, member: str) -> float:
        return median(run[member] for run in found[name])

    n = f"{CLIENTS} clients, {WORKERS} workers, {SECONDS} s x {RUNS}"
    yield Result("api.invoice.create", of("city", "per_s"), "1/s", of("bare", "per_s"), n)
    yield Result("api.invoice.create.p99", of("city", "p99_ms"), "ms", of("bare", "p99_ms"), n)
    yield Result("api.invoice.create.at_1e5", of("full_city", "per_s"), "1/s", of("city", "per_s"), n)
    yield Result("api.invoice.create.at_1e5.p99", of("full_city", "p99_ms"), "ms", of("city", "p99_ms"), n)


def _keys(url: str) -> list[str]:
    """A key for each client, all of one merchant: its rows are where they would meet."""
    opened = open_engine(url)
    with opened.begin() as connection:
        keys = [
            merchants.new_key(connection, merchants.MERCHANT, "m_0123456789abcdef", 0) for _ in range(CLIENTS)
        ]
    opened.dispose()
    return [f"Bearer {key}" for key in keys]


def fill(url: str, merchant_id: str, count: int, first: int = 1) -> None:
    """Open invoices of a merchant, copied from one that was really made; they are numbered from `first`."""
    address = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address) as connection:
        columns = [
            name
            for (name,) in connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'invoice'"
            )
        ]
        values = {
            "id": "'x' || lpad(g::text, 25, '0')",
            "number": "sha256(('n' || g)::bytea)",
            "merchant_id": f"'{merchant_id}'",
            "merchant_reference": "'old-' || g",
            "attempt": "0",
            "purpose": "'206108'",
            "title": "'Tea for two'",
            "tiyn": r"'\x00000000000000000000000000131a60'::bytea",
            "asset": "'USDT'",
            "due": r"'\x000000000000000000000000017d7840'::bytea",
            "share_bps": "300",
            "rate": "'{}'",
            "payee": "substr(sha256('payee'::bytea), 1, 20)",
            "deposit_address": "substr(sha256(('d' || g)::bytea), 1, 20)",
            "quote_signature": "sha256('s'::bytea) || sha256('s'::bytea) || '\\x1b'::bytea",
            "nonce": "1000000 + g",
            "reference": "'R' || lpad(g::text, 20, '0')",
            "created_s": "1780000000 + g / 100",
            "expires_s": "4000000000",
            "status": "'open'",
            "voided": "0",
            "policy": "'{}'",
        }
        named = [name for name in columns if name in values]
        connection.execute(
            f"INSERT INTO invoice ({', '.join(named)}) SELECT {', '.join(values[name] for name in named)} "
            f"FROM generate_series({first}, {first + count - 1}) g".encode()
        )
        connection.execute(
            b"INSERT INTO webhook_sequence (invoice_id, last) SELECT id, 1 FROM invoice "
            b"ON CONFLICT DO NOTHING"
        )
        connection.commit()
        connection.autocommit = True
        connection.execute(b"VACUUM ANALYZE")


def outside(stack: ExitStack, folder: Path) -> dict[str, Any]:
    """Rate sources that answer over HTTP, and the time of the city."""
    now_s, real_s = int((folder / "clock").read_text()), time.time()

    class Running(Clock):
        def __call__(self) -> int:
            return int(now_s + time.time() - real_s)

    prices = {
        "exchange-a": {"USDT/KZT": Decimal("512.40")},
        "exchange-b": {"USDT/KZT": Decimal("512.10")},
    }
    rates = stack.enter_context(RatesSimulator(Running(now_s), {"USD": (Decimal("511.90"), 1)}, prices))
    return {
        "folder": str(folder),
        "now_s": now_s,
        "real_s": real_s,
        "bank": rates.daily_url,
        "exchanges": {name: rates.exchange_url(name) for name in prices},
    }


@contextmanager
def served(folder: Path, application: str, told: dict[str, Any], name: str) -> Iterator[int]:
    """Run one of the applications with its workers until the block ends."""
    port = servers.free_port()
    (folder / f"{name}.json").write_text(json.dumps(told))
    (folder / name).mkdir(exist_ok=True)
    command: list[str | Path] = [sys.executable, "-W", "ignore", "-m", "uvicorn",
               f"benchmarks.api_app:{application}", "--factory", "--workers", str(WORKERS),
               "--port", str(port), "--no-access-log", "--log-level", "warning"]  # fmt: skip

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v1/invoices", trust_env=False).status_code < 500
        except httpx.HTTPError:
            return False

    environment = {**os.environ, "QAZYNA_BENCH": str(folder / f"{name}.json")}
    with servers.started(command, is_ready, folder / name, cwd=servers.ROOT, env=environment):
        yield port


def _ask(port: int, seconds: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.api_load", str(port), str(seconds), str(folder / "bearers")]
    ended = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
