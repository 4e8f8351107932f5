"""What a bank says moved on an account: ISO 20022 camt.054 and camt.053, versions 02 to 14.

camt.054 is a notification of one entry or more, camt.053 a statement with balances.

The file comes from outside. It is read whole or refused whole; nothing of a refused file is used. Pure: no
clock, no I/O.

T1  a file is at most 10 MiB and one million tags
T2  it is well-formed XML without a document type, entities or anything to fetch
T3  it holds one Document of camt.053.001 or camt.054.001, version 02 to 14
T4  an element that is needed is there, and once
T5  the account is a Kazakh IBAN, and one of ours where ours are given
T6  an amount is a decimal number with a point, at most 2 decimals and 18 digits, not negative
T7  the currency is KZT
T8  direction, status and reversal are words of the standard
T9  a date is a day of the calendar
T10 the transactions of an entry add up to the entry
T11 one file does not use one reference for two credits
T12 opening balance and booked entries add up to the closing balance
T13 a reference that is known keeps its content
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from gateway.kz import business_date, check_iban
from ledger.records import reject

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SIZE_LIMIT = 10 * 1024 * 1024
TAG_LIMIT = 1_000_000
_NAMESPACE = re.compile(r"urn:iso:std:iso:20022:tech:xsd:camt\.(053|054)\.001\.(0[2-9]|1[0-4])")
_AMOUNT = re.compile(r"([0-9]+)(?:\.([0-9]*))?")
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:Z|[+-][0-9]{2}:[0-9]{2})?")
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)
# Words that banks write where a reference is demanded and none exists.
_NO_REFERENCE = {"", "NOTPROVIDED", "NONREF", "NONE"}


@dataclass(frozen=True)
class Credit:
    """One movement on an account: a transaction of an entry, or the entry where it lists none.

    `credit` is False for a debit. `reversal` with `credit` False takes back an earlier credit. `booked` is
    False for money that is only announced. `index` counts the movements of the file from 0. `transactions` is
    above 1 where an entry sums up a batch without listing it: good for reconciling, but it says nothing about
    who paid what. `return_reason` is told of money that comes back because it could not be delivered.
    """

    account_iban: str
    amount_tiyn: int
    currency: str
    credit: bool
    booked: bool
    reversal: bool
    booking_date: date | None
    value_date: date | None
    entry_reference: str | None
    servicer_reference: str | None
    end_to_end_id: str | None
    remittance: str
    debtor_name: str | None
    ultimate_debtor_name: str | None
    debtor_iban: str | None
    transactions: int
    index: int
    message_id: str
    sha256: str
    creditor_iban: str | None = None
    return_reason: str | None = None

    @property
    def signed_tiyn(self) -> int:
        """The effect on the balance."""
        return self.amount_tiyn if self.credit else -self.amount_tiyn

    @property
    def identity(self) -> str:
        """What makes this the same money when it is told again, in this file or another.

        With the bank's reference a notification and a statement name the same money. Without it only the same
        file does: then one kind of file alone may be the source of credits, or money counts twice.
        """
        if self.servicer_reference is None:
            return f"file:{self.sha256}:{self.index}"
        kind = ("credit" if self.credit else "debit") + ("-reversal" if self.reversal else "")
        # Banks give a charge and the tax on it one reference, so among debits the amount tells them apart.
        # Never among credits: there a second amount under one reference is a conflict that a person must see.
        amount = "" if self.credit else f":{self.amount_tiyn}"
        return f"{self.account_iban}:{kind}{amount}:{self.servicer_reference}"

    @property
    def reversed_identity(self) -> str | None:
        """The identity of what this takes back, where the bank keeps the reference and the amount."""
        if not self.reversal or self.servicer_reference is None:
            return None
        if self.credit:
            return f"{self.account_iban}:debit:{self.amount_tiyn}:{self.servicer_reference}"
        return f"{self.account_iban}:credit:{self.servicer_reference}"


@dataclass(frozen=True)
class Statement:
    """A day, or a page of it, on one account (T12); an overdrawn balance is negative."""

    account_iban: str
    statement_id: str
    opening_tiyn: int
    closing_tiyn: int
    opening_date: date
    closing_date: date
    entries: tuple[Credit, ...]


def read_notification(xml: bytes, accounts: Collection[str] | None = None) -> list[Credit]:
    """Read every movement of a camt.054 or camt.053 file (T1 to T12).

    accounts: our IBANs; an entry on another account refuses the file. None accepts any.
    """
    kind, message_id, bodies = _open(xml)
    if kind == "053":
        return [entry for statement in read_statements(xml, accounts) for entry in statement.entries]
    digest = hashlib.sha256(xml).hexdigest()
    found: list[Credit] = []
    for number, body in enumerate(bodies, 1):
        found += _read_entries(body, f"notification {number}", accounts, message_id, digest, len(found))
    _check_references(found)
    return found


def read_statements(xml: bytes, accounts: Collection[str] | None = None) -> list[Statement]:
    """Read the statements of a camt.053 file and check each one's balance (T1 to T12)."""
    kind, message_id, bodies = _open(xml)
    if kind != "053":
        reject("T3", "namespace", "camt.053 is needed, this is camt.054")
    digest = hashlib.sha256(xml).hexdigest()
    statements = []
    count = 0
    for number, body in enumerate(bodies, 1):
        where = f"statement {number}"
        entries = _read_entries(body, where, accounts, message_id, digest, count)
        count += len(entries)
        (opening, opened), (closing, closed) = _read_balances(body, where)
        booked = sum(entry.signed_tiyn for entry in entries if entry.booked)
        if opening + booked != closing:
            total = f"opening {opening} and entries {booked} make {opening + booked}"
            reject("T12", where, f"{total}, closing is {closing}")
        account = _needed(body, "Acct/Id/IBAN", where)
        name = _needed(body, "Id", where)
        statements.append(Statement(account, name, opening, closing, opened, closed, tuple(entries)))
    _check_references([entry for statement in statements for entry in statement.entries])
    return statements


def select_news(known: Mapping[str, Credit], read: Iterable[Credit]) -> list[Credit]:
    """Keep what was not known: new money, and announced money that is now booked (T13).

    known: identity to Credit. Reading a file twice therefore changes nothing.
    """
    seen = dict(known)
    news = []
    for movement in read:
        before = seen.get(movement.identity)
        if before is not None:
            check_same_money(before, movement)
        # Booked is never taken back by a late announcement: only a reversal does that.
        if before is None or (movement.booked and not before.booked):
            seen[movement.identity] = movement
            news.append(movement)
    return news


def check_same_money(first: Credit, second: Credit) -> None:
    """Refuse two tellings of one identity that differ in money, or in what says whose money it is (T13)."""
    where = f"reference {second.servicer_reference}"
    for name in ("account_iban", "currency", "credit", "reversal", "amount_tiyn"):
        if getattr(first, name) != getattr(second, name):
            reject("T13", where, f"{name} was {getattr(first, name)} and is now {getattr(second, name)}")
    # A statement may leave out what the notification said; it may not say something else.
    for name in ("end_to_end_id", "remittance", "debtor_iban", "creditor_iban"):
        before, after = getattr(first, name), getattr(second, name)
        if before and after and before != after:
            reject("T13", where, f"{name} has changed in file {second.sha256} since file {first.sha256}")


# --- the file ---


def _open(xml: bytes) -> tuple[str, str, list[Element]]:
    """Give 053 or 054, the message id and the statements or notifications of a file."""
    if len(xml) > SIZE_LIMIT:
        reject("T1", "file", f"{len(xml)} bytes, at most {SIZE_LIMIT}")
    # Counted before parsing: a tag of four bytes becomes an object of hundreds.
    if xml.count(b"<") > TAG_LIMIT:
        reject("T1", "file", f"{xml.count(b'<')} tags, at most {TAG_LIMIT}")
    try:
        root = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except ParseError as error:
        line, column = error.position
        reject("T2", f"line {line}, column {column}", f"not well-formed XML: {error}")
    except DefusedXmlException as error:
        reject("T2", "file", f"document type, entity or external reference: {error}")
    except (ValueError, LookupError) as error:
        reject("T2", "file", f"encoding: {error}")
    # A business message envelope (AppHdr beside Document) is common, so Document need not be the root.
    documents = [node for node in root.iter() if node.tag.rpartition("}")[2] == "Document"]
    if len(documents) != 1:
        reject("T3", "file", f"{len(documents)} Document elements, the root is {root.tag[:80]!r}")
    namespace = documents[0].tag[1:].partition("}")[0]
    match = _NAMESPACE.fullmatch(namespace)
    if match is None:
        reject("T3", "namespace", f"{namespace[:80]!r} is not camt.053.001 or camt.054.001, version 02 to 14")
    for node in documents[0].iter():
        node.tag = node.tag.removeprefix(f"{{{namespace}}}")
    message, part = {"053": ("BkToCstmrStmt", "Stmt"), "054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn")}[match[1]]
    body = _one(documents[0], message, "Document")
    if body is None:
        reject("T4", "Document", f"{message} is missing")
    parts = body.findall(part)
    if not parts:
        reject("T4", message, f"{part} is missing")
    return match[1], _needed(body, "GrpHdr/MsgId", message), parts


def _one(node: Element, path: str, where: str) -> Element | None:
    found = node.findall(path)
    if len(found) > 1:
        reject("T4", where, f"{len(found)} times {path}, 1 is allowed")
    return found[0] if found else None


def _text(node: Element, path: str, where: str) -> str | None:
    found = _one(node, path, where)
    return None if found is None else (found.text or "").strip() or None


def _needed(node: Element, path: str, where: str) -> str:
    text = _text(node, path, where)
    if text is None:
        reject("T4", where, f"{path} is missing")
    return text


def _word(node: Element, path: str, where: str, words: dict[str, bool], absent: bool | None = None) -> bool:
    text = _text(node, path, where)
    if text is None and absent is not None:
        return absent
    if text not in words:
        reject("T8", f"{where}, {path}", f"{text!r} is not one of {', '.join(words)}")
    return words[text]


_DIRECTIONS = {"CRDT": True, "DBIT": False}
# INFO and FUTR are no money yet, as PDNG is.
_STATUSES = {"BOOK": True, "PDNG": False, "INFO": False, "FUTR": False}
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def _amount(node: Element, path: str, where: str) -> int:
    """Read an amount in tiyn (T6, T7); the currency is the attribute Ccy."""
    text = _needed(node, path, where)
    found = _one(node, path, where)
    currency = None if found is None else found.get("Ccy")
    if currency != "KZT":
        reject("T7", f"{where}, {path}", f"the currency is {currency!r}, only KZT is taken")
    match = _AMOUNT.fullmatch(text)
    if match is None or len(text) > 19 or len(match[2] or "") > 2:
        reject("T6", f"{where}, {path}", f"{text[:40]!r} is not a number with a point and at most 2 decimals")
    return int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))


def _date(node: Element, path: str, where: str) -> date | None:
    """Read a day; an instant with a zone becomes its day in Almaty (T9)."""
    day, instant = _text(node, f"{path}/Dt", where), _text(node, f"{path}/DtTm", where)
    found = None
    try:
        if day is not None and (match := _DATE.fullmatch(day)):
            found = date.fromisoformat(match[1])
        elif instant is not None and _DATE_TIME.fullmatch(instant):
            moment = datetime.fromisoformat(instant)
            found = moment.date() if moment.tzinfo is None else business_date(int(moment.timestamp()))
    except (ValueError, OverflowError):
        found = None
    if found is None and (day or instant):
        reject("T9", f"{where}, {path}", f"{(day or instant or '')[:40]!r} is not a day of the calendar")
    return found


# --- entries ---


def _read_entries(
    body: Element,
    where: str,
    accounts: Collection[str] | None,
    message_id: str,
    digest: str,
    first_index: int,
) -> list[Credit]:
    account = _needed(body, "Acct/Id/IBAN", where)
    check_iban(account, f"{where}, account")
    if accounts is not None and account not in accounts:
        why = f"the account ending in {account[-4:]} is none of our {len(accounts)}"
        reject("T5", f"{where}, account", why)
    found: list[Credit] = []
    for number, entry in enumerate(body.findall("Ntry"), 1):
        place = f"{where}, entry {number}"
        found += _read_entry(entry, place, account, message_id, digest, first_index + len(found))
    return found


def _read_entry(
    entry: Element, where: str, account: str, message_id: str, digest: str, first_index: int
) -> list[Credit]:
    """Read one entry: one Credit for each transaction, or one for all where none is listed (T10)."""
    amount = _amount(entry, "Amt", where)
    credit = _word(entry, "CdtDbtInd", where, _DIRECTIONS)
    # Up to version 06 the status is a word, from 07 on a choice.
    status = "Sts/Cd" if entry.find("Sts/Cd") is not None else "Sts"
    entry_reference = _reference(entry, "AcctSvcrRef", where)
    details = entry.findall("NtryDtls/TxDtls")
    movements = []
    for number, detail in enumerate(details or [entry], 1):
        place = f"{where}, transaction {number}" if details else where
        alone = len(details) <= 1
        own = _reference(detail, "Refs/AcctSvcrRef", place)
        # The entry's reference is the one that both kinds of file carry, so for a single transaction it comes
        # first.
        shared = None if entry_reference is None else f"{entry_reference}#{number}"
        movements.append(
            Credit(
                account_iban=account,
                amount_tiyn=_detail_amount(detail, place, amount if alone else None, is_entry=not details),
                currency="KZT",
                credit=credit if not details else _word(detail, "CdtDbtInd", place, _DIRECTIONS, credit),
                booked=_word(entry, status, where, _STATUSES),
                reversal=_word(entry, "RvslInd", where, _TRUTHS, absent=False),
                booking_date=_date(entry, "BookgDt", where),
                value_date=_date(entry, "ValDt", where),
                entry_reference=entry_reference or _text(entry, "NtryRef", where),
                servicer_reference=(entry_reference or own) if alone else (own or shared),
                end_to_end_id=_reference(detail, "Refs/EndToEndId", place),
                remittance=_remittance(detail),
                debtor_name=_name(detail, "Dbtr", place),
                ultimate_debtor_name=_name(detail, "UltmtDbtr", place),
                debtor_iban=_text(detail, "RltdPties/DbtrAcct/Id/IBAN", place),
                transactions=1 if details else _batch_size(entry, where),
                index=first_index + number - 1,
                message_id=message_id,
                sha256=digest,
                creditor_iban=_text(detail, "RltdPties/CdtrAcct/Id/IBAN", place),
                return_reason=_return_reason(detail, place),
            )
        )
    total, expected = sum(movement.signed_tiyn for movement in movements), amount if credit else -amount
    if total != expected:
        reject("T10", where, f"its {len(movements)} transactions make {total} tiyn, the entry is {expected}")
    return movements


def _detail_amount(detail: Element, where: str, entry_amount: int | None, *, is_entry: bool) -> int:
    if is_entry or detail.find("Amt") is not None:
        return _amount(detail, "Amt", where)
    if entry_amount is not None:
        return entry_amount
    # Version 02 has no Amt on a transaction.
    return _amount(detail, "AmtDtls/TxAmt/Amt", where)


def _reference(node: Element, path: str, where: str) -> str | None:
    text = _text(node, path, where)
    return None if text is None or text.upper() in _NO_REFERENCE else text


def _remittance(detail: Element) -> str:
    """Join the free text and the structured references; a bank may cut one reference over two lines."""
    nodes = detail.findall("RmtInf/Ustrd") + detail.findall("RmtInf/Strd/CdtrRefInf/Ref")
    return " ".join(text for node in nodes if (text := (node.text or "").strip()))


def _return_reason(detail: Element, where: str) -> str | None:
    """The bank's code for why money comes back; what it adds in words may be personal."""
    if detail.find("RtrInf") is None:
        return None
    told = _text(detail, "RtrInf/Rsn/Cd", where) or _text(detail, "RtrInf/Rsn/Prtry", where)
    return told if told and re.fullmatch(r"[0-9A-Za-z]{1,35}", told) else "no reason told"


def _name(detail: Element, role: str, where: str) -> str | None:
    # Up to version 06 a party is named directly, from 07 on a party or an agent is chosen.
    return _text(detail, f"RltdPties/{role}/Pty/Nm", where) or _text(detail, f"RltdPties/{role}/Nm", where)


def _batch_size(entry: Element, where: str) -> int:
    counts = [(node.text or "").strip() for node in entry.findall("NtryDtls/Btch/NbOfTxs")]
    for count in counts:
        if not re.fullmatch(r"[0-9]{1,15}", count):
            reject("T4", where, f"NbOfTxs is {count[:40]!r}, not a number")
    return max(1, sum(map(int, counts)))


def _check_references(found: list[Credit]) -> None:
    """Refuse a file in which one reference stands for two credits (T11).

    Counted as one they may lose money, counted as two they may make it.
    """
    seen: dict[tuple[str, bool], int] = {}
    for movement in found:
        if not movement.credit:
            continue
        before = seen.setdefault((movement.identity, movement.booked), movement.index)
        if before != movement.index:
            where = f"reference {movement.servicer_reference}"
            reject("T11", where, f"used by movement {before} and by movement {movement.index}")


def _read_balances(statement: Element, where: str) -> tuple[tuple[int, date], tuple[int, date]]:
    """Read opening and closing booked balance; the pages of one day meet at interim balances."""
    found: dict[str, list[tuple[int, date]]] = {}
    for number, balance in enumerate(statement.findall("Bal"), 1):
        place = f"{where}, balance {number}"
        code = _text(balance, "Tp/CdOrPrtry/Cd", place)
        if code not in {"OPBD", "PRCD", "ITBD", "CLBD"}:
            continue  # Available and forward balances are the bank's forecast.
        amount = _amount(balance, "Amt", place)
        day = _date(balance, "Dt", place)
        if day is None:
            reject("T4", place, "Dt is missing")
        signed = amount if _word(balance, "CdtDbtInd", place, _DIRECTIONS) else -amount
        if code != "ITBD" and code in found:
            reject("T4", place, f"2 balances {code}, 1 is allowed")
        found.setdefault(code, []).append((signed, day))
    interim = found.get("ITBD", [])
    opening = found.get("OPBD") or found.get("PRCD") or interim[:1]
    closing = found.get("CLBD") or interim[-1:]
    # One interim balance alone cannot be both ends.
    alone = len(interim) == 1 and len(found) == 1
    if not opening or not closing or alone:
        codes = ", ".join(sorted(found)) or "none"
        reject("T4", where, f"an opening and a closing balance are needed, found {codes}")
    return opening[0], closing[0]
