"""What one more record, one receipt and one start cost as the ledger grows."""

from __future__ import annotations

import random
import resource
from statistics import median
from time import perf_counter, process_time

from benchmarks.append import _append
from benchmarks.result import Result, Results, Wanted
from benchmarks.sample import Transfers, batches, registered, written
from benchmarks.servers import durable_postgres
from ledger import store
from ledger.publish import Publisher
from ledger.writer import Writer

SIZES = {"1e4": 10**4, "1e5": 10**5, "1e6": 10**6}
LONG = {**SIZES, "1e7": 10**7}
APPENDS, RECEIPTS, CHUNK = 10_000, 200, 50_000


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Grow one ledger on durable PostgreSQL; at each size append, seal, publish and prove some more."""
    log = registered(1)
    transfers = Transfers(log)
    sizes = {
        name: size
        for name, size in (LONG if is_long else SIZES).items()
        if any(wanted(f"{what}.at_{name}") for what in ("ledger.append", "ledger.receipt", "ledger.start"))
    }
    first: dict[str, float] = {}
    with durable_postgres() as server, written(server.url("postgres"), log) as (ledger, writer):
        publisher = ledger.publisher()
        for name, size in sizes.items():
            while (missing := size - writer.tree.size) > 0:
                _append(writer, transfers.take(min(CHUNK, missing)))
            costs = _appended(writer, transfers)
            appended = 1e6 * median(costs)
            first.setdefault("append", appended)
            yield Result(
                f"ledger.append.at_{name}", appended, "us an append", first["append"], f"1000 x {len(costs)}"
            )
            note = writer.seal()
            start = perf_counter()
            old = publisher.published()
            publisher.publish(ledger.engine, note)
            published = (writer.tree.size - old) / (perf_counter() - start)
            yield Result(f"ledger.append.at_{name}.published", published, "records/s", None, "1")
            proved = 1e6 * _proved(publisher, writer)
            first.setdefault("receipt", proved)
            yield Result(
                f"ledger.receipt.at_{name}", proved, "us of CPU", first["receipt"], f"1 x {RECEIPTS}"
            )
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
            yield Result(f"ledger.memory.at_{name}", memory, "MiB at most so far", None, "1")
            if wanted(f"ledger.start.at_{name}"):
                start = perf_counter()
                ledger.writer()
                yield Result(f"ledger.start.at_{name}", perf_counter() - start, "s", None, "1")


def _appended(writer: Writer, transfers: Transfers) -> list[float]:
    """Seconds a record, for each batch."""
    costs = []
    for batch in batches(transfers.take(APPENDS)):
        start = perf_counter()
        writer.append(batch)
        costs.append((perf_counter() - start) / len(batch))
    return costs


def _proved(publisher: Publisher, writer: Writer) -> float:
    """Seconds of CPU for one receipt of a record that nobody asked for before: tiles are read each time."""
    chance, costs = random.Random(7), []
    for _ in range(RECEIPTS):
        index = chance.randrange(writer.tree.size)
        record = next(store.records(writer.engine, index, index + 1))
        start = process_time()
        publisher.receipt(index, record)
        costs.append(process_time() - start)
    return median(costs)
