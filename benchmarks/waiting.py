"""How long an append takes for whoever waits for its position, at 2,000 a second.

The writer is a process of its own and does what it does in earnest: it runs, takes what waits
every 10 ms at the latest, and commits. Submissions arrive on a schedule that waits for nobody,
so that a slow moment is counted for all who arrive in it. What arrives within 5 ms is submitted
in one transaction, as busy gateway processes together would; one process of Python cannot commit
2,000 transactions a second of its own.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median, quantiles
from time import monotonic, sleep

import psycopg

from benchmarks.result import Result, Results, Wanted
from benchmarks.sample import Transfers, registered, written
from benchmarks.servers import durable_postgres
from ledger import store
from tests import servers
from tests.ledger.running import Ledger

EACH_S, PER_SECOND, SECONDS, RUNS = 0.005, 2_000, 8, 3

WRITER = """
import sys, threading
from pathlib import Path
from ledger.database import engine
from ledger.writer import Writer, only_writer
from tests.ledger.running import KEYS, Clock
url, folder, now = sys.argv[1:]
opened, heads = engine(url), engine(f"sqlite:///{folder}/heads.db")
with only_writer(opened, Path(folder) / "writer.lock"):
    writer = Writer(opened, heads, KEYS, Clock(int(now)))
    print("ready", flush=True)
    writer.run(threading.Event())
"""


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """The 99th percentile and the median, over all submissions of each run."""
    log = registered(1)
    transfers = Transfers(log)
    with durable_postgres() as server:
        url = server.url("postgres")
        with written(url, log) as (ledger, _):
            command = [sys.executable, "-c", WRITER, url, str(ledger.folder), str(log.now)]
            process = subprocess.Popen(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True)
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                _run(ledger, transfers, url, 2)
                runs = [_run(ledger, transfers, url, SECONDS) for _ in range(RUNS)]
            finally:
                process.kill()
                process.wait()
    n = f"{PER_SECOND * SECONDS} x {RUNS}"
    yield Result("ledger.append.p99_at_2000", median(quantiles(run, n=100)[98] for run in runs), "ms", 100, n)
    yield Result("ledger.append.p99_at_2000.median", median(map(median, runs)), "ms", None, n)


def _run(ledger: Ledger, transfers: Transfers, url: str, seconds: int) -> list[float]:
    """Milliseconds from when each was due to when its position was there to be read."""
    address = url.replace("postgresql+psycopg", "postgresql")
    asked = transfers.take(PER_SECOND * seconds)
    due: dict[bytes, float] = {}
    took: list[float] = []
    start, sent = monotonic(), 0
    with psycopg.connect(address, autocommit=True) as connection:
        while len(took) < len(asked):
            now = monotonic() - start
            ready = min(len(asked), int(now / EACH_S) * int(PER_SECOND * EACH_S))
            if ready > sent:
                batch = asked[sent:ready]
                with ledger.engine.begin() as transaction:
                    store.submit_all(transaction, [(one.id, one.template) for one in batch], 0)
                due |= {one.id: (sent + at) / PER_SECOND for at, one in enumerate(batch)}
                sent = ready
            found = connection.execute(
                "SELECT id FROM ledger_transfer WHERE id = ANY(%b)", (list(due),), binary=True
            ).fetchall()
            now = monotonic() - start
            took += [1_000 * (now - due.pop(id)) for (id,) in found]
            sleep(max(0.0, EACH_S - (monotonic() - start - now)))
    return took
