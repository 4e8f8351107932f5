"""How often somebody may ask for what costs a row: by key, or by address where there is no key."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from ledger.records import reject

WINDOW_S = 60
CALLERS_MAX = 10_000


class Quota:
    """So many in a minute for each caller, in this process (field failure 52).

    Two windows at most of each caller are remembered; where there are very many callers, those
    who asked last.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._now = now
        self._asked: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str) -> None:
        """Count one request; Invalid when it is one too many."""
        window = int(self._now()) // WINDOW_S
        with self._lock:
            since, count = self._asked.pop(caller, (window, 0))
            count = count + 1 if since == window else 1
            self._asked[caller] = (window, min(count, self.most + 1))
            if len(self._asked) > CALLERS_MAX:
                self._asked.popitem(last=False)
        if count > self.most:
            reject("quota", "requests", f"more than {self.most} in {WINDOW_S} seconds")
