"""Invoices and payment links: the routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from gateway.api.answers import invoice_answer, link_answer, sandbox_answer, show
from gateway.api.auth import Door, admit, gate, key_in
from gateway.api.paging import END_OF_TIME, PAGE_ROWS, After, Limit, gateway_of, next_of, place
from gateway.api.route import Route, own_idempotency
from gateway.api.schemas import (
    InvoiceAnswer,
    InvoiceList,
    LinkAnswer,
    LinkList,
    NewInvoice,
    NewLink,
    TestPayment,
)
from gateway.api.standing import Standing
from gateway.db import reading
from gateway.merchants import store as merchants
from gateway.merchants.roles import Caller
from gateway.payments import store
from gateway.payments.model import derive
from gateway.payments.service import Request as InvoiceRequest
from gateway.payments.store import Invoice
from gateway.rails import Stage
from gateway.sandbox.service import Order
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(prefix="/v1", route_class=Route, tags=["invoices"])
Reader = Annotated[Caller, Depends(gate("invoices.read", sandbox=True))]
Maker = Annotated[Caller, Depends(gate("invoices.write", sandbox=True))]
NEW_INVOICE = Door("invoices.write", sandbox=True)
Key = Annotated[
    str | None, Header(alias="Idempotency-Key", max_length=255, description="the same key: the same answer")
]


@router.post("/invoices", status_code=201, response_model=InvoiceAnswer)
@own_idempotency
def new_invoice(
    body: NewInvoice,
    request: Request,
    caller: Annotated[Caller, Depends(gate("invoices.write", sandbox=True, rechecked=True))],
    idempotency_key: Key = None,
) -> Response:
    """Make an invoice with a locked quote.

    The same Idempotency-Key gives the same invoice for ever; the same reference does while its
    invoice can be paid or has money, and a new quote when it expired unpaid.
    """
    gateway = gateway_of(request)
    assert caller.merchant_id is not None
    gateway.invoice_quota.take(caller.key_id)
    if caller.sandbox:
        order = Order(
            caller.merchant_id,
            body.reference,
            body.purpose,
            body.title,
            int(body.amount),
            body.asset,
            return_url=body.return_url,
        )
        return _made(sandbox_answer(gateway, *gateway.sandbox.create(order)))
    standing: Standing | None = request.state.standing
    if standing is not None:
        asked = _asked(gateway, body, caller.merchant_id, standing.wallet)
        made = gateway.payments.create_at_once(asked, idempotency_key, caller.key_id, standing.policy)
        if made is not None:
            return _made(invoice_answer(gateway, made, derive(made.terms, [], made.created_s), None))
    # Not as plain as that: perhaps the key was revoked, or the reference has an invoice. Looked at anew.
    key = key_in(request.headers.get("authorization"))
    gateway.standings.forget(key)
    admit(gateway, key, NEW_INVOICE)
    with reading(gateway.engine) as connection:
        merchant = merchants.merchant_at(connection, caller.merchant_id, gateway.clock())
    assert merchant is not None
    invoice = gateway.payments.create(_asked(gateway, body, merchant.id, merchant.wallet), idempotency_key)
    return _made(show(gateway, invoice.id))


def _asked(gateway: Gateway, body: NewInvoice, merchant_id: str, wallet: bytes) -> InvoiceRequest:
    return InvoiceRequest(
        purpose=body.purpose,
        title=body.title,
        tiyn=int(body.amount),
        asset=body.asset,
        merchant_id=merchant_id,
        merchant_reference=body.reference,
        payee=wallet,
        spread_bps=gateway.spread_bps,
        refund_to=None if body.refund_to is None else bytes.fromhex(body.refund_to[2:]),
        return_url=body.return_url,
    )


def _made(answer: InvoiceAnswer) -> Response:
    # Written out once: FastAPI would check what was just checked, and write it out by another way.
    return Response(answer.model_dump_json(), 201, media_type="application/json")


@router.get("/invoices/{id}")
def one_invoice(id: str, request: Request, caller: Reader) -> InvoiceAnswer:
    """An invoice of the caller's."""
    gateway = gateway_of(request)
    if caller.sandbox:
        return sandbox_answer(gateway, *gateway.sandbox.look(str(caller.merchant_id), id))
    return show(gateway, own_invoice(gateway, id, caller).id)


def own_invoice(gateway: Gateway, id: str, caller: Caller) -> Invoice:
    """An invoice of the caller's; others' are not there."""
    invoice, _, _ = gateway.payments.look(id)
    if invoice.merchant_id is None or invoice.merchant_id != caller.merchant_id:
        # The same answer as for none: others' invoices are not to be found by trying.
        reject("not_found", "invoice", f"no invoice is called {id[:40]!a}")
    return invoice


@router.get("/invoices")
def some_invoices(
    request: Request, caller: Reader, after: After = None, limit: Limit = PAGE_ROWS
) -> InvoiceList:
    """The caller's invoices, newest first, a page at a time."""
    gateway = gateway_of(request)
    owner, before = str(caller.merchant_id), (END_OF_TIME, "")
    if caller.sandbox:
        if after is not None:
            last, _ = gateway.sandbox.look(owner, after)
            before = last.created_s, last.id
        tried = gateway.sandbox.list(owner, before, limit)
        answers = [sandbox_answer(gateway, *one) for one in tried]
    else:
        if after is not None:
            seen = own_invoice(gateway, after, caller)
            before = seen.created_s, seen.id
        with reading(gateway.engine) as connection:
            found = store.invoices_of(connection, owner, before, limit)
        answers = [invoice_answer(gateway, *one) for one in gateway.payments.told(found)]
    return InvoiceList(invoices=answers, next=answers[-1].id if len(answers) == limit else None)


@router.post("/invoices/{id}/void")
def void_invoice(id: str, request: Request, caller: Maker) -> InvoiceAnswer:
    """Void an invoice that has no money, so that it is not paid any more; again changes nothing."""
    gateway = gateway_of(request)
    if caller.sandbox:
        return sandbox_answer(gateway, *gateway.sandbox.void(str(caller.merchant_id), id))
    own_invoice(gateway, id, caller)
    gateway.payments.void(id)
    return show(gateway, id)


@router.post("/invoices/{id}/test-payment")
def test_payment(id: str, body: TestPayment, request: Request, caller: Maker) -> InvoiceAnswer:
    """Pretend, in the sandbox, that money came."""
    gateway = gateway_of(request)
    if not caller.sandbox:
        reject("sandbox", "Authorization", "only an invoice of the sandbox is paid by a call")
    amount = None if body.amount is None else int(body.amount)
    paid = gateway.sandbox.pay(str(caller.merchant_id), id, amount, Stage(body.stage))
    return sandbox_answer(gateway, *paid)


# --- payment links --------------------------------------------------------------------


@router.post("/payment-links", status_code=201)
def new_link(
    body: NewLink, request: Request, caller: Annotated[Caller, Depends(gate("links.write"))]
) -> LinkAnswer:
    """Make an address that makes an invoice for each who pays."""
    gateway = gateway_of(request)
    link = gateway.links.create(
        str(caller.merchant_id),
        body.title,
        body.purpose,
        body.asset,
        None if body.amount is None else int(body.amount),
        reusable=body.reusable,
        expires_s=body.expires_s,
    )
    return link_answer(gateway, link)


@router.get("/payment-links")
def some_links(
    request: Request,
    caller: Annotated[Caller, Depends(gate("links.read"))],
    after: After = None,
    limit: Limit = PAGE_ROWS,
) -> LinkList:
    """The caller's payment links, newest first."""
    gateway = gateway_of(request)
    found = gateway.links.list(str(caller.merchant_id), place(after, (END_OF_TIME, "")), limit)
    rows = [(link.created_s, link.id) for link in found]
    return LinkList(links=[link_answer(gateway, link) for link in found], next=next_of(rows, limit))


@router.get("/payment-links/{id}")
def one_link(id: str, request: Request, caller: Annotated[Caller, Depends(gate("links.read"))]) -> LinkAnswer:
    """A payment link of the caller's."""
    gateway = gateway_of(request)
    return link_answer(gateway, gateway.links.look(id, str(caller.merchant_id)))


@router.post("/payment-links/{id}/close")
def close_link(
    id: str, request: Request, caller: Annotated[Caller, Depends(gate("links.write"))]
) -> LinkAnswer:
    """Let a link make no more invoices; those that it made go on."""
    gateway = gateway_of(request)
    return link_answer(gateway, gateway.links.close(str(caller.merchant_id), id))


__all__ = ["own_invoice", "router"]
