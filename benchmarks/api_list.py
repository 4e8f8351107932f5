"""How long a page of a merchant's invoices takes with 1,000,000 of them, beside one with 1,000 (FF53).

Both merchants are in one database of PostgreSQL and asked in turn over HTTP, by one client: the newest page,
and the page after the invoice in the middle, which an OFFSET would have to count its way to.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from sqlalchemy import Engine, text

from benchmarks.api import fill, outside, served
from benchmarks.result import Result, Results, Wanted, in_turn
from benchmarks.servers import durable_postgres
from gateway.db import engine as open_engine
from gateway.merchants import store as merchants
from tests.gateway.conftest import MERCHANT_IBAN, build

MANY, FEW = 1_000_000, 1_000
PAGES, RUNS = 10, 9


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Milliseconds for a page, by how many invoices the merchant has."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="qazyna-bench-")))
        server = stack.enter_context(durable_postgres())
        server.execute("CREATE DATABASE city")
        url = server.url("city")
        build(folder / "city", url)
        opened = open_engine(url)
        stack.callback(opened.dispose)
        keys = {"m_few": _merchant(opened, "m_few", 1), "m_many": _merchant(opened, "m_many", 2)}
        fill(url, "m_few", FEW)
        fill(url, "m_many", MANY, FEW + 1)
        told = outside(stack, folder / "city") | {"database": url}
        port = stack.enter_context(served(folder, "ours", told, "city")).port
        http = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
        )
        n = f"{PAGES} pages x {RUNS}"
        for name, is_deep in (("api.invoice.list.at_1e6", False), ("api.invoice.list.at_1e6.deep", True)):
            after = {one: _middle(opened, one) if is_deep else None for one in keys}
            many, few = in_turn(
                RUNS,
                partial(_ask, http, keys["m_many"], after["m_many"]),
                partial(_ask, http, keys["m_few"], after["m_few"]),
            )
            yield Result(name, many, "ms", few, n)


def _merchant(opened: Engine, id: str, number: int) -> str:
    with opened.begin() as connection:
        made = merchants.Merchant(id, id, f"{number:012}", MERCHANT_IBAN, bytes([number]) * 20)
        merchants.add_merchant(connection, made, 0)
        return merchants.new_key(connection, merchants.MERCHANT, id, 0)


def _middle(opened: Engine, merchant_id: str) -> str:
    """The invoice in the middle, by its time."""
    with opened.connect() as connection:
        found = connection.execute(
            text("SELECT id FROM invoice WHERE merchant_id = :m ORDER BY created_s, id "
                 "OFFSET (SELECT count(*) / 2 FROM invoice WHERE merchant_id = :m) LIMIT 1"),
            {"m": merchant_id},
        ).scalar_one()  # fmt: skip
    return str(found)


def _ask(http: httpx.Client, key: str, after: str | None) -> float:
    asked = {"limit": "20"} | ({} if after is None else {"after": after})
    started = time.perf_counter()
    for _ in range(PAGES):
        answer = http.get("/v1/invoices", params=asked, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["invoices"]) == 20
    return (time.perf_counter() - started) * 1_000 / PAGES
