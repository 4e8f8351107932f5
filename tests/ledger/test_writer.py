from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from ledger import rules, store, tables
from ledger.anchor import EvmAnchor
from ledger.database import engine as open_engine
from ledger.database import reading
from ledger.proof import EMPTY_ROOT, check_checkpoint, leaf_hash, parse_checkpoint, parse_note
from ledger.records import Invalid, Rate, Unavailable, decode, encode
from ledger.tree import Tree
from ledger.writer import Writer, only_writer, submit
from tests import city, servers
from tests.commits import after_commits
from tests.fakes.chain import Node
from tests.ledger.running import KEYS, Ledger, fees, template
from tests.servers import Postgres


def everything(ledger: Ledger) -> dict[str, list[str]]:
    """Every row of every table."""
    with reading(ledger.engine) as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select()).all()))
            for table in tables.ledger.sorted_tables
        }


def forge(ledger: Ledger, position: int, data: bytes) -> None:
    """What a failing disk or an intruder does: change a record in spite of the triggers."""
    with ledger.engine.begin() as connection:
        if ledger.engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER ledger_record_no_update"))
        else:
            connection.execute(text("ALTER TABLE ledger_record DISABLE TRIGGER USER"))
        changed = tables.record.update().where(tables.record.c.position == position).values(data=data)
        assert connection.execute(changed).rowcount == 1


# --- deciding -----------------------------------------------------------------------------------


def test_what_is_written_is_the_log_that_the_rules_accept_byte_for_byte(ledger: Ledger):
    writer, log = ledger.opened()
    assert ledger.records() == log.records
    state, findings = rules.replay(ledger.records())
    assert findings == []
    assert state.size == writer.state.size == writer.tree.size == len(log.records)


def test_a_refused_submission_does_not_stop_the_batch_around_it(ledger: Ledger):
    writer, log = ledger.opened()
    good = fees(log, 0, 5)
    bad = replace(good[2], debit="nobody")
    asked = [good[0], good[1], bad, good[3], good[4]]
    with ledger.engine.begin() as connection:
        ids = [submit(connection, record, log.now) for record in asked]
        # Bytes that are no record: what a program that does not use submit() may leave there.
        store.submit(connection, city.digest("noise"), b"\x00" * 40, log.now)
        store.submit(connection, city.digest("nothing"), b"", log.now)
    assert writer.step() == 7
    answers = []
    for id in [*ids, city.digest("noise"), city.digest("nothing")]:
        try:
            answers.append(ledger.answer(id).position)
        except Invalid as refused:
            answers.append(refused.rule)
    size = len(log.records)
    assert answers == [size, size + 1, "M1", size + 2, size + 3, "E1", "E1"]
    assert [decode(data).id for data in ledger.records()[size:]] == [ids[0], ids[1], ids[3], ids[4]]


def test_a_refusal_says_rule_place_and_both_numbers_and_is_kept(ledger: Ledger):
    writer, log = ledger.opened()
    id = ledger.ask(replace(fees(log, 0, 1)[0], purpose="999999"))
    writer.drain()
    for _ in range(2):
        with pytest.raises(Invalid) as refused:
            ledger.answer(id)
        assert (refused.value.rule, refused.value.where) == ("V1", f"record {len(log.records)}")
        assert "999999" in refused.value.why


def test_time_does_not_go_back_when_the_clock_does(ledger: Ledger):
    writer, log = ledger.opened()
    first, second = fees(log, 0, 2)
    ledger.ask(first)
    writer.drain()
    ledger.clock.now = log.now - 5
    ledger.ask(second)
    writer.drain()
    assert decode(ledger.records()[-1]).time == log.now


def test_more_than_a_batch_is_answered_in_the_order_of_the_inbox(ledger: Ledger):
    writer, log = ledger.opened()
    asked = [(fee.id, template(fee)) for fee in fees(log, 0, 1_250)]
    with ledger.engine.begin() as connection:
        store.submit_all(connection, asked, 0)
    assert [writer.step(), writer.step(), writer.step()] == [1_000, 250, 0]
    assert [decode(data).id for data in ledger.records()[len(log.records) :]] == [id for id, _ in asked]


def test_what_is_not_a_transfer_is_answered_under_its_key(ledger: Ledger):
    writer, log = ledger.opened()
    rate = Rate(0, "USDT", 51_234, 1_000_000, city.digest("source 1"), city.digest("source 2"))
    first, again, other = (ledger.ask(rate, key) for key in (b"one", b"one", b"two"))
    assert first == again != other
    writer.drain()
    assert [ledger.answer(id).position for id in (first, other)] == [len(log.records), len(log.records) + 1]


# --- when something is not there ----------------------------------------------------------------


def test_a_commit_that_fails_leaves_nothing_and_the_next_step_goes_on(ledger: Ledger):
    writer, log = ledger.opened()
    ids = [ledger.ask(fee) for fee in fees(log, 0, 3)]
    before = everything(ledger)
    lock = ledger.engine.connect()
    if ledger.engine.dialect.name == "sqlite":
        lock.exec_driver_sql("SELECT 1")  # Our transactions take the write lock first.
        writer.engine = _impatient(ledger)
    else:
        lock.exec_driver_sql("LOCK TABLE ledger_record IN ACCESS EXCLUSIVE MODE")
        with ledger.engine.begin() as connection:
            database = connection.exec_driver_sql("SELECT current_database()").scalar()
            connection.exec_driver_sql(f"ALTER DATABASE {database} SET lock_timeout = '100ms'")
        writer.engine = _impatient(ledger)
    with pytest.raises(Unavailable):
        writer.step()
    lock.close()
    assert everything(ledger) == before
    writer.drain()
    assert [ledger.answer(id).position for id in ids] == [len(log.records) + n for n in range(3)]
    assert writer.state.size == len(ledger.records())
    writer.engine.dispose()


@pytest.mark.parametrize("pages", [0, 2])
def test_memory_of_which_only_a_part_was_built_again_says_nothing_of_the_ledger(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, pages: int
):
    """An answer to a commit is lost, and then the database goes away while the records are read again."""
    first, log = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    anchors = (EvmAnchor(Node(city.CHAIN_ID, ledger.clock, city.ANCHOR), object(), ledger.clock),)
    first.publish(publisher, watcher, anchors)
    writer = ledger.writer()
    ledger.ask(fees(log, 0, 1)[0])

    def lost() -> None:
        raise OperationalError("COMMIT", None, OSError("gone"))

    end_of_that = after_commits(ledger.engine, lost)
    with pytest.raises(Unavailable, match="gone"):
        writer.step()
    end_of_that()
    replay, left = Writer._replay, 0

    def away(self: Writer, end: int, *, is_signed: bool) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Unavailable("ledger database", "away")
        replay(self, end, is_signed=is_signed)

    with monkeypatch.context() as patch:
        patch.setattr("ledger.writer.REBUILD_RECORDS", 10)
        patch.setattr(Writer, "_replay", away)
        for again in (writer.drain, lambda: writer.publish(publisher, watcher, anchors)) * 2:
            left = pages
            # Neither nothing to do, nor a chain that holds more than the ledger has (L9).
            with pytest.raises(Unavailable, match="away"):
                again()
    assert writer.publish(publisher, watcher, anchors) == publisher.published() == len(log.records) + 1


def _impatient(ledger: Ledger) -> Engine:
    """Another engine on the same database, which does not wait long for a lock."""
    engine = open_engine(ledger.engine.url.render_as_string(hide_password=False))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 50"))
    return engine


def test_an_old_writer_cannot_commit_once_a_new_one_has_the_fence(ledger: Ledger):
    old, log = ledger.opened()
    new = ledger.writer()
    first, second = fees(log, 0, 2)
    ledger.ask(first)
    before = everything(ledger)
    with pytest.raises(Unavailable, match="writer 2 has taken over from writer 1"):
        old.step()
    assert everything(ledger) == before
    new.drain()
    ledger.ask(second)
    with pytest.raises(Unavailable, match="taken over"):
        old.drain()
    new.drain()
    assert [decode(data).id for data in ledger.records()[len(log.records) :]] == [first.id, second.id]


def test_a_second_writer_waits_its_turn_and_then_gives_up(ledger: Ledger):
    lock = ledger.folder / "writer.lock"
    with only_writer(ledger.engine, lock):
        start = time.monotonic()
        with pytest.raises(Unavailable, match="another writer"), only_writer(ledger.engine, lock, 0.4):
            pass
        assert time.monotonic() - start >= 0.4
    with only_writer(ledger.engine, lock):
        pass


@pytest.mark.parametrize("ended_by", ["itself", "its work"])
def test_a_lock_whose_session_was_ended_goes_with_it(
    postgres: Postgres, postgres_database: str, tmp_path: Path, ended_by: str
) -> None:
    opened = open_engine(postgres_database)
    with suppress(ValueError), only_writer(opened, tmp_path / "unused"):
        postgres.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            f" WHERE datname = '{opened.url.database}'"
        )
        with only_writer(opened, tmp_path / "unused"):
            pass
        if ended_by == "its work":
            raise ValueError("what went wrong")
    # Not in the pool either, where whoever gets it next would hold it.
    other = open_engine(postgres_database)
    with only_writer(other, tmp_path / "unused"):
        pass
    opened.dispose()
    other.dispose()


WRITER = """
import sys, time
from pathlib import Path
from ledger.database import engine
from ledger.writer import Writer, only_writer
from tests.ledger.running import KEYS, Clock
from tests import city
url, folder = sys.argv[1], Path(sys.argv[2])
opened, heads = engine(url), engine(f"sqlite:///{folder}/heads.db")
print("started", flush=True)
with only_writer(opened, folder / "writer.lock", float(sys.argv[4])):
    writer = Writer(opened, heads, KEYS, Clock(int(sys.argv[3])))
    print("writing", flush=True)
    while True:
        writer.step()
        time.sleep(0.001)
"""


def test_the_standby_takes_over_from_a_writer_that_is_killed(ledger: Ledger):
    _, log = ledger.opened()
    url = ledger.engine.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(ledger.folder), str(log.now), "0"],
        cwd=servers.ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "started\n"
        assert process.stdout.readline() == "writing\n"
        lock, asked = ledger.folder / "writer.lock", fees(log, 0, 300)
        with pytest.raises(Unavailable), only_writer(ledger.engine, lock):
            pass
        for at, fee in enumerate(asked):
            ledger.ask(fee)
            if at == 200:
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with only_writer(ledger.engine, lock, standby_s=20):
            writer = ledger.writer()
            writer.drain()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    found = [decode(data).id for data in ledger.records()[len(log.records) :]]
    assert found == [fee.id for fee in asked]
    assert rules.replay(ledger.records())[1] == []
    with reading(ledger.engine) as connection:
        assert store.balances(connection)["treasury-usdt"] == sum(fee.amount for fee in asked)


def test_two_processes_one_writes_the_other_stands_by_and_goes_on_when_the_first_is_killed(ledger: Ledger):
    _, log = ledger.opened()
    url, asked = ledger.engine.url.render_as_string(hide_password=False), fees(log, 0, 90)
    processes = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, url, str(ledger.folder), str(log.now), "120"]
        processes.append(subprocess.Popen(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 60
        while len(ledger.records()) < len(log.records) + count:
            assert time.monotonic() < deadline, "nobody writes"
            time.sleep(0.02)

    try:
        first = start()
        assert [first.stdout.readline() for _ in range(2)] == ["started\n", "writing\n"]
        second = start()
        assert second.stdout.readline() == "started\n"
        # Three lives: each is killed in the middle of its work, and the one that stood by goes on.
        for life, fee in enumerate(asked):
            ledger.ask(fee)
            if life % 30 == 20 and life < 60:
                wait_for(life // 30 * 30 + 10)
                os.kill(processes[life // 30].pid, signal.SIGKILL)
                standby = processes[life // 30 + 1]
                assert standby.stdout.readline() == "writing\n"
                assert start().stdout.readline() == "started\n"
        wait_for(len(asked))
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    assert [decode(data).id for data in ledger.records()[len(log.records) :]] == [fee.id for fee in asked]
    assert rules.replay(ledger.records())[1] == []


def test_a_writer_that_runs_answers_within_a_moment_and_stops_when_told(ledger: Ledger):
    writer, log = ledger.opened()
    stop = threading.Event()
    running = threading.Thread(target=writer.run, args=(stop,))
    running.start()
    try:
        for fee in fees(log, 0, 5):
            asked = ledger.ask(fee)
            servers.until(lambda asked=asked: ledger.answer(asked) is not None, "the writer answers")
    finally:
        stop.set()
        running.join()
    assert len(ledger.records()) == len(log.records) + 5


# --- signing ------------------------------------------------------------------------------------


def test_a_head_is_signed_by_both_keys_and_is_the_same_when_asked_again(ledger: Ledger):
    writer, log = ledger.opened()
    note = writer.seal()
    checkpoint, _ = check_checkpoint(note, KEYS.verifiers(), KEYS.verifiers())
    tree = Tree()
    tree.extend(leaf_hash(data) for data in log.records)
    assert (checkpoint.size, checkpoint.root) == (len(log.records), tree.root())
    assert writer.seal() == note
    assert ledger.writer().seal() == note


def test_an_empty_log_has_the_root_of_nothing(ledger: Ledger):
    checkpoint = parse_checkpoint(parse_note(ledger.writer().seal())[0])
    assert (checkpoint.size, checkpoint.root) == (0, EMPTY_ROOT)


@pytest.mark.parametrize("sealed_before", [0, 40])
def test_a_flipped_bit_in_a_stored_record_is_never_signed(ledger: Ledger, sealed_before: int):
    writer, log = ledger.writer(), city.registered()
    ledger.feed(writer, log.records[:sealed_before])
    if sealed_before:
        writer.seal()
    ledger.feed(writer, log.records[sealed_before:])
    position = len(log.records) - 3
    data = log.records[position]
    forge(ledger, position, data[:-1] + bytes([data[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(Invalid, match="L2"):
            writer.seal()
    with reading(ledger.heads) as connection:
        head = store.last_head(connection)
    assert (head.size if head else 0) == sealed_before
    with pytest.raises((Invalid, AssertionError)):
        ledger.writer()


def test_a_flipped_bit_below_the_last_head_is_found_at_the_next_start(ledger: Ledger):
    writer, log = ledger.opened()
    writer.seal()
    ledger.ask(fees(log, 0, 1)[0])
    writer.drain()
    note_at = next(at for at, data in enumerate(log.records) if type(decode(data)).__name__ == "Project")
    data = bytearray(log.records[note_at])
    data[-1] ^= 1
    forge(ledger, note_at, bytes(data))
    # The next head does not read it again: what it covers of those bytes is the root that was signed.
    root = parse_checkpoint(parse_note(writer.seal())[0]).root
    tree = Tree()
    tree.extend(leaf_hash(record) for record in [*log.records, ledger.records()[-1]])
    assert root == tree.root()
    with pytest.raises((Invalid, AssertionError)):
        ledger.writer()


def test_an_edge_that_does_not_make_the_signed_root_is_not_built_upon(ledger: Ledger):
    writer, log = ledger.opened()
    writer.seal()
    with ledger.heads.begin() as connection:
        connection.execute(text("DROP TRIGGER signed_head_no_update"))
        connection.execute(tables.head.update().values(edge=bytes(32 * writer.tree.size.bit_count())))
    ledger.ask(fees(log, 0, 1)[0])
    writer.drain()
    with pytest.raises(Invalid, match="L2"):
        writer.seal()


def test_a_head_from_before_edges_were_kept_is_extended_from_the_first_record(ledger: Ledger):
    writer, log = ledger.opened()
    writer.seal()
    with ledger.heads.begin() as connection:
        connection.execute(text("DROP TRIGGER signed_head_no_update"))
        connection.execute(tables.head.update().values(edge=None))
    ledger.ask(fees(log, 0, 1)[0])
    writer.drain()
    assert parse_checkpoint(parse_note(writer.seal())[0]).root == writer.tree.root()


def _restored(ledger: Ledger, size: int) -> None:
    """A backup of the ledger's database that has only the first records."""
    with ledger.engine.begin() as connection:
        if ledger.engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER ledger_record_no_delete"))
        else:
            connection.execute(text("ALTER TABLE ledger_record DISABLE TRIGGER USER"))
        connection.execute(tables.record.delete().where(tables.record.c.position >= size))
        tree = Tree()
        tree.extend(map(leaf_hash, city.registered().records[:size]))
        connection.execute(tables.edge.update().values(size=size, hashes=b"".join(tree.edge())))


def test_a_restored_backup_does_not_sign_below_what_was_signed(ledger: Ledger):
    writer, log = ledger.opened()
    writer.seal()
    _restored(ledger, 30)
    with pytest.raises(Invalid, match=f"size {len(log.records)} was signed, the database has 30 records"):
        ledger.writer()


def test_a_restored_backup_does_not_sign_below_what_was_anchored(ledger: Ledger):
    _, log = ledger.opened()
    with ledger.engine.begin() as connection:
        anchored = store.Anchored(1, bytes(20), len(log.records), bytes(32), bytes(32), 1, bytes(32), 1)
        store.add_anchor(connection, anchored)
    _restored(ledger, 30)
    with pytest.raises(Invalid, match=f"size {len(log.records)} was anchored, the database has 30 records"):
        ledger.writer()


def test_a_backup_that_went_another_way_does_not_start(ledger: Ledger):
    writer, log = ledger.opened()
    one, other = fees(log, 0, 2)
    ledger.ask(one)
    writer.drain()
    writer.seal()
    _restored(ledger, len(log.records))
    with ledger.engine.begin() as connection:
        for name in ("ledger_transfer", "ledger_balance_then"):
            if ledger.engine.dialect.name == "sqlite":
                connection.execute(text(f"DROP TRIGGER {name}_no_delete"))
            else:
                connection.execute(text(f"ALTER TABLE {name} DISABLE TRIGGER USER"))
            connection.execute(text(f"DELETE FROM {name}"))
        connection.execute(text("DELETE FROM ledger_balance"))
    # Its heads are elsewhere, and so the fork is seen although its size is right.
    heads, ledger.heads = ledger.heads, _other_heads(ledger)
    forked = ledger.writer()
    ledger.ask(other)
    forked.drain()
    ledger.heads.dispose()
    ledger.heads = heads
    with pytest.raises(Invalid, match="L9"):
        ledger.writer()


def _other_heads(ledger: Ledger) -> Engine:
    return open_engine(f"sqlite:///{ledger.folder}/other-heads.db")


def test_of_two_heads_after_the_same_one_only_the_first_is_kept(ledger: Ledger):
    writer, log = ledger.opened()
    writer.seal()
    before = _last(ledger)
    ledger.ask(fees(log, 0, 1)[0])
    writer.drain()
    note = writer.seal()
    for expected, size in ((before.size, before.size + 1), (0, 1), (before.size + 7, before.size + 8)):
        with pytest.raises(Invalid, match="L9"), ledger.heads.begin() as connection:
            store.swap_head(connection, expected, replace(before, size=size))
    assert _last(ledger).note == note


def _last(ledger: Ledger) -> store.Head:
    with reading(ledger.heads) as connection:
        head = store.last_head(connection)
    assert head is not None
    return head


def test_what_is_submitted_and_rolled_back_was_never_asked(ledger: Ledger):
    writer, log = ledger.opened()
    before = everything(ledger)
    with ledger.engine.connect() as connection:
        submit(connection, fees(log, 0, 1)[0], log.now)
        connection.rollback()
    writer.drain()
    assert everything(ledger) == before


def test_encoding_at_time_zero_is_what_the_inbox_holds(ledger: Ledger):
    _, log = ledger.opened()
    fee = fees(log, 0, 1)[0]
    ledger.ask(replace(fee, time=log.now))
    with reading(ledger.engine) as connection:
        waiting = store.waiting(connection, 10)
    assert [bytes(one.template) for one in waiting] == [encode(replace(fee, time=0))]


def test_the_locks_file_may_outlive_its_writer(ledger: Ledger):
    lock = ledger.folder / "writer.lock"
    lock.write_text("left by a writer that died")
    with only_writer(ledger.engine, lock):
        pass
