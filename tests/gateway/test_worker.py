"""Workers that are killed, that run beside each other, and that were away: nothing is lost, nothing is twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway import db
from gateway.db import reading
from gateway.ledger_view import LedgerView
from gateway.payments import store
from gateway.payments.service import Payments
from gateway.payments.store import Invoice
from gateway.rails import BOOKS, PAYS, Stage
from gateway.worker import Worker
from ledger.records import Unavailable
from tests.gateway.conftest import Node, Refuse, Town
from tests.gateway.killed import WORKER, WORKER_LINES, Killed

KILLS = 10


@pytest.fixture
def process(town: Town) -> Iterator[Killed]:
    made = Killed(town, WORKER, WORKER_LINES, steps=("poll_chain", "poll_bank", "flush", "expire"))
    yield made
    made.close()


def check_nothing_lost_and_nothing_twice(town: Town, invoices: list[Invoice]) -> None:
    """Every invoice final, each piece of revenue one transfer, and together what the city has."""
    assert {town.status(invoice) for invoice in invoices} == {"final"}
    assert {town.stored_status(invoice) for invoice in invoices} == {"final"}
    booked = town.revenue()
    pieces = [piece for invoice in invoices for piece in town.seen(invoice) if piece.stage is Stage.FINAL]
    books = [piece for piece in pieces if piece.kind in BOOKS and piece.city_minor]
    assert sorted(transfer.id for transfer in booked) == sorted(
        piece.transfer_id for piece in books if piece.transfer_id
    )
    on_chain = sum(transfer.amount for transfer in booked if transfer.asset == "USDT")
    assert on_chain == town.treasury()
    in_bank = sum(transfer.amount for transfer in booked if transfer.asset == "KZT")
    assert in_bank == town.city.outside.bank.balance_tiyn(town.city.plan.bank_iban)
    for invoice in invoices:
        came = sum(
            piece.amount_minor
            for piece in town.seen(invoice)
            if piece.kind in PAYS and piece.stage is Stage.FINAL
        )
        assert came == invoice.due_minor
    assert town.unmatched() == []


def pay_in_every_way(town: Town) -> list[Invoice]:
    """A payment by wallet, one by plain transfer, one in tenge."""
    by_wallet, by_transfer, by_bank = town.invoice(), town.invoice(), town.bill()
    town.pay(by_wallet)
    town.deposit(by_transfer)
    town.transfer_in_tenge(by_bank.due_minor, by_bank.reference)
    town.city.take_bank_files()
    return [by_wallet, by_transfer, by_bank]


def test_a_worker_killed_at_any_line_loses_nothing_and_books_nothing_twice(town: Town, process: Killed):
    chance = random.Random(20261122)
    invoices = pay_in_every_way(town)
    town.city.outside.finalise()
    lines = process.work()
    assert lines is not None
    killed = 0
    for _ in range(KILLS):
        invoices += pay_in_every_way(town)
        town.city.outside.finalise()
        killed += process.work(kill=chance.randrange(1, lines)) is None
        # A killed worker's claim to a flush ends.
        town.wait(301)
    assert killed == KILLS
    for _ in range(3):
        assert process.work()
        town.wait(301)
        town.city.outside.finalise()
    town.record()
    check_nothing_lost_and_nothing_twice(town, invoices)


def second_worker(town: Town) -> Worker:
    """Another worker on the same database and chain, as another process would have it."""
    first = town.city.worker
    known = town.payments
    engine = db.engine(town.city._database)
    view = LedgerView(engine)
    payments = Payments(engine, view, known.clock, known.rates, known.chain)
    gateway = replace(town.city.gateway, engine=engine, view=view, payments=payments)
    return Worker(gateway, None, first.rail, first._city, first._relayer, first._bank)


def work_beside_each_other(town: Town) -> list[Invoice]:
    """Two workers in threads, while payers pay."""
    workers = [second_worker(town), second_worker(town)]
    stop, failed = threading.Event(), []

    def rounds(worker: Worker) -> None:
        while not stop.wait(0.1):
            for step in (worker.poll_chain, worker.poll_bank, worker.flush, worker.gateway.payments.expire):
                try:
                    step()
                except Unavailable:
                    # Both relayers have one key here: the chain refuses a nonce that is taken.
                    continue
                except Exception as error:
                    failed.append(error)
                    return

    threads = [threading.Thread(target=rounds, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    invoices = []
    for _ in range(3):
        invoices += pay_in_every_way(town)
        town.mine(3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    town.wait(301)
    town.settle()
    town.take_bank_files()
    town.settle()
    for worker in workers:
        worker.gateway.engine.dispose()
    return invoices


def test_two_workers_at_once_take_everything_once(town: Town):
    check_nothing_lost_and_nothing_twice(town, work_beside_each_other(town))


def test_two_workers_at_once_take_everything_once_on_postgresql(postgres_town: Town):
    check_nothing_lost_and_nothing_twice(postgres_town, work_beside_each_other(postgres_town))


def test_a_bank_file_that_cannot_be_read_does_not_stop_the_others(town: Town):
    bill = town.bill()
    (town.city.bank_folder / "0.xml").write_bytes(b"<!DOCTYPE html><p>Try later")
    (town.city.bank_folder / "1.xml").mkdir()
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    with pytest.raises(Unavailable):
        town.take_bank_files()
    (town.city.bank_folder / "1.xml").rmdir()
    town.take_bank_files()
    assert town.status(bill) == "final"


def test_a_round_outlives_a_chain_that_is_away(town: Town, node: Node):
    """The chain answers nothing; the bank's money is taken all the same."""

    def away(*_: object) -> object:
        raise Refuse(503)

    node.wrong = away
    bill = town.bill()
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.city.take_bank_files()
    node.worker.round()
    assert town.status(bill) == "final"
    assert town.payments.position(bill.id) is not None


def test_the_cursor_never_goes_back_and_stays_behind_what_is_not_final(town: Town):
    rail = town.city.worker.rail

    def cursor() -> int:
        with reading(town.city.gateway.engine) as connection:
            return store.cursor(connection, rail.name) or 0

    town.mine(5)
    town.poll()
    assert cursor() == rail.head().final < rail.head().latest
    before = cursor()
    with town.city.gateway.engine.begin() as connection:
        store.move_cursor(connection, rail.name, before - 3, 0)
    assert cursor() == before
