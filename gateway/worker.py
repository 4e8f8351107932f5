"""The gateway's work in the background: ask rails, book, record, publish, flush, tell.

Each piece can be done at any time, again, and by more than one process; what must happen
once is made so by the database, not by this loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from eth_account.signers.local import LocalAccount

from contracts.bindings import City
from gateway.app import Gateway
from gateway.payments import store
from gateway.rails.evm import EvmRail
from gateway.rails.tenge.rail import read_file
from gateway.relayer.flushes import Flushes
from gateway.sending.sender import Sender
from gateway.watching.coins import CoinWatch
from gateway.watching.service import ChainWatch
from gateway.webhooks.deliver import deliver_due
from ledger.records import Invalid, Unavailable
from ledger.writer import Anchor, Witness, Writer

LOGGER = logging.getLogger(__name__)
BANK_RAIL = "bank"


@dataclass(frozen=True)
class Publication:
    """Who takes part when the ledger is made public."""

    writer: Writer
    witness: Witness | None
    anchors: tuple[Anchor, ...]


class Worker:
    """One worker. bank: where the bank's files arrive; relayer: pays for flushes and has no power."""

    def __init__(
        self,
        gateway: Gateway,
        publication: Publication | None,
        rail: EvmRail,
        city: City,
        relayer: LocalAccount,
        bank: Path,
    ) -> None:
        self.gateway, self.publication, self.rail = gateway, publication, rail
        self._city, self._relayer, self._bank = city, relayer, bank
        self._flushes = Flushes(gateway.engine, rail.place, gateway.clock)
        self._watch = ChainWatch(gateway.payments, rail, self._flushes.note)
        self._coins = CoinWatch(gateway.engine, rail, gateway.clock, self._flushes.note_coin)
        self.sender = Sender(gateway.engine, rail.pool, relayer, gateway.clock)

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
                    found = read_file(content, [self.gateway.bank_iban])
                    # All of a file or nothing of it: what fails is undone before the failure is noted.
                    with connection.begin_nested():
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
        writer = self.publication.writer
        return writer.publish(self.gateway.publisher, self.publication.witness, self.publication.anchors)

    def deliver(self) -> int:
        """Send the webhooks that are due."""
        return deliver_due(self.gateway.engine, self.gateway.egress, self.gateway.sealer, self.gateway.clock)

    def round(self) -> None:
        """Everything once; what fails is told and does not stop the rest."""
        steps: tuple[Callable[[], object], ...] = (
            self.poll_chain,
            self.poll_bank,
            self.flush,
            self.gateway.payments.decide_late,
            self.gateway.payments.expire,
            self.gateway.payments.book_again,
            self.record,
            self.gateway.payments.take_answers,
            *((self.gateway.refunds.follow,) if self.gateway.refunds else ()),
            *((self.gateway.settlements.follow,) if self.gateway.settlements else ()),
            self._publish_if_new,
            self.deliver,
        )
        for step in steps:
            try:
                step()
            except (Invalid, Unavailable) as error:
                LOGGER.warning("%s: %s", getattr(step, "__name__", "step"), error)
            except AssertionError:
                # Our own bug, or a ledger that disagrees with itself: then nothing may follow.
                raise
            except Exception:
                # A database that is away, a file system that is full: told, and tried again.
                LOGGER.exception("%s", getattr(step, "__name__", "step"))

    def _publish_if_new(self) -> None:
        if (
            self.publication is not None
            and self.publication.writer.tree.size > self.gateway.publisher.published()
        ):
            self.publish()

    def run(self, stop: threading.Event, every_s: float = 1.0) -> None:
        """Rounds until told to stop."""
        while not stop.wait(every_s):
            self.round()
