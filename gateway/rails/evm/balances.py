"""Balances of the chain's coin at many addresses with one question (the coin leaves no log)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.rails.evm.blocks import MALFORMED
from gateway.rails.evm.rpc import Node, Refused, data, quantity, to_hex
from ledger.records import WORD, Unavailable

# What a creation returns would be code, of which a chain takes 24,576 bytes at most (EIP-170).
AT_ONCE = 700
ADDRESS_BYTES = 20


def balance_code(addresses: Sequence[bytes]) -> bytes:
    """Creation code that is only ever called: it returns the balance of each address that follows it.

    For i below n: CODECOPY the i-th address behind 12 zero bytes at memory 0; BALANCE; MSTORE at 64 + 32 i.
    """
    count = len(addresses).to_bytes(2, "big")
    length = (0x3F).to_bytes(2, "big")
    code = (
        b"\x60\x00"  # i = 0
        b"\x5b"  # loop, at 2
        b"\x80\x61" + count + b"\x14\x61\x00\x38\x57"  # if i == n go to the end
        # CODECOPY(12, length + 20 i, 20)
        b"\x60\x14\x81\x60\x14\x02\x61" + length + b"\x01\x60\x0c\x39"
        b"\x60\x00\x51\x31"  # BALANCE(MLOAD(0))
        b"\x81\x60\x05\x1b\x60\x40\x01\x52"  # MSTORE(64 + 32 i)
        b"\x60\x01\x01\x61\x00\x02\x56"  # i += 1; back to the loop
    )
    code = code.ljust(0x38, b"\x5b")
    code += b"\x5b\x60\x05\x1b\x60\x40\xf3"  # end, at 0x38: RETURN(64, 32 n)
    assert len(code) == 0x3F
    return code + b"".join(addresses)


def read_balances(node: Node, addresses: Sequence[bytes], block: int) -> list[int]:
    """What these addresses hold at a block, in wei, in their order."""
    found: list[int] = []
    for start in range(0, len(addresses), AT_ONCE):
        found += _read(node, addresses[start : start + AT_ONCE], block)
    return found


def _read(node: Node, addresses: Sequence[bytes], block: int) -> list[int]:
    assert all(len(address) == ADDRESS_BYTES for address in addresses)
    try:
        told = data(
            node.ask("eth_call", {"data": to_hex(balance_code(addresses))}, to_hex(block)),
            WORD * len(addresses),
        )
        return [int.from_bytes(told[at : at + WORD], "big") for at in range(0, len(told), WORD)]
    except (Refused, *MALFORMED):
        # A node that runs no creation in a call is asked for each, in one request.
        return _one_by_one(node, addresses, block)


def _one_by_one(node: Node, addresses: Sequence[bytes], block: int) -> list[int]:
    asked = [("eth_getBalance", (to_hex(address), to_hex(block))) for address in addresses]
    try:
        return [quantity(told) for told in node.ask_all(asked)]
    except MALFORMED as error:
        raise Unavailable(node.name, f"balances at block {block}: {error}"[:300]) from error
