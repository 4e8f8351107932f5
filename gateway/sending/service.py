"""Queue what is to be done on a chain, in the caller's own transaction, and ask how far it has come."""

from __future__ import annotations

from gateway.db import Connection
from gateway.sending import store
from gateway.sending.call import ENDS, LIVE, Call, Outcome, State
from ledger.records import reject


def queue(connection: Connection, chain: str, call: Call, now: int) -> str:
    """Have a call done once; returns its id. The same call again is the same row and the same id.

    It commits with what the caller decided, so neither is there without the other. Invalid if a
    call of this kind and reference is another one.
    """
    call.check()
    known = store.call(connection, call.id)
    if known is None and store.add_call(connection, chain, call, now):
        return call.id
    known = known or store.call(connection, call.id)
    assert known is not None
    if (known.chain, known.call) != (chain, call):
        reject("conflict", f"{call.kind} {call.reference}", "another call was queued under this reference")
    return call.id


def outcome(connection: Connection, id: str) -> Outcome:
    """How far a call has come; Invalid if no call has this id."""
    known = store.call(connection, id)
    if known is None:
        reject("not_found", "call", f"no call is called {id[:40]!a}")
    return known.outcome


__all__ = ["ENDS", "LIVE", "Call", "Outcome", "State", "outcome", "queue"]
