"""Leaks that the gateway stops: a thief with the named powers tries each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.db import reading
from gateway.merchants import store
from gateway.webhooks.listing import store as listing
from ledger.records import Invalid
from tests.gateway.conftest import Town

ORDER = {"amount": "1250000", "asset": "USDT", "title": "Tea"}
THIEF = "0x" + "66" * 20
HOLD_S = 48 * 3600


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def reachable(town: Town) -> Town:
    """The town whose merchant has a contact that holds."""
    asked = town.client().post(
        "/v1/merchant/changes", json={"contact": "boss@cafe.example"}, headers=town.bearer
    )
    assert asked.status_code == 201, asked.text
    town.wait(HOLD_S)
    return town


def payee(town: Town, reference: str) -> str:
    """Where the net of an invoice that is made now goes."""
    town.poll()
    made = town.client().post("/v1/invoices", json=ORDER | {"reference": reference}, headers=town.bearer)
    assert made.status_code == 201, made.text
    return str(made.json()["wallet"]["merchant"])


def told(town: Town) -> list[tuple[str, Any]]:
    """The letters that wait for the merchant: to whom, and what."""
    with reading(town.city.gateway.engine) as connection:
        return [
            (to, json.loads(body)["data"])
            for to, kind, body in store.emails(connection, town.merchant_id)
            if kind == "merchant.change.asked"
        ]


def test_leak_21_a_stolen_key_moves_no_money_before_the_owner_was_told_and_had_two_days(reachable: Town):
    town, client = reachable, reachable.client()
    honest = payee(town, "before")
    change = client.post("/v1/merchant/changes", json={"wallet": THIEF}, headers=town.bearer).json()
    assert change["effective_s"] - change["asked_s"] == HOLD_S
    # The old contact has a letter, the endpoints an event, with what it needs to stop it.
    [(to, data)] = told(town)
    assert (to, data["new"], data["cancel"]) == (
        "boss@cafe.example", THIEF, f"DELETE /v1/merchant/changes/{change['id']}")  # fmt: skip
    with reading(town.city.gateway.engine) as connection:
        events = [one.type for one in listing.events_of(connection, town.merchant_id, (1 << 62, ""), 50)]
    assert "merchant.change.asked" in events
    town.wait(HOLD_S - 1)
    assert payee(town, "held") == honest
    town.wait(1)
    assert payee(town, "after") == THIEF


def test_leak_21_the_owners_old_key_cancels_it_even_after_the_thief_revoked_that_key(reachable: Town):
    town, client = reachable, reachable.client()
    honest = payee(town, "before")
    thief = client.post("/v1/keys", json={}, headers=town.bearer).json()
    change = client.post("/v1/merchant/changes", json={"wallet": THIEF}, headers=bearer(thief["key"])).json()
    mine = town.merchant_key.split("_")[1]
    assert client.delete(f"/v1/keys/{mine}", headers=bearer(thief["key"])).status_code == 204
    assert client.get("/v1/merchant", headers=town.bearer).json()["rule"] == "key"
    cancelled = client.delete(f"/v1/merchant/changes/{change['id']}", headers=town.bearer)
    assert cancelled.status_code == 204
    town.wait(HOLD_S + 1)
    with reading(town.city.gateway.engine) as connection:
        held = store.merchant_at(connection, town.merchant_id, town.city.clock())
    assert held is not None
    assert "0x" + held.wallet.hex() == honest


def test_leak_21_a_key_that_was_revoked_before_the_change_cancels_nothing(reachable: Town):
    town, client = reachable, reachable.client()
    old = client.post("/v1/keys", json={}, headers=town.bearer).json()
    client.delete(f"/v1/keys/{old['id']}", headers=town.bearer)
    town.city.clock.wait(1)
    change = client.post("/v1/merchant/changes", json={"wallet": THIEF}, headers=town.bearer).json()
    url = f"/v1/merchant/changes/{change['id']}"
    assert client.delete(url, headers=bearer(old["key"])).json()["rule"] == "key"
    cashier = client.post("/v1/keys", json={"role": "cashier"}, headers=town.bearer).json()
    assert client.delete(url, headers=bearer(cashier["key"])).json()["rule"] == "scope"
    assert client.delete("/v1/merchant/changes/ch_none", headers=town.bearer).status_code == 404
    town.city.clock.wait(HOLD_S)
    assert client.delete(url, headers=town.bearer).json()["rule"] == "conflict"


def test_leak_21_the_contact_and_the_account_are_held_too_and_the_old_contact_hears_of_it(reachable: Town):
    town, client = reachable, reachable.client()
    client.post("/v1/merchant/changes", json={"contact": "thief@evil.example"}, headers=town.bearer)
    client.post("/v1/merchant/changes", json={"wallet": THIEF}, headers=town.bearer)
    assert [to for to, _ in told(town)] == ["boss@cafe.example"] * 2
    view = client.get("/v1/merchant", headers=town.bearer).json()
    assert (view["contact"], len(view["waiting"])) == ("boss@cafe.example", 2)
    # One at a time: asking again does not start another clock.
    again = client.post("/v1/merchant/changes", json={"wallet": "0x" + "67" * 20}, headers=town.bearer)
    assert again.json()["rule"] == "conflict"


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({}, "schema"),
        ({"wallet": "0x" + "11" * 20, "contact": "a@b.cc"}, "schema"),
        ({"wallet": "0x" + "00" * 20}, "E2"),
        ({"iban": "KZ00"}, "K5"),
        ({"contact": "no address"}, "email"),
        ({"contact": "a@b\r\nBcc: c@d.ee"}, "email"),
    ],
)
def test_a_change_must_be_one_and_right(town: Town, body: dict[str, str], rule: str):
    answer = town.client().post("/v1/merchant/changes", json=body, headers=town.bearer)
    assert (answer.status_code, answer.json()["rule"]) == (422, rule)


# --- costs and spread -------------------------------------------------------------------------


def least_units(tiyn: int, rate: dict[str, Any]) -> int:
    """What pays so much at a rate with nothing added: by its own arithmetic."""
    return -(-tiyn * int(rate["denominator"]) // int(rate["numerator"]))


def test_leak_09_a_city_fee_is_quoted_without_a_spread(town: Town):
    assert town.city.gateway.spread_bps > 0
    town.poll()
    bill = town.client().post("/v1/fees/bills", json={"fee": "parking-year", "asset": "USDT"}).json()
    invoice = town.payments.look(bill["id"])[0]
    rate = bill["rate"]
    assert (rate["spread_bps"], json.loads(invoice.rate)["spread_bps"]) == (0, 0)
    assert invoice.due_minor == least_units(invoice.tiyn, rate)
    # A merchant's price has the spread; what a merchant's till takes under a fee's code has none.
    for purpose, expected in (("206108", town.city.gateway.spread_bps), ("108125", 0)):
        order = ORDER | {"reference": purpose, "purpose": purpose}
        made = town.client().post("/v1/invoices", json=order, headers=town.bearer)
        assert made.status_code == 201, made.text
        assert made.json()["rate"]["spread_bps"] == expected
        due, least = town.payments.look(made.json()["id"])[0].due_minor, least_units(1_250_000, rate)
        assert (due == least) is (expected == 0)
        assert due >= least


def test_leak_09_who_sets_a_spread_on_a_fee_is_refused(town: Town):
    from gateway.city_fees.catalogue import fee
    from gateway.payments.service import Request

    parking = fee("parking-year")
    for asset in ("USDT", "KZT"):
        asked = Request(parking.code, parking.id, 865_000, asset, spread_bps=1)
        with pytest.raises(Invalid) as refused:
            town.payments.create(asked)
        assert (refused.value.rule, refused.value.where) == ("Q6", "spread")
        assert "at 0 basis points, this asks for 1" in refused.value.why
