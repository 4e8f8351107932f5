"""A ledger that runs: databases, the real writer, publisher and watcher, and the small city's records to feed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger import store
from ledger.database import Engine, reading
from ledger.publish import LogKeys, Publisher, Trust
from ledger.records import Record, Transfer, decode, encode
from ledger.target import Target
from ledger.watcher import Watcher
from ledger.writer import Writer, submit
from tests import city

KEYS = LogKeys(
    "alatau.qazyna/ledger",
    Ed25519PrivateKey.from_private_bytes(city.digest("log ed25519")),
    MLDSA44PrivateKey.from_seed_bytes(city.digest("log ml-dsa")),
)
COSIGNER = Ed25519PrivateKey.from_private_bytes(city.digest("watcher ed25519"))


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: int = city.START_S

    def __call__(self) -> int:
        return self.now


@dataclass
class Ledger:
    """One ledger's databases and folder, and whoever works on them."""

    folder: Path
    engine: Engine
    heads: Engine
    clock: Clock = field(default_factory=Clock)

    def writer(self) -> Writer:
        """A writer that has taken up the ledger as it stands."""
        return Writer(self.engine, self.heads, KEYS, self.clock)

    def feed(self, writer: Writer, records: Sequence[bytes]) -> None:
        """Submit records and have them written, each at the time that it states."""
        for time_s, group in groupby((decode(data) for data in records), lambda record: record.time):
            self.clock.now = time_s
            with self.engine.begin() as connection:
                for record in group:
                    submit(connection, record, time_s)
            writer.drain()

    def opened(self) -> tuple[Writer, city.Log]:
        """A writer on a ledger in which the city is registered, and the same as a log."""
        writer, log = self.writer(), city.registered()
        self.feed(writer, log.records)
        self.clock.now = log.now
        return writer, log

    def ask(self, record: Record, key: bytes | None = None) -> bytes:
        """Submit one record in a transaction of its own; returns the submission's id."""
        with self.engine.begin() as connection:
            return submit(connection, record, self.clock(), key)

    def answer(self, id: bytes) -> store.Recorded | None:
        """What became of a submission."""
        with reading(self.engine) as connection:
            return store.answer(connection, id)

    def records(self) -> list[bytes]:
        """All that is recorded."""
        return list(store.records(self.engine))

    def publisher(self, where: Path | str | Target | None = None) -> Publisher:
        """A publisher of this log."""
        contracts = {"council": city.COUNCIL_CONTRACT, "anchor": city.ANCHOR, "treasury": city.TREASURY}
        verifiers = [*KEYS.verifiers(), self.watcher().verifier()]
        trust = Trust(city.digest("ledger"), city.CHAIN_ID, contracts, verifiers)
        return Publisher(self.folder / "bundle" if where is None else where, KEYS, trust)

    def watcher(self, memory: Path | None = None) -> Watcher:
        """A watcher that has seen nothing yet."""
        return Watcher(
            "alatau.qazyna/watcher", KEYS.verifiers(), city.WATCHER.secret, COSIGNER, self.clock, memory
        )


def fees(log: city.Log, first: int, count: int) -> list[Transfer]:
    """So many fees that have come in."""
    start = city.revenue(log)
    return [
        replace(
            start,
            id=city.digest(f"id {number}"),
            evidence=city.digest(f"evidence {number}"),
            amount=1_000 + number,
        )
        for number in range(first, first + count)
    ]


def template(record: Record) -> bytes:
    """What the inbox holds of a record: its bytes at time zero."""
    return encode(replace(record, time=0))
