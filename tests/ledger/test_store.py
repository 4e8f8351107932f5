from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import exc, insert, text

from ledger import evidence_index, rules, store, tables
from ledger.database import engine as open_engine
from ledger.database import reading
from ledger.lookup import index_named
from ledger.records import Invalid, Transfer, Unavailable, decode
from ledger.tables import INSERT_ONLY
from ledger.writer import Writer
from tests import city
from tests.ledger.running import Ledger, fees, template
from tests.simulation.workload import whole_year

REFUSED = (exc.DBAPIError, psycopg.Error)


def _columns(table) -> str:
    return ", ".join(f"{column.name} = {column.name}" for column in table.columns)


def _fill(ledger: Ledger) -> None:
    """A row in each insert-only table."""
    writer, log = ledger.opened()
    ledger.feed(writer, [city.encode(replace(fee, time=log.now)) for fee in fees(log, 0, 2)])
    writer._past.forget()
    with ledger.engine.begin() as connection:
        store.add_document(connection, b"an act")
        store.add_anchor(connection, store.Anchored(1, bytes(20), 1, bytes(32), bytes(32), 1, bytes(32), 1))
    while index_named(ledger.engine):
        pass
    writer.seal()


CHANGES = {
    "update": "UPDATE {name} SET {columns}",
    "update to NULL": "UPDATE {name} SET {last} = NULL",
    "delete": "DELETE FROM {name}",
    "delete of NULL": "DELETE FROM {name} WHERE {first} IS NULL OR 1 = 1",
    "replace": "REPLACE INTO {name} SELECT * FROM {name}",
    "truncate": "TRUNCATE {name}",
    "truncate of all": "TRUNCATE {name} CASCADE",
    "update on conflict": "INSERT INTO {name} SELECT * FROM {name} WHERE 1 = 1 ON CONFLICT ({keys}) DO UPDATE SET {columns_excluded}",
}
ONLY = {"replace": "sqlite", "truncate": "postgresql", "truncate of all": "postgresql"}


def test_the_database_refuses_every_change_of_what_is_insert_only(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evidence_index, "RUN_RECORDS", 8)
    _fill(ledger)
    dialect = ledger.engine.dialect.name
    for table in INSERT_ONLY:
        engine = ledger.heads if table is tables.head else ledger.engine
        with engine.connect() as connection:
            before = connection.exec_driver_sql(f"SELECT * FROM {table.name}").fetchall()
        assert before, table.name
        for what, statement in CHANGES.items():
            if ONLY.get(what, engine.dialect.name) != engine.dialect.name:
                continue
            change = statement.format(
                name=table.name,
                columns=_columns(table),
                first=table.columns.keys()[0],
                last=table.columns.keys()[-1],
                keys=", ".join(column.name for column in table.primary_key),
                columns_excluded=", ".join(f"{c.name} = excluded.{c.name}" for c in table.columns),
            )
            with pytest.raises(REFUSED, match="insert-only"), engine.begin() as connection:
                connection.exec_driver_sql(change)
        with engine.connect() as connection:
            assert connection.exec_driver_sql(f"SELECT * FROM {table.name}").fetchall() == before, table.name
    assert dialect in {"sqlite", "postgresql"}


def test_heads_on_postgresql_are_insert_only_too(postgres_database: str, tmp_path):
    heads = open_engine(postgres_database)
    ledger = Ledger(tmp_path, open_engine(f"sqlite:///{tmp_path}/ledger.db"), heads)
    writer, _ = ledger.opened()
    writer.seal()
    for change in ("UPDATE signed_head SET size = 0", "DELETE FROM signed_head", "TRUNCATE signed_head"):
        with pytest.raises(REFUSED, match="insert-only"), heads.begin() as connection:
            connection.execute(text(change))
    ledger.engine.dispose()
    heads.dispose()


def test_the_database_itself_keeps_an_account_of_money_from_going_below_zero(ledger: Ledger):
    writer, _ = ledger.opened()
    row = {"account": "bank", "is_money": True, "debits": 5, "credits": 5}
    with ledger.engine.begin() as connection:
        connection.execute(insert(tables.balance).values(**row))
    size, edge = writer.tree.size, b"".join(writer.tree.edge())
    below = store.Batch(size, [], [], [], {"bank": (True, 1, 2)}, lambda: edge)
    with pytest.raises(REFUSED, match="money_not_below_zero"), ledger.engine.begin() as connection:
        store.commit(connection, writer._fence, below)
    # Another kind of account may: revenue is what comes from outside.
    with ledger.engine.begin() as connection:
        store.commit(
            connection, writer._fence, store.Batch(size, [], [], [], {"fees": (False, 1, 2)}, lambda: edge)
        )
        assert store.balances(connection) == {"bank": 0, "fees": -1}


def test_amounts_up_to_the_limit_compare_as_numbers_in_the_database(ledger: Ledger):
    ledger.opened()
    most = 2**128 - 1
    for debits, credits, holds in (
        (most, most, True),
        (255, 256, False),
        (256, 255, True),
        (2**64, 2**63, True),
    ):
        row = {"account": f"{debits}/{credits}", "is_money": True, "debits": debits, "credits": credits}
        if holds:
            with ledger.engine.begin() as connection:
                connection.execute(insert(tables.balance).values(**row))
        else:
            with pytest.raises(REFUSED), ledger.engine.begin() as connection:
                connection.execute(insert(tables.balance).values(**row))


@pytest.mark.parametrize("table", ["record", "transfer", "answer"])
def test_an_id_or_a_position_is_unique_in_the_database_and_a_batch_is_all_or_nothing(
    ledger: Ledger, table: str
):
    writer, log = ledger.opened()
    fee, other = fees(log, 0, 2)
    id = ledger.ask(fee)
    ledger.ask(replace(city.revenue(log), amount=7, id=city.digest("refused"), debit="nobody"))
    writer.drain()
    size, edge = writer.tree.size, b"".join(writer.tree.edge())
    before = _everything(ledger)
    record = template(other)
    again = {
        "record": store.Batch(size - 1, [record], [], [], {}, lambda: edge),
        "transfer": store.Batch(
            size, [record], [(id, size)], [], {"treasury-usdt": (True, 9, 0)}, lambda: edge
        ),
        "answer": store.Batch(
            size,
            [record],
            [(other.id, size)],
            [store.Answered(city.digest("refused"), 0, None, None)],
            {},
            lambda: edge,
        ),
    }[table]
    with pytest.raises((*REFUSED, AssertionError)), ledger.engine.begin() as connection:
        store.commit(connection, writer._fence, again)
    assert _everything(ledger) == before


def _everything(ledger: Ledger) -> dict[str, list]:
    with reading(ledger.engine) as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select()).all()))
            for table in tables.ledger.sorted_tables
        }


def test_the_same_id_with_the_same_content_is_one_submission_and_with_another_a_conflict(ledger: Ledger):
    writer, log = ledger.opened()
    fee = fees(log, 0, 1)[0]
    refused = replace(fees(log, 1, 1)[0], debit="nobody")
    for stage in ("waits", "has its answer"):
        for record in (fee, refused):
            assert ledger.ask(record) == record.id
            with pytest.raises(Invalid) as conflict:
                ledger.ask(replace(record, amount=record.amount + 1))
            assert (conflict.value.rule, conflict.value.where) == ("inbox", f"0x{record.id.hex()}"), stage
        with reading(ledger.engine) as connection:
            assert len(store.waiting(connection, 10)) == (2 if stage == "waits" else 0)
        writer.drain()
    assert ledger.answer(fee.id).position == len(log.records)
    with pytest.raises(Invalid, match="M1"):
        ledger.answer(refused.id)


def test_many_at_once_may_repeat_each_other(ledger: Ledger):
    writer, log = ledger.opened()
    one, two = ((fee.id, template(fee)) for fee in fees(log, 0, 2))
    with ledger.engine.begin() as connection:
        store.submit_all(connection, [one, two, one], 0)
        store.submit_all(connection, [two, one], 0)
    writer.drain()
    assert len(ledger.records()) == len(log.records) + 2
    with pytest.raises(Invalid, match="inbox"), ledger.engine.begin() as connection:
        store.submit_all(connection, [one, (two[0], one[1])], 0)


def test_a_submission_repeated_while_the_first_is_being_answered_is_recorded_once(
    postgres_database, tmp_path
):
    # The second waits for the first one's transaction, and must then see the answer and not the free place.
    engine, heads = open_engine(postgres_database), open_engine(f"sqlite:///{tmp_path}/heads.db")
    ledger = Ledger(tmp_path, engine, heads)
    writer, log = ledger.opened()
    for fee in fees(log, 0, 20):
        first = engine.connect()
        store.submit(first, fee.id, template(fee), 0)
        second = threading.Thread(target=lambda fee=fee: ledger.ask(fee))
        second.start()
        first.commit()
        writer.drain()
        second.join()
        writer.drain()
        first.close()
    with reading(engine) as connection:
        assert store.waiting(connection, 10) == []
    assert len(ledger.records()) == len(log.records) + 20
    engine.dispose()
    heads.dispose()


def test_a_full_inbox_takes_no_more_and_says_so_until_some_have_their_answer(ledger: Ledger):
    writer, log = ledger.opened()
    asked = [(fee.id, template(fee)) for fee in fees(log, 0, 12)]
    with ledger.engine.begin() as connection:
        store.submit_all(connection, asked[:10], 0, most=10)
    with (
        pytest.raises(Unavailable, match="11 submissions wait, at most 10"),
        ledger.engine.begin() as connection,
    ):
        store.submit_all(connection, asked[10:11], 0, most=10)
    # What is there already is no new load: the same answer, full or not.
    with ledger.engine.begin() as connection:
        store.submit_all(connection, asked[:1], 0, most=10)
    writer.drain()
    with ledger.engine.begin() as connection:
        store.submit_all(connection, asked[10:], 0, most=10)
    writer.drain()
    assert len(ledger.records()) == len(log.records) + 12


def test_records_are_read_in_pages_that_follow_a_position(ledger: Ledger):
    writer, log = ledger.opened()
    ledger.feed(writer, [city.encode(replace(fee, time=log.now)) for fee in fees(log, 0, 30)])
    everything, after, found = ledger.records(), -1, []
    while True:
        with reading(ledger.engine) as connection:
            page = store.page(connection, after, 7)
        found += page
        if len(page) < 7:
            break
        after = page[-1].position
    assert [recorded.data for recorded in found] == everything
    assert [recorded.position for recorded in found] == list(range(len(everything)))
    assert list(store.records(ledger.engine, 3, 5)) == everything[3:5]
    assert list(store.records(ledger.engine, len(everything))) == []


def test_a_transfer_is_found_by_its_id(ledger: Ledger):
    writer, log = ledger.opened()
    fee = fees(log, 0, 1)[0]
    ledger.ask(fee)
    with reading(ledger.engine) as connection:
        assert store.position_of_transfer(connection, fee.id) is None
    writer.drain()
    with reading(ledger.engine) as connection:
        assert store.position_of_transfer(connection, fee.id) == len(log.records)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2**100)), min_size=1, max_size=12))
def test_ff80_a_balance_at_any_second_is_what_replay_says(opened: tuple[Ledger, Writer, city.Log], moves):
    # Each example goes on where the last one ended: the property is of all that was ever recorded.
    ledger, writer, log = opened
    start = ledger.clock.now
    for wait, amount in moves:
        ledger.clock.now += wait
        ledger.ask(replace(fees(log, writer.state.size, 1)[0], amount=amount))
        writer.drain()
    state, times = rules.State(), [decode(data).time for data in ledger.records()]
    replayed = iter(zip(ledger.records(), times, strict=True))
    following = next(replayed)
    with reading(ledger.engine) as connection:
        for second in range(start - 1, ledger.clock.now + 2):
            while following is not None and following[1] <= second:
                rules.apply(state, following[0])
                following = next(replayed, None)
            for account, known in state.accounts.items():
                assert store.balance_at(connection, account, second) == known.balance
        assert store.balance_at(connection, "nobody", ledger.clock.now) == 0
        money = sum(record.amount for record in map(decode, ledger.records()) if isinstance(record, Transfer))
        assert store.balances(connection)["treasury-usdt"] == money


@pytest.fixture
def opened(ledger: Ledger) -> tuple[Ledger, Writer, city.Log]:
    """A ledger in which the city is registered, its writer, and the same as a log."""
    return ledger, *ledger.opened()


def test_ff80_a_balance_at_any_second_of_a_whole_year_is_what_replay_says(ledger: Ledger):
    writer, log = ledger.writer(), whole_year()
    ledger.feed(writer, log.records)
    state, then = rules.State(), dict[int, dict[str, int]]()
    for data in log.records:
        rules.apply(state, data)
        then[decode(data).time] = {name: account.balance for name, account in state.accounts.items()}
    # Money went in all directions: orders, a refund, an exchange, what was undone.
    assert state.paid_orders
    assert state.booked_refunds
    assert state.reversed
    with reading(ledger.engine) as connection:
        for start, end in pairwise([*then, 2**40]):
            for second in {start, end - 1}:
                for account in state.accounts:
                    expected = then[start].get(account, 0)
                    assert store.balance_at(connection, account, second) == expected, (account, second)


def test_a_dead_database_is_unavailable_and_never_a_verdict(ledger: Ledger):
    writer, log = ledger.opened()
    fee = fees(log, 0, 1)[0]
    ledger.ask(fee)
    ledger.engine.dispose()
    broken = open_engine("postgresql://nobody@127.0.0.1:9/none?connect_timeout=1")
    writer.engine, working = broken, writer.engine
    with pytest.raises(Unavailable, match="ledger database"):
        writer.step()
    writer.engine = working
    assert ledger.answer(fee.id) is None
    writer.drain()
    assert ledger.answer(fee.id).position == len(log.records)
    broken.dispose()
