"""The real writer and publisher show the state that each Close names, and an audit is cut there."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from ledger import rules, store, tables
from ledger.audit.__main__ import main
from ledger.audit.start import read_state
from ledger.audit.verdict import Findings
from ledger.database import engine as open_engine
from ledger.database import reading
from ledger.publish import Publisher
from ledger.records import Close, Invalid
from ledger.restore import restore
from ledger.target import Remote, Target
from ledger.watcher import Watcher
from ledger.writer import Writer
from tests import city
from tests.ledger.running import KEYS, Ledger
from tests.ledger.test_audit_segments import NEW_YEAR_S, both, closed

PATHS = ("states/2026.json", "states/2027.json")


def published(ledger: Ledger, where: Path | str | None = None) -> tuple[Writer, Publisher, city.Log]:
    """Three years, two of them closed, written and made public."""
    at, (log, _) = ledger.writer(), closed()
    ledger.feed(at, log.records)
    assert ledger.records() == log.records
    publisher = ledger.publisher(where)
    at.publish(publisher, ledger.watcher())
    return at, publisher, log


def named(target: Target) -> dict[str, str]:
    """What the manifest names below states/."""
    note = target.find("manifest")
    assert note is not None
    lines = [line.split(" ") for line in note.decode().split("\n") if " states/" in line]
    return {path: digest for digest, path in lines}


def test_the_states_of_two_closes_are_public_and_an_audit_starts_at_them(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    _, publisher, log = published(ledger)
    _, states = closed()
    assert {path: publisher.target.find(path) for path in PATHS} == states
    hashes = {f"states/{year}.json": digest.hex() for year, digest in log.state.closed.items()}
    assert named(publisher.target) == hashes
    _, spread = both(publisher.folder)
    segments = spread.jobs["replay_segment"]
    assert [segment.start and segment.start.path for segment in segments] == [None, *PATHS]
    said = []
    for more in ([], ["--jobs", "2"]):
        main([str(publisher.folder), *more])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    # And whoever trusts a Close starts there alone.
    findings = Findings()
    found = read_state(str(publisher.folder / PATHS[1]), log.records, findings)
    assert found is not None
    assert rules.dump(found) == states[PATHS[1]]


def test_a_changed_byte_in_a_published_state_is_a_finding(ledger: Ledger) -> None:
    _, publisher, _ = published(ledger)
    whole, _ = both(publisher.folder)
    path = publisher.folder / PATHS[0]
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    verdict, spread = both(publisher.folder)
    found = {(f.rule, f.where) for f in verdict.findings} - {(f.rule, f.where) for f in whole.findings}
    assert found == {("D3", PATHS[0])}
    assert len(spread.jobs["replay_segment"]) == 2  # from the other one
    # A publisher that starts again puts back what it has.
    again = ledger.publisher()
    again.finish(ledger.engine)
    assert path.read_bytes() == content


def test_states_reach_every_kind_of_target(ledger: Ledger) -> None:
    _, publisher, _ = published(ledger)
    _, states = closed()
    system = fsspec.filesystem("memory")
    away = [f"memory://{ledger.folder}/away", (ledger.folder / "file").as_uri()]
    others = [ledger.publisher(where) for where in away]
    others.append(ledger.publisher(Remote(system, f"{ledger.folder}/third")))
    assert publisher.mirror(ledger.engine, others) == []
    for other in others:
        assert {path: other.target.find(path) for path in PATHS} == states
        assert named(other.target) == named(publisher.target)


def test_only_a_close_in_effect_is_published_and_of_the_others_nothing_stays(ledger: Ledger) -> None:
    at, log = ledger.opened()
    log.now = ledger.clock.now = NEW_YEAR_S
    publisher = ledger.publisher()
    first = Close(0, 2026, rules.state_hash(log.state))
    waits = log.add(first)
    second = log.add(Close(0, 2026, rules.state_hash(log.state)))
    state = rules.load(rules.dump(at.state))
    ledger.feed(at, log.records[at.tree.size :])
    # What the rules refuse leaves nothing: this hash is of another state.
    log.wait(1)
    ledger.clock.now = log.now
    refused = ledger.ask(Close(0, 2026, rules.state_hash(state)), key=b"stale")
    at.drain()
    with pytest.raises(Invalid, match="Y1"):
        ledger.answer(refused)
    with reading(ledger.engine) as connection:
        assert len(connection.execute(tables.closing_state.select()).all()) == 2
    at.publish(publisher, ledger.watcher())
    assert named(publisher.target) == {}
    assert publisher.target.find(PATHS[0]) is None
    log.approve(second)
    ledger.feed(at, log.records[at.tree.size :])
    with reading(ledger.engine) as connection:
        (row,) = connection.execute(tables.closing_state.select()).all()
        assert store.closed_years(connection, row.effective) == []
        assert store.closed_years(connection, row.effective + 1) == [(2026, log.state.closed[2026])]
    assert row.position == log.state.proposals[second].index
    assert waits != second
    at.publish(publisher, ledger.watcher())
    assert named(publisher.target) == {PATHS[0]: log.state.closed[2026].hex()}


def test_a_ledger_restored_from_its_bundle_publishes_the_same_states(ledger: Ledger, tmp_path: Path) -> None:
    at, publisher, log = published(ledger)
    engine = open_engine(f"sqlite:///{tmp_path / 'new.db'}")
    heads = open_engine(f"sqlite:///{tmp_path / 'new-heads.db'}")
    assert restore(engine, heads, publisher.target, KEYS, KEYS.verifiers()) == len(log.records)
    other = ledger.publisher(tmp_path / "again")
    watcher: Watcher = ledger.watcher()
    Writer(engine, heads, KEYS, ledger.clock).publish(other, watcher)
    _, states = closed()
    assert {path: other.target.find(path) for path in PATHS} == states
    assert named(other.target) == named(publisher.target)
    assert at.tree.size == len(log.records)
    engine.dispose()
    heads.dispose()
