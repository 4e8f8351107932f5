"""Payment links and statements."""

from __future__ import annotations

import csv
import io

from gateway.merchants.statements.service import as_csv, by_day
from tests.gateway.conftest import Town

LINK = {"title": "Parking for a month", "asset": "USDT", "amount": "1250000"}


def test_a_reusable_link_makes_an_invoice_for_each_who_pays(town: Town):
    client = town.client()
    link = client.post("/v1/payment-links", json=LINK, headers=town.bearer).json()
    assert (link["open"], link["page"]) == (True, f"{town.city.gateway.public_url}/link/{link['id']}")
    first, second = (town.city.gateway.links.pay(link["id"], None) for _ in range(2))
    assert first.id != second.id
    assert {first.tiyn, second.tiyn} == {1_250_000}
    assert (
        client.get(f"/v1/invoices/{first.id}", headers=town.bearer).json()["reference"].startswith(link["id"])
    )


def test_a_link_for_one_has_one_invoice_until_that_expired_unpaid(town: Town):
    client = town.client()
    link = client.post("/v1/payment-links", json=LINK | {"reusable": False}, headers=town.bearer).json()
    links = town.city.gateway.links
    first = links.pay(link["id"], 7)
    assert (links.pay(link["id"], None).id, first.tiyn) == (first.id, 1_250_000)
    town.wait(901)
    town.poll()
    second = links.pay(link["id"], None)
    assert second.id != first.id
    town.pay(second)
    town.finalise()
    town.wait(901)
    town.poll()
    assert links.pay(link["id"], None).id == second.id


def test_a_link_that_is_closed_or_expired_makes_no_more_invoices(town: Town):
    client = town.client()
    until = town.city.clock() + 100
    body = LINK | {"expires_s": until, "amount": None}
    link = client.post("/v1/payment-links", json=body, headers=town.bearer).json()
    page = {"Accept": "text/html", "Accept-Language": "en"}
    opened = client.get(f"/link/{link['id']}", headers=page)
    assert (opened.status_code, 'name="amount"' in opened.text) == (200, True)
    paid = client.post(
        f"/link/{link['id']}", data={"amount": "12 500,50"}, headers=page, follow_redirects=False
    )
    assert paid.status_code == 303
    invoice, _, _ = town.payments.look(paid.headers["location"].rpartition("/")[2])
    assert invoice.tiyn == 1_250_050
    for wrong in ("", "x", "0", "1.234", "-5", "9" * 60):
        answer = client.post(
            f"/link/{link['id']}", data={"amount": wrong}, headers=page, follow_redirects=False
        )
        assert answer.status_code == 422, wrong
    town.city.clock.wait(100)
    assert client.get(f"/v1/payment-links/{link['id']}", headers=town.bearer).json()["open"] is False
    answer = client.post(f"/link/{link['id']}", data={"amount": "5"}, headers=page, follow_redirects=False)
    assert answer.status_code == 422
    other = client.post("/v1/payment-links", json=LINK, headers=town.bearer).json()
    closed = client.post(f"/v1/payment-links/{other['id']}/close", headers=town.bearer).json()
    assert closed["open"] is False
    assert client.post(f"/link/{other['id']}", headers=page, follow_redirects=False).status_code == 422
    listed = client.get("/v1/payment-links", params={"limit": 1}, headers=town.bearer).json()
    rest = client.get(
        "/v1/payment-links", params={"limit": 1, "after": listed["next"]}, headers=town.bearer
    ).json()
    assert {listed["links"][0]["id"], rest["links"][0]["id"]} == {link["id"], other["id"]}


def test_a_link_is_refused_when_no_invoice_could_be_made(town: Town):
    client = town.client()
    for change, rule in (({"asset": "DOGE"}, "V2"), ({"purpose": "1"}, "V1"), ({"title": "\0"}, "text"),
                         ({"expires_s": 1}, "expired"), ({"amount": "9" * 39}, "E4")):  # fmt: skip
        answer = client.post("/v1/payment-links", json=LINK | change, headers=town.bearer)
        assert (answer.status_code, answer.json()["rule"]) == (422, rule)
    for id in ("pl_" + "0" * 24, "x", "%00"):
        assert client.get(f"/v1/payment-links/{id}", headers=town.bearer).status_code == 404
        assert client.get(f"/link/{id}", headers={"Accept": "text/html"}).status_code == 404


def test_a_statement_says_gross_share_and_net_of_all_final_money_in_pages(town: Town):
    client = town.client()
    for _ in range(3):
        town.pay(town.invoice())
    town.deposit(town.invoice(merchant_reference="=cmd()"))
    since = town.city.clock()
    town.settle()
    town.finalise()
    lines, after = [], None
    while True:
        asked = {"since_s": since, "limit": 2} | ({} if after is None else {"after": after})
        page = client.get("/v1/statements", params=asked, headers=town.bearer).json()
        lines += page["lines"]
        after = page["next"]
        if after is None:
            break
    assert len(lines) == len({line["evidence"] for line in lines}) == 4
    for line in lines:
        assert int(line["gross"]) == int(line["city"]) + int(line["net"])
        assert (line["tiyn"], line["asset"]) == ("1250000", "USDT")
    assert sum(int(line["city"]) for line in lines) == town.treasury()
    answer = client.get("/v1/statements.csv", params={"since_s": since, "limit": 3}, headers=town.bearer)
    following = client.get(answer.headers["Link"].split(">")[0][1:], headers=town.bearer)
    rows = [*csv.DictReader(io.StringIO(answer.text)), *csv.DictReader(io.StringIO(following.text))]
    assert [row["evidence"] for row in rows] == [line["evidence"] for line in lines]
    # A spreadsheet that opens it runs nothing that a stranger wrote.
    assert "'=cmd()" in {row["reference"] for row in rows}
    [(_, tiyn)] = by_day(town.city.gateway.engine, town.merchant_id, since, since + 10**6).items()
    assert tiyn == 4 * 1_250_000
    # What is before the interval, or another's, is not in it.
    none = client.get("/v1/statements", params={"since_s": 0, "until_s": since}, headers=town.bearer)
    assert none.json()["lines"] == []
    assert as_csv([]).startswith("final_s,day,")
    for wrong in ("x", "1", "1 \0", "-1 a"):
        answer = client.get("/v1/statements", params={"after": wrong}, headers=town.bearer)
        assert answer.status_code in {200, 422}
