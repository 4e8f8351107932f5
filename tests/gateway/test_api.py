"""/v1 as its callers meet it: programs that are right, that are wrong, and that are hostile."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from gateway.api.auth import door_of, gate, public
from gateway.api.route import Route
from gateway.app import BODY_LIMIT_BYTES, create_app
from gateway.db import reading
from gateway.demo import FEE_CODE
from gateway.merchants.roles import ROLES, SCOPES
from gateway.payments import store
from gateway.payments.service import Request
from gateway.rates_simulator import Misbehaviour
from ledger.records import Invalid
from tests.gateway.conftest import MERCHANT_IBAN, Town

PUBLIC = {("GET", "/v1/fees"), ("POST", "/v1/fees/bills"), ("GET", "/v1/receipts/{id}"), ("POST", "/v1/providers/{name}/confirmations"),
          ("POST", "/v1/invoices/{id}/authorizations"), ("GET", "/v1/invoices/{id}/authorizations/{authorization}")}  # fmt: skip
# Each route, the scope that it asks for, and whether a key of the sandbox comes in.
SCOPED = {
    ("POST", "/v1/invoices"): ("invoices.write", True),
    ("GET", "/v1/invoices"): ("invoices.read", True),
    ("GET", "/v1/invoices/{id}"): ("invoices.read", True),
    ("POST", "/v1/invoices/{id}/void"): ("invoices.write", True),
    ("POST", "/v1/invoices/{id}/test-payment"): ("invoices.write", True),
    ("POST", "/v1/invoices/{id}/refunds"): ("refunds.write", False),
    ("GET", "/v1/refunds"): ("refunds.read", False),
    ("GET", "/v1/refunds/{id}"): ("refunds.read", False),
    ("POST", "/v1/refunds/{id}/approve"): ("refunds.write", False),
    ("POST", "/v1/refunds/{id}/cancel"): ("refunds.write", False),
    ("POST", "/v1/refunds/{id}/transaction"): ("refunds.write", False),
    ("GET", "/v1/unmatched/refunds"): ("unmatched.read", False),
    ("POST", "/v1/unmatched/refunds"): ("unmatched.write", False),
    ("POST", "/v1/unmatched/refunds/{id}/approve"): ("unmatched.write", False),
    ("POST", "/v1/unmatched/refunds/{id}/cancel"): ("unmatched.write", False),
    ("POST", "/v1/unmatched/refunds/{id}/retry"): ("unmatched.write", False),
    ("GET", "/v1/unmatched/payouts"): ("unmatched.read", False),
    ("POST", "/v1/unmatched/payouts/{id}/resolve"): ("unmatched.write", False),
    ("GET", "/v1/settlements"): ("statements.read", False),
    ("GET", "/v1/payouts"): ("statements.read", False),
    ("POST", "/v1/payouts"): ("payouts.write", False),
    ("GET", "/v1/merchant/policy"): ("merchant.read", False),
    ("PUT", "/v1/merchant/policy"): ("merchant.write", False),
    ("POST", "/v1/payment-links"): ("links.write", False),
    ("GET", "/v1/payment-links"): ("links.read", False),
    ("GET", "/v1/payment-links/{id}"): ("links.read", False),
    ("POST", "/v1/payment-links/{id}/close"): ("links.write", False),
    ("POST", "/v1/merchants"): ("merchants.write", False),
    ("GET", "/v1/merchants"): ("merchants.write", False),
    ("POST", "/v1/merchants/{id}/keys"): ("merchants.write", False),
    ("GET", "/v1/merchant"): ("merchant.read", True),
    ("POST", "/v1/merchant/changes"): ("merchant.write", False),
    ("DELETE", "/v1/merchant/changes/{id}"): ("merchant.write", False),
    ("POST", "/v1/keys"): ("keys.write", True),
    ("GET", "/v1/keys"): ("keys.read", True),
    ("GET", "/v1/keys/{id}"): ("keys.read", True),
    ("POST", "/v1/keys/{id}/rotate"): ("keys.write", True),
    ("DELETE", "/v1/keys/{id}"): ("keys.write", True),
    ("POST", "/v1/webhook-endpoints"): ("webhooks.write", True),
    ("GET", "/v1/webhook-endpoints"): ("webhooks.read", True),
    ("POST", "/v1/webhook-endpoints/{id}/disable"): ("webhooks.write", True),
    ("POST", "/v1/webhook-endpoints/{id}/enable"): ("webhooks.write", True),
    ("POST", "/v1/webhook-endpoints/{id}/rotate"): ("webhooks.write", True),
    ("POST", "/v1/webhook-endpoints/{id}/test"): ("webhooks.write", True),
    ("GET", "/v1/events"): ("webhooks.read", True),
    ("GET", "/v1/events/{id}"): ("webhooks.read", True),
    ("POST", "/v1/events/{id}/redeliver"): ("webhooks.write", True),
    ("GET", "/v1/statements"): ("statements.read", False),
    ("GET", "/v1/statements.csv"): ("statements.read", False),
    ("GET", "/v1/statements/account"): ("statements.read", False),
    ("GET", "/v1/statements/account.csv"): ("statements.read", False),
    ("GET", "/v1/unmatched"): ("unmatched.read", False),
    ("POST", "/v1/unmatched/assign"): ("unmatched.write", False),
    ("POST", "/v1/unmatched/keep"): ("unmatched.write", False),
    ("POST", "/v1/unmatched/refund"): ("unmatched.write", False),
    ("GET", "/v1/operations"): ("operations.read", False),
}
JSON_TYPE = {"Content-Type": "application/json"}
ORDER = {"amount": "1250000", "asset": "USDT", "reference": "order-1", "title": "Tea"}


def doors_of(app: FastAPI) -> dict[tuple[str, str], tuple[str, bool] | None]:
    """Every route of /v1 and what its door asks for."""
    found: dict[tuple[str, str], tuple[str, bool] | None] = {}
    for path, methods, route in walk(app.router.routes):
        if path.startswith("/v1") and isinstance(route, APIRoute):
            assert isinstance(route, Route), path
            door = door_of(route.dependant.dependencies)
            told = None if door.scope is None else (door.scope, door.sandbox)
            found |= {(method, path): told for method in methods}
    return found


def walk(routes: Any) -> list[tuple[str, set[str], Any]]:
    """Routes, also those of routers that were included and not copied."""
    found = []
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            found += walk(inner.routes)
        elif isinstance(route, APIRoute):
            found.append((route.path, set(route.methods), route))
    return found


def check_problem(answer: Any, status: int, rule: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["rule"]) == (status, rule), told
    assert told["where"]
    assert told["why"]
    assert "Traceback" not in answer.text


def test_ff49_every_route_of_v1_has_one_gate_or_is_named_public(town: Town):
    found = doors_of(create_app(town.city.gateway))
    assert found == SCOPED | dict.fromkeys(PUBLIC)
    assert {scope for scope, _ in SCOPED.values()} <= set(SCOPES)


def test_ff49_a_route_that_names_no_door_or_two_cannot_be_made():
    router = APIRouter(route_class=Route)
    with pytest.raises(AssertionError, match="one door"):
        router.get("/open")(lambda: None)
    with pytest.raises(AssertionError, match="one door"):
        router.get("/both", dependencies=[Depends(public), Depends(gate("keys.read"))])(lambda: None)


def roles_keys(town: Town) -> dict[str, str]:
    """A key of each role, live and of the sandbox."""
    client = town.client()
    keys = {"owner": town.merchant_key, "operator": town.operator_key}
    for name, body in {
        "cashier": {"role": "cashier"},
        "sandbox": {"role": "owner", "sandbox": True},
        "reader": {"role": "owner", "scopes": ["statements.read"]},
    }.items():
        made = client.post("/v1/keys", json=body, headers=town.bearer)
        assert made.status_code == 201, made.text
        keys[name] = made.json()["key"]
    return keys


def test_ff49_each_route_lets_in_the_keys_that_have_its_scope_and_no_others(town: Town):
    client = town.client()
    scopes = {"owner": ROLES["owner"], "operator": ROLES["operator"], "cashier": ROLES["cashier"],
              "sandbox": ROLES["owner"], "reader": {"statements.read"}}  # fmt: skip
    for name, key in roles_keys(town).items():
        for (method, path), (scope, sandbox) in SCOPED.items():
            url = path.replace("{id}", "nothing")
            answer = client.request(method, url, headers={"Authorization": f"Bearer {key}"})
            rule = answer.json().get("rule") if answer.status_code >= 400 else None
            if scope not in scopes[name]:
                assert (answer.status_code, rule) == (403, "scope"), (name, method, path)
            elif name == "sandbox" and not sandbox:
                assert (answer.status_code, rule) == (403, "sandbox"), (name, method, path)
            else:
                assert answer.status_code not in {401, 500}, (name, method, path)
                assert rule != "scope" or answer.json()["why"].startswith("an operator"), (name, method, path)


def test_every_gated_route_refuses_no_key_and_a_wrong_key(town: Town):
    client = town.client()
    town.city.gateway.limits.failures.most = 10**6
    key = town.merchant_key
    for method, path in SCOPED:
        url = path.replace("{id}", "nothing")
        check_problem(client.request(method, url), 401, "key")
        for wrong in ("Bearer", "Bearer ", "Basic cXo6cXo=", f"bearer{key}", f"Bearer {key}x",
                      f"Bearer {key[:-1]}", "Bearer qz__", f"Bearer {key} {key}", "Bearer " + "x" * 300,
                      f"Bearer {key.replace('qz_', 'qzsandbox_')}"):  # fmt: skip
            check_problem(client.request(method, url, headers={"Authorization": wrong}), 401, "key")
        # No second way in: not by query, not by cookie.
        check_problem(client.request(method, url, params={"key": key, "authorization": key}), 401, "key")
        client.cookies.set("Authorization", f"Bearer {key}")
        check_problem(client.request(method, url), 401, "key")
        client.cookies.clear()


def test_who_tries_keys_is_slowed_and_told_for_how_long(town: Town):
    client = town.client()
    town.stay_in_one_minute()
    town.city.gateway.limits.failures.most = 5
    wrong = {"Authorization": "Bearer qz_0123456789abcdef_x"}
    answers = [client.get("/v1/invoices", headers=wrong) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    check_problem(answers[-1], 429, "quota")
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60


def test_each_answer_says_what_is_left_of_the_quota(town: Town):
    client = town.client()
    town.stay_in_one_minute()
    town.city.gateway.limits.keys.most = 3
    answers = [client.get("/v1/merchant", headers=town.bearer) for _ in range(4)]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=3;w=60'
    check_problem(answers[3], 429, "quota")
    assert answers[3].headers["Retry-After"] == answers[3].headers["RateLimit-Reset"]
    # Another key has a quota of its own.
    assert client.get("/v1/unmatched", headers=town.operator).status_code == 200
    town.city.gateway.limits.addresses.most = 2
    assert [client.get("/v1/fees").status_code for _ in range(3)] == [200, 200, 429]


def test_a_key_is_rotated_and_a_revoked_one_opens_nothing(town: Town):
    client = town.client()
    made = client.post(f"/v1/merchants/{town.merchant_id}/keys", headers=town.operator)
    assert made.status_code == 201
    new = {"Authorization": f"Bearer {made.json()['key']}"}
    assert client.get("/v1/invoices", headers=new).status_code == 200
    assert client.get("/v1/invoices", headers=town.bearer).status_code == 200
    for _ in range(2):
        assert client.delete(f"/v1/keys/{made.json()['id']}", headers=town.operator).status_code == 204
    check_problem(client.get("/v1/invoices", headers=new), 401, "key")
    assert client.get("/v1/invoices", headers=town.bearer).status_code == 200
    check_problem(client.delete("/v1/keys/0000000000000000", headers=town.operator), 404, "not_found")
    check_problem(client.post("/v1/merchants/m_none/keys", headers=town.operator), 404, "not_found")


def test_an_invoice_says_all_that_a_wallet_and_an_exchange_need(town: Town):
    client = town.client()
    answer = client.post("/v1/invoices", json=ORDER, headers=town.bearer)
    assert answer.status_code == 201
    told = answer.json()
    invoice, _, _ = town.payments.look(told["id"])
    quote, signed = town.quote(invoice)
    wallet = told["wallet"]
    assert (wallet["amount"], wallet["nonce"], wallet["valid_until"]) == (
        str(quote.amount),
        str(quote.nonce),
        quote.valid_until,
    )
    assert (wallet["v"], wallet["r"], wallet["s"]) == (signed.v, "0x" + signed.r.hex(), "0x" + signed.s.hex())
    assert told["deposit_address"] == "0x" + (invoice.deposit_address or b"").hex()
    # The quote can be computed again from what it shows (P1).
    rate = told["rate"]
    price = int(told["amount"]) * int(rate["denominator"]) * (10_000 + rate["spread_bps"])
    assert int(told["due"]) == -(-price // (int(rate["numerator"]) * 10_000))
    assert len(rate["sources"]) == 3
    # Tenge for a merchant are not taken on the city's account, so no reference is offered.
    assert told["payment_reference"] is None
    assert client.get(f"/v1/invoices/{told['id']}", headers=town.bearer).json() == told


def test_another_merchants_invoice_is_not_there(town: Town):
    client = town.client()
    wallet = "0x" + town.city.keys.address("builder").hex()
    for number in (f"99124000001{digit}" for digit in range(10)):  # one of them has its check digit right
        body = {"name": "Other", "bin": number, "iban": MERCHANT_IBAN, "wallet": wallet}
        enrolled = client.post("/v1/merchants", json=body, headers=town.operator)
        if enrolled.status_code == 201:
            break
    else:
        pytest.fail("no number was right")
    other = {"Authorization": f"Bearer {enrolled.json()['key']}"}
    mine = town.invoice()
    bill = town.bill()
    for id in (mine.id, bill.id, "0" * 26, "no such", "%00", "\N{SNOWMAN}"):
        check_problem(client.get(f"/v1/invoices/{id}", headers=other), 404, "not_found")
        check_problem(client.get("/v1/invoices", params={"after": id}, headers=other), 404, "not_found")
    assert client.get("/v1/invoices", headers=other).json() == {"invoices": [], "next": None}
    # The same reference belongs to each merchant by itself.
    taken = {**ORDER, "reference": mine.merchant_reference, "amount": "1"}
    assert client.post("/v1/invoices", json=taken, headers=other).status_code == 201


def test_an_idempotency_key_gives_the_same_answer_and_refuses_another_request(town: Town):
    client = town.client()
    headers = town.bearer | {"Idempotency-Key": "a1"}
    first = client.post("/v1/invoices", json=ORDER, headers=headers)
    again = client.post("/v1/invoices", json=ORDER, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    for changed in ({"amount": "1250001"}, {"title": "Coffee"}, {"reference": "order-2"}):
        check_problem(client.post("/v1/invoices", json=ORDER | changed, headers=headers), 422, "idempotency")
    # A key that was answered stays answered, also when its quote has expired.
    town.wait(901)
    town.poll()
    late = client.post("/v1/invoices", json=ORDER, headers=headers)
    assert (late.json()["id"], late.json()["status"]) == (first.json()["id"], "expired")


def test_a_reference_with_money_is_never_quoted_anew(town: Town):
    client = town.client()
    told = client.post("/v1/invoices", json=ORDER, headers=town.bearer).json()
    invoice, _, _ = town.payments.look(told["id"])
    town.deposit(invoice, 5)
    town.poll()
    town.wait(901)
    town.poll()
    again = client.post("/v1/invoices", json=ORDER, headers=town.bearer)
    assert (again.json()["id"], again.json()["status"]) == (told["id"], "expired")
    check_problem(
        client.post("/v1/invoices", json=ORDER | {"amount": "7"}, headers=town.bearer), 409, "conflict"
    )


@pytest.mark.parametrize("on", ["town", "postgres_town"])
def test_the_same_request_from_many_threads_makes_one_invoice(on: str, request: pytest.FixtureRequest):
    town: Town = request.getfixturevalue(on)
    client = town.client()
    answers: list[Any] = []

    def ask(number: int) -> None:
        headers = town.bearer | ({"Idempotency-Key": "same"} if number % 2 else {})
        answers.append(client.post("/v1/invoices", json=ORDER, headers=headers))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    with reading(town.city.gateway.engine) as connection:
        assert store.counts(connection) == {"open": 1}


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"amount": 1_250_000}, "amount"),
        ({"amount": 12.5}, "amount"),
        ({"amount": "12.5"}, "amount"),
        ({"amount": "1e6"}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "007"}, "amount"),
        ({"amount": " 7"}, "amount"),
        ({"amount": "7\n"}, "amount"),
        ({"amount": "٧"}, "amount"),
        ({"amount": ""}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": str(1 << 128)}, "amount"),
        ({"amount": "9" * 39}, "amount"),
        ({"amount": "9" * 400}, "amount"),
        ({"asset": "DOGE"}, "asset"),
        ({"asset": "KZT"}, "asset"),
        ({"asset": ""}, "asset"),
        ({"purpose": "999999"}, "purpose"),
        ({"purpose": "\ud800"}, "purpose"),
        ({"title": ""}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"title": "x" * 141}, "title"),
        ({"reference": ""}, "reference"),
        ({"reference": "a\nb"}, "reference"),
        ({"reference": "x" * 65}, "reference"),
        ({"amuont": "1"}, "amuont"),
        ({"\ud800": "1"}, "body"),
        ({"merchant_id": "m_other"}, "merchant_id"),
        ({"share_bps": 0}, "share_bps"),
    ],
)
def test_an_invoice_that_is_asked_wrongly_is_refused_by_name(
    town_of_module: Town, changed: dict[str, Any], where: str
):
    town = town_of_module
    with reading(town.city.gateway.engine) as connection:
        before = store.counts(connection)
    content = json.dumps(ORDER | changed)
    answer = town.client().post("/v1/invoices", content=content, headers=town.bearer | JSON_TYPE)
    assert answer.status_code == 422, answer.text
    assert where in answer.json()["where"]
    with reading(town.city.gateway.engine) as connection:
        assert store.counts(connection) == before


def test_the_greatest_amount_that_can_be_kept_is_kept_and_not_one_more(town: Town):
    most = (1 << 128) - 1
    assert town.payments.create(Request(FEE_CODE, "fee", most, "KZT")).due_minor == most
    with pytest.raises(Invalid) as refused:
        town.payments.create(Request(FEE_CODE, "fee", most + 1, "KZT"))
    assert refused.value.rule == "E4"
    # So many tiyn are more base units of USDT than can be kept: refused by the quote, not by a crash.
    answer = town.client().post("/v1/invoices", json=ORDER | {"amount": str(most)}, headers=town.bearer)
    check_problem(answer, 422, "Q5")


def test_a_body_over_the_limit_is_refused_whatever_length_it_claims(town: Town):
    client = town.client()
    client.headers.update(JSON_TYPE)
    big = b'{"fee": "' + b"x" * BODY_LIMIT_BYTES + b'"}'
    check_problem(client.post("/v1/fees/bills", content=big), 413, "size")
    chunks = iter([b'{"fee": "', *[b"x" * 1_000] * 100, b'"}'])
    check_problem(client.post("/v1/fees/bills", content=chunks), 413, "size")
    check_problem(client.post("/v1/fees/bills", content=big, headers={"Content-Length": "2"}), 413, "size")
    for lie in ("²", "-1", "9" * 5_000, "two"):
        answer = client.post(
            "/v1/fees/bills", content=b'{"fee": "parking-year"}', headers={"Content-Length": lie.encode()}
        )
        assert answer.status_code == 201
    fits = b'{"fee": "parking-year"}'.ljust(BODY_LIMIT_BYTES)
    assert client.post("/v1/fees/bills", content=fits).status_code == 201
    answer = client.post("/v1/fees/bills", content=iter([b'{"fee": ', b'"parking-year"}']))
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"1", b'"', b"\xff\xfe", b"[" * 60_000, b'{"fee":' * 9_000, b"1" * 60_000, b"NaN",
     b'{"fee": "parking-year", "fee": 1}', b'{"fee": NaN}', b'{"fee": 1e999}', "\ufeff{}".encode()],
    ids=range(15),
)  # fmt: skip
def test_what_is_no_request_is_refused_without_a_traceback(town_of_module: Town, content: bytes):
    answer = town_of_module.client().post("/v1/fees/bills", content=content, headers=JSON_TYPE)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TEXTS = st.text(st.characters(), max_size=80) | st.sampled_from(
    ["", "\0", "\ud800", "KZT", "USDT", "1", "9" * 39, "parking-year"]
)
MEMBERS = ["amount", "asset", "reference", "title", "purpose", "fee", "name", "bin", "iban", "wallet", "url"]
LOOPBACK = st.sampled_from(
    ["http://127.0.0.1:1/", "http://[::1", "https://127.1/", "http://0x7f.1/", "ftp://x", "http://"]
)
BODIES = JSON | st.dictionaries(st.sampled_from(MEMBERS), TEXTS | JSON, max_size=6).flatmap(
    lambda body: LOOPBACK.map(lambda url: {**body, "url": url} if "url" in body else body)
)
PLAUSIBLE = st.fixed_dictionaries(
    {"amount": st.integers(1, 10**40).map(str), "asset": st.sampled_from(["USDT", "KZT", "X"]), "reference": TEXTS, "title": TEXTS},
    optional={"purpose": st.sampled_from(["206108", "108125", "0", "\0"])},
)  # fmt: skip
PATHS = [
    "/v1/invoices",
    "/v1/fees/bills",
    "/v1/merchants",
    "/v1/merchants/m_0123456789abcdef/keys",
    "/v1/webhook-endpoints",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    path=st.sampled_from(PATHS),
    body=BODIES | PLAUSIBLE,
    key=st.text(st.characters(codec="latin-1"), max_size=12),
    who=st.booleans(),
)
def test_no_body_of_json_makes_an_error_of_ours(
    town_of_module: Town, path: str, body: Any, key: str, who: bool
):
    town = town_of_module
    headers = {name: value.encode() for name, value in (town.operator if who else town.bearer).items()}
    headers |= {"Content-Type": b"application/json"}
    headers |= {"Idempotency-Key": key.encode("latin-1")} if key else {}
    answer = town.client().post(path, content=json.dumps(body).encode(), headers=headers)
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) == {"type", "title", "status", "detail", "rule", "where", "why"}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    path=st.sampled_from(
        [
            "/v1/invoices/{}",
            "/v1/receipts/{}",
            "/v1/keys/{}",
            "/log/{}",
            "/v1/invoices?after={}",
            "/v1/unmatched?after={}",
        ]
    ),
    rest=st.binary(max_size=40),
    method=st.sampled_from(["GET", "DELETE"]),
    who=st.booleans(),
)
def test_no_path_and_no_query_makes_an_error_of_ours(
    town_of_module: Town, path: str, rest: bytes, method: str, who: bool
):
    town = town_of_module
    url = path.format("".join(f"%{byte:02x}" for byte in rest))
    answer = town.client().request(method, url, headers=town.operator if who else town.bearer)
    assert answer.status_code < 500, answer.text


def test_the_log_gives_nothing_but_the_log(town: Town):
    client = town.client()
    assert client.get("/log/checkpoint").status_code == 200
    for path in (
        "../keys.json",
        "%2e%2e/keys.json",
        "..%2fkeys.json",
        "/etc/passwd",
        ".clock",
        "tile",
        "%00",
        "x" * 300,
        "tile/" + "x/" * 500,
    ):
        assert client.get(f"/log/{path}").status_code == 404


def test_120_invoices_are_listed_once_each_in_pages(town: Town):
    made = [town.invoice().id for _ in range(120)]
    client, seen, after = town.client(), [], None
    pages = []
    while True:
        page = client.get(
            "/v1/invoices", params={} if after is None else {"after": after}, headers=town.bearer
        ).json()
        pages.append(len(page["invoices"]))
        seen += [invoice["id"] for invoice in page["invoices"]]
        after = page["next"]
        if after is None:
            break
    assert pages == [50, 50, 20]
    assert sorted(seen) == sorted(made)


def test_without_a_rate_nothing_is_quoted_and_with_one_again_it_is(town: Town):
    client = town.client()
    town.wait(100)
    for name in ("exchange-a", "exchange-b"):
        town.city.outside.rates.misbehaves[name] = Misbehaviour.ERROR_PAGE_WITH_200
    answer = client.post("/v1/invoices", json=ORDER, headers=town.bearer)
    check_problem(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    # What is in tenge needs no rate.
    assert client.post("/v1/fees/bills", json={"fee": "parking-year"}).status_code == 201
    town.city.outside.rates.misbehaves.clear()
    town.wait(10)
    assert client.post("/v1/invoices", json=ORDER, headers=town.bearer).status_code == 201


def test_an_asset_that_is_not_allowed_at_this_instant_is_refused(town: Town):
    from gateway.demo import RETENTION_END_S

    town.city.clock.wait(RETENTION_END_S - town.city.clock() - 1)
    town.payments.view.check_asset("USDT", town.city.clock())
    town.city.clock.wait(1)
    check_problem(town.client().post("/v1/invoices", json=ORDER, headers=town.bearer), 422, "V2")


def test_what_waits_for_a_person_is_read_by_the_operator(town: Town):
    town.transfer_in_tenge(700, "no reference", payer_name="A Resident")
    (town.city.bank_folder / "bad.xml").write_bytes(b"<html>")
    town.take_bank_files()
    answer = town.client().get("/v1/unmatched", headers=town.operator)
    assert answer.status_code == 200
    [money] = answer.json()["money"]
    assert (money["kind"], money["amount"], money["stage"], money["invoice"]) == (
        "bank",
        "700",
        "final",
        None,
    )
    [file] = answer.json()["files"]
    assert (file["name"], file["problem"][:2]) == ("bad.xml", "T2")
    assert "A Resident" not in answer.text


def test_the_queue_is_read_in_pages(town: Town):
    for _ in range(53):
        town.transfer_in_tenge(700, "no reference")
    town.take_bank_files()
    client = town.client()
    first = client.get("/v1/unmatched", headers=town.operator).json()
    second = client.get("/v1/unmatched", params={"after": first["next"]}, headers=town.operator).json()
    assert (len(first["money"]), len(second["money"]), second["next"]) == (50, 3, None)
    assert len({money["key"] for money in first["money"] + second["money"]}) == 53


def test_a_receipt_comes_with_its_record_and_not_before(town: Town):
    client = town.client()
    bill = client.post("/v1/fees/bills", json={"fee": "parking-year"}).json()
    check_problem(client.get(f"/v1/receipts/{bill['id']}"), 404, "not_found")
    check_problem(client.get("/v1/receipts/none"), 404, "not_found")
    town.transfer_in_tenge(int(bill["due"]), bill["payment_reference"])
    town.take_bank_files()
    check_problem(client.get(f"/v1/receipts/{bill['id']}"), 404, "not_found")
    town.record()
    # On the ledger and not yet published: a wait, and no error of ours.
    assert client.get(f"/v1/receipts/{bill['id']}").status_code in {404, 422}
    town.city.worker.publish()
    assert client.get(f"/v1/receipts/{bill['id']}").status_code == 200


def test_keys_and_bodies_of_strangers_are_not_told_back_to_others(town: Town):
    answer = town.client().get("/v1/invoices", headers={"Authorization": "Bearer qz_secret_secret"})
    assert "secret" not in answer.text
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_answers_forbid_browsers_to_guess_and_to_frame(town: Town):
    for path in ("/v1/fees", "/v1/invoices", "/nothing", "/log/checkpoint"):
        headers = town.client().get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_the_openapi_document_names_every_route(town: Town):
    paths = town.client().get("/v1/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == set(
        SCOPED
    ) | PUBLIC


def test_an_error_of_ours_shows_nothing_of_the_inside(town: Town):
    app = create_app(town.city.gateway)

    @app.get("/broken")
    def _broken() -> None:
        raise RuntimeError("the database password is swordfish")

    answer = TestClient(app, raise_server_exceptions=False).get("/broken")
    check_problem(answer, 500, "bug")
    assert "swordfish" not in answer.text
