"""The auditor: reads a public bundle, replays it, compares it with chains and statements, and reports.

It runs none of the city's software but the rule files (records.RULE_FILES). The order is from what is
signed to what is stored to what it means, so that a finding is named where it arises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ledger import rules
from ledger.audit.bundle import Bundle, check_files, open_bundle
from ledger.audit.chain import check_chains
from ledger.audit.compare import (
    check_anchors,
    check_gaps,
    check_genesis,
    check_keys,
    check_overdue,
    check_rule_files,
)
from ledger.audit.entries import Entries
from ledger.audit.papers import STATE_BODIES, check_papers, read_state_bodies
from ledger.audit.promises import check_promises
from ledger.audit.rates import check_rates
from ledger.audit.replay import Mark, Replayed, Take, acknowledged, replay, take_all, take_plainly
from ledger.audit.resume import Resumed, read_resumptions
from ledger.audit.rpc import Refused, Rpc
from ledger.audit.sample import look_up, take_sample
from ledger.audit.segments import SideBySide
from ledger.audit.source import MOST_BYTES, open_source
from ledger.audit.spread import Spread, processes
from ledger.audit.start import check_start, read_state
from ledger.audit.statement import check_statements
from ledger.audit.summary import summarise
from ledger.audit.tree import Tree, check_tiles, read_records
from ledger.audit.trust import Trust, parse_trust
from ledger.audit.verdict import RULES, Finding, Findings, Progress, Verdict
from ledger.audit.witnesses import read_policy
from ledger.records import Invalid, Unavailable

__all__ = ["RULES", "Finding", "Trust", "Verdict", "Wanted", "audit", "read_trust", "replay_bundle"]


@dataclass(frozen=True)
class Wanted:
    """What an auditor asks for besides the verdict.

    state: the file that a Close names, to start there. period: totals from this second to before
    that one. sample: how many records, picked by seed. evidence: files that records may name.
    promises: what the log signed for payers. witnesses: the file of an own policy. plain: replay by
    the rules alone. jobs: how many processes share the work, or `spread` says who does. payees: the file of
    their papers; state_bodies: an own list of these. sources_unavailable: rates without published sources
    are a remark and no finding.
    """

    state: str | Path | None = None
    period: tuple[int | None, int | None] = (None, None)
    sample: int = 0
    seed: str = ""
    evidence: Sequence[str | Path] = ()
    promises: Sequence[str | Path] = ()
    witnesses: str | Path | None = None
    plain: bool = False
    jobs: int = 1
    spread: Spread | None = None
    payees: str | Path | None = None
    state_bodies: str | Path | None = None
    sources_unavailable: bool = False


_NOTHING = Wanted()


def _quiet(_stage: str, _done: int, _total: int) -> None:
    """No progress."""


def read_trust(path: str | Path) -> Trust:
    """The trust that an auditor brings, of the form of trust.json."""
    try:
        with Path(path).open("rb") as opened:
            return parse_trust(opened.read(MOST_BYTES), str(path))
    except (OSError, ValueError, Invalid) as error:
        raise Unavailable("trust", f"{path} cannot be read: {error}") from None


def audit(
    source: str | Path,
    *,
    rpcs: Iterable[str] = (),
    trust: str | Path | Trust | None = None,
    statements: Iterable[str | Path] = (),
    progress: Progress | None = None,
    cosigned: bool = True,
    wanted: Wanted = _NOTHING,
) -> Verdict:
    """Check a bundle, and what it is compared with; Unavailable where that could not be done.

    source: a folder or an http(s) address. rpcs: nodes, at least one for each chain.
    cosigned: whether a watcher must have signed; the watcher itself, who is about to, says no.
    """
    told, state = progress or _quiet, wanted.state
    rpcs, statements = list(rpcs), list(statements)
    try:
        return _audit(str(source), rpcs, trust, statements, told, wanted, cosigned=cosigned)[0]
    except Exception as error:
        if wanted.state is None or isinstance(error, Unavailable):
            raise
        # A state is whatever the log's keeper gave a name: none may take the verdict away.
        stopped = f"with it the audit stopped with {type(error).__name__}: {error}"
    wanted = replace(wanted, state=None)
    verdict = _audit(str(source), rpcs, trust, statements, told, wanted, cosigned=cosigned)[0]
    again = Findings()
    again.add("D17", str(state), f"is no state: {stopped}")
    verdict.findings = [*again.listed(), *verdict.findings]
    verdict.said.append("every record was replayed from the beginning")
    return verdict


def replay_bundle(source: str | Path, *, trust: str | Path | Trust | None = None) -> rules.State:
    """The state of a valid bundle; Invalid, by its gravest finding, if it is not valid."""
    verdict, done = _audit(str(source), (), trust, (), _quiet, _NOTHING, cosigned=True)
    for finding in verdict.findings:
        raise Invalid(finding.rule, finding.where, finding.why)
    return done.state


def _audit(
    place: str,
    rpcs: Iterable[str],
    trust: str | Path | Trust | None,
    statements: Iterable[str | Path],
    progress: Progress,
    wanted: Wanted,
    *,
    cosigned: bool,
) -> tuple[Verdict, Replayed]:
    own = trust if trust is None or isinstance(trust, Trust) else read_trust(trust)
    if wanted.spread is None and wanted.jobs > 1:
        with processes(wanted.jobs) as spread:
            return _audit(
                place, rpcs, trust, statements, progress, replace(wanted, spread=spread), cosigned=cosigned
            )
    files = open_source(place)
    verdict, findings = Verdict(own_keys=own is not None, period=wanted.period), Findings()
    policy = None if wanted.witnesses is None else read_policy(wanted.witnesses)
    bundle = open_bundle(files, own, findings, policy=policy, cosigned=cosigned)
    check_files(bundle, findings, progress)
    verdict.checkpoint = bundle.checkpoint
    done = Replayed()
    if bundle.checkpoint is not None:
        entries, tree = read_records(bundle, bundle.checkpoint.size, findings, progress, wanted.spread)
        trusted = check_tiles(bundle, tree, findings, progress)
        verdict.records = len(entries)
        done = _replay(entries, trusted, bundle, wanted, findings, progress)
        check_genesis(bundle, done.state, findings)
        check_rule_files(done.state, findings)
        check_keys(bundle, done.state, findings, cosigned=cosigned)
        resumed = read_resumptions(done.state)
        check_anchors(bundle, tree, done, resumed, findings)
        chains = _check_chains(rpcs, bundle, tree, done, resumed, verdict, findings, progress)
        now = max(chains, done.state.time)
        check_gaps(done, now, resumed, findings)
        check_overdue(done, now, findings)
        check_rates(bundle, done, findings, sources_unavailable=wanted.sources_unavailable)
        known = max([now, *(anchor.time for anchor in bundle.anchors)])
        check_promises([str(path) for path in wanted.promises], bundle.trust, done, known, findings)
        check_statements([str(path) for path in statements], done, findings)
        _check_payees(wanted, done, findings)
        _sum_up(verdict, done, wanted, findings)
        verdict.exceptions += resumed.exceptions
        if wanted.sample:
            root = bundle.checkpoint.root
            verdict.samples = take_sample(wanted.seed, wanted.sample, root, tree, done, findings)
        verdict.held = look_up([str(path) for path in wanted.evidence], done) if wanted.evidence else []
    verdict.findings, verdict.said = findings.listed(), findings.said
    return verdict, done


def _replay(
    entries: Entries,
    trusted: int,
    bundle: Bundle,
    wanted: Wanted,
    findings: Findings,
    progress: Progress,
) -> Replayed:
    path = None if wanted.state is None else str(wanted.state)
    state = None if path is None else read_state(path, entries[:trusted], findings)
    first, last = wanted.period
    if state is not None and first is not None and first <= state.time:
        raise Unavailable("state", f"it is of {state.time}, the period begins at {first}, before that")
    start = 0 if state is None else state.size
    seconds = [second for second in (first, last) if second is not None]
    take: Take = take_plainly if wanted.plain else take_all
    if wanted.spread is not None:
        take = SideBySide(bundle, findings, wanted.spread)
    done = replay(entries, trusted, bundle, findings, progress, start=state, seconds=seconds, take=take)
    if path is not None and start:
        check_start(path, start, done.state, done.entries, findings)
    return done


def _check_payees(wanted: Wanted, done: Replayed, findings: Findings) -> None:
    if wanted.payees is None:
        return
    try:
        bodies = read_state_bodies(wanted.state_bodies or STATE_BODIES)
        check_papers(str(wanted.payees), bodies, done, findings)
    except Invalid as broken:
        # A file that the auditor brought, and not the city: no verdict without it.
        raise Unavailable("papers", str(broken)) from None


def _sum_up(verdict: Verdict, done: Replayed, wanted: Wanted, findings: Findings) -> None:
    first, last = wanted.period
    opening = done.marks[0] if first is not None else Mark([], {})
    closing = done.marks[-1] if last is not None else None
    summarise(done.state, verdict, findings, opening, closing)
    verdict.exceptions = [*acknowledged(done), *verdict.exceptions]


def _check_chains(
    rpcs: Iterable[str],
    bundle: Bundle,
    tree: Tree,
    done: Replayed,
    resumed: Resumed,
    verdict: Verdict,
    findings: Findings,
    progress: Progress,
) -> int:
    nodes = []
    for address in rpcs:
        try:
            nodes.append(Rpc(address))
        except Refused as refused:
            raise Unavailable("rpc", str(refused)) from None
    return check_chains(nodes, bundle, tree, done, resumed, verdict, findings, progress) if nodes else 0
