"""A bank for the demo and the tests: transfers come in, camt.054 and camt.053 files go out.

It speaks only the real interface, files, and it can misbehave as real banks do. It is no part of a live
gateway.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from gateway.kz import iban_check_digits

_ALMATY = ZoneInfo("Asia/Almaty")


class Misbehaviour(Enum):
    """What a bank, or a payer, does wrong."""

    SAME_FILE_TWICE = auto()
    TRUNCATED_FILE = auto()
    HTML_ERROR_PAGE = auto()
    COMMA_IN_AMOUNTS = auto()
    ANOTHER_ACCOUNT = auto()
    WRONG_REFERENCE = auto()
    NO_SERVICER_REFERENCE = auto()
    WRONG_CLOSING_BALANCE = auto()


@dataclass(frozen=True)
class Transfer:
    """What a payer writes on one transfer."""

    amount_tiyn: int
    remittance: str = ""
    payer_name: str | None = None
    payer_iban: str | None = None
    end_to_end_id: str | None = None
    actual_payer_name: str | None = None
    structured_reference: str | None = None
    payee_iban: str | None = None
    return_reason: str | None = None


@dataclass(frozen=True)
class _Entry:
    account: str
    reference: str
    transfers: tuple[Transfer, ...]
    time_s: int
    credit: bool = True
    booked: bool = True
    reversal: bool = False

    @property
    def amount_tiyn(self) -> int:
        return sum(transfer.amount_tiyn for transfer in self.transfers)

    @property
    def signed_tiyn(self) -> int:
        return self.amount_tiyn if self.credit else -self.amount_tiyn


@dataclass
class Bank:
    """A bank with accounts, a day, and files to collect.

    clock gives Unix seconds; version is that of camt.053 and camt.054, 2 to 14.
    """

    clock: Callable[[], int]
    code: str = "722"
    version: int = 8
    misbehaves: set[Misbehaviour] = field(default_factory=set)
    _opening: dict[str, int] = field(default_factory=dict)
    _today: dict[str, list[_Entry]] = field(default_factory=dict)
    _pending: dict[str, _Entry] = field(default_factory=dict)
    _history: dict[str, _Entry] = field(default_factory=dict)
    _outbox: list[_Entry] = field(default_factory=list)
    _serial: int = 0

    # --- what customers and the bank's staff do ---

    def open_account(self, opening_tiyn: int = 0) -> str:
        """Open an account and give its IBAN."""
        account = f"{self.code}{self._next():013}"
        iban = f"KZ{iban_check_digits('KZ', account)}{account}"
        self._opening[iban] = opening_tiyn
        self._today[iban] = []
        return iban

    def adopt(self, iban: str, serial: int) -> None:
        """Go on with an account that another process opened; serial: above every reference given out."""
        self._opening.setdefault(iban, 0)
        self._today.setdefault(iban, [])
        self._serial = max(self._serial, serial)

    def receive(self, account: str, *transfers: Transfer) -> str:
        """Book incoming transfers as one entry, a batch where there are several; give its reference."""
        return self._book(self._new_entry(account, transfers))

    def announce(self, account: str, *transfers: Transfer) -> str:
        """Announce an incoming entry that is not booked yet (PDNG)."""
        entry = replace(self._new_entry(account, transfers), booked=False)
        self._pending[entry.reference] = entry
        self._outbox.append(entry)
        return entry.reference

    def confirm(self, reference: str) -> None:
        """Book what was announced, under the same reference."""
        self._book(replace(self._pending.pop(reference), booked=True, time_s=self.clock()))

    def reverse(self, reference: str) -> None:
        """Take a booked credit back, under the same reference."""
        self._book(replace(self._history[reference], credit=False, reversal=True, time_s=self.clock()))

    def give_back(self, reference: str, reason: str, amount_tiyn: int | None = None) -> None:
        """Take a booked debit back, under the same reference; less comes where a bank keeps its charge."""
        entry = self._history[reference]
        transfers = tuple(
            replace(one, return_reason=reason, amount_tiyn=amount_tiyn or one.amount_tiyn)
            for one in entry.transfers
        )
        back = replace(entry, credit=True, reversal=True, transfers=transfers, time_s=self.clock())
        self._book(back)

    def pay_out(self, account: str, transfer: Transfer) -> str:
        """Book an outgoing transfer, which is also how a bank charges its fee."""
        return self._book(replace(self._new_entry(account, (transfer,)), credit=False))

    def balance_tiyn(self, account: str) -> int:
        """Give the booked balance."""
        return self._opening[account] + sum(entry.signed_tiyn for entry in self._today[account])

    # --- what the gateway collects ---

    def collect(self) -> list[bytes]:
        """Hand out one camt.054 for each entry that was not handed out yet."""
        files = [self._spoil(self._notification(entry)) for entry in self._outbox]
        self._outbox.clear()
        if Misbehaviour.ANOTHER_ACCOUNT in self.misbehaves:
            stranger = self.open_account()
            files.append(self._notification(self._new_entry(stranger, (Transfer(100),))))
        return files * 2 if Misbehaviour.SAME_FILE_TWICE in self.misbehaves else files

    def end_day(self, account: str) -> bytes:
        """Close the day: a camt.053 with every booked entry since the last one."""
        opening, closing = self._opening[account], self.balance_tiyn(account)
        stated = closing + (Misbehaviour.WRONG_CLOSING_BALANCE in self.misbehaves)
        body = "".join(
            (
                self._balance("OPBD", opening),
                self._balance("CLBD", stated),
                *(self._entry(entry) for entry in self._today[account]),
            )
        )
        self._opening[account] = closing
        self._today[account] = []
        return self._spoil(self._document("053", "BkToCstmrStmt", "Stmt", account, body))

    # --- inside ---

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _new_entry(self, account: str, transfers: tuple[Transfer, ...]) -> _Entry:
        assert account in self._today, f"{account} is not an account here"
        if Misbehaviour.WRONG_REFERENCE in self.misbehaves:
            transfers = tuple(replace(t, remittance=_mistype(t.remittance)) for t in transfers)
        return _Entry(account, f"BANK{self._next():09}", transfers, self.clock())

    def _book(self, entry: _Entry) -> str:
        self._today[entry.account].append(entry)
        self._history[entry.reference] = entry
        self._outbox.append(entry)
        return entry.reference

    def _spoil(self, file: bytes) -> bytes:
        if Misbehaviour.HTML_ERROR_PAGE in self.misbehaves:
            return b"<!DOCTYPE html><html><head><title>502</title></head><body><p>Try later<br></body></html>"
        if Misbehaviour.TRUNCATED_FILE in self.misbehaves:
            return file[: len(file) * 2 // 3]
        if Misbehaviour.COMMA_IN_AMOUNTS in self.misbehaves:
            return re.sub(rb"(Ccy=\"KZT\">[0-9]+)\.", rb"\1,", file)
        return file

    def _notification(self, entry: _Entry) -> bytes:
        return self._document("054", "BkToCstmrDbtCdtNtfctn", "Ntfctn", entry.account, self._entry(entry))

    def _document(self, kind: str, message: str, part: str, account: str, body: str) -> bytes:
        number = self._next()
        created = _instant(self.clock())
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.{kind}.001.{self.version:02}"><{message}>'
            f"<GrpHdr><MsgId>{self.code}-{kind}-{number}</MsgId><CreDtTm>{created}</CreDtTm></GrpHdr>"
            f"<{part}><Id>{number}</Id><CreDtTm>{created}</CreDtTm>"
            f"<Acct><Id><IBAN>{account}</IBAN></Id><Ccy>KZT</Ccy></Acct>{body}</{part}></{message}></Document>\n"
        ).encode()

    def _balance(self, code: str, amount_tiyn: int) -> str:
        direction = "CRDT" if amount_tiyn >= 0 else "DBIT"
        return (
            f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>{_amount(abs(amount_tiyn))}"
            f"<CdtDbtInd>{direction}</CdtDbtInd><Dt><Dt>{_instant(self.clock())[:10]}</Dt></Dt></Bal>"
        )

    def _entry(self, entry: _Entry) -> str:
        status = "BOOK" if entry.booked else "PDNG"
        direction = "CRDT" if entry.credit else "DBIT"
        family = "RCDT" if entry.credit else "ICDT"
        reference = f"<AcctSvcrRef>{entry.reference}</AcctSvcrRef>"
        if Misbehaviour.NO_SERVICER_REFERENCE in self.misbehaves:
            reference = ""
        return "".join(
            (
                f"<Ntry><NtryRef>{entry.reference[-6:]}</NtryRef>{_amount(entry.amount_tiyn)}",
                f"<CdtDbtInd>{direction}</CdtDbtInd>",
                "<RvslInd>true</RvslInd>" if entry.reversal else "",
                f"<Sts><Cd>{status}</Cd></Sts>" if self.version >= 7 else f"<Sts>{status}</Sts>",
                f"<BookgDt><DtTm>{_instant(entry.time_s)}</DtTm></BookgDt>" if entry.booked else "",
                f"<ValDt><Dt>{_instant(entry.time_s)[:10]}</Dt></ValDt>{reference}",
                f"<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>{family}</Cd><SubFmlyCd>DMCT</SubFmlyCd></Fmly></Domn></BkTxCd>",
                "<NtryDtls>",
                *(self._transaction(transfer, direction) for transfer in entry.transfers),
                "</NtryDtls></Ntry>",
            )
        )

    def _transaction(self, transfer: Transfer, direction: str) -> str:
        amount = _amount(transfer.amount_tiyn)
        text = _without_controls(transfer.remittance)
        lines = [text[at : at + 140] for at in range(0, len(text), 140)]
        remittance = "".join(f"<Ustrd>{escape(line)}</Ustrd>" for line in lines)
        if transfer.structured_reference:
            reference = _clean(transfer.structured_reference)
            remittance += f"<Strd><CdtrRefInf><Ref>{reference}</Ref></CdtrRefInf></Strd>"
        parties = self._party("Dbtr", transfer.payer_name)
        if transfer.payer_iban:
            parties += f"<DbtrAcct><Id><IBAN>{transfer.payer_iban}</IBAN></Id></DbtrAcct>"
        parties += self._party("UltmtDbtr", transfer.actual_payer_name)
        if transfer.payee_iban:
            parties += f"<CdtrAcct><Id><IBAN>{transfer.payee_iban}</IBAN></Id></CdtrAcct>"
        back = ""
        if transfer.return_reason:
            back = f"<RtrInf><Rsn><Cd>{_clean(transfer.return_reason)}</Cd></Rsn></RtrInf>"
        end_to_end = _clean(transfer.end_to_end_id or "NOTPROVIDED")
        return "".join(
            (
                f"<TxDtls><Refs><EndToEndId>{end_to_end}</EndToEndId></Refs>",
                f"{amount}<CdtDbtInd>{direction}</CdtDbtInd>" if self.version >= 3 else "",
                f"<AmtDtls><TxAmt>{amount}</TxAmt></AmtDtls>",
                f"<RltdPties>{parties}</RltdPties>" if parties else "",
                f"<RmtInf>{remittance}</RmtInf>" if remittance else "",
                back,
                "</TxDtls>",
            )
        )

    def _party(self, role: str, name: str | None) -> str:
        if not name:
            return ""
        named = f"<Nm>{_clean(name)}</Nm>"
        return f"<{role}><Pty>{named}</Pty></{role}>" if self.version >= 7 else f"<{role}>{named}</{role}>"


def _amount(amount_tiyn: int) -> str:
    return f'<Amt Ccy="KZT">{amount_tiyn // 100}.{amount_tiyn % 100:02}</Amt>'


def _instant(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, _ALMATY).isoformat()


def _without_controls(text: str) -> str:
    """Drop the characters that XML cannot hold."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def _clean(text: str) -> str:
    return escape(_without_controls(text))


def _mistype(text: str) -> str:
    """Change the last digit of a text, as a payer does who copies by hand."""
    return re.sub(r"[0-9](?=[^0-9]*$)", lambda match: str((int(match[0]) + 1) % 10), text)
