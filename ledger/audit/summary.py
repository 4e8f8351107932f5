"""What the ledger adds up to: totals of each fund (G15) and project (G10), and the streams between."""

from __future__ import annotations

from ledger import rules
from ledger.audit.verdict import Findings, Flow, Line, ProjectLine, Verdict
from ledger.records import Parameter, decode_name

# Parameters that lift a limit while they are in force: each stands in the exceptions (G8).
_LIFTED = {"direct_settlement": 1, "self_sufficient": 1}


def summarise(state: rules.State, verdict: Verdict, findings: Findings) -> None:
    """Fill in totals, projects, flows, private investment and exceptions."""
    for total in rules.totals(state):
        line = Line(
            total.fund,
            total.asset,
            state.assets[total.asset].decimals,
            # Before the first record there was nothing; what rules.py does not know moves nothing.
            opening=getattr(total, "opening", 0),
            revenue=total.revenue,
            refunds=getattr(total, "refunds", 0),
            exchange=getattr(total, "exchange", 0),
            paid=total.paid,
            closing=total.closing,
            committed_unpaid=total.committed_unpaid,
            free=total.free,
        )
        verdict.totals.append(line)
        moved = line.opening + line.revenue - line.refunds + line.exchange - line.paid
        if not moved == line.closing == line.committed_unpaid + line.free:
            claimed = line.committed_unpaid + line.free
            why = f"{moved} came to closing {line.closing}, committed and free are {claimed}"
            findings.add(
                "D15", f"{line.fund} {line.asset}", why, amount=abs(moved - line.closing), asset=line.asset
            )
        verdict.flows += _flows(state, line)
    for project in state.projects.values():
        record = project.record
        verdict.projects.append(
            ProjectLine(
                record.project,
                record.sector,
                record.place,
                record.limit,
                project.allotted,
                project.committed,
                project.certified,
                project.paid,
                project.invested,
            )
        )
    verdict.invested = state.invested_tiyn
    verdict.exceptions = _exceptions(state)


def _flows(state: rules.State, line: Line) -> list[Flow]:
    flows = []
    for account in state.accounts.values():
        record = account.record
        if (record.fund, record.asset) != (line.fund, line.asset):
            continue
        if record.kind == rules.REVENUE:
            flows.append(Flow(line.fund, line.asset, "revenue", decode_name(record.owner), -account.balance))
        elif record.kind == rules.PROJECT:
            project = state.projects[record.owner].record.project
            flows.append(Flow(line.fund, line.asset, "project", project, account.balance))
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
