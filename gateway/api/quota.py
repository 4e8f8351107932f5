"""How often somebody may ask: by key, or by address where there is no key."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ledger.records import Invalid

WINDOW_S = 60
CALLERS_MAX = 10_000


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


class Quota:
    """So many in a minute for each caller, in this process (field failure 52).

    The window of each caller begins with the minute of the clock; where there are very many
    callers, those who asked last are remembered.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._now = now
        self._asked: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str) -> Left:
        """Count one request; TooMany, which is Invalid, when it is one too many."""
        left = self._left(caller, 1)
        if left.remaining < 0:
            raise TooMany(Left(left.most, 0, left.reset_s))
        return left

    def check(self, caller: str) -> Left:
        """Refuse like `take`, and count nothing."""
        left = self._left(caller, 0)
        if left.remaining <= 0:
            raise TooMany(left)
        return left

    def _left(self, caller: str, count: int) -> Left:
        now = self._now()
        window = int(now) // WINDOW_S
        with self._lock:
            since, asked = self._asked.pop(caller, (window, 0))
            asked = count + (asked if since == window else 0)
            self._asked[caller] = (window, min(asked, self.most + 1))
            if len(self._asked) > CALLERS_MAX:
                self._asked.popitem(last=False)
        return Left(self.most, self.most - asked, max(1, int((window + 1) * WINDOW_S - now)))
