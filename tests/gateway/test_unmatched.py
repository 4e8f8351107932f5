"""Money that no policy could place: a person decides, once, and it stands for ever who and why."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256

import pytest

from contracts.bindings import Terms
from gateway.budget.desk import Desk
from gateway.db import reading
from gateway.demo import SALE_CODE
from gateway.merchants import store as merchants
from gateway.merchants.policy import Policy, set_policy
from gateway.payments import store
from gateway.payments.refund_model import RefundState
from gateway.payments.refunds import Refunds
from gateway.payments.service import Request
from gateway.payments.store import Decision, Invoice
from gateway.payments.unmatched import Unmatched
from gateway.rails import Evidence, Kind, Stage
from gateway.steps.loop import Step
from gateway.worker import Worker
from ledger.audit import audit
from ledger.records import Account, Invalid, decode
from ledger.records import Refund as RefundRecord
from ledger.rules import UNMATCHED_S
from tests.gateway.conftest import Town

ACTOR, WHY = "operator_1", "the payer wrote to us"


def queue_of(town: Town) -> Unmatched:
    found = town.city.gateway.unmatched
    assert found is not None
    return found


def lost_transfer(town: Town, amount: int = 500_000) -> str:
    """A bank transfer with no reference; returns the key of what is in the queue."""
    town.transfer_in_tenge(amount, "for parking")
    town.take_bank_files()
    [waiting] = [one for one in queue_of(town).list((0, ""), 10) if one.seen.kind is Kind.BANK]
    return waiting.seen.key


def late(town: Town, invoice: Invoice, seconds: int = 5_000) -> str:
    """Money for an invoice that is over by so much; returns its key."""
    town.wait(seconds)
    town.deposit(invoice)
    town.finalise()
    [seen] = [seen for seen in town.seen(invoice) if seen.kind is Kind.DEPOSIT]
    return seen.key


def policy(town: Town, **terms: object) -> None:
    with town.city.gateway.engine.begin() as connection:
        set_policy(connection, town.merchant_id, Policy(**terms), ACTOR, town.city.clock())


# --- late money -----------------------------------------------------------------------------


def test_ff10_late_money_counts_where_the_rate_has_hardly_moved(town: Town):
    invoice = town.invoice()
    key = late(town, invoice)
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"late"})
    assert town.stored_status(invoice) == "final"
    [waits, decided] = queue_of(town).decisions(key)
    assert (waits.action, decided.action, decided.actor) == (Decision.LATE, Decision.ACCEPTED, "policy")
    assert town.unmatched() == []


def test_ff10_late_money_is_held_where_the_rate_has_moved_and_a_person_decides(town: Town):
    invoice = town.invoice()
    for exchange in town.city.outside.rates.exchanges.values():
        exchange["USDT/KZT"] = exchange["USDT/KZT"] * Decimal("1.025")
    town.city.outside.rates.official["USD"] = (Decimal("524.70"), 1)
    key = late(town, invoice, 5_000)
    assert (town.status(invoice), town.notes(invoice)) == ("expired", {"late", "held"})
    assert town.payments.look(invoice.id)[1].held_minor == invoice.due_minor
    [waiting] = queue_of(town).list((0, ""), 10)
    assert (waiting.seen.key, waiting.invoice.id, "moved by" in waiting.why) == (key, invoice.id, True)
    # The city's share is the city's all the same, and booked.
    town.settle()
    assert sum(transfer.amount for transfer in town.revenue()) == town.treasury() > 0
    queue_of(town).assign(key, invoice.id, ACTOR, WHY)
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"late"})
    assert queue_of(town).list((0, ""), 10) == []
    assert town.events(invoice)[-1] == "invoice.final"


def test_late_money_is_held_when_it_is_too_late_whatever_the_rate(town: Town):
    policy(town, late_accept_s=3_600)
    invoice = town.invoice()
    late(town, invoice, 900 + 3_600 + 30)
    assert (town.status(invoice), town.notes(invoice)) == ("expired", {"late", "held"})
    [waiting] = queue_of(town).list((0, ""), 10)
    assert "the policy accepts 3600" in waiting.why


def test_without_a_rate_late_money_waits_and_is_not_decided(town: Town):
    from gateway.rates_simulator import Misbehaviour

    invoice = town.invoice()
    for name in ("nationalbank", "exchange-a", "exchange-b"):
        town.city.outside.rates.misbehaves[name] = Misbehaviour.ERROR_PAGE_WITH_200
    late(town, invoice)
    assert (town.status(invoice), town.notes(invoice)) == ("expired", {"late", "held"})
    assert queue_of(town).list((0, ""), 10) == []
    town.city.outside.rates.misbehaves.clear()
    town.city.clock.wait(60)
    assert town.payments.decide_late() == 1
    assert town.status(invoice) == "final"
    assert town.payments.decide_late() == 0


def test_a_decision_about_late_money_is_never_made_again(town: Town):
    invoice = town.invoice()
    key = late(town, invoice)
    for exchange in town.city.outside.rates.exchanges.values():
        exchange["USDT/KZT"] = exchange["USDT/KZT"] * Decimal("1.029")
    town.city.clock.wait(100)
    town.payments.decide_late()
    town.settle()
    assert town.status(invoice) == "final"
    assert len(queue_of(town).decisions(key)) == 2


def test_tenge_that_were_asked_for_in_tenge_count_late_without_a_rate(town: Town):
    bill = town.bill()
    town.city.clock.wait(bill.expires_s - bill.created_s + 3_600)
    town.transfer_in_tenge(bill.due_minor, f"ref {bill.reference}")
    town.take_bank_files()
    assert (town.status(bill), town.notes(bill)) == ("final", {"late"})


def test_late_money_can_pay_the_new_quote_of_the_same_order(town: Town):
    """The payer's money came after the time; the merchant quoted the order again."""
    policy(town, late_accept_s=60)
    order = {"merchant_reference": "order-77"}
    first = town.invoice(**order)
    key = late(town, first)
    second = town.invoice(**order)
    assert second.id != first.id
    assert second.attempt == 1
    queue_of(town).assign(key, second.id, ACTOR, WHY)
    assert (town.status(first), town.notes(first)) == ("expired", set())
    assert town.payments.look(second.id)[1].paid_minor == first.due_minor


# --- the queue ---------------------------------------------------------------------------------


def test_ff48_what_came_without_a_reference_is_assigned_and_pays(town: Town):
    bill = town.bill()
    key = lost_transfer(town, bill.due_minor)
    assert town.status(bill) == "open"
    seen = queue_of(town).assign(key, bill.id, ACTOR, WHY)
    assert (seen.invoice_id, seen.decision) == (bill.id, Decision.ASSIGNED)
    assert town.status(bill) == "final"
    town.record()
    assert [transfer.amount for transfer in town.revenue()] == [bill.due_minor]
    assert queue_of(town).list((0, ""), 10) == []
    [made] = queue_of(town).decisions(key)
    assert (made.actor, made.why, made.invoice_id, made.at_s) == (ACTOR, WHY, bill.id, town.city.clock())


def test_the_same_decision_again_is_the_same_answer_and_another_is_a_conflict(town: Town):
    bill, other, queue = town.bill(), town.bill(), queue_of(town)
    key = lost_transfer(town)
    first = queue.assign(key, bill.id, ACTOR, WHY)
    assert queue.assign(key, bill.id, "somebody else", "again") == first
    for decide in (
        lambda: queue.assign(key, other.id, ACTOR, WHY),
        lambda: queue.keep(key, ACTOR, WHY),
        lambda: queue.refund(key, b"\1" * 32, ACTOR, WHY),
    ):
        with pytest.raises(Invalid, match=f"{ACTOR} decided at {town.city.clock()}: assigned"):
            decide()
    assert len(queue.decisions(key)) == 1
    kept = lost_transfer(town, 7)
    assert queue.keep(kept, ACTOR, WHY).decision is Decision.KEPT
    assert queue.keep(kept, ACTOR, WHY).decision is Decision.KEPT
    with pytest.raises(Invalid, match="kept"):
        queue.assign(kept, bill.id, ACTOR, WHY)
    assert queue.list((0, ""), 10) == []


def test_a_decision_needs_a_reason_an_evidence_and_an_invoice(town: Town):
    bill, queue = town.bill(), queue_of(town)
    key = lost_transfer(town)
    for why in ("", "  ", "x" * 501, "a\nb"):
        with pytest.raises(Invalid, match="reason"):
            queue.assign(key, bill.id, ACTOR, why)
    with pytest.raises(Invalid, match="no evidence"):
        queue.assign("nothing", bill.id, ACTOR, WHY)
    with pytest.raises(Invalid, match="no invoice"):
        queue.assign(key, "nobody", ACTOR, WHY)
    assert queue.decisions(key) == []


def test_money_pays_only_an_invoice_that_takes_it(town: Town):
    queue, in_coins = queue_of(town), town.invoice()
    key = lost_transfer(town)
    with pytest.raises(Invalid, match="it takes USDT, this is KZT"):
        queue.assign(key, in_coins.id, ACTOR, WHY)
    bill = town.bill()
    held = hold(town)
    with pytest.raises(Invalid, match="it takes KZT, this is USDT"):
        queue.assign(held, bill.id, ACTOR, WHY)
    paid = town.invoice()
    town.pay(paid)
    town.settle()
    with pytest.raises(Invalid, match="it pays the invoice"):
        queue.assign(town.seen(paid)[0].key, in_coins.id, ACTOR, WHY)


def hold(town: Town) -> str:
    policy(town, late_accept_s=60)
    return late(town, town.invoice())


def test_a_merchants_money_never_pays_another_merchants_invoice(town: Town):
    key = hold(town)
    with town.city.gateway.engine.begin() as connection:
        other = merchants.Merchant("m_2", "Other", "000440003800", "KZ", town.city.keys.address("builder"))
        merchants.add_merchant(connection, other, 1)
    theirs = town.payments.create(
        Request(
            SALE_CODE, "Tea", 5_000, "USDT", merchant_id="m_2", merchant_reference="x", payee=other.wallet
        )
    )
    with pytest.raises(Invalid, match="another merchant's"):
        queue_of(town).assign(key, theirs.id, ACTOR, WHY)


def test_held_money_that_is_kept_or_refunded_pays_nothing_any_more(town: Town):
    policy(town, late_accept_s=60)
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    key = late(town, invoice)
    town.settle()
    queue_of(town).keep(key, ACTOR, "the payer was asked and lets it be")
    assert (town.status(invoice), town.notes(invoice)) == ("expired", set())
    # It can still go back: it came, and nobody has given it back.
    refunds = town.city.gateway.refunds
    assert refunds is not None
    refund = refunds.request(ACTOR, invoice.id, key, invoice.due_minor, None, "k")
    assert refund.state is RefundState.REQUESTED


def test_a_late_duplicate_that_goes_back_takes_nothing_from_what_was_paid_in_time(town: Town):
    policy(town, late_accept_s=60)
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    town.pay(invoice)
    town.finalise()
    key = late(town, invoice)
    town.settle()
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"late", "held"})
    refunds = town.city.gateway.refunds
    assert refunds is not None
    refunds.request(ACTOR, invoice.id, key, invoice.due_minor, None, "k")
    assert (town.status(invoice), town.stored_status(invoice)) == ("final", "final")
    assert "refund_pending" in town.notes(invoice)
    assert town.payments.claim(invoice.id, ACTOR)
    # What goes back pays nothing else any more.
    with pytest.raises(Invalid, match=f"{invoice.due_minor} of its {invoice.due_minor} are given back"):
        queue_of(town).assign(key, invoice.id, ACTOR, WHY)


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_of_two_who_decide_at_once_one_does_and_the_other_is_told(
    request: pytest.FixtureRequest, database: str
):
    town: Town = request.getfixturevalue(database)
    bills, queue = [town.bill(), town.bill()], queue_of(town)
    key = lost_transfer(town)
    results: list[object] = []
    gate = threading.Barrier(6)

    def decide(number: int) -> None:
        gate.wait(60)
        try:
            results.append(queue.assign(key, bills[number % 2].id, f"actor {number}", WHY))
        except Invalid as refused:
            results.append(refused)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(isinstance(one, Invalid) for one in results) == 3
    assert len(results) == 6
    assert len(queue.decisions(key)) == 1
    assert sum(town.payments.look(bill.id)[1].paid_minor for bill in bills) == 500_000


# --- counted apart, sent back, retained ----------------------------------------------------------


def with_account_for_unmatched(town: Town) -> None:
    """The Council registers an account for money that nobody could match."""
    desk, city = Desk(town.city.writer), town.city
    like = next(
        record
        for record in map(decode, _records(town))
        if isinstance(record, Account) and record.kind == "bank" and record.fund == "RETAINED"
    )
    account = replace(like, time=0, account="payable-kzt", kind="payable", owner=bytes(32))
    desk.act(account, city.keys.council(3))
    assert town.city.gateway.view.unmatched_account("KZT") == ("RETAINED", "payable-kzt")


def _records(town: Town):
    from ledger import store as ledger_store

    return ledger_store.records(town.city.gateway.engine)


def test_unmatched_money_is_counted_apart_and_matched_out_of_its_receipt(town: Town):
    with_account_for_unmatched(town)
    bill, queue = town.bill(), queue_of(town)
    key = lost_transfer(town, bill.due_minor)
    with pytest.raises(Invalid, match="being recorded"):
        queue.assign(key, bill.id, ACTOR, WHY)
    town.record()
    [apart] = town.revenue()
    assert (apart.credit, apart.amount) == ("payable-kzt", bill.due_minor)
    queue.assign(key, bill.id, ACTOR, WHY)
    town.record()
    apart, matched = town.revenue()
    assert (matched.debit, matched.amount, matched.purpose) == ("payable-kzt", bill.due_minor, bill.purpose)
    assert town.status(bill) == "final"
    assert town.payments.position(bill.id) is not None
    state = town.city.gateway.view.refresh()
    assert state.accounts["payable-kzt"].balance == 0


def test_unmatched_money_goes_back_by_the_seats_and_once(town: Town):
    with_account_for_unmatched(town)
    queue, key = queue_of(town), lost_transfer(town)
    to = sha256(b"KZ00").digest()
    with pytest.raises(Invalid, match="not on the ledger yet"):
        queue.refund(key, to, ACTOR, WHY)
    town.record()
    for wrong in (b"\1" * 20, bytes(32)):
        with pytest.raises(Invalid, match="32 bytes"):
            queue.refund(key, wrong, ACTOR, WHY)
    refund = queue.refund(key, to, ACTOR, WHY)
    assert queue.refund(key, to, "another", "again") == refund
    with pytest.raises(Invalid, match="decided at"):
        queue.refund(key, b"\2" * 32, ACTOR, WHY)
    refunds = Refunds(town.payments)
    refunds.approve(refund.id, ACTOR)
    town.record()
    found = [record for record in map(decode, _records(town)) if isinstance(record, RefundRecord)]
    assert [(one.amount, one.to) for one in found] == [(500_000, to)]
    assert queue.list((0, ""), 10) == []
    # What the bank then books ends it: tests/gateway/test_refunds_by_bank.py.
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.PENDING


@pytest.mark.parametrize("is_apart", [True, False])
def test_leak_12_unmatched_for_a_year_becomes_retained_and_no_longer_goes_back(town: Town, is_apart: bool):
    if is_apart:
        with_account_for_unmatched(town)
    queue, code = queue_of(town), town.bill().purpose
    key = lost_transfer(town, 123_400)
    town.record()
    town.city.clock.wait(UNMATCHED_S)
    assert queue.overdue() == []
    assert queue.retain(code) == []
    town.city.clock.wait(1)
    # It is listed before anything is done.
    assert [seen.key for seen in queue.overdue()] == [key]
    assert [seen.key for seen in queue.retain(code)] == [key]
    assert queue.retain(code) == []
    town.record()
    last = town.revenue()[-1]
    assert (last.amount, last.purpose, last.asset) == (123_400, code, "KZT")
    [made] = queue.decisions(key)
    assert (made.action, made.actor) == (Decision.RETAINED, "retention")
    with pytest.raises(Invalid, match="retained"):
        queue.refund(key, b"\1" * 32, ACTOR, WHY)
    assert queue.list((0, ""), 10) == []


def test_what_a_stranger_flushed_into_the_treasury_is_given_to_a_code_and_the_audit_misses_nothing(
    town: Town,
):
    """Else anybody makes each audit of an honest city invalid for ever, for one unit of a token (T8, T9)."""
    city, queue = town.city, queue_of(town)
    invoice = town.invoice()
    town.deposit(invoice)
    town.settle()
    paid = town.treasury()
    forged = Terms(invoice.number, invoice.purpose, city.keys.address("builder"), 10_000)
    city.city.transfer(town.payer, town.token, city.city.deposit_address(forged), 7)
    city.city.flush(town.payer, [forged], town.token)
    # Straight to the treasury, by no router: that is told by the audit and is on no ledger.
    city.city.transfer(town.payer, town.token, city.plan.deployment.treasury, 5)
    town.settle()
    assert [transfer.amount for transfer in town.revenue()] == [paid]
    [seen] = queue.retain(SALE_CODE)
    assert (seen.kind, seen.city_minor, queue.retain(SALE_CODE)) == (Kind.FLUSH, 7, [])
    [made] = queue.decisions(seen.key)
    assert made.why.startswith("flushed by a stranger, given to ")
    town.record()
    assert [transfer.amount for transfer in town.revenue()] == [paid, 7]
    assert queue.list((0, ""), 10) == []
    city.worker.publish_if_new()
    verdict = audit(city.folder / "bundle", rpcs=[city.outside.rpc_url])
    assert [finding for finding in verdict.findings if finding.rule in {"T8", "T9"}] == []
    assert [told for told in verdict.said if "got 5 base units of USDT by 1 movements" in told]


def test_leak_12_the_step_gives_it_to_the_code_of_the_settings_and_without_one_does_not_exist(town: Town):
    def steps(code: str) -> dict[str, Step]:
        gateway, city = town.city.gateway, town.city
        made = Worker(gateway, None, city.worker.rail, city.city, None, city.bank_folder, code)
        return {step.name: step for step in made.steps()}

    key, code = lost_transfer(town, 123_400), town.bill().purpose
    town.record()
    town.city.clock.wait(UNMATCHED_S + 1)
    assert "retention" not in steps("")
    # A code that no rule knows keeps nothing and loses nothing.
    with pytest.raises(Invalid, match="no revenue rule"):
        steps("000000")["retention"].run()
    assert [seen.key for seen in queue_of(town).overdue()] == [key]
    assert steps(code)["retention"].run() == 1
    assert steps(code)["retention"].run() == 0
    town.record()
    assert (town.revenue()[-1].amount, town.revenue()[-1].purpose) == (123_400, code)
    assert queue_of(town).overdue() == []


def test_a_page_of_the_queue_follows_the_one_before(town: Town):
    engine = town.city.gateway.engine
    with engine.begin() as connection:
        pieces = [
            Evidence(f"bank:{number:03}", Kind.BANK, Stage.FINAL, "KZT", 5, 5, private=b"x")
            for number in range(25)
        ]
        town.payments.take(connection, pieces)
    queue, after, keys = queue_of(town), (0, ""), []
    while page := queue.list(after, 10):
        keys += [one.seen.key for one in page]
        after = (page[-1].seen.seen_s, page[-1].seen.key)
    assert keys == [piece.key for piece in pieces]
    with reading(engine) as connection:
        assert store.stages_of(connection, "bank:000") == [("final", town.city.clock())]


def test_money_whose_block_is_gone_is_not_decided_about(town: Town):
    engine, bill = town.city.gateway.engine, town.bill()
    piece = Evidence("bank:1", Kind.BANK, Stage.DETECTED, "KZT", 5, 5, private=b"x")
    for stage in (Stage.DETECTED, Stage.GONE):
        with engine.begin() as connection:
            town.payments.take(connection, [replace(piece, stage=stage)])
    with pytest.raises(Invalid, match="no more"):
        queue_of(town).assign("bank:1", bill.id, ACTOR, WHY)
