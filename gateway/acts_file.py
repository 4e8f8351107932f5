"""Files of acts: records in rounds, as people write them, with placeholders for what they cannot know.

What the deployment decides is filled in when the file is read. What the ledger decides, such as the hash of a
project that an earlier round proposes, is filled in when the round's turn comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from gateway.budget.typed_data import BY_NAME, read_record_json
from gateway.plan import Plan
from ledger import rules
from ledger.audit.papers import check_payee, read_papers, read_state_bodies
from ledger.records import (
    RULE_FILES,
    WORD,
    ZERO_HASH,
    Account,
    Genesis,
    Invalid,
    Record,
    Unavailable,
    address_word,
    encode,
    encode_name,
    hash_struct,
    member_name,
    reject,
    rules_hash,
)


@dataclass(frozen=True)
class Reference:
    """A hash in a record that the ledger decides: of what it is, and that thing's name."""

    attribute: str
    what: str
    name: str

    @property
    def is_newest(self) -> bool:
        """Whether it stands for what is newest when the record is proposed: another thing later."""
        return self.what in {"rate", "state"}


@dataclass(frozen=True)
class Planned:
    """A record that is to be, and where the files say so; what references name is zero until resolved()."""

    where: str
    record: Record
    references: tuple[Reference, ...] = ()

    def resolved(self, state: rules.State) -> Planned:
        """The same with all that it refers to; Invalid where that is not in effect."""
        found: dict[str, Any] = {one.attribute: _named(state, one, self.where) for one in self.references}
        return replace(self, record=replace(self.record, **found)) if found else self

    def content(self) -> bytes:
        """What it says, whenever it is recorded and whatever is newest then."""
        newest: dict[str, Any] = dict.fromkeys(self._newest, ZERO_HASH)
        return encode(replace(self.record, time=0, **newest))

    def is_said_by(self, record: Record) -> bool:
        """Whether a record says this, whenever it was recorded and whatever was newest then."""
        aside = {"time", *self._newest}
        return type(record) is type(self.record) and all(
            name in aside or getattr(record, name) == getattr(self.record, name)
            for name, _, _ in record.members
        )

    @property
    def _newest(self) -> list[str]:
        return [one.attribute for one in self.references if one.is_newest]


def find(state: rules.State, planned: Planned) -> rules.Proposal | None:
    """The proposal that says this, whenever it was recorded; of several the one that is in effect."""
    found = [one for one in state.proposals.values() if planned.is_said_by(one.record)]
    return min(found, key=lambda one: one.effective_s is None, default=None)


def read_rounds(told: object, path: Path, plan: Plan, *, has_references: bool = False) -> list[list[Planned]]:
    """Read [[record, ...], ...]: each as `qazyna show` prints it, without its time.

    Instead of a value that the deployment decides, @rules, @treasury, @chainId, @iban, @token:ASSET or
    @code:CODE; {"record": "Contracts", "act": ...} stands for the Contract records of all that was deployed.
    has_references: for a hash that the ledger decides also @project:NAME, @allocation:NAME,
    @commitment:NAME, @milestone:NAME, @certificate:MILESTONE, @rate:ASSET (the newest), @state (now).
    """
    if not isinstance(told, list):
        reject("acts", f"{path} rounds", f"is no list of rounds but {type(told).__name__}")
    known = _known(plan)
    rounds = []
    for number, round_ in enumerate(told, 1):
        where = f"{path} round {number}"
        if not isinstance(round_, list) or not round_:
            reject("acts", where, "is no list of records")
        planned: list[Planned] = []
        for place, one in enumerate(round_, 1):
            planned += _planned(one, f"{where} record {place}", plan, known, has_references)
        rounds.append(planned)
    return rounds


def check_payees(rounds: Sequence[Sequence[Planned]], papers: Path | None, bodies: Path, now: int) -> None:
    """Refuse a payee without papers, or whose papers say that it is the republic (U1 to U4, LEAKS 07)."""
    payees = [
        (one.where, one.record)
        for round_ in rounds
        for one in round_
        if isinstance(one.record, Account) and one.record.kind == rules.PAYEE
    ]
    if not payees:
        return
    known = {} if papers is None else read_papers(papers)
    listed = read_state_bodies(bodies)
    for where, payee in payees:
        try:
            check_payee(payee, known, listed, now)
        except Invalid as refused:
            reject(refused.rule, where, f"{refused.where}: {refused.why}")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        told = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, Invalid):
            raise
        reject("acts", str(path), f"is no JSON: {error}")
    if not isinstance(told, dict):
        reject("acts", str(path), f"holds no object but {type(told).__name__}")
    return told


def read_text(path: Path) -> str:
    """The text in a file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Unavailable("file", f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        reject("acts", str(path), f"is no text: {error}")


def read_hash(value: object, where: str) -> bytes:
    """A hash of 32 bytes, as hex."""
    try:
        found = bytes.fromhex(str(value).removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != WORD:
        reject("acts", where, f"{str(value)[:80]!r} is no hash of {WORD} bytes")
    return found


# --- placeholders -----------------------------------------------------------------------


def _planned(
    one: object, where: str, plan: Plan, known: dict[str, str], has_references: bool
) -> list[Planned]:
    if not isinstance(one, dict):
        reject("acts", where, f"is no record but {type(one).__name__}")
    references = _references(one) if has_references else ()
    named = {member_name(each.attribute) for each in references}
    filled = {
        name: f"0x{ZERO_HASH.hex()}" if name in named else _filled(value, f"{where}.{name}", known)
        for name, value in one.items()
    }
    if one.get("record") == "Contracts":
        act = read_hash(filled.get("act"), f"{where}.act")
        return [Planned(where, record) for record in plan.deployment.contract_records(0, act)]
    record = read_record_json({"time": "0", **filled}, where)
    if record.time:
        reject("acts", where, f"states time {record.time}; the writer sets it, so leave it out or say 0")
    if type(record) not in rules.AUTHOR or isinstance(record, Genesis):
        reject("acts", where, f"a {type(record).__name__} is no act that is approved after the Genesis")
    return [Planned(where, record, references)]


def _references(told: Mapping[str, object]) -> tuple[Reference, ...]:
    """The hashes of a record that are to be looked up in the ledger."""
    kind = BY_NAME.get(str(told.get("record")))
    found = []
    for attribute, solidity, _ in () if kind is None else kind.members:
        what, _, name = str(told.get(member_name(attribute))).partition(":")
        if solidity == "bytes32" and what.startswith("@") and what[1:] in _LOOKED_UP:
            found.append(Reference(attribute, what[1:], name))
    return tuple(found)


def _known(plan: Plan) -> dict[str, str]:
    """What a file may leave to the deployment."""
    package = files("ledger")
    own = rules_hash([package.joinpath(name).read_bytes() for name in RULE_FILES])
    deployment = plan.deployment
    return {
        "@rules": f"0x{own.hex()}",
        "@treasury": f"0x{address_word(deployment.treasury).hex()}",
        "@chainId": str(deployment.chain_id),
        "@iban": f"0x{sha256(b'iban:' + plan.bank_iban.encode()).hexdigest()}",
        **{f"@token:{asset}": f"0x{token.hex()}" for token, asset in plan.tokens.items()},
    }


def _filled(value: object, where: str, known: dict[str, str]) -> object:
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value.startswith("@code:"):
        return f"0x{encode_name(value.removeprefix('@code:')).hex()}"
    if value not in known:
        reject("acts", where, f"{value[:60]!r} is none of {', '.join(known)}, @code:CODE")
    return known[value]


# --- what the ledger decides ------------------------------------------------------------


def _named(state: rules.State, reference: Reference, where: str) -> bytes:
    found = _LOOKED_UP[reference.what](state, reference.name)
    if found is None:
        what = f"{reference.what} {reference.name[:40]!a}"
        place = f"{where}.{member_name(reference.attribute)}"
        reject("acts", place, f"no {what} is in effect in this ledger of {state.size} records")
    return found


def _milestone(state: rules.State, name: str) -> bytes | None:
    return next((key for key, one in state.milestones.items() if one.record.milestone == name), None)


def _certificate(state: rules.State, milestone: str) -> bytes | None:
    named = _milestone(state, milestone)
    return None if named is None else state.milestones[named].certificate


def _rate(state: rules.State, asset: str) -> bytes | None:
    rate = state.last_rate.get(asset)
    return None if rate is None else hash_struct(rate)


# Names are given once to what is in effect (N1), so that each of these is one thing or none.
_LOOKED_UP: dict[str, Callable[[rules.State, str], bytes | None]] = {
    "project": lambda state, name: state.project_hashes.get(name),
    "allocation": lambda state, name: next(
        (key for key, one in state.allocations.items() if one.record.allocation == name), None
    ),
    "commitment": lambda state, name: next(
        (key for key, one in state.commitments.items() if one.record.commitment == name), None
    ),
    "milestone": _milestone,
    "certificate": _certificate,
    "rate": _rate,
    "state": lambda state, _: rules.state_hash(state),
}
