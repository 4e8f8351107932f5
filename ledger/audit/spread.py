"""How an audit is spread: the same functions over stretches of the log, one after another or side by side.

A spread maps a function over jobs and gives the answers in order. Functions and jobs are importable and
can be pickled, so that any executor will do; with Dask it is
`lambda work, jobs: client.gather(client.map(work, jobs))`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from ledger.records import Unavailable

Spread = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


def in_turn(work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
    """One after another, in this process."""
    return map(work, jobs)


@contextmanager
def processes(count: int) -> Iterator[Spread]:
    """Side by side in so many processes of this machine; 1 is this process."""
    if count == 1:
        yield in_turn
        return
    # Each starts clean: what this process has in memory, or holds open, is not theirs.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:

        def spread(work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
            try:
                yield from pool.map(work, jobs)
            except BrokenProcessPool as error:
                raise Unavailable("audit", f"one of {count} processes ended: {error}") from None

        yield spread


def stretches(start: int, end: int, each: int) -> list[tuple[int, int]]:
    """From start to before end in stretches of so many."""
    return [(first, min(end, first + each)) for first in range(start, end, each)]
