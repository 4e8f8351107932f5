"""The auditor's own copy of a bank statement, camt.053, against the ledger (LEAKS 11)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

from ledger import rules
from ledger.audit.movements import Movement, movements
from ledger.audit.replay import Replayed
from ledger.audit.source import MOST_BYTES
from ledger.audit.verdict import Findings
from ledger.records import Invalid, Unavailable, reject

_AMOUNT = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,5}))?")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}")
_OPENING = ("OPBD", "PRCD")


@dataclass(frozen=True)
class Statement:
    """One statement; amounts are tiyn, money in is positive."""

    iban: str
    opening: int
    # The end of this day is when the opening balance held.
    opening_date: date
    closing: int
    closing_date: date
    entries: int


def check_statements(paths: Sequence[str], done: Replayed, findings: Findings) -> None:
    """Compare every statement in these files with the ledger (W1 to W5)."""
    banks = {name for name, account in done.state.accounts.items() if account.record.kind == "bank"}
    moved = [movement for movement in movements(done) if movement.account in banks] if paths else []
    for path in paths:
        _check_file(path, done, moved, findings)


def _check_file(path: str, done: Replayed, moved: Sequence[Movement], findings: Findings) -> None:
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Unavailable("statement", f"{path} cannot be read: {error}") from None
    try:
        if len(data) > MOST_BYTES:
            reject("W1", path, f"more than {MOST_BYTES} bytes")
        for statement in parse_statement(data, path):
            _compare(statement, path, done, moved, findings)
    except Invalid as broken:
        findings.take(broken)


def parse_statement(data: bytes, where: str) -> list[Statement]:
    """Read the statements of a camt.053 message of any version (W1)."""
    try:
        _refuse_doctype(data, where)
        root = ET.fromstring(data)  # noqa: S314 - no entity is declared, since there is no document type
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError) as error:
        reject("W1", where, f"is not XML: {error}")
    found = [_statement(node, where) for node in root.iter() if _tag(node) == "Stmt"]
    if not found:
        reject("W1", where, "has no statement (Stmt)")
    return found


def _refuse_doctype(data: bytes, where: str) -> None:
    def declared(name: str, *_: object) -> None:
        reject("W1", where, f"declares a document type, {name[:40]!r}")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = declared
    parser.Parse(data, True)  # noqa: FBT003 - a positional flag of the C function


def _tag(node: ET.Element) -> str:
    return node.tag.rpartition("}")[2]


def _nodes(node: ET.Element, *path: str) -> Iterator[ET.Element]:
    if not path:
        yield node
        return
    for child in node:
        if _tag(child) == path[0]:
            yield from _nodes(child, *path[1:])


def _text(node: ET.Element, *path: str) -> str:
    return next((found.text or "" for found in _nodes(node, *path)), "").strip()


def _amount(node: ET.Element, where: str) -> int:
    """The signed amount of a balance or an entry, in tiyn."""
    amount = next(_nodes(node, "Amt"), None)
    text, currency = ("", "") if amount is None else ((amount.text or "").strip(), amount.get("Ccy", ""))
    match = _AMOUNT.fullmatch(text)
    if match is None or currency != rules.TENGE:
        reject("W1", where, f"an amount is {text[:40]!r} {currency[:10]!r}, not tenge")
    part = (match[2] or "").ljust(2, "0")
    if part[2:].strip("0"):
        reject("W1", where, f"{text} is no whole number of tiyn")
    tiyn = int(match[1] + part[:2])
    sign = _text(node, "CdtDbtInd")
    if sign not in {"CRDT", "DBIT"}:
        reject("W1", where, f"an amount is {sign[:10]!r}, neither CRDT nor DBIT")
    return tiyn if sign == "CRDT" else -tiyn


def _date(node: ET.Element, where: str) -> date:
    text = _text(node, "Dt", "Dt") or _text(node, "Dt", "DtTm")
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        reject("W1", where, f"a balance has the date {text[:40]!r}")


def _statement(node: ET.Element, where: str) -> Statement:
    iban = _text(node, "Acct", "Id", "IBAN").replace(" ", "")
    if not _IBAN.fullmatch(iban):
        reject("W1", where, f"the account is {iban[:40]!r}, not an IBAN")
    balances: dict[str, tuple[int, date]] = {}
    for balance in _nodes(node, "Bal"):
        kind = _text(balance, "Tp", "CdOrPrtry", "Cd")
        if kind in {*_OPENING, "CLBD"}:
            if kind in balances:
                reject("W1", where, f"{iban} has two balances {kind}")
            balances[kind] = _amount(balance, where), _date(balance, where)
    opening_kind = next((kind for kind in _OPENING if kind in balances), None)
    if opening_kind is None or "CLBD" not in balances:
        reject("W1", where, f"{iban} lacks its opening (OPBD or PRCD) or closing (CLBD) booked balance")
    opening, opened = balances[opening_kind]
    try:
        # OPBD is dated with the first day it opens, PRCD with the last day that it closed.
        opened -= timedelta(days=opening_kind == "OPBD")
    except OverflowError:
        reject("W1", where, f"the opening balance is dated {opened}")
    entries = 0
    for entry in _nodes(node, "Ntry"):
        if (_text(entry, "Sts", "Cd") or _text(entry, "Sts")) == "BOOK":
            entries += _amount(entry, where)
    return Statement(iban, opening, opened, *balances["CLBD"], entries)


def _end_of(day: date) -> int:
    """The first second after a day in Alatau."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int(midnight.timestamp()) + rules.DAY - rules.ALMATY_OFFSET_S


def _compare(
    statement: Statement, path: str, done: Replayed, moved: Sequence[Movement], findings: Findings
) -> None:
    owner = sha256(b"iban:" + statement.iban.encode("ascii")).digest()
    names = [n for n, a in done.state.accounts.items() if a.record.kind == "bank" and a.record.owner == owner]
    if not names:
        findings.add("W2", path, f"no bank account of the ledger is {statement.iban}")
        return
    (name,) = names
    rows = (
        ("W3", "closing", statement.closing, statement.closing_date),
        ("W4", "opening", statement.opening, statement.opening_date),
    )
    for rule, what, stated, day in rows:
        held = sum(
            movement.change for movement in moved if movement.account == name and movement.time < _end_of(day)
        )
        if held != stated:
            why = f"{what} is {stated} tiyn, the ledger has {held} at the end of {day}"
            findings.add(rule, f"{path}: {name}", why, amount=abs(stated - held), asset=rules.TENGE)
    if statement.opening + statement.entries != statement.closing:
        total = statement.opening + statement.entries
        why = f"opening and entries are {total} tiyn, closing is {statement.closing}"
        findings.add("W5", f"{path}: {name}", why, amount=abs(total - statement.closing), asset=rules.TENGE)
