"""Deposits in the chain's own coin: they leave no log, so balances are read, many with one question.

What is seen here is told as `detected` and pays nothing yet: the flush that follows does, and its event is
the evidence. A balance that is read at the newest block is gone with it, and is read again at the next.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.db import Connection, Engine, reading
from gateway.payments.model import Status
from gateway.payments.state import States
from gateway.payments.store import coins
from gateway.payments.store.coins import Held
from gateway.rails.evm import EvmRail, Head
from gateway.rails.evm.balances import AT_ONCE
from gateway.watching import store
from gateway.watching.store import Deposit

# What can still be expected to be paid is looked at each time, what was paid or has expired now and then.
OPEN = (Status.OPEN.value, Status.DETECTED.value)
ALL = tuple(status.value for status in Status)
ALL_EVERY, ALL_FOR_S = 60, 30 * 86_400

# What is to be done with an address that holds something, in the same transaction: invoice, block.
Found = Callable[[Connection, str, int], None]


class CoinWatch:
    """Looks at deposit addresses of invoices in the coin. least_wei: below which money waits for more."""

    def __init__(
        self,
        engine: Engine,
        rail: EvmRail,
        clock: Callable[[], int],
        found: Found,
        states: States,
        least_wei: int = 1,
    ) -> None:
        self._engine, self._rail, self._clock, self._found = engine, rail, clock, found
        self._states = states
        self._least_wei = least_wei
        self._looks = 0
        self._seen_at = b""
        self._waits = False

    def poll(self) -> int:
        """Look once, if there is a new block; returns how many addresses hold something."""
        asset = self._rail.place.coin_asset
        if asset is None:
            return 0
        head = self._rail.head()
        if head.latest_hash == self._seen_at:
            return 0
        statuses = ALL if self._looks % ALL_EVERY == 0 else OPEN
        expired_after_s = self._clock() - ALL_FOR_S
        found, after, self._waits = 0, "", False
        while True:
            with reading(self._engine) as connection:
                page = store.coin_deposits(connection, asset, statuses, expired_after_s, after, AT_ONCE)
            if not page:
                break
            after = page[-1].invoice_id
            found += self._look(page, head)
        # What is told as held is looked at until it is held no more: a block that goes takes it away.
        with reading(self._engine) as connection:
            holders = store.coin_holders(connection, statuses, expired_after_s)
        for start in range(0, len(holders), AT_ONCE):
            found += self._look(holders[start : start + AT_ONCE], head)
        self._looks += 1
        # What could not be told yet is looked at again under the same block.
        self._seen_at = b"" if self._waits else head.latest_hash
        return found

    def _look(self, page: list[Deposit], head: Head) -> int:
        balances = self._rail.balances([deposit.address for deposit in page], head.latest)
        with reading(self._engine) as connection:
            held = coins.coins_held(connection, [deposit.invoice_id for deposit in page])
            tail = store.tail(connection, self._rail.name)
        changed = [
            (deposit, balance)
            for deposit, balance in zip(page, balances, strict=True)
            if balance >= self._least_wei or deposit.invoice_id in held
        ]
        if not changed:
            return 0
        # What left an address left by a flush: its event takes the place of the balance, so that the logs of
        # these blocks are taken first. Else the merchant would be told that nothing is there.
        is_taken = tail is not None and (
            tail.number > head.latest or (tail.number, tail.hash) == (head.latest, head.latest_hash)
        )
        with self._engine.begin() as connection:
            # In the order of their ids, as everybody who locks invoices.
            for deposit, balance in changed:
                before = held.get(deposit.invoice_id, 0)
                if balance < before and not is_taken:
                    self._waits = True
                    continue
                self._note(connection, deposit, before, balance, head)
        return len(changed)

    def _note(self, connection: Connection, deposit: Deposit, before: int, balance: int, head: Head) -> None:
        if balance < self._least_wei:
            coins.coin_gone(connection, deposit.invoice_id)
        else:
            now_held = Held(balance, head.latest, head.time_s)
            coins.set_coin(connection, deposit.invoice_id, deposit.address, now_held, is_new=not before)
            self._found(connection, deposit.invoice_id, head.latest)
        # Each time: evidence that hid what is held may be of a block that it was read at by now.
        self._states.follow(connection, deposit.invoice_id, self._clock(), changed=balance != before)
