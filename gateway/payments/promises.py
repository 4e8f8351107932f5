"""Refunds that the ledger promises, with who approved them: found by an index, each record read once.

The index holds where approvals stand, by what they approve. One cursor for all refunds says up to where the
records were read; what was recorded while no refund was open is passed over unread.
"""

from __future__ import annotations

from typing import Final

from gateway.db import reading
from gateway.payments import store
from gateway.payments.outgoing import Promised
from gateway.payments.refund_model import Refund
from gateway.payments.service import Payments
from gateway.payments.store import refunds as rows
from ledger import store as ledger_store
from ledger.records import BY_TYPE_HASH, WORD, Approval, Invalid, decode, hash_struct
from ledger.records import Refund as RefundRecord

_APPROVAL: Final = next(word for word, kind in BY_TYPE_HASH.items() if kind is Approval)
CURSOR: Final = "ledger-approvals"
# So many records are read in one go; what is behind that waits for the next round.
RECORDS_AT_ONCE: Final = 20_000


class Promises:
    """Looks for promises on the ledger."""

    def __init__(self, payments: Payments) -> None:
        self._engine, self._view, self._clock = payments.engine, payments.view, payments.clock

    def of(self, refund: Refund) -> Promised | None:
        """The refund on the ledger once it is in effect; Invalid if the ledger refused it."""
        assert refund.record_id is not None
        assert refund.evidence_key is not None
        with reading(self._engine) as connection:
            answer = ledger_store.answer(connection, refund.record_id)
        if answer is None:
            return None
        record = decode(answer.data)
        assert isinstance(record, RefundRecord)
        digest = hash_struct(record)
        state = self._view.refresh()
        if digest not in state.refunds or self._read_to(state.size) < state.size:
            return None
        with reading(self._engine) as connection:
            seen = store.evidence(connection, refund.evidence_key)
            places = rows.approvals_of(connection, digest)
        assert seen is not None
        assert seen.position is not None
        receipt = self._view.receipt(record.receipt_hash)
        assert receipt is not None, "a refund is in effect and its receipt is not on the ledger"
        approvals = [self._approval(place) for place in places if place > answer.position]
        return Promised(record, answer.position, receipt, seen.position, approvals)

    def is_in_effect(self, refund: Refund) -> bool:
        """Whether the ledger holds money for a refund; what it refused, or only waits, is none."""
        if refund.record_id is None:
            return False
        try:
            with reading(self._engine) as connection:
                answer = ledger_store.answer(connection, refund.record_id)
        except Invalid:
            return False
        return answer is not None and hash_struct(decode(answer.data)) in self._view.refresh().refunds

    def _approval(self, position: int) -> Approval:
        record = decode(next(ledger_store.records(self._engine, position, position + 1)))
        assert isinstance(record, Approval)
        return record

    def _read_to(self, size: int) -> int:
        """Read what was recorded since the last time, up to a size; returns up to where it was read."""
        with reading(self._engine) as connection:
            known = store.cursor(connection, CURSOR) or 0
        if known >= size:
            return known
        start = known if size - known <= RECORDS_AT_ONCE else max(known, self._oldest(size))
        stop = min(size, start + RECORDS_AT_ONCE)
        read = enumerate(ledger_store.records(self._engine, start, stop), start)
        # Nearly all are transfers, of which the first word is enough.
        found = [(at, _approves(data)) for at, data in read if data[:WORD] == _APPROVAL]
        with self._engine.begin() as connection:
            store.lock_rail(connection, CURSOR)
            rows.add_approvals(connection, found)
            store.move_cursor(connection, CURSOR, stop, self._clock())
        return stop

    def _oldest(self, size: int) -> int:
        """Where the oldest promise stands of which anything is still to be done."""
        positions = [size]
        with reading(self._engine) as connection:
            for id in rows.open_promises(connection):
                try:
                    answer = ledger_store.answer(connection, id)
                except Invalid:
                    continue
                if answer is not None:
                    positions.append(answer.position)
        return min(positions)


def _approves(data: bytes) -> bytes:
    record = decode(data)
    assert isinstance(record, Approval)
    return record.approves
