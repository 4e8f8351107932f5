"""The gateway put together, and its HTTP application."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.middleware.base import RequestResponseEndpoint

from gateway.api import errors, routes
from gateway.db import Engine
from gateway.ledger_view import LedgerView
from gateway.pages import routes as pages
from gateway.payments.service import Clock, Payments
from gateway.rails.evm import Quotes
from gateway.webhooks.egress import Egress
from gateway.webhooks.store import Sealer
from ledger import store
from ledger.publish import Publisher
from ledger.records import reject

BODY_LIMIT_BYTES = 64 * 1024


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

    def receipt(self, position: int) -> bytes:
        """The receipt of a record: a tlog-proof that carries the record itself in its extra line."""
        record = next(store.records(self.engine, position, position + 1))
        return self.publisher.receipt(position, record)


def create_app(gateway: Gateway) -> FastAPI:
    """The application: /v1 for programs, pages for people, /log/ for auditors."""
    app = FastAPI(title="Qazyna", version="1", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.state.gateway = gateway
    errors.install(app)
    app.include_router(routes.router)
    app.include_router(pages.router)

    @app.get("/log/{path:path}", include_in_schema=False)
    def _log(path: str) -> FileResponse:
        """The public bundle, as it stands in the folder (docs/bundle.md)."""
        return FileResponse(_inside(gateway.publisher.folder, path), media_type=_media_type(path))

    @app.middleware("http")
    async def _guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
            return errors.problem(413, "size", "body", f"{length[:20]} bytes, at most {BODY_LIMIT_BYTES}")
        answer = await call_next(request)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers.setdefault(
            "Content-Security-Policy",
            "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
        )
        return answer

    return app


def _inside(folder: Path, path: str) -> Path:
    """A file of the bundle, and nothing that a path could climb to."""
    root = folder.resolve()
    place = (root / path).resolve()
    hidden = any(part.startswith(".") for part in path.split("/"))
    if hidden or not place.is_relative_to(root) or not place.is_file():
        reject("not_found", "log", f"the log has no file {path[:80]!a}")
    return place


def _media_type(path: str) -> str:
    if path in {"checkpoint", "manifest"}:
        return "text/plain; charset=utf-8"
    return mimetypes.guess_type(path)[0] or "application/octet-stream"
