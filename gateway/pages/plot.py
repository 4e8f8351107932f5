"""Money by day, as bars and as stacked bars. Integers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

WIDTH, HEIGHT, TOP, BOTTOM = 900, 280, 50, 44
# How wide a label is on a phone, where letters are drawn twice as large.
LABEL = 100
# So many kinds have a colour of their own; the rest are one.
KINDS_MOST = 4
_TALL = HEIGHT - TOP - BOTTOM


@dataclass(frozen=True)
class Column:
    """The place of one day."""

    day: date
    x: int
    width: int
    is_labelled: bool

    @property
    def anchor(self) -> str:
        """Which end of its label stands at label_x: the first one would leave the drawing to the left."""
        return "start" if self.x < LABEL else "end"

    @property
    def label_x(self) -> int:
        """Where its label stands."""
        return self.x if self.x < LABEL else self.x + self.width


@dataclass(frozen=True)
class Bar(Column):
    """One day. tiyn: what came; the rest: where it is drawn."""

    tiyn: int
    y: int
    height: int


@dataclass(frozen=True)
class Piece:
    """One kind's part of a day; series: its place in the legend."""

    series: int
    y: int
    height: int


@dataclass(frozen=True)
class Stack(Column):
    """One day of several kinds, from the bottom up. amounts: as they are, by kind; pieces: what is drawn."""

    amounts: Sequence[int]
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Stacked:
    """A drawing of kinds names: by place, "" for those without a colour of their own; most: its top."""

    names: Sequence[str]
    stacks: Sequence[Stack]
    most: int


def _columns(last: date, days: int) -> list[tuple[date, int, int, bool]]:
    step = WIDTH // days
    return [
        # Counted from the end, so that today is always named.
        (last - timedelta(days=days - 1 - place), place * step + 2, step - 4, (days - 1 - place) % 7 == 0)
        for place in range(days)
    ]


def bars(sums: Mapping[date, int], last: date, days: int) -> Sequence[Bar]:
    """The bars of so many days up to the last; a day without money is a line of one unit."""
    most = max(sums.values(), default=0) or 1
    found = []
    for day, x, width, is_labelled in _columns(last, days):
        tiyn = sums.get(day, 0)
        height = max(1, tiyn * _TALL // most)
        found.append(Bar(day, x, width, is_labelled, tiyn, TOP + _TALL - height, height))
    return found


def stacked(series: Mapping[str, Sequence[int]], last: date) -> Stacked | None:
    """Kinds over the days up to the last, all to one scale; None where there is nothing to draw.

    series: by name, base units of each day, as many for each; kinds keep their order, and those after
    the fourth are one. A day below zero (a bank took money back) is drawn as nothing and told in the table.
    """
    names = [name for name, amounts in series.items() if any(amounts)]
    kept, rest = names[:KINDS_MOST], names[KINDS_MOST:]
    lines = [series[name] for name in kept]
    if rest:
        lines.append([sum(day) for day in zip(*(series[name] for name in rest), strict=True)])
    by_day = list(zip(*lines, strict=True))
    most = max((sum(max(amount, 0) for amount in day) for day in by_day), default=0)
    if not most:
        return None
    stacks = [
        Stack(*column, amounts, _pieces(amounts, most))
        for column, amounts in zip(_columns(last, len(by_day)), by_day, strict=True)
    ]
    return Stacked([*kept, ""] if rest else kept, stacks, most)


def _pieces(amounts: Sequence[int], most: int) -> list[Piece]:
    """Parts on top of each other; each ends where the sum up to it does, so that no gap adds up."""
    found, reached, below = [], 0, 0
    for series, amount in enumerate(amounts):
        reached += max(amount, 0)
        upper = reached * _TALL // most
        if amount > 0:
            upper = max(upper, below + 1)
            found.append(Piece(series, TOP + _TALL - upper, upper - below))
            below = upper
    return found
