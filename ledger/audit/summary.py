"""What the ledger adds up to: totals of each fund (G15) and project (G10), and the streams between."""

from __future__ import annotations

from ledger import rules
from ledger.audit.replay import Mark, mark_of
from ledger.audit.verdict import Findings, Flow, Line, ProjectLine, Verdict
from ledger.records import Parameter, decode_name

# Parameters that lift a limit while they are in force: each stands in the exceptions (G8).
_LIFTED = {"direct_settlement": 1, "self_sufficient": 1}
_NOTHING = Mark([], {})


def summarise(
    state: rules.State,
    verdict: Verdict,
    findings: Findings,
    opening: Mark = _NOTHING,
    closing: Mark | None = None,
) -> None:
    """Fill in totals, projects, flows, private investment and exceptions.

    opening, closing: what the books said where a period begins and ends; else it is the whole ledger.
    """
    closing = mark_of(state) if closing is None else closing
    before = {(total.fund, total.asset): total for total in opening.totals}
    for total in closing.totals:
        start = before.get((total.fund, total.asset))
        line = _line(total, start, state.assets[total.asset].decimals)
        verdict.totals.append(line)
        if not line.moved == line.closing == line.committed_unpaid + line.free:
            claimed = line.committed_unpaid + line.free
            why = f"{line.moved} came to closing {line.closing}, committed and free are {claimed}"
            place = f"{line.fund} {line.asset}"
            findings.add("D15", place, why, amount=abs(line.moved - line.closing), asset=line.asset)
        verdict.flows += _flows(state, line, opening, closing)
    for project in state.projects.values():
        verdict.projects.append(_project(project, findings))
    verdict.invested = state.invested_tiyn
    verdict.exceptions = _exceptions(state)


def _line(total: rules.Totals, start: rules.Totals | None, decimals: int) -> Line:
    """A period's line: what rules.totals() says at its end, less what it said where it began."""
    zero = (0,) * 8
    start = rules.Totals(total.fund, total.asset, *zero) if start is None else start
    return Line(
        total.fund,
        total.asset,
        decimals,
        opening=total.opening + start.closing,
        revenue=total.revenue - start.revenue,
        refunds=total.refunds - start.refunds,
        exchange=total.exchanged - start.exchanged,
        unmatched=total.unmatched - start.unmatched,
        paid=total.paid - start.paid,
        closing=total.closing,
        committed_unpaid=total.committed_unpaid,
        free=total.free,
    )


def _project(project: rules.ProjectState, findings: Findings) -> ProjectLine:
    """The five totals as the state has them, after releases, moves and endings (G10)."""
    record = project.record
    five = (record.limit, project.allotted, project.committed, project.certified, project.paid)
    if list(five) != sorted(five, reverse=True):
        findings.add("D15", f"project {record.project}", f"approved to paid are {', '.join(map(str, five))}")
    return ProjectLine(record.project, record.sector, record.place, *five, project.invested)


def _flows(state: rules.State, line: Line, opening: Mark, closing: Mark) -> list[Flow]:
    flows = []
    for name, (balance, refunded) in closing.accounts.items():
        record = state.accounts[name].record
        if (record.fund, record.asset) != (line.fund, line.asset):
            continue
        balance_before, refunded_before = opening.accounts.get(name, (0, 0))
        grown = balance - balance_before
        if record.kind == rules.REVENUE:
            # Gross: what went back stands in the refunds.
            came = refunded - refunded_before - grown
            flows.append(Flow(line.fund, line.asset, "revenue", decode_name(record.owner), came))
        elif record.kind == rules.PROJECT:
            project = state.projects[record.owner].record.project
            flows.append(Flow(line.fund, line.asset, "project", project, grown))
    flows.append(Flow(line.fund, line.asset, "closing", "", line.closing))
    return flows


def _exceptions(state: rules.State) -> list[str]:
    found = []
    for proposal in state.proposals.values():
        record = proposal.record
        if isinstance(record, Parameter) and proposal.effective_s is not None:
            lifted = _LIFTED.get(record.name)
            if record.value == lifted:
                act = f"act 0x{record.act.hex()}"
                found.append(f"record {proposal.index}: {record.name} is {record.value} by {act}")
    return found
