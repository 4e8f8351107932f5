"""What moved on each business day, by revenue code and by project, and who was paid: from the public records.

The sums of all days are the streams of the auditor's own summary (ledger/audit/summary.py), so that a
drawing over time and the totals beside it cannot tell two stories. Integers only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from gateway.kz import business_date
from ledger import rules
from ledger.records import Exchange, Reversal, Transfer, decode, decode_name

PAYMENTS_MOST = 50
CAME, PAID, HELD = "revenue", "project", "closing"
_MOVING = {kind.type_hash for kind in (Transfer, Exchange)}
Key = tuple[str, str]


@dataclass(frozen=True)
class Payment:
    """Money that went out for a project. amount: base units of the asset; index: its record."""

    index: int
    time_s: int
    project: str
    payee: str
    asset: str
    amount: int


class History:
    """Follows the records; not for two threads at once. read: gives the records from one to before another.

    days: by fund and asset, by day, by what it is (revenue, project, closing) and its name, what came
    that day; of closing that is what the treasury gained or lost.
    """

    def __init__(self, read: Callable[[int, int], Iterator[bytes]]) -> None:
        self._read, self._size = read, 0
        self.days: dict[Key, dict[date, dict[tuple[str, str], int]]] = {}
        self.payments: list[Payment] = []
        self._undone: set[int] = set()
        self.last: date | None = None

    def follow(self, state: rules.State, broken: frozenset[str] = frozenset()) -> None:
        """Take the records up to a state; broken: where records stand that the rules refused ("record N")."""
        for index, data in enumerate(self._read(self._size, state.size), self._size):
            if data[:32] in _MOVING and f"record {index}" not in broken:
                self._take(state, index, decode(data))
            self._size = index + 1
        if state.reversed != self._undone:
            self._undo(state)
        if self._size:
            newest = next(self._read(self._size - 1, self._size))
            self.last = business_date(decode(newest).time)

    def _take(self, state: rules.State, index: int, record: object) -> None:
        if isinstance(record, Exchange):
            day = business_date(record.time)
            self._post(state, record.from_account, -record.amount_from, day)
            self._post(state, record.to_account, record.amount_to, day)
        elif isinstance(record, Transfer):
            self._move(state, record, 1, business_date(record.time))
            self._note_payment(state, index, record)

    def _undo(self, state: rules.State) -> None:
        """What was undone since: a reversal is an act, and changes nothing before it is signed and holds."""
        for proposal in state.proposals.values():
            record = proposal.record
            if not isinstance(record, Reversal) or record.index not in state.reversed - self._undone:
                continue
            undone = decode(next(self._read(record.index, record.index + 1)))
            if isinstance(undone, Transfer) and proposal.effective_s is not None:
                self._undone.add(record.index)
                self._move(state, undone, -1, business_date(proposal.effective_s))
                self.payments = [one for one in self.payments if one.index != record.index]

    def _move(self, state: rules.State, record: Transfer, sign: int, day: date) -> None:
        # A refund takes nothing from what came: it stands by itself, as in the totals.
        if state.accounts[record.debit].record.kind != rules.REVENUE:
            self._post(state, record.debit, sign * record.amount, day)
        self._post(state, record.credit, -sign * record.amount, day)

    def _post(self, state: rules.State, name: str, change: int, day: date) -> None:
        account = state.accounts[name].record
        there = self.days.setdefault((account.fund, account.asset), {}).setdefault(day, defaultdict(int))
        if account.kind in rules.MONEY:
            there[HELD, ""] += change
        elif account.kind == rules.REVENUE:
            there[CAME, decode_name(account.owner)] -= change
        elif account.kind == rules.PROJECT:
            there[PAID, state.projects[account.owner].record.project] += change

    def _note_payment(self, state: rules.State, index: int, record: Transfer) -> None:
        account = state.accounts[record.debit].record
        order = state.orders.get(record.authority)
        if account.kind == rules.PROJECT and order is not None:
            project = state.projects[account.owner].record.project
            paid = Payment(index, record.time, project, order.payee, record.asset, record.amount)
            self.payments = [*self.payments, paid][-PAYMENTS_MOST:]

    def daily(self, key: Key, kind: str, days: int) -> dict[str, list[int]]:
        """Of each name what came on each of so many days up to the last; names without any are left out."""
        found: dict[str, list[int]] = {}
        for place, day in enumerate(self._window(days)):
            for (what, name), amount in self.days.get(key, {}).get(day, {}).items():
                if what == kind and amount:
                    found.setdefault(name, [0] * days)[place] += amount
        return found

    def standing(self, key: Key, kind: str, days: int) -> dict[str, list[int]]:
        """Of each name what it had come to by the end of each of so many days."""
        window = self._window(days)
        before: dict[str, int] = defaultdict(int)
        for day, moved in self.days.get(key, {}).items():
            for (what, name), amount in moved.items():
                if what == kind and (not window or day < window[0]):
                    before[name] += amount
        daily = self.daily(key, kind, days)
        found: dict[str, list[int]] = {}
        for name in {*before, *daily}:
            total, steps = before[name], []
            for amount in daily.get(name, [0] * days):
                total += amount
                steps.append(total)
            found[name] = steps
        return found

    def _window(self, days: int) -> Sequence[date]:
        if self.last is None:
            return ()
        return [self.last - timedelta(days=days - 1 - place) for place in range(days)]
