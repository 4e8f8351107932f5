"""A ledger in a world that goes wrong, the same way each time for the same seed.

Everything of ours is real: writer, store, publisher, watcher, auditor. What is around them
misbehaves: the process dies before or after any commit and any file that it writes, the
chain does not answer, or takes a head and loses the reply. After each death a new process
starts from what is stored. At the end the real auditor reads the bundle.

Run one seed: `python -m tests.simulation.world SEED`; many: `make simulate N=1000`.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger import store
from ledger.audit import audit
from ledger.database import Engine, engine, reading
from ledger.proof import check_consistency
from ledger.records import Invalid, Record, Transfer, Unavailable, decode
from ledger.rules import DAY
from ledger.store import Anchored
from ledger.target import Folder
from ledger.watcher import SignedHead
from ledger.writer import Writer, only_writer, submit
from tests import city
from tests.ledger.running import Clock, Ledger, fees

DEATHS_AT_MOST = 12


class Died(BaseException):
    """The process ended here; nothing may catch it but the world."""


@dataclass
class Fate:
    """Decides, from the seed alone, what goes wrong next."""

    chance: random.Random
    deaths: int = 0
    told: list[str] = field(default_factory=list)

    def may_die(self, where: str) -> None:
        """Die here, sometimes; rarely enough that work gets done in between."""
        if self.deaths < DEATHS_AT_MOST and self.chance.random() < 0.03:
            self.deaths += 1
            self.told.append(f"died {where}")
            raise Died(where)

    def may_be_away(self, where: str) -> None:
        """Not answer, sometimes."""
        if self.chance.random() < 0.15:
            self.told.append(f"no answer {where}")
            raise Unavailable("simulated", where)


class MortalFolder(Folder):
    """A folder in which the process may die before or after each file."""

    def __init__(self, folder: Path, fate: Fate) -> None:
        super().__init__(folder)
        self._fate = fate

    def write(self, path: str, content: bytes) -> None:
        self._fate.may_die(f"before {path}")
        super().write(path, content)
        self._fate.may_die(f"after {path}")


class Chain:
    """A chain that takes extensions only, as LedgerAnchor does, and may be away or lose its answer."""

    name = "simulated chain"

    def __init__(self, fate: Fate, clock: Clock) -> None:
        self._fate, self._clock = fate, clock
        self.heads: list[Anchored] = []

    def held(self) -> Anchored | None:
        self._fate.may_be_away("when the chain is asked")
        return self.heads[-1] if self.heads else None

    def append(self, size: int, root: bytes, path: Sequence[bytes], head: SignedHead) -> None:
        self._fate.may_be_away("before the chain takes a head")
        assert (head.size, head.root) == (size, root)
        if self.heads:
            check_consistency(self.heads[-1].size, self.heads[-1].root, size, root, path)
        number = len(self.heads) + 1
        transaction = city.digest(f"transaction {number}")
        block_hash = city.digest(f"block {number}")
        self.heads.append(
            Anchored(city.CHAIN_ID, city.ANCHOR, size, root, transaction, number, block_hash, self._clock())
        )
        self._fate.may_die("after the chain took a head")
        self._fate.may_be_away("after the chain took a head")


class World:
    """One seed's world in a folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.fate = Fate(random.Random(seed))
        self.folder, self.clock = folder, Clock()
        self.chain = Chain(self.fate, self.clock)
        self.engines: list[Engine] = []
        self.expected: list[bytes] = []
        self.refused: dict[bytes, str] = {}
        self._start()

    # --- life and death ---------------------------------------------------------------

    def _open(self, name: str) -> Engine:
        opened = engine(f"sqlite:///{self.folder / name}")
        commit: Callable[[Any], None] = opened.dialect.do_commit

        def mortal_commit(connection: Any) -> None:
            self.fate.may_die(f"before a commit to {name}")
            commit(connection)
            self.fate.may_die(f"after a commit to {name}")

        opened.dialect.do_commit = mortal_commit  # type: ignore[method-assign]
        self.engines.append(opened)
        return opened

    def _start(self) -> None:
        """A new process: nothing is left of the one before but what it stored."""
        while True:
            for opened in self.engines:
                opened.dispose()
            self.engines.clear()
            try:
                self.ledger = Ledger(self.folder, self._open("ledger.db"), self._open("heads.db"), self.clock)
                with only_writer(self.ledger.engine, self.folder / "lock"):
                    self.writer: Writer = self.ledger.writer()
                self.publisher = self.ledger.publisher(MortalFolder(self.folder / "bundle", self.fate))
                self.watcher = self.ledger.watcher(self.folder / "watcher")
            except Died:
                continue
            return

    def until_done(self, work: Callable[[], None]) -> None:
        """Try again, as supervisors and callers do, until it goes through once."""
        while True:
            try:
                work()
            except Died:
                self._start()
            except Unavailable:
                continue
            else:
                return

    # --- what happens -------------------------------------------------------------------

    def ask(self, record: Record, time_s: int) -> bytes:
        """Submit until it is stored; asking twice is asking once."""
        found: list[bytes] = []

        def work() -> None:
            with self.ledger.engine.begin() as connection:
                found.append(submit(connection, record, time_s))

        self.until_done(work)
        return found[-1]

    def record(self, records: Sequence[bytes]) -> None:
        """Records that the rules allow, each at its time; each must come out exactly once."""
        for data in records:
            record = decode(data)
            if record.time - self.clock.now > DAY:
                self.publish()  # before the notice: nothing may wait that long for its anchor
            self.clock.now = max(self.clock.now, record.time)
            self.ask(record, self.clock.now)
            self.until_done(self._drain)
            self.expected.append(data)
            if self.fate.chance.random() < 0.06:
                self.publish()

    def pay(self, transfers: Sequence[Transfer]) -> None:
        """Fees in a burst, some asked for twice, with nonsense in between that must be refused alone."""
        ids = []
        for transfer in transfers:
            ids.append(self.ask(transfer, self.clock.now))
            if self.fate.chance.random() < 0.3:
                self.ask(transfer, self.clock.now)
            if self.fate.chance.random() < 0.3:
                wrong = Transfer(
                    0,
                    city.digest(f"wrong {self.fate.chance.random()}"),
                    "fees-usdt",
                    "treasury-usdt",
                    "USDT",
                    1,
                    city.CODE,
                    city.digest("nobody"),
                    city.digest(f"wrong evidence {self.fate.chance.random()}"),
                )
                self.refused[self.ask(wrong, self.clock.now)] = "F3"
        self.until_done(self._drain)
        self.publish()

    def publish(self) -> None:
        """Sign, publish, have it witnessed, anchor."""
        self.until_done(self._publish_once)

    def _drain(self) -> None:
        # Not the writer's own method: after a death it is another writer's.
        self.writer.drain()

    def _publish_once(self) -> None:
        self.writer.publish(self.publisher, self.watcher, (self.chain,))

    # --- the end ------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that was asked for is there once, in order, and the real auditor finds it valid."""
        self.publish()
        stored = self.ledger.records()
        assert stored[: len(self.expected)] == self.expected
        fee_ids = [record.id for data in stored if isinstance(record := decode(data), Transfer)]
        assert len(fee_ids) == len(set(fee_ids))
        with reading(self.ledger.engine) as connection:
            for id, rule in self.refused.items():
                with pytest.raises(Invalid) as refused:
                    store.answer(connection, id)
                assert refused.value.rule == rule
        sizes = [head.size for head in self.chain.heads]
        assert sizes == sorted(set(sizes)), "the chain was asked to take a head twice"
        assert self.chain.heads[-1].size == len(stored)
        verdict = audit(str(self.folder / "bundle"))
        assert verdict.is_valid, verdict.findings

    def close(self) -> None:
        """Let go of the databases."""
        for opened in self.engines:
            opened.dispose()


def simulate(seed: int, folder: Path) -> Fate:
    """Live through one seed; raises where anything is not as it must be."""
    world = World(seed, folder)
    try:
        log = city.registered()
        world.record(log.records)
        world.publish()
        world.clock.now = log.now
        for burst in range(4):
            world.pay(fees(log, 10 * burst, world.fate.chance.randrange(1, 9)))
            world.clock.now += world.fate.chance.randrange(1, 3_600)
        world.check()
    finally:
        world.close()
    return world.fate


def main() -> None:
    """Run seeds given as numbers, or so many from 0 on with --count N."""
    words = sys.argv[1:]
    seeds = range(int(words[1])) if words[:1] == ["--count"] else [int(word) for word in words]
    deaths = 0
    for done, seed in enumerate(seeds, 1):
        with tempfile.TemporaryDirectory() as folder:
            try:
                deaths += simulate(seed, Path(folder)).deaths
            except Exception:
                print(f"seed {seed} failed; again: python -m tests.simulation.world {seed}", file=sys.stderr)
                raise
        if sys.stderr.isatty() or done % 100 == 0:
            print(f"\r{done} of {len(seeds)} seeds, {deaths} deaths", end="", file=sys.stderr, flush=True)
    print(f"\n{len(seeds)} seeds lived through, {deaths} deaths", file=sys.stderr)


if __name__ == "__main__":
    main()
