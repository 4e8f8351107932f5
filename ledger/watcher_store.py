"""A watcher's own copy of the records: so that its past is on its disk, and not in its memory.

A file that this process alone reads and writes. It is made again at each start, since a watcher then reads
everything again: what an earlier process left there is nobody's word.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from ledger import tables
from ledger.batch import insert_rows
from ledger.database import Engine, engine
from ledger.fast import ID, is_transfer
from ledger.store import asking

COPY = "records.db"


def open_copy(owner: object, folder: Path | None) -> Engine:
    """An empty copy in a folder, or in one that goes with its owner."""
    if folder is None:
        folder = Path(mkdtemp(prefix="watcher-"))
        weakref.finalize(owner, rmtree, folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (COPY, f"{COPY}-wal", f"{COPY}-shm"):
        (folder / name).unlink(missing_ok=True)
    opened = engine(f"sqlite:///{folder.resolve() / COPY}")
    weakref.finalize(owner, opened.dispose)
    with asking("watcher's copy"):
        kept = [tables.record, tables.transfer, tables.evidence, tables.named]
        tables.ledger.create_all(opened, tables=kept)
    return opened


def add(copy: Engine, first: int, records: Sequence[bytes]) -> None:
    """Add records, all of them or none; Unavailable where the disk does not take them."""
    rows = list(enumerate(records, first))
    found = [(data[ID], at) for at, data in rows if is_transfer(data)]
    with asking("watcher's copy"), copy.begin() as connection:
        insert_rows(connection, tables.record, rows)
        insert_rows(connection, tables.transfer, found)
