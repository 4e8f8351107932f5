"""Run the long counts and write docs/proofs.md: what ran, how long, how it ended, on which commit.

`prove.py` runs all of it, which takes hours; `prove.py NAME ...` runs those whose names begin so, as
`simulate` or `simulate-3`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.properties import COUNTS, OTHER, TRUTH  # noqa: E402 - the path comes first

PYTHON = ROOT / ".venv" / "bin" / "python"
FORGE = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin" / "forge"
PROOFS = ROOT / "docs" / "proofs.md"
# All that each printed, the last time.
PRINTED = ROOT / "var" / "proofs"

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
    "kills": (
        "a worker killed at 500 random lines on a real node, then compared with a full rescan",
        [PYTHON, "-m", "pytest", "-q", "-n", "0", "--timeout", "0", "tests/gateway/test_anvil_kills.py"],
        {"QAZYNA_KILLS": "500"},
    ),
    "payments": (
        "payments as a machine: 2,000 lives of invoices on SQLite and 666 on PostgreSQL",
        [
            PYTHON,
            "-m",
            "pytest",
            "-q",
            "--timeout",
            "0",
            "-n",
            "auto",
            "tests/gateway/test_payment_machine.py",
        ],
        {"MACHINE_EXAMPLES": "2000"},
    ),
    "exactly-once": (
        "refunds and payouts: 500 processes killed at random lines on SQLite and 166 on PostgreSQL",
        [PYTHON, "-m", "pytest", "-q", "--timeout", "0", "-n", "auto", "tests/gateway/test_exactly_once.py"],
        {"PAYMENT_KILLS": "500"},
    ),
    "api": (
        "each operation of the API with 1,000 requests made from its own document: no error of ours",
        [PYTHON, "-m", "pytest", "-q", "--timeout", "0", "-n", "auto", "tests/gateway/test_openapi.py"],
        {"QAZYNA_API_EXAMPLES": "1000"},
    ),
}
# What is long is run in parts, each with the commit that it ran on: a part can be run again alone.
SEEDS, OF_SEEDS = 1_000, 10
LONG |= {
    f"simulate-{part}": (
        f"the ledger through deaths and lost answers: seeds {SEEDS * part:,} to {SEEDS * (part + 1) - 1:,}",
        [PYTHON, "-m", "tests.simulation.world", "--count", str(SEEDS), "--from", str(SEEDS * part)],
        {},
    )
    for part in range(OF_SEEDS)
} | {
    "simulate-postgres": (
        "the same on PostgreSQL, whose connections break as well: 500 seeds",
        [PYTHON, "-m", "tests.simulation.world", "--postgres", "--count", "500"],
        {},
    )
}


def _properties(
    name: str, shows: str, paths: Iterable[str]
) -> dict[str, tuple[str, list[str | Path], dict[str, str]]]:
    options = ["-q", "-m", "hypothesis", "--timeout", "0", "-n", "auto", "--dist", "worksteal"]
    command = [PYTHON, "-m", "pytest", *options, *paths]
    return {f"hypothesis-{name}": (shows, command, {"HYPOTHESIS_PROFILE": "prove"})}


for path in (path for path, count in COUNTS.items() if count == TRUTH):
    LONG |= _properties(
        Path(path).stem.removeprefix("test_"), f"{TRUTH:,} examples for each property in {path}", [path]
    )
LONG |= _properties(
    "others",
    f"{OTHER:,} examples for each other property that is pure",
    [path for path, count in COUNTS.items() if count == OTHER],
)


def commit() -> str:
    """The commit that the tree stands at, and whether it differs from it."""
    head = subprocess.check_output(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, text=True).strip()
    changed = subprocess.check_output(["git", "status", "--porcelain", "-uno"], cwd=ROOT, text=True)
    # What is written here does not change what was tried.
    others = [line for line in changed.splitlines() if not line.endswith(str(PROOFS.relative_to(ROOT)))]
    return f"{head} with changes" if others else head


def run(name: str) -> tuple[int, str]:
    """Run one of them; returns its exit code and a row for the table."""
    shows, command, extra = LONG[name]
    at, day = commit(), datetime.now(tz=UTC).strftime("%Y-%m-%d")
    print(f"prove: {name}: {shows}", file=sys.stderr, flush=True)
    started = time.monotonic()
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **extra}, capture_output=True, text=True, check=False
    )
    # Hours may have gone into it: what failed must be there to be read.
    PRINTED.mkdir(parents=True, exist_ok=True)
    (PRINTED / f"{name}.txt").write_text(ended.stdout + ended.stderr, encoding="utf-8")
    lines = [line.strip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    minutes = (time.monotonic() - started) / 60
    last = lines[-1].replace("|", "/")[:120] if lines else ""
    result = "held" if ended.returncode == 0 else f"FAILED ({ended.returncode})"
    print(f"prove: {name}: {result}: {last}", file=sys.stderr, flush=True)
    return ended.returncode, f"| {name} | {shows} | {minutes:.0f} min | {day}, {at} | {result} | {last} |"


def kept() -> dict[str, str]:
    """The rows of earlier runs, by name: what is not run again keeps the commit that it ran on."""
    if not PROOFS.exists():
        return {}
    rows = [line for line in PROOFS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {row.split("|")[1].strip(): row for row in rows}


def write(rows: dict[str, str]) -> None:
    """Write the table; what never ran stands in it as such."""
    head = ["# What the long counts showed", "", "By `make prove`, each row on the commit that it names.", ""]
    table = ["| name | what | time | day, commit | result | its last line |", "|---|---|---|---|---|---|"]
    for name, (shows, _, _) in LONG.items():
        table.append(rows.get(name, f"| {name} | {shows} | | | not run yet | |"))
    PROOFS.write_text("\n".join([*head, *table]) + "\n", encoding="utf-8")


def main() -> None:
    """Run what was asked for and write it down after each."""
    asked = sys.argv[1:]
    if unknown := [begin for begin in asked if not any(name.startswith(begin) for name in LONG)]:
        sys.exit(f"usage: prove.py [{' | '.join(LONG)}] ...; not {', '.join(unknown)}")
    names = [name for name in LONG if not asked or name.startswith(tuple(asked))]
    rows, worst = kept(), 0
    for name in names:
        code, rows[name] = run(name)
        worst = max(worst, code)
        write(rows)
    sys.exit(worst)


if __name__ == "__main__":
    main()
