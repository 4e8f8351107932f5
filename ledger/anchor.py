"""Anchoring a head on an EVM chain: the only web3 of this package."""

from __future__ import annotations

from eth_account.signers.local import LocalAccount

from contracts.bindings import Anchored, City, Signature, read_events
from ledger import store
from ledger.records import Unavailable
from ledger.watcher import SignedHead


class EvmAnchor:
    """LedgerAnchor of one deployment, through one node; the account holds the operator's seat."""

    def __init__(self, city: City, operator: LocalAccount) -> None:
        self._city, self._operator = city, operator

    @property
    def name(self) -> str:
        """Which chain and contract this is."""
        return f"chain {self._city.deployment.chain_id}, anchor 0x{self._city.deployment.anchor.hex()}"

    def held(self) -> store.Anchored | None:
        """The newest head that the chain holds and the transaction that brought it; None before the first.

        Whoever brought it: after a crash or a reply that was lost, the chain is asked and not our memory.
        """
        head, deployment = self._city.head(), self._city.deployment
        if head.size == 0:
            return None
        try:
            last = self._city.w3.eth.block_number
        except OSError as error:
            raise Unavailable("chain", f"{self.name}: {error}") from error
        topic = head.size.to_bytes(32, "big")
        found = read_events(self._city.w3, Anchored, [deployment.anchor], deployment.block, last, topic)
        if not found or found[-1].root != head.root:
            raise Unavailable("chain", f"{self.name} holds size {head.size}, and its node has no event of it")
        event = found[-1]
        return store.Anchored(
            deployment.chain_id,
            deployment.anchor,
            event.size,
            event.root,
            event.transaction,
            event.block,
            event.block_hash,
            event.time,
        )

    def append(self, size: int, root: bytes, path: list[bytes], head: SignedHead) -> None:
        """Have the chain take a head; it checks the watcher's signature and the consistency path itself."""
        signature = Signature(head.signer, head.valid_until, head.v, head.r, head.s)
        self._city.append(self._operator, size, root, path, signature)
