"""Change the contracts in small ways, one at a time, and see that a test notices each change.

A mutant that no test of contracts/test notices survives. Survivors are listed in contracts/mutants.json,
each with the reason why it may; any other survivor fails the run, and so does a reason that is needed no
more. What is changed, and how hundreds of changes are compiled at once, stands in tools/mutants.py.

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
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Lock

from mutants import SWITCH, Changes, Mutant, mutate, switches

ROOT = Path(__file__).resolve().parent.parent
SOURCES = Path("contracts") / "src"
REASONS = ROOT / "contracts" / "mutants.json"
FORGE = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin" / "forge"
# Which tests are asked first; whoever survives them meets all the others.
FIRST = {
    "Treasury": "Treasury|Refund|Dispute",
    "PaymentRouter": "Payment",
    "Watchdog": "Watchdog",
    "LedgerAnchor": "LedgerAnchor",
    "Domain": "PaymentRouter|LedgerAnchor",
    "Money": "Payment|Treasury",
    "DepositAddress": "Payment",
    "Council": "Council",
    "Proofs": "Proofs",
    "Records": "Council|Treasury",
    "Kinds": "Kinds",
    "Names": "Proofs|Council",
}
TIMEOUT_S = 600
SETTINGS = {
    "FOUNDRY_FUZZ_RUNS": "32",
    "FOUNDRY_FUZZ_SEED": "0x51",
    "FOUNDRY_INVARIANT_RUNS": "4",
    "FOUNDRY_INVARIANT_DEPTH": "50",
    # A build with every mutant in it is larger than a chain would take.
    "FOUNDRY_CODE_SIZE_LIMIT": "1000000",
}


def forge(folder: Path, *arguments: str) -> tuple[bool, str]:
    """Run forge; whether it ended well, and what it said."""
    command: list[str | Path] = [FORGE, *arguments, "--root", folder]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **SETTINGS},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return False, "no end"
    return done.returncode == 0, done.stdout + done.stderr


def copy_project(to: Path) -> None:
    """What forge needs: sources, tests, settings; the modules are linked."""
    for name in ("contracts/src", "contracts/test", "var/permit2", "tools"):
        shutil.copytree(ROOT / name, to / name)
    for name in ("foundry.toml", "remappings.txt"):
        shutil.copy(ROOT / name, to / name)
    for name in ("node_modules", ".venv"):
        (to / name).symlink_to(ROOT / name)


def build(folder: Path) -> list[Changes]:
    """Put every mutant into the sources of a copied project, and compile it once."""
    went, said = forge(folder, "build", "--ast", str(SOURCES))
    if not went:
        sys.exit(f"mutants: {said[-3000:]}")
    made: list[Changes] = []
    for file in FIRST:
        path = folder / SOURCES / f"{file}.sol"
        artifact = folder / "var" / "forge" / "out" / f"{file}.sol" / f"{file}.json"
        tree = json.loads(artifact.read_text(encoding="utf-8"))["ast"]
        first = made[-1].first + len(made[-1].mutants) if made else 1
        made.append(mutate(file, path.read_bytes(), tree, first))
    shutil.rmtree(folder / "var" / "forge")
    for path in (folder / "contracts").rglob("*.sol"):
        path.write_text(re.sub(r"\bpure\b", "view", path.read_text(encoding="utf-8")), encoding="utf-8")
    for changes in made:
        path = folder / SOURCES / f"{changes.file}.sol"
        path.write_text(changes.written(), encoding="utf-8")
    functions = set().union(*(changes.functions for changes in made))
    (folder / SOURCES / SWITCH).write_text(switches(functions), encoding="utf-8")
    went, said = forge(folder, "build")
    if not went:
        sys.exit(f"mutants: the build with all of them fails\n{said[-3000:]}")
    _answer_at_once(folder / "tools" / "solc")
    return made


def _answer_at_once(compiler: Path) -> None:
    """Forge asks for the compiler's version each time, and starting it takes longer than most tests."""
    version = subprocess.check_output([compiler, "--version"], text=True)
    compiler.write_text(f"#!/bin/sh\ncat <<'END'\n{version}END\n", encoding="utf-8")


def is_noticed(folder: Path, file: str, number: int) -> bool:
    """Whether a test fails while this mutant is on."""
    on = ["test", "--fail-fast", "--block-coinbase", f"0x{number:040x}"]
    first = f"^({FIRST[file]})"
    return (
        not forge(folder, *on, "--match-contract", first)[0]
        or not forge(folder, *on, "--no-match-contract", first)[0]
    )


def copy_built(folder: Path, to: Path) -> Path:
    """One more copy of a built project, so that forge runs in two at once."""
    shutil.copytree(folder, to, symlinks=True)
    return to


def try_all(folders: list[Path], tried: list[tuple[str, Mutant]]) -> list[str]:
    """The names of those that no test notices, in order; one at a time in each folder."""
    if is_noticed(folders[0], tried[0][0], 0):
        sys.exit("mutants: the tests fail without any change")
    started, free = time.monotonic(), Queue[Path]()
    for folder in folders:
        free.put(folder)
    told = iter(range(1, len(tried) + 1))
    lock = Lock()

    def survives(file: str, mutant: Mutant) -> bool:
        folder = free.get()
        try:
            noticed = is_noticed(folder, file, mutant.number)
        finally:
            free.put(folder)
        with lock:
            count = next(told)
            if not noticed:
                print(f"survives: {mutant.name}", flush=True)
            if count % 25 == 0:
                print(f"{count} of {len(tried)}, {time.monotonic() - started:.0f} s", flush=True)
        return not noticed

    with ThreadPoolExecutor(len(folders)) as pool:
        outcomes = list(pool.map(lambda each: survives(*each), tried))
    return [mutant.name for (_, mutant), survived in zip(tried, outcomes, strict=True) if survived]


def main() -> None:
    """Try the mutants that are asked for, and compare the survivors with the reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="the beginning of a mutant's name, such as Treasury")
    parser.add_argument("--every", type=int, default=1, help="try one of so many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many are tried at once")
    parser.add_argument("--list", action="store_true", help="name them and try none")
    parser.add_argument("--survivors", type=Path, help="write the names of the survivors here, as JSON")
    parser.add_argument("--again", type=Path, help="try only those that --survivors wrote here")
    asked = parser.parse_args()
    reasons: dict[str, str] = json.loads(REASONS.read_text(encoding="utf-8"))
    again = None if asked.again is None else set(json.loads(asked.again.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory(prefix="qazyna-mutants-") as made:
        folder = Path(made)
        copy_project(folder)
        tried: list[tuple[str, Mutant]] = [
            (changes.file, mutant)
            for changes in build(folder)
            for mutant in changes.mutants
            if mutant.name.startswith(asked.only) and (again is None or mutant.name in again)
        ][:: asked.every]
        if asked.list:
            print("\n".join(mutant.name for _, mutant in tried))
            return
        folders = [folder, *(copy_built(folder, Path(f"{made}-{job}")) for job in range(1, asked.jobs))]
        try:
            survivors = try_all(folders, tried)
        finally:
            for other in folders[1:]:
                shutil.rmtree(other)
    if asked.survivors:
        asked.survivors.write_text(json.dumps(survivors, indent=1) + "\n", encoding="utf-8")
    names = {mutant.name for _, mutant in tried}
    wrong = [f"  no reason: {name}" for name in survivors if name not in reasons]
    wrong += [f"  killed: {name}" for name in reasons if name in names and name not in survivors]
    if not asked.only and asked.every == 1 and again is None:
        wrong += [f"  no such mutant: {name}" for name in reasons if name not in names]
    print("\n".join(wrong))
    print(f"mutants: {len(tried)} tried, {len(survivors)} survive, {len(wrong)} without a true reason")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
