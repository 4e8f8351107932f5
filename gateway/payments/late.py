"""What becomes of late money: it counts where the policy says so and the rate has not moved too far.

A rate is asked for outside of any transaction, so late money waits for this step: a rail must
not wait for an exchange, and a decision that was made is never made again (field failure 10).
"""

from __future__ import annotations

import logging

from gateway.db import Connection, Engine, reading
from gateway.merchants.policy import WHOLE_BPS
from gateway.payments import store
from gateway.payments.creation import Rates
from gateway.payments.state import Clock, States
from gateway.payments.store import Decided, Decision, Invoice, Seen
from gateway.rails import PAYS
from gateway.rates import CombinedRate
from ledger.records import Unavailable
from ledger.rules import TENGE

LOGGER = logging.getLogger(__name__)
POLICY = "policy"
AT_ONCE = 200


def judge_at_once(connection: Connection, seen: Seen, invoice: Invoice, now: int) -> None:
    """Note of money that was just seen whether it came late, and what the policy says if it needs no rate."""
    at_s = seen.seen_s if seen.at_s is None else seen.at_s
    late_s = at_s - invoice.expires_s
    if seen.kind not in PAYS or late_s <= 0 or seen.decision not in {None, Decision.LATE}:
        return
    if not invoice.policy.accepts_late(late_s):
        why = f"{late_s} s late, the policy accepts {invoice.policy.late_accept_s}"
        _decide(connection, seen, Decision.HELD, why, now)
    elif invoice.asset == TENGE:
        # Tenge were asked for and tenge came: no rate can have moved.
        _decide(connection, seen, Decision.ACCEPTED, f"{late_s} s late, in tenge as it was asked for", now)
    elif seen.decision is None:
        _decide(connection, seen, Decision.LATE, f"{late_s} s late, the rate is to be asked for", now)


def _decide(connection: Connection, seen: Seen, action: Decision, why: str, now: int) -> None:
    store.decide(connection, Decided(seen.key, action, seen.invoice_id, None, POLICY, why, now))


class Lateness:
    """The step that decides about late money."""

    def __init__(self, engine: Engine, clock: Clock, rates: Rates, states: States) -> None:
        self._engine, self._clock, self._rates, self._states = engine, clock, rates, states

    def decide(self) -> int:
        """Decide about what waits, as far as there are believed rates; returns how many were decided."""
        with reading(self._engine) as connection:
            waiting = store.undecided(connection, AT_ONCE)
            assets = {
                invoice.asset
                for seen in waiting
                if seen.invoice_id is not None
                and (invoice := store.invoice(connection, seen.invoice_id)) is not None
            }
        rates: dict[str, CombinedRate] = {}
        for asset in sorted(assets):
            try:
                rates[asset] = self._rates.current(asset)
            except Unavailable as missing:
                LOGGER.warning("late money in %s waits: %s", asset, missing)
        return sum(self._decide_one(seen.key, rates) for seen in waiting) if rates else 0

    def _decide_one(self, key: str, rates: dict[str, CombinedRate]) -> int:
        now = self._clock()
        with self._engine.begin() as connection:
            seen = store.locked_evidence(connection, key)
            if seen is None or seen.decision is not Decision.LATE or seen.invoice_id is None:
                return 0
            invoice = store.invoice(connection, seen.invoice_id)
            assert invoice is not None
            rate = rates.get(invoice.asset)
            if rate is None:
                return 0
            moved = moved_bps(invoice, rate)
            most = invoice.policy.late_band_bps
            action = Decision.ACCEPTED if moved <= most else Decision.HELD
            why = f"the rate moved by {moved} of 10,000, the policy accepts {most}"
            _decide(connection, seen, action, why, now)
            self._states.follow(connection, invoice.id, now, changed=True)
        return 1


def moved_bps(invoice: Invoice, rate: CombinedRate) -> int:
    """By how much a rate differs from the one that an invoice was quoted at, in 1/10,000, rounded up."""
    quoted = invoice.quote
    then = int(quoted["numerator"]) * rate.denominator
    now = rate.numerator * int(quoted["denominator"])
    return -(-abs(now - then) * WHOLE_BPS // then)
