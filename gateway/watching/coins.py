"""Deposits in the chain's own coin: they leave no log, so balances are read, many with one question.

What is seen here pays nothing yet: the flush that follows does, and its event is the evidence.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.db import Connection, Engine, reading
from gateway.payments.model import Status
from gateway.rails.evm import EvmRail, Head
from gateway.rails.evm.balances import AT_ONCE
from gateway.watching import store
from gateway.watching.store import Deposit

# What can still be expected to be paid is looked at each time, what was paid or has expired now and then.
OPEN = (Status.OPEN.value, Status.DETECTED.value)
ALL = tuple(status.value for status in Status)
ALL_EVERY, ALL_FOR_S = 60, 30 * 86_400

# What is to be done with an address that holds something, in the same transaction: invoice, block.
Held = Callable[[Connection, str, int], None]


class CoinWatch:
    """Looks at deposit addresses of invoices in the coin. least_wei: below which money waits for more."""

    def __init__(
        self, engine: Engine, rail: EvmRail, clock: Callable[[], int], held: Held, least_wei: int = 1
    ) -> None:
        self._engine, self._rail, self._clock, self._held = engine, rail, clock, held
        self._least_wei = least_wei
        self._looks = 0
        self._seen_at = b""

    def poll(self) -> int:
        """Look once, if there is a new block; returns how many addresses hold something."""
        asset = self._rail.coin_asset()
        if asset is None:
            return 0
        head = self._rail.head()
        if head.latest_hash == self._seen_at:
            return 0
        statuses = ALL if self._looks % ALL_EVERY == 0 else OPEN
        expired_after_s = self._clock() - ALL_FOR_S
        found, after = 0, ""
        while True:
            with reading(self._engine) as connection:
                page = store.coin_deposits(connection, asset, statuses, expired_after_s, after, AT_ONCE)
            if not page:
                break
            after = page[-1].invoice_id
            found += self._look(page, head)
        self._looks += 1
        self._seen_at = head.latest_hash
        return found

    def _look(self, page: list[Deposit], head: Head) -> int:
        balances = self._rail.balances([deposit.address for deposit in page], head.latest)
        with reading(self._engine) as connection:
            held = store.coins_held(connection, [deposit.invoice_id for deposit in page])
        changed = [
            (deposit, balance)
            for deposit, balance in zip(page, balances, strict=True)
            if balance >= self._least_wei or deposit.invoice_id in held
        ]
        if not changed:
            return 0
        with self._engine.begin() as connection:
            for deposit, balance in changed:
                if balance < self._least_wei:
                    store.coin_gone(connection, deposit.invoice_id)
                    continue
                is_new = deposit.invoice_id not in held
                store.set_coin(connection, deposit, balance, head.latest, head.time_s, is_new=is_new)
                self._held(connection, deposit.invoice_id, head.latest)
        return len(changed)
