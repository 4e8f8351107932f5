"""What a payer reads of money that came after the time: that it counts only where it does."""

from __future__ import annotations

import pytest

from gateway.merchants.policy import Policy, set_policy
from gateway.pages.words import LANGUAGES, load
from gateway.payments.store import Invoice
from tests.gateway.conftest import Town
from tests.gateway.test_unmatched import ACTOR, WHY, late, policy, queue_of

COUNTS, WAITS = "pay.late", "pay.late.held"


def said(town: Town, invoice: Invoice) -> set[str]:
    """Which of the two the payer's page says, the same in every language."""
    found = []
    for language in LANGUAGES:
        page = town.client().get(f"/pay/{invoice.id}", headers={"Accept-Language": language}).text
        found.append({key for key in (COUNTS, WAITS) if load(language)[key] in page})
    assert all(one == found[0] for one in found)
    return found[0]


def test_late_money_that_counts_is_told_to_count(town: Town):
    invoice = town.invoice()
    assert said(town, invoice) == set()
    late(town, invoice)
    assert town.status(invoice) == "final"
    assert said(town, invoice) == {COUNTS}


def test_late_money_that_is_held_is_not_told_to_count_until_somebody_said_so(town: Town):
    policy(town, late_accept_s=60)
    invoice = town.invoice()
    key = late(town, invoice)
    assert said(town, invoice) == {WAITS}
    queue_of(town).assign(key, invoice.id, ACTOR, WHY)
    assert said(town, invoice) == {COUNTS}


def test_of_two_late_payments_each_is_told_as_it_is(town: Town):
    policy(town, late_accept_s=3_600)
    invoice = town.invoice()
    late(town, invoice, 1_000)
    town.wait(5_000)
    town.deposit(invoice, 700)
    town.finalise()
    assert town.notes(invoice) == {"late", "held"}
    assert said(town, invoice) == {COUNTS, WAITS}


def test_late_money_that_goes_back_is_not_told_to_wait_for_a_decision(town: Town):
    policy(town, late_accept_s=60)
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    key = late(town, invoice)
    town.settle()
    refunds = town.city.gateway.refunds
    assert refunds is not None
    refunds.request(ACTOR, invoice.id, key, invoice.due_minor, None, "k")
    assert (town.status(invoice), said(town, invoice)) == ("refund_pending", set())


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_two_texts_are_two(language: str):
    words = load(language)
    assert words[COUNTS] not in words[WAITS]
    assert words[WAITS] not in words[COUNTS]


def test_money_in_time_is_not_told_to_be_late(town: Town):
    with town.city.gateway.engine.begin() as connection:
        set_policy(connection, town.merchant_id, Policy(late_accept_s=60), ACTOR, town.city.clock())
    invoice = town.invoice()
    town.pay(invoice)
    town.settle()
    assert said(town, invoice) == set()
