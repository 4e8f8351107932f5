"""A hundred seeds of a world that goes wrong; `make simulate N=` runs any number."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.world import simulate


@pytest.mark.parametrize("seed", range(100))
def test_a_ledger_lives_through_deaths_and_lost_answers(seed: int, tmp_path: Path) -> None:
    simulate(seed, tmp_path)


def test_a_seed_is_the_same_world_each_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = simulate(7, tmp_path / "a"), simulate(7, tmp_path / "b")
    assert first.told == second.told
    assert first.deaths > 0
