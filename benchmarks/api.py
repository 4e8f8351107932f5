"""How fast invoices are made over HTTP, beside a bare FastAPI endpoint with one INSERT.

Each application has two workers of uvicorn, the same PostgreSQL (durable), and 16 clients; they are
measured in turn within the same seconds, forwards and backwards. Both are measured once more on a
database with 100,000 rows, for a bare INSERT grows too. Each of our requests carries a key, is admitted,
quoted at a believed rate, signed, given a deposit address, stored with its event and Idempotency-Key,
and told to the merchant's outbox. CPU is that of the workers and of PostgreSQL together; both it and the
bytes of WAL hardly move with the machine's other work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
from sqlalchemy import create_engine

from benchmarks.api_app import rows
from benchmarks.cpu import of_server
from benchmarks.result import Result, Results, Wanted
from benchmarks.servers import durable_postgres
from gateway.db import engine as open_engine
from gateway.embedded import Clock
from gateway.merchants import store as merchants
from gateway.payments.creation import ALPHABET
from gateway.rates_simulator import RatesSimulator
from tests import servers
from tests.gateway.conftest import build
from tests.servers import Postgres

# Short and several: what is compared was measured within the same seconds.
CLIENTS, WORKERS, SECONDS, RUNS = 16, 2, 4, 9
OPEN = 100_000
MEMBERS = (
    ("", "per_s", "1/s"),
    (".p99", "p99_ms", "ms"),
    (".cpu", "cpu_us", "us of CPU an invoice"),
    (".wal", "wal_bytes", "bytes of WAL an invoice"),
)


@dataclass(frozen=True)
class Serving:
    """An application that answers, and the process above its workers."""

    port: int
    pid: int


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Requests a second, and the 99th percentile of how long one takes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="qazyna-bench-")))
        server = stack.enter_context(durable_postgres())
        for name in ("city", "bare", "full_bare"):
            server.execute(f"CREATE DATABASE {name}")
        build(folder / "city", server.url("city"))
        bearers = _keys(server.url("city"))
        server.execute("CREATE DATABASE full_city TEMPLATE city")
        fill(server.url("full_city"), "m_0123456789abcdef", OPEN)
        for name in ("bare", "full_bare"):
            rows.metadata.create_all(create_engine(server.url(name)))
        _fill_bare(server.url("full_bare"), OPEN)
        told = outside(stack, folder / "city")
        (folder / "bearers").write_text("\n".join(bearers))
        running: dict[str, Serving] = {}
        for name in ("bare", "city", "full_city", "full_bare"):
            application = "bare" if name.endswith("bare") else "ours"
            made = served(folder, application, told | {"database": server.url(name)}, name)
            running[name] = stack.enter_context(made)
        for one in running.values():
            _ask(one.port, 2, folder)
        server.execute("CHECKPOINT")
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
        for run in range(RUNS):
            # There and back, so that nobody is always the one who comes after another.
            for name in reversed(running) if run % 2 else running:
                found[name].append(_measured(server, running[name], folder))

    def of(name: str, member: str) -> float:
        return float(median(run[member] for run in found[name]))

    n = f"{CLIENTS} clients, {WORKERS} workers, {SECONDS} s x {RUNS}"
    for name, of_whom, beside in (
        ("", "city", "bare"),
        (".at_1e5", "full_city", "city"),
        (".bare.at_1e5", "full_bare", "bare"),
    ):
        for end, member, unit in MEMBERS:
            yield Result(f"api.invoice.create{name}{end}", of(of_whom, member), unit, of(beside, member), n)


def _measured(server: Postgres, one: Serving, folder: Path) -> dict[str, Any]:
    """What a load says, and what PostgreSQL and the workers used for each of its requests."""
    address = server.url("postgres").replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address, autocommit=True) as connection:

        def used() -> tuple[float, int]:
            [(written,)] = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchall()
            return of_server(server.pid) + of_server(one.pid), int(written)

        cpu_s, wal_bytes = used()
        told = _ask(one.port, SECONDS, folder)
        cpu, wal = used()
    return told | {"cpu_us": 1e6 * (cpu - cpu_s) / told["n"], "wal_bytes": (wal - wal_bytes) / told["n"]}


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
        # As the program makes them: an id and a number begin with the second.
        made_s = "(1780000000 + g / 100)::bigint"
        places = (f"substr('{ALPHABET}', (({made_s} >> {at}) & 31)::int + 1, 1)" for at in range(30, -1, -5))
        written = " || ".join(places)
        values = {
            "id": f"{written} || lpad(g::text, 19, '0')",
            "number": f"int8send({made_s}) || substr(sha256(('n' || g)::bytea), 1, 24)",
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
            "created_s": made_s,
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
        # And what each of them left elsewhere.
        of_these = f"FROM generate_series({first}, {first + count - 1}) g JOIN invoice ON nonce = 1000000 + g"
        event_id, event = (
            "'msg_' || lpad(to_hex(created_s), 8, '0') || substr(md5(id), 1, 24)",
            "repeat('x', 250)",
        )
        told = f"{event_id}, merchant_id, id, 1, 'invoice.open', convert_to({event}, 'UTF8'), created_s"
        for table, filled, by in (
            ("invoice_event", "invoice_id, status, at_s", "id, 'open', created_s"),
            ("idempotency", "owner, key, request, invoice_id", "merchant_id, merchant_reference, number, id"),
            ("webhook_event", "id, merchant_id, invoice_id, sequence, type, body, created", told),
        ):
            connection.execute(f"INSERT INTO {table} ({filled}) SELECT {by} {of_these} ORDER BY g".encode())
        connection.commit()
        connection.autocommit = True
        connection.execute(b"VACUUM ANALYZE")


def _fill_bare(url: str, count: int) -> None:
    """As many rows of the bare endpoint, as it makes them."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute(
            b"INSERT INTO bare_invoice SELECT substr(md5(g::text), 1, 26), 'm', 'old-' || g, 'Tea for two', "
            b"'USDT', '\\x00000000000000000000000000131a60'::bytea, 1780000000 + g / 100 "
            b"FROM generate_series(1, %s) g",
            (count,),
        )
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
def served(folder: Path, application: str, told: dict[str, Any], name: str) -> Iterator[Serving]:
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
    with servers.started(command, is_ready, folder / name, cwd=servers.ROOT, env=environment) as pid:
        yield Serving(port, pid)


def _ask(port: int, seconds: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.api_load", str(port), str(seconds), str(folder / "bearers")]
    ended = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
