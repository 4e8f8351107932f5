"""The one gate: every route says here what it asks for, and one that says nothing cannot be made.

Programs come with `Authorization: Bearer qz_...`, people's browsers with a sealed cookie that
holds the same key (pages/session.py). Both pass `admit` (field failure 49); there is no password.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request

from gateway.db import reading
from gateway.merchants import store
from gateway.merchants.roles import SCOPES, Caller
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

BEARER = "Bearer "
KEY_CHARACTERS_MAX = 200


@dataclass(frozen=True)
class Door:
    """What a route asks of who comes in. scope None: nothing, it is public.

    sandbox: keys of the sandbox come in too. even_revoked: so does a key that was revoked, and the route
    itself decides what it may still do (LEAKS 21). rechecked: the route looks at the key once more in the
    statement of its effect, so that a key which was looked up a moment ago need not be looked up before.
    """

    scope: str | None
    sandbox: bool = False
    even_revoked: bool = False
    rechecked: bool = False


def gate(
    scope: str, *, sandbox: bool = False, even_revoked: bool = False, rechecked: bool = False
) -> Callable[..., Any]:
    """A dependency that gives the caller, whom the route's door has admitted."""
    assert scope in SCOPES, scope

    async def check(request: Request) -> Caller:
        # Set by the route itself before anything else runs; a route that is none of ours has no caller.
        caller: Caller = request.state.caller
        assert scope in caller.scopes or caller.revoked
        return caller

    check.door = Door(scope, sandbox, even_revoked, rechecked)  # type: ignore[attr-defined]  # read by Route, and by a test
    return check


async def public() -> None:
    """A dependency that says that anybody may."""


public.door = Door(None)  # type: ignore[attr-defined]


def door_of(dependencies: list[Any]) -> Door:
    """The one door that the dependencies of a route name."""
    doors = [call.door for call in (one.call for one in dependencies) if hasattr(call, "door")]
    assert len(doors) == 1, f"a route has one door, this has {len(doors)}"
    found: Door = doors[0]
    return found


def key_in(authorization: str | None) -> str:
    """The key in an Authorization header."""
    if authorization is None or not authorization.startswith(BEARER):
        reject("key", "Authorization", "send a key as: Authorization: Bearer qz_...")
    if len(authorization) > KEY_CHARACTERS_MAX:
        reject("key", "Authorization", f"a key is shorter than {KEY_CHARACTERS_MAX} characters")
    return authorization.removeprefix(BEARER).strip()


def admit(gateway: Gateway, key: str, door: Door) -> Caller:
    """Who holds a key, if that lets in here; asks the database each time, so that a revoked key is out."""
    now = gateway.clock()
    with reading(gateway.engine) as connection:
        caller = store.caller(connection, key, now)
    if caller is None:
        reject("key", "Authorization", "nobody holds this key, or it was revoked or has expired")
    check_caller(caller, door)
    return caller


def check_caller(caller: Caller, door: Door) -> None:
    """Refuse a caller whose key does not open this door."""
    if caller.revoked and not door.even_revoked:
        reject("key", "Authorization", "nobody holds this key, or it was revoked or has expired")
    if door.scope not in caller.scopes:
        held = " ".join(sorted(caller.scopes))
        reject("scope", "Authorization", f"this needs the scope {door.scope}, the key has {held}")
    if caller.sandbox and not door.sandbox:
        reject("sandbox", "Authorization", "this does not exist in the sandbox; it needs a live key")
