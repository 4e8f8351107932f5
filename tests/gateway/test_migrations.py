"""A database of any version becomes one of this version, and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Engine, Table, inspect, text
from sqlalchemy.exc import DBAPIError

from gateway import db, migrations
from gateway.migrations import LATEST, VERSION_TABLE, upgrade
from gateway.payments import store
from gateway.payments.model import Note, Status, derive
from gateway.payments.refund_model import Proof, Refund, RefundState, Source
from gateway.payments.store import Decided, Decision, refunds, tables
from gateway.payments.store.settlements import settlements_of_invoice
from gateway.rails import Evidence, Kind, Stage
from ledger.database import Amount, Hash32

NOW = 1_790_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        opened = db.engine(f"sqlite:///{tmp_path}/gateway.db")
    else:
        opened = db.engine(request.getfixturevalue("postgres_database"))
    yield opened
    opened.dispose()


def schema(engine: Engine) -> dict[str, object]:
    """Columns, keys, indexes and triggers of every table, as the database tells them."""
    look, found = inspect(engine), {}
    for name in sorted(look.get_table_names()):
        if name == VERSION_TABLE:
            continue
        # An added column stands last.
        columns = sorted((c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(name))
        indexes = sorted(
            (str(i["name"]), str(i["column_names"]), i["unique"]) for i in look.get_indexes(name)
        )
        keys = sorted(str(sorted(key["constrained_columns"])) for key in look.get_foreign_keys(name))
        checks = sorted(str(check["name"]) for check in look.get_check_constraints(name))
        found[name] = (columns, look.get_pk_constraint(name)["constrained_columns"], indexes, keys, checks)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            triggers = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
        else:
            triggers = "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        found["triggers"] = sorted(map(tuple, connection.execute(text(triggers))))
    return found


def empty(engine: Engine) -> None:
    db.metadata.drop_all(engine)
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


def test_step_by_step_leads_to_the_same_tables_as_starting_new(engine: Engine):
    upgrade(engine)
    new = schema(engine)
    empty(engine)
    upgrade(engine, "0001")
    upgrade(engine)
    assert schema(engine) == new
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert context.get_current_revision() == LATEST
        assert compare_metadata(context, db.metadata) == []
    upgrade(engine)
    assert schema(engine) == new


def test_what_create_all_makes_is_the_same_too(engine: Engine):
    upgrade(engine)
    new = schema(engine)
    empty(engine)
    db.create_all(engine)
    assert schema(engine) == new


@pytest.mark.parametrize("is_versioned", [True, False])
def test_a_gateway_of_the_first_version_keeps_every_invoice_and_its_state(engine: Engine, is_versioned: bool):
    upgrade(engine, "0001")
    if not is_versioned:
        with engine.begin() as connection:
            connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    fill_first_version(engine)
    upgrade(engine)
    with engine.begin() as connection:
        paid = store.invoice(connection, "a" * 26)
        late = store.invoice(connection, "b" * 26)
        assert paid is not None
        assert late is not None
        found = derive(paid.terms, [seen.payment for seen in store.evidence_of(connection, paid.id)], NOW)
        assert (found.status, found.paid_minor, found.notes) == (Status.FINAL, 10**30, frozenset())
        # Late money counted then, and nobody takes that back.
        found = derive(late.terms, [seen.payment for seen in store.evidence_of(connection, late.id)], NOW)
        assert (found.status, found.notes) == (Status.FINAL, {Note.LATE})
        [settled] = settlements_of_invoice(connection, paid.id)
        assert (settled.gross_minor, settled.city_minor, settled.net_minor) == (10**30, 10**28, 99 * 10**28)
        assert [one.id for one in store.unflushed(connection)] == [late.id]
        assert store.stages_of(connection, "k1") == [("final", NOW)]
        assert store.events_of(connection, paid.id) == [("open", NOW - 9), ("final", NOW)]
        # And it goes on from there.
        flush = Evidence("k9", Kind.FLUSH, Stage.DETECTED, "USDT", 5, 1, address=b"\2" * 20)
        store.add_evidence(connection, flush, late.id, NOW)


def fill_first_version(engine: Engine) -> None:
    """Rows as the first version wrote them."""

    def amount(value: int) -> bytes:
        return value.to_bytes(16, "big")

    def invoice(id: str, number: int, **more: object) -> dict[str, object]:
        return {
            "id": id, "number": bytes([number]) * 32, "merchant_id": "m_1", "merchant_reference": id, "attempt": 0,
            "purpose": "sale", "title": "Tea", "tiyn": amount(5), "asset": "USDT", "due": amount(10**30),
            "share_bps": 100, "rate": "{}", "payee": b"\7" * 20, "deposit_address": bytes([number]) * 20,
            "quote_signature": b"\1" * 65, "nonce": number, "reference": f"R{number}", "created_s": NOW - 9,
            "expires_s": NOW - 1, "status": "final", "voided": 0, **more,
        }  # fmt: skip

    def evidence(key: str, invoice_id: str | None, kind: str, value: int, at_s: int) -> dict[str, object]:
        return {
            "key": key, "invoice_id": invoice_id, "kind": kind, "stage": "final", "asset": "USDT",
            "amount": amount(value), "city": amount(value // 100), "block": 5, "address": b"", "reference": "",
            "document": b"{}", "evidence_hash": None, "transfer_id": None, "position": None, "problem": None,
            "at_s": at_s, "seen_s": NOW, "changed_s": NOW,
        }  # fmt: skip

    def fill(table: str, *rows: dict[str, object]) -> None:
        names = list(rows[0])
        marks = ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"), rows)

    with engine.begin() as connection:
        fill("invoice", invoice("a" * 26, 1), invoice("b" * 26, 2, due=amount(5)))
        # A table that went, with a lease that somebody had.
        fill("flush_claim", {"invoice_id": "b" * 26, "until_s": NOW})
        fill(
            "invoice_event",
            {"invoice_id": "a" * 26, "status": "open", "at_s": NOW - 9},
            {"invoice_id": "a" * 26, "status": "final", "at_s": NOW},
        )
        fill(
            "evidence",
            evidence("k1", "a" * 26, "router", 10**30, NOW - 2),
            evidence("k2", "b" * 26, "deposit", 5, NOW),
            evidence("k3", None, "router", 7, NOW),
        )


def test_money_whose_refund_was_cancelled_before_is_in_the_queue_again(engine: Engine):
    """Of the time before 0309, when a cancelled refund left it decided about for ever."""
    upgrade(engine, "0308")
    with engine.begin() as connection:
        for key, state in (("gone", RefundState.CANCELLED), ("stands", RefundState.REQUESTED)):
            store.add_evidence(connection, Evidence(key, Kind.BANK, Stage.FINAL, "KZT", 5, 5), None, NOW)
            store.decide(connection, Decided(key, Decision.REFUND, None, b"\1" * 32, "a", "she called", NOW))
            refund = Refund(
                f"r_{key}", None, key, None, Source.CITY, "KZT", 5, b"\1" * 32, Proof.SEATS, NOW, state, NOW, NOW + 7
            )  # fmt: skip
            assert refunds.add_refund(connection, refund, "city", f"unmatched {key}", b"\2" * 32, "a", "")
    upgrade(engine)
    with engine.begin() as connection:
        assert [one.key for one in store.unmatched(connection, (0, ""), 10)] == ["gone"]
        *_, last = store.decisions_of(connection, "gone")
        assert (last.action, last.at_s) == (Decision.REOPENED, NOW + 7)
        assert [one.action for one in store.decisions_of(connection, "stands")] == [Decision.REFUND]


@pytest.mark.parametrize("table", tables.INSERT_ONLY, ids=lambda table: table.name)
def test_what_happened_can_only_be_added_to(engine: Engine, table: Table):
    """By whatever statement, the row stays: the database itself refuses (field failure 78)."""
    upgrade(engine)
    column = table.columns[1].name
    statements = [f"UPDATE {table.name} SET {column} = {column}", f"DELETE FROM {table.name}"]
    if engine.dialect.name == "postgresql":
        statements.append(f"TRUNCATE {table.name} CASCADE")
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # A trigger of SQLite speaks for each row, so there has to be one.
            connection.execute(text("PRAGMA defer_foreign_keys = ON"))
            connection.execute(table.insert().values({c.name: some_value(c) for c in table.columns}))
        for statement in statements:
            with pytest.raises(DBAPIError, match="insert-only"), connection.begin_nested():
                connection.execute(text(statement))
        connection.rollback()


def test_every_table_of_what_happened_is_one_of_those():
    """By name, so that one that leaves the list in code and in the steps is missed."""
    assert {table.name for table in tables.INSERT_ONLY} == {
        "invoice_event", "evidence_event", "evidence_decision", "merchant_policy", "refund_event", "refund_part",
        "settlement", "payout_event", "provider_message", "payout_freed",
    }  # fmt: skip


def some_value(column: Column[object]) -> object:
    kind = column.type
    return b"\1" * 32 if isinstance(kind, Hash32) else 1 if isinstance(kind, Amount) else kind.python_type(1)


def test_the_newest_step_is_what_the_metadata_says_and_every_store_is_in_it():
    assert {table.name for table in tables.ALL} <= set(db.metadata.tables)
    assert max(path.name[:4] for path in (migrations.HERE / "versions").glob("[0-9]*.py")) == LATEST
