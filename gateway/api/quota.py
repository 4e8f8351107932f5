"""How often somebody may ask: by key, or by address where there is no key."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from gateway.api import store
from gateway.db import Engine
from ledger.records import Invalid

WINDOW_S = 60
CALLERS_MAX = 10_000
# A process takes a fiftieth of a quota at once, so that a caller costs the database few writes a minute,
# however often it asks; and never so much that others miss it.
SLICES, SLICE_MOST = 50, 250


@dataclass(frozen=True)
class Left:
    """What is left of a quota: of so many in WINDOW_S, so many more, and all again in so many seconds."""

    most: int
    remaining: int
    reset_s: int

    def headers(self, name: str) -> dict[str, str]:
        """The RateLimit fields of the HTTP working group, and the older three that programs know."""
        return {
            "RateLimit-Policy": f'"{name}";q={self.most};w={WINDOW_S}',
            "RateLimit": f'"{name}";r={self.remaining};t={self.reset_s}',
            "RateLimit-Limit": str(self.most),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


class TooMany(Invalid):
    """One request too many; `left` says when there is room again."""

    def __init__(self, left: Left) -> None:
        super().__init__("quota", "requests", f"more than {left.most} in {WINDOW_S} seconds")
        self.left = left


@dataclass
class _Count:
    """What one caller did in one window.

    used: by all, as far as is known here; leased: how much of that this process has not given out yet.
    """

    window: int
    used: int = 0
    leased: int = 0


class Quota:
    """So many in a minute for each caller, in all processes that share a database (field failure 52).

    A process takes a slice of a caller's quota from the database and gives it out from memory; so all
    together never give more than `most`, and what a process took and did not give is lost until the
    window ends: less than a slice for each of the others. Where nothing is shared, the quota is this
    process's own. The windows are the minutes of the clock; where there are very many callers, those
    who asked last are remembered.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.time) -> None:
        self.most = most
        self._now = now
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._lock = threading.Lock()
        self._shared: tuple[Engine, str] | None = None
        # Of many threads that find a caller's slice given out, one asks for the next.
        self._asking = [threading.Lock() for _ in range(64)]
        self._forgotten = 0

    def share(self, engine: Engine, name: str) -> None:
        """Hold together with all processes on this database that share the same name."""
        self._shared = (engine, name)

    def take(self, caller: str) -> Left:
        """Count one request; TooMany, which is Invalid, when it is one too many. May ask the database."""
        return self.quick(caller) or self._take_shared(caller)

    def quick(self, caller: str) -> Left | None:
        """Like `take`, and never waits; None, and nothing counted, where the database has to be asked."""
        now = self._now()
        with self._lock:
            count = self._count(caller, now)
            if count.leased:
                count.leased -= 1
            elif self._shared is not None and count.used < self.most:
                return None
            else:
                count.used = min(count.used + 1, self.most + 1)
            left = self._left(count, now)
        if left.remaining < 0:
            raise TooMany(Left(left.most, 0, left.reset_s))
        return left

    def check(self, caller: str) -> Left:
        """Refuse like `take`, and count nothing; knows what this process knows."""
        now = self._now()
        with self._lock:
            left = self._left(self._count(caller, now), now)
        if left.remaining <= 0:
            raise TooMany(Left(left.most, 0, left.reset_s))
        return left

    def _take_shared(self, caller: str) -> Left:
        assert self._shared is not None
        engine, name = self._shared
        hashed = sha256(f"{name} {caller}".encode()).digest()
        with self._asking[hashed[0] % len(self._asking)]:
            while (left := self.quick(caller)) is None:
                window = int(self._now()) // WINDOW_S
                wanted = max(1, min(SLICE_MOST, self.most // SLICES))
                with engine.begin() as connection:
                    given, used = store.lease(connection, window, name, hashed, wanted, self.most)
                if self._forgotten < window:
                    self._forgotten = window
                    with engine.begin() as connection:
                        store.forget_leases(connection, window - 1)
                with self._lock:
                    count = self._count(caller, window * WINDOW_S)
                    count.used, count.leased = used, count.leased + given
        return left

    def _count(self, caller: str, now: float) -> _Count:
        window = int(now) // WINDOW_S
        known = self._counts.pop(caller, None)
        count = known if known is not None and known.window == window else _Count(window)
        self._counts[caller] = count
        if len(self._counts) > CALLERS_MAX:
            self._counts.popitem(last=False)
        return count

    def _left(self, count: _Count, now: float) -> Left:
        remaining = self.most - count.used + count.leased
        return Left(self.most, remaining, max(1, int((count.window + 1) * WINDOW_S - now)))
