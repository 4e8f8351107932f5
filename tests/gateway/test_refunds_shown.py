"""What a refund did to an invoice is read on its page, on the till, by the merchant and on the receipt alike."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest

from gateway.demo import ACT, Day
from gateway.payments.refund_model import Refund
from gateway.payments.store import Invoice
from tests.gateway.conftest import Town
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_refunds import ACTOR, paid, payer, refunds_of, send
from tests.gateway.test_refunds_of_bills import Bills

PRICE, QUARTER = "24.409296 USDT", "6.102324 USDT"


@pytest.fixture
def owner(town: Town) -> Visitor:
    visitor = Visitor(town)
    visitor.sign_in(town.merchant_key)
    return visitor


def read(visitor: Visitor, path: str) -> str:
    """What a person reads, with spaces that are single and ordinary."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", visitor.get(path).text))


def ask(town: Town, invoice: Invoice, amount: int) -> Refund:
    refunds = refunds_of(town)
    key = f"k{len(refunds.of(town.merchant_id, (1 << 62, ''), 100))}"
    return refunds.request(ACTOR, invoice.id, None, amount, None, key)


def give_back(town: Town, invoice: Invoice, amount: int) -> None:
    send(town, refunds_of(town).approve(ask(town, invoice, amount).id, ACTOR))
    town.finalise()
    refunds_of(town).follow()


def version(visitor: Visitor, path: str) -> str:
    """By which an open page knows that it must be shown anew."""
    return str(visitor.client.get(f"{path}/state").json()["version"])


def test_a_part_that_went_back_is_no_whole_refund_to_payer_and_merchant(town: Town, owner: Visitor):
    # The wallet has the net alone: of another sale it has what is missing.
    paid(town)
    invoice = paid(town)
    quarter = invoice.due_minor // 4
    give_back(town, invoice, quarter)
    assert town.status(invoice) == "refunded", "as programs have it"
    for path in (f"/pay/{invoice.id}", f"/merchant/invoices/{invoice.id}", f"/pos/{invoice.id}", "/merchant"):
        assert "Refunded in part" in read(owner, path), path
    pay = read(owner, f"/pay/{invoice.id}")
    assert "A part of the money was sent back, and the transfer is final." in pay
    assert f"In USDT {PRICE} Refunded {QUARTER} " in pay
    assert f"Refunded {QUARTER} " in read(owner, f"/receipt/{invoice.id}")
    before = version(owner, f"/pay/{invoice.id}"), version(owner, f"/receipt/{invoice.id}")
    give_back(town, invoice, invoice.due_minor - quarter)
    assert before[0] != version(owner, f"/pay/{invoice.id}")
    assert before[1] != version(owner, f"/receipt/{invoice.id}")
    pay = read(owner, f"/pay/{invoice.id}")
    assert "Refunded in part" not in pay
    assert f"In USDT {PRICE} Refunded {PRICE} " in pay
    assert f"Paid {PRICE} Refunded {PRICE} " in read(owner, f"/receipt/{invoice.id}")


def test_what_is_on_its_way_back_is_said_with_its_amount_and_a_cancelled_refund_leaves_no_trace(
    town: Town, owner: Visitor
):
    invoice = paid(town)
    untouched = version(owner, f"/pay/{invoice.id}")
    asked = ask(town, invoice, invoice.due_minor // 4)
    pay = read(owner, f"/pay/{invoice.id}")
    assert "Refund under way Money is being sent back." in pay
    assert f"In USDT {PRICE} Being sent back {QUARTER} " in pay
    assert "Refunded" not in pay
    one = version(owner, f"/pay/{invoice.id}")
    more = ask(town, invoice, 1)
    assert len({untouched, one, version(owner, f"/pay/{invoice.id}")}) == 3
    for refund in (asked, more):
        refunds_of(town).cancel(refund.id, ACTOR, "she keeps it")
    pay = read(owner, f"/pay/{invoice.id}")
    assert "Payment complete" in pay
    assert "sent back" not in pay
    assert version(owner, f"/pay/{invoice.id}") == untouched
    assert "Refunded" not in read(owner, f"/receipt/{invoice.id}")


def test_what_was_too_much_and_went_back_is_neither_offered_nor_given_again(town: Town, owner: Visitor):
    invoice = town.invoice(refund_to=payer(town))
    town.deposit(invoice, invoice.due_minor + 3_000_000)
    town.settle()
    assert "3.000000 USDT too much has come." in read(owner, f"/pay/{invoice.id}")
    give_back(town, invoice, 1_000_000)
    assert "2.000000 USDT too much has come." in read(owner, f"/pay/{invoice.id}")
    assert (
        'name="amount" inputmode="decimal" required value="2"'
        in owner.get(f"/merchant/invoices/{invoice.id}").text
    )
    ask(town, invoice, 2_000_000)
    assert "too much" not in read(owner, f"/pay/{invoice.id}"), "it is on its way"
    assert 'required value="24.409296"' in owner.get(f"/merchant/invoices/{invoice.id}").text


def test_who_paid_a_part_is_told_to_pay_the_rest_and_not_to_wait(town: Town, owner: Visitor):
    bill = town.bill()
    town.transfer_in_tenge(bill.due_minor // 2, bill.reference)
    town.take_bank_files()
    pay = read(owner, f"/pay/{bill.id}")
    assert "Paid in part A part of the money has come. Pay the rest before the time is over." in pay
    assert "Payment seen" not in pay
    assert "wait for it to be confirmed" not in pay


def test_the_three_figures_of_the_treasury_add_up_where_money_went_back(town: Town, owner: Visitor):
    bills = Bills(town)
    bill, kept = bills.paid(), bills.paid()
    assert "Refunded" not in read(owner, "/").partition("The whole sum")[0]
    id = bills.ask(bill)["id"]
    bills.approve(id)
    bills.sign()
    bills.pay(id)
    bills.work()
    town.record()
    Day(town.city, lambda _: None, sha256(ACT).digest()).publish()
    figures = "Came in KZT 17,300.00 Refunded KZT 8,650.00 Paid for infrastructure KZT 0.00 In the treasury KZT 8,650.00"
    assert figures in read(owner, "/")
    for one in (bill, kept):
        assert figures in read(owner, f"/receipt/{one.id}")
    assert "Refunded KZT 8,650.00 KBK" in read(owner, f"/receipt/{bill.id}")
