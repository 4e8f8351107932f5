"""The rates in use: asked for, believed, kept as the last good one, and put on the ledger."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gateway.db import Connection, Engine, reading
from gateway.last_rates import store as last_rates
from gateway.ledger_view import LedgerView
from gateway.payments.service import Clock
from gateway.rates import CombinedRate, Policy, RateSource, SourcedRate, ask_all, combine
from ledger import store
from ledger.records import Invalid, Rate, Unavailable, reject

FRESH_S = 60
# After the sources failed they are left alone so long: each asking may take as long as their time-outs.
PAUSE_S = 5
# How often other processes may be first before an asking is given up.
ATTEMPTS = 5


class RateDesk:
    """Believed rates by asset; asks the sources at most once a minute, and when they fail every 5 seconds.

    The last good rate is kept in the database, so that the step from it (Q4) holds over a restart, and of
    any number of processes none believes what another would refuse. view: the ledger, if here: what it would
    not record is not quoted either, whatever small steps led there (decision 0041).
    """

    def __init__(
        self,
        sources: dict[str, Sequence[RateSource]],
        policy: Policy,
        clock: Clock,
        engine: Engine,
        view: LedgerView | None = None,
    ) -> None:
        self._sources, self._policy, self._clock, self._engine = sources, policy, clock, engine
        self._view = view
        # What this process used last: asked for again only once it is old.
        self._good: dict[str, CombinedRate] = {}
        # When the sources were asked last, and why they were not believed.
        self._asked: dict[str, tuple[int, str | None]] = {}
        self._lock = threading.Lock()

    def current(self, asset: str) -> CombinedRate:
        """The rate that holds now; Unavailable if none can be believed, and then nothing is quoted (P9)."""
        with self._lock:
            last, now = self._good.get(asset), self._clock()
            if last is not None and _is_fresh(last, now):
                return last
            asked_s, failure = self._asked.get(asset, (now - PAUSE_S, None))
            if not 0 <= now - asked_s < PAUSE_S:
                failure = self._renew(asset, now)
                self._asked[asset] = (now, failure)
            if failure is not None:
                raise Unavailable("rates", failure)
            return self._good[asset]

    def _renew(self, asset: str, now: int) -> str | None:
        """Take what another process believed a moment ago, or ask; why neither gave a rate."""
        kept = self._kept(asset)
        if kept is not None and _is_fresh(kept, now):
            self._good[asset] = kept
            return None
        return self._ask(asset, now)

    def _ask(self, asset: str, now: int) -> str | None:
        # No transaction is open while the sources are waited for.
        answered, missing = ask_all(self._sources.get(asset, ()), now)
        try:
            self._good[asset] = self._believe(asset, answered, now)
        except (Unavailable, Invalid) as error:
            # What contradicts itself is no fault of whoever asks for a quote.
            told = "; ".join(str(one) for one in missing)
            why = error.why if isinstance(error, Unavailable) else str(error)
            return f"{why}; {told}" if told else why
        return None

    def _believe(self, asset: str, answered: Sequence[SourcedRate], now: int) -> CombinedRate:
        """Hold the answers against the last good rate of all processes, and become it."""
        for _ in range(ATTEMPTS):
            last = self._kept(asset)
            believed = combine(answered, now, last, self._policy)
            if believed is last:
                return believed
            self._hold_to_ledger(believed, now)
            with self._engine.begin() as connection:
                if last_rates.replace_last_rate(connection, last, believed):
                    return believed
            # Another process was first: these answers are held against its rate instead.
        raise Unavailable("rates", f"overtaken {ATTEMPTS} times by other processes")

    def _hold_to_ledger(self, believed: CombinedRate, now: int) -> None:
        if self._view is None:
            return
        try:
            self._view.check_rate(believed.asset, believed.fraction, now)
        except Invalid as refused:
            reject("Q4", believed.asset, f"the ledger would not record it: {refused.why}")

    def _kept(self, asset: str) -> CombinedRate | None:
        with reading(self._engine) as connection:
            kept = last_rates.last_rate(connection, asset)
        known = self._good.get(asset)
        return known if kept == known else kept


def _is_fresh(rate: CombinedRate, now: int) -> bool:
    return 0 <= now - rate.time_s < FRESH_S


def rate_record(connection: Connection, rate: CombinedRate) -> Rate:
    """The Rate record of a believed rate; what its sources said is published with the ledger (LEAKS 05)."""
    if len(rate.sources) < 2:
        reject("Q1", rate.asset, f"a recorded rate has 2 sources, this has {len(rate.sources)}")
    first, second = _named(rate.sources)
    names = [store.add_document(connection, source.body) for source in (first, second)]
    return Rate(0, rate.asset, rate.numerator, rate.denominator, *names)


def _named(sources: Sequence[SourcedRate]) -> tuple[SourcedRate, SourcedRate]:
    """The two sources of which anybody makes the same rate again.

    Of an even number the two in the middle, whose mean it is; of an odd number the one in the
    middle, whose rate it is, and the nearest that said it in other bytes.
    """
    low, high = (len(sources) - 1) // 2, len(sources) // 2
    if low != high and sources[low].body != sources[high].body:
        return sources[low], sources[high]
    others = sorted(range(len(sources)), key=lambda place: abs(place - low))
    for place in others:
        if sources[place].body != sources[low].body:
            return sources[low], sources[place]
    return reject("Q1", sources[low].asset, f"{len(sources)} sources are 1 document")
