"""The route of the API: admits, counts, and answers once, before its own code runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from typing_extensions import override

from gateway.api import errors, idempotency
from gateway.api.auth import Door, admit, check_caller, door_of, key_in
from gateway.api.quota import Left, Quota, TooMany
from gateway.api.standing import Standing
from gateway.db import Engine
from gateway.merchants import store
from gateway.merchants.roles import Caller
from ledger.records import Invalid

if TYPE_CHECKING:
    from gateway.app import Gateway

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
REQUESTS_A_MINUTE = 12_000
PUBLIC_A_MINUTE = 600
# Wrong keys from one address: whoever tries keys is slow at it.
FAILURES_A_MINUTE = 60
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass
class Limits:
    """How often: each key, each address without one, each address with wrong ones."""

    keys: Quota = field(default_factory=lambda: Quota(REQUESTS_A_MINUTE))
    addresses: Quota = field(default_factory=lambda: Quota(PUBLIC_A_MINUTE))
    failures: Quota = field(default_factory=lambda: Quota(FAILURES_A_MINUTE))
    # When the use of each key was noted last, by this process.
    noted: dict[str, int] = field(default_factory=dict)


def own_idempotency(endpoint: Any) -> Any:
    """Mark a route whose use case keeps the Idempotency-Key in the transaction of its effect."""
    endpoint.own_idempotency = True
    return endpoint


def address_of(request: Request) -> str:
    """Where a request comes from, as the server in front of us says; of IPv6 the network.

    Whoever has one address of IPv6 has all 2^64 of its network, and would have a quota with each of them.
    """
    return "" if request.client is None else network_of(request.client.host)


def network_of(host: str) -> str:
    """An IPv4 address as it is, and of an IPv6 address its first 64 bits."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except AddressValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


class Route(APIRoute):
    """A route with one door; it cannot be made without."""

    @override
    def get_route_handler(self) -> Handler:
        handle, door = super().get_route_handler(), door_of(self.dependant.dependencies)
        own = getattr(self.endpoint, "own_idempotency", False)

        async def admitted(request: Request) -> Response:
            gateway: Gateway = request.app.state.gateway
            try:
                caller, left = await _enter(gateway, request, door)
            except TooMany as refused:
                told = refused.left.headers("requests") | {"Retry-After": str(refused.left.reset_s)}
                return errors.problem(errors.TOO_MANY, refused.rule, refused.where, refused.why, told)
            key = request.headers.get("idempotency-key") if request.method in WRITES else None
            if key is None or caller is None or own:
                answer = await handle(request)
            else:
                asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                digest = idempotency.digest(request.method, asked, await request.body())

                async def work() -> Response:
                    try:
                        return await handle(request)
                    except Exception as error:
                        return errors.respond(request, error)

                answer = await idempotency.once(gateway, caller.owner, key, digest, work)
            for name, value in left.headers("requests").items():
                answer.headers.setdefault(name, value)
            return answer

        return admitted


async def _caller(gateway: Gateway, request: Request, key: str, door: Door) -> Caller:
    request.state.standing = None
    if not door.rechecked:
        return await run_in_threadpool(admit, gateway, key, door)
    known = gateway.standings.find(key, gateway.clock())
    if known is None:
        caller, known = await run_in_threadpool(_stand, gateway, key, door)
    else:
        caller = known.caller
        check_caller(caller, door)
    request.state.standing = known
    return caller


def _stand(gateway: Gateway, key: str, door: Door) -> tuple[Caller, Standing | None]:
    caller = admit(gateway, key, door)
    return caller, gateway.standings.read(gateway, key, caller, gateway.clock())


async def _enter(gateway: Gateway, request: Request, door: Door) -> tuple[Caller | None, Left]:
    limits, address = gateway.limits, address_of(request)
    if door.scope is None:
        return None, await _take(limits.addresses, address)
    limits.failures.check(address)
    try:
        key = key_in(request.headers.get("authorization"))
        caller = await _caller(gateway, request, key, door)
    except Invalid as refused:
        if refused.rule == "key":
            await _take(limits.failures, address)
        raise
    left = await _take(limits.keys, caller.key_id)
    request.state.caller = caller
    now = gateway.clock()
    if limits.noted.get(caller.key_id, 0) + store.USE_NOTED_S <= now:
        if len(limits.noted) > 10_000:
            limits.noted.clear()
        limits.noted[caller.key_id] = now
        await run_in_threadpool(_note_use, gateway.engine, caller.key_id, now)
    return caller, left


async def _take(quota: Quota, caller: str) -> Left:
    # Only where the database has to be asked does a thread do it.
    if (left := quota.quick(caller)) is not None:
        return left
    return await run_in_threadpool(quota.take, caller)


def _note_use(engine: Engine, key_id: str, now: int) -> None:
    with engine.begin() as connection:
        store.note_use(connection, key_id, now)
