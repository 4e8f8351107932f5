"""The auditor's command `python -m ledger.audit`: exit 0 valid, 1 findings, 2 could not check."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NoReturn

from ledger.audit import audit
from ledger.audit.report import report
from ledger.audit.verdict import Verdict, money, printable
from ledger.records import Unavailable

SLOW_S = 1.0


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
    for finding in verdict.findings:
        print(finding)
    for line in verdict.totals:
        print(line)
    print(f"private investment, never public money: KZT {money(verdict.invested, 2)}")
    for project in verdict.projects:
        five = (project.approved, project.allotted, project.committed, project.certified, project.paid)
        names = ("approved", "allotted", "committed", "certified", "paid")
        shown = ", ".join(f"{name} {money(amount, 2)}" for name, amount in zip(names, five, strict=True))
        print(f"project {project.project}: {shown} KZT; private {money(project.invested, 2)}")
    for exception in verdict.exceptions:
        print(f"exception: {exception}")
    for pending in verdict.pending:
        print(f"pending: {pending}")
    for sentence in verdict.said:
        print(f"note: {sentence}")
    print(verdict.last_line())


def main(arguments: list[str] | None = None) -> int:
    """Run the audit that the command line asks for."""
    parser = _Arguments(prog="python -m ledger.audit", description="Audit a public bundle; trust nobody.")
    parser.add_argument("bundle", help="a folder or an http(s) address")
    parser.add_argument("--rpc", action="append", default=[], help="a node of a chain to compare with")
    parser.add_argument("--trust", help="your own trust.json")
    parser.add_argument(
        "--statement", action="append", default=[], help="your own copy of a camt.053 statement"
    )
    parser.add_argument("--json", help="write the verdict here")
    parser.add_argument("--report", help="write a page to read here")
    asked = parser.parse_args(arguments)
    bar = _Bar() if sys.stderr.isatty() else None
    try:
        verdict = audit(
            asked.bundle, rpcs=asked.rpc, trust=asked.trust, statements=asked.statement, progress=bar
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
        return 0 if verdict.is_valid else 1
    if bar:
        bar.clear()
    print(f"could not check: {printable(why)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
