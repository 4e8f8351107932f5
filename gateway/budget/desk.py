"""Where institutions put records before the ledger and sign them.

A proposal is recorded first; then its seats sign exactly what was recorded, and each
signature is an Approval record of its own (DESIGN: records have authors).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from contracts.bindings import sign_digest
from gateway.db import reading
from ledger import rules, store
from ledger.audit.papers import Paper, StateBodies, check_payee, read_state_bodies
from ledger.records import Account, Approval, Record, approve_digest, decode, hash_struct, reject
from ledger.writer import Writer, submit

APPROVAL_LIFETIME_S = 60 * 86_400


@dataclass(frozen=True)
class Proposed:
    """A recorded proposal: where it stands, what was recorded, and the approvals given so far."""

    position: int
    record: Record
    approvals: tuple[Approval, ...] = ()

    @property
    def hash(self) -> bytes:
        """By which other records name it."""
        return hash_struct(self.record)


class Desk:
    """Submits to the ledger's inbox and waits for the writer's answer; the writer is in this process.

    papers: of payees, by account; a payee without papers, or whose papers say that it is the republic
    under another name, is not put before the ledger (U1 to U4, LEAKS 07).
    """

    def __init__(
        self,
        writer: Writer,
        papers: Mapping[str, Paper] | None = None,
        bodies: StateBodies | None = None,
    ) -> None:
        self._writer, self._papers, self._bodies = writer, papers, bodies

    def propose(self, record: Record, key: bytes | None = None) -> Proposed:
        """Have a record written; Invalid with its rule if the ledger refuses it.

        key: what makes this proposal one and the same when it is asked for again. Without it
        each call is a new proposal: what is refused today may be right tomorrow.
        """
        return self._submit([(record, key)])[0]

    def propose_all(self, records: Sequence[Record]) -> list[Proposed]:
        """Have records written in one batch; Invalid for the first that is refused."""
        return self._submit([(record, None) for record in records])

    def _submit(self, records: Sequence[tuple[Record, bytes | None]]) -> list[Proposed]:
        now = self._writer.clock()
        for record, _ in records:
            if isinstance(record, Account) and record.kind == rules.PAYEE:
                self._bodies = self._bodies or read_state_bodies()
                check_payee(record, self._papers, self._bodies, now)
        with self._writer.engine.begin() as connection:
            ids = [submit(connection, record, now, key or secrets.token_bytes(16)) for record, key in records]
        self._writer.drain()
        found = []
        with reading(self._writer.engine) as connection:
            for id in ids:
                answer = store.answer(connection, id)
                assert answer is not None
                found.append(Proposed(answer.position, decode(answer.data)))
        return found

    def approve(self, proposed: Proposed, signers: Sequence[LocalAccount]) -> Proposed:
        """Have seats sign a proposal; it takes effect with the last signature that its quorum needs."""
        return self.approve_all([proposed], signers)[0]

    def approve_all(self, proposed: Sequence[Proposed], signers: Sequence[LocalAccount]) -> list[Proposed]:
        """Have the same seats sign several proposals, in order."""
        until = self._writer.clock() + APPROVAL_LIFETIME_S
        domain = self._writer.state.domain
        if not domain:
            reject("H1", "approval", "there is no Genesis, so there is no domain to sign in")
        drafts = [_approval(domain, each, signer, until) for each in proposed for signer in signers]
        given = self.propose_all(drafts)
        answered = []
        for at, each in enumerate(proposed):
            mine = given[at * len(signers) : (at + 1) * len(signers)]
            approvals = [one.record for one in mine if isinstance(one.record, Approval)]
            answered.append(Proposed(each.position, each.record, (*each.approvals, *approvals)))
        return answered

    def act(self, record: Record, signers: Sequence[LocalAccount]) -> Proposed:
        """Propose and have it signed."""
        return self.approve(self.propose(record), signers)

    def act_all(self, records: Sequence[Record], signers: Sequence[LocalAccount]) -> list[Proposed]:
        """Propose several records and have all of them signed."""
        return self.approve_all(self.propose_all(records), signers)


def _approval(domain: bytes, proposed: Proposed, signer: LocalAccount, until: int) -> Approval:
    signed = sign_digest(signer, approve_digest(domain, proposed.record, until), until)
    return Approval(0, proposed.hash, signed.signer, until, signed.v, signed.r, signed.s)
