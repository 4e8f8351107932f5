"""The EVM rail on a real node, a real database and a whole city with 100,000 open invoices.

evm.catch_up: blocks a second through everything that a poll does, on blocks with 50 Transfers of an allowed
token; the reference asks the node for the same logs and only parses the JSON. evm.detection: seconds from a
block to the invoice's changed state, by a worker that polls as it does in earnest.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from web3 import Web3

from benchmarks.result import Result, Results, Wanted, in_turn
from benchmarks.servers import durable_postgres
from gateway.db import reading
from gateway.payments import store as payments_store
from gateway.payments.store import tables
from gateway.rails import Stage
from gateway.rails.evm import EvmRail, HttpNode, Place, Pool
from gateway.watching.service import ChainWatch
from tests import servers
from tests.gateway.anvil_town import AnvilTown, Miner, compiled, opened_on
from tests.gateway.conftest import build

OPEN_INVOICES = 100_000
BLOCKS, LOGS_A_BLOCK = 1_000, 50
STRANGERS = range(0xAA0000, 0xAA0000 + 500)
# Of the blocks, each so many-th pays an invoice.
PAYS_EVERY = 20
RUNS = 3
DETECTIONS, POLL_EVERY_S = 20, 0.25
SLOT_BLOCKS = 64


@contextlib.contextmanager
def busy_town() -> Iterator[AnvilTown]:
    """A city on PostgreSQL as it ships and on anvil, with so many open invoices."""
    folder = Path(tempfile.mkdtemp(prefix="qazyna-bench-evm-"))
    options = ("--no-mining", "--timestamp", str(1_788_235_200), "--gas-limit", "100000000")
    try:
        with durable_postgres() as postgres, servers.anvil(*options) as node:
            postgres.execute("CREATE DATABASE bench")
            miner = Miner(node)
            database = postgres.url("bench")
            build(folder / "city", database, node.url)
            with opened_on(node, miner, folder / "city", folder / "open", database) as town:
                add_invoices(town, OPEN_INVOICES)
                yield town
            miner.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_invoices(town: AnvilTown, count: int) -> None:
    """Open invoices like the first, each with an address of its own."""
    town.invoice()
    with reading(town.city.gateway.engine) as connection:
        row = dict(connection.execute(select(tables.invoice).limit(1)).mappings().one())
    for start in range(0, count, 10_000):
        rows = [
            {
                **row,
                "id": f"{number:026}",
                "number": number.to_bytes(32, "big"),
                "merchant_reference": f"bench-{number}",
                "deposit_address": b"\xbe\xef" + number.to_bytes(18, "big"),
                "reference": f"B{number}",
            }
            for number in range(start, start + 10_000)
        ]
        with town.city.gateway.engine.begin() as connection:
            connection.execute(insert(tables.invoice), rows)


def fill_blocks(town: AnvilTown, sender: Any, paid: int, count: int) -> tuple[int, int]:
    """Blocks with 50 Transfers each, most of them between strangers; the first and the last of them."""
    token = Web3.to_checksum_address(town.token)
    strangers = [Web3.to_checksum_address(number.to_bytes(20, "big")) for number in STRANGERS]
    town.miner.turn(is_on=False)
    account = town.node.call("eth_accounts")[0]
    first = town.block() + 1
    for number in range(count):
        to = [strangers[(number * LOGS_A_BLOCK + at) % len(strangers)] for at in range(LOGS_A_BLOCK)]
        if number % PAYS_EVERY == 0:
            to[7] = Web3.to_checksum_address(b"\xbe\xef" + (paid + number).to_bytes(18, "big"))
        data = sender.encode_abi("send", args=[token, to, [1_000 + number] * LOGS_A_BLOCK])
        asked = {"from": account, "to": sender.address, "data": data, "gas": hex(8_000_000)}
        town.node.call("eth_sendTransaction", asked)
        town.node.call("evm_mine")
    last = town.block()
    town.mine(SLOT_BLOCKS + 1)
    town.miner.turn(is_on=True)
    return first, last


def batch_sender(town: AnvilTown) -> Any:
    """The contract that pays them."""
    made = compiled()["BatchSender"]
    web3 = town.city.outside.web3
    receipt = town.transact(town.payer, None, bytes.fromhex(made["bytecode"][2:]))
    contract = web3.eth.contract(receipt["contractAddress"], abi=made["abi"])
    town.city.city.transfer(town.payer, town.token, bytes.fromhex(contract.address[2:]), 10**13)
    return contract


def fresh_watch(town: AnvilTown) -> tuple[ChainWatch, HttpNode]:
    """A watch as a worker makes it, over HTTP."""
    node = HttpNode(town.node.url, timeout_s=60)
    place = Place(town.city.plan.deployment, {town.token: "USDT"})
    rail = EvmRail(Pool([node], servers.CHAIN_ID), place)
    return ChainWatch(town.payments, rail, town.city.worker._flushes.note), node


def only_parsing(town: AnvilTown, first: int, last: int) -> float:
    """Blocks a second of asking for the same logs and parsing the JSON."""
    asked = {
        "fromBlock": hex(first),
        "toBlock": hex(last),
        "address": "0x" + town.token.hex(),
        "topics": ["0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"],
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [asked]}).encode()
    started = time.perf_counter()
    request = urllib.request.Request(town.node.url, body, {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        found = json.load(answer)["result"]
    assert len(found) >= LOGS_A_BLOCK * BLOCKS
    return (last - first + 1) / (time.perf_counter() - started)


def catch_up(town: AnvilTown) -> Results:
    """Blocks that came while nobody looked, read, matched, stored and final; new ones for each run."""
    watch, node = fresh_watch(town)
    sender = batch_sender(town)
    watch.poll()
    filled: list[tuple[int, int]] = []
    processor_s: list[float] = []

    def run() -> float:
        filled.append(fill_blocks(town, sender, len(filled) * BLOCKS, BLOCKS))
        started, used = time.perf_counter(), time.process_time()
        watch.poll()
        took = time.perf_counter() - started
        processor_s.append(time.process_time() - used)
        with reading(town.city.gateway.engine) as connection:
            paid = (len(filled) - 1) * BLOCKS
            assert [one.stage for one in payments_store.evidence_of(connection, f"{paid:026}")] == [
                Stage.FINAL
            ]
        return BLOCKS / took

    ours, bare = in_turn(RUNS, run, lambda: only_parsing(town, *filled[-1]))
    node.close()
    paying = f"{BLOCKS // PAYS_EVERY} payments"
    n = f"{BLOCKS} blocks of {LOGS_A_BLOCK} logs, {paying}, {OPEN_INVOICES} open, {RUNS} runs"
    yield Result("evm.catch_up", ours, "blocks/s", bare, n)
    # What the rail itself costs, however many others the machine serves.
    yield Result("evm.catch_up.processor", BLOCKS / statistics.median(processor_s), "blocks/s", None, n)


def detection(town: AnvilTown) -> Results:
    """Seconds from a mined block to the changed state, polling as a worker does."""
    watch, node = fresh_watch(town)
    watch.poll()
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(POLL_EVERY_S):
            watch.poll()

    polls: list[float] = []
    for _ in range(10):
        started = time.perf_counter()
        watch.poll()
        polls.append(time.perf_counter() - started)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    took: list[float] = []
    invoices = [town.invoice() for _ in range(DETECTIONS)]
    for invoice in invoices:
        with town.unmined():
            town.transfer_later(town.payer, invoice.deposit_address, invoice.due_minor)
            town.node.call("evm_mine")
            started = time.perf_counter()
            while town.stored_status(invoice) == "open":
                time.sleep(0.005)
            took.append(time.perf_counter() - started)
    stop.set()
    thread.join()
    node.close()
    n = f"{OPEN_INVOICES} open, {DETECTIONS} payments, a poll each {POLL_EVERY_S} s"
    yield Result("evm.detection", statistics.median(took), "s", 1.0, n)
    yield Result("evm.detection.slowest", max(took), "s", 1.0, n)
    yield Result(
        "evm.detection.idle_poll", statistics.median(polls), "s", None, f"{OPEN_INVOICES} open, 10 polls"
    )


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Both, on one city."""
    with busy_town() as town:
        if wanted("evm.catch_up"):
            yield from catch_up(town)
        if wanted("evm.detection"):
            yield from detection(town)
