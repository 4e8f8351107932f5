"""What counts on one chain: the allow-list of contracts and tokens, and from when until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from contracts.bindings import COIN, Deployment

FOREVER_S = 1 << 62
# As exchanges and wallets list them (registry of EIP-155 numbers, 2026-11); all others have a number alone.
CHAIN_NAMES: Final = {
    1: "Ethereum",
    10: "OP Mainnet",
    56: "BNB Smart Chain",
    100: "Gnosis",
    137: "Polygon",
    8_453: "Base",
    42_161: "Arbitrum One",
    43_114: "Avalanche C-Chain",
    59_144: "Linea",
    11_155_111: "Sepolia (test)",
}


def rail_name(chain_id: int) -> str:
    """Under which name the cursor of a chain is kept."""
    return f"evm-{chain_id}"


def chain_named(chain_id: int) -> str:
    """A chain for people: an exchange asks for its name, a wallet for its number."""
    name = CHAIN_NAMES.get(chain_id)
    return str(chain_id) if name is None else f"{name}, {chain_id}"


@dataclass(frozen=True)
class Term:
    """From when on a token counts, and the first second at which it does not any more."""

    from_s: int = 0
    until_s: int = FOREVER_S

    def holds(self, at_s: int) -> bool:
        """Whether a second lies in the term."""
        return self.from_s <= at_s < self.until_s


ALWAYS = Term()


@dataclass(frozen=True)
class Place:
    """The contracts and tokens that count on one chain (field failure 13).

    tokens: asset name by token address, COIN for the chain's coin; terms: when a token counts with a
    contract, by (contract, token); what is not named counts always.
    """

    deployment: Deployment
    tokens: dict[bytes, str]
    terms: Mapping[tuple[bytes, bytes], Term] = field(default_factory=dict)

    @property
    def rail(self) -> str:
        """The name of the rail."""
        return rail_name(self.deployment.chain_id)

    @property
    def coin_asset(self) -> str | None:
        """The asset that is the chain's coin, where it is taken here."""
        return self.tokens.get(COIN)

    def token(self, asset: str) -> bytes:
        """The token of an asset."""
        return next(token for token, name in self.tokens.items() if name == asset)

    def is_allowed(self, contract: bytes, token: bytes, at_s: int) -> bool:
        """Whether a token that a contract of ours took or takes counts at a second."""
        return token in self.tokens and self.terms.get((contract, token), ALWAYS).holds(at_s)
