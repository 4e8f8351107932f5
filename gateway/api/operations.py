"""How the gateway is, for an operator: what lags, what is old, what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.api.schemas import Operations, RateState
from gateway.db import reading
from gateway.measures import store as measures
from gateway.payments import store
from gateway.webhooks.listing import store as listing
from ledger.records import Invalid, Unavailable
from ledger.rules import TENGE

if TYPE_CHECKING:
    from gateway.app import Gateway

COUNTED_MOST = 1_000


def state_of(gateway: Gateway) -> Operations:
    """All of it at this moment."""
    now, chain = gateway.clock(), gateway.payments.chain
    with reading(gateway.engine) as connection:
        seen = None if chain is None else store.seen_until(connection, chain.rail)
        invoices = store.counts(connection)
        unmatched = len(store.unmatched(connection, (0, ""), COUNTED_MOST))
        waiting, oldest = listing.waiting(connection)
        refused = len(measures.refused_bookings(connection))
    assets = sorted(name for name in gateway.view.refresh().assets if name != TENGE)
    return Operations(
        now_s=now,
        chain_seen_until_s=seen,
        chain_lag_s=None if seen is None else max(now - seen, 0),
        invoices=invoices,
        rates=[_rate(gateway, asset, now) for asset in assets],
        unmatched=unmatched,
        bookings_refused=refused,
        webhooks_waiting=waiting,
        webhooks_oldest_s=oldest,
    )


def _rate(gateway: Gateway, asset: str, now: int) -> RateState:
    try:
        believed = gateway.payments.rates.current(asset)
    except (Invalid, Unavailable) as error:
        return RateState(asset=asset, age_s=None, rate=None, why=error.why)
    rate = f"{believed.numerator}/{believed.denominator}"
    return RateState(asset=asset, age_s=now - believed.time_s, rate=rate, why=_why_not_quoted(gateway, asset))


def _why_not_quoted(gateway: Gateway, asset: str) -> str | None:
    """What is over its limit, so that nobody is quoted although there is a rate."""
    try:
        if gateway.payments.limits is not None:
            gateway.payments.limits.check(asset)
    except Unavailable as error:
        return error.why
    return None
