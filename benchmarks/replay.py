"""How fast an auditor replays a payment-heavy log on one core, beside only hashing its leaves.

`ledger.replay` is what `python -m ledger.audit` does with records: one pass for the index, and the rules over
all of them. In `.with_a_refund` one record names a receipt by its hash, so that every transfer has to be
hashed with keccak256 to find it. `.plain` is rules.apply alone, the whole past in memory.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from time import process_time

from benchmarks.result import Result, Results, Wanted, in_turn
from benchmarks.sample import PAIRS, Transfers, registered
from ledger.audit.replay import Replayed, take_all, take_plainly
from ledger.records import WORD, Transfer, decode, encode, hash_struct
from tests import city
from tests.vectors import make

COUNT, RUNS, PLAIN = 200_000, 5, 20_000


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Records a second of one core."""
    log = registered()
    records = payment_heavy(log, COUNT)
    refunded = [*records, _refund(log, records)]
    few = records[: len(log.records) + PLAIN]
    replay, refund, plain, hashing = in_turn(
        RUNS,
        lambda: _per_second(records, lambda: _replayed(records)),
        lambda: _per_second(refunded, lambda: _replayed(refunded)),
        lambda: _per_second(few, lambda: _replayed(few, plain=True)),
        lambda: _per_second(records, lambda: _hashed(records)),
    )
    n = f"{len(records)} x {RUNS}"
    yield Result("ledger.replay", replay, "records/s of one core", hashing, n)
    yield Result("ledger.replay.with_a_refund", refund, "records/s of one core", hashing, n)
    yield Result("ledger.replay.plain", plain, "records/s of one core", hashing, f"{len(few)} x {RUNS}")
    if wanted("ledger.replay.bytes_each"):
        for name, take in (("bytes_each", False), ("plain.bytes_each", True)):
            used = _memory(records if not take else few, plain=take)
            yield Result(f"ledger.replay.{name}", used, "bytes of memory a payment", None, "1")


def _replayed(records: list[bytes], *, plain: bool = False) -> Replayed:
    done = Replayed(records)
    (take_plainly if plain else take_all)(done, (), lambda *_: None)
    assert (done.state.size, done.broken) == (len(records), {})
    return done


def _memory(records: list[bytes], *, plain: bool) -> float:
    """What a payment more leaves in memory once all is replayed; the records themselves are not counted."""
    used = []
    for some in (records[: len(records) // 2], records):
        tracemalloc.start()
        done = _replayed(some, plain=plain)
        used.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del done
    return (used[1] - used[0]) / (len(records) - len(records) // 2)


def _hashed(records: list[bytes]) -> None:
    for data in records:
        sha256(b"\x00" + data).digest()


def payment_heavy(log: city.Log, count: int) -> list[bytes]:
    """The log, and so many fees."""
    word = log.now.to_bytes(WORD)
    fees = Transfers(log).take(count, PAIRS)
    return [*log.records, *(fee.template[:WORD] + word + fee.template[2 * WORD :] for fee in fees)]


def _refund(log: city.Log, records: list[bytes]) -> bytes:
    receipt = decode(records[-1])
    assert isinstance(receipt, Transfer)
    return encode(replace(make.refund(hash_struct(receipt), 1), time=log.now))


def _per_second(records: list[bytes], work: Callable[[], object]) -> float:
    start = process_time()
    work()
    return len(records) / (process_time() - start)
