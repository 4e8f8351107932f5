"""Delivery of what is due in the outbox.

No transaction is open while a request is under way. If the process dies
- before the claim is committed: nothing was sent, the delivery is still due;
- after it: the lease ends and the delivery is sent again, though it may have arrived;
- after the outcome is committed: it is done.
So each event arrives at least once, under one id, and the receiver forgets doubles.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.webhooks import signing, store
from gateway.webhooks.egress import Egress
from ledger.records import Invalid, Unavailable

if TYPE_CHECKING:
    from gateway.db import Engine

Clock = Callable[[], int]

# The waits after each failed attempt: 75 hours and 35 minutes in all, then the delivery is dead.
SCHEDULE_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
RETRY_AFTER_MAX_S: Final = 86_400
GONE: Final = 410
POLL_S: Final = 0.2


@dataclass(frozen=True)
class Outcome:
    """What an endpoint answered, or why it did not."""

    status: int | None
    error: str | None
    retry_after_s: int | None = None


def deliver_due(
    engine: Engine,
    egress: Egress,
    sealer: store.Sealer,
    clock: Clock,
    *,
    limit: int = 1_000,
    at_once: int = 16,
) -> int:
    """Send what is due, until nothing is or `limit` were taken, and tell how many were taken.

    One endpoint has at most a quarter of the requests under way, so that one which answers
    slowly leaves room for all others. Any number of processes may do this at the same time.
    """
    taken = 0
    running: dict[Future[Outcome], store.Claim] = {}
    with ThreadPoolExecutor(at_once) as threads:
        while True:
            wanted = min(at_once - len(running), limit - taken)
            claims: list[store.Claim] = []
            if wanted > 0:
                with engine.begin() as connection:
                    claims = store.claim(connection, clock(), wanted, max(1, at_once // 4))
            for claimed in claims:
                running[threads.submit(attempt, egress, sealer, claimed, clock)] = claimed
            taken += len(claims)
            if not running:
                return taken
            # Not for ever: while a slow one runs, others become due.
            for future in wait(running, POLL_S, FIRST_COMPLETED).done:
                conclude(engine, running.pop(future), future.result(), clock())


def attempt(egress: Egress, sealer: store.Sealer, claimed: store.Claim, clock: Clock) -> Outcome:
    """Make one request, signed with each secret that holds now."""
    try:
        keys = [sealer.unseal(sealed) for sealed in claimed.sealed]
        headers = signing.signed_headers(keys, claimed.event_id, clock(), claimed.body)
        answer = egress.post(claimed.url, headers, claimed.body)
    except (Invalid, Unavailable) as error:
        return Outcome(None, str(error))
    if 200 <= answer.status < 300:
        return Outcome(answer.status, None)
    return Outcome(answer.status, f"status {answer.status}", answer.retry_after_s)


def conclude(engine: Engine, claimed: store.Claim, outcome: Outcome, now: int) -> None:
    """Write what came of an attempt: done, due again, or dead."""
    with engine.begin() as connection:
        if outcome.error is None:
            store.record(connection, claimed, "delivered", outcome.status, None, now)
        elif outcome.status == GONE:
            if store.record(connection, claimed, "dead", GONE, outcome.error, now):
                store.disable_endpoint(connection, claimed.endpoint_id, "it answered 410 Gone", now)
        elif claimed.attempt > len(SCHEDULE_S):
            store.record(connection, claimed, "dead", outcome.status, outcome.error, now)
        else:
            due = now + wait_s(claimed.attempt, outcome.retry_after_s)
            store.record(connection, claimed, "pending", outcome.status, outcome.error, due)


def wait_s(failed: int, retry_after_s: int | None = None) -> int:
    """Give the wait after the n-th failed attempt, a tenth more or less so that crowds disperse."""
    delay = SCHEDULE_S[failed - 1]
    spread = max(1, delay // 10)
    jittered = delay - spread + secrets.randbelow(2 * spread + 1)
    return max(jittered, min(retry_after_s or 0, RETRY_AFTER_MAX_S))
