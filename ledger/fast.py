"""The fast twin of rules.apply: runs of plain revenue are taken without reading each record word by word.

In a log of payments nearly every record is a Transfer from payer to code, and between two accounts,
under one rule, all that differs from one to the next is time, id, amount, evidence and where a refund
may go. What is the same is judged once by rules.check_transfer, and again whenever a date or a record
may have changed the answer; what differs is compared here. Whatever is not plain, or is not allowed,
is left where it stands, for rules.apply to judge. Tests prove that both leave the same state.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from struct import Struct
from typing import Final

from ledger import rules
from ledger.records import AMOUNT_LIMIT, WORD, ZERO_HASH, Invalid, Transfer, decode

_TYPE: Final = Transfer.type_hash
_SIZE: Final = Transfer.words.size
# Which words a transfer has where: the first is its type, the second its time.
_PLACES: Final = {
    name: slice(WORD * at, WORD * (at + 1)) for at, (name, *_) in enumerate(Transfer.members, 1)
}
ID, EVIDENCE, AUTHORITY = _PLACES["id"], _PLACES["evidence"], _PLACES["authority"]
# Head (type, time), id, both accounts and the asset, amount, purpose and authority, evidence; then refund_to.
_PARTS: Final = Struct("64s 32s 96s 32s 64s 32s 32x")
assert [name for name, *_ in Transfer.members] == [
    *("time", "id", "debit", "credit", "asset", "amount", "purpose", "authority", "evidence", "refund_to")
]
assert _PARTS.size == _SIZE

_Account = rules.AccountState


def is_transfer(data: bytes) -> bool:
    """Whether these bytes have a transfer's type and length."""
    return data[:WORD] == _TYPE and len(data) == _SIZE


class Runs:
    """Takes runs of plain revenue into one state, which others may change in between."""

    def __init__(self, state: rules.State) -> None:
        self.state = state
        # What has been moved between two accounts since somebody took this.
        self.moved: dict[tuple[str, str], int] = {}
        self._flows: dict[bytes, tuple[_Account, _Account, str, tuple[str, str]]] = {}
        self._seen: tuple[int, int] = (0, 0)
        self._until_s = rules.TIME_LIMIT_S

    def take(
        self, records: Sequence[bytes], suspects: Collection[bytes], before_s: int = rules.TIME_LIMIT_S
    ) -> int:
        """Take records as long as each is plain revenue and earlier than `before_s`; returns how many.

        suspects: every id and every piece of evidence that may have been used before. What the past does
        not have must not be told to it here: whoever passes these records sees to that.
        """
        self._forget_what_changed()
        state, flows, moved = self.state, self._flows, self.moved
        now = time = state.time
        head, count, at_head = b"", 0, 0
        touched: dict[str, _Account] = {}
        other_ids, other_evidence = state.other_ids, state.other_evidence
        number = int.from_bytes
        unpack, known, size, limit = _PARTS.unpack, flows.get, _SIZE, AMOUNT_LIMIT
        for data in records:
            if len(data) != size:
                break
            start, id, accounts, amount, reason, evidence = unpack(data)
            if start != head:
                later = number(start[WORD:])
                if start[:WORD] != _TYPE or not now <= later < before_s:
                    break
                _note(touched, now)
                time, now, at_head, head = now, later, count, start
                if now >= self._until_s:
                    flows.clear()
                    self._until_s = rules.TIME_LIMIT_S
            flow = known(accounts + reason) or self._plain(data, accounts + reason, now)
            if flow is None or id in suspects or evidence in suspects:
                break
            if id in other_ids or evidence in other_evidence:
                break
            debit, credit, name, pair = flow
            value = number(amount)
            came, went = debit.balance + value, credit.balance - value
            if not value or came >= limit or went <= -limit or ZERO_HASH in (id, evidence):
                break
            debit.balance, credit.balance = came, went
            touched[name] = debit
            moved[pair] = moved.get(pair, 0) + value
            count += 1
        if count > at_head:
            time = now
        _note(touched, time)
        state.size += count
        state.time = time
        return count

    def _forget_what_changed(self) -> None:
        """A new rule for a code, or a new value of a parameter, is at the end of a list that only grows."""
        rules_, values = self.state.revenue_rules, self.state.parameters.get("direct_settlement", ())
        seen = (sum(map(len, rules_.values())), len(values))
        if seen != self._seen:
            self._flows.clear()
            self._seen, self._until_s = seen, rules.TIME_LIMIT_S

    def _plain(
        self, data: bytes, key: bytes, now: int
    ) -> tuple[_Account, _Account, str, tuple[str, str]] | None:
        """The accounts that a record is between if it is plain revenue and allowed, and what holds for it.

        It holds for all that differ from it in no more than this module compares, until a date.
        """
        state = self.state
        try:
            record = decode(data)
            assert isinstance(record, Transfer)
            rules.check_transfer(state, record, now, "")
        except Invalid:
            return None
        debit, credit = state.accounts[record.debit], state.accounts[record.credit]
        # A provider owes what it took (Q6), which depends on its balance and on the newest rate.
        if debit.record.kind not in rules.PAYING or credit.record.kind != rules.REVENUE:
            return None
        dates = [state.assets[record.asset].valid_to]
        dates += [start for start, _ in state.revenue_rules.get(record.purpose, ())]
        dates += [start for start, _ in state.parameters.get("direct_settlement", ())]
        self._until_s = min([self._until_s, *(date for date in dates if date > now)])
        flow = (debit, credit, record.debit, (record.debit, record.credit))
        self._flows[key] = flow
        return flow


def _note(touched: dict[str, _Account], now: int) -> None:
    """What these accounts of money came to after a second, and begin the next one."""
    for account in touched.values():
        account.history.note(now, account.balance)
    touched.clear()
