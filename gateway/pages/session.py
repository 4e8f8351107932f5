"""Who is signed in: a key in a sealed cookie, admitted by the same gate as a program's.

There is no password and no session table. The cookie is HttpOnly and SameSite=Strict; what is in it
is sealed with the gateway's own key, so that a stolen disk or log shows no key; and each request
looks the key up anew, so that a revoked key is signed out everywhere at once. Each form carries
a token that only its own page knows.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from typing_extensions import override

from gateway.api.auth import Door, admit, door_of
from gateway.api.route import address_of
from gateway.merchants.roles import OPERATOR, Caller
from gateway.pages.render import gateway_of, page_before
from ledger.records import Invalid, reject

if TYPE_CHECKING:
    from gateway.app import Gateway

LIFETIME_S: Final = 12 * 3600
SIGN_IN: Final = "/sign-in"
_COOKIE_MAX: Final = 2_000
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True)
class Session:
    """What the cookie holds: the key, and the token of its forms."""

    key: str
    token: str
    since_s: int


def cookie_name(gateway: Gateway) -> str:
    """With https the name itself forbids another host or path to set it."""
    return "__Host-session" if gateway.public_url.startswith("https://") else "session"


def start(gateway: Gateway, request: Request, key: str, response: Response) -> Caller:
    """Sign in who holds a key, or refuse; slow for an address that tries many."""
    limits, address = gateway.limits, address_of(request)
    limits.failures.check(address)
    try:
        caller = _whose(gateway, key)
    except Invalid:
        limits.failures.take(address)
        raise
    told = {"session": 1, "key": key, "token": secrets.token_urlsafe(24), "since_s": gateway.clock()}
    response.set_cookie(
        cookie_name(gateway),
        gateway.sealer.seal(json.dumps(told)).decode(),
        secure=gateway.public_url.startswith("https://"),
        httponly=True,
        samesite="strict",
        path="/",
    )
    return caller


def _whose(gateway: Gateway, key: str) -> Caller:
    """The caller of a key that opens pages: a live merchant's, or an operator's."""
    for scope in ("invoices.read", "unmatched.read"):
        try:
            return admit(gateway, key, Door(scope))
        except Invalid as refused:
            if refused.rule != "scope":
                raise
    return reject("scope", "key", "this key opens no page")


def end(gateway: Gateway, response: Response) -> None:
    """Sign out."""
    response.delete_cookie(cookie_name(gateway), path="/", httponly=True, samesite="strict")


def find(request: Request) -> Session | None:
    """The session of a request; None where there is none that holds."""
    gateway = gateway_of(request)
    sealed = request.cookies.get(cookie_name(gateway), "")
    if not sealed or len(sealed) > _COOKIE_MAX:
        return None
    try:
        told = json.loads(gateway.sealer.unseal(sealed.encode()))
    except (Invalid, ValueError):
        return None
    if not isinstance(told, dict) or told.get("session") != 1:
        return None
    found = Session(told["key"], told["token"], told["since_s"])
    return found if 0 <= gateway.clock() - found.since_s < LIFETIME_S else None


def home_of(caller: Caller) -> str:
    """Where somebody begins."""
    if caller.role == OPERATOR:
        return "/operator"
    return "/merchant" if "statements.read" in caller.scopes else "/pos"


def check_same_site(request: Request) -> None:
    """Refuse a form that another site's page sent; browsers say so, and old ones say nothing."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        reject("csrf", "form", "this form was sent from another site")


class PageRoute(APIRoute):
    """A page with one door; it cannot be made without."""

    @override
    def get_route_handler(self) -> Handler:
        handle, door = super().get_route_handler(), door_of(self.dependant.dependencies)

        async def admitted(request: Request) -> Response:
            if request.method != "GET":
                check_same_site(request)
            if door.scope is None:
                return await handle(request)
            gateway, session = gateway_of(request), find(request)
            if session is None:
                return _to_sign_in(request)
            try:
                request.state.caller = await run_in_threadpool(admit, gateway, session.key, door)
            except Invalid as refused:
                if refused.rule == "scope":
                    # Still signed in: the refusal is shown with the pages that this key opens.
                    request.state.caller = await run_in_threadpool(_whose, gateway, session.key)
                if refused.rule != "key":
                    raise
                # Revoked or expired since: out, at the next click.
                out = _to_sign_in(request)
                end(gateway, out)
                return out
            request.state.session = session
            if request.method != "GET":
                sent = (await request.form()).get("token", "")
                if not isinstance(sent, str) or not hmac.compare_digest(
                    sent.encode(), session.token.encode()
                ):
                    reject("csrf", "form", "this form is not of your session; load its page again")
            answer = await handle(request)
            answer.headers["Cache-Control"] = "no-store"
            return answer

        return admitted


def _to_sign_in(request: Request) -> RedirectResponse:
    """To where a key is given, and back; who was signed out reads so, and that no form was taken."""
    told = {}
    if then := request.url.path if request.method == "GET" else page_before(request):
        told["next"] = then
    if request.method != "GET":
        told["ended"] = "form"
    elif cookie_name(gateway_of(request)) in request.cookies:
        told["ended"] = "session"
    return RedirectResponse(f"{SIGN_IN}?{urlencode(told, safe='/')}" if told else SIGN_IN, 303)
