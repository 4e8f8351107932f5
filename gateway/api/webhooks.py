"""Webhook endpoints and events: the routes."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from gateway.api.auth import gate
from gateway.api.paging import END_OF_TIME, PAGE_ROWS, After, Limit, gateway_of, next_of, place, word
from gateway.api.route import Route
from gateway.api.schemas import (
    DeliveryAnswer,
    EndpointAnswer,
    EndpointList,
    EndpointRotation,
    EndpointView,
    EventAnswer,
    EventList,
    EventSent,
    NewEndpoint,
    Redelivery,
)
from gateway.db import reading
from gateway.merchants.roles import Caller
from gateway.webhooks import store
from gateway.webhooks.listing import store as listing
from gateway.webhooks.listing.store import Endpoint, Event

router = APIRouter(prefix="/v1", route_class=Route, tags=["webhooks"])
Reader = Annotated[Caller, Depends(gate("webhooks.read", sandbox=True))]
Writer = Annotated[Caller, Depends(gate("webhooks.write", sandbox=True))]


def _view(found: Endpoint) -> EndpointView:
    return EndpointView(
        id=found.id,
        url=found.url,
        created_s=found.created_s,
        disabled_s=found.disabled_s,
        disabled_why=found.disabled_why,
    )


def event_answer(found: Event) -> EventAnswer:
    """An event with what became of it."""
    return EventAnswer(
        id=found.id,
        type=found.type,
        about=found.about,
        created_s=found.created_s,
        body=found.body.decode(),
        deliveries=[
            DeliveryAnswer(
                endpoint=one.endpoint,
                state=one.state,
                attempts=one.attempts,
                due_s=one.due_s,
                last_status=one.last_status,
                last_error=one.last_error,
            )
            for one in found.deliveries
        ],
    )


@router.post("/webhook-endpoints", status_code=201)
def new_endpoint(body: NewEndpoint, request: Request, caller: Writer) -> EndpointAnswer:
    """Register where webhooks go; answers the secret they are signed with, once."""
    gateway = gateway_of(request)
    target = gateway.egress.parse(str(body.url))
    gateway.egress.addresses(target)
    with gateway.engine.begin() as connection:
        id, secret = store.add_endpoint(
            connection, gateway.sealer, caller.owner, target, gateway.clock(), body.scheme
        )
    return EndpointAnswer(id=id, url=target.url, secret=secret)


@router.get("/webhook-endpoints")
def some_endpoints(request: Request, caller: Reader) -> EndpointList:
    """The caller's endpoints."""
    with reading(gateway_of(request).engine) as connection:
        return EndpointList(endpoints=[_view(one) for one in listing.endpoints_of(connection, caller.owner)])


@router.post("/webhook-endpoints/{id}/disable")
def disable_endpoint(id: str, request: Request, caller: Writer) -> EndpointView:
    """Send an endpoint nothing more; what waits for it is dead."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        listing.check_endpoint(connection, caller.owner, word(id, "endpoint"))
        store.disable_endpoint(connection, id, "disabled by its owner", gateway.clock())
        return _view(listing.check_endpoint(connection, caller.owner, id))


@router.post("/webhook-endpoints/{id}/enable")
def enable_endpoint(id: str, request: Request, caller: Writer) -> EndpointView:
    """Send an endpoint events again, from the next one on."""
    with gateway_of(request).engine.begin() as connection:
        listing.check_endpoint(connection, caller.owner, word(id, "endpoint"))
        store.enable_endpoint(connection, caller.owner, id)
        return _view(listing.check_endpoint(connection, caller.owner, id))


@router.post("/webhook-endpoints/{id}/rotate")
def rotate_secret(id: str, body: EndpointRotation, request: Request, caller: Writer) -> EndpointAnswer:
    """Give an endpoint a new secret, which is shown this once; the old one signs beside it for a day."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        found = listing.check_endpoint(connection, caller.owner, word(id, "endpoint"))
        secret = store.rotate_secret(
            connection, gateway.sealer, caller.owner, id, gateway.clock(), keep_old=body.keep_old
        )
    return EndpointAnswer(id=id, url=found.url, secret=secret)


@router.post("/webhook-endpoints/{id}/test", status_code=202)
def send_test(id: str, request: Request, caller: Writer) -> EventSent:
    """Send one endpoint a webhook.test event, so that its owner sees whether it arrives and is believed."""
    gateway = gateway_of(request)
    now = gateway.clock()
    told = {"type": "webhook.test", "timestamp": now, "data": {"endpoint": id}}
    with gateway.engine.begin() as connection:
        listing.check_endpoint(connection, caller.owner, word(id, "endpoint"))
        body = json.dumps(told, separators=(",", ":")).encode()
        return EventSent(event=listing.send_test(connection, caller.owner, id, body, now))


@router.get("/events")
def some_events(request: Request, caller: Reader, after: After = None, limit: Limit = PAGE_ROWS) -> EventList:
    """The caller's events, newest first, and what became of each: also to catch up by asking."""
    with reading(gateway_of(request).engine) as connection:
        found = listing.events_of(connection, caller.owner, place(after, (END_OF_TIME, "")), limit)
    rows = [(event.created_s, event.id) for event in found]
    return EventList(events=[event_answer(event) for event in found], next=next_of(rows, limit))


@router.get("/events/{id}")
def one_event(id: str, request: Request, caller: Reader) -> EventAnswer:
    """An event of the caller's."""
    with reading(gateway_of(request).engine) as connection:
        return event_answer(listing.event(connection, caller.owner, word(id, "event")))


@router.post("/events/{id}/redeliver", status_code=202)
def redeliver(id: str, body: Redelivery, request: Request, caller: Writer) -> EventSent:
    """Send an event once more to an endpoint, with its old id."""
    gateway = gateway_of(request)
    with gateway.engine.begin() as connection:
        listing.event(connection, caller.owner, word(id, "event"))
        listing.check_endpoint(connection, caller.owner, word(body.endpoint, "endpoint"))
        store.redeliver(connection, caller.owner, id, body.endpoint, gateway.clock())
    return EventSent(event=id)
