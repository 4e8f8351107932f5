"""An address as people read it: in the mixed case that shows a slip of the pen (EIP-55)."""

from __future__ import annotations

from ledger.records import keccak256


def checksummed(address: bytes) -> str:
    """20 bytes as 0x and 40 digits, whose letters are capital where the hash of the small ones says so."""
    text = address.hex()
    digest = keccak256(text.encode()).hex()
    return "0x" + "".join(
        c.upper() if int(nibble, 16) >= 8 else c for c, nibble in zip(text, digest, strict=False)
    )


def checksummed_text(address: str) -> str:
    """The same of an address that is written as 0x and digits in any case."""
    return checksummed(bytes.fromhex(address.removeprefix("0x")))
