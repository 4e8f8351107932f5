"""Drawings of the report: money through a fund, the five totals of a project; integers only."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ledger.audit.verdict import Flow, Line, ProjectLine, money
from ledger.audit.words import drawn_word

_WIDTH, _HEIGHT, _GAP, _TOP = 960, 240, 14, 10
_LEFT, _FUND_LEFT, _FUND_RIGHT, _RIGHT = 240, 470, 490, 700
_MOST = 12

Stream = tuple[str, int, str]  # Name (empty: the closing balance or others, by colour), amount, colour.


def _streams(flows: Sequence[Flow], kind: str, colour: str) -> list[Stream]:
    """The largest streams of a kind, one for each name, the small ones together."""
    sums: dict[str, int] = {}
    for flow in flows:
        if flow.kind == kind and flow.amount > 0:
            sums[flow.name] = sums.get(flow.name, 0) + flow.amount
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    found = [(name, amount, colour) for name, amount in ordered[:_MOST]]
    rest = sum(amount for _, amount in ordered[_MOST:])
    return [*found, ("", rest, colour)] if rest else found


def draw_flow(line: Line, flows: Sequence[Flow]) -> str:
    """Revenue by code on the left, the fund, and on the right the projects and what is still there."""
    incoming = _streams(flows, "revenue", "in")
    if line.opening > 0:
        incoming.append(("opening", line.opening, "rest"))
    outgoing = _streams(flows, "project", "out")
    if line.closing > 0:
        outgoing.append(("closing", line.closing, "rest"))
    total = max(sum(amount for _, amount, _ in incoming), sum(amount for _, amount, _ in outgoing))
    if total == 0:
        return ""
    rows = max(len(incoming), len(outgoing))
    height = 2 * _TOP + _HEIGHT + _GAP * rows + 20
    middle, wide, name = (_FUND_LEFT + _FUND_RIGHT) // 2, _FUND_RIGHT - _FUND_LEFT, escape(line.fund)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{name} {escape(line.asset)}">',
        f'<rect x="{_FUND_LEFT}" y="{_TOP}" width="{wide}" height="{_HEIGHT}" fill="var(--fund)"/>',
        f'<text x="{middle}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{name}</text>',
        _side(incoming, total, line, _LEFT, _FUND_LEFT, outer_first=True),
        _side(outgoing, total, line, _FUND_RIGHT, _RIGHT, outer_first=False),
        "</svg>",
    ]
    return "".join(parts)


def _side(
    streams: Sequence[Stream], total: int, line: Line, left: int, right: int, *, outer_first: bool
) -> str:
    parts, outer, inner = [], _TOP, _TOP
    middle = (left + right) // 2
    for name, amount, colour in streams:
        thick = max(1, amount * _HEIGHT // total)
        start, end = (outer, inner) if outer_first else (inner, outer)
        parts.append(
            f'<path d="M{left} {start}C{middle} {start} {middle} {end} {right} {end}V{end + thick}'
            f'C{middle} {end + thick} {middle} {start + thick} {left} {start + thick}Z"'
            f' fill="var(--{colour})" fill-opacity=".6"/>'
        )
        at, anchor = (left - 8, "end") if outer_first else (right + 8, "start")
        place = f'x="{at}" y="{outer + thick // 2 + 1}" text-anchor="{anchor}"'
        parts.append(_label(name, colour, place))
        shown = f'x="{at}" y="{outer + thick // 2 + 15}" text-anchor="{anchor}" fill-opacity=".7"'
        parts.append(f"<text {shown}>{money(amount, line.decimals)} {escape(line.asset)}</text>")
        outer += max(thick, 18) + _GAP
        inner += thick
    return "".join(parts)


def _label(name: str, colour: str, place: str) -> str:
    if colour == "rest":
        return drawn_word(name, place)
    return drawn_word("others", place) if not name else f"<text {place}>{escape(name)}</text>"


def draw_bars(project: ProjectLine) -> str:
    """Approved, allotted, committed, certified, paid: each at most the one before."""
    names = ("approved", "allotted", "committed", "certified", "paid")
    amounts = [int(getattr(project, name)) for name in names]
    most = max(*amounts, 1)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {5 * 24 + 4}" role="img" aria-label="{escape(project.project)}">']
    for row, (name, amount) in enumerate(zip(names, amounts, strict=True)):
        y = 24 * row + 4
        wide = amount * 500 // most
        parts.append(drawn_word(name, f'x="0" y="{y + 14}"'))
        parts.append(f'<rect x="170" y="{y}" width="{wide}" height="18" fill="var(--in)"/>')
        parts.append(f'<text x="{178 + wide}" y="{y + 14}">{money(amount, 2)}</text>')
    return "".join([*parts, "</svg>"])
