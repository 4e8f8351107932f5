"""A ledger on each of the two databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.database import engine as open_engine
from tests.ledger.running import Ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger; its signed heads are in a SQLite file of their own."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.db"
    else:
        url = request.getfixturevalue("postgres_database")
    engine, heads = open_engine(url), open_engine(f"sqlite:///{tmp_path}/heads.db")
    yield Ledger(tmp_path, engine, heads)
    engine.dispose()
    heads.dispose()
