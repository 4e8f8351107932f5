"""RFC 6962 proofs: public vectors, one refusal for each rule, and field failures 65 and 66."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ledger import proof
from ledger.records import Invalid

PUBLIC = Path(__file__).parents[1] / "vectors" / "public"
MERKLE = PUBLIC / "transparency-dev-merkle" / "testdata"
# Wants success for two equal "roots" of 12 bytes. Refused on purpose: a root has 32 bytes here.
NOT_ROOTS = "sizes-are-equal-one-and-proof-is-empty.json"


def probes(kind: str) -> list[Any]:
    files = [f for f in sorted((MERKLE / kind).rglob("*.json")) if f.name != NOT_ROOTS]
    return [pytest.param(json.loads(f.read_text()), id=str(f.relative_to(MERKLE))) for f in files]


def decoded(probe: dict[str, Any], name: str) -> bytes:
    return b64decode(probe[name] or "")


def leaves(count: int) -> list[bytes]:
    return [proof.leaf_hash(b"entry %d" % number) for number in range(count)]


def rule_of(call: Callable[..., object], *arguments: object, **named: object) -> str:
    with pytest.raises(Invalid) as refusal:
        call(*arguments, **named)
    return refusal.value.rule


@pytest.mark.parametrize("probe", probes("inclusion"))
def test_an_inclusion_probe_gets_the_published_answer(probe: dict[str, Any]) -> None:
    path = [b64decode(value) for value in probe["proof"] or []]
    leaf, root = decoded(probe, "leafHash"), decoded(probe, "root")

    def check() -> None:
        proof.check_inclusion(leaf, probe["leafIdx"], probe["treeSize"], path, root)

    if probe["wantErr"]:
        assert rule_of(check) in proof.RULES
    else:
        check()


@pytest.mark.parametrize("probe", probes("consistency"))
def test_a_consistency_probe_gets_the_published_answer(probe: dict[str, Any]) -> None:
    path = [b64decode(value) for value in probe["proof"] or []]
    old_root, root = decoded(probe, "root1"), decoded(probe, "root2")

    def check() -> None:
        proof.check_consistency(probe["size1"], old_root, probe["size2"], root, path)

    if probe["wantErr"]:
        assert rule_of(check) in proof.RULES
    else:
        check()


def test_there_are_98_probes_of_each_kind_with_the_one_that_we_refuse() -> None:
    assert (len(probes("inclusion")), len(probes("consistency"))) == (98, 97)


def test_the_probe_with_roots_of_12_bytes_is_refused_though_it_wants_success() -> None:
    probe = json.loads((MERKLE / "consistency" / "additional" / NOT_ROOTS).read_text())
    old_root, root = decoded(probe, "root1"), decoded(probe, "root2")
    assert (probe["wantErr"], probe["size1"], probe["size2"], len(root)) == (False, 1, 1, 12)
    assert rule_of(lambda: proof.check_consistency(1, old_root, 1, root, [])) == "X13"


def test_hashes_and_roots_are_those_of_rfc_6962() -> None:
    vector = json.loads((PUBLIC / "embedded" / "rfc6962-hashes.json").read_text())
    assert vector["empty_root"] == proof.root_of([]).hex() == proof.EMPTY_ROOT.hex()
    assert vector["leaf_empty"] == proof.leaf_hash(b"").hex()
    assert vector["leaf"]["hash"] == proof.leaf_hash(vector["leaf"]["data_ascii"].encode()).hex()
    left, right = vector["node"]["left_ascii"].encode(), vector["node"]["right_ascii"].encode()
    assert vector["node"]["hash"] == proof.node_hash(left, right).hex()
    tree = [proof.leaf_hash(bytes.fromhex(entry)) for entry in vector["reference_tree_leaves_hex"]]
    for size, root in enumerate(vector["reference_tree_roots"], 1):
        assert root == proof.root_of(tree[:size]).hex()


def test_every_path_of_every_small_tree_is_accepted_at_its_own_place_only() -> None:
    for size in range(1, 18):
        tree = leaves(size)
        root = proof.root_of(tree)
        for index in range(size):
            path = proof.inclusion_path(index, tree)
            proof.check_inclusion(tree[index], index, size, path, root)
            for other in (i for i in range(size) if i != index):
                rule = rule_of(proof.check_inclusion, tree[index], other, size, path, root)
                assert rule in {"X15", "X16"}
        for old_size in range(1, size + 1):
            path = proof.consistency_path(old_size, tree)
            proof.check_consistency(old_size, proof.root_of(tree[:old_size]), size, root, path)


H = b"\x11" * 32
SEVEN = leaves(7)
ROOT = proof.root_of(SEVEN)
THREE = proof.root_of(SEVEN[:3])
PATH = proof.inclusion_path(2, SEVEN)
GROWTH = proof.consistency_path(3, SEVEN)

REFUSALS: list[tuple[str, Callable[[], object]]] = [
    ("X13", lambda: proof.check_inclusion(SEVEN[2], 2, 7, [H] * 64, ROOT)),
    ("X13", lambda: proof.check_inclusion(SEVEN[2], 2, 7, [*PATH[:-1], PATH[-1][:31]], ROOT)),
    ("X13", lambda: proof.check_inclusion(SEVEN[2][:31], 2, 7, PATH, ROOT)),
    ("X13", lambda: proof.check_inclusion(SEVEN[2], 2, 7, PATH, ROOT + b"\0")),
    ("X13", lambda: proof.check_consistency(3, THREE, 7, ROOT, [H] * 64)),
    ("X13", lambda: proof.check_consistency(3, THREE[:12], 7, ROOT, GROWTH)),
    ("X13", lambda: proof.check_consistency(7, b"", 7, b"", [])),
    ("X14", lambda: proof.check_inclusion(SEVEN[2], 7, 7, PATH, ROOT)),
    ("X14", lambda: proof.check_inclusion(SEVEN[2], -1, 7, PATH, ROOT)),
    ("X14", lambda: proof.check_inclusion(SEVEN[2], 0, 0, [], ROOT)),
    ("X14", lambda: proof.check_inclusion(SEVEN[2], 2, 2**63, PATH, ROOT)),
    ("X15", lambda: proof.check_inclusion(SEVEN[2], 2, 7, [*PATH, H], ROOT)),
    ("X15", lambda: proof.check_inclusion(SEVEN[2], 2, 7, PATH[:-1], ROOT)),
    ("X16", lambda: proof.check_inclusion(SEVEN[3], 2, 7, PATH, ROOT)),
    ("X16", lambda: proof.check_inclusion(SEVEN[2], 2, 7, PATH, H)),
    ("X17", lambda: proof.check_consistency(0, proof.EMPTY_ROOT, 7, ROOT, [])),
    ("X17", lambda: proof.check_consistency(0, proof.EMPTY_ROOT, 0, proof.EMPTY_ROOT, [])),
    ("X17", lambda: proof.check_consistency(7, ROOT, 3, THREE, GROWTH)),
    ("X17", lambda: proof.check_consistency(3, THREE, 2**63, ROOT, GROWTH)),
    ("X18", lambda: proof.check_consistency(7, ROOT, 7, ROOT, [H])),
    ("X18", lambda: proof.check_consistency(7, ROOT, 7, H, [])),
    ("X19", lambda: proof.check_consistency(3, THREE, 7, ROOT, [])),
    ("X19", lambda: proof.check_consistency(3, THREE, 7, ROOT, [*GROWTH, H])),
    ("X19", lambda: proof.check_consistency(3, THREE, 7, ROOT, GROWTH[:-1])),
    ("X20", lambda: proof.check_consistency(3, H, 7, ROOT, GROWTH)),
    ("X21", lambda: proof.check_consistency(3, THREE, 7, H, GROWTH)),
]


@pytest.mark.parametrize(("rule", "call"), REFUSALS)
def test_what_breaks_a_rule_of_proofs_is_refused_by_that_rule(rule: str, call: Callable[[], object]) -> None:
    proof.check_inclusion(SEVEN[2], 2, 7, PATH, ROOT)
    proof.check_consistency(3, THREE, 7, ROOT, GROWTH)
    assert rule_of(call) == rule


def test_ff65_an_entry_that_looks_like_a_node_is_another_leaf() -> None:
    left, right = leaves(2)
    root = proof.root_of([left, right])
    # Without the prefixes the entry left || right would be the whole tree of one leaf.
    for entry in (left + right, b"\x01" + left + right):
        assert rule_of(proof.check_inclusion, proof.leaf_hash(entry), 0, 1, [], root) == "X16"
    # Nor is it enough that leaves have a prefix: a node whose left hash begins with 0 needs its own.
    left = b"\0" + left[1:]
    root = proof.node_hash(left, right)
    assert rule_of(proof.check_inclusion, proof.leaf_hash(left[1:] + right), 0, 1, [], root) == "X16"


def test_ff65_a_node_does_not_pass_for_a_leaf_at_the_signed_size() -> None:
    tree = leaves(4)
    inner = proof.node_hash(tree[0], tree[1])
    path = [proof.node_hash(tree[2], tree[3])]
    # The hashes fit together; only the size says that they are one too few.
    assert rule_of(lambda: proof.check_inclusion(inner, 0, 4, path, proof.root_of(tree))) == "X15"


def test_ff65_a_last_leaf_without_sibling_is_not_counted_twice() -> None:
    tree = leaves(3)
    assert proof.root_of(tree) != proof.root_of([*tree, tree[-1]])
    assert proof.root_of(tree) == proof.node_hash(proof.node_hash(tree[0], tree[1]), tree[2])


@pytest.mark.parametrize("old_size", [1, 2, 3, 4, 5, 6])
def test_ff66_consistency_compares_both_roots(old_size: int) -> None:
    old_root, path = proof.root_of(SEVEN[:old_size]), proof.consistency_path(old_size, SEVEN)
    proof.check_consistency(old_size, old_root, 7, ROOT, path)
    # The root of a power of two starts the proof, so a wrong one shows in the new root.
    power = old_size & (old_size - 1) == 0
    wrong_old = rule_of(lambda: proof.check_consistency(old_size, H, 7, ROOT, path))
    assert wrong_old == ("X21" if power else "X20")
    assert rule_of(lambda: proof.check_consistency(old_size, old_root, 7, H, path)) == "X21"


def test_ff66_a_proof_has_at_most_63_hashes() -> None:
    # 63 hashes are as many as the largest tree needs.
    leaf, root = H, H
    for _ in range(63):
        root = proof.node_hash(root, H)
    proof.check_inclusion(leaf, 0, proof.MAX_SIZE, [H] * 63, root)
    assert rule_of(lambda: proof.check_inclusion(leaf, 0, proof.MAX_SIZE, [H] * 64, root)) == "X13"
    assert rule_of(lambda: proof.check_consistency(1, H, proof.MAX_SIZE, root, [H] * 64)) == "X13"


@pytest.mark.timeout(20)
def test_ff66_every_loop_ends_on_hostile_sizes() -> None:
    numbers = [-1, *range(6), 2**62 - 1, 2**62, 2**62 + 1, 2**63 - 2, 2**63 - 1, 2**63, 2**64]
    for size, index, count in product(numbers, numbers, (0, 1, 2, 3, 61, 62, 63, 64)):
        path = [H] * count
        assert rule_of(proof.check_inclusion, H, index, size, path, ROOT) in proof.RULES
        assert rule_of(proof.check_consistency, index, H, size, ROOT, path) in proof.RULES


@pytest.mark.timeout(20)
def test_ff66_a_hash_beyond_the_root_is_refused_and_not_waited_for() -> None:
    for size in range(1, 9):
        tree = leaves(size)
        root = proof.root_of(tree)
        for index in range(size):
            path = [*proof.inclusion_path(index, tree), H]
            assert rule_of(proof.check_inclusion, tree[index], index, size, path, root) == "X15"
