"""A writer that does not believe its clock says so wherever an operator looks, and lets another machine write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from gateway.db import reading
from gateway.measures import store as measures
from gateway.metrics import Health, Measures, registry_of, serve
from gateway.sequencer import Sequencer
from gateway.steps.loop import Loop, Step
from ledger.records import Rate, Unavailable
from ledger.store import size_and_edge
from ledger.timekeeping import SKEW_S, ChainTime, Timekeeper
from ledger.writer import Writer, only_writer, submit
from tests.commits import after_commits
from tests.gateway.conftest import Town, opened
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_refused_bookings import asked

DAY = 86_400


def ask(town: Town, mark: bytes = b"\1") -> None:
    """Something that waits for the writer: the rate is as it was."""
    city = town.city
    last = city.writer.state.last_rate.get("USDT")
    numerator, denominator = (51_200, 1_000_000) if last is None else (last.numerator, last.denominator)
    with city.gateway.engine.begin() as connection:
        rate = Rate(0, "USDT", numerator, denominator, mark * 32, mark * 31 + b"\0")
        submit(connection, rate, city.clock())


def waiting(town: Town) -> int:
    with reading(town.city.gateway.engine) as connection:
        return measures.inbox(connection)[0]


def test_a_writer_that_stopped_says_why_on_the_page_and_to_who_watches_and_no_more_once_it_goes_on(
    town: Town,
):
    gateway = town.city.gateway
    visitor = Visitor(town)
    visitor.sign_in(town.operator_key)
    step = Step("record", town.city.worker.record, every_s=0.05, budget_s=60, shared=True)
    loop = Loop(gateway.engine, [step])
    server = serve(
        registry_of(Measures(gateway.engine, town.city.clock, loop=loop)),
        Health(gateway.engine, loop),
        "127.0.0.1",
        0,
    )
    try:
        ask(town)
        last, right = town.city.writer.state.time, town.city.writer.clock
        town.city.writer.clock = lambda: last - DAY
        loop.turn(step)
        told = f"the last record is dated {last}, the clock says {last - DAY}"
        assert told in visitor.get("/operator").text
        ready = json.loads(asked(server.server_port, "/readyz"))
        assert any("step record fails" in one and told in one for one in ready["warnings"])
        assert 'qazyna_step_is_failing{step="record"} 1.0' in asked(server.server_port, "/metrics")
        town.city.writer.clock = right
        loop.turn(step)
        assert told not in visitor.get("/operator").text
        assert json.loads(asked(server.server_port, "/readyz"))["warnings"] == []
        assert 'qazyna_step_is_failing{step="record"} 0.0' in asked(server.server_port, "/metrics")
    finally:
        server.shutdown()
        server.server_close()
        loop.close()


def test_a_machine_whose_clock_is_ahead_of_the_chain_lets_another_write_and_comes_back(
    town: Town, tmp_path: Path
):
    city, lock = town.city, tmp_path / "another.lock"
    keeper = Timekeeper(lambda: 0.0, [ChainTime("chain 7", city.city.newest_time)])
    city.worker.publication = None
    sequencer = Sequencer(city.worker, city.writer.heads, city.keys.log(), lock, None, (), timekeeper=keeper)
    town.mine()
    ask(town)
    sequencer.record()
    assert (sequencer.is_writer, waiting(town)) == (True, 0)
    city.clock.wait(city.city.newest_time() + SKEW_S + 1 - city.clock())
    ask(town, b"\2")
    for _ in range(2):
        with pytest.raises(Unavailable, match=rf"clock.*{city.clock()}.*chain 7"):
            sequencer.record()
        assert (sequencer.is_writer, waiting(town)) == (False, 1)
        with only_writer(city.gateway.engine, lock):
            """The lock is free for one whose clock is right."""
    town.mine()
    sequencer.record()
    assert (sequencer.is_writer, waiting(town)) == (True, 0)
    sequencer.close()


def test_a_worker_publishes_what_was_recorded_although_its_answer_was_lost_and_memory_half_built(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    city = town.city
    city.worker.publish_if_new()
    ask(town)

    def lost() -> None:
        raise OperationalError("COMMIT", None, OSError("gone"))

    end_of_that = after_commits(city.gateway.engine, lost)
    with pytest.raises(Unavailable, match="gone"):
        city.writer.step()
    end_of_that()

    def away(*_: object, **__: object) -> None:
        raise Unavailable("ledger database", "away")

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_replay", away)
        for again in (city.writer.seal, city.worker.publish_if_new):
            with pytest.raises(Unavailable, match="away"):
                again()
    # Nothing else has come since that would make it look.
    city.worker.publish_if_new()
    with reading(city.gateway.engine) as connection:
        assert city.gateway.publisher.published() == size_and_edge(connection)[0]


def test_a_sample_city_that_died_goes_on_from_the_time_that_it_recorded(built_town: Path, tmp_path: Path):
    folder = tmp_path / "city"
    shutil.copytree(built_town, folder)
    noted = (folder / "clock").read_text()
    with opened(folder) as town:
        town.city.clock.wait(DAY)
        ask(town)
        town.record()
        recorded = town.city.writer.state.time
    assert recorded >= int(noted) + DAY
    # It had not noted its time yet when it died.
    (folder / "clock").write_text(noted)
    with opened(folder) as town:
        assert town.city.clock() == recorded
        ask(town, b"\2")
        town.record()
        assert waiting(town) == 0
