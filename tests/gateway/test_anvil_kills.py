"""A worker killed at random lines of its own code, on a real node; then all of it is compared with a full rescan.

QAZYNA_KILLS says how often; `make prove` asks for 500.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import IO, Any

from gateway.db import reading
from gateway.payments.store import Invoice
from gateway.sending import store as sending_store
from tests import servers
from tests.gateway.anvil_town import AnvilTown, check_against_a_rescan

KILLS = int(os.environ.get("QAZYNA_KILLS", "25"))
SEED = 20261124

# A worker as a process of its own: it forks for each round, and at the n-th line of our own code the child
# kills itself as the system would. A count of 0 lets it finish, and tells its lines.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from contracts.bindings import City
from gateway import db
from gateway.app import Gateway
from gateway.embedded import Keys, Plan
from gateway.ledger_view import LedgerView
from gateway.payments.service import Payments
from gateway.rails.evm import EvmRail, HttpNode, Place, Pool
from gateway.worker import Worker

OURS = ("/gateway/payments/", "/gateway/worker.py", "/gateway/watching/", "/gateway/relayer/", "/gateway/sending/",
        "/gateway/rails/evm/", "/ledger/store.py")

def work(asked, out):
    folder = Path(asked["folder"])
    keys, plan, clock = Keys(folder / "keys.json"), Plan.load(folder / "plan.json"), lambda: asked["now"]
    engine = db.engine(f"sqlite:///{folder}/qazyna.db")
    class Chain:
        rail = f"evm-{plan.deployment.chain_id}"
    payments = Payments(engine, LedgerView(engine), clock, None, Chain())
    gateway = Gateway(engine, payments.view, payments, None, None, None, None, clock, "", plan.bank_iban)
    place = Place(plan.deployment, {plan.token: "USDT"})
    rail = EvmRail(Pool([HttpNode(asked["rpc"])], plan.deployment.chain_id), place)
    worker = Worker(gateway, None, rail, None, keys.account("relayer"), folder / "bank")
    lines = 0
    def trace(frame, event, _):
        nonlocal lines
        if not any(part in frame.f_code.co_filename for part in OURS):
            return None
        if event == "line":
            lines += 1
            if lines == asked["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    worker.poll_chain()
    worker.flush()
    worker.poll_chain()
    payments.expire()
    sys.settrace(None)
    out.write(f"{lines}\\n")
    out.flush()
    os._exit(0)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(json.loads(line), sys.stdout)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(3)
    _, status = os.waitpid(child, 0)
    print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
"""


class Process:
    """That program, and what it is asked."""

    def __init__(self, town: AnvilTown) -> None:
        self._town = town
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=servers.ROOT
        )  # fmt: skip

    def work(self, kill: int = 0) -> int | None:
        """Let it do one round; None where it was killed, or else how many lines it ran."""
        town = self._town
        asked = {
            "folder": str(town.city.folder.resolve()),
            "now": town.city.clock(),
            "rpc": town.node.url,
            "kill": kill,
        }
        pipe: IO[str] | None = self._process.stdin
        assert pipe is not None
        assert self._process.stdout is not None
        pipe.write(json.dumps(asked) + "\n")
        pipe.flush()
        told = self._process.stdout.readline().split()
        if told[0] == "ended":
            assert told[1] == "-9", told
            return None
        assert self._process.stdout.readline().split() == ["ended", "0"]
        return int(told[0])

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def transactions_of(town: AnvilTown, address: str, first: int) -> list[dict[str, Any]]:
    """All that an account has sent, read from the blocks."""
    found = []
    for number in range(first, town.block() + 1):
        block = town.node.call("eth_getBlockByNumber", hex(number), *(True,))
        found += [sent for sent in block["transactions"] if sent["from"] == address.lower()]
    return found


def test_ff23_a_worker_killed_at_any_line_pays_and_books_and_sends_everything_once(anvil_town: AnvilTown):
    town, chance = anvil_town, random.Random(SEED)
    process = Process(town)
    deposited: list[Invoice] = []
    by_router: list[Invoice] = []
    start = town.block()
    try:
        deposited.append(town.invoice())
        town.deposit(deposited[-1])
        town.mine(65)
        lines = process.work()
        assert lines is not None
        killed = 0
        for count in range(KILLS):
            # Money comes in each way now and then; what came before becomes final.
            if count % 3 == 0:
                deposited.append(town.invoice())
                town.deposit(deposited[-1])
            if count % 5 == 0:
                by_router.append(town.invoice())
                town.pay(by_router[-1])
            town.mine(33)
            with town.unmined():
                killed += process.work(kill=chance.randrange(1, lines)) is None
                town.mine()
            # The lease of the killed one ends.
            town.city.clock.wait(31)
        assert killed >= KILLS * 3 // 4
        for _ in range(4):
            assert process.work()
            town.mine(65)
            town.city.clock.wait(61)
    finally:
        process.close()
    town.record()
    check_against_a_rescan(town, deposited, by_router)
    # Each flush was executed once, and nothing else was ever sent.
    with reading(town.city.gateway.engine) as connection:
        counts = sending_store.counts(connection, town.city.worker.rail.name)
    sent = transactions_of(town, town.city.keys.account("relayer").address, start)
    assert counts == {"final": len(sent)}
    assert len({transaction["nonce"] for transaction in sent}) == len(sent)
    assert town.flushes() == len(deposited)
