"""Pages of a merchant's own house: payment links, and where money is to go."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.auth import gate
from gateway.api.paging import END_OF_TIME, next_of, place
from gateway.merchants import service
from gateway.merchants.roles import Caller
from gateway.pages.checkout import picture
from gateway.pages.merchant import ROWS, Text, shown, units
from gateway.pages.render import gateway_of
from gateway.pages.session import PageRoute
from gateway.pages.till import SALE, TENGE_DECIMALS, assets
from gateway.webhooks import store as webhooks
from ledger.records import reject

router = APIRouter(route_class=PageRoute, include_in_schema=False)
LinkReader = Annotated[Caller, Depends(gate("links.read"))]
LinkWriter = Annotated[Caller, Depends(gate("links.write"))]
_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")


# --- payment links ----------------------------------------------------------------------------


@router.get("/merchant/links")
def links(request: Request, caller: LinkReader, after: str | None = None) -> HTMLResponse:
    """Payment links, newest first, each with a code to print."""
    gateway = gateway_of(request)
    found = gateway.links.list(str(caller.merchant_id), place(after, (END_OF_TIME, "")), ROWS)
    rows = [(link, f"{gateway.public_url}/link/{link.id}", gateway.links.is_open(link)) for link in found]
    codes = [picture(address) if is_open else "" for _, address, is_open in rows]
    return shown(
        request,
        "merchant_links.html",
        links=[(*row, code) for row, code in zip(rows, codes, strict=True)],
        assets=assets(request),
        next=next_of([(link.created_s, link.id) for link in found], ROWS),
    )


@router.post("/merchant/links")
def add_link(
    request: Request,
    caller: LinkWriter,
    title: Text = "",
    amount: Text = "",
    asset: Annotated[str, Form(max_length=31)] = "",
    once: Text = "",
) -> Response:
    """Make a link; without an amount the payer says how much."""
    tiyn = units(amount, TENGE_DECIMALS) if amount.strip() else None
    gateway_of(request).links.create(
        str(caller.merchant_id), title.strip(), SALE, asset, tiyn, reusable=not once, expires_s=None
    )
    return RedirectResponse("/merchant/links", 303)


@router.post("/merchant/links/{id}/close")
def close_link(id: str, request: Request, caller: LinkWriter) -> Response:
    """Let a link make no more invoices."""
    gateway_of(request).links.close(str(caller.merchant_id), id)
    return RedirectResponse("/merchant/links", 303)


# --- where money is to go -----------------------------------------------------------------------


@router.post("/merchant/changes")
def ask_change(
    request: Request,
    caller: Annotated[Caller, Depends(gate("merchant.write"))],
    field: Text = "",
    value: Text = "",
) -> Response:
    """Ask that wallet, account or contact change: it holds after 48 hours, and is told at once (LEAKS 21)."""
    gateway, given = gateway_of(request), value.strip()
    asked: str | bytes = given
    if field == "wallet":
        if not _ADDRESS.fullmatch(given):
            reject("E2", "wallet", "a wallet is written 0x and 40 hexadecimal digits")
        asked = bytes.fromhex(given[2:])
    elif field == "iban":
        asked = given.replace(" ", "").upper()
    elif field != "contact":
        reject("schema", "field", "one of wallet, iban and contact is changed")
    with gateway.engine.begin() as connection:
        service.ask_change(connection, caller, field, asked, gateway.clock(), webhooks.enqueue)
    return RedirectResponse("/merchant", 303)
