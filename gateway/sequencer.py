"""The one writer among many machines: a process that would write waits until it may.

Whoever holds the writer's lock records and publishes; the others are a hot standby that asks for the lock
again and again. The lock ends with the process that holds it. One that only believes it still holds it is
stopped by the fencing number in the database, gives up and becomes a standby again.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from pathlib import Path

from gateway.db import Engine
from gateway.worker import Publication, Worker
from ledger.anchoring import Anchor
from ledger.cosigning import Policy
from ledger.publish import LogKeys
from ledger.records import Unavailable
from ledger.timekeeping import Timekeeper
from ledger.writer import Witness, Writer, only_writer

LOGGER = logging.getLogger(__name__)


class Sequencer:
    """Lets a worker record and publish while it holds the writer's lock, and not while another does."""

    def __init__(
        self,
        worker: Worker,
        heads: Engine,
        keys: LogKeys,
        lock: Path,
        witness: Witness | None,
        anchors: tuple[Anchor, ...],
        policy: Policy | None = None,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self._worker, self._heads, self._keys, self._lock = worker, heads, keys, lock
        self._witness, self._anchors, self._policy = witness, anchors, policy
        self._timekeeper = timekeeper
        self._held = ExitStack()
        # Recording and publishing share one memory of the ledger.
        self._turn = threading.Lock()

    @property
    def is_writer(self) -> bool:
        """Whether this process is the one."""
        return self._worker.publication is not None

    def record(self) -> None:
        """Have all that waits answered; nothing on a standby."""
        with self._turn:
            if self._become():
                try:
                    self._worker.record()
                except Unavailable as error:
                    self._give_up_if_another_should(error)
                    raise

    def publish(self) -> None:
        """Sign, publish, have witnessed and anchor what is new; nothing on a standby."""
        with self._turn:
            if self._become():
                self._worker.publish_if_new()

    def close(self) -> None:
        """Let another become the writer."""
        with self._turn:
            self._worker.publication = None
            self._held.close()

    def _become(self) -> bool:
        if self._worker.publication is not None:
            return True
        gateway = self._worker.gateway
        if self._timekeeper is not None:
            # Whose clock is wrong must not keep the lock from a machine whose clock is right.
            self._timekeeper.check(gateway.clock())
        with ExitStack() as stack:
            try:
                stack.enter_context(only_writer(gateway.engine, self._lock))
            except Unavailable as error:
                if error.service == "writer":
                    return False
                raise
            writer = Writer(
                gateway.engine, self._heads, self._keys, gateway.clock, timekeeper=self._timekeeper
            )
            self._worker.publication = Publication(writer, self._witness, self._anchors, self._policy)
            self._held = stack.pop_all()
        LOGGER.info("this process is the writer now")
        return True

    def _give_up_if_another_should(self, error: Unavailable) -> None:
        """Let go where another has become the writer, or should: the clock of this machine is ahead."""
        if error.service not in {"writer", "clock"}:
            return
        LOGGER.warning("no longer the writer: %s", error)
        self._worker.publication = None
        try:
            self._held.close()
        except Exception as failure:
            # The session that held the lock has gone: so has the lock.
            LOGGER.warning("the writer's lock: %s", failure)
