"""When nobody is quoted: the chain is seen too far back, or the rate is too old (field failure 06).

It begins again by itself: what is asked is how things stand now, and nothing is switched off.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from gateway.db import Engine, reading
from gateway.payments import store
from gateway.rates import CombinedRate
from gateway.webhooks.deliver import Clock
from ledger.records import Unavailable
from ledger.rules import TENGE


class Rates(Protocol):
    """Where a believed rate comes from."""

    def current(self, asset: str) -> CombinedRate:
        """The rate that holds now."""
        ...


ASKED_EVERY_S = 1.0


@dataclass(frozen=True)
class Most:
    """How far behind is too far, in seconds."""

    lag_s: int
    rate_age_s: int


class Limits:
    """Asked before each quote; the database is asked at most once a second. rail: the chain of the tokens."""

    def __init__(self, engine: Engine, clock: Clock, rates: Rates, rail: str | None, most: Most) -> None:
        self._engine, self._clock, self._rates, self.rail, self.most = engine, clock, rates, rail, most
        # When it was asked, by this machine's own clock, and what was said.
        self._seen: tuple[float, int] | None = None
        self._lock = threading.Lock()

    def check(self, asset: str) -> None:
        """Refuse to quote in this asset while something is over its limit; with both numbers."""
        if asset == TENGE:
            return
        self.check_lag()
        age_s = self.rate_age_s(asset)
        if age_s > self.most.rate_age_s:
            why = f"the rate of {asset} is {age_s} s old, at most {self.most.rate_age_s}"
            raise Unavailable("quotes", why)

    def check_lag(self) -> None:
        """Unavailable while the chain is seen as it was too long ago."""
        with self._lock:
            known = self._seen
        # What was good a moment ago is good; what was not may have become so.
        is_fresh = known is not None and time.monotonic() - known[0] < ASKED_EVERY_S
        if known is not None and is_fresh and self._clock() - known[1] <= self.most.lag_s:
            return
        if (lag_s := self.lag_s()) > self.most.lag_s:
            why = f"the chain {self.rail} is seen as it was {lag_s} s ago, at most {self.most.lag_s}"
            raise Unavailable("quotes", why)

    def lag_s(self) -> int:
        """How long ago that was of which all payments are known."""
        if self.rail is None:
            return 0
        with reading(self._engine) as connection:
            seen_s = store.seen_until(connection, self.rail)
        with self._lock:
            self._seen = (time.monotonic(), seen_s)
        return max(self._clock() - seen_s, 0)

    def rate_age_s(self, asset: str) -> int:
        """How old the rate is that would be quoted; Unavailable where there is none."""
        return max(self._clock() - self._rates.current(asset).time_s, 0)
