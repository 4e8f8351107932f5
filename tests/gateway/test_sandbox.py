"""The sandbox: a world of its own, where everything happens but money."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.db import metadata, reading
from gateway.merchants.roles import sandbox_of
from gateway.webhooks.listing import store as listing
from tests.gateway.conftest import Town

ORDER = {"amount": "1250000", "asset": "USDT", "reference": "order-1", "title": "Tea"}


@pytest.fixture
def tried(town: Town) -> tuple[TestClient, dict[str, str]]:
    client = town.client()
    key = client.post("/v1/keys", json={"sandbox": True}, headers=town.bearer).json()["key"]
    assert key.startswith("qzsandbox_")
    return client, {"Authorization": f"Bearer {key}"}


def rows(town: Town) -> dict[str, int]:
    """How many rows each table has."""
    with reading(town.city.gateway.engine) as connection:
        return {
            name: len(connection.execute(table.select()).all()) for name, table in metadata.tables.items()
        }


def test_an_invoice_of_the_sandbox_is_marked_paid_by_a_call_and_touches_nothing_else(
    town: Town, tried: tuple[TestClient, dict[str, str]]
):
    client, headers = tried
    before = rows(town)
    shop = "https://cafe.example/orders/1"
    made = client.post("/v1/invoices", json=ORDER | {"return_url": shop}, headers=headers).json()
    assert made["return_url"] == shop
    assert (made["sandbox"], made["status"], made["id"][:5]) == (True, "open", "test_")
    assert made["wallet"] is made["deposit_address"] is made["payment_reference"] is None
    steps: list[tuple[dict[str, str], str, list[str]]] = [
        ({"amount": "5", "stage": "detected"}, "detected", ["partially_paid"]),
        ({"stage": "detected"}, "detected", []),
        ({"stage": "paid"}, "paid", []),
        ({"amount": "7", "stage": "final"}, "final", ["overpaid"]),
    ]
    for body, status, notes in steps:
        paid = client.post(f"/v1/invoices/{made['id']}/test-payment", json=body, headers=headers).json()
        assert (paid["status"], paid["notes"]) == (status, notes)
    assert client.get(f"/v1/invoices/{made['id']}", headers=headers).json() == paid
    changed = {name for name, count in rows(town).items() if count != before[name]}
    assert changed == {"sandbox_invoice", "sandbox_payment", "webhook_event", "webhook_sequence"}
    assert town.submitted() == []
    # Its merchant is told as of a live one, at endpoints of the sandbox.
    with reading(town.city.gateway.engine) as connection:
        events = listing.events_of(connection, sandbox_of(town.merchant_id), (1 << 62, ""), 10)
        assert listing.events_of(connection, town.merchant_id, (1 << 62, ""), 10) == []
    assert sorted(event.type for event in events) == sorted(
        ["invoice.open", "invoice.detected", "invoice.updated", "invoice.paid", "invoice.final"]
    )
    assert all(json.loads(event.body)["data"]["sandbox"] for event in events)


def test_the_page_of_an_invoice_of_the_sandbox_says_what_it_is_of_and_leads_back_to_the_shop(
    town: Town, tried: tuple[TestClient, dict[str, str]]
):
    client, headers = tried
    shop = "https://cafe.example/orders/1"
    made = client.post("/v1/invoices", json=ORDER | {"return_url": shop}, headers=headers).json()
    path = "/sandbox/pay/" + made["id"]
    assert made["page"].endswith(path)

    def page() -> str:
        answer = client.get(path, headers={"Accept": "text/html", "Accept-Language": "en"})
        assert answer.status_code == 200
        return str(answer.text)

    before = page()
    for told in ("<h1>Tea</h1>", "Sample cafe", "12,500.00", "USDT", "cannot be paid", "Waiting for payment"):
        assert told in before, told
    assert f"POST /v1/invoices/{made['id']}/test-payment" in before
    assert shop not in before
    client.post(f"/v1/invoices/{made['id']}/test-payment", json={"amount": "5"}, headers=headers)
    assert "Paid in part" in page()
    client.post(f"/v1/invoices/{made['id']}/test-payment", json={}, headers=headers)
    after = page()
    assert "Payment complete" in after
    assert f'href="{shop}"' in after
    assert client.get(path + "x", headers={"Accept": "text/html"}).status_code == 404


def test_the_two_worlds_do_not_see_each_other(town: Town, tried: tuple[TestClient, dict[str, str]]):
    client, headers = tried
    test = client.post("/v1/invoices", json=ORDER, headers=headers).json()
    live = client.post("/v1/invoices", json=ORDER, headers=town.bearer).json()
    assert (live["sandbox"], test["sandbox"]) == (False, True)
    for url, other in ((f"/v1/invoices/{test['id']}", town.bearer), (f"/v1/invoices/{live['id']}", headers)):
        assert client.get(url, headers=other).status_code == 404
        assert client.post(f"{url}/void", headers=other).status_code == 404
    pay = client.post(f"/v1/invoices/{live['id']}/test-payment", json={}, headers=town.bearer)
    assert (pay.status_code, pay.json()["rule"]) == (403, "sandbox")
    assert client.post(f"/v1/invoices/{live['id']}/test-payment", json={}, headers=headers).status_code == 404
    for url, headers_, id in (
        ("/v1/invoices", headers, test["id"]),
        ("/v1/invoices", town.bearer, live["id"]),
    ):
        assert [one["id"] for one in client.get(url, headers=headers_).json()["invoices"]] == [id]
    endpoint = {"url": "http://127.0.0.1:9/hook"}
    made = client.post("/v1/webhook-endpoints", json=endpoint, headers=headers).json()
    assert client.get("/v1/webhook-endpoints", headers=town.bearer).json() == {"endpoints": []}
    assert client.post(f"/v1/webhook-endpoints/{made['id']}/test", headers=town.bearer).status_code == 404
    assert client.get(f"/pay/{test['id']}", headers={"Accept": "text/html"}).status_code == 404


def test_what_is_refused_live_is_refused_in_the_sandbox(tried: tuple[TestClient, dict[str, str]]):
    client, headers = tried
    for change, rule in (({"asset": "DOGE"}, "V2"), ({"asset": "KZT"}, "P7"), ({"amount": "9" * 39}, "E4"),
                         ({"purpose": "1"}, "V1"), ({"title": "a\0"}, "text")):  # fmt: skip
        answer = client.post("/v1/invoices", json=ORDER | change, headers=headers)
        assert (answer.status_code, answer.json()["rule"]) == (422, rule), change


def test_a_reference_is_one_invoice_until_it_expired_or_was_voided(
    town: Town, tried: tuple[TestClient, dict[str, str]]
):
    client, headers = tried

    def make(**changes: Any) -> Any:
        return client.post("/v1/invoices", json=ORDER | changes, headers=headers).json()

    first = make()
    assert make()["id"] == first["id"]
    assert make(amount="7")["rule"] == "conflict"
    assert client.post(f"/v1/invoices/{first['id']}/void", headers=headers).json()["status"] == "void"
    second = make(amount="7")
    town.city.clock.wait(1_000)
    assert client.get(f"/v1/invoices/{second['id']}", headers=headers).json()["status"] == "expired"
    third = make()
    client.post(f"/v1/invoices/{third['id']}/test-payment", json={"amount": "1"}, headers=headers)
    refused = client.post(f"/v1/invoices/{third['id']}/void", headers=headers)
    assert (refused.status_code, refused.json()["rule"]) == (409, "conflict")
    page = client.get("/v1/invoices", params={"limit": 2}, headers=headers).json()
    rest = client.get("/v1/invoices", params={"limit": 2, "after": page["next"]}, headers=headers).json()
    listed = [one["id"] for one in page["invoices"] + rest["invoices"]]
    assert sorted(listed) == sorted([first["id"], second["id"], third["id"]])


def test_a_sandbox_key_makes_no_live_key_and_opens_nothing_live(
    town: Town, tried: tuple[TestClient, dict[str, str]]
):
    client, headers = tried
    assert client.post("/v1/keys", json={}, headers=headers).json()["rule"] == "sandbox"
    live = town.merchant_key.split("_")[1]
    for answer in (
        client.delete(f"/v1/keys/{live}", headers=headers),
        client.post(f"/v1/keys/{live}/rotate", json={}, headers=headers),
        client.get(f"/v1/keys/{live}", headers=headers),
    ):
        assert answer.status_code == 404
    assert live not in client.get("/v1/keys", headers=headers).text
    for path in ("/v1/statements", "/v1/payment-links"):
        assert client.get(path, headers=headers).json()["rule"] == "sandbox"


def test_a_rate_that_has_to_be_asked_for_holds_up_no_transaction(
    town: Town, tried: tuple[TestClient, dict[str, str]]
):
    """It is kept in the same database: on a file, who held the write lock meanwhile would wait for itself."""
    client, bearer = tried
    town.wait(3_600)
    order = {"amount": "1250000", "asset": "USDT", "title": "Tea", "reference": "after an hour"}
    made = client.post("/v1/invoices", json=order, headers=bearer)
    assert made.status_code == 201, made.text
