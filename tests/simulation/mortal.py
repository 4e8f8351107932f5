"""Where a process can die: at a commit, at a file that it writes, in the middle of one, at its renaming."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from ledger.database import Engine
from ledger.records import Unavailable


class Died(BaseException):
    """The process ended here; nothing may catch it but the world."""


@dataclass
class Fate:
    """Decides, from the seed alone, what goes wrong next; most: how often it may die by now."""

    chance: random.Random
    most: int
    deaths: int = 0
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
