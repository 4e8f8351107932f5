"""The city's refunds for its operators: let them go, and see what the bank is to pay and has booked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request

from gateway.api.auth import gate
from gateway.api.paging import END_OF_TIME, PAGE_ROWS, After, Limit, gateway_of, next_of, place, word
from gateway.api.refunds import MovesMoney, needed_key, refund_answer, refunds_of
from gateway.api.route import Route, own_idempotency
from gateway.api.schemas import (
    BankBooked,
    BankPayment,
    BillRefund,
    CityRefund,
    CityRefundList,
    Reason,
    RefundAnswer,
)
from gateway.merchants.roles import Caller
from gateway.payments.bounds import check_why
from gateway.payments.city_refunds import CityRefund as Found
from gateway.payments.city_refunds import city_refunds
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(prefix="/v1/unmatched", route_class=Route, tags=["operators"])
Decider = Annotated[Caller, Depends(gate("unmatched.write"))]


@router.get("/refunds")
def some_city_refunds(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.read"))],
    after: After = None,
    limit: Limit = PAGE_ROWS,
) -> CityRefundList:
    """The city's refunds, newest first; of those in tenge what to have the bank pay, and what it booked."""
    gateway = gateway_of(request)
    found = city_refunds(gateway.engine, place(after, (END_OF_TIME, "")), limit)
    rows = [(one.refund.created_s, one.refund.id) for one in found]
    return CityRefundList(refunds=[_answer(gateway, one) for one in found], next=next_of(rows, limit))


def _answer(gateway: Gateway, found: Found) -> CityRefund:
    pay = None
    if found.pay is not None:
        pay = BankPayment(
            debit_account=gateway.bank_iban,
            to=found.pay.iban,
            amount=str(found.pay.amount_minor),
            reference=found.pay.reference,
        )
    booked = [
        BankBooked(
            key=one.key,
            amount=str(one.amount_minor),
            back=one.is_back,
            state=one.state.value,
            why=one.why,
            seen_s=one.seen_s,
        )
        for one in found.booked
    ]
    return CityRefund(refund=refund_answer(gateway, found.refund), pay=pay, booked=booked)


@router.post("/refunds", status_code=201)
@own_idempotency
def refund_bill(
    body: BillRefund, request: Request, caller: Decider, idempotency_key: MovesMoney = None
) -> RefundAnswer:
    """Ask that money of a bill goes back to who paid it; it takes an Idempotency-Key, always.

    Tenge go back by bank to the account that they came from. Nothing goes before it is approved, and the
    city's seats sign it.
    """
    gateway = gateway_of(request)
    id, key = bill_of_city(gateway, body.invoice), needed_key(idempotency_key)
    check_why("P6", body.why)
    refund = refunds_of(gateway).request(
        caller.key_id, id, body.evidence, int(body.amount), None, key, iban=body.iban, why=body.why
    )
    return refund_answer(gateway, refund)


def bill_of_city(gateway: Gateway, id: str) -> str:
    """Refuse what is no bill of the city's: merchants give their own money back."""
    found, _, _ = gateway.payments.look(word(id, "invoice"))
    if found.merchant_id is not None:
        reject("not_found", "invoice", f"no bill of the city is called {id[:40]!a}")
    return id


def check_of_city(gateway: Gateway, id: str) -> str:
    """Refuse what is no refund of the city's: merchants decide about their own."""
    if refunds_of(gateway).look(word(id, "refund")).merchant_id is not None:
        reject("not_found", "refund", f"no refund of the city is called {id[:40]!a}")
    return id


@router.post("/refunds/{id}/approve")
def approve_city_refund(id: str, request: Request, caller: Decider) -> RefundAnswer:
    """Let a refund of the city go, once its 48 hours are over where it has any; again changes nothing."""
    gateway = gateway_of(request)
    check_of_city(gateway, id)
    return refund_answer(gateway, refunds_of(gateway).approve(id, caller.key_id))


@router.post("/refunds/{id}/cancel")
def cancel_city_refund(id: str, body: Reason, request: Request, caller: Decider) -> RefundAnswer:
    """Let a refund of the city not go; what it reserved is free again.

    In tenge until the seats' promise is in effect on the ledger, or the bank was seen to pay; on a chain
    until the ledger was asked for the promise.
    """
    gateway = gateway_of(request)
    check_of_city(gateway, id)
    return refund_answer(gateway, refunds_of(gateway).cancel(id, caller.key_id, body.why))


@router.post("/refunds/{id}/retry")
def retry_city_refund(id: str, body: Reason, request: Request, caller: Decider) -> RefundAnswer:
    """Try once more what certainly did not go, and what the ledger still promises."""
    gateway = gateway_of(request)
    check_of_city(gateway, id)
    return refund_answer(gateway, refunds_of(gateway).retry(id, caller.key_id, body.why))
