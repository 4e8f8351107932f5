"""What an error is over HTTP: status in one table, problem+json (RFC 9457) with rule, where and why."""

from __future__ import annotations

import json
import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ledger.records import Invalid, Unavailable

LOGGER = logging.getLogger(__name__)

# Rules that are not "the request is wrong" (422). Everything else that is Invalid is.
STATUS = {
    "not_found": 404,
    "key": 401,
    "scope": 403,
    "conflict": 409,
    "idempotency": 422,
    "inbox": 409,
    "size": 413,
    "quota": 429,
}
WRONG = 422
TOO_MANY = 429
UNAVAILABLE = 503
RETRY_AFTER_S = {TOO_MANY: 60, UNAVAILABLE: 5}


def problem(status: int, rule: str, where: str, why: str) -> Response:
    """One problem."""
    # What a caller sent may stand in it: shortened, and in ASCII, which holds any text.
    where, why = where[:200], why[:500]
    content = {
        "type": "about:blank",
        "title": why,
        "status": status,
        "rule": rule,
        "where": where,
        "why": why,
    }
    headers = {"Retry-After": str(RETRY_AFTER_S[status])} if status in RETRY_AFTER_S else {}
    if status == STATUS["key"]:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(content), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Make every failure of the app a problem."""

    @app.exception_handler(Invalid)
    async def _invalid(request: Request, error: Invalid) -> Response:
        return problem(STATUS.get(error.rule, WRONG), error.rule, error.where, error.why)

    @app.exception_handler(Unavailable)
    async def _unavailable(request: Request, error: Unavailable) -> Response:
        return problem(UNAVAILABLE, "unavailable", error.service, error.why)

    @app.exception_handler(RequestValidationError)
    async def _malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(WRONG, "schema", where, first["msg"])

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, "http", request.url.path, str(error.detail))

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        # Our own bug: the caller learns that, the log learns why, and nothing inside is shown.
        LOGGER.error("%s %s", request.method, request.url.path, exc_info=error)
        return problem(500, "bug", request.url.path, "an error of ours; nothing was changed")
