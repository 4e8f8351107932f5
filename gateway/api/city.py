"""What anybody may ask: the city's fees, and receipts."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from gateway.api.answers import show
from gateway.api.auth import public
from gateway.api.paging import gateway_of
from gateway.api.route import Route, address_of
from gateway.api.schemas import FeeAnswer, InvoiceAnswer, NewBill
from gateway.city_fees.catalogue import CATALOGUE
from gateway.city_fees.service import bill
from gateway.kz import business_date
from ledger.records import reject

router = APIRouter(prefix="/v1", route_class=Route, tags=["city"], dependencies=[Depends(public)])


@router.get("/fees")
def fees(request: Request) -> list[FeeAnswer]:
    """The city's fees and what they cost today. Public."""
    day = business_date(gateway_of(request).clock())
    return [
        FeeAnswer(
            id=fee.id,
            code=fee.code,
            knp=fee.knp,
            kbe=fee.kbe,
            amount=str(fee.tiyn(day)),
            names=dict(fee.names),
        )
        for fee in CATALOGUE
    ]


@router.post("/fees/bills", status_code=201)
def new_bill(body: NewBill, request: Request) -> InvoiceAnswer:
    """Bill a city fee to whoever asks; nothing is asked about the person. Public."""
    gateway = gateway_of(request)
    gateway.bill_quota.take(address_of(request))
    return show(gateway, bill(gateway.payments, body.fee, body.asset).id)


@router.get("/receipts/{id}", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def receipt(id: str, request: Request) -> Response:
    """The receipt of a recorded payment: a tlog-proof whose extra line is the record. Public."""
    gateway = gateway_of(request)
    position = gateway.payments.position(id)
    if position is None:
        reject(
            "not_found",
            "receipt",
            "this payment is not on the ledger yet; it comes when the payment is final",
        )
    return Response(gateway.receipt(position), media_type="text/plain; charset=utf-8")
