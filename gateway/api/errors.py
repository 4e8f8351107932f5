"""What an error is over HTTP: status in one table, problem+json (RFC 9457) with rule, where and why."""

from __future__ import annotations

import json
import logging
import re

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ledger.records import Invalid, Unavailable
from ledger.store import asking

LOGGER = logging.getLogger(__name__)

# Rules that are not "the request is wrong" (422). Everything else that is Invalid is.
STATUS = {
    "not_found": 404,
    "key": 401,
    "scope": 403,
    "sandbox": 403,
    "csrf": 403,
    "conflict": 409,
    "busy": 409,
    "idempotency": 422,
    "inbox": 409,
    "size": 413,
    "quota": 429,
}
WRONG = 422
TOO_MANY = 429
UNAVAILABLE = 503
RETRY_AFTER_S = {TOO_MANY: 60, UNAVAILABLE: 5}
BUSY_S = 2
# rule: what is the matter, in the same words each time; `why` tells of the one case.
TITLES = {
    "not_found": "There is no such thing, or it is not yours.",
    "key": "A key is missing, unknown, revoked or expired.",
    "scope": "The key may not do this.",
    "sandbox": "The sandbox and the live world do not mix.",
    "csrf": "The form was not sent from its own page.",
    "conflict": "What is asked contradicts what is there.",
    "busy": "The same request is being answered right now.",
    "idempotency": "An Idempotency-Key was used for another request.",
    "size": "The request is too large.",
    "quota": "Too many requests.",
    "schema": "The request does not have the form of this route.",
    "http": "The address or the method is wrong.",
    "page": "This is no place in a list.",
    "text": "A text has characters that cannot be kept.",
    "unavailable": "Something that this needs does not answer.",
    "bug": "An error of ours; nothing was changed.",
}
REFUSED = "A rule refuses this."
_RULE = re.compile("[A-Za-z0-9_:.-]{1,60}")


def problem(status: int, rule: str, where: str, why: str, headers: dict[str, str] | None = None) -> Response:
    """One problem."""
    # What a caller sent may stand in it: shortened, and in ASCII, which holds any text.
    where, why = where[:200], why[:500]
    content = {
        "type": f"/problems/{rule}" if _RULE.fullmatch(rule) else "about:blank",
        "title": TITLES.get(rule, REFUSED),
        "status": status,
        "detail": why,
        "rule": rule,
        "where": where,
        "why": why,
    }
    told = {"Retry-After": str(RETRY_AFTER_S[status])} if status in RETRY_AFTER_S else {}
    if rule == "busy":
        told["Retry-After"] = str(BUSY_S)
    if status == STATUS["key"]:
        told["WWW-Authenticate"] = "Bearer"
    return Response(
        json.dumps(content), status, told | (headers or {}), media_type="application/problem+json"
    )


def respond(request: Request, error: Exception) -> Response:
    """The problem that an error is."""
    match error:
        case Invalid():
            return problem(STATUS.get(error.rule, WRONG), error.rule, error.where, error.why)
        case Unavailable():
            return problem(UNAVAILABLE, "unavailable", error.service, error.why)
        case RequestValidationError():
            first = error.errors()[0]
            return problem(WRONG, "schema", ".".join(str(part) for part in first["loc"]), first["msg"])
        case HTTPException():
            return problem(
                error.status_code, "http", request.url.path, str(error.detail), dict(error.headers or {})
            )
        case _ if _is_unanswered(error):
            # Whatever was asked may have been done: who asks again with the same key is told.
            LOGGER.warning("%s %s: the database did not answer", request.method, request.url.path)
            why = "it did not answer; ask again, with the same Idempotency-Key where there was one"
            return problem(UNAVAILABLE, "unavailable", "database", why)
        case _:
            # Our own bug: the caller learns that, the log learns why, and nothing inside is shown.
            LOGGER.error("%s %s", request.method, request.url.path, exc_info=error)
            return problem(500, "bug", request.url.path, "an error of ours; nothing was changed")


def _is_unanswered(error: Exception) -> bool:
    """Whether it is of a database that did not answer, and no bug."""
    try:
        with asking():
            raise error
    except Unavailable:
        return True
    except Exception:
        return False


def install(app: FastAPI) -> None:
    """Make every failure of the app a problem."""

    async def tell(request: Request, error: Exception) -> Response:
        return respond(request, error)

    for kind in (Invalid, Unavailable, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, tell)
