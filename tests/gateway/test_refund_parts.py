"""A refund that names no money is first of what does not count, as a merchant means it who gives a duplicate back."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DatabaseError

from gateway.client import Client
from gateway.db import reading
from gateway.merchants.policy import Over
from gateway.payments.refund_model import Part, Refund
from gateway.payments.refunds import Refunds
from gateway.payments.store import Invoice, tables
from gateway.payments.store import refunds as rows
from ledger.records import Invalid
from tests.gateway.conftest import Town
from tests.gateway.test_unmatched import ACTOR, WHY, late, policy, queue_of


class Shop:
    """A merchant whose policy holds what is more than a minute late."""

    def __init__(self, town: Town, over: Over = Over.CREDIT) -> None:
        self.town = town
        policy(town, late_accept_s=60, over_policy=over)
        found = town.city.gateway.refunds
        assert found is not None
        self.refunds: Refunds = found

    def paid(self, more: int = 0) -> Invoice:
        invoice = self.town.invoice(refund_to=self.town.city.keys.address("payer"))
        self.town.deposit(invoice, invoice.due_minor + more)
        self.town.settle()
        assert self.town.status(invoice) == "final"
        return invoice

    def late(self, invoice: Invoice, units: int) -> str:
        """Money that came too late and is held; returns its key."""
        known = {seen.key for seen in self.town.seen(invoice)}
        # One after the other: in one second it would be the key that decides.
        self.town.wait(5_000)
        self.town.deposit(invoice, units)
        self.town.settle()
        [new] = [one for one in self.town.seen(invoice) if one.key not in known and one.kind == "deposit"]
        assert "held" in self.town.notes(invoice)
        return new.key

    def back(self, invoice: Invoice, units: int, key: str | None = None) -> Refund:
        with reading(self.town.city.gateway.engine) as connection:
            number = len(rows.refunds_of_invoice(connection, invoice.id))
        return self.refunds.request(ACTOR, invoice.id, key, units, None, f"{invoice.id} {number}")

    def parts(self, refund: Refund) -> list[Part]:
        with reading(self.town.city.gateway.engine) as connection:
            return rows.parts_of(connection, [refund.id]).get(refund.id, [])

    def states(self, invoice: Invoice) -> tuple[str, str]:
        return self.town.status(invoice), self.town.stored_status(invoice)


@pytest.fixture
def shop(town: Town) -> Shop:
    return Shop(town)


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_a_late_duplicate_that_goes_back_without_a_name_takes_nothing_from_what_was_paid_in_time(
    request: pytest.FixtureRequest, database: str
):
    shop = Shop(request.getfixturevalue(database))
    town, invoice = shop.town, shop.paid()
    key = shop.late(invoice, invoice.due_minor)
    refund = shop.back(invoice, invoice.due_minor)
    assert shop.parts(refund) == [Part(key, invoice.due_minor)]
    assert shop.states(invoice) == ("final", "final")
    assert "refund_pending" in town.notes(invoice)
    assert town.payments.claim(invoice.id, ACTOR)
    # It has gone, and the goods were paid all the same.
    shop.refunds.approve(refund.id, ACTOR)
    merchant = town.city.keys.account("merchant")
    town.city.city.transfer(merchant, town.token, refund.receiver, refund.amount_minor)
    town.finalise()
    shop.refunds.follow()
    assert shop.refunds.look(refund.id).state == "final"
    assert shop.states(invoice) == ("final", "final")
    assert "refunded" in town.notes(invoice)
    # What was given back pays nothing else, and all that came is no more than all that came.
    with pytest.raises(Invalid, match=f"{invoice.due_minor} of its {invoice.due_minor} are given back"):
        queue_of(town).assign(key, invoice.id, ACTOR, WHY)
    with pytest.raises(Invalid, match=f"0 of {invoice.due_minor} are left of this"):
        shop.back(invoice, 1, key)
    # Only now it is of the price.
    shop.back(invoice, 1)
    assert shop.states(invoice) == ("refund_pending", "refund_pending")
    with pytest.raises(DatabaseError, match="insert-only"), town.city.gateway.engine.begin() as connection:
        connection.execute(tables.refund_part.delete())


def test_what_is_more_than_the_money_that_does_not_count_is_of_what_counts(shop: Shop):
    invoice = shop.paid()
    keys = [shop.late(invoice, units) for units in (300, 400)]
    first = shop.back(invoice, 500)
    assert shop.parts(first) == sorted(
        [Part(keys[0], 300), Part(keys[1], 200)], key=lambda one: one.evidence_key
    )
    assert shop.town.status(invoice) == "final"
    second = shop.back(invoice, 201)
    assert shop.parts(second) == [Part(keys[1], 200)]
    assert shop.town.status(invoice) == "refund_pending"
    shop.refunds.cancel(second.id, ACTOR, "one too many")
    assert shop.states(invoice) == ("final", "final")
    # A name goes before: then the rest is what is left.
    shop.back(invoice, 150, keys[1])
    assert shop.parts(shop.back(invoice, 50)) == [Part(keys[1], 50)]
    assert shop.town.status(invoice) == "final"
    shop.back(invoice, 1)
    assert shop.town.status(invoice) == "refund_pending"


def test_money_that_comes_later_is_not_what_went_back_before(shop: Shop):
    invoice = shop.paid()
    refund = shop.back(invoice, invoice.due_minor)
    assert shop.states(invoice) == ("refund_pending", "refund_pending")
    shop.late(invoice, invoice.due_minor)
    assert shop.parts(refund) == []
    assert shop.states(invoice) == ("refund_pending", "refund_pending")


def test_what_is_accepted_after_it_was_asked_back_counts_and_so_does_its_refund(town: Town):
    shop = Shop(town)
    # Too late to be accepted by itself, and assigned in the end: first its refund is cancelled.
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    key = late(town, invoice)
    town.settle()
    refund = shop.back(invoice, invoice.due_minor)
    assert shop.states(invoice) == ("refund_pending", "refund_pending")
    with pytest.raises(Invalid, match="are given back"):
        queue_of(town).assign(key, invoice.id, ACTOR, WHY)
    shop.refunds.cancel(refund.id, ACTOR, "it may count")
    queue_of(town).assign(key, invoice.id, ACTOR, WHY)
    assert shop.states(invoice) == ("final", "final")
    shop.back(invoice, 1)
    assert shop.states(invoice) == ("refund_pending", "refund_pending")


def test_what_was_kept_goes_back_before_the_price(shop: Shop):
    invoice = shop.paid()
    key = shop.late(invoice, 700)
    queue_of(shop.town).keep(key, ACTOR, "she lets it be")
    assert shop.parts(shop.back(invoice, 700)) == [Part(key, 700)]
    assert shop.states(invoice) == ("final", "final")


def test_what_is_over_goes_back_by_policy_once_whatever_late_money_goes_back_too(town: Town):
    shop = Shop(town, Over.REFUND)
    invoice = shop.paid(more=500)
    [over] = shop.refunds.of(town.merchant_id, (1 << 62, ""), 10)
    assert (over.amount_minor, shop.parts(over)) == (500, [])
    key = shop.late(invoice, 900)
    back = shop.back(invoice, 900)
    assert shop.parts(back) == [Part(key, 900)]
    for _ in range(3):
        with town.city.gateway.engine.begin() as connection:
            town.payments.states.follow(connection, invoice.id, town.city.clock())
    assert len(shop.refunds.of(town.merchant_id, (1 << 62, ""), 10)) == 2
    # The policy's was of what is over: cancelled, it is asked for again, although more has gone by now.
    shop.refunds.cancel(over.id, ACTOR, "another time")
    amounts = [one.amount_minor for one in shop.refunds.of(town.merchant_id, (1 << 62, ""), 10)]
    assert sorted(amounts) == [500, 500, 900]
    assert shop.states(invoice) == ("final", "final")


def test_the_client_names_the_money_that_goes_back(shop: Shop):
    invoice = shop.paid()
    keys = [shop.late(invoice, 300) for _ in range(2)]
    with Client("http://testserver", shop.town.merchant_key, http=shop.town.client()) as client:
        client.request_refund(invoice.id, "300", "c-1", evidence=keys[1])
        told = client.request_refund(invoice.id, "300", "c-2")
    assert shop.parts(shop.refunds.look(told.id)) == [Part(keys[0], 300)]
