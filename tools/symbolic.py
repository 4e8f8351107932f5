"""Prove with halmos what contracts/test/*.symbolic.t.sol states of every call, in every state.

What begins with `check_` must hold; what begins with `check_finds_` must not: it states something false, so
that a prover that proves anything whatever would be noticed.
"""

from __future__ import annotations

import json
import re
import sys

import provers

SOURCES = provers.ROOT / "contracts" / "test"


def main() -> None:
    """Run every proof; anything but the outcome that its name asks for fails."""
    functions = {
        name
        for path in SOURCES.glob("*.symbolic.t.sol")
        for name in re.findall(r"function (check_\w+)\(", path.read_text(encoding="utf-8"))
    }
    answers = provers.ROOT / "var" / "halmos" / "answers.json"
    answers.unlink(missing_ok=True)
    done = provers.run(
        "halmos",
        *("--root", provers.ROOT, "--forge-build-out", "var/halmos/out", "--match-contract", "Symbolic$"),
        *("--json-output", answers, "--solver-timeout-assertion", "120000"),
    )
    if not answers.exists():
        sys.exit(f"symbolic: no answer\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    told = json.loads(answers.read_text(encoding="utf-8"))
    # 0 is proved, 1 is a counterexample; a time-out or an error is neither.
    found = {
        each["name"].split("(")[0]: each["exitcode"]
        for tests in told["test_results"].values()
        for each in tests
    }
    wanted = {name: int(name.startswith("check_finds_")) for name in functions}
    proved = sum(1 for code in wanted.values() if code == 0)
    if found != wanted:
        wrong = [f"  {name}: {found.get(name)}, not {code}" for name, code in wanted.items()]
        sys.exit("\n".join(["symbolic: not as stated", *wrong, done.stdout[-3000:], done.stderr[-1000:]]))
    version = provers.version("halmos")
    print(f"symbolic: {proved} proved, {len(wanted) - proved} false statements refuted with halmos {version}")


if __name__ == "__main__":
    main()
