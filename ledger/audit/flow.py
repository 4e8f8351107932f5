"""Drawings of the report: money through a fund, the five totals of a project; integers only.

Wide windows get a picture. A phone gets the same streams as a list with bars: a drawing
that only shrinks is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from ledger.audit.verdict import Flow, Line, ProjectLine, money
from ledger.audit.words import drawn_word, word

_WIDTH, _HEIGHT, _LABEL, _TOP, _FUND = 960, 150, 40, 4, 14
_MOST = 12


class Stream(NamedTuple):
    """One stream: its name as written, or the word for it; its amount; its colour."""

    name: str
    key: str
    amount: int
    colour: str

    def label(self, place: str) -> str:
        """The name inside a drawing."""
        return drawn_word(self.key, place) if self.key else f"<text {place}>{escape(self.name)}</text>"

    def title(self) -> str:
        """The name on the page."""
        return word(self.key) if self.key else escape(self.name)


def _largest(flows: Sequence[Flow], kind: str, colour: str) -> list[Stream]:
    """The largest streams of a kind, one for each name, the small ones together."""
    sums: dict[str, int] = {}
    for flow in flows:
        if flow.kind == kind and flow.amount > 0:
            sums[flow.name] = sums.get(flow.name, 0) + flow.amount
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    found = [Stream(name, "", amount, colour) for name, amount in ordered[:_MOST]]
    rest = sum(amount for _, amount in ordered[_MOST:])
    return [*found, Stream("", "others", rest, colour)] if rest else found


def streams(line: Line, flows: Sequence[Flow]) -> tuple[list[Stream], list[Stream]]:
    """What came into a fund and what became of it; both sides have the same sum (G15)."""
    incoming, outgoing = _largest(flows, "revenue", "in"), _largest(flows, "project", "out")
    sides = (
        (incoming, "opening", line.opening, "rest"),
        (incoming, "unmatched", line.unmatched, "other"),
        (incoming, "exchange", line.exchange, "other"),
        (outgoing, "refunds", line.refunds, "other"),
        (outgoing, "unmatched", -line.unmatched, "other"),
        (outgoing, "exchange", -line.exchange, "other"),
        (outgoing, "closing", line.closing, "rest"),
    )
    for side, key, amount, colour in sides:
        if amount > 0:
            side.append(Stream("", key, amount, colour))
    return incoming, outgoing


def draw_flow(line: Line, flows: Sequence[Flow]) -> str:
    """Revenue by code on the left, the fund, and on the right the projects and what is still there."""
    incoming, outgoing = streams(line, flows)
    total = max(sum(s.amount for s in incoming), sum(s.amount for s in outgoing))
    if total == 0:
        return ""
    tall = max(_extent(side, total) for side in (incoming, outgoing))
    middle, top = _WIDTH // 2, _TOP + _LABEL + (tall - _LABEL - _HEIGHT) // 2
    name, half = escape(line.fund), _FUND // 2
    picture = [
        f'<svg viewBox="0 0 {_WIDTH} {tall + 2 * _TOP}" role="img" aria-label="{name} {escape(line.asset)}">',
        _side(incoming, total, line, 0, middle - half, top, tall),
        _side(outgoing, total, line, _WIDTH, middle + half, top, tall),
        f'<rect x="{middle - half}" y="{top}" width="{_FUND}" height="{_HEIGHT}" fill="var(--fund)"/>',
        f'<text x="{middle}" y="{top - 10}" text-anchor="middle" font-weight="600">{name}</text>',
        "</svg>",
    ]
    lists = "".join(
        f"<p>{word(key)}</p><ul>{_listed(side, total, line)}</ul>"
        for key, side in (("came", incoming), ("became", outgoing))
        if side
    )
    return f'<div class="picture">{"".join(picture)}</div><div class="streams">{lists}</div>'


def _thick(stream: Stream, total: int) -> int:
    return max(2, stream.amount * _HEIGHT // total)


def _extent(side: Sequence[Stream], total: int) -> int:
    return max(sum(_thick(stream, total) + _LABEL for stream in side), _HEIGHT + _LABEL)


def _side(
    side: Sequence[Stream], total: int, line: Line, outer_x: int, inner_x: int, top: int, tall: int
) -> str:
    """Bands between an outer edge and the fund; each has its name and amount above its outer end."""
    # Flat for most of the way, so that labels stand beside the bands and not on them.
    bend = outer_x + 3 * (inner_x - outer_x) // 4
    anchor = "start" if outer_x < inner_x else "end"
    used = sum(_thick(stream, total) + _LABEL for stream in side)
    parts, outer, inner = [], _TOP + (tall - used) // 2, top
    for stream in side:
        thick = _thick(stream, total)
        parts.append(stream.label(f'x="{outer_x}" y="{outer + 16}" text-anchor="{anchor}"'))
        place = f'x="{outer_x}" y="{outer + 33}" text-anchor="{anchor}" class="soft"'
        parts.append(f"<text {place}>{money(stream.amount, line.decimals)} {escape(line.asset)}</text>")
        outer += _LABEL
        parts.append(
            f'<path d="M{outer_x} {outer}C{bend} {outer} {bend} {inner} {inner_x} {inner}V{inner + thick}'
            f'C{bend} {inner + thick} {bend} {outer + thick} {outer_x} {outer + thick}Z"'
            f' fill="var(--{stream.colour})" fill-opacity=".75"/>'
        )
        outer += thick
        inner += thick
    return "".join(parts)


def _listed(side: Sequence[Stream], total: int, line: Line) -> str:
    return "".join(
        f"<li><span>{stream.title()}</span>"
        f"<span>{money(stream.amount, line.decimals)} {escape(line.asset)}</span>"
        f"{bar(stream.amount, total, stream.colour)}</li>"
        for stream in side
    )


def bar(amount: int, whole: int, colour: str) -> str:
    """A bar as long as its part of a whole; never so short that it is not seen."""
    part = 1_000 * abs(amount) // whole if whole else 0
    style = ("min-width:2px;" if amount else "") + f"width:{part // 10}.{part % 10}%"
    return f'<span class="bar"><span style="{style};background:var(--{colour})"></span></span>'


def draw_bars(project: ProjectLine) -> str:
    """Approved, allotted, committed, certified, paid: each at most the one before.

    What is allotted is often a hair of what is approved: its parts have a scale of their own.
    """
    scales = (
        ("of_approved", project.approved, (("approved", "fund"), ("allotted", "in"))),
        (
            "of_allotted",
            project.allotted,
            (("allotted", "in"), ("committed", "in"), ("certified", "rest"), ("paid", "out")),
        ),
    )
    parts = []
    for key, whole, rows in scales:
        shown = "".join(
            f"<li><span>{word(name)}</span><span>{money(getattr(project, name), 2)}</span>"
            f"{bar(getattr(project, name), whole, colour)}</li>"
            for name, colour in rows
        )
        parts.append(f"<div><p>{word(key)}</p><ul>{shown}</ul></div>")
    return f'<div class="totals">{"".join(parts)}</div>'
