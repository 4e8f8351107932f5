"""Refunds in tenge: people have the bank pay, and what the bank books ends them (field failure 43).

An operator pays by the bank's own means, with our reference as the end-to-end reference of the payment; the
files that the bank gives tell what became of it. A booking pays a refund if all of it is right: reference,
amount to the tiyn, the account that it went to, booked and not announced, one payment and not a batch.
Anything else counts for nothing and is shown with both numbers. What comes back is money again: it
stands in the queue, with the bank's reason, and can be sent back once more, elsewhere.

What holds if the process dies here: a file is taken in one transaction with what follows from it, under the
bank's own identities, so that each booking stands once and for one refund however often it is told.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from gateway.db import Connection, reading
from gateway.erasure.listing import evidence_name
from gateway.payments import store
from gateway.payments.outgoing import Promised
from gateway.payments.refund_model import UNDER_WAY, Refund, RefundState, Source
from gateway.payments.refund_moves import RefundMoves, booked_transfer
from gateway.payments.service import Payments
from gateway.payments.store import bank
from gateway.payments.store import refunds as rows
from gateway.payments.store.bank import BankBooking, BookingState
from gateway.rails import BankEntry, Evidence, Kind, Stage
from ledger.records import reject
from ledger.rules import TENGE
from ledger.writer import submit

LOGGER = logging.getLogger(__name__)
# Capital letters and digits alone: what every bank's form takes and hands on as it is (at most 35).
_PREFIX: Final = "REFUND"
_REFERENCE: Final = re.compile(f"{_PREFIX}([0-9A-F]{{24}})")
_PAYS: Final = frozenset({BookingState.FITS, BookingState.USED})
# While one of these stands, money is out under the refund's reference.
IS_OUT: Final = _PAYS | {BookingState.WRONG}


def bank_reference(refund_id: str) -> str:
    """What the bank is given as the end-to-end reference of the payment."""
    return _PREFIX + refund_id.removeprefix("r_").upper()


def refund_named(entry: BankEntry) -> str | None:
    """The id of the refund that an entry names; None where it names none, or more than one.

    The text is read only where the bank tells no end-to-end reference: it can quote others' references.
    """
    if entry.reference:
        match = _REFERENCE.fullmatch(_plain(entry.reference))
        return None if match is None else f"r_{match[1].lower()}"
    found = set(_REFERENCE.findall(_plain(entry.text)))
    return f"r_{found.pop().lower()}" if len(found) == 1 else None


def _plain(text: str) -> str:
    """Without what a form or a hand puts between: banks cut, space and capitalise."""
    return re.sub("[^0-9A-Z]", "", text.upper())


class Bank:
    """Takes what the bank booked, and ends refunds by it."""

    def __init__(self, payments: Payments, moves: RefundMoves) -> None:
        self._engine, self._clock, self._moves = payments.engine, payments.clock, moves

    # --- a file ---------------------------------------------------------------------------

    def take(
        self, connection: Connection, entries: Iterable[BankEntry], came: Sequence[Evidence]
    ) -> list[Evidence]:
        """Note what a file says of refunds, in the caller's transaction; returns the money that came.

        That is `came`, without what came back before it had counted as gone, and with what came back later.
        """
        dropped: set[str] = set()
        more: list[Evidence] = []
        # What left before what came back: one file may tell both.
        for entry in sorted(entries, key=lambda one: one.is_back):
            refund = self._named(connection, entry)
            if refund is None:
                continue
            known = bank.booking(connection, entry.key)
            if known is None:
                known = self._note(connection, refund, entry)
            elif known.amount_minor != entry.amount_minor:
                why = f"was {known.amount_minor} {entry.asset}, is told as {entry.amount_minor}"
                reject("conflict", entry.key, why)
            if known.state is BookingState.UNDONE:
                dropped.add(entry.key)
            elif known.state is BookingState.BACK and not entry.is_evidence:
                more.append(_money(entry))
        return [one for one in came if one.key not in dropped] + more

    def _named(self, connection: Connection, entry: BankEntry) -> Refund | None:
        id = refund_named(entry)
        if id is None:
            return None
        found = rows.refund(connection, id)
        if found is None or found.source is not Source.CITY or found.asset != entry.asset:
            LOGGER.warning("%s names %s, which is no refund by bank", entry.key, bank_reference(id))
            return None
        return self._moves.locked(connection, id)

    def _note(self, connection: Connection, refund: Refund, entry: BankEntry) -> BankBooking:
        before = bank.bookings_of(connection, [refund.id])
        state, why = (_back if entry.is_back else _out)(refund, entry, before)
        undone = _undone(entry, before) if entry.is_back else None
        if undone is not None:
            bank.set_booking(connection, undone.key, BookingState.RETURNED, f"came back as {entry.key}")
        salt = secrets.token_bytes(32)
        commitment = sha256(salt + entry.private).digest()
        if not store.is_erased(connection, bytes.fromhex(evidence_name(entry.key))):
            store.add_private(connection, commitment, salt, entry.private)
        made = BankBooking(
            entry.key, refund.id, entry.amount_minor, entry.is_back, state, why, commitment, self._clock()
        )
        bank.add_booking(connection, made)
        if state is not BookingState.FITS:
            LOGGER.warning("refund %s: %s", refund.id, why)
            rows.set_refund(connection, refund.id, problem=why)
        return made

    # --- a round --------------------------------------------------------------------------

    def settle(self, refund: Refund, promised: Promised | None) -> int:
        """End a refund by the booking that pays it, once the ledger's promise is in effect (W5)."""
        with reading(self._engine) as connection:
            found = bank.bookings_of(connection, [refund.id])
        fitting = next((one for one in found if one.state is BookingState.FITS), None)
        if fitting is None:
            return 0
        if promised is None:
            why = "the bank has paid it, and the seats have not signed it: it is booked when they have"
            if refund.problem != why:
                with self._engine.begin() as connection:
                    rows.set_refund(connection, refund.id, problem=why)
            return 0
        now = self._clock()
        with self._engine.begin() as connection:
            locked = self._moves.locked(connection, refund.id)
            used = bank.booking(connection, fitting.key)
            assert used is not None
            # It may have come back in the meantime.
            if locked.state not in UNDER_WAY or used.state is not BookingState.FITS:
                return 0
            record = booked_transfer(refund, promised, used.commitment)
            submit(connection, record, now)
            bank.set_booking(connection, used.key, BookingState.USED, "")
            noted = {"transfer_id": record.id, "problem": None}
            self._moves.move(connection, locked, RefundState.FINAL, f"booked as {used.key}", now, **noted)
        return 1


def check_nothing_left(connection: Connection, refund: Refund) -> None:
    """Refuse where money has left under a refund's reference and has not come back, whatever it was."""
    for one in bank.bookings_of(connection, [refund.id]):
        if not one.is_back and one.state in IS_OUT:
            reject("P6", "refund", f"{one.amount_minor} tiyn have left for it as {one.key}")


def _out(refund: Refund, entry: BankEntry, before: Sequence[BankBooking]) -> tuple[BookingState, str]:
    """Whether money that left pays a refund, and why not."""
    why = _why_not(refund, entry, before)
    return (BookingState.FITS, "") if why is None else (BookingState.WRONG, why)


def _why_not(refund: Refund, entry: BankEntry, before: Sequence[BankBooking]) -> str | None:
    told = f"{entry.amount_minor} tiyn left as {entry.key}"
    if entry.transactions > 1:
        return f"{told}: a batch of {entry.transactions} payments that the bank does not list"
    if entry.amount_minor != refund.amount_minor:
        return f"{told}, the refund is of {refund.amount_minor} tiyn"
    if entry.receiver_iban is None:
        return f"{told}, and the bank does not tell to which account"
    if sha256(entry.receiver_iban.encode()).digest() != refund.receiver:
        return f"{told} to the account ending in {entry.receiver_iban[-4:]}, which is not the refund's"
    if (paid := next((one for one in before if one.state in _PAYS), None)) is not None:
        return f"{told}, and the refund was paid already by {paid.key}: it is paid twice"
    if refund.state is RefundState.CANCELLED:
        return f"{told}, and the refund was cancelled at {refund.changed_s}"
    if refund.state not in UNDER_WAY:
        return f"{told}, and the refund is {refund.state.value}: nobody had let it go"
    return None


def _back(refund: Refund, entry: BankEntry, before: Sequence[BankBooking]) -> tuple[BookingState, str]:
    """What money that came back means."""
    told = f"the bank returned {entry.amount_minor} tiyn ({entry.reason or 'no reason told'})"
    undone = _undone(entry, before)
    if undone is None:
        return BookingState.WRONG, f"{told} as {entry.key}, and nothing of this refund had left"
    if undone.amount_minor != entry.amount_minor:
        told += f" of the {undone.amount_minor} that had left"
    if undone.state is BookingState.USED:
        return BookingState.BACK, f"{told} of the refund {refund.id}: it is in the queue as {entry.key}"
    return BookingState.UNDONE, f"{told}: it is to be paid again, or elsewhere"


def _undone(entry: BankEntry, before: Sequence[BankBooking]) -> BankBooking | None:
    """Which booking came back: what the bank says, else of the same amount, else the newest."""
    left = [one for one in before if not one.is_back and one.state is not BookingState.RETURNED]
    ranked = sorted(
        left, key=lambda one: (one.key == entry.undoes, one.amount_minor == entry.amount_minor, one.seen_s)
    )
    return ranked[-1] if ranked else None


def _money(entry: BankEntry) -> Evidence:
    """What came back of a refund that was booked as gone: money of nobody, as it was before."""
    assert entry.asset == TENGE
    return Evidence(
        key=entry.key,
        kind=Kind.BANK,
        stage=Stage.FINAL,
        asset=entry.asset,
        amount_minor=entry.amount_minor,
        city_minor=entry.amount_minor,
        private=entry.private,
    )
