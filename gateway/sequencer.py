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
from ledger.publish import LogKeys
from ledger.records import Unavailable
from ledger.writer import Anchor, Witness, Writer, only_writer

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
    ) -> None:
        self._worker, self._heads, self._keys, self._lock = worker, heads, keys, lock
        self._witness, self._anchors = witness, anchors
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
                    self._give_up_if_overtaken(error)
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
        with ExitStack() as stack:
            try:
                stack.enter_context(only_writer(gateway.engine, self._lock))
            except Unavailable as error:
                if error.service == "writer":
                    return False
                raise
            writer = Writer(gateway.engine, self._heads, self._keys, gateway.clock)
            self._worker.publication = Publication(writer, self._witness, self._anchors)
            self._held = stack.pop_all()
        LOGGER.info("this process is the writer now")
        return True

    def _give_up_if_overtaken(self, error: Unavailable) -> None:
        if error.service != "writer":
            return
        LOGGER.warning("no longer the writer: %s", error)
        self._worker.publication = None
        try:
            self._held.close()
        except Exception as failure:
            # The session that held the lock has gone: so has the lock.
            LOGGER.warning("the writer's lock: %s", failure)
