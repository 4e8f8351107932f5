"""A page: a template, a language, and the headers that go with both."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.eip55 import checksummed, checksummed_text
from gateway.pages.assets import asset
from gateway.pages.checkout import state_word
from gateway.pages.words import COOKIE, LANGUAGES, tongue_of

if TYPE_CHECKING:
    from gateway.app import Gateway

YEAR_S = 365 * 86_400

_templates = Environment(
    loader=PackageLoader("gateway.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(
    asset=asset,
    checksummed=checksummed,
    checksummed_text=checksummed_text,
    languages=LANGUAGES,
    state_word=state_word,
)


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves a request."""
    found: Gateway = request.app.state.gateway
    return found


def page(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    """Fill in a template in the language of the request; a language that was asked for is remembered."""
    tongue = tongue_of(request)
    others = [(key, value) for key, value in request.query_params.multi_items() if key != "lang"]

    # The answer to a form stands at no address of its own: in another language it is the form again.
    before = page_before(request) or ""

    def switch(language: str) -> str:
        return f"{before}?" + urlencode([*others, ("lang", language)])

    text = _templates.get_template(template).render(t=tongue, switch=switch, path=request.url.path, **values)
    # What a page says changes with each payment: kept, but asked for again each time.
    headers = {"Vary": "Accept-Language, Cookie", "Cache-Control": "no-cache"}
    answer = HTMLResponse(text, status, headers)
    if request.query_params.get("lang") == tongue.code:
        answer.set_cookie(COOKIE, tongue.code, max_age=YEAR_S, httponly=True, samesite="lax")
    return answer


def page_before(request: Request) -> str | None:
    """Where a form was sent from, so that who sent it goes back with one click; only to a page of ours."""
    came = urlsplit(request.headers.get("referer", ""))
    ours = came.netloc == request.headers.get("host", "") and came.path.startswith("/")
    return came.path if request.method == "POST" and ours and not came.path.startswith("//") else None
