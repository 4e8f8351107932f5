"""The operator's list of providers: by it merchants are really paid out, and nothing that is wrong is guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.keyring import Keyring, make
from gateway.merchants.policy import Policy, SettleBy, set_policy
from gateway.payments.settlements import ASK_AGAIN_S, PayoutState, Settlements
from gateway.vasp.client import Provider
from gateway.vasp.messages import ProviderSigner, SharedKey
from gateway.vasp.plan import VaspPlan, providers_of, read_plan
from gateway.vasp.simulator import VaspSimulator
from ledger.records import Invalid, Unavailable
from tests.gateway.conftest import Town

ADDRESS = "0x" + "5a" * 20


def written(folder: Path, *providers: dict[str, Any]) -> Path:
    path = folder / "vasp.json"
    path.write_text(json.dumps({"providers": list(providers)}))
    return path


@pytest.mark.parametrize("has_own_key", [True, False])
def test_a_merchant_is_paid_out_by_the_provider_of_the_list(town: Town, tmp_path: Path, has_own_key: bool):
    ring = Keyring(tmp_path / "keys", is_strict=False, environment={})
    make(ring.folder, ["vasp-sample"])
    ours, theirs = SharedKey(ring.shared("vasp-sample")), Ed25519PrivateKey.generate()
    signer = ProviderSigner(theirs) if has_own_key else ours
    with town.city.gateway.engine.begin() as connection:
        set_policy(connection, town.merchant_id, Policy(settle_by=SettleBy.VASP), "key_1", town.city.clock())
    with VaspSimulator(ours, signer, ProviderSigner(theirs)) as simulator, httpx.Client(timeout=60) as client:
        wallet = "0x" + town.city.keys.address("merchant").hex()
        listed = {"name": "sample", "url": f"{simulator.url}/", "addresses": [wallet]}
        if has_own_key:
            listed["public_key"] = theirs.public_key().public_bytes_raw().hex()
        plan = read_plan(written(tmp_path, listed))
        settlements = Settlements(town.payments, providers_of(plan, client, ring))
        invoice = town.invoice()
        town.pay(invoice)
        town.settle()
        payout = settlements.instruct(town.merchant_id, "USDT", "key_1")
        settlements.follow()
        assert settlements.look(payout.id).state is PayoutState.INSTRUCTED
        simulator.pay(payout.id, town.city.clock())
        town.city.clock.wait(ASK_AGAIN_S)
        settlements.follow()
        assert settlements.look(payout.id).state is PayoutState.PAID


def test_no_list_is_no_provider_and_a_wrong_list_is_refused(tmp_path: Path):
    assert read_plan(tmp_path / "vasp.json") == VaspPlan(providers=[])
    good = {"name": "sample", "url": "https://vasp.example", "addresses": [ADDRESS]}
    for wrong in (
        [good, good],
        [good | {"name": "Sample"}],
        [good | {"url": "ftp://vasp.example"}],
        [good | {"public_key": "12"}],
        [good | {"addresses": []}],
        [good | {"addresses": ["0x12"]}],
        [{name: good[name] for name in ("name", "url")}],
        [good | {"secret": "1"}],
    ):
        with pytest.raises(Invalid, match=r"vasp\.json"):
            read_plan(written(tmp_path, *wrong))
    (tmp_path / "vasp.json").write_text("{")
    with pytest.raises(Invalid, match="not JSON"):
        read_plan(tmp_path / "vasp.json")


def test_a_provider_needs_its_key_and_in_production_https_and_a_key_that_others_cannot_read(tmp_path: Path):
    ring = Keyring(tmp_path, is_strict=True, environment={})
    plan = read_plan(
        written(tmp_path, {"name": "sample", "url": "https://vasp.example", "addresses": [ADDRESS]})
    )
    with httpx.Client() as client:
        with pytest.raises(Unavailable, match="vasp-sample"):
            providers_of(plan, client, ring)
        make(tmp_path, ["vasp-sample"])
        assert list(providers_of(plan, client, ring)) == ["sample"]
        in_environment = Keyring(
            tmp_path / "none", is_strict=True, environment={"QAZYNA_KEY_VASP_SAMPLE": "0123456789abcdef" * 4}
        )
        assert list(providers_of(plan, client, in_environment)) == ["sample"]
        plain = read_plan(
            written(tmp_path, {"name": "sample", "url": "http://vasp.example", "addresses": [ADDRESS]})
        )
        with pytest.raises(Invalid, match="https"):
            providers_of(plain, client, ring)
    (tmp_path / "vasp-sample").chmod(0o644)
    with pytest.raises(Invalid, match="its mode is 644"):
        ring.check()


def test_a_merchant_paid_out_by_a_provider_has_the_providers_address_as_its_wallet(
    town: Town, tmp_path: Path
):
    """The router sends the net to the merchant's wallet: elsewhere the provider would never get it."""
    ring = Keyring(tmp_path / "keys", is_strict=False, environment={})
    make(ring.folder, ["vasp-sample"])
    own = "0x" + town.city.keys.address("merchant").hex()
    path = "/v1/merchant/policy"

    def client_with(*addresses: str) -> TestClient:
        listed = (
            [{"name": "sample", "url": "http://127.0.0.1:9", "addresses": list(addresses)}]
            if addresses
            else []
        )
        providers = providers_of(read_plan(written(tmp_path, *listed)), httpx.Client(), ring)
        settlements = Settlements(town.payments, providers)
        return TestClient(create_app(replace(town.city.gateway, settlements=settlements)))

    policy = town.client().get(path, headers=town.bearer).json() | {"settle_by": "vasp"}
    answer = client_with().put(path, json=policy, headers=town.bearer)
    assert (answer.status_code, answer.json()["where"]) == (422, "settle_by")
    assert "vasp.json names none" in answer.json()["why"]
    answer = client_with(ADDRESS).put(path, json=policy, headers=town.bearer)
    assert answer.status_code == 422
    for told in (ADDRESS, own, "set the wallet first"):
        assert told.lower() in answer.json()["why"].lower()
    assert town.client().get(path, headers=town.bearer).json()["settle_by"] == "direct"
    right = client_with(ADDRESS, own)
    assert right.put(path, json=policy, headers=town.bearer).json()["settle_by"] == "vasp"
    # While it is so, its wallet goes to no other place than a provider's.
    answer = right.post("/v1/merchant/changes", json={"wallet": "0x" + "77" * 20}, headers=town.bearer)
    assert (answer.status_code, answer.json()["rule"]) == (422, "policy")
    assert (
        right.post("/v1/merchant/changes", json={"wallet": ADDRESS}, headers=town.bearer).status_code == 201
    )


def test_a_provider_is_asked_only_for_what_went_to_its_own_address(town: Town):
    with town.city.gateway.engine.begin() as connection:
        set_policy(connection, town.merchant_id, Policy(settle_by=SettleBy.VASP), "key_1", town.city.clock())
    key = SharedKey(b"ours" * 8)
    invoice = town.invoice()
    town.pay(invoice)
    town.settle()
    for addresses, is_refused in ((frozenset({b"\x5a" * 20}), True), (frozenset({invoice.payee}), False)):
        provider = Provider("sample", "http://127.0.0.1:9", httpx.Client(), key, key, addresses=addresses)
        settlements = Settlements(town.payments, {"sample": provider})
        if is_refused:
            with pytest.raises(Invalid, match="no address of the provider sample"):
                settlements.instruct(town.merchant_id, "USDT", "key_1")
        else:
            assert settlements.instruct(town.merchant_id, "USDT", "key_1").state is PayoutState.RESERVED
