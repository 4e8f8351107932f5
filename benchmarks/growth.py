"""What one more record, one receipt and one start cost as the ledger grows."""

from __future__ import annotations

import random
import resource
from functools import partial
from statistics import median
from time import perf_counter, process_time

from benchmarks.append import _append
from benchmarks.cpu import microseconds_each
from benchmarks.references import wal_bytes
from benchmarks.result import Result, Results, Wanted, in_turn
from benchmarks.sample import Transfers, batches, registered, written
from benchmarks.servers import durable_postgres
from ledger.evidence_index import RUN_RECORDS
from ledger.publish import Publisher
from ledger.tree import inclusion_proof
from ledger.writer import Writer
from tests.ledger import wide_tree
from tests.ledger.running import KEYS, Ledger

SIZES = {"1e4": 10**4, "1e5": 10**5, "1e6": 10**6}
LONG = {**SIZES, "1e7": 10**7}
APPENDS, CHUNK = 10_000, 50_000
RECEIPTS, RUNS = 200, 9


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Grow one ledger on durable PostgreSQL; at each size append, seal, publish and prove some more.

    CPU and WAL are those of a whole run of the index of evidence, so that the writing of one is in each.
    """
    log = registered(1)
    transfers = Transfers(log)
    sizes = {
        name: size
        for name, size in (LONG if is_long else SIZES).items()
        if any(wanted(f"{what}.at_{name}") for what in ("ledger.append", "ledger.receipt", "ledger.memory"))
        or wanted("ledger.start")
    }
    first: float | None = None
    first_cpu: float | None = None
    first_logged: float | None = None
    reached: dict[str, int] = {}
    with durable_postgres() as server, written(server.url("postgres"), log) as (ledger, writer):
        publisher, address = ledger.publisher(), server.url("postgres")
        for name, size in sizes.items():
            while (missing := size - writer.tree.size) > 0:
                _append(writer, transfers.take(min(CHUNK, missing)))
            costs = _appended(writer, transfers)
            appended = 1e6 * median(costs)
            first = appended if first is None else first
            n = f"1000 x {len(costs)}"
            yield Result(f"ledger.append.at_{name}", appended, "us an append", first, n)
            more = transfers.take(RUN_RECORDS)
            before = wal_bytes(address)
            cpu = sum(microseconds_each(server.pid, len(more), partial(_append, writer, more)))
            logged = (wal_bytes(address) - before) / len(more)
            first_cpu, first_logged = first_cpu or cpu, first_logged or logged
            n = str(len(more))
            yield Result(f"ledger.append.at_{name}.cpu", cpu, "us of CPU an append", first_cpu, n)
            yield Result(f"ledger.append.at_{name}.wal", logged, "bytes of WAL an append", first_logged, n)
            note = writer.seal()
            start = perf_counter()
            old = publisher.published()
            publisher.publish(ledger.engine, note)
            published = (writer.tree.size - old) / (perf_counter() - start)
            yield Result(f"ledger.append.at_{name}.published", published, "records/s", None, "1")
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
            yield Result(f"ledger.memory.at_{name}", memory, "MiB at most so far", None, "1")
            reached[name] = writer.tree.size
        # Each size in turn, from the same tiles: a proof for an older size is one of that tree.
        proved = in_turn(RUNS, *(partial(_proved, publisher, size) for size in reached.values()))
        for name, cost in zip(reached, proved, strict=True):
            n = f"{RECEIPTS} x {RUNS}"
            yield Result(f"ledger.receipt.at_{name}", cost, "us of CPU", proved[0], n)
        wide = median(_proved_wide() for _ in range(RUNS))
        yield Result("ledger.receipt.at_1e9", wide, "us of CPU", proved[0], f"{RECEIPTS} x {RUNS}")
        # The last thing, for it takes the fence from the writer above.
        size = writer.tree.size
        started, replayed = _started(ledger, from_start=False), _started(ledger, from_start=True)
        yield Result("ledger.start", started, "s", replayed, f"{size}")
        yield Result("ledger.start.from_start", size / replayed, "records/s", None, f"{size}")


def _started(ledger: Ledger, *, from_start: bool) -> float:
    """Seconds until a new writer can write."""
    start = perf_counter()
    Writer(ledger.engine, ledger.heads, KEYS, ledger.clock, from_start=from_start)
    return perf_counter() - start


def _proved_wide() -> float:
    """Microseconds of CPU for an inclusion proof in a tree of 10^9, whose tiles are there to be read."""
    chance, size = random.Random(9), 10**9
    indexes = [chance.randrange(size) for _ in range(RECEIPTS)]
    for index in indexes:
        inclusion_proof(index, size, wide_tree.tile)
    start = process_time()
    for index in indexes:
        inclusion_proof(index, size, wide_tree.tile)
    return 1e6 * (process_time() - start) / RECEIPTS


def _appended(writer: Writer, transfers: Transfers) -> list[float]:
    """Seconds a record, for each batch."""
    costs = []
    for batch in batches(transfers.take(APPENDS)):
        start = perf_counter()
        writer.append(batch)
        costs.append((perf_counter() - start) / len(batch))
    return costs


def _proved(publisher: Publisher, size: int) -> float:
    """Microseconds of CPU for an inclusion proof of a record at random; its tiles are read each time."""
    chance = random.Random(size)
    indexes = [chance.randrange(size) for _ in range(RECEIPTS)]
    start = process_time()
    for index in indexes:
        publisher.inclusion(index, size)
    return 1e6 * (process_time() - start) / RECEIPTS
