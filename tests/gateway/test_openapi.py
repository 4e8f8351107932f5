"""The OpenAPI document: complete, with examples that are true, and kept by what really answers.

QAZYNA_API_EXAMPLES says how many requests are tried for each operation (make prove: many).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import openapi as schemas
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.api import openapi
from gateway.api.schemas import InvoiceAnswer
from gateway.app import create_app
from gateway.webhooks.egress import Egress
from tests.gateway.conftest import Town, opened

GOLDEN = Path(__file__).with_name("openapi.golden.json")
EXAMPLES = int(os.environ.get("QAZYNA_API_EXAMPLES", "12"))


def no_error_of_ours(_: Any, response: Any, __: Any) -> None:
    """That something outside does not answer is told as such; everything else above 499 is a bug."""
    assert response.status_code < 500 or response.status_code == 503, response.text


CHECKS = [
    no_error_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture(scope="module")
def document(town_of_module: Town) -> dict[str, Any]:
    found: dict[str, Any] = create_app(town_of_module.city.gateway).openapi()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_and_every_error_has_an_example_that_fits_its_schema(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1")
    count = 0
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert {"422", "429", "500", "503"} <= set(operation["responses"]), name
        bodies = [operation["requestBody"]["content"]] if "requestBody" in operation else []
        for answer in [*bodies, *(one.get("content", {}) for one in operation["responses"].values())]:
            for content in answer.values():
                told = content["examples"]
                assert told, name
                schema = {**content["schema"], "components": document["components"]}
                for example in told.values():
                    Draft202012Validator(schema).validate(example["value"])
                    count += 1
    assert count > 300


def test_a_route_with_a_key_says_so_and_a_public_one_does_not(document: dict[str, Any]):
    for method, path, _, door in openapi.routes():
        operation = document["paths"][path][method.lower()]
        assert operation.get("security") == (None if door.scope is None else [{"key": []}])
        assert ("401" in operation["responses"]) is (door.scope is not None)


def test_ff41_the_api_is_what_was_published_and_changes_are_meant(document: dict[str, Any]):
    """Names, types and what is required; examples and words may change without notice."""

    def bare(node: Any) -> Any:
        if isinstance(node, dict):
            words = {"description", "summary", "examples", "example", "title", "tags"}
            return {
                key: bare(value)
                for key, value in sorted(node.items())
                if key not in words or (isinstance(value, dict) and key != "examples")
            }
        return [bare(item) for item in node] if isinstance(node, list) else node

    text = json.dumps(bare(document), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if "QAZYNA_WRITE_GOLDEN" in os.environ:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), (
        "if this change is meant: QAZYNA_WRITE_GOLDEN=1 and say so in docs/api.md"
    )


def test_ff41_the_members_of_an_invoice_are_those_that_merchants_read(town_of_module: Town):
    made = town_of_module.invoice()
    told = town_of_module.client().get(f"/v1/invoices/{made.id}", headers=town_of_module.bearer).json()
    assert set(told) == set(InvoiceAnswer.model_fields)


# --- what answers, tried by a machine ------------------------------------------------------------------


@pytest.fixture(scope="module")
def tried(built_town: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a town of its own, and a key for each scope."""
    folder = tmp_path_factory.mktemp("tried") / "city"
    shutil.copytree(built_town, folder)
    with opened(folder) as town:
        gateway = town.city.gateway
        limits = (gateway.limits.keys, gateway.limits.addresses, gateway.limits.failures)
        for quota in (*limits, gateway.invoice_quota, gateway.bill_quota):
            quota.most = 10**9
        # Names are looked up in a book of our own: every one of them is a public address.
        object.__setattr__(gateway, "egress", Egress(resolve=lambda *_: ["93.184.215.14"]))
        found = schemas.from_asgi("/v1/openapi.json", create_app(gateway))
        yield town, found


ROUTES = [(method, path) for method, path, _, _ in openapi.routes()]


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[f"{method} {path}" for method, path in ROUTES])
def test_no_request_makes_an_error_of_ours_or_an_answer_that_is_not_in_the_document(
    tried: Any, method: str, path: str
):
    town, found = tried
    operation = found[path][method]
    scope = operation.definition.raw.get("x-scope")
    owner = scope is not None and scope.split(".")[0] not in {"merchants", "unmatched", "operations"}
    key = {} if scope is None else town.bearer if owner else town.operator

    # The same requests each time, but where many are asked for.
    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES < 100,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def attempt(case: schemathesis.Case) -> None:
        case.headers = {**dict(case.headers or {}), **key}
        case.call_and_validate(checks=CHECKS)

    attempt()


def test_requests_that_are_right_are_tried_too(tried: Any):
    """The examples of the document itself are answered, and not only refused."""
    town, _ = tried
    client = town.client()
    made = client.get("/v1/openapi.json").json()
    accepted = 0
    for name, operation in operations(made):
        method, path = name.split(" ")
        if "requestBody" not in operation or "{" in path:
            continue
        body = operation["requestBody"]["content"]["application/json"]["examples"]["sample"]["value"]
        owner = operation.get("x-scope", "").split(".")[0] not in {"merchants", "unmatched", "operations"}
        answer = client.request(method, path, json=body, headers=town.bearer if owner else town.operator)
        assert answer.status_code < 500, (name, answer.text)
        accepted += answer.status_code < 300
    assert accepted >= 6
