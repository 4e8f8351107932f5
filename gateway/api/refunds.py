"""Refunds, settlements, payouts and policies: the routes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Header, Request
from starlette.concurrency import run_in_threadpool

from gateway.api.answers import hexed
from gateway.api.auth import gate, public
from gateway.api.invoices import own_invoice
from gateway.api.paging import END_OF_TIME, PAGE_ROWS, After, Limit, gateway_of, next_of, place, word
from gateway.api.route import Route, own_idempotency
from gateway.api.schemas import (
    NewPayout,
    NewRefund,
    PayoutAnswer,
    PayoutList,
    PayoutMoved,
    PolicyBody,
    PreparedAnswer,
    Reason,
    RefundAnswer,
    RefundList,
    SentBy,
    SettlementAnswer,
    SettlementList,
)
from gateway.db import reading
from gateway.merchants import store as merchants
from gateway.merchants.policy import Over, Policy, SettleBy, policy_of, set_policy
from gateway.merchants.roles import OWNER, Caller
from gateway.payments.refund_model import Refund, RefundState, Source
from gateway.payments.refunds import Refunds
from gateway.payments.settlements import Settlements
from gateway.payments.store.settlements import Payout
from gateway.vasp.client import SIGNATURE
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(prefix="/v1", route_class=Route, tags=["refunds"])
_CONFIRMATION = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "examples": {
                    "refused": {
                        "value": {
                            "reference": "p_0123456789abcdef01234567",
                            "asset": "USDT",
                            "amount": "23679",
                            "iban": "KZ86125KZT5004100100",
                            "status": "refused",
                            "why": "the account is closed",
                        }
                    }
                },
            }
        },
    }
}
Reader = Annotated[Caller, Depends(gate("refunds.read"))]
Writer = Annotated[Caller, Depends(gate("refunds.write"))]
Statements = Annotated[Caller, Depends(gate("statements.read"))]


MovesMoney = Annotated[
    str | None, Header(alias="Idempotency-Key", max_length=255, description="needed: it moves money once")
]


def needed_key(key: str | None) -> str:
    """The Idempotency-Key of a request that moves money."""
    if not key or not key.isprintable():
        reject("idempotency", "Idempotency-Key", "a refund moves money, so it needs a key")
    return key


def refunds_of(gateway: Gateway) -> Refunds:
    """The use cases of refunds."""
    return gateway.refunds or Refunds(gateway.payments)


def settlements_of(gateway: Gateway) -> Settlements:
    """The use cases of settlements."""
    return gateway.settlements or Settlements(gateway.payments)


def refund_answer(gateway: Gateway, refund: Refund) -> RefundAnswer:
    """A refund, with what a wallet is to send where one must."""
    transaction = None
    if refund.source is Source.MERCHANT and refund.state is RefundState.PENDING:
        told = refunds_of(gateway).prepared(refund)
        transaction = PreparedAnswer(
            chain_id=told.chain_id,
            to=hexed(told.to),
            data=hexed(told.data),
            value=str(told.value),
            link=told.link,
        )
    return RefundAnswer(
        id=refund.id,
        invoice=refund.invoice_id,
        source=refund.source.value,
        asset=refund.asset,
        amount=str(refund.amount_minor),
        to=hexed(refund.receiver),
        proof=refund.proof.value,
        state=refund.state.value,
        ripe_s=refund.ripe_s,
        created_s=refund.created_s,
        changed_s=refund.changed_s,
        problem=refund.problem,
        transaction=transaction,
    )


@router.post("/invoices/{id}/refunds", status_code=201)
@own_idempotency
def new_refund(
    id: str,
    body: NewRefund,
    request: Request,
    caller: Writer,
    idempotency_key: MovesMoney = None,
) -> RefundAnswer:
    """Ask that a part of what an invoice received goes back; it takes an Idempotency-Key, always."""
    gateway = gateway_of(request)
    own_invoice(gateway, id, caller)
    key = needed_key(idempotency_key)
    refund = refunds_of(gateway).request(
        caller.key_id,
        id,
        body.evidence,
        int(body.amount),
        None if body.to is None else bytes.fromhex(body.to[2:]),
        key,
        signature=None if body.signature is None else bytes.fromhex(body.signature[2:]),
        why=body.why,
    )
    return refund_answer(gateway, refund)


@router.get("/refunds")
def some_refunds(
    request: Request, caller: Reader, after: After = None, limit: Limit = PAGE_ROWS
) -> RefundList:
    """The caller's refunds, newest first."""
    gateway = gateway_of(request)
    found = refunds_of(gateway).of(caller.merchant_id, place(after, (END_OF_TIME, "")), limit)
    rows = [(refund.created_s, refund.id) for refund in found]
    answers = [refund_answer(gateway, refund) for refund in found]
    return RefundList(refunds=answers, next=next_of(rows, limit))


def own_refund(gateway: Gateway, id: str, caller: Caller) -> Refund:
    """A refund of the caller's; others' are not there."""
    found = refunds_of(gateway).look(word(id, "refund"))
    if found.merchant_id is None or found.merchant_id != caller.merchant_id:
        reject("not_found", "refund", f"no refund is called {id[:40]!a}")
    return found


@router.get("/refunds/{id}")
def one_refund(id: str, request: Request, caller: Reader) -> RefundAnswer:
    """A refund of the caller's."""
    gateway = gateway_of(request)
    return refund_answer(gateway, own_refund(gateway, id, caller))


@router.post("/refunds/{id}/approve")
def approve_refund(id: str, request: Request, caller: Writer) -> RefundAnswer:
    """Let a refund go; again changes nothing. The merchant's own wallet then sends `transaction`."""
    gateway = gateway_of(request)
    own_refund(gateway, id, caller)
    refund = refunds_of(gateway).approve(id, caller.key_id, is_owner=caller.role == OWNER)
    return refund_answer(gateway, refund)


@router.post("/refunds/{id}/cancel")
def cancel_refund(id: str, body: Reason, request: Request, caller: Writer) -> RefundAnswer:
    """Let a refund not go; refused once it may be under way."""
    gateway = gateway_of(request)
    own_refund(gateway, id, caller)
    return refund_answer(gateway, refunds_of(gateway).cancel(id, caller.key_id, body.why))


@router.post("/refunds/{id}/transaction")
def name_transaction(id: str, body: SentBy, request: Request, caller: Writer) -> RefundAnswer:
    """Say by which transaction a refund in the chain's coin was sent: coin leaves no log to find it by."""
    gateway = gateway_of(request)
    own_refund(gateway, id, caller)
    transaction = bytes.fromhex(body.transaction[2:])
    return refund_answer(gateway, refunds_of(gateway).report(id, transaction, caller.key_id))


# --- settlements and payouts ------------------------------------------------------------


@router.get("/settlements")
def some_settlements(
    request: Request, caller: Statements, after: After = None, limit: Limit = PAGE_ROWS
) -> SettlementList:
    """What the caller was given, newest first."""
    gateway = gateway_of(request)
    start = place(after, (END_OF_TIME, ""))
    found = list(settlements_of(gateway).of(str(caller.merchant_id), start, limit))
    answers = [
        SettlementAnswer(
            id=one.id,
            invoice=one.invoice_id,
            method=one.method,
            asset=one.asset,
            gross=str(one.gross_minor),
            city=str(one.city_minor),
            net=str(one.net_minor),
            receiver=hexed(one.receiver),
            moved_s=one.at_s,
            final_s=one.noted_s,
        )
        for one in found
    ]
    return SettlementList(settlements=answers, next=next_of([(one.noted_s, one.id) for one in found], limit))


def payout_answer(payout: Payout) -> PayoutAnswer:
    """A payout."""
    return PayoutAnswer(
        id=payout.id,
        provider=payout.provider,
        asset=payout.asset,
        amount=str(payout.amount_minor),
        iban=payout.iban,
        state=payout.state.value,
        tiyn=None if payout.tiyn is None else str(payout.tiyn),
        fee_tiyn=None if payout.fee_tiyn is None else str(payout.fee_tiyn),
        bank_reference=payout.bank_reference,
        paid_s=payout.paid_s,
        created_s=payout.created_s,
        problem=payout.problem,
    )


@router.get("/payouts")
def some_payouts(
    request: Request, caller: Statements, after: After = None, limit: Limit = PAGE_ROWS
) -> PayoutList:
    """The caller's payouts in tenge, newest first."""
    gateway = gateway_of(request)
    start = place(after, (END_OF_TIME, ""))
    found = list(settlements_of(gateway).payouts_of(str(caller.merchant_id), start, limit))
    rows = [(payout.created_s, payout.id) for payout in found]
    return PayoutList(payouts=[payout_answer(payout) for payout in found], next=next_of(rows, limit))


@router.post("/payouts", status_code=201)
def new_payout(
    body: NewPayout, request: Request, caller: Annotated[Caller, Depends(gate("payouts.write"))]
) -> PayoutAnswer:
    """Ask the provider to pay out all that it holds of an asset, to the account that holds now."""
    gateway = gateway_of(request)
    payout = settlements_of(gateway).instruct(
        str(caller.merchant_id), body.asset, caller.key_id, body.provider
    )
    return payout_answer(payout)


@router.post("/providers/{name}/confirmations", openapi_extra=_CONFIRMATION)
async def confirm_payout(
    name: str,
    request: Request,
    _: Annotated[None, Depends(public)],
    signature: Annotated[
        str, Header(alias=SIGNATURE, max_length=400, description="over the very bytes of the body")
    ] = "",
) -> PayoutMoved:
    """Where a provider tells what became of a payout: its signature is what is believed.

    The same message again changes nothing and is answered the same.
    """
    gateway, content = gateway_of(request), await request.body()
    word(name, "provider")
    payout = await run_in_threadpool(settlements_of(gateway).confirm, name, content, signature)
    return PayoutMoved(id=payout.id, state=payout.state.value)


# --- policy -----------------------------------------------------------------------------


def _policy_body(policy: Policy) -> PolicyBody:
    told = asdict(policy) | {"tolerance_minor_max": str(policy.tolerance_minor_max)}
    return PolicyBody(**told | {"over_policy": policy.over_policy.value, "settle_by": policy.settle_by.value})


@router.get("/merchant/policy", tags=["merchants"])
def policy(request: Request, caller: Annotated[Caller, Depends(gate("merchant.read"))]) -> PolicyBody:
    """The policy that holds for invoices that are made now."""
    with reading(gateway_of(request).engine) as connection:
        return _policy_body(policy_of(connection, caller.merchant_id))


@router.put("/merchant/policy", tags=["merchants"])
def new_policy(
    body: PolicyBody, request: Request, caller: Annotated[Caller, Depends(gate("merchant.write"))]
) -> PolicyBody:
    """Set the policy for invoices that are made from now on; those that are made keep theirs.

    settle_by vasp needs a wallet that is an address of the provider: it gets the units.
    """
    gateway = gateway_of(request)
    told = body.model_dump() | {
        "tolerance_minor_max": int(body.tolerance_minor_max),
        "over_policy": Over(body.over_policy),
        "settle_by": SettleBy(body.settle_by),
    }
    with gateway.engine.begin() as connection:
        if told["settle_by"] is SettleBy.VASP:
            held = merchants.merchant_at(connection, str(caller.merchant_id), gateway.clock())
            assert held is not None
            settlements_of(gateway).check_wallet(held.wallet)
        set_policy(connection, str(caller.merchant_id), Policy(**told), caller.key_id, gateway.clock())
    return body
