"""How much of contracts/src the forge tests reach: of lines and of branches at least 98 %.

`forge coverage` compiles without the optimizer and writes lcov; this adds it up, and names what was not
reached.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORGE = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin" / "forge"
REPORT = ROOT / "var" / "forge" / "lcov.info"
SOURCES = "contracts/src/"
LEAST = 98.0
# What is reached does not depend on how often; the counts of the tests would only take longer.
SETTINGS = {
    "FOUNDRY_FUZZ_RUNS": "64",
    "FOUNDRY_INVARIANT_RUNS": "8",
    "FOUNDRY_OUT": "var/coverage/out",
    "FOUNDRY_CACHE_PATH": "var/coverage/cache",
}


def measure() -> str:
    """The lcov report of a run of all tests."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [FORGE, "coverage", "--report", "lcov", "--report-file", REPORT],
        cwd=ROOT,
        env={**os.environ, **SETTINGS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"coverage: the tests fail\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return REPORT.read_text(encoding="utf-8")


def add_up(report: str) -> tuple[dict[str, dict[str, int]], list[str]]:
    """For lines and branches how many there are and were reached, and what was not, as file and line."""
    totals = {kind: {"all": 0, "reached": 0} for kind in ("lines", "branches")}
    missed, file = [], ""
    for entry in report.splitlines():
        kind, _, value = entry.partition(":")
        if kind == "SF":
            file = value
        if not file.startswith(SOURCES) or kind not in {"DA", "BRDA"}:
            continue
        members = value.split(",")
        what = "lines" if kind == "DA" else "branches"
        was_reached = members[-1] not in {"0", "-"}
        totals[what]["all"] += 1
        totals[what]["reached"] += was_reached
        if not was_reached:
            missed.append(f"{file}:{members[0]} ({what})")
    return totals, missed


def main() -> None:
    """Refuse less than is asked for."""
    totals, missed = add_up(measure())
    print("\n".join(f"  not reached: {each}" for each in missed))
    shares = {what: 100 * each["reached"] / max(1, each["all"]) for what, each in totals.items()}
    told = ", ".join(f"{shares[what]:.2f} % of {each['all']} {what}" for what, each in totals.items())
    print(f"coverage: {told} of contracts/src")
    sys.exit(0 if all(each["all"] for each in totals.values()) and min(shares.values()) >= LEAST else 1)


if __name__ == "__main__":
    main()
