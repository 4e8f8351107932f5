"""Where CREATE2 puts a contract by the factory that stands at the same place on every chain.

The factory is nobody's: the transaction that makes it was signed without a key (Nick Johnson's method), so
whoever brings it to a chain gets the same code at the same address. It creates, for anybody, what it is given
after a salt of 32 bytes (EIP-1014).
"""

from __future__ import annotations

from typing import Final

from ledger.records import WORD, keccak256

FACTORY: Final = bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")
FACTORY_MAKER: Final = bytes.fromhex("3fab184622dc19b6109349b94811493bf2a45362")
FACTORY_CODE: Final = bytes.fromhex(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0"
    "3601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
)
# 100,000 gas at 100 gwei, without a chain id; the signature's r and s are digits of no key's.
FACTORY_FEE_WEI: Final = 100_000 * 100 * 10**9
FACTORY_TRANSACTION: Final = bytes.fromhex(
    "f8a58085174876e800830186a08080b853604580600e600039806000f350fe"
    + FACTORY_CODE.hex()
    + "1ba0"
    + 32 * "22"
    + "a0"
    + 32 * "22"
)


def create2_address(salt: bytes, init_code: bytes) -> bytes:
    """Where the factory puts what this code makes: nothing else decides it, neither a sender nor a nonce."""
    assert len(salt) == WORD, f"{len(salt)} bytes are no salt"
    return keccak256(b"\xff" + FACTORY + salt + keccak256(init_code))[12:]
