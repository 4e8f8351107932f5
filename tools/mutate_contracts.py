"""Change the contracts in small ways, one at a time, and see that a test notices each change.

A mutant that no test notices survives. Survivors are listed in contracts/mutants.json, each with the reason
why nobody could notice it; any other survivor fails the run, and so does a reason that is needed no more.

Works on a copy of the project, so that nothing here is ever changed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = Path("contracts") / "src"
REASONS = ROOT / "contracts" / "mutants.json"
FORGE = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin" / "forge"
# Kinds.sol and Records.sol are tables, compared member for member with ledger/records.py by tests/contracts.
FILES = ("Council", "Domain", "LedgerAnchor", "Treasury", "PaymentRouter", "DepositAddress", "Watchdog",
         "Money", "Names", "Proofs")  # fmt: skip
COMPARISONS = {"<=": "<", ">=": ">", "==": "!=", "!=": "=="}
TIMEOUT_S = 300


@dataclass(frozen=True)
class Mutant:
    """One change of one line. `name` stays the same when other lines are added or taken away."""

    file: str
    line: int
    name: str
    text: str


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every change that is tried: refusals left out, comparisons, arithmetic and what is written."""
    seen: dict[str, int] = {}
    for number, line in enumerate(source.splitlines(), 1):
        for what, changed in _changes(line):
            if changed == line:
                continue
            plain = f"{file}: {line.strip()} -> {what}"
            seen[plain] = seen.get(plain, 0) + 1
            name = plain if seen[plain] == 1 else f"{plain} (#{seen[plain]})"
            yield Mutant(file, number, name, changed)


def _changes(line: str) -> Iterator[tuple[str, str]]:
    code = line.partition("//")[0]
    if not code.strip() or code.strip().startswith(
        ("*", "///", "import", "pragma", "error", "event", "function")
    ):
        return
    if found := re.match(r"^(\s*)if \((.*)\) revert (\w+)\(.*\);$", code):
        yield f"without {found[3]}", f"{found[1]}if (false) revert();"
    elif found := re.match(r"^(\s*)if \((.*)\) \{$", code):
        yield "if never", f"{found[1]}if (false) {{"
        yield "if always", f"{found[1]}if (true) {{"
    for at in re.finditer(r"<=|>=|==|!=|(?<![=<>-])[<>](?![=<>])", code):
        # A comparison has a space at both sides; a shift or a generic has not.
        if code[at.start() - 1 : at.start()] != " " or code[at.end() : at.end() + 1] != " ":
            continue
        other = COMPARISONS.get(at[0]) or {"<": "<=", ">": ">="}[at[0]]
        yield f"{at[0]} as {other} at {at.start()}", line[: at.start()] + other + line[at.end() :]
    for at in re.finditer(r" (\+|-|\*|/|\|\||&&) ", code):
        other = {"+": "-", "-": "+", "*": "+", "/": "*", "||": "&&", "&&": "||"}[at[1]]
        yield f"{at[1]} as {other} at {at.start(1)}", line[: at.start(1)] + other + line[at.end(1) :]
    found = re.match(r"^(\s*)(?!uint|bytes|address|bool)[\w\.\[\]]+(\[[^=]*\])? [-+|]?= [^=].*;$", code)
    if found:
        yield "not written", f"{found[1]}{{}}"
    if found := re.match(r"^(\s*)(emit \w+|_\w+|[\w\.]+\.check\w+)\(.*\);$", code):
        yield "not called", f"{found[1]}{{}}"


def copy_project(to: Path) -> None:
    """What forge needs: sources, tests, settings; the modules are linked."""
    for name in ("contracts/src", "contracts/test", "var/permit2", "tools"):
        shutil.copytree(ROOT / name, to / name)
    for name in ("foundry.toml", "remappings.txt"):
        shutil.copy(ROOT / name, to / name)
    for name in ("node_modules", ".venv"):
        (to / name).symlink_to(ROOT / name)


def is_noticed(folder: Path) -> bool:
    """Whether a test fails, or it does not even compile."""
    environment = {**os.environ, "FOUNDRY_FUZZ_RUNS": "64", "FOUNDRY_INVARIANT_RUNS": "4"}
    try:
        done = subprocess.run(
            [FORGE, "test", "--root", folder, "--fail-fast", "--optimize", "false"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def main() -> None:
    """Try the mutants that are asked for, and compare the survivors with the reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="the beginning of a mutant's name, such as Treasury")
    parser.add_argument("--every", type=int, default=1, help="try one of so many")
    parser.add_argument("--list", action="store_true", help="name them and try none")
    asked = parser.parse_args()
    reasons: dict[str, str] = json.loads(REASONS.read_text(encoding="utf-8")) if REASONS.exists() else {}
    found = [
        mutant
        for file in FILES
        for mutant in mutants(file, (ROOT / SOURCES / f"{file}.sol").read_text(encoding="utf-8"))
        if mutant.name.startswith(asked.only)
    ][:: asked.every]
    if asked.list:
        print("\n".join(mutant.name for mutant in found))
        return
    survivors = []
    with tempfile.TemporaryDirectory(prefix="qazyna-mutants-") as made:
        folder = Path(made)
        copy_project(folder)
        if is_noticed(folder):
            sys.exit("mutants: the tests fail without any change")
        for number, mutant in enumerate(found, 1):
            path = folder / SOURCES / f"{mutant.file}.sol"
            source = path.read_text(encoding="utf-8")
            lines = source.splitlines(keepends=True)
            lines[mutant.line - 1] = mutant.text + "\n"
            path.write_text("".join(lines), encoding="utf-8")
            if not is_noticed(folder):
                survivors.append(mutant.name)
                print(f"survives: {mutant.name}", flush=True)
            path.write_text(source, encoding="utf-8")
            if number % 25 == 0:
                print(f"{number} of {len(found)}, {len(survivors)} survive", flush=True)
    unexplained = [name for name in survivors if name not in reasons]
    tried = {mutant.name for mutant in found}
    needless = [name for name in reasons if name in tried and name not in survivors]
    print(f"mutants: {len(found)} tried, {len(survivors)} survive, {len(unexplained)} without a reason")
    if unexplained or needless:
        sys.exit(
            "\n".join(
                [f"  no reason: {name}" for name in unexplained] + [f"  killed: {name}" for name in needless]
            )
        )


if __name__ == "__main__":
    main()
