"""Every table as a file, with a manifest: JSON lines or CSV out, JSON lines or CSV in.

A folder has one file for each table and manifest.json, which names columns, kinds, rows and SHA-256. Amounts
and bytes are text (decimal, hex), so that any program reads them; nothing is rounded. What is sealed stays
sealed (secrets of webhooks are ciphertext, keys are hashes). What is private about people is left out unless
it is asked for, and the manifest says so.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gateway.db import Engine
from gateway.exports import store
from ledger.records import Unavailable, reject

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

Shape = Literal["jsonl", "csv"]
FORMAT: Final = "qazyna tables 1"
MANIFEST: Final = "manifest.json"
# Personal: what a salted commitment hides (L7), letters with the address that they go to, a refund's account.
# Without them everything else is whole, and proofs stay valid.
PRIVATE: Final = frozenset({"private_evidence", "email_outbox", "refund_account"})
NULL_IN_CSV: Final = "\\N"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Database:
    """One database and what belongs into it."""

    name: str
    engine: Engine
    metadata: tuple[MetaData, ...]


def databases(main: Engine, heads: Engine) -> tuple[Database, Database]:
    """The two databases of a city: gateway with ledger, and the signed heads."""
    return Database("main", main, store.MAIN), Database("heads", heads, store.HEADS)


def export_all(
    sources: Sequence[Database], folder: Path, shape: Shape, say: Say, *, private: bool = False
) -> dict[str, Any]:
    """Write every table into a folder that is empty or new; returns the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        reject("export", str(folder), "this folder has something in it already")
    told: dict[str, Any] = {"format": FORMAT, "shape": shape, "private": private, "tables": []}
    for source in sources:
        with store.snapshot(source.engine) as connection:
            if unknown := store.unknown_tables(connection, source.metadata):
                reject("export", unknown[0], "this version does not know that table, so it would be lost")
            for table in store.tables_of(source.metadata):
                entry: dict[str, Any] = {
                    "database": source.name,
                    "name": table.name,
                    "columns": store.kinds(table),
                    "key": [column.name for column in table.primary_key.columns],
                }
                if table.name in PRIVATE and not private:
                    entry |= {"withheld": "private", "rows": store.count(connection, table)}
                else:
                    path = folder / f"{table.name}.{shape}"
                    entry |= _write(path, store.kinds(table), store.rows(connection, table), shape)
                say(f"{table.name}: {entry['rows']} rows{' withheld' if 'withheld' in entry else ''}")
                told["tables"].append(entry)
    # Last, so that a folder with a manifest is a whole export.
    (folder / MANIFEST).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    return told


def import_all(targets: Sequence[Database], folder: Path, say: Say) -> None:
    """Fill empty databases, whose tables are there, from an export; all of each database or nothing."""
    told = _manifest(folder)
    for target in targets:
        entries = {one["name"]: one for one in told["tables"] if one["database"] == target.name}
        with target.engine.begin() as connection:
            store.check_empty(connection, target.metadata)
            for table in store.tables_of(target.metadata):
                entry = entries.pop(table.name, None)
                if entry is None:
                    reject("import", table.name, "the manifest does not name this table")
                if entry["columns"] != store.kinds(table):
                    reject("import", table.name, "its columns are of another version")
                if "withheld" not in entry:
                    for page in _pages(folder, entry, told["shape"]):
                        store.fill(connection, table, page)
                    store.go_on_counting(connection, table)
                    found = store.count(connection, table)
                    if found != entry["rows"]:
                        reject("import", table.name, f"{found} rows, the manifest says {entry['rows']}")
                say(f"{table.name}: {0 if 'withheld' in entry else entry['rows']} rows")
        if entries:
            reject("import", next(iter(entries)), "this version does not know that table")


# --- out ------------------------------------------------------------------------------


def _write(
    path: Path, kinds: Mapping[str, str], rows: Iterator[dict[str, Any]], shape: Shape
) -> dict[str, Any]:
    digest, count = sha256(), 0
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            wrote = _Counted(file.write, digest.update)
            writer = csv.writer(wrote, lineterminator="\n")
            if shape == "csv":
                writer.writerow(kinds)
            for row in rows:
                told = {name: _out(row[name], kind) for name, kind in kinds.items()}
                if shape == "csv":
                    writer.writerow(_cell(value) for value in told.values())
                else:
                    wrote.write(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n")
                count += 1
    except OSError as error:
        raise Unavailable("export", f"{path}: {error.strerror}") from error
    return {"file": path.name, "rows": count, "sha256": digest.hexdigest()}


class _Counted:
    """A file that is hashed while it is written."""

    def __init__(self, write: Callable[[str], object], update: Callable[[bytes], object]) -> None:
        self._write, self._update = write, update

    def write(self, text: str) -> None:
        self._write(text)
        self._update(text.encode())


def _out(value: Any, kind: str) -> str | int | None:
    if value is None:
        return None
    if kind == "amount":
        return str(value)
    if kind == "bytes":
        return bytes(value).hex()
    return int(value) if kind == "integer" else str(value)


def _cell(value: str | int | None) -> str:
    # In CSV an empty text and none look alike: none is \N, and a text that begins so gets one more \.
    if value is None:
        return NULL_IN_CSV
    text = str(value)
    return "\\" + text if text.startswith("\\") else text


# --- in -------------------------------------------------------------------------------


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / MANIFEST).read_text())
    except OSError as error:
        raise Unavailable("import", f"{folder / MANIFEST}: {error.strerror}") from error
    except ValueError as error:
        reject("import", MANIFEST, f"it is not JSON: {error}")
    if (
        not isinstance(told, dict)
        or told.get("format") != FORMAT
        or told.get("shape") not in {"jsonl", "csv"}
    ):
        reject("import", MANIFEST, f"it is no manifest of {FORMAT!r}")
    return told


def _pages(folder: Path, entry: dict[str, Any], shape: Shape) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file, once its bytes are those that the manifest names."""
    path = folder / entry["file"]
    if path.parent != folder:
        reject("import", entry["file"], "a file stands in the folder itself")
    try:
        with path.open("rb") as content:
            digest = sha256()
            while chunk := content.read(1 << 20):
                digest.update(chunk)
        if digest.hexdigest() != entry["sha256"]:
            reject(
                "import", entry["file"], f"its SHA-256 is {digest.hexdigest()}, named is {entry['sha256']}"
            )
        with path.open(encoding="utf-8", newline="") as file:
            page = []
            for at, told in enumerate(_read(file, shape), start=1):
                page.append(_row(told, entry["columns"], f"{entry['file']} row {at}"))
                if len(page) == store.PAGE:
                    yield page
                    page = []
            yield page
    except OSError as error:
        raise Unavailable("import", f"{path}: {error.strerror}") from error


def _read(file: Any, shape: Shape) -> Iterator[dict[str, Any]]:
    if shape == "csv":
        for row in csv.DictReader(file):
            yield {name: _uncell(value) for name, value in row.items()}
        return
    for line in file:
        yield json.loads(line)


def _uncell(text: str) -> str | None:
    if text == NULL_IN_CSV:
        return None
    return text.removeprefix("\\")


def _row(told: dict[str, Any], columns: Mapping[str, str], where: str) -> dict[str, Any]:
    if set(told) != set(columns):
        reject("import", where, "its members are not the table's columns")
    try:
        return {name: _in(told[name], kind) for name, kind in columns.items()}
    except (ValueError, TypeError) as error:
        return reject("import", where, str(error))


def _in(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind in {"amount", "integer"}:
        return int(value)
    return bytes.fromhex(value) if kind == "bytes" else value


def known_tables() -> list[Table]:
    """Every table of this version."""
    return [*store.tables_of(store.MAIN), *store.tables_of(store.HEADS)]
