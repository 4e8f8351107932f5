"""The time that records get, and whether the clock can be believed (H2, LEAKS 03).

No record is ever taken out, and no later one may be dated before it. So a clock that is ahead once
dates all that follows, or has the ledger wait until that time has come; and every record until then
breaks T3. A batch that is not written costs only time: where there is doubt, nothing is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from ledger.records import Unavailable

# So far ahead of the clock a record may be dated, and so much at once a clock may gain.
FUTURE_S: Final = 60
# The skew that T3 states: so far a record may be after the anchor that covers it (docs/bundle.md).
SKEW_S: Final = 900
# After this long a chain is asked again, when there is something to publish.
ASK_AGAIN_S: Final = 60


class ChainTime(NamedTuple):
    """A chain that shows what time it is: its name, and the time of its newest block, Unix seconds."""

    name: str
    newest_s: Callable[[], int]


@dataclass(frozen=True)
class _Seen:
    """A time that something else than the clock stood for, and when that was on the steady clock."""

    name: str
    time_s: int
    at_s: float

    def expected_s(self, at_s: float) -> int:
        """What time it is by this, when the steady clock shows at_s."""
        return self.time_s + int(at_s - self.at_s)


def steady() -> float:
    """Seconds that no setting of the clock changes, and that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Timekeeper:
    """Gives a batch its time, or Unavailable (clock) with both numbers.

    With chains the clock may be SKEW_S ahead of the newest block that any of them showed, and of the time
    that has passed since: a chain that stands still stops nobody. With a steady clock alone it may gain
    FUTURE_S on that between two batches. With neither, as where a test or a sample city sets the time,
    only the last record's time is compared.
    """

    def __init__(
        self,
        steady: Callable[[], float] | None = None,
        chains: Sequence[ChainTime] = (),
        confirmed_until_s: int = 0,
    ) -> None:
        """confirmed_until_s: up to this time a person has said that the clock is right."""
        self._steady, self._chains = steady, tuple(chains)
        self._allowed_s = SKEW_S if chains else FUTURE_S
        self._confirmed_until_s = confirmed_until_s
        self._seen: _Seen | None = None
        self._asked_at_s = 0.0

    def stamp(self, now: int, last_s: int) -> int:
        """The time for records that follow one of last_s when the clock says now; never before it."""
        if last_s > now + FUTURE_S:
            why = f"the last record is dated {last_s}, the clock says {now}: more than {FUTURE_S} s before it"
            raise Unavailable("clock", why)
        self.check(now)
        return max(now, last_s)

    def check(self, now: int) -> None:
        """Unavailable where the clock says this and is ahead of what stands for the time outside."""
        at_s = self._at()
        if now > self._confirmed_until_s:
            # Of the chains a block may have come since they were asked.
            if self._chains and self._is_ahead(now, at_s):
                self._ask(at_s)
            if self._is_ahead(now, at_s):
                self._refuse(now, at_s)
        if not self._chains and self._steady is not None:
            self._seen = _Seen("the steady clock", now, at_s)

    def ask_again(self) -> None:
        """Take a newer block's time, now and then, so that the steady clock need not be right for long."""
        at_s = self._at()
        if self._chains and at_s - self._asked_at_s >= ASK_AGAIN_S:
            self._ask(at_s)

    def _at(self) -> float:
        return 0.0 if self._steady is None else self._steady()

    def _is_ahead(self, now: int, at_s: float) -> bool:
        if self._seen is None:
            return bool(self._chains)
        return now > self._seen.expected_s(at_s) + self._allowed_s

    def _refuse(self, now: int, at_s: float) -> NoReturn:
        assert self._seen is not None, "a chain that answered showed a block"
        expected = f"by {self._seen.name} it is {self._seen.expected_s(at_s)}"
        raise Unavailable("clock", f"the clock says {now}, {expected}: more than {self._allowed_s} s ahead")

    def _ask(self, at_s: float) -> None:
        """Take the newest block's time of all chains; Unavailable where none has answered yet."""
        silent = []
        for chain in self._chains:
            try:
                time_s = chain.newest_s()
            except Unavailable as error:
                silent.append(f"{chain.name}: {error.why}")
                continue
            # The same block again says nothing new, and time has passed since it was seen first.
            if self._seen is None or time_s > self._seen.time_s:
                self._seen = _Seen(f"the newest block of {chain.name}", time_s, at_s)
        self._asked_at_s = at_s
        if self._seen is None:
            raise Unavailable("clock", f"no chain says what time it is: {'; '.join(silent)}")


__all__ = ["FUTURE_S", "SKEW_S", "ChainTime", "Timekeeper", "steady"]
