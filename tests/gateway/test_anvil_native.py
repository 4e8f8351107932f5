"""A wallet pays an invoice in the chain's coin from what the gateway gives it, to the auditor's verdict."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from contracts.bindings import COIN, city_part
from contracts.transactions import load_artifact
from gateway.demo import run_audit
from gateway.payments.store import Invoice
from gateway.rails import Kind
from ledger.records import Transfer
from tests import servers
from tests.gateway.anvil_town import AnvilTown
from tests.gateway.coin_town import COIN_ASSET, coin_invoice


def given(town: AnvilTown, invoice: Invoice) -> dict[str, Any]:
    """What the merchant is told of an invoice, and its shop gives to the payer's wallet."""
    answer = town.client().get(f"/v1/invoices/{invoice.id}", headers=town.bearer)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def pay_native(town: AnvilTown, told: dict[str, Any], by: LocalAccount, value: int | None = None) -> str:
    """What a wallet does, knowing the router's ABI and that JSON and nothing of ours; the transaction's hash."""
    web3, wallet = Web3(Web3.HTTPProvider(town.node.url)), told["wallet"]
    router = web3.eth.contract(
        Web3.to_checksum_address(wallet["router"]), abi=load_artifact("PaymentRouter")["abi"]
    )
    quote = (
        wallet["invoice"], wallet["purpose"], Web3.to_checksum_address(wallet["merchant"]),
        Web3.to_checksum_address(wallet["token"]), int(wallet["amount"]), wallet["share_bps"],
        wallet["valid_until"], int(wallet["nonce"]),
    )  # fmt: skip
    vs = hex((wallet["v"] - 27) << 255 | int(wallet["s"], 16))
    called = router.functions.payNative(quote, wallet["r"], "0x" + vs[2:].rjust(64, "0"))
    asked = called.build_transaction(
        {
            "from": by.address, "value": int(wallet["amount"]) if value is None else value, "gas": 400_000,
            "nonce": web3.eth.get_transaction_count(by.address), "chainId": servers.CHAIN_ID,
            "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9,
        }
    )  # fmt: skip
    return Web3.to_hex(web3.eth.send_raw_transaction(by.sign_transaction(asked).raw_transaction))


def mined(town: AnvilTown, hash: str) -> Any:
    return town.city.outside.web3.eth.wait_for_transaction_receipt(hash, poll_latency=0.02)


def test_a_wallet_pays_in_the_coin_and_it_is_split_final_recorded_and_audited(coin_town: AnvilTown):
    town, invoice = coin_town, coin_invoice(coin_town)
    told = given(town, invoice)
    assert (told["status"], told["asset"], told["wallet"]["token"]) == ("open", COIN_ASSET, "0x" + COIN.hex())
    city = city_part(invoice.due_minor, invoice.share_bps)
    deployment, shop = town.city.plan.deployment, town.city.keys.address("merchant")
    had = {place: town.city.city.balance(COIN, place) for place in (deployment.treasury, shop)}
    # To the unit: the router refuses another value, and takes a quote once.
    assert mined(town, pay_native(town, told, town.payer, invoice.due_minor - 1))["status"] == 0
    assert mined(town, pay_native(town, told, town.payer))["status"] == 1
    assert mined(town, pay_native(town, told, town.payer))["status"] == 0
    assert town.city.city.balance(COIN, deployment.treasury) - had[deployment.treasury] == city
    assert town.city.city.balance(COIN, shop) - had[shop] == invoice.due_minor - city
    town.poll()
    # Nothing stands at its deposit address: it is counted once.
    town.city.worker._coins.poll()
    # A second block stands on it already (that of the quote that was used), which makes it paid here.
    assert (given(town, invoice)["status"], given(town, invoice)["paid"]) == ("paid", str(invoice.due_minor))
    town.finalise()
    assert (given(town, invoice)["status"], given(town, invoice)["over"]) == ("final", "0")
    [seen] = town.seen(invoice)
    assert (seen.kind, seen.amount_minor, seen.city_minor) == (Kind.ROUTER, invoice.due_minor, city)
    town.record()
    booked = [one for one in town.revenue() if one.asset == COIN_ASSET]
    assert [(one.amount, one.debit, one.purpose) for one in booked] == [
        (city, "treasury-eth", invoice.purpose)
    ]
    assert given(town, invoice)["record"] == position_of(town, booked[0])
    assert "invoice.final" in town.events(invoice)
    # Whoever trusts nobody here reads the public folder and asks the chain.
    town.city.worker.publish()
    town.mine(65)
    verdict = run_audit(town.city.folder / "bundle", "--rpc", town.node.url)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert "valid:" in verdict.stdout


def position_of(town: AnvilTown, transfer: Transfer) -> int | None:
    from gateway.db import reading
    from ledger import store

    with reading(town.city.gateway.engine) as connection:
        return store.position_of_transfer(connection, transfer.id)


def test_the_page_of_an_invoice_in_the_coin_names_no_token_contract(coin_town: AnvilTown):
    """A wallet that scanned a transfer of the token 0xee...ee would send nothing, or to nobody."""
    town, invoice = coin_town, coin_invoice(coin_town)
    page = town.client().get(f"/pay/{invoice.id}").text
    # The quote alone says so, as the router reads it; the script takes it for the coin.
    told = re.search(r'data-page="([^"]*)"', page)
    assert told is not None
    assert json.loads(html.unescape(told[1]))["is_coin"] is True
    assert COIN.hex() not in page.replace(told[0], "").lower()
    assert invoice.deposit_address is not None
    assert Web3.to_checksum_address(invoice.deposit_address) in page
    from gateway.pages.checkout import ways

    _, derived, _ = town.payments.look(invoice.id)
    found = ways(town.city.gateway, invoice, derived, "", 18)
    [request] = [code.content for code in found.codes if code.key == "wallet"]
    to = Web3.to_checksum_address(invoice.deposit_address)
    assert request == f"ethereum:{to}@{servers.CHAIN_ID}?value={invoice.due_minor}"
