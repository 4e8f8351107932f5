"""The command `qazyna` as people meet it: what it says is whole, and what it cannot do is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import _say
from gateway.sample_payer import pay_sample
from tests.gateway.conftest import Town
from tests.servers import ROOT


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it as a program of its own in a folder, with settings that it finds nowhere else."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("QAZYNA_")}
    command = [sys.executable, "-m", "gateway.cli", *words]
    environment = {**bare, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("words", [("db", "check"), ("worker", "--list"), ("serve", "--mode", "server")])
def test_a_database_that_is_not_there_is_one_line_and_no_traceback(tmp_path: Path, words: tuple[str, ...]):
    answer = run(tmp_path, *words)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].startswith("unavailable: database")
    assert "Traceback" not in answer.stderr


def test_a_city_that_is_not_there_is_refused_by_name(tmp_path: Path):
    answer = run(tmp_path, "pay", "an-invoice")
    assert (answer.returncode, "make one with `qazyna demo`" in answer.stderr) == (1, True)


def test_an_address_is_never_broken_over_two_lines(capsys: pytest.CaptureFixture[str]):
    where = "http://127.0.0.1:8000/" + "a-long-way/" * 20
    _say("its log", where)
    assert capsys.readouterr().out == f"its log: {where}\n"


@pytest.mark.parametrize(
    "typed", ["{id}", "http://127.0.0.1:8000/pay/{id}", "http://127.0.0.1:8000/pay/{id}/?lang=kk"]
)
def test_the_sample_payer_is_given_what_people_copy(town: Town, typed: str):
    bill = town.bill()
    said = pay_sample(town.city.folder, typed.format(id=bill.id), "http://127.0.0.1:1")
    assert said.startswith(f"the bank's camt.054 of {bill.due_minor} tiyn is in ")
    assert list((town.city.folder / "bank").glob("*.xml"))
