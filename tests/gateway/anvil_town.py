"""The town on a real node that mines when it is told to, and the contracts that pay in it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from eth_typing import HexStr
from web3 import Web3

from contracts.bindings import COIN, Terms
from gateway.demo import START_S
from gateway.embedded import Clock, EmbeddedCity, Plan
from gateway.payments.store import Invoice
from gateway.rails.evm import FLUSHED, EvmRail, HttpNode, Place, Pool
from gateway.relayer.encoding import router_call
from gateway.worker import Worker
from ledger.records import Transfer, keccak256
from tests import servers
from tests.gateway.conftest import LAX, Town, build

PAYERS = servers.ROOT / "tests" / "gateway" / "Payers.sol"


class Miner:
    """Mines a block as soon as a transaction waits, while it is on: --no-mining keeps the blocks ours."""

    def __init__(self, node: servers.Anvil) -> None:
        self._node = node
        self._is_on = True
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            with self._turn:
                if self._is_on and int(self._node.call("txpool_status")["pending"], 16):
                    self._node.call("evm_mine")

    @property
    def is_on(self) -> bool:
        """Whether it mines by itself."""
        return self._is_on

    def turn(self, *, is_on: bool) -> None:
        """Mine by itself or not; from here on, for what it had begun has ended."""
        with self._turn:
            self._is_on = is_on

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@dataclass
class AnvilTown(Town):
    """The town on anvil."""

    node: servers.Anvil = field(kw_only=True)
    miner: Miner = field(kw_only=True)
    nodes: list[HttpNode] = field(default_factory=list, kw_only=True)

    def mine(self, blocks: int = 1) -> None:
        self.node.call("anvil_mine", hex(blocks))

    def finalise(self) -> None:
        """Let what the chain holds become final (64 blocks here), and take it."""
        self.mine(65)
        self.poll()

    def block(self) -> int:
        return int(self.node.call("eth_blockNumber"), 16)

    def raw(self, receipt: Any) -> str:
        """The bytes of a transaction, to send them again."""
        found: str = self.node.call(
            "eth_getRawTransactionByHash", "0x" + bytes(receipt["transactionHash"]).hex()
        )
        return found

    def reorganise(self, depth: int) -> None:
        """Replace so many blocks by others without what they held, and go on one further."""
        self.node.call("anvil_reorg", depth, [])
        self.mine()

    def resend(self, raw: str) -> None:
        """Send bytes again; a node that put them back by itself has them already."""
        with contextlib.suppress(RuntimeError):
            self.node.call("eth_sendRawTransaction", raw)

    def mine_again(self, hashes: list[str], raws: list[str]) -> None:
        """Send bytes again and mine until they stand: a node takes a moment to put back what it took out."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for raw in raws:
                self.resend(raw)
            self.mine()
            found = [self.node.call("eth_getTransactionReceipt", hash) for hash in hashes]
            if all(found):
                assert all(one["status"] == "0x1" and one["logs"] for one in found), found
                return
            time.sleep(0.1)
        raise AssertionError(f"{hashes} were sent again and did not come into a block")

    def send_later(self, account: Any, function: str, *arguments: object) -> str:
        """Call the router, and let it wait for a block."""
        return self._send(account, self.city.plan.deployment.router, router_call(function, *arguments))

    def transfer_later(self, account: Any, to: bytes | None, amount: int) -> str:
        """Send tokens, and let that wait for a block."""
        assert to is not None
        data = keccak256(b"transfer(address,uint256)")[:4] + to.rjust(32, b"\0") + amount.to_bytes(32, "big")
        return self._send(account, self.token, data)

    def transact(self, account: Any, to: bytes | None, data: bytes) -> Any:
        """Send a transaction and wait for its block; it must have gone."""
        hash = self._send(account, to, data)
        receipt = self.city.outside.web3.eth.wait_for_transaction_receipt(HexStr(hash), poll_latency=0.02)
        assert receipt["status"] == 1
        return receipt

    def _send(self, account: Any, to: bytes | None, data: bytes) -> str:
        web3 = self.city.outside.web3
        asked = {
            "type": 2, "chainId": servers.CHAIN_ID, "data": data, "gas": 3_000_000, "value": 0,
            "nonce": web3.eth.get_transaction_count(account.address, "pending"),
            "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9,
        }  # fmt: skip
        if to is not None:
            asked["to"] = to
        raw = account.sign_transaction(asked).raw_transaction
        hash: str = self.node.call("eth_sendRawTransaction", Web3.to_hex(raw))
        return hash

    @contextmanager
    def unmined(self) -> Iterator[None]:
        """Let nothing be mined by itself."""
        self.miner.turn(is_on=False)
        yield
        self.miner.turn(is_on=True)

    def worker_on(self, *urls: str, needed: int = 1, timeout_s: float = 60) -> Worker:
        """A worker that asks these nodes; for those that it sets aside time stands still."""
        made = [HttpNode(url, timeout_s=timeout_s) for url in urls]
        self.nodes += made
        deployment, old = self.city.plan.deployment, self.city.worker
        pool = Pool(made, servers.CHAIN_ID, needed=needed, now=lambda: 0.0)
        rail = EvmRail(pool, Place(deployment, {self.token: "USDT"}))
        return Worker(old.gateway, old.publication, rail, old._city, old._relayer, old._bank)

    def flush_coin(self, invoice: Invoice) -> None:
        """Anybody empties a deposit address of the chain's coin."""
        terms = Terms(invoice.number, invoice.purpose, invoice.payee, invoice.share_bps)
        self.city.city.flush(self.payer, [terms], COIN)

    def flushes(self) -> int:
        """How often a deposit address was emptied, by the router's own words."""
        router = "0x" + self.city.plan.deployment.router.hex()
        asked = {"fromBlock": "0x0", "address": router, "topics": ["0x" + FLUSHED.hex()]}
        return len(self.node.call("eth_getLogs", asked))

    def rescan(self) -> dict[str, int]:
        """Every final Transfer to one of our addresses, read again from block 0 by nothing of ours.

        By address, in hexadecimal; "treasury" for the city's.
        """
        final = self.node.call("eth_getBlockByNumber", "finalized", *(False,))["number"]
        topic = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
        asked = {"fromBlock": "0x0", "toBlock": final, "address": "0x" + self.token.hex(), "topics": [topic]}
        found: dict[str, int] = {}
        for log in self.node.call("eth_getLogs", asked):
            to = log["topics"][2][-40:]
            found[to] = found.get(to, 0) + int(log["data"], 16)
        found["treasury"] = found.pop(self.city.plan.deployment.treasury.hex(), 0)
        return found


def check_against_a_rescan(town: AnvilTown, deposited: list[Invoice], by_router: list[Invoice]) -> None:
    """sum(ledger) = sum(final logs), and no invoice says another thing than the chain."""
    chain = town.rescan()
    booked: list[Transfer] = [transfer for transfer in town.revenue() if transfer.asset == "USDT"]
    assert sum(transfer.amount for transfer in booked) == chain["treasury"] == town.treasury()
    assert len({transfer.evidence for transfer in booked}) == len(booked)
    for invoice in deposited:
        assert invoice.deposit_address is not None
        came = chain.get(invoice.deposit_address.hex(), 0)
        _, derived, _ = town.payments.look(invoice.id)
        assert derived.paid_minor == came, invoice.id
        assert town.status(invoice) == town.stored_status(invoice) == ("final" if came else "open")
        assert town.city.city.balance(town.token, invoice.deposit_address) == 0
    for invoice in by_router:
        assert town.status(invoice) == town.stored_status(invoice) == "final"
        assert town.payments.look(invoice.id)[1].paid_minor == invoice.due_minor
    assert town.unmatched() == []


@contextmanager
def built(folder: Path) -> Iterator[tuple[servers.Anvil, Miner]]:
    """A node of its own with a whole city on it."""
    with servers.anvil("--no-mining", "--timestamp", str(START_S), "--gas-limit", "60000000") as node:
        miner = Miner(node)
        try:
            build(folder, rpc_url=node.url)
            yield node, miner
        finally:
            miner.stop()


@contextmanager
def opened_on(
    node: servers.Anvil,
    miner: Miner,
    built_folder: Path,
    folder: Path,
    database: str = "",
    more: dict[str, bytes] | None = None,
) -> Iterator[AnvilTown]:
    """A copy of that city for one test; the node goes back to where it was afterwards.

    more: other assets that it takes, with their tokens.
    """
    shutil.copytree(built_folder, folder)
    snapshot = node.call("evm_snapshot")
    clock = Clock(int((folder / "clock").read_text()))
    with EmbeddedCity(folder, clock, database=database, rpc_url=node.url, most=LAX) as city:
        plan = replace(Plan.load(city.plan_path), more=more or {})
        city.start(plan)
        assert city.outside.bank.open_account() == plan.bank_iban
        told = json.loads((folder / "town.json").read_text())
        town = AnvilTown(city, **told, node=node, miner=miner)
        try:
            yield town
        finally:
            for one in town.nodes:
                one.close()
            miner.turn(is_on=False)
            node.call("evm_revert", snapshot)
            miner.turn(is_on=True)


@cache
def compiled() -> dict[str, dict[str, Any]]:
    """ABI, bytecode and code of the contracts in Payers.sol, by the compiler that the project pins."""
    asked = {
        "language": "Solidity",
        "sources": {"Payers.sol": {"content": PAYERS.read_text(encoding="utf-8")}},
        "settings": {
            "evmVersion": "cancun",
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
        },
    }
    done = subprocess.run(
        [servers.ROOT / "tools" / "solc", "--standard-json"], input=json.dumps(asked), capture_output=True,
        text=True, check=True, timeout=120,
    )  # fmt: skip
    told = json.loads(done.stdout)
    errors = [error for error in told.get("errors", []) if error["severity"] == "error"]
    assert errors == [], errors
    return {
        name: {
            "abi": made["abi"],
            "bytecode": "0x" + made["evm"]["bytecode"]["object"],
            "runtime": "0x" + made["evm"]["deployedBytecode"]["object"],
        }
        for name, made in told["contracts"]["Payers.sol"].items()
    }
