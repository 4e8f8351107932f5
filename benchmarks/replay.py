"""How fast an auditor replays: rules.replay over a payment-heavy log, beside only hashing its leaves."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from time import process_time

from benchmarks.result import Result, Results, Wanted, in_turn
from benchmarks.sample import PAIRS, Transfers, registered
from ledger import rules
from ledger.records import WORD
from tests import city

COUNT, RUNS = 50_000, 5


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Records a second of one core."""
    log = registered()
    records = _payment_heavy(log)

    def replayed() -> None:
        state, findings = rules.replay(records)
        assert (state.size, findings) == (len(records), [])

    def hashed() -> None:
        for data in records:
            sha256(b"\x00" + data).digest()

    replay, hashing = in_turn(
        RUNS, lambda: _per_second(records, replayed), lambda: _per_second(records, hashed)
    )
    n = f"{len(records)} x {RUNS}"
    yield Result("ledger.replay", replay, "records/s of one core", hashing, n)
    if wanted("ledger.replay.bytes_each"):
        tracemalloc.start()
        state, _ = rules.replay(records)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert state.size == len(records)
        yield Result("ledger.replay.bytes_each", used / len(records), "bytes of memory a record", None, "1")


def _payment_heavy(log: city.Log) -> list[bytes]:
    word = log.now.to_bytes(WORD)
    fees = Transfers(log).take(COUNT, PAIRS)
    return [*log.records, *(fee.template[:WORD] + word + fee.template[2 * WORD :] for fee in fees)]


def _per_second(records: list[bytes], work: Callable[[], None]) -> float:
    start = process_time()
    work()
    return len(records) / (process_time() - start)
