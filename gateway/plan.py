"""What a start must know of the deployment: written once, when the contracts are deployed, and not secret."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.bindings import Deployment
from contracts.transactions import CONTRACTS
from ledger.records import Invalid, Unavailable, reject

DEFAULT_ASSET = "USDT"


@dataclass(frozen=True)
class Plan:
    """The contracts, the tokens that count, and where residents pay in tenge.

    token: of the first asset; more: other assets' tokens by name.
    """

    deployment: Deployment
    token: bytes
    bank_iban: str
    asset: str = DEFAULT_ASSET
    more: dict[str, bytes] = field(default_factory=dict)

    @property
    def tokens(self) -> dict[bytes, str]:
        """Asset name by token address."""
        return {self.token: self.asset, **{token: asset for asset, token in self.more.items()}}

    def save(self, path: Path) -> None:
        """Write it beside its place and rename it."""
        d = self.deployment
        told = {
            "ledger": d.ledger.hex(),
            "chain_id": d.chain_id,
            **{name: getattr(d, name).hex() for name in CONTRACTS},
            "block": d.block,
            "code_hashes": {name: code.hex() for name, code in d.code_hashes.items()},
            "token": self.token.hex(),
            "asset": self.asset,
            "more": {asset: token.hex() for asset, token in self.more.items()},
            "bank_iban": self.bank_iban,
        }
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(told, indent=1))
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read it back; refused where it is no plan."""
        try:
            return cls._read(json.loads(path.read_text()))
        except OSError as error:
            raise Unavailable("plan", f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, Invalid):
                raise
            return reject("plan", str(path), f"it is no plan of a deployment: {type(error).__name__} {error}")

    @classmethod
    def _read(cls, told: dict[str, Any]) -> Plan:
        hexes = {name: bytes.fromhex(told[name]) for name in ("ledger", *CONTRACTS)}
        codes = {name: bytes.fromhex(code) for name, code in told["code_hashes"].items()}
        deployment = Deployment(chain_id=told["chain_id"], block=told["block"], code_hashes=codes, **hexes)
        more = {asset: bytes.fromhex(token) for asset, token in told.get("more", {}).items()}
        asset = told.get("asset", DEFAULT_ASSET)
        return cls(deployment, bytes.fromhex(told["token"]), told["bank_iban"], asset, more)
