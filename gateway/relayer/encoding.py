"""Calls of the router as bytes, without a node."""

from __future__ import annotations

from functools import cache
from typing import Any

from eth_abi.abi import encode

from contracts.transactions import load_artifact
from ledger.records import keccak256


def router_call(function: str, *arguments: object) -> bytes:
    """The data of a call of one of PaymentRouter's functions."""
    selector, types = _function(function)
    return selector + encode(types, arguments)


@cache
def _function(name: str) -> tuple[bytes, list[str]]:
    abi = load_artifact("PaymentRouter")["abi"]
    entry = next(one for one in abi if (one["type"], one.get("name")) == ("function", name))
    types = [_type(member) for member in entry["inputs"]]
    return keccak256(f"{name}({','.join(types)})".encode())[:4], types


def _type(member: dict[str, Any]) -> str:
    """A type in its canonical form: a struct is a tuple of its members' types."""
    kind: str = member["type"]
    if not kind.startswith("tuple"):
        return kind
    members = ",".join(_type(inner) for inner in member["components"])
    return f"({members}){kind.removeprefix('tuple')}"


def approve_call(spender: bytes, amount: int) -> bytes:
    """The data of an ERC-20 token's approve: exactly this amount, in base units."""
    return keccak256(b"approve(address,uint256)")[:4] + encode(
        ["address", "uint256"], ["0x" + spender.hex(), amount]
    )
