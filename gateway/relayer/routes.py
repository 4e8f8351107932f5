"""Where a payer's page brings what the payer signed. Public: whoever holds the invoice's id may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from gateway.api.auth import public
from gateway.api.route import Route, address_of
from gateway.api.schemas import AddressIn, Number, Strict
from gateway.relayer.service import Authorization, Relayer, Scheme, Told
from gateway.relayer.wallets import SIGNATURE_BYTES_MOST
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

router = APIRouter(prefix="/v1", route_class=Route, tags=["payers"], dependencies=[Depends(public)])


class NewAuthorization(Strict):
    """What a payer signed for a quote: EIP-3009 receiveWithAuthorization, or Permit2 with the quote in it.

    nonce: Permit2's, which the payer chooses; an EIP-3009 nonce is the hash of the quote. signature: 65 bytes
    of a key; by Permit2 also whatever the smart-contract wallet at `payer` takes for its own (ERC-1271).
    """

    scheme: Annotated[Literal["eip3009", "permit2"], Field(examples=["eip3009"])]
    payer: AddressIn
    signature: Annotated[
        str,
        Field(
            pattern=r"^0x([0-9a-fA-F]{2}){65,}$",
            max_length=2 + 2 * SIGNATURE_BYTES_MOST,
            examples=["0x" + "1f" * 65],
        ),
    ]
    nonce: Annotated[Number, Field(examples=["7"])] = "0"


class AuthorizationAnswer(BaseModel):
    """How far it is: queued, sent, unknown, mined, paid, failed. What it paid, the invoice says."""

    id: Annotated[str, Field(examples=["0123456789abcdef"])]
    state: Annotated[str, Field(examples=["queued"])]
    transaction: Annotated[str | None, Field(examples=[None])]
    why: Annotated[str, Field(examples=[""])]


@router.post("/invoices/{id}/authorizations", status_code=202)
def authorize(id: str, body: NewAuthorization, request: Request) -> AuthorizationAnswer:
    """Pay an open invoice without gas. The same again is not brought twice, and tells how far it is."""
    gateway = _gateway(request)
    gateway.authorization_quota.take(address_of(request))
    asked = Authorization(
        Scheme(body.scheme), bytes.fromhex(body.payer[2:]), bytes.fromhex(body.signature[2:]), int(body.nonce)
    )
    return _answer(_relayer(gateway).authorize(id, asked))


@router.get("/invoices/{id}/authorizations/{authorization}")
def authorization(id: str, authorization: str, request: Request) -> AuthorizationAnswer:
    """How far an authorization is. Public."""
    return _answer(_relayer(_gateway(request)).look(id, authorization))


def _gateway(request: Request) -> Gateway:
    found: Gateway = request.app.state.gateway
    return found


def _relayer(gateway: Gateway) -> Relayer:
    if gateway.relayer is None:
        reject("not_found", "authorizations", "no authorizations are taken here")
    return gateway.relayer


def _answer(told: Told) -> AuthorizationAnswer:
    transaction = None if told.transaction is None else "0x" + told.transaction.hex()
    return AuthorizationAnswer(id=told.id, state=told.progress.value, transaction=transaction, why=told.why)
