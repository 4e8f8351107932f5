"""A payout that a provider contradicts hangs until an operator decides, once, and is never paid twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.payments.settlements import ASK_AGAIN_S, PayoutState, _instruction
from gateway.payments.store.settlements import Payout
from gateway.vasp.simulator import Misbehaviour
from ledger.records import Invalid
from tests.gateway.conftest import MERCHANT_IBAN, Town
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_refunds_shown import read
from tests.gateway.test_settlements import ACTOR, END, Vasp, paid_by_provider, vasp

__all__ = ["vasp"]
BOTH = pytest.mark.parametrize("on", ["vasp", "postgres_vasp"])
PAGE = "/operator/payouts"
WHY = "their letter 17 says so"


@pytest.fixture
def postgres_vasp(postgres_town: Town) -> Iterator[Vasp]:
    yield from paid_by_provider(postgres_town)


def disputed(vasp: Vasp, **changes: Any) -> Payout:
    """A payout of which the provider confirms something else."""
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.settlements.follow()
    told = vasp.simulator.pay(payout.id, 1, **(changes or {"tiyn": 1}))
    found = vasp.settlements.confirm("vasp", *told)
    assert found.state is PayoutState.DISPUTED
    return found


def resolve(vasp: Vasp, payout: Payout, *, is_paid: bool) -> Payout:
    return vasp.settlements.resolve(payout.id, is_paid=is_paid, actor=ACTOR, why=WHY, is_sure=True)


def states(vasp: Vasp) -> dict[str, PayoutState]:
    found = vasp.settlements.payouts_of(vasp.town.merchant_id, END, 10)
    return {one.id: one.state for one in found}


def visitor(vasp: Vasp, key: str) -> Visitor:
    city = vasp.town.city
    city.gateway = replace(city.gateway, settlements=vasp.settlements)
    found = Visitor(vasp.town)
    found.sign_in(key)
    return found


# --- the page and the API ---------------------------------------------------------------------


def test_an_operator_reads_what_does_not_fit_and_writes_down_that_it_was_paid(vasp: Vasp):
    payout = disputed(vasp)
    operator = visitor(vasp, vasp.town.operator_key)
    assert "Disputed payouts Waiting: 1" in read(operator, "/operator")
    page = read(operator, PAGE)
    for part in ("Sample cafe", vasp.town.merchant_id, MERCHANT_IBAN, payout.id, str(payout.problem)):
        assert part in page, part
    assert f"KZ{payout.id[-16:]}" in page, "the bank's reference, as the provider told it"
    gone = operator.send(PAGE, PAGE, id=payout.id, what="paid", why=WHY)
    assert (gone.status_code, gone.headers["location"]) == (303, f"{PAGE}?done={payout.id}")
    assert f"Written down: it was paid. {payout.id}" in read(operator, gone.headers["location"])
    assert "No payout is disputed." in read(operator, PAGE)
    assert "Waiting:" not in read(operator, "/operator")
    found = vasp.settlements.look(payout.id)
    assert (found.state, found.problem) == (PayoutState.PAID, None)
    state, actor, why, _ = vasp.settlements.events(payout.id)[-1]
    assert (state, why) == ("paid", WHY)
    assert actor in vasp.town.operator_key, "the person is named"
    # The merchant reads what was decided, when and why.
    money = read(visitor(vasp, vasp.town.merchant_key), "/merchant/money")
    assert "The operator cleared it up on" in money
    assert f"it was paid. {WHY}" in money
    assert "later the provider said something else" not in money


def test_that_it_was_not_paid_is_only_taken_with_the_providers_word_in_writing(vasp: Vasp):
    payout = disputed(vasp)
    operator = visitor(vasp, vasp.town.operator_key)
    page = operator.get(PAGE).text
    assert "If the provider did pay, it goes out twice." in page
    assert '<input type="checkbox" name="sure" value="yes" required>' in page
    refused = operator.send(PAGE, PAGE, id=payout.id, what="not_paid", why=WHY)
    assert (refused.status_code, "in writing" in refused.text) == (422, True)
    assert operator.send(PAGE, PAGE, id=payout.id, what="paid", why=" ").status_code == 422
    assert operator.send(PAGE, PAGE, id=payout.id, what="else", why=WHY).status_code == 422
    assert states(vasp) == {payout.id: PayoutState.DISPUTED}
    gone = operator.send(PAGE, PAGE, id=payout.id, what="not_paid", why=WHY, sure="yes")
    assert gone.status_code == 303
    assert "it was not paid. The sum is free" in read(operator, gone.headers["location"])
    money = read(visitor(vasp, vasp.town.merchant_key), "/merchant/money")
    assert f"it was not paid. The sum goes into the next payout. {WHY}" in money
    assert "It was not paid. The sum goes into" not in money, "once, and in the words of who decided"


def test_only_an_operator_sees_and_decides_disputes_of_all_merchants(vasp: Vasp):
    payout = disputed(vasp)
    merchant = visitor(vasp, vasp.town.merchant_key)
    assert merchant.get(PAGE).status_code == 403
    assert merchant.send("/merchant/money", PAGE, id=payout.id, what="paid", why=WHY).status_code == 403
    forged = visitor(vasp, vasp.town.operator_key)
    assert forged.post(PAGE, {"id": payout.id, "what": "paid", "why": WHY}).status_code == 403
    client, body = vasp.town.client(), {"outcome": "paid", "why": WHY}
    for headers, status in ((vasp.town.bearer, 403), ({}, 401)):
        assert client.get("/v1/unmatched/payouts", headers=headers).status_code == status
        path = f"/v1/unmatched/payouts/{payout.id}/resolve"
        assert client.post(path, json=body, headers=headers).status_code == status
    assert states(vasp) == {payout.id: PayoutState.DISPUTED}


def test_a_dispute_is_resolved_by_api_once_and_again_under_its_key(vasp: Vasp):
    payout = disputed(vasp)
    visitor(vasp, vasp.town.operator_key)
    client, headers = vasp.town.client(), vasp.town.operator
    [one] = client.get("/v1/unmatched/payouts", headers=headers).json()["payouts"]
    assert (one["payout"]["id"], one["name"]) == (payout.id, "Sample cafe")
    assert (one["since_s"], one["told"]["tiyn"]) == (payout.changed_s, "1")
    path = f"/v1/unmatched/payouts/{payout.id}/resolve"
    unsure = client.post(path, json={"outcome": "not_paid", "why": WHY}, headers=headers)
    assert (unsure.status_code, unsure.json()["rule"]) == (422, "P7")
    assert client.post(path, json={"outcome": "paid", "why": ""}, headers=headers).status_code == 422
    body, keyed = (
        {"outcome": "not_paid", "why": WHY, "nothing_left": True},
        headers | {"Idempotency-Key": "k"},
    )
    for _ in range(2):
        taken = client.post(path, json=body, headers=keyed)
        assert (taken.status_code, taken.json()["state"]) == (200, "refused")
    again = client.post(path, json=body, headers=headers)
    assert (again.status_code, again.json()["rule"]) == (422, "P7")
    none = client.post("/v1/unmatched/payouts/p_none/resolve", json=body, headers=headers)
    assert none.status_code == 404
    assert client.get("/v1/unmatched/payouts", headers=headers).json()["payouts"] == []


# --- what a person says, and what the provider says then -----------------------------------------


def test_what_is_not_disputed_is_not_resolved_and_what_is_paid_is_not_resolved_again(vasp: Vasp):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.settlements.follow()
    for is_paid in (True, False):
        with pytest.raises(Invalid, match=r"P7.*this is instructed"):
            resolve(vasp, payout, is_paid=is_paid)
    vasp.settlements.confirm("vasp", *vasp.simulator.pay(payout.id, 1, tiyn=1))
    assert resolve(vasp, payout, is_paid=True).state is PayoutState.PAID
    for is_paid in (True, False):
        with pytest.raises(Invalid, match=r"P7.*this is paid"):
            resolve(vasp, payout, is_paid=is_paid)
    with pytest.raises(Invalid, match="nothing in USDT waits"):
        vasp.instruct()


def test_what_was_not_paid_is_paid_out_once_more_and_not_twice(vasp: Vasp):
    payout = disputed(vasp)
    resolve(vasp, payout, is_paid=False)
    again = vasp.instruct()
    assert (again.amount_minor, again.id != payout.id) == (payout.amount_minor, True)
    with pytest.raises(Invalid, match="nothing in USDT waits"):
        vasp.instruct()


@BOTH
def test_of_two_operators_at_once_one_decides(on: str, request: pytest.FixtureRequest):
    vasp: Vasp = request.getfixturevalue(on)
    payout = disputed(vasp)
    results: list[object] = []
    gate = threading.Barrier(4)

    def decide(is_paid: bool) -> None:
        gate.wait(60)
        try:
            results.append(resolve(vasp, payout, is_paid=is_paid).state)
        except Invalid as refused:
            results.append(refused)

    threads = [threading.Thread(target=decide, args=(one % 2 == 0,)) for one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    [won] = [one for one in results if not isinstance(one, Invalid)]
    assert (len(results), vasp.settlements.look(payout.id).state) == (4, won)
    ends = [state for state, *_ in vasp.settlements.events(payout.id) if state in {"paid", "refused"}]
    assert len(ends) == 1


@pytest.mark.parametrize("is_paid", [True, False])
def test_what_the_provider_said_before_a_person_decided_changes_nothing_when_it_comes_again(
    vasp: Vasp, is_paid: bool
):
    payout = disputed(vasp)
    ended = resolve(vasp, payout, is_paid=is_paid)
    body, signature = vasp.simulator.pay(payout.id, 1, tiyn=1)
    assert vasp.settlements.confirm("vasp", body, signature) == ended


def test_a_fitting_confirmation_after_it_was_said_to_be_paid_tells_how_much_came(vasp: Vasp):
    payout = disputed(vasp)
    resolve(vasp, payout, is_paid=True)
    worth = payout.amount_minor * vasp.simulator.numerator // vasp.simulator.denominator
    for _ in range(2):
        body, signature = vasp.simulator.pay(payout.id, 1, tiyn=worth, fee_tiyn=0)
        found = vasp.settlements.confirm("vasp", body, signature)
        assert (found.state, found.problem, found.tiyn) == (PayoutState.PAID, None, worth)
        assert found.bank_reference == f"KZ{payout.id[-16:]}"
    assert [state for state, *_ in vasp.settlements.events(payout.id)].count("paid") == 1
    # And a refusal is told to the operator, and moves nothing.
    found = vasp.settlements.confirm("vasp", *vasp.simulator.refuse(payout.id, "not me"))
    assert (found.state, "is refused now" in str(found.problem)) == (PayoutState.PAID, True)
    page = read(visitor(vasp, vasp.town.operator_key), PAGE)
    assert "Paid, and contradicted since" in page
    assert str(found.problem) in page


def confirmed_after_all(vasp: Vasp, payout: Payout) -> Payout:
    """The provider, which had confirmed nothing left, confirms the payout as it was instructed."""
    worth = payout.amount_minor * vasp.simulator.numerator // vasp.simulator.denominator
    return vasp.settlements.confirm("vasp", *vasp.simulator.pay(payout.id, 1, tiyn=worth, fee_tiyn=0))


@BOTH
def test_what_is_confirmed_after_it_was_said_not_to_be_paid_is_held_again(
    on: str, request: pytest.FixtureRequest
):
    vasp: Vasp = request.getfixturevalue(on)
    payout = disputed(vasp)
    resolve(vasp, payout, is_paid=False)
    for _ in range(2):
        found = confirmed_after_all(vasp, payout)
        assert (found.state, "refused before" in str(found.problem)) == (PayoutState.DISPUTED, True)
    with pytest.raises(Invalid, match="nothing in USDT waits"):
        vasp.instruct()
    [one] = vasp.settlements.disputed((0, ""), 10)
    assert (one.payout.id, one.told is not None) == (payout.id, True)
    assert vasp.settlements.disputed((one.payout.changed_s, payout.id), 10) == []
    assert resolve(vasp, payout, is_paid=True).state is PayoutState.PAID
    with pytest.raises(Invalid, match="nothing in USDT waits"):
        vasp.instruct()


def paid_out_again(vasp: Vasp) -> tuple[Payout, Payout, int]:
    """One that was said not to be paid, the next one, and what that one is of: its settlement and one more."""
    payout = disputed(vasp)
    resolve(vasp, payout, is_paid=False)
    earned = vasp.earned(1)
    return payout, vasp.instruct(), earned


@BOTH
def test_a_new_payout_that_nobody_was_told_of_gives_way_to_the_old_one_that_was_paid(
    on: str, request: pytest.FixtureRequest
):
    vasp: Vasp = request.getfixturevalue(on)
    payout, new, earned = paid_out_again(vasp)
    assert new.amount_minor == earned
    confirmed_after_all(vasp, payout)
    assert states(vasp) == {payout.id: PayoutState.DISPUTED, new.id: PayoutState.REFUSED}
    # The provider is told of neither; what the merchant earned since is paid out alone.
    vasp.follow(ASK_AGAIN_S)
    assert new.id not in vasp.simulator.payouts
    assert vasp.instruct().amount_minor == earned - payout.amount_minor


@BOTH
def test_a_new_payout_that_may_be_out_is_disputed_and_what_it_frees_stays_with_the_old_one(
    on: str, request: pytest.FixtureRequest
):
    vasp: Vasp = request.getfixturevalue(on)
    payout, new, earned = paid_out_again(vasp)
    vasp.settlements.follow()
    found = confirmed_after_all(vasp, payout)
    assert states(vasp) == {payout.id: PayoutState.DISPUTED, new.id: PayoutState.DISPUTED}
    assert new.id in str(found.problem)
    assert payout.id in str(vasp.settlements.look(new.id).problem)
    resolve(vasp, payout, is_paid=True)
    # The provider stopped the second in time: its own settlements are free, the first's are paid.
    resolve(vasp, new, is_paid=False)
    assert vasp.instruct().amount_minor == earned - payout.amount_minor


def test_a_payout_that_is_confirmed_while_it_is_asked_about_stays_paid(vasp: Vasp):
    vasp.earned(1)
    vasp.simulator.misbehaves = Misbehaviour.FORGETS
    vasp.instruct()
    payout = vasp.follow()
    vasp.simulator.misbehaves = None
    assert payout.state is PayoutState.INSTRUCTED
    # The worker has read the payout, the provider has answered that it knows nothing, and then confirms.
    vasp.simulator.payouts.clear()
    vasp.settlements._providers["vasp"].instruct(_instruction(payout))
    paid = vasp.settlements.confirm("vasp", *vasp.simulator.pay(payout.id, 1))
    assert paid.state is PayoutState.PAID
    assert vasp.settlements._may_tell(payout) is False
    assert vasp.settlements.look(payout.id) == paid
