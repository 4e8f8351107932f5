"""Taking a payment face to face: an amount, a code to scan, and the answer; and payment links."""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.auth import gate, public
from gateway.api.invoices import own_invoice
from gateway.api.route import address_of
from gateway.db import reading
from gateway.merchants import store
from gateway.merchants.roles import Caller
from gateway.pages.checkout import is_payable, money_back, renewal_of, version, ways
from gateway.pages.merchant import Text, shown, units
from gateway.pages.render import gateway_of, page
from gateway.pages.session import PageRoute
from gateway.payments.model import Status
from gateway.payments.return_url import host_of
from gateway.payments.service import Request as Asked
from gateway.payments.store import Origin
from ledger.records import Invalid, reject
from ledger.rules import TENGE

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Cashier = Annotated[Caller, Depends(gate("invoices.write"))]
SALE = "206108"
TENGE_DECIMALS = 2
_ONCE = re.compile("[0-9A-Za-z_-]{8,40}")


def assets(request: Request) -> list[str]:
    """What a sale can be paid in now."""
    gateway = gateway_of(request)
    now, found = gateway.clock(), []
    for asset in sorted(gateway.view.refresh().assets):
        try:
            gateway.view.check_asset(asset, now)
            rule, _ = gateway.view.revenue_rule(SALE, now)
            gateway.view.revenue_account(SALE, rule.fund, asset)
        except Invalid:
            continue
        if asset != TENGE:
            found.append(asset)
    return found


@router.get("/pos")
def pad(request: Request, caller: Cashier) -> HTMLResponse:
    """The pad for an amount. Its own number makes two presses of the button one invoice."""
    return shown(request, "pos.html", assets=assets(request), once=secrets.token_urlsafe(12))


@router.post("/pos")
def take(
    request: Request,
    caller: Cashier,
    amount: Text = "",
    asset: Annotated[str, Form(max_length=31)] = "",
    title: Annotated[str, Form(max_length=140)] = "",
    once: Text = "",
) -> Response:
    """Make the invoice of a sale, and show it to the payer."""
    gateway, owner = gateway_of(request), str(caller.merchant_id)
    if not _ONCE.fullmatch(once):
        reject("schema", "once", "the form's own number is missing")
    tiyn = units(amount, TENGE_DECIMALS)
    gateway.invoice_quota.take(caller.key_id)
    with reading(gateway.engine) as connection:
        merchant = store.merchant_at(connection, owner, gateway.clock())
    assert merchant is not None
    asked = Asked(
        purpose=SALE,
        title=title.strip() or merchant.name[:140],
        tiyn=tiyn,
        asset=asset,
        merchant_id=owner,
        merchant_reference=f"pos-{once}",
        payee=merchant.wallet,
        spread_bps=gateway.spread_bps,
        origin=Origin.TILL,
    )
    return RedirectResponse(f"/pos/{gateway.payments.create(asked).id}", 303)


@router.get("/pos/{id}")
def till(
    id: str, request: Request, caller: Annotated[Caller, Depends(gate("invoices.read"))]
) -> HTMLResponse:
    """A sale that waits for its payment: one large code, and what became of it."""
    gateway = gateway_of(request)
    own_invoice(gateway, id, caller)
    invoice, derived, seen = gateway.payments.look(id)
    renewable = renewal_of(gateway).of(invoice, derived, seen)
    now, decimals = gateway.clock(), gateway.view.decimals(invoice.asset)
    payable, back = is_payable(invoice, derived, now), money_back(gateway, invoice, derived)
    position = gateway.payments.position(id)
    return shown(
        request,
        "pos_wait.html",
        invoice=invoice,
        derived=derived,
        decimals=decimals,
        payable=payable,
        ways=ways(gateway, invoice, derived, "", decimals) if payable else None,
        version=version(derived, position, back, payable=payable, renewable=renewable),
        now=now,
        is_over=derived.status in {Status.FINAL, Status.VOID},
    )


# --- payment links ----------------------------------------------------------------------------


@router.get("/link/{id}", dependencies=[Depends(public)])
def link(id: str, request: Request) -> HTMLResponse:
    """What a payer who opened a link sees: for what, to whom, how much; nothing is made yet."""
    return _link(request, id)


def _link(request: Request, id: str, refused: Invalid | None = None, amount: str = "") -> HTMLResponse:
    gateway = gateway_of(request)
    found = gateway.links.look(id)
    with reading(gateway.engine) as connection:
        merchant = store.merchant(connection, found.merchant_id)
    status = 200 if refused is None else 422
    is_open = gateway.links.is_open(found)
    values = {"link": found, "merchant": merchant, "open": is_open, "refused": refused, "amount": amount}
    return page(request, "link.html", status, **values)


@router.post("/link/{id}", dependencies=[Depends(public)])
def pay_link(id: str, request: Request, amount: Text = "") -> Response:
    """Make the invoice and go to where it is paid."""
    gateway = gateway_of(request)
    gateway.bill_quota.take(address_of(request))
    found = gateway.links.look(id)
    try:
        tiyn = units(amount, TENGE_DECIMALS) if found.tiyn is None else None
        invoice = gateway.links.pay(id, tiyn)
    except Invalid as refused:
        return _link(request, id, refused, amount)
    return RedirectResponse(f"/pay/{invoice.id}", 303)


@router.get("/sandbox/pay/{id}", dependencies=[Depends(public)])
def sandbox(id: str, request: Request) -> HTMLResponse:
    """The page of an invoice of the sandbox: it says that nobody must pay it, and how it is tried."""
    gateway = gateway_of(request)
    invoice, derived = gateway.sandbox.look(None, id)
    with reading(gateway.engine) as connection:
        merchant = store.merchant(connection, invoice.merchant_id)
    assert merchant is not None
    is_over = derived.status not in {Status.OPEN, Status.DETECTED}
    return page(
        request,
        "sandbox.html",
        invoice=invoice,
        derived=derived,
        payee=merchant.name,
        decimals=gateway.view.decimals(invoice.asset),
        # As on the page of a live one: that is tried out here too.
        return_host=host_of(invoice.return_url) if invoice.return_url and is_over else None,
    )


@router.get("/problems/{rule}", dependencies=[Depends(public)])
def problem(rule: str, request: Request) -> HTMLResponse:
    """What the type of an error means (RFC 9457)."""
    if not re.fullmatch("[A-Za-z0-9_:.-]{1,60}", rule):
        reject("not_found", "rule", "no rule is called so")
    return page(request, "problem.html", rule=rule)
