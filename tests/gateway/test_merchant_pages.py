"""Pages for merchants, cashiers and operators: one gate, no password, no way in for another site."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from gateway.api.auth import door_of
from gateway.app import create_app
from gateway.eip55 import checksummed
from gateway.kz import business_date
from gateway.merchants.statements import service as statements
from gateway.pages import disputes, merchant, operator, session, shop, till, watch
from gateway.pages.merchant import units
from gateway.pages.plot import bars
from gateway.pages.session import PageRoute
from gateway.payments.refunds import Refunds
from gateway.payments.store import Origin
from ledger.records import Invalid
from tests.gateway.conftest import Town
from tests.gateway.test_api import walk
from tests.gateway.test_refunds import AsCoin, paid
from tests.gateway.test_unmatched import with_account_for_unmatched

PAGE = {"Accept": "text/html", "Accept-Language": "en"}
# Pages of the city, for everybody; and what everybody may do on pages of merchants.
CITY = {"/", "/pay/{id}", "/pay/{id}/state", "/fees", "/fees/{id}", "/receipt/{id}.json", "/receipt/{id}",
        "/receipt/{id}/state", "/receipt/{id}/promise-{number}.txt", "/check", "/static/{digest}/{name}", "/log/{path:path}"}  # fmt: skip
PUBLIC = {("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/sign-out"), ("GET", "/link/{id}"),
          ("POST", "/link/{id}"), ("GET", "/sandbox/pay/{id}"), ("GET", "/pay/{id}/wallet"), ("GET", "/problems/{rule}"),
          ("POST", "/pay/{id}/again")}  # fmt: skip
SCOPED = {
    ("GET", "/merchant"): "statements.read",
    ("GET", "/merchant/invoices/{id}"): "invoices.read",
    ("POST", "/merchant/invoices/{id}/void"): "invoices.write",
    ("POST", "/merchant/invoices/{id}/refunds"): "refunds.write",
    ("GET", "/merchant/money"): "statements.read",
    ("GET", "/merchant/statement"): "statements.read",
    ("POST", "/merchant/refunds/{id}/{what}"): "refunds.write",
    ("POST", "/merchant/refunds/{id}/transaction"): "refunds.write",
    ("POST", "/merchant/changes/{id}/cancel"): "merchant.write",
    ("POST", "/merchant/changes"): "merchant.write",
    ("GET", "/merchant/links"): "links.read",
    ("POST", "/merchant/links"): "links.write",
    ("POST", "/merchant/links/{id}/close"): "links.write",
    ("GET", "/merchant/statement.csv"): "statements.read",
    ("GET", "/merchant/keys/{id}/{what}"): "keys.read",
    ("GET", "/merchant/webhooks/{id}/{what}"): "webhooks.read",
    ("GET", "/merchant/webhooks"): "webhooks.read",
    ("POST", "/merchant/webhooks"): "webhooks.write",
    ("POST", "/merchant/webhooks/{id}/{what}"): "webhooks.write",
    ("POST", "/merchant/events/{id}/redeliver"): "webhooks.write",
    ("GET", "/merchant/keys"): "keys.read",
    ("POST", "/merchant/keys"): "keys.write",
    ("POST", "/merchant/keys/{id}/{what}"): "keys.write",
    ("GET", "/pos"): "invoices.write",
    ("POST", "/pos"): "invoices.write",
    ("GET", "/pos/{id}"): "invoices.read",
    ("GET", "/operator"): "unmatched.read",
    ("POST", "/operator/unmatched"): "unmatched.write",
    ("GET", "/operator/refunds"): "unmatched.read",
    ("POST", "/operator/refunds"): "unmatched.write",
    ("POST", "/operator/refunds/bill"): "unmatched.write",
    ("GET", "/operator/payouts"): "unmatched.read",
    ("POST", "/operator/payouts"): "unmatched.write",
}


class Visitor:
    """A browser without a screen: cookies, forms, and what they answer."""

    def __init__(self, town: Town) -> None:
        self.client = TestClient(create_app(town.city.gateway), follow_redirects=False)

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, headers=PAGE, **more)

    def post(self, path: str, data: dict[str, str] | None = None, **headers: str) -> Any:
        return self.client.post(path, data=data or {}, headers={**PAGE, **headers})

    def sign_in(self, key: str, next: str = "") -> Any:
        return self.post("/sign-in", {"key": key, "next": next})

    def token(self, path: str) -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.get(path).text)
        assert found is not None, path
        return found[1]

    def send(self, page: str, path: str, **data: str) -> Any:
        return self.post(path, {"token": self.token(page), **data})


@pytest.fixture
def owner(town: Town) -> Visitor:
    visitor = Visitor(town)
    assert visitor.sign_in(town.merchant_key).headers["location"] == "/merchant"
    return visitor


def test_ff49_every_page_has_one_door_or_is_named_public(town: Town):
    found: dict[tuple[str, str], str | None] = {}
    for path, methods, route in walk(create_app(town.city.gateway).router.routes):
        if path.startswith("/v1") or path in CITY:
            continue
        assert isinstance(route, PageRoute), path
        found |= {(method, path): door_of(route.dependant.dependencies).scope for method in methods}
    assert found == SCOPED | dict.fromkeys(PUBLIC)
    for part in (merchant, shop, till, operator, disputes):
        for route in part.router.routes:
            assert isinstance(route, APIRoute)
            assert type(route) is PageRoute


def test_ff49_no_page_opens_without_a_session_or_with_a_key_that_lacks_its_scope(town: Town):
    client = town.client()
    cashier = client.post("/v1/keys", json={"role": "cashier"}, headers=town.bearer).json()["key"]
    for (method, path), scope in SCOPED.items():
        url = path.replace("{id}", "none").replace("{what}", "none")
        nobody = Visitor(town)
        answer = nobody.get(url) if method == "GET" else nobody.post(url)
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in"), path
        # A program's header is no way into a page, as a cookie is none into the API.
        answer = nobody.client.request(method, url, headers=PAGE | town.bearer)
        assert answer.status_code == 303, path
        visitor = Visitor(town)
        assert visitor.sign_in(cashier).headers["location"] == "/pos"
        answer = visitor.get(url) if method == "GET" else visitor.send("/pos", url)
        if scope in {"invoices.read", "invoices.write", "links.read"}:
            assert answer.status_code != 403, path
        else:
            assert answer.status_code == 403, path


def test_a_cookie_is_sealed_and_closed_to_scripts_and_other_sites(town: Town):
    visitor = Visitor(town)
    set_cookie = visitor.sign_in(town.merchant_key).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in set_cookie.split(";")}
    assert town.merchant_key not in set_cookie
    assert town.merchant_key.split("_", 2)[2] not in set_cookie
    value = visitor.client.cookies["session"]
    for wrong in (value[:-4] + "AAAA", "x", value[: len(value) // 2], "x" * 5_000):
        other = Visitor(town)
        other.client.cookies.set("session", wrong)
        assert other.get("/merchant").status_code == 303
    # What is sealed for something else is no session.
    other = Visitor(town)
    other.client.cookies.set("session", town.city.gateway.sealer.seal("whsec_x").decode())
    assert other.get("/merchant").status_code == 303
    object.__setattr__(town.city.gateway, "public_url", "https://pay.example")
    assert "__Host-session=" in Visitor(town).sign_in(town.merchant_key).headers["set-cookie"]
    assert "Secure" in Visitor(town).sign_in(town.merchant_key).headers["set-cookie"]


def test_a_session_ends_with_its_key_with_time_and_with_signing_out(town: Town, owner: Visitor):
    key = town.client().post("/v1/keys", json={}, headers=town.bearer).json()
    second = Visitor(town)
    second.sign_in(key["key"])
    assert second.get("/merchant").status_code == 200
    town.client().delete(f"/v1/keys/{key['id']}", headers=town.bearer)
    assert second.get("/merchant").status_code == 303
    assert owner.get("/merchant").status_code == 200
    town.city.clock.wait(session.LIFETIME_S)
    assert owner.get("/merchant").status_code == 303
    owner.sign_in(town.merchant_key)
    assert owner.get("/merchant").status_code == 200
    owner.post("/sign-out")
    assert owner.get("/merchant").status_code == 303


def test_who_is_signed_out_reads_why_and_comes_back_to_the_same_page(town: Town, owner: Visitor):
    made = Visitor(town).get("/merchant/keys").headers["location"]
    assert made == "/sign-in?next=/merchant/keys"
    assert "You were signed out" not in owner.get(made).text
    key = (
        town.client().post("/v1/keys", json={"role": "owner", "lifetime_s": 600}, headers=town.bearer).json()
    )
    visitor = Visitor(town)
    visitor.sign_in(key["key"])
    token = visitor.token("/merchant/keys")
    town.city.clock.wait(601)
    sent = {"token": token, "role": "owner", "name": "late"}
    answer = visitor.post("/merchant/keys", sent, Referer="http://testserver/merchant/keys")
    assert answer.headers["location"] == "/sign-in?next=/merchant/keys&ended=form"
    assert "nothing was changed" in visitor.get(answer.headers["location"]).text
    assert "<strong>late</strong>" not in owner.get("/merchant/keys").text
    visitor = Visitor(town)
    visitor.sign_in(town.merchant_key)
    town.city.clock.wait(13 * 3600)
    answer = visitor.get("/merchant/money")
    assert answer.headers["location"] == "/sign-in?next=/merchant/money&ended=session"
    assert "12 hours are over" in visitor.get(answer.headers["location"]).text
    assert "You were signed out" not in visitor.get("/sign-in?ended=anything").text


def test_a_form_of_another_site_or_another_session_changes_nothing(town: Town, owner: Visitor):
    other = Visitor(town)
    other.sign_in(town.merchant_key)
    before = len(town.client().get("/v1/keys", headers=town.bearer).json()["keys"])
    for token in ("", "x", other.token("/merchant/keys")):
        answer = owner.post("/merchant/keys", {"token": token, "role": "owner"})
        assert answer.status_code == 403, token
    right = owner.token("/merchant/keys")
    answer = owner.post(
        "/merchant/keys", {"token": right, "role": "owner"}, **{"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 403
    assert (
        owner.post("/sign-in", {"key": town.merchant_key}, **{"Sec-Fetch-Site": "cross-site"}).status_code
        == 403
    )
    assert len(town.client().get("/v1/keys", headers=town.bearer).json()["keys"]) == before
    answer = owner.post("/merchant/keys", {"token": right, "role": "cashier", "name": "till"})
    assert answer.status_code == 200
    assert len(town.client().get("/v1/keys", headers=town.bearer).json()["keys"]) == before + 1


def test_who_signs_in_is_sent_only_to_a_place_of_ours(town: Town):
    town.stay_in_one_minute()
    for wrong in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "/a\r\nX: y"):
        assert Visitor(town).sign_in(town.merchant_key, wrong).headers["location"] == "/merchant"
    assert Visitor(town).sign_in(town.merchant_key, "/merchant/keys").headers["location"] == "/merchant/keys"
    assert Visitor(town).sign_in(town.operator_key).headers["location"] == "/operator"
    sandbox = town.client().post("/v1/keys", json={"sandbox": True}, headers=town.bearer).json()["key"]
    for wrong in ("", "x", town.merchant_key + "x", sandbox):
        answer = Visitor(town).sign_in(wrong)
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    town.city.gateway.limits.failures.most = 3
    answers = [Visitor(town).sign_in("qz_wrong_key").status_code for _ in range(3)]
    assert answers[-1] == 429


def test_a_sale_at_the_till_is_one_however_often_its_button_is_pressed(town: Town, owner: Visitor):
    once = re.search(r'name="once" value="([^"]+)"', owner.get("/pos").text)
    assert once is not None
    data = {"amount": "12 500,50", "asset": "USDT", "once": once[1]}
    first = owner.send("/pos", "/pos", **data)
    again = owner.send("/pos", "/pos", **data)
    assert first.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    id = first.headers["location"].rpartition("/")[2]
    invoice, _, _ = town.payments.look(id)
    assert (invoice.tiyn, invoice.origin) == (1_250_050, Origin.TILL)
    shown = owner.get(f"/pos/{id}").text
    assert "Waiting for payment" in shown
    assert "data:image/svg+xml" in shown
    town.pay(invoice)
    town.finalise()
    assert "You may hand over the goods" in owner.get(f"/pos/{id}").text
    for wrong in ({"once": "x"}, {"amount": "0"}, {"amount": "1,234"}, {"asset": "DOGE"}, {"amount": ""}):
        assert owner.send("/pos", "/pos", **{**data, "once": "0123456789", **wrong}).status_code == 422, wrong
    # What ran out is shown by the same version as the payer's page asks for: it is not loaded for ever.
    other = owner.send("/pos", "/pos", **{**data, "once": "9876543210"}).headers["location"]
    town.wait(901)
    town.poll()
    version = owner.get(f"/pay/{other.rpartition('/')[2]}/state").json()["version"]
    assert f'data-version="{version}"' in owner.get(other).text


def test_an_amount_is_read_as_people_write_it_and_never_rounded():
    for text, decimals, minor in (
        ("5", 2, 500),
        ("12 500,5", 2, 1_250_050),
        ("0.000001", 6, 1),
        ("1\u00a0000", 0, 1000),
    ):
        assert units(text, decimals) == minor
    for text in ("", ".", ",5", "1.234", "1,2,3", "-1", "+1", "1e3", "٧", "0", "9" * 40):
        with pytest.raises(Invalid):
            units(text, 2)


def test_money_by_day_is_drawn_to_scale(town: Town):
    drawn = bars({date(2026, 9, 18): 100, date(2026, 9, 17): 50}, date(2026, 9, 18), 30)
    assert [bar.tiyn for bar in drawn][-2:] == [50, 100]
    assert drawn[-2].height * 2 == drawn[-1].height
    assert {bar.y + bar.height for bar in drawn} == {drawn[0].y + drawn[0].height}
    assert len(bars({}, date(2026, 9, 18), 30)) == 30


def test_a_merchant_refunds_withdraws_and_sees_it_on_its_pages(town: Town, owner: Visitor):
    payer = town.city.keys.address("payer")
    paid, open_ = town.invoice(refund_to=payer), town.invoice()
    town.pay(paid)
    town.settle()
    page = f"/merchant/invoices/{paid.id}"
    once = re.search(r'name="once" value="([^"]+)"', owner.get(page).text)
    assert once is not None
    for _ in range(2):
        asked = owner.send(page, f"{page}/refunds", amount="1", once=once[1], why="cold")
        assert asked.headers["location"] == "/merchant/money"
    # Who lets it go reads why it was asked for.
    assert "Why: cold<" in owner.get("/merchant/money").text
    # Money that goes back was still paid: its receipt stays one click away.
    assert f'href="/receipt/{paid.id}"' in owner.get(f"/pay/{paid.id}").text
    [refund] = town.city.gateway.refunds.of(town.merchant_id, (1 << 62, ""), 10)  # type: ignore[union-attr]
    assert (refund.amount_minor, refund.receiver) == (1_000_000, payer)
    assert owner.send("/merchant/money", f"/merchant/refunds/{refund.id}/approve").status_code == 303
    money = owner.get("/merchant/money").text
    # To be opened on this device, and to be scanned from it.
    assert 'href="ethereum:0x' in money
    assert 'src="data:image/svg+xml' in money
    assert owner.send("/merchant/keys", f"/merchant/refunds/{refund.id}/cancel").status_code == 303
    page = f"/merchant/invoices/{open_.id}"
    owner.send(page, f"{page}/void")
    assert "Cancelled" in owner.get(page).text
    listed = owner.get("/merchant").text
    assert listed.count("/merchant/invoices/") == 2
    assert owner.get(f"/merchant/invoices/{town.bill().id}").status_code == 404


def test_a_transfer_is_one_payment_on_the_page_and_what_is_too_much_is_what_goes_back(
    town: Town, owner: Visitor
):
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    town.deposit(invoice, invoice.due_minor + 3_000_000)
    town.settle()
    assert sorted(one.kind.value for one in town.seen(invoice)) == ["deposit", "flush"]
    page = owner.get(f"/merchant/invoices/{invoice.id}").text
    # The flush moves the same money: it is no second payment.
    assert page.count("USDT · deposit address · final") == 1
    assert (
        page.partition("USDT · deposit address")[2].count(
            "The same money, passed on from the address · final"
        )
        == 1
    )
    assert 'value="3"' in page
    refund = {"amount": "3000000"}
    headers = {"Idempotency-Key": "r", **town.bearer}
    asked = town.client().post(f"/v1/invoices/{invoice.id}/refunds", json=refund, headers=headers)
    assert asked.status_code == 201
    page = owner.get(f"/merchant/invoices/{invoice.id}").text
    assert page.count('href="/merchant/money"') == 2, "the navigation, and the refund"


def test_a_refund_in_coin_is_named_by_its_transaction_on_the_page_and_by_the_api(town: Town):
    invoice, gateway = paid(town), town.city.gateway
    assert gateway.refunds is not None
    refunds = Refunds(town.payments, AsCoin(gateway.refunds._sight))
    town.city.gateway = replace(gateway, refunds=refunds)
    owner = Visitor(town)
    owner.sign_in(town.merchant_key)
    asked = [refunds.request("k", invoice.id, None, 1_000, None, key).id for key in "ab"]
    page = "/merchant/money"
    assert "/transaction" not in owner.get(page).text
    for id in asked:
        refunds.approve(id, "k")
    refused = owner.send(page, f"/merchant/refunds/{asked[0]}/transaction", transaction="0x5c")
    assert (refused.status_code, "4 characters" in refused.text) == (422, True)
    named = "0x" + "5c" * 32
    answer = owner.send(page, f"/merchant/refunds/{asked[0]}/transaction", transaction=f" {named} ")
    assert answer.status_code == 303
    assert refunds.look(asked[0]).reported == bytes.fromhex(named[2:])

    def name(id: str, transaction: str, bearer: dict[str, str] = town.bearer) -> int:
        body = {"transaction": transaction}
        answer = town.client().post(f"/v1/refunds/{id}/transaction", json=body, headers=bearer)
        return int(answer.status_code)

    assert name(asked[1], named) == 409
    assert name(asked[1], "0x5c") == 422
    assert name(asked[1], "0x" + "5d" * 32) == 200
    assert refunds.look(asked[1]).reported == b"\x5d" * 32
    assert name("r_none", named) == 404
    assert name(asked[1], named, town.operator) in {403, 404}


def test_a_change_of_wallet_is_seen_and_stopped_on_the_first_page(town: Town, owner: Visitor):
    wallet = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
    asked = town.client().post("/v1/merchant/changes", json={"wallet": wallet.lower()}, headers=town.bearer)
    page = owner.get("/merchant").text
    assert "about to change" in page
    # As wallets write addresses, so that two can be compared by eye (EIP-55).
    assert re.findall("0x[0-9a-fA-F]{40}", page) == [checksummed(town.city.keys.address("merchant")), wallet]
    owner.send("/merchant", f"/merchant/changes/{asked.json()['id']}/cancel")
    assert "about to change" not in owner.get("/merchant").text


def test_webhooks_are_added_tried_rotated_and_sent_again_on_a_page(town: Town, owner: Visitor):
    made = owner.send("/merchant/webhooks", "/merchant/webhooks", url="http://127.0.0.1:9/hook")
    assert "whsec_" in made.text
    assert "whsec_" not in owner.get("/merchant/webhooks").text
    [endpoint] = town.client().get("/v1/webhook-endpoints", headers=town.bearer).json()["endpoints"]
    url = f"/merchant/webhooks/{endpoint['id']}"
    assert owner.send("/merchant/webhooks", f"{url}/test").status_code == 303
    [event] = town.client().get("/v1/events", headers=town.bearer).json()["events"]
    assert event["type"] == "webhook.test"
    again = owner.send(
        "/merchant/webhooks", f"/merchant/events/{event['id']}/redeliver", endpoint=endpoint["id"]
    )
    assert again.status_code == 303
    assert "whsec_" in owner.send("/merchant/webhooks", f"{url}/rotate").text
    owner.send("/merchant/webhooks", f"{url}/disable")
    assert "disabled" in owner.get("/merchant/webhooks").text
    owner.send("/merchant/webhooks", f"{url}/enable")
    assert owner.send("/merchant/webhooks", f"{url}/explode").status_code == 404


def test_keys_are_made_rotated_and_revoked_on_a_page(town: Town, owner: Visitor):
    made = owner.send("/merchant/keys", "/merchant/keys", role="cashier", name="till 3")
    key = re.search(r"qz_[0-9a-f]{16}_[\w-]{43}", made.text)
    assert key is not None
    assert town.client().get("/v1/invoices", headers={"Authorization": f"Bearer {key[0]}"}).status_code == 200
    id = key[0].split("_")[1]
    assert key[0] not in owner.get("/merchant/keys").text
    rotated = owner.send("/merchant/keys", f"/merchant/keys/{id}/rotate")
    assert re.search(r"qz_[0-9a-f]{16}_[\w-]{43}", rotated.text)
    owner.send("/merchant/keys", f"/merchant/keys/{id}/revoke")
    assert town.client().get("/v1/invoices", headers={"Authorization": f"Bearer {key[0]}"}).status_code == 401
    operator = town.operator_key.split("_")[1]
    assert owner.send("/merchant/keys", f"/merchant/keys/{operator}/revoke").status_code == 404


@pytest.mark.parametrize(
    ("lifetime", "days"), [("30", 30), ("90", 90), ("365", 365), ("none", None), (None, 365)]
)
def test_a_key_made_on_a_page_ends_when_it_was_chosen_to(
    town: Town, owner: Visitor, lifetime: str | None, days: int | None
):
    form = owner.get("/merchant/keys").text
    assert re.findall(r'<option value="(\w+)"( selected)?>', form) == [
        ("30", ""), ("90", ""), ("365", " selected"), ("none", ""),
    ]  # fmt: skip
    asked = {} if lifetime is None else {"lifetime": lifetime}
    made = owner.send("/merchant/keys", "/merchant/keys", role="cashier", name="till 4", **asked)
    key = re.search(r"qz_[0-9a-f]{16}_[\w-]{43}", made.text)
    assert key is not None
    [listed] = [
        one
        for one in town.client().get("/v1/keys", headers=town.bearer).json()["keys"]
        if one["name"] == "till 4"
    ]
    now, bearer = town.city.clock(), {"Authorization": f"Bearer {key[0]}"}
    assert listed["expires_s"] == (None if days is None else now + days * 86_400)
    town.city.clock.wait((days or 3_660) * 86_400 - 1)
    assert town.client().get("/v1/invoices", headers=bearer).status_code == 200
    town.city.clock.wait(1)
    assert town.client().get("/v1/invoices", headers=bearer).status_code == (200 if days is None else 401)


def test_a_key_is_listed_as_it_begins_and_one_whose_time_is_over_says_so(town: Town, owner: Visitor):
    keys, page = "/merchant/keys", owner.get("/merchant/keys").text
    made = owner.send(keys, keys, role="owner", sandbox="1", lifetime="30").text
    [key] = re.findall(r">(qzsandbox_[0-9a-f]+)_[^<…]+<", made)
    assert f"<code>{key}_…</code>" in owner.get(keys).text
    assert "until" in owner.get(keys).text.partition(key)[0].rpartition("<article")[2]
    town.city.clock.wait(31 * 86_400)
    owner.sign_in(town.merchant_key)
    listed = owner.get(keys).text
    assert "ended" in listed.partition(key)[0].rpartition("<article")[2]
    assert "for a day more" in page


def test_the_answer_to_a_form_can_be_loaded_again_in_another_language(town: Town, owner: Visitor):
    hooks = "/merchant/webhooks"
    owner.send(hooks, hooks, url="http://127.0.0.1:9/hook")
    [endpoint] = town.client().get("/v1/webhook-endpoints", headers=town.bearer).json()["endpoints"]
    key = town.merchant_key.split("_")[1]
    for page, shown in (
        (hooks, f"{hooks}/{endpoint['id']}/rotate"),
        ("/merchant/keys", f"/merchant/keys/{key}/rotate"),
    ):
        answer = owner.send(page, shown)
        assert answer.status_code == 200
        assert 'href="?lang=kk"' in answer.text
        again = owner.get(f"{shown}?lang=kk")
        assert (again.status_code, again.headers["location"]) == (303, f"{page}?lang=kk")


def test_a_key_for_a_time_that_is_not_offered_is_not_made(town: Town, owner: Visitor):
    for wrong in ("31", "0", "-1", "9" * 60, "None"):
        answer = owner.send("/merchant/keys", "/merchant/keys", role="cashier", name="x", lifetime=wrong)
        assert (answer.status_code, "30, 90, 365, none" in answer.text) == (422, True), wrong
    assert "x" not in [
        one["name"] for one in town.client().get("/v1/keys", headers=town.bearer).json()["keys"]
    ]


def test_ff48_what_no_rule_could_place_is_settled_by_api_and_on_a_page(town: Town):
    with_account_for_unmatched(town)
    bill = town.bill()
    for _ in range(3):
        town.transfer_in_tenge(bill.tiyn, "no reference", payer_name="A Resident")
    town.take_bank_files()
    # What came is on the ledger, counted apart, before anybody decides.
    town.record()
    waiting = town.client().get("/v1/unmatched", headers=town.operator).json()["money"]
    visitor, api = Visitor(town), town.client()
    visitor.sign_in(town.operator_key)
    shown = visitor.get("/operator").text
    assert (len(waiting), shown.count('name="key"'), "A Resident" in shown) == (3, 3, False)
    first, second, third = (money["key"] for money in waiting)

    def decide(key: str, what: str, **more: str) -> int:
        sent = {"key": key, "what": what, "why": "he called", **more}
        answer = visitor.send("/operator", "/operator/unmatched", **sent)
        return int(answer.status_code)

    assert (decide(third, "explode"), decide(third, "assign", invoice="none")) == (422, 404)
    # By page: to the bill that it was meant for. By API: left where it is. By page: sent back.
    assert decide(first, "assign", invoice=bill.id) == 303
    assert town.status(bill) == "final"
    kept = api.post("/v1/unmatched/keep", json={"key": second, "why": "unknown"}, headers=town.operator)
    assert kept.status_code == 200
    assert decide(third, "refund", iban="KZ86125KZT5004100101") == 422
    assert decide(third, "refund", iban="KZ86 125K ZT50 0410 0100") == 303
    assert api.get("/v1/unmatched", headers=town.operator).json()["money"] == []
    assert "Nothing waits" in visitor.get("/operator").text
    # It is decided once, by whatever door.
    again = api.post("/v1/unmatched/keep", json={"key": first, "why": "x"}, headers=town.operator)
    assert again.status_code in {409, 422}


# --- ways on -----------------------------------------------------------------------------------------


def test_who_is_refused_reads_the_reason_at_once_and_goes_back_with_one_click(town: Town, owner: Visitor):
    refused = owner.post("/pos", {"token": owner.token("/pos"), "once": "x"}, referer="http://testserver/pos")
    assert refused.status_code == 422
    assert '<details class="card" open>' in refused.text
    assert '<a class="button" href="/pos">Go back</a>' in refused.text
    # Never to another site's page, and not where nothing was sent.
    for before in ("https://evil.example/pos", "http://testserver//evil.example", "", "nonsense"):
        answer = owner.post("/pos", {"token": owner.token("/pos")}, referer=before)
        assert "Go back" not in answer.text, before
    assert "Go back" not in owner.get("/pos/none").text
    forbidden = owner.post("/merchant/keys", {"token": "x"})
    assert (forbidden.status_code, "This key may not do this" in forbidden.text) == (403, True)


def test_who_is_refused_while_signed_in_keeps_the_own_pages_and_reads_what_was_wrong(
    town: Town, owner: Visitor
):
    operator = Visitor(town)
    operator.sign_in(town.operator_key)
    town.transfer_in_tenge(900, "no reference")
    town.take_bank_files()
    [key] = [one.key for one in town.unmatched()]
    wrong = {
        "key": key,
        "what": "assign",
        "invoice": "nothing",
        "why": "x",
        "token": operator.token("/operator"),
    }
    answer = operator.post("/operator/unmatched", wrong, Referer="http://testserver/operator")
    assert answer.status_code == 404
    # The page is there; the invoice is not.
    assert "There is no such page" not in answer.text
    assert "No invoice has this number. Check it." in answer.text
    assert 'href="/operator"' in answer.text.partition("</header>")[0]
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    town.pay(invoice)
    town.settle()
    page = f"/merchant/invoices/{invoice.id}"
    refused = owner.send(page, f"{page}/refunds", amount="999999", once="o", why="")
    assert "This is more than can be refunded." in refused.text
    assert 'href="/merchant/money"' in refused.text
    assert 'href="/fees"' not in refused.text
    cashier = town.client().post("/v1/keys", json={"role": "cashier"}, headers=town.bearer).json()["key"]
    visitor = Visitor(town)
    visitor.sign_in(cashier)
    refused = visitor.get("/merchant/money").text
    assert '<a class="button" href="/sign-in">' in refused
    # Who is refused one page is still signed in, and has the own ones.
    assert re.findall('<a href="(/[a-z/]*)"', refused.partition("</header>")[0]) == [
        "/pos",
        "/merchant/links",
    ]
    assert refused.count("may not do this") == 2, "the title of the window and of the page"
    assert "There is no such page" in visitor.get("/merchant/nothing").text


def test_a_refusal_is_read_in_another_language_at_the_page_of_its_form(town: Town, owner: Visitor):
    wrong = {"field": "iban", "value": "KZ1", "token": owner.token("/merchant/money")}
    refused = owner.post("/merchant/changes", wrong, Referer="http://testserver/merchant/money")
    assert refused.status_code == 422
    found = re.search(r'<a href="([^"]*)" lang="ru"', refused.text)
    assert found is not None
    assert found[1] == "/merchant/money?lang=ru"
    assert '<html lang="ru">' in owner.get(found[1]).text
    # A page that was only opened stays where it is.
    assert '<a href="?lang=ru" lang="ru"' in owner.get("/merchant/money").text


def test_a_key_is_revoked_only_after_it_was_said_what_follows(town: Town, owner: Visitor):
    made = town.client().post("/v1/keys", json={"name": "till"}, headers=town.bearer).json()
    page = owner.get("/merchant/keys").text
    for id, words in (
        (made["id"], "stops working at once"),
        (town.merchant_key.split("_")[1], "you are signed in with"),
    ):
        form = re.search(rf'<details><summary>Revoke</summary>\s*<form action="/merchant/keys/{id}/revoke".*?</form>', page, re.DOTALL)  # fmt: skip
        assert form is not None
        assert words in form[0]


def test_a_payer_whose_time_is_over_is_told_what_to_do_instead(town: Town):
    visitor, sale, fee = Visitor(town), town.invoice(), town.bill("USDT")
    town.wait(1_000)
    town.poll()
    assert "Ask the payee for a new bill" in visitor.get(f"/pay/{sale.id}").text
    text = visitor.get(f"/pay/{fee.id}").text
    assert f'<form action="/pay/{fee.id}/again" method="post">' in text
    assert '<a class="alone" href="/fees/parking-year">Choose another way of paying' in text


def test_only_pages_of_public_figures_say_that_anybody_can_compute_them(town: Town, owner: Visitor):
    public, private = Visitor(town).get("/fees").text, owner.get("/merchant").text
    claim = "Anybody can compute every figure"
    assert (claim in public, claim in private) == (True, False)
    assert 'href="/sign-in"' in public
    assert owner.get("/fees").headers["referrer-policy"] == "same-origin"


def test_the_first_day_of_a_drawing_is_named_inside_it():
    drawn = bars({date(2026, 9, 18): 100}, date(2026, 9, 18), 30)
    labelled = [bar for bar in drawn if bar.is_labelled]
    assert (labelled[0].anchor, labelled[0].label_x) == ("start", labelled[0].x)
    assert {bar.anchor for bar in labelled[1:]} == {"end"}


# --- a merchant's own house -------------------------------------------------------------------------


def test_an_amount_that_is_refused_stands_in_the_form_to_be_mended(town: Town):
    asked = {"title": "Parking", "asset": "USDT"}
    link = town.client().post("/v1/payment-links", json=asked, headers=town.bearer).json()["id"]
    refused = Visitor(town).post(f"/link/{link}", {"amount": '12,345"'})
    assert refused.status_code == 422
    assert 'value="12,345&#34;"' in refused.text


def test_a_payment_link_is_made_printed_paid_and_closed_on_pages(town: Town, owner: Visitor):
    for data in ({"amount": "12 500"}, {"amount": "", "once": "1"}):
        assert (
            owner.send(
                "/merchant/links", "/merchant/links", title="Parking", asset="USDT", **data
            ).status_code
            == 303
        )
    listed = town.client().get("/v1/payment-links", headers=town.bearer).json()["links"]
    assert sorted((one["amount"], one["reusable"]) for one in listed if one["amount"]) == [("1250000", True)]
    assert [one["reusable"] for one in listed if one["amount"] is None] == [False]
    page = owner.get("/merchant/links").text
    for one in listed:
        assert f"/link/{one['id']}</code>" in page
    assert page.count("data:image/svg+xml") == 2
    [priced] = [one for one in listed if one["amount"]]
    assert Visitor(town).post(f"/link/{priced['id']}").headers["location"].startswith("/pay/")
    owner.send("/merchant/links", f"/merchant/links/{priced['id']}/close")
    assert "This link is closed" in owner.get(f"/link/{priced['id']}").text
    assert owner.send("/merchant/links", "/merchant/links/pl_none/close").status_code == 404
    for wrong in ({"title": " "}, {"amount": "0"}, {"amount": "x"}, {"asset": "DOGE"}):
        asked = {"title": "Tea", "amount": "1", "asset": "USDT"} | wrong
        assert owner.send("/merchant/links", "/merchant/links", **asked).status_code == 422, wrong


def test_the_payments_of_some_days_of_almaty_are_downloaded_whole_from_the_statement(
    town: Town, owner: Visitor, monkeypatch: pytest.MonkeyPatch
):
    # More lines than one reading gives: nothing is lost between two, and there is one heading.
    monkeypatch.setattr(statements, "ROWS_MOST", 2)
    for _ in range(5):
        town.pay(town.invoice())
    town.settle()
    today = business_date(town.city.clock())
    first = today.replace(day=1)
    assert 'href="/merchant/statement"' in owner.get("/merchant/money").text
    page = owner.get("/merchant/statement").text
    days = f"first={first}&amp;last={today}"
    assert f'href="/merchant/statement.csv?{days}"' in page
    assert "August 2026" in page
    answer = owner.get(f"/merchant/statement.csv?first={first}&last={today}")
    assert answer.headers["content-disposition"] == f'attachment; filename="payments-{first}-{today}.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    told = town.client().get("/v1/statements", headers=town.bearer).json()["lines"]
    assert len(rows) == 5
    assert [row["evidence"] for row in rows] == [line["evidence"] for line in told]
    assert owner.get("/merchant/statement.csv").text == answer.text
    before = "first=2025-12-01&last=2025-12-31"
    assert len(owner.get(f"/merchant/statement.csv?{before}").text.splitlines()) == 1
    for wrong in (
        "first=2026-02-30",
        "last=2026",
        "first=1999-12-31",
        "first=x",
        "first=2026-02-02&last=2026-02-01",
    ):
        for path in ("/merchant/statement", "/merchant/statement.csv"):
            assert owner.get(f"{path}?{wrong}").status_code == 422, (path, wrong)


def test_where_money_goes_is_changed_on_a_page_after_48_hours_and_not_before(town: Town, owner: Visitor):
    wallet, iban = "0x" + "66" * 20, "KZ86125KZT5004100100"
    for field, value in (
        ("wallet", wallet),
        ("iban", "kz86 125K ZT50 0410 0100"),
        ("contact", "a@shop.example"),
    ):
        answer = owner.send("/merchant/money", "/merchant/changes", field=field, value=value)
        assert answer.headers["location"] == "/merchant", field
    waiting = owner.get("/merchant").text
    assert waiting.count("is about to change") == 3
    # Of a first contact nothing is said that it was.
    assert "It becomes a@shop.example." in waiting
    assert "From  to" not in waiting
    before = owner.get("/merchant/money").text
    assert before.count("is about to change") == 3
    assert f"<code>{iban}</code>" not in before
    for wrong in ({"field": "wallet", "value": "0x66"}, {"field": "wallet", "value": "0x" + "00" * 20},
                  {"field": "iban", "value": "KZ00"}, {"field": "name", "value": "x"}, {"field": "contact", "value": "x"}):  # fmt: skip
        assert owner.send("/merchant/money", "/merchant/changes", **wrong).status_code == 422, wrong
    town.city.clock.wait(48 * 3600)
    owner.sign_in(town.merchant_key)
    after = owner.get("/merchant/money").text
    assert f"<code>{iban}</code>" in after
    assert "0x" + "66" * 20 in after
    assert "is about to change" not in after


def test_older_refunds_and_settlements_are_one_click_away(
    town: Town, owner: Visitor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(merchant, "ROWS", 1)
    sold = [town.invoice(refund_to=town.city.keys.address("payer")) for _ in range(2)]
    for invoice in sold:
        town.pay(invoice)
        town.settle()
        town.wait(60)
    for invoice in sold:
        body, headers = {"amount": "1"}, {"Idempotency-Key": invoice.id, **town.bearer}
        assert town.client().post(f"/v1/invoices/{invoice.id}/refunds", json=body, headers=headers).is_success
    for place in ("after", "refunds_after"):
        seen, page = set(), "/merchant/money"
        for _ in range(2):
            text = owner.get(page).text
            seen |= {one.id for one in sold if f"/merchant/invoices/{one.id}" in text}
            older = re.search(rf'href="(\?{place}=[^"]+)"', text)
            page = f"/merchant/money{older[1]}" if older else ""
        assert seen == {one.id for one in sold}, place


def test_an_operator_sees_what_waits_for_too_long(town: Town, owner: Visitor):
    operator, queues_of = Visitor(town), watch.queues
    operator.sign_in(town.operator_key)
    owner.send("/merchant/webhooks", "/merchant/webhooks", url="http://127.0.0.1:9/hook")
    town.invoice()
    fresh = {one.key: one for one in queues_of(town.city.gateway)}
    assert set(fresh) == {"webhooks", "letters", "inbox", "hidden", "calls"}
    assert (fresh["webhooks"].count, fresh["webhooks"].is_stuck) == (1, False)
    assert "stuck" not in operator.get("/operator").text
    town.city.clock.wait(601)
    assert [one.key for one in queues_of(town.city.gateway) if one.is_stuck] == ["webhooks"]
    page = operator.get("/operator").text
    assert page.count('<span class="badge dead">stuck</span>') == 1
    assert ">10 min</td>" in page


def test_why_money_waits_is_told_in_the_readers_language(town: Town):
    operator = Visitor(town)
    operator.sign_in(town.operator_key)
    town.transfer_in_tenge(700, "no reference")
    town.take_bank_files()
    for language, words in (("kk", "шот аталмаған"), ("ru", "Не назван счёт"), ("en", "It names no invoice")):
        assert words in operator.get(f"/operator?lang={language}").text


def test_the_page_of_a_kind_of_error_says_what_the_rule_is_about(town: Town):
    assert "This refund cannot be made so." in Visitor(town).get("/problems/P6").text
    assert "A rule refuses this." in Visitor(town).get("/problems/nothing").text
