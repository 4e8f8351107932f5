"""EIP-712 typed data and records as JSON, read so that the hashes are computed here and nowhere else.

What a page shows and what a wallet signs can differ (field failure 58). Whoever is to sign takes the typed
data, or the record's bytes, to a second device: this reads them, accepts exactly the types of
ledger.records, and gives the hashes that a wallet shows. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from contracts.resumption import Resumption
from ledger.records import (
    DOMAIN_NAME,
    DOMAIN_VERSION,
    KINDS,
    WORD,
    Account,
    Record,
    approve_digest,
    decode_name,
    domain_separator,
    encode,
    hash_struct,
    keccak256,
    member_name,
    reject,
    withdraw_digest,
)

BY_NAME = {kind.__name__: kind for kind in KINDS}
# What seats sign: the records, and what is shown to an anchor alone.
SIGNED: tuple[type[Record], ...] = (*KINDS, Resumption)
_SIGNED_BY_NAME = {kind.__name__: kind for kind in SIGNED}
DOMAIN_TYPE = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
    ("salt", "bytes32"),
)
APPROVE, WITHDRAW = "Approve", "Withdraw"
WITHDRAW_TYPES = {WITHDRAW: [("approves", "bytes32")]}


@dataclass(frozen=True, slots=True)
class Typed:
    """What a seat is asked to sign.

    record: None where a signature is taken back; approves: the hashStruct of the record that it is about;
    valid_until: the last second of the signature, 0 where it has none; digest: the 32 bytes that are signed.
    """

    record: Record | None
    approves: bytes
    valid_until: int
    chain_id: int
    council: bytes
    ledger: bytes
    domain: bytes
    digest: bytes


def read_typed_data(content: object) -> Typed:
    """Read what eth_signTypedData_v4 takes; Invalid (FF58) for what we would never ask for."""
    told = _mapping(content, "typed data")
    _only(told, "typed data", {"types", "primaryType", "domain", "message"})
    types, message = _mapping(told["types"], "types"), _mapping(told["message"], "message")
    chain_id, council, ledger = _read_domain(_mapping(told["domain"], "domain"))
    domain = domain_separator(chain_id, council, ledger)
    place = chain_id, council, ledger, domain
    if told["primaryType"] == WITHDRAW:
        _only(message, "message", {"approves"})
        _same_types(types, WITHDRAW_TYPES)
        approves = _bytes(message["approves"], WORD, "message.approves")
        return Typed(None, approves, 0, *place, withdraw_digest(domain, approves))
    if told["primaryType"] != APPROVE:
        reject("FF58", "primaryType", f"{told['primaryType']!r} is neither {APPROVE} nor {WITHDRAW}")
    _only(message, "message", {"record", "validUntil"})
    kind = _approved_kind(types)
    _same_types(types, approve_types(kind))
    record = read_record(kind, _mapping(message["record"], "message.record"), "message.record")
    until = _integer(message["validUntil"], 64, "message.validUntil")
    return Typed(record, hash_struct(record), until, *place, approve_digest(domain, record, until))


def typed_data(
    record: Record, valid_until: int, chain_id: int, council: bytes, ledger: bytes
) -> dict[str, Any]:
    """What a wallet is asked to sign for an approval, as eth_signTypedData_v4 takes it."""
    members = {}
    for (name, solidity, _), word in zip(record.members, _words(record), strict=True):
        is_number = solidity.startswith("uint")
        raw = word[12:] if solidity == "address" else word
        members[member_name(name)] = str(int.from_bytes(word, "big")) if is_number else f"0x{raw.hex()}"
    types = {"EIP712Domain": list(DOMAIN_TYPE), **approve_types(type(record))}
    domain = {
        "name": DOMAIN_NAME,
        "version": DOMAIN_VERSION,
        "chainId": str(chain_id),
        "verifyingContract": f"0x{council.hex()}",
        "salt": f"0x{ledger.hex()}",
    }
    return {
        "types": {
            name: [{"name": member, "type": form} for member, form in members_]
            for name, members_ in types.items()
        },
        "primaryType": APPROVE,
        "domain": domain,
        "message": {"record": members, "validUntil": str(valid_until)},
    }


def approve_types(kind: type[Record]) -> dict[str, list[tuple[str, str]]]:
    """The two types of an approval, but for the domain's."""
    members = [(member_name(name), solidity) for name, solidity, _ in kind.members]
    return {APPROVE: [("record", kind.__name__), ("validUntil", "uint64")], kind.__name__: members}


def read_record(kind: type[Record], members: Mapping[str, Any], where: str) -> Record:
    """A record from its members; names as text or as words. encode() refuses what does not fit (E2-E4)."""
    _only(members, where, {member_name(name) for name, _, _ in kind.members})
    values: list[Any] = []
    for name, bits, form, _ in kind.layout:
        value, place = members[member_name(name)], f"{where}.{member_name(name)}"
        match form:
            case "name":
                is_word = isinstance(value, str) and value.startswith("0x") and len(value) == 2 + 2 * WORD
                values.append(decode_name(_bytes(value, WORD, place), place) if is_word else str(value))
            case "hash":
                values.append(_bytes(value, WORD, place))
            case "address":
                values.append(_bytes(value, 20, place))
            case _:
                values.append(_integer(value, bits, place))
    record = kind(*values)
    encode(record)
    return record


def read_record_json(content: object, where: str = "record") -> Record:
    """A record from JSON as `qazyna show` prints it: what it is, then its members."""
    told = dict(_mapping(content, where))
    name = told.pop("record", None)
    if name is None:
        # As it was written before: `kind` said what a record is, and of an Account what account.
        if set(told) == {member_name(name) for name, _, _ in Account.members}:
            return read_record(Account, told, where)
        name = told.pop("kind", "")
    kind = BY_NAME.get(str(name))
    if kind is None:
        reject("E1", f"{where}.record", f"{str(name)[:40]!r} is none of {', '.join(BY_NAME)}")
    return read_record(kind, told, where)


def read_signature(text: str, where: str) -> tuple[bytes, bytes, int, int, bytes, bytes]:
    """Signer, approved hashStruct, last second, v, r and s, from the line that `qazyna sign` prints."""
    try:
        told = _mapping(json.loads(text), where)
    except (ValueError, RecursionError) as error:
        reject("FF58", where, f"its last line is no signature in JSON: {error}")
    _only(told, where, {"signer", "approves", "validUntil", "v", "r", "s"})
    return (
        _bytes(told["signer"], 20, f"{where}: signer"),
        _bytes(told["approves"], WORD, f"{where}: approves"),
        _integer(told["validUntil"], 64, f"{where}: validUntil"),
        _integer(told["v"], 8, f"{where}: v"),
        _bytes(told["r"], WORD, f"{where}: r"),
        _bytes(told["s"], WORD, f"{where}: s"),
    )


def _words(record: Record) -> list[bytes]:
    data = encode(record)
    return [data[at : at + WORD] for at in range(WORD, len(data), WORD)]


def _approved_kind(types: Mapping[str, Any]) -> type[Record]:
    found = [name for name in types if name not in {"EIP712Domain", APPROVE}]
    if len(found) != 1 or found[0] not in _SIGNED_BY_NAME:
        reject(
            "FF58", "types", f"an approval is of one kind of record, this has {', '.join(found) or 'none'}"
        )
    return _SIGNED_BY_NAME[found[0]]


def _same_types(types: Mapping[str, Any], expected: Mapping[str, list[tuple[str, str]]]) -> None:
    """Member for member: a type with one more member would sign something else than is shown."""
    _only(types, "types", {*expected, "EIP712Domain"})
    for name, members in {**expected, "EIP712Domain": list(DOMAIN_TYPE)}.items():
        if not isinstance(types[name], list):
            reject("FF58", f"types.{name}", f"expected a list, this is {type(types[name]).__name__}")
        found = [_mapping(each, f"types.{name}") for each in types[name]]
        if [(each.get("name"), each.get("type")) for each in found] != members:
            shown = ", ".join(f"{each.get('type')} {each.get('name')}" for each in found)
            reject("FF58", f"types.{name}", f"({shown}) is not what {name} has here")


def _read_domain(domain: Mapping[str, Any]) -> tuple[int, bytes, bytes]:
    _only(domain, "domain", {name for name, _ in DOMAIN_TYPE})
    for name, wanted in (("name", DOMAIN_NAME), ("version", DOMAIN_VERSION)):
        if domain[name] != wanted:
            reject("FF58", f"domain.{name}", f"{domain[name]!r} is not {wanted!r}")
    return (
        _integer(domain["chainId"], 256, "domain.chainId"),
        _bytes(domain["verifyingContract"], 20, "domain.verifyingContract"),
        _bytes(domain["salt"], WORD, "domain.salt"),
    )


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        reject("FF58", where, f"expected an object, this is {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def _only(found: Mapping[str, Any], where: str, wanted: set[str]) -> None:
    if set(found) != wanted:
        more, less = sorted(set(found) - wanted), sorted(wanted - set(found))
        reject(
            "FF58",
            where,
            f"has {', '.join(more) or 'nothing'} too many and lacks {', '.join(less) or 'nothing'}",
        )


def _bytes(value: object, length: int, where: str) -> bytes:
    text = value if isinstance(value, str) else ""
    try:
        found = bytes.fromhex(text.removeprefix("0x")) if text.isascii() and " " not in text else b""
    except ValueError:
        found = b""
    if not text.startswith("0x") or len(found) != length:
        reject("E2", where, f"expected 0x and {length} bytes in hex, this is {value!r}")
    return found


def _integer(value: object, bits: int, where: str) -> int:
    """An integer as a number, or as decimal or hex digits; floats and signs are none."""
    if isinstance(value, str) and value.isascii():
        digits = value.removeprefix("0x")
        if digits.isdigit() or (digits != value and digits.isalnum()):
            with suppress(ValueError):
                value = int(value, 16 if digits != value else 10)
    if type(value) is not int or not 0 <= value < 1 << bits:
        reject("E2", where, f"expected an integer from 0 to 2^{bits} - 1, this is {value!r}")
    return value


def message_hash(typed: Typed) -> bytes:
    """The struct hash, which some wallets show beside the domain's."""
    if typed.record is None:
        return keccak256(keccak256(b"Withdraw(bytes32 approves)") + typed.approves)
    words = typed.record.approve_type_hash, typed.approves, typed.valid_until.to_bytes(WORD, "big")
    return keccak256(b"".join(words))
