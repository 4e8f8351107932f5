"""The anchor's assembly, the rules' Python and the definition of RFC 9162 agree about every consistency proof."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from eth_abi.abi import encode

from ledger.proof import MAX_SIZE, check_consistency, consistency_path, node_hash, root_of
from ledger.records import Invalid, keccak256
from tests import servers
from tests.city import digest

AT = "0x" + "c0" * 20
MOST_HASHES = 63
ZERO = bytes(32)
# What asks the library, with bytes behind the proof that are not of it.
ASKING = """// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;
import {Proofs} from "Proofs.sol";
contract Asking {
    function ask(uint256 old, bytes32 oldRoot, uint256 size, bytes32 root, bytes32[] calldata proof)
        external view returns (bool)
    {
        return Proofs.isConsistent(old, oldRoot, size, root, proof);
    }
}
"""
SELECTOR = keccak256(b"ask(uint256,bytes32,uint256,bytes32,bytes32[])")[:4]


@dataclass(frozen=True)
class Claim:
    """That one tree begins with another. behind: what stands in the call behind the proof."""

    old: int
    old_root: bytes
    size: int
    root: bytes
    path: tuple[bytes, ...]
    behind: bytes = b""

    def rules_say(self) -> bool:
        """What the rules and every witness say."""
        try:
            check_consistency(self.old, self.old_root, self.size, self.root, self.path)
        except Invalid:
            return False
        # A checkpoint protocol sends no more, and the chain takes no more.
        return len(self.path) <= MOST_HASHES

    def definition_says(self) -> bool:
        """What SUBPROOF of RFC 9162, section 2.1.4.1, makes of it, read from its end."""
        if not 0 < self.old <= self.size <= MAX_SIZE or len(self.path) > MOST_HASHES:
            return False
        path = list(self.path)
        found = roots(self.old, self.size, path, self.old_root)
        return not path and found == (self.old_root, self.root)

    def call(self) -> str:
        """The call of the contract."""
        kinds = ["uint256", "bytes32", "uint256", "bytes32", "bytes32[]"]
        told = encode(kinds, [self.old, self.old_root, self.size, self.root, list(self.path)])
        return "0x" + (SELECTOR + told + self.behind).hex()


def roots(
    old: int, size: int, path: list[bytes], old_root: bytes, *, is_whole: bool = True
) -> tuple[bytes, bytes] | None:
    """Both roots that a proof makes, by the recursion that made it; takes from the end what it uses."""
    if old == size:
        if is_whole:
            return old_root, old_root
        return (path[-1], path.pop()) if path else None
    split = 1 << (size - 1).bit_length() - 1
    if not path:
        return None
    sibling = path.pop()
    if old <= split:
        inner = roots(old, split, path, old_root, is_whole=is_whole)
        return inner and (inner[0], node_hash(inner[1], sibling))
    inner = roots(old - split, size - split, path, old_root, is_whole=False)
    return inner and (node_hash(sibling, inner[0]), node_hash(sibling, inner[1]))


def asked_for(old: int, size: int, *, is_whole: bool = True) -> int:
    """How many hashes two sizes ask for."""
    if old == size:
        return 0 if is_whole else 1
    split = 1 << (size - 1).bit_length() - 1
    if old <= split:
        return 1 + asked_for(old, split, is_whole=is_whole)
    return 1 + asked_for(old - split, size - split, is_whole=False)


def made(draw: random.Random, old: int, size: int) -> Claim:
    """A true claim of any sizes, of hashes that are made up."""
    path = tuple(draw.choice([draw.randbytes(32), ZERO]) for _ in range(asked_for(old, size)))
    old_root = draw.randbytes(32)
    found = roots(old, size, list(path), old_root)
    assert found is not None
    return Claim(old, found[0], size, found[1], path)


def small() -> Iterator[Claim]:
    """All trees of up to 33 leaves, and all their beginnings."""
    leaves = [digest(f"leaf {number}") for number in range(33)]
    for size in range(1, 34):
        for old in range(1, size + 1):
            path = consistency_path(old, leaves[:size])
            yield Claim(old, root_of(leaves[:old]), size, root_of(leaves[:size]), tuple(path))


def large(draw: random.Random) -> Iterator[Claim]:
    """Sizes near powers of two up to the last, and any."""
    edges = [1 << power for power in range(1, 64)]
    near = sorted({size + by for size in edges for by in (-2, -1, 0, 1, 2) if 1 <= size + by <= MAX_SIZE})
    for _ in range(900):
        pair = sorted(
            draw.choice([draw.choice(near), draw.getrandbits(draw.randrange(1, 64)) or 1]) for _ in "ab"
        )
        yield made(draw, *pair)
    yield from (made(draw, 1 << 62, MAX_SIZE), made(draw, 3, MAX_SIZE), made(draw, MAX_SIZE - 1, MAX_SIZE))


def bent(draw: random.Random, claim: Claim) -> Iterator[Claim]:
    """What a thief would try."""
    path, behind = claim.path, claim.path[-1:]
    yield replace(claim, path=(*path, ZERO))
    yield replace(claim, path=(ZERO, *path))
    yield replace(claim, old_root=ZERO)
    yield replace(claim, root=claim.old_root)
    yield replace(claim, old=claim.size, old_root=claim.root, size=claim.old, root=claim.old_root)
    for by in (-1, 1):
        yield replace(claim, size=claim.size + by)
        yield replace(claim, old=claim.old + by)
    for far in (1 << 63, 1 << 64, (1 << 256) - 1):
        yield replace(claim, size=far)
        yield replace(claim, old=far)
    if path:
        at = draw.randrange(len(path))
        yield replace(claim, path=path[:-1])
        # One too few, and what is missing stands right behind it.
        yield replace(claim, path=path[:-1], behind=b"".join(behind))
        yield replace(claim, path=path[1:])
        yield replace(claim, path=(*path[:at], ZERO, *path[at + 1 :]))
        flipped = bytes([path[at][0] ^ 1]) + path[at][1:]
        yield replace(claim, path=(*path[:at], flipped, *path[at + 1 :]))
        yield replace(claim, path=path[::-1])
        yield replace(claim, path=(claim.old_root, *path))
    # Both roots of another proof of the same length.
    other = tuple(draw.randbytes(32) for _ in path)
    found = roots(claim.old, claim.size, list(other), claim.old_root)
    if found is not None:
        yield replace(claim, path=other, root=found[1])
        yield replace(claim, path=other, old_root=found[0], root=found[1])


@pytest.fixture(scope="module")
def code() -> str:
    """The contract as the pinned compiler makes it, with the settings of foundry.toml."""
    library = (servers.ROOT / "contracts" / "src" / "Proofs.sol").read_text(encoding="utf-8")
    asked = {
        "language": "Solidity",
        "sources": {"Asking.sol": {"content": ASKING}, "Proofs.sol": {"content": library}},
        "settings": {
            "evmVersion": "cancun",
            "optimizer": {"enabled": True, "runs": 1_000_000},
            "outputSelection": {"Asking.sol": {"Asking": ["evm.deployedBytecode.object"]}},
        },
    }
    told = json.loads(
        subprocess.run(
            [servers.ROOT / "tools" / "solc", "--standard-json"],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert not [one for one in told.get("errors", []) if one["severity"] == "error"], told
    return "0x" + told["contracts"]["Asking.sol"]["Asking"]["evm"]["deployedBytecode"]["object"]


def test_chain_rules_and_definition_say_the_same_of_every_claim(code: str):
    draw = random.Random(20_260_101)
    said: Counter[tuple[str, bool]] = Counter()
    with servers.anvil() as node:
        node.call("anvil_setCode", AT, code)

        def compare(kind: str, claim: Claim) -> None:
            answer = int(node.call("eth_call", {"to": AT, "data": claim.call()}, "latest"), 16)
            verdicts = (answer, claim.rules_say(), claim.definition_says())
            assert verdicts in ((1, True, True), (0, False, False)), f"{verdicts}: {claim}"
            said[kind, bool(answer)] += 1

        for claim in [*small(), *large(draw)]:
            compare("made", claim)
            for each in draw.sample(list(bent(draw, claim)), 3):
                compare("bent", each)
    # True claims are taken but for those that need a 64th hash; of what is bent nearly none is.
    assert said["made", True] > 1_400
    assert 0 < said["made", False] < 100
    assert said["bent", False] > 3_500
