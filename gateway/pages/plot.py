"""Money by day, as bars. Integers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

WIDTH, HEIGHT, TOP, BOTTOM = 900, 240, 10, 44


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
