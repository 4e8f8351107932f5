"""Run slither and refuse every finding that has no written reason, and every reason that has no finding.

Reasons stand in contracts/slither.json: for each check and place, a function or a name, a sentence that
says why it is no fault here. `*` stands for all places of a check.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import provers

REASONS = provers.ROOT / "contracts" / "slither.json"
ANY = "*"


def findings() -> list[tuple[str, str]]:
    """Each finding as its check and where it is, in the order slither gives them."""
    out = provers.ROOT / "var" / "slither" / "findings.json"
    out.unlink(missing_ok=True)
    done = provers.run(
        "slither",
        *(".", "--json", out, "--filter-paths", "node_modules|contracts/test"),
        *("--foundry-out-directory", "var/slither/out"),
    )
    if not out.exists():
        sys.exit(f"slither: no answer\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    told = json.loads(out.read_text(encoding="utf-8"))
    if not told["success"]:
        sys.exit(f"slither: {told['error']}")
    return [(each["check"], _place(each)) for each in told["results"].get("detectors", [])]


def _place(finding: dict[str, Any]) -> str:
    """The contract and function, or the name, that a finding is about first."""
    for element in finding["elements"]:
        if element["type"] == "function":
            parent = element["type_specific_fields"]["parent"]["name"]
            return f"{parent}.{element['name']}"
    return str(finding["elements"][0]["name"]) if finding["elements"] else ""


def compare(found: list[tuple[str, str]], reasons: dict[str, dict[str, str]]) -> list[str]:
    """A line for each finding without a reason, and for each reason without a finding."""
    named = set(found)
    missing = {(check, place) for check, place in named if not {place, ANY} & set(reasons.get(check, {}))}
    needless = {
        (check, place)
        for check, places in reasons.items()
        for place in places
        if (check, place) not in named and not (place == ANY and any(check == each for each, _ in named))
    }
    empty = {
        (check, place)
        for check, places in reasons.items()
        for place, reason in places.items()
        if len(reason.split()) < 3
    }
    return [
        *(f"  no reason: {check} in {place}" for check, place in sorted(missing)),
        *(f"  not found any more: {check} in {place}" for check, place in sorted(needless)),
        *(f"  no sentence: {check} in {place}" for check, place in sorted(empty)),
    ]


def main() -> None:
    """Compare what slither finds with the reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print all findings, as JSON")
    found = findings()
    if parser.parse_args().list:
        print(json.dumps(sorted(set(found)), indent=1))
        return
    wrong = compare(found, json.loads(REASONS.read_text(encoding="utf-8")))
    print("\n".join(wrong))
    version = provers.version("slither-analyzer")
    print(f"slither {version}: {len(found)} findings, {len(wrong)} of them or of the reasons not explained")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
