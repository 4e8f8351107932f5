"""Runs named steps, each in its own time, until told to stop.

Every step can be done at any time, again, and by more than one process; what must happen once is made
so by the database. The lock of a step only keeps machines from doing the same work side by side. If the
process dies in the middle of a step its lock ends with it, and another machine takes the next turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gateway.db import Engine, reading
from gateway.steps import store
from ledger.records import Invalid, Unavailable, reject

LOGGER = logging.getLogger(__name__)
# After a failure a step waits longer each time, up to this.
BACK_OFF_MOST_S = 30.0
# A step that takes so many budgets hangs: the process ends, and whoever supervises it starts another.
HUNG_BUDGETS = 5


@dataclass(frozen=True)
class Step:
    """One piece of work. every_s: how long after its start it is due again, on whichever machine.

    budget_s: how long it may take before that is told. shared: any number of machines may do it at the
    same time, because what it takes is claimed row by row, or because it has a lock of its own.
    close: what is still to be done once the loop has ended.
    """

    name: str
    run: Callable[[], object]
    every_s: float
    budget_s: float
    shared: bool = False
    close: Callable[[], None] | None = None


@dataclass
class Progress:
    """What this process knows of a step."""

    runs: int = 0
    failures: int = 0
    failed_in_a_row: int = 0
    busy_since: float | None = None
    succeeded_at: float | None = None
    took_s: float = 0.0
    error: str | None = None


@dataclass
class Loop:
    """The steps of one process, a thread each, so that a slow chain does not hold up webhooks."""

    engine: Engine
    steps: Sequence[Step]
    grace_s: float = 30.0
    progress: dict[str, Progress] = field(init=False)
    # Our own bug, or a ledger that disagrees with itself: then nothing may follow.
    broken: BaseException | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.progress = {step.name: Progress() for step in self.steps}
        self._locks = store.Locks(self.engine)

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; what is under way is finished first, for at most grace_s.

        Raises what broke the loop, if anything did.
        """
        threads = [
            threading.Thread(target=self._work, args=(step, stop), name=f"step-{step.name}", daemon=True)
            for step in self.steps
        ]
        for thread in threads:
            thread.start()
        while not stop.wait(0.5):
            hung = self.hung()
            if hung:
                self.broken = AssertionError(f"{', '.join(hung)}: no end in {HUNG_BUDGETS} budgets")
                stop.set()
        deadline = time.monotonic() + self.grace_s
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self.close()
        if self.broken is not None:
            raise self.broken

    def close(self) -> None:
        """Do what is still to be done, and hold nothing any more."""
        for step in self.steps:
            if step.close is not None:
                step.close()
        self._locks.close()

    def hung(self) -> list[str]:
        """Steps that have been under way for many times their budget."""
        now = time.monotonic()
        return [
            step.name
            for step in self.steps
            if (since := self.progress[step.name].busy_since) is not None
            and now - since > HUNG_BUDGETS * step.budget_s
        ]

    def late(self) -> list[str]:
        """Steps that should have come to an end by now, here or on another machine, and did not."""
        now, found = time.monotonic(), []
        for step in self.steps:
            progress = self.progress[step.name]
            since = progress.succeeded_at
            if since is not None and now - since > 3 * step.every_s + step.budget_s:
                found.append(step.name)
        return found

    def _work(self, step: Step, stop: threading.Event) -> None:
        self.progress[step.name].succeeded_at = time.monotonic()
        wait_s = 0.0
        while not stop.wait(wait_s):
            try:
                wait_s = self.turn(step)
            except BaseException as error:
                self.broken = self.broken or error
                stop.set()
                return

    def turn(self, step: Step) -> float:
        """Do a step if it is due and nobody has it; returns after how many seconds to look again."""
        progress = self.progress[step.name]
        started = time.monotonic()
        try:
            self._do(step, progress)
        except (Invalid, Unavailable) as error:
            self._failed(progress, error)
            LOGGER.warning("%s: %s", step.name, error)
        except AssertionError:
            raise
        except Exception as error:
            # A database that is away, a file system that is full: told, and tried again.
            self._failed(progress, error)
            LOGGER.exception("%s", step.name)
        took_s = time.monotonic() - started
        if took_s > step.budget_s:
            LOGGER.warning("%s took %.1f s, its budget is %s s", step.name, took_s, step.budget_s)
        back_off = min(2.0 ** min(progress.failed_in_a_row, 10), BACK_OFF_MOST_S)
        wait_s = max(step.every_s - took_s, 0.0)
        return max(wait_s, back_off) if progress.failed_in_a_row else max(wait_s, 0.01)

    def _do(self, step: Step, progress: Progress) -> None:
        if step.shared:
            self._run(step, progress)
            return
        with self._locks.held(step.name) as is_ours:
            if is_ours and self._is_due(step):
                self._run(step, progress)
            else:
                # Done by another: that counts, else this process would call itself late.
                progress.succeeded_at = time.monotonic()

    def _is_due(self, step: Step) -> bool:
        with reading(self.engine) as connection:
            last = store.done(connection, step.name)
        # A little early is in time: two machines that wake together must not both wait another turn.
        return last is None or _now_ms() - last.started_ms >= 900 * step.every_s

    def _run(self, step: Step, progress: Progress) -> None:
        started_ms, started = _now_ms(), time.monotonic()
        progress.busy_since = started
        was_failing = progress.error is not None
        error: str | None = "it did not end"
        try:
            step.run()
            error = None
            progress.failed_in_a_row, progress.error = 0, None
            progress.succeeded_at = time.monotonic()
        except Exception as failure:
            error = str(failure)[:500] or type(failure).__name__
            raise
        finally:
            progress.busy_since = None
            progress.runs += 1
            progress.took_s = time.monotonic() - started
            # Of a shared step, whose turns are many and short, only that it fails, and that it no more does.
            if not step.shared or error is not None or was_failing:
                self._note(step, started_ms, progress, error)

    def _note(self, step: Step, started_ms: int, progress: Progress, error: str | None) -> None:
        try:
            with self.engine.begin() as connection:
                store.note(connection, step.name, started_ms, int(progress.took_s * 1_000), error)
        except Exception as failure:
            # What the step itself did or did not do stands; only its note is missing.
            LOGGER.warning("%s is not noted: %s", step.name, failure)

    @staticmethod
    def _failed(progress: Progress, error: Exception) -> None:
        progress.failures += 1
        progress.failed_in_a_row += 1
        progress.error = str(error)[:500]


def select_steps(steps: Iterable[Step], only: Sequence[str]) -> tuple[Step, ...]:
    """The steps that are asked for by name, all if none are; a name that is none is refused."""
    by_name = {step.name: step for step in steps}
    unknown = [name for name in only if name not in by_name]
    if unknown:
        reject("steps", unknown[0][:40], f"none of {', '.join(by_name)}")
    return tuple(step for step in by_name.values() if not only or step.name in only)


def run_once(steps: Iterable[Step]) -> None:
    """Everything once, one after the other; what fails is told and does not stop the rest."""
    for step in steps:
        try:
            step.run()
        except (Invalid, Unavailable) as error:
            LOGGER.warning("%s: %s", step.name, error)
        except AssertionError:
            # Our own bug, or a ledger that disagrees with itself: then nothing may follow.
            raise
        except Exception:
            LOGGER.exception("%s", step.name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
