"""Field failures of payments, by the numbers of the list; others stand with what they are about.

10 and 48 are in test_unmatched, 19, 23, 29 and 30 in test_refunds, 23 and 24 in test_exactly_once, 36 in
test_policy, 43 in test_settlements, 54 in test_payments_export.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import insert, text

from gateway.db import reading
from gateway.payments import store
from gateway.payments.model import Status
from gateway.payments.store import tables
from gateway.rails import Evidence, Kind, Stage
from ledger.records import Invalid
from tests.gateway.conftest import Town

MANY = 100_000


def test_ff03_nothing_that_anybody_says_later_changes_who_is_credited(town: Town):
    """The same log told with another invoice's number, address or reference stays the first one's."""
    mine, theirs = town.invoice(), town.invoice()
    engine = town.city.gateway.engine
    told = Evidence("evm:1:a:b:1", Kind.ROUTER, Stage.DETECTED, "USDT", 5, 1, 1, mine.number, document=b"{}")
    with engine.begin() as connection:
        town.payments.take(connection, [told])
    for changed in (
        replace(told, number=theirs.number, stage=Stage.PAID),
        replace(told, number=b"", address=theirs.deposit_address or b"", stage=Stage.FINAL),
    ):
        with engine.begin() as connection:
            town.payments.take(connection, [changed])
    assert [seen.key for seen in town.seen(mine)] == [told.key]
    assert town.seen(theirs) == []
    for wrong in (replace(told, amount_minor=6, key=told.key), replace(told, asset="USDC")):
        with pytest.raises(Invalid, match="was 5 USDT"), engine.begin() as connection:
            town.payments.take(connection, [replace(wrong, stage=Stage.FINAL)])


def test_ff03_no_route_that_needs_no_key_writes_anything_about_a_payment(town: Town):
    invoice, client = town.invoice(), town.client()
    town.pay(invoice)
    town.finalise()
    before = town.payments.look(invoice.id)
    sender = {"payer": "0x" + "11" * 20, "transaction": "0x" + "22" * 32}
    for path in (f"/v1/invoices/{invoice.id}", f"/pay/{invoice.id}", f"/v1/invoices/{invoice.id}/payer"):
        for method in (client.post, client.put, client.patch):
            assert method(path, json=sender).status_code in {401, 403, 404, 405}
    assert town.payments.look(invoice.id) == before


def test_ff09_money_after_the_end_is_seen_told_and_can_go_back(town: Town):
    """A second payment to an invoice that is final, and one to another that is void."""
    payer = town.city.keys.address("payer")
    final, void = town.invoice(refund_to=payer), town.invoice(refund_to=payer)
    town.pay(final)
    town.settle()
    town.payments.void(void.id)
    assert (town.status(void), town.events(void)[-1]) == ("void", "invoice.void")
    for invoice in (final, void):
        town.deposit(invoice)
    town.settle()
    assert (town.status(final), town.notes(final)) == ("final", {"overpaid"})
    assert town.events(final)[-1] == "invoice.updated"
    assert town.status(void) == "final"
    refunds = town.city.gateway.refunds
    assert refunds is not None
    assert refunds.left(final.id) == 2 * final.due_minor
    refunds.request("key", final.id, None, final.due_minor, None, "k")
    assert (town.status(final), town.notes(final)) == ("final", {"overpaid", "refund_pending"})
    assert sum(transfer.amount for transfer in town.revenue()) == town.treasury()


@pytest.mark.parametrize("stage", [Stage.DETECTED, Stage.CONFIRMING, Stage.PAID])
def test_ff20_goods_are_released_on_final_money_alone(town: Town, stage: Stage):
    invoice, engine = town.invoice(), town.city.gateway.engine
    piece = Evidence(
        "evm:1:a:b:1", Kind.ROUTER, stage, "USDT", invoice.due_minor, 1, 1, invoice.number, document=b"{}",
        at_s=town.city.clock(),
    )  # fmt: skip
    with engine.begin() as connection:
        town.payments.take(connection, [piece])
    with pytest.raises(Invalid, match="released on final money"):
        town.payments.claim(invoice.id, "shop")
    with engine.begin() as connection:
        town.payments.take(connection, [replace(piece, stage=Stage.GONE)])
    with pytest.raises(Invalid, match="released on final money"):
        town.payments.claim(invoice.id, "shop")
    with engine.begin() as connection:
        town.payments.take(connection, [replace(piece, stage=Stage.FINAL)])
    assert town.payments.claim(invoice.id, "shop")


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_ff42_the_goods_of_an_order_are_claimed_once_whoever_comes_first(
    request: pytest.FixtureRequest, database: str
):
    """Webhook and browser at once, eight times."""
    town: Town = request.getfixturevalue(database)
    invoice = town.invoice()
    town.pay(invoice)
    town.settle()
    claimed: list[bool] = []
    gate = threading.Barrier(8)

    def claim(number: int) -> None:
        gate.wait(60)
        claimed.append(town.payments.claim(invoice.id, f"actor {number}"))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(claimed) == [False] * 7 + [True]
    with reading(town.city.gateway.engine) as connection:
        found = store.order_claim(connection, invoice.id)
    assert found is not None
    assert found[0].startswith("actor ")


def test_ff42_goods_are_not_handed_over_while_their_money_goes_back(town: Town):
    invoice = town.invoice(refund_to=town.city.keys.address("payer"))
    town.pay(invoice)
    town.settle()
    refunds = town.city.gateway.refunds
    assert refunds is not None
    refunds.request("key", invoice.id, None, invoice.due_minor, None, "k")
    with pytest.raises(Invalid, match="refund_pending"):
        town.payments.claim(invoice.id, "shop")
    with pytest.raises(Invalid, match="no invoice"):
        town.payments.claim("nobody", "shop")


def test_while_a_rail_is_blind_it_is_said_that_nobody_knows(town: Town):
    """The invoice stays open, since it may be paid, and says that this is not known (field failure 07)."""
    invoice = town.invoice()
    town.poll()
    town.city.clock.wait(5_000)
    assert (town.status(invoice), town.notes(invoice)) == ("open", {"unknown"})
    town.wait(1)
    town.poll()
    town.payments.expire()
    assert (town.status(invoice), town.notes(invoice)) == ("expired", set())


def test_100000_open_invoices_slow_neither_a_poll_nor_an_expiry_round(town: Town):
    """What a round asks for is found by an index: the plans say so, and the answers are the same."""
    one = town.invoice()
    engine = town.city.gateway.engine
    with reading(engine) as connection:
        row = dict(connection.execute(tables.invoice.select()).mappings().one())
    with engine.begin() as connection:
        for start in range(0, MANY, 10_000):
            connection.execute(insert(tables.invoice), [
                {**row, "id": f"{n:026}", "number": n.to_bytes(32, "big"), "merchant_reference": f"many-{n}",
                 "deposit_address": n.to_bytes(20, "big"), "reference": f"R{n}", "expires_s": one.expires_s + 9_000}
                for n in range(start, start + 10_000)
            ])  # fmt: skip
    asked: list[tuple[str, object]] = []

    def note(_connection, _cursor, statement, parameters, *_: object) -> None:
        asked.append((statement, parameters))

    from sqlalchemy import event

    town.wait(5_000)
    town.poll()
    event.listen(engine, "before_cursor_execute", note)
    started = time.process_time()
    with reading(engine) as connection:
        known = [n.to_bytes(20, "big") for n in range(300)]
        strangers = [n.to_bytes(20, "little") for n in range(1 << 40, (1 << 40) + 2_000)]
        found = store.deposits_among(connection, [*known, *strangers, one.deposit_address or b""])
        assert store.unanswered(connection) == store.unflushed(connection) == []
        assert store.undecided(connection, 10) == store.unmatched(connection, (0, ""), 10) == []
    assert len(found) == 301
    assert town.payments.expire() == 1
    took = time.process_time() - started
    event.remove(engine, "before_cursor_execute", note)
    assert town.stored_status(one) == "expired"
    with reading(engine) as connection:
        assert store.counts(connection) == {"open": MANY, "expired": 1}
        for statement, parameters in asked:
            if statement.startswith("SELECT"):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                scans = [step[3] for step in plan if step[3].startswith("SCAN invoice")]
                assert scans == [], (statement, scans)
    # Far above what it takes, far below what reading all of them takes.
    assert took < 5, took


def test_after_an_outage_many_expire_a_page_at_a_time(town: Town, monkeypatch: pytest.MonkeyPatch):
    from gateway.payments import service

    monkeypatch.setattr(service, "EXPIRED_AT_ONCE", 3)
    invoices = [town.invoice() for _ in range(10)]
    # Some that stay what they are do not keep the others from their turn.
    for invoice in invoices[:4]:
        town.deposit(invoice)
    town.poll()
    town.wait(5_000)
    town.poll()
    with town.city.gateway.engine.begin() as connection:
        connection.execute(
            text("UPDATE invoice SET status = 'detected' WHERE id = :id"), {"id": invoices[0].id}
        )
    town.payments.expire()
    found = {invoice.id: town.stored_status(invoice) for invoice in invoices}
    assert [found[invoice.id] for invoice in invoices[4:]] == [Status.EXPIRED.value] * 6
