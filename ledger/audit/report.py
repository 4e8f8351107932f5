"""The verdict as one page to read: no script, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from ledger.audit.flow import draw_bars, draw_flow
from ledger.audit.verdict import Finding, Line, Verdict, meaning, money
from ledger.audit.words import LANGUAGES, word

_STYLE = """
:root{color-scheme:light dark;--ink:#17211f;--soft:#5a6764;--paper:#fbfbf8;--line:#d8dcd5;
--good:#0b6b4f;--bad:#a3231b;--in:#2f7d8c;--fund:#37474f;--out:#b7791f;--rest:#4f7f3a}
@media (prefers-color-scheme:dark){:root{--ink:#e7ebe6;--soft:#9aa7a2;--paper:#141917;--line:#333c38;
--good:#4cc79a;--bad:#ff8a80;--in:#58b4c4;--fund:#90a4ae;--out:#dda94b;--rest:#83b968}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:1.5rem;font:1rem/1.5 system-ui,sans-serif;
color:var(--ink);background:var(--paper)}
h1{margin:.5rem 0 0}h2{margin:2.5rem 0 .75rem;font-size:1.25rem}h3{font-size:1rem;margin:1.5rem 0 .5rem}
.kk,.ru,.en{display:none}
#kk:checked~main .kk,#ru:checked~main .ru,#en:checked~main .en{display:inline}
.tongue{position:absolute;opacity:0}
.tongue+label{display:inline-block;padding:.35rem .8rem;border:1px solid var(--line);cursor:pointer}
.tongue:checked+label{background:var(--ink);color:var(--paper)}
.tongue:focus-visible+label{outline:3px solid var(--in);outline-offset:2px}
.verdict{font-size:1.5rem;font-weight:600;border-left:.4rem solid;padding-left:1rem}
.good{color:var(--good)}.bad{color:var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
code{overflow-wrap:anywhere}small{color:var(--soft);display:block}
svg{width:100%;height:auto;font:13px system-ui,sans-serif}svg text{fill:var(--ink)}
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
        _findings(verdict.findings),
        _money(verdict),
        _projects(verdict),
        *(_sentences(key, getattr(verdict, key)) for key in ("exceptions", "pending", "said")),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _head(verdict: Verdict) -> str:
    key = "valid" if verdict.is_valid else "invalid"
    head = verdict.checkpoint
    rows = [
        ("records", f"{verdict.records:,}".replace(",", " ")),
        ("checkpoint", f"<code>{escape(head.origin)} {head.size} {head.root.hex()}</code>" if head else "-"),
    ]
    cells = "".join(f"<tr><th>{word(name)}</th><td>{value}</td></tr>" for name, value in rows)
    chain = word("chain_checked" if verdict.chain_checked else "chain_unchecked")
    keys = word("own_keys" if verdict.own_keys else "bundle_keys")
    return (
        f"<h1>{word('title')}</h1>"
        f'<p class="verdict {"good" if verdict.is_valid else "bad"}">{word(key)}</p>'
        f"<p><code>{escape(verdict.last_line())}</code></p>"
        f'<div class="wide"><table>{cells}</table></div><p>{chain}. {keys}.</p>'
    )


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{word(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _number(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


def _findings(findings: list[Finding]) -> str:
    if not findings:
        return f"<h2>{word('findings')}</h2><p>{word('none')}</p>"
    rows = (
        (
            f"<td>{word(finding.severity)}</td>",
            f"<td>{escape(finding.rule)}</td>",
            f"<td><code>{escape(finding.where)}</code></td>",
            f"<td>{escape(finding.why)}<small>{escape(meaning(finding.rule))}</small></td>",
            _number("" if finding.amount is None else f"{finding.amount} {finding.asset}"),
        )
        for finding in findings
    )
    return f"<h2>{word('findings')}: {len(findings)}</h2>" + _table(
        ("severity", "rule", "where", "why", "amount"), rows
    )


def _money(verdict: Verdict) -> str:
    parts = [f"<h2>{word('money')}</h2>"]
    for line in verdict.totals:
        flows = [flow for flow in verdict.flows if (flow.fund, flow.asset) == (line.fund, line.asset)]
        parts += [f"<h3>{escape(line.fund)}, {escape(line.asset)}</h3>", draw_flow(line, flows), _line(line)]
    return "".join(parts) if verdict.totals else parts[0] + f"<p>{word('none')}</p>"


def _line(line: Line) -> str:
    signs = (
        ("opening", "", line.opening),
        ("revenue", "+", line.revenue),
        ("refunds", "−", line.refunds),
        ("exchange", "+", line.exchange),
        ("paid_out", "−", line.paid),
        ("closing", "=", line.closing),
        ("committed_unpaid", "=", line.committed_unpaid),
        ("free", "+", line.free),
    )
    rows = "".join(
        f"<tr><th>{sign} {word(key)}</th>{_number(money(amount, line.decimals))}</tr>"
        for key, sign, amount in signs
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _projects(verdict: Verdict) -> str:
    parts = [f"<h2>{word('projects')}</h2>"]
    for project in verdict.projects:
        place = f"{escape(project.sector)}, {escape(project.place)}"
        parts.append(f"<h3>{escape(project.project)} <small>{place}</small></h3>{draw_bars(project)}")
        if project.invested:
            parts.append(f"<p>{word('invested')}: {money(project.invested, 2)}</p>")
    parts.append(f"<p>{word('invested')}: <strong>{money(verdict.invested, 2)}</strong></p>")
    return "".join(parts)


def _sentences(key: str, sentences: list[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<h2>{word(key)}</h2>" + (f"<ul>{items}</ul>" if items else f"<p>{word('none')}</p>")
