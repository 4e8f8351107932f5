from __future__ import annotations

from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from ledger import store, tables
from ledger.database import reading
from ledger.migrations import LATEST, VERSION_TABLES, upgrade
from ledger.proof import leaf_hash
from ledger.records import Invalid, Transfer, decode, keccak256
from ledger.tree import Tree
from tests import city
from tests.ledger.running import Ledger, fees, template


def _schema(engine: Engine, metadata) -> dict[str, object]:
    """Columns, keys and triggers of every table of ours, as the database tells them."""
    look, found = inspect(engine), {}
    for name in sorted(metadata.tables):
        columns = [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(name)]
        uniques = sorted(str(sorted(u["column_names"])) for u in look.get_unique_constraints(name))
        checks = sorted(str(check["name"]) for check in look.get_check_constraints(name))
        keys = look.get_pk_constraint(name)["constrained_columns"]
        found[name] = (columns, keys, uniques, look.get_foreign_keys(name), checks)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            triggers = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
        else:
            triggers = "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        found["triggers"] = sorted(map(tuple, connection.execute(text(triggers))))
    return found


def _engines(ledger: Ledger):
    return (("ledger", ledger.engine, tables.ledger), ("heads", ledger.heads, tables.heads))


def _drop_everything(ledger: Ledger) -> None:
    for _, engine, metadata in _engines(ledger):
        metadata.drop_all(engine)
        with engine.begin() as connection:
            for name in VERSION_TABLES.values():
                connection.execute(text(f"DROP TABLE IF EXISTS {name}"))


def test_step_by_step_leads_to_the_same_tables_as_starting_new(ledger: Ledger):
    upgrade(ledger.engine, ledger.heads)
    new = [_schema(engine, metadata) for _, engine, metadata in _engines(ledger)]
    _drop_everything(ledger)
    upgrade(ledger.engine, ledger.heads, "0001")
    upgrade(ledger.engine, ledger.heads)
    stepped = [_schema(engine, metadata) for _, engine, metadata in _engines(ledger)]
    assert stepped == new
    for history, engine, metadata in _engines(ledger):
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table": VERSION_TABLES[history], "include_name": _is_ours}
            )
            assert context.get_current_revision() == LATEST[history]
            assert compare_metadata(context, metadata) == []


def _is_ours(name: str | None, kind: str, _: object) -> bool:
    return kind != "table" or name in tables.ledger.tables or name in tables.heads.tables


def test_bringing_it_up_to_date_again_changes_nothing(ledger: Ledger):
    writer, _ = ledger.opened()
    before = ledger.records()
    for _ in range(2):
        upgrade(ledger.engine, ledger.heads)
    assert ledger.records() == before
    assert ledger.writer().tree.root() == writer.tree.root()


@pytest.mark.parametrize("is_versioned", [True, False])
def test_a_database_of_the_first_version_keeps_every_record_answer_and_balance(
    ledger: Ledger, is_versioned: bool
):
    upgrade(ledger.engine, ledger.heads, "0001")
    if not is_versioned:
        for history, engine, _ in _engines(ledger):
            with engine.begin() as connection:
                connection.execute(text(f"DROP TABLE {VERSION_TABLES[history]}"))
    log = city.registered()
    paid = fees(log, 0, 3)
    for fee in paid:
        log.wait(60)
        log.add(fee)
    waits, refused = fees(log, 10, 2)
    _fill_first_version(ledger, log, template(waits), refused)

    writer = ledger.writer()
    assert ledger.records() == log.records
    assert ledger.answer(paid[0].id).data == log.records[-3]
    assert ledger.answer(city.digest("a seat")).position == 1
    with pytest.raises(Invalid, match="M1"):
        ledger.answer(refused.id)
    # What was submitted then is the same submission now, and with other content a conflict.
    for record in (paid[0], refused):
        ledger.ask(record)
        with pytest.raises(Invalid, match="inbox"):
            ledger.ask(replace(record, amount=5))
    assert ledger.answer(waits.id) is None
    ledger.clock.now = log.now
    again = replace(fees(log, 11, 1)[0], id=city.digest("again"), evidence=paid[1].evidence)
    ledger.ask(again)
    writer.drain()
    assert ledger.answer(waits.id).position == len(log.records)
    # Evidence from before there was an index of it is found all the same.
    with pytest.raises(Invalid, match="M3"):
        ledger.answer(again.id)
    found = writer.state.past.named(keccak256(log.records[-3]))
    assert found is not None
    assert found[1].id == paid[0].id
    with reading(ledger.engine) as connection:
        assert store.waiting(connection, 10) == []
        for second in range(log.now - 200, log.now + 1, 20):
            said = sum(
                record.amount
                for data in ledger.records()
                if isinstance(record := decode(data), Transfer) and record.time <= second
            )
            assert store.balance_at(connection, "treasury-usdt", second) == said
    writer.seal()
    with pytest.raises(Exception, match="insert-only"), ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM ledger_answer"))


def _fill_first_version(ledger: Ledger, log: city.Log, waits: bytes, refused: Transfer) -> None:
    """Rows as the first version wrote them."""
    tree = Tree()
    tree.extend(map(leaf_hash, log.records))
    transfers = [
        (at, decode(data)) for at, data in enumerate(log.records) if isinstance(decode(data), Transfer)
    ]
    total = sum(record.amount for _, record in transfers).to_bytes(16, "big")

    def fill(table: str, *rows: dict[str, object]) -> None:
        names = list(rows[0])
        marks = ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"), rows)

    with ledger.engine.begin() as connection:
        records = enumerate(log.records)
        fill("ledger_record", *({"position": at, "data": d, "leaf": leaf_hash(d)} for at, d in records))
        fill("ledger_edge", {"id": 1, "size": tree.size, "hashes": b"".join(tree.edge()), "fence": 4})
        fill("ledger_transfer", *({"id": record.id, "position": at} for at, record in transfers))
        zero = bytes(16)
        fill(
            "ledger_balance",
            {"account": "treasury-usdt", "is_money": True, "debits": total, "credits": zero},
            {"account": "fees-usdt", "is_money": False, "debits": zero, "credits": total},
        )
        seat = template(decode(log.records[1]))
        asked = [(record.id, template(record)) for _, record in transfers]
        asked += [(refused.id, template(refused)), (city.digest("a seat"), seat), (city.digest("w"), waits)]
        asked[-1] = (decode(waits).id, waits)
        fill("ledger_inbox", *({"id": id, "template": data, "submitted_s": 1} for id, data in asked))
        fill("ledger_answer", *({"id": record.id, "position": at} for at, record in transfers))
        fill("ledger_answer", {"id": city.digest("a seat"), "position": 1})
        fill("ledger_answer", {"id": refused.id, "rule": "M1", "place": "record 9", "why": "no"})
