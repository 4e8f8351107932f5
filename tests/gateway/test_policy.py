"""A merchant's policy decides about money that is not exactly what was asked, and never about old invoices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.db import reading
from gateway.merchants.policy import (
    BOUNDS,
    NO_POLICY,
    Over,
    Policy,
    SettleBy,
    check_policy,
    policy_of,
    set_policy,
)
from gateway.payments.store.policies import policies_of
from ledger.records import Invalid
from tests.gateway.conftest import Town


def put(town: Town, policy: Policy, actor: str = "owner") -> None:
    with town.city.gateway.engine.begin() as connection:
        set_policy(connection, town.merchant_id, policy, actor, town.city.clock())


def in_force(town: Town) -> Policy:
    with reading(town.city.gateway.engine) as connection:
        return policy_of(connection, town.merchant_id)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_policy_stays_inside_its_bounds_which_are_allowed_themselves(name: str):
    least, most = BOUNDS[name]
    for value in (least, most):
        check_policy(replace(NO_POLICY, **{name: value}))
    for value in (least - 1, most + 1):
        with pytest.raises(Invalid, match=f"{least} to {most} is allowed, this is {value}") as refused:
            check_policy(replace(NO_POLICY, **{name: value}))
        assert refused.value.where == name


@given(
    st.builds(
        Policy, st.integers(0, 500), st.integers(0, (1 << 128) - 1), st.integers(60, 604_800),
        st.integers(0, 2_592_000), st.integers(0, 1_000), st.sampled_from(Over), st.sampled_from(SettleBy),
    )
)  # fmt: skip
def test_what_is_stored_is_read_back_the_same(policy: Policy):
    assert Policy.from_json(policy.to_json()) == policy


def test_what_an_old_gateway_stored_is_no_policy():
    assert Policy.from_json("{}") == NO_POLICY


@given(st.integers(1, 1 << 100), st.integers(0, 500), st.integers(0, 1 << 90))
def test_a_tolerance_is_never_more_than_its_part_nor_than_its_cap(due: int, bps: int, most: int):
    found = Policy(bps, most).tolerance_minor(due)
    assert found <= most
    assert found * 10_000 <= due * bps


def test_a_policy_is_in_force_from_when_it_was_set_and_the_old_ones_stand_for_ever(town: Town):
    assert in_force(town) == NO_POLICY
    first, second = Policy(tolerance_bps=100, tolerance_minor_max=5), Policy(lifetime_s=60)
    put(town, first)
    put(town, first)
    put(town, second, "another")
    assert in_force(town) == second
    with reading(town.city.gateway.engine) as connection:
        told = policies_of(connection, town.merchant_id)
    assert [(Policy.from_json(terms), actor) for terms, actor, _ in told] == [
        (first, "owner"),
        (second, "another"),
    ]
    with pytest.raises(Invalid, match="lifetime_s"):
        put(town, Policy(lifetime_s=1))
    assert in_force(town) == second


def test_an_old_invoice_keeps_the_policy_that_it_was_made_with(town: Town):
    put(town, Policy(tolerance_bps=500, tolerance_minor_max=10**12, lifetime_s=120))
    old = town.invoice()
    put(town, Policy(lifetime_s=3_600))
    new = town.invoice()
    assert old.expires_s - old.created_s == 120
    assert new.expires_s - new.created_s == 3_600
    for invoice in (old, new):
        town.deposit(invoice, invoice.due_minor * 96 // 100)
    town.finalise()
    assert (town.status(old), town.status(new)) == ("final", "detected")


def test_ff36_an_exchanges_fee_is_forgiven_as_far_as_the_policy_says_and_the_rest_can_be_topped_up(
    town: Town,
):
    put(town, Policy(tolerance_bps=100, tolerance_minor_max=200_000))
    forgiven, short = town.invoice(), town.invoice()
    cap = min(forgiven.due_minor // 100, 200_000)
    town.deposit(forgiven, forgiven.due_minor - cap)
    town.deposit(short, short.due_minor - cap - 1)
    town.finalise()
    assert town.status(forgiven) == "final"
    # The payer is told how much is missing, and pays it to the same place.
    derived = town.payments.look(short.id)[1]
    assert (derived.status.value, derived.missing_minor) == ("detected", cap + 1)
    assert town.notes(short) == {"partially_paid"}
    town.deposit(short, 1)
    town.finalise()
    assert town.status(short) == "final"
