"""The pages for people: words, figures, checkout, receipts, errors; on a city made by the real code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Formatter

import httpx
import pytest
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from gateway import db
from gateway.app import create_app
from gateway.demo import steal
from gateway.eip55 import checksummed
from gateway.kz import format_tenge
from gateway.pages import assets, receipt
from gateway.pages.checkout import transfer_uri
from gateway.pages.city import Head, Signer
from gateway.pages.words import LANGUAGES, Tongue, load, plain, preferred
from gateway.payments.model import Status
from gateway.payments.service import Request
from ledger import rules
from ledger.proof import check_receipt, parse_receipt, parse_vkey
from ledger.publish import Publisher
from ledger.records import decode
from ledger.store import Anchored
from tests.page_city import PageCity, page_city

PAGES = Path(assets.__file__).parent
TAG = re.compile(r"<[^>]+>")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageCity]:
    with page_city(tmp_path_factory.mktemp("pages") / "city") as made:
        yield made


def text_of(answer: httpx.Response) -> str:
    """What a person reads, with single spaces; no-break spaces stay."""
    return re.sub(r"[ \n]+", " ", TAG.sub(" ", answer.text))


# --- words ------------------------------------------------------------------------------


def test_each_language_has_the_same_keys_and_none_is_empty():
    tables = {language: load(language) for language in LANGUAGES}
    assert len({frozenset(table) for table in tables.values()}) == 1
    assert not [key for table in tables.values() for key, text in table.items() if not text.strip()]


def test_a_translation_has_the_same_places_to_fill():
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    first = load("kk")
    for language in LANGUAGES:
        differing = [key for key, text in load(language).items() if places(text) != places(first[key])]
        # An expiry of days names the days in each language.
        assert differing == []


def test_kazakh_and_russian_are_written_and_not_copied_from_english():
    same_everywhere = {"asset.USDT", "flow.says.closing", "rate.percent"}
    for language in ("kk", "ru"):
        copied = {key for key, text in load(language).items() if text == load("en")[key]}
        assert copied == same_everywhere


@pytest.mark.parametrize(
    ("language", "as_of_an_account"), [("ru", "номер счёта(?! на оплату)"), ("kk", "шот нөмір")]
)
def test_the_number_of_a_bill_is_not_called_that_of_the_account_to_pay_to(
    language: str, as_of_an_account: str
):
    """In both languages one word is a bill and an account, and the page of a bill has the numbers of both."""
    found = {key for key, text in load(language).items() if re.search(as_of_an_account, text, re.IGNORECASE)}
    assert {key for key in found if not key.startswith("reason.K")} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_of_a_bill_in_tenge_says_which_number_goes_into_the_purpose(city: PageCity, language: str):
    bill = city.new_bill("KZT")
    assert "QZ" in Tongue(language)("pay.how.tenge.text")
    page = city.get(f"/pay/{bill}", language).text
    assert Tongue(language)("pay.how.tenge.text").replace("'", "&#39;") in page
    assert re.search(r"<code>QZ[0-9A-Z]{2} ", page)


def test_no_page_asks_for_words_that_are_not_there():
    sources = [*PAGES.glob("*.py"), *(PAGES / "templates").glob("*.html")]
    asked = {
        key
        for path in sources
        for key in re.findall(r"""(?<![\w.])t\(\s*["']([\w.]+[\w])["']\s*[,)]""", path.read_text("utf-8"))
    }
    asked |= {f"status.{status}{end}" for status in Status for end in ("", ".text")}
    asked |= {f"status.{part}{end}" for part in ("part", "refunded.part") for end in ("", ".text")}
    asked |= {f"receipt.waits.{status}" for status in Status}
    asked |= {f"step.{step}{end}" for step in receipt.STEPS for end in ("", ".what")}
    asked |= {f"place.{place}" for place in rules.PLACES} | {f"fund.{fund}" for fund in rules.FUNDS}
    asked |= {f"sector.{sector}" for sectors in rules.SECTORS.values() for sector in sectors}
    asked |= {
        f"js.{word}"
        for word in re.findall(r'words\["([\w.]+)"\]', (PAGES / "static/check-page.js").read_text())
    }
    assert len(asked) > 150
    assert asked - set(load("kk")) == set()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "kk"),
        ("de, fr;q=0.9", "kk"),
        ("ru-KZ,ru;q=0.9,en;q=0.8", "ru"),
        ("en;q=0.5, ru;q=0.75", "ru"),
        ("ru;q=0, en;q=0.001", "en"),
        ("ru;q=nonsense, en;q=0.1", "en"),
        ("EN-gb", "en"),
        ("kk;q=1.000,ru", "kk"),
    ],
)
def test_a_browser_is_answered_in_the_language_it_likes_best(header: str, language: str):
    assert preferred(header) == language


def test_a_language_that_was_chosen_is_remembered(city: PageCity):
    with httpx.Client(base_url=city.address, trust_env=False, timeout=60) as visitor:
        first = visitor.get("/fees", headers={"Accept-Language": "en"})
        assert '<html lang="en">' in first.text
        assert visitor.cookies.get("lang") is None
        assert '<html lang="ru">' in visitor.get("/fees?lang=ru", headers={"Accept-Language": "en"}).text
        again = visitor.get("/check", headers={"Accept-Language": "en"})
        assert '<html lang="ru">' in again.text
        assert again.headers["vary"] == "Accept-Language, Cookie"
        assert '<html lang="ru">' in visitor.get("/fees?lang=xx").text


def test_the_switch_of_languages_keeps_what_was_asked(city: PageCity):
    page = city.get("/fees?reference=QZ1").text
    assert 'href="?reference=QZ1&amp;lang=kk"' in page


@given(st.integers(min_value=-(10**40), max_value=10**40), st.integers(min_value=0, max_value=18))
def test_an_amount_is_written_without_losing_a_unit(minor: int, decimals: int):
    digits = plain(minor, decimals)
    whole, _, part = digits.partition(".")
    assert len(part) == decimals
    assert int(whole + part) == minor
    for language in LANGUAGES:
        shown = Tongue(language).amount(minor, "USDT", decimals)
        assert int("".join(c for c in shown if c.isdecimal() or c == "-")) == minor


def test_amounts_are_written_as_each_language_does():
    assert Tongue("ru").amount(1234567890, "USDT", 6) == "1\u00a0234,567890\u00a0USDT"
    assert Tongue("en").amount(1234567890123, "USDT", 6) == "1,234,567.890123\u00a0USDT"
    assert Tongue("kk").amount(123456789, "KZT", 2) == "1\u00a0234\u00a0567,89\u00a0₸"
    assert Tongue("ru").rate(51210, 10**6, 6) == "512,1000\u00a0KZT"
    assert Tongue("en").quantity(3500, 3) == "3.5"


def test_a_day_is_the_day_in_almaty():
    just_after_midnight = 1_785_438_000 - 1_785_438_000 % 86_400 - 5 * 3600
    assert Tongue("en").moment(just_after_midnight).endswith("00:00")
    assert Tongue("en").day(just_after_midnight) != Tongue("en").day(just_after_midnight - 1)


# --- the city -----------------------------------------------------------------------------


def test_the_city_shows_what_the_public_records_add_up_to(city: PageCity):
    page = text_of(city.get("/"))
    state = city.city.gateway.view.refresh()
    t = Tongue("en")
    lines = rules.totals(state)
    assert {(line.fund, line.asset) for line in lines} == {("RETAINED", "KZT"), ("RETAINED", "USDT")}
    for line in lines:
        decimals = state.assets[line.asset].decimals
        assert line.revenue - line.paid == line.closing == line.committed_unpaid + line.free
        for amount in (line.revenue, line.paid, line.closing, line.committed_unpaid, line.free):
            assert t.amount(amount, line.asset, decimals) in page
    assert "Came in: 108125 Residential parking, one year (sample)" in page
    assert "Paid for a project: Water main" in page


def test_private_investment_stands_apart_from_public_money(city: PageCity):
    page = city.get("/").text
    apart = re.search(r"<aside.*?</aside>", page, re.DOTALL)
    assert apart is not None
    assert format_tenge(180_000_000_000_000, "en") in apart.group()
    assert "not public money" in apart.group()
    assert format_tenge(180_000_000_000_000, "en") not in page.replace(apart.group(), "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_44_projects_stand_under_their_districts(city: PageCity, language: str):
    page = city.get("/", language).text
    told = json.loads((Path(assets.__file__).parents[1] / "budget/sample_projects.json").read_text())
    names = [project["names"][language] for project in told["projects"]]
    assert len(names) == 44
    listed = page[page.index('id="districts"') :]
    assert [name for name in names if name not in listed] == []
    # The one that money was allotted to shows its five totals; the nine others are a list.
    [five] = re.findall(r'<article class="card project">.*?</article>', page, re.DOTALL)
    assert five.count('scope="row"') == 5
    waiting = page[page.index('id="projects"') : page.index('id="districts"')].split("<details", 1)[1]
    assert waiting.count('scope="row"') == 9


def test_the_checkpoint_names_its_signers_and_where_it_is_anchored(city: PageCity):
    page = text_of(city.get("/"))
    note = city.http.get("/log/checkpoint").text
    size, root = note.split("\n")[1:3]
    anchors = city.http.get("/log/anchors.json").json()
    assert f"{int(size):,}" in page
    assert Head("", 0, b"", (), (), 0, 0).time_s == 0
    assert city.city.publisher.keys.origin in page
    assert "watcher.qazyna.sample" in page
    assert anchors[-1]["transaction"] in page
    assert checksummed(city.city.plan.deployment.anchor) in page
    assert root.encode() != b""
    for name in ("recorded", "witnessed", "anchored", "final"):
        assert f"</span> <strong>{name}</strong>" in re.sub(r"\s+", " ", city.get("/").text)


def test_an_exception_is_told(city: PageCity):
    assert "Payments may be taken directly in a crypto asset" in city.get("/").text


def test_figures_stop_where_the_public_checkpoint_does(city: PageCity):
    before = text_of(city.get("/"))
    size = city.city.writer.state.size
    city.day.rate()
    after = text_of(city.get("/"))
    assert city.city.writer.state.size == size + 1
    assert f"{size + 1:,} recorded" in after
    assert f"{size:,} witnessed" in after
    assert before.replace(f"{size:,} recorded", f"{size + 1:,} recorded") == after
    city.settle()


def test_a_breach_is_shown_to_everybody(city: PageCity, tmp_path: Path):
    folder = tmp_path / "stolen"
    position = steal(city.city, folder)
    engine = db.engine(f"sqlite:///{(city.city.folder / 'thief.db').resolve()}")
    db.create_all(engine)
    ours = city.city.gateway
    publisher = Publisher(folder, ours.publisher.keys, ours.publisher.trust)
    with TestClient(create_app(replace(ours, engine=engine, publisher=publisher))) as client:
        page = client.get("/?lang=en").text
    engine.dispose()
    assert "Records that break a rule: 1" in page
    assert re.search(f"<strong>M4</strong> [^<]+<small lang=.en.>record {position}: no flow leads", page)


# --- paying ---------------------------------------------------------------------------------


def test_a_bill_in_tenge_tells_all_that_a_bank_asks(city: PageCity):
    id = city.new_bill("KZT")
    invoice = city.city.gateway.payments.look(id)[0]
    page = city.get(f"/pay/{id}").text
    copied = re.findall(r'data-copy="([^"]+)"', page)
    assert copied == ["8650.00", city.city.plan.bank_iban, invoice.reference, "108125", "911", "11"]
    assert "Waiting for payment" in page
    assert page.count('src="data:image/svg+xml') == 1
    assert '<noscript><meta http-equiv="refresh"' in page


def test_a_bill_in_tokens_gives_a_wallet_the_whole_transfer(city: PageCity):
    id = city.new_bill("USDT")
    invoice = city.city.gateway.payments.look(id)[0]
    page = city.get(f"/pay/{id}").text
    assert invoice.deposit_address is not None
    token, to = city.city.plan.token, invoice.deposit_address
    copied = re.findall(r'data-copy="([^"]+)"', page)
    assert copied == [plain(invoice.due_minor, 6), checksummed(to), checksummed(token), "31337"]
    uri = transfer_uri(token, 31337, to, invoice.due_minor)
    assert uri == (
        f"ethereum:{to_checksum_address(token)}@31337/transfer"
        f"?address={to_checksum_address(to)}&uint256={invoice.due_minor}"
    )
    assert page.count('src="data:image/svg+xml') == 2
    assert "National Bank of Kazakhstan" in page
    quote = invoice.quote
    assert f"⌈{invoice.tiyn} × {quote['denominator']} × 10000 ÷ ({quote['numerator']} × 10000)⌉" in page
    numerator, denominator = int(quote["numerator"]), int(quote["denominator"])
    assert -(-invoice.tiyn * denominator // numerator) == invoice.due_minor


def test_a_bill_in_a_token_that_is_taken_no_more_asks_nobody_to_send_it(
    city: PageCity, monkeypatch: pytest.MonkeyPatch
):
    id = city.new_bill("USDT")
    invoice = city.city.gateway.payments.look(id)[0]
    assert city.city.gateway.quotes is not None
    monkeypatch.delitem(city.city.gateway.quotes.place.tokens, city.city.plan.token)
    page = city.get(f"/pay/{id}")
    assert page.status_code == 200
    assert checksummed(invoice.deposit_address or b"") not in page.text


def test_what_is_missing_is_what_the_page_asks_for(city: PageCity):
    id = city.new_bill("USDT")
    due = city.city.gateway.payments.look(id)[0].due_minor
    before = city.http.get(f"/pay/{id}/state").json()
    city.pay_tokens(id, 1_000_000)
    page, after = city.get(f"/pay/{id}").text, city.http.get(f"/pay/{id}/state").json()
    assert (after["paid"], after["missing"], after["notes"]) == (
        "1000000",
        str(due - 1_000_000),
        ["partially_paid"],
    )
    assert before["version"] != after["version"]
    assert f'data-copy="{plain(due - 1_000_000, 6)}"' in page
    assert "Still missing" in page
    city.pay_tokens(id, due - 1_000_000)
    city.settle()
    done = city.http.get(f"/pay/{id}/state").json()
    assert (done["status"], done["missing"], done["receipt"]) == ("final", "0", f"/receipt/{id}")
    page = city.get(f"/pay/{id}").text
    assert f'href="/receipt/{id}"' in page
    assert "data-copy" not in page


def test_an_expired_quote_can_no_longer_be_paid_from_the_page(city: PageCity):
    id = city.new_bill("USDT")
    open_version = city.http.get(f"/pay/{id}/state").json()["version"]
    city.day.wait(901)
    city.city.worker.round()
    page = city.get(f"/pay/{id}").text
    assert "data-copy" not in page
    assert "data:image" not in page
    assert "Do not pay with the old details" in page
    assert city.http.get(f"/pay/{id}/state").json()["version"] != open_version
    city.settle()


def test_the_state_is_never_kept_by_a_browser(city: PageCity):
    assert city.http.get(f"/pay/{city.bill}/state").headers["cache-control"] == "no-store"
    assert city.get(f"/pay/{city.bill}").headers["cache-control"] == "no-cache"


def test_what_a_merchant_writes_is_text_and_nothing_else(city: PageCity):
    title = "<script>alert(1)</script>\"'{{ 7 * 7 }}"
    invoice = city.city.gateway.payments.create(Request("108125", title, 100, "KZT"))
    for page in (city.get(f"/pay/{invoice.id}"), city.get(f"/receipt/{invoice.id}")):
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
        assert "49" not in re.findall(r"<h1>(.*?)</h1>", page.text)


# --- fees -------------------------------------------------------------------------------------


def test_the_catalogue_has_todays_prices(city: PageCity):
    page = text_of(city.get("/fees", "ru"))
    assert "8\u00a0650,00\u00a0₸" in page
    assert "15\u00a0137,50\u00a0₸" in page
    assert "× 3,5" in page
    assert "КБК 108125 · КНП 911 · КБе 11" in page


def test_a_fee_whose_code_has_no_rule_cannot_be_billed(city: PageCity):
    open_codes = city.city.gateway.view.refresh().revenue_rules
    closed = [
        fee
        for fee in ("trade-permit", "sign-board")
        if {"trade-permit": "105315", "sign-board": "105429"}[fee] not in open_codes
    ]
    for fee in closed:
        assert "cannot be paid here yet" in city.get(f"/fees/{fee}").text
        answer = city.http.post(
            f"/fees/{fee}", data={"asset": "KZT"}, headers={"Accept": "text/html", "Accept-Language": "en"}
        )
        assert answer.status_code == 422
        assert "This cannot be done" in answer.text
    assert "Make the bill" in city.get("/fees/parking-year").text


def test_a_form_with_another_asset_is_refused(city: PageCity):
    for data in ({"asset": "BTC"}, {"asset": "X" * 40}, {}):
        answer = city.http.post("/fees/parking-year", data=data, headers={"Accept": "text/html"})
        assert answer.status_code == 422
        assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("spelling", ["{0}", "  {1}  {2} ", "төлем № {3}"])
def test_a_lost_receipt_is_found_by_its_reference_however_it_is_typed(city: PageCity, spelling: str):
    reference = city.city.gateway.payments.look(city.bill)[0].reference
    cyrillic = reference.translate(str.maketrans("ABEKMHPCTX", "АВЕКМНРСТХ"))
    typed = spelling.format(reference, reference[:6].lower(), reference[6:], cyrillic)
    answer = city.http.get("/fees", params={"reference": typed})
    assert (answer.status_code, answer.headers.get("location")) == (303, f"/receipt/{city.bill}")


@pytest.mark.parametrize(
    "spelling",
    ["{id}", " {upper} ", "http://alatau.example/pay/{id}?lang=kk", "bill number {id}", "{grouped}"],
)
def test_a_lost_receipt_of_a_payment_in_crypto_is_found_by_the_number_of_its_bill(
    city: PageCity, spelling: str
):
    id = city.new_bill("USDT")
    grouped = " ".join(id[at : at + 4] for at in range(0, len(id), 4))
    typed = spelling.format(id=id, upper=id.upper(), grouped=grouped)
    answer = city.http.get("/fees", params={"reference": typed})
    assert (answer.status_code, answer.headers.get("location")) == (303, f"/receipt/{id}")
    assert f"<dt>Bill number</dt><dd><code>{id}</code>" in city.get(f"/receipt/{id}").text


def test_a_receipt_shows_what_it_is_found_by_and_no_reference_that_opens_nothing(city: PageCity):
    with db.reading(city.city.gateway.engine) as connection:
        sql = "SELECT id, reference FROM invoice WHERE merchant_reference = 'order-1'"
        [(id, reference)] = connection.exec_driver_sql(sql)
    page = city.get(f"/receipt/{id}").text
    assert (id in page, f"<code>{reference}</code>" in page) == (True, False)
    # A merchant's references are numbered: who counts through them learns nothing.
    assert city.http.get("/fees", params={"reference": reference}).status_code == 404
    own = city.city.gateway.payments.look(city.bill)[0].reference
    assert f"<code>{own}</code>" in city.get(f"/receipt/{city.bill}").text


@pytest.mark.parametrize("typed", ["", "QZ", "QZ0000000000AB", "x" * 5000, "1" * 26])
def test_a_reference_that_is_none_is_told_so(city: PageCity, typed: str):
    answer = city.http.get("/fees", params={"reference": typed}, headers={"Accept-Language": "en"})
    assert answer.status_code == 404
    assert "No payment has this reference" in answer.text


# --- receipts ---------------------------------------------------------------------------------


def test_a_receipt_says_what_was_paid_and_proves_it(city: PageCity):
    page, told = (
        text_of(city.get(f"/receipt/{city.bill}")),
        city.http.get(f"/receipt/{city.bill}.json").json(),
    )
    for shown in ("8,650.00", "108125", "911", "Residential parking", str(told["position"])):
        assert shown in page
    assert (told["kbk"], told["knp"], told["kbe"], told["amount"]) == ("108125", "911", "11", "865000")
    assert told["states"] == dict.fromkeys(receipt.STEPS, True)
    proof = city.http.get(told["proof"]).content
    trust = city.http.get("/log/trust.json").json()
    entry = parse_receipt(proof).extra
    checkpoint = check_receipt(proof, entry, [parse_vkey(vkey) for vkey in trust["vkeys"]], witnesses=1)
    assert (checkpoint.size, "0x" + checkpoint.root.hex()) == (
        told["checkpoint"]["size"],
        told["checkpoint"]["root"],
    )
    assert str(decode(entry).amount) == told["amount"]  # type: ignore[attr-defined]
    assert Tongue("en").day(told["time_s"]) in page


def test_a_receipt_says_on_the_same_page_where_the_money_went_and_what_it_paid_for(city: PageCity):
    def told(id: str) -> str:
        return text_of(city.get(f"/receipt/{id}")).replace("\N{NO-BREAK SPACE}", " ")

    bill = told(city.bill)
    assert "fund “Revenue the city keeps until 2050”. All the KZT there" in bill
    assert re.search(r"Came in KZT [\d,.]+ Paid for infrastructure KZT 0\.00 In the treasury KZT", bill)
    assert "Paid for a project" not in bill
    with db.reading(city.city.gateway.engine) as connection:
        sql = "SELECT id FROM invoice WHERE merchant_reference = 'order-1'"
        sale = connection.exec_driver_sql(sql).scalars().one()
    share = told(sale)
    # Spent is only what came in that asset; the link leads to the whole of it.
    assert "Paid for a project: Water main: 20.000000 USDT" in share
    assert 'href="/#money"' in city.get(f"/receipt/{sale}").text
    # Who paid a shop reads what was paid, and not the city's share alone.
    assert re.search(r"The city&#39;s share of this sale, as the ledger records it: 0\.24\d+ USDT", share)
    assert re.search(r"Paid 24\.\d+ USDT", share)


def test_a_receipt_that_is_not_recorded_says_what_it_waits_for(city: PageCity):
    id = city.new_bill("KZT")
    page = city.get(f"/receipt/{id}").text
    assert "It waits for the money" in page
    assert "check-here" not in page
    assert f"/v1/receipts/{id}" not in page
    told = city.http.get(f"/receipt/{id}.json").json()
    assert told["states"] == dict.fromkeys(receipt.STEPS, False)
    assert "proof" not in told
    before = city.http.get(f"/receipt/{id}/state").json()["version"]
    city.pay_tenge(id)
    assert city.http.get(f"/receipt/{id}/state").json()["version"] != before
    assert "check-here" in city.get(f"/receipt/{id}").text


def test_a_merchants_receipt_says_that_it_is_the_citys_share(city: PageCity):
    with db.reading(city.city.gateway.engine) as connection:
        ids = (
            connection.exec_driver_sql("SELECT id FROM invoice WHERE merchant_id IS NOT NULL").scalars().all()
        )
    assert ids
    page = city.get(f"/receipt/{ids[0]}").text
    assert "The city&#39;s share of this sale" in page
    assert "Sample café" in page


def test_each_step_stands_on_the_one_before():
    anchored = Anchored(1, b"", 8, b"", b"", 1, b"", 1)
    head = Head("o", 10, b"", (Signer("w", "witness", 1),), (anchored,), 8, 4)
    alone = replace(head, signers=())
    reached = {
        (None, head): 0,
        (10, head): 1,
        (9, head): 2,
        (7, head): 3,
        (3, head): 4,
        (3, alone): 1,
        (3, None): 1,
    }
    for (position, at), steps in reached.items():
        assert sum(done for _, done in receipt.steps_of(position, at)) == steps
    assert head.anchor_of(7) is anchored
    assert head.anchor_of(8) is None


# --- every page -----------------------------------------------------------------------------------


def addresses(city: PageCity) -> list[str]:
    unpaid = city.new_bill("USDT")
    return [
        "/",
        "/fees",
        "/fees?reference=QZ1",
        "/fees/parking-year",
        "/check",
        f"/pay/{unpaid}",
        f"/pay/{city.bill}",
        f"/receipt/{unpaid}",
        f"/receipt/{city.bill}",
        "/no-such-page",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_has_inline_code_or_something_from_elsewhere(city: PageCity, language: str):
    for address in addresses(city):
        answer = city.get(address, language)
        page = answer.text
        assert f'<html lang="{language}">' in page, address
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", page), address
        sources = re.findall(r'(?:src|action|<link[^>]*href)="([^"]*)"', page)
        assert all(source.startswith(("/", "data:image/svg+xml")) for source in sources), address
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        for landmark in ("<header", "<main", "<footer", "<nav", "<h1"):
            assert landmark in page, (address, landmark)
        assert page.count("<h1") == 1
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids)), address


def test_a_static_file_is_kept_for_ever_under_the_hash_of_its_content(city: PageCity):
    where = assets.asset("style.css")
    answer = city.http.get(where)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")
    digest = where.split("/")[2]
    assert city.http.get(where.replace(digest, "0" * 16)).status_code == 404
    assert city.http.get(f"/static/{digest}/..%2Froutes.py").status_code == 404


def test_the_script_knows_the_type_of_a_transfer(city: PageCity):
    from ledger.records import Transfer

    assert f'data-transfer="{Transfer.type_hash.hex()}"' in city.get("/check").text


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/no-such-page", "/pay/nothing", "/receipt/nothing", "/fees/nothing", "/log/nothing"]
)
def test_a_browser_gets_a_page_where_a_program_gets_a_problem(city: PageCity, path: str):
    page = city.get(path, "ru")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "Такой страницы нет" in page.text
    problem = city.http.get(path)
    assert problem.status_code == 404
    assert problem.headers["content-type"] == "application/problem+json"


def test_the_api_answers_a_browser_as_it_answers_programs(city: PageCity):
    answer = city.get("/v1/receipts/nothing")
    assert answer.headers["content-type"] == "application/problem+json"


def test_when_no_rate_is_believed_the_visitor_is_told_to_come_back(city: PageCity):
    city.city.clock.wait(120)
    rates = city.city.outside.rates
    stopped = replace(city.city.gateway, payments=_without_rates(city))
    assert rates is not None
    with TestClient(create_app(stopped)) as client:
        answer = client.post(
            "/fees/parking-year?lang=en", data={"asset": "USDT"}, headers={"Accept": "text/html"}
        )
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "Nothing is lost" in answer.text


def _without_rates(city: PageCity):
    from gateway.embedded import RATES
    from gateway.payments.service import Payments
    from gateway.rate_desk import RateDesk

    ours = city.city.gateway.payments
    # An hour on, so that the last good rate is too old as well.
    desk = RateDesk({"USDT": ()}, RATES, lambda: ours.clock() + 3_600, ours.engine)
    return Payments(ours.engine, ours.view, ours.clock, desk, ours.chain)
