"""What an audit makes of the books: acknowledged breaches, what is overdue, keys, closes, periods, samples."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import proof, rules
from ledger.audit import Wanted, audit
from ledger.audit.__main__ import main
from ledger.audit.sample import pick
from ledger.audit.trust import check_depth, parse_json
from ledger.records import Acknowledgement, Close, Invalid, KeyChange, Unavailable, encode
from tests import bundles, city

HERE = Path(__file__).parents[2]


def broken(log: city.Log, units: int, mark: str) -> int:
    """A transfer in no permitted flow, as only whoever holds the log's key can record it; its index."""
    revenue = city.revenue(log, units, mark=mark)
    theft = encode(replace(revenue, time=log.now, debit="builder-usdt", credit="treasury-usdt"))
    assert rules.take(log.state, theft) is not None
    log.records.append(theft)
    return len(log.records) - 1


def found(folder: Path, **options: object) -> list[tuple[str, str]]:
    return [(f.rule, f.where) for f in audit(folder, **options).findings]  # type: ignore[arg-type]


# --- breaches ------------------------------------------------------------------------


def test_an_acknowledged_breach_is_an_exception_for_ever_and_the_others_stay_findings(tmp_path: Path) -> None:
    log = bundles.paid()
    small, large, open_one = (broken(log, units, f"theft {units}") for units in (5, 900, 7))
    for index in (small, large):
        log.act(Acknowledgement(0, index, "M4", city.ACT))
    verdict = audit(bundles.write(tmp_path / "b", log).folder)
    assert [(f.rule, f.where, f.amount) for f in verdict.findings] == [("M4", f"record {open_one}", 7)]
    said = [exception for exception in verdict.exceptions if "acknowledged" in exception]
    assert [line.split(":")[0] for line in said] == [f"M4 at record {large}", f"M4 at record {small}"]
    assert all(f"act 0x{city.ACT.hex()}" in line for line in said)
    log.act(Acknowledgement(0, open_one, "M4", city.ACT))
    assert audit(bundles.write(tmp_path / "c", log).folder).is_valid


def test_a_proposed_acknowledgement_without_its_approvals_excuses_nothing(tmp_path: Path) -> None:
    log = bundles.paid()
    index = broken(log, 5, "theft")
    approves = log.add(Acknowledgement(0, index, "M4", city.ACT))
    log.approve(approves, *city.COUNCIL[:3])
    assert found(bundles.write(tmp_path / "b", log).folder) == [("M4", f"record {index}")]


def test_a_bank_account_without_a_statement_is_overdue(tmp_path: Path) -> None:
    log = bundles.paid()
    log.add(city.revenue(log, 5_000, "kzt"))
    log.wait(rules.STATEMENT_S)
    log.add(city.revenue(log, 1, mark="on the last second"))
    assert found(bundles.write(tmp_path / "b", log).folder) == []
    log.wait(1)
    log.add(city.revenue(log, 1, mark="a second later"))
    (late,) = audit(bundles.write(tmp_path / "c", log).folder).findings
    assert (late.rule, late.where, late.amount, late.asset) == ("L1", "account bank-kzt", 5_000, "KZT")


# --- keys -----------------------------------------------------------------------------


def changed(key: str, vkey: str, *, wait: bool = True) -> city.Log:
    log = bundles.paid()
    log.act(KeyChange(0, key, sha256(vkey.encode()).digest(), 0, city.ACT))
    log.wait(rules.NOTICE_S if wait else rules.NOTICE_S - 1)
    log.add(city.revenue(log, 1, mark="after the change"))
    return log


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_key_that_is_no_longer_in_force_signs_nothing(tmp_path: Path, place: int) -> None:
    key = ("log-ed25519", "log-ml-dsa-44", "watcher")[place]
    mine = bundles.vkeys()[place]
    assert found(bundles.write(tmp_path / "a", changed(key, mine)).folder) == []
    other = changed(key, mine + "another")
    assert found(bundles.write(tmp_path / "b", other).folder) == [("D16", f"trust.json {key}")]
    early = changed(key, mine + "another", wait=False)
    assert found(bundles.write(tmp_path / "c", early).folder) == []


def test_of_two_trusted_keys_the_one_in_force_must_have_signed(tmp_path: Path) -> None:
    second = proof.Verifier(bundles.ORIGIN, proof.ED25519, bundles.COSIGNER.public_key().public_bytes_raw())
    vkey = proof.format_vkey(second)
    both = bundles.trust(vkeys=[*bundles.vkeys(), vkey])
    in_force = bundles.write(tmp_path / "a", changed("log-ed25519", vkey), trusted=both).folder
    assert found(in_force) == [("D16", "checkpoint"), ("D16", "manifest")]
    # Before it is in force the old one signs; and where no record names either, both must.
    later = bundles.write(tmp_path / "b", changed("log-ed25519", vkey, wait=False), trusted=both).folder
    assert found(later) == []
    unnamed = bundles.write(tmp_path / "c", bundles.paid(), trusted=both).folder
    assert found(unnamed) == [("D16", "checkpoint"), ("D16", "manifest")]


# --- starting from a close --------------------------------------------------------------


def closed(folder: Path, *, approved: bool = True) -> tuple[city.Log, Path, int]:
    """A ledger that goes on after the close of 2026; the state's file, and the index of the Close."""
    log = bundles.paid()
    theft = broken(log, 9, "before the close")
    log.act(Acknowledgement(0, theft, "M4", city.ACT))
    log.wait(150 * rules.DAY)
    state, start = folder / "2026.json", len(log.records)
    folder.mkdir(exist_ok=True)
    state.write_bytes(rules.dump(log.state))
    approves = log.add(Close(0, 2026, rules.state_hash(log.state)))
    if approved:
        log.approve(approves)
    log.add(city.revenue(log, 7_000_000, mark="after the close"))
    return log, state, start


def test_an_audit_from_a_close_says_what_one_from_the_beginning_says(tmp_path: Path) -> None:
    log, state, start = closed(tmp_path)
    folder = bundles.write(tmp_path / "b", log).folder
    whole, rest = audit(folder), audit(folder, wanted=Wanted(state=state))
    assert whole.findings == rest.findings == []
    assert (whole.totals, whole.projects, whole.flows) == (rest.totals, rest.projects, rest.flows)
    assert any(f"records before {start} were hashed and not replayed" in said for said in rest.said)
    assert any(city.AUDITOR.address.hex() in said for said in rest.said)
    assert any("M4 at record" in exception for exception in rest.exceptions)


def test_a_state_that_no_close_in_effect_names_is_named_and_not_started_from(tmp_path: Path) -> None:
    log, state, _ = closed(tmp_path)
    folder = bundles.write(tmp_path / "b", log).folder
    state.write_bytes(state.read_bytes() + b" ")
    verdict = audit(folder, wanted=Wanted(state=state))
    assert [(f.rule, f.where) for f in verdict.findings] == [("D17", str(state))]
    assert "every record was replayed from the beginning" in verdict.said
    log, state, _ = closed(tmp_path, approved=False)
    folder = bundles.write(tmp_path / "c", log).folder
    assert found(folder, wanted=Wanted(state=state)) == [("D17", str(state))]
    with pytest.raises(Unavailable):
        audit(folder, wanted=Wanted(state=tmp_path / "none"))


def test_a_breach_before_the_close_that_nobody_acknowledged_is_still_a_finding(tmp_path: Path) -> None:
    log = bundles.paid()
    theft = broken(log, 9, "theft")
    log.wait(150 * rules.DAY)
    state = tmp_path / "state"
    state.write_bytes(rules.dump(log.state))
    log.act(Close(0, 2026, rules.state_hash(log.state)))
    folder = bundles.write(tmp_path / "b", log).folder
    assert found(folder, wanted=Wanted(state=state)) == [("M4", f"record {theft}")]


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 90_000, b'{"o":["State",{"size":{"i":"x"}}]}'])
def test_a_false_state_under_a_true_hash_is_refused(tmp_path: Path, content: bytes) -> None:
    log = bundles.paid()
    log.wait(150 * rules.DAY)
    close = encode(Close(log.now, 2026, sha256(content).digest()))
    rules.take(log.state, close)
    log.records.append(close)
    state = tmp_path / "state"
    state.write_bytes(content)
    folder = bundles.write(tmp_path / "b", log).folder
    assert ("D17", str(state)) in found(folder, wanted=Wanted(state=state))


# --- periods ------------------------------------------------------------------------------


def test_a_period_opens_where_the_one_before_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, order = bundles.certified()
    first = log.now
    log.wait(3 * rules.DAY)
    second = log.now
    order_hash = log.act(order)
    broken(log, 999, "no effect")
    log.add(city.payment(order, order_hash))
    log.add(city.revenue(log, 3_000_000, mark="in the period"))
    log.wait(1)
    last = log.now
    log.add(city.revenue(log, 4_000_000, mark="after it"))
    log.act(Acknowledgement(0, len(log.records) - 4, "M4", city.ACT))
    folder = bundles.write(tmp_path / "b", log).folder

    def usdt(start: int | None, end: int | None) -> list[int]:
        verdict = audit(folder, wanted=Wanted(period=(start, end)))
        assert verdict.is_valid
        line = next(line for line in verdict.totals if line.asset == "USDT")
        came = sum(f.amount for f in verdict.flows if (f.kind, f.asset) == ("revenue", "USDT"))
        went = sum(f.amount for f in verdict.flows if (f.kind, f.asset) == ("project", "USDT"))
        assert (line.revenue, line.paid, line.moved) == (came, went, line.closing)
        return [line.opening, came, went, line.closing]

    assert usdt(None, None) == [0, 57_000_000, 40_000_000, 17_000_000]
    assert usdt(None, second) == [0, 50_000_000, 0, 50_000_000]
    assert usdt(second, last) == [50_000_000, 3_000_000, 40_000_000, 13_000_000]
    assert usdt(first + 1, last) == usdt(second, last)
    assert usdt(last, None) == [13_000_000, 4_000_000, 0, 17_000_000]
    assert usdt(last + 1, last + 2) == [17_000_000, 0, 0, 17_000_000]
    day = datetime.fromtimestamp(second + rules.ALMATY_OFFSET_S, tz=UTC).date().isoformat()
    assert main([str(folder), "--from", day, "--to", day]) == 0
    printed = capsys.readouterr().out
    assert "RETAINED USDT: opening 50.000000 + revenue 7.000000 - refunds 0.000000" in printed
    assert "- paid 40.000000 = 17.000000; closing 17.000000 = committed unpaid 0.000000" in printed


@pytest.mark.parametrize(
    "arguments", [["--from", "2026-13-01"], ["--to", "-1"], ["--from", "9", "--to", "9"]]
)
def test_a_period_that_is_none_could_not_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), *arguments])
    assert (stopped.value.code, capsys.readouterr().err.count("\n")) == (2, 1)


def test_a_period_that_begins_before_the_state_could_not_be_checked(tmp_path: Path) -> None:
    log, state, _ = closed(tmp_path)
    folder = bundles.write(tmp_path / "b", log).folder
    assert main([str(folder), "--state", str(state), "--from", str(city.START_S)]) == 2
    assert main([str(folder), "--state", str(state), "--from", str(log.now)]) == 0


# --- samples and evidence --------------------------------------------------------------------


def test_a_sample_is_the_auditors_own_and_proves_each_record(tmp_path: Path) -> None:
    log = bundles.busy(700)
    verdict = audit(bundles.write(tmp_path / "b", log).folder, wanted=Wanted(sample=20, seed="mine"))
    assert verdict.checkpoint is not None
    leaves = [proof.leaf_hash(data) for data in log.records]
    first = sha256(b"mine" + verdict.checkpoint.root + bytes(8)).digest()
    assert verdict.samples[0].index == int.from_bytes(first, "big") % 700
    assert len({sample.index for sample in verdict.samples}) == 20
    for sample in verdict.samples:
        assert list(sample.path) == proof.inclusion_path(sample.index, leaves)
        assert sample.leaf == leaves[sample.index]
        assert sample.record["record"] in str(sample)


def test_a_sample_of_more_than_there_is_takes_each_once() -> None:
    assert sorted(pick("seed", bytes(32), 5, 9)) == [0, 1, 2, 3, 4]
    assert pick("seed", bytes(32), 500, 9) != pick("seed", b"\1" * 32, 500, 9)


def test_a_file_is_found_where_records_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = bundles.paid()
    folder = bundles.write(tmp_path / "b", log).folder
    survey, loose, answer = tmp_path / "survey", tmp_path / "loose", tmp_path / "answer"
    survey.write_bytes(b"survey")
    loose.write_bytes(b"loose")
    (index,) = (n for n, data in enumerate(log.records) if data[-32:] == city.digest("survey"))
    assert main([str(folder), "--evidence", str(survey), "--json", str(answer)]) == 0
    assert f"record {index} (Certificate.document)" in capsys.readouterr().out
    named = json.loads(answer.read_text())["evidence"][0]["named"]
    assert named == [{"index": str(index), "kind": "Certificate", "member": "document"}]
    assert main([str(folder), "--evidence", str(survey), "--evidence", str(loose)]) == 1
    assert "no record names it" in capsys.readouterr().out
    assert main([str(folder), "--evidence", str(tmp_path / "none")]) == 2


def test_a_sample_needs_a_seed(tmp_path: Path) -> None:
    for arguments in (["--sample", "3"], ["--seed", "x"], ["--sample", "0", "--seed", "x"]):
        with pytest.raises(SystemExit):
            main([str(tmp_path), *arguments])


# --- totals ------------------------------------------------------------------------------------


def test_a_project_whose_totals_are_out_of_order_is_named(tmp_path: Path) -> None:
    from ledger.audit.summary import summarise
    from ledger.audit.verdict import Findings, Verdict

    log, findings = bundles.paid(), Findings()
    log.state.projects[log.state.project_hashes["water-main"]].certified += 1
    summarise(log.state, Verdict(), findings)
    assert [(f.rule, f.where) for f in findings.listed()] == [("D15", "project water-main")]


# --- brackets ----------------------------------------------------------------------------------

BOMBS = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 65 + b"]" * 65, b'["]",' * 100_000, b'["\\"]",' * 100_000]


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_that_is_too_deep_is_refused_before_it_is_parsed(bomb: bytes) -> None:
    with pytest.raises(Invalid, match="brackets"):
        check_depth("D1", "trust.json", bomb)


@pytest.mark.parametrize(
    "text", [b"[" * 64 + b"]" * 64, b'["[[[[", "\\"[{", "\\\\", {"}": []}]', b"7", b'"["']
)
def test_json_that_is_not_too_deep_is_parsed(text: bytes) -> None:
    assert parse_json("D1", "trust.json", text) == json.loads(text)


def test_no_depth_ends_the_process_where_the_limit_of_recursion_was_raised(tmp_path: Path) -> None:
    written = bundles.write(tmp_path / "b", bundles.paid())
    written.write("anchors.json", b"[" * 100_000)
    state = tmp_path / "state"
    state.write_bytes(b"[" * 100_000)
    script = (
        "import sys; sys.setrecursionlimit(100_000)\n"
        "from ledger.audit.__main__ import main\n"
        "raise SystemExit(main(sys.argv[1:]))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(written.folder), "--state", str(state)],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "T1 at anchors.json: its brackets do not match" in ran.stdout
