"""Every table out and in again: on another database the city is the same, to the byte (field failure 54)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Table, Text, func, inspect, select

from gateway import db, migrations
from gateway.exports import store, tables
from gateway.exports.tables import databases, export_all, import_all, known_tables
from gateway.ledger_view import LedgerView
from gateway.payments.service import Payments
from gateway.webhooks import store as webhooks
from ledger import store as ledger_store
from ledger.records import Invalid
from ledger.writer import Writer
from tests.gateway.conftest import Town


def quiet(_: str) -> None:
    """Say nothing."""


def lived(town: Town) -> list[Any]:
    """A town in which all kinds of things have happened."""
    engine = town.city.gateway.engine
    with engine.begin() as connection:
        target = town.city.gateway.egress.parse("http://127.0.0.1:9/hook")
        webhooks.add_endpoint(
            connection, town.city.gateway.sealer, town.merchant_id, target, town.city.clock()
        )
    wallet, deposit, late = town.invoice(), town.invoice(), town.invoice()
    town.pay(wallet)
    town.deposit(deposit)
    bill = town.bill()
    town.transfer_in_tenge(
        bill.due_minor, f'{bill.reference}, from a person \\N \\ "with" a name,\r\nand more'
    )
    town.take_bank_files()
    town.transfer_in_tenge(5, "nobody's")
    town.take_bank_files()
    town.settle()
    town.wait(2_000)
    town.poll()
    town.payments.expire()
    town.city.worker.deliver()
    town.city.worker.publish()
    return [wallet, deposit, late, bill]


class Empty:
    """Two databases with the tables of this version and nothing in them."""

    def __init__(self, main: str, folder: Path) -> None:
        self.main, self.heads = db.engine(main), db.engine(f"sqlite:///{folder}/heads.db")
        migrations.upgrade(self.main)
        ledger_store.create(self.main, self.heads)
        self.both = databases(self.main, self.heads)

    def close(self) -> None:
        self.main.dispose()
        self.heads.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Empty]:
    folder = tmp_path / "empty"
    folder.mkdir()
    url = f"sqlite:///{folder}/main.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    made = Empty(url, folder)
    yield made
    made.close()


def both(town: Town) -> Any:
    return databases(town.city.writer.engine, town.city.writer.heads)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("shape", ["jsonl", "csv"])
def test_ff54_a_city_taken_out_and_brought_into_another_database_is_the_same(
    town: Town, empty: Empty, tmp_path: Path, shape: Any
):
    invoices = lived(town)
    export_all(both(town), tmp_path / "out", shape, quiet, private=True)
    import_all(empty.both, tmp_path / "out", quiet)
    export_all(empty.both, tmp_path / "again", shape, quiet, private=True)
    assert files(tmp_path / "again") == files(tmp_path / "out")
    _goes_on(town, empty, invoices)


def _goes_on(town: Town, empty: Empty, invoices: list[Any]) -> None:
    """What was brought in is a city that works: it is read, and it is written on."""
    view = LedgerView(empty.main)
    known = town.payments
    moved = Payments(empty.main, view, known.clock, known.rates, known.chain)
    for invoice in invoices:
        assert moved.look(invoice.id) == known.look(invoice.id)
        assert moved.position(invoice.id) == known.position(invoice.id)
    writer = Writer(empty.main, empty.heads, town.city.keys.log(), town.city.clock)
    assert writer.tree.root() == town.city.writer.tree.root()
    assert writer.seal() == town.city.writer.seal()
    # New rows are numbered above those that came.
    again = replace(town.city.gateway, engine=empty.main, payments=moved)
    assert again.payments.void(invoices[2].id).status.value == "void"
    with empty.main.begin() as connection:
        webhooks.enqueue(connection, town.merchant_id, "new", "invoice.paid", b"{}", 5)


def test_ff54_every_table_of_the_databases_is_in_the_export(town: Town, tmp_path: Path):
    """By the database's own list, and not by ours."""
    lived(town)
    told = export_all(both(town), tmp_path / "out", "jsonl", quiet)
    named = {entry["name"] for entry in told["tables"]}
    there: set[str] = set()
    for source in both(town):
        there |= set(inspect(source.engine).get_table_names())
    assert there - store.VERSIONS == named
    assert {table.name for table in known_tables()} == named
    for entry in told["tables"]:
        assert ("file" in entry) is (entry["name"] not in tables.PRIVATE)
    busy = {entry["name"] for entry in told["tables"] if entry["rows"]}
    assert {
        "invoice",
        "evidence",
        "ledger_record",
        "signed_head",
        "webhook_event",
        "merchant",
        "api_key",
    } <= busy


def test_ff54_a_table_that_this_version_does_not_know_is_not_forgotten(town: Town, tmp_path: Path):
    extra = MetaData()
    Table("somebodys_own", extra, Column("id", Text, primary_key=True))
    extra.create_all(town.city.gateway.engine)
    with pytest.raises(Invalid, match="somebodys_own"):
        export_all(both(town), tmp_path / "out", "jsonl", quiet)


def test_what_is_private_is_left_out_unless_asked_for_and_secrets_stay_sealed(town: Town, tmp_path: Path):
    lived(town)
    told = export_all(both(town), tmp_path / "out", "jsonl", quiet)
    withheld = [entry for entry in told["tables"] if "withheld" in entry]
    assert {entry["name"] for entry in withheld} == tables.PRIVATE
    assert {entry["name"] for entry in withheld} == {"private_evidence", "email_outbox", "refund_account"}
    assert [entry["rows"] > 0 for entry in withheld if entry["name"] == "private_evidence"] == [True]
    everything = b"".join(files(tmp_path / "out").values())
    assert b"from a person".hex().encode() not in everything
    for secret in (town.merchant_key.split("_", 2)[2], town.operator_key.split("_", 2)[2]):
        assert secret.encode() not in everything
    with db.reading(town.city.gateway.engine) as connection:
        sealed = connection.execute(select(webhooks.endpoints.c.secret)).scalar_one()
    opened = town.city.gateway.sealer.unseal(bytes(sealed))
    assert opened.encode() not in everything
    assert opened.encode().hex().encode() not in everything
    assert bytes(sealed).hex().encode() in everything


def test_an_import_without_what_is_private_is_whole_but_for_it(town: Town, empty: Empty, tmp_path: Path):
    invoices = lived(town)
    export_all(both(town), tmp_path / "out", "jsonl", quiet)
    import_all(empty.both, tmp_path / "out", quiet)
    _goes_on(town, empty, invoices)
    with db.reading(empty.main) as connection:
        hidden = db.metadata.tables["private_evidence"]
        assert connection.scalar(select(func.count()).select_from(hidden)) == 0


def test_amounts_and_bytes_are_text_that_any_program_reads(town: Town, tmp_path: Path):
    lived(town)
    export_all(both(town), tmp_path / "out", "csv", quiet)
    with (tmp_path / "out" / "invoice.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert all(row["tiyn"].isdigit() and len(bytes.fromhex(row["number"])) == 32 for row in found)


def test_an_import_adds_to_nothing_and_a_changed_file_is_found(town: Town, empty: Empty, tmp_path: Path):
    lived(town)
    out = tmp_path / "out"
    export_all(both(town), out, "jsonl", quiet)
    with pytest.raises(Invalid, match="an import needs 0"):
        import_all(both(town), out, quiet)
    with pytest.raises(Invalid, match="something in it already"):
        export_all(both(town), out, "jsonl", quiet)
    content = (out / "invoice.jsonl").read_text()
    (out / "invoice.jsonl").write_text(content.replace("1250000", "1250001"))
    with pytest.raises(Invalid, match="its SHA-256 is"):
        import_all(empty.both, out, quiet)
    with db.reading(empty.main) as connection:
        # All of a database or nothing of it: what stood before the bad file is not there either.
        assert ledger_store.size_and_edge(connection)[0] == 0
        assert connection.scalar(select(func.count()).select_from(db.metadata.tables["merchant"])) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["tables"] = [entry for entry in manifest["tables"] if entry["name"] != "evidence"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / "invoice.jsonl").write_text(content)
    with pytest.raises(Invalid, match="does not name this table"):
        import_all(empty.both, out, quiet)
