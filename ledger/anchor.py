"""Anchoring a head on an EVM chain: the only web3 of this package."""

from __future__ import annotations

from eth_account.signers.local import LocalAccount

from contracts.bindings import City, Signature
from ledger.store import Anchored
from ledger.watcher import SignedHead


class EvmAnchor:
    """LedgerAnchor of one deployment, through one node; the account holds the operator's seat."""

    def __init__(self, city: City, operator: LocalAccount) -> None:
        self._city, self._operator = city, operator

    def size(self) -> int:
        """The size that the chain holds; 0 before the first head."""
        return self._city.head().size

    def append(self, size: int, root: bytes, path: list[bytes], head: SignedHead) -> Anchored:
        """Have the chain take a head; it checks the watcher's signature and the consistency path itself."""
        signature = Signature(head.signer, head.valid_until, head.v, head.r, head.s)
        receipt = self._city.append(self._operator, size, root, path, signature)
        deployment = self._city.deployment
        return Anchored(
            deployment.chain_id,
            deployment.anchor,
            size,
            root,
            bytes(receipt["transactionHash"]),
            receipt["blockNumber"],
            bytes(receipt["blockHash"]),
            self._city.head_at(size).time,
        )
