"""What follows a commit. SQLAlchemy's own event of that name comes before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine


def after_commits(engine: Engine, call: Callable[[], object]) -> Callable[[], None]:
    """Call this after each commit to a database; returns what ends that."""
    commit = engine.dialect.do_commit

    def commit_and_call(connection: Any) -> None:
        commit(connection)
        call()

    def end() -> None:
        engine.dialect.do_commit = commit  # type: ignore[method-assign]

    engine.dialect.do_commit = commit_and_call  # type: ignore[method-assign]
    return end
