"""Puts the rates in use on the ledger, so that other assets can be allotted, exchanged and counted there.

Without a fresh Rate the rules refuse an allocation (B3), an exchange (Q4) and a refund elsewhere (F4) in
an asset, and a city would have to think of recording one each day.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway.db import Engine, reading
from gateway.ledger_view import LedgerView
from gateway.payments.service import Clock
from gateway.rate_desk import RateDesk, rate_record
from ledger import rules, store
from ledger.records import Invalid, Unavailable
from ledger.writer import submission_id, submit

LOGGER = logging.getLogger(__name__)
# How long after a refusal another rate of an asset is brought: in this time the market may come back.
AGAIN_S = 3_600


class RateRecorder:
    """Records a rate of each asset when the ledger's own is half as old as it may be."""

    def __init__(
        self, engine: Engine, view: LedgerView, desk: RateDesk, assets: Sequence[str], clock: Clock
    ) -> None:
        self._engine, self._view, self._desk, self._clock = engine, view, desk, clock
        self._assets = tuple(sorted(set(assets) - {rules.TENGE}))

    def step(self) -> int:
        """Ask for the Rate records that are due; returns how many. One asset's trouble is not the others'."""
        state, now = self._view.refresh(), self._clock()
        asked = 0
        for asset in self._assets:
            if not self._is_due(state, asset, now):
                continue
            try:
                asked += self._ask(asset, now)
            except (Invalid, Unavailable) as error:
                LOGGER.warning("no rate of %s is recorded: %s", asset, error)
        return asked

    def _is_due(self, state: rules.State, asset: str, now: int) -> bool:
        registered, last = state.assets.get(asset), state.last_rate.get(asset)
        if registered is None or not registered.valid_from <= now < registered.valid_to:
            return False
        return last is None or now - last.time >= rules.parameter(state, "rate_age", now) // 2

    def _ask(self, asset: str, now: int) -> int:
        """Bring one rate in each hour, whoever and however many try it; Invalid where that was refused."""
        key = f"rate {asset} {now // AGAIN_S}".encode()
        with reading(self._engine) as connection:
            # Answered and still due means refused: the rule and both numbers are told.
            store.answer(connection, submission_id(key))
        believed = self._desk.current(asset)
        try:
            with self._engine.begin() as connection:
                submit(connection, rate_record(connection, believed), now, key)
        except Invalid as error:
            if error.rule == "inbox":
                # This hour's waits for the writer already.
                return 0
            raise
        return 1
