"""What an operator does: the queue of money that belongs to no invoice."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request

from gateway.api.answers import unmatched_money
from gateway.api.auth import gate
from gateway.api.operations import state_of
from gateway.api.paging import PAGE_ROWS, After, Limit, gateway_of, next_of, place
from gateway.api.refunds import refund_answer
from gateway.api.route import Route
from gateway.api.schemas import (
    Assign,
    Decide,
    Operations,
    RefundAnswer,
    SendBack,
    Unmatched,
    UnmatchedMoney,
    UnreadFile,
)
from gateway.db import reading
from gateway.kz import check_iban
from gateway.merchants.roles import Caller
from gateway.payments import store
from gateway.payments.store.bank import returned_why
from gateway.payments.unmatched import Unmatched as Queue
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(prefix="/v1", route_class=Route, tags=["operators"])
Decider = Annotated[Caller, Depends(gate("unmatched.write"))]


@router.get("/unmatched")
def unmatched(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.read"))],
    after: After = None,
    limit: Limit = PAGE_ROWS,
) -> Unmatched:
    """Money that a person must decide about, oldest first, and files of the bank that were refused."""
    with reading(gateway_of(request).engine) as connection:
        found = store.unmatched(connection, place(after, (0, "")), limit)
        files = store.unread_files(connection)
        # Of what came back of a refund the bank's reason is told.
        whys = {piece.key: returned_why(connection, piece.key) for piece in found}
    return Unmatched(
        money=[unmatched_money(replace(one, problem=one.problem or whys[one.key])) for one in found],
        files=[UnreadFile(name=name, problem=problem, read_s=read_s) for name, problem, read_s in files],
        next=next_of([(piece.seen_s, piece.key) for piece in found], limit),
    )


@router.post("/unmatched/assign")
def assign(body: Assign, request: Request, caller: Decider) -> UnmatchedMoney:
    """Have money pay an invoice that takes its asset; it is decided once, and stays in the record."""
    gateway = gateway_of(request)
    return unmatched_money(unmatched_of(gateway).assign(_key(body), body.invoice, caller.key_id, body.why))


@router.post("/unmatched/keep")
def keep(body: Decide, request: Request, caller: Decider) -> UnmatchedMoney:
    """Leave money where it is: it pays nothing, and is asked about no more."""
    gateway = gateway_of(request)
    return unmatched_money(unmatched_of(gateway).keep(_key(body), caller.key_id, body.why))


@router.post("/unmatched/refund", status_code=201)
def send_back(body: SendBack, request: Request, caller: Decider) -> RefundAnswer:
    """Send back what came by bank and belongs to no invoice; the city's seats sign it too."""
    gateway = gateway_of(request)
    if (body.to is None) == (body.iban is None):
        reject("schema", "to", "name the account by iban or by to, and not by both")
    if body.iban is not None:
        check_iban(body.iban, "iban")
        to = sha256(body.iban.encode()).digest()
    else:
        to = bytes.fromhex(str(body.to)[2:])
    refund = unmatched_of(gateway).refund(_key(body), to, caller.key_id, body.why, iban=body.iban)
    return refund_answer(gateway, refund)


def unmatched_of(gateway: Gateway) -> Queue:
    """The use cases of the queue."""
    return gateway.unmatched or Queue(gateway.payments)


def _key(body: Decide) -> str:
    if not (body.key.isascii() and body.key.isprintable()):
        reject("not_found", "evidence", f"no evidence is called {body.key[:40]!a}")
    return body.key


@router.get("/operations")
def operations(request: Request, caller: Annotated[Caller, Depends(gate("operations.read"))]) -> Operations:
    """How the gateway is: how far the chain is seen, how old rates are, and what waits."""
    return state_of(gateway_of(request))
