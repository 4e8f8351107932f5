"""Whatever the rules allow, the writer writes: the valid twins of the vectors go through it, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger import rules, store
from ledger.database import reading
from tests.ledger.running import Ledger

FOLDER = Path(__file__).parents[1] / "vectors" / "rules"
# One for each kind of record that moves money otherwise than a Transfer does, and what comes after it.
TWINS = (
    "Q4-too-little",
    "Q5-above-the-cap",
    "R1-twice",
    "R1-order-restored-again",
    "R2-spoken-for",
    "F3-booked-twice",
)


def twin(name: str) -> list[bytes]:
    vector = json.loads((FOLDER / f"{name}.json").read_text())
    log = json.loads((FOLDER / "logs" / f"{vector['base']}.json").read_text())
    records = [record["hex"] for record in log][: vector["take"]] + vector["after"] + vector["twin"]
    return [bytes.fromhex(record) for record in records]


@pytest.mark.parametrize("name", TWINS)
def test_what_the_rules_allow_is_written_and_the_databases_balances_are_the_rules(
    name: str, ledger: Ledger
) -> None:
    records = twin(name)
    writer = ledger.writer()
    ledger.feed(writer, records)
    assert ledger.records() == records
    state, breaches = rules.replay(records)
    assert not breaches
    with reading(ledger.engine) as connection:
        balances = store.balances(connection)
    assert balances == {name: state.accounts[name].balance for name in balances}
    moved = {name for name, account in state.accounts.items() if account.balance}
    assert moved <= set(balances)
