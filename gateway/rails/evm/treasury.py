"""Asking the Treasury contract to pay a promised refund: the record and its receipt, proved in one head."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.bindings import GAS, City, Refunding
from gateway.db import Engine, reading
from gateway.ledger_view import LedgerView
from gateway.payments.outgoing import Promised
from gateway.payments.state import Clock
from gateway.sending.call import Call
from ledger import store
from ledger.publish import Publisher
from ledger.records import Approval
from ledger.rules import AUDITOR, AUTHORITY

KIND = "refund"


class EvmTreasury:
    """The Treasury contract's door. Anybody may pay for the call: it pays nobody but who was promised."""

    def __init__(
        self, city: City, publisher: Publisher, engine: Engine, view: LedgerView, clock: Clock
    ) -> None:
        self._city, self._publisher, self._engine = city, publisher, engine
        self._view, self._clock = view, clock

    def refund_call(self, reference: str, promised: Promised) -> Call | None:
        """The call; None while no anchored head has the record, or its delay is not over."""
        deployment, heads = self._city.deployment, self._heads(promised)
        if heads:
            # What a resumption left out proves nothing to the contract any more (LEAKS 02).
            gaps = self._city.gaps(heads[0].block, self._city.newest_block())
            heads = [one for one in heads if not any(gap.has(one.size, one.time_s) for gap in gaps)]
        if not heads:
            return None
        # The first that has it: the delay counts from there.
        head = heads[0]
        if self._clock() < head.time_s + self._city.parameter("order_delay"):
            return None
        asked = Refunding(
            promised.refund,
            promised.receipt,
            self._of(AUTHORITY, promised.approvals),
            self._of(AUDITOR, promised.approvals),
            promised.position,
            promised.receipt_position,
            head.size,
            self._publisher.inclusion(promised.position, head.size),
            self._publisher.inclusion(promised.receipt_position, head.size),
        )
        return Call(KIND, reference, deployment.treasury, self._city.refund_data(asked), 0, GAS["refund"])

    def paid_since(self, promised: Promised) -> int | None:
        """From which block on to look for who had it paid; None while the treasury has not paid it."""
        heads = self._heads(promised)
        return heads[0].block if heads and self._city.is_refund_paid(promised.refund) else None

    def _heads(self, promised: Promised) -> list[store.Anchored]:
        """The anchored heads that have both records, the oldest first: before it nothing is paid."""
        deployment = self._city.deployment
        last = max(promised.position, promised.receipt_position)
        with reading(self._engine) as connection:
            return [
                anchored
                for anchored in store.anchors(connection)
                if (anchored.chain_id, anchored.contract) == (deployment.chain_id, deployment.anchor)
                and anchored.size > last
            ]

    def _of(self, role: str, approvals: Sequence[Approval]) -> list[Approval]:
        roles = self._view.refresh().roles
        return [approval for approval in approvals if roles.get(approval.signer) == role]
