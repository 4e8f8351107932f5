"""The republic under another name is stopped where its IBAN and BIN are in the clear (LEAKS 07)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.acts_file import Planned, check_payees
from gateway.budget.desk import Desk
from gateway.budget.explain import LANGUAGES, PAPERS_SAY
from gateway.budget.typed_data import typed_data
from gateway.cli import app
from ledger import rules
from ledger.audit.papers import STATE_BODIES, Paper, read_state_bodies
from ledger.records import Commitment, Invalid, Record, hash_struct
from tests.city import ACT
from tests.gateway.conftest import Town
from tests.payee_papers import (
    BOTH_OF,
    GOOD,
    REPUBLIC_IN_DISGUISE,
    account_of,
    write_bodies,
    write_papers,
)

RULES = ["U2", "U3", "U4"]


def desk_with(town: Town, paper: Paper, folder: Path) -> Desk:
    return Desk(
        town.city.writer, {paper.account: paper}, read_state_bodies(write_bodies(folder / "bodies.json"))
    )


def refused(town: Town, desk: Desk, record: Record) -> Invalid:
    """What the desk says; and nothing of it is on the ledger."""
    size = town.city.writer.state.size
    with pytest.raises(Invalid) as caught:
        desk.propose(record)
    assert town.city.writer.state.size == size
    return caught.value


def test_leak_07_the_desk_proposes_no_payee_that_is_the_republic(town: Town, tmp_path: Path) -> None:
    for rule in RULES:
        paper = REPUBLIC_IN_DISGUISE[rule]
        error = refused(town, desk_with(town, paper, tmp_path), account_of(paper))
        assert (error.rule, error.where) == (rule, "payee paver-kzt")
        assert BOTH_OF[rule] in error.why
    # It may be registered as what it is: G7 keeps it waiting until retention ends.
    paper = REPUBLIC_IN_DISGUISE["U2"]
    desk = desk_with(town, paper, tmp_path)
    assert desk.propose(account_of(paper, rules.REPUBLIC)).record.kind == rules.REPUBLIC  # type: ignore[attr-defined]


def test_leak_07_the_desk_proposes_no_payee_without_papers_or_with_anothers(
    town: Town, tmp_path: Path
) -> None:
    desk = desk_with(town, GOOD, tmp_path)
    stranger = replace(account_of(GOOD), account="stranger-kzt")
    assert "has no papers" in refused(town, desk, stranger).why
    assert "has no papers" in refused(town, Desk(town.city.writer), account_of(GOOD)).why
    # Good papers, and an account that they are not of: the Treasury's own, or another firm's.
    treasury = replace(account_of(GOOD), owner=REPUBLIC_IN_DISGUISE["U2"].owner)
    error = refused(town, desk, treasury)
    assert error.rule == "U1"
    assert f"0x{GOOD.owner.hex()}" in error.why
    assert f"0x{treasury.owner.hex()}" in error.why
    assert refused(town, desk, replace(account_of(GOOD), party=ACT)).rule == "U1"
    assert desk.propose(account_of(GOOD)).position == town.city.writer.state.size - 1


def test_leak_07_no_payee_is_founded_that_is_the_republic(tmp_path: Path) -> None:
    bodies = write_bodies(tmp_path / "bodies.json")
    for rule, paper in REPUBLIC_IN_DISGUISE.items():
        rounds = [[Planned("acts.json round 2 record 1", account_of(paper))]]
        with pytest.raises(Invalid, match=r"acts\.json round 2 record 1: payee paver-kzt") as caught:
            check_payees(rounds, write_papers(tmp_path / "papers.json", paper), bodies, 1_790_000_000)
        assert caught.value.rule == rule
        with pytest.raises(Invalid, match="has no papers"):
            check_payees(rounds, None, bodies, 1_790_000_000)
    rounds = [[Planned("acts.json round 2 record 1", account_of(GOOD))]]
    check_payees(rounds, write_papers(tmp_path / "papers.json", GOOD), bodies, 1_790_000_000)
    check_payees([[]], None, STATE_BODIES, 1_790_000_000)


def explained(folder: Path, record: Record, paper: Paper, language: str) -> list[str]:
    """What `qazyna sign --explain` prints."""
    import json

    asked = folder / "asked.json"
    asked.write_text(json.dumps(typed_data(record, 1_800_000_000, 31_337, b"\x11" * 20, ACT)))
    papers, bodies = write_papers(folder / "papers.json", paper), write_bodies(folder / "bodies.json")
    words = ["--explain", "--papers", str(papers), "--state-bodies", str(bodies), "--language", language]
    done = CliRunner().invoke(app, ["sign", str(asked), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("rule", RULES)
def test_leak_07_who_is_to_sign_is_warned_first_in_each_language(
    tmp_path: Path, rule: str, language: str
) -> None:
    paper = REPUBLIC_IN_DISGUISE[rule]
    account = replace(account_of(paper), time=1_790_000_000)
    first, second, *rest = explained(tmp_path, account, paper, language)
    assert first == PAPERS_SAY[rule][LANGUAGES.index(language)]
    assert f"{rule} at payee paver-kzt" in second
    assert BOTH_OF[rule] in second
    assert f"  hashStruct: 0x{hash_struct(account).hex()}" in rest
    # A contract with it has no hashes of it, and what its papers say is told all the same.
    contract = Commitment(1_790_000_000, "contract-1", ACT, "paver-kzt", 1, ACT)
    assert explained(tmp_path, contract, paper, language)[0] == first


def test_what_stands_against_nothing_is_said_too_and_papers_of_another_are_a_warning(tmp_path: Path) -> None:
    account = replace(account_of(GOOD), time=1_790_000_000)
    assert (
        "nothing stands against it. State bodies in the list: 1 (2026-01-01)"
        in explained(tmp_path, account, GOOD, "en")[0]
    )
    assert explained(tmp_path, account, replace(GOOD, account="other"), "en")[0].endswith(": paver-kzt")
    told = explained(tmp_path, account, replace(GOOD, salt=bytes(32)), "en")
    assert told[0] == PAPERS_SAY["U1"][2]
    assert f"the party on record is 0x{account.party.hex()}" in told[1]
