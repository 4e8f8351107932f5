"""Disputed payouts for operators: what does not fit, and what a person says became of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from gateway.api.auth import gate
from gateway.api.paging import PAGE_ROWS, After, Limit, gateway_of, next_of, place, word
from gateway.api.refunds import payout_answer, settlements_of
from gateway.api.route import Route
from gateway.api.schemas import DisputedPayout, DisputedPayouts, PaidAsTold, PayoutAnswer, ResolvePayout
from gateway.merchants.roles import Caller
from gateway.payments.disputes import Doubt

router = APIRouter(prefix="/v1/unmatched", route_class=Route, tags=["operators"])


@router.get("/payouts")
def disputed_payouts(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.read"))],
    after: After = None,
    limit: Limit = PAGE_ROWS,
) -> DisputedPayouts:
    """Payouts of all merchants that a person must decide about, the longest waiting first."""
    found = settlements_of(gateway_of(request)).disputed(place(after, (0, "")), limit)
    rows = [(one.payout.changed_s, one.payout.id) for one in found]
    return DisputedPayouts(payouts=[_answer(one) for one in found], next=next_of(rows, limit))


def _answer(found: Doubt) -> DisputedPayout:
    told = None
    if found.told is not None:
        told = PaidAsTold(
            tiyn=str(found.told.tiyn),
            fee_tiyn=str(found.told.fee_tiyn),
            bank_reference=found.told.bank_reference,
        )
    return DisputedPayout(
        payout=payout_answer(found.payout),
        merchant=found.payout.merchant_id,
        name=found.merchant,
        since_s=found.payout.changed_s,
        told=told,
    )


@router.post("/payouts/{id}/resolve")
def resolve_payout(
    id: str,
    body: ResolvePayout,
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.write"))],
) -> PayoutAnswer:
    """End a dispute by a person's word, once; it is written down who said it and why.

    Not paid, its settlements are free to be paid out again: if the money did leave, it then goes twice.
    """
    settlements = settlements_of(gateway_of(request))
    payout = settlements.resolve(
        word(id, "payout"),
        is_paid=body.outcome == "paid",
        actor=caller.key_id,
        why=body.why,
        is_sure=body.nothing_left,
    )
    return payout_answer(payout)
