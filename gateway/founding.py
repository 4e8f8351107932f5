"""The founding acts of a fresh ledger: proposed in rounds, signed by seats elsewhere, recorded once.

The first round is the Genesis with the seats and quorums that it binds, as `founding.json` has them and
the contracts were deployed with; the others are the Council's acts of `acts.json`, each of which may rest on
the ones before. A round is proposed when the last one is in effect. For each proposal a file says what
there is to sign; what `qazyna sign` prints of it is put into another folder, and read from there.
Every step is told apart by what the ledger already has, so that all of it can be asked for again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.acts_file import Planned, find, read_hash, read_object, read_rounds
from gateway.db import reading
from gateway.plan import Plan
from gateway.signing_folder import SigningFolder
from ledger import rules, store
from ledger.records import WORD, Genesis, Invalid, Record, encode, hash_struct, keccak256, reject
from ledger.writer import Writer, submission_id

if TYPE_CHECKING:
    from contracts.deployment import Founding

Say = Callable[[str], None]


# --- what is planned --------------------------------------------------------------------


def read_acts(path: Path, plan: Plan) -> tuple[bytes, list[list[Planned]]]:
    """Read {"legalRef": "0x...", "rounds": [[record, ...], ...]}; returns legalRef and the rounds."""
    told = read_object(path)
    if set(told) != {"legalRef", "rounds"}:
        reject("found", str(path), f"has {', '.join(sorted(told)) or 'nothing'}, not legalRef and rounds")
    return read_hash(told["legalRef"], f"{path} legalRef"), read_rounds(told["rounds"], path, plan)


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
        self,
        rounds: Sequence[Sequence[Planned]],
        folder: SigningFolder,
        say: Say,
        writer: Writer | None,
        now: int,
    ) -> None:
        """rounds: the first is that of the Genesis."""
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
        missing = [one for one in round_ if find(state, one) is None]
        if not missing:
            return
        at = missing[0].record.time if number == 0 else self._now
        if number == 0 and not state.time <= at <= self._now:
            reject("found", "founding[0].time", f"{at} lies before {state.time} or after now, {self._now}")
        self._take(state, [(one.where, one.record) for one in missing], at)
        self._say(f"round {number}: {len(missing)} records proposed")

    def _sign(self, state: rules.State) -> None:
        given = []
        for where, approval in self._folder.signatures():
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
        found = [find(state, one) for round_ in self._rounds for one in round_]
        waiting = [one for one in found if one is not None and one.effective_s is None]
        if not state.opened:
            waiting = [one for one in waiting if isinstance(one.record, Genesis)]
        return sorted(waiting, key=lambda one: one.index)

    def _is_in_effect(self, state: rules.State, planned: Planned) -> bool:
        proposal = find(state, planned)
        return proposal is not None and proposal.effective_s is not None and state.opened
