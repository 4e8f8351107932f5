"""Pages for a merchant: signing in, money, invoices, refunds, webhooks, keys."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.auth import gate, public
from gateway.api.invoices import own_invoice
from gateway.api.paging import END_OF_TIME, next_of, place, word
from gateway.api.refunds import own_refund, refunds_of, settlements_of
from gateway.db import reading
from gateway.eip55 import checksummed
from gateway.kz import business_date, day_start_s
from gateway.merchants import service, store
from gateway.merchants.roles import CASHIER, OWNER, Caller
from gateway.merchants.statements import service as statements
from gateway.pages import session
from gateway.pages.checkout import picture
from gateway.pages.plot import HEIGHT, TOP, WIDTH, bars
from gateway.pages.render import gateway_of, page
from gateway.pages.session import PageRoute
from gateway.pages.words import plain
from gateway.payments import store as payments
from gateway.payments.model import Status
from gateway.payments.refund_model import RefundState
from gateway.payments.store import refunds as refund_rows
from gateway.rails import Kind
from gateway.webhooks import store as webhooks
from gateway.webhooks.listing import store as listing
from ledger.records import Invalid, reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(route_class=PageRoute, include_in_schema=False)
ROWS, DAYS = 25, 30
# What a person chooses from, in days (a program says seconds). A key that is forgotten ends by itself.
KEY_LIFETIMES: Final[dict[str, int | None]] = {
    "30": 30 * 86_400,
    "90": 90 * 86_400,
    "365": 365 * 86_400,
    "none": None,
}
KEY_LIFETIME: Final = "365"
Text = Annotated[str, Form(max_length=500)]
Reader = Annotated[Caller, Depends(gate("invoices.read"))]
Maker = Annotated[Caller, Depends(gate("invoices.write"))]
Owner = Annotated[Caller, Depends(gate("statements.read"))]
HookReader = Annotated[Caller, Depends(gate("webhooks.read"))]
HookWriter = Annotated[Caller, Depends(gate("webhooks.write"))]
KeyReader = Annotated[Caller, Depends(gate("keys.read"))]
KeyWriter = Annotated[Caller, Depends(gate("keys.write"))]


def shown(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of somebody who is signed in."""
    caller: Caller = request.state.caller
    token = request.state.session.token
    return page(request, template, status, caller=caller, token=token, **values)


# --- signing in -------------------------------------------------------------------------


@router.get("/sign-in", dependencies=[Depends(public)])
def sign_in_form(request: Request, next: str = "", ended: str = "") -> HTMLResponse:
    """Where a key is given; ended: why somebody who was signed in is here again."""
    why = ended if ended in {"form", "session"} else None
    return page(request, "sign_in.html", next=next, refused=None, ended=why)


@router.post("/sign-in", dependencies=[Depends(public)])
def sign_in(request: Request, key: Text = "", next: Text = "") -> Response:
    """Sign in with a key."""
    answer = RedirectResponse("/", 303)
    try:
        caller = session.start(gateway_of(request), request, key.strip(), answer)
    except Invalid as refused:
        if refused.rule not in {"key", "scope", "sandbox"}:
            raise
        return page(request, "sign_in.html", 401, next=next, refused=refused.rule, ended=None)
    # Only to a place of ours: an address with two slashes would be another host's.
    ours = next.startswith("/") and not next.startswith(("//", "/\\")) and next.isprintable()
    answer.headers["Location"] = next if ours else session.home_of(caller)
    return answer


@router.post("/sign-out", dependencies=[Depends(public)])
def sign_out(request: Request) -> Response:
    """Sign out of this browser; the key goes on."""
    answer = RedirectResponse(session.SIGN_IN, 303)
    session.end(gateway_of(request), answer)
    return answer


# --- money and invoices -------------------------------------------------------------------


@router.get("/merchant")
def dashboard(request: Request, caller: Owner, after: str | None = None) -> HTMLResponse:
    """Money by day, and invoices, newest first."""
    gateway = gateway_of(request)
    owner, now = str(caller.merchant_id), gateway.clock()
    today = business_date(now)
    since = day_start_s(today) - (DAYS - 1) * 86_400
    sums = statements.by_day(gateway.engine, owner, since, now + 1)
    before = place(after, (END_OF_TIME, ""))
    with reading(gateway.engine) as connection:
        found = payments.invoices_of(connection, owner, before, ROWS)
        held = store.merchant_at(connection, owner, now)
        waiting = store.waiting_changes(connection, owner, now)
    return shown(
        request,
        "merchant.html",
        merchant=held,
        waiting=waiting,
        invoices=[one[:2] for one in gateway.payments.told(found)],
        next=next_of([(one.created_s, one.id) for one in found], ROWS),
        bars=bars(sums, today, DAYS),
        total=sum(sums.values()),
        today=sums.get(today, 0),
        size=(WIDTH, HEIGHT),
        top=TOP,
        days=DAYS,
    )


@router.get("/merchant/invoices/{id}")
def one_invoice(id: str, request: Request, caller: Reader) -> HTMLResponse:
    """One invoice: its state, its events, and what can be done with it."""
    gateway = gateway_of(request)
    own_invoice(gateway, id, caller)
    invoice, derived, seen = gateway.payments.look(id)
    with reading(gateway.engine) as connection:
        moves = payments.events_of(connection, id)
        told = webhooks.deliveries_of(connection, str(caller.merchant_id), id)
        is_refunded = bool(refund_rows.refunds_of_invoice(connection, id))
    return shown(
        request,
        "merchant_invoice.html",
        invoice=invoice,
        derived=derived,
        # What was passed on stands after what had come.
        seen=sorted(seen, key=lambda one: one.kind is Kind.FLUSH),
        moves=moves,
        told=told,
        decimals=gateway.view.decimals(invoice.asset),
        left=refunds_of(gateway).left(id) if "refunds.write" in caller.scopes else 0,
        is_refunded=is_refunded,
        can_void=derived.status is Status.OPEN and not derived.paid_minor,
        once=secrets.token_urlsafe(12),
        plain=plain,
    )


@router.post("/merchant/invoices/{id}/void")
def void(id: str, request: Request, caller: Maker) -> Response:
    """Withdraw an invoice."""
    gateway = gateway_of(request)
    own_invoice(gateway, id, caller)
    gateway.payments.void(id)
    return RedirectResponse(f"/merchant/invoices/{id}", 303)


@router.post("/merchant/invoices/{id}/refunds")
def ask_refund(
    id: str,
    request: Request,
    caller: Annotated[Caller, Depends(gate("refunds.write"))],
    amount: Text = "",
    once: Text = "",
    why: Text = "",
) -> Response:
    """Ask that money goes back to where the payer said before paying."""
    gateway = gateway_of(request)
    invoice = own_invoice(gateway, id, caller)
    minor = units(amount, gateway.view.decimals(invoice.asset))
    if not once.isprintable() or not once:
        reject("schema", "once", "the form's own number is missing")
    refunds_of(gateway).request(caller.key_id, id, None, minor, None, f"page {once}", why=why)
    return RedirectResponse("/merchant/money", 303)


def units(text: str, decimals: int) -> int:
    """An amount as people write it, in base units: digits, spaces between, one mark, so many decimals."""
    digits = text.replace("\N{NO-BREAK SPACE}", "").replace(" ", "").replace(",", ".")
    whole, mark, part = digits.partition(".")
    right = whole.isascii() and whole.isdigit() and (not mark or (part.isascii() and part.isdigit()))
    if not right or len(whole) > 36 or len(part) > decimals:
        reject("amount", "amount", f"a number with at most {decimals} decimals is needed")
    found = int(whole + part.ljust(decimals, "0"))
    if not 0 < found < 1 << 128:
        reject("E4", "amount", "an amount is above 0 and below 2^128 units")
    return found


@router.get("/merchant/money")
def money(
    request: Request, caller: Owner, after: str | None = None, refunds_after: str | None = None
) -> HTMLResponse:
    """Refunds, settlements and payouts; of each the newest, and the older ones page by page."""
    gateway, owner = gateway_of(request), str(caller.merchant_id)
    newest = (END_OF_TIME, "")
    refunds = refunds_of(gateway).of(owner, place(refunds_after, newest), ROWS)
    prepared = {
        one.id: refunds_of(gateway).prepared(one) for one in refunds if one.state is RefundState.PENDING
    }
    # In the words of who asked, for who lets it go.
    said = {
        one.id: refunds_of(gateway).events(one.id)[0][2]
        for one in refunds
        if one.state is RefundState.REQUESTED
    }
    settled = settlements_of(gateway)
    assets = {one.asset for one in refunds}
    rows = settled.of(owner, place(after, newest), ROWS)
    payouts = settled.payouts_of(owner, newest, ROWS)
    assets |= {one.asset for one in rows} | {one.asset for one in payouts}
    with reading(gateway.engine) as connection:
        waiting = store.waiting_changes(connection, owner, gateway.clock())
    return shown(
        request,
        "merchant_money.html",
        places=_places(gateway, caller),
        waiting=waiting,
        refunds=refunds,
        refunds_next=next_of([(one.created_s, one.id) for one in refunds], ROWS),
        said=said,
        prepared=prepared,
        codes={id: picture(one.link) for id, one in prepared.items()},
        settlements=rows,
        next=next_of([(one.noted_s, one.id) for one in rows], ROWS),
        payouts=payouts,
        decided=settled.words_of(payouts),
        decimals={asset: gateway.view.decimals(asset) for asset in assets},
        now=gateway.clock(),
    )


def _places(gateway: Gateway, caller: Caller) -> list[tuple[str, str | None]]:
    """Where money goes and who is told, as it holds now; nothing for a key that may not see it."""
    if "merchant.read" not in caller.scopes:
        return []
    with reading(gateway.engine) as connection:
        held = store.merchant_at(connection, str(caller.merchant_id), gateway.clock())
    assert held is not None
    return [("wallet", checksummed(held.wallet)), ("iban", held.iban), ("contact", held.contact)]


@router.post("/merchant/refunds/{id}/transaction")
def name_transaction(
    id: str,
    request: Request,
    caller: Annotated[Caller, Depends(gate("refunds.write"))],
    transaction: Annotated[str, Form(max_length=80)],
) -> Response:
    """Say by which transaction a refund in the chain's coin was sent."""
    gateway = gateway_of(request)
    own_refund(gateway, id, caller)
    typed = transaction.strip()
    if not re.fullmatch("0x[0-9a-fA-F]{64}", typed):
        reject(
            "E2",
            "transaction",
            f"{len(typed)} characters, not 0x and 64 hexadecimal digits",
        )
    refunds_of(gateway).report(id, bytes.fromhex(typed[2:]), caller.key_id)
    return RedirectResponse("/merchant/money", 303)


@router.post("/merchant/refunds/{id}/{what}")
def decide_refund(
    id: str, what: str, request: Request, caller: Annotated[Caller, Depends(gate("refunds.write"))]
) -> Response:
    """Let a refund go, or not."""
    gateway = gateway_of(request)
    own_refund(gateway, id, caller)
    if what == "approve":
        refunds_of(gateway).approve(id, caller.key_id, is_owner=caller.role == OWNER)
    elif what == "cancel":
        refunds_of(gateway).cancel(id, caller.key_id, "cancelled on the page")
    else:
        reject("not_found", "page", "there is no such decision")
    return RedirectResponse("/merchant/money", 303)


@router.post("/merchant/changes/{id}/cancel")
def cancel_change(
    id: str, request: Request, caller: Annotated[Caller, Depends(gate("merchant.write"))]
) -> Response:
    """Stop a change of wallet, account or contact that does not hold yet (LEAKS 21)."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        service.cancel_change(connection, caller, word(id, "change"), gateway.clock(), webhooks.enqueue)
    return RedirectResponse("/merchant", 303)


# --- webhooks -------------------------------------------------------------------------------


@router.get("/merchant/webhooks")
def hooks(request: Request, caller: HookReader, after: str | None = None) -> HTMLResponse:
    """Endpoints, and events with what became of each."""
    return _hooks(request, caller, after)


def _hooks(
    request: Request, caller: Caller, after: str | None = None, secret: str | None = None
) -> HTMLResponse:
    gateway = gateway_of(request)
    with reading(gateway.engine) as connection:
        endpoints = listing.endpoints_of(connection, caller.owner)
        found = listing.events_of(connection, caller.owner, place(after, (END_OF_TIME, "")), ROWS)
    return shown(
        request,
        "merchant_webhooks.html",
        endpoints=endpoints,
        events=found,
        next=next_of([(one.created_s, one.id) for one in found], ROWS),
        secret=secret,
        now=gateway.clock(),
    )


@router.post("/merchant/webhooks")
def add_hook(request: Request, caller: HookWriter, url: Text = "") -> HTMLResponse:
    """Register an endpoint; its secret is shown on this answer alone."""
    gateway = gateway_of(request)
    target = gateway.egress.parse(url.strip())
    gateway.egress.addresses(target)
    with gateway.engine.begin() as connection:
        _, secret = webhooks.add_endpoint(connection, gateway.sealer, caller.owner, target, gateway.clock())
    return _hooks(request, caller, secret=secret)


@router.post("/merchant/webhooks/{id}/{what}")
def change_hook(id: str, what: str, request: Request, caller: HookWriter) -> Response:
    """Disable, enable, rotate or try an endpoint."""
    gateway = gateway_of(request)
    now, secret = gateway.clock(), None
    with gateway.engine.begin() as connection:
        listing.check_endpoint(connection, caller.owner, word(id, "endpoint"))
        if what == "disable":
            webhooks.disable_endpoint(connection, id, "disabled by its owner", now)
        elif what == "enable":
            webhooks.enable_endpoint(connection, caller.owner, id)
        elif what == "rotate":
            secret = webhooks.rotate_secret(connection, gateway.sealer, caller.owner, id, now)
        elif what == "test":
            told = {"type": "webhook.test", "timestamp": now, "data": {"endpoint": id}}
            listing.send_test(connection, caller.owner, id, json.dumps(told).encode(), now)
        else:
            reject("not_found", "page", "an endpoint cannot do this")
    if secret is not None:
        return _hooks(request, caller, secret=secret)
    return RedirectResponse("/merchant/webhooks", 303)


@router.get("/merchant/webhooks/{id}/{what}")
def hooks_again(id: str, what: str, request: Request, caller: HookReader) -> RedirectResponse:
    """Where the answer to a form stands: whoever loads it again, or in another language, gets the list."""
    return RedirectResponse(f"/merchant/webhooks?{request.url.query}", 303)


@router.post("/merchant/events/{id}/redeliver")
def redeliver(id: str, request: Request, caller: HookWriter, endpoint: Text = "") -> Response:
    """Send an event once more."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        listing.event(connection, caller.owner, word(id, "event"))
        listing.check_endpoint(connection, caller.owner, word(endpoint, "endpoint"))
        webhooks.redeliver(connection, caller.owner, id, endpoint, gateway.clock())
    return RedirectResponse("/merchant/webhooks", 303)


# --- keys -----------------------------------------------------------------------------------


@router.get("/merchant/keys")
def keys(request: Request, caller: KeyReader) -> HTMLResponse:
    """Keys, newest first, and when each was last used."""
    return _keys(request, caller)


def _keys(request: Request, caller: Caller, made: str | None = None) -> HTMLResponse:
    gateway = gateway_of(request)
    with reading(gateway.engine) as connection:
        found = store.keys_of(connection, str(caller.merchant_id), (END_OF_TIME, ""), 100, sandbox=None)
    return shown(
        request,
        "merchant_keys.html",
        keys=found,
        made=made,
        now=gateway.clock(),
        roles=(CASHIER, OWNER),
        lifetimes=KEY_LIFETIMES,
        lifetime=KEY_LIFETIME,
    )


@router.post("/merchant/keys")
def add_key(
    request: Request,
    caller: KeyWriter,
    role: Text = CASHIER,
    name: Text = "",
    sandbox: Text = "",
    lifetime: Text = KEY_LIFETIME,
) -> HTMLResponse:
    """Make a key, which is shown on this answer alone, and expires by itself if nothing else is chosen."""
    gateway = gateway_of(request)
    if lifetime not in KEY_LIFETIMES:
        why = f"a key lives for {', '.join(KEY_LIFETIMES)} (days), not for {lifetime[:20]!a}"
        reject("schema", "lifetime", why)
    if not name.isprintable() or len(name) > 60:
        reject("text", "name", "a name has at most 60 characters and no control characters")
    with gateway.engine.begin() as connection:
        made = service.make_key(
            connection,
            caller,
            role,
            gateway.clock(),
            name=name.strip(),
            sandbox=bool(sandbox),
            lifetime_s=KEY_LIFETIMES[lifetime],
        )
    return _keys(request, caller, made)


@router.post("/merchant/keys/{id}/{what}")
def change_key(id: str, what: str, request: Request, caller: KeyWriter) -> Response:
    """Rotate a key, with a day of overlap, or revoke it at once."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        service.own_key(connection, caller, word(id, "key"))
        if what == "rotate":
            made, _ = service.rotate_key(connection, caller, id, 86_400, gateway.clock())
        elif what == "revoke":
            store.revoke(connection, id, gateway.clock())
            made = ""
        else:
            reject("not_found", "page", "a key cannot do this")
    return _keys(request, caller, made) if made else RedirectResponse("/merchant/keys", 303)


@router.get("/merchant/keys/{id}/{what}")
def keys_again(id: str, what: str, request: Request, caller: KeyReader) -> RedirectResponse:
    """Where the answer to a form stands: whoever loads it again, or in another language, gets the list."""
    return RedirectResponse(f"/merchant/keys?{request.url.query}", 303)
