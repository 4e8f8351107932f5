"""Keys: scoped, expiring, rotated with an overlap, and never more than their maker has (field failure 50)."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.db import reading
from gateway.merchants import store
from tests.gateway.conftest import Town


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def make(client: TestClient, town: Town, **body: Any) -> Any:
    return client.post("/v1/keys", json=body, headers=town.bearer).json()


def test_a_cashier_takes_payments_and_changes_nothing_else(town: Town):
    client = town.client()
    cashier = bearer(make(client, town, role="cashier", name="till 2")["key"])
    order = {"amount": "5", "asset": "USDT", "reference": "till-1", "title": "Tea"}
    assert client.post("/v1/invoices", json=order, headers=cashier).status_code == 201
    for method, path in (("POST", "/v1/keys"), ("POST", "/v1/merchant/changes"), ("GET", "/v1/statements"),
                         ("POST", "/v1/webhook-endpoints"), ("POST", "/v1/payment-links")):  # fmt: skip
        assert client.request(method, path, json={}, headers=cashier).json()["rule"] == "scope"


def test_no_key_makes_one_that_may_do_more_than_itself(town: Town):
    client = town.client()
    maker = bearer(make(client, town, scopes=["keys.write", "invoices.read"])["key"])
    assert client.post("/v1/keys", json={}, headers=maker).json()["rule"] == "scope"
    more = client.post("/v1/keys", json={"scopes": ["statements.read"]}, headers=maker).json()
    assert (more["rule"], more["why"]) == ("scope", "your own key has no statements.read")
    assert client.post("/v1/keys", json={"scopes": ["invoices.read"]}, headers=maker).status_code == 201
    # Nor by way of a rotation of a mightier key.
    mighty = town.merchant_key.split("_")[1]
    assert client.post(f"/v1/keys/{mighty}/rotate", json={}, headers=maker).json()["rule"] == "scope"
    for scopes in (["unmatched.write"], ["nothing"], ["merchants.write"]):
        assert client.post("/v1/keys", json={"scopes": scopes}, headers=town.bearer).json()["rule"] == "scope"
    cashier = client.post("/v1/keys", json={"role": "cashier", "scopes": ["keys.write"]}, headers=town.bearer)
    assert cashier.json()["rule"] == "scope"


def test_a_key_expires_by_itself(town: Town):
    client = town.client()
    key = bearer(make(client, town, lifetime_s=3600)["key"])
    assert client.get("/v1/merchant", headers=key).status_code == 200
    town.city.clock.wait(3599)
    assert client.get("/v1/merchant", headers=key).status_code == 200
    town.city.clock.wait(1)
    assert client.get("/v1/merchant", headers=key).json()["rule"] == "key"


def test_a_rotated_key_goes_on_for_the_overlap(town: Town):
    client = town.client()
    old = make(client, town, role="cashier", name="till 2", scopes=["invoices.read"])
    new = client.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_s": 60}, headers=town.bearer).json()
    for key in (old, new):
        assert client.get("/v1/invoices", headers=bearer(key["key"])).status_code == 200
    town.city.clock.wait(60)
    assert client.get("/v1/invoices", headers=bearer(old["key"])).json()["rule"] == "key"
    assert client.get("/v1/invoices", headers=bearer(new["key"])).status_code == 200
    shown = client.get(f"/v1/keys/{new['id']}", headers=town.bearer).json()
    assert (shown["role"], shown["scopes"], shown["name"]) == ("cashier", ["invoices.read"], "till 2")
    again = client.post(f"/v1/keys/{old['id']}/rotate", json={}, headers=town.bearer)
    assert again.json()["rule"] == "conflict"


def test_a_revoked_key_is_out_at_the_next_request(town: Town):
    client = town.client()
    key = make(client, town)
    assert client.get("/v1/merchant", headers=bearer(key["key"])).status_code == 200
    assert client.delete(f"/v1/keys/{key['id']}", headers=town.bearer).status_code == 204
    assert client.get("/v1/merchant", headers=bearer(key["key"])).json()["rule"] == "key"


def test_a_list_of_keys_shows_when_each_was_used_and_opens_nothing(town: Town):
    client = town.client()
    key = make(client, town, name="never used")
    listed = client.get("/v1/keys", headers=town.bearer)
    shown = {one["id"]: one for one in listed.json()["keys"]}
    assert shown[town.merchant_key.split("_")[1]]["last_used_s"] == town.city.clock()
    assert shown[key["id"]]["last_used_s"] is None
    assert key["key"].split("_", 2)[2] not in listed.text
    assert "hash" not in listed.text
    pages, after = [], None
    for _ in range(3):
        make(client, town)
    while True:
        asked = {"limit": 2} | ({} if after is None else {"after": after})
        page = client.get("/v1/keys", params=asked, headers=town.bearer).json()
        pages += [one["id"] for one in page["keys"]]
        after = page["next"]
        if after is None:
            break
    assert len(pages) == len(set(pages)) == 5


def test_ff50_keys_are_compared_in_constant_time_also_where_there_is_none(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    compared: list[tuple[int, int]] = []
    true_compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return true_compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    with reading(town.city.gateway.engine) as connection:
        for key in (town.merchant_key, town.merchant_key[:-1], "qz_0000000000000000_x", "", "x"):
            store.caller(connection, key, 0)
    assert compared == [(32, 32)] * 5


def test_ff50_no_route_takes_a_key_from_its_address(town: Town):
    document = town.client().get("/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {one["name"].lower() for one in operation.get("parameters", []) if one["in"] != "header"}
            assert not named & {"key", "api_key", "token", "secret", "access_token", "bearer"}, path


def test_another_merchants_key_is_not_there(town: Town):
    client = town.client()
    operator = town.operator_key.split("_")[1]
    for id in (operator, "0" * 16, "x y", "%00"):
        assert client.delete(f"/v1/keys/{id}", headers=town.bearer).status_code == 404
    assert client.get("/v1/unmatched", headers=town.operator).status_code == 200
