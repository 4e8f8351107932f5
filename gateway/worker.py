"""The gateway's work in the background: ask rails, book, record, publish, flush, tell.

Each piece can be done at any time, again, and by more than one process; what must happen
once is made so by the database, not by this loop.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from eth_account.signers.local import LocalAccount

from contracts.bindings import City
from gateway.api.idempotency import forget_old
from gateway.app import Gateway
from gateway.budget.bookings import Bookings
from gateway.db import Engine
from gateway.mail.sending import Mailer
from gateway.merchants.service import tell_applied
from gateway.payments import store
from gateway.rails.evm import EvmRail
from gateway.rails.tenge.rail import read_file
from gateway.rate_recording import RateRecorder
from gateway.relayer.flushes import Flushes
from gateway.sending.sender import Sender
from gateway.steps.loop import Step, run_once
from gateway.watching.coins import CoinWatch
from gateway.watching.service import ChainWatch
from gateway.webhooks import store as webhooks
from gateway.webhooks.deliver import Clock, Courier, deliver_due
from gateway.webhooks.egress import Egress
from gateway.webhooks.history import store as history
from gateway.webhooks.store import Sealer
from ledger.anchoring import Anchor, is_held, is_settled
from ledger.cosigning import Policy
from ledger.records import Invalid, Unavailable
from ledger.writer import Witness, Writer

LOGGER = logging.getLogger(__name__)
BANK_RAIL = "bank"


@dataclass(frozen=True)
class Publication:
    """Who takes part when the ledger is made public."""

    writer: Writer
    witness: Witness | None
    anchors: tuple[Anchor, ...]
    # How many witnesses must have cosigned a head before a chain gets it.
    policy: Policy | None = None


def courier_steps(
    engine: Engine, egress: Egress, sealer: Sealer, clock: Clock, mailer: Mailer | None = None
) -> tuple[Step, ...]:
    """Sending webhooks and letters, and forgetting how: it takes the database and the operator's secrets."""
    courier = Courier(engine, egress, sealer, clock)

    def forget() -> int:
        with engine.begin() as connection:
            return history.forget(connection, clock())

    return (
        Step("webhooks", courier.work, every_s=0.2, budget_s=60, shared=True, close=courier.close),
        Step("forget", forget, every_s=3_600, budget_s=60),
        *((Step("letters", mailer.step, every_s=5, budget_s=90),) if mailer else ()),
    )


class Worker:
    """One worker. bank: where the bank's files arrive; relayer: pays for flushes and has no power."""

    def __init__(
        self,
        gateway: Gateway,
        publication: Publication | None,
        rail: EvmRail,
        city: City,
        relayer: LocalAccount | None,
        bank: Path,
        retention_code: str = "",
        rates: RateRecorder | None = None,
    ) -> None:
        self.gateway, self.publication, self.rail = gateway, publication, rail
        self._city, self._relayer, self._bank = city, relayer, bank
        # The revenue code of what nobody claimed for a year; without it such money only waits.
        self._retention_code = retention_code
        self._rates = rates
        self._flushes = Flushes(gateway.engine, rail.place, gateway.clock)
        self._watch = ChainWatch(gateway.payments, rail, self._flushes.note)
        self._coins = CoinWatch(
            gateway.engine, rail, gateway.clock, self._flushes.note_coin, gateway.payments.states
        )
        self._bookings = Bookings(rail.pool, rail.place, gateway.engine, gateway.payments.view, gateway.clock)
        # A process without the relayer's key sends nothing; another does.
        self.sender = None if relayer is None else Sender(gateway.engine, rail.pool, relayer, gateway.clock)

    def poll_chain(self) -> list[str]:
        """Take what the chain shows from the cursor on; returns the invoices that it touched."""
        return self._watch.poll()

    def poll_bank(self) -> list[str]:
        """Read the bank's files that are new; a file that cannot be read is noted and left for a person."""
        touched: list[str] = []
        for path in sorted(self._bank.glob("*.xml")):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise Unavailable("bank files", f"{path.name}: {error.strerror}") from error
            name = sha256(content).digest()
            with self.gateway.engine.begin() as connection:
                store.lock_rail(connection, BANK_RAIL)
                if store.is_file_read(connection, name):
                    continue
                problem = None
                try:
                    found, entries = read_file(content, [self.gateway.bank_iban])
                    # All of a file or nothing of it: what fails is undone before the failure is noted.
                    with connection.begin_nested():
                        if self.gateway.refunds is not None:
                            found = self.gateway.refunds.take_bank(connection, entries, found)
                        touched.extend(self.gateway.payments.take(connection, found))
                except Invalid as error:
                    problem = str(error)
                    LOGGER.warning("bank file %s: %s", path.name, problem)
                store.add_file(connection, name, path.name, problem, self.gateway.clock())
        return touched

    def flush(self) -> int:
        """Flush deposit addresses that hold final money, through the sender; returns of how many invoices."""
        self._coins.poll()
        self._flushes.follow()
        queued = self._flushes.queue()
        self.send()
        return queued

    def send(self) -> None:
        """Send what is queued for the chain, and follow what was sent."""
        if self.sender is not None:
            self.sender.step()
        if self.gateway.relayer is not None:
            self.gateway.relayer.follow()

    def record(self) -> None:
        """Have the writer answer all that waits."""
        if self.publication is not None:
            self.publication.writer.drain()

    def publish(self) -> int | None:
        """Make what was recorded public: sign, publish, witness, anchor."""
        if self.publication is None:
            return None
        asked = self.publication
        return asked.writer.publish(self.gateway.publisher, asked.witness, asked.anchors, asked.policy)

    def deliver(self) -> int:
        """Send the webhooks that are due."""
        return deliver_due(self.gateway.engine, self.gateway.egress, self.gateway.sealer, self.gateway.clock)

    def retain(self) -> int:
        """Give what nobody claimed for a year to the city, and say how much it was (LEAKS 12)."""
        unmatched = self.gateway.unmatched
        assert unmatched is not None
        done = unmatched.retain(self._retention_code)
        for one in done:
            LOGGER.info("retained %s: %d of %s", one.key, one.amount_minor, one.asset)
        return len(done)

    def tell_changes(self) -> int:
        """Tell merchants of changes that hold since a moment ago."""
        with self.gateway.engine.begin() as connection:
            return tell_applied(connection, self.gateway.clock(), webhooks.enqueue)

    def forget_answers(self) -> int:
        """Forget what nobody need be answered again under an Idempotency-Key."""
        return forget_old(self.gateway.engine, self.gateway.clock())

    def steps(self) -> tuple[Step, ...]:
        """What a worker does: names, periods, budgets. In the order of a round; each stands alone."""
        gateway = self.gateway
        payments, refunds, settlements = gateway.payments, gateway.refunds, gateway.settlements
        is_retaining = gateway.unmatched is not None and self._retention_code != ""
        return (
            Step("chain", self.poll_chain, every_s=0.25, budget_s=120),
            Step("bank", self.poll_bank, every_s=5, budget_s=60),
            Step("flush", self.flush, every_s=2, budget_s=120),
            Step("late", payments.decide_late, every_s=5, budget_s=60),
            Step("expire", payments.expire, every_s=5, budget_s=60),
            Step("book", payments.book_again, every_s=30, budget_s=60),
            *((Step("rates", self._rates.step, every_s=60, budget_s=60),) if self._rates else ()),
            Step("orders", self._bookings.follow, every_s=30, budget_s=120),
            # These two are done by whoever is the one writer.
            Step("record", self.record, every_s=0.05, budget_s=60, shared=True),
            Step("changes", self.tell_changes, every_s=10, budget_s=60),
            Step("answers", payments.take_answers, every_s=1, budget_s=60),
            *((Step("refunds", refunds.follow, every_s=5, budget_s=120),) if refunds else ()),
            *((Step("settlements", settlements.follow, every_s=30, budget_s=120),) if settlements else ()),
            *((Step("retention", self.retain, every_s=3_600, budget_s=120),) if is_retaining else ()),
            Step("publish", self.publish_if_new, every_s=5, budget_s=300, shared=True),
            Step("webhooks", self.deliver, every_s=0.2, budget_s=60, shared=True),
            Step("kept_answers", self.forget_answers, every_s=3_600, budget_s=60),
        )

    def round(self) -> None:
        """Everything once, in one thread: for a city that is one process."""
        run_once(self.steps())

    def publish_if_new(self) -> None:
        """Publish where the ledger has grown since, or a chain has not got it yet."""
        if self.publication is None:
            return
        writer, anchors = self.publication.writer, self.publication.anchors
        writer.catch_up()
        size = writer.tree.size
        if size > self.gateway.publisher.published() or not is_held(writer.engine, anchors, size):
            self.publish()
        elif not is_settled(writer.engine, anchors, size):
            # Until it is final a chain may take it back, and then it is to be sent again.
            writer.follow(self.gateway.publisher, anchors)

    def run(self, stop: threading.Event, every_s: float = 1.0) -> None:
        """Rounds until told to stop."""
        while not stop.wait(every_s):
            self.round()
