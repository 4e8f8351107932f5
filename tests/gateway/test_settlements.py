"""Merchants are paid once: on chain in the paying transaction, or in tenge by a provider that may misbehave."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.db import reading
from gateway.merchants.policy import Policy, SettleBy, set_policy
from gateway.payments import store
from gateway.payments.settlements import ASK_AGAIN_S, LEASE_S, TELL_AGAIN_S, PayoutState, Settlements
from gateway.payments.store import settlements as rows
from gateway.payments.store.settlements import PAYOUT_MOVES, Payout
from gateway.rails import Kind, Stage
from gateway.vasp.client import Provider
from gateway.vasp.messages import (
    Confirmation,
    Instruction,
    ProviderKey,
    ProviderSigner,
    Said,
    SharedKey,
    decode_confirmation,
)
from gateway.vasp.simulator import Misbehaviour, VaspSimulator
from ledger.records import Invalid, Unavailable
from tests.gateway.conftest import MERCHANT_IBAN, Town
from tests.servers import until

ACTOR, END = "key_1", (1 << 62, "")
SILENT = {Misbehaviour.SILENT_BEFORE, Misbehaviour.SILENT_AFTER}


class Vasp:
    """A town whose merchant is paid in tenge, and its provider."""

    def __init__(self, town: Town, simulator: VaspSimulator, provider: Provider) -> None:
        self.town, self.simulator = town, simulator
        self.settlements = Settlements(town.payments, {"vasp": provider})
        # A test of silence need not last as long as silence is waited for.
        self.impatient = Settlements(town.payments, {"vasp": replace(provider, timeout_s=0.5)})

    def earned(self, count: int = 2) -> int:
        """So many final payments; returns the net in base units."""
        invoices = [self.town.invoice() for _ in range(count)]
        for invoice in invoices:
            self.town.pay(invoice)
        self.town.settle()
        return sum(one.net_minor for one in self.settlements.of(self.town.merchant_id, END, 100))

    def instruct(self) -> Payout:
        return self.settlements.instruct(self.town.merchant_id, "USDT", ACTOR)

    def follow(self, wait_s: int = 0) -> Payout:
        self.town.city.clock.wait(wait_s)
        self.settlements.follow()
        [payout] = self.settlements.payouts_of(self.town.merchant_id, END, 1)
        return payout


@pytest.fixture
def vasp(town: Town) -> Iterator[Vasp]:
    yield from paid_by_provider(town)


def paid_by_provider(town: Town) -> Iterator[Vasp]:
    """Have a town's merchant be paid in tenge."""
    ours = SharedKey(b"ours" * 8)
    theirs, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    with town.city.gateway.engine.begin() as connection:
        policy = Policy(settle_by=SettleBy.VASP)
        set_policy(connection, town.merchant_id, policy, ACTOR, town.city.clock())
    simulator = VaspSimulator(ours, ProviderSigner(theirs), ProviderSigner(other))
    with simulator, httpx.Client(trust_env=False, timeout=60) as client:
        key = ProviderKey(theirs.public_key())
        provider = Provider("vasp", simulator.url, client, ours, key, timeout_s=60)
        yield Vasp(town, simulator, provider)


# --- direct -----------------------------------------------------------------------------


def test_a_direct_settlement_is_noted_with_final_money_once_and_with_its_date(town: Town):
    wallet, exchange = town.invoice(), town.invoice()
    town.pay(wallet)
    town.deposit(exchange)
    town.poll()
    settlements = town.city.gateway.settlements
    assert settlements is not None
    assert settlements.of(town.merchant_id, END, 10) == []
    town.settle()
    made = {one.invoice_id: one for one in settlements.of(town.merchant_id, END, 10)}
    assert made.keys() == {wallet.id, exchange.id}
    for invoice in (wallet, exchange):
        one = made[invoice.id]
        assert (one.gross_minor, one.city_minor + one.net_minor) == (invoice.due_minor, invoice.due_minor)
        assert (one.method, one.receiver) == ("direct", town.city.keys.address("merchant"))
        piece = next(seen for seen in town.seen(invoice) if seen.key == one.id)
        assert (piece.kind in {Kind.ROUTER, Kind.FLUSH}, piece.stage, piece.at_s) == (
            True,
            Stage.FINAL,
            one.at_s,
        )
    # What the merchant was given is what its wallet has.
    net = sum(one.net_minor for one in made.values())
    assert town.city.city.balance(town.token, town.city.keys.address("merchant")) == net
    town.settle()
    assert len(settlements.of(town.merchant_id, END, 10)) == 2


def test_a_fee_of_the_city_is_no_settlement(town: Town):
    bill = town.bill("USDT")
    town.pay(bill)
    town.settle()
    with reading(town.city.gateway.engine) as connection:
        assert rows.settlements_of_invoice(connection, bill.id) == []


# --- by a provider ------------------------------------------------------------------------


def test_a_payout_is_instructed_confirmed_and_exactly_once(vasp: Vasp):
    net = vasp.earned()
    payout = vasp.instruct()
    assert (payout.amount_minor, payout.iban, payout.state) == (net, MERCHANT_IBAN, PayoutState.RESERVED)
    with pytest.raises(Invalid, match="nothing in USDT waits"):
        vasp.instruct()
    assert vasp.follow().state is PayoutState.INSTRUCTED
    body, signature = vasp.simulator.pay(payout.id, vasp.town.city.clock())
    paid = vasp.settlements.confirm("vasp", body, signature)
    worth = net * vasp.simulator.numerator // vasp.simulator.denominator
    assert (paid.state, paid.tiyn + paid.fee_tiyn) == (PayoutState.PAID, worth)
    assert (paid.numerator, paid.denominator) == (vasp.simulator.numerator, vasp.simulator.denominator)
    assert paid.bank_reference == f"KZ{payout.id[-16:]}"
    # The same again, by whatever way, changes nothing.
    assert vasp.settlements.confirm("vasp", body, signature) == paid
    assert vasp.follow(ASK_AGAIN_S * 10) == paid
    assert [state for state, _, _, _ in vasp.settlements.events(payout.id)] == [
        "reserved", "unknown", "instructed", "paid",
    ]  # fmt: skip
    assert vasp.simulator.payouts[payout.id].told == 1


@pytest.mark.parametrize(
    "how",
    [Misbehaviour.SILENT_BEFORE, Misbehaviour.SILENT_AFTER, Misbehaviour.ERROR_PAGE, Misbehaviour.WRONG_KEY],
)
def test_ff43_after_a_timeout_a_payout_is_asked_about_by_our_own_reference(vasp: Vasp, how: Misbehaviour):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.simulator.misbehaves = how
    (vasp.impatient if how in SILENT else vasp.settlements).follow()
    assert vasp.settlements.look(payout.id).state is PayoutState.UNKNOWN
    assert vasp.settlements.look(payout.id).problem is not None
    if how is not Misbehaviour.SILENT_BEFORE:
        until(lambda: payout.id in vasp.simulator.payouts, "the provider takes what it was told")
    vasp.simulator.misbehaves = None
    # Not at once: what was sent may still be on its way.
    assert vasp.follow(LEASE_S - 1).state is PayoutState.UNKNOWN
    assert vasp.simulator.asked == []
    found = vasp.follow(LEASE_S)
    assert vasp.simulator.asked == [payout.id]
    if how is Misbehaviour.SILENT_BEFORE:
        assert found.state is PayoutState.UNKNOWN
        found = vasp.follow(TELL_AGAIN_S)
    assert found.state is PayoutState.INSTRUCTED
    assert vasp.simulator.payouts[payout.id].told == 1
    assert len(vasp.simulator.payouts) == 1


def test_a_new_payout_is_told_before_a_silent_provider_is_asked_about_old_ones(
    vasp: Vasp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.payments.settlements.AT_ONCE", 2)
    for _ in range(3):
        vasp.earned(1)
        vasp.instruct()
        assert vasp.follow().state is PayoutState.INSTRUCTED
    # All three are due to be asked about, and have been for longer than the new one.
    vasp.town.city.clock.wait(ASK_AGAIN_S + 1)
    vasp.earned(1)
    vasp.instruct()
    assert vasp.follow().state is PayoutState.INSTRUCTED
    assert len(vasp.simulator.payouts) == 4


def test_a_confirmation_that_never_comes_is_fetched_and_one_that_comes_early_is_taken(vasp: Vasp):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.follow()
    vasp.simulator.pay(payout.id, 1)
    assert vasp.follow(ASK_AGAIN_S).state is PayoutState.PAID
    vasp.earned(1)
    second = vasp.instruct()
    vasp.simulator.misbehaves = Misbehaviour.SILENT_AFTER
    vasp.impatient.follow()
    until(lambda: second.id in vasp.simulator.payouts, "the provider takes what it was told")
    # It confirms before its own answer was ever seen.
    body, signature = vasp.simulator.pay(second.id, 2)
    assert vasp.settlements.confirm("vasp", body, signature).state is PayoutState.PAID


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tiyn": 1}, "at that rate"),
        ({"fee_tiyn": 10**15}, "at that rate"),
        ({"numerator": 40_000}, "at that rate"),
        ({"instruction": {"amount_minor": 5}}, "confirmed 5"),
        ({"instruction": {"iban": "KZ000000000000000001"}}, "KZ000000000000000001"),
        ({"instruction": {"asset": "USDC"}}, "USDC"),
    ],
)
def test_what_was_not_instructed_is_not_believed_and_a_person_decides(vasp: Vasp, changes, why: str):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.follow()
    if "instruction" in changes:
        made = vasp.simulator.payouts[payout.id].instruction
        changes = {"instruction": replace(made, **changes["instruction"])}
    body, signature = vasp.simulator.pay(payout.id, 1, **changes)
    found = vasp.settlements.confirm("vasp", body, signature)
    assert (found.state, why in str(found.problem)) == (PayoutState.DISPUTED, True), found.problem
    # Its settlements are not free: the money may be out.
    with pytest.raises(Invalid, match="nothing in USDT waits"):
        vasp.instruct()
    with pytest.raises(Invalid, match="reason"):
        vasp.settlements.resolve(payout.id, is_paid=False, actor=ACTOR, why=" ", is_sure=True)
    vasp.settlements.resolve(
        payout.id, is_paid=False, actor=ACTOR, why="the provider took it back", is_sure=True
    )
    assert vasp.instruct().amount_minor == payout.amount_minor


def test_a_rate_far_from_the_ledgers_is_disputed(vasp: Vasp):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.follow()
    vasp.simulator.numerator //= 2
    found = vasp.settlements.confirm("vasp", *vasp.simulator.pay(payout.id, 1))
    assert (found.state, "its rate is" in str(found.problem)) == (PayoutState.DISPUTED, True)


def test_a_second_story_about_a_paid_payout_is_kept_and_changes_nothing(vasp: Vasp):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.follow()
    paid = vasp.settlements.confirm("vasp", *vasp.simulator.pay(payout.id, 1))
    for told in (
        vasp.simulator.pay(payout.id, 1, bank_reference="another"),
        vasp.simulator.refuse(payout.id, "not me"),
    ):
        found = vasp.settlements.confirm("vasp", *told)
        assert replace(found, problem=None) == replace(paid, problem=None)
        assert found.problem is not None


def test_one_bank_reference_is_of_one_payout(vasp: Vasp):
    vasp.earned(1)
    first = vasp.instruct()
    vasp.follow()
    vasp.settlements.confirm("vasp", *vasp.simulator.pay(first.id, 1, bank_reference="B1"))
    vasp.earned(1)
    second = vasp.instruct()
    vasp.settlements.follow()
    found = vasp.settlements.confirm("vasp", *vasp.simulator.pay(second.id, 1, bank_reference="B1"))
    assert (found.state, first.id in str(found.problem)) == (PayoutState.DISPUTED, True)


def test_a_refused_payout_gives_its_money_back_to_the_next(vasp: Vasp):
    net = vasp.earned(1)
    vasp.simulator.misbehaves = Misbehaviour.REFUSES
    first = vasp.instruct()
    refused = vasp.follow()
    assert (refused.state, refused.id) == (PayoutState.REFUSED, first.id)
    vasp.simulator.misbehaves = None
    second = vasp.instruct()
    assert (second.amount_minor, second.id != first.id) == (net, True)


def test_a_payout_that_the_provider_forgot_is_disputed_and_not_told_again(vasp: Vasp):
    vasp.earned(1)
    vasp.simulator.misbehaves = Misbehaviour.FORGETS
    vasp.instruct()
    assert vasp.follow().state is PayoutState.INSTRUCTED
    vasp.simulator.misbehaves = None
    assert vasp.follow(ASK_AGAIN_S).state is PayoutState.DISPUTED
    assert vasp.simulator.payouts == {}


def test_a_confirmation_is_signed_by_the_provider_to_the_byte(vasp: Vasp):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.follow()
    body, signature = vasp.simulator.pay(payout.id, 1)
    strange = vasp.simulator.stranger.sign(body)
    wrong = [
        (body + b" ", signature), (body, strange), (body, ""), (body, "ed25519=zz"),
        (body, "hmac-sha256=" + "0" * 64), (body.replace(b"paid", b"PAID"), signature),
    ]  # fmt: skip
    for told, signed in wrong:
        with pytest.raises(Invalid, match="signature"):
            vasp.settlements.confirm("vasp", told, signed)
    with pytest.raises(Invalid, match="no provider"):
        vasp.settlements.confirm("nobody", body, signature)
    assert vasp.settlements.look(payout.id).state is PayoutState.INSTRUCTED


def test_of_two_who_instruct_at_once_one_gets_the_money(vasp: Vasp):
    vasp.earned(1)
    results: list[object] = []
    gate = threading.Barrier(4)

    def instruct() -> None:
        gate.wait(60)
        try:
            results.append(vasp.instruct())
        except Invalid as refused:
            results.append(refused)

    threads = [threading.Thread(target=instruct) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(isinstance(one, Payout) for one in results) == 1
    assert len(results) == 4


def test_every_move_of_a_payout_is_in_the_table_and_its_ends_are_ends():
    assert {state for state, moves in PAYOUT_MOVES.items() if not moves} == {PayoutState.PAID}
    # Said to be paid after all, it is a person's again.
    assert PAYOUT_MOVES[PayoutState.REFUSED] == {PayoutState.DISPUTED}
    assert set(PAYOUT_MOVES) == set(PayoutState)


@given(
    st.builds(
        Confirmation,
        st.builds(
            Instruction,
            st.from_regex("[0-9a-z_]{1,64}", fullmatch=True),
            st.sampled_from(["USDT", "ETH"]),
            st.integers(0, (1 << 128) - 1),
            st.from_regex("KZ[0-9A-Z]{18}", fullmatch=True),
        ),
        st.just(Said.PAID),
        *[st.integers(0, (1 << 127))] * 3,
        st.integers(1, 1 << 64),
        st.from_regex("[!-~]{1,64}", fullmatch=True),
        st.integers(0, 1 << 40),
    )
)
def test_what_is_said_is_read_back_the_same(told: Confirmation):
    assert decode_confirmation(told.encode()) == told


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_whatever_bytes_a_provider_sends_are_read_or_refused(body: bytes):
    with contextlib.suppress(Invalid):
        decode_confirmation(body)


def test_a_shared_key_signs_too():
    key = SharedKey(b"k" * 32)
    key.check(b"body", key.sign(b"body"))
    with pytest.raises(Invalid):
        key.check(b"body ", key.sign(b"body"))


def test_nothing_but_a_signed_answer_is_an_answer(vasp: Vasp):
    provider = vasp.settlements._providers["vasp"]
    with pytest.raises(Unavailable):
        replace(provider, url="http://127.0.0.1:9").ask(Instruction("r", "USDT", 1, "KZ0"))
    assert provider.ask(Instruction("nobody", "USDT", 1, "KZ0")) is None


def test_what_a_merchant_was_given_is_a_page_at_a_time(vasp: Vasp):
    vasp.earned(5)
    pages, before = [], END
    while page := vasp.settlements.of(vasp.town.merchant_id, before, 2):
        pages += [one.id for one in page]
        before = (page[-1].noted_s, page[-1].id)
    assert len(pages) == len(set(pages)) == 5
    with reading(vasp.town.city.gateway.engine) as connection:
        assert store.counts(connection)["final"] == 5
