"""Pages for an operator: how the gateway is, and the queue of money that a person must decide about."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.auth import gate
from gateway.api.city_refunds import bill_of_city, check_of_city
from gateway.api.operations import state_of
from gateway.api.operators import unmatched_of
from gateway.api.paging import END_OF_TIME, next_of, place
from gateway.api.refunds import refunds_of
from gateway.api.schemas import RateState
from gateway.db import Connection, reading
from gateway.kz import check_iban
from gateway.measures import store as measures
from gateway.merchants.roles import Caller
from gateway.pages.merchant import ROWS, Text, shown, units
from gateway.pages.render import gateway_of
from gateway.pages.session import PageRoute
from gateway.pages.watch import queues
from gateway.pages.words import plain, tongue_of
from gateway.payments import store
from gateway.payments.bounds import check_why
from gateway.payments.city_refunds import city_refunds
from gateway.payments.refund_model import Refund
from gateway.payments.store import bank
from gateway.payments.store import refunds as refund_rows
from gateway.payments.store import settlements as settlement_rows
from gateway.steps import store as steps
from ledger.records import reject
from ledger.rules import TENGE

# A step that fails is tried again within half a minute; who has not been heard of for longer is gone.
FAILING_S = 120

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/operator")
def desk(
    request: Request, caller: Annotated[Caller, Depends(gate("unmatched.read"))], after: str | None = None
) -> HTMLResponse:
    """The state of the gateway and what waits for a person, oldest first."""
    gateway = gateway_of(request)
    found = list(unmatched_of(gateway).list(place(after, (0, "")), ROWS))
    with reading(gateway.engine) as connection:
        files = store.unread_files(connection)
        refused = measures.refused_bookings(connection)
        disputed = settlement_rows.count_disputed(connection)
        failing = steps.failing(connection, int((time.time() - FAILING_S) * 1_000))
    assets, state = {one.seen.asset for one in found}, state_of(gateway)
    assets |= {one.asset for one in refused}
    return shown(
        request,
        "operator.html",
        state=state,
        queues=queues(gateway),
        rates={one.asset: _rate(request, one) for one in state.rates},
        queue=found,
        files=files,
        refused=refused,
        failing=failing,
        disputed=disputed,
        decimals={asset: gateway.view.decimals(asset) for asset in assets},
        next=next_of([(one.seen.seen_s, one.seen.key) for one in found], ROWS),
    )


def _rate(request: Request, found: RateState) -> str:
    numerator, _, denominator = (found.rate or "0/1").partition("/")
    decimals = gateway_of(request).view.decimals(found.asset)
    return tongue_of(request).rate(int(numerator), int(denominator), decimals)


@router.get("/operator/refunds")
def refunds(
    request: Request, caller: Annotated[Caller, Depends(gate("unmatched.read"))], after: str | None = None
) -> HTMLResponse:
    """The city's refunds, newest first: what to have the bank pay, and what it booked."""
    gateway = gateway_of(request)
    found = city_refunds(gateway.engine, place(after, (END_OF_TIME, "")), ROWS)
    with reading(gateway.engine) as connection:
        accounts = bank.accounts_of(connection, [one.refund.id for one in found])
        asked = {one.refund.id: _asked(connection, one.refund, accounts.get(one.refund.id)) for one in found}
    return shown(
        request,
        "operator_refunds.html",
        refunds=found,
        asked=asked,
        plain=plain,
        account=gateway.bank_iban,
        decimals={one.refund.asset: gateway.view.decimals(one.refund.asset) for one in found},
        once=secrets.token_urlsafe(12),
        next=next_of([(one.refund.created_s, one.refund.id) for one in found], ROWS),
    )


@dataclass(frozen=True)
class Asked:
    """What somebody must know who lets a refund go: to which account, why, and of which money.

    iban: None where only its hash is known; said: why, in the words of who asked; text: what the payer wrote
    with the money.
    """

    iban: str | None
    said: str
    key: str | None
    text: str


def _asked(connection: Connection, refund: Refund, iban: str | None) -> Asked:
    (_, _, why, _), *_ = refund_rows.refund_events(connection, refund.id)
    seen = None if refund.evidence_key is None else store.evidence(connection, refund.evidence_key)
    return Asked(iban, why, refund.evidence_key, seen.reference if seen else "")


@router.post("/operator/refunds")
def let_go(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.write"))],
    id: Text = "",
    what: Text = "",
    why: Text = "",
) -> Response:
    """Let a refund of the city go, or not."""
    gateway = gateway_of(request)
    check_of_city(gateway, id)
    if what == "approve":
        refunds_of(gateway).approve(id, caller.key_id)
    elif what == "cancel":
        refunds_of(gateway).cancel(id, caller.key_id, why)
    else:
        reject("schema", "what", "choose what becomes of the refund")
    return RedirectResponse("/operator/refunds", 303)


@router.post("/operator/refunds/bill")
def refund_bill(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.write"))],
    invoice: Text = "",
    amount: Text = "",
    iban: Text = "",
    once: Text = "",
    why: Text = "",
) -> Response:
    """Ask that tenge of a bill go back to the account that they came from."""
    gateway = gateway_of(request)
    if not once.isprintable() or not once:
        reject("schema", "once", "the form's own number is missing")
    check_why("P6", why)
    id = bill_of_city(gateway, invoice.strip())
    minor = units(amount, gateway.view.decimals(TENGE))
    account = iban.replace(" ", "") or None
    refunds_of(gateway).request(caller.key_id, id, None, minor, None, f"page {once}", iban=account, why=why)
    return RedirectResponse("/operator/refunds", 303)


@router.post("/operator/unmatched")
def decide(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.write"))],
    key: Text = "",
    what: Text = "",
    invoice: Text = "",
    iban: Text = "",
    why: Text = "",
) -> Response:
    """Assign, keep or send back one piece of money; it is written down who did it and why."""
    queue = unmatched_of(gateway_of(request))
    if not (key.isascii() and key.isprintable() and key):
        reject("not_found", "evidence", "no evidence is called so")
    if what == "assign":
        queue.assign(key, invoice.strip(), caller.key_id, why)
    elif what == "keep":
        queue.keep(key, caller.key_id, why)
    elif what == "refund":
        account = iban.replace(" ", "")
        check_iban(account, "iban")
        queue.refund(key, sha256(account.encode()).digest(), caller.key_id, why, iban=account)
    else:
        reject("schema", "what", "choose what becomes of the money")
    return RedirectResponse("/operator", 303)
