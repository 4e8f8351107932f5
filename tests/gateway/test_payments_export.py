"""Whatever payments keep can be taken away by whoever runs them."""

from __future__ import annotations

import csv
import io
import json

import pytest
from sqlalchemy import text

from gateway.db import reading
from gateway.payments.store import export as exports
from gateway.payments.store import tables
from gateway.payments.store.export import PERSONAL, TABLES, Form, export_table
from gateway.rails import Evidence, Kind, Stage
from ledger.records import Invalid
from tests.gateway.conftest import Town


def rows(town: Town, name: str, form: Form = Form.JSON_LINES, **more: bool) -> list[dict[str, str | None]]:
    with reading(town.city.gateway.engine) as connection:
        lines = list(export_table(connection, name, form, **more))
    if form is Form.CSV:
        return list(csv.DictReader(io.StringIO("".join(lines))))
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_ff54_every_table_has_an_export_of_every_row_and_column(
    request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch
):
    # Pages of two rows, so that there are several.
    monkeypatch.setattr(exports, "PAGE_ROWS", 2)
    town: Town = request.getfixturevalue(database)
    invoices = [town.invoice(refund_to=town.city.keys.address("payer")) for _ in range(3)]
    for invoice in invoices:
        town.pay(invoice)
    town.transfer_in_tenge(5, "nobody")
    town.take_bank_files()
    town.settle()
    refunds = town.city.gateway.refunds
    assert refunds is not None
    refunds.request("key", invoices[0].id, None, 5, None, "k")
    with town.city.gateway.engine.begin() as connection:
        counted = {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in TABLES
        }
    for name, table in TABLES.items():
        personal = name in PERSONAL
        for form in Form:
            found = rows(town, name, form, is_personal=personal)
            assert len(found) == counted[name], name
            for row in found:
                assert set(row) == {column.name for column in table.columns}
    assert counted["settlement"] == 3
    assert counted["invoice"] == 3
    assert counted["refund"] == 1
    [first] = [row for row in rows(town, "invoice") if row["id"] == invoices[0].id]
    assert first["due"] == str(invoices[0].due_minor)
    assert first["number"] == "0x" + invoices[0].number.hex()
    # P5: what no policy could place stands there too.
    assert [row["reference"] for row in rows(town, "evidence") if row["invoice_id"] is None] == [""]


def test_no_table_of_payments_is_left_out():
    ours = {table.name for table in vars(tables).values() if isinstance(table, tables.Table)}
    assert ours == set(TABLES)


def test_what_is_personal_is_exported_only_where_it_is_asked_for(town: Town):
    piece = Evidence("bank:1", Kind.BANK, Stage.FINAL, "KZT", 5, 5, private=b"A Resident")
    with town.city.gateway.engine.begin() as connection:
        town.payments.take(connection, [piece])
    with pytest.raises(Invalid, match="personal"):
        rows(town, "private_evidence")
    [row] = rows(town, "private_evidence", is_personal=True)
    assert row["content"] == "0x" + b"A Resident".hex()
    everything = "".join(str(rows(town, name)) for name in TABLES if name not in PERSONAL)
    assert b"A Resident".hex() not in everything
    with pytest.raises(Invalid, match="no table is called"):
        rows(town, "merchant; DROP TABLE invoice")


def test_what_a_spreadsheet_would_run_is_text(town: Town):
    made = town.invoice(merchant_reference='=HYPERLINK("http://x")')
    [row] = [row for row in rows(town, "invoice", Form.CSV) if row["id"] == made.id]
    assert row["merchant_reference"] == "'" + '=HYPERLINK("http://x")'
