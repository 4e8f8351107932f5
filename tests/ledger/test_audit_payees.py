"""The auditor is given the payees' papers, and names the republic under another name (LEAKS 07)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import rules
from ledger.audit import Wanted, audit
from ledger.audit.__main__ import main
from ledger.audit.papers import Paper, read_state_bodies
from ledger.audit.verdict import Finding, Verdict
from ledger.records import Unavailable
from tests import bundles, city
from tests.payee_papers import (
    BOTH_OF,
    GOOD,
    REPUBLIC_IN_DISGUISE,
    STATE_BIN,
    account_of,
    write_bodies,
    write_papers,
)


def audited(folder: Path, registered: Paper, shown: Paper, *, kind: str = rules.PAYEE) -> Verdict:
    """A ledger with this payee, audited with these papers."""
    log = city.registered()
    log.act(account_of(registered, kind))
    bundle = bundles.write(folder / "bundle", log).folder
    papers, bodies = write_papers(folder / "papers.json", shown), write_bodies(folder / "bodies.json")
    return audit(bundle, wanted=Wanted(payees=papers, state_bodies=bodies))


def named(verdict: Verdict) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.rule.startswith("U")]


def test_a_payee_whose_papers_fit_is_no_finding_and_it_is_said_how_many_were_looked_at(
    tmp_path: Path,
) -> None:
    verdict = audited(tmp_path, GOOD, GOOD)
    assert verdict.findings == []
    told = "papers of 1 of 2 payees were compared with the ledger, and with 1 state bodies of 2026-01-01"
    assert told in verdict.said


@pytest.mark.parametrize("rule", ["U2", "U3", "U4"])
def test_leak_07_the_auditor_names_a_payee_that_is_the_republic(tmp_path: Path, rule: str) -> None:
    paper = REPUBLIC_IN_DISGUISE[rule]
    verdict = audited(tmp_path, paper, paper)
    (finding,) = named(verdict)
    assert (finding.rule, finding.where, finding.severity) == (rule, "payee paver-kzt", "critical")
    assert BOTH_OF[rule] in finding.why
    # A verdict is published: what is in the clear in the papers is not in it.
    told = json.dumps(verdict.as_json())
    assert paper.bin not in told
    assert str(paper.iban) not in told


@pytest.mark.parametrize("rule", ["U2", "U3", "U4"])
def test_who_is_registered_as_the_republic_hides_nothing(tmp_path: Path, rule: str) -> None:
    paper = REPUBLIC_IN_DISGUISE[rule]
    assert named(audited(tmp_path, paper, paper, kind=rules.REPUBLIC)) == []


@pytest.mark.parametrize(
    "shown",
    [replace(GOOD, iban="KZ24070105KSN0000000"), replace(GOOD, bin=STATE_BIN), replace(GOOD, salt=bytes(32))],
    ids=["another account", "another firm", "another salt"],
)
def test_leak_07_papers_that_do_not_hash_to_the_payee_are_named(tmp_path: Path, shown: Paper) -> None:
    found = named(audited(tmp_path, GOOD, shown))
    assert found[0].rule == "U1"
    (told,) = [one for one in found if one.rule == "U1"]
    hashes = (shown.owner, GOOD.owner) if shown.iban != GOOD.iban else (shown.party, GOOD.party)
    assert all(f"0x{each.hex()}" in told.why for each in hashes)


def test_papers_of_a_payee_that_the_ledger_has_not_are_named(tmp_path: Path) -> None:
    (finding,) = named(audited(tmp_path, GOOD, replace(GOOD, account="stranger")))
    assert (finding.rule, finding.where) == ("U1", "payee stranger")


def test_what_was_committed_to_the_republic_is_counted(tmp_path: Path) -> None:
    log = bundles.paid()
    bundle = bundles.write(tmp_path / "bundle", log).folder
    known = log.state.accounts["builder-usdt"].record
    paper = Paper("builder-usdt", None, city.PAYEE_ADDRESS, GOOD.bin, GOOD.salt, "15")
    papers = write_papers(tmp_path / "papers.json", paper)
    found = named(audit(bundle, wanted=Wanted(payees=papers)))
    assert [(one.rule, one.amount, one.asset) for one in found] == [
        (rule, 40_000_000, "USDT") for rule in ("U1", "U4")
    ]
    assert known.party != paper.party


def test_a_body_that_was_none_any_more_when_the_payee_was_registered_is_no_breach(tmp_path: Path) -> None:
    log = city.registered()
    log.act(account_of(REPUBLIC_IN_DISGUISE["U3"]))
    bundle = bundles.write(tmp_path / "bundle", log).folder
    papers = write_papers(tmp_path / "papers.json", REPUBLIC_IN_DISGUISE["U3"])
    for ends, expected in (("2025-12-31", []), ("2049-01-01", ["U3"])):
        bodies = write_bodies(tmp_path / "bodies.json", ends)
        found = named(audit(bundle, wanted=Wanted(payees=papers, state_bodies=bodies)))
        assert [one.rule for one in found] == expected


def test_the_command_takes_the_files_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = city.registered()
    log.act(account_of(REPUBLIC_IN_DISGUISE["U2"]))
    bundle = str(bundles.write(tmp_path / "bundle", log).folder)
    papers = str(write_papers(tmp_path / "papers.json", REPUBLIC_IN_DISGUISE["U2"]))
    assert main([bundle]) == 0
    assert main([bundle, "--payees", papers]) == 1
    assert "U2 at payee paver-kzt: its account is at bank 070" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([bundle, "--state-bodies", papers])


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"payees": {}}', '{"payees": [{"account": 1}]}', '{"payees": [{}]}', "[" * 5_000,
     '{"payees": [{"account": "a", "iban": "KZ1", "bin": "0", "salt": "", "group": "07"}]}'],
)  # fmt: skip
def test_papers_that_nobody_can_read_are_no_verdict(tmp_path: Path, content: str) -> None:
    bundle = bundles.write(tmp_path / "bundle", city.registered()).folder
    (tmp_path / "papers.json").write_text(content)
    with pytest.raises(Unavailable, match=r"U[1-4] at "):
        audit(bundle, wanted=Wanted(payees=tmp_path / "papers.json"))
    with pytest.raises(Unavailable):
        audit(bundle, wanted=Wanted(payees=tmp_path / "nowhere.json"))


def test_the_list_that_is_shipped_is_dated_and_every_body_in_it_has_a_source() -> None:
    listed = read_state_bodies()
    assert listed.as_of.year >= 2026
    assert all(body.name and body.source for body in listed.by_bin.values())
