"""The routes of /v1: each reads its request, calls one use case, and shapes the answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from gateway.api.auth import gate
from gateway.api.schemas import (
    EndpointAnswer,
    InvoiceAnswer,
    InvoiceList,
    KeyAnswer,
    MerchantAnswer,
    NewBill,
    NewEndpoint,
    NewInvoice,
    NewMerchant,
    Rate,
    Unmatched,
    UnmatchedMoney,
    UnreadFile,
    WalletPayment,
)
from gateway.city_fees.catalogue import CATALOGUE
from gateway.city_fees.service import bill
from gateway.db import reading
from gateway.kz import business_date
from gateway.merchants import store as merchants
from gateway.merchants.service import enrol
from gateway.merchants.store import MERCHANT, OPERATOR, Caller
from gateway.payments import store
from gateway.payments.model import Derived
from gateway.payments.service import Request as InvoiceRequest
from gateway.payments.store import Invoice, Seen
from gateway.webhooks import store as webhooks
from ledger.records import encode_name, reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(prefix="/v1")
PAGE_ROWS = 50
_END_OF_TIME = 1 << 62
_KEY_WORDS = re.compile("[0-9a-z_]{1,40}")


def _gateway(request: Request) -> Gateway:
    found: Gateway = request.app.state.gateway
    return found


@router.post("/merchants", status_code=201)
def new_merchant(
    body: NewMerchant, request: Request, caller: Annotated[Caller, Depends(gate(OPERATOR))]
) -> MerchantAnswer:
    """Take a merchant on; answers its key, once."""
    gateway = _gateway(request)
    wallet = bytes.fromhex(body.wallet[2:])
    with gateway.engine.begin() as connection:
        merchant, key = enrol(connection, body.name, body.bin, body.iban, wallet, gateway.clock())
    return MerchantAnswer(id=merchant.id, name=merchant.name, key=key)


@router.post("/merchants/{id}/keys", status_code=201)
def new_key(id: str, request: Request, caller: Annotated[Caller, Depends(gate(OPERATOR))]) -> KeyAnswer:
    """Give a merchant another key, to rotate or where one is lost; the old ones go on until revoked."""
    gateway = _gateway(request)
    with gateway.engine.begin() as connection:
        if not _KEY_WORDS.fullmatch(id) or merchants.merchant(connection, id) is None:
            reject("not_found", "merchant", f"no merchant is called {id[:40]!a}")
        key = merchants.new_key(connection, MERCHANT, id, gateway.clock())
    return KeyAnswer(id=merchants.key_id(key), key=key)


@router.delete("/keys/{id}", status_code=204)
def revoke_key(id: str, request: Request, caller: Annotated[Caller, Depends(gate(OPERATOR))]) -> None:
    """Revoke a key, by its id: the key itself is never in a URL (field failure 50)."""
    gateway = _gateway(request)
    with gateway.engine.begin() as connection:
        if not _KEY_WORDS.fullmatch(id) or not merchants.revoke(connection, id, gateway.clock()):
            reject("not_found", "key", f"no key is called {id[:40]!a}")


@router.get("/unmatched")
def unmatched(
    request: Request, caller: Annotated[Caller, Depends(gate(OPERATOR))], after: str | None = None
) -> Unmatched:
    """Money that a person must decide about, oldest first, and files of the bank that were refused."""
    gateway = _gateway(request)
    with reading(gateway.engine) as connection:
        found = store.unmatched(connection, _after(after), PAGE_ROWS)
        files = store.unread_files(connection)
    return Unmatched(
        money=[_unmatched(piece) for piece in found],
        files=[UnreadFile(name=name, problem=problem, read_s=read_s) for name, problem, read_s in files],
        next=f"{found[-1].seen_s} {found[-1].key}" if len(found) == PAGE_ROWS else None,
    )


def _after(place: str | None) -> tuple[int, str]:
    seen_s, _, key = ("0 " if place is None else place).partition(" ")
    if not re.fullmatch("[0-9]{1,15}", seen_s) or "\0" in key or not key.isprintable():
        reject("page", "after", "this is no `next` of a page")
    return int(seen_s), key


def _unmatched(piece: Seen) -> UnmatchedMoney:
    return UnmatchedMoney(
        key=piece.key,
        kind=piece.kind.value,
        stage=piece.stage.value,
        asset=piece.asset,
        amount=str(piece.amount_minor),
        city=str(piece.city_minor),
        reference=piece.reference,
        address=_hex(piece.address) if piece.address else None,
        invoice=piece.invoice_id,
        problem=piece.problem,
        seen_s=piece.seen_s,
    )


@router.post("/webhook-endpoints", status_code=201)
def new_endpoint(
    body: NewEndpoint, request: Request, caller: Annotated[Caller, Depends(gate(MERCHANT))]
) -> EndpointAnswer:
    """Register where webhooks go; answers the secret they are signed with, once."""
    gateway = _gateway(request)
    assert caller.merchant_id is not None
    target = gateway.egress.parse(str(body.url))
    gateway.egress.addresses(target)
    with gateway.engine.begin() as connection:
        id, secret = webhooks.add_endpoint(
            connection, gateway.sealer, caller.merchant_id, target, gateway.clock()
        )
    return EndpointAnswer(id=id, url=target.url, secret=secret)


@router.post("/invoices", status_code=201)
def new_invoice(
    body: NewInvoice,
    request: Request,
    caller: Annotated[Caller, Depends(gate(MERCHANT))],
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> InvoiceAnswer:
    """Make an invoice with a locked quote.

    The same Idempotency-Key gives the same invoice for ever; the same reference does while its
    invoice can be paid or has money, and a new quote when it expired unpaid.
    """
    gateway = _gateway(request)
    assert caller.merchant_id is not None
    gateway.invoice_quota.take(caller.key_id)
    with reading(gateway.engine) as connection:
        merchant = merchants.merchant(connection, caller.merchant_id)
    assert merchant is not None
    asked = InvoiceRequest(
        purpose=body.purpose,
        title=body.title,
        tiyn=int(body.amount),
        asset=body.asset,
        merchant_id=merchant.id,
        merchant_reference=body.reference,
        payee=merchant.wallet,
        spread_bps=gateway.spread_bps,
    )
    invoice = gateway.payments.create(asked, idempotency_key)
    return show(gateway, invoice.id)


@router.get("/invoices/{id}")
def one_invoice(
    id: str, request: Request, caller: Annotated[Caller, Depends(gate(MERCHANT))]
) -> InvoiceAnswer:
    """An invoice of the caller's."""
    gateway = _gateway(request)
    return show(gateway, _own(gateway, id, caller).id)


def _own(gateway: Gateway, id: str, caller: Caller) -> Invoice:
    invoice, _, _ = gateway.payments.look(id)
    if invoice.merchant_id != caller.merchant_id:
        # The same answer as for none: others' invoices are not to be found by trying.
        reject("not_found", "invoice", f"no invoice is called {id[:40]!a}")
    return invoice


@router.get("/invoices")
def some_invoices(
    request: Request, caller: Annotated[Caller, Depends(gate(MERCHANT))], after: str | None = None
) -> InvoiceList:
    """The caller's invoices, newest first, a page at a time."""
    gateway = _gateway(request)
    assert caller.merchant_id is not None
    before = (_END_OF_TIME, "")
    if after is not None:
        last = _own(gateway, after, caller)
        before = (last.created_s, last.id)
    with reading(gateway.engine) as connection:
        found = store.invoices_of(connection, caller.merchant_id, before, PAGE_ROWS)
    answers = [show(gateway, invoice.id) for invoice in found]
    return InvoiceList(invoices=answers, next=found[-1].id if len(found) == PAGE_ROWS else None)


@router.get("/fees")
def fees(request: Request) -> list[dict[str, object]]:
    """The city's fees and what they cost today. Public."""
    day = business_date(_gateway(request).clock())
    return [
        {
            "id": fee.id,
            "code": fee.code,
            "knp": fee.knp,
            "kbe": fee.kbe,
            "amount": str(fee.tiyn(day)),
            "names": fee.names,
        }
        for fee in CATALOGUE
    ]


@router.post("/fees/bills", status_code=201)
def new_bill(body: NewBill, request: Request) -> InvoiceAnswer:
    """Bill a city fee to whoever asks; nothing is asked about the person. Public."""
    gateway = _gateway(request)
    gateway.bill_quota.take("" if request.client is None else request.client.host)
    return show(gateway, bill(gateway.payments, body.fee, body.asset).id)


@router.get("/receipts/{id}")
def receipt(id: str, request: Request) -> Response:
    """The receipt of a recorded payment: a tlog-proof whose extra line is the record. Public."""
    gateway = _gateway(request)
    position = gateway.payments.position(id)
    if position is None:
        reject(
            "not_found",
            "receipt",
            "this payment is not on the ledger yet; it comes when the payment is final",
        )
    return Response(gateway.receipt(position), media_type="text/plain; charset=utf-8")


def show(gateway: Gateway, id: str) -> InvoiceAnswer:
    """An invoice as an answer: one derived state for API, page and webhook."""
    invoice, derived, _ = gateway.payments.look(id)
    return _answer(gateway, invoice, derived)


def _answer(gateway: Gateway, invoice: Invoice, derived: Derived) -> InvoiceAnswer:
    quote = invoice.quote
    return InvoiceAnswer(
        id=invoice.id,
        reference=invoice.merchant_reference,
        title=invoice.title,
        amount=str(invoice.tiyn),
        asset=invoice.asset,
        due=str(invoice.due_minor),
        paid=str(derived.paid_minor),
        missing=str(derived.missing_minor),
        over=str(derived.over_minor),
        status=derived.status.value,
        notes=sorted(note.value for note in derived.notes),
        created_s=invoice.created_s,
        expires_s=invoice.expires_s,
        rate=Rate(**quote) if quote else None,
        wallet=_wallet(gateway, invoice),
        deposit_address=_hex(invoice.deposit_address) if invoice.deposit_address else None,
        payment_reference=invoice.reference if invoice.in_tenge else None,
        record=gateway.payments.position(invoice.id),
        page=f"{gateway.public_url}/pay/{invoice.id}",
    )


def _wallet(gateway: Gateway, invoice: Invoice) -> WalletPayment | None:
    if gateway.quotes is None or invoice.quote_signature is None:
        return None
    signature = invoice.quote_signature
    return WalletPayment(
        router=_hex(gateway.quotes.place.deployment.router),
        token=_hex(gateway.quotes.place.token(invoice.asset)),
        invoice=_hex(invoice.number),
        purpose=_hex(encode_name(invoice.purpose)),
        merchant=_hex(invoice.payee),
        amount=str(invoice.due_minor),
        share_bps=invoice.share_bps,
        valid_until=invoice.expires_s,
        nonce=str(invoice.nonce),
        v=signature[64],
        r=_hex(signature[:32]),
        s=_hex(signature[32:64]),
    )


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
