"""Bundles that whoever holds the log's keys made to stop an auditor: each ends in a verdict, soon and in little memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger import rules
from ledger.audit import Wanted, audit
from ledger.audit.rates import MOST_BYTES, read_rate
from ledger.audit.spread import in_turn
from ledger.records import WORD, Close, Invalid, encode
from tests import bundles, city
from tests.ledger.test_audit_rates import findings, market, official, rated
from tests.ledger.test_audit_segments import closed, written

Change = Callable[[dict[str, Any]], object]


def test_a_checkpoint_of_any_size_gives_out_no_more_work_than_there_are_files(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "b", bundles.paid())
    size = 2**62
    bundle.sign_checkpoint(size=size, root=bundles.root_at(bundle.records, len(bundle.records)))
    bundle.sign_manifest(size=size)
    given: list[int] = []

    def spread(work: Any, jobs: Sequence[Any]) -> Any:
        given.append(len(jobs))
        return in_turn(work, jobs)

    verdict = audit(bundle.folder, wanted=Wanted(spread=spread))
    assert max(given) <= 1
    assert "D9" in {finding.rule for finding in verdict.findings}


# What each does to the members of a state that a Close names: still bytes that dump() could have written.
HOSTILE: dict[str, Change] = {
    "a time that is no number": lambda state: state.__setitem__("time", "soon"),
    "no accounts": lambda state: state.__setitem__("accounts", None),
    "an account that is a number": lambda state: state.__setitem__(
        "accounts", {"d": [["bank-kzt", {"i": "1"}]]}
    ),
    "breaches that are a text": lambda state: state.__setitem__("breaches", "none"),
    "no assets": lambda state: state.__setitem__("assets", {"d": []}),
    "rule files that are numbers": lambda state: state.__setitem__("rule_files", {"l": [{"i": "1"}]}),
    "an act for no breach": lambda state: state.__setitem__(
        "acknowledged", {"d": [[{"i": "5"}, {"b": "00"}]]}
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_state_that_is_none_is_a_finding_and_all_is_replayed(name: str, tmp_path: Path) -> None:
    log, states = closed()
    path = "states/2026.json"
    told = json.loads(states[path])
    HOSTILE[name](told["o"][1])
    data = json.dumps(told, separators=(",", ":")).encode()
    assert rules.dump(rules.load(data)) == data
    place = next(at for at, record in enumerate(log.records) if record[:WORD] == Close.type_hash)
    second = int.from_bytes(log.records[place][WORD : 2 * WORD], "big")
    records = list(log.records)
    records[place] = encode(Close(second, 2026, sha256(data).digest()))
    folder = written(tmp_path / "b", records, {path: data}).folder
    plain = audit(folder, wanted=Wanted(sources_unavailable=True))
    verdict = audit(folder, wanted=Wanted(sources_unavailable=True, state=folder / path))
    first, *others = verdict.findings
    assert (first.rule, first.where) == ("D17", str(folder / path))
    assert others == plain.findings
    assert verdict.totals == plain.totals
    assert "every record was replayed from the beginning" in verdict.said


def test_a_source_of_a_rate_that_would_fill_the_memory_is_not_read() -> None:
    for body in (
        b"<rates>" + b"<a/>" * (MOST_BYTES // 4) + b"</rates>",
        b"[" + b"[]," * (MOST_BYTES // 3) + b"[]]",
    ):
        with pytest.raises(Invalid, match=f"more than {MOST_BYTES} bytes"):
            read_rate(body, "source1", "USDT", 6)


def test_leak_05_the_national_bank_told_twice_is_one_source(tmp_path: Path) -> None:
    log = city.registered()
    days = official("505.00", time_s=log.now - 9 * rules.DAY), official("511.90", time_s=log.now)
    for one, other in (days, (days[1], days[1] + b" ")):
        each = city.registered()
        prices = [Fraction("505.00") if body is days[0] else Fraction("511.90") for body in (one, other)]
        rated(each, sum(prices) / 2, one, other)
        (named,) = findings(tmp_path / sha256(other).hexdigest(), each, one, other)
        assert "1 source, 2 are needed" in named
    rated(log, Fraction("511.90"), days[1], market("512.40", log.now))
    assert findings(tmp_path / "good", log, days[1], market("512.40", log.now)) == []
