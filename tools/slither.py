"""Run slither, in an environment of its own, and refuse every finding that has no written reason.

slither wants other versions than the rest of this project, so it lives in var/slither-venv. Reasons stand in
contracts/slither.json: for each check and function a sentence that says why it is no fault here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "var" / "slither-venv"
REASONS = ROOT / "contracts" / "slither.json"
VERSION = "0.11.6"


def ready() -> Path:
    """The slither of this version, installed if it is not there."""
    program = HOME / "bin" / "slither"
    if not program.exists():
        venv.create(HOME, with_pip=True)
        command: list[str | Path] = [
            HOME / "bin" / "pip",
            "install",
            "--quiet",
            f"slither-analyzer=={VERSION}",
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return program


def findings() -> list[tuple[str, str]]:
    """Each finding as its check and where it is, in the order slither gives them."""
    forge = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin"
    out = ROOT / "var" / "slither.json"
    out.unlink(missing_ok=True)
    command: list[str | Path] = [ready(), ".", "--json", out, "--filter-paths", "node_modules|contracts/test",
               "--foundry-out-directory", "var/forge/out"]  # fmt: skip
    environment = {"PATH": f"{forge}:{ROOT / '.venv' / 'bin'}:/usr/bin:/bin", "HOME": str(ROOT / "var")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if not out.exists():
        sys.exit(f"slither: no answer\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    told = json.loads(out.read_text(encoding="utf-8"))
    if not told["success"]:
        sys.exit(f"slither: {told['error']}")
    return [(each["check"], _place(each)) for each in told["results"].get("detectors", [])]


def _place(finding: dict[str, object]) -> str:
    """The contract and function, or the name, that a finding is about first."""
    elements = finding["elements"]
    assert isinstance(elements, list)
    for element in elements:
        if element["type"] == "function":
            parent = element["type_specific_fields"]["parent"]["name"]
            return f"{parent}.{element['name']}"
    return str(elements[0]["name"]) if elements else ""


def main() -> None:
    """Compare what slither finds with the reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--list", action="store_true", help="name the findings that have no reason yet, as JSON"
    )
    asked = parser.parse_args()
    reasons: dict[str, dict[str, str]] = (
        json.loads(REASONS.read_text(encoding="utf-8")) if REASONS.exists() else {}
    )
    found = findings()
    missing = sorted(
        {
            pair
            for pair in found
            if pair[1] not in reasons.get(pair[0], {}) and "*" not in reasons.get(pair[0], {})
        }
    )
    if asked.list:
        print(json.dumps(missing, indent=1))
        return
    needless = sorted(
        (check, place)
        for check, places in reasons.items()
        for place in places
        if place != "*" and (check, place) not in found
    )
    print(f"slither {VERSION}: {len(found)} findings, {len(missing)} without a reason")
    if missing or needless:
        lines = [f"  no reason: {check} in {place}" for check, place in missing]
        sys.exit(
            "\n".join(lines + [f"  not found any more: {check} in {place}" for check, place in needless])
        )


if __name__ == "__main__":
    main()
