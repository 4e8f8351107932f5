"""What the page of an invoice gives to a payer's wallet: ready made, to anybody, and only while it can be paid."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from starlette.testclient import TestClient

from contracts.bindings import (
    COIN,
    Signature,
    authorization_digest,
    city_part,
    load_artifact,
    permit2_digest,
)
from gateway.app import create_app
from gateway.db import reading
from gateway.limits import Most
from gateway.merchants import store as merchants
from gateway.payments.store import Invoice
from gateway.rails.evm import Place, Refused, Term
from gateway.relayer.tokens import TokenDomain, Tokens
from ledger.records import Unavailable, address_word, keccak256
from tests.gateway.anvil_town import AnvilTown
from tests.gateway.coin_town import coin_invoice
from tests.gateway.conftest import Town

PAYER = "0x" + "1d" * 20
# All that it tells: a name that is new here is to be thought about, for anybody reads it.
MEMBERS = {
    "chain_id", "router", "token", "merchant", "number", "purpose", "amount", "city", "share_bps", "valid_until",
    "nonce", "left_s", "pay", "approve", "signs",
}  # fmt: skip


def asked(town: Town, invoice: Invoice, payer: str = PAYER, client: TestClient | None = None) -> Any:
    return (client or town.client()).get(f"/pay/{invoice.id}/wallet", params={"payer": payer})


def offer(town: Town, invoice: Invoice) -> dict[str, Any]:
    answer = asked(town, invoice)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def refused(town: Town, invoice: Invoice, client: TestClient | None = None) -> str:
    answer = asked(town, invoice, client=client)
    assert (answer.status_code, answer.json()["rule"]) == (422, "wallet"), answer.text
    # Neither is it offered on the page.
    page = (client or town.client()).get(f"/pay/{invoice.id}").text
    assert 'id="wallet"' not in page
    assert "wallet-page.js" not in page
    return str(answer.json()["why"])


def digest(typed_data: dict[str, Any]) -> bytes:
    """The 32 bytes that a wallet signs, by a library that is not ours."""
    return bytes(_hash_eip191_message(encode_typed_data(full_message=typed_data)))


def test_the_calls_are_those_that_the_routers_own_abi_makes(coin_town: AnvilTown):
    town, web3 = coin_town, coin_town.city.outside.web3
    router = web3.eth.contract(abi=load_artifact("PaymentRouter")["abi"])
    token = web3.eth.contract(abi=load_artifact("TestToken")["abi"])
    at = "0x" + town.city.plan.deployment.router.hex()
    for invoice, function in ((town.invoice(), "pay"), (coin_invoice(town), "payNative")):
        quote, _ = town.quote(invoice)
        quote = replace(quote, token=COIN) if function == "payNative" else quote
        signed = invoice.quote_signature
        assert signed is not None
        signature = Signature(b"", 0, signed[64], signed[:32], signed[32:64])
        told = offer(town, invoice)
        assert told["pay"] == {
            "to": at,
            "value": hex(invoice.due_minor if function == "payNative" else 0),
            "data": router.encode_abi(function, args=[quote.words(), signature.r, signature.vs]),
        }
        assert int(told["city"]) == city_part(invoice.due_minor, invoice.share_bps)
        if function == "payNative":
            assert (told["approve"], told["signs"]) == (None, [])
            continue
        allowed = token.encode_abi("approve", args=[web3.to_checksum_address(at), invoice.due_minor])
        assert told["approve"] == {"to": "0x" + town.token.hex(), "value": "0x0", "data": allowed}


def test_what_is_signed_is_what_the_router_and_the_relayer_take(town: Town):
    invoice = town.invoice()
    quote, _ = town.quote(invoice)
    deployment, chain = town.city.plan.deployment, town.city.worker.rail.pool
    separator = chain.ask(
        "eth_call", {"to": "0x" + town.token.hex(), "data": "0x3644e515"}, "latest"
    )  # DOMAIN_SEPARATOR()
    by_token, by_permit2 = offer(town, invoice)["signs"]
    assert (by_token["scheme"], by_permit2["scheme"]) == ("eip3009", "permit2")
    payer = bytes.fromhex(PAYER[2:])
    expected = authorization_digest(bytes.fromhex(separator[2:]), quote, payer, deployment.router)
    assert digest(by_token["typed_data"]) == expected
    nonce, city = int(by_permit2["nonce"]), city_part(quote.amount, quote.share_bps)
    assert by_permit2["typed_data"]["message"]["nonce"] == by_permit2["nonce"]
    assert digest(by_permit2["typed_data"]) == permit2_digest(
        deployment.chain_id, quote, city, nonce, deployment.router
    )
    # The API takes this nonce, and asking again gives the same.
    assert len(by_permit2["nonce"]) <= 39
    assert offer(town, invoice)["signs"][1]["nonce"] == by_permit2["nonce"]
    # Another invoice has another.
    assert offer(town, town.invoice())["signs"][1]["nonce"] != by_permit2["nonce"]


def test_what_a_wallet_signs_of_it_is_brought(town: Town):
    invoice, payer = town.invoice(), town.payer
    told = asked(town, invoice, payer.address).json()["signs"][0]
    signed = Account.sign_typed_data(payer.key, full_message=told["typed_data"])
    body = {"scheme": "eip3009", "payer": payer.address, "nonce": told["nonce"],
            "signature": "0x" + signed.signature.hex().removeprefix("0x")}  # fmt: skip
    answer = town.client().post(f"/v1/invoices/{invoice.id}/authorizations", json=body)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")


def test_nothing_that_is_the_merchants_own_is_told_to_strangers(town: Town):
    invoice = town.invoice(tiyn=777_777)
    answer = asked(town, invoice)
    told = answer.json()
    assert set(told) == MEMBERS
    assert answer.headers["cache-control"] == "no-store"
    with reading(town.city.gateway.engine) as connection:
        merchant = merchants.merchant(connection, town.merchant_id)
    assert merchant is not None
    for secret in (
        merchant.id,
        merchant.name,
        merchant.bin,
        merchant.iban,
        invoice.merchant_reference,
        "777777",
    ):
        assert secret not in answer.text, secret


def test_it_is_given_only_while_the_invoice_can_be_paid_whole(town: Town):
    paid, part, void, late = (town.invoice() for _ in range(4))
    offer(town, paid)
    town.pay(paid)
    town.deposit(part, part.due_minor // 2)
    town.poll()
    town.payments.void(void.id)
    assert "is paid" in refused(town, paid)
    assert str(part.due_minor // 2) in refused(town, part)
    assert "void" in refused(town, void)
    refused(town, town.bill("KZT"))
    offer(town, late)
    town.wait(901)
    assert "-1 s left" in refused(town, late)
    town.poll()
    assert "expired" in refused(town, late)
    for unknown in ("0" * 26, "nothing", "%00"):
        assert town.client().get(f"/pay/{unknown}/wallet", params={"payer": PAYER}).status_code == 404


def test_ff13_it_is_not_given_for_a_token_whose_term_is_over_nor_by_a_gateway_without_quotes(town: Town):
    invoice, gateway = town.invoice(), town.city.gateway
    refused(town, invoice, TestClient(create_app(replace(gateway, quotes=None))))
    assert gateway.quotes is not None
    place, router = gateway.quotes.place, town.city.plan.deployment.router
    gateway.quotes.place = Place(
        place.deployment, place.tokens, {(router, town.token): Term(0, town.city.clock())}
    )
    refused(town, invoice)
    gateway.quotes.place = place
    offer(town, invoice)


def test_a_gateway_that_does_not_see_the_chain_gives_none(town: Town):
    """It may have been paid already, and nobody here would know."""
    invoice = town.invoice()
    assert town.payments.limits is not None
    town.payments.limits.most = Most(lag_s=60, rate_age_s=900)
    offer(town, invoice)
    town.city.clock.wait(120)
    answer = asked(town, invoice)
    assert (answer.status_code, answer.json()["rule"]) == (503, "unavailable")
    town.wait(1)
    town.poll()
    offer(town, invoice)


def test_nothing_is_to_be_signed_where_nobody_brings_it_or_too_little_time_is_left(town: Town):
    invoice, gateway = town.invoice(), town.city.gateway
    alone = TestClient(create_app(replace(gateway, relayer=None)))
    assert asked(town, invoice, client=alone).json()["signs"] == []
    assert len(offer(town, invoice)["signs"]) == 2
    town.wait(900 - 30)
    told = offer(town, invoice)
    assert (told["signs"], told["left_s"]) == ([], 30)
    assert told["approve"] is not None


def test_who_pays_is_an_address_and_asks_so_often(town: Town):
    invoice, client = town.invoice(), town.client()
    for wrong in ("", "0x", "0x" + "1d" * 19, "1d" * 20, "0x" + "zz" * 20, PAYER + "00"):
        assert asked(town, invoice, wrong, client).status_code == 422
    town.stay_in_one_minute()
    statuses = [asked(town, invoice, client=client).status_code for _ in range(70)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


# --- what a token's payers sign in --------------------------------------------------------------------

TOKEN = b"\x70" * 20


class Node:
    """A node with one token on it, which answers what it is told to; what it has not is refused."""

    def __init__(self, **views: bytes) -> None:
        self.views = {keccak256(f"{name}()".encode())[:4].hex(): told for name, told in views.items()}
        self.views.setdefault(keccak256(b"authorizationState(address,bytes32)")[:4].hex(), bytes(32))
        self.count = 0

    def ask(self, _: str, asked: dict[str, str], __: str) -> str:
        """An eth_call."""
        self.count += 1
        found = self.views.get(asked["data"][2:10])
        if found is None:
            raise Refused("node", 3, "execution reverted")
        return "0x" + found.hex()


def text(value: str) -> bytes:
    return encode(["string"], [value])


def separator(name: str, version: str, chain_id: int = 1) -> bytes:
    return TokenDomain(name, version, chain_id, TOKEN).separator()


def domain(node: Node) -> TokenDomain | None:
    return Tokens(node, 1).domain(TOKEN)  # type: ignore[arg-type]


def test_the_domain_is_found_by_each_way_that_tokens_have_to_tell_it():
    described = encode(
        ["bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]"],
        [b"\x0f", "Tenge", "3", 1, "0x" + TOKEN.hex(), bytes(32), []],
    )
    for node, version in (
        (Node(DOMAIN_SEPARATOR=separator("Tenge", "3"), eip712Domain=described), "3"),
        (Node(DOMAIN_SEPARATOR=separator("Tenge", "2"), name=text("Tenge"), version=text("2")), "2"),
        (Node(DOMAIN_SEPARATOR=separator("Tenge", "1"), name=text("Tenge")), "1"),
        (Node(DOMAIN_SEPARATOR=separator("Tenge", "2"), name=text("Tenge")), "2"),
    ):
        assert domain(node) == TokenDomain("Tenge", version, 1, TOKEN)


def test_a_token_that_is_not_sure_to_take_eip_3009_is_not_signed_for():
    """A signature in a domain that is not the token's would be refused by it after the payer gave it."""
    good = {"DOMAIN_SEPARATOR": separator("Tenge", "1"), "name": text("Tenge"), "version": text("1")}
    assert domain(Node(**good)) is not None
    for change in (
        {"name": text("Other")},
        {"version": text("9")},
        {"name": b"\xff" * 32},
        {"DOMAIN_SEPARATOR": separator("Tenge", "1", chain_id=5)},
        {"DOMAIN_SEPARATOR": b""},
        {"DOMAIN_SEPARATOR": address_word(TOKEN)},
    ):
        assert domain(Node(**{**good, **change})) is None
    # EIP-2612 alone: it has a domain and no authorizations.
    permit = Node(**good)
    permit.views.pop(keccak256(b"authorizationState(address,bytes32)")[:4].hex())
    assert domain(permit) is None


def test_a_token_is_asked_once_and_a_node_that_does_not_answer_is_asked_again():
    node = Node(DOMAIN_SEPARATOR=separator("Tenge", "1"), name=text("Tenge"))
    tokens = Tokens(node, 1)  # type: ignore[arg-type]
    first = tokens.domain(TOKEN)
    count = node.count
    assert tokens.domain(TOKEN) == first
    assert node.count == count

    class Silent(Node):
        def ask(self, *_: object) -> str:
            raise Unavailable("chain", "no node answers")

    silent = Tokens(Silent(), 1)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        silent.domain(TOKEN)
    silent._pool = node  # type: ignore[assignment]
    assert silent.domain(TOKEN) == first


def test_what_the_page_holds_against_the_offer_is_what_the_offer_says(town: Town):
    invoice = town.invoice()
    found = re.search(r'data-page="([^"]+)"', town.client().get(f"/pay/{invoice.id}").text)
    assert found is not None
    page, told = json.loads(html.unescape(found[1])), offer(town, invoice)
    common = MEMBERS - {"left_s", "pay", "approve", "signs"}
    assert {name: page[name] for name in common} == {name: told[name] for name in common}
    assert set(page) - common == {"asset", "decimals", "is_coin", "shown"}
