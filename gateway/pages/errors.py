"""Errors as pages, for who reads them in a browser; programs keep their problem+json."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.pages.render import page, page_before
from ledger.records import Invalid, Unavailable

PROBLEM = "application/problem+json"
_KINDS: tuple[type[Exception], ...] = (
    Invalid,
    Unavailable,
    RequestValidationError,
    HTTPException,
    Exception,
)
_KNOWN = frozenset(
    {
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
Handler = Callable[[Request, Any], Awaitable[Response]]


def install_errors(app: FastAPI) -> None:
    """Show a problem as a page where a page was asked for; after the API's own handlers are in place."""
    for kind in _KINDS:
        told: Any = app.exception_handlers[kind]
        app.add_exception_handler(kind, _shown(told))


def _shown(tell: Handler) -> Handler:
    async def handler(request: Request, error: Any) -> Response:
        answer = await tell(request, error)
        if answer.media_type != PROBLEM or not _wants_page(request):
            return answer
        problem = json.loads(bytes(answer.body))
        status = answer.status_code
        # What a form names and is not there is no page that is not there.
        is_refused = status == HTTPStatus.NOT_FOUND and request.method == "POST"
        words = str(422 if is_refused else status) if status in _KNOWN else "other"
        caller = getattr(request.state, "caller", None)
        own = {} if caller is None else {"caller": caller}
        back = page_before(request)
        shown = page(request, "error.html", status, problem=problem, words=words, back=back, **own)
        if "retry-after" in answer.headers:
            shown.headers["Retry-After"] = answer.headers["retry-after"]
        return shown

    return handler


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
