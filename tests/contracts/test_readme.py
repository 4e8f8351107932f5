"""contracts/README.md says what holds and which test shows it; here it is held to that. So is the comparison of artifacts."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.transactions import CONTRACTS
from tests import servers
from tests.contracts.test_field_failures import names

README = (servers.ROOT / "contracts" / "README.md").read_text(encoding="utf-8")
PROOFS = (servers.ROOT / "docs" / "proofs.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of a section's table, without its two head lines."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_each_numbered_invariant_has_tests_that_exist() -> None:
    table = rows("Invariants")
    assert [int(number) for number, _, _ in table] == list(range(1, len(table) + 1))
    solidity = "\n".join(
        path.read_text(encoding="utf-8") for path in (servers.ROOT / "contracts" / "test").glob("*.sol")
    )
    known = set(names().split()) | set(re.findall(r"function ((?:invariant|check)_\w+)", solidity))
    for number, _, shown in table:
        found = re.findall(r"`([^`]+)`", shown)
        assert found, number
        for test in found:
            assert test in known or (servers.ROOT / test).is_file(), (number, test)
    # None that is checked is left out of the table.
    checked = {name for name in known if name.startswith("invariant_")}
    assert checked <= {name for *_, shown in table for name in re.findall(r"`([^`]+)`", shown)}


def test_the_table_of_who_can_do_what_has_every_role_that_a_contract_asks_for() -> None:
    table = {who: (can, cannot) for who, can, cannot in rows("Who can do what")}
    _, what_nobody_can = table.pop("nobody")
    assert len(what_nobody_can.split(";")) > 5
    assert all(can and cannot for can, cannot in table.values())
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (servers.ROOT / "contracts" / "src").glob("*.sol")
    )
    told = " ".join(table).lower() + " ".join(can for can, _ in table.values()).lower()
    asked = set(re.findall(r"(?:seated|seatedUntil|checkApproved|roleOf)\w*\(\s*Names\.(\w+)", sources))
    assert len(asked) >= 6
    assert not [role for role in asked if role.lower() not in told]


@pytest.mark.parametrize("name", CONTRACTS.values())
def test_each_contract_is_named_at_the_head_of_the_readme(name: str) -> None:
    assert re.search(rf"^    .*\b{name}\b", README.split("## ", 1)[0], re.MULTILINE)


def test_the_counts_that_the_readme_tells_are_those_that_run() -> None:
    settings = tomllib.loads((servers.ROOT / "foundry.toml").read_text(encoding="utf-8"))["profile"]
    here, prove = settings["default"], settings["prove"]
    assert (here["fuzz"]["runs"], here["invariant"]["runs"], here["invariant"]["depth"]) == (1_000, 100, 50)
    assert (prove["fuzz"]["runs"], prove["invariant"]["runs"], prove["invariant"]["depth"]) == (
        10_000,
        1_000,
        100,
    )
    ((_, few, many), (_, sequences, more), *_) = rows("How this is tested")
    assert (few, many) == ("1,000 runs; 100 x 50", "10,000; 1,000 x 100")
    assert (sequences, more) == ("200 sequences", "5,000")
    differential = (servers.ROOT / "tests" / "contracts" / "test_differential.py").read_text(encoding="utf-8")
    assert 'os.environ.get("QAZYNA_DIFFERENTIAL", "200")' in differential


def test_the_survivors_that_the_long_count_told_are_those_with_a_reason() -> None:
    reasons = json.loads((servers.ROOT / "contracts" / "mutants.json").read_text(encoding="utf-8"))
    told = re.search(r"mutants: (\d+) tried, (\d+) survive, 0 without a true reason", PROOFS)
    assert told is not None
    assert int(told[2]) == len(reasons)
    assert all(reasons.values())


# --- artifacts --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def differences() -> Callable[[dict[str, str], Path], list[str]]:
    found: Callable[[dict[str, str], Path], list[str]] = runpy.run_path(
        str(servers.ROOT / "tools" / "build_artifacts.py")
    )["differences"]
    return found


def test_an_artifact_with_one_other_byte_or_one_too_many_or_too_few_is_named(
    differences: Callable[[dict[str, str], Path], list[str]], tmp_path: Path
) -> None:
    wanted = {
        path.name: path.read_text(encoding="utf-8")
        for path in (servers.ROOT / "contracts" / "artifacts").glob("*.json")
    }
    for name, text in wanted.items():
        (tmp_path / name).write_bytes(text.encode())
    assert differences(wanted, tmp_path) == []
    code = json.loads(wanted["Treasury.json"])["deployedBytecode"]
    other = wanted["Treasury.json"].replace(code, f"{code[:-1]}{'0' if code[-1] != '0' else '1'}")
    (tmp_path / "Treasury.json").write_bytes(other.encode())
    (tmp_path / "Council.json").write_bytes(wanted["Council.json"].replace("\n", "\r\n").encode())
    (tmp_path / "Watchdog.json").unlink()
    (tmp_path / "Exit.json").write_text("{}")
    lines = differences(wanted, tmp_path)
    assert [line.split(":")[0] for line in lines] == [
        "Council.json",
        "Exit.json",
        "Treasury.json",
        "Watchdog.json",
    ]


def test_every_test_run_compares_the_artifacts_and_every_change_is_tested() -> None:
    makefile = (servers.ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^test:.* contracts-check .*forge-test", makefile, re.MULTILINE)
    assert re.search(r"^contracts-check:.*\n\t.*build_artifacts\.py --check$", makefile, re.MULTILINE)
    assert "exec make test" in (servers.ROOT / ".ci" / "run").read_text(encoding="utf-8")
