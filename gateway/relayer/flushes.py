"""Flushes: what came to deposit addresses is split by the router, in batches, through the durable sender.

A flush costs less for each address the more there are in it (field failure 28), and can be sent by anybody
at any time: if it finds nothing it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from contracts.bindings import COIN, GAS_FLUSH, GAS_FLUSH_EACH, Terms
from gateway.db import Connection, Engine, reading
from gateway.payments import store as payments_store
from gateway.payments.store import Invoice
from gateway.rails import Evidence, Kind, Stage
from gateway.rails.evm import Place
from gateway.relayer import store
from gateway.relayer.encoding import router_call
from gateway.relayer.store import Waiting
from gateway.sending import service as sending
from gateway.sending.service import Call, State

FLUSH_KIND = "flush"
BATCH = 20
BACK_OFF_S, BACK_OFF_MOST_S, LOOK_AGAIN_S = 60, 6 * 3_600, 60
# By which the source of a deposit in the chain's coin begins: it has no evidence before its flush.
COIN_SOURCE = "coin:"


@dataclass(frozen=True)
class Policy:
    """When a flush is worth its gas. batch: addresses in one; wait_s: how long fewer wait for more.

    least_minor: by asset, below which money waits for more to come to the same address.
    """

    batch: int = BATCH
    wait_s: int = 0
    least_minor: dict[str, int] = field(default_factory=dict)


class Flushes:
    """Queues flushes and follows them."""

    def __init__(
        self, engine: Engine, place: Place, clock: Callable[[], int], policy: Policy | None = None
    ) -> None:
        self._engine, self._place, self._clock = engine, place, clock
        self.policy = Policy() if policy is None else policy

    def note(self, connection: Connection, taken: Sequence[Evidence]) -> None:
        """Note final deposits among evidence that was taken, in the transaction that takes it."""
        for piece in taken:
            if piece.kind is not Kind.DEPOSIT or piece.stage is not Stage.FINAL:
                continue
            seen = payments_store.evidence(connection, piece.key)
            if seen is not None and seen.invoice_id is not None:
                store.note_deposit(connection, piece.key, seen.invoice_id, piece.asset, self._clock())

    def note_coin(self, connection: Connection, invoice_id: str, block: int) -> None:
        """Note that an address holds the chain's coin, in the transaction that notes since when."""
        asset = self._place.tokens[COIN]
        if not store.is_flushing(connection, invoice_id):
            source = f"{COIN_SOURCE}{invoice_id}:{block}"
            store.note_deposit(connection, source, invoice_id, asset, self._clock())

    def queue(self) -> int:
        """Queue flushes of what waits; returns of how many invoices."""
        now = self._clock()
        with reading(self._engine) as connection:
            if not store.is_due(connection, now):
                return 0
        with self._engine.begin() as connection:
            waiting = self._left(connection, store.due(connection, now, 50 * self.policy.batch), now)
            return sum(
                self._queue_batch(connection, asset, batch, now)
                for asset in sorted({one.asset for one in waiting})
                for batch in self._batches([one for one in waiting if one.asset == asset], now)
            )

    def follow(self) -> int:
        """Take up again what did not go; returns how many calls have ended."""
        now, ended = self._clock(), 0
        with reading(self._engine) as connection:
            if not store.flushing(connection):
                return 0
        with self._engine.begin() as connection:
            cursor = payments_store.cursor(connection, self._place.rail) or 0
            for call_id, waiting in store.flushing(connection).items():
                outcome = sending.outcome(connection, call_id)
                if outcome.state is State.FINAL and (outcome.block or 0) <= cursor:
                    # What it brought is taken, so what is left now is left.
                    coins = [one.source for one in waiting if one.source.startswith(COIN_SOURCE)]
                    store.set_flushed(connection, coins)
                    others = [one for one in waiting if one.source not in coins]
                    for one in self._left(connection, others, now):
                        store.flush_again(connection, one.source, now + _back_off(one))
                elif outcome.state in {State.REVERTED, State.DROPPED}:
                    for one in waiting:
                        store.flush_again(connection, one.source, now + _back_off(one))
                else:
                    continue
                ended += 1
        return ended

    def _left(self, connection: Connection, waiting: list[Waiting], now: int) -> list[Waiting]:
        """Those whose address holds what is worth a flush; what anybody has flushed is done."""
        kept = []
        for one in waiting:
            if one.source.startswith(COIN_SOURCE):
                kept.append(one)
                continue
            finally_left, left = _left_minor(connection, one.invoice_id)
            if finally_left <= 0:
                store.set_flushed(connection, [one.source])
            elif left <= 0 or left < self.policy.least_minor.get(one.asset, 0):
                # Flushed in a block that may go, or too little to be worth the gas: looked at again.
                store.postpone(connection, one.source, now + LOOK_AGAIN_S)
            else:
                kept.append(one)
        return kept

    def _batches(self, waiting: list[Waiting], now: int) -> list[list[Waiting]]:
        """Whole batches, and a smaller one that has waited long enough.

        What failed once goes alone: one address that cannot be flushed must not hold up the others.
        """
        alone = [one for one in waiting if one.attempts]
        invoices: dict[str, list[Waiting]] = {}
        for one in waiting:
            if not one.attempts:
                invoices.setdefault(one.invoice_id, []).append(one)
        groups = list(invoices.values())
        batches = []
        for start in range(0, len(groups), self.policy.batch):
            batch = [one for group in groups[start : start + self.policy.batch] for one in group]
            is_whole = start + self.policy.batch <= len(groups)
            if is_whole or now - batch[0].noted_s >= self.policy.wait_s:
                batches.append(batch)
        return batches + [[one] for one in alone]

    def _queue_batch(self, connection: Connection, asset: str, batch: list[Waiting], now: int) -> int:
        ids = sorted({one.invoice_id for one in batch})
        invoices = [_invoice(connection, id) for id in ids]
        all_terms = [Terms(one.number, one.purpose, one.payee, one.share_bps).words() for one in invoices]
        # The same money in another try is another call.
        named = sorted(f"{one.source} {one.attempts}" for one in batch)
        call = Call(
            FLUSH_KIND,
            sha256("\n".join(named).encode()).hexdigest(),
            self._place.deployment.router,
            router_call("flush", all_terms, self._place.token(asset)),
            0,
            GAS_FLUSH + GAS_FLUSH_EACH * len(ids),
        )
        call_id = sending.queue(connection, self._place.rail, call, now)
        store.set_flushing(connection, [one.source for one in batch], call_id)
        return len(ids)


def _invoice(connection: Connection, id: str) -> Invoice:
    found = payments_store.invoice(connection, id)
    assert found is not None
    return found


def _left_minor(connection: Connection, invoice_id: str) -> tuple[int, int]:
    """What came to an invoice's address, less what flushes have taken: finally, and as it looks now."""
    seen = payments_store.evidence_of(connection, invoice_id)
    deposits = [piece for piece in seen if piece.kind is Kind.DEPOSIT and piece.stage is Stage.FINAL]
    taken = [piece for piece in seen if piece.kind is Kind.FLUSH and piece.stage is not Stage.GONE]
    came = sum(piece.amount_minor for piece in deposits)
    finally_taken = sum(piece.amount_minor for piece in taken if piece.stage is Stage.FINAL)
    return came - finally_taken, came - sum(piece.amount_minor for piece in taken)


def _back_off(one: Waiting) -> int:
    waited: int = BACK_OFF_S * 2 ** min(one.attempts, 16)
    return min(waited, BACK_OFF_MOST_S)
