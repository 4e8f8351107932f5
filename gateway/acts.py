"""Acts of a founded city: proposed in rounds and signed by seats elsewhere, while a worker is the writer.

Nothing here writes a record. Proposals and signatures are asked for through the ledger's inbox, each under
an id that its content decides, so that what is asked for again, from another machine or after a death at any
line, is one and the same. What the rules would refuse is refused on a copy of the state before anything of
its round is asked for; the writer has the last word. A round is proposed when the one before is in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Final

from gateway.acts_file import Planned, find, read_object, read_rounds
from gateway.db import Engine, reading
from gateway.plan import Plan
from gateway.signing_folder import SigningFolder
from ledger import rules, store
from ledger.following import Follower
from ledger.lookup import Stored
from ledger.records import (
    Approval,
    Dispute,
    Invalid,
    KeyChange,
    Order,
    Parameter,
    Quorum,
    Record,
    Seat,
    Unavailable,
    encode,
    hash_struct,
    reject,
)
from ledger.writer import submission_id, submit

POLL_S: Final = 0.05
# Acts that count some time after their last signature (S5, S6, LEAKS 14).
_NOTICED = (Parameter, Seat, Quorum, KeyChange)


def read_acts(path: Path, plan: Plan) -> list[list[Planned]]:
    """Read {"rounds": [[record, ...], ...]}; no record may say what another one says already."""
    told = read_object(path)
    if set(told) != {"rounds"}:
        reject("acts", str(path), f"has {', '.join(sorted(told)) or 'nothing'}, not rounds alone")
    rounds = read_rounds(told["rounds"], path, plan, has_references=True)
    if not rounds:
        reject("acts", str(path), "has 0 rounds, at least 1 is needed")
    seen: dict[tuple[bytes, object], str] = {}
    for one in (one for round_ in rounds for one in round_):
        before = seen.setdefault((one.content(), one.references), one.where)
        if before != one.where:
            reject("acts", one.where, f"says what {before} says; an act is recorded once")
    return rounds


def state_of(engine: Engine, heads: Engine) -> Callable[[], rules.State]:
    """What gives the ledger's state after all records there are.

    One with a breach that no act acknowledges is followed, too: the act that does comes this way.
    """
    follower = Follower(engine, heads)
    try:
        follower.follow()
    except Invalid:
        follower = Follower(engine, broken=[])
    return follower.follow


# --- asking the writer ------------------------------------------------------------------


@dataclass
class Inbox:
    """Asks the writer, who is in another process, for records; and waits for what it says of them.

    wait_s: how long, in seconds of a steady clock, in all.
    """

    engine: Engine
    clock: Callable[[], int]
    wait_s: float
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.wait_s

    @property
    def is_over(self) -> bool:
        """Whether the time is over in which the writer was to answer."""
        return time.monotonic() >= self._until

    def ask(self, key: bytes, record: Record) -> bytes:
        """Ask for a record; returns the submission's id. The same key is one submission until it is refused.

        What was refused can be right later: then it is asked for under the key's next id. Whoever asks walks
        the same ids, so that of two who ask at once both come to the same.
        """
        for number in count():
            named = b"act %d " % number + key
            id = submission_id(named)
            try:
                with store.asking(), reading(self.engine) as connection:
                    known = store.answer(connection, id)
            except Invalid:
                continue
            if known is None:
                self._submit(named, record)
            return id
        raise AssertionError("there is always a next number")

    def _submit(self, named: bytes, record: Record) -> None:
        try:
            with store.asking(), self.engine.begin() as connection:
                submit(connection, record, self.clock(), named)
        except Invalid as refused:
            # Another asked for the same in the meantime, by another rate or with a later deadline.
            if refused.rule != "inbox":
                raise

    def answers(self, ids: Sequence[bytes]) -> list[Invalid | None]:
        """What the writer refused of them, each in its place; Unavailable if it does not answer in time."""
        refused: list[Invalid | None] = []
        for id in ids:
            while (answer := self._answer(id)) is None:
                if self.is_over:
                    why = "asked; no worker with the log's keys has recorded it yet, ask again"
                    raise Unavailable("ledger", f"{why} ({len(refused)} of {len(ids)} answered)")
                time.sleep(POLL_S)
            refused.append(answer if isinstance(answer, Invalid) else None)
        return refused

    def _answer(self, id: bytes) -> store.Recorded | Invalid | None:
        try:
            with store.asking(), reading(self.engine) as connection:
                return store.answer(connection, id)
        except Invalid as refused:
            return refused


# --- what is done about a file of acts --------------------------------------------------


@dataclass(frozen=True)
class Stand:
    """How far a file of acts has come.

    rounds: in effect; until_s: from when on, Unix time, what comes next may be proposed or, after the last
    round, all of it is in force; waiting, effective: proposals by place.
    """

    rounds: int
    until_s: int
    waiting: list[rules.Proposal]
    effective: list[rules.Proposal]


class Acts:
    """Brings the rounds of one file into a ledger, as far as signatures and notices let it."""

    def __init__(
        self,
        rounds: Sequence[Sequence[Planned]],
        folder: SigningFolder,
        say: Callable[[str], None],
        engine: Engine,
        follow: Callable[[], rules.State],
        inbox: Inbox | None,
        now: int,
    ) -> None:
        """follow: gives the state there is. inbox: without one nothing is asked for: it is a rehearsal."""
        self._rounds, self._folder, self._say = rounds, folder, say
        self._engine, self._follow, self._inbox, self._now = engine, follow, inbox, now
        self.state = follow()
        if inbox is None:
            self.state = self._copy()

    def go_on(self) -> Stand:
        """Ask for signatures and proposals to be recorded, as far as both go; wait for each answer.

        Invalid before anything of a round is asked for, or as the writer refuses it.
        """
        if not self.state.opened:
            found = self.state.size
            reject("acts", "ledger", f"of {found} records is not founded: `qazyna ledger found`")
        self._sign()
        done = until = 0
        for number, round_ in enumerate(self._rounds, 1):
            resolved = [one.resolved(self.state) for one in round_]
            missing = [one for one in resolved if find(self.state, one) is None]
            until = max([until, *(self._allowed_s(one.record) for one in missing)])
            # The worker's clock may be ahead of when this was asked, and its records are of then.
            if missing and max(self._now, self.state.time) < until:
                break
            if missing:
                self._propose(number, missing)
            proposals = [one for each in resolved if (one := find(self.state, each)) is not None]
            assert len(proposals) == len(resolved), "what was recorded is not there"
            if any(one.effective_s is None for one in proposals):
                break
            done, until = number, max(until, *(in_force_s(self.state, one) for one in proposals))
        proposals = list(self._proposals().values())
        waiting = [one for one in proposals if one.effective_s is None]
        return Stand(done, until, waiting, [one for one in proposals if one not in waiting])

    def _proposals(self) -> dict[bytes, rules.Proposal]:
        """What is proposed of the file, by hash and in its order."""
        found: dict[bytes, rules.Proposal] = {}
        for round_ in self._rounds:
            try:
                proposals = [find(self.state, one.resolved(self.state)) for one in round_]
            except Invalid:
                # It refers to what is not in effect: neither it nor what follows is proposed.
                break
            found |= {hash_struct(one.record): one for one in proposals if one is not None}
        return found

    def _allowed_s(self, record: Record) -> int:
        """From when on a record may be proposed, where a wait is all that it needs: a payee's (O9)."""
        payee = self.state.accounts.get(record.payee) if isinstance(record, Order) else None
        if payee is None:
            return 0
        return payee.effective_s + rules.parameter(self.state, "payee_wait", self._now)

    def _propose(self, number: int, missing: Sequence[Planned]) -> None:
        count = len(missing)
        while missing:
            copy = self._copy()
            for one in missing:
                self._judge(copy, one.where, one.record)
            try:
                self._record([(one.where, one.content(), one.record) for one in missing], copy)
            except Invalid as refused:
                # Something was recorded since a Close named the state: while there is time it names the next.
                if refused.rule != "Y1" or self._inbox is None or self._inbox.is_over:
                    raise
            missing = [one.resolved(self.state) for one in missing if find(self.state, one) is None]
        self._say(f"round {number}: {count} records proposed")

    def _sign(self) -> None:
        """Have signatures recorded; more than a quorum needs are no mistake, the first are taken."""
        given = list(self._given())
        if not given:
            return
        copy, asked = self._copy(), []
        for where, approval in given:
            if copy.proposals[approval.approves].effective_s is None:
                self._judge(copy, where, approval)
                asked.append((where, approval.approves + approval.signer, approval))
        self._record(asked, copy)
        self._say(f"{len(asked)} signatures recorded")

    def _given(self) -> Iterator[tuple[str, Approval]]:
        """Signatures that are not recorded, of proposals of this file that wait."""
        mine = self._proposals()
        seen: dict[tuple[bytes, bytes], str] = {}
        for where, approval in self._folder.signatures():
            proposal = mine.get(approval.approves)
            if proposal is None:
                named = f"0x{approval.approves.hex()}"
                reject("signed", where, f"approves {named}, none of the {len(mine)} proposals of this file")
            if proposal.effective_s is not None:
                continue
            before = seen.setdefault((approval.approves, approval.signer), where)
            if before != where:
                signer = f"0x{approval.signer.hex()}"
                reject("A5", where, f"{signer} has approved record {proposal.index} in {before}")
            if approval.signer not in proposal.approvals:
                yield where, approval

    # --- the rules first, then the writer -------------------------------------------------

    def _copy(self) -> rules.State:
        """A state of its own, which knows of the transfers that the database has."""
        copy = rules.load(rules.dump(self.state))
        copy.past = Stored(lambda: self._engine, copy, is_reader=True)
        return copy

    def _judge(self, copy: rules.State, where: str, record: Record) -> None:
        try:
            rules.apply(copy, encode(replace(record, time=max(self._now, copy.time))))
        except Invalid as refused:
            reject(refused.rule, where, f"{refused.where}: {refused.why}")

    def _record(self, asked: Sequence[tuple[str, bytes, Record]], copy: rules.State) -> None:
        """Have recorded what the copy took, (where, key, it) each; Invalid for the first that is refused."""
        if self._inbox is None:
            self.state = copy
            return
        ids = [self._inbox.ask(key, record) for _, key, record in asked]
        answers = self._inbox.answers(ids)
        self.state = self._follow()
        for (where, _, record), refused in zip(asked, answers, strict=True):
            if refused is not None and not self._is_done(record):
                reject(refused.rule, where, f"{refused.where}: {refused.why}")

    def _is_done(self, record: Record) -> bool:
        """Whether a signature was refused because others came first and were enough."""
        proposal = self.state.proposals.get(record.approves) if isinstance(record, Approval) else None
        return proposal is not None and proposal.effective_s is not None


def in_force_s(state: rules.State, proposal: rules.Proposal) -> int:
    """From when on a proposal that has its signatures counts, Unix time: some need notice first."""
    record, signed_s = proposal.record, proposal.effective_s
    assert signed_s is not None
    if not isinstance(record, _NOTICED):
        return signed_s
    start = signed_s + rules.NOTICE_S
    if isinstance(record, Quorum):
        return start
    start = max(record.valid_from, start)
    if isinstance(record, Seat) and all(start != begin for begin, _ in state.terms[record.holder]):
        # Called in by those whose terms are over, which takes longer (S7).
        return max(record.valid_from, signed_s + rules.RECOVERY_S)
    return start


def missing_signatures(
    state: rules.State, proposal: rules.Proposal, now: int
) -> Mapping[str, tuple[int, int]]:
    """How many signatures a proposal that waits has and needs at a second, by role."""
    record = proposal.record
    if isinstance(record, Dispute):
        return {f"0x{record.by.hex()}": (0, 1)}
    standing = [state.roles[one] for one, until in proposal.approvals.items() if until >= now]
    return {
        role: (standing.count(role), rules.required(state, role, now))
        for role in rules.authors(state, record)
    }
