"""The pages of merchants and operators in a real browser: on a phone, in three languages, without script."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from gateway.demo import serving
from gateway.payments import disputes
from gateway.payments.store import settlements as rows
from gateway.payments.store.settlements import Payout, PayoutState
from gateway.vasp.messages import Confirmation, Instruction, Said
from tests.browser.accessible import FAULTS
from tests.browser.test_pages_in_chromium import CONTRAST, DESKTOP, PHONE, Visit
from tests.gateway.conftest import MERCHANT_IBAN, Town, build, opened


@dataclass
class Shop:
    """A served town with money, a refund, an endpoint, a change that waits, and money of nobody."""

    town: Town
    address: str
    invoice: str
    cashier: str
    link: str
    others: list[str]

    def sign_in(self, visit: Visit, key: str) -> None:
        page = visit.open("/sign-in")
        page.fill("#key", key)
        page.click("main button[type=submit]")
        page.wait_for_url(lambda url: "/sign-in" not in url)


def dispute(town: Town) -> None:
    """A payout that waits for an operator, and one that is paid and was contradicted since."""
    now = town.city.clock()
    with town.city.gateway.engine.begin() as connection:
        for id, state in (("p_" + "a" * 24, PayoutState.INSTRUCTED), ("p_" + "b" * 24, PayoutState.PAID)):
            payout = Payout(
                id, town.merchant_id, "vasp", "USDT", 1_234_567_890, MERCHANT_IBAN, state, 1, now, now, now
            )
            rows.add_payout(connection, payout, [], "key_1")
            ordered = Instruction(id, "USDT", payout.amount_minor, MERCHANT_IBAN)
            told = Confirmation(ordered, Said.PAID, 123_456_789, 1, 1, 10, "KZ" + "0" * 62, now).encode()
            rows.add_message(connection, sha256(told).digest(), "vasp", id, told, "", "", now)
            disputes.dispute(
                connection, payout, "at that rate this is 123456789 tiyn, not 1 and a fee of 0", now
            )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop") / "city"
    build(folder)
    with opened(folder) as town, serving(town.city) as address:
        with httpx.Client(base_url=address, headers=town.bearer, trust_env=False, timeout=60) as http:
            invoice = town.invoice(refund_to=town.city.keys.address("payer"))
            town.pay(invoice)
            part, over, late, gone = town.invoice(), town.invoice(), town.invoice(), town.invoice()
            town.deposit(part, 5)
            town.deposit(over, over.due_minor + 3_000_000)
            town.payments.void(gone.id)
            town.settle()
            town.transfer_in_tenge(700, "no reference")
            town.take_bank_files()
            (town.city.bank_folder / "bad.xml").write_bytes(b"<html>")
            town.take_bank_files()
            http.post("/v1/webhook-endpoints", json={"url": "http://127.0.0.1:9/a-rather-long-address/hook"})
            http.post("/v1/merchant/changes", json={"wallet": "0x" + "66" * 20})
            refund = {"amount": "1000000"}
            made = http.post(
                f"/v1/invoices/{invoice.id}/refunds", json=refund, headers={"Idempotency-Key": "r"}
            )
            http.post(f"/v1/refunds/{made.json()['id']}/approve")
            cashier = http.post("/v1/keys", json={"role": "cashier", "name": "till 2"}).json()["key"]
            sandbox_key = http.post("/v1/keys", json={"sandbox": True}).json()["key"]
            tried = http.post(
                "/v1/invoices",
                json={"amount": "1250000", "asset": "USDT", "reference": "o-1", "title": "Tea"},
                headers={"Authorization": f"Bearer {sandbox_key}"},
            ).json()
            link = http.post("/v1/payment-links", json={"title": "Parking", "asset": "USDT"}).json()["id"]
            town.wait(1_000)
            town.poll()
            waiting = town.invoice()
            dispute(town)
            others = [f"/sandbox/pay/{tried['id']}"]
            others += [f"/pay/{one.id}" for one in (part, over, late, gone, waiting)]
            others += [f"/pos/{one.id}" for one in (part, waiting)]
            others += [f"/merchant/invoices/{one.id}" for one in (part, waiting)]
            others += [f"/receipt/{over.id}", "/link/pl_none"]
        yield Shop(town, address, invoice.id, cashier, link, others)


def visit_of(browser: Browser, shop: Shop, **options: object) -> tuple[BrowserContext, Visit]:
    context = browser.new_context(**options)  # type: ignore[arg-type]
    return context, Visit(context, shop.address)


@pytest.mark.parametrize(
    ("language", "scheme", "size"),
    [("kk", "dark", PHONE), ("ru", "light", PHONE), ("en", "light", DESKTOP), ("en", "dark", PHONE)],
)
def test_every_page_fits_speaks_its_language_and_stands_out(
    browser: Browser, shop: Shop, language: str, scheme: str, size: dict[str, int]
):
    context, visit = visit_of(browser, shop, locale=language, viewport=size, color_scheme=scheme)
    mine = ["/sign-in", "/merchant", f"/merchant/invoices/{shop.invoice}", "/merchant/money", "/merchant/statement", "/merchant/webhooks",
            "/merchant/links", "/merchant/keys", "/pos", f"/link/{shop.link}", "/problems/key", *shop.others]  # fmt: skip
    for key, addresses in (
        (shop.town.merchant_key, mine),
        (shop.town.operator_key, ["/operator", "/operator/refunds", "/operator/payouts"]),
    ):
        shop.sign_in(visit, key)
        for address in addresses:
            page = visit.open(address)
            page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size["width"], (address, wide)
            assert page.evaluate("document.documentElement.lang") == language
            assert page.evaluate(CONTRAST) == [], address
            assert page.evaluate(FAULTS) == [], address
        context.clear_cookies(name="session")
    context.close()
    assert visit.trouble == []


def test_an_operator_frees_a_payout_only_with_a_tick_and_a_reason(browser: Browser, shop: Shop):
    context, visit = visit_of(browser, shop, locale="en", viewport=PHONE, has_touch=True)
    shop.sign_in(visit, shop.town.operator_key)
    page = visit.open("/operator")
    page.get_by_role("link", name="Disputed payouts").click()
    form = page.locator("details", has_text="It was not paid: pay it out again")
    form.locator("summary").click()
    form.get_by_label("Why").fill("their letter 17 says so")
    form.get_by_role("button").click()
    # The browser holds it back: nothing was sent, and the dispute stands.
    assert form.locator("input:invalid").get_attribute("name") == "sure"
    form.get_by_label("has confirmed in writing").check()
    form.get_by_role("button").click()
    expect(page.get_by_role("status")).to_contain_text("it was not paid")
    expect(page.get_by_text("No payout is disputed.")).to_be_visible()
    context.close()
    assert visit.trouble == []


def test_a_cashier_takes_a_payment_with_the_pad_and_sees_it_come(browser: Browser, shop: Shop):
    context, visit = visit_of(browser, shop, locale="en", viewport=PHONE, has_touch=True)
    shop.sign_in(visit, shop.cashier)
    page = visit.page
    assert page.url.endswith("/pos")
    # Of the other pages a cashier sees nothing, not even their names.
    expect(page.locator(".places a")).to_have_text(["Till", "Links"])
    for digit in ("1", "2", "5", "0", "0", "back", "0", ",", "5"):
        page.locator(f"[data-digit='{digit}']").click()
    expect(page.locator("#amount")).to_have_value("12 500,5")
    page.locator("button.go").click()
    page.wait_for_url("**/pos/*")
    expect(page.locator("h1")).to_contain_text("12,500.50")
    expect(page.locator(".till-code img").first).to_be_visible()
    # It fits a phone without scrolling to the code.
    assert page.locator(".till-code img").first.bounding_box()["y"] < PHONE["height"] - 320  # type: ignore[index]
    invoice, _, _ = shop.town.payments.look(page.url.rpartition("/")[2])
    shop.town.pay(invoice)
    shop.town.finalise()
    expect(page.locator("#status")).to_have_text("Payment complete")
    expect(page.locator(".till-done")).to_be_visible()
    context.close()
    assert visit.trouble == []


def test_a_merchant_signs_in_makes_a_key_and_takes_money_without_script(browser: Browser, shop: Shop):
    context, visit = visit_of(browser, shop, locale="en", java_script_enabled=False)
    shop.sign_in(visit, shop.town.merchant_key)
    page = visit.page
    page.goto(f"{shop.address}/merchant/keys")
    page.fill("#name", "bookkeeping")
    page.click("main form.card button[type=submit]")
    expect(page.locator("#secret")).to_have_text(re.compile("^qz_"))
    page.goto(f"{shop.address}/pos")
    page.fill("#amount", "90")
    page.click("button.go")
    page.wait_for_url("**/pos/*")
    expect(page.locator(".till-code img").first).to_be_visible()
    page.goto(f"{shop.address}/link/{shop.link}")
    page.fill("#amount", "150")
    page.click("main button[type=submit]")
    page.wait_for_url("**/pay/*")
    expect(page.locator(".codes img")).to_have_count(2)
    context.close()


def test_a_session_is_out_of_reach_of_scripts_and_the_keyboard_reaches_everything(
    browser: Browser, shop: Shop
):
    context, visit = visit_of(browser, shop, locale="en", viewport=DESKTOP)
    shop.sign_in(visit, shop.town.merchant_key)
    page = visit.open("/merchant/keys")
    assert page.evaluate("document.cookie") == ""
    [cookie] = [one for one in context.cookies() if one["name"] == "session"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.innerText || document.activeElement.name || ''"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        # After the last one the browser's own frame has its turn.
        at_end = page.evaluate("document.activeElement === document.body")
        assert at_end or outline != "none", page.evaluate("document.activeElement.outerHTML")
    assert {"Desk", "Till", "Sign out", "name", "Make the key", "Rotate", "Revoke"} <= reached
    context.close()
    assert visit.trouble == []


def test_screenshots_are_taken_where_they_are_asked_for(browser: Browser, shop: Shop, tmp_path: Path):
    """QAZYNA_SCREENSHOTS names a folder; a person looks at them."""
    folder = Path(os.environ.get("QAZYNA_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(exist_ok=True)
    for name, size in (("phone", PHONE), ("desktop", DESKTOP)):
        context, visit = visit_of(browser, shop, locale="en", viewport=size)
        shop.sign_in(visit, shop.town.merchant_key)
        for address in ("/merchant", "/pos", "/merchant/money"):
            taken = folder / f"{name}{address.replace('/', '-')}.png"
            visit.open(address).screenshot(path=str(taken), full_page=True)
            assert taken.stat().st_size > 10_000
        context.close()
    if "QAZYNA_SCREENSHOTS" not in os.environ:
        shutil.rmtree(folder)
