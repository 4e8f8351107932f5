"""What moved on accounts of money, read again from the records that took effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ledger.audit.replay import Replayed
from ledger.records import WORD, Exchange, Reversal, Transfer, decode, keccak256

_MOVING = {kind.type_hash for kind in (Transfer, Exchange, Reversal)}


class Movement(NamedTuple):
    """A change of one account's balance, at the second from which it counts."""

    account: str
    change: int
    time: int


def transfers(done: Replayed, kind: str) -> Iterator[tuple[int, Transfer]]:
    """The transfers in effect that touch an account of a kind, with their indices."""
    names = {name for name, account in done.state.accounts.items() if account.record.kind == kind}
    for index, data in enumerate(done.entries):
        if data[:WORD] == Transfer.type_hash and done.in_effect(index):
            record = decode(data)
            assert isinstance(record, Transfer)
            if record.debit in names or record.credit in names:
                yield index, record


def movements(done: Replayed) -> Iterator[Movement]:
    """Every change of every account: transfers, exchanges, and what reversals undo."""
    for index, data in enumerate(done.entries):
        if data[:WORD] not in _MOVING or not done.in_effect(index):
            continue
        record = decode(data)
        match record:
            case Transfer():
                yield Movement(record.debit, record.amount, record.time)
                yield Movement(record.credit, -record.amount, record.time)
            case Exchange():
                yield Movement(record.from_account, -record.amount_from, record.time)
                yield Movement(record.to_account, record.amount_to, record.time)
            case Reversal():
                # It counts from its last approval on.
                effective = done.state.proposals[keccak256(data)].effective_s
                undone = decode(done.entries[record.index])
                if effective is not None and isinstance(undone, Transfer):
                    yield Movement(undone.debit, -undone.amount, effective)
                    yield Movement(undone.credit, undone.amount, effective)
            case _:
                raise AssertionError(record)
