"""CPU that processes have used, which other work on the same machine changes far less than time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import process_time


def of_server(pid: int) -> float:
    """Seconds of CPU that a process, its children, and those of them that have ended have used (proc(5))."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # After the name: state, parent, ...; utime, stime and those of children that were waited for.
        if int(fields[1]) == pid:
            ticks += sum(map(int, fields[11:13]))
        elif stat.parent.name == str(pid):
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def microseconds_each(pid: int, count: int, work: Callable[[], object]) -> tuple[float, float]:
    """CPU of this process and of a server for each of so many things, in microseconds."""
    ours, theirs = process_time(), of_server(pid)
    work()
    return 1e6 * (process_time() - ours) / count, 1e6 * (of_server(pid) - theirs) / count
