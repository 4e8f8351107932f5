"""A process that works on the town and kills itself at a line of our own code, as the system would.

It forks for each piece of work, so that nothing is imported twice, and opens databases and nodes after the fork, as
any process does. What it works on is a body of code that defines `prepare(city, asked)`, which gives the steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO

from tests import servers
from tests.gateway.conftest import Town

_BEFORE = """
import json, os, signal, sys
from pathlib import Path
from gateway import db
from gateway.embedded import Keys, Plan
from gateway.ledger_view import LedgerView
from gateway.payments.service import Payments
from gateway.rails.evm import EvmRail, HttpNode, Place, Pool

class Chain:
    coin_asset = None
    def __init__(self, chain_id):
        self.rail = f"evm-{chain_id}"

class City:
    def __init__(self, asked):
        self.folder, self.clock = Path(asked["folder"]), lambda: asked["now"]
        self.keys, self.plan = Keys(self.folder / "keys.json"), Plan.load(self.folder / "plan.json")
        chain_id = self.plan.deployment.chain_id
        self.engine = db.engine(asked["database"])
        self.payments = Payments(self.engine, LedgerView(self.engine), self.clock, None, Chain(chain_id))
        self.place = Place(self.plan.deployment, {self.plan.token: "USDT"})
        self.pool = Pool([HttpNode(asked["rpc"])], chain_id)
"""
_AFTER = """
def work(asked):
    steps, lines = prepare(City(asked), asked), 0
    def trace(frame, event, _):
        nonlocal lines
        if not any(part in frame.f_code.co_filename for part in asked["ours"]):
            return None
        if event == "line":
            lines += 1
            if lines == asked["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    for step in steps:
        step()
    sys.settrace(None)
    print(lines, flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(json.loads(line))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
"""
# A worker's round, as far as the steps that are asked for go.
WORKER = """
from gateway.app import Gateway
from gateway.worker import Worker

def prepare(city, asked):
    gateway = Gateway(
        city.engine, city.payments.view, city.payments, None, None, None, None, city.clock, "", city.plan.bank_iban
    )
    rail = EvmRail(city.pool, city.place)
    worker = Worker(gateway, None, rail, None, city.keys.account("relayer"), city.folder / "bank")
    worker.expire = city.payments.expire
    return [getattr(worker, name) for name in asked["steps"]]
"""
WORKER_LINES = (
    "/gateway/payments/", "/gateway/worker.py", "/gateway/watching/", "/gateway/relayer/", "/gateway/sending/",
    "/gateway/rails/evm/", "/ledger/store.py",
)  # fmt: skip


class Killed:
    """That process. ours: parts of file names whose lines count; always: what it is asked each time."""

    def __init__(self, town: Town, body: str, ours: tuple[str, ...], **always: object) -> None:
        self._town, self._ours, self._always = town, ours, always
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEFORE + body + _AFTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=servers.ROOT,
        )  # fmt: skip

    def work(self, kill: int = 0, **asked: object) -> int | None:
        """Let it work; None where it was killed at that line, or else how many lines it ran (0: all of them)."""
        city = self._town.city
        told = {
            "folder": str(city.folder.resolve()), "database": city._database, "now": city.clock(),
            "rpc": city.outside.rpc_url, "ours": self._ours, "kill": kill, **self._always, **asked,
        }  # fmt: skip
        stdin: IO[str] | None = self._process.stdin
        stdout: IO[str] | None = self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(told) + "\n")
        stdin.flush()
        answer = stdout.readline().split()
        if answer[0] == "ended":
            assert answer[1] == "-9", answer
            return None
        assert stdout.readline().split() == ["ended", "0"]
        return int(answer[0])

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
