"""How long a record may wait for its anchor: the parameter anchor_gap, to the second (T4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import rules
from ledger.audit import audit
from ledger.audit.verdict import Finding
from ledger.records import Parameter
from tests import bundles, city

DEFAULT_S = 2 * rules.DAY


def waited(folder: Path, log: city.Log, seconds: int) -> list[Finding]:
    """What is found where the log's newest record waited so long for its anchor, and all before it did not."""
    before = bundles.anchors(log.records[:-1])
    time_s = int.from_bytes(log.records[-1][32:64], "big")
    last = bundles.anchor(log.records, len(log.records), time=str(time_s + seconds))
    return audit(bundles.write(folder, log, anchored=[*before, last]).folder).findings


def check_bound(folder: Path, log: city.Log, gap_s: int) -> None:
    """A record within the gap is no finding; a second more is one, with both numbers."""
    log.wait(30 * rules.DAY)
    log.add(city.revenue(log, mark=f"gap {gap_s} {len(log.records)}"))
    place = f"record {len(log.records) - 1}"
    assert waited(folder / "in time", log, gap_s) == []
    (late,) = waited(folder / "late", log, gap_s + 1)
    assert (late.rule, late.where, late.severity) == ("T4", place, "low")
    assert late.why == f"waited {gap_s + 1} s for an anchor, at most {gap_s} s is allowed"


def test_a_record_waits_for_its_anchor_as_long_as_anchor_gap_and_not_a_second_longer(tmp_path: Path) -> None:
    check_bound(tmp_path, city.registered(), DEFAULT_S)


@pytest.mark.parametrize("gap_s", [3_600, 7 * rules.DAY])
def test_a_changed_anchor_gap_is_the_bound_from_when_it_holds_and_not_before(
    tmp_path: Path, gap_s: int
) -> None:
    log = city.registered()
    starts_s = log.now + 40 * rules.DAY
    log.act(Parameter(0, "anchor_gap", gap_s, starts_s, city.ACT))
    check_bound(tmp_path / "before", log, DEFAULT_S)
    check_bound(tmp_path / "after", log, gap_s)


def test_a_record_that_fell_under_a_shorter_gap_while_others_waited_is_held_to_it(tmp_path: Path) -> None:
    log = city.registered()
    log.act(Parameter(0, "anchor_gap", 3_600, log.now + 40 * rules.DAY, city.ACT))
    anchored = bundles.anchors(log.records)
    changes_s = log.now + 40 * rules.DAY
    # One record a minute before the change, one at it; one anchor for both, an hour and a second after.
    for time_s, mark in ((changes_s - 60, "before"), (changes_s, "after")):
        log.wait(time_s - log.now)
        log.add(city.revenue(log, mark=mark))
    size = len(log.records)
    for seconds, expected in ((3_600, []), (3_601, [("T4", f"record {size - 1}")])):
        last = bundles.anchor(log.records, size, time=str(changes_s + seconds))
        folder = bundles.write(tmp_path / str(seconds), log, anchored=[*anchored, last]).folder
        assert [(one.rule, one.where) for one in audit(folder).findings] == expected


def test_what_no_anchor_covers_has_waited_until_the_latest_time_that_is_known(tmp_path: Path) -> None:
    log = city.registered()
    log.wait(30 * rules.DAY)
    log.add(city.revenue(log, mark="first"))
    entries = bundles.anchors(log.records[:-1])
    place = f"record {len(log.records) - 1}"
    for seconds, expected in ((DEFAULT_S, []), (1, [("T4", place)])):
        log.wait(seconds)
        log.add(city.revenue(log, mark=f"last {seconds}"))
        folder = bundles.write(tmp_path / str(seconds), log, anchored=entries).folder
        assert [(one.rule, one.where) for one in audit(folder).findings] == expected
