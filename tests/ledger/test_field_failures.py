"""What has gone wrong in ledgers and logs elsewhere, and cannot here: one test for each number.

63 to 66 are in test_note.py and test_proof.py, 82 in test_standing.py. Where a whole file is about
one of them, the test here is the shortest form of it.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from hashlib import sha256
from time import perf_counter

import pytest
from sqlalchemy import BigInteger, DateTime, Float, Interval, Numeric, Time, event, text
from sqlalchemy.exc import IntegrityError

from ledger import rules, store, tables
from ledger.database import Amount, Hash32, engine, reading
from ledger.proof import Receipt, check_receipt, decode_bundle, format_receipt, leaf_hash, tile_path
from ledger.records import Close, Invalid, Transfer, Unavailable, decode, encode, keccak256
from ledger.store import Waiting
from ledger.tree import Tree
from ledger.writer import submit
from tests import city
from tests.ledger.running import KEYS, Ledger, fees, template


def test_ff67_concurrent_submitters_and_two_writers_get_one_gapless_order(ledger: Ledger):
    writer, log = ledger.opened()
    asked, stop = fees(log, 0, 120), threading.Event()

    def ask(fee: Transfer) -> None:
        # Some are asked and taken back: a sequence of SQL would keep a hole for each.
        with ledger.engine.connect() as connection:
            submit(connection, replace(fee, id=keccak256(fee.id)), log.now)
            connection.rollback()
        ledger.ask(fee)

    def write() -> None:
        while not stop.is_set():
            try:
                writer.step()
            except Unavailable:
                return  # A newer writer has the fence.

    old = threading.Thread(target=write)
    old.start()
    with ThreadPoolExecutor(4) as pool:
        half = list(pool.map(ask, asked[:60]))
        newer = ledger.writer()
        half += pool.map(ask, asked[60:])
    stop.set()
    old.join()
    newer.drain()
    assert len(half) == 120
    with reading(ledger.engine) as connection:
        positions = [recorded.position for recorded in store.page(connection, -1, 10_000)]
    assert positions == list(range(len(log.records) + 120))
    recorded = ledger.records()[len(log.records) :]
    assert {decode(data).id for data in recorded} == {fee.id for fee in asked}
    state, findings = rules.replay(ledger.records())
    assert (state.size, findings) == (len(positions), [])


def test_ff68_the_bytes_that_were_hashed_are_the_bytes_that_are_stored_and_published(ledger: Ledger):
    writer, log = ledger.opened()
    for fee in fees(log, 0, 3):
        ledger.ask(fee)
    writer.drain()
    publisher = ledger.publisher()
    writer.publish(publisher, ledger.watcher())
    with reading(ledger.engine) as connection:
        rows = connection.execute(tables.record.select().order_by(tables.record.c.position)).all()
        stored = store.size_and_edge(connection)
    # The edge was hashed before these bytes were committed.
    tree, leaves = Tree(), [leaf_hash(bytes(row.data)) for row in rows]
    tree.extend(leaves)
    assert stored == (len(rows), b"".join(tree.edge()))
    hashes = (publisher.folder / tile_path(0, 0, len(leaves))).read_bytes()
    assert hashes == b"".join(leaves)
    published = []
    for index in range(0, len(rows), 256):
        width = min(256, len(rows) - index)
        content = (publisher.folder / tile_path("entries", index // 256, width)).read_bytes()
        published += decode_bundle(content, width)
    assert published == [bytes(row.data) for row in rows]


def test_ff69_a_dry_run_leaves_no_trace(ledger: Ledger):
    writer, log = ledger.opened()
    fee = fees(log, 0, 1)[0]

    def rows() -> dict[str, list[str]]:
        with reading(ledger.engine) as connection:
            return {
                table.name: [repr(row) for row in connection.execute(table.select())] for table in everything
            }

    everything = tables.ledger.sorted_tables
    before = rows()
    # Through all of a batch up to its commit, and not further.
    batch, _ = writer._decide([Waiting(None, fee.id, template(fee))])
    with ledger.engine.connect() as connection:
        store.commit(connection, writer._fence, batch)
        connection.rollback()
    assert rows() == before
    ledger.ask(fee)
    again = ledger.writer()
    again.drain()
    assert ledger.answer(fee.id).position == len(log.records)


def test_ff70_what_is_ordered_is_not_free_to_be_ordered_again(ledger: Ledger):
    log, order, _ = city.ordered()
    held = log.state.accounts[order.account]
    assert held.reserved == order.amount
    other = replace(order, order="order-2", amount=held.balance - held.reserved + 1)
    with pytest.raises(Invalid):
        log.add(other)


def test_ff71_trouble_in_the_database_is_never_a_verdict_about_money(ledger: Ledger):
    writer, log = ledger.opened()
    ids = [ledger.ask(fee) for fee in fees(log, 0, 2)]
    # The last statement of a batch fails, after others of its transaction went well.
    hidden = "ALTER TABLE ledger_balance RENAME TO ledger_balance_hidden"
    with ledger.engine.begin() as connection:
        connection.execute(text(hidden))
    with pytest.raises(Exception) as trouble:
        writer.step()
    assert not isinstance(trouble.value, Invalid)
    assert [ledger.answer(id) for id in ids] == [None, None]
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE ledger_balance_hidden RENAME TO ledger_balance"))
    writer.drain()
    assert [ledger.answer(id).position for id in ids] == [len(log.records), len(log.records) + 1]


def test_ff71_a_server_that_cuts_the_connection_is_unavailable(postgres, postgres_database, tmp_path):
    ledger = Ledger(tmp_path, engine(postgres_database), engine(f"sqlite:///{tmp_path}/heads.db"))
    writer, log = ledger.opened()
    fee = fees(log, 0, 1)[0]
    ledger.ask(fee)
    cuts = [True]

    @event.listens_for(ledger.engine, "before_cursor_execute")
    def cut(connection, cursor, statement, parameters, context, executemany):
        # In the middle of the batch's transaction, as a server that restarts would.
        if statement.startswith("UPDATE ledger_edge") and cuts:
            cuts.pop()
            pid = connection.connection.driver_connection.info.backend_pid
            postgres.execute(f"SELECT pg_terminate_backend({pid})")

    with pytest.raises(Unavailable, match="ledger database"):
        writer.step()
    assert ledger.answer(fee.id) is None
    writer.drain()
    assert ledger.answer(fee.id).position == len(log.records)
    ledger.engine.dispose()
    ledger.heads.dispose()


def test_ff72_a_hot_account_is_as_fast_as_many_and_a_batch_changes_it_once(ledger: Ledger):
    writer, log = ledger.opened()
    hot = [Waiting(None, fee.id, template(fee)) for fee in fees(log, 0, 1_000)]
    start = perf_counter()
    writer.append(hot)
    took = perf_counter() - start
    with reading(ledger.engine) as connection:
        then = connection.execute(
            tables.balance_then.select().where(tables.balance_then.c.account == "treasury-usdt")
        ).all()
    assert len(then) == 1
    assert then[0].debits == sum(decode(waiting.template).amount for waiting in hot)
    # The measure proper is `make bench ONLY=ledger.append`; here only that nothing is of another order.
    assert took < 10


def test_ff73_no_amount_is_held_in_anything_but_an_integer():
    amounts = [
        column
        for table in tables.ledger.sorted_tables
        for column in table.columns
        if isinstance(column.type, Amount)
    ]
    assert {column.name for column in amounts} == {"debits", "credits"}
    kind = Amount()
    for wrong in (1.0, "1", True, -1, 1 << 128):
        with pytest.raises(AssertionError):
            kind.process_bind_param(wrong, None)
    for exact in (0, 1, 2**53 + 1, 2**64, 2**128 - 1):
        assert kind.process_result_value(kind.process_bind_param(exact, None), None) == exact


def test_ff74_a_flipped_bit_is_found_before_it_is_signed(ledger: Ledger):
    writer, log = ledger.opened()
    chance = random.Random(74)
    position, bit = chance.randrange(len(log.records)), chance.randrange(8)
    data = bytearray(log.records[position])
    data[chance.randrange(len(data))] ^= 1 << bit
    with ledger.engine.begin() as connection:
        disable = "DROP TRIGGER ledger_record_no_update"
        if ledger.engine.dialect.name == "postgresql":
            disable = "ALTER TABLE ledger_record DISABLE TRIGGER USER"
        connection.execute(text(disable))
        changed = tables.record.update().where(tables.record.c.position == position)
        connection.execute(changed.values(data=bytes(data)))
    with pytest.raises(Invalid, match="L2"):
        writer.seal()
    with reading(ledger.heads) as connection:
        assert store.last_head(connection) is None


def test_ff75_ids_are_whole_hashes_and_the_same_id_with_other_content_is_a_conflict(ledger: Ledger):
    for table, name in ((tables.inbox, "id"), (tables.transfer, "id"), (tables.answer, "id")):
        assert isinstance(table.columns[name].type, Hash32)
    writer, log = ledger.opened()
    fee = fees(log, 0, 1)[0]
    # Ids that agree in their first 16 bytes, or in all but the last one, are different.
    near = [replace(fee, id=fee.id[:keep] + city.digest(f"{keep}")[keep:]) for keep in (16, 31)]
    near = [replace(one, evidence=city.digest(f"evidence of {at}")) for at, one in enumerate(near)]
    for one in [fee, *near]:
        ledger.ask(one)
    writer.drain()
    assert {ledger.answer(one.id).position for one in [fee, *near]} == {
        len(log.records) + n for n in range(3)
    }
    with pytest.raises(Invalid, match="inbox"):
        ledger.ask(replace(fee, amount=fee.amount + 1))
    assert ledger.ask(fee) == fee.id


def test_ff76_a_restored_backup_does_not_sign_below_what_was_signed(ledger: Ledger):
    # The copy is taken before the last records were written and signed.
    writer, log = ledger.writer(), city.registered()
    ledger.feed(writer, log.records[:-1])
    older = tables.ledger.sorted_tables
    with reading(ledger.engine) as connection:
        backup = {
            table.name: [dict(row._mapping) for row in connection.execute(table.select())] for table in older
        }
    ledger.feed(writer, log.records[-1:])
    writer.seal()
    tables.ledger.drop_all(ledger.engine)
    tables.ledger.create_all(ledger.engine)
    with ledger.engine.begin() as connection:
        for table in older:
            if backup[table.name]:
                connection.execute(table.insert(), backup[table.name])
    with pytest.raises(Invalid, match="L9"):
        ledger.writer()


def test_ff77_no_sum_is_taken_from_a_tree_and_no_part_of_one_is_negative():
    """Sums come from replaying every record, so there is no sum beside a hash that could be made up."""
    log = city.registered()
    fee = encode(replace(city.revenue(log, 1_000), time=log.now))
    amount = encode(replace(city.revenue(log, 1_001), time=log.now)).index((1_001).to_bytes(32, "big"))
    for wrong in (0, (1 << 256) - 1_000, 1 << 255, 1 << 128):
        with pytest.raises(Invalid) as refused:
            rules.apply(log.state, fee[:amount] + wrong.to_bytes(32, "big") + fee[amount + 32 :])
        assert refused.value.rule in {"E2", "E4"}
    for one in range(3):
        log.add(city.revenue(log, 1_000, mark=f"{one}"))
    (total,) = [one for one in rules.totals(log.state) if one.asset == "USDT"]
    assert (total.revenue, total.closing) == (3_000, 3_000)
    # A state whose sum is another one has another hash, and no Close of it is taken.
    changed = rules.dump(log.state).replace(b'{"i":"3000"}', b'{"i":"2999"}')
    assert changed != rules.dump(log.state)
    log.wait(366 * rules.DAY)
    year = rules.almaty_year(log.now) - 1
    with pytest.raises(Invalid, match="Y1"):
        log.add(Close(0, year, sha256(changed).digest()))
    log.add(Close(0, year, rules.state_hash(log.state)))


def test_ff78_changes_are_refused_by_the_database_also_where_everything_is_null(ledger: Ledger):
    writer, log = ledger.opened()
    ledger.ask(replace(fees(log, 0, 1)[0], debit="nobody"))
    writer.drain()
    # The answer to a refusal has no position: a trigger that compared would have met NULL.
    for change in (
        "UPDATE ledger_answer SET position = NULL WHERE position IS NULL",
        "UPDATE ledger_answer SET position = 0 WHERE position IS NULL",
        "DELETE FROM ledger_answer WHERE position IS NULL",
    ):
        with pytest.raises(Exception, match="insert-only"), ledger.engine.begin() as connection:
            connection.execute(text(change))


def test_ff79_a_receipt_against_a_tree_of_one_leaf_that_only_the_log_signed_is_refused(ledger: Ledger):
    writer, log = ledger.opened()
    record = encode(replace(fees(log, 0, 1)[0], time=log.now))
    forged = KEYS.sign_checkpoint(1, leaf_hash(record), log.now)
    receipt = format_receipt(Receipt(0, (), forged, record))
    verifiers = ledger.publisher().trust.verifiers
    with pytest.raises(Invalid, match="X12"):
        check_receipt(receipt, record, verifiers, verifiers)
    assert writer.tree.size == len(log.records)


def test_ff80_times_are_integers_of_utc_in_every_table_and_record():
    for table in (*tables.ledger.sorted_tables, *tables.heads.sorted_tables):
        for column in table.columns:
            assert not isinstance(column.type, DateTime | Time | Interval | Float | Numeric), column
            if column.name.endswith("_s"):
                assert isinstance(column.type, BigInteger), column
    # That a filter by time says what replay says: test_store.py, for any history.
    assert {field.type for field in fields(Transfer) if field.name == "time"} == {"U64"}


def test_ff81_an_answer_doubled_under_concurrency_is_one_record(ledger: Ledger):
    writer, log = ledger.opened()
    asked = fees(log, 0, 10)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(ledger.ask, [fee for fee in asked for _ in range(4)]))
    writer.drain()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ledger.ask, asked))
    writer.drain()
    assert len(set(ids)) == 10
    assert len(ledger.records()) == len(log.records) + 10
    with reading(ledger.engine) as connection:
        assert store.balances(connection)["treasury-usdt"] == sum(fee.amount for fee in asked)
    # And the database itself takes no id twice, whatever a writer believes.
    with pytest.raises(IntegrityError), ledger.engine.begin() as connection:
        connection.execute(tables.transfer.insert().values(id=asked[0].id, position=99_999))
