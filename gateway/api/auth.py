"""The one gate: every route of /v1 names its scope here, and a test lists them all (field failure 49)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Header, Request

from gateway.db import reading
from gateway.merchants import store
from gateway.merchants.store import MERCHANT, OPERATOR, Caller
from ledger.records import reject

# An operator may do what a merchant may not; neither may do what the other does with money.
SCOPES = (MERCHANT, OPERATOR)


def gate(scope: str) -> Callable[..., Caller]:
    """A dependency that lets in only keys of a scope: `Authorization: Bearer qz_...`, never in a URL."""
    assert scope in SCOPES

    def check(
        request: Request, authorization: Annotated[str | None, Header(max_length=200)] = None
    ) -> Caller:
        if authorization is None or not authorization.startswith("Bearer "):
            reject("key", "Authorization", "send a key as: Authorization: Bearer qz_...")
        with reading(request.app.state.gateway.engine) as connection:
            caller = store.caller(connection, authorization.removeprefix("Bearer ").strip())
        if caller is None:
            reject("key", "Authorization", "nobody holds this key, or it was revoked")
        if caller.scope != scope:
            reject("scope", "Authorization", f"this needs a key of scope {scope}, the key has {caller.scope}")
        return caller

    check.scope = scope  # type: ignore[attr-defined]  # read by the test that lists all routes
    return check
