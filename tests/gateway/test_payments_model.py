"""States and moves: whatever happens to the money, in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from gateway.payments.model import MOVES, Note, Payment, Returned, Status, Terms, derive, follow, worth
from gateway.payments.service import is_settled
from gateway.rails import Kind, Stage

DUE, TIYN, EXPIRES = 1_000, 50_000, 100
TERMS = Terms("USDT", DUE, TIYN, EXPIRES)
ORDER = [Stage.DETECTED, Stage.CONFIRMING, Stage.PAID, Stage.FINAL]


def paid(
    amount: int, stage: Stage = Stage.FINAL, kind: Kind = Kind.ROUTER, at_s: int = 1, asset: str = "USDT"
):
    return Payment(kind, stage, asset, amount, at_s)


class Life(RuleBasedStateMachine):
    """One invoice, with money that comes, goes and becomes final, and time that only passes."""

    pieces = Bundle("pieces")

    @initialize(tolerance=st.sampled_from([0, 0, 10]))
    def open(self, tolerance: int):
        self.terms = Terms("USDT", DUE, TIYN, EXPIRES, tolerance)
        self.now = 0
        self.money: dict[int, Payment] = {}
        self.status = Status.OPEN

    @rule(
        target=pieces,
        amount=st.sampled_from([1, 400, 600, 995, DUE, 1_500]),
        kind=st.sampled_from(list(Kind)),
    )
    def pay(self, amount: int, kind: Kind):
        asset, amount = ("KZT", amount * TIYN // DUE) if kind is Kind.BANK else ("USDT", amount)
        number = len(self.money)
        self.money[number] = Payment(kind, Stage.DETECTED, asset, amount, self.now)
        self.derive()
        return number

    @rule(piece=pieces, stage=st.sampled_from(ORDER))
    def come_further(self, piece: int, stage: Stage):
        if self.money[piece].stage is not Stage.FINAL:
            self.put(piece, stage)

    @rule(piece=pieces)
    def reorganise(self, piece: int):
        if self.money[piece].stage is not Stage.FINAL:
            self.put(piece, Stage.GONE)

    @rule(piece=consumes(pieces))
    def finalise(self, piece: int):
        if self.money[piece].stage is not Stage.GONE:
            self.put(piece, Stage.FINAL)

    @rule(seconds=st.sampled_from([1, 99, 101]))
    def wait(self, seconds: int):
        self.now += seconds
        self.derive()

    @rule()
    def void(self):
        self.terms = Terms("USDT", DUE, TIYN, EXPIRES, self.terms.tolerance_minor, voided=True)
        self.derive()

    def put(self, piece: int, stage: Stage):
        one = self.money[piece]
        self.money[piece] = Payment(one.kind, stage, one.asset, one.amount_minor, one.at_s)
        self.derive()

    def derive(self):
        derived = derive(self.terms, self.money.values(), self.now)
        assert derived.status is self.status or derived.status in MOVES[self.status], (
            f"{self.status} to {derived.status}"
        )
        assert follow(self.status, derived) is derived.status
        self.status = derived.status

    @invariant()
    def nothing_is_settled_without_money(self):
        if not hasattr(self, "terms"):
            return
        live = [
            p
            for p in self.money.values()
            if p.stage is not Stage.GONE and p.kind in {Kind.ROUTER, Kind.DEPOSIT, Kind.BANK}
        ]
        total = worth(self.terms, live)
        derived = derive(self.terms, self.money.values(), self.now)
        needed = DUE - self.terms.tolerance_minor
        assert derived.paid_minor == total
        assert derived.paid_minor + derived.missing_minor == DUE + derived.over_minor
        if is_settled(derived.status):
            far = [p for p in live if p.stage in {Stage.PAID, Stage.FINAL}]
            assert worth(self.terms, far) >= needed
        if derived.status is Status.FINAL:
            assert worth(self.terms, [p for p in live if p.stage is Stage.FINAL]) >= needed
        if total >= needed:
            assert derived.status in {Status.DETECTED, Status.CONFIRMING, Status.PAID, Status.FINAL}
        else:
            assert (Note.PARTIAL in derived.notes) == bool(live)
            assert not is_settled(derived.status)
        assert (Note.OVER in derived.notes) == (total > DUE)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=30)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Kind)),
            st.sampled_from(list(Stage)),
            st.integers(1, 2_000),
            st.integers(0, 200),
        ),
        max_size=6,
    ),
    st.integers(0, 200),
    st.randoms(),
)
def test_the_order_in_which_evidence_is_listed_changes_nothing(pieces, now, chance):
    payments = [Payment(kind, stage, "USDT", amount, at) for kind, stage, amount, at in pieces]
    shuffled = list(payments)
    chance.shuffle(shuffled)
    assert derive(TERMS, payments, now) == derive(TERMS, shuffled, now)


def test_partial_money_detects_and_time_expires_it_and_more_money_pays_it_late():
    part = paid(400, at_s=50)
    assert derive(TERMS, [part], 50).status is Status.DETECTED
    expired = derive(TERMS, [part], EXPIRES + 1)
    assert (expired.status, expired.notes, expired.missing_minor) == (Status.EXPIRED, {Note.PARTIAL}, 600)
    late = derive(TERMS, [part, paid(600, at_s=EXPIRES + 1)], EXPIRES + 1)
    assert (late.status, late.notes) == (Status.FINAL, {Note.LATE})


@pytest.mark.parametrize(("now", "expected"), [(99, Status.OPEN), (100, Status.OPEN), (101, Status.EXPIRED)])
def test_an_invoice_expires_after_its_last_second(now: int, expected: Status):
    assert derive(TERMS, [], now).status is expected


@pytest.mark.parametrize(
    ("amount", "status"), [(989, Status.OPEN), (990, Status.FINAL), (1_000, Status.FINAL)]
)
def test_a_tolerance_forgives_so_much_and_not_one_unit_more(amount: int, status: Status):
    terms = Terms("USDT", DUE, TIYN, EXPIRES, tolerance_minor=10)
    found = derive(terms, [paid(amount)], 1)
    assert found.status is (Status.DETECTED if status is Status.OPEN else status)
    assert found.missing_minor == DUE - amount


def test_no_tolerance_pays_an_invoice_with_nothing():
    assert derive(Terms("USDT", 5, TIYN, EXPIRES, tolerance_minor=5), [], 1).status is Status.OPEN
    assert derive(Terms("USDT", 5, TIYN, EXPIRES, tolerance_minor=9), [], 1).status is Status.OPEN


def test_money_that_is_less_far_decides_where_it_is_needed():
    found = derive(TERMS, [paid(600), paid(400, Stage.DETECTED)], 1)
    assert found.status is Status.DETECTED
    assert derive(TERMS, [paid(DUE), paid(400, Stage.DETECTED)], 1).status is Status.FINAL


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=8))
def test_the_price_in_tenge_in_any_parts_is_the_price(parts):
    odd = Terms("USDT", 24_409_296, sum(parts), EXPIRES)
    pieces = [paid(part, asset="KZT", kind=Kind.BANK) for part in parts]
    assert derive(odd, pieces, 1).status is Status.FINAL
    assert derive(odd, pieces[1:], 1).status is not Status.FINAL


def test_tenge_count_at_the_quoted_rate_rounded_down_and_no_other_asset_counts():
    assert derive(TERMS, [paid(TIYN, asset="KZT", kind=Kind.BANK)], 1).status is Status.FINAL
    short = derive(TERMS, [paid(TIYN - 1, asset="KZT", kind=Kind.BANK)], 1)
    assert (short.status, short.paid_minor) == (Status.DETECTED, DUE - 1)
    assert derive(TERMS, [paid(10**30, asset="SHIB")], 1).paid_minor == 0
    assert derive(TERMS, [paid(10**30, asset="SHIB")], 1).status is Status.OPEN


def test_a_surplus_that_goes_back_before_it_is_final_is_paid_out_of_final_money_and_that_then_decides():
    surplus = paid(500, Stage.PAID)
    back = [Returned("USDT", 500, is_final=False)]
    assert derive(TERMS, [paid(DUE), surplus], 5, back).status is Status.PAID
    assert derive(TERMS, [paid(DUE), paid(500)], 5, back).status is Status.FINAL
    assert derive(TERMS, [paid(DUE), paid(500, Stage.GONE)], 5, back).status is Status.REFUND_PENDING
    assert derive(TERMS, [paid(DUE, Stage.PAID), paid(500)], 5, back).status is Status.PAID


def test_what_was_given_back_and_is_paid_again_is_final_only_when_the_new_money_is():
    """Else goods go for a payment that can still be taken back, after the first one was refunded."""
    back = [Returned("USDT", DUE, is_final=True)]
    assert derive(TERMS, [paid(DUE)], 5, back).status is Status.REFUNDED
    for stage in ORDER:
        derived = derive(TERMS, [paid(DUE), paid(DUE, stage)], 5, back)
        assert derived.status is Status(stage.value)
        assert is_settled(derived.status) is (stage in {Stage.PAID, Stage.FINAL})
