"""The pages in a real browser: what a script changes, what a check finds, what fits on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
)

from gateway.pages.words import LANGUAGES, load
from tests.browser.accessible import FAULTS
from tests.browser.conftest import SOON_MS, chromium
from tests.page_city import PageCity, page_city

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageCity]:
    with page_city(tmp_path_factory.mktemp("browser") / "city") as made:
        yield made


class Visit:
    """A visitor: pages opened in one context, and all that went wrong in them."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context, self.address = context, address
        self.trouble: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(SOON_MS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("requestfailed", self._failed)

    def _heard(self, message: ConsoleMessage) -> None:
        text = f"{message.type}: {message.text}"
        # That a page of an error has the status of an error is meant.
        if message.type in {"error", "warning"} and "status of 404" not in text:
            self.trouble.append(text)

    def _failed(self, request: Request) -> None:
        # Who leaves a page stops what it was asking.
        if request.failure != "net::ERR_ABORTED":
            self.trouble.append(f"{request.failure}: {request.url}")

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    def open_in_no_time(self, path: str) -> Page:
        """Open a page for which time stands still: it does nothing by itself any more."""
        self.page.clock.install(time=0)
        self.open(path)
        self.page.wait_for_load_state("networkidle")
        self.page.clock.pause_at(1)
        return self.page


def look_again(page: Page) -> None:
    """What a person does who comes back to a page: it asks at once, and not in three seconds."""
    page.evaluate("window.dispatchEvent(new Event('focus'))")


@pytest.fixture
def visit(browser: Browser, city: PageCity) -> Iterator[Visit]:
    context = browser.new_context(locale="en-GB", viewport=DESKTOP)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=city.address)
    found = Visit(context, city.address)
    yield found
    context.close()
    assert found.trouble == []


def addresses(city: PageCity) -> list[str]:
    tenge, tokens = city.new_bill("KZT"), city.new_bill("USDT")
    return [
        "/", "/fees", "/fees?reference=QZ1", "/fees/parking-year", "/check", f"/pay/{tenge}", f"/pay/{tokens}",
        f"/pay/{city.bill}", f"/receipt/{tenge}", f"/receipt/{city.bill}", "/no-such-page",
    ]  # fmt: skip


@pytest.mark.parametrize(("language", "scheme"), [("kk", "light"), ("ru", "dark"), ("en", "light")])
def test_every_page_fits_a_phone_of_360_pixels_and_is_for_everybody(
    browser: Browser, city: PageCity, language: str, scheme: str
):
    context = browser.new_context(locale=language, viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    visit = Visit(context, city.address)
    for address in addresses(city):
        page = visit.open(address)
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], (address, wide)
        assert page.evaluate("document.documentElement.lang") == language
        assert page.evaluate(FAULTS) == [], address
    context.close()
    assert visit.trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser: Browser, city: PageCity, scheme: str):
    context = browser.new_context(locale="en", viewport=DESKTOP, color_scheme=scheme)  # type: ignore[arg-type]
    visit = Visit(context, city.address)
    for address in addresses(city):
        faint = visit.open(address).evaluate(CONTRAST)
        assert faint == [], address
    context.close()


# WCAG 2.2, 1.4.3: 4.5 to 1 for text, 3 to 1 for large text.
CONTRAST = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor, alpha = parts(color)[3];
      if (alpha === undefined || alpha === 1) return color;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg")) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(style.color), light(ground(element))].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} ${element.textContent.trim().slice(0, 40)}`);
  }
  return faint;
}"""


def test_a_fee_is_paid_by_keyboard_alone_and_the_page_follows_without_loading_again(
    visit: Visit, city: PageCity
):
    page = visit.open("/fees/parking-year")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(20):
        if page.evaluate("document.activeElement.type") == "radio":
            break
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/pay/*")
    status = page.locator("#status")
    expect(status).to_have_text("Waiting for payment")
    page.evaluate("window.sameDocument = true; document.getElementById('copy-iban').focus()")
    city.pay_tenge(page.url.rpartition("/")[2])
    expect(status).to_have_text("Payment complete")
    assert status.get_attribute("role") == "status"
    expect(page.locator("#copy-iban")).to_have_count(0)
    assert page.evaluate("window.sameDocument") is True
    assert page.title().startswith("Payment complete")
    page.locator("#receipt-link").click()
    expect(page.locator("h1")).to_have_text("Receipt")


def test_part_of_a_payment_changes_what_is_asked_for(visit: Visit, city: PageCity):
    id = city.new_bill("USDT")
    page = visit.open(f"/pay/{id}")
    due = page.locator("#copy-amount").get_attribute("data-copy")
    assert due is not None
    code = page.locator(".codes img").first.get_attribute("src")
    expect(page.locator("[data-expires]")).to_have_text(re.compile("15:00|14:[0-5][0-9]"))
    page.locator("#copy-address").focus()
    city.pay_tokens(id, 1_000_000)
    expect(page.locator(".note.warn").first).to_contain_text("Still missing")
    left = page.locator("#copy-amount").get_attribute("data-copy")
    assert left is not None
    assert int(due.replace(".", "")) - int(left.replace(".", "")) == 1_000_000
    assert page.locator(".codes img").first.get_attribute("src") != code
    # Who was about to press a button still is.
    assert page.evaluate("document.activeElement.id") == "copy-address"
    city.pay_tokens(id, int(left.replace(".", "")))
    city.settle()
    look_again(page)
    expect(page.locator("#status")).to_have_text("Payment complete")


def test_a_page_that_was_away_asks_at_once_when_it_comes_back(visit: Visit, city: PageCity):
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page = visit.open_in_no_time(f"/pay/{city.new_bill('KZT')}")
    assert "state" not in asked
    with page.expect_response("**/state"):
        look_again(page)
    assert asked.count("state") == 1


def test_a_lost_connection_is_told_and_found_again(browser: Browser, city: PageCity):
    context = browser.new_context(locale="en")
    visit = Visit(context, city.address)
    page = visit.open(f"/pay/{city.new_bill('KZT')}")
    expect(page.locator("#trouble")).to_be_hidden()
    context.set_offline(True)
    expect(page.locator("#trouble")).to_be_visible()
    context.set_offline(False)
    expect(page.locator("#trouble")).to_be_hidden()
    context.close()


def test_a_field_is_copied_as_programs_take_it(visit: Visit, city: PageCity):
    # After a while a button says again what it said before.
    page = visit.open_in_no_time(f"/pay/{city.new_bill('KZT')}")
    for field, value in (("amount", "8650.00"), ("iban", city.city.plan.bank_iban)):
        button = page.locator(f"#copy-{field}")
        button.click()
        expect(button).to_contain_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == value


def test_the_language_is_switched_and_stays(visit: Visit):
    page = visit.open("/")
    expect(page.locator("h1")).to_have_text("The treasury of Alatau")
    page.locator(".tongues a[lang=kk]").click()
    expect(page.locator("h1")).to_have_text("Алатау қаласының қазынасы")
    page.locator(".places a").nth(1).click()
    expect(page.locator("h1")).to_have_text("Қала алымдары")
    assert page.evaluate("document.documentElement.lang") == "kk"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_receipt_is_checked_on_its_own_page(browser: Browser, city: PageCity, language: str):
    context = browser.new_context(locale=language)
    visit = Visit(context, city.address)
    page = visit.open(f"/receipt/{city.bill}")
    page.locator("#check-here").click()
    result = page.locator("#result")
    expect(result).to_have_attribute("data-verdict", "good")
    words = load(language)
    expect(result).to_contain_text(words["js.verdict.good"])
    expect(result.locator("li.good")).to_have_count(5)
    # What was not checked is said as plainly.
    expect(result.locator("li.unsure")).to_have_text(
        [f"–{words['js.state.null']}: {words[f'js.{key}.null']}" for key in ("quantum", "chain")]
    )
    group, mark = (",", ".") if language == "en" else ("\u00a0", ",")
    expect(result).to_contain_text(f"8{group}650{mark}00\u00a0KZT")
    # A browser without the months of a language names none by its number in English.
    expect(result).not_to_contain_text(re.compile(r"\bM\d\d\b"))
    if language == "kk":
        expect(result).to_contain_text(re.compile(r"\d\d\.\d\d\.2026, \d\d:\d\d|2026 ж"))
    context.close()
    assert visit.trouble == []


def proof_of(city: PageCity) -> bytes:
    return city.http.get(f"/v1/receipts/{city.bill}").content


def upload(page: Page, content: bytes) -> str:
    """Give the page a file; answers its verdict."""
    page.evaluate("delete document.getElementById('result').dataset.verdict")
    page.locator("#file").set_input_files(
        {"name": "receipt.txt", "mimeType": "text/plain", "buffer": content}
    )
    page.wait_for_selector("#result[data-verdict]")
    verdict = page.locator("#result").get_attribute("data-verdict")
    assert verdict is not None
    return verdict


def test_a_receipt_is_checked_from_a_file_or_a_paste_without_a_network(visit: Visit, city: PageCity):
    page = visit.open("/check")
    page.wait_for_load_state("networkidle")
    visit.context.set_offline(True)
    assert upload(page, proof_of(city)) == "good"
    page.locator("#pasted").fill(proof_of(city).decode())
    page.locator("#check-pasted").click()
    expect(page.locator("#result")).to_have_attribute("data-verdict", "good")
    visit.context.set_offline(False)


def test_no_changed_byte_of_a_receipt_passes(visit: Visit, city: PageCity):
    page = visit.open("/check")
    proof = proof_of(city)
    # A byte in each 11, and the last one: the heading, the record, the index, the path, size, root, all signatures.
    places = [*range(0, len(proof), 11), len(proof) - 1]
    answers = page.evaluate(FLIPPED, [list(proof), places, city.http.get("/log/trust.json").text])
    # The ML-DSA line is told as not checked, whatever stands in it; everything else must be refused.
    lines = proof.split(b"\n")
    unchecked = max(lines, key=lambda line: len(line) if line.startswith("—".encode()) else 0)
    start = proof.index(unchecked)
    passed = [place for place, verdict in zip(places, answers, strict=True) if verdict != "bad"]
    assert len(places) > 300
    assert [place for place in passed if not start <= place <= start + len(unchecked)] == []
    assert upload(page, proof) == "good"
    assert upload(page, proof.replace(b"index 4", b"index 3")) == "bad"
    assert upload(page, proof + b"\n") == "bad"
    assert upload(page, b"") == "bad"


FLIPPED = """async ([bytes, places, trust]) => {
  const source = [...document.scripts].find((script) => script.src.endsWith("check-page.js")).src;
  const { checkReceipt, parseKeys } = await import(source.replace("check-page.js", "check.js"));
  const keys = await parseKeys(trust), answers = [];
  for (const place of places) {
    const changed = Uint8Array.from(bytes);
    changed[place] ^= 1;
    answers.push((await checkReceipt(changed, keys)).verdict);
  }
  return answers;
}"""


def test_a_receipt_needs_the_log_and_a_witness(visit: Visit, city: PageCity):
    page = visit.open("/check")
    vkeys = city.http.get("/log/trust.json").json()["vkeys"]
    page.locator("summary").click()
    keys = page.locator("#keys")
    keys.fill("\n".join(vkeys))
    assert upload(page, proof_of(city)) == "good"
    expect(page.locator("#result")).to_contain_text("The keys are those that you pasted")
    for lacking in (0, 2):
        keys.fill("\n".join(vkey for place, vkey in enumerate(vkeys) if place != lacking))
        assert upload(page, proof_of(city)) == "bad"
    keys.fill(json.dumps({"vkeys": vkeys}))
    assert upload(page, proof_of(city)) == "good"
    keys.fill(vkeys[0].replace("+", "+0", 1))
    assert upload(page, proof_of(city)) == "error"


def test_every_proof_that_the_rules_of_trees_know_is_decided_alike(visit: Visit, vectors: Path):
    page = visit.open("/check")
    cases = INCLUSION_CASES
    answers = page.evaluate(ROOTS, cases)
    assert answers == [root for *_, root in cases]
    assert vectors.is_dir()


def _inclusion_cases() -> list[list[object]]:
    """Trees of 1 to 33 leaves: each leaf with its path, and the root that ledger/proof.py computes."""
    from ledger.proof import inclusion_path, leaf_hash, root_of

    cases: list[list[object]] = []
    for size in (1, 2, 3, 5, 7, 8, 13, 33):
        leaves = [leaf_hash(bytes([at])) for at in range(size)]
        for index in range(size):
            path = [list(value) for value in inclusion_path(index, leaves)]
            cases.append([index, size, path, root_of(leaves).hex()])
        # A path that is a hash too long or too short leads nowhere.
        cases.append([0, size, [[0] * 32] * (len(inclusion_path(0, leaves)) + 1), None])
        if size > 1:
            cases.append([0, size, [], None])
        cases.append([size, size, [], None])
    return cases


INCLUSION_CASES = _inclusion_cases()
ROOTS = """async (cases) => {
  const source = [...document.scripts].find((script) => script.src.endsWith("check-page.js")).src;
  const { rootOf, toHex } = await import(source.replace("check-page.js", "check.js"));
  return Promise.all(cases.map(async ([index, size, path]) => {
    try {
      const hashes = path.map((hash) => Uint8Array.from(hash));
      return toHex(await rootOf(Uint8Array.of(index), BigInt(index), BigInt(size), hashes));
    } catch { return null; }
  }));
}"""


def test_the_pages_serve_without_script(browser: Browser, city: PageCity):
    context = browser.new_context(locale="en", java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{city.address}/fees/parking-year")
    page.locator("button[type=submit]").click()
    page.wait_for_url("**/pay/*")
    expect(page.locator("#copy-iban")).to_be_hidden()
    expect(page.locator(".codes img")).to_have_count(1)
    city.pay_tenge(page.url.rpartition("/")[2])
    page.reload()
    page.locator("#receipt-link").click()
    expect(page.locator(".steps .done").nth(2)).to_be_visible()
    context.close()


def test_a_receipt_prints_as_a_document(browser: Browser, city: PageCity):
    context = browser.new_context(locale="kk")
    page = context.new_page()
    page.goto(f"{city.address}/receipt/{city.bill}")
    page.emulate_media(media="print")
    expect(page.locator(".top")).to_be_hidden()
    expect(page.locator("#checker")).to_be_hidden()
    expect(page.locator(".print-only")).to_be_visible()
    # On paper there is no ground, and a dark screen prints as a light one.
    for scheme in ("light", "dark"):
        page.emulate_media(media="print", color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate(CONTRAST) == [], scheme
        for mark in page.locator(".steps .mark").all():
            style = mark.evaluate(
                "(one) => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]"
            )
            assert style == ["rgb(0, 0, 0)", "rgba(0, 0, 0, 0)"], scheme
    assert page.pdf().startswith(b"%PDF")
    context.close()


def test_a_machine_without_a_browser_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(RuntimeError, match="set CHROMIUM"):
        chromium()
