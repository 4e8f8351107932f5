"""The queue of money that no policy could place: a person assigns it, sends it back, or keeps it (P5).

Every decision is a row that stays, with who made it and why. The same decision again is the same
answer; another one is a conflict, and says what was decided before. Money of the bank that nobody
claimed for a year becomes the city's (LEAKS 12), by a step that lists it first; so does, at once, what
strangers flushed into the treasury (decision 0042).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from gateway.db import Connection, reading
from gateway.kz import check_iban
from gateway.payments import store
from gateway.payments.accounts import account_name, told_account
from gateway.payments.bounds import check_not_taken_back, check_why, given_back
from gateway.payments.refund_model import Proof, Refund, RefundState, Source, reserves
from gateway.payments.service import Payments
from gateway.payments.settled import note_settled
from gateway.payments.store import Decided, Decision, Invoice, Seen, bank
from gateway.payments.store import refunds as rows
from gateway.rails import BOOKS, PAYS, Kind, Stage
from ledger.records import ZERO_HASH, reject
from ledger.rules import UNMATCHED_S

AT_ONCE: Final = 200
STEP: Final = "retention"
# Money of no invoice with one of these has not been disposed of.
_NOBODYS: Final = frozenset({None, Decision.KEPT, Decision.REOPENED})


@dataclass(frozen=True)
class Waiting:
    """Money in the queue and what was decided about it so far; why: what keeps it from counting."""

    seen: Seen
    invoice: Invoice | None
    decided: Sequence[Decided]
    why: str


class Unmatched:
    """The use cases of the queue."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments
        self._engine, self._clock = payments.engine, payments.clock

    def list(self, after: tuple[int, str], most: int) -> Sequence[Waiting]:
        """What waits for a person, oldest first, a page at a time; after: seen_s and key of the last one."""
        with reading(self._engine) as connection:
            found = store.unmatched(connection, after, most)
            return [self._waiting(connection, seen) for seen in found]

    def _waiting(self, connection: Connection, seen: Seen) -> Waiting:
        invoice = None if seen.invoice_id is None else store.invoice(connection, seen.invoice_id)
        decided = store.decisions_of(connection, seen.key)
        returned = bank.returned_why(connection, seen.key)
        if seen.problem is not None:
            why = seen.problem
        elif returned is not None and not decided:
            why = returned
        elif decided:
            why = decided[-1].why
        else:
            why = "it names no invoice that takes this money"
        return Waiting(seen, invoice, decided, why)

    def decisions(self, evidence_key: str) -> Sequence[Decided]:
        """All that was decided about a piece of evidence, oldest first."""
        with reading(self._engine) as connection:
            return store.decisions_of(connection, evidence_key)

    # --- deciding -------------------------------------------------------------------

    def assign(self, evidence_key: str, invoice_id: str, actor: str, why: str) -> Seen:
        """Have money pay an invoice that takes its asset; late money may be given to its own.

        Money that already was somebody's stays with that merchant: only another of its invoices
        with the same pay-out address can have it.
        """
        now = self._clock()
        invoice, _, _ = self._payments.look(invoice_id)
        with self._engine.begin() as connection:
            seen = _open(connection, evidence_key, why)
            if seen.decision is Decision.ASSIGNED:
                return _same(connection, seen, Decision.ASSIGNED, invoice_id=invoice_id)
            _check_undecided(connection, seen)
            if seen.kind not in PAYS:
                reject("P5", "evidence", f"a {seen.kind.value} pays no invoice")
            _check_fits(connection, seen, invoice)
            _check_not_given_back(connection, seen)
            _check_recorded(seen)
            before = seen.invoice_id
            made = Decided(seen.key, Decision.ASSIGNED, invoice_id, None, actor, why, now)
            store.decide(connection, made)
            if before != invoice_id:
                store.set_invoice(connection, seen.key, invoice_id, seen.reference)
            self._book(connection, evidence_key, now)
            for id in sorted({invoice_id, before or invoice_id}):
                self._payments.states.follow(connection, id, now, changed=True)
        return self._look(evidence_key)

    def _book(self, connection: Connection, key: str, now: int) -> None:
        """What follows from final money once it has an invoice, as if it had come with it."""
        seen = store.evidence(connection, key)
        assert seen is not None
        if seen.stage is not Stage.FINAL or seen.kind not in BOOKS:
            return
        note_settled(connection, seen, now)
        if seen.transfer_id is None and seen.city_minor:
            self._payments.booking.try_book(connection, seen, now)
        elif seen.transfer_id is not None:
            self._payments.booking.try_match(connection, seen, now)

    def keep(self, evidence_key: str, actor: str, why: str) -> Seen:
        """Leave money where it is: it pays nothing, and is asked about no more."""
        now = self._clock()
        with self._engine.begin() as connection:
            seen = _open(connection, evidence_key, why)
            if seen.decision is Decision.KEPT:
                return seen
            _check_undecided(connection, seen)
            made = Decided(seen.key, Decision.KEPT, seen.invoice_id, None, actor, why, now)
            store.decide(connection, made)
            if seen.invoice_id is not None:
                self._payments.states.follow(connection, seen.invoice_id, now, changed=True)
        return self._look(evidence_key)

    def refund(
        self, evidence_key: str, to: bytes, actor: str, why: str, *, iban: str | None = None
    ) -> Refund:
        """Send back what came by bank and belongs to no invoice, all of it; the city's seats sign it too.

        to: SHA-256 of the payer's IBAN, as the ledger names it; iban: the account itself, which the bank is
        to pay. Without it the account that the bank told with the money is taken, where `to` names it. Money
        on a chain is refunded by its invoice (`Refunds.request`): there its source and its bounds are known.
        """
        if iban is not None:
            check_iban(iban, "iban")
            assert account_name(iban) == to, "two names of one account"
        now = self._clock()
        if len(to) != 32 or to == ZERO_HASH:
            reject("E2", "to", "a bank account is named by the 32 bytes of its IBAN's SHA-256")
        with self._engine.begin() as connection:
            seen = _open(connection, evidence_key, why)
            if seen.decision is Decision.REFUND:
                _same(connection, seen, Decision.REFUND, receiver=to)
                made = rows.refunds_of_evidence(connection, evidence_key)
                # Those before it were cancelled, and so reopened (migration 0309 did it for those of before).
                return next(one for one in made if reserves(one.state))
            _check_undecided(connection, seen)
            _check_sendable(seen)
            check_not_taken_back(connection, seen)
            store.decide(connection, Decided(seen.key, Decision.REFUND, None, to, actor, why, now))
            refund = Refund(
                id=f"r_{secrets.token_hex(12)}",
                invoice_id=None,
                evidence_key=seen.key,
                merchant_id=None,
                source=Source.CITY,
                asset=seen.asset,
                amount_minor=seen.amount_minor,
                receiver=to,
                # The Authority and the Auditor sign where it goes: nothing was fixed before (LEAKS 12).
                proof=Proof.SEATS,
                ripe_s=now,
                state=RefundState.REQUESTED,
                created_s=now,
                changed_s=now,
            )
            # One for each piece of evidence, whoever asks; one more after each that was cancelled.
            before = len(rows.refunds_of_evidence(connection, evidence_key))
            key = f"unmatched {evidence_key}" + (f" {before}" if before else "")
            added = rows.add_refund(
                connection, refund, "city", key, sha256(evidence_key.encode() + to).digest(), actor, why
            )
            assert added, "decided under the lock"
            account = iban or told_account(connection, seen)
            if account is not None and account_name(account) == to:
                bank.add_account(connection, refund.id, account)
        return refund

    def _look(self, key: str) -> Seen:
        with reading(self._engine) as connection:
            found = store.evidence(connection, key)
        assert found is not None
        return found

    # --- after a year ---------------------------------------------------------------

    def overdue(self, most: int = AT_ONCE) -> Sequence[Seen]:
        """Final money of the bank that nobody claimed for a year, oldest first (LEAKS 12)."""
        with reading(self._engine) as connection:
            return store.nobodys(connection, Kind.BANK, self._clock() - UNMATCHED_S, most)

    def retain(self, code: str, most: int = AT_ONCE) -> Sequence[Seen]:
        """Give what nobody claimed for a year to a revenue code of the city's; returns what it was.

        A refund is refused from then on, here and by the ledger (F5). What strangers flushed to the treasury
        by terms of their own is nobody's at once: it pays no invoice, and each audit would miss it (T8).
        """
        done, now = [], self._clock()
        rule, _ = self._payments.view.revenue_rule(code, now)
        with reading(self._engine) as connection:
            flushed = store.strangers_flushes(connection, most)
        for found in [*self.overdue(most), *flushed]:
            with self._engine.begin() as connection:
                seen = store.locked_evidence(connection, found.key)
                assert seen is not None
                is_open = seen.invoice_id is None and seen.decision in _NOBODYS
                if not is_open or (seen.transfer_id is not None and seen.position is None):
                    continue
                how = f"unmatched since {seen.seen_s}" if seen.kind is Kind.BANK else "flushed by a stranger"
                why = f"{how}, given to {code} of {rule.fund}"
                made = Decided(seen.key, Decision.RETAINED, None, None, STEP, why, now)
                store.decide(connection, made)
                self._payments.booking.retain(connection, seen, code, now)
                done.append(seen)
        return done


def _open(connection: Connection, key: str, why: str) -> Seen:
    """The evidence, locked; a decision needs a reason."""
    check_why("P5", why)
    seen = store.locked_evidence(connection, key)
    if seen is None:
        reject("not_found", "evidence", f"there is no evidence {key[:80]!a}")
    return seen


def _same(
    connection: Connection,
    seen: Seen,
    action: Decision,
    *,
    invoice_id: str | None = None,
    receiver: bytes | None = None,
) -> Seen:
    last = store.decisions_of(connection, seen.key)[-1]
    assert last.action is action
    if (last.invoice_id, last.receiver) != (invoice_id, receiver):
        told = last.invoice_id or ("0x" + (last.receiver or b"").hex())
        reject("conflict", seen.key, f"{last.actor} decided at {last.at_s}: {action.value} to {told}")
    return seen


def _check_undecided(connection: Connection, seen: Seen) -> None:
    """Refuse to decide what is decided, what is gone, and what already pays an invoice."""
    if seen.stage is Stage.GONE:
        reject("P5", seen.key, "its block or booking is no more")
    if seen.decision in {Decision.ASSIGNED, Decision.KEPT, Decision.REFUND, Decision.RETAINED}:
        last = store.decisions_of(connection, seen.key)[-1]
        reject("conflict", seen.key, f"{last.actor} decided at {last.at_s}: {last.action.value}")
    is_late = seen.decision in {Decision.HELD, Decision.LATE}
    if seen.invoice_id is not None and not is_late:
        reject("conflict", seen.key, f"it pays the invoice {seen.invoice_id}")


def _check_not_given_back(connection: Connection, seen: Seen) -> None:
    """Refuse to have money pay an invoice of which some goes back, or has gone, by the one it came for."""
    back = given_back(connection, seen)
    if back:
        reject("P5", seen.key, f"{back} of its {seen.amount_minor} are given back, by refunds of this money")


def _check_fits(connection: Connection, seen: Seen, invoice: Invoice) -> None:
    fits = invoice.in_tenge if seen.kind is Kind.BANK else invoice.asset == seen.asset
    if not fits:
        reject("P5", "invoice", f"it takes {invoice.asset}, this is {seen.asset} by {seen.kind.value}")
    if seen.invoice_id is None or seen.invoice_id == invoice.id:
        return
    before = store.invoice(connection, seen.invoice_id)
    assert before is not None
    # The net went to that merchant already: nobody else's invoice is paid with it.
    ours, theirs = (before.merchant_id, before.payee), (invoice.merchant_id, invoice.payee)
    if ours != theirs or before.purpose != invoice.purpose:
        reject("P5", "invoice", "this money is another merchant's, or was split for another purpose")


def _check_recorded(seen: Seen) -> None:
    """What was counted apart is matched out of its receipt, so that has to be on the ledger first."""
    if seen.transfer_id is not None and seen.position is None:
        reject("V5", seen.key, "its receipt is being recorded; ask again in a moment")


def _check_sendable(seen: Seen) -> None:
    if seen.kind is not Kind.BANK or seen.invoice_id is not None:
        reject("P5", "evidence", "money that has an invoice or is on a chain goes back by Refunds.request")
    if seen.stage is not Stage.FINAL:
        reject("P6", "evidence", f"this money is {seen.stage.value}, only final money goes back")
    if seen.position is None:
        reject("F1", "evidence", "this is not on the ledger yet, so no receipt bounds the refund")
