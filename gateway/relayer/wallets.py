"""Whether a payer signed: a key by itself, a smart-contract wallet by its own word (ERC-1271, ERC-6492).

What counts in the end is what the token or Permit2 will accept, so that a wallet is asked here what they
ask: Permit2 asks the contract at the payer's address. The router's EIP-3009 door takes v, r and s only, so
that no contract wallet comes in there whatever its token would accept. Neither creates a wallet that is
not there yet.
"""

from __future__ import annotations

from typing import NoReturn

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from gateway.eip55 import checksummed
from gateway.rails.evm import Refused
from gateway.rails.evm.pool import Pool
from gateway.rails.evm.rpc import data, to_hex
from gateway.rails.evm.sight import EvmSight
from gateway.relayer.authorization import SIGNATURE_BYTES, Authorization, Scheme, signer_of
from ledger.records import Unavailable, reject

# What a wallet's own signature may have: a passkey's is near 700 bytes, one of twenty owners 1,300.
SIGNATURE_BYTES_MOST = 4_096
# What a signature ends with that brings its wallet's creation along (ERC-6492).
UNDEPLOYED = bytes.fromhex("6492" * 16)
_WRAPPED = ["address", "bytes", "bytes"]
_INSTEAD = "pay by Permit2, or give the router an allowance and call its pay"


class Wallets:
    """Asks the chain whose word a signature is, where a key alone does not say."""

    def __init__(self, sight: EvmSight, pool: Pool) -> None:
        self._sight, self._pool = sight, pool

    def checked(self, asked: Authorization, digest: bytes) -> bytes:
        """The signature as the chain is to be shown it; Invalid where the payer did not sign.

        No node is asked for what a key signed, nor for what has no length that a signature can have.
        """
        if not SIGNATURE_BYTES <= len(asked.signature) <= SIGNATURE_BYTES_MOST:
            bounds = f"a signature {SIGNATURE_BYTES} to {SIGNATURE_BYTES_MOST}"
            reject("gasless", "signature", f"it has {len(asked.signature)} bytes, {bounds}")
        signer = signer_of(digest, asked.signature) if len(asked.signature) == SIGNATURE_BYTES else None
        if signer == asked.payer:
            return asked.signature
        is_wrapped = asked.signature.endswith(UNDEPLOYED)
        if not self.has_code(asked.payer):
            _refuse_without_code(asked.payer, signer, is_wrapped)
        if asked.scheme is Scheme.EIP3009:
            why = "is a contract, and the router takes EIP-3009 of keys only (v, r, s)"
            reject("gasless", "payer", f"{checksummed(asked.payer)} {why}: {_INSTEAD}")
        own = _unwrapped(asked.signature) if is_wrapped else asked.signature
        if not self._sight.is_signed_by_contract(asked.payer, digest, own):
            reject(
                "gasless",
                "signature",
                f"the wallet {checksummed(asked.payer)} says it is not its own (ERC-1271)",
            )
        return own

    def has_code(self, address: bytes) -> bool:
        """Whether there is code at an address now."""
        try:
            return bool(data(self._pool.ask("eth_getCode", to_hex(address), "latest")))
        except (Refused, ValueError, TypeError) as error:
            raise Unavailable(self._sight.rail, f"eth_getCode: {error}"[:300]) from error


def wrapped(factory: bytes, creation: bytes, signature: bytes) -> bytes:
    """A signature of a wallet that may not exist yet, as ERC-6492 writes it."""
    return encode(_WRAPPED, [to_hex(factory), creation, signature]) + UNDEPLOYED


def _unwrapped(signature: bytes) -> bytes:
    """The wallet's own signature: once it is deployed, what would have created it says nothing more."""
    try:
        own: bytes = decode(_WRAPPED, signature[: -len(UNDEPLOYED)])[2]
    except (DecodingError, OverflowError):
        reject("gasless", "signature", "it ends like ERC-6492 and holds no factory, call and signature")
    return own


def _refuse_without_code(payer: bytes, signer: bytes | None, is_wrapped: bool) -> NoReturn:
    if is_wrapped:
        why = "yet (ERC-6492), and neither the token nor Permit2 creates it: deploy it first"
        reject(
            "gasless", "payer", f"no wallet is at {checksummed(payer)} {why}, or pay to the invoice's address"
        )
    told = "nobody" if signer is None else checksummed(signer)
    reject("gasless", "signature", f"it is of {told}, not of {checksummed(payer)}")


__all__ = ["SIGNATURE_BYTES_MOST", "UNDEPLOYED", "Wallets", "wrapped"]
