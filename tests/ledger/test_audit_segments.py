"""An audit spread over processes and the stretches between Close records comes to what a serial one does."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import rules
from ledger.audit import Verdict, Wanted, audit
from ledger.audit.__main__ import main
from ledger.audit.entries import Entries
from ledger.audit.source import open_source
from ledger.audit.spread import in_turn
from ledger.records import Close, Unavailable, encode, hash_struct
from tests import bundles, city
from tests.bundles import Written
from tests.vectors import make

NEW_YEAR_S = 1_798_743_600  # 2027 in Alatau
YEAR_S = 365 * rules.DAY


@functools.cache
def closed() -> tuple[city.Log, dict[str, bytes]]:
    """Three years with money in each, two of them closed; and the states at their ends, by path."""
    log, states = make.at("trade"), {}
    known = make.receipts(log)
    road = log.add(make.project())
    log.approve(road, city.COUNCIL[0])
    for place, year in enumerate((2026, 2027)):
        for payment in range(200):
            log.now = max(log.now, NEW_YEAR_S + (place - 1) * YEAR_S + payment * rules.DAY)
            log.add(city.revenue(log, 5 + payment, "kzt", f"{year} {payment}"))
        log.now = NEW_YEAR_S + place * YEAR_S
        states[f"states/{year}.json"] = rules.dump(log.state)
        log.act(Close(0, year, rules.state_hash(log.state)))
    # Of the first year's money in the third one: a refund of a receipt, and an act that waited.
    back = log.act(make.refund(known["said"], 100, mark="late"))
    log.add(make.refunded(back, log.state.receipts[known["said"]], 100))
    log.approve(road, *city.COUNCIL[1:3])
    return log, states


def written(folder: Path, log: city.Log | list[bytes], states: dict[str, bytes]) -> Written:
    return bundles.write(folder, log, public={**bundles.documents(), **states})


class Recorded:
    """Spreads over nobody, and remembers what was given out."""

    def __init__(self) -> None:
        self.jobs: dict[str, list[Any]] = {}

    def __call__(self, work: Any, jobs: Sequence[Any]) -> Any:
        self.jobs[work.__name__] = list(jobs)
        return in_turn(work, jobs)


def told(verdict: Verdict) -> dict[str, Any]:
    said = verdict.as_json()
    return {name: said[name] for name in said if name != "said"}


def both(folder: Path, **wanted: Any) -> tuple[Verdict, Recorded]:
    """Audit serially and spread; what either says must be the same."""
    spread = Recorded()
    # The rates of the vectors have sources that nobody ever said.
    wanted["sources_unavailable"] = True
    serial = audit(folder, wanted=Wanted(**wanted))
    found = audit(folder, wanted=Wanted(spread=spread, **wanted))
    assert told(found) == told(serial)
    return found, spread


def test_three_stretches_side_by_side_come_to_what_one_after_another_does(tmp_path: Path) -> None:
    log, states = closed()
    verdict, spread = both(written(tmp_path / "b", log, states).folder)
    # No bank spoke of these years: that is overdue, and nothing else is wrong.
    assert {(f.rule, f.where.split()[0]) for f in verdict.findings} == {
        (rule, "account") for rule in ("F5", "L1", "Q6")
    }
    starts = [segment.start and segment.start.path for segment in spread.jobs["replay_segment"]]
    assert starts == [None, "states/2026.json", "states/2027.json"]


@pytest.mark.parametrize("day", [0, 100, 364, 365, 366, 700, 900])
def test_a_period_that_begins_or_ends_in_any_stretch_has_the_same_totals(tmp_path: Path, day: int) -> None:
    log, states = closed()
    folder = written(tmp_path / "b", log, states).folder
    first = NEW_YEAR_S - YEAR_S + day * rules.DAY
    both(folder, period=(first, first + 200 * rules.DAY))
    both(folder, period=(None, first))


def test_what_is_broken_in_any_stretch_is_found_by_both(tmp_path: Path) -> None:
    log, states = closed()
    closes = [at for at, data in enumerate(log.records) if data[:32] == Close.type_hash]
    late = encode(replace(make.refund(make.receipts(log)["said"], 10**9, mark="too much"), time=log.now))
    again = [data for data in log.records if data[:32] == encode(city.revenue(log))[:32]][3]
    records = [*log.records[: closes[1] + 4], again, *log.records[closes[1] + 4 :], again, late]
    verdict, spread = both(written(tmp_path / "b", records, states).folder)
    assert len(spread.jobs["replay_segment"]) == 3
    assert [(f.rule, f.where) for f in verdict.findings].count(("H2", f"record {closes[1] + 4}")) == 1
    assert ("F1", f"record {len(records) - 1}") in [(f.rule, f.where) for f in verdict.findings]


def _bent(data: bytes) -> bytes:
    """A state in which an account has a little more; still a state, and not the ledger's."""
    state = rules.load(data)
    state.accounts["bank-kzt"].balance += 1
    return rules.dump(state)


def test_a_state_that_is_not_the_one_at_its_close_is_a_finding_and_what_follows_is_replayed(
    tmp_path: Path,
) -> None:
    """Even if a Close, and all who sign it, name the wrong state: it is not what the records make."""
    log, states = closed()
    closes = [at for at, data in enumerate(log.records) if data[:32] == Close.type_hash]
    wrong = _bent(states["states/2026.json"])
    lie = encode(replace(Close(0, 2026, rules.hashlib.sha256(wrong).digest()), time=NEW_YEAR_S))
    records = [*log.records[: closes[0]], lie, *log.records[closes[0] + 1 :]]
    folder = written(tmp_path / "b", records, {"states/2026.json": wrong}).folder
    serial = audit(folder)
    found = audit(folder, wanted=Wanted(spread=Recorded()))
    serially = {(f.rule, f.where) for f in serial.findings}
    assert ("Y1", f"record {closes[0]}") in serially
    assert {(f.rule, f.where) for f in found.findings} == serially | {("D17", "states/2026.json")}
    assert told(found)["totals"] == told(serial)["totals"]


def test_a_file_that_no_close_names_or_that_is_no_state_starts_nothing(tmp_path: Path) -> None:
    log, states = closed()
    other = {"states/2026.json": states["states/2027.json"], "states/2027.json": states["states/2026.json"]}
    _, spread = both(written(tmp_path / "swapped", log, other).folder)
    assert len(spread.jobs["replay_segment"]) == 3  # under another name it is the same state
    _, spread = both(written(tmp_path / "none", log, {"states/2026.json": b"{}"}).folder)
    assert "replay_segment" not in spread.jobs
    noise = b'{"o":["State",{}]}'
    named = copy.deepcopy(log)
    named.breach(encode(replace(Close(0, 2028, rules.hashlib.sha256(noise).digest()), time=named.now)))
    folder = written(tmp_path / "noise", named.records, {"states/2028.json": noise}).folder
    found = audit(folder, wanted=Wanted(spread=Recorded()))
    assert ("D17", "states/2028.json") in [(f.rule, f.where) for f in found.findings]


def test_a_broken_bundle_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log, states = closed()
    for damage in (b"", b"\x00" * 9_000):
        done = written(tmp_path / f"b{len(damage)}", log, states)
        assert len(log.records) > 512
        done.write("tile/entries/001", damage) if damage else (done.folder / "tile/entries/001").unlink()
        verdict, _ = both(done.folder)
        assert verdict.records == 256


def test_the_command_does_the_same_in_processes_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, states = closed()
    folder = str(written(tmp_path / "b", log, states).folder)
    said = []
    for more in ([], ["--jobs", "2"], ["--plain"]):
        assert main([folder, *more]) == 1  # what is overdue
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]
    with pytest.raises(SystemExit):
        main([folder, "--jobs", "0"])
    with pytest.raises(SystemExit):
        main([folder, "--jobs", "2", "--plain"])


def test_a_close_is_named_by_its_hash() -> None:
    log, _ = closed()
    assert {hash_struct(p.record) for p in log.state.proposals.values() if isinstance(p.record, Close)}


def test_records_that_change_between_two_looks_stop_the_audit(tmp_path: Path) -> None:
    """What is judged is what was hashed."""
    log, states = closed()
    done = written(tmp_path / "b", log, states)
    source, width = open_source(str(done.folder)), min(256, len(log.records))
    content = source.read("tile/entries/000")
    assert content is not None
    entries = Entries(source, len(log.records))
    entries.add(content, width)
    assert list(entries) == log.records[:width] == list(entries[:])
    assert [entries[0], entries[-1], entries[5:7][1]] == [log.records[at] for at in (0, width - 1, 6)]
    again = pickle.loads(pickle.dumps(entries))
    done.write("tile/entries/000", content[:-1] + bytes([content[-1] ^ 1]))
    for changed in (entries, again):
        with pytest.raises(Unavailable, match="changed while it was read"):
            list(changed)
