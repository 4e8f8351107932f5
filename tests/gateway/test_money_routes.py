"""Refunds, payouts and policies over HTTP: the routes say what the use cases say, and only to their owner."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.merchants.policy import SettleBy
from gateway.payments.settlements import Settlements
from gateway.vasp.client import SIGNATURE, Provider
from gateway.vasp.messages import Confirmation, Instruction, ProviderKey, ProviderSigner, Said, SharedKey
from tests.gateway.conftest import Town

ORDER = {"amount": "1250000", "asset": "USDT", "reference": "order-1", "title": "Tea"}


def paid(town: Town) -> Any:
    """An invoice that its payer can be refunded, paid and final."""
    payer = "0x" + town.city.keys.address("payer").hex()
    made = town.client().post("/v1/invoices", json=ORDER | {"refund_to": payer}, headers=town.bearer).json()
    town.pay(town.payments.look(made["id"])[0])
    town.settle()
    return made


def test_a_refund_is_asked_for_approved_and_prepared_once(town: Town):
    client, made = town.client(), paid(town)
    url = f"/v1/invoices/{made['id']}/refunds"
    key = town.bearer | {"Idempotency-Key": "refund-1"}
    assert client.post(url, json={"amount": "5"}, headers=town.bearer).json()["rule"] == "idempotency"
    first, again = (client.post(url, json={"amount": "5"}, headers=key).json() for _ in range(2))
    assert (first["id"], first["state"], first["proof"]) == (again["id"], "requested", "fixed")
    assert client.post(url, json={"amount": "6"}, headers=key).json()["rule"] == "idempotency"
    too_much = {"amount": made["due"]}
    more = client.post(url, json=too_much, headers=town.bearer | {"Idempotency-Key": "refund-2"})
    assert more.status_code == 422
    stranger = {"amount": "5", "to": "0x" + "66" * 20}
    refused = client.post(url, json=stranger, headers=town.bearer | {"Idempotency-Key": "refund-3"})
    assert (refused.status_code, refused.json()["where"]) == (422, "signature")
    approved = client.post(f"/v1/refunds/{first['id']}/approve", headers=town.bearer).json()
    assert approved["state"] == "pending"
    assert approved["transaction"]["link"].startswith("ethereum:0x")
    assert client.get(f"/v1/refunds/{first['id']}", headers=town.bearer).json() == approved
    assert [one["id"] for one in client.get("/v1/refunds", headers=town.bearer).json()["refunds"]] == [
        first["id"]
    ]
    shown = client.get(f"/v1/invoices/{made['id']}", headers=town.bearer).json()
    assert "refund_pending" in [shown["status"], *shown["notes"]]
    cashier = client.post("/v1/keys", json={"role": "cashier"}, headers=town.bearer).json()["key"]
    other = {"Authorization": f"Bearer {cashier}", "Idempotency-Key": "x"}
    assert client.post(url, json={"amount": "5"}, headers=other).json()["rule"] == "scope"
    for id in ("r_none", "%00", first["id"] + "0"):
        assert client.get(f"/v1/refunds/{id}", headers=town.bearer).status_code == 404


def test_a_policy_is_set_for_what_comes_after(town: Town):
    client = town.client()
    before = client.get("/v1/merchant/policy", headers=town.bearer).json()
    assert (before["lifetime_s"], before["settle_by"]) == (900, "direct")
    changed = before | {"lifetime_s": 3_600, "tolerance_bps": 50, "tolerance_minor_max": "1000000"}
    old = client.post("/v1/invoices", json=ORDER, headers=town.bearer).json()
    assert client.put("/v1/merchant/policy", json=changed, headers=town.bearer).json() == changed
    assert client.get("/v1/merchant/policy", headers=town.bearer).json() == changed
    new = client.post("/v1/invoices", json=ORDER | {"reference": "order-2"}, headers=town.bearer).json()
    assert [one["expires_s"] - one["created_s"] for one in (old, new)] == [900, 3_600]
    for wrong in ({"lifetime_s": 1}, {"tolerance_bps": 501}, {"over_policy": "eat"}, {"x": 1}):
        answer = client.put("/v1/merchant/policy", json=changed | wrong, headers=town.bearer)
        assert answer.status_code == 422


def test_a_payout_is_asked_for_and_confirmed_by_the_providers_signature_alone(town: Town):
    theirs, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signer, other = ProviderSigner(theirs), ProviderSigner(stranger)
    key = ProviderKey(theirs.public_key())
    provider = Provider("vasp", "http://127.0.0.1:9/", None, SharedKey(b"ours" * 8), key)  # type: ignore[arg-type]
    object.__setattr__(town.city.gateway, "settlements", Settlements(town.payments, {"vasp": provider}))
    client = town.client()
    policy = client.get("/v1/merchant/policy", headers=town.bearer).json() | {
        "settle_by": SettleBy.VASP.value
    }
    client.put("/v1/merchant/policy", json=policy, headers=town.bearer)
    paid(town)
    [settled] = client.get("/v1/settlements", headers=town.bearer).json()["settlements"]
    assert int(settled["gross"]) == int(settled["city"]) + int(settled["net"])
    made = client.post("/v1/payouts", json={"asset": "USDT"}, headers=town.bearer).json()
    assert (made["amount"], made["state"]) == (settled["net"], "reserved")
    told = Confirmation(
        Instruction(made["id"], "USDT", int(made["amount"]), made["iban"]), Said.REFUSED
    ).encode()
    url = "/v1/providers/vasp/confirmations"
    for signature in ("", "x", other.sign(told)):
        refused = client.post(url, content=told, headers={SIGNATURE: signature})
        assert (refused.status_code, refused.json()["rule"]) == (422, "signature")
    assert client.post("/v1/providers/none/confirmations", content=told).status_code == 404
    for _ in range(2):
        taken = client.post(url, content=told, headers={SIGNATURE: signer.sign(told)})
        assert (taken.status_code, taken.json()) == (200, {"id": made["id"], "state": "refused"})
    [shown] = client.get("/v1/payouts", headers=town.bearer).json()["payouts"]
    assert shown["state"] == "refused"
    nothing = client.post("/v1/payouts", json={"asset": "KZT"}, headers=town.bearer)
    assert nothing.status_code == 422


def test_an_operator_sees_how_the_gateway_is(town: Town):
    told = town.client().get("/v1/operations", headers=town.operator).json()
    assert (told["unmatched"], told["rates"][0]["asset"], told["rates"][0]["why"]) == (0, "USDT", None)
    assert told["chain_lag_s"] >= 0
