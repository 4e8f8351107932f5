"""A merchant's statement adds up: opening plus all that moved is closing, for each asset, in whatever history."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.demo import SALE_CODE
from gateway.merchants import store as merchants
from gateway.merchants.policy import Policy, SettleBy, set_policy
from gateway.merchants.statements import account as accounts
from gateway.merchants.statements.account import PARTS, SUMS, Account, account
from gateway.payments.refund_model import Proof, Refund, RefundState, Source
from gateway.payments.service import Request
from gateway.payments.settlements import PayoutState, Settlements
from gateway.payments.store import Invoice
from gateway.payments.store import refunds as refund_rows
from gateway.payments.store import settlements as settlement_rows
from gateway.payments.unmatched import Unmatched
from gateway.rails import Evidence, Kind, Stage
from gateway.vasp.client import Provider
from gateway.vasp.messages import SharedKey
from tests.gateway.conftest import DAY, MERCHANT_IBAN, Town
from tests.gateway.test_merchant_pages import Visitor

ASSETS = ("ETH", "USDT")
_numbers = itertools.count(1)


@dataclass
class History:
    """What happens to a merchant of its own, and what must be said of it, added up apart."""

    town: Town
    key: str = ""
    merchant_id: str = ""
    # By asset: (second, change of the balance) of each act; and all that was paid and refunded.
    changes: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    paid: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    refunded: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        number = next(_numbers)
        self.merchant_id = f"m_{number:016x}"
        wallet = self.town.city.keys.address("merchant")
        merchant = merchants.Merchant(self.merchant_id, "Shop", f"{number:012d}", MERCHANT_IBAN, wallet)
        with self.town.city.gateway.engine.begin() as connection:
            merchants.add_merchant(connection, merchant, self.now)
            self.key = merchants.new_key(connection, merchants.MERCHANT, self.merchant_id, self.now)
        self.invoices = {by: self._invoice(by) for by in SettleBy}

    @property
    def now(self) -> int:
        return self.town.city.clock()

    def _invoice(self, by: SettleBy) -> Invoice:
        with self.town.city.gateway.engine.begin() as connection:
            set_policy(connection, self.merchant_id, Policy(settle_by=by), "test", self.now)
        wallet = self.town.city.keys.address("merchant")
        reference = f"=HYPERLINK({by.value})"
        asked = Request(SALE_CODE, "Tea", 1_250_000, "USDT", self.merchant_id, reference, payee=wallet)
        made: Invoice = self.town.payments.create(asked)
        return made

    def pay(self, by: SettleBy, asset: str, amount: int, *, by_hand: bool) -> None:
        invoice, number = self.invoices[by], next(_numbers)
        city = amount // 100
        evidence = Evidence(
            f"evm:31337:{number:064x}:{number:064x}:0", Kind.ROUTER, Stage.FINAL, asset, amount, city, 1,
            number=sha256(b"nobody's").digest() if by_hand else invoice.number, document=b"{}", at_s=self.now,
        )  # fmt: skip
        with self.town.city.gateway.engine.begin() as connection:
            self.town.payments.take(connection, [evidence])
        if by_hand:
            Unmatched(self.town.payments).assign(evidence.key, invoice.id, "key", "the payer wrote to us")
        self.paid[asset] += amount
        self.changes[asset].append((self.now, 0 if by is SettleBy.DIRECT else amount - city))

    def refund(self, source: Source, asset: str, amount: int) -> None:
        number = next(_numbers)
        invoice = self.invoices[SettleBy.DIRECT]
        made = Refund(
            f"r_{number:024x}", invoice.id, None, self.merchant_id, source, asset, amount, b"\1" * 20,
            Proof.FIXED, self.now, RefundState.REQUESTED, self.now, self.now,
        )  # fmt: skip
        with self.town.city.gateway.engine.begin() as connection:
            key = f"k{number}"
            assert refund_rows.add_refund(connection, made, self.merchant_id, key, bytes(32), "key", "")
            # One that did not come to its end is in no statement.
            refund_rows.set_refund_state(connection, made.id, RefundState.APPROVED, "key", "", self.now)
            if amount % 3:
                refund_rows.set_refund_state(connection, made.id, RefundState.FINAL, "chain", "", self.now)
                self.refunded[asset] += amount
        self.changes[asset].append((self.now, 0))

    def pay_out(self, asset: str, state: PayoutState) -> None:
        left = sum(change for _, change in self.changes[asset])
        if not left:
            return
        shared = SharedKey(b"ours" * 8)
        with httpx.Client(trust_env=False, timeout=60) as client:
            provider = Provider("vasp", "http://127.0.0.1:9", client, shared, shared)
            settlements = Settlements(self.town.payments, {"vasp": provider})
            # Reserved and not sent: no round of the settlements runs here.
            payout = settlements.instruct(self.merchant_id, asset, "key")
        assert payout.amount_minor == left
        with self.town.city.gateway.engine.begin() as connection:
            settlement_rows.set_payout_state(connection, payout.id, state, "vasp", "", self.now)
        if state is PayoutState.PAID:
            self.changes[asset].append((self.now, -left))

    def balance(self, asset: str, before_s: int) -> int:
        return sum(change for at_s, change in self.changes[asset] if at_s < before_s)

    def told(
        self, since_s: int, until_s: int, after: tuple[int, str] = (-1, ""), most: int = 9_999
    ) -> Account:
        return account(self.town.city.gateway.engine, self.merchant_id, since_s, until_s, after, most)


AMOUNTS = st.one_of(st.integers(1, 300), st.integers(1, (1 << 100) - 1))
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.sampled_from(SettleBy), st.just("USDT"), AMOUNTS, st.booleans()),
        st.tuples(st.just("refund"), st.sampled_from(Source), st.sampled_from(ASSETS), AMOUNTS),
        st.tuples(
            st.just("pay_out"), st.sampled_from(ASSETS),
            st.sampled_from([PayoutState.PAID, PayoutState.REFUSED]),
        ),
        st.tuples(st.just("wait"), st.integers(1, 3 * DAY)),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(acts=ACTS, cut=st.floats(0, 1))
def test_opening_and_all_that_moved_are_closing_in_any_history(town_of_module: Town, acts: list, cut: float):
    history = History(town_of_module)
    began = history.now
    for name, *arguments in acts:
        match name:
            case "wait":
                town_of_module.city.clock.wait(*arguments)
            case "pay":
                *given_, by_hand = arguments
                history.pay(*given_, by_hand=by_hand)
            case _:
                getattr(history, name)(*arguments)
    ends = history.now + 1
    middle = began + int((ends - began) * cut)
    parts = [history.told(began, middle), history.told(middle, ends)]
    whole = history.told(began, ends)
    for told in (*parts, whole):
        for one in told.sums:
            lines = [line.moved for line in told.lines if line.moved.asset == one.asset]
            for part, total in zip(PARTS, SUMS, strict=True):
                assert sum(getattr(moved, part) for moved in lines) == getattr(one, total)
            assert one.opening + sum(getattr(one, total) for total in SUMS) == one.closing
            # And not by its own arithmetic alone: what was done says the same.
            assert one.opening == history.balance(one.asset, told.since_s)
            assert one.closing == history.balance(one.asset, told.until_s)
    for one in whole.sums:
        assert one.payments + one.corrections == history.paid[one.asset]
        assert -one.refunds == history.refunded[one.asset]
        assert one.fees <= 0 or one.refunds
    # What one interval ends with, the next begins with; and a line's balance is what it says.
    first = {one.asset: one.closing for one in parts[0].sums}
    for one in parts[1].sums:
        assert one.opening == first.get(one.asset, 0)
    running: dict[str, int] = defaultdict(int)
    for line in whole.lines:
        running[line.moved.asset] += line.moved.change
        assert line.balance == running[line.moved.asset]
    assert paged(history, began, ends) == whole.lines


def paged(history: History, since_s: int, until_s: int) -> list[accounts.Line]:
    found: list[accounts.Line] = []
    after = (-1, "")
    while True:
        page = history.told(since_s, until_s, after, 2)
        found += page.lines
        if not page.has_more:
            return found
        after = (page.lines[-1].moved.at_s, page.lines[-1].moved.id)


def test_the_api_the_csv_and_the_page_tell_the_same_and_it_adds_up(town: Town):
    history = History(town)
    history.pay(SettleBy.VASP, "USDT", 50_000, by_hand=False)
    town.city.clock.wait(2 * DAY)
    since = history.now
    history.pay(SettleBy.VASP, "USDT", 10_000, by_hand=False)
    history.pay(SettleBy.DIRECT, "USDT", 7_000, by_hand=True)
    history.refund(Source.MERCHANT, "USDT", 1_000)
    history.refund(Source.CITY, "USDT", 10)
    history.pay_out("USDT", PayoutState.PAID)
    asked = {"since_s": since, "until_s": history.now + 1}
    client, bearer = town.client(), {"Authorization": f"Bearer {history.key}"}
    told = client.get("/v1/statements/account", params=asked, headers=bearer).json()
    assert told["assets"] == [
        {
            "asset": "USDT", "opening": "49500", "payments": "10000", "corrections": "7000", "fees": "-160",
            "refunds": "-1010", "settlements": "-65330", "closing": "0",
        }
    ]  # fmt: skip
    assert [line["kind"] for line in told["lines"]].count("payment") == 2
    answer = client.get("/v1/statements/account.csv", params=asked, headers=bearer)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["kind"] for row in (rows[0], rows[-1])] == ["opening", "closing"]
    lines = rows[1:-1]
    # A spreadsheet adds the columns up: numbers are numbers, and a stranger's text is no formula.
    for part in PARTS:
        assert sum(int(row[part]) for row in lines) == int(rows[-1][part])
    assert int(rows[0]["balance"]) + sum(int(rows[-1][part]) for part in PARTS) == int(rows[-1]["balance"])
    assert {row["reference"][:2] for row in lines if row["invoice"]} == {"'="}
    pages = [client.get("/v1/statements/account.csv", params={**asked, "limit": 2}, headers=bearer)]
    while link := pages[-1].headers.get("Link"):
        found = re.fullmatch('<(.+)>; rel="next"', link)
        assert found is not None
        pages.append(client.get(found[1], headers=bearer))
    assert len(pages) > 1
    assert [row for page in pages for row in csv.DictReader(io.StringIO(page.text))] == rows
    visitor = Visitor(town)
    visitor.sign_in(history.key)
    shown = visitor.get("/merchant/statement").text.replace("\N{NO-BREAK SPACE}", " ")
    assert "0.0495 USDT" in shown or "0.049500 USDT" in shown
    for part in ("Payments", "Corrections", "Refunds", "Closing balance"):
        assert part in shown
