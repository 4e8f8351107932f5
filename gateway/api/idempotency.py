"""Idempotency-Key for every route that writes: the same key and request give the same answer.

A claim is stored before the work and the answer after it, each in a transaction of its own. What holds
if the process dies between them: the claim stays without an answer; until its lease is over the same
request is told to wait (409), then it is done again. Use cases whose effect must happen once take the
key themselves and keep it in the transaction of that effect (an invoice, a refund), so that this second
time finds what the first one did.

Answers are kept for 48 hours, sealed, for some hold a new key. An answer that says "not now" (5xx, 429,
a busy 409) is no answer to keep: the request may be made again.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from gateway.api import store
from gateway.db import Engine, reading
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

KEPT_S: Final = 48 * 3600
# Longer than any request takes here.
LEASE_S: Final = 60
WAIT_S, STEP_S = 2.0, 0.05
REPLAYED: Final = "Idempotency-Replayed"
_KEY = re.compile("[!-~]{1,255}")
_PASSING: Final = frozenset({408, 425, 429})


def check_key(key: str) -> None:
    """Refuse what is no key: 1 to 255 visible ASCII characters."""
    if not _KEY.fullmatch(key):
        reject("text", "Idempotency-Key", "a key has 1 to 255 visible ASCII characters")


def digest(method: str, path: str, body: bytes) -> bytes:
    """What makes two requests the same: method, path with its query, and the bytes of the body."""
    return sha256(f"{method} {path}\n".encode() + body).digest()


async def once(
    gateway: Gateway, owner: str, key: str, request: bytes, work: Callable[[], Awaitable[Response]]
) -> Response:
    """Answer a request, or give the answer that it had; refuse another request under the same key."""
    check_key(key)
    claim = secrets.token_hex(8)
    known = await run_in_threadpool(_claim, gateway, owner, key, request, claim)
    waited = 0.0
    while known is not None and known.status is None and waited < WAIT_S:
        # The same request is under way: most end within the time that a caller waits gladly.
        await asyncio.sleep(STEP_S)
        waited += STEP_S
        known = await run_in_threadpool(_claim, gateway, owner, key, request, claim)
    if known is not None:
        return _replay(gateway, known)
    try:
        response = await work()
    except BaseException:
        await run_in_threadpool(_release, gateway.engine, owner, key, claim)
        raise
    body = bytes(response.body)
    if response.status_code >= 500 or response.status_code in _PASSING:
        await run_in_threadpool(_release, gateway.engine, owner, key, claim)
    else:
        sealed = gateway.sealer.seal(body.decode())
        await run_in_threadpool(_finish, gateway.engine, (owner, key, claim), response, sealed)
    return response


def _claim(gateway: Gateway, owner: str, key: str, request: bytes, claim: str) -> store.Answer | None:
    """Claim a request; None when it is ours to answer, else what is known of it."""
    now = gateway.clock()
    with reading(gateway.engine) as connection:
        known = store.answer(connection, owner, key)
    if known is None:
        with gateway.engine.begin() as connection:
            if store.claim(connection, owner, key, request, claim, now):
                return None
            known = store.answer(connection, owner, key)
        if known is None:
            # Released between the two: ask again at the next turn.
            return store.Answer(request, now, "", None, None, None)
    if known.request != request:
        reject("idempotency", "Idempotency-Key", "this key was used for another request")
    if known.status is None and known.claimed_s + LEASE_S < now:
        with gateway.engine.begin() as connection:
            if store.take_over(connection, owner, key, known.claim, claim, now):
                return None
    return known


def _replay(gateway: Gateway, known: store.Answer) -> Response:
    if known.status is None or known.content is None:
        reject("busy", "Idempotency-Key", "the same request is being answered; ask again in a moment")
    content = gateway.sealer.unseal(known.content).encode()
    return Response(
        content or None, known.status, {REPLAYED: "true"}, media_type=known.media_type if content else None
    )


def _finish(engine: Engine, claimed: tuple[str, str, str], response: Response, sealed: bytes) -> None:
    media_type = response.headers.get("content-type", "")
    with engine.begin() as connection:
        store.finish(connection, *claimed, response.status_code, media_type, sealed)


def _release(engine: Engine, owner: str, key: str, claim: str) -> None:
    with engine.begin() as connection:
        store.release(connection, owner, key, claim)


def forget_old(engine: Engine, now: int) -> int:
    """Remove the answers that nobody need be given again; a step of the worker."""
    with engine.begin() as connection:
        return store.forget(connection, now - KEPT_S)
