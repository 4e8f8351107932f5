"""What the gateway knows of the ledger: the state that the recorded records add up to.

Read only. It follows the records in the database, so a gateway needs no writer beside it.
"""

from __future__ import annotations

import math
import threading
import time
from fractions import Fraction

from typing_extensions import override

from gateway.db import Engine
from ledger import rules
from ledger.following import Follower
from ledger.records import ZERO_HASH, Rate, RevenueRule, Transfer, hash_struct, reject


class LedgerView:
    """Follows a ledger; refresh() takes what is new."""

    def __init__(self, engine: Engine, heads: Engine | None = None) -> None:
        """heads: the store of signed heads, where this process may read it: then a start is quick."""
        self._follower = Follower(engine, heads)
        self._state = rules.State()
        self._lock, self._asked = threading.Lock(), -math.inf
        # An account in effect never changes, and of several that fit the first one stays the first.
        self._fitting: dict[tuple[str, str, frozenset[str], str | None], str] = {}

    def refresh(self) -> rules.State:
        """The state after all records there are now."""
        return self._refreshed(0.0)

    def _refreshed(self, max_age_s: float) -> rules.State:
        with self._lock:
            # Asked under the lock: of many who find it old one reads, and the others find it new.
            asked = time.monotonic()
            if asked - self._asked >= max_age_s:
                self._state = self._follower.follow()
                self._asked = asked
            return self._state

    def receipt(self, digest: bytes) -> Transfer | None:
        """The receipt of money with this hash, as of the last refresh, unless it was undone."""
        with self._lock:
            return rules.receipt(self._state, digest)

    def left_of(self, digest: bytes) -> int:
        """How much of a receipt is neither matched nor promised to go back; 0 where there is none now."""
        self.refresh()
        with self._lock:
            came = rules.receipt(self._state, digest)
            return 0 if came is None else came.amount - self._state.claimed.get(digest, 0)

    def check_rate(self, asset: str, rate: Fraction, now: int) -> None:
        """Refuse a rate that the ledger would not record now (Q2)."""
        asked = Rate(0, asset, rate.numerator, rate.denominator, ZERO_HASH, ZERO_HASH)
        rules.check_rate_step(self.refresh(), asked, now, asset)

    def lately(self, max_age_s: float) -> LedgerView:
        """The same view for who may miss a record of the last max_age_s; times are still told exactly."""
        return _Lately(self, max_age_s)

    def revenue_rule(self, code: str, now: int) -> tuple[RevenueRule, bytes]:
        """The rule of a code in force and its hash."""
        rule = rules.revenue_rule(self.refresh(), code, now)
        if rule is None:
            reject("V1", "purpose", f"no revenue rule for the code {code} is in force")
        return rule, hash_struct(rule)

    def money_account(self, fund: str, asset: str) -> str:
        """The account of the city's money for a fund and an asset."""
        return self._account(fund, asset, rules.MONEY)

    def revenue_account(self, code: str, fund: str, asset: str) -> str:
        """The account that a code's revenue in an asset is booked to."""
        return self._account(fund, asset, frozenset({rules.REVENUE}), code)

    def unmatched_account(self, asset: str) -> tuple[str, str] | None:
        """Fund and account that count money which nobody could match yet; None where there are none."""
        found = [
            (account.record.fund, name)
            for name, account in self.refresh().accounts.items()
            if account.record.kind == rules.PAYABLE and account.record.asset == asset
        ]
        # What may be the city's in the end is kept with what the city keeps.
        return min(found, key=lambda one: (one[0] != rules.RETAINED, one), default=None)

    def _account(self, fund: str, asset: str, kinds: frozenset[str], code: str | None = None) -> str:
        wanted = (fund, asset, kinds, code)
        if (known := self._fitting.get(wanted)) is not None:
            return known
        for name, account in self.refresh().accounts.items():
            record = account.record
            fits = (record.fund, record.asset) == (fund, asset) and record.kind in kinds
            if fits and (code is None or record.owner.rstrip(b"\0") == code.encode()):
                self._fitting[wanted] = name
                return name
        return reject("M1", "account", f"no account of {asset} in {fund} takes {code or 'money'}")

    def check_asset(self, asset: str, now: int) -> None:
        """Refuse an asset that is not allowed at this instant (P1), before anybody pays in it."""
        state = self.refresh()
        found = state.assets.get(asset)
        if found is None:
            reject("V2", "asset", f"{asset} is not registered")
        if not found.valid_from <= now < found.valid_to:
            reject(
                "V2", "asset", f"{asset} is allowed from {found.valid_from} to {found.valid_to}, now is {now}"
            )
        if asset != rules.TENGE and not rules.parameter(state, "direct_settlement", now):
            reject("V3", "asset", f"direct_settlement is 0 at {now}: no act allows {asset}")

    def decimals(self, asset: str) -> int:
        """How many decimals an asset has."""
        found = self.refresh().assets.get(asset)
        if found is None:
            reject("V2", "asset", f"{asset} is not registered")
        return found.decimals


class _Lately(LedgerView):
    """A view that asks its own view, and that one not each time."""

    def __init__(self, view: LedgerView, max_age_s: float) -> None:
        self._view, self._max_age_s = view, max_age_s
        self._fitting = view._fitting  # noqa: SLF001 - the other half of one class

    @override
    def receipt(self, digest: bytes) -> Transfer | None:
        return self._view.receipt(digest)

    @override
    def left_of(self, digest: bytes) -> int:
        return self._view.left_of(digest)

    @override
    def refresh(self) -> rules.State:
        return self._view._refreshed(self._max_age_s)  # noqa: SLF001 - the other half of one class
