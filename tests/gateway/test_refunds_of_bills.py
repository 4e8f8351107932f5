"""Tenge of a bill go back to the account that they came from; what was let go wrongly can be stopped."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from gateway.budget.desk import Desk
from gateway.client import Client
from gateway.client.errors import ApiError
from gateway.db import reading
from gateway.erasure.listing import Listing, Reason
from gateway.erasure.service import Erasure
from gateway.payments import store
from gateway.payments.by_bank import bank_reference
from gateway.payments.refund_model import RefundState
from gateway.payments.store import Decision, Invoice
from gateway.rails import Kind
from gateway.rails.tenge.simulator import Transfer as BankTransfer
from ledger import store as ledger_store
from ledger.records import Refund as RefundRecord
from ledger.records import Reversal, Transfer, decode
from ledger.rules import UNMATCHED_S
from tests.gateway.conftest import Town
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_refunds_by_bank import AMOUNT, OTHER, PAYER, Office
from tests.gateway.test_unmatched import queue_of

WHY = "the fee was paid twice"


class Bills(Office):
    """An office with a resident who pays a bill by bank."""

    def __init__(self, town: Town) -> None:
        super().__init__(town)
        self.keys = 0

    def paid(self, *, payer_iban: str | None = PAYER, more: int = 0) -> Invoice:
        """A bill that a transfer with its reference paid, on the ledger."""
        bill = self.town.bill()
        self.town.transfer_in_tenge(bill.due_minor + more, bill.reference, payer_iban=payer_iban)
        self.town.take_bank_files()
        self.town.record()
        assert self.town.status(bill) == "final"
        return bill

    def ask(self, bill: Invoice, status: int = 201, key: str | None = None, **body: Any) -> Any:
        """Ask for a refund of a bill by API."""
        self.keys += 1
        asked = {"invoice": bill.id, "amount": str(bill.due_minor), "why": WHY, **body}
        headers = self.town.operator | {"Idempotency-Key": key or f"bill-{self.keys}"}
        answer = self.client.post("/v1/unmatched/refunds", json=asked, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def approve(self, id: str) -> Any:
        moved = self.post(f"/v1/unmatched/refunds/{id}/approve")
        self.town.record()
        return moved

    def cancel(self, id: str, status: int = 200, why: str = "another account was meant") -> Any:
        return self.post(f"/v1/unmatched/refunds/{id}/cancel", status, why=why)

    def promised(self) -> list[RefundRecord]:
        found = map(decode, ledger_store.records(self.town.city.gateway.engine))
        return [one for one in found if isinstance(one, RefundRecord)]

    def booked_back(self) -> list[Transfer]:
        """What the ledger took out of an account of revenue."""
        return [one for one in self.town.revenue() if one.credit == self.town.revenue()[0].debit]


@pytest.fixture
def bills(town: Town) -> Bills:
    return Bills(town)


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_a_bill_that_was_paid_by_bank_goes_back_to_the_account_that_paid_it(
    request: pytest.FixtureRequest, database: str
):
    bills = Bills(request.getfixturevalue(database))
    town, bill = bills.town, bills.paid()
    asked = bills.ask(bill, key="once")
    assert (asked["state"], asked["proof"], asked["invoice"]) == ("requested", "bank", bill.id)
    assert asked["to"] == "0x" + sha256(PAYER.encode()).hexdigest()
    assert bills.ask(bill, key="once") == asked
    assert bills.ask(bill, 422, key="once", amount="1")["rule"] == "idempotency"
    assert (town.status(bill), town.stored_status(bill)) == ("refund_pending", "refund_pending")
    assert bills.approve(asked["id"])["state"] == "pending"
    bills.sign()
    pay = bills.one(asked["id"])["pay"]
    assert (pay["to"], pay["amount"]) == (PAYER, str(bill.due_minor))
    bills.pay(asked["id"])
    for _ in range(2):
        bills.work()
    town.record()
    assert bills.state(asked["id"]) == "final"
    assert (town.status(bill), town.stored_status(bill)) == ("refunded", "refunded")
    [gone] = bills.booked_back()
    assert (gone.amount, gone.purpose) == (bill.due_minor, bill.purpose)
    # Of the account nothing is on the ledger but its hash, and of the payer nothing in any record.
    [promise] = bills.promised()
    assert promise.to == sha256(PAYER.encode()).digest()
    for data in ledger_store.records(town.city.gateway.engine):
        assert PAYER.encode() not in data
    with reading(town.city.gateway.engine) as connection:
        document = ledger_store.document(connection, promise.document)
    assert document is not None
    assert PAYER.encode() not in document
    assert json.loads(document)["proof"] == "bank"


def test_a_part_goes_back_and_all_parts_together_are_what_came(bills: Bills):
    bill = bills.paid(more=250)
    came = bill.due_minor + 250
    first = bills.ask(bill, amount="250")
    # What was over goes back, and the bill stays paid.
    assert (bills.town.status(bill), bills.town.notes(bill)) == ("final", {"overpaid", "refund_pending"})
    refused = bills.ask(bill, 422, amount=str(bill.due_minor + 1))
    assert refused["rule"] == "F1"
    assert f"{came} final KZT came and {bill.due_minor} are left" in refused["why"]
    bills.ask(bill, amount=str(bill.due_minor))
    assert bills.ask(bill, 422, amount="1")["rule"] == "F1"
    bills.cancel(first["id"])
    assert bills.ask(bill, 422, amount="251")["rule"] == "F1"
    bills.ask(bill, amount="250")


def test_tenge_go_to_no_other_account_than_they_came_from(bills: Bills):
    bill = bills.paid()
    refused = bills.ask(bill, 422, iban=OTHER)
    assert (refused["rule"], refused["where"]) == ("P6", "iban")
    assert f"the account ending in {PAYER[-4:]}" in refused["why"]
    assert PAYER not in json.dumps(refused)
    assert bills.ask(bill, iban=PAYER)["to"] == "0x" + sha256(PAYER.encode()).hexdigest()


def test_where_the_bank_told_no_account_an_operator_names_one_and_the_seats_sign_it(bills: Bills):
    bill = bills.paid(payer_iban=None)
    assert "the bank told no account" in bills.ask(bill, 422)["why"]
    assert bills.ask(bill, 422, iban=PAYER[:-1] + "9")["rule"] == "K6"
    asked = bills.ask(bill, iban=OTHER)
    assert asked["proof"] == "seats"
    bills.approve(asked["id"])
    assert bills.one(asked["id"])["pay"]["to"] == OTHER


def test_of_two_transfers_the_one_that_goes_back_is_named(bills: Bills):
    bill = bills.town.bill()
    for part, payer in ((400, PAYER), (bill.due_minor - 400, OTHER)):
        bills.town.transfer_in_tenge(part, bill.reference, payer_iban=payer)
    bills.town.take_bank_files()
    bills.town.record()
    assert "2 bank transfers are final here" in bills.ask(bill, 422)["why"]
    [small] = [one.key for one in bills.town.seen(bill) if one.amount_minor == 400]
    assert "is 400, the refund is 401" in bills.ask(bill, 422, evidence=small, amount="401")["why"]
    assert bills.ask(bill, evidence=small, amount="400")["to"] == "0x" + sha256(PAYER.encode()).hexdigest()


def test_only_the_citys_bills_and_only_what_is_final_and_on_the_ledger(bills: Bills):
    town = bills.town
    merchants = town.invoice(refund_to=town.city.keys.address("payer"))
    assert bills.ask(merchants, 404)["rule"] == "not_found"
    unpaid = town.bill()
    assert "0 bank transfers are final here" in bills.ask(unpaid, 422)["why"]
    town.transfer_in_tenge(unpaid.due_minor, unpaid.reference, payer_iban=PAYER)
    town.take_bank_files()
    assert "not on the ledger yet" in bills.ask(unpaid, 422)["why"]
    town.record()
    bills.ask(unpaid)
    answer = bills.client.post("/v1/unmatched/refunds", json={}, headers=town.bearer)
    assert answer.status_code == 403
    keyless = {"invoice": unpaid.id, "amount": "1", "why": WHY}
    assert bills.client.post("/v1/unmatched/refunds", json=keyless, headers=town.operator).status_code == 422


def test_what_the_bank_took_back_is_not_paid_back_once_more(bills: Bills):
    bill = bills.town.bill()
    reference = bills.town.transfer_in_tenge(bill.due_minor, bill.reference, payer_iban=PAYER)
    bills.town.take_bank_files()
    bills.town.record()
    bills.bank.reverse(reference)
    bills.town.take_bank_files()
    assert [one.kind for one in bills.town.unmatched()] == [Kind.TAKEN_BACK]
    refused = bills.ask(bill, 422)
    assert f"the bank took {bill.due_minor} of this back already" in refused["why"]


def test_what_was_counted_apart_and_matched_goes_back_whole_once_the_seats_undid_the_match(bills: Bills):
    town, bill = bills.town, bills.town.bill()
    key = bills.lose(bill.due_minor)
    queue_of(town).assign(key, bill.id, "operator_1", "she showed the slip")
    town.record()
    assert town.status(bill) == "final"
    refused = bills.ask(bill, 422)
    assert refused["rule"] == "F1"
    assert f"is 0, the refund is {bill.due_minor}: it was matched" in refused["why"]
    position = town.payments.position(bill.id)
    undone = Reversal(0, sha256(b"undo").digest(), position, "letter", sha256(b"her letter").digest())
    keys = town.city.keys
    Desk(town.city.writer).act(undone, [keys.account("authority"), keys.account("auditor")])
    assert "goes back whole" in bills.ask(bill, 422, amount="1")["why"]
    id = bills.ask(bill)["id"]
    bills.approve(id)
    bills.sign()
    bills.pay(id)
    bills.work()
    town.record()
    assert (bills.state(id), town.status(bill), bills.apart()) == ("final", "refunded", 0)


def test_the_account_of_a_bill_is_erased_with_its_refund(bills: Bills):
    """It is kept once, beside the refund, where erasure finds it; and an erased one is not known any more."""
    bill = bills.paid()
    id = bills.ask(bill)["id"]
    with reading(bills.town.city.gateway.engine) as connection:
        seen = store.evidence_of(connection, bill.id)[0]
        assert store.private(connection, seen.evidence_hash) is not None
    bills.cancel(id)
    town = bills.town
    listing = Listing(town.city.bank_folder.parent / "erased.jsonl")
    erasure = Erasure(town.city.gateway.engine, listing, town.city.clock)
    erasure.carry_out(erasure.payment(bill.id), Reason.WITHDRAWN, "2026/1")
    assert "or it was erased" in bills.ask(bill, 422)["why"]
    assert PAYER not in json.dumps(bills.get("/v1/unmatched/refunds"))


# --- stopped before the money went --------------------------------------------------------------


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_a_refund_to_a_wrong_account_is_cancelled_before_the_money_went_and_asked_for_again(
    request: pytest.FixtureRequest, database: str
):
    bills = Bills(request.getfixturevalue(database))
    key = bills.lose()
    wrong = bills.refund(key, OTHER, is_signed=False)
    assert bills.one(wrong)["pay"]["to"] == OTHER
    assert bills.cancel(wrong, 422, "  ")["where"] == "why"
    told = bills.cancel(wrong, why="she had written 78, not 77")
    assert (told["state"], bills.one(wrong)["pay"]) == ("cancelled", None)
    assert bills.cancel(wrong)["state"] == "cancelled"
    # It is money of nobody again, and says why; who decided what stays.
    [waiting] = bills.queue()
    assert waiting["key"] == key
    decided = queue_of(bills.town).decisions(key)
    assert [one.action for one in decided] == [Decision.REFUND, Decision.REOPENED]
    assert wrong in decided[-1].why
    assert "not 77" in decided[-1].why
    right = bills.refund(key, PAYER)
    assert right != wrong
    again = bills.post("/v1/unmatched/refund", 201, key=key, iban=PAYER, why="again")
    assert again["id"] == right
    bills.pay(right)
    bills.work()
    assert (bills.state(right), bills.state(wrong), bills.apart()) == ("final", "cancelled", 0)
    assert [one.amount for one in bills.went()] == [AMOUNT]


def test_a_cancelled_refund_of_a_bill_frees_its_bound(bills: Bills):
    bill = bills.paid()
    id = bills.ask(bill)["id"]
    bills.approve(id)
    assert bills.town.status(bill) == "refund_pending"
    assert bills.ask(bill, 422, amount="1")["rule"] == "F1"
    bills.cancel(id)
    assert (bills.town.status(bill), bills.town.stored_status(bill)) == ("final", "final")
    bills.ask(bill)


@pytest.mark.parametrize("wrong", [{}, {"amount_tiyn": AMOUNT - 1}, {"payee_iban": OTHER}])
def test_once_the_banks_debit_was_seen_a_refund_is_not_cancelled_until_it_comes_back(
    bills: Bills, wrong: dict[str, Any]
):
    id = bills.refund(bills.lose(), is_signed=False)
    reference = bills.pay(id, **wrong)
    bills.work()
    refused = bills.cancel(id, 422)
    assert (refused["rule"], "tiyn have left for it as" in refused["why"]) == ("P6", True)
    bills.bank.give_back(reference, "AC04", wrong.get("amount_tiyn", AMOUNT))
    bills.work()
    assert bills.cancel(id)["state"] == "cancelled"
    assert len(bills.queue()) == 1


def test_what_the_seats_have_signed_is_not_cancelled(bills: Bills):
    id = bills.refund(bills.lose())
    refused = bills.cancel(id, 422)
    assert "a refund in effect is never taken back on the ledger" in refused["why"]
    assert bills.state(id) == "pending"
    bills.pay(id)
    bills.work()
    assert "it is final" in bills.cancel(id, 422)["why"]


def test_what_is_signed_or_paid_although_it_was_cancelled_ends_nothing_and_is_told(bills: Bills):
    id = bills.refund(bills.lose(), is_signed=False)
    told = bills.one(id)["pay"]
    bills.cancel(id)
    late = {"end_to_end_id": told["reference"], "payee_iban": told["to"]}
    bills.bank.pay_out(bills.account, BankTransfer(AMOUNT, **late))
    bills.work()
    assert (bills.state(id), bills.went()) == ("cancelled", [])
    assert "the refund was cancelled at" in bills.one(id)["refund"]["problem"]
    bills.sign()
    for _ in range(2):
        bills.work()
    assert (bills.state(id), bills.went()) == ("cancelled", [])
    assert "signed it after it was cancelled" in bills.one(id)["refund"]["problem"]


def test_reopened_money_is_the_citys_after_a_year_like_any_other(bills: Bills):
    town, key, code = bills.town, bills.lose(), bills.town.bill().purpose
    bills.cancel(bills.refund(key, is_signed=False))
    town.city.clock.wait(UNMATCHED_S + 1)
    assert [one.key for one in queue_of(town).overdue()] == [key]
    [done] = queue_of(town).retain(code)
    assert done.key == key


def test_an_operator_gives_a_bill_back_and_cancels_on_a_page(bills: Bills):
    bill, visitor = bills.paid(), Visitor(bills.town)
    visitor.sign_in(bills.town.operator_key)
    page = visitor.get("/operator/refunds").text
    once = page.split('name="once" value="')[1].split('"')[0]
    form = {"invoice": f" {bill.id} ", "amount": "100,50", "once": once, "why": WHY}
    for _ in range(2):
        sent = visitor.send("/operator/refunds", "/operator/refunds/bill", **form)
        assert sent.status_code == 303
    [found] = bills.get("/v1/unmatched/refunds")["refunds"]
    id = found["refund"]["id"]
    assert (found["refund"]["amount"], found["refund"]["invoice"]) == ("10050", bill.id)
    assert visitor.send("/operator/refunds", "/operator/refunds", id=id, what="approve").status_code == 303
    page = visitor.get("/operator/refunds").text
    assert PAYER in page
    assert bank_reference(id) in page
    assert "Cancel before the bank is told" in page or "Отмените" in page or "тоқтатыңыз" in page
    sent = visitor.send("/operator/refunds", "/operator/refunds", id=id, what="cancel", why="wrong bill")
    assert sent.status_code == 303
    assert bills.state(id) == "cancelled"
    assert bank_reference(id) not in visitor.get("/operator/refunds").text


def test_the_client_gives_a_bill_back_and_cancels(bills: Bills):
    bill = bills.paid()
    with Client("http://testserver", bills.town.operator_key, http=bills.client) as client:
        asked = client.refund_bill(bill.id, str(bill.due_minor), "client-1", why=WHY)
        assert client.refund_bill(bill.id, str(bill.due_minor), "client-1", why=WHY) == asked
        assert client.approve_city_refund(asked.id).state == RefundState.PENDING
        assert client.cancel_city_refund(asked.id, "wrong bill").state == RefundState.CANCELLED
        with pytest.raises(ApiError, match="ending in"):
            client.refund_bill(bill.id, str(bill.due_minor), "client-2", why=WHY, iban=OTHER)
