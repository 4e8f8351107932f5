"""trust.json and anchors.json: the two files of a bundle that are JSON, read strictly (docs/bundle.md)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ledger.proof import COSIGNATURE, ED25519, ML_DSA_44, Verifier, parse_vkey
from ledger.records import reject

NUMBER = re.compile(r"0|[1-9][0-9]{0,77}")
_MOST_NUMBER = 2**63


@dataclass(frozen=True)
class Trust:
    """Whom to believe, and which contracts count."""

    origin: str
    verifiers: tuple[Verifier, ...]
    ledger: bytes
    chain_id: int
    contracts: dict[str, bytes]

    def of_log(self, key_type: int) -> list[Verifier]:
        """The log's own keys of a type."""
        return [v for v in self.verifiers if v.name == self.origin and v.key_type == key_type]

    def watchers(self) -> list[Verifier]:
        """The keys that cosign."""
        return [v for v in self.verifiers if v.name != self.origin and v.key_type in {COSIGNATURE, ML_DSA_44}]


@dataclass(frozen=True)
class Anchor:
    """A head that a chain holds, as anchors.json states it."""

    chain_id: int
    contract: bytes
    size: int
    root: bytes
    transaction: bytes
    block: int
    block_hash: bytes
    time: int


# --- JSON from outside ---------------------------------------------------------


def parse_json(rule: str, where: str, data: bytes) -> Any:
    """Read JSON without floats or repeated members, or refuse it."""

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in members}) != len(members):
            raise ValueError("a member stands twice")
        return dict(members)

    def no_float(text: str) -> Any:
        raise ValueError(f"{text} is not an integer")

    try:
        return json.loads(
            data.decode(), object_pairs_hook=pairs, parse_float=no_float, parse_constant=no_float
        )
    except (ValueError, RecursionError) as error:
        reject(rule, where, f"is not the JSON it must be: {error}")


def _member(rule: str, where: str, thing: Any, name: str) -> str:
    value = thing.get(name) if isinstance(thing, dict) else None
    if not isinstance(value, str):
        reject(rule, where, f"{name} is not text")
    return value


def number(rule: str, where: str, thing: Any, name: str, below: int = _MOST_NUMBER) -> int:
    """A member that is a decimal number written as text."""
    text = _member(rule, where, thing, name)
    if not NUMBER.fullmatch(text) or int(text) >= below:
        reject(rule, where, f"{name} is {text[:80]!r}, not a decimal number below {below}")
    return int(text)


def hexadecimal(rule: str, where: str, thing: Any, name: str, length: int) -> bytes:
    """A member that is 0x and lower-case hex of this many bytes."""
    text = _member(rule, where, thing, name)
    if not re.fullmatch(rf"0x[0-9a-f]{{{2 * length}}}", text):
        reject(rule, where, f"{name} is {text[:80]!r}, not 0x and {length} bytes")
    return bytes.fromhex(text[2:])


def parse_trust(data: bytes, where: str = "trust.json") -> Trust:
    """Read whom to believe (D1, X6 to X8)."""
    thing = parse_json("D1", where, data)
    origin = _member("D1", where, thing, "origin")
    vkeys, contracts = thing.get("vkeys"), thing.get("contracts")
    if not isinstance(vkeys, list) or not all(isinstance(vkey, str) for vkey in vkeys):
        reject("D1", where, "vkeys is not a list of text")
    if not isinstance(contracts, dict):
        reject("D1", where, "contracts is not an object")
    verifiers = tuple(parse_vkey(vkey) for vkey in vkeys)
    trust = Trust(
        origin,
        verifiers,
        hexadecimal("D1", where, thing, "ledger", 32),
        number("D1", where, thing, "chainId", 2**256),
        {name: hexadecimal("D1", where, contracts, name, 20) for name in contracts},
    )
    if len({verifier.key for verifier in verifiers}) != len(verifiers):
        reject("X8", where, f"{len(verifiers)} keys, of which two share name and id")
    if not trust.of_log(ED25519) or not trust.of_log(ML_DSA_44):
        reject("D6", where, f"of {origin} there are not both an Ed25519 and an ML-DSA-44 key")
    return trust


def parse_anchors(data: bytes) -> list[Anchor]:
    """Read the heads that chains hold (L1)."""
    things = parse_json("L1", "anchors.json", data)
    if not isinstance(things, list):
        reject("L1", "anchors.json", "is not a list")
    anchors = []
    for place, thing in enumerate(things):
        where = f"anchors.json entry {place}"
        anchors.append(
            Anchor(
                number("L1", where, thing, "chainId", 2**256),
                hexadecimal("L1", where, thing, "contract", 20),
                number("L1", where, thing, "size"),
                hexadecimal("L1", where, thing, "root", 32),
                hexadecimal("L1", where, thing, "transaction", 32),
                number("L1", where, thing, "block"),
                hexadecimal("L1", where, thing, "blockHash", 32),
                number("L1", where, thing, "time"),
            )
        )
    return anchors
