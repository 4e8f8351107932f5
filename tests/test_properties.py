"""The long count has each property, and tries it as often as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests import servers
from tests.properties import COUNTS, ELSEWHERE, PART, TRUTH

PROPERTY = re.compile(r"^\s*@given\(", re.MULTILINE)


def test_each_file_with_a_property_is_in_the_long_count_or_says_why_not():
    found = {
        str(path.relative_to(servers.ROOT))
        for path in (servers.ROOT / "tests").rglob("test_*.py")
        if PROPERTY.search(path.read_text(encoding="utf-8"))
    }
    assert set(COUNTS) <= found <= {*COUNTS, *ELSEWHERE}
    assert not set(COUNTS) & set(ELSEWHERE)


def test_what_says_that_a_ledger_is_valid_is_tried_100_000_times():
    assert TRUTH == 100_000
    assert {path for path, count in COUNTS.items() if count == TRUTH} == {
        f"tests/ledger/test_{name}.py"
        for name in ("rules", "fast", "audit_bytes", "tree", "tiles", "note", "records", "audit_rates")
    }


def long_count(examples: int, *tests: str) -> str:
    """What the long count prints of some properties, each tried only so often."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "hypothesis", *tests],
        cwd=servers.ROOT,
        env={
            **os.environ,
            "HYPOTHESIS_PROFILE": "prove",
            "QAZYNA_PROPERTY_EXAMPLES": str(examples),
            "PYTHONPATH": str(servers.ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_property_is_tried_as_often_as_asked_whatever_its_own_settings_say():
    # By its own settings it has 25.
    said = long_count(60, "tests/ledger/test_tree.py::test_the_two_trees_agree_on_sampled_sizes")
    assert re.search(r"^ +60 examples in .*test_the_two_trees", said, re.MULTILINE)
    assert "properties: 1 with 60 examples" in said


def test_a_long_count_is_split_into_parts_and_nothing_else_runs():
    said = long_count(0, "--collect-only", "tests/ledger/test_tiles.py", "tests/gateway/test_kz.py")
    parts = [line for line in said.splitlines() if "::" in line]
    assert len(parts) == 2 * (TRUTH // PART) + 5
    assert {line.rpartition("[")[2] for line in parts if "test_tiles" in line} == {
        f"{part}]" for part in range(TRUTH // PART)
    }
