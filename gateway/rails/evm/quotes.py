"""Quotes and deposit addresses: computed here, without a call to a chain (field failure 52)."""

from __future__ import annotations

import coincurve
from eth_account.signers.local import LocalAccount

from contracts.bindings import City, Quote, Terms, quote_digest
from gateway.rails.evm.place import Place, rail_name


class Quotes:
    """Signs quotes and gives deposit addresses; never asks the chain."""

    def __init__(self, city: City, place: Place, seat: LocalAccount) -> None:
        self.city, self.place = city, place
        # The account's own way to sign takes five times as long, and each invoice waits for it.
        self._key = coincurve.PrivateKey(bytes(seat.key))
        self.rail = rail_name(place.deployment.chain_id)
        self.coin_asset = place.coin_asset

    def deposit_address(self, number: bytes, purpose: str, payee: bytes, share_bps: int) -> bytes:
        """Where money for these terms can be sent."""
        return self.city.deposit_address(Terms(number, purpose, payee, share_bps))

    def sign_quote(
        self,
        number: bytes,
        purpose: str,
        payee: bytes,
        asset: str,
        amount: int,
        share_bps: int,
        until: int,
        nonce: int,
    ) -> bytes:
        """The 65 bytes r, s, v of the gateway's seat over a quote."""
        token = self.place.token(asset)
        quote = Quote(number, purpose, payee, token, amount, share_bps, until, nonce)
        digest = quote_digest(self.place.deployment.domain, quote)
        signed: bytes = self._key.sign_recoverable(digest, hasher=None)
        # The same 65 bytes: deterministic (RFC 6979), low s, and v 27 or 28 where secp256k1 says 0 or 1.
        return signed[:64] + bytes([27 + signed[64]])
