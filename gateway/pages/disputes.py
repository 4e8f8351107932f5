"""The operator's page of payouts that a provider contradicts: what does not fit, and what became of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.auth import gate
from gateway.api.paging import next_of, place, word
from gateway.api.refunds import settlements_of
from gateway.merchants.roles import Caller
from gateway.pages.merchant import ROWS, Text, shown
from gateway.pages.render import gateway_of
from gateway.pages.session import PageRoute
from ledger.records import reject

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/operator/payouts")
def disputed(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.read"))],
    after: str | None = None,
    done: str | None = None,
) -> HTMLResponse:
    """Disputed payouts of all merchants, the longest waiting first, and what was said of paid ones since."""
    gateway = gateway_of(request)
    settlements = settlements_of(gateway)
    found = settlements.disputed(place(after, (0, "")), ROWS)
    since = settlements.contradicted(ROWS)
    decided = settlements.look(done) if done else None
    assets = {one.payout.asset for one in [*found, *since]}
    return shown(
        request,
        "operator_payouts.html",
        disputed=found,
        contradicted=since,
        decided=decided,
        word=settlements.words_of([decided]).get(decided.id) if decided else None,
        decimals={asset: gateway.view.decimals(asset) for asset in assets},
        next=next_of([(one.payout.changed_s, one.payout.id) for one in found], ROWS),
    )


@router.post("/operator/payouts")
def resolve(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.write"))],
    id: Text = "",
    what: Text = "",
    why: Text = "",
    sure: Text = "",
) -> Response:
    """Say what became of a disputed payout; it is written down who said it and why."""
    if what not in {"paid", "not_paid"}:
        reject("schema", "what", "choose what became of the payout")
    payout = settlements_of(gateway_of(request)).resolve(
        word(id, "payout"), is_paid=what == "paid", actor=caller.key_id, why=why, is_sure=sure == "yes"
    )
    return RedirectResponse(f"/operator/payouts?done={payout.id}", 303)
