"""Orders that the Treasury contract has paid, booked without being asked: anybody may have had them paid."""

from __future__ import annotations

import logging
from dataclasses import replace

from gateway.budget.acts import ask_to_book, payment
from gateway.db import Engine
from gateway.ledger_view import LedgerView
from gateway.payments.state import Clock
from gateway.rails.evm import Log, Place, Pool
from gateway.rails.evm.blocks import MALFORMED, read_block
from gateway.rails.evm.logs import read_log
from gateway.rails.evm.pool import Endpoint
from gateway.rails.evm.receipts import final_logs
from gateway.rails.evm.rpc import Refused, to_hex
from gateway.rails.evm.treasury_logs import CREDITED, EXECUTED, PULLED, Payout, payouts
from ledger.records import Invalid, Order, Unavailable
from ledger.rules import State

LOGGER = logging.getLogger(__name__)
RANGE_BLOCKS = 2_000
# A record may be so much later than the anchor that covers it (T3), and an order is paid after that anchor.
EARLIER_S = 900


class Bookings:
    """Follows what the treasury says while an order waits to be booked, in final blocks alone."""

    def __init__(self, pool: Pool, place: Place, engine: Engine, view: LedgerView, clock: Clock) -> None:
        self._pool, self._engine, self._view, self._clock = pool, engine, view, clock
        self._treasury = place.deployment.treasury
        self._first = place.deployment.block
        # What the treasury said, and from where it was not asked yet; None at first.
        self._told: list[Log] = []
        self._next: int | None = None

    def follow(self) -> int:
        """Have the ledger book what was paid and is final; returns how many. What dies is done again."""
        state = self._view.refresh()
        waiting = _waiting(state)
        if not waiting:
            self._told, self._next = [], None
            return 0
        self._listen(min(order.time for order in waiting.values()))
        found = [one for one in payouts(self._told, self._treasury, EXECUTED) if one.authority in waiting]
        return sum(self._book(state, payout) for payout in found)

    def _book(self, state: State, payout: Payout) -> bool:
        pulls = [
            log.transaction
            for log in self._told
            if log.topics == (PULLED, payout.log.topics[3], payout.token.rjust(32, b"\0"))
            and (log.block, log.index) > (payout.log.block, payout.log.index)
        ]
        transactions = dict.fromkeys([payout.log.transaction, *pulls])
        logs = [log for transaction in transactions for log in final_logs(self._pool, transaction)]
        try:
            record, document = payment(state, logs, payout.authority)
            ask_to_book(self._engine, record, document, self._clock())
        except Invalid as refused:
            # Credited and not pulled yet, or refused by the ledger: it is asked again the next time.
            LOGGER.info("not booked: %s", refused)
            return False
        return True

    def _listen(self, since_s: int) -> None:
        final = self._pool.head().final
        first = self._block_at(since_s - EARLIER_S, final) if self._next is None else self._next
        while first <= final:
            last = min(first + RANGE_BLOCKS - 1, final)
            self._told += self._said(first, last)
            self._next = first = last + 1

    def _block_at(self, time_s: int, final: int) -> int:
        """The first block of at least this second, or the one after the final one."""
        low, high = min(self._first, final + 1), final + 1
        while low < high:
            middle = (low + high) // 2
            block = self._pool.read(lambda endpoint, at=middle: read_block(endpoint.node, at))  # type: ignore[misc]
            low, high = (middle + 1, high) if block.time_s < time_s else (low, middle)
        return low

    def _said(self, first: int, last: int) -> tuple[Log, ...]:
        """What it said in final blocks: all nodes that agree must say so, or it would be passed over."""
        topics = [[to_hex(topic) for topic in (EXECUTED, CREDITED, PULLED)]]
        blocks = {"fromBlock": to_hex(first), "toBlock": to_hex(last)}
        asked = {**blocks, "address": to_hex(self._treasury), "topics": topics}

        def read(endpoint: Endpoint) -> tuple[Log, ...] | Refused:
            try:
                told = endpoint.node.ask("eth_getLogs", asked)
                return tuple(replace(read_log(raw), time_s=None) for raw in told if not raw.get("removed"))
            except Refused as refused:
                return refused
            except MALFORMED as error:
                raise Unavailable(endpoint.node.name, f"{type(error).__name__}: {error}"[:300]) from error

        found = self._pool.confirmed(read)
        if isinstance(found, Refused):
            raise Unavailable(self._pool.name, f"blocks {first} to {last}: {found}"[:300])
        return tuple(log for log in found if log.at == self._treasury and first <= log.block <= last)


def _waiting(state: State) -> dict[bytes, Order]:
    """The orders in effect that a chain pays and that are not booked."""
    over = state.paid_orders | state.void_orders
    return {
        hash: order
        for hash, order in state.orders.items()
        if hash not in over and state.accounts[order.account].record.kind == "chain"
    }
