"""Late money is never in limbo: accepted, held or given later, it stands in everything that is taken out."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.exports.tables import databases, export_all
from gateway.payments.store import Invoice
from tests.gateway.conftest import DAY, Town
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_unmatched import ACTOR, WHY, late, policy, queue_of


def lived(town: Town) -> dict[str, tuple[Invoice, str]]:
    """One piece of late money that was accepted, one that is held, and one in tenge, with their evidence."""
    accepted = town.invoice()
    first = late(town, accepted)
    bill = town.bill()
    town.wait(31 * DAY)
    town.poll()
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    [in_tenge] = [seen.key for seen in town.seen(bill)]
    held = town.invoice()
    for exchange in town.city.outside.rates.exchanges.values():
        exchange["USDT/KZT"] *= Decimal("1.025")
    town.city.outside.rates.official["USD"] = (Decimal("524.70"), 1)
    second = late(town, held)
    town.settle()
    assert town.notes(accepted) == {"late"}
    assert town.notes(held) == {"late", "held"}
    assert "late" in town.notes(bill)
    return {"accepted": (accepted, first), "held": (held, second), "tenge": (bill, in_tenge)}


def statement(town: Town, until_s: int, **more: Any) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The merchant's statement up to a moment, as JSON and as CSV."""
    client, asked = town.client(), {"since_s": 0, "until_s": until_s, **more}
    told = client.get("/v1/statements", params=asked, headers=town.bearer).json()
    answer = client.get("/v1/statements.csv", params=asked, headers=town.bearer)
    return told["lines"], list(csv.DictReader(io.StringIO(answer.text)))


def test_ff10_late_and_held_money_is_in_the_merchants_statement_and_its_csv(town: Town):
    found = lived(town)
    accepted, (held, second) = found["accepted"][0], found["held"]
    now = town.city.clock() + 1
    lines, rows = statement(town, now)
    assert rows == lines
    [line] = [line for line in lines if line["method"] == "held"]
    assert (line["invoice"], line["evidence"], line["held"]) == (held.id, second, str(held.due_minor))
    # It pays nothing, so that it is in no sum.
    assert {line[part] for part in ("gross", "city", "net", "tiyn")} == {"0"}
    # Both were flushed: what went to the city and to the merchant is told once, by the flush.
    told = [(line["invoice"], line["gross"], line["held"]) for line in lines if line["method"] != "held"]
    assert told == [(one.id, str(one.due_minor), "0") for one in (accepted, held)]
    # The page's CSV has the same of the days it is asked for.
    visitor = Visitor(town)
    visitor.sign_in(town.merchant_key)
    answer = visitor.get("/merchant/statement.csv")
    assert second in {row["evidence"] for row in csv.DictReader(io.StringIO(answer.text))}
    # A person gives it to the invoice: what was told of the time before stays as it was, and counts once.
    town.wait(3_600)
    queue_of(town).assign(second, held.id, ACTOR, WHY)
    assert statement(town, now) == (lines, rows)
    after, rows = statement(town, town.city.clock() + 1)
    assert rows == after
    assert after[: len(lines)] == lines
    gross = sum(int(line["gross"]) for line in after if line["invoice"] == held.id)
    assert (gross, town.status(held)) == (held.due_minor, "final")
    # A page at a time, each line comes once and in the same order.
    seen, cursor = [], None
    for _ in range(10):
        asked = {"since_s": 0, "until_s": town.city.clock() + 1, "limit": 1}
        page = (
            town.client()
            .get("/v1/statements", params=asked | ({"after": cursor} if cursor else {}), headers=town.bearer)
            .json()
        )
        seen += page["lines"]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == after


def test_ff10_money_that_is_held_and_not_flushed_yet_is_in_the_statement_all_the_same(town: Town):
    invoice = town.invoice()
    policy(town, late_accept_s=0)
    late_policy = town.invoice()
    key = late(town, late_policy)
    lines, rows = statement(town, town.city.clock() + 1)
    assert rows == lines
    [line] = lines
    assert (line["invoice"], line["evidence"]) == (late_policy.id, key)
    assert (line["gross"], line["held"]) == ("0", str(late_policy.due_minor))
    assert invoice.id not in {one["invoice"] for one in lines}


@pytest.mark.parametrize("shape", ["jsonl", "csv"])
def test_ff10_late_and_held_money_is_in_the_export_of_everything(town: Town, tmp_path: Path, shape: Any):
    found = lived(town)
    export_all(
        databases(town.city.writer.engine, town.city.writer.heads), tmp_path / "out", shape, lambda _: None
    )

    def rows(table: str) -> list[dict[str, Any]]:
        [path] = [path for path in (tmp_path / "out").iterdir() if path.stem.split(".")[-1] == table]
        text = path.read_text()
        if shape == "csv":
            return list(csv.DictReader(io.StringIO(text)))
        return [json.loads(line) for line in text.splitlines()]

    evidence = {row["key"]: row for row in rows("evidence")}
    decisions = [(row["key"], row["action"]) for row in rows("evidence_decision")]
    for name, (invoice, key) in found.items():
        row = evidence[key]
        assert (row["invoice_id"], row["amount"]) == (invoice.id, str(invoice.due_minor)), name
    assert evidence[found["held"][1]]["decision"] == "held"
    assert [action for key, action in decisions if key == found["held"][1]] == ["late", "held"]
    assert [action for key, action in decisions if key == found["accepted"][1]] == ["late", "accepted"]
    # In tenge it came in a camt file of the bank, and that entry's reference is what led to the bill.
    assert found["tenge"][1].startswith("bank:")
    assert evidence[found["tenge"][1]]["kind"] == "bank"
