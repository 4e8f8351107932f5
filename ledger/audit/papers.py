"""The papers of payees against the ledger: is one of them the republic under another name (LEAKS 07)?

An Account has hashes; IBAN, BIN and the code of expenditure are in the clear only with who proposes a payee,
who signs for it, and the auditor who is given its papers. All three ask here. No message repeats an IBAN or
a BIN, so that a verdict can be published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ledger import rules
from ledger.audit.replay import Replayed
from ledger.audit.source import MOST_BYTES
from ledger.audit.trust import check_depth
from ledger.audit.verdict import Findings
from ledger.records import Account, Invalid, Unavailable, address_word, reject

# The bank code, digits 5 to 7 of an IBAN, of KKMFKZ2A: the Treasury of the republic.
TREASURY_BANK_CODE: Final = "070"
# The functional group of expenditure that is transfers to other budgets (Unified Budget Classification).
TRANSFERS_GROUP: Final = "15"
STATE_BODIES: Final = Path(__file__).parent / "state_bodies.json"
_IBAN = re.compile(r"KZ[0-9]{5}[0-9A-Z]{13}")
_BIN = re.compile(r"[0-9]{12}")
_GROUP = re.compile(r"0[1-9]|1[0-9]")
_MEMBERS = {"account", "iban", "address", "bin", "salt", "group"}


@dataclass(frozen=True)
class Paper:
    """What is known of one payee in the clear. group: two digits, by which the expenditure is booked.

    account: its name on the ledger. Either iban or address (20 bytes) is given; salt: 32 bytes.
    """

    account: str
    iban: str | None
    address: bytes | None
    bin: str
    salt: bytes
    group: str

    @property
    def owner(self) -> bytes:
        """What the Account has as its owner."""
        if self.address is not None:
            return address_word(self.address)
        assert self.iban is not None
        return sha256(b"iban:" + self.iban.encode()).digest()

    @property
    def party(self) -> bytes:
        """What the Account has as its party: SHA-256(salt || BIN)."""
        return sha256(self.salt + self.bin.encode()).digest()


@dataclass(frozen=True)
class StateBody:
    """A body of the republic; `to` is the first day on which it is none any more."""

    name: str
    source: str
    valid_from: date
    valid_to: date | None


@dataclass(frozen=True)
class StateBodies:
    """The list by BIN, and of which day it is."""

    as_of: date
    by_bin: Mapping[str, StateBody]


# --- reading ----------------------------------------------------------------------------


def read_papers(path: str | Path) -> dict[str, Paper]:
    """Read {"payees": [{"account", "iban" or "address", "bin", "salt", "group"}]}; by account (U1)."""
    told = _json(path)
    listed = told.get("payees")
    if set(told) != {"payees"} or not isinstance(listed, list):
        reject("U1", str(path), f"has {', '.join(sorted(told))[:80] or 'nothing'}, not a list `payees`")
    found: dict[str, Paper] = {}
    for number, one in enumerate(listed):
        paper = _paper(one, f"{path} payee {number}")
        if paper.account in found:
            reject("U1", f"{path} payee {number}", f"{paper.account} has papers already")
        found[paper.account] = paper
    return found


def write_papers(path: Path, papers: Iterable[Paper]) -> None:
    """Write the file that `read_papers` reads."""
    listed = []
    for one in papers:
        place = {"iban": one.iban} if one.address is None else {"address": f"0x{one.address.hex()}"}
        told = {"account": one.account, "bin": one.bin, "salt": f"0x{one.salt.hex()}", "group": one.group}
        listed.append({**told, **place})
    path.write_text(json.dumps({"payees": listed}, indent=1) + "\n", encoding="utf-8")


def read_state_bodies(path: str | Path = STATE_BODIES) -> StateBodies:
    """Read {"asOf", "bodies": [{"bin", "name", "source", "from", "to" or null}]} (U3)."""
    told = _json(path)
    listed = told.get("bodies")
    if not isinstance(listed, list):
        reject("U3", str(path), "has no list `bodies`")
    found = {}
    for number, one in enumerate(listed):
        where = f"{path} body {number}"
        texts = [one.get(name) if isinstance(one, dict) else None for name in ("bin", "name", "source")]
        if not all(isinstance(text, str) and text for text in texts) or not _BIN.fullmatch(str(texts[0])):
            reject("U3", where, "needs a BIN of 12 digits, a name and a source")
        bin, name, source = map(str, texts)
        ends = one.get("to")
        found[bin] = StateBody(
            name, source, _day(one.get("from"), where), None if ends is None else _day(ends, where)
        )
    return StateBodies(_day(told.get("asOf"), str(path)), found)


def _json(path: str | Path) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(MOST_BYTES)
        check_depth("U1", str(path), data)
        told = json.loads(data)
    except OSError as error:
        raise Unavailable("papers", f"{path} cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, Invalid):
            raise
        reject("U1", str(path), f"is no JSON: {error}")
    if not isinstance(told, dict):
        reject("U1", str(path), f"holds no object but {type(told).__name__}")
    return told


def _day(text: object, where: str) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        reject("U3", where, f"{str(text)[:40]!r} is no date")


def _paper(one: object, where: str) -> Paper:
    if not isinstance(one, dict) or set(one) - _MEMBERS or not all(isinstance(v, str) for v in one.values()):
        reject("U1", where, f"has texts under {', '.join(sorted(_MEMBERS))} and nothing else")
    iban, address = one.get("iban"), one.get("address")
    if (iban is None) == (address is None):
        reject("U1", where, "has an iban or an address, and not both")
    if iban is not None and not _IBAN.fullmatch(iban):
        reject("U1", where, f"the iban has {len(iban)} characters and is not KZ, 5 digits and 13 more")
    if not _BIN.fullmatch(one.get("bin", "")):
        reject("U1", where, f"the bin has {len(one.get('bin', ''))} characters, 12 digits are needed")
    if not _GROUP.fullmatch(one.get("group", "")):
        reject(
            "U4", where, f"the group of expenditure is {one.get('group', '')[:10]!r}, from 01 to 19 is known"
        )
    if not one.get("account"):
        reject("U1", where, "names no account")
    return Paper(
        one["account"],
        iban,
        None if address is None else _hex(address, 20, where),
        one["bin"],
        _hex(one.get("salt", ""), 32, where),
        one["group"],
    )


def _hex(text: str, size: int, where: str) -> bytes:
    try:
        found = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != size:
        reject("U1", where, f"{size} bytes as hex are needed, {len(found)} are given")
    return found


# --- judging ----------------------------------------------------------------------------


def breaches(paper: Paper, account: Account | None, bodies: StateBodies, day: date) -> Iterator[Invalid]:
    """What stands against a payee (U1 to U4); account None: what it has on record is not at hand.

    day: on which it is judged; a state body of a later day counts too.
    """
    where = f"payee {paper.account}"
    if account is not None and account.owner != paper.owner:
        hashes = f"0x{paper.owner.hex()}, the owner on record is 0x{account.owner.hex()}"
        yield Invalid("U1", where, f"its papers' account hashes to {hashes}")
    if account is not None and account.party != paper.party:
        hashes = f"0x{paper.party.hex()}, the party on record is 0x{account.party.hex()}"
        yield Invalid("U1", where, f"its papers' BIN and salt hash to {hashes}")
    if paper.iban is not None and paper.iban[4:7] == TREASURY_BANK_CODE:
        why = f"its account is at bank {paper.iban[4:7]}, and {TREASURY_BANK_CODE} is the republic's Treasury"
        yield Invalid("U2", where, why)
    body = bodies.by_bin.get(paper.bin)
    if body is not None and (body.valid_to is None or day < body.valid_to):
        since = f"a state body since {body.valid_from}"
        why = f"on {day} its BIN is that of {since}: {body.name} ({body.source})"
        yield Invalid("U3", where, why)
    if paper.group == TRANSFERS_GROUP:
        why = f"its expenditure is of group {paper.group}; {TRANSFERS_GROUP} is transfers to other budgets"
        yield Invalid("U4", where, why)


def check_payee(account: Account, papers: Mapping[str, Paper] | None, bodies: StateBodies, now: int) -> None:
    """Refuse a payee without papers, or whose papers say that it is the republic (U1 to U4)."""
    paper = (papers or {}).get(account.account)
    if paper is None:
        known = len(papers or {})
        reject(
            "U1", f"payee {account.account}", f"has no papers; {known} others have, and each payee needs them"
        )
    for breach in breaches(paper, account, bodies, _day_of(now)):
        raise breach


def check_papers(path: str, bodies: StateBodies, done: Replayed, findings: Findings) -> None:
    """Compare the papers that an auditor was given with the payees in effect (U1 to U4).

    Who is registered as the republic, under whatever name, is kept waiting by G7 and is no finding.
    """
    state, seen = done.state, 0
    papers = read_papers(path)
    committed: dict[str, int] = {}
    for commitment in state.commitments.values():
        record = commitment.record
        committed[record.payee] = committed.get(record.payee, 0) + record.amount
    for name, paper in sorted(papers.items()):
        known = state.accounts.get(name)
        if known is None or known.record.kind not in {rules.PAYEE, rules.REPUBLIC}:
            findings.add("U1", f"payee {name}", f"no payee in effect has this name, {path} has papers of it")
            continue
        seen += 1
        account = known.record
        is_known = state.owners.get(account.owner, "").startswith(rules.REPUBLIC)
        for breach in breaches(paper, account, bodies, _day_of(account.time)):
            if breach.rule == "U1" or not is_known:
                amount = committed.get(name)
                findings.add(breach.rule, breach.where, breach.why, amount=amount, asset=account.asset)
    payees = sum(account.record.kind == rules.PAYEE for account in state.accounts.values())
    count = f"{len(bodies.by_bin)} state bodies of {bodies.as_of}"
    findings.say(f"papers of {seen} of {payees} payees were compared with the ledger, and with {count}")


def _day_of(time_s: int) -> date:
    return datetime.fromtimestamp(time_s + rules.ALMATY_OFFSET_S, tz=UTC).date()
