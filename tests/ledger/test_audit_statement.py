"""The auditor's own copy of a bank statement against the ledger's bank account."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import rules
from ledger.audit import audit
from ledger.audit.__main__ import main
from ledger.records import ZERO_HASH, Account, Reversal, Transfer, encode_name
from tests import bundles, city

IBAN = "KZ86125KZT5004100100"
NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A bundle with 1,500.25 tenge on the first day and 20 on the second; the folder and the two days."""
    log = city.registered()
    owner = sha256(b"iban:" + IBAN.encode()).digest()
    bank = log.state.accounts["bank-kzt"].record
    log.act(replace(bank, account="bank-2", owner=owner))
    assert isinstance(bank, Account)
    # Ten in the evening in Alatau is five in the afternoon by UTC: the day is Alatau's.
    evening = 22 * 3_600 - rules.ALMATY_OFFSET_S
    log.now += (evening - log.now) % rules.DAY
    days = []
    for amount, mark in ((150_025, "first"), (2_000, "second")):
        log.add(replace(city.revenue(log, amount, "kzt", mark), debit="bank-2"))
        days.append(datetime.fromtimestamp(log.now + rules.ALMATY_OFFSET_S, tz=UTC).date().isoformat())
        log.wait(3 * 3_600)
    return bundles.write(tmp_path_factory.mktemp("books") / "bundle", log).folder, days[0], days[1]


def balance(kind: str, amount: str, day: str, sign: str = "CRDT", currency: str = "KZT") -> str:
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp><Amt Ccy='{currency}'>{amount}</Amt>"
        f"<CdtDbtInd>{sign}</CdtDbtInd><Dt><Dt>{day}</Dt></Dt></Bal>"
    )


def entry(amount: str, sign: str = "CRDT", status: str = "<Cd>BOOK</Cd>") -> str:
    return f"<Ntry><Amt Ccy='KZT'>{amount}</Amt><CdtDbtInd>{sign}</CdtDbtInd><Sts>{status}</Sts></Ntry>"


def statement(path: Path, *parts: str, iban: str = IBAN, head: str = "") -> Path:
    account = f"<Acct><Id><IBAN>{iban}</IBAN></Id><Ccy>KZT</Ccy></Acct>"
    body = f"<BkToCstmrStmt><Stmt>{account}{''.join(parts)}</Stmt></BkToCstmrStmt>"
    path.write_text(f"<?xml version='1.0'?>{head}<Document xmlns='{NAMESPACE}'>{body}</Document>")
    return path


def rules_of(folder: Path, *statements: Path) -> list[str]:
    return [finding.rule for finding in audit(folder, statements=statements).findings]


def test_statements_that_agree_are_accepted(books: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, first, second = books
    whole = statement(
        tmp_path / "whole.xml",
        balance("OPBD", "0.00", first),
        balance("CLBD", "1520.25", second),
        balance("CLAV", "7", second),
        entry("1500.25000"),
        entry("20.00", status="BOOK"),
        entry("99.00", status="PDNG"),
    )
    day = statement(
        tmp_path / "day.xml",
        balance("PRCD", "1500.25", first),
        balance("CLBD", "1520.25", second),
        entry("20"),
    )
    assert rules_of(folder, whole, day) == []


def test_where_a_statement_differs_the_rule_and_the_amount_are_named(
    books: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, first, second = books
    opening, closing, came = balance("OPBD", "0", first), balance("CLBD", "1500.25", first), entry("1500.25")
    path = tmp_path / "s.xml"
    assert rules_of(folder, statement(path, opening, closing, came)) == []
    assert rules_of(folder, statement(path, opening, balance("CLBD", "1500.24", first), came)) == ["W3", "W5"]
    assert rules_of(folder, statement(path, balance("OPBD", "0.01", first), closing, came)) == ["W4", "W5"]
    assert rules_of(folder, statement(path, opening, closing)) == ["W5"]
    assert rules_of(folder, statement(path, opening, closing, came, iban="KZ86125KZT5004100101")) == ["W2"]
    # A debit that the ledger does not have.
    taken = statement(
        path,
        balance("OPBD", "1500.25", second),
        balance("CLBD", "1420.25", second),
        entry("20"),
        entry("100", "DBIT"),
    )
    (finding,) = audit(folder, statements=[taken]).findings
    assert (finding.rule, finding.amount, finding.asset, finding.severity) == (
        "W3",
        10_000,
        "KZT",
        "critical",
    )
    assert main([str(folder), "--statement", str(taken)]) == 1
    assert any(line.startswith("W3 at ") for line in capsys.readouterr().out.splitlines())


def test_unmatched_money_and_what_was_undone_count_when_they_count(tmp_path: Path) -> None:
    log = city.registered()
    bank = log.state.accounts["bank-kzt"].record
    owner = sha256(b"iban:" + IBAN.encode()).digest()
    log.act(replace(bank, account="bank-2", owner=owner))
    payable = encode_name("unmatched")
    log.act(Account(0, "payable", "KZT", rules.RETAINED, rules.PAYABLE, payable, ZERO_HASH, city.ACT))
    noon = 12 * 3_600 - rules.ALMATY_OFFSET_S
    log.now += (noon - log.now) % rules.DAY

    def today() -> str:
        return datetime.fromtimestamp(log.now + rules.ALMATY_OFFSET_S, tz=UTC).date().isoformat()

    first = today()
    log.add(replace(city.revenue(log, 70_000, "kzt", "wrong"), debit="bank-2"))
    place = len(log.records) - 1
    words = (city.digest("id"), "bank-2", "payable", "KZT", 3_000, "unmatched", ZERO_HASH)
    log.add(Transfer(0, *words, city.digest("bank entry")))
    log.wait(rules.DAY)
    proposed = log.add(Reversal(0, city.digest("undo"), place, "bank-error", city.digest("correction")))
    log.wait(rules.DAY)
    log.approve(proposed)
    third = today()
    folder = bundles.write(tmp_path / "b", log).folder
    whole = statement(
        tmp_path / "s.xml",
        balance("OPBD", "730.00", third),
        balance("CLBD", "30.00", third),
        entry("700.00", "DBIT"),
    )
    start = statement(
        tmp_path / "t.xml", balance("OPBD", "0", first), balance("CLBD", "730.00", first), entry("730")
    )
    verdict = audit(folder, statements=[whole, start])
    assert verdict.findings == []
    line = next(line for line in verdict.totals if line.asset == "KZT")
    assert (line.revenue, line.unmatched, line.moved, line.closing) == (0, 3_000, 3_000, 3_000)
    assert "+ unmatched 30.00 - paid 0.00 = 30.00; closing 30.00" in str(line)
    assert verdict.as_json()["totals"][0]["unmatched"] == "3000"


ENTITIES = "<!DOCTYPE Document [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
OUTSIDE = "<!DOCTYPE Document SYSTEM 'file:///etc/passwd'>"


@pytest.mark.parametrize(
    "parts",
    [
        {"head": ENTITIES},
        {"head": OUTSIDE},
        {"iban": "&b;"},
        {"iban": ""},
        {"amount": "1e3"},
        {"amount": "-5"},
        {"amount": "0.001"},
        {"currency": "USD"},
        {"sign": "BOTH"},
        {"day": "2026-02-30"},
        {"day": "0001-01-01"},
        {"kind": "ITBD"},
        {"more": balance("CLBD", "1", "2026-10-05")},
    ],
)
def test_a_statement_that_is_not_what_it_must_be_is_refused(
    books: tuple[Path, str, str], tmp_path: Path, parts: dict[str, str]
) -> None:
    folder, first, _ = books
    path = statement(
        tmp_path / "s.xml",
        balance(
            parts.get("kind", "OPBD"),
            parts.get("amount", "0"),
            parts.get("day", first),
            parts.get("sign", "CRDT"),
            parts.get("currency", "KZT"),
        ),
        balance("CLBD", "1500.25", first),
        entry("1500.25"),
        parts.get("more", ""),
        iban=parts.get("iban", IBAN),
        head=parts.get("head", ""),
    )
    assert rules_of(folder, path) == ["W1"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"<Document/>", b"<a>" * 50_000, bytes(range(256))])
def test_a_file_that_is_no_statement_is_refused(
    books: tuple[Path, str, str], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "s.xml"
    path.write_bytes(content)
    assert rules_of(books[0], path) == ["W1"]


def test_a_document_type_hidden_in_another_encoding_is_refused(
    books: tuple[Path, str, str], tmp_path: Path
) -> None:
    path = tmp_path / "s.xml"
    path.write_bytes(
        f"<?xml version='1.0' encoding='utf-16'?>{ENTITIES}<Document>&b;</Document>".encode("utf-16")
    )
    (finding,) = audit(books[0], statements=[path]).findings
    assert (finding.rule, "document type" in finding.why) == ("W1", True)


def test_a_statement_that_is_not_there_could_not_be_checked(books: tuple[Path, str, str]) -> None:
    assert main([str(books[0]), "--statement", "/no/such/statement.xml"]) == 2
