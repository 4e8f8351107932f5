"""Named steps: each in its own time, one machine at a time where it must be, and an end when told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import db
from gateway.steps import store
from gateway.steps.loop import Loop, Step, run_once, select_steps
from ledger.records import Invalid, Unavailable
from tests.gateway.conftest import Town
from tests.servers import until


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/steps.db"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def engines(url: str) -> Iterator[tuple[db.Engine, db.Engine]]:
    """The same database, as two processes have it."""
    made = db.engine(url), db.engine(url)
    db.metadata.create_all(made[0], [db.metadata.tables["worker_step"]])
    yield made
    for one in made:
        one.dispose()


def step(run: object, **changes: object) -> Step:
    return Step("work", run, **{"every_s": 0.01, "budget_s": 60, **changes})  # type: ignore[arg-type]


def test_a_step_is_held_by_one_at_a_time(engines: tuple[db.Engine, db.Engine]):
    ours, theirs = store.Locks(engines[0]), store.Locks(engines[1])
    with ours.held("chain") as first:
        assert first
        with theirs.held("chain") as second:
            assert not second
        with theirs.held("bank") as other:
            assert other
    with theirs.held("chain") as third:
        assert third
    ours.close()
    theirs.close()


def test_a_step_of_a_process_that_has_gone_is_free_at_once(engines: tuple[db.Engine, db.Engine]):
    ours, theirs = store.Locks(engines[0]), store.Locks(engines[1])
    with ours.held("chain"):
        if engines[0].dialect.name == "postgresql":
            # Its session ends, as it does with its process.
            ours.close()
            with theirs.held("chain") as taken:
                assert taken
    theirs.close()


def test_two_loops_never_do_a_step_side_by_side_and_keep_its_period(engines: tuple[db.Engine, db.Engine]):
    at_once, most, runs, lock = 0, 0, [0, 0], threading.Lock()

    def work(who: int) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            runs[who] += 1
        time.sleep(0.05)
        with lock:
            at_once -= 1

    stop = threading.Event()
    loops = [
        Loop(engine, [step(lambda who=who: work(who), every_s=0.2)]) for who, engine in enumerate(engines)
    ]
    threads = [threading.Thread(target=loop.run, args=(stop,)) for loop in loops]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    until(lambda: sum(runs) >= 8, "the step is done again and again")
    stop.set()
    for thread in threads:
        thread.join(60)
    took = time.monotonic() - started
    assert most == 1
    # A little early counts as in time: 0.9 of the period.
    assert 8 <= sum(runs) <= took / (0.9 * 0.2) + 2


def test_shared_steps_run_side_by_side(engines: tuple[db.Engine, db.Engine]):
    both = threading.Barrier(2, timeout=60)
    stop = threading.Event()
    loops = [Loop(engine, [step(both.wait, shared=True, every_s=60)]) for engine in engines]
    threads = [threading.Thread(target=loop.run, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    until(lambda: all(loop.progress["work"].runs for loop in loops), "both are done")
    stop.set()
    for thread in threads:
        thread.join(60)
    assert all(loop.progress["work"].failures == 0 for loop in loops)


def test_a_step_that_fails_is_told_waits_longer_and_stops_nobody(engines: tuple[db.Engine, db.Engine]):
    done: list[int] = []

    def fail() -> None:
        raise Unavailable("chain", "no node answers")

    bad, good = step(fail, every_s=0), Step("good", lambda: done.append(1), 0.01, 5, shared=True)
    loop = Loop(engines[0], [bad, good])
    waits = [loop.turn(bad) for _ in range(3)]
    loop.turn(good)
    loop.close()
    assert done == [1]
    assert waits == sorted(waits)
    assert waits[0] >= 2
    progress = loop.progress["work"]
    assert (progress.failures, progress.error) == (3, "chain: no node answers")
    with db.reading(engines[0]) as connection:
        noted = store.done(connection, "work")
    assert noted is not None
    assert (noted.error, noted.succeeded_ms) == ("chain: no node answers", 0)


def test_our_own_bug_ends_the_loop_and_is_raised(engines: tuple[db.Engine, db.Engine]):
    def broken() -> None:
        raise AssertionError("the ledger disagrees with itself")

    stop = threading.Event()
    loop = Loop(engines[0], [step(broken), Step("good", lambda: None, 0.01, 5, shared=True)])
    with pytest.raises(AssertionError, match="disagrees"):
        loop.run(stop)
    assert stop.is_set()


def test_a_step_without_an_end_ends_the_process_and_not_the_work(engines: tuple[db.Engine, db.Engine]):
    """Whoever supervises it starts another: its lock ends with it."""
    hang = threading.Event()
    loop = Loop(engines[0], [step(lambda: hang.wait(30), budget_s=0.1, shared=True)], grace_s=0.1)
    with pytest.raises(AssertionError, match="no end in 5 budgets"):
        loop.run(threading.Event())
    hang.set()


def test_what_is_under_way_is_finished_when_told_to_stop(engines: tuple[db.Engine, db.Engine]):
    begun, finished, stop = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.5)
        finished.set()

    loop = Loop(engines[0], [step(work)])
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    assert begun.wait(60)
    stop.set()
    thread.join(60)
    assert finished.is_set()
    assert not thread.is_alive()


def test_a_database_that_is_away_is_waited_for(engines: tuple[db.Engine, db.Engine], tmp_path: Path):
    away = db.engine(f"postgresql+psycopg://nobody@127.0.0.1:{1}/nothing?connect_timeout=1")
    loop = Loop(away, [step(lambda: None)])
    assert loop.turn(loop.steps[0]) >= 2
    assert loop.progress["work"].failures == 1
    loop.close()
    away.dispose()


def test_steps_are_chosen_by_name_in_the_order_of_the_table():
    table = [Step(name, lambda: None, 1, 1) for name in ("a", "b", "c")]
    assert [one.name for one in select_steps(table, ["c", "a"])] == ["a", "c"]
    assert len(select_steps(table, [])) == 3
    with pytest.raises(Invalid, match="none of a, b, c"):
        select_steps(table, ["d"])


def test_a_round_in_one_thread_goes_on_after_a_failure():
    done: list[str] = []

    def fail() -> None:
        raise ValueError("a bug of somebody else's")

    run_once([step(fail), Step("next", lambda: done.append("next"), 1, 1)])
    assert done == ["next"]


def test_a_worker_names_its_steps_once(town: Town):
    names = [one.name for one in town.city.worker.steps()]
    assert len(names) == len(set(names))
    assert {"chain", "bank", "flush", "expire", "record", "publish", "webhooks"} <= set(names)
