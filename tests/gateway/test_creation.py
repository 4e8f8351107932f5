"""What an invoice is called, and that a new one goes to the end of every index of ours."""

from __future__ import annotations

import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from gateway import db
from gateway.app import create_app
from gateway.merchants import store as merchants
from gateway.migrations import upgrade
from gateway.payments.creation import new_id, number_of
from gateway.payments.store import Invoice
from gateway.payments.store.at_once import AtOnce
from gateway.rails.tenge.reference import check_reference, new_reference, reference_of
from gateway.webhooks import signing
from gateway.webhooks import store as webhooks
from tests.gateway.conftest import Town

NOW = 1_790_000_000
MERCHANT = "m_1"


def test_ids_and_numbers_sort_by_their_second_and_are_still_not_to_be_guessed():
    ids = [new_id(NOW + later) for later in (0, 1, 59, 86_400, 50 * 366 * 86_400)]
    assert ids == sorted(ids)
    assert all(re.fullmatch("[0-9abcdefghjkmnpqrstvwxyz]{26}", id) for id in ids)
    assert new_id((1 << 35) - 1).startswith("z" * 7)
    numbers = [number_of(new_id(NOW + later), NOW + later) for later in range(3)]
    assert numbers == sorted(numbers)
    assert {len(number) for number in numbers} == {32}
    # 95 random bits of an id, and 192 of a number that follow from it: none of many is met again.
    of_one_second = {new_id(NOW) for _ in range(1_000)}
    assert len({id[7:] for id in of_one_second}) == 1_000
    assert len({number_of(id, NOW)[8:] for id in of_one_second}) == 1_000


def test_ids_of_events_sort_by_their_second():
    assert re.fullmatch("msg_[0-9a-f]{32}", signing.new_id())
    assert len({signing.new_id() for _ in range(1_000)}) == 1_000


def test_a_reference_that_counts_is_one_of_ours_and_sorts_as_it_counts():
    told = [reference_of(number) for number in (1, 2, 31, 32, 1_000_000, (1 << 50) - 1)]
    assert told == sorted(told)
    for reference in told:
        check_reference(reference)


def test_invoices_made_one_after_another_lie_one_after_another(town: Town):
    # The very first number of a quote is 0, which says nothing.
    town.invoice()
    made = []
    for _ in range(3):
        made.append(town.invoice())
        town.wait(1)
    for members in ([one.id for one in made], [one.number for one in made], [one.reference for one in made]):
        assert members == sorted(members)
    # A city's bill is paid by hand: there a reference is not to be met by a slip of the hand.
    bills = [town.bill().reference for _ in range(8)]
    assert len({reference[:7] for reference in bills}) == 8


def test_who_counts_references_finds_no_merchants_invoice(town: Town):
    """They can be counted up by anybody: so nothing is found by one, neither a page nor what a bank says."""
    town.invoice()
    bill, sold = town.bill(), town.invoice()
    assert sold.reference == reference_of(sold.nonce)
    with TestClient(create_app(town.city.gateway)) as client:
        for reference, status in ((bill.reference, 303), (sold.reference, 404)):
            answer = client.get("/fees", params={"reference": reference}, follow_redirects=False)
            assert answer.status_code == status
            assert sold.id not in answer.text + answer.headers.get("location", "")


def test_the_second_event_of_an_invoice_made_at_once_is_the_second_whoever_comes_at_once(
    postgres_database: str,
):
    """An invoice that is one statement has an event and no counter: the next two must not share a number."""
    engine = db.engine(postgres_database)
    upgrade(engine)
    for round in range(5):
        id = _made_at_once(engine, round)
        # Both are in a transaction before either has committed.
        tell = partial(_tell, engine, id, threading.Barrier(2))
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(lambda _, tell=tell: tell(), range(2))) == [None, None]
        with engine.connect() as connection:
            asked = text("SELECT sequence FROM webhook_event WHERE invoice_id = :id ORDER BY sequence")
            assert connection.execute(asked, {"id": id}).scalars().all() == [1, 2, 3]
    engine.dispose()


def _tell(engine: Engine, id: str, barrier: threading.Barrier) -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        barrier.wait()
        webhooks.enqueue(connection, MERCHANT, id, "invoice.updated", b"{}", NOW)


def _made_at_once(engine: Engine, number: int) -> str:
    with engine.begin() as connection:
        if merchants.merchant(connection, MERCHANT) is None:
            merchants.add_merchant(connection, merchants.Merchant(MERCHANT, "Cafe", "1", "KZ", b"\7" * 20), 0)
        key = merchants.new_key(connection, merchants.MERCHANT, MERCHANT, 0)
    id = new_id(NOW)
    invoice = Invoice(
        id=id,
        number=number_of(id, NOW),
        merchant_id=MERCHANT,
        merchant_reference=f"order-{number}",
        purpose="206108",
        title="Tea",
        tiyn=5,
        asset="USDT",
        due_minor=5,
        share_bps=300,
        rate="{}",
        payee=b"\7" * 20,
        deposit_address=secrets.token_bytes(20),
        quote_signature=None,
        reference=new_reference(secrets.token_bytes(7)),
        created_s=NOW,
        expires_s=NOW + 900,
    )
    assert AtOnce(engine).add(invoice, merchants.key_id(key), None, bytes(32), b"{}")
    return id
