"""A ledger in a world that goes wrong, the same way each time for the same seed.

Everything of ours is real: writer, store, publisher, watcher, witnesses, anchors, auditor. What
is around them misbehaves: the process dies before or after any commit, and before, after or in the
middle of any file that it writes, the watcher's own among them; witnesses die so too, get or answer
nothing, and one may have been shown a fork; two chains do not answer, lose replies, let transactions
wait, and take heads back. After each death a new process starts from what is stored. Every other seed
lives through a whole year of a city. At the end the real auditor reads the bundle.

The databases are SQLite's, or PostgreSQL's with `--postgres`: there connections break as well, under a process
that lives on, and what it asked for may have been done.

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
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import evidence_index, store, watcher_store
from ledger.anchor import PATIENCE_S, EvmAnchor
from ledger.anchoring import is_settled
from ledger.audit import Wanted, audit
from ledger.cosigning import Cosigner, Policy
from ledger.database import Engine, engine, reading
from ledger.proof import format_add_checkpoint, parse_checkpoint, parse_note
from ledger.records import Invalid, Record, Transfer, Unavailable, decode
from ledger.rules import DAY
from ledger.witness import Answer, Witness, ask
from ledger.writer import Writer, only_writer, submit
from tests import city
from tests.fakes.chain import BASE_FEE_WEI, Node
from tests.ledger.running import KEYS, Clock, Ledger, fees
from tests.servers import Postgres, postgres
from tests.simulation.mortal import Died, Fate, Files, breaking, mortal
from tests.simulation.workload import SECOND_CHAIN, fees_alone, whole_year

# So often the process dies while records come, and in each burst of fees after that.
DEATHS, MORE_DEATHS = 10, 2
WITNESS_DEATHS = 3
# Of all transactions begun and all commits, on PostgreSQL.
BREAKS = 0.01
ROUNDS_AT_MOST = 300
TRIES_AT_MOST = 300
# What dies here are processes, and a file system outlives them: waiting for a disk shows nothing more.
IN_MEMORY = Path("/dev/shm")


class Strangers:
    """Three witnesses of which two must sign; requests and replies get lost, and one may have seen a fork.

    They are asked at the same time, so each has a fate of its own, drawn from the seed.
    """

    NEEDED = 2

    def __init__(self, seed: int, folder: Path, clock: Clock, files: Files) -> None:
        self._fates = [Fate(random.Random(f"{seed} witness {n}"), WITNESS_DEATHS) for n in range(3)]
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
        for n, fate in enumerate(self._fates):
            files.add(folder / f"witness-{n}", fate)

    def cosigners(self) -> list[Cosigner]:
        """What the operator's policy names."""
        return [
            Cosigner(f"http://{n}", tuple(witness.verifiers())) for n, witness in enumerate(self.witnesses)
        ]

    def post(self, url: str, body: bytes) -> Answer:
        """Bring a request to a witness; it, or the answer, may be lost, and the witness may die over it."""
        number = int(url[-1])
        fate = self._fates[number]
        fate.may_be_away(url, 0.1)
        try:
            answer = self.witnesses[number].add_checkpoint(body)
        except Died as death:
            raise Unavailable("simulated", f"{url} died: {death}") from None
        if answer.status == 200:
            self.signed[number].add(parse_checkpoint(parse_note(body.partition(b"\n\n")[2])[0]).size)
        fate.may_be_away(f"{url}, lost on its way", 0.1)
        return answer


class World:
    """One seed's world in a folder, or in a folder and two databases of a server."""

    def __init__(
        self, seed: int, folder: Path, patch: pytest.MonkeyPatch, server: Postgres | None = None
    ) -> None:
        self.fate = Fate(random.Random(seed), 0, breaks=0 if server is None else BREAKS)
        self.folder, self.clock, self._server = folder, Clock(), server
        self._databases = ExitStack()
        files = Files(patch)
        self.strangers = Strangers(seed, folder, self.clock, files)
        for name in ("bundle", "watcher"):
            files.add(folder / name, self.fate)
        # The watcher's copy of the records.
        patch.setattr(watcher_store, "engine", lambda url: mortal(engine(url), "watcher", self.fate))
        self.chains = [
            Node(chain_id, self.clock, city.ANCHOR, lag=3, mines_at_once=False, may_be_away=self._chain_fate)
            for chain_id in (city.CHAIN_ID, SECOND_CHAIN)
        ]
        self.engines: dict[str, Engine] = {}
        self.expected: list[bytes] = []
        self.refused: set[bytes] = set()
        self._start()

    # --- life and death ---------------------------------------------------------------

    def _open(self, name: str) -> Engine:
        """A database without connections; what an engine keeps besides them are statements it has compiled."""
        if name in self.engines:
            self.engines[name].dispose()
            return self.engines[name]
        if self._server is None:
            opened = engine(f"sqlite:///{self.folder / name}")
        else:
            opened = engine(self._databases.enter_context(self._server.database()))
            breaking(opened, name, self.fate, self._server)
        self.engines[name] = mortal(opened, name, self.fate)
        return self.engines[name]

    def _start(self) -> None:
        """A new process: nothing is left of the one before but what it stored."""
        while True:
            try:
                self.ledger = Ledger(self.folder, self._open("ledger.db"), self._open("heads.db"), self.clock)
                with only_writer(self.ledger.engine, self.folder / "lock"):
                    self.writer: Writer = self.ledger.writer()
                self.publisher = self.ledger.publisher(self.folder / "bundle")
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
            except (Died, Unavailable):
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
            with store.asking(), self.ledger.engine.begin() as connection:
                found.append(submit(connection, record, time_s))

        self.until_done(work)
        return found[-1]

    def record(self, records: Sequence[bytes]) -> None:
        """Records that the rules allow, each at its time; each must come out exactly once."""
        for number, (data, following) in enumerate(zip(records, [*records[1:], None], strict=True)):
            # All along, and not all at the beginning.
            self.fate.most = 1 + DEATHS * number // len(records)
            record = decode(data)
            if record.time - self.clock.now > DAY:
                self.settle()  # before the notice: nothing may wait that long for its anchor
            self.clock.now = max(self.clock.now, record.time)
            self.ask(record, self.clock.now)
            self.expected.append(data)
            if self.fate.chance.random() < 0.05:
                self._ask_for_nonsense()
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
                self._ask_for_nonsense()
        self.until_done(self._drain)
        self.publish()

    def _ask_for_nonsense(self) -> None:
        """Revenue is to be booked back out, which nobody allowed."""
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
        self.refused.add(self.ask(wrong, self.clock.now))

    def publish(self) -> None:
        """Sign, publish, have it witnessed, sent to the chains; then these go on."""
        self.until_done(self._publish_once)
        for chain in self.chains:
            self._go_on(chain)

    def settle(self) -> None:
        """Publish until both chains hold the newest head for good."""
        for _ in range(ROUNDS_AT_MOST):
            self.publish()
            if self._is_settled():
                return
            self.clock.now += self.fate.chance.randrange(PATIENCE_S)
        raise AssertionError(f"{ROUNDS_AT_MOST} rounds brought no final head: {self.fate.told[-20:]}")

    def _is_settled(self) -> bool:
        found = []
        self.until_done(
            lambda: found.append(is_settled(self.ledger.engine, self.anchors, self.writer.tree.size))
        )
        return found[-1]

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
        self.fate.breaks = 0
        stored = self.ledger.records()
        assert stored[: len(self.expected)] == self.expected
        fee_ids = [record.id for data in stored if isinstance(record := decode(data), Transfer)]
        assert len(fee_ids) == len(set(fee_ids))
        with reading(self.ledger.engine) as connection:
            for id in self.refused:
                with pytest.raises(Invalid) as refused:
                    store.answer(connection, id)
                # Before the Genesis and its approvals, before its accounts are registered, and after.
                assert refused.value.rule in {"H1", "H3", "M1", "F3"}, refused.value
        with reading(self.ledger.engine) as connection:
            noted = store.anchors(connection)
        for chain in self.chains:
            self._check_chain(chain, [one for one in noted if one.chain_id == chain.chain_id], len(stored))
        # The sources of its rates are names alone; that they are published is not what is tried here.
        verdict = audit(str(self.folder / "bundle"), wanted=Wanted(sources_unavailable=True))
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
        self._databases.close()


def simulate(seed: int, folder: Path, server: Postgres | None = None) -> Fate:
    """Live through one seed; raises where anything is not as it must be, and says how to see it again."""
    with pytest.MonkeyPatch.context() as patch:
        # So that runs of evidence are sealed, and read again, among all these deaths.
        patch.setattr(evidence_index, "RUN_RECORDS", 16)
        try:
            return _lived_through(World(seed, folder, patch, server), has_a_year=seed % 2 == 1)
        except Exception as error:
            where = "" if server is None else "--postgres "
            error.add_note(f"again: python -m tests.simulation.world {where}{seed}")
            raise


def _lived_through(world: World, *, has_a_year: bool) -> Fate:
    try:
        log = whole_year() if has_a_year else fees_alone()
        world.record(log.records)
        world.settle()
        world.clock.now = max(world.clock.now, log.now)
        for burst in range(1 if has_a_year else 4):
            world.fate.most += MORE_DEATHS
            world.pay(fees(log, 10 * burst, world.fate.chance.randrange(1, 9)))
            world.clock.now += world.fate.chance.randrange(1, 3_600)
        world.check()
    finally:
        world.close()
    return world.fate


def live(server: Postgres | None, seed: int) -> tuple[int, int, str]:
    """Live through one seed in a folder of its own: the seed, its deaths, and what went wrong or nothing."""
    # Witnesses that do not answer are told to an operator, and here are what was asked for.
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        try:
            return seed, simulate(seed, Path(folder), server).deaths, ""
        except Exception:
            return seed, 0, traceback.format_exc()


def main() -> None:
    """Run seeds given as numbers, or so many from one on, on all cores."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.world")
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--count", type=int, default=0, help="this many seeds")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL, whose connections break too")
    asked = parser.parse_args()
    seeds = asked.seeds or range(asked.first, asked.first + asked.count)
    if not seeds:
        parser.error("name seeds, or how many with --count")
    deaths, failed, started = 0, list[int](), time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(postgres()) if asked.postgres else None
        pool = stack.enter_context(ProcessPoolExecutor(min(len(seeds), os.cpu_count() or 1)))
        for done, (seed, died, trouble) in enumerate(pool.map(partial(live, server), seeds), 1):
            deaths += died
            if trouble:
                failed.append(seed)
                print(trouble, file=sys.stderr)
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
