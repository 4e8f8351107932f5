"""The operator's list of providers: by it merchants are really paid out, and nothing that is wrong is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.keyring import Keyring, make
from gateway.merchants.policy import Policy, SettleBy, set_policy
from gateway.payments.settlements import ASK_AGAIN_S, PayoutState, Settlements
from gateway.vasp.messages import ProviderSigner, SharedKey
from gateway.vasp.plan import VaspPlan, providers_of, read_plan
from gateway.vasp.simulator import VaspSimulator
from ledger.records import Invalid, Unavailable
from tests.gateway.conftest import Town


def written(folder: Path, *providers: dict[str, str]) -> Path:
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
    with VaspSimulator(ours, signer, ProviderSigner(theirs)) as simulator, httpx.Client() as client:
        listed = {"name": "sample", "url": f"{simulator.url}/"}
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
    good = {"name": "sample", "url": "https://vasp.example"}
    for wrong in (
        [good, good],
        [good | {"name": "Sample"}],
        [good | {"url": "ftp://vasp.example"}],
        [good | {"public_key": "12"}],
        [good | {"secret": "1"}],
    ):
        with pytest.raises(Invalid, match=r"vasp\.json"):
            read_plan(written(tmp_path, *wrong))
    (tmp_path / "vasp.json").write_text("{")
    with pytest.raises(Invalid, match="not JSON"):
        read_plan(tmp_path / "vasp.json")


def test_a_provider_needs_its_key_and_in_production_https_and_a_key_that_others_cannot_read(tmp_path: Path):
    ring = Keyring(tmp_path, is_strict=True, environment={})
    plan = read_plan(written(tmp_path, {"name": "sample", "url": "https://vasp.example"}))
    with httpx.Client() as client:
        with pytest.raises(Unavailable, match="vasp-sample"):
            providers_of(plan, client, ring)
        make(tmp_path, ["vasp-sample"])
        assert list(providers_of(plan, client, ring)) == ["sample"]
        in_environment = Keyring(
            tmp_path / "none", is_strict=True, environment={"QAZYNA_KEY_VASP_SAMPLE": "0123456789abcdef" * 4}
        )
        assert list(providers_of(plan, client, in_environment)) == ["sample"]
        plain = read_plan(written(tmp_path, {"name": "sample", "url": "http://vasp.example"}))
        with pytest.raises(Invalid, match="https"):
            providers_of(plain, client, ring)
    (tmp_path / "vasp-sample").chmod(0o644)
    with pytest.raises(Invalid, match="its mode is 644"):
        ring.check()
