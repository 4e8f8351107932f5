"""What waits inside, for an operator's page: how much, since when, and whether that is too long.

The same questions and bounds as in the table of docs/operator.md, "What to watch".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.db import Connection, reading
from gateway.mail import store as mail
from gateway.measures import store
from gateway.sending import store as sending
from gateway.sending.call import LIVE, State
from gateway.webhooks.history import store as webhooks

if TYPE_CHECKING:
    from gateway.app import Gateway


_LIVE = frozenset({State.QUEUED.value, *(state.value for state in LIVE)})


@dataclass(frozen=True)
class Queue:
    """One queue. key: its name in the words; age_s: of the oldest in it; most_s: above it a person looks."""

    key: str
    count: int
    age_s: int
    most_s: int

    @property
    def is_stuck(self) -> bool:
        """Whether the oldest waits for too long."""
        return self.count > 0 and self.age_s > self.most_s


def queues(gateway: Gateway) -> list[Queue]:
    """All of them, at this moment."""
    now = gateway.clock()
    with reading(gateway.engine) as connection:
        found = _asked(gateway, connection)
    return [
        Queue(key, count, 0 if since_s is None else max(now - since_s, 0), most_s)
        for key, count, since_s, most_s in found
    ]


def _asked(gateway: Gateway, connection: Connection) -> list[tuple[str, int, int | None, int]]:
    hooks, letters = webhooks.waiting(connection), mail.waiting(connection)
    depth, oldest_s = store.inbox(connection)
    public = gateway.publisher.published()
    hidden = max(store.recorded(connection) - public, 0)
    first_s = store.record_time(connection, public) if hidden else None
    found = [
        ("webhooks", hooks.pending, hooks.oldest_due_s, 600),
        ("letters", letters.count, letters.oldest_s, 600),
        ("inbox", depth, oldest_s, 60),
        ("hidden", hidden, first_s, 3600),
    ]
    chain = gateway.payments.chain
    if chain is not None:
        calls = sending.counts(connection, chain.rail)
        live = sum(count for state, count in calls.items() if state in _LIVE)
        found.append(("calls", live, sending.oldest_live(connection, chain.rail), 900))
    return found
