"""What an audit of a whole bundle takes: records a second from disk to verdict, and memory at most.

The command itself, in a process of its own, over a payment-heavy log of growing size: files, hashes, tree,
tiles, times, documents, index, rules, anchors, totals. `.jobs_2` shares the hashing and the index of the
largest between two processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.result import Result, Results, Wanted
from benchmarks.sample import PAIRS, Transfers, registered
from ledger.proof import TILE_WIDTH, encode_bundle, leaf_hash, tile_path
from ledger.records import WORD
from ledger.tree import Tree, tiles_to_write
from tests import bundles, city, servers

SIZES = {"1e4": 10**4, "1e5": 10**5, "1e6": 10**6}
LONG = {**SIZES, "1e7": 10**7}
CHUNK = 64 * TILE_WIDTH


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """One bundle that grows, audited at each size."""
    log = registered()
    sizes = {name: n for name, n in (LONG if is_long else SIZES).items() if wanted(f"ledger.audit.at_{name}")}
    first: float | None = None
    with TemporaryDirectory(prefix="qazyna-bench-") as folder:
        grown = Grown(Path(folder), log)
        for name, size in sizes.items():
            grown.grow(size)
            rate, memory = _audited(grown.folder, size)
            first = memory if first is None else first
            yield Result(f"ledger.audit.at_{name}", rate, "records/s", None, "1")
            yield Result(f"ledger.audit.at_{name}.memory", memory, "MiB at most", first, "1")
            if size == max(sizes.values()):
                both, _ = _audited(grown.folder, size, "--jobs", "2")
                yield Result(f"ledger.audit.at_{name}.jobs_2", both, "records/s", rate, "1")


class Grown:
    """A bundle on disk that grows; only its right edge is in memory."""

    def __init__(self, folder: Path, log: city.Log) -> None:
        self.folder, self._log = folder, log
        self._done = bundles.Written(folder, [])
        self._transfers, self._tree, self._size = Transfers(log), Tree(), 0
        self._last: list[bytes] = []
        self._anchors = bundles.anchors(log.records)
        self._add(log.records)

    def grow(self, size: int) -> None:
        """Write records up to this size and sign it."""
        word = self._log.now.to_bytes(WORD)
        while self._size < size:
            fees = self._transfers.take(min(CHUNK, size - self._size), PAIRS)
            self._add([fee.template[:WORD] + word + fee.template[2 * WORD :] for fee in fees])
        at = {"time": str(self._log.now + 60), "block": str(10 + size)}
        anchor = bundles.anchor(self._log.records, len(self._log.records), self._tree.root(), **at)
        anchors = [*self._anchors, anchor | {"size": str(size)}]
        self._done.write("anchors.json", bundles.as_bytes(anchors))
        self._done.write("trust.json", bundles.as_bytes(bundles.trust()))
        self._done.sign_checkpoint(size=size, root=self._tree.root())
        # Not of all files: tiles are covered by the checkpoint, and there are many.
        self._done.sign_manifest(size=size)

    def _add(self, records: list[bytes]) -> None:
        old = self._size
        whole = old - old % TILE_WIDTH
        entries = [*self._last, *records]
        for at in range(0, len(entries), TILE_WIDTH):
            some = entries[at : at + TILE_WIDTH]
            self._done.write(tile_path("entries", (whole + at) // TILE_WIDTH, len(some)), encode_bundle(some))
        leaves = [leaf_hash(data) for data in records]
        for level, index, width, tile in tiles_to_write(old, leaves, self._read):
            self._done.write(tile_path(level, index, width), tile)
        self._tree.extend(leaves)
        self._size += len(records)
        self._last = entries[len(entries) - self._size % TILE_WIDTH :] if self._size % TILE_WIDTH else []

    def _read(self, level: int, index: int, width: int) -> bytes:
        return (self.folder / tile_path(level, index, width)).read_bytes()


def _audited(folder: Path, size: int, *more: str) -> tuple[float, float]:
    """Records a second, and the most memory of one process in MiB."""
    command = [sys.executable, "-m", "ledger.audit", str(folder), *more]
    start = perf_counter()
    process = subprocess.Popen(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert f"{size} records" in said, said[-500:]
    return size / (perf_counter() - start), usage.ru_maxrss / 1_024
