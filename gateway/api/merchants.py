"""A merchant's own data and keys: the routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from gateway.api.answers import change_answer, key_view, merchant_view
from gateway.api.auth import gate
from gateway.api.paging import END_OF_TIME, PAGE_ROWS, After, Limit, gateway_of, next_of, place, word
from gateway.api.refunds import settlements_of
from gateway.api.route import Route
from gateway.api.schemas import (
    ChangeAnswer,
    KeyAnswer,
    KeyList,
    KeyView,
    MerchantAnswer,
    MerchantList,
    MerchantView,
    NewChange,
    NewKey,
    NewMerchant,
    Rotation,
)
from gateway.db import Connection, reading
from gateway.merchants import service, store
from gateway.merchants.policy import SettleBy, policy_of
from gateway.merchants.roles import OPERATOR, Caller
from gateway.webhooks import store as webhooks
from ledger.records import reject

router = APIRouter(prefix="/v1", route_class=Route, tags=["merchants"])
Operator = Annotated[Caller, Depends(gate("merchants.write"))]
Owner = Annotated[Caller, Depends(gate("merchant.write"))]
KeyMaker = Annotated[Caller, Depends(gate("keys.write", sandbox=True))]


@router.post("/merchants", status_code=201)
def new_merchant(body: NewMerchant, request: Request, caller: Operator) -> MerchantAnswer:
    """Take a merchant on; answers its owner's key, once."""
    gateway = gateway_of(request)
    wallet = bytes.fromhex(body.wallet[2:])
    with gateway.engine.begin() as connection:
        merchant, key = service.enrol(
            connection, body.name, body.bin, body.iban, wallet, gateway.clock(), body.contact
        )
    return MerchantAnswer(id=merchant.id, name=merchant.name, key=key)


@router.get("/merchants")
def some_merchants(
    request: Request, caller: Operator, after: After = None, limit: Limit = PAGE_ROWS
) -> MerchantList:
    """All merchants, in the order of their ids; `next` is the last one's."""
    gateway, now = gateway_of(request), gateway_of(request).clock()
    last = "" if after is None else word(after, "merchant")
    with reading(gateway.engine) as connection:
        found = store.merchants(connection, last, limit)
        held = [store.merchant_at(connection, one.id, now) or one for one in found]
        views = [merchant_view(one, store.waiting_changes(connection, one.id, now)) for one in held]
    return MerchantList(merchants=views, next=views[-1].id if len(views) == limit else None)


@router.post("/merchants/{id}/keys", status_code=201)
def new_key_of_merchant(id: str, request: Request, caller: Operator, body: NewKey | None = None) -> KeyAnswer:
    """Give a merchant another key, where all are lost; the old ones go on until revoked."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        if store.merchant(connection, word(id, "merchant")) is None:
            reject("not_found", "merchant", f"no merchant is called {id[:40]!a}")
        return _made(connection, caller, body or NewKey(), gateway.clock(), id)


def _made(
    connection: Connection, caller: Caller, body: NewKey, now: int, merchant_id: str | None = None
) -> KeyAnswer:
    key = service.make_key(
        connection,
        caller,
        body.role,
        now,
        merchant_id=merchant_id,
        name=body.name,
        scopes=None if body.scopes is None else frozenset(body.scopes),
        sandbox=body.sandbox,
        lifetime_s=body.lifetime_s,
    )
    return _shown(connection, key)


def _shown(connection: Connection, key: str) -> KeyAnswer:
    made = store.one_key(connection, store.key_id(key))
    assert made is not None
    return KeyAnswer(id=made.id, key=key, expires_s=made.expires_s)


# --- the merchant's own -----------------------------------------------------------------


@router.get("/merchant")
def own_data(
    request: Request, caller: Annotated[Caller, Depends(gate("merchant.read", sandbox=True))]
) -> MerchantView:
    """The caller's data as they hold now, and the changes that wait."""
    gateway, now = gateway_of(request), gateway_of(request).clock()
    with reading(gateway.engine) as connection:
        held = store.merchant_at(connection, str(caller.merchant_id), now)
        assert held is not None
        return merchant_view(held, store.waiting_changes(connection, held.id, now))


@router.post("/merchant/changes", status_code=201)
def ask_change(body: NewChange, request: Request, caller: Owner) -> ChangeAnswer:
    """Ask that the wallet, the IBAN or the contact change.

    It holds after 48 hours; the old contact and all webhook endpoints are told at once, and each key of the
    owner that is older than the change can cancel it until then (DELETE). Invoices use the old wallet until
    it holds, and those made before it keep theirs.
    """
    gateway = gateway_of(request)
    asked = {name: value for name, value in body.model_dump().items() if value is not None}
    if len(asked) != 1:
        reject("schema", "body", f"one of wallet, iban and contact is changed at a time, not {len(asked)}")
    [(field, value)] = asked.items()
    with gateway.engine.begin() as connection:
        changed = bytes.fromhex(value[2:]) if field == "wallet" else value
        if isinstance(changed, bytes):
            policy = policy_of(connection, caller.merchant_id)
            if policy.settle_by is SettleBy.VASP:
                settlements_of(gateway).check_wallet(changed)
        change = service.ask_change(connection, caller, field, changed, gateway.clock(), webhooks.enqueue)
    return change_answer(change)


@router.delete("/merchant/changes/{id}", status_code=204)
def cancel_change(
    id: str,
    request: Request,
    caller: Annotated[Caller, Depends(gate("merchant.write", even_revoked=True))],
) -> None:
    """Cancel a change that does not hold yet, with any owner's key that is older than it."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        service.cancel_change(connection, caller, word(id, "change"), gateway.clock(), webhooks.enqueue)


@router.post("/keys", status_code=201)
def new_key(body: NewKey, request: Request, caller: KeyMaker) -> KeyAnswer:
    """Make a key that may do no more than the caller's own and ends with it; it is shown this once."""
    gateway = gateway_of(request)
    if caller.role == OPERATOR:
        reject("scope", "Authorization", "an operator gives keys to a merchant: POST /v1/merchants/{id}/keys")
    with gateway.engine.begin() as connection:
        return _made(connection, caller, body, gateway.clock())


@router.get("/keys")
def some_keys(
    request: Request,
    caller: Annotated[Caller, Depends(gate("keys.read", sandbox=True))],
    after: After = None,
    limit: Limit = PAGE_ROWS,
) -> KeyList:
    """The caller's keys, newest first: never what opens with them. A sandbox key sees sandbox keys."""
    gateway = gateway_of(request)
    kind = True if caller.sandbox else None
    with reading(gateway.engine) as connection:
        found = store.keys_of(
            connection, str(caller.merchant_id), place(after, (END_OF_TIME, "")), limit, sandbox=kind
        )
    rows = [(key.created_s, key.id) for key in found]
    return KeyList(keys=[key_view(key) for key in found], next=next_of(rows, limit))


@router.get("/keys/{id}")
def one_key(
    id: str, request: Request, caller: Annotated[Caller, Depends(gate("keys.read", sandbox=True))]
) -> KeyView:
    """A key of the caller's."""
    with reading(gateway_of(request).engine) as connection:
        return key_view(service.own_key(connection, caller, word(id, "key")))


@router.post("/keys/{id}/rotate", status_code=201)
def rotate_key(id: str, body: Rotation, request: Request, caller: KeyMaker) -> KeyAnswer:
    """Give a key's successor; the old one goes on for the overlap and then opens nothing."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        key, _ = service.rotate_key(connection, caller, word(id, "key"), body.overlap_s, gateway.clock())
        return _shown(connection, key)


@router.delete("/keys/{id}", status_code=204)
def revoke_key(id: str, request: Request, caller: KeyMaker) -> None:
    """Revoke a key at once, by its id: the key itself is never in a URL (field failure 50)."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        service.own_key(connection, caller, word(id, "key"))
        store.revoke(connection, id, gateway.clock())
