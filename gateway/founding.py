"""The founding acts of a fresh ledger: proposed in rounds, signed by seats elsewhere, recorded once.

The first round is the Genesis with the seats and quorums that it binds, as `founding.json` has them and
the contracts were deployed with; the others are the Council's acts of `acts.json`, each of which may rest on
the ones before. A round is proposed when the last one is in effect. For each proposal a file says what
there is to sign; what `qazyna sign` prints of it is put into another folder, and read from there.
Every step is told apart by what the ledger already has, so that all of it can be asked for again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gateway.budget.typed_data import read_record_json, typed_data
from gateway.db import reading
from gateway.plan import Plan
from ledger import rules, store
from ledger.audit.papers import check_payee, read_papers, read_state_bodies
from ledger.records import (
    RULE_FILES,
    WORD,
    Account,
    Approval,
    Genesis,
    Invalid,
    Record,
    Unavailable,
    address_word,
    encode,
    encode_name,
    hash_struct,
    keccak256,
    reject,
    rules_hash,
)
from ledger.writer import Writer, submission_id

if TYPE_CHECKING:
    from contracts.deployment import Founding

SIGNED_DAYS = 60
Say = Callable[[str], None]


@dataclass(frozen=True)
class Planned:
    """A record that is to be, and where the files say so."""

    where: str
    record: Record


# --- what is planned --------------------------------------------------------------------


def read_acts(path: Path, plan: Plan) -> tuple[bytes, list[list[Planned]]]:
    """Read {"legalRef": "0x...", "rounds": [[record, ...], ...]}; returns legalRef and the rounds.

    A record is as `qazyna show` prints it, without its time. Instead of a value that the deployment
    decides, @rules, @treasury, @chainId, @iban, @token:ASSET or @code:CODE; {"record": "Contracts", "act":
    ...} stands for the Contract records of all that was deployed.
    """
    told = _object(path)
    if set(told) != {"legalRef", "rounds"} or not isinstance(told["rounds"], list):
        reject("found", str(path), f"has {', '.join(sorted(told)) or 'nothing'}, not legalRef and rounds")
    legal = _hash(told["legalRef"], f"{path} legalRef")
    known = _known(plan)
    rounds = []
    for number, round_ in enumerate(told["rounds"], 1):
        where = f"{path} round {number}"
        if not isinstance(round_, list) or not round_:
            reject("found", where, "is no list of records")
        planned: list[Planned] = []
        for place, one in enumerate(round_, 1):
            planned += _planned(one, f"{where} record {place}", plan, known)
        rounds.append(planned)
    return legal, rounds


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


def _planned(one: object, where: str, plan: Plan, known: dict[str, str]) -> list[Planned]:
    if not isinstance(one, dict):
        reject("found", where, f"is no record but {type(one).__name__}")
    filled = {name: _filled(value, f"{where}.{name}", known) for name, value in one.items()}
    if one.get("record") == "Contracts":
        act = _hash(filled.get("act"), f"{where}.act")
        return [Planned(where, record) for record in plan.deployment.contract_records(0, act)]
    record = read_record_json({"time": "0", **filled}, where)
    if record.time:
        reject("found", where, f"states time {record.time}; the writer sets it, so leave it out or say 0")
    if type(record) not in rules.AUTHOR or isinstance(record, Genesis):
        reject("found", where, f"a {type(record).__name__} is no act that is approved after the Genesis")
    return [Planned(where, record)]


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
        reject("found", where, f"{value[:60]!r} is none of {', '.join(known)}, @code:CODE")
    return known[value]


def first_round(founding: Founding, plan: Plan, legal: bytes) -> list[Planned]:
    """The Genesis and what it binds, at the second that the founding states."""
    deployment = plan.deployment
    if deployment.ledger != founding.ledger:
        ours, theirs = f"0x{founding.ledger.hex()}", f"0x{deployment.ledger.hex()}"
        reject("found", "ledger", f"founding.json is of ledger {ours}, plan.json of {theirs}")
    times = [record.time for record in founding.records]
    if len(set(times)) != 1:
        reject("found", "founding", f"its records are of {min(times, default=0)} to {max(times, default=0)}")
    bound = keccak256(b"".join(hash_struct(record) for record in founding.records))
    chain = deployment.chain_id, deployment.council, deployment.anchor
    genesis = Genesis(times[0], founding.ledger, founding.retention_end, *chain, legal, bound)
    planned = [Planned("Genesis", genesis)]
    return planned + [Planned(f"founding[{at}]", record) for at, record in enumerate(founding.records)]


# --- what is done about it --------------------------------------------------------------


@dataclass(frozen=True)
class Stand:
    """How far the founding has come: rounds in effect, and the proposals that wait for signatures."""

    rounds: int
    waiting: list[rules.Proposal]
    opened: bool


class Founder:
    """Brings the rounds into a ledger; the writer is in this process, or None to rehearse on a state."""

    def __init__(
        self, rounds: Sequence[Sequence[Planned]], folder: Path, say: Say, writer: Writer | None, now: int
    ) -> None:
        """folder: has `to-sign` and `signed`. rounds: the first is that of the Genesis."""
        self._rounds, self._folder, self._say, self._writer, self._now = rounds, folder, say, writer, now

    def go_on(self, state: rules.State) -> Stand:
        """Record signatures and propose rounds as far as the signatures go.

        Invalid before a batch is written, not after. Dies in between: what is recorded is found there again.

        state: the ledger's, and the writer's own where there is one.
        """
        first = self._rounds[0][0].record
        if state.genesis is not None and replace(state.genesis, time=first.time) != first:
            found, planned = (f"0x{hash_struct(one).hex()}" for one in (state.genesis, first))
            reject("found", "Genesis", f"this ledger has Genesis {found}, planned is {planned}")
        done = 0
        for number, round_ in enumerate(self._rounds):
            self._propose(state, number, round_)
            self._sign(state)
            if not all(self._is_in_effect(state, one) for one in round_):
                break
            done += 1
        return Stand(done, self._waiting(state), state.opened)

    def _propose(self, state: rules.State, number: int, round_: Sequence[Planned]) -> None:
        missing = [one for one in round_ if _find(state, one.record) is None]
        if not missing:
            return
        at = missing[0].record.time if number == 0 else self._now
        if number == 0 and not state.time <= at <= self._now:
            reject("found", "founding[0].time", f"{at} lies before {state.time} or after now, {self._now}")
        self._take(state, [(one.where, one.record) for one in missing], at)
        self._say(f"round {number}: {len(missing)} records proposed")

    def _sign(self, state: rules.State) -> None:
        given = []
        for where, approval in self._signatures():
            proposal = state.proposals.get(approval.approves)
            if proposal is None:
                known = len(self._waiting(state))
                reject("found", where, f"approves 0x{approval.approves.hex()}, none of {known} that wait")
            if proposal.effective_s is None and approval.signer not in proposal.approvals:
                given.append((where, approval))
        # More signatures than a quorum needs are no mistake: the first that come are taken.
        taken = 0
        for where, approval in given:
            if state.proposals[approval.approves].effective_s is None:
                self._take(state, [(where, approval)], self._now)
                taken += 1
        if taken:
            self._say(f"{taken} signatures recorded")

    def _take(self, state: rules.State, planned: Sequence[tuple[str, Record]], at: int) -> None:
        """Have records written, all of which the rules take: they are asked first, on a copy."""
        copy = rules.load(rules.dump(state))
        at = max(at, state.time)
        for where, record in planned:
            try:
                rules.apply(copy, encode(replace(record, time=at)))
            except Invalid as refused:
                reject(refused.rule, where, f"{refused.where}: {refused.why}")
        if self._writer is None:
            for _, record in planned:
                rules.apply(state, encode(replace(record, time=at)))
            return
        clock, self._writer.clock = self._writer.clock, lambda: at
        try:
            # All of them in one transaction and past the inbox, so that nothing waits there for a writer
            # that has another time: the Genesis binds the second of each founding record.
            ids = [submission_id(secrets.token_bytes(WORD)) for _ in planned]
            asked = [encode(replace(record, time=0)) for _, record in planned]
            self._writer.append(
                [store.Waiting(None, id, template) for id, template in zip(ids, asked, strict=True)]
            )
        finally:
            self._writer.clock = clock
        with reading(self._writer.engine) as connection:
            for id in ids:
                store.answer(connection, id)

    def _waiting(self, state: rules.State) -> list[rules.Proposal]:
        mine = {_content(one.record) for round_ in self._rounds for one in round_}
        return [
            proposal
            for proposal in state.proposals.values()
            if proposal.effective_s is None
            and _content(proposal.record) in mine
            and (state.opened or isinstance(proposal.record, Genesis))
        ]

    def _is_in_effect(self, state: rules.State, planned: Planned) -> bool:
        proposal = _find(state, planned.record)
        return proposal is not None and proposal.effective_s is not None and state.opened

    # --- files of signatures ------------------------------------------------------------

    def _signatures(self) -> list[tuple[str, Approval]]:
        """What `qazyna sign` printed, in the order of the files' names: the last JSON line of each."""
        folder = self._folder / "signed"
        found = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name.startswith("."):
                continue
            lines = [line for line in _text(path).splitlines() if line.strip().startswith("{")]
            if not lines:
                reject("found", str(path), "has no line of JSON, as `qazyna sign --key` prints it last")
            found.append((str(path), _approval(lines[-1], str(path))))
        return found

    def write_requests(self, state: rules.State, waiting: Sequence[rules.Proposal]) -> list[Path]:
        """A file of typed data for each proposal that waits; one that is there and in time stays as it is."""
        genesis = state.genesis
        assert genesis is not None
        folder, until = self._folder / "to-sign", self._now + SIGNED_DAYS * rules.DAY
        folder.mkdir(parents=True, exist_ok=True)
        domain = genesis.chain_id, genesis.council, genesis.ledger
        paths = []
        for proposal in waiting:
            digest = hash_struct(proposal.record).hex()
            path = folder / f"{proposal.index:06}-{type(proposal.record).__name__}-{digest[:16]}.json"
            known = _deadline(path)
            is_good = self._now < known <= until and _text(path) == _asked(proposal.record, known, *domain)
            if not is_good:
                path.write_text(_asked(proposal.record, until, *domain), encoding="utf-8")
            paths.append(path)
        return paths


def _asked(record: Record, until: int, chain_id: int, council: bytes, ledger: bytes) -> str:
    """What stands in a file that asks for a signature."""
    return json.dumps(typed_data(record, until, chain_id, council, ledger), indent=1) + "\n"


def _deadline(path: Path) -> int:
    """Until when a file that is there asks for a signature; 0 where none is, or it is something else."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["message"]["validUntil"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0


def _content(record: Record) -> bytes:
    return encode(replace(record, time=0))


def _find(state: rules.State, record: Record) -> rules.Proposal | None:
    """The proposal that says this, whenever it was recorded."""
    wanted = _content(record)
    return next(
        (one for one in state.proposals.values() if _content(one.record) == wanted),
        None,
    )


def _approval(line: str, where: str) -> Approval:
    try:
        told = json.loads(line)
        raw = [bytes.fromhex(told[name].removeprefix("0x")) for name in ("approves", "signer", "r", "s")]
        until, v = int(told["validUntil"]), int(told["v"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _no_signature(where, repr(error))
    approves, signer, r, s = raw
    approval = Approval(0, approves, signer, until, v, r, s)
    try:
        encode(approval)
    except Invalid as broken:
        _no_signature(where, str(broken))
    return approval


def _no_signature(where: str, why: str) -> NoReturn:
    reject("found", where, f"its last line of JSON is no signature that `qazyna sign` prints: {why[:200]}")


def _hash(value: object, where: str) -> bytes:
    try:
        found = bytes.fromhex(str(value).removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != WORD:
        reject("found", where, f"{str(value)[:80]!r} is no hash of {WORD} bytes")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Unavailable("file", f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        reject("found", str(path), f"is no text: {error}")


def _object(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, Invalid):
            raise
        reject("found", str(path), f"is no JSON: {error}")
    if not isinstance(told, dict):
        reject("found", str(path), f"holds no object but {type(told).__name__}")
    return told
