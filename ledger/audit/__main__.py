"""The auditor's command `python -m ledger.audit`: exit 0 valid, 1 findings, 2 could not check."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from ledger import rules
from ledger.audit import Wanted, audit
from ledger.audit.report import report
from ledger.audit.verdict import Finding, Verdict, money, printable
from ledger.records import Unavailable

SLOW_S = 1.0
_MOST_SAMPLES = 100_000
_MOST_JOBS = 1_000
# One changed byte makes each later tile and anchor differ: told once, so that the byte itself is seen.
_FOLLOWING = frozenset({"D2", "D9", "T2"})
_SHOWN_OF_FOLLOWING = 3


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line and exit 2, as for everything that could not be checked."""
        print(f"could not check: {message}", file=sys.stderr)
        raise SystemExit(2)


class _Bar:
    """Progress on a terminal, once the work has taken a second."""

    def __init__(self) -> None:
        self._since = self._last = time.monotonic()
        self._shown = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._since > SLOW_S and now - self._last > 0.1 and total:
            print(
                f"\r{stage}: {done:,} of {total:,} ({100 * done // total} %)\033[K", end="", file=sys.stderr
            )
            self._shown, self._last = True, now

    def clear(self) -> None:
        """Leave the line empty."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _print(verdict: Verdict) -> None:
    _print_findings(verdict.findings)
    for exception in verdict.exceptions:
        print(f"exception: {exception}")
    for pending in verdict.pending:
        print(f"pending: {pending}")
    if verdict.period != (None, None):
        first, last = verdict.period
        print(f"period: from {first or 'the beginning'} to before {last or 'the end'}, Unix seconds")
    for line in verdict.totals:
        print(line)
    _print_projects(verdict)
    for sample in verdict.samples:
        print(f"sample: {sample}")
    for held in verdict.held:
        print(f"evidence: {printable(str(held))}")
    for sentence in verdict.said:
        print(f"note: {sentence}")
    print(verdict.last_line())


def _print_findings(findings: Sequence[Finding]) -> None:
    """Each finding; of a rule that mostly follows from another finding the first few, and how many more."""
    for rule, run in groupby(findings, key=lambda finding: finding.rule):
        same = list(run)
        shown = len(same)
        if rule in _FOLLOWING and len(same) > _SHOWN_OF_FOLLOWING + 1:
            shown = _SHOWN_OF_FOLLOWING
        for finding in same[:shown]:
            print(finding)
        if shown < len(same):
            more = f"{len(same) - shown} more places, the last {same[-1].where}"
            print(f"{rule} at {more}: --json or --report has each")


def _print_projects(verdict: Verdict) -> None:
    """Projects that public money was allotted to, one by one; of the others only sums."""
    names = ("approved", "allotted", "committed", "certified", "paid")
    waiting = []
    for project in verdict.projects:
        if project.allotted:
            shown = ", ".join(f"{name} {money(getattr(project, name), 2)}" for name in names)
            print(f"project {project.project}: {shown} KZT")
        elif project.approved:
            waiting.append(project.approved)
    if waiting:
        count = len(waiting)
        print(f"projects with nothing allotted: {count}, approved {money(sum(waiting), 2)} KZT in all")
    private = sum(not project.approved for project in verdict.projects)
    print(
        f"projects without public money: {private};"
        f" private investment, never public money: KZT {money(verdict.invested, 2)}"
    )


def _second(text: str, *, end: bool = False) -> int:
    """Unix seconds, or a date in Alatau: its first second, or with `end` the first one after it."""
    try:
        if text.isascii() and text.isdigit():
            second = int(text)
        else:
            day = date.fromisoformat(text)
            midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            second = midnight - rules.ALMATY_OFFSET_S + rules.DAY * end
        if not 0 <= second < rules.TIME_LIMIT_S:
            raise ValueError
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither Unix seconds nor a date") from None
    return second


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _MOST_SAMPLES):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not 1 to {_MOST_SAMPLES:,}")
    return int(text)


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _MOST_JOBS):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not 1 to {_MOST_JOBS}")
    return int(text)


def _arguments() -> _Arguments:
    parser = _Arguments(prog="python -m ledger.audit", description="Audit a public bundle; trust nobody.")
    parser.add_argument("bundle", help="a folder or an http(s) address")
    parser.add_argument("--rpc", action="append", default=[], help="a node of a chain to compare with")
    parser.add_argument("--trust", help="your own trust.json")
    parser.add_argument(
        "--statement", action="append", default=[], help="your own copy of a camt.053 statement"
    )
    parser.add_argument("--payees", help="papers of payees, IBAN and BIN in the clear: is one the republic?")
    parser.add_argument("--state-bodies", help="your own list of state bodies by BIN, with --payees")
    parser.add_argument(
        "--sources-unavailable",
        action="store_true",
        help="you know that sources of rates are not to be had: say so, and find nothing",
    )
    parser.add_argument("--state", help="start from the state that a Close names: states/<year>.json")
    parser.add_argument("--from", dest="first", type=_second, help="totals from this second or date on")
    parser.add_argument(
        "--to",
        dest="last",
        type=lambda text: _second(text, end=True),
        help="totals before this second, or to the end of this date",
    )
    parser.add_argument("--sample", type=_count, default=0, help="pick so many records and prove each")
    parser.add_argument("--seed", help="what the sample is picked by: a text of your own")
    parser.add_argument(
        "--evidence", action="append", default=[], help="a file: which records name it? exit 1 if none"
    )
    parser.add_argument(
        "--plain", action="store_true", help="replay by the rules alone: slower, less to read"
    )
    parser.add_argument("--jobs", type=_jobs, default=1, help="so many processes, between Close records")
    parser.add_argument(
        "--promise", action="append", default=[], help="what the log promised a payer: was it kept?"
    )
    parser.add_argument("--witnesses", help="whose cosignatures you demand, and how many: the writer's form")
    parser.add_argument("--json", help="write the verdict here")
    parser.add_argument("--report", help="write a page to read here")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the audit that the command line asks for."""
    parser = _arguments()
    asked = parser.parse_args(arguments)
    if bool(asked.sample) != (asked.seed is not None):
        parser.error("--sample and --seed are given together")
    if asked.first is not None and asked.last is not None and asked.first >= asked.last:
        parser.error(f"the period from {asked.first} to {asked.last} is empty")
    if asked.plain and asked.jobs > 1:
        parser.error("--plain is one process, without --jobs")
    if asked.state_bodies and not asked.payees:
        parser.error("--state-bodies goes with --payees")
    wanted = Wanted(
        asked.state,
        (asked.first, asked.last),
        asked.sample,
        asked.seed or "",
        asked.evidence,
        asked.promise,
        asked.witnesses,
        plain=asked.plain,
        jobs=asked.jobs,
        payees=asked.payees,
        state_bodies=asked.state_bodies,
        sources_unavailable=asked.sources_unavailable,
    )
    bar = _Bar() if sys.stderr.isatty() else None
    try:
        verdict = audit(
            asked.bundle,
            rpcs=asked.rpc,
            trust=asked.trust,
            statements=asked.statement,
            progress=bar,
            wanted=wanted,
        )
        if asked.json:
            text = json.dumps(verdict.as_json(), indent=1, ensure_ascii=False) + "\n"
            Path(asked.json).write_text(text, encoding="utf-8")
        if asked.report:
            Path(asked.report).write_text(report(verdict), encoding="utf-8")
    except Unavailable as unavailable:
        why = str(unavailable)
    except KeyboardInterrupt:
        why = "interrupted"
    except Exception as error:
        # Whatever the bytes were, the reader gets one line. What is not known is no verdict.
        why = f"stopped by {type(error).__name__}: {error}"
    else:
        if bar:
            bar.clear()
        _print(verdict)
        return 0 if verdict.is_valid and all(held.named for held in verdict.held) else 1
    if bar:
        bar.clear()
    print(f"could not check: {printable(why)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
