"""Refunds in tenge end by what the bank books: asked for and let go by API, paid by people, told in files."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from gateway.budget.desk import Desk, Proposed
from gateway.db import reading
from gateway.kz import iban_check_digits
from gateway.payments.by_bank import bank_reference, refund_named
from gateway.payments.store import bank as bank_rows
from gateway.rails import BankEntry, Kind
from gateway.rails.tenge.simulator import Bank, Misbehaviour
from gateway.rails.tenge.simulator import Transfer as BankTransfer
from ledger import store as ledger_store
from ledger.records import Refund as RefundRecord
from ledger.records import Transfer, decode
from tests.gateway.conftest import Town
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_unmatched import with_account_for_unmatched

AMOUNT = 500_000


def iban(number: int) -> str:
    account = f"722S{number:012}"
    return f"KZ{iban_check_digits('KZ', account)}{account}"


PAYER, OTHER = iban(77), iban(78)


class Office:
    """An operator with the API, the seats, and somebody who has the bank pay."""

    def __init__(self, town: Town) -> None:
        self.town, self.client = town, town.client()
        with_account_for_unmatched(town)

    @property
    def bank(self) -> Bank:
        return self.town.city.outside.bank

    @property
    def account(self) -> str:
        return self.town.city.plan.bank_iban

    def get(self, path: str) -> Any:
        answer = self.client.get(path, headers=self.town.operator)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, status: int = 200, **body: object) -> Any:
        answer = self.client.post(path, json=body or None, headers=self.town.operator)
        assert answer.status_code == status, answer.text
        return answer.json()

    def lose(self, amount: int = AMOUNT, **more: Any) -> str:
        """Money without a reference comes, is booked apart, and stands in the queue; returns its key."""
        before = {one["key"] for one in self.queue()}
        self.town.transfer_in_tenge(amount, "for parking", payer_iban=PAYER, **more)
        self.town.take_bank_files()
        self.town.record()
        [new] = [one for one in self.queue() if one["key"] not in before]
        return str(new["key"])

    def queue(self) -> list[dict[str, Any]]:
        return [one for one in self.get("/v1/unmatched")["money"] if one["kind"] == "bank"]

    def refund(self, key: str, to: str = PAYER, *, is_signed: bool = True) -> str:
        """Asked for and let go by API, and signed by the seats on the ledger."""
        made = self.post("/v1/unmatched/refund", 201, key=key, iban=to, why="the payer wrote to us")
        assert self.one(made["id"])["pay"] is None, "nobody has let it go"
        moved = self.post(f"/v1/unmatched/refunds/{made['id']}/approve")
        assert moved["state"] == "pending"
        self.town.record()
        if is_signed:
            self.sign()
        return str(made["id"])

    def sign(self) -> None:
        found = enumerate(map(decode, ledger_store.records(self.town.city.gateway.engine)))
        *_, (position, record) = ((at, one) for at, one in found if isinstance(one, RefundRecord))
        keys = self.town.city.keys
        Desk(self.town.city.writer).approve(
            Proposed(position, record), [keys.account("authority"), keys.account("auditor")]
        )

    def one(self, id: str) -> Any:
        [found] = [one for one in self.get("/v1/unmatched/refunds")["refunds"] if one["refund"]["id"] == id]
        return found

    def state(self, id: str) -> str:
        return str(self.one(id)["refund"]["state"])

    def pay(self, id: str, **wrong: Any) -> str:
        """What the operator is shown is typed into the bank's form."""
        told = self.one(id)["pay"]
        transfer = BankTransfer(
            int(told["amount"]), "refund", end_to_end_id=told["reference"], payer_iban=told["debit_account"],
            payee_iban=told["to"],
        )  # fmt: skip
        return self.bank.pay_out(self.account, replace(transfer, **wrong))

    def work(self) -> None:
        """What runs by itself in production: the steps of a worker, and the bank's files in its folder."""
        self.town.city.take_bank_files()
        steps = {step.name: step for step in self.town.city.worker.steps()}
        for name in ("bank", "refunds", "record", "answers"):
            steps[name].run()

    def went(self) -> list[Transfer]:
        """What the ledger booked as gone."""
        return [one for one in self.town.revenue() if one.debit == "payable-kzt"]

    def apart(self) -> int:
        balance: int = self.town.city.gateway.view.refresh().accounts["payable-kzt"].balance
        return abs(balance)


@pytest.fixture
def office(town: Town) -> Office:
    return Office(town)


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_tenge_that_nobody_could_match_go_back_from_the_request_to_the_ledger(
    request: pytest.FixtureRequest, database: str
):
    office = Office(request.getfixturevalue(database))
    town = office.town
    id = office.refund(office.lose())
    pay = office.one(id)["pay"]
    assert pay == {
        "debit_account": office.account,
        "to": PAYER,
        "amount": str(AMOUNT),
        "reference": bank_reference(id),
    }
    assert re.fullmatch("[0-9A-Z]{1,35}", pay["reference"])
    office.work()
    assert office.state(id) == "pending"
    office.pay(id)
    office.work()
    town.record()
    told = office.one(id)
    assert (told["refund"]["state"], told["refund"]["problem"], told["pay"]) == ("final", None, None)
    [booked] = told["booked"]
    assert (booked["amount"], booked["state"], booked["back"]) == (str(AMOUNT), "used", False)
    [went] = office.went()
    assert (went.amount, went.evidence) == (AMOUNT, commitment(town, booked["key"]))
    assert (went.debit, went.credit) == ("payable-kzt", town.revenue()[0].debit)
    # Told again, as a notification of another name and as the day's statement, it is the same.
    folder = town.city.bank_folder
    for number, path in enumerate(sorted(folder.glob("*.xml"))):
        (folder / f"again-{number}.xml").write_bytes(path.read_bytes() + b"\n")
    (folder / "statement.xml").write_bytes(office.bank.end_day(office.account))
    for _ in range(2):
        office.work()
    town.record()
    assert office.one(id) == told
    assert len(office.went()) == 1
    assert office.apart() == 0
    assert office.get("/v1/unmatched")["files"] == []


def commitment(town: Town, key: str) -> bytes:
    with reading(town.city.gateway.engine) as connection:
        found = bank_rows.booking(connection, key)
    assert found is not None
    return found.commitment


WRONG = {
    "less": ({"amount_tiyn": AMOUNT - 1}, f"{AMOUNT - 1} tiyn left as .*, the refund is of {AMOUNT} tiyn"),
    "more": ({"amount_tiyn": AMOUNT + 1}, f"{AMOUNT + 1} tiyn left as .*, the refund is of {AMOUNT} tiyn"),
    "another account": ({"payee_iban": OTHER}, f"ending in {OTHER[-4:]}, which is not the refund's"),
    "no account": ({"payee_iban": None}, "does not tell to which account"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_payment_that_is_not_all_right_ends_nothing_and_is_shown_with_both_numbers(
    office: Office, what: str
):
    changes, why = WRONG[what]
    id = office.refund(office.lose())
    reference = office.pay(id, **changes)
    for _ in range(2):
        office.work()
    told = office.one(id)
    assert (told["refund"]["state"], told["pay"], office.went()) == ("pending", None, [])
    assert re.search(why, told["refund"]["problem"])
    assert [one["state"] for one in told["booked"]] == ["wrong"]
    # The bank gives it back, and then it is to be paid again; what never counted is no money that came.
    queue = office.queue()
    office.bank.give_back(reference, "AC04")
    office.work()
    assert office.queue() == queue
    told = office.one(id)
    assert "(AC04)" in told["refund"]["problem"]
    assert told["pay"]["to"] == PAYER
    office.pay(id)
    office.work()
    assert office.state(id) == "final"
    assert len(office.went()) == 1


def test_a_payment_under_no_reference_or_anothers_ends_nothing(office: Office):
    first, second = office.refund(office.lose()), office.refund(office.lose(AMOUNT + 7))
    office.pay(first, end_to_end_id=None)
    office.pay(first, end_to_end_id="SALARY-7", remittance=f"as {bank_reference(first)}")
    office.pay(first, end_to_end_id=bank_reference("r_" + "0" * 24))
    # What was announced and not booked is no payment yet.
    office.work()
    assert (office.state(first), office.one(first)["booked"]) == ("pending", [])
    office.pay(first, end_to_end_id=bank_reference(second))
    office.work()
    assert (office.state(first), office.state(second)) == ("pending", "pending")
    assert f"the refund is of {AMOUNT + 7} tiyn" in office.one(second)["refund"]["problem"]
    # Where the bank asks for no end-to-end reference it stands in the text, as a hand types it.
    spaced = " ".join(re.findall(".{1,5}", bank_reference(first).lower()))
    office.pay(first, end_to_end_id=None, remittance=f"refund, {spaced}")
    office.work()
    assert office.state(first) == "final"


def test_what_is_announced_is_no_payment_until_it_is_booked(office: Office):
    id = office.refund(office.lose())
    office.pay(id)
    [file] = office.bank.collect()
    announced = file.replace(b"<Sts><Cd>BOOK</Cd></Sts>", b"<Sts><Cd>PDNG</Cd></Sts>")
    assert announced != file
    (office.town.city.bank_folder / "1.xml").write_bytes(announced)
    office.work()
    assert (office.state(id), office.one(id)["booked"]) == ("pending", [])
    (office.town.city.bank_folder / "2.xml").write_bytes(file)
    office.work()
    assert office.state(id) == "final"


def test_a_credit_with_the_reference_is_no_refund_and_takes_none_back(office: Office):
    """Who got a refund knows its reference, and can write it on a transfer to the city."""
    id = office.refund(office.lose(), is_signed=False)
    told = office.one(id)["pay"]
    like = BankTransfer(AMOUNT, "", end_to_end_id=told["reference"], payer_iban=PAYER, payee_iban=PAYER)
    office.bank.receive(office.account, like)
    office.work()
    assert (office.state(id), office.one(id)["booked"]) == ("pending", [])
    office.pay(id)
    office.bank.receive(office.account, replace(like, amount_tiyn=1))
    office.work()
    assert [one["state"] for one in office.one(id)["booked"]] == ["fits"]
    office.sign()
    office.work()
    assert office.state(id) == "final"
    assert sorted(int(one["amount"]) for one in office.queue()) == [1, AMOUNT]


def test_what_is_paid_twice_counts_once_and_is_shown(office: Office):
    id = office.refund(office.lose())
    told = office.one(id)["pay"]
    office.pay(id)
    office.bank.pay_out(
        office.account,
        BankTransfer(AMOUNT, end_to_end_id=told["reference"], payee_iban=told["to"]),
    )
    for _ in range(2):
        office.work()
    told = office.one(id)
    assert (told["refund"]["state"], len(office.went())) == ("final", 1)
    assert sorted(one["state"] for one in told["booked"]) == ["used", "wrong"]
    assert any("it is paid twice" in one["why"] for one in told["booked"])


def test_what_the_bank_paid_before_the_seats_signed_waits_for_them(office: Office):
    id = office.refund(office.lose(), is_signed=False)
    office.pay(id)
    for _ in range(2):
        office.work()
    told = office.one(id)
    assert (told["refund"]["state"], told["pay"], office.went()) == ("pending", None, [])
    assert "the seats have not signed it" in told["refund"]["problem"]
    office.sign()
    office.work()
    told = office.one(id)
    assert (told["refund"]["state"], told["refund"]["problem"], len(office.went())) == ("final", None, 1)


@pytest.mark.parametrize("way", ["a reversal", "a payment that comes back", "a reversal less a charge"])
def test_what_comes_back_after_it_was_booked_is_in_the_queue_again_and_can_go_elsewhere(
    office: Office, way: str
):
    id = office.refund(office.lose())
    reference = office.pay(id)
    office.work()
    assert (office.state(id), office.queue(), office.apart()) == ("final", [], 0)
    back = AMOUNT - 250 if way == "a reversal less a charge" else AMOUNT
    if way == "a payment that comes back":
        returned = BankTransfer(
            AMOUNT, "your payment", end_to_end_id=bank_reference(id), return_reason="AC04"
        )
        office.bank.receive(office.account, returned)
    else:
        office.bank.give_back(reference, "AC04", back)
    for _ in range(2):
        office.work()
    # The ledger has that it went, for ever; and now it has that money came, which is nobody's.
    told = office.one(id)
    assert told["refund"]["state"] == "final"
    assert "the bank returned" in told["refund"]["problem"]
    [waiting] = office.queue()
    assert int(waiting["amount"]) == back
    for word in ("(AC04)", id, *([str(back), str(AMOUNT)] if back != AMOUNT else [])):
        assert word in waiting["problem"]
    assert office.apart() == back
    again = office.refund(waiting["key"], OTHER)
    assert office.one(again)["pay"]["to"] == OTHER
    office.pay(again)
    office.work()
    assert (office.state(again), office.queue(), office.apart()) == ("final", [], 0)
    assert [one.amount for one in office.went()] == [AMOUNT, back]
    assert {one.kind for one in office.town.unmatched()} <= {Kind.TAKEN_BACK}


@pytest.mark.parametrize("way", ["a reversal", "a payment that comes back"])
def test_what_comes_back_before_it_counted_is_as_if_nothing_had_been(office: Office, way: str):
    """Out and back in one file, before the seats have signed: the ledger hears of neither."""
    id = office.refund(office.lose(), is_signed=False)
    reference = office.pay(id)
    if way == "a reversal":
        office.bank.give_back(reference, "AM09")
    else:
        back = BankTransfer(AMOUNT, end_to_end_id=bank_reference(id), return_reason="AM09")
        office.bank.receive(office.account, back)
    (office.town.city.bank_folder / "day.xml").write_bytes(office.bank.end_day(office.account))
    *_, told_again = office.bank.collect()
    for _ in range(2):
        office.work()
    # Told again as another amount it is refused whole.
    (office.town.city.bank_folder / "other.xml").write_bytes(told_again.replace(b"5000.00", b"1.00"))
    office.work()
    assert [one["problem"][:8] for one in office.get("/v1/unmatched")["files"]] == ["conflict"]
    office.sign()
    office.work()
    told = office.one(id)
    assert (told["refund"]["state"], office.queue(), office.went()) == ("pending", [], [])
    assert [one["state"] for one in told["booked"]] == ["returned", "undone"]
    assert told["pay"]["reference"] == bank_reference(id)
    office.pay(id)
    office.work()
    assert (office.state(id), len(office.went())) == ("final", 1)


def test_one_booking_with_another_amount_is_refused_whole_and_shown(office: Office):
    """Of debits the amount is a part of the identity; of what comes back it is not."""
    id = office.refund(office.lose())
    reference = office.pay(id)
    office.work()
    office.bank.give_back(reference, "AC04")
    office.work()
    [path] = [
        one for one in office.town.city.bank_folder.glob("*.xml") if b"<RvslInd>true" in one.read_bytes()
    ]
    changed = path.read_bytes().replace(b"5000.00", b"1.00")
    (office.town.city.bank_folder / "other.xml").write_bytes(changed)
    office.work()
    [file] = office.get("/v1/unmatched")["files"]
    assert file["problem"].startswith("conflict")
    assert [int(one["amount"]) for one in office.queue()] == [AMOUNT]


def test_a_bank_without_references_of_its_own_pays_a_refund_once(office: Office):
    """A notification and a statement then tell one payment under two names."""
    office.bank.misbehaves.add(Misbehaviour.NO_SERVICER_REFERENCE)
    id = office.refund(office.lose())
    office.pay(id)
    office.work()
    (office.town.city.bank_folder / "day.xml").write_bytes(office.bank.end_day(office.account))
    office.work()
    assert (office.state(id), len(office.went())) == ("final", 1)


def test_only_operators_see_and_decide_and_only_about_the_citys(office: Office):
    town, id = office.town, office.refund(office.lose())
    for method, path in (("get", ""), ("post", f"/{id}/approve"), ("post", f"/{id}/cancel")):
        answer = office.client.request(
            method, f"/v1/unmatched/refunds{path}", json={"why": "x"}, headers=town.bearer
        )
        assert answer.status_code == 403, answer.text
    refused = office.client.post(
        f"/v1/unmatched/refunds/{id}/cancel", json={"why": "x"}, headers=town.operator
    )
    assert (refused.status_code, "the seats have signed it" in refused.text) == (422, True)
    for body in ({}, {"to": "0x" + "11" * 32, "iban": PAYER}, {"iban": PAYER[:-1] + "9"}):
        told = {"key": "bank:x", "why": "x", **body}
        assert office.client.post("/v1/unmatched/refund", json=told, headers=town.operator).status_code == 422
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    town.pay(invoice)
    town.settle()
    theirs = town.city.gateway.refunds.request("key", invoice.id, None, 1, None, "k")
    answer = office.client.post(f"/v1/unmatched/refunds/{theirs.id}/approve", headers=town.operator)
    assert answer.status_code == 404


def test_an_operator_does_it_all_on_a_page(office: Office):
    visitor = Visitor(office.town)
    visitor.sign_in(office.town.operator_key)
    asked = {"key": office.lose(), "what": "refund", "why": "she called", "iban": PAYER}
    assert visitor.send("/operator", "/operator/unmatched", **asked).status_code == 303
    assert "/operator/refunds" in visitor.get("/operator").text
    [found] = office.get("/v1/unmatched/refunds")["refunds"]
    id = found["refund"]["id"]
    assert bank_reference(id) not in visitor.get("/operator/refunds").text
    for what, code in (("explode", 422), ("approve", 303)):
        sent = visitor.send("/operator/refunds", "/operator/refunds", id=id, what=what)
        assert sent.status_code == code
    page = visitor.get("/operator/refunds").text
    for shown in (bank_reference(id), PAYER, office.account, "5,000.00"):
        assert shown in page
    office.town.record()
    office.sign()
    office.pay(id, amount_tiyn=123)
    office.work()
    page = visitor.get("/operator/refunds").text
    assert "123 tiyn left as" in page
    assert f"the refund is of {AMOUNT} tiyn" in page
    assert "counts for nothing" in page
    assert bank_reference(id) not in page, "nobody pays again while something is out"


def test_where_only_the_hash_of_the_account_is_named_the_bank_told_the_account_with_the_money(
    office: Office,
):
    to = "0x" + sha256(PAYER.encode()).hexdigest()
    made = office.post("/v1/unmatched/refund", 201, key=office.lose(), to=to, why="x")
    office.post(f"/v1/unmatched/refunds/{made['id']}/approve")
    assert office.one(made["id"])["pay"]["to"] == PAYER
    unknown = office.post("/v1/unmatched/refund", 201, key=office.lose(), to="0x" + "11" * 32, why="x")
    office.post(f"/v1/unmatched/refunds/{unknown['id']}/approve")
    assert office.one(unknown["id"])["pay"]["to"] is None


def test_a_batch_that_is_not_listed_pays_no_refund(office: Office):
    """It says nothing about to whom what went."""
    id = office.refund(office.lose())
    entry = BankEntry(
        key="bank:1", is_back=False, asset="KZT", amount_minor=AMOUNT, reference=bank_reference(id), text="",
        receiver_iban=PAYER, transactions=2,
    )  # fmt: skip
    with office.town.city.gateway.engine.begin() as connection:
        assert office.town.city.gateway.refunds.take_bank(connection, [entry], []) == []
    office.work()
    assert office.state(id) == "pending"
    assert "a batch of 2 payments" in office.one(id)["refund"]["problem"]


def test_a_reference_is_read_in_whatever_form_and_only_where_it_is_one():
    entry = BankEntry(
        key="bank:1", is_back=False, asset="KZT", amount_minor=1, reference="", text="", receiver_iban=None,
        transactions=1,
    )  # fmt: skip
    id = "r_" + "ab" * 12
    reference, other = bank_reference(id), bank_reference("r_" + "00" * 12)
    for text in (reference, f"{reference} {reference}", f"по письму {reference.lower()}, спасибо"):
        assert refund_named(replace(entry, text=text)) == id
    for text in ("", f"{reference} {other}", reference[:-1]):
        assert refund_named(replace(entry, text=text)) is None
    assert refund_named(replace(entry, reference=reference, text=other)) == id
    assert refund_named(replace(entry, reference="SALARY", text=reference)) is None
    assert refund_named(replace(entry, reference=f"X{reference}")) is None


def test_who_lets_a_refund_go_reads_why_of_which_money_and_to_which_account(office: Office):
    visitor = Visitor(office.town)
    visitor.sign_in(office.town.operator_key)
    key = office.lose()
    office.post("/v1/unmatched/refund", 201, key=key, iban=PAYER, why="a letter of 3 May")
    page = visitor.get("/operator/refunds").text
    before_the_button = page[: page.index('value="approve"')]
    for told in (PAYER, "a letter of 3 May", key):
        assert told in before_the_button


def test_after_a_wrong_payment_the_operator_reads_what_to_do_and_once(office: Office):
    visitor = Visitor(office.town)
    visitor.sign_in(office.town.operator_key)
    id = office.refund(office.lose())
    page = visitor.get("/operator/refunds").text
    # What is typed into the bank's form is copied, and not retyped: another amount counts for nothing.
    for copied in (office.account, PAYER, "5000.00", bank_reference(id)):
        assert f'data-copy="{copied}"' in page
    office.pay(id, payee_iban=OTHER)
    office.work()
    page = visitor.get("/operator/refunds?lang=en").text
    assert "Have the bank take it back" in page
    assert "data-copy" not in page
    assert page.count("which is not the refund") == 1
