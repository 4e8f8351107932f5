"""The gateway put together, and its HTTP application."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api import errors, openapi, routes
from gateway.api.quota import Quota
from gateway.api.route import Limits
from gateway.api.standing import Standings
from gateway.db import Engine
from gateway.ledger_view import LedgerView
from gateway.merchants.links.service import Links
from gateway.pages import routes as pages
from gateway.payments.refunds import Refunds
from gateway.payments.service import Clock, Payments
from gateway.payments.settlements import Settlements
from gateway.payments.unmatched import Unmatched
from gateway.rails.evm import Quotes
from gateway.relayer import routes as relayer_routes
from gateway.relayer.service import Relayer
from gateway.sandbox.service import Sandbox
from gateway.settings import Settings
from gateway.webhooks.egress import Egress
from gateway.webhooks.store import Sealer
from ledger import store
from ledger.publish import Publisher
from ledger.records import reject

BODY_LIMIT_BYTES = 64 * 1024
# For each key, and for each address that has none.
INVOICES_A_MINUTE = 6_000
BILLS_A_MINUTE = 60
AUTHORIZATIONS_A_MINUTE = 20
OFFERS_A_MINUTE = 60
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'none'",
}


@dataclass(frozen=True)
class Gateway:
    """All that a request may need. bank_iban: where residents pay in tenge."""

    engine: Engine
    view: LedgerView
    payments: Payments
    quotes: Quotes | None
    publisher: Publisher
    sealer: Sealer
    egress: Egress
    clock: Clock
    public_url: str
    bank_iban: str
    spread_bps: int = 50
    # None: those that only read and decide, and have no eyes on a chain and no provider.
    refunds: Refunds | None = None
    unmatched: Unmatched | None = None
    settlements: Settlements | None = None
    invoice_quota: Quota = field(default_factory=lambda: Quota(INVOICES_A_MINUTE))
    bill_quota: Quota = field(default_factory=lambda: Quota(BILLS_A_MINUTE))
    limits: Limits = field(default_factory=Limits)
    standings: Standings = field(default_factory=Standings)
    authorization_quota: Quota = field(default_factory=lambda: Quota(AUTHORIZATIONS_A_MINUTE))
    offer_quota: Quota = field(default_factory=lambda: Quota(OFFERS_A_MINUTE))
    relayer: Relayer | None = None

    def __post_init__(self) -> None:
        """Let the quotas hold for all processes on one PostgreSQL; a file has one process that answers."""
        if self.engine.dialect.name != "postgresql":
            return
        for name, quota in (
            ("invoices", self.invoice_quota),
            ("bills", self.bill_quota),
            ("authorizations", self.authorization_quota),
            ("offers", self.offer_quota),
            ("keys", self.limits.keys),
            ("addresses", self.limits.addresses),
            ("failures", self.limits.failures),
        ):
            quota.share(self.engine, name)

    @property
    def sandbox(self) -> Sandbox:
        """Where merchants try out."""
        return Sandbox(self.engine, self.view, self.clock, self.payments.rates)

    @property
    def links(self) -> Links:
        """Payment links."""
        return Links(self.payments, self.spread_bps)

    def receipt(self, position: int) -> bytes:
        """The receipt of a record: a tlog-proof that carries the record itself in its extra line."""
        record = next(store.records(self.engine, position, position + 1))
        return self.publisher.receipt(position, record)


def create_app(gateway: Gateway) -> FastAPI:
    """The application: /v1 for programs, pages for people, /log/ for auditors.

    Refuses to be made with settings that production forbids (field failure 51).
    """
    Settings().check()
    app = FastAPI(title="Qazyna", version="1", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.state.gateway = gateway
    errors.install(app)
    pages.install_errors(app)
    for router in (routes.router, relayer_routes.router, pages.router):
        # Not `include_router`, which builds all of them anew for each application.
        app.router.routes.extend(router.routes)
    openapi.install(app)

    @app.get("/log/{path:path}", include_in_schema=False)
    def _log(path: str) -> FileResponse:
        """The public bundle, as it stands in the folder (docs/bundle.md)."""
        return FileResponse(_inside(gateway.publisher.folder, path), media_type=_media_type(path))

    app.add_middleware(Guard)
    return app


class Guard:
    """Bounds what comes in, and says to browsers what may be done with what goes out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole body first: a length is only what the caller claims, and it may be missing."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        body, more = b"", True
        while more and len(body) <= BODY_LIMIT_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > BODY_LIMIT_BYTES:
            refused = errors.problem(413, "size", "body", f"more than {BODY_LIMIT_BYTES} bytes")
            # What is left of the body is not read, so nothing can follow on this connection.
            refused.headers["Connection"] = "close"
            await refused(scope, receive, send_guarded)
            return
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_read() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, receive_read, send_guarded)


def _inside(folder: Path, path: str) -> Path:
    """A file of the bundle, and nothing that a path could climb to."""
    root = folder.resolve()
    hidden = any(part.startswith(".") for part in path.split("/"))
    try:
        place = (root / path).resolve()
        if not hidden and place.is_relative_to(root) and place.is_file():
            return place
    except (OSError, ValueError):
        # A name that no file system takes: too long, or with a zero byte.
        pass
    return reject("not_found", "log", f"the log has no file {path[:80]!a}")


def _media_type(path: str) -> str:
    if path in {"checkpoint", "manifest"}:
        return "text/plain; charset=utf-8"
    return mimetypes.guess_type(path)[0] or "application/octet-stream"
