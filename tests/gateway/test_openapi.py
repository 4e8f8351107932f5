"""The OpenAPI document: complete, with examples that are true, and kept by what really answers.

QAZYNA_API_EXAMPLES says how many requests are tried for each operation (make prove: many).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
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
from gateway.kz import check_digit
from gateway.payments import disputes
from gateway.payments.refund_model import RefundState
from gateway.payments.store import refunds as refund_rows
from gateway.payments.store import settlements as payout_rows
from gateway.payments.store.settlements import Payout, PayoutState
from gateway.webhooks.egress import Egress
from tests.gateway.conftest import MERCHANT_IBAN, Town, opened
from tests.gateway.test_refunds_by_bank import PAYER
from tests.gateway.test_relayer import signed
from tests.gateway.test_unmatched import with_account_for_unmatched

GOLDEN = Path(__file__).with_name("openapi.golden.json")
EXAMPLES = int(os.environ.get("QAZYNA_API_EXAMPLES", "12"))


def no_error_of_ours(_: Any, response: Any, __: Any) -> None:
    """Nothing that this town needs is away, so whatever is above 499 is a bug, 503 too."""
    assert response.status_code < 500, response.text


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
        for quota in (*limits, gateway.invoice_quota, gateway.bill_quota, gateway.authorization_quota):
            quota.most = 10**9
        # Names are looked up in a book of our own: every one of them is a public address.
        object.__setattr__(gateway, "egress", Egress(resolve=lambda *_: ["93.184.215.14"]))
        found = schemas.from_asgi("/v1/openapi.json", create_app(gateway))
        yield town, found


ROUTES = [(method, path) for method, path, _, _ in openapi.routes()]
OF_OPERATORS = {"merchants", "unmatched", "operations"}
# Where a right request needs more than this town has; a test of its own tries each of them.
NEVER_DONE = {
    ("POST", "/v1/providers/{name}/confirmations"): "no provider is agreed with (test_settlements.py)",
    ("POST", "/v1/payouts"): "no provider is agreed with (test_settlements.py)",
    ("POST", "/v1/refunds/{id}/transaction"): "nothing was paid in the coin (test_refunds.py)",
}


@dataclass
class Real:
    """What is there to be named in a request: ids in the path, and in a body by the member's name."""

    ids: list[str]
    headers: dict[str, str]
    members: dict[str, list[str]] = field(default_factory=dict)
    # What the document's example cannot know.
    body: dict[str, Any] | None = None
    query: dict[str, Any] = field(default_factory=dict)


class Things:
    """A town in which there is one of everything, made by its own API."""

    def __init__(self, town: Town) -> None:
        self.town, self.client, self.count = town, town.client(), 0
        self.open, self.final = town.invoice(), town.invoice(refund_to=town.city.keys.address("payer"))
        self.bill = town.bill()
        town.pay(self.final)
        town.transfer_in_tenge(self.bill.due_minor, self.bill.reference)
        town.take_bank_files()
        with_account_for_unmatched(town)
        self.lost = [self.lose() for _ in range(4)]
        town.settle()
        town.city.worker.publish()
        sandbox = self.post("/v1/keys", role="owner", sandbox=True)["key"]
        self.sandbox = {"Authorization": f"Bearer {sandbox}"}
        self.played = self.post(
            "/v1/invoices", self.sandbox, amount="5000", asset="USDT", reference="s", title="S"
        )
        self.endpoint = self.post("/v1/webhook-endpoints", url="https://shop.example/hook")["id"]
        self.post(f"/v1/webhook-endpoints/{self.endpoint}/test")
        [self.event, *_] = [one["id"] for one in self.get("/v1/events")["events"]]

    def get(self, path: str) -> Any:
        return self.client.get(path, headers=self.town.bearer).json()

    def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
        self.count += 1
        named = {**(headers or self.town.bearer), "Idempotency-Key": f"thing-{self.count}"}
        answer = self.client.post(path, json=body or None, headers=named)
        assert answer.status_code < 300, (path, answer.text)
        return answer.json()

    def lose(self) -> str:
        """Money that names no invoice; the key under which it stands in the queue."""
        known = {one.key for one in self.town.unmatched()}
        self.town.transfer_in_tenge(700, "for parking", payer_iban=PAYER)
        self.town.take_bank_files()
        self.town.record()
        [new] = {one.key for one in self.town.unmatched()} - known
        return new

    def new_link(self) -> str:
        return str(self.post("/v1/payment-links", title="Tea", asset="USDT", amount="5000")["id"])

    def new_refund(self) -> str:
        return str(self.post(f"/v1/invoices/{self.final.id}/refunds", amount="1", to=None)["id"])

    def new_key(self) -> str:
        return str(self.post("/v1/keys", role="owner")["id"])

    def new_city_refund(self) -> str:
        body = {"key": self.lose(), "iban": PAYER, "why": "they wrote"}
        return str(self.post("/v1/unmatched/refund", self.town.operator, **body)["id"])

    def failed_city_refund(self) -> str:
        """One that did not go, as after the bank sent it back."""
        id = self.new_city_refund()
        self.post(f"/v1/unmatched/refunds/{id}/approve", self.town.operator)
        with self.town.city.gateway.engine.begin() as connection:
            refund_rows.set_refund_state(connection, id, RefundState.FAILED, "bank", "came back", 1)
        return id

    def new_dispute(self) -> str:
        """A payout of which its provider confirmed something else."""
        self.count += 1
        id, now = f"p_{self.count:024}", self.town.city.clock()
        payout = Payout(
            id,
            self.town.merchant_id,
            "vasp",
            "USDT",
            5,
            MERCHANT_IBAN,
            PayoutState.INSTRUCTED,
            1,
            now,
            now,
            now,
        )
        with self.town.city.gateway.engine.begin() as connection:
            payout_rows.add_payout(connection, payout, [], "key_1")
            disputes.dispute(connection, payout, "instructed 5, confirmed 6", now)
        return id

    def new_change(self) -> str:
        for one in self.get("/v1/merchant")["waiting"]:
            self.client.delete(f"/v1/merchant/changes/{one['id']}", headers=self.town.bearer)
        self.count += 1
        return str(self.post("/v1/merchant/changes", contact=f"office-{self.count}@cafe.example")["id"])

    def authorization(self) -> tuple[str, dict[str, Any]]:
        """What a payer signs for a new invoice: its id, and the body that brings it."""
        invoice = self.town.invoice()
        asked = signed(self.town, invoice)
        body = {
            "scheme": "eip3009",
            "payer": "0x" + asked.payer.hex(),
            "signature": "0x" + asked.signature.hex(),
        }
        return invoice.id, body

    def of(self, method: str, path: str, scope: str | None) -> Real:
        """What a request to this route can name."""
        area = "" if scope is None else scope.split(".")[0]
        headers = {} if scope is None else self.town.operator if area in OF_OPERATORS else self.town.bearer
        real = Real([], headers)
        match method, path:
            case "POST", "/v1/invoices/{id}/authorizations":
                id, real.body = self.authorization()
                real.ids = [id, self.final.id]
            case _, "/v1/invoices/{id}/authorizations/{authorization}":
                id, body = self.authorization()
                brought = self.client.post(f"/v1/invoices/{id}/authorizations", json=body).json()
                real.ids, real.members["authorization"] = [id], [brought["id"]]
            case _, "/v1/invoices/{id}/test-payment":
                real.ids, real.headers = [self.played["id"]], self.sandbox
            case "POST", "/v1/invoices":
                real.body = {"amount": "5000", "asset": "USDT", "reference": "new", "title": "Tea"}
            case _, "/v1/invoices/{id}/refunds":
                real.ids, real.body = [self.final.id], {"amount": "1"}
            case _, "/v1/invoices/{id}/void":
                real.ids = [self.town.invoice().id, self.open.id]
            case _, "/v1/receipts/{id}":
                real.ids = [self.final.id, self.bill.id]
            case _, "/v1/invoices/{id}":
                real.ids = [self.open.id, self.final.id, self.bill.id]
            case _, "/v1/payment-links/{id}" | "/v1/payment-links/{id}/close":
                real.ids = [self.new_link()]
            case "POST", "/v1/payment-links":
                real.body = {"title": "Tea", "asset": "USDT", "amount": "5000"}
            case _, path if path == "/v1/refunds/{id}" or path.startswith("/v1/refunds/{id}/"):
                real.ids = [self.new_refund()]
            case "POST", "/v1/merchants":
                number = f"99124000001{check_digit('99124000001')}"
                wallet = "0x" + self.town.city.keys.address("builder").hex()
                real.body = {"name": "Other", "bin": number, "iban": PAYER, "wallet": wallet}
            case _, "/v1/merchants/{id}/keys":
                real.ids = [self.town.merchant_id]
            case _, "/v1/merchant/changes/{id}":
                real.ids = [self.new_change()]
            case "POST", "/v1/merchant/changes":
                self.client.delete(f"/v1/merchant/changes/{self.new_change()}", headers=self.town.bearer)
                real.body = {"contact": "new@cafe.example"}
            case _, "/v1/keys/{id}" | "/v1/keys/{id}/rotate":
                # Never the key that asks.
                real.ids = [self.new_key() for _ in range(3)]
            case _, "/v1/unmatched/payouts" | "/v1/unmatched/payouts/{id}/resolve":
                real.ids = [self.new_dispute()]
                real.body = None if method == "GET" else {"outcome": "paid", "why": "they wrote"}
            case _, "/v1/unmatched/refunds/{id}/retry":
                real.ids = [self.failed_city_refund()]
            case "POST", "/v1/unmatched/refunds":
                real.members = {"invoice": [self.bill.id]}
                real.body = {"invoice": self.bill.id, "amount": "1", "why": "paid twice", "iban": PAYER}
            case _, p if p.startswith("/v1/unmatched/refunds/{id}"):
                real.ids = [self.new_city_refund()]
            case "POST", "/v1/unmatched/assign" | "/v1/unmatched/keep" | "/v1/unmatched/refund":
                real.members = {"key": [self.lost.pop()], "invoice": [self.town.bill().id]}
                real.body = {"why": "they wrote", "key": real.members["key"][0]}
                if path.endswith("assign"):
                    real.body["invoice"] = real.members["invoice"][0]
                elif path.endswith("refund"):
                    real.body["iban"] = PAYER
            case _, p if p.startswith("/v1/webhook-endpoints/{id}"):
                real.ids = [self.endpoint]
            case _, p if p.startswith("/v1/events/{id}"):
                real.ids, real.members["endpoint"] = [self.event], [self.endpoint]
        assert real.ids or "{id}" not in path, path
        return real


@pytest.fixture(scope="module")
def things(tried: Any) -> Things:
    return Things(tried[0])


def named(case: schemathesis.Case, real: Real, pick: int) -> schemathesis.Case:
    """The same request about what is there, three times of four."""
    case.headers = {**dict(case.headers or {}), **real.headers}
    if pick % 4:
        for name in case.path_parameters or {}:
            known = real.ids if name == "id" else real.members.get(name, [])
            if known:
                case.path_parameters[name] = known[pick % len(known)]
        if isinstance(case.body, dict):
            for name in case.body.keys() & real.members.keys():
                case.body[name] = real.members[name][pick % len(real.members[name])]
    return case


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[f"{method} {path}" for method, path in ROUTES])
def test_no_request_makes_an_error_of_ours_or_an_answer_that_is_not_in_the_document(
    tried: Any, things: Things, method: str, path: str
):
    _, found = tried
    operation = found[path][method]
    raw = operation.definition.raw
    real = things.of(method, path, raw.get("x-scope"))

    # A right request first, so that what is answered to it is tried.
    right = operation.Case(
        path_parameters={
            name: (real.ids if name == "id" else real.members.get(name, ["none"]))[0]
            for name in re.findall("{([a-z]+)}", path)
        },
        headers={**real.headers, "Idempotency-Key": f"right {method} {path}".replace(" ", "-")},
        query=real.query,
    )
    if "requestBody" in raw:
        [(media_type, content)] = raw["requestBody"]["content"].items()
        sample = next(iter(content["examples"].values()))["value"]
        right.body = sample if real.body is None else real.body
        if isinstance(right.body, dict):
            right.body |= {name: ids[0] for name, ids in real.members.items() if name in right.body}
        right.media_type = media_type
    answer = right.call_and_validate(checks=CHECKS)
    assert (answer.status_code < 300) is ((method, path) not in NEVER_DONE), answer.text

    # The same requests each time, but where many are asked for.
    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES < 100,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), pick=st.integers(0, 11))
    def attempt(case: schemathesis.Case, pick: int) -> None:
        named(case, real, pick).call_and_validate(checks=CHECKS)

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
        # What it names may not be there (any more), or enough may have been asked in this minute.
        is_full = answer.status_code == 429 or "at most" in answer.json().get("why", "")
        assert answer.status_code < 300 or answer.status_code in {404, 409} or is_full, (name, answer.text)
        accepted += answer.status_code < 300
    assert accepted
