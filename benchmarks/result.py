"""What a benchmark says: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

# Whether a name is asked for.
Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Result:
    """A measured value beside a reference from the same run; ratio is value / reference.

    n: how many things one run did, times how many runs; value and reference are medians of the runs.
    """

    name: str
    value: float
    unit: str
    reference: float | None = None
    n: str = ""

    def line(self) -> str:
        """The line that is printed."""
        ratio = None if self.reference is None else round(self.value / self.reference, 3)
        told = {
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "reference": None if self.reference is None else _short(self.reference),
            "ratio": ratio,
            "n": self.n,
        }
        return json.dumps(told)


def _short(value: float) -> float:
    return round(value) if value >= 1_000 else round(value, 3)


def in_turn(runs: int, *each: Callable[[], float]) -> list[float]:
    """Run each of these in turn, so many times, and give the median of each.

    In turn, because a machine that others use is never the same for long: what is compared was
    measured within the same seconds.
    """
    found: list[list[float]] = [[] for _ in each]
    for _ in range(runs):
        for values, measure in zip(found, each, strict=True):
            values.append(measure())
    return [median(values) for values in found]


Results = Iterator[Result]
