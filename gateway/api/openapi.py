"""The OpenAPI 3.1 document: what FastAPI writes, and doors, errors and an example for each of all that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from gateway.api import routes as ours
from gateway.api.auth import Door, door_of
from gateway.api.errors import STATUS, TITLES
from gateway.api.route import WRITES
from gateway.api.schemas import Problem
from gateway.merchants.roles import SCOPES
from gateway.relayer import routes as payers

PARTS = (payers, *ours.PARTS)
_ABOUT = """Payments for merchants in Alatau, and what anybody may ask of the city.

Amounts are strings of digits in the smallest unit (tiyn, or base units of an asset). Times are Unix seconds.
Every list is read in pages: give `next` as `after`. Every write takes an `Idempotency-Key`. Errors are
`application/problem+json` (RFC 9457) and name the rule, the place and the reason."""
_PROBLEM = "#/components/schemas/Problem"
# status: the rules of which an example is shown.
_EXAMPLES: dict[int, tuple[tuple[str, str, str], ...]] = {
    401: (("key", "Authorization", "nobody holds this key, or it was revoked or has expired"),),
    403: (
        ("scope", "Authorization", "this needs the scope refunds.write, the key has invoices.read"),
        ("sandbox", "Authorization", "this does not exist in the sandbox; it needs a live key"),
    ),
    404: (("not_found", "invoice", "no invoice is called '0'"),),
    409: (
        ("conflict", "reference", "this reference has an invoice of 100 tiyn in USDT for 206108, not of 200"),
        ("busy", "Idempotency-Key", "the same request is being answered; ask again in a moment"),
    ),
    413: (("size", "body", "more than 65536 bytes"),),
    422: (
        ("schema", "body.amount", "String should match pattern '^[1-9][0-9]{0,38}$'"),
        ("idempotency", "Idempotency-Key", "this key was used for another request"),
        ("text", "title", "1 visible character or more, and no control characters or surrogates"),
        ("V2", "asset", "DOGE is not registered"),
    ),
    429: (("quota", "requests", "more than 12000 in 60 seconds"),),
    500: (("bug", "/v1/invoices", "an error of ours; nothing was changed"),),
    503: (("unavailable", "rates", "1 of 3 sources are fresh, 2 are needed"),),
}


def routes() -> Iterator[tuple[str, str, APIRoute, Door]]:
    """Every route of /v1: method, path, itself, and its door."""
    for part in PARTS:
        for route in part.router.routes:
            assert isinstance(route, APIRoute), route
            for method in sorted(route.methods or ()):
                yield method, route.path, route, door_of(route.dependant.dependencies)


def install(app: FastAPI) -> None:
    """Let the app serve the document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            # Those that are included twice are listed once.
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def build(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    told = get_openapi(title="Qazyna", version="1", description=_ABOUT, routes=app.routes)
    schemas = told["components"]["schemas"]
    for gone in ("HTTPValidationError", "ValidationError"):
        schemas.pop(gone, None)
    schemas["Problem"] = Problem.model_json_schema()
    told["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key with the scope that the route names. Scopes: "
            + "; ".join(f"`{scope}`: {what}" for scope, what in SCOPES.items()),
        }
    }
    for method, path, route, door in routes():
        operation = told["paths"][path][method.lower()]
        _describe(operation, method, path, door)
        _exemplify(operation, schemas)
        operation["operationId"] = route.name
    return told


def _describe(operation: dict[str, Any], method: str, path: str, door: Door) -> None:
    statuses = [422, 429, 500, 503]
    if door.scope is not None:
        operation["security"] = [{"key": []}]
        operation["x-scope"] = door.scope
        operation["x-sandbox"] = door.sandbox
        statuses += [401, 403]
        if method in WRITES and not any(
            one["name"] == "Idempotency-Key" for one in operation.get("parameters", [])
        ):
            header = {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "the same key and request: the same answer, for 48 hours",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            }
            operation.setdefault("parameters", []).append(header)
    if "{" in path or "after" in [one["name"] for one in operation.get("parameters", [])]:
        statuses.append(404)
    if method in WRITES:
        statuses += [404, 409, 413]
    for status in sorted(set(statuses)):
        examples = {
            rule: {"value": _problem(status, rule, where, why)} for rule, where, why in _EXAMPLES[status]
        }
        operation["responses"][str(status)] = {
            "description": TITLES.get(_EXAMPLES[status][0][0], "Refused."),
            "content": {"application/problem+json": {"schema": {"$ref": _PROBLEM}, "examples": examples}},
        }


def _problem(status: int, rule: str, where: str, why: str) -> dict[str, Any]:
    assert STATUS.get(rule, status) == status, rule
    title = TITLES.get(rule, "A rule refuses this.")
    told = {"type": f"/problems/{rule}", "title": title, "status": status, "detail": why}
    return {**told, "rule": rule, "where": where, "why": why}


def _exemplify(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    contents = [
        *operation.get("requestBody", {}).get("content", {}).items(),
        *(item for answer in operation["responses"].values() for item in answer.get("content", {}).items()),
    ]
    for media_type, content in contents:
        if "examples" in content:
            continue
        if media_type == "application/json":
            content["examples"] = {"sample": {"value": example(content["schema"], schemas)}}
        else:
            content.setdefault("schema", {"type": "string"})
            content["examples"] = {"sample": {"value": _TEXTS[media_type]}}


_TEXTS = {
    "text/csv": "final_s,day,invoice\r\n1790000600,2026-09-22,7f3k9m2p5q8r1s4t6v0w3x5y7z\r\n",
    "text/plain": "c2sp.org/tlog-proof@v1\nextra ...\nindex 4\n",
}


def example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A value that a schema takes, put together from the examples of its parts."""
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "default" in schema:
        return schema["default"]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], schemas)
    match schema.get("type"):
        case "object":
            members = schema.get("properties", {})
            return {name: example(member, schemas) for name, member in members.items()}
        case "array":
            return [example(schema["items"], schemas)]
        case "boolean":
            return False
        case other:
            raise AssertionError(f"no example of {other}: {schema}")
