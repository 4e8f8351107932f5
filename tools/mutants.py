"""Every small change of the contracts that is tried, all compiled at once.

A build of its own has each change in it, switched off: change 17 is made while `block.coinbase` is address
17, which no contract here reads. So hundreds of mutants cost one compilation, and a run of the tests for
each.

Changed are: each condition (never, and always unless it refuses), each side of && and ||, each comparison
(`<` as `<=`, `==` as `!=`), each sum, difference, product, quotient and shift, each statement that writes,
calls or emits (left out), and in assembly each word that is computed, and each that is written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Node = dict[str, Any]

ORDERED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
OTHERS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "%": "*",
    "<<": ">>",
    ">>": "<<",
    "&": "|",
    "|": "&",
    "^": "&",
}
ASSIGNING = {"+=": "adds", "-=": "subtracts", "|=": "sets"}
YUL_WORDS = frozenset({"add", "sub", "and", "or", "xor", "eq", "iszero", "shl", "shr"})
SWITCH = "Mutated.sol"


@dataclass(frozen=True)
class Mutant:
    """One change. Its name says where and what, and stays the same when other lines move."""

    number: int
    name: str


@dataclass
class Changes:
    """What is put between the characters of one file so that each of its mutants can be switched on."""

    file: str
    source: bytes
    first: int
    mutants: list[Mutant] = field(default_factory=list)
    # Where, how deep, and what: of two at one place the outer one's prefix comes first and its suffix last.
    _put: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    _cut: list[tuple[int, int]] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)
    functions: set[str] = field(default_factory=set)

    def text(self, node: Node) -> str:
        """The source of a node in one line."""
        start, length, _ = map(int, node["src"].split(":"))
        return " ".join(self.source[start : start + length].decode().split())

    def add(self, where: str, node: Node, what: str) -> int:
        """Name one more mutant; returns its number."""
        shown = self.text(node)
        name = f"{self.file}.{where}: {shown if len(shown) <= 90 else shown[:87] + '...'} -> {what}"
        self._seen[name] += 1
        if self._seen[name] > 1:
            name = f"{name} (#{self._seen[name]})"
        number = self.first + len(self.mutants)
        self.mutants.append(Mutant(number, name))
        return number

    def wrap(self, node: Node, depth: int, before: str, after: str) -> None:
        """Put something before and after a node."""
        start, length, _ = map(int, node["src"].split(":"))
        self._put.append((start, 1, depth, before.encode()))
        self._put.append((start + length, 0, -depth, after.encode()))

    def statement(self, node: Node, depth: int, before: str) -> None:
        """Put a condition before a statement, and braces around it and its semicolon."""
        start, length, _ = map(int, node["src"].split(":"))
        end = self.source.index(b";", start + length - 1) + 1
        self._put.append((start, 1, depth, f"{{ {before} ".encode()))
        self._put.append((end, 0, -depth, b" }"))

    def between(self, left: Node, right: Node, text: str) -> None:
        """Put a text in the place of an operator."""
        start, length, _ = map(int, left["src"].split(":"))
        self._cut.append((start + length, int(right["src"].split(":")[0])))
        self._put.append((start + length, 2, 0, text.encode()))

    def written(self) -> str:
        """The file with all of its mutants; without `pure`, since the block says which of them is on."""
        cut = {at for start, end in self._cut for at in range(start, end)}
        put: dict[int, list[tuple[int, int, bytes]]] = {}
        for at, kind, depth, text in self._put:
            put.setdefault(at, []).append((kind, depth, text))
        out = bytearray()
        for at in range(len(self.source) + 1):
            # What ends here, then an operator in its place, then what begins here.
            ending = sorted((each for each in put.get(at, []) if each[0] == 0), key=lambda each: each[1])
            operator = [each for each in put.get(at, []) if each[0] == 2]
            starting = sorted((each for each in put.get(at, []) if each[0] == 1), key=lambda each: each[1])
            for _, _, text in (*ending, *operator, *starting):
                out += text
            if at < len(self.source) and at not in cut:
                out.append(self.source[at])
        written = re.sub(r"\bpure\b", "view", out.decode())
        names = ", ".join(sorted(self.functions))
        imports = f'import {{{names}}} from "./{SWITCH}";\n' if names else ""
        return written.replace("pragma solidity 0.8.37;\n", f"pragma solidity 0.8.37;\n{imports}", 1)


def is_on(number: int) -> str:
    """Whether this mutant is the one that is tried, in Solidity."""
    return f"block.coinbase == address({number})"


def is_off(number: int) -> str:
    """Whether it is not."""
    return f"block.coinbase != address({number})"


def mutate(file: str, source: bytes, tree: Node, first: int) -> Changes:
    """All mutants of a file, numbered from `first` on."""
    changes = Changes(file, source, first)
    for contract in tree["nodes"]:
        if contract["nodeType"] != "ContractDefinition" or contract["contractKind"] == "interface":
            continue
        for function in contract["nodes"]:
            if function["nodeType"] == "FunctionDefinition" and function.get("body"):
                name = function["name"] or function["kind"]
                _walk(changes, name, function["body"], 0, is_unchecked=False)
    return changes


def _children(node: Node) -> Iterator[tuple[str, Node]]:
    for key, value in node.items():
        if key in {"typeDescriptions", "documentation", "AST"}:
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and "nodeType" in each:
                yield key, each


def _walk(changes: Changes, where: str, node: Node, depth: int, *, is_unchecked: bool) -> None:
    kind = node["nodeType"]
    if kind == "InlineAssembly":
        _walk_yul(changes, where, node["AST"], depth)
        return
    is_unchecked = is_unchecked or kind == "UncheckedBlock"
    if kind == "IfStatement":
        _condition(changes, where, node, depth)
    elif kind == "Conditional":
        number = changes.add(where, node["condition"], "the other")
        changes.wrap(node["condition"], depth, "((", f") != ({is_on(number)}))")
    elif kind == "BinaryOperation":
        _operation(changes, where, node, depth, is_unchecked=is_unchecked)
    elif kind == "UnaryOperation" and node["operator"] == "!":
        number = changes.add(where, node, "without !")
        changes.wrap(node, depth, "((", f") != ({is_on(number)}))")
    elif kind in {"ExpressionStatement", "EmitStatement"}:
        number = changes.add(where, node, "left out")
        changes.statement(node, depth, f"if ({is_off(number)})")
    elif kind == "Assignment" and node["operator"] in ASSIGNING:
        number = changes.add(where, node, f"{ASSIGNING[node['operator']]} nothing")
        changes.wrap(node["rightHandSide"], depth, f"({is_on(number)} ? 0 : (", "))")
    for key, child in _children(node):
        # A loop that counts no more, or never ends, says nothing that the comparison in it does not.
        if kind == "ForStatement" and key in {"loopExpression", "initializationExpression"}:
            continue
        _walk(changes, where, child, depth + 1, is_unchecked=is_unchecked)


def _condition(changes: Changes, where: str, node: Node, depth: int) -> None:
    condition, body = node["condition"], node["trueBody"]
    inside = body["statements"] if body["nodeType"] == "Block" else [body]
    never = changes.add(where, condition, "never")
    text = f"({is_off(never)}) && ("
    if not (len(inside) == 1 and inside[0]["nodeType"] == "RevertStatement"):
        always = changes.add(where, condition, "always")
        text = f"({is_on(always)}) || (" + text
        changes.wrap(condition, depth, text, "))")
    else:
        changes.wrap(condition, depth, text, ")")


def _operation(changes: Changes, where: str, node: Node, depth: int, *, is_unchecked: bool) -> None:
    operator, left, right = node["operator"], node["leftExpression"], node["rightExpression"]
    if operator in {"&&", "||"}:
        for side, each in (("left", left), ("right", right)):
            if each["nodeType"] == "BinaryOperation" and each["operator"] == operator:
                continue
            number = changes.add(where, node, f"without the {side} of {operator}")
            before = f"({is_on(number)} || (" if operator == "&&" else f"({is_off(number)} && ("
            changes.wrap(each, depth, before, "))")
    elif operator in {"==", "!="}:
        number = changes.add(where, node, "==" if operator == "!=" else "!=")
        changes.wrap(node, depth, "((", f") != ({is_on(number)}))")
    else:
        described = node["commonType" if operator in ORDERED else "typeDescriptions"]["typeString"]
        if described.startswith("int_const"):
            return
        other = ORDERED.get(operator) or OTHERS[operator]
        function = name_of(operator, described, is_unchecked=is_unchecked)
        number = changes.add(where, node, other)
        changes.functions.add(function)
        changes.wrap(node, depth, f"{function}(", f", {number})")
        changes.between(left, right, ", ")


NAMES = {"<": "less", "<=": "atMost", ">": "more", ">=": "atLeast", "+": "plus", "-": "minus", "*": "times",
         "/": "over", "%": "modulo", "<<": "left", ">>": "right", "&": "both", "|": "either",
         "^": "differ"}  # fmt: skip


def name_of(operator: str, described: str, *, is_unchecked: bool) -> str:
    """The function that stands for an operator on values of a type."""
    return f"_{NAMES[operator]}_{described.replace(' ', '_')}{'_unchecked' if is_unchecked else ''}"


def switches(functions: set[str]) -> str:
    """The file of functions that stand for operators."""
    lines = ["// SPDX-License-Identifier: Apache-2.0", "pragma solidity 0.8.37;", ""]
    operators = {name: operator for operator, name in NAMES.items()}
    for function in sorted(functions):
        _, name, described = function.removesuffix("_unchecked").split("_", 2)
        operator = operators[name]
        other = ORDERED.get(operator) or OTHERS[operator]
        second = "uint256" if operator in {"<<", ">>"} else described
        returned = "bool" if operator in ORDERED else described
        body = f"return block.coinbase == address(uint160(n)) ? a {other} b : a {operator} b;"
        if function.endswith("_unchecked"):
            body = f"unchecked {{ {body} }}"
        parameters = f"{described} a, {second} b, uint256 n"
        lines.append(f"function {function}({parameters}) view returns ({returned}) {{ {body} }}")
    return "\n".join(lines) + "\n"


def _walk_yul(changes: Changes, where: str, node: Node, depth: int) -> None:
    kind = node["nodeType"]
    if kind == "YulAssignment" or (kind == "YulExpressionStatement" and depth):
        number = changes.add(where, node, "left out")
        changes.wrap(node, depth, f"if xor(coinbase(), {number}) {{ ", " }")
    elif kind == "YulFunctionCall" and node["functionName"]["name"] in YUL_WORDS:
        number = changes.add(where, node, "another lowest bit")
        changes.wrap(node, depth, "xor(", f", eq(coinbase(), {number}))")
    for key, value in node.items():
        if key == "functionName":
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and "nodeType" in each:
                _walk_yul(changes, where, each, depth + 1)
