"""Money by day, as bars. Integers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

WIDTH, HEIGHT, TOP, BOTTOM = 900, 280, 50, 44
# How wide a label is on a phone, where letters are drawn twice as large.
LABEL = 100


@dataclass(frozen=True)
class Bar:
    """One day. tiyn: what came; the rest: where it is drawn."""

    day: date
    tiyn: int
    x: int
    y: int
    width: int
    height: int
    is_labelled: bool

    @property
    def anchor(self) -> str:
        """Which end of its label stands at label_x: the first one would leave the drawing to the left."""
        return "start" if self.x < LABEL else "end"

    @property
    def label_x(self) -> int:
        """Where its label stands."""
        return self.x if self.x < LABEL else self.x + self.width


def bars(sums: Mapping[date, int], last: date, days: int) -> Sequence[Bar]:
    """The bars of so many days up to the last; a day without money is a line of one unit."""
    most = max(sums.values(), default=0) or 1
    tall, step = HEIGHT - TOP - BOTTOM, WIDTH // days
    found = []
    for place in range(days):
        day = last - timedelta(days=days - 1 - place)
        tiyn = sums.get(day, 0)
        height = max(1, tiyn * tall // most)
        # Counted from the end, so that today is always named.
        is_labelled = (days - 1 - place) % 7 == 0
        found.append(Bar(day, tiyn, place * step + 2, TOP + tall - height, step - 4, height, is_labelled))
    return found
