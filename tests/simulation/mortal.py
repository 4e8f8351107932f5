"""Where a process can die: at a commit, at a file that it writes, in the middle of one, at its renaming.

And where the connection to a database breaks under one that lives on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import event

from ledger.database import Connection, Engine
from ledger.records import Unavailable
from tests.servers import Postgres


class Died(BaseException):
    """The process ended here; nothing may catch it but the world."""


@dataclass
class Fate:
    """Decides, from the seed alone, what goes wrong next.

    most: how often it may die by now; breaks: how often a connection to PostgreSQL does, of all times it may.
    """

    chance: random.Random
    most: int
    deaths: int = 0
    breaks: float = 0
    told: list[str] = field(default_factory=list)

    def may_die(self, where: str) -> None:
        """Die here, sometimes; rarely enough that work gets done in between."""
        if self._is_end():
            self._die(where)

    def may_write_half(self, where: str, content: Any, write: Callable[[Any], int]) -> int:
        """Write, or sometimes only so much of it before the end."""
        # There are fewer files than other places.
        if self._is_end(0.1):
            part = self.chance.randrange(len(content)) if content else 0
            write(content[:part])
            self._die(f"after {part} of {len(content)} bytes of {where}")
        return write(content)

    def may_be_away(self, where: str, how_often: float) -> None:
        """Not answer, sometimes."""
        if self.chance.random() < how_often:
            self.told.append(f"no answer {where}")
            raise Unavailable("simulated", where)

    def breaks_off(self, where: str) -> bool:
        """Whether a connection breaks here; where none ever does, nothing is drawn for it."""
        if not self.breaks or self.chance.random() >= self.breaks:
            return False
        self.told.append(f"connection lost {where}")
        return True

    def _is_end(self, how_often: float = 0.03) -> bool:
        return self.deaths < self.most and self.chance.random() < how_often

    def _die(self, where: str) -> None:
        self.deaths += 1
        self.told.append(f"died {where}")
        raise Died(where)


def mortal(opened: Engine, name: str, fate: Fate) -> Engine:
    """A database whose process may die before or after each commit."""
    commit: Callable[[Any], None] = opened.dialect.do_commit

    def mortal_commit(connection: Any) -> None:
        fate.may_die(f"before a commit to {name}")
        commit(connection)
        fate.may_die(f"after a commit to {name}")

    opened.dialect.do_commit = mortal_commit  # type: ignore[method-assign]
    return opened


def breaking(opened: Engine, name: str, fate: Fate, server: Postgres) -> Engine:
    """A database on a server that ends a session as a transaction begins, and before or after it commits.

    The last is the answer that was lost: the commit stands, and who asked for it is told that the connection broke.
    """
    commit: Callable[[Any], None] = opened.dialect.do_commit

    def end_session(connection: Any) -> None:
        # The time is an upper bound: the session is gone when this returns.
        server.execute(f"SELECT pg_terminate_backend({connection.driver_connection.info.backend_pid}, 60000)")

    def breaking_commit(connection: Any) -> None:
        if fate.breaks_off(f"before a commit to {name}"):
            end_session(connection)
        commit(connection)
        if fate.breaks_off(f"after a commit to {name}"):
            end_session(connection)
            connection.driver_connection.execute("SELECT 1")

    def breaking_begin(connection: Connection) -> None:
        if fate.breaks_off(f"as a transaction in {name} began"):
            end_session(connection.connection)

    opened.dialect.do_commit = breaking_commit  # type: ignore[method-assign]
    event.listen(opened, "begin", breaking_begin)
    return opened


class _Handle:
    """An open file that may get only a part of what is written."""

    def __init__(self, handle: Any, where: str, fate: Fate) -> None:
        self._handle, self._where, self._fate = handle, where, fate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What was written before the end is on the disk, whether or not the process had told it to.
        self._handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def write(self, content: Any) -> int:
        """Write all of it, or die after some."""
        return self._fate.may_write_half(self._where, content, self._handle.write)


class Files:
    """The files below some folders, each folder with the fate of the process that writes there.

    Reading is left alone; so is everything elsewhere. Each file is opened by `Path.open` and put in its place
    by `Path.replace`, whatever of ours does it.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._fates: dict[Path, Fate] = {}
        opens, replaces = Path.open, Path.replace

        def mortal_open(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
            fate = None if "r" in mode else self._fate(path)
            if fate is None:
                return opens(path, mode, *more, **named)
            fate.may_die(f"before {path.name} was begun")
            return _Handle(opens(path, mode, *more, **named), path.name, fate)

        def mortal_replace(path: Path, target: Any) -> Any:
            fate = self._fate(path)
            if fate is None:
                return replaces(path, target)
            fate.may_die(f"before {path.name} was renamed")
            replaced = replaces(path, target)
            fate.may_die(f"after {path.name} was renamed")
            return replaced

        patch.setattr(Path, "open", mortal_open)
        patch.setattr(Path, "replace", mortal_replace)

    def add(self, folder: Path, fate: Fate) -> None:
        """From now on whoever writes below this folder has this fate."""
        self._fates[folder] = fate

    def _fate(self, path: Path) -> Fate | None:
        return next((fate for folder, fate in self._fates.items() if path.is_relative_to(folder)), None)
