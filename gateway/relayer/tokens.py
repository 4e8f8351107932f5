"""The EIP-712 domain in which payers of a token sign: it is asked, and believed when its hash agrees."""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from gateway.rails.evm import Refused
from gateway.rails.evm.blocks import MALFORMED
from gateway.rails.evm.pool import Pool
from gateway.rails.evm.rpc import data, to_hex
from ledger.records import WORD, Unavailable, address_word, keccak256, reject

_DOMAIN_TYPE_HASH = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
# EIP-5267: which members the domain has, then the members.
_DESCRIBED = ["bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]"]
# Tokens without eip712Domain() nor version(): the two that are in use.
_VERSIONS = ("1", "2")


@dataclass(frozen=True)
class TokenDomain:
    """The four members of the domain in which a token's payers sign. contract: 20 bytes."""

    name: str
    version: str
    chain_id: int
    contract: bytes

    def separator(self) -> bytes:
        """Its hash, as the token's DOMAIN_SEPARATOR() answers it."""
        names = keccak256(self.name.encode()) + keccak256(self.version.encode())
        chain = self.chain_id.to_bytes(WORD, "big")
        return keccak256(_DOMAIN_TYPE_HASH + names + chain + address_word(self.contract))


class Tokens:
    """Asks each token once: it does not change these."""

    def __init__(self, pool: Pool, chain_id: int) -> None:
        self._pool, self._chain_id = pool, chain_id
        self._separators: dict[bytes, bytes] = {}
        self._domains: dict[bytes, TokenDomain | None] = {}

    def separator(self, token: bytes) -> bytes:
        """The hash of a token's domain: 32 bytes; Invalid where it has none."""
        if token not in self._separators:
            try:
                self._separators[token] = data(self._call(token, "DOMAIN_SEPARATOR()"), WORD)
            except Refused:
                reject("gasless", "token", "this token has no EIP-3009")
            except MALFORMED as error:
                raise Unavailable("chain", f"DOMAIN_SEPARATOR: {error}"[:300]) from error
        return self._separators[token]

    def domain(self, token: bytes) -> TokenDomain | None:
        """The domain of a token that takes EIP-3009; None where it takes none or has another kind."""
        if token not in self._domains:
            self._domains[token] = self._found(token)
        return self._domains[token]

    def _found(self, token: bytes) -> TokenDomain | None:
        separator = self._answer(token, "DOMAIN_SEPARATOR()")
        # EIP-3009 has this view; a token with EIP-2612 alone has a domain too.
        state = self._answer(token, "authorizationState(address,bytes32)", bytes(2 * WORD))
        if len(separator) != WORD or len(state) != WORD:
            return None
        fitting = (one for one in self._candidates(token) if one.separator() == separator)
        return next(fitting, None)

    def _candidates(self, token: bytes) -> list[TokenDomain]:
        try:
            told = decode(_DESCRIBED, self._answer(token, "eip712Domain()"))
            return [TokenDomain(told[1], told[2], self._chain_id, token)]
        except (DecodingError, OverflowError, UnicodeDecodeError):
            name, version = self._text(token, "name()"), self._text(token, "version()")
        versions = _VERSIONS if version is None else (version,)
        return [] if name is None else [TokenDomain(name, one, self._chain_id, token) for one in versions]

    def _text(self, token: bytes, function: str) -> str | None:
        try:
            found: str = decode(["string"], self._answer(token, function))[0]
        except (DecodingError, OverflowError, UnicodeDecodeError):
            return None
        return found

    def _answer(self, token: bytes, function: str, arguments: bytes = b"") -> bytes:
        """What a view answers; empty where there is none."""
        try:
            return data(self._call(token, function, arguments))
        except Refused:
            return b""
        except MALFORMED as error:
            raise Unavailable("chain", f"{function}: {error}"[:300]) from error

    def _call(self, token: bytes, function: str, arguments: bytes = b"") -> object:
        asked = {"to": to_hex(token), "data": to_hex(keccak256(function.encode())[:4] + arguments)}
        return self._pool.ask("eth_call", asked, "latest")


__all__ = ["TokenDomain", "Tokens"]
