"""The auditor: reads a public bundle, replays it, compares it with chains and statements, and reports.

It runs none of the city's software but records.py, rules.py and proof.py. The order is from what is
signed to what is stored to what it means, so that a finding is named where it arises.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ledger import rules
from ledger.audit.bundle import Bundle, check_files, open_bundle
from ledger.audit.chain import check_chains
from ledger.audit.replay import Replayed, check_anchors, check_gaps, check_genesis, check_rule_files, replay
from ledger.audit.rpc import Refused, Rpc
from ledger.audit.source import MOST_BYTES, open_source
from ledger.audit.statement import check_statement
from ledger.audit.summary import summarise
from ledger.audit.tree import Tree, check_tiles, read_records
from ledger.audit.trust import Trust, parse_trust
from ledger.audit.verdict import RULES, Finding, Findings, Progress, Verdict
from ledger.records import Invalid, Unavailable

__all__ = ["RULES", "Finding", "Trust", "Verdict", "audit", "read_trust", "replay_bundle"]


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
) -> Verdict:
    """Check a bundle, and what it is compared with; Unavailable where that could not be done.

    source: a folder or an http(s) address. rpcs: nodes, at least one for each chain.
    cosigned: whether a watcher must have signed; the watcher itself, who is about to, says no.
    """
    return _audit(str(source), rpcs, trust, statements, progress or _quiet, cosigned=cosigned)[0]


def replay_bundle(source: str | Path, *, trust: str | Path | Trust | None = None) -> rules.State:
    """The state of a valid bundle; Invalid, by its gravest finding, if it is not valid."""
    verdict, done = _audit(str(source), (), trust, (), _quiet, cosigned=True)
    for finding in verdict.findings:
        raise Invalid(finding.rule, finding.where, finding.why)
    return done.state


def _audit(
    place: str,
    rpcs: Iterable[str],
    trust: str | Path | Trust | None,
    statements: Iterable[str | Path],
    progress: Progress,
    *,
    cosigned: bool,
) -> tuple[Verdict, Replayed]:
    own = trust if trust is None or isinstance(trust, Trust) else read_trust(trust)
    files = open_source(place)
    verdict, findings = Verdict(own_keys=own is not None), Findings()
    bundle = open_bundle(files, own, findings, cosigned=cosigned)
    check_files(bundle, findings, progress)
    verdict.checkpoint = bundle.checkpoint
    tree, done = Tree(), Replayed()
    if bundle.checkpoint is not None:
        entries, tree = read_records(bundle, bundle.checkpoint.size, findings, progress)
        trusted = check_tiles(bundle, tree, findings, progress)
        verdict.records = len(entries)
        done = replay(entries, trusted, bundle, findings, progress)
        check_genesis(bundle, done.state, findings)
        check_rule_files(done.state, findings)
        check_anchors(bundle, tree, done, findings)
        now = _check_chains(rpcs, bundle, tree, done, verdict, findings, progress)
        check_gaps(bundle, done, max(now, done.last_time), findings)
        for path in statements:
            check_statement(str(path), done, findings)
        summarise(done.state, verdict, findings)
    verdict.findings, verdict.said = findings.listed(), findings.said
    return verdict, done


def _check_chains(
    rpcs: Iterable[str],
    bundle: Bundle,
    tree: Tree,
    done: Replayed,
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
    return check_chains(nodes, bundle, tree, done, verdict, findings, progress) if nodes else 0
