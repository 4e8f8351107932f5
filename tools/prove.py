"""Run the long counts and write docs/proofs.md: what ran, how long, how it ended, on which commit.

`prove.py` runs all of it, which takes hours; `prove.py NAME ...` runs the named ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
FORGE = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin" / "forge"
PROOFS = ROOT / "docs" / "proofs.md"

# name: (what it shows, command, environment)
LONG: dict[str, tuple[str, list[str | Path], dict[str, str]]] = {
    "forge": (
        "contracts: fuzz 10,000 and invariants 1,000 x 100",
        [FORGE, "test"],
        {"FOUNDRY_PROFILE": "prove"},
    ),
    "symbolic": (
        "contracts: which calls can lessen the treasury, for every state and argument (halmos)",
        [PYTHON, "tools/symbolic.py"],
        {},
    ),
    "slither": (
        "contracts: no finding of slither without a written reason",
        [PYTHON, "tools/slither.py"],
        {},
    ),
    "coverage": (
        "contracts: at least 98 % of lines and branches are reached",
        [PYTHON, "tools/coverage.py"],
        {},
    ),
    "mutants": (
        "contracts: each small change is noticed by a test, or has a written reason",
        [PYTHON, "tools/mutate_contracts.py"],
        {},
    ),
    "differential": (
        "5,000 sequences get the same verdicts from rules.py and from the contracts",
        [PYTHON, "-m", "pytest", "-q", "--timeout", "0", "-n", "0", "tests/contracts/test_differential.py"],
        {"QAZYNA_DIFFERENTIAL": "5000"},
    ),
    "hypothesis": (
        "all tests, with 10,000 examples for each property",
        [PYTHON, "-m", "pytest", "-q", "--timeout", "0", "-n", "auto", "--dist", "worksteal"],
        {"HYPOTHESIS_PROFILE": "prove"},
    ),
    "kills": (
        "a worker killed at 500 random lines on a real node, then compared with a full rescan",
        [PYTHON, "-m", "pytest", "-q", "-n", "0", "--timeout", "0", "tests/gateway/test_anvil_kills.py"],
        {"QAZYNA_KILLS": "500"},
    ),
    "payments": (
        "payments as a machine with 2,000 examples, and 500 processes killed at random lines",
        [
            PYTHON,
            "-m",
            "pytest",
            "-q",
            "--timeout",
            "0",
            "-n",
            "0",
            "tests/gateway/test_payment_machine.py",
            "tests/gateway/test_exactly_once.py",
        ],
        {"MACHINE_EXAMPLES": "2000", "PAYMENT_KILLS": "500"},
    ),
    "api": (
        "each operation of the API with 1,000 requests made from its own document: no error of ours",
        [PYTHON, "-m", "pytest", "-q", "--timeout", "0", "-n", "auto", "tests/gateway/test_openapi.py"],
        {"QAZYNA_API_EXAMPLES": "1000"},
    ),
    "simulate": (
        "the ledger through 10,000 seeds of deaths and lost answers",
        [PYTHON, "-m", "tests.simulation.world", "--count", "10000"],
        {},
    ),
}


def commit() -> str:
    """The commit that the tree stands at, and whether it differs from it."""
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    changed = subprocess.check_output(["git", "status", "--porcelain", "-uno"], cwd=ROOT, text=True).strip()
    return f"{head} with changes" if changed else head


def run(name: str) -> tuple[int, str]:
    """Run one of them; returns its exit code and a row for the table."""
    shows, command, extra = LONG[name]
    print(f"prove: {name}: {shows}", file=sys.stderr, flush=True)
    started = time.monotonic()
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **extra}, capture_output=True, text=True, check=False
    )
    lines = [line.strip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    minutes = (time.monotonic() - started) / 60
    last = lines[-1].replace("|", "/")[:120] if lines else ""
    result = "held" if ended.returncode == 0 else f"FAILED ({ended.returncode})"
    print(f"prove: {name}: {result}: {last}", file=sys.stderr, flush=True)
    return ended.returncode, f"| {name} | {shows} | {minutes:.0f} min | {result} | {last} |"


def main() -> None:
    """Run what was asked for and write it down."""
    names = sys.argv[1:] or list(LONG)
    if unknown := [name for name in names if name not in LONG]:
        sys.exit(f"usage: prove.py [{' | '.join(LONG)}] ...; not {', '.join(unknown)}")
    at, day = commit(), datetime.now(tz=UTC).strftime("%Y-%m-%d")
    results = [run(name) for name in names]
    head = ["# What the long counts showed", "", f"On {day}, at commit {at}, by `make prove`.", ""]
    table = ["| name | what | time | result | its last line |", "|---|---|---|---|---|"]
    PROOFS.write_text("\n".join([*head, *table, *(row for _, row in results)]) + "\n", encoding="utf-8")
    sys.exit(max(code for code, _ in results))


if __name__ == "__main__":
    main()
