"""Money goes out once: whoever dies at whatever line, and whatever the network does with what was said.

Two ways to die: at each SQL statement and each HTTP call in turn, within one process; and by
SIGKILL at random lines of our own code, in a process of its own. Afterwards others go on from the
database, and what the outside has is compared with what we say it has.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

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
from tests import servers
from tests.gateway.conftest import Town
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
        # Committed and nothing after it: the other side of the last statement.
        event.listen(self._engine, "commit", self.cross)

    def cross(self, *_: object) -> None:
        self.count += 1
        if self.count == self.at:
            raise Died

    def close(self) -> None:
        event.remove(self._engine, "before_cursor_execute", self.cross)
        event.remove(self._engine, "commit", self.cross)


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
        client = httpx.Client(transport=Line(boundaries))
        provider = Provider("vasp", simulator.url, client, ours, ProviderKey(theirs.public_key()))
        settlements = Settlements(town.payments, {"vasp": provider})
        died = done = 0
        earned = town.payments.engine

        def work() -> None:
            settlements.instruct(town.merchant_id, "USDT", ACTOR)
            settlements.follow()
            for reference in list(simulator.payouts):
                if settlements.look(reference).state is not PayoutState.PAID:
                    settlements.confirm("vasp", *simulator.pay(reference, 1))

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
        assert died > 20, "there are so many places at which it can die"
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

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from gateway import db
from gateway.embedded import Keys, Plan
from gateway.ledger_view import LedgerView
from gateway.payments.refunds import Refunds
from gateway.payments.service import Payments
from gateway.payments.settlements import Settlements
from gateway.rails.evm import HttpNode, Place, Pool
from gateway.rails.evm.sight import EvmSight
from gateway.vasp.client import Provider
from gateway.vasp.messages import ProviderKey, SharedKey

def work(asked, out):
    folder, clock = Path(asked["folder"]), lambda: asked["now"]
    plan = Plan.load(folder / "plan.json")
    engine = db.engine(f"sqlite:///{folder}/qazyna.db")
    class Chain:
        rail = f"evm-{plan.deployment.chain_id}"
    payments = Payments(engine, LedgerView(engine), clock, None, Chain())
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(asked["provider_key"]))
    client = httpx.Client(trust_env=False)
    provider = Provider("vasp", asked["vasp"], client, SharedKey(b"ours" * 8), ProviderKey(key))
    settlements = Settlements(payments, {"vasp": provider})
    place = Place(plan.deployment, {plan.token: "USDT"})
    pool = Pool([HttpNode(asked["rpc"])], plan.deployment.chain_id)
    refunds = Refunds(payments, EvmSight(pool, place))
    lines = 0
    def trace(frame, event, _):
        nonlocal lines
        name = frame.f_code.co_filename
        if "/gateway/payments/" not in name and "/gateway/vasp/" not in name:
            return None
        if event == "line":
            lines += 1
            if lines == asked["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    number = asked["number"]
    refund = refunds.request("key", asked["invoice"], None, 100 + number, None, f"refund {number}")
    refunds.approve(refund.id, "key")
    refunds.follow()
    try:
        settlements.instruct(asked["merchant"], "USDT", "key")
    except Exception as refused:
        if "nothing in USDT waits" not in str(refused):
            raise
    settlements.follow()
    sys.settrace(None)
    out.write(f"{lines}\\n")
    out.flush()
    os._exit(0)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        work(json.loads(line), sys.stdout)
    _, status = os.waitpid(child, 0)
    print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
"""


class Process:
    """That program, and what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=servers.ROOT
        )  # fmt: skip

    def work(self, kill: int = 0, **asked: object) -> int | None:
        """Let it work; None where it was killed, or else how many lines it ran."""
        stdin: IO[str] | None = self._process.stdin
        stdout: IO[str] | None = self._process.stdout
        assert stdin is not None
        assert stdout is not None
        told = {"folder": str(self._folder.resolve()), "kill": kill, **asked}
        stdin.write(json.dumps(told) + "\n")
        stdin.flush()
        answer = stdout.readline().split()
        if answer[0] == "ended":
            assert answer[1] == "-9", answer
            return None
        assert stdout.readline().split() == ["ended", "0"]
        return int(answer[0])

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def test_ff23_killed_at_any_line_a_refund_and_a_payout_are_made_exactly_once(town: Town):
    by_vasp(town)
    chance = random.Random(20261124)
    theirs = Ed25519PrivateKey.generate()
    invoice, settlements = paid(town), town.city.gateway.settlements
    assert settlements is not None
    process = Process(town.city.folder)
    with VaspSimulator(SharedKey(b"ours" * 8), ProviderSigner(theirs), ProviderSigner(theirs)) as simulator:
        asked = {
            "rpc": town.city.outside.rpc_url, "vasp": simulator.url, "invoice": invoice.id,
            "merchant": town.merchant_id, "provider_key": theirs.public_key().public_bytes_raw().hex(),
        }  # fmt: skip
        lines = process.work(number=0, now=town.city.clock(), **asked)
        assert lines is not None
        killed = 0
        for number in range(1, KILLS + 1):
            paid(town)
            kill = chance.randrange(1, lines)
            killed += process.work(kill, number=number, now=town.city.clock(), **asked) is None
            town.city.clock.wait(LEASE_S + TELL_AGAIN_S)
            # The caller never heard an answer, and asks again under the same key.
            assert process.work(number=number, now=town.city.clock(), **asked)
            town.city.clock.wait(LEASE_S + TELL_AGAIN_S)
        assert killed > KILLS // 2
        for _ in range(3):
            assert process.work(number=0, now=town.city.clock(), **asked)
            town.city.clock.wait(ASK_AGAIN_S)
        process.close()
        refunds = refunds_of(town)
        mine = refunds.of(town.merchant_id, END, 1_000)
        assert sorted(one.amount_minor for one in mine) == [100 + number for number in range(KILLS + 1)]
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
