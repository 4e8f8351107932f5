"""What the documents name is there: links, commands, targets, folders, settings, steps, metrics."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from gateway.cli import app
from gateway.settings import Settings
from tests.servers import ROOT

README = (ROOT / "README.md").read_text("utf-8")
OPERATOR = (ROOT / "docs" / "operator.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_link_of_a_document_leads_somewhere():
    dead = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in DOCUMENTS
        for link in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8"))
        if not link.startswith("http") and not (path.parent / link).exists()
    ]
    assert dead == []


def test_every_file_that_the_readme_names_is_there():
    rows = re.findall(r"^\| (`[^|]+) \|", README, re.MULTILINE)
    named = []
    for row in rows:
        folder = ""
        for name in re.findall(r"`([^`]+)`", row):
            # After the first of a row, others stand beside it.
            there = name if (ROOT / name).exists() else folder + name
            named.append(there)
            folder = there.rstrip("/").rpartition("/")[0] + "/"
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_command_of_a_document_is_one():
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        assert set(re.findall(r"(?:bin/|`)qazyna ([a-z]+)", text)) <= commands, path
        assert set(re.findall(r"^ *(?:`?)make ([a-z-]+)", text, re.MULTILINE)) <= targets, path


def test_every_setting_stands_in_the_operators_document_and_none_that_is_not_there():
    table = OPERATOR[OPERATOR.index("## Settings") : OPERATOR.index("`rates.json` names")]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    # Keys are no settings: gateway/keyring.py takes each by its name, from the environment or a file.
    assert {name for name in told if not name.startswith("KEY_")} == {
        name.upper() for name in Settings.model_fields
    }
    assert "QAZYNA_KEY_" in (ROOT / "gateway" / "keyring.py").read_text()


def test_every_metric_that_an_operator_is_to_watch_is_served():
    table = OPERATOR[OPERATOR.index("| metric (`qazyna_...`)") : OPERATOR.index("## What to do when")]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    told = {name.partition("{")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}
    sources = "".join(path.read_text() for path in Path(ROOT, "gateway").rglob("*.py"))
    missing = sorted(name for name in told if not re.search(rf'"(?:qazyna_)?{name}"', sources))
    assert len(told) > 15
    assert missing == []
