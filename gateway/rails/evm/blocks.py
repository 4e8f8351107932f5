"""Blocks as nodes tell them, read strictly."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.rails.evm.rpc import Node, Refused, data, quantity, to_hex
from ledger.records import WORD, Unavailable

# What reading an answer of another shape raises.
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError)


@dataclass(frozen=True, slots=True)
class Block:
    """A block's place, hash and time; base_fee: in wei for each gas, 0 where the chain has none."""

    number: int
    hash: bytes
    time_s: int
    base_fee: int


def read_block(node: Node, which: int | str) -> Block:
    """A block by number or by name; Unavailable where the node has none, or tells another."""
    tag = to_hex(which) if isinstance(which, int) else which
    try:
        # Hashes of its transactions are enough.
        told = node.ask("eth_getBlockByNumber", *(tag, False))
        found = Block(
            quantity(told["number"]),
            data(told["hash"], WORD),
            quantity(told["timestamp"]),
            quantity(told.get("baseFeePerGas") or "0x0"),
        )
        if isinstance(which, int) and found.number != which:
            raise ValueError(f"it tells block {found.number}")
    except (Refused, *MALFORMED) as error:
        why = f"it does not tell block {which}: {type(error).__name__}: {error}"
        raise Unavailable(node.name, why[:300]) from error
    return found
