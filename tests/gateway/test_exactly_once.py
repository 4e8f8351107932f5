"""Money goes out once: whoever dies at whatever line, and whatever the network does with what was said.

Two ways to die: at each SQL statement and each HTTP call in turn, within one process; and by
SIGKILL at random lines of our own code, in a process of its own. Afterwards others go on from the
database, and what the outside has is compared with what we say it has.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import event, text

from contracts import bindings
from gateway.db import reading
from gateway.merchants.policy import Policy, SettleBy, set_policy
from gateway.payments.refund_model import RefundState, Source
from gateway.payments.refunds import Refunds
from gateway.payments.settlements import ASK_AGAIN_S, LEASE_S, TELL_AGAIN_S, PayoutState, Settlements
from gateway.payments.store import refunds as refund_rows
from gateway.payments.store import settlements as rows
from gateway.vasp.client import Provider
from gateway.vasp.messages import ProviderKey, ProviderSigner, SharedKey
from gateway.vasp.simulator import VaspSimulator
from ledger.records import Transfer
from tests.commits import after_commits
from tests.gateway.conftest import Town, opened
from tests.gateway.killed import Killed
from tests.gateway.test_refunds import ACTOR, Treasury, paid, payer, refunds_of, send

KILLS = int(os.environ.get("PAYMENT_KILLS", "12"))
END = (1 << 62, "")


class Died(BaseException):
    """The process ended here; nobody in between may catch it."""


class Boundaries:
    """Counts statements and calls to the outside, and dies at one of them."""

    def __init__(self, town: Town) -> None:
        self.at: int | None = None
        self.count = 0
        self._engine = town.city.gateway.engine
        event.listen(self._engine, "before_cursor_execute", self.cross)
        # All is said and nothing is done; and all is done, and nothing comes after it.
        event.listen(self._engine, "commit", self.cross)
        self._end_of_commits = after_commits(self._engine, self.cross)

    def cross(self, *_: object) -> None:
        self.count += 1
        if self.count == self.at:
            raise Died

    def close(self) -> None:
        event.remove(self._engine, "before_cursor_execute", self.cross)
        event.remove(self._engine, "commit", self.cross)
        self._end_of_commits()


class Line(httpx.BaseTransport):
    """A wire at whose ends the process can die: before the words go out, and after the answer came."""

    def __init__(self, boundaries: Boundaries) -> None:
        self._inner, self._boundaries = httpx.HTTPTransport(), boundaries

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._boundaries.cross()
        answer = self._inner.handle_request(request)
        answer.read()
        self._boundaries.cross()
        return answer

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, built_town: Path, tmp_path: Path) -> Iterator[Town]:
    """The town on either database: what is promised here hangs on both's transactions and locks."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgres_town")
        return
    shutil.copytree(built_town, tmp_path / "city")
    with opened(tmp_path / "city") as found:
        yield found


@pytest.fixture
def boundaries(town: Town) -> Iterator[Boundaries]:
    made = Boundaries(town)
    yield made
    made.close()


def by_vasp(town: Town) -> None:
    with town.city.gateway.engine.begin() as connection:
        policy = Policy(settle_by=SettleBy.VASP)
        set_policy(connection, town.merchant_id, policy, ACTOR, town.city.clock())


def test_ff24_a_payout_whose_process_dies_at_any_statement_or_call_is_made_exactly_once(
    town: Town, boundaries: Boundaries
):
    """Each boundary of instructing, telling and confirming in turn; every payout is told once and paid once."""
    by_vasp(town)
    ours, theirs = SharedKey(b"ours" * 8), Ed25519PrivateKey.generate()
    invoices = [town.invoice(5_000) for _ in range(40)]
    for invoice in invoices:
        town.pay(invoice)
    with VaspSimulator(ours, ProviderSigner(theirs), ProviderSigner(theirs)) as simulator:
        client = httpx.Client(transport=Line(boundaries), timeout=60)
        provider = Provider("vasp", simulator.url, client, ours, ProviderKey(theirs.public_key()))
        settlements = Settlements(town.payments, {"vasp": provider})
        died = done = 0
        confirmed: set[str] = set()
        earned = town.payments.engine

        def confirm() -> None:
            # Those that were confirmed before are let alone: the places at which this can die do not move.
            for reference in [one for one in simulator.payouts if one not in confirmed]:
                settlements.confirm("vasp", *simulator.pay(reference, 1))
                confirmed.add(reference)

        def work() -> None:
            settlements.instruct(town.merchant_id, "USDT", ACTOR)
            settlements.follow()
            confirm()

        # Each time one more payment is settled, so that there is something to pay out.
        with earned.begin() as connection:
            connection.execute(text("SELECT 1"))
        town.settle()
        keys = [one.id for one in settlements.of(town.merchant_id, END, 100)]
        assert len(keys) == 40
        hide = "INSERT INTO payout_item (settlement_id, payout_id) VALUES (:key, :hold)"
        show = "DELETE FROM payout_item WHERE settlement_id = :key AND payout_id = :hold"
        with earned.begin() as connection:
            held = {
                "id": "hold",
                "merchant_id": "m_hold",
                "provider": "none",
                "asset": "USDT",
                "iban": "KZ",
                "state": "paid",
            }
            connection.execute(rows.tables.payout.insert().values(
                **held, amount=0, attempts=0, due_s=0, created_s=0, changed_s=0,
            ))  # fmt: skip
            connection.execute(text(hide), [{"key": key, "hold": "hold"} for key in keys])
        for number, key in enumerate(keys, 1):
            with earned.begin() as connection:
                connection.execute(text(show), {"key": key, "hold": "hold"})
            boundaries.count, boundaries.at = 0, number
            try:
                work()
                done += 1
            except Died:
                died += 1
            boundaries.at = None
            # Others go on, as long after as it may take.
            for wait_s in (0, LEASE_S, TELL_AGAIN_S, ASK_AGAIN_S):
                town.city.clock.wait(wait_s)
                settlements.follow()
            with reading(earned) as connection:
                left = rows.unpaid_settlements(connection, town.merchant_id, "USDT", 10)
            if left:
                work()
            confirm()
        assert died > 20, "there are so many places at which it can die"
        assert done > 0, "and there were more than it was tried at"
        for reference in list(simulator.payouts):
            settlements.confirm("vasp", *simulator.pay(reference, 1))
        payouts = settlements.payouts_of(town.merchant_id, END, 100)
        assert {one.id for one in payouts} == set(simulator.payouts)
        assert {one.state for one in payouts} == {PayoutState.PAID}
        # What the provider paid is what was earned, to the unit, and nothing was said twice.
        assert sum(made.instruction.amount_minor for made in simulator.payouts.values()) == sum(
            one.net_minor for one in settlements.of(town.merchant_id, END, 100)
        )
        assert {made.told for made in simulator.payouts.values()} == {1}
        client.close()


def test_ff23_refunds_whose_process_dies_at_any_statement_are_sent_exactly_once(
    town: Town, boundaries: Boundaries
):
    """Twenty refunds of the city's share under way at once, and a death at each statement in turn."""
    treasury = Treasury(town)
    invoice = paid(town)
    seen = next(seen for seen in town.seen(invoice) if seen.city_minor)
    refunds, asked = treasury.refunds, []
    for number in range(20):
        key = f"k{number}"
        asked.append(refunds.request(ACTOR, invoice.id, seen.key, 100, None, key, source=Source.CITY))

    def until_done(step) -> int:
        """Die at the first statement, then at the second, and so on, until it comes through."""
        for at in range(1, 3_000):
            boundaries.count, boundaries.at = 0, at
            try:
                step()
            except Died:
                continue
            finally:
                boundaries.at = None
            return at
        raise AssertionError("it never came through")

    for one in asked:
        until_done(lambda one=one: refunds.approve(one.id, ACTOR))
    # Whoever died after saying yes left it to a round to begin.
    until_done(refunds.follow)
    town.record()
    assert len(treasury.promised()) == 20
    for position in treasury.promised():
        treasury.sign_at(position, "authority")
    treasury.anchor()
    places = until_done(refunds.follow)
    assert places > 20
    assert len(treasury.sender.queued) == len(set(treasury.sender.queued)) == 20
    had = town.city.city.balance(town.token, payer(town))
    treasury.sender.step()
    until_done(refunds.follow)
    town.finalise()
    treasury.sender.settle()
    until_done(refunds.follow)
    town.record()
    found = [refunds.look(one.id) for one in asked]
    assert {one.state for one in found} == {RefundState.FINAL}
    assert len({one.transfer_key for one in found}) == 20
    assert town.city.city.balance(town.token, payer(town)) == had + 20 * 100
    booked = [record for record in town.revenue() if isinstance(record, Transfer)]
    assert sum(record.amount for record in booked[1:]) == 20 * 100
    assert booked[0].amount - 20 * 100 == town.treasury()


# --- SIGKILL at a random line ------------------------------------------------------------------

BODY = """
import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from gateway.payments.refunds import Refunds
from gateway.payments.settlements import Settlements
from gateway.rails.evm.sight import EvmSight
from gateway.vasp.client import Provider
from gateway.vasp.messages import ProviderKey, SharedKey

def prepare(city, asked):
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(asked["provider_key"]))
    client = httpx.Client(trust_env=False, timeout=60)
    provider = Provider("vasp", asked["vasp"], client, SharedKey(b"ours" * 8), ProviderKey(key))
    settlements = Settlements(city.payments, {"vasp": provider})
    refunds, number = Refunds(city.payments, EvmSight(city.pool, city.place)), asked["number"]
    def refund():
        made = refunds.request("key", asked["invoice"], None, 100 + number, None, f"refund {number}")
        refunds.approve(made.id, "key")
        refunds.follow()
    def instruct():
        try:
            settlements.instruct(asked["merchant"], "USDT", "key")
        except Exception as refused:
            if "nothing in USDT waits" not in str(refused):
                raise
    return [refund, instruct, settlements.follow]
"""
LINES = ("/gateway/payments/", "/gateway/vasp/")


def test_ff23_killed_at_any_line_a_refund_and_a_payout_are_made_exactly_once(town: Town):
    by_vasp(town)
    # A round costs more there; what it shows is that the other database keeps the same promises.
    kills = KILLS if town.city.gateway.engine.dialect.name == "sqlite" else max(KILLS // 3, 3)
    chance = random.Random(20261124)
    theirs = Ed25519PrivateKey.generate()
    invoice, settlements = paid(town), town.city.gateway.settlements
    assert settlements is not None
    with VaspSimulator(SharedKey(b"ours" * 8), ProviderSigner(theirs), ProviderSigner(theirs)) as simulator:
        process = Killed(
            town, BODY, LINES, vasp=simulator.url, invoice=invoice.id, merchant=town.merchant_id,
            provider_key=theirs.public_key().public_bytes_raw().hex(),
        )  # fmt: skip
        lines = process.work(number=0)
        assert lines is not None
        killed = 0
        for number in range(1, kills + 1):
            paid(town)
            kill = chance.randrange(1, lines)
            killed += process.work(kill, number=number) is None
            town.city.clock.wait(LEASE_S + TELL_AGAIN_S)
            # The caller never heard an answer, and asks again under the same key.
            assert process.work(number=number)
            town.city.clock.wait(LEASE_S + TELL_AGAIN_S)
        assert killed > kills // 2
        for _ in range(3):
            assert process.work(number=0)
            town.city.clock.wait(ASK_AGAIN_S)
        process.close()
        refunds = refunds_of(town)
        mine = refunds.of(town.merchant_id, END, 1_000)
        assert sorted(one.amount_minor for one in mine) == [100 + number for number in range(kills + 1)]
        assert {one.state for one in mine} == {RefundState.PENDING}
        # A merchant's wallet sends each once, and each is found.
        for one in mine:
            send(town, one)
        town.finalise()
        refunds.follow()
        assert {one.state for one in refunds.of(town.merchant_id, END, 1_000)} == {RefundState.FINAL}
        payouts = settlements.payouts_of(town.merchant_id, END, 1_000)
        assert {one.id for one in payouts} == set(simulator.payouts)
        assert {one.state for one in payouts} == {PayoutState.INSTRUCTED}
        earned = sum(one.net_minor for one in settlements.of(town.merchant_id, END, 1_000))
        assert sum(made.instruction.amount_minor for made in simulator.payouts.values()) == earned
        with reading(town.city.gateway.engine) as connection:
            assert rows.unpaid_settlements(connection, town.merchant_id, "USDT", 10) == []


def test_a_number_of_a_try_is_given_out_once(town: Town):
    with town.city.gateway.engine.begin() as connection:
        assert refund_rows.reserve_attempt(connection, "refund", "r", 1, 1)
        assert not refund_rows.reserve_attempt(connection, "refund", "r", 1, 2)
        assert refund_rows.reserve_attempt(connection, "refund", "r", 2, 1)
    assert Refunds(town.payments)._engine is town.payments.engine
    assert bindings.GAS["refund"] > 0
