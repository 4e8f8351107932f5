"""The two files of a bundle that are JSON, trust.json and anchors.json, read strictly (docs/bundle.md)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.audit.witnesses import Quorum, check_quorum
from ledger.proof import COSIGNATURE, ED25519, ML_DSA_44, Verifier, format_vkey, parse_vkey
from ledger.records import reject

NUMBER = re.compile(r"0|[1-9][0-9]{0,77}")
_MOST_NUMBER = 2**63
# No JSON that is read here is as deep; a chain's answers have some six levels.
_MOST_DEPTH = 64
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True)
class Trust:
    """Whom to believe, and which contracts count."""

    origin: str
    verifiers: tuple[Verifier, ...]
    ledger: bytes
    chain_id: int
    contracts: dict[str, bytes]
    # How many of whom must have cosigned what is published; None where nothing is said of it.
    quorum: Quorum | None = None

    def of_log(self, key_type: int) -> list[Verifier]:
        """The log's own keys of a type."""
        return [v for v in self.verifiers if v.name == self.origin and v.key_type == key_type]

    def watchers(self) -> list[Verifier]:
        """The keys that cosign."""
        return [v for v in self.verifiers if v.name != self.origin and v.key_type in {COSIGNATURE, ML_DSA_44}]

    def named(self, key: str) -> list[Verifier]:
        """The keys that a KeyChange record means by a name."""
        types = {"log-ed25519": ED25519, "log-ml-dsa-44": ML_DSA_44}
        return self.of_log(types[key]) if key in types else self.watchers()


class Anchor(NamedTuple):
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


def vkey_hash(verifier: Verifier) -> bytes:
    """By what a KeyChange record names a key."""
    return sha256(format_vkey(verifier).encode()).digest()


def check_depth(rule: str, where: str, data: bytes, most: int = _MOST_DEPTH) -> None:
    """Refuse JSON that is nested deeper than what is read here.

    Before it is parsed: the parser recurses, and where a program has raised Python's limit of
    recursion it does so until the stack ends and the process with it.
    """
    # Where nothing is escaped, every second part between quotes is text.
    outside = _TEXT.sub(b"", data) if b"\\" in data else b"".join(data.split(b'"')[::2])
    # Each round takes the innermost pairs away: a level a round.
    brackets = outside.translate(None, delete=_NO_BRACKET)
    for _ in range(most):
        if not brackets:
            return
        fewer = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    if brackets:
        reject(rule, where, f"its brackets do not match, or stand more than {most} deep")


def parse_json(rule: str, where: str, data: bytes) -> Any:
    """Read JSON without floats or repeated members, or refuse it."""

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(members)
        if len(made) != len(members):
            raise ValueError("a member stands twice")
        return made

    def no_float(text: str) -> Any:
        raise ValueError(f"{text} is not an integer")

    check_depth(rule, where, data)
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
    if "witnesses" in thing:
        trust = replace(trust, quorum=_parse_witnesses(where, thing["witnesses"], trust))
    if not trust.of_log(ED25519) or not trust.of_log(ML_DSA_44):
        reject("D6", where, f"of {origin} there are not both an Ed25519 and an ML-DSA-44 key")
    return trust


def _parse_witnesses(where: str, thing: Any, trust: Trust) -> Quorum:
    """{"needed": "2", "names": [...]}: witnesses by the names of their keys, which stand in vkeys (D1)."""
    needed = number("D1", f"{where} witnesses", thing, "needed")
    names = thing.get("names")
    known = {verifier.name for verifier in trust.watchers()}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        reject("D1", f"{where} witnesses", "names is not a list of text")
    if len(set(names)) != len(names) or not known.issuperset(names):
        strange = [name for name in names if name not in known] or names
        why = f"{len(names)} names, each once and of a key in vkeys that cosigns: {', '.join(strange)[:200]}"
        reject("D1", f"{where} witnesses", why)
    verifiers = tuple(verifier for verifier in trust.watchers() if verifier.name in names)
    own = {verifier.public_key for verifier in trust.verifiers if verifier.name == trust.origin}
    for verifier in verifiers:
        if verifier.public_key in own:
            reject("D1", f"{where} witnesses", f"{verifier.name} has a key of {trust.origin} itself")
    return check_quorum(f"{where} witnesses", where, needed, verifiers)


_ANCHOR_MEMBERS = ("chainId", "contract", "size", "root", "transaction", "block", "blockHash", "time")
_anchor_values = itemgetter(*_ANCHOR_MEMBERS)
_SMALL, _WORD = "(0|[1-9][0-9]{0,17})", "0x([0-9a-f]{64})"
# Every member at once, for the many that are as they must be; what is not is read again member by member.
_ANCHOR = re.compile(
    f"{_SMALL}\n0x([0-9a-f]{{40}})\n{_SMALL}\n{_WORD}\n{_WORD}\n{_SMALL}\n{_WORD}\n{_SMALL}", re.ASCII
)


def parse_anchors(data: bytes) -> list[Anchor]:
    """Read the heads that chains hold (T1)."""
    things = parse_json("T1", "anchors.json", data)
    if not isinstance(things, list):
        reject("T1", "anchors.json", "is not a list")
    anchors = []
    for place, thing in enumerate(things):
        try:
            match = _ANCHOR.fullmatch("\n".join(_anchor_values(thing)))
        except (TypeError, KeyError, IndexError):
            match = None
        if match is None:
            anchors.append(_parse_anchor(f"anchors.json entry {place}", thing))
            continue
        chain, contract, size, root, transaction, block, block_hash, time = match.groups()
        home, head = bytes.fromhex(contract), bytes.fromhex(root)
        sent, held = bytes.fromhex(transaction), bytes.fromhex(block_hash)
        anchors.append(Anchor(int(chain), home, int(size), head, sent, int(block), held, int(time)))
    return anchors


def _parse_anchor(where: str, thing: Any) -> Anchor:
    return Anchor(
        number("T1", where, thing, "chainId", 2**256),
        hexadecimal("T1", where, thing, "contract", 20),
        number("T1", where, thing, "size"),
        hexadecimal("T1", where, thing, "root", 32),
        hexadecimal("T1", where, thing, "transaction", 32),
        number("T1", where, thing, "block"),
        hexadecimal("T1", where, thing, "blockHash", 32),
        number("T1", where, thing, "time"),
    )
