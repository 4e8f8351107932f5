"""The picture of a fund: what came in by revenue code, the fund, where it went. Integers only.

For wide windows. A phone shows the same streams as a list with bars: a drawing that only
shrinks is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger.audit.verdict import Flow

_WIDTH, _MOST, _HEIGHT, _LABEL, _TOP, _FUND = 880, 6, 150, 44, 8, 14
Shown = Callable[[Flow], tuple[str, str]]


@dataclass(frozen=True)
class Band:
    """One stream: a path from side to side, and its two lines of text."""

    colour: str
    path: str
    name: str
    amount: str
    x: int
    y: int
    anchor: str


@dataclass(frozen=True)
class Picture:
    """A drawing: width and height, the bar of the fund, the bands."""

    width: int
    height: int
    fund_x: int
    fund_y: int
    fund_width: int
    fund_height: int
    bands: Sequence[Band]


def streams(flows: Sequence[Flow], kinds: Sequence[str]) -> list[Flow]:
    """The streams of these kinds that have money, the largest first, the small ones together."""
    there = sorted((f for f in flows if f.kind in kinds and f.amount > 0), key=lambda f: (-f.amount, f.name))
    rest = there[_MOST:]
    if not rest:
        return there
    first = rest[0]
    return [*there[:_MOST], Flow(first.fund, first.asset, "others", "", sum(f.amount for f in rest))]


def draw(flows: Sequence[Flow], shown: Shown) -> Picture | None:
    """Draw the streams of one fund and asset; None where nothing has moved."""
    incoming, outgoing = streams(flows, ("revenue",)), streams(flows, ("project", "closing"))
    total = max(sum(f.amount for f in incoming), sum(f.amount for f in outgoing))
    if total == 0:
        return None
    tall = max(_extent(incoming, total), _extent(outgoing, total))
    middle, top = _WIDTH // 2, _TOP + (tall - _HEIGHT) // 2 + _LABEL // 2
    left = _side(incoming, total, shown, (0, middle - _FUND // 2), top, tall)
    right = _side(outgoing, total, shown, (_WIDTH, middle + _FUND // 2), top, tall)
    return Picture(_WIDTH, tall + 2 * _TOP, middle - _FUND // 2, top, _FUND, _HEIGHT, (*left, *right))


def _thick(flow: Flow, total: int) -> int:
    return max(2, flow.amount * _HEIGHT // total)


def _extent(flows: Sequence[Flow], total: int) -> int:
    return max(sum(_thick(flow, total) + _LABEL for flow in flows), _HEIGHT + _LABEL)


def _side(
    flows: Sequence[Flow], total: int, shown: Shown, ends: tuple[int, int], top: int, tall: int
) -> list[Band]:
    """Bands between an outer edge and the fund; each has its label above its outer end."""
    outer_x, inner_x = ends
    # Flat for most of the way, so that labels stand beside the bands and not on them.
    bend = outer_x + 4 * (inner_x - outer_x) // 5
    used = sum(_thick(flow, total) + _LABEL for flow in flows)
    outer, inner, bands = _TOP + (tall - used) // 2, top, []
    for flow in flows:
        thick = _thick(flow, total)
        outer += _LABEL
        path = (
            f"M{outer_x} {outer}C{bend} {outer} {bend} {inner} {inner_x} {inner}V{inner + thick}"
            f"C{bend} {inner + thick} {bend} {outer + thick} {outer_x} {outer + thick}Z"
        )
        name, amount = shown(flow)
        is_left = outer_x < inner_x
        bands.append(Band(flow.kind, path, name, amount, outer_x, outer, "start" if is_left else "end"))
        outer += thick
        inner += thick
    return bands
