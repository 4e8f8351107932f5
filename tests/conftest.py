"""What every test may ask for: real servers, an own database, the vectors."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from tests import servers

servers.write_in_memory()
# Looking for garbage among all that tests and libraries keep took a tenth of the time.
gc.set_threshold(20_000, 20, 20)
# Hypothesis keeps what it learned with everything else that programs write.
set_hypothesis_home_dir(servers.ROOT / "var" / "hypothesis")
# The examples are the same each time: a change must not fail for what it did not change. New ones
# are looked for by `make prove`, or with HYPOTHESIS_PROFILE=explore.
settings.register_profile(
    "explore", deadline=None, max_examples=100, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("default", settings.get_profile("explore"), derandomize=True)
settings.register_profile("prove", deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)
# How many examples the long count takes is said there, for each file.
pytest_plugins = ["tests.properties"] if PROFILE == "prove" else []
# One of these at the end would leave the other cores with nothing to do.
LONGEST = (
    "contracts/test_differential.py", "gateway/test_server.py", "system/test_day.py", "gateway/test_exactly_once.py",
    "gateway/test_anvil_kills.py", "simulation/test_simulation.py", "browser/test_wallet_in_chromium.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest begin first, and all others stay in their order."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


def pytest_collection_finish() -> None:
    """What stands now stays to the end: nobody need look there for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of test vectors that any language can read."""
    return servers.ROOT / "tests" / "vectors"


@pytest.fixture(scope="session")
def anvil() -> Iterator[servers.Anvil]:
    """A node shared by the session, a block for each transaction; for other options `servers.anvil(...)`."""
    with servers.anvil() as node:
        yield node


@pytest.fixture(scope="session")
def anvil_url(anvil: servers.Anvil) -> str:
    """The JSON-RPC address of the shared node."""
    return anvil.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """A PostgreSQL shared by the session; its process id is there for tests that kill it."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: servers.Postgres) -> str:
    """The SQLAlchemy URL of the shared server's maintenance database."""
    return postgres.url("postgres")


@pytest.fixture
def postgres_database(postgres: servers.Postgres) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database that only this test sees."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def go_module(tmp_path_factory: pytest.TempPathFactory) -> servers.GoModule:
    """Go's own signed notes and tiles, to check ours with code that is not ours."""
    return servers.go_module(tmp_path_factory.mktemp("go") / "mod")
