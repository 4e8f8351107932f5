"""Style is a test: what STYLE asks of every file, and no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 1 << 20
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "base"}
DECISION_HEADINGS = ["Context", "Decision", "Consequences", "Alternatives"]
ROOMS = ("ledger", "contracts", "gateway")
LOCKS = ("requirements.lock", "requirements-test.lock", "package-lock.json")

# Each is put together here, so that this file does not break the rule it states.
REGISTRY_HOSTS = re.compile(
    "|".join([r"registry\." + "npmjs", "files\\." + "pythonhosted", r"pypi\." + "org", r"proxy\.golang\." + "org",
              r"static\.crates\." + "io", r"index\.crates\." + "io", r"registry\.yarn" + "pkg", "deb\\." + "debian"])
)  # fmt: skip
HOME_PATHS = re.compile(r"(?<![\w.}])/" + r"(?:home|Users)/[a-z][\w-]*/|(?<![\w.}])/" + r"(?:root|work)/\w")
SECRETS = re.compile(
    "|".join([
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE " + "KEY-----",
        r"\bgh[pousr]_[A-Za-z0-9]{36}", r"\bgithub_" + r"pat_\w{22,}", r"\bglpat-[\w-]{20}", r"\bnpm_[A-Za-z0-9]{36}",
        r"\bpypi-AgEI[\w-]{40,}", r"\bAKIA[0-9A-Z]{16}\b", r"\bsk_live_[0-9a-zA-Z]{20,}", r"\bxox[abprs]-[\w-]{10,}",
        r"\bAIza[0-9A-Za-z_-]{35}", r"//[^/\s:@\"'{}<>]+:[^/\s:@\"'{}<>]{6,}@(?!127\.0\.0\.1|localhost|example)[\w.-]+",
    ])
)  # fmt: skip


def tracked_files() -> list[Path]:
    """Every file that is in the repository or would be: what git ignores is left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if listed.returncode == 0:
        names = [name.decode() for name in listed.stdout.split(b"\0") if name]
        return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]
    # An unpacked archive has no git: the same folders are left out by hand.
    ignored = {".venv", "node_modules", "var", "build", ".git", "__pycache__", ".hypothesis"}
    return sorted(
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(
            part in ignored or part.endswith((".egg-info", "_cache")) for part in path.relative_to(ROOT).parts
        )
    )


def matches(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    """file:line: text, for each line of a text file that the pattern finds."""
    found = []
    for path in files:
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
            if hit := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {hit.group()[:80]}")
    return found


FILES = tracked_files()
PYTHON = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ROOMS]


def test_no_file_names_a_package_registry():
    assert matches(REGISTRY_HOSTS, FILES) == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_pins_hashes_and_no_place(name: str):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!github\.com/sponsors|opencollective|www\.patreon)", text)
    if name == "package-lock.json":
        assert '"resolved"' not in text
        assert text.count('"integrity"') == text.count('"node_modules/')
    else:
        assert not re.search(r"^ *--(index|extra-index|find-links|trusted)", text, re.MULTILINE)
        pins = re.findall(r"^[a-z0-9-]+==[^\n]*\\\n +--hash=sha256:", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)) > 0


def test_runtime_and_test_locks_agree():
    pin = re.compile(r"^([a-z0-9-]+==\S+)", re.MULTILINE)
    runtime, tests = (set(pin.findall((ROOT / name).read_text(encoding="utf-8"))) for name in LOCKS[:2])
    assert runtime <= tests


def test_no_file_holds_a_path_of_one_machine():
    assert matches(HOME_PATHS, FILES) == []


def test_no_file_holds_a_secret():
    assert matches(SECRETS, FILES) == []


def test_no_file_is_over_one_mebibyte():
    assert [str(path.relative_to(ROOT)) for path in FILES if path.stat().st_size > LIMIT_BYTES] == []


def test_no_name_says_nothing():
    parts = [(path, part) for path in FILES for part in path.relative_to(ROOT).parts]
    assert [
        str(path.relative_to(ROOT))
        for path, part in parts
        if part.partition(".")[0].lower() in FORBIDDEN_NAMES
    ] == []


def test_each_decision_has_its_four_headings():
    for path in FILES:
        if path.relative_to(ROOT).parts[:2] == ("docs", "decisions") and path.suffix == ".md":
            assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md|README\.md", path.name), path.name
            if path.name != "README.md":
                headings = re.findall(r"^##+ (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
                assert [
                    heading for heading in headings if heading in DECISION_HEADINGS
                ] == DECISION_HEADINGS, path


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_module_says_what_it_is_for(path: Path):
    text = path.read_text(encoding="utf-8")
    # An empty __init__.py only makes a folder a package.
    if text.strip() or path.name != "__init__.py":
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring
        assert docstring[0].isupper() or not docstring[0].isalpha()


@pytest.mark.parametrize("name", ["ledger/records.py", "ledger/rules.py"])
def test_validity_is_decided_without_floats(name: str):
    def is_float(node: ast.AST) -> bool:
        match node:
            case ast.Constant(value=float()) | ast.Call(func=ast.Name(id="float")) | ast.BinOp(op=ast.Div()):
                return True
        return False

    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr) and is_float(node)] == []


# --- what went wrong elsewhere, and what a thief would try: a test for each number -----------


def test_each_leak_and_each_field_failure_of_the_ledger_has_a_test_by_its_number():
    """The 26 leaks and field failures 63 to 82; the gateway's own are counted beside its tests."""
    tests = [path for path in FILES if path.name.startswith("test_") and path.suffix == ".py"]
    tests += [path for path in FILES if path.name.endswith(".t.sol")]
    names = re.findall(r"(?:def|function) (test_\w+)", "\n".join(path.read_text("utf-8") for path in tests))
    # One name may stand for two: test_leak_12_and_13_...
    begin = [match[0] for name in names if (match := re.match(r"test_leak_\d\d(_and_\d\d)*", name))]
    leaks = {int(number) for found in begin for number in re.findall(r"\d\d", found)}
    failures = {int(number) for name in names for number in re.findall(r"^test_ff(\d\d)_", name)}
    assert sorted(set(range(1, 27)) - leaks) == []
    assert sorted(set(range(63, 83)) - failures) == []
