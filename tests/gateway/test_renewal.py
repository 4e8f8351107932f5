"""A bill that ran out unpaid has a next one, once, and none while money may be on its way."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any

import pytest

from gateway.city_fees import service as city_fees
from gateway.city_fees.catalogue import fee
from gateway.pages.checkout import renewal_of
from gateway.pages.words import LANGUAGES, load
from gateway.payments.return_url import RETURN_URL_MOST
from gateway.payments.service import Request
from gateway.payments.store import Invoice, Origin
from gateway.relayer.service import Progress
from gateway.renewal import Renewable
from ledger.records import Invalid
from tests.gateway.conftest import Town
from tests.gateway.test_relayer import drop_all, signed

SHOP = "https://cafe.example/orders/17?paid=1#top"
LINK = {"title": "Parking for a month", "asset": "USDT"}


def page(town: Town, id: str, language: str = "en") -> str:
    answer = town.client().get(f"/pay/{id}", headers={"Accept": "text/html", "Accept-Language": language})
    assert answer.status_code == 200
    return str(answer.text)


def press(town: Town, id: str, **headers: str) -> str:
    """Press the button, without a script; returns where it leads."""
    answer = town.client().post(f"/pay/{id}/again", headers=headers, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"]).removeprefix("/pay/")


def run_out(town: Town, seconds: int = 901) -> None:
    town.wait(seconds)
    town.poll()


def renewable(town: Town, id: str) -> Renewable:
    return renewal_of(town.city.gateway).of(*town.payments.look(id))


def is_offered(text: str, id: str) -> bool:
    return f'<form action="/pay/{id}/again" method="post">' in text


def link(town: Town, **more: Any) -> tuple[str, Invoice]:
    answer = town.client().post("/v1/payment-links", json=LINK | more, headers=town.bearer)
    assert answer.status_code == 201, answer.text
    id = answer.json()["id"]
    return id, town.city.gateway.links.pay(id, 777_700)


def test_a_city_fee_that_ran_out_has_one_next_bill_however_often_the_button_is_pressed(town: Town):
    old = town.bill("USDT")
    assert not is_offered(page(town, old.id), old.id)
    assert press(town, old.id) == old.id
    run_out(town)
    for language in LANGUAGES:
        text = page(town, old.id, language)
        assert is_offered(text, old.id)
        assert load(language)["pay.again"] in text
    next_id = press(town, old.id)
    assert press(town, old.id) == next_id != old.id
    new, derived, _ = town.payments.look(next_id)
    assert (new.title, new.asset, new.tiyn, derived.status.value) == (old.title, "USDT", old.tiyn, "open")
    assert (town.status(old), town.payments.look(old.id)[0].expires_s) == ("expired", old.expires_s)
    # The next one runs out as well, and has its own next one; the first still leads to the second.
    run_out(town)
    last = press(town, next_id)
    assert (press(town, old.id), len({old.id, next_id, last})) == (next_id, 3)


def test_a_next_bill_stays_the_next_one_when_the_fee_has_another_price_meanwhile(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    old = town.bill("USDT")
    run_out(town)
    next_id = press(town, old.id)
    today = fee(old.title)
    dearer = replace(today, coefficient_thousandths=2 * today.coefficient_thousandths)
    monkeypatch.setattr(city_fees, "fee", lambda _: dearer)
    assert press(town, old.id) == next_id
    run_out(town)
    assert town.payments.look(press(town, next_id))[0].tiyn == 2 * old.tiyn


def test_of_many_presses_at_once_one_bill_is_made(town: Town):
    bill = town.bill("USDT")
    _, sale = link(town)
    run_out(town)
    renewal = renewal_of(town.city.gateway)

    def renew(old: str, found: list[str]) -> None:
        found.append(renewal.renew(old).id)

    for old in (bill, sale):
        found: list[str] = []
        threads = [threading.Thread(target=renew, args=(old.id, found)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(found), len(set(found))) == (6, 1)
        assert old.id not in found


@pytest.mark.parametrize("reusable", [True, False])
def test_an_invoice_of_a_payment_link_is_made_again_with_its_amount_and_reference(town: Town, reusable: bool):
    _, old = link(town, reusable=reusable)
    run_out(town)
    assert is_offered(page(town, old.id), old.id)
    new, derived, _ = town.payments.look(press(town, old.id))
    assert (new.tiyn, new.merchant_reference, new.title) == (777_700, old.merchant_reference, old.title)
    assert (new.attempt, new.payee, derived.status.value, town.status(old)) == (
        1,
        old.payee,
        "open",
        "expired",
    )
    assert press(town, old.id) == new.id
    # It is paid: the old page leads there still, and nothing new is made.
    town.pay(new)
    town.finalise()
    assert press(town, old.id) == new.id
    assert town.status(old) == "expired"


def test_a_link_that_was_closed_makes_nothing_again_and_what_was_withdrawn_neither(town: Town):
    id, old = link(town)
    _, withdrawn = link(town)
    _, followed = link(town)
    run_out(town)
    town.city.gateway.links.close(town.merchant_id, id)
    town.payments.void(withdrawn.id)
    assert load("en")["pay.ask"] in page(town, old.id)
    town.payments.void(press(town, followed.id))
    for one in (old, withdrawn, followed):
        assert press(town, one.id) == one.id
        with pytest.raises(Invalid) as refused:
            renewal_of(town.city.gateway).renew(one.id)
        assert refused.value.rule == "renewal"


def test_a_sale_at_the_till_is_made_again_for_a_day_and_not_for_ever(town: Town):
    old = town.invoice(origin=Origin.TILL, merchant_reference="pos-0123456789")
    late = town.invoice(origin=Origin.TILL, merchant_reference="pos-9876543210")
    run_out(town)
    new, _, _ = town.payments.look(press(town, old.id))
    assert (new.tiyn, new.merchant_reference, new.origin) == (old.tiyn, "pos-0123456789", Origin.TILL)
    assert renewable(town, late.id) is Renewable.OFFERED
    run_out(town, 86_400)
    assert renewable(town, late.id) is Renewable.NO


def test_ff07_nothing_is_made_again_while_the_chain_was_not_seen_up_to_the_end(town: Town):
    """The time is over by the clock; whether it was paid in time nobody here knows."""
    bill = town.bill("USDT")
    town.wait(901)
    assert not is_offered(page(town, bill.id), bill.id)
    assert press(town, bill.id) == bill.id
    town.poll()
    assert press(town, bill.id) != bill.id


def test_nothing_is_made_again_while_money_for_the_old_one_is_here_or_on_its_way(town: Town):
    part, late, brought = (town.bill("USDT") for _ in range(3))
    town.deposit(part, part.due_minor // 2)
    relayer = town.city.gateway.relayer
    assert relayer is not None
    told = relayer.authorize(brought.id, signed(town, brought))
    run_out(town)
    town.deposit(late)
    town.poll()
    for one in (part, late, brought):
        text = page(town, one.id)
        assert not is_offered(text, one.id), one
        assert press(town, one.id) == one.id
    assert load("en")["pay.waiting"] in page(town, brought.id)
    before = town.client().get(f"/pay/{brought.id}/state").json()["version"]
    # The chain takes no quote whose time is over: the sender gives up, and then there is nothing on its way.
    drop_all(town)
    assert relayer.look(brought.id, told.id).progress is Progress.FAILED
    assert town.client().get(f"/pay/{brought.id}/state").json()["version"] != before
    assert press(town, brought.id) != brought.id


def test_another_sites_form_makes_nothing_again_and_one_address_makes_few(town: Town):
    bill = town.bill("USDT")
    run_out(town)
    client = town.client()
    path, foreign = f"/pay/{bill.id}/again", {"sec-fetch-site": "cross-site"}
    assert client.post(path, headers=foreign, follow_redirects=False).status_code == 403
    assert client.post(f"/pay/{'0' * 26}/again", follow_redirects=False).status_code == 404
    statuses = [client.post(path, follow_redirects=False).status_code for _ in range(200)]
    assert (statuses[0], statuses[-1]) == (303, 429)


# --- an invoice of a merchant's program ----------------------------------------------------------


def ordered(town: Town, **more: Any) -> Any:
    body = {"amount": "1250000", "asset": "USDT", "reference": "order-17", "title": "Tea", **more}
    return town.client().post("/v1/invoices", json=body, headers=town.bearer)


def test_an_invoice_of_a_program_leads_back_to_its_shop_when_nothing_is_left_to_pay(town: Town):
    made = ordered(town, return_url=SHOP).json()
    assert made["return_url"] == SHOP
    assert ordered(town, return_url=SHOP).json()["id"] == made["id"]
    paid = ordered(town, reference="order-18", return_url=SHOP).json()
    for one in (made, paid):
        assert 'id="return"' not in page(town, one["id"])
    town.pay(town.payments.look(paid["id"])[0])
    town.finalise()
    run_out(town)
    for one in (made, paid):
        for language in LANGUAGES:
            text = page(town, one["id"], language)
            [shown] = re.findall(
                '<a class="button second" id="return" href="([^"]*)" rel="([^"]*)">([^<]*)<', text
            )
            said = load(language)["pay.return"].format(host="cafe.example")
            assert shown == (SHOP, "noopener noreferrer", said)
        assert not is_offered(text, one["id"])
    assert press(town, made["id"]) == made["id"]
    assert load("en")["pay.ask"] not in page(town, made["id"])
    assert load("en")["pay.ask.shop"] in page(town, made["id"])
    without = ordered(town, reference="order-19").json()
    assert without["return_url"] is None
    run_out(town)
    assert load("en")["pay.ask"] in page(town, without["id"])


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "http://cafe.example/", "HTTPS:cafe.example", "https:///orders", "https://",
        "https://user" + ":x@cafe.example/", "https://cafe.example@evil.example/", "https://cafe.example\\@evil.example",
        "https://cafe.example/a b", 'https://cafe.example/"><script>', "https://cafe.example/\n", "//cafe.example/",
        "https://кафе.example/", "https://-cafe.example/", "data:text/html,x", "https://cafe.example/" + "a" * 1_980,
    ],
)  # fmt: skip
def test_an_address_to_go_back_to_that_is_no_plain_https_address_is_refused(town: Town, url: str):
    answer = ordered(town, return_url=url)
    assert (answer.status_code, answer.json()["where"]) == (422, "body.return_url")
    with pytest.raises(Invalid) as refused:
        town.payments.create(Request("206108", "Tea", 1, "USDT", return_url=url))
    assert (refused.value.rule, refused.value.where) == ("url", "return_url")
    if len(url) > RETURN_URL_MOST:
        assert refused.value.why == f"it has {len(url)} characters, {RETURN_URL_MOST} is the most"


def test_an_address_to_go_back_to_may_have_2_000_characters_and_every_plain_form(town: Town):
    for number, url in enumerate(
        (
            "https://cafe.example", "https://a.b-c.example:8443/x", "https://cafe.example?x=y", "https://cafe.example#z",
            "https://xn--80akhbyknj4f.example/~a/@b/[c];d=1,2!$&'()*+%20", "https://cafe.example/" + "a" * 1_979,
        )
    ):  # fmt: skip
        made = ordered(town, reference=f"order-{number}", return_url=url)
        assert (made.status_code, made.json()["return_url"]) == (201, url)


def test_on_postgresql_a_new_invoice_keeps_where_its_payer_goes_back_to(postgres_town: Town):
    """There it is stored by one statement of its own."""
    town = postgres_town
    made = ordered(town, return_url=SHOP).json()
    assert (made["return_url"], town.payments.look(made["id"])[0].return_url) == (SHOP, SHOP)
    assert town.payments.look(made["id"])[0].origin is Origin.API


def test_what_is_missing_is_asked_for_only_while_it_can_be_paid(town: Town):
    whole, part = town.invoice(), town.invoice()
    town.deposit(part, 5_000_000)
    town.settle()
    open_, missing = page(town, whole.id), page(town, part.id)
    assert "<dt>To pay</dt>" in open_
    # One amount to pay on a page, and it is what is missing.
    assert "<dt>To pay</dt>" not in missing
    assert "<dt>In USDT</dt>" in missing
    assert "Still missing:" in missing
    run_out(town)
    after = page(town, part.id)
    assert "Still missing:" not in after
    assert "has come." in after
    assert "<dt>To pay</dt>" not in page(town, whole.id)
