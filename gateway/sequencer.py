"""The one writer among many machines: a process that would write waits until it may.

Whoever holds the writer's lock records and publishes; the others are a hot standby that asks for the lock
again and again. The lock ends with the process that holds it. One that only believes it still holds it is
stopped by the fencing number in the database, gives up and becomes a standby again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from gateway.db import Engine
from ledger.publish import LogKeys, Publisher
from ledger.records import Unavailable
from ledger.watcher import Clock
from ledger.writer import Anchor, Witness, Writer, only_writer

LOGGER = logging.getLogger(__name__)


class Sequencer:
    """Records and publishes while it holds the writer's lock; does nothing while another does."""

    def __init__(
        self,
        engine: Engine,
        heads: Engine,
        keys: LogKeys,
        clock: Clock,
        lock: Path,
        publisher: Publisher,
        witness: Witness | None,
        anchors: tuple[Anchor, ...],
        open_writer: Callable[..., Writer] = Writer,
    ) -> None:
        self._engine, self._heads, self._keys, self._clock = engine, heads, keys, clock
        self._lock, self._publisher, self._witness, self._anchors = lock, publisher, witness, anchors
        self._open_writer = open_writer
        self._held = ExitStack()
        self._writer: Writer | None = None
        # Recording and publishing share one memory of the ledger.
        self._turn = threading.Lock()

    @property
    def is_writer(self) -> bool:
        """Whether this process is the one."""
        return self._writer is not None

    def record(self) -> int:
        """Have all that waits answered; returns how many answers that gave, 0 on a standby."""
        with self._turn:
            writer = self._become()
            if writer is None:
                return 0
            answered = 0
            try:
                while count := writer.step():
                    answered += count
            except Unavailable as error:
                self._give_up_if_overtaken(error)
                raise
            return answered

    def publish(self) -> int | None:
        """Sign, publish, have witnessed and anchor what is new; returns the size, None if nothing is."""
        with self._turn:
            writer = self._become()
            if writer is None or writer.tree.size <= self._publisher.published():
                return None
            return writer.publish(self._publisher, self._witness, self._anchors)

    def close(self) -> None:
        """Let another become the writer."""
        with self._turn:
            self._writer = None
            self._held.close()

    def _become(self) -> Writer | None:
        if self._writer is not None:
            return self._writer
        with ExitStack() as stack:
            try:
                stack.enter_context(only_writer(self._engine, self._lock))
            except Unavailable:
                return None
            self._writer = self._open_writer(self._engine, self._heads, self._keys, self._clock)
            self._held = stack.pop_all()
        LOGGER.info("this process is the writer now")
        return self._writer

    def _give_up_if_overtaken(self, error: Unavailable) -> None:
        if error.service == "writer":
            LOGGER.warning("no longer the writer: %s", error)
            self._writer = None
            try:
                self._held.close()
            except Exception as failure:
                # The session that held the lock has gone: so has the lock.
                LOGGER.warning("the writer's lock: %s", failure)
