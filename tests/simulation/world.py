"""A ledger in a world that goes wrong, the same way each time for the same seed.

Everything of ours is real: writer, store, publisher, watcher, witnesses, anchors, auditor. What
is around them misbehaves: the process dies before or after any commit and any file that it
writes, witnesses get or answer nothing and one may have been shown a fork, two chains do not
answer, lose replies, let transactions wait, and take heads back. After each death a new process
starts from what is stored. At the end the real auditor reads the bundle.

Run one seed: `python -m tests.simulation.world SEED`; many: `make simulate N=1000`, or from one on
`python -m tests.simulation.world --count 1000 --from 5000`.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import evidence_index, store
from ledger.anchor import PATIENCE_S, EvmAnchor
from ledger.anchoring import is_settled
from ledger.audit import audit
from ledger.cosigning import Cosigner, Policy
from ledger.database import Engine, engine, reading
from ledger.proof import format_add_checkpoint, parse_checkpoint, parse_note
from ledger.records import Contract, Invalid, Record, Transfer, Unavailable, decode
from ledger.rules import DAY
from ledger.target import Folder
from ledger.witness import Answer, Witness, ask
from ledger.writer import Writer, only_writer, submit
from tests import city
from tests.fakes.chain import BASE_FEE_WEI, Node
from tests.ledger.running import KEYS, Clock, Ledger, fees

DEATHS_AT_MOST = 16
ROUNDS_AT_MOST = 300
TRIES_AT_MOST = 300
SECOND_CHAIN = 31_338
# What dies here are processes, and a file system outlives them: waiting for a disk shows nothing more.
IN_MEMORY = Path("/dev/shm")


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

    def may_be_away(self, where: str, how_often: float) -> None:
        """Not answer, sometimes."""
        if self.chance.random() < how_often:
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


class Strangers:
    """Three witnesses of which two must sign; requests and replies get lost, and one may have seen a fork.

    They are asked at the same time, so each has a fate of its own, drawn from the seed.
    """

    NEEDED = 2

    def __init__(self, seed: int, folder: Path, clock: Clock) -> None:
        self._chances = [random.Random(f"{seed} witness {n}") for n in range(3)]
        self.witnesses = [
            Witness(
                f"witness-{n}",
                [Ed25519PrivateKey.from_private_bytes(city.digest(f"witness {n}"))],
                [KEYS.verifiers()],
                folder / f"witness-{n}",
                clock,
            )
            for n in range(3)
        ]
        # The sizes that each has cosigned.
        self.signed: list[set[int]] = [set(), set(), set()]
        self.is_one_forked = seed % 5 == 0
        if self.is_one_forked:
            shown = KEYS.sign_checkpoint(3, city.digest("another history"), clock())
            assert self.witnesses[2].add_checkpoint(format_add_checkpoint((0, [], shown))).status == 200

    def cosigners(self) -> list[Cosigner]:
        """What the operator's policy names."""
        return [
            Cosigner(f"http://{n}", tuple(witness.verifiers())) for n, witness in enumerate(self.witnesses)
        ]

    def post(self, url: str, body: bytes) -> Answer:
        """Bring a request to a witness; it, or the answer, may be lost."""
        number = int(url[-1])
        chance = self._chances[number]
        if chance.random() < 0.1:
            raise Unavailable("simulated", f"{url} does not answer")
        answer = self.witnesses[number].add_checkpoint(body)
        if answer.status == 200:
            self.signed[number].add(parse_checkpoint(parse_note(body.partition(b"\n\n")[2])[0]).size)
        if chance.random() < 0.1:
            raise Unavailable("simulated", f"the answer of {url} was lost")
        return answer


class World:
    """One seed's world in a folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.fate = Fate(random.Random(seed))
        self.folder, self.clock = folder, Clock()
        self.strangers = Strangers(seed, folder, self.clock)
        self.chains = [
            Node(chain_id, self.clock, city.ANCHOR, lag=3, mines_at_once=False, may_be_away=self._chain_fate)
            for chain_id in (city.CHAIN_ID, SECOND_CHAIN)
        ]
        self.engines: dict[str, Engine] = {}
        self.expected: list[bytes] = []
        self.refused: dict[bytes, str] = {}
        self._start()

    # --- life and death ---------------------------------------------------------------

    def _open(self, name: str) -> Engine:
        """A database without connections; what an engine keeps besides them are statements it has compiled."""
        if name in self.engines:
            self.engines[name].dispose()
            return self.engines[name]
        opened = engine(f"sqlite:///{self.folder / name}")
        commit: Callable[[Any], None] = opened.dialect.do_commit

        def mortal_commit(connection: Any) -> None:
            self.fate.may_die(f"before a commit to {name}")
            commit(connection)
            self.fate.may_die(f"after a commit to {name}")

        opened.dialect.do_commit = mortal_commit  # type: ignore[method-assign]
        self.engines[name] = opened
        return opened

    def _start(self) -> None:
        """A new process: nothing is left of the one before but what it stored."""
        while True:
            try:
                self.ledger = Ledger(self.folder, self._open("ledger.db"), self._open("heads.db"), self.clock)
                with only_writer(self.ledger.engine, self.folder / "lock"):
                    self.writer: Writer = self.ledger.writer()
                self.publisher = self.ledger.publisher(MortalFolder(self.folder / "bundle", self.fate))
                cosigners = self.strangers.cosigners()
                known = [verifier for one in cosigners for verifier in one.verifiers]
                trust = self.publisher.trust
                self.publisher.trust = replace(trust, verifiers=[*trust.verifiers, *known])
                self.anchors = tuple(EvmAnchor(chain, object(), self.clock) for chain in self.chains)
                self.policy = Policy(
                    cosigners,
                    Strangers.NEEDED,
                    patience_s=600,
                    grace_s=600,
                    ask=partial(ask, post=self.strangers.post),
                )
                self.watcher = self.ledger.watcher(self.folder / "watcher")
            except Died:
                continue
            return

    def until_done(self, work: Callable[[], None]) -> None:
        """Try again, as supervisors and callers do, until it goes through once."""
        why = ""
        for _ in range(TRIES_AT_MOST):
            try:
                work()
            except Died:
                self._start()
            except Unavailable as error:
                why = str(error)
            else:
                return
        raise AssertionError(f"{TRIES_AT_MOST} tries did not do it; the last: {why}")

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
        for data, following in zip(records, [*records[1:], None], strict=True):
            record = decode(data)
            if record.time - self.clock.now > DAY:
                self.settle()  # before the notice: nothing may wait that long for its anchor
            self.clock.now = max(self.clock.now, record.time)
            self.ask(record, self.clock.now)
            self.expected.append(data)
            # Some wait for each other and come in one batch; what has another time does not.
            if following is None or following[32:64] != data[32:64] or self.fate.chance.random() < 0.4:
                self.until_done(self._drain)
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
        """Sign, publish, have it witnessed, sent to the chains; then these go on."""
        self.until_done(self._publish_once)
        for chain in self.chains:
            self._go_on(chain)

    def settle(self) -> None:
        """Publish until both chains hold the newest head for good."""
        for _ in range(ROUNDS_AT_MOST):
            self.publish()
            if is_settled(self.ledger.engine, self.anchors, self.writer.tree.size):
                return
            self.clock.now += self.fate.chance.randrange(PATIENCE_S)
        raise AssertionError(f"{ROUNDS_AT_MOST} rounds brought no final head: {self.fate.told[-20:]}")

    def _go_on(self, chain: Node) -> None:
        """What a chain does between two rounds: blocks, fees that rise and fall, branches that lose."""
        chance = self.fate.chance
        chain.base_fee_wei = BASE_FEE_WEI * (4 if chance.random() < 0.2 else 1)
        chain.mine(chance.randrange(4))
        if chance.random() < 0.2:
            loses = chance.random() < 0.5
            before = chain.sizes()
            chain.reorganise(chance.randrange(1, 4), loses=loses)
            gone = len(before) - len(chain.sizes())
            self.fate.told.append(f"chain {chain.chain_id} took back {gone} heads, lost: {loses}")

    def _chain_fate(self, where: str) -> None:
        if where.startswith("after"):
            self.fate.may_die(f"after a chain {where}")
        self.fate.may_be_away(f"chain {where}", 0.03)

    def _drain(self) -> None:
        # Not the writer's own method: after a death it is another writer's.
        self.writer.drain()

    def _publish_once(self) -> None:
        self.writer.publish(self.publisher, self.watcher, self.anchors, self.policy)

    # --- the end ------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that was asked for is there once, in order, and the real auditor finds it valid."""
        self.settle()
        stored = self.ledger.records()
        assert stored[: len(self.expected)] == self.expected
        fee_ids = [record.id for data in stored if isinstance(record := decode(data), Transfer)]
        assert len(fee_ids) == len(set(fee_ids))
        with reading(self.ledger.engine) as connection:
            for id, rule in self.refused.items():
                with pytest.raises(Invalid) as refused:
                    store.answer(connection, id)
                assert refused.value.rule == rule
        with reading(self.ledger.engine) as connection:
            noted = store.anchors(connection)
        for chain in self.chains:
            self._check_chain(chain, [one for one in noted if one.chain_id == chain.chain_id], len(stored))
        verdict = audit(str(self.folder / "bundle"))
        assert verdict.is_valid, verdict.findings

    def _check_chain(self, chain: Node, noted: Sequence[store.Anchored], size: int) -> None:
        """What is noted is what the chain holds for good, and strangers had signed each of it before."""
        final = chain.heads_in(0, len(chain.blocks) - 1 - chain.lag)
        assert [(one.size, one.root, one.block_hash) for one in noted] == [
            (event.size, event.root, event.block_hash) for event in final
        ]
        sizes = [event.size for event in final]
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == size
        for one in chain.seen.values():
            seen_by = sum(one.size in signed for signed in self.strangers.signed)
            assert seen_by >= Strangers.NEEDED, f"size {one.size} was sent when {seen_by} had signed it"

    def close(self) -> None:
        """Let go of the databases."""
        for opened in self.engines.values():
            opened.dispose()


def simulate(seed: int, folder: Path) -> Fate:
    """Live through one seed; raises where anything is not as it must be."""
    with pytest.MonkeyPatch.context() as patch:
        # So that runs of evidence are sealed, and read again, among all these deaths.
        patch.setattr(evidence_index, "RUN_RECORDS", 16)
        return _lived_through(World(seed, folder))


def _lived_through(world: World) -> Fate:
    try:
        log = city.registered()
        # The second chain's anchor is one that the ledger names.
        log.act(Contract(0, "anchor-2", SECOND_CHAIN, city.ANCHOR, city.digest("code"), city.ACT))
        world.record(log.records)
        world.settle()
        world.clock.now = max(world.clock.now, log.now)
        for burst in range(4):
            world.pay(fees(log, 10 * burst, world.fate.chance.randrange(1, 9)))
            world.clock.now += world.fate.chance.randrange(1, 3_600)
        world.check()
    finally:
        world.close()
    return world.fate


def live(seed: int) -> tuple[int, int, str]:
    """Live through one seed in a folder of its own: the seed, its deaths, and what went wrong or nothing."""
    # Witnesses that do not answer are told to an operator, and here are what was asked for.
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        try:
            return seed, simulate(seed, Path(folder)).deaths, ""
        except Exception:
            return seed, 0, traceback.format_exc()


def main() -> None:
    """Run seeds given as numbers, or so many from one on, on all cores."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.world")
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--count", type=int, default=0, help="this many seeds")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    asked = parser.parse_args()
    seeds = asked.seeds or range(asked.first, asked.first + asked.count)
    if not seeds:
        parser.error("name seeds, or how many with --count")
    deaths, failed, started = 0, list[int](), time.monotonic()
    with ProcessPoolExecutor(min(len(seeds), os.cpu_count() or 1)) as pool:
        for done, (seed, died, trouble) in enumerate(pool.map(live, seeds), 1):
            deaths += died
            if trouble:
                failed.append(seed)
                print(f"{trouble}\nagain: python -m tests.simulation.world {seed}", file=sys.stderr)
            if sys.stderr.isatty() or done % 100 == 0:
                left_s = (time.monotonic() - started) / done * (len(seeds) - done)
                told = f"\r{done} of {len(seeds)} seeds, {deaths} deaths, {left_s / 60:.1f} min left "
                print(told, end="", file=sys.stderr, flush=True)
    print(
        f"\n{len(seeds) - len(failed)} of {len(seeds)} seeds lived through, {deaths} deaths", file=sys.stderr
    )
    if failed:
        sys.exit(f"failed: {' '.join(map(str, failed))}")


if __name__ == "__main__":
    main()
