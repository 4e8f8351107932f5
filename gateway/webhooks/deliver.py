"""Delivery of what is due in the outbox.

No transaction is open while a request is under way. If the process dies
- before the claim is committed: nothing was sent, the delivery is still due;
- after it: the lease ends and the delivery is sent again, though it may have arrived;
- after the outcome is committed: it is done.
So each event arrives at least once, under one id, and the receiver forgets doubles.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.webhooks import signing, store
from gateway.webhooks.egress import Egress
from ledger.records import Invalid, Unavailable

if TYPE_CHECKING:
    from gateway.db import Connection, Engine

Clock = Callable[[], int]

# The waits after each failed attempt: 75 hours and 35 minutes in all, then the delivery is dead.
SCHEDULE_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
RETRY_AFTER_MAX_S: Final = 86_400
GONE: Final = 410
# Most of a request is waiting; and the more are under way, the more share one commit.
AT_ONCE: Final = 128
POLL_S: Final = 0.2
GATHER_S: Final = 0.005
TURN_S: Final = 1.0


@dataclass(frozen=True)
class Outcome:
    """What an endpoint answered, or why it did not."""

    status: int | None
    error: str | None
    retry_after_s: int | None = None
    took_ms: int = 0


class Courier:
    """Sends what is due, with many requests under way at once.

    One endpoint has at most an eighth of them, and one that fails a single one, so that those which
    answer slowly leave room for all others. Any number of processes may do this at the same time.
    Outcomes and the next claims are written together: one commit serves as many requests as ended while
    the last one was made.
    """

    def __init__(
        self, engine: Engine, egress: Egress, sealer: store.Sealer, clock: Clock, at_once: int = AT_ONCE
    ) -> None:
        self._engine, self._egress, self._sealer, self._clock = engine, egress, sealer, clock
        self._at_once, self._share = at_once, max(1, at_once // 8)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="webhook")
        self._running: dict[Future[Outcome], store.Claim] = {}

    @property
    def is_busy(self) -> bool:
        """Whether requests are under way."""
        return bool(self._running)

    def step(self, most: int = AT_ONCE) -> int:
        """Write what ended, take at most so many that are due, wait a moment; returns how many were taken."""
        running = self._running
        done = {future: running.pop(future) for future in [one for one in running if one.done()]}
        wanted = min(self._at_once - len(running), most)
        claims: list[store.Claim] = []
        if done or wanted > 0:
            ended = [(claim, future.result()) for future, claim in done.items()]
            with self._engine.begin() as connection:
                conclude(connection, ended, self._clock())
                if wanted > 0:
                    busy = Counter(one.endpoint_id for one in running.values())
                    claims = store.claim(connection, self._clock(), wanted, self._share, busy)
        for claimed in claims:
            future = self._threads.submit(attempt, self._egress, self._sealer, claimed, self._clock)
            running[future] = claimed
        if running:
            _wait_for_some(running, self._at_once)
        return len(claims)

    def work(self, turn_s: float = TURN_S) -> int:
        """Send for a moment; what is slow goes on meanwhile, and is written by the next turn."""
        end, taken = time.monotonic() + turn_s, 0
        while True:
            taken += self.step()
            if not self._running or time.monotonic() >= end:
                return taken

    def close(self, grace_s: float = TURN_S * 25) -> None:
        """Take nothing more, and write what ends in time; the rest is sent again when its lease ends."""
        end = time.monotonic() + grace_s
        while self._running and time.monotonic() < end:
            self.step(0)
        self._threads.shutdown(wait=False, cancel_futures=True)


def deliver_due(
    engine: Engine,
    egress: Egress,
    sealer: store.Sealer,
    clock: Clock,
    *,
    limit: int = 1_000,
    at_once: int = AT_ONCE,
) -> int:
    """Send what is due, until nothing is or `limit` were taken and ended; returns how many were taken."""
    courier, taken = Courier(engine, egress, sealer, clock, at_once), 0
    try:
        while True:
            taken += courier.step(limit - taken)
            if not courier.is_busy:
                return taken
    finally:
        courier.close(0)


def _wait_for_some(running: Collection[Future[Outcome]], at_once: int) -> None:
    """Until some ended; not for ever, for while a slow one runs, others become due."""
    ended = wait(running, POLL_S, FIRST_COMPLETED).done
    if ended and len(ended) < min(len(running), at_once // 4):
        # A little more, so that one commit serves several.
        wait(running, GATHER_S)


def attempt(egress: Egress, sealer: store.Sealer, claimed: store.Claim, clock: Clock) -> Outcome:
    """Make one request, signed with each secret that holds now."""
    started = time.monotonic()
    try:
        keys = [sealer.unseal(sealed) for sealed in claimed.sealed]
        headers = signing.signed_headers(keys, claimed.event_id, clock(), claimed.body)
        answer = egress.post(claimed.url, headers, claimed.body)
    except (Invalid, Unavailable) as error:
        return Outcome(None, str(error), None, _since_ms(started))
    if 200 <= answer.status < 300:
        return Outcome(answer.status, None, None, _since_ms(started))
    return Outcome(answer.status, f"status {answer.status}", answer.retry_after_s, _since_ms(started))


def _since_ms(started: float) -> int:
    return int((time.monotonic() - started) * 1_000)


def conclude(connection: Connection, ended: Sequence[tuple[store.Claim, Outcome]], now: int) -> None:
    """Write what came of attempts: done, due again, or dead."""
    concluded = []
    for claimed, outcome in ended:
        one = _conclusion(claimed, outcome, now)
        if outcome.status != GONE:
            concluded.append(one)
        elif store.record(connection, [one]):
            store.disable_endpoint(connection, claimed.endpoint_id, "it answered 410 Gone", now)
    store.record(connection, concluded)


def _conclusion(claimed: store.Claim, outcome: Outcome, now: int) -> store.Conclusion:
    told = (outcome.status, outcome.error)
    if outcome.error is None:
        return store.Conclusion(claimed, "delivered", *told, now, now, outcome.took_ms)
    if outcome.status == GONE or claimed.attempt > len(SCHEDULE_S):
        return store.Conclusion(claimed, "dead", *told, now, now, outcome.took_ms)
    due = now + wait_s(claimed.attempt, outcome.retry_after_s)
    return store.Conclusion(claimed, "pending", *told, due, now, outcome.took_ms)


def wait_s(failed: int, retry_after_s: int | None = None) -> int:
    """Give the wait after the n-th failed attempt, a tenth more or less so that crowds disperse."""
    delay = SCHEDULE_S[failed - 1]
    spread = max(1, delay // 10)
    jittered = delay - spread + secrets.randbelow(2 * spread + 1)
    return max(jittered, min(retry_after_s or 0, RETRY_AFTER_MAX_S))
