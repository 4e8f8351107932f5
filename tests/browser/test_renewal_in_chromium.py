"""A payer whose time ran out makes the next bill: with a keyboard, on a phone, and without a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.demo import serving
from gateway.pages.words import load
from gateway.payments.store import Invoice
from tests.browser.test_pages_in_chromium import CONTRAST, FAULTS, PHONE, SOON_MS, Visit
from tests.gateway.conftest import Town, build, opened


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("renewal") / "city"
    build(folder)
    with opened(folder) as found:
        yield found


@pytest.fixture(scope="module")
def address(town: Town) -> Iterator[str]:
    with serving(town.city) as found:
        yield found


def check_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(FAULTS) == []
    assert page.evaluate(CONTRAST) == []


def of_a_link(town: Town) -> Invoice:
    links = town.city.gateway.links
    made = links.create(
        town.merchant_id, "Parking for a month", "206108", "USDT", None, reusable=True, expires_s=None
    )
    return links.pay(made.id, 1_250_000)


def run_out(town: Town) -> None:
    town.wait(901)
    town.poll()


def press_by_keyboard(page: Page) -> str:
    """Find the button by keyboard alone; returns the address of the bill that it leads to."""
    for _ in range(40):
        if page.evaluate("document.activeElement.id") == "again":
            break
        page.keyboard.press("Tab")
    expect(page.locator("#again")).to_be_focused()
    before = page.url
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url != before)
    return page.url


def test_an_open_page_finds_out_that_its_time_is_over_and_makes_the_next_bill_by_keyboard_on_a_phone(
    browser: Browser, town: Town, address: str
):
    old, context = of_a_link(town), browser.new_context(locale="kk", viewport=PHONE)  # type: ignore[arg-type]
    visit, words = Visit(context, address), load("kk")
    page = visit.open(f"/pay/{old.id}")
    expect(page.locator("#status")).to_have_text(words["status.open"])
    expect(page.locator("#again")).to_have_count(0)
    run_out(town)
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.locator("#again")).to_have_text(words["pay.again"], timeout=SOON_MS)
    check_fits(page)
    made = press_by_keyboard(page)
    expect(page.locator("#status")).to_have_text(words["status.open"])
    expect(page.locator("#copy-amount")).to_be_visible()
    # Who comes back to the old page and presses again is led to the same one.
    page = visit.open(f"/pay/{old.id}")
    assert press_by_keyboard(page) == made
    context.close()
    # Without a script too.
    context = browser.new_context(locale="ru", java_script_enabled=False)
    visit.page = context.new_page()
    page = visit.open(f"/pay/{old.id}")
    page.locator("#again").click()
    page.wait_for_url(made)
    context.close()
    assert visit.trouble == []
    assert town.status(old) == "expired"


def test_a_shops_page_is_one_click_away_from_what_ran_out(browser: Browser, town: Town, address: str):
    invoice = town.invoice(return_url="https://cafe.example:8443/orders/17")
    run_out(town)
    context = browser.new_context(locale="ru", viewport=PHONE)  # type: ignore[arg-type]
    visit = Visit(context, address)
    page = visit.open(f"/pay/{invoice.id}")
    link = page.locator("#return")
    expect(link).to_have_text("Вернуться на cafe.example:8443")
    expect(link).to_have_attribute("href", "https://cafe.example:8443/orders/17")
    expect(page.locator("#again")).to_have_count(0)
    check_fits(page)
    context.close()
    assert visit.trouble == []
