"""A hundred seeds of a world that goes wrong; `make simulate N=` runs any number."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.records import (
    Certificate,
    Close,
    Exchange,
    Order,
    Rate,
    Refund,
    Reversal,
    Statement,
    Transfer,
    decode,
)
from tests.simulation.workload import whole_year
from tests.simulation.world import World, simulate


@pytest.mark.parametrize("seed", range(100))
def test_a_ledger_lives_through_deaths_and_lost_answers(seed: int, tmp_path: Path) -> None:
    simulate(seed, tmp_path)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_seed_is_the_same_world_each_time(seed: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = simulate(seed, tmp_path / "a"), simulate(seed, tmp_path / "b")
    assert first.told == second.told
    assert first.deaths > 0


def test_a_seed_that_fails_says_how_to_see_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: World) -> None:
        raise AssertionError("something is not as it must be")

    monkeypatch.setattr(World, "check", fails)
    with pytest.raises(AssertionError) as failed:
        simulate(8, tmp_path)
    assert failed.value.__notes__ == ["again: python -m tests.simulation.world 8"]


def test_some_worlds_end_in_the_middle_of_the_bundle_s_files_and_of_the_watcher_s_own(tmp_path: Path) -> None:
    wanted = ("bytes of .checkpoint.new", "bytes of .seen.new", "commit to watcher")
    told: list[str] = []
    for seed in range(20, 40, 2):
        (tmp_path / str(seed)).mkdir()
        told += simulate(seed, tmp_path / str(seed)).told
        if all(any(place in one for one in told) for place in wanted):
            return
    raise AssertionError(f"none of {wanted} in {told}")


def test_the_year_of_every_other_world_has_what_real_ledgers_have() -> None:
    log = whole_year()
    kinds = {type(decode(data)) for data in log.records}
    assert {Certificate, Close, Exchange, Order, Rate, Refund, Reversal, Statement, Transfer} <= kinds
    # Not only asked for: done, and no rule was broken for it.
    state = log.state
    assert all((state.paid_orders, state.booked_refunds, state.reversed, state.closed))
    assert state.accounts["bank-kzt"].stated > 0
    assert not state.breaches
