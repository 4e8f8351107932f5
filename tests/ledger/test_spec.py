"""SPEC.md says what the code does: the same rules, records, flows, names and bounds."""

from __future__ import annotations

import copy
import re
from dataclasses import fields, replace
from pathlib import Path

from ledger import rules
from ledger.records import (
    KINDS,
    WORD,
    Approval,
    Dispute,
    Record,
    Withdrawal,
    address_word,
    encode,
    encode_name,
    member_name,
)
from tests import city
from tests.ledger.test_records import sample
from tests.vectors import make

SPEC = (Path(rules.__file__).parent / "SPEC.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, up to the next heading of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}.*?\n(.*?)(?=^#{{1,}} |\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found.group(2)


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_it_opens_with_one_sentence_on_what_is_valid() -> None:
    assert re.match(
        r"# .+\n\nA ledger is valid when [^.]+ accepted by `apply` in `ledger/rules\.py`\.\n\n", SPEC
    )


def test_every_rule_has_a_section_and_every_section_a_rule() -> None:
    headings = re.findall(r"^#### (\w+): (.+)$", SPEC, re.MULTILINE)
    assert headings == list(rules.RULES.items())


def test_every_section_says_why_cites_an_id_and_names_all_its_vectors() -> None:
    for rule in rules.RULES:
        text = section(f"{rule}: ")
        reason, _, named = text.partition("Broken by ")
        assert len(reason.split()) >= 8, rule
        assert re.search(r"\((?:[A-Z]\d+|LEAKS)[^()]*\)\n", reason), rule
        assert re.findall(r"`([^`]+)`", named) == sorted(
            path.stem for path in make.FOLDER.glob(f"{rule}-*.json")
        )


def test_the_table_of_records_is_the_records() -> None:
    def who(kind: type[Record]) -> str:
        signed = {Approval: "its signer", Withdrawal: "its signer", Dispute: "`by`"}.get(kind)
        return signed or " and ".join(rules.AUTHOR.get(kind, ("writer",)))

    def shown(name: str, solidity: str, form: str) -> str:
        return f"{solidity if form == 'uint' else form} {member_name(name)}"

    assert rows(section("The records")) == [
        [kind.__name__, str(1 + len(kind.members)), ", ".join(shown(*m) for m in kind.members), who(kind)]
        for kind in KINDS
    ]
    for kind, row in zip(KINDS, rows(section("The records")), strict=True):
        assert len(encode(sample(kind))) == WORD * int(row[1])


def test_the_type_hashes_are_the_records() -> None:
    listed = re.findall(r"^(\w+) +([0-9a-f]{64})$", section("The records"), re.MULTILINE)
    assert listed == [(kind.__name__, kind.type_hash.hex()) for kind in KINDS]


def test_parameters_roles_funds_places_and_kinds_of_account_are_the_codes() -> None:
    bounds = {name: tuple(map(int, numbers)) for name, *numbers in rows(section("Parameters"))}
    assert bounds == rules.PARAMETERS
    for name in rules.PARAMETERS:
        assert f"`{name}`" in section("Parameters")
    assert set(re.findall(r"`([^`]+)`", section("Roles").splitlines()[-2])) == rules.ROLES
    assert set(re.findall(r"`([^`]+)`", section("Places"))) == rules.PLACES
    funds = {fund: frozenset(s.split(", ")) - {"(none)"} for fund, s in rows(section("Funds and what"))}
    assert funds == rules.SECTORS
    assert {kind for kind, *_ in rows(section("Kinds of account"))} == rules.ACCOUNT_KINDS


def test_the_flows_are_those_that_the_rules_permit() -> None:
    """Try every pair of kinds of account: what M4 does not refuse is a row of the table."""
    log = make.at("trade")
    log.act(make.account("bank-two"))
    log.act(make.account("chain-two", "USDT", kind="chain", owner=address_word(city.TREASURY)))
    for asset in ("KZT", "USDT"):
        owner = log.state.project_hashes["water-main"]
        for number in (1, 2):
            log.act(make.account(f"spent-{asset}-{number}", asset, kind=rules.PROJECT, owner=owner))
            log.act(make.account(f"payable-{asset}-{number}", asset, kind=rules.PAYABLE))
            log.act(make.payee(f"republic-{asset}-{number}", asset, kind=rules.REPUBLIC))
            log.act(make.payee(f"payee-{asset}-{number}", asset))
        code = encode_name(city.CODE)
        log.act(make.account(f"fees-two-{asset}", asset, kind=rules.REVENUE, owner=code))
    log.act(make.account("provider-two", "USDT", kind=rules.PROVIDER))
    permitted, tried = set(), set()
    for debit in log.state.accounts.values():
        for credit in log.state.accounts.values():
            if debit is credit or debit.record.asset != credit.record.asset:
                continue
            pair = (debit.record.kind, credit.record.kind)
            tried.add(pair)
            fee = replace(
                city.revenue(log, mark="new"),
                time=log.now,
                debit=debit.record.account,
                credit=credit.record.account,
                asset=debit.record.asset,
            )
            refused = make.refusal(copy.deepcopy(log.state), encode(fee))
            if refused is None or refused.rule != "M4":
                permitted.add(pair)
    listed = {
        (debit, credit)
        for _, record, debits, credits_, *_ in rows(section("What money may do"))
        for debit in debits.partition(",")[0].split(" or ")
        for credit in credits_.partition(",")[0].split(" or ")
        if record == "Transfer"
    }
    assert permitted == listed
    # Every pair was tried but tenge's kinds with those of coins.
    kinds = rules.ACCOUNT_KINDS
    never = {pair for coin in ("chain", rules.PROVIDER) for pair in (("bank", coin), (coin, "bank"))}
    assert tried == {(debit, credit) for debit in kinds for credit in kinds} - never


def test_each_flow_has_a_section_with_debit_credit_authority_and_cap() -> None:
    flows = [row[0] for row in rows(section("What money may do"))]
    assert flows == re.findall(r"^### (W\d+): ", SPEC, re.MULTILINE)
    assert {row[1] for row in rows(section("What money may do"))} == {"Transfer", "Exchange", "Reversal"}
    for flow in flows:
        text = " ".join(section(f"{flow}: ").casefold().split())
        assert all(word in text for word in ("debit", "credit", "authority", "cap:", "fund of both")), flow


def test_what_grows_is_named_by_its_part_of_the_state() -> None:
    parts = {field.name for field in fields(rules.State)} | {"history of an account of money"}
    named = {part for row in rows(section("What grows")) for part in row[0].split(", ")}
    assert named - parts == {"proposals and what is registered"}


def test_the_seconds_and_days_of_the_text_are_the_codes() -> None:
    text = " ".join(SPEC.split())
    for said, seconds in (
        ("14 days after the last approval", rules.NOTICE_S),
        ("180 days after the last approval", rules.RECOVERY_S),
        ("and not after 30 days", rules.REVERSAL_S),
        ("for more than three days", rules.PROVIDER_S),
        ("whose money moved more than 62 days ago", rules.STATEMENT_S),
        ("money in CUSTODY for more than 30 days", rules.CUSTODY_S),
        ("what has stood for more than 30 days and has not gone", rules.CUSTODY_S),
        ("After more than 180 days without any rate", rules.RECOVERY_S),
    ):
        days = {"three": 3}.get(re.findall(r"(\d+|three) days", said)[0]) or int(re.findall(r"\d+", said)[0])
        assert said in text
        assert days * rules.DAY == seconds
    assert rules.UNMATCHED_S == 365 * rules.DAY
    assert "unmatched money older than a year" in text
    assert "together at most 5,000 of 10,000" in text
    assert rules.RATE_BAND_MOST == 5_000
