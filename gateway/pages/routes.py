"""The pages' routes: the city, a checkout, fees, receipts, and checking them."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from gateway.api.route import address_of
from gateway.city_fees.catalogue import CATALOGUE, Fee, fee
from gateway.city_fees.service import bill
from gateway.db import reading
from gateway.kz import business_date
from gateway.merchants import store as merchants
from gateway.pages import again, assets, disputes, merchant, operator, shop, statement, till, wallet
from gateway.pages.checkout import (
    fee_of,
    is_payable,
    late_money,
    money_back,
    picture,
    renewal_of,
    version,
    ways,
)
from gateway.pages.city import DAYS, City, CityView
from gateway.pages.errors import install_errors
from gateway.pages.flow import draw
from gateway.pages.history import HELD
from gateway.pages.plot import HEIGHT, TOP, WIDTH, Stacked, stacked
from gateway.pages.receipt import Receipt, find
from gateway.pages.receipt import receipt as receipt_of
from gateway.pages.render import gateway_of, page
from gateway.pages.words import Tongue, tongue_of
from gateway.payments.model import Status
from gateway.payments.return_url import host_of
from gateway.payments.store import Invoice
from gateway.promises import promise_note
from ledger.audit.verdict import Flow, Line
from ledger.records import Invalid, Transfer
from ledger.rules import TENGE

__all__ = ["install_errors", "router"]

NO_STORE = {"Cache-Control": "no-store"}
# When there is nothing more to pay here, the merchant's page is one click away.
_GO_BACK = frozenset(Status) - {Status.OPEN, Status.DETECTED}
_views = threading.Lock()
router = APIRouter(include_in_schema=False)
for part in (again, assets, merchant, shop, statement, till, operator, disputes, wallet):
    router.include_router(part.router)


def _view(request: Request) -> CityView:
    with _views:
        if not hasattr(request.app.state, "city_view"):
            request.app.state.city_view = CityView(gateway_of(request))
    found: CityView = request.app.state.city_view
    return found


# --- the city -------------------------------------------------------------------------


@router.get("/")
def city(request: Request) -> HTMLResponse:
    """What came in, what it was spent on, and how anybody checks that."""
    view, t = _view(request), tongue_of(request)
    found, head = view.city(), view.head()

    def shown(line: Line) -> object:
        def label(flow: Flow) -> tuple[str, str]:
            return _flow_name(t, flow, found.name(flow.name, t.code)), t.amount(
                flow.amount, line.asset, line.decimals
            )

        mine = [flow for flow in found.flows if (flow.fund, flow.asset) == (line.fund, line.asset)]
        most = max([flow.amount for flow in mine], default=0) or 1
        moved = [
            (flow.kind, *label(flow), max(flow.amount * 1000 // most, 4)) for flow in mine if flow.amount > 0
        ]
        return {"line": line, "moved": moved, "picture": draw(mine, label), "plots": _plots(t, found, line)}

    recorded = gateway_of(request).view.refresh().size
    return page(
        request,
        "city.html",
        city=found,
        head=head,
        recorded=recorded,
        funds=[shown(line) for line in found.totals],
        address=gateway_of(request).public_url,
        days=DAYS,
        size=(WIDTH, HEIGHT, TOP),
    )


def _plots(t: Tongue, city: City, line: Line) -> list[tuple[str, Stacked]]:
    """Drawings over time of one fund and asset: what came, and where it is."""
    if city.last is None:
        return []
    key = (line.fund, line.asset)
    came = sorted(city.came[key].items(), key=lambda one: (-sum(one[1]), one[0]))
    # What is kept lies at the bottom, in the colour of what is kept; its name is that of no project.
    held = sorted(city.held[key].items(), key=lambda one: (one[0][0] != HELD, -one[1][-1], one[0][1]))
    names = {HELD: t("flow.closing"), "": ""}
    drawn = (
        ("came", stacked(dict(came), city.last), partial(_code_name, t)),
        (
            "held",
            stacked({name or HELD: amounts for (_, name), amounts in held}, city.last),
            partial(city.name, language=t.code),
        ),
    )
    return [
        (what, replace(plot, names=[names[name] if name in names else label(name) for name in plot.names]))
        for what, plot, label in drawn
        if plot is not None
    ]


def _flow_name(t: Tongue, flow: Flow, project: str) -> str:
    if flow.kind == "revenue":
        return _code_name(t, flow.name)
    return project if flow.kind == "project" else t(f"flow.{flow.kind}")


def _code_name(t: Tongue, code: str) -> str:
    named = next((one.names[t.code] for one in CATALOGUE if one.code == code), None)
    return f"{code} {named or t.name('code', code)}"


# --- paying ---------------------------------------------------------------------------


@router.get("/pay/{id}")
def pay(id: str, request: Request) -> HTMLResponse:
    """The checkout of one invoice."""
    gateway, t = gateway_of(request), tongue_of(request)
    invoice, derived, seen = gateway.payments.look(id)
    renewable = renewal_of(gateway).of(invoice, derived, seen)
    now, decimals = gateway.clock(), gateway.view.decimals(invoice.asset)
    payable = is_payable(invoice, derived, now)
    missing = t.amount(derived.missing_minor, invoice.asset, decimals)
    position, back = gateway.payments.position(id), money_back(gateway, invoice, derived)
    return page(
        request,
        "pay.html",
        invoice=invoice,
        derived=derived,
        notes={note.value for note in derived.notes},
        late=late_money(invoice, derived, seen),
        fee=fee_of(invoice),
        payee=_payee(request, invoice),
        decimals=decimals,
        payable=payable,
        ways=ways(gateway, invoice, derived, missing, decimals) if payable else None,
        missing=missing,
        position=position,
        now=now,
        back=back,
        version=version(derived, position, back, payable=payable, renewable=renewable),
        renewable=renewable.value,
        return_host=host_of(invoice.return_url)
        if invoice.return_url and derived.status in _GO_BACK
        else None,
        is_over=derived.status in {Status.FINAL, Status.VOID},
        wallet=wallet.expected(gateway, invoice, derived, now, t),
        is_tenge=invoice.asset == TENGE,
    )


@router.get("/pay/{id}/state")
def pay_state(id: str, request: Request) -> JSONResponse:
    """What the checkout asks again and again: one derived state, as everywhere (field failure 47)."""
    gateway = gateway_of(request)
    invoice, derived, seen = gateway.payments.look(id)
    position, now = gateway.payments.position(id), gateway.clock()
    renewable = renewal_of(gateway).of(invoice, derived, seen)
    payable, back = is_payable(invoice, derived, now), money_back(gateway, invoice, derived)
    told = {
        "version": version(derived, position, back, payable=payable, renewable=renewable),
        "status": derived.status.value,
        "notes": sorted(note.value for note in derived.notes),
        "paid": str(derived.paid_minor),
        "missing": str(derived.missing_minor),
        "record": position,
        "receipt": f"/receipt/{id}" if derived.status is Status.FINAL else None,
        "expires_s": invoice.expires_s,
        "now_s": now,
    }
    return JSONResponse(told, headers=NO_STORE)


def _payee(request: Request, invoice: Invoice) -> str:
    if invoice.merchant_id is None:
        return tongue_of(request)("payee.city")
    with reading(gateway_of(request).engine) as connection:
        merchant = merchants.merchant(connection, invoice.merchant_id)
    assert merchant is not None
    return merchant.name


# --- fees -----------------------------------------------------------------------------


@router.get("/fees")
def fees(request: Request, reference: str | None = None) -> Response:
    """The catalogue at today's prices, and the way back to a lost receipt."""
    gateway = gateway_of(request)
    found = None if reference is None else find(gateway, reference)
    if found is not None:
        return RedirectResponse(f"/receipt/{found}", 303)
    day = business_date(gateway.clock())
    rows = [(one, one.tiyn(day), _assets(request, one)) for one in CATALOGUE]
    status = 200 if reference is None else 404
    return page(request, "fees.html", status, rows=rows, now=gateway.clock(), reference=reference)


@router.get("/fees/{id}")
def one_fee(id: str, request: Request) -> HTMLResponse:
    """One fee and how it can be paid."""
    gateway, found = gateway_of(request), fee(id)
    tiyn = found.tiyn(business_date(gateway.clock()))
    return page(
        request, "fee.html", fee=found, tiyn=tiyn, assets=_assets(request, found), now=gateway.clock()
    )


@router.post("/fees/{id}")
def new_bill(id: str, request: Request, asset: Annotated[str, Form(max_length=31)]) -> RedirectResponse:
    """Make a bill and go to where it is paid; nothing is asked about the person."""
    gateway = gateway_of(request)
    gateway.bill_quota.take(address_of(request))
    invoice = bill(gateway.payments, id, asset)
    return RedirectResponse(f"/pay/{invoice.id}", 303)


def _assets(request: Request, found: Fee) -> list[str]:
    """What a fee can be paid in now: tenge first, then what an act allows."""
    gateway = gateway_of(request)
    now = gateway.clock()
    known = sorted(gateway.view.refresh().assets, key=lambda asset: (asset != TENGE, asset))
    offered = []
    for asset in known:
        try:
            gateway.view.check_asset(asset, now)
            rule, _ = gateway.view.revenue_rule(found.code, now)
            gateway.view.revenue_account(found.code, rule.fund, asset)
            gateway.view.money_account(rule.fund, asset)
        except Invalid:
            continue
        offered.append(asset)
    return offered


# --- receipts -------------------------------------------------------------------------


@router.get("/receipt/{id}.json")
def receipt_json(id: str, request: Request) -> JSONResponse:
    """The receipt for programs."""
    found = receipt_of(gateway_of(request), _view(request).head(), id)
    return JSONResponse(found.as_json(), headers=NO_STORE)


@router.get("/receipt/{id}/promise-{number}.txt")
def receipt_promise(id: str, number: int, request: Request) -> PlainTextResponse:
    """What the log promised for a payment of this invoice; with it an omission can be proved."""
    gateway = gateway_of(request)
    invoice, _, seen = gateway.payments.look(id)
    note = promise_note(gateway.publisher.keys, invoice, seen, number)
    return PlainTextResponse(note.decode())


@router.get("/receipt/{id}")
def receipt(id: str, request: Request) -> HTMLResponse:
    """The receipt to read, print, keep and check."""
    gateway, t = gateway_of(request), tongue_of(request)
    found = receipt_of(gateway, _view(request).head(), id)
    address = f"{gateway.public_url}/receipt/{id}"
    city = _view(request).city() if found.is_published else None
    return page(
        request,
        "receipt.html",
        receipt=found,
        city=city,
        went=_went(request, found, city),
        derived=found.derived.status.value,
        version=found.version,
        what=found.fee.names[t.code] if found.fee else found.invoice.title,
        payee=_payee(request, found.invoice),
        decimals=gateway.view.decimals(found.invoice.asset),
        picture=picture(address),
        address=address,
        units=_decimals(request),
        transfer=Transfer.type_hash.hex(),
    )


def _went(request: Request, found: Receipt, city: City | None) -> tuple[Line, list[Flow]] | None:
    """The fund that the money of a receipt is in, as the city's page has it, and what projects got of it."""
    if city is None or found.record is None:
        return None
    fund = gateway_of(request).view.refresh().accounts[found.record.debit].record.fund
    key = (fund, found.record.asset)
    line = next((one for one in city.totals if (one.fund, one.asset) == key), None)
    paid = [one for one in city.flows if (one.fund, one.asset, one.kind) == (*key, "project") and one.amount]
    return None if line is None else (line, sorted(paid, key=lambda one: (-one.amount, one.name)))


@router.get("/receipt/{id}/state")
def receipt_state(id: str, request: Request) -> JSONResponse:
    """What an open receipt asks again until it is final."""
    found = receipt_of(gateway_of(request), _view(request).head(), id)
    return JSONResponse({"version": found.version, "states": dict(found.steps)}, headers=NO_STORE)


@router.get("/check")
def check(request: Request) -> HTMLResponse:
    """Check any receipt, without the city's help once the page is there."""
    return page(request, "check.html", units=_decimals(request), transfer=Transfer.type_hash.hex())


def _decimals(request: Request) -> dict[str, int]:
    state = gateway_of(request).view.refresh()
    return {name: asset.decimals for name, asset in list(state.assets.items())}
