"""The rates in use: asked for, believed, kept as the last good one, and put on the ledger."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gateway.db import Connection
from gateway.payments.service import Clock
from gateway.rates import CombinedRate, Policy, RateSource, ask_all, combine
from ledger import store
from ledger.records import Rate, Unavailable, reject

FRESH_S = 60


class RateDesk:
    """Believed rates by asset; asks the sources at most once a minute."""

    def __init__(self, sources: dict[str, Sequence[RateSource]], policy: Policy, clock: Clock) -> None:
        self._sources, self._policy, self._clock = sources, policy, clock
        self._good: dict[str, CombinedRate] = {}
        self._lock = threading.Lock()

    def current(self, asset: str) -> CombinedRate:
        """The rate that holds now; Unavailable or Invalid, and then nothing is quoted (P9)."""
        with self._lock:
            last, now = self._good.get(asset), self._clock()
            if last is not None and 0 <= now - last.time_s < FRESH_S:
                return last
            answered, missing = ask_all(self._sources.get(asset, ()), now)
            try:
                self._good[asset] = combine(answered, now, last, self._policy)
            except Unavailable as error:
                told = "; ".join(str(one) for one in missing)
                raise Unavailable(error.service, f"{error.why}; {told}" if told else error.why) from error
            return self._good[asset]


def rate_record(connection: Connection, rate: CombinedRate) -> Rate:
    """The Rate record of a believed rate; what its sources said is published with the ledger (LEAKS 05)."""
    if len(rate.sources) < 2:
        reject("Q1", rate.asset, f"a recorded rate has 2 sources, this has {len(rate.sources)}")
    names = [store.add_document(connection, source.body) for source in rate.sources]
    return Rate(0, rate.asset, rate.numerator, rate.denominator, names[0], names[-1])
