"""Keys: scoped, expiring, rotated with an overlap, and never more than their maker has (field failure 50)."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.db import reading
from gateway.merchants import store
from tests.gateway.conftest import Town
from tests.gateway.test_merchant_pages import Visitor


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


def test_a_key_that_ends_makes_none_that_ends_after_it(town: Town):
    """Else who was let in for a month would have let themselves in for ever."""
    client, now = town.client(), town.city.clock()
    guest = make(client, town, lifetime_s=3_600)
    assert guest["expires_s"] == now + 3_600
    town.city.clock.wait(600)
    mine = bearer(guest["key"])
    for asked, end in (({}, 3_600), ({"lifetime_s": 31_536_000}, 3_600), ({"lifetime_s": 60}, 660)):
        made = client.post("/v1/keys", json=asked, headers=mine).json()
        assert made["expires_s"] == now + end, asked
        # Nor does what that one makes.
        again = client.post("/v1/keys", json={}, headers=bearer(made["key"])).json()
        assert again["expires_s"] == now + end
    lasting = make(client, town)
    assert lasting["expires_s"] is None
    # Nor by rotating itself, or one that lasts.
    for id in (lasting["id"], guest["id"]):
        turned = client.post(f"/v1/keys/{id}/rotate", json={}, headers=mine).json()
        assert turned["expires_s"] == now + 3_600
    # While it goes on beside its successor it is a key that ends.
    old = make(client, town)
    client.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_s": 300}, headers=town.bearer)
    last = client.post("/v1/keys", json={}, headers=bearer(old["key"])).json()
    assert last["expires_s"] == town.city.clock() + 300
    town.city.clock.wait(3_000)
    for key in (turned, made, again, last):
        assert client.get("/v1/merchant", headers=bearer(key["key"])).json()["rule"] == "key"


def test_a_key_that_ends_is_prolonged_by_one_that_ends_later_and_by_the_operator(town: Town):
    client, now = town.client(), town.city.clock()
    guest = make(client, town, lifetime_s=3_600)
    town.city.clock.wait(600)
    longer = client.post(f"/v1/keys/{guest['id']}/rotate", json={}, headers=town.bearer).json()
    assert longer["expires_s"] == now + 600 + 3_600
    with town.city.gateway.engine.begin() as connection:
        key = store.new_key(connection, store.OPERATOR, None, now, expires_s=now + 3_600)
    path = f"/v1/merchants/{town.merchant_id}/keys"
    given = client.post(path, json={}, headers=bearer(key)).json()
    # A merchant's key is the merchant's: it does not end with whoever of the city's staff took it on.
    assert given["expires_s"] is None


def test_a_person_who_signed_in_with_a_key_that_ends_makes_none_that_ends_after_it(town: Town):
    visitor, guest = Visitor(town), make(town.client(), town, lifetime_s=86_400)
    visitor.sign_in(guest["key"])
    made = visitor.send("/merchant/keys", "/merchant/keys", role="owner", name="stays", lifetime="none")
    assert made.status_code == 200
    with reading(town.city.gateway.engine) as connection:
        found = store.keys_of(connection, town.merchant_id, (1 << 62, ""), 10, sandbox=None)
    [new] = [one for one in found if one.name == "stays"]
    assert new.expires_s == guest["expires_s"]
