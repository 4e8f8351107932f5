"""The next bill of one that ran out before anything was paid, for whoever holds the old one's address."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse

from gateway.api.auth import public
from gateway.api.route import address_of
from gateway.pages.checkout import renewal_of
from gateway.pages.render import gateway_of
from gateway.pages.session import PageRoute
from ledger.records import Invalid

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.post("/pay/{id}/again", dependencies=[Depends(public)])
def pay_again(id: str, request: Request) -> RedirectResponse:
    """Make the next one of a bill that ran out unpaid and go there; where none is made, back to the bill."""
    gateway = gateway_of(request)
    gateway.bill_quota.take(address_of(request))
    try:
        invoice = renewal_of(gateway).renew(id)
    except Invalid as refused:
        if refused.rule != "renewal":
            raise
        # Somebody paid meanwhile, or a payment is on its way: the page says how it stands.
        return RedirectResponse(f"/pay/{id}", 303)
    return RedirectResponse(f"/pay/{invoice.id}", 303)
