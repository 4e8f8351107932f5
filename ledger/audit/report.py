"""The verdict as one page to look at: no script, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape

from ledger import rules
from ledger.audit.flow import bar, draw_bars, draw_flow
from ledger.audit.verdict import Finding, Line, ProjectLine, Verdict, meaning, money
from ledger.audit.words import LANGUAGES, word

_STYLE = """
:root{color-scheme:light dark;--ink:#17211f;--soft:#56635f;--paper:#fbfbf8;--card:#fff;--line:#dde1da;
--good:#0b6b4f;--bad:#a3231b;--in:#2f7d8c;--fund:#37474f;--out:#b7791f;--rest:#4f7f3a;--other:#7d5a8c}
@media (prefers-color-scheme:dark){:root{--ink:#e7ebe6;--soft:#a3b0ab;--paper:#141917;--card:#1b211f;
--line:#333c38;--good:#4cc79a;--bad:#ff8a80;--in:#58b4c4;--fund:#90a4ae;--out:#dda94b;--rest:#83b968;
--other:#b592c4}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:66rem;padding:1.25rem;font:1rem/1.5 system-ui,sans-serif;
color:var(--ink);background:var(--paper)}
h1{margin:1rem 0 .75rem;font-size:1.6rem;line-height:1.2}
h2{margin:2.5rem 0 .75rem;font-size:1.25rem}h3{font-size:1rem;margin:0 0 .75rem}h3 small{font-weight:400}
.kk,.ru,.en{display:none}
#kk:checked~main .kk,#ru:checked~main .ru,#en:checked~main .en{display:inline}
.tongue{position:absolute;opacity:0}
.tongue+label{display:inline-block;padding:.4rem .9rem;border:1px solid var(--line);margin-right:-1px;
cursor:pointer}
.tongue:checked+label{background:var(--ink);color:var(--paper);border-color:var(--ink)}
.tongue:focus-visible+label{outline:3px solid var(--in);outline-offset:2px}
.verdict{padding:1rem 1.25rem;border-radius:.5rem;color:#fff;background:var(--good)}
.verdict.bad{background:var(--bad)}.verdict strong{font-size:1.5rem;display:block}
@media (prefers-color-scheme:dark){.verdict{color:#10201a}}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.75rem;margin:.75rem 0}
.tiles div,.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem}
.tiles strong{display:block;font-size:1.1rem;overflow-wrap:anywhere}.card{margin:0 0 1rem}
.mark{border-left:.35rem solid var(--out)}.mark.critical,.mark.high{border-left-color:var(--bad)}
.card p{margin:.25rem 0}.many{padding-left:1.2rem;margin:0}.many li{margin:.3rem 0;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500}tr:last-child>*{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.sum>*{font-weight:600;color:var(--ink)}.none>*{color:var(--soft)}
code{overflow-wrap:anywhere;font-size:.9em}small,.soft{color:var(--soft);fill:var(--soft)}
td small,h3 small{display:block}
svg{width:100%;height:auto;font:14px system-ui,sans-serif;display:block}svg text{fill:var(--ink)}
.streams{display:none}
.streams ul,.totals ul{list-style:none;margin:0;padding:0}
.streams p,.totals p{color:var(--soft);margin:.5rem 0 .25rem}
.streams li,.totals li{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1rem;padding:.15rem 0;
font-variant-numeric:tabular-nums}
.totals{display:grid;grid-template-columns:1fr 1fr;gap:0 2.5rem}
.bar{display:block;width:100%;height:.6rem;background:var(--line);border-radius:.2rem;overflow:hidden}
.bar span{display:block;height:100%}td.bars{width:45%;min-width:5rem;padding-top:.75rem}
summary{cursor:pointer;padding:.4rem 0}
@media (max-width:44rem){body{padding:.9rem}.picture{display:none}.streams{display:block}
.totals{grid-template-columns:1fr}td.bars{display:none}th,td{padding:.35rem .3rem}
.findings,.findings tbody,.findings tr,.findings td{display:block}.findings tr:first-child{display:none}
.findings td{border:0;padding:.1rem .3rem}.findings tr{border-bottom:1px solid var(--line);padding:.5rem 0}
.findings .number{text-align:left}}
@media print{.tongue+label{display:none}}
"""


def report(verdict: Verdict) -> str:
    """The whole page."""
    checked = {tongue: " checked" if tongue == "kk" else "" for tongue in LANGUAGES}
    switches = "".join(
        f'<input class="tongue" type="radio" name="tongue" id="{tongue}"{checked[tongue]}>'
        f'<label for="{tongue}" lang="{tongue}">{name}</label>'
        for tongue, name in LANGUAGES.items()
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    parts = [
        '<!doctype html><html lang="kk"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>Qazyna: {'valid' if verdict.is_valid else 'invalid'}</title>",
        f"<style>{_STYLE}</style></head><body>",
        switches,
        "<main>",
        _head(verdict),
        _findings(verdict.findings, {line.asset: line.decimals for line in verdict.totals}),
        _sentences("exceptions", verdict.exceptions, "mark"),
        _sentences("pending", verdict.pending, "") if verdict.pending else "",
        _money(verdict),
        _projects(verdict),
        _picked(verdict),
        _sentences("said", verdict.said, ""),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _head(verdict: Verdict) -> str:
    key = "valid" if verdict.is_valid else "invalid"
    head = verdict.checkpoint
    tiles = (
        (word("records"), f"{verdict.records:,}".replace(",", " ")),
        (word("findings"), str(len(verdict.findings))),
        (word("exceptions"), str(len(verdict.exceptions))),
        (word("chain"), word("chain_checked" if verdict.chain_checked else "chain_unchecked")),
        (word("keys"), word("own_keys" if verdict.own_keys else "bundle_keys")),
    )
    shown = "".join(f"<div>{name}<strong>{value}</strong></div>" for name, value in tiles)
    root = f"<code>{escape(head.origin)}<br>{head.size} {head.root.hex()}</code>" if head else "-"
    return (
        f"<h1>{word('title')}</h1>"
        f'<div class="verdict {"good" if verdict.is_valid else "bad"}"><strong>{word(key)}</strong>'
        f"<code>{escape(verdict.last_line())}</code></div>"
        f'<div class="tiles">{shown}</div><p>{word("checkpoint")}: {root}</p>'
    )


def _number(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]], name: str = "") -> str:
    head = "".join(f"<th>{word(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table class="{name}"><tr>{head}</tr>{body}</table></div>'


def _findings(findings: list[Finding], decimals: dict[str, int]) -> str:
    if not findings:
        return ""
    rows = (
        (
            f"<td>{word(finding.severity)}</td>",
            f"<td>{escape(finding.rule)}</td>",
            f"<td><code>{escape(finding.where)}</code></td>",
            f"<td>{escape(finding.why)}<small>{escape(meaning(finding.rule))}</small></td>",
            _number(_amount(finding, decimals)),
        )
        for finding in findings
    )
    table = _table(("severity", "rule", "where", "why", "amount"), rows, "findings")
    weight = findings[0].severity
    return f'<h2>{word("findings")}: {len(findings)}</h2><div class="card mark {weight}">{table}</div>'


def _amount(finding: Finding, decimals: dict[str, int]) -> str:
    if finding.amount is None:
        return ""
    known = decimals.get(finding.asset)
    if known is None:
        return f"{finding.amount} ({finding.asset or '?'})"
    return f"{money(finding.amount, known)} {finding.asset}"


def _sentences(key: str, sentences: Sequence[str], name: str) -> str:
    head = f"<h2>{word(key)}</h2>"
    if not sentences:
        return head + f"<p>{word('none')}</p>"
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return head + f'<div class="card {name}"><ul class="many">{items}</ul></div>'


# --- money -----------------------------------------------------------------------


def _money(verdict: Verdict) -> str:
    parts = [f"<h2>{word('money')}</h2>"]
    if verdict.period != (None, None):
        first, last = (_day(second) for second in verdict.period)
        parts.append(f"<p>{word('period')}: {first} – {last}</p>")
    for line in verdict.totals:
        flows = [flow for flow in verdict.flows if (flow.fund, flow.asset) == (line.fund, line.asset)]
        title = f"<h3>{escape(line.fund)}, {escape(line.asset)}</h3>"
        parts.append(f'<div class="card">{title}{draw_flow(line, flows)}{_line(line)}</div>')
    return "".join(parts) if verdict.totals else parts[0] + f"<p>{word('none')}</p>"


def _day(second: int | None) -> str:
    """A second as Alatau's clocks show it."""
    if second is None:
        return "…"
    shown = datetime.fromtimestamp(second, tz=UTC) + timedelta(seconds=rules.ALMATY_OFFSET_S)
    return f"{shown:%Y-%m-%d %H:%M:%S} ({second})"


def _line(line: Line) -> str:
    rows = (
        ("opening", "", line.opening, "rest", ""),
        ("revenue", "+", line.revenue, "in", ""),
        ("refunds", "−", line.refunds, "other", ""),
        ("exchange", "+", line.exchange, "other", ""),
        ("unmatched", "+", line.unmatched, "other", ""),
        ("paid_out", "−", line.paid, "out", ""),
        ("comes_to", "=", line.moved, "fund", "sum"),
        ("closing", "", line.closing, "rest", "sum"),
        ("committed_unpaid", "=", line.committed_unpaid, "in", ""),
        ("free", "+", line.free, "rest", ""),
    )
    most = max(abs(amount) for *_, amount, _, _ in rows)
    body = "".join(
        f'<tr class="{name or ("" if amount else "none")}"><th>{sign} {word(key)}</th>'
        f'<td class="bars">{bar(amount, most, colour) if amount else ""}</td>'
        f"{_number(money(amount, line.decimals))}</tr>"
        for key, sign, amount, colour, name in rows
    )
    return f'<div class="wide"><table>{body}</table></div>'


# --- projects --------------------------------------------------------------------


def _projects(verdict: Verdict) -> str:
    parts = [f"<h2>{word('projects')}</h2>"]
    for project in verdict.projects:
        if project.allotted:
            place = f"<small>{escape(project.sector)}, {escape(project.place)}</small>"
            title = f"<h3>{escape(project.project)} {place}</h3>"
            parts.append(f'<div class="card">{title}{draw_bars(project)}</div>')
    waiting = [p for p in verdict.projects if p.approved and not p.allotted]
    if waiting:
        parts.append(_group("waiting", "approved", waiting, sum(p.approved for p in waiting)))
    parts.append(f"<h2>{word('invested')}: {money(verdict.invested, 2)}</h2>")
    for place in sorted({p.place for p in verdict.projects if p.invested}):
        there = [p for p in verdict.projects if p.invested and p.place == place]
        parts.append(_group(place, "invested", there, sum(p.invested for p in there)))
    return "".join(parts)


def _group(title: str, member: str, projects: list[ProjectLine], total: int) -> str:
    """A sum to read, and behind it the projects it is of, the largest first."""
    ordered = sorted(projects, key=lambda project: (-int(getattr(project, member)), project.project))
    most = int(getattr(ordered[0], member))
    rows = "".join(
        f"<tr><th>{escape(project.project)}</th>"
        f'<td class="bars">{bar(getattr(project, member), most, "other")}</td>'
        f"{_number(money(getattr(project, member), 2))}</tr>"
        for project in ordered
    )
    name = word(title) if title == "waiting" else escape(title)
    return (
        f'<details class="card"><summary>{name}: {len(projects)}; {money(total, 2)}</summary>'
        f'<div class="wide"><table>{rows}</table></div></details>'
    )


def _picked(verdict: Verdict) -> str:
    parts = []
    if verdict.samples:
        parts.append(_sentences("samples", [str(sample) for sample in verdict.samples], ""))
    if verdict.held:
        parts.append(_sentences("held", [str(held) for held in verdict.held], ""))
    return "".join(parts)
