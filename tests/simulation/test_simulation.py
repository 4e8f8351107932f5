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
from tests.servers import Postgres
from tests.simulation import world
from tests.simulation.workload import whole_year
from tests.simulation.world import World, simulate


@pytest.mark.parametrize("seed", range(100))
def test_a_ledger_lives_through_deaths_and_lost_answers(seed: int, tmp_path: Path) -> None:
    simulate(seed, tmp_path)


@pytest.mark.parametrize("seed", range(100, 104))
def test_a_ledger_on_postgresql_lives_through_broken_connections_as_well(
    seed: int, tmp_path: Path, postgres: Postgres
) -> None:
    told = simulate(seed, tmp_path, postgres).told
    assert any(one.startswith("connection lost") for one in told), told


@pytest.mark.parametrize(("seed", "is_on_a_server"), [(7, False), (8, False), (8, True)])
def test_a_seed_is_the_same_world_each_time(
    seed: int, is_on_a_server: bool, tmp_path: Path, postgres: Postgres
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    server = postgres if is_on_a_server else None
    first, second = simulate(seed, tmp_path / "a", server), simulate(seed, tmp_path / "b", server)
    assert first.told == second.told
    assert first.deaths > 0


def test_connections_break_wherever_something_waits_for_them(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "BREAKS", 0.05)
    moments = ("as a transaction in", "before a commit to", "after a commit to")
    wanted = {f"connection lost {moment} {name}" for moment in moments for name in ("ledger.db", "heads.db")}
    found: set[str] = set()
    for seed in range(200, 220, 2):
        (tmp_path / str(seed)).mkdir()
        told = simulate(seed, tmp_path / str(seed), postgres).told
        found |= {one.removesuffix(" began") for one in told}
        if wanted <= found:
            return
    raise AssertionError(f"never: {sorted(wanted - found)}")


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
