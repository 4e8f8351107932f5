"""An order paid in the chain's coin: from the act to the payee, booked by what the treasury says, and audited."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from contracts.bindings import COIN
from gateway.budget.acts import Work, book_payment, enact, execution
from gateway.cli import app
from gateway.demo import DAY, Day, enact_all, load_projects, run_audit
from gateway.rails.evm import TRANSFER, Log
from gateway.rails.evm.treasury_logs import CREDITED, EXECUTED, PULLED, order_paid
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
    Unavailable,
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
    party = bytes(31) + b"\1"
    project = town.city.writer.state.project_hashes["water-main"]
    accounts = [
        Account(0, "builder-eth", COIN_ASSET, rules.RETAINED, rules.PAYEE,
                address_word(town.city.keys.address("builder")), party, day.act),
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
        record = rate_record(connection, city.outside.rate_desk.current(COIN_ASSET))
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


def test_an_order_is_booked_by_a_command_once_its_execution_is_final_and_once_for_ever(
    coin_town: AnvilTown, day: Day, monkeypatch: pytest.MonkeyPatch
):
    town, city = coin_town, coin_town.city
    work = ordered(day)
    asked = execution(city.city, city.publisher, work)
    day.wait(DAY + 60)
    named, relayer = f"0x{work.order.hash.hex()}", city.keys.account("relayer")
    sent = city.city.execute(relayer, asked), city.city.transfer(town.payer, COIN, TO, AMOUNT)
    executed_by, other = (f"0x{bytes(one['transactionHash']).hex()}" for one in sent)
    settings = {"FOLDER": city.folder, "RPC_URLS": town.node.url, "ORIGIN": "city.example/ledger"}
    for name, value in settings.items():
        monkeypatch.setenv(f"QAZYNA_{name}", str(value))

    def book(*words: str) -> str:
        done = CliRunner().invoke(app, ["ledger", "book", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    with pytest.raises(Unavailable, match=r"in block \d+, final is \d+: ask again"):
        book(named, executed_by)
    with pytest.raises(Unavailable, match="in no block"):
        book(named, "0x" + "11" * 32)
    city.outside.finalise()
    with pytest.raises(
        Invalid, match=f"L8 at order {named}: no log of the treasury says that it paid {AMOUNT}"
    ):
        book(named, other)
    with pytest.raises(Invalid, match=r"V4 at order 0x22.*is none of the \d+ orders in effect"):
        book("0x" + "22" * 32, executed_by)
    with pytest.raises(Invalid, match="book at HASH: '0x22' has 4 characters"):
        book("0x22", executed_by)
    said = book(named, executed_by)
    assert (
        f"of {AMOUNT} {COIN_ASSET} from treasury-eth to spent-water-main-eth; the writer records it" in said
    )
    # Asked for again before the writer has come to it: one record.
    assert book(named, executed_by) == said
    city.writer.drain()
    size = city.writer.tree.size
    with pytest.raises(Invalid, match=f"V4 at order {named}: order-eth of {AMOUNT} is booked already"):
        book(named, executed_by)
    city.writer.drain()
    assert city.writer.tree.size == size
    for _ in range(2):
        day.publish()
        city.outside.finalise()
    day.publish()
    verdict = run_audit(city.folder / "bundle", "--rpc", town.node.url)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


TREASURY, TO, OTHER = b"\x70" * 20, b"\x71" * 20, b"\x72" * 20
ORDER, LIKE, MILESTONE = b"\x01" * 32, b"\x03" * 32, b"\x02" * 32
PADDED, COIN_WORD, AMOUNT_WORD = TO.rjust(32, b"\0"), COIN.rjust(32, b"\0"), AMOUNT.to_bytes(32, "big")


def log(at: bytes, topics: tuple[bytes, ...], data: bytes, block: int, index: int) -> Log:
    return Log(at, topics, data, block, bytes([block]) * 32, bytes([block, 1]) * 16, index)


def executed(order: bytes, block: int, index: int = 3, token: bytes = COIN_WORD) -> Log:
    return log(TREASURY, (EXECUTED, order, MILESTONE, PADDED), token + AMOUNT_WORD, block, index)


def credited(block: int, index: int = 4) -> Log:
    return log(TREASURY, (CREDITED, PADDED, COIN_WORD), AMOUNT_WORD, block, index)


def pulled(block: int, times: int = 1, index: int = 0) -> Log:
    return log(TREASURY, (PULLED, PADDED, COIN_WORD), (times * AMOUNT).to_bytes(32, "big"), block, index)


def paid(*logs: Log, order: bytes = ORDER) -> Log | None:
    return order_paid(logs, TREASURY, order, TO, AMOUNT).evidence


def test_coin_that_was_credited_is_booked_once_it_is_pulled_and_not_before():
    """The treasury says Executed before it tries: what could not be received has not moved."""
    mine = executed(ORDER, 5)
    assert paid(mine) is mine
    with pytest.raises(Invalid, match=f"{AMOUNT} were credited to 0x{TO.hex()} in block 5"):
        paid(mine, credited(5))
    assert paid(mine, credited(5), pulled(6)) is mine
    # What else the same pull emptied is no matter; a pull before it is no pull of it.
    assert paid(mine, credited(5), pulled(7, times=9)) is mine
    with pytest.raises(Invalid, match="no log says that it has pulled them since"):
        paid(pulled(4), mine, credited(5))
    for wrong in (
        replace(mine, at=OTHER),
        replace(mine, data=address_word(OTHER) + AMOUNT_WORD, topics=(EXECUTED, LIKE, MILESTONE, PADDED)),
        replace(mine, data=COIN_WORD + (AMOUNT - 1).to_bytes(32, "big")),
        replace(mine, topics=(EXECUTED, MILESTONE, MILESTONE, PADDED)),
    ):
        with pytest.raises(Invalid, match="no log of the treasury"):
            paid(wrong)


def test_a_pull_is_no_payment_of_an_order_that_was_not_executed():
    # Of the same payee and amount: what another order was credited, or a refund, or nobody.
    like = executed(LIKE, 5)
    for logs in ([pulled(6)], [like, credited(5), pulled(6)], [like]):
        with pytest.raises(Invalid, match=f"no log of the treasury says that it paid {AMOUNT}"):
            paid(*logs)
    assert paid(like, credited(5), pulled(6), order=LIKE) is like


def test_of_two_orders_in_one_transaction_each_has_its_own_credit():
    first, second = executed(ORDER, 5, 3), executed(LIKE, 5, 4)
    logs = (first, second, credited(5, 5))
    assert paid(*logs) is first
    with pytest.raises(Invalid, match="were credited"):
        paid(*logs, order=LIKE)


def test_a_token_is_paid_by_the_transfer_of_its_own_execution():
    token = b"\x75" * 20
    word = token.rjust(32, b"\0")
    moved = (TRANSFER, TREASURY.rjust(32, b"\0"), PADDED)
    mine, next_one = executed(ORDER, 5, 3, word), executed(LIKE, 5, 5, word)
    transfer, later = (log(token, moved, AMOUNT_WORD, 5, index) for index in (4, 6))
    assert paid(mine, transfer, next_one, later) is transfer
    assert paid(mine, transfer, next_one, later, order=LIKE) is later
    for wrong in (
        replace(transfer, at=OTHER),
        replace(transfer, topics=(TRANSFER, OTHER.rjust(32, b"\0"), PADDED)),
        replace(transfer, data=(AMOUNT - 1).to_bytes(32, "big")),
        replace(transfer, transaction=b"\x09" * 32),
    ):
        with pytest.raises(Invalid, match="L8"):
            paid(mine, wrong, next_one, later)
