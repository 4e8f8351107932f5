"""Paying with a wallet in the browser: what the page says of it, and what the wallet is then given.

Public, for whoever holds the invoice's address is the payer. Nothing is in it but what the chain will show
of this payment anyway: the quote, where it goes, and how it is divided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from contracts.bindings import COIN, Quote, city_part
from gateway.api.auth import public
from gateway.api.route import address_of
from gateway.eip55 import checksummed
from gateway.pages.checkout import is_payable
from gateway.pages.render import gateway_of
from gateway.pages.session import PageRoute
from gateway.pages.words import Tongue
from gateway.payments.model import Derived, Status
from gateway.payments.store import Invoice
from gateway.rails.evm.rpc import to_hex
from gateway.relayer.authorization import quote_of, quoted_call
from gateway.relayer.encoding import approve_call
from ledger.records import Unavailable, encode_name, reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(route_class=PageRoute, include_in_schema=False)
NO_STORE = {"Cache-Control": "no-store"}
Payer = Annotated[str, Query(pattern="^0x[0-9a-fA-F]{40}$")]


def is_offered(gateway: Gateway, invoice: Invoice, derived: Derived, now: int) -> bool:
    """Whether an invoice can be paid with a wallet now: its one quote is for the whole of it."""
    if gateway.quotes is None or invoice.quote_signature is None:
        return False
    place = gateway.quotes.place
    if invoice.asset not in place.tokens.values():
        return False
    untouched = derived.status is Status.OPEN and derived.paid_minor == 0
    taken = place.is_allowed(place.deployment.router, place.token(invoice.asset), now)
    return untouched and taken and is_payable(invoice, derived, now)


def expected(
    gateway: Gateway, invoice: Invoice, derived: Derived, now: int, t: Tongue
) -> dict[str, Any] | None:
    """What the page says of the payment, which its script holds against all that a wallet is asked for.

    None where it is not offered. Amounts in base units; `shown` as people read them.
    """
    if not is_offered(gateway, invoice, derived, now):
        return None
    quote, decimals = _quote(gateway, invoice), gateway.view.decimals(invoice.asset)
    city = city_part(quote.amount, quote.share_bps)
    amounts = {"amount": quote.amount, "city": city, "net": quote.amount - city}
    shown = {name: t.amount(minor, invoice.asset, decimals) for name, minor in amounts.items()}
    return {
        **_told(gateway, quote),
        "asset": invoice.asset,
        "decimals": decimals,
        "is_coin": quote.token == COIN,
        # As wallets write it, so that two addresses can be compared by eye.
        "shown": {**shown, "router": checksummed(_router(gateway))},
    }


@router.get("/pay/{id}/wallet", dependencies=[Depends(public)])
def offer(id: str, payer: Payer, request: Request) -> JSONResponse:
    """The signed quote of an open invoice, as calls and typed data that a wallet takes as they are."""
    gateway = gateway_of(request)
    gateway.offer_quota.take(address_of(request))
    invoice, derived, _ = gateway.payments.look(id)
    now = gateway.clock()
    if not is_offered(gateway, invoice, derived, now):
        left_s = invoice.expires_s - now
        why = f"this invoice is {derived.status.value}, has {derived.paid_minor}, and has {left_s} s left"
        reject("wallet", "invoice", f"{why}; a wallet pays an open one whole")
    if gateway.payments.limits is not None:
        # As for a new quote: who does not see the chain does not know whether this was paid already.
        gateway.payments.limits.check_lag()
    quote, signed = _quote(gateway, invoice), invoice.quote_signature
    assert signed is not None
    is_coin = quote.token == COIN
    to, value = to_hex(_router(gateway)), quote.amount if is_coin else 0
    data = quoted_call("payNative" if is_coin else "pay", quote, signed)
    told = {
        **_told(gateway, quote),
        "left_s": invoice.expires_s - now,
        "pay": {"to": to, "value": hex(value), "data": to_hex(data)},
        "approve": None if is_coin else _approve(gateway, quote),
        "signs": _signs(gateway, invoice, bytes.fromhex(payer[2:])),
    }
    return JSONResponse(told, headers=NO_STORE)


def _quote(gateway: Gateway, invoice: Invoice) -> Quote:
    assert gateway.quotes is not None
    return quote_of(invoice, gateway.quotes.place.token(invoice.asset))


def _router(gateway: Gateway) -> bytes:
    assert gateway.quotes is not None
    return gateway.quotes.place.deployment.router


def _told(gateway: Gateway, quote: Quote) -> dict[str, Any]:
    """What both the page and its offer say, so that they can be compared."""
    assert gateway.quotes is not None
    return {
        "chain_id": gateway.quotes.place.deployment.chain_id,
        "router": to_hex(_router(gateway)),
        "token": to_hex(quote.token),
        "merchant": to_hex(quote.merchant),
        "number": to_hex(quote.invoice),
        "purpose": to_hex(encode_name(quote.purpose)),
        "amount": str(quote.amount),
        "city": str(city_part(quote.amount, quote.share_bps)),
        "share_bps": quote.share_bps,
        "valid_until": quote.valid_until,
        "nonce": str(quote.nonce),
    }


def _approve(gateway: Gateway, quote: Quote) -> dict[str, str]:
    data = approve_call(_router(gateway), quote.amount)
    return {"to": to_hex(quote.token), "value": "0x0", "data": to_hex(data)}


def _signs(gateway: Gateway, invoice: Invoice, payer: bytes) -> list[dict[str, Any]]:
    """What can be signed instead of sent; nothing while our node does not answer: the payer's own may."""
    if gateway.relayer is None:
        return []
    try:
        found = gateway.relayer.signable(invoice, payer)
    except Unavailable:
        return []
    return [
        {"scheme": one.scheme.value, "nonce": str(one.nonce), "typed_data": one.typed_data} for one in found
    ]


__all__ = ["expected", "is_offered", "router"]
