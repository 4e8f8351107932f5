"""Tenge from bank files to the ledger: what counts, once, and what a person must see."""

from __future__ import annotations

import json

import pytest

from gateway.db import reading
from gateway.payments import store
from gateway.rails import Kind
from gateway.rails.tenge.simulator import Misbehaviour
from gateway.rails.tenge.simulator import Transfer as BankTransfer
from tests.gateway.conftest import Town


def problems(town: Town) -> list[str]:
    with reading(town.city.gateway.engine) as connection:
        return [problem for _, problem, _ in store.unread_files(connection)]


def test_a_transfer_with_its_reference_pays_a_bill_and_is_revenue(town: Town):
    bill = town.bill()
    town.transfer_in_tenge(bill.due_minor, f"Parking {bill.reference}")
    assert town.take_bank_files() == [bill.id]
    town.record()
    assert town.status(bill) == "final"
    assert [(t.asset, t.amount, t.purpose) for t in town.revenue()] == [("KZT", bill.due_minor, bill.purpose)]


@pytest.mark.parametrize(
    "kind", ["the same file twice", "the same file under another name", "a statement of the same day"]
)
def test_the_same_money_told_again_counts_once(town: Town, kind: str):
    bill = town.bill()
    if kind == "the same file twice":
        town.city.outside.bank.misbehaves.add(Misbehaviour.SAME_FILE_TWICE)
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    folder = town.city.bank_folder
    if kind == "the same file under another name":
        (folder / "again.xml").write_bytes(next(folder.glob("*.xml")).read_bytes())
    if kind == "a statement of the same day":
        (folder / "statement.xml").write_bytes(town.city.outside.bank.end_day(town.city.plan.bank_iban))
    town.take_bank_files()
    town.record()
    assert town.status(bill) == "final"
    assert town.notes(bill) == set()
    assert len(town.revenue()) == 1
    assert problems(town) == []


def test_announced_money_is_seen_and_booked_money_is_final(town: Town):
    bill, bank = town.bill(), town.city.outside.bank
    reference = bank.announce(town.city.plan.bank_iban, BankTransfer(bill.due_minor, bill.reference))
    town.take_bank_files()
    assert town.status(bill) == "detected"
    assert town.submitted() == []
    bank.confirm(reference)
    town.take_bank_files()
    assert town.status(bill) == "final"
    assert len(town.submitted()) == 1


def test_an_announcement_that_comes_after_the_booking_takes_nothing_back(town: Town):
    bill, bank = town.bill(), town.city.outside.bank
    reference = bank.announce(town.city.plan.bank_iban, BankTransfer(bill.due_minor, bill.reference))
    announced = bank.collect()
    bank.confirm(reference)
    town.take_bank_files()
    (town.city.bank_folder / "late.xml").write_bytes(announced[0])
    town.city.worker.poll_bank()
    assert town.status(bill) == "final"


def test_money_announced_without_its_reference_finds_its_bill_when_it_is_booked_with_it(town: Town):
    bill, bank = town.bill(), town.city.outside.bank
    reference = bank.announce(town.city.plan.bank_iban, BankTransfer(bill.due_minor, ""))
    announced = bank.collect()[0]
    bank.confirm(reference)
    booked = bank.collect()[0]
    told = f"<RmtInf><Ustrd>{bill.reference}</Ustrd></RmtInf></TxDtls>".encode()
    (town.city.bank_folder / "1.xml").write_bytes(announced)
    town.city.worker.poll_bank()
    assert len(town.unmatched()) == 1
    (town.city.bank_folder / "2.xml").write_bytes(booked.replace(b"</TxDtls>", told))
    town.city.worker.poll_bank()
    assert town.status(bill) == "final"
    assert town.unmatched() == []


@pytest.mark.parametrize("what", ["the amount", "the reference"])
def test_one_identity_with_other_content_is_refused_whole_and_shown(town: Town, what: str):
    bill, other = town.bill(), town.bill()
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    [path] = town.city.bank_folder.glob("*.xml")
    content = path.read_bytes()
    if what == "the amount":
        amount = f"{bill.due_minor // 100}.{bill.due_minor % 100:02}".encode()
        changed = content.replace(amount, b"1.00")
    else:
        changed = content.replace(bill.reference.encode(), other.reference.encode())
    assert changed != content
    (town.city.bank_folder / "other.xml").write_bytes(changed)
    assert town.take_bank_files() == []
    assert (town.status(bill), town.status(other)) == ("final", "open")
    assert len(town.submitted()) == 1
    [problem] = problems(town)
    assert problem.startswith("conflict")


@pytest.mark.parametrize(
    "wrong",
    [Misbehaviour.TRUNCATED_FILE, Misbehaviour.HTML_ERROR_PAGE, Misbehaviour.COMMA_IN_AMOUNTS],
)
def test_a_file_that_is_wrong_counts_for_nothing_and_is_shown(town: Town, wrong: Misbehaviour):
    bill, bank = town.bill(), town.city.outside.bank
    bank.misbehaves.add(wrong)
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    town.take_bank_files()
    assert town.status(bill) == "open"
    assert len(problems(town)) == 1
    bank.misbehaves.clear()
    (town.city.bank_folder / "statement.xml").write_bytes(bank.end_day(town.city.plan.bank_iban))
    town.take_bank_files()
    assert town.status(bill) == "final"


def test_a_file_of_another_account_is_not_ours(town: Town):
    town.city.outside.bank.misbehaves.add(Misbehaviour.ANOTHER_ACCOUNT)
    assert town.take_bank_files() == []
    [problem] = problems(town)
    assert problem.startswith("T5")


def test_a_batch_that_the_bank_does_not_list_goes_to_the_queue(town: Town):
    bill, bank = town.bill(), town.city.outside.bank
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    [content] = bank.collect()
    start, end = content.index(b"<TxDtls>"), content.index(b"</NtryDtls>")
    summed = b"<Btch><NbOfTxs>2</NbOfTxs></Btch>"
    (town.city.bank_folder / "batch.xml").write_bytes(content[:start] + summed + content[end:])
    town.city.worker.poll_bank()
    assert town.status(bill) == "open"
    [waiting] = town.unmatched()
    assert (waiting.amount_minor, waiting.reference) == (bill.due_minor, "")


def test_a_listed_batch_pays_each_bill(town: Town):
    bills = [town.bill(), town.bill()]
    town.city.outside.bank.receive(
        town.city.plan.bank_iban, *(BankTransfer(bill.due_minor, bill.reference) for bill in bills)
    )
    town.take_bank_files()
    town.record()
    assert [town.status(bill) for bill in bills] == ["final", "final"]
    assert len(town.revenue()) == 2


def test_a_credit_taken_back_goes_to_the_queue_and_the_bill_stays_as_it_was(town: Town):
    bill, bank = town.bill(), town.city.outside.bank
    reference = town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    bank.reverse(reference)
    town.take_bank_files()
    town.record()
    assert town.status(bill) == "final"
    [waiting] = town.unmatched()
    assert (waiting.kind, waiting.amount_minor) == (Kind.TAKEN_BACK, bill.due_minor)
    assert len(town.revenue()) == 1


def test_our_own_payments_and_charges_are_no_payments_to_us(town: Town):
    town.city.outside.bank.pay_out(town.city.plan.bank_iban, BankTransfer(500, "charge"))
    assert town.take_bank_files() == []
    assert town.unmatched() == []


CYRILLIC = str.maketrans("ABEKMHOPCTYX", "АВЕКМНОРСТУХ")


def test_a_reference_typed_by_hand_in_cyrillic_is_found(town: Town):
    bill = town.bill()
    typed = bill.reference.lower().upper().translate(CYRILLIC).replace("QZ", "ҚЗ ")
    town.transfer_in_tenge(bill.due_minor, f"Оплата стоянки, {typed[:7]}-{typed[7:]} спасибо")
    town.take_bank_files()
    assert town.status(bill) == "final"


@pytest.mark.parametrize("text", ["mistyped", "none", "two"])
def test_money_whose_reference_says_nothing_certain_goes_to_the_queue(town: Town, text: str):
    bill, other = town.bill(), town.bill()
    if text == "mistyped":
        wrong = "8" if bill.reference[-1] != "8" else "9"
        written = bill.reference[:-1] + wrong
    else:
        written = {"none": "for my parking", "two": f"{bill.reference} {other.reference}"}[text]
    town.transfer_in_tenge(bill.due_minor, written)
    town.take_bank_files()
    assert (town.status(bill), town.status(other)) == ("open", "open")
    assert [piece.amount_minor for piece in town.unmatched()] == [bill.due_minor]
    assert town.submitted() == []


def test_tenge_that_name_a_merchants_invoice_are_not_the_citys_revenue(town: Town):
    """The money came to the city's account, and it is the merchant's: a person decides."""
    invoice = town.invoice()
    town.transfer_in_tenge(invoice.tiyn, invoice.reference)
    town.take_bank_files()
    assert town.status(invoice) == "open"
    assert town.submitted() == []
    assert [piece.amount_minor for piece in town.unmatched()] == [invoice.tiyn]


def test_a_bill_quoted_in_dollars_is_paid_in_tenge_at_its_price(town: Town):
    bill = town.bill("USDT")
    town.transfer_in_tenge(bill.tiyn - 100, bill.reference)
    town.take_bank_files()
    assert (town.status(bill), town.notes(bill)) == ("detected", {"partially_paid"})
    town.transfer_in_tenge(100, bill.reference)
    town.take_bank_files()
    town.record()
    assert (town.status(bill), town.notes(bill)) == ("final", set())
    assert sum(transfer.amount for transfer in town.revenue()) == bill.tiyn


def test_what_a_bank_tells_of_a_person_stays_behind_a_commitment(town: Town):
    bill = town.bill()
    town.transfer_in_tenge(
        bill.due_minor, bill.reference, payer_name="A Resident", payer_iban="KZ86125KZT5004100100"
    )
    town.take_bank_files()
    town.record()
    [transfer] = town.revenue()
    [piece] = town.seen(bill)
    assert piece.document == b""
    assert transfer.evidence == piece.evidence_hash
    town.city.worker.publish()
    for path in town.city.publisher.folder.rglob("*"):
        if path.is_file():
            assert b"A Resident" not in path.read_bytes()
            assert b"KZ86125KZT5004100100" not in path.read_bytes()


def test_final_money_in_the_queue_keeps_what_the_bank_told(town: Town):
    """Without it nobody could find whose it is, nor book it later."""
    town.transfer_in_tenge(700, "no reference", payer_name="A Resident")
    town.take_bank_files()
    [piece] = town.unmatched()
    assert piece.evidence_hash is not None
    with reading(town.city.gateway.engine) as connection:
        content = store.private(connection, piece.evidence_hash)
    assert content is not None
    assert json.loads(content)["debtor_name"] == "A Resident"
