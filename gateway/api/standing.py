"""What is known of a key for a moment: who holds it, and where its merchant's money goes.

Only for a route whose use case looks at the key once more in the statement of its effect: there a revoked
key is out at once, however lately it was looked up here. Where money goes changes 48 hours after it was
asked for, so the moment ends before the next such change holds.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from gateway.db import reading
from gateway.merchants import store
from gateway.merchants.policy import Policy, policy_of
from gateway.merchants.roles import Caller

if TYPE_CHECKING:
    from gateway.app import Gateway

MOMENT_S: Final = 2.0
KNOWN_MAX: Final = 10_000


@dataclass(frozen=True)
class Standing:
    """Who asks, the wallet of the merchant now, and its policy."""

    caller: Caller
    wallet: bytes
    policy: Policy
    until_s: int
    read: float


class Standings:
    """Remembers for a moment; by the hash of the key, which tells nothing of the key."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Standing] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: str, now: int) -> Standing | None:
        """What is known of a key, if that was read a moment ago."""
        with self._lock:
            found = self._known.get(sha256(key.encode()).digest())
        fresh = found is not None and time.monotonic() - found.read < MOMENT_S and now < found.until_s
        return found if fresh else None

    def read(self, gateway: Gateway, key: str, caller: Caller, now: int) -> Standing | None:
        """Read what there is to know of a live merchant's key that was just admitted, and remember it."""
        if caller.merchant_id is None or caller.sandbox or caller.revoked:
            return None
        started = time.monotonic()
        with reading(gateway.engine) as connection:
            merchant = store.merchant_at(connection, caller.merchant_id, now)
            waiting = store.waiting_changes(connection, caller.merchant_id, now)
            held = store.one_key(connection, caller.key_id)
            policy = policy_of(connection, caller.merchant_id)
        assert merchant is not None
        assert held is not None
        ends = [change.effective_s for change in waiting]
        ends += [] if held.expires_s is None else [held.expires_s]
        standing = Standing(caller, merchant.wallet, policy, min(ends, default=1 << 62), started)
        with self._lock:
            self._known[sha256(key.encode()).digest()] = standing
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return standing

    def forget(self, key: str) -> None:
        """Look a key up anew at its next request."""
        with self._lock:
            self._known.pop(sha256(key.encode()).digest(), None)
