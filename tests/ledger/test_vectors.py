"""Each rule has vectors that break it, each refusal has one that needs it, and refusing changes nothing."""

from __future__ import annotations

import ast
import copy
import functools
import json
import types
from pathlib import Path
from typing import Any

import pytest

from ledger import rules
from ledger.records import Invalid, as_json, decode
from tests.vectors import make

PATHS = sorted(make.FOLDER.glob("*.json"))
SOURCE = Path(rules.__file__).read_text(encoding="utf-8")


@functools.cache
def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@functools.cache
def _state(name: str, take: int) -> rules.State:
    state = rules.State()
    for entry in load(make.FOLDER / "logs" / f"{name}.json")[:take]:
        rules.apply(state, bytes.fromhex(entry["hex"]))
    return state


def run(state: rules.State, vector: Any, records: list[str], module: types.ModuleType = rules) -> None:
    """Take records as a vector says: all are accepted but those that it names as breaches."""
    for data in map(bytes.fromhex, records):
        if state.size in vector.get("breaches", ()):
            assert module.take(state, data) is not None
        else:
            module.apply(state, data)


def state_before(vector: Any) -> rules.State:
    """A state of its own, after the records that the vector takes from its shared log."""
    return copy.deepcopy(_state(vector["base"], vector["take"]))


def test_the_files_are_what_the_city_makes() -> None:
    committed = {
        path.relative_to(make.FOLDER).as_posix(): path.read_text(encoding="utf-8")
        for path in make.FOLDER.rglob("*.json")
    }
    made = make.files()
    assert sorted(committed) == sorted(made)
    assert [path for path in made if committed[path] != made[path]] == []


def test_every_rule_has_a_vector_and_every_vector_a_rule() -> None:
    assert {load(path)["breaks"] for path in PATHS} == set(rules.RULES)
    assert [path.name for path in PATHS if not path.name.startswith(load(path)["breaks"] + "-")] == []


def test_the_vectors_are_small_enough_to_read_whole() -> None:
    sizes = [path.stat().st_size for path in make.FOLDER.rglob("*.json")]
    assert max(sizes) < 300_000
    assert sum(sizes) < 2_200_000


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_record_is_refused_and_the_state_stays(path: Path) -> None:
    vector, state = load(path), state_before(load(path))
    records: list[str] = [*vector["after"], *vector["records"]]
    run(state, vector, records[:-1])
    kept = copy.deepcopy(state)
    with pytest.raises(Invalid) as refused:
        rules.apply(state, bytes.fromhex(records[-1]))
    assert (refused.value.rule, refused.value.where) == (vector["breaks"], vector["at"])
    assert [part for part in vector["why_contains"] if part not in refused.value.why] == []
    assert state == kept


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_twin_is_accepted(path: Path) -> None:
    vector, state = load(path), state_before(load(path))
    run(state, vector, [*vector["after"], *vector["twin"]])
    assert state.size == vector["take"] + len(vector["after"]) + len(vector["twin"])
    assert vector["twin"][-1] != vector["records"][-1] or vector["twin"] != vector["records"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_a_reader_is_shown_is_what_the_bytes_say(path: Path) -> None:
    vector = load(path)
    assert as_json(decode(bytes.fromhex(vector["twin"][-1]))) == vector["reads"]["twin"]
    if vector["reads"]["refused"] is None:
        assert vector["breaks"][0] == "E"
    else:
        assert as_json(decode(bytes.fromhex(vector["records"][-1]))) == vector["reads"]["refused"]


# --- a check that is taken out is missed ----------------------------------------


def _refusals() -> list[tuple[int, str]]:
    """Line and rule of every reject() in rules.py whose rule is written out.

    Not those of load(), which reads no records: tests/ledger/test_rules.py breaks them.
    """
    parts = [part for part in ast.parse(SOURCE).body if getattr(part, "name", "") != "load"]
    return sorted(
        (node.lineno, node.args[0].value)
        for part in parts
        for node in ast.walk(part)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "reject"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    )


class _TakeOut(ast.NodeTransformer):
    """The module without the reject() on one line."""

    def __init__(self, line: int) -> None:
        self.line = line

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        call = node.value
        taken = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "reject"
        return ast.copy_location(ast.Pass(), node) if taken and node.lineno == self.line else node


def _without(line: int) -> types.ModuleType:
    module = types.ModuleType("ledger.rules_without_a_check")
    # dataclasses looks its module up by name while it is made.
    module.__dict__["__name__"] = rules.__name__
    tree = ast.fix_missing_locations(_TakeOut(line).visit(ast.parse(SOURCE)))
    exec(compile(tree, rules.__file__, "exec"), module.__dict__)  # noqa: S102 - our own file, less one check
    return module


def _is_refused_as_it_should(module: types.ModuleType, vector: Any) -> bool:
    state = state_before(vector)
    try:
        run(state, vector, [*vector["after"], *vector["records"]], module)
    except Invalid as refused:
        return bool(refused.rule == vector["breaks"])
    except Exception:
        return False
    return False


@pytest.mark.parametrize(("line", "rule"), _refusals())
def test_a_vector_misses_each_refusal_that_is_taken_out(line: int, rule: str) -> None:
    module = _without(line)
    mine = [load(path) for path in PATHS if load(path)["breaks"] == rule]
    assert not all(_is_refused_as_it_should(module, vector) for vector in mine), (
        f"no vector needs line {line}"
    )
