"""An order paid in the chain's coin: from the act to the payee, booked by what the treasury says, and audited."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.bindings import COIN
from gateway.budget.acts import Work, book_payment, enact, execution
from gateway.demo import DAY, Day, builder_paper, enact_all, load_projects, run_audit
from gateway.rails.evm import Log
from gateway.rails.evm.treasury_logs import CREDITED, EXECUTED, PULLED, coin_paid
from gateway.rate_desk import rate_record
from ledger import rules
from ledger.records import (
    ZERO_HASH,
    Account,
    Allocation,
    Certificate,
    Commitment,
    Contract,
    Invalid,
    Milestone,
    Order,
    Project,
    address_word,
)
from tests.gateway.anvil_town import AnvilTown
from tests.gateway.coin_town import COIN_ASSET, coin_invoice
from tests.gateway.test_anvil_native import given, mined, pay_native

AMOUNT = 10**12


@pytest.fixture
def day(coin_town: AnvilTown) -> Day:
    """The coin is in the treasury, and on the ledger as revenue; a project may be paid in it."""
    town = coin_town
    day = Day(town.city, lambda _: None, town.city.writer.state.assets[COIN_ASSET].act)
    load_projects(day)
    paper = builder_paper(town.city, "eth")
    project = town.city.writer.state.project_hashes["water-main"]
    accounts = [
        Account(0, "builder-eth", COIN_ASSET, rules.RETAINED, rules.PAYEE,
                paper.owner, paper.party, day.act),
        Account(0, "spent-water-main-eth", COIN_ASSET, rules.RETAINED, rules.PROJECT, project, ZERO_HASH, day.act),
    ]  # fmt: skip
    day.desk.act_all(accounts, day.council)
    day.publish()
    enact_all(day, [Contract])
    enact_all(day, [Account], ["treasury-eth", "builder-eth"])
    enact_all(day, [Project], ["water-main"])
    for _ in range(15):
        day.wait(DAY)
        day.rate()
        day.publish()
    town.poll()
    invoice = coin_invoice(town)
    assert mined(town, pay_native(town, given(town, invoice), town.payer))["status"] == 1
    town.finalise()
    town.record()
    return day


def ordered(day: Day) -> Work:
    """All acts up to the order, with the signatures that they need."""
    city, desk, keys = day.city, day.desk, day.city.keys
    authority, certifier = [keys.account("authority")], [keys.account("certifier")]
    with city.writer.engine.begin() as connection:
        record = rate_record(connection, city.rate_desk.current(COIN_ASSET))
    rate = desk.propose(record, key=b"rate of the coin")
    project = city.writer.state.project_hashes["water-main"]
    wanted = Allocation(0, "allocation-eth", "block-2026", project, COIN_ASSET, AMOUNT, rate.hash, day.act)
    allocation = desk.act(wanted, day.council)
    commitment = desk.act(
        Commitment(0, "commitment-eth", allocation.hash, "builder-eth", AMOUNT, day.act), authority
    )
    milestone = desk.act(Milestone(0, "milestone-eth", commitment.hash, AMOUNT, day.act), authority)
    certificate = desk.act(Certificate(0, milestone.hash, AMOUNT, 1, day.act), certifier)
    order = desk.act(
        Order(0, "order-eth", commitment.hash, allocation.hash, certificate.hash, "treasury-eth", AMOUNT,
              "builder-eth"),
        authority,
    )  # fmt: skip
    day.publish()
    enact(city.city, city.publisher, keys.account("relayer"), allocation)
    return Work(commitment, milestone, certificate, order)


def test_an_order_in_the_coin_is_paid_booked_and_audited(coin_town: AnvilTown, day: Day):
    town, city = coin_town, coin_town.city
    work = ordered(day)
    asked = execution(city.city, city.publisher, work)
    day.wait(DAY + 60)
    builder = city.keys.address("builder")
    had = city.city.balance(COIN, builder)
    receipt = city.city.execute(city.keys.account("relayer"), asked)
    assert city.city.balance(COIN, builder) == had + AMOUNT
    city.outside.finalise()
    # A receipt of something else, another payee, another amount: nothing moved, nothing is booked.
    other = city.city.transfer(town.payer, COIN, builder, AMOUNT)
    for wrong, to in ((other, builder), (receipt, city.keys.address("merchant"))):
        with pytest.raises(Invalid, match="no log of the treasury"):
            book_payment(city.writer, day.desk, wrong, asked.order, to, "spent-water-main-eth")
    booked = book_payment(city.writer, day.desk, receipt, asked.order, builder, "spent-water-main-eth").record
    assert (booked.amount, booked.asset, booked.credit) == (AMOUNT, COIN_ASSET, "treasury-eth")  # type: ignore[attr-defined]
    day.publish()
    city.outside.finalise()
    day.publish()
    verdict = run_audit(city.folder / "bundle", "--rpc", town.node.url)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_coin_that_was_credited_is_booked_by_the_pull_and_not_before():
    """The treasury says Executed before it tries: what could not be received has not moved."""
    treasury, to, other = b"\x70" * 20, b"\x71" * 20, b"\x72" * 20
    coin, amount = COIN.rjust(32, b"\0"), AMOUNT.to_bytes(32, "big")
    order_hash, milestone = b"\x01" * 32, b"\x02" * 32

    def log(at: bytes, topics: tuple[bytes, ...], data: bytes, index: int, transaction: int = 1) -> Log:
        return Log(at, topics, data, 5, b"\x05" * 32, bytes([transaction]) * 32, index)

    padded = to.rjust(32, b"\0")
    executed = log(treasury, (EXECUTED, order_hash, milestone, padded), coin + amount, 3)
    credited = log(treasury, (CREDITED, padded, coin), amount, 4)
    pulled = log(treasury, (PULLED, padded, coin), amount, 0, 2)
    assert coin_paid([executed], treasury, order_hash, to, AMOUNT) is executed
    with pytest.raises(Invalid, match="was credited"):
        coin_paid([executed, credited], treasury, order_hash, to, AMOUNT)
    assert coin_paid([pulled], treasury, order_hash, to, AMOUNT) is pulled
    for wrong in (
        replace(executed, at=other),
        replace(executed, data=address_word(other) + amount),
        replace(executed, data=coin + (AMOUNT - 1).to_bytes(32, "big")),
        replace(executed, topics=(EXECUTED, milestone, milestone, padded)),
        replace(pulled, topics=(PULLED, other.rjust(32, b"\0"), coin)),
    ):
        with pytest.raises(Invalid, match="no log of the treasury"):
            coin_paid([wrong], treasury, order_hash, to, AMOUNT)
