"""The past of a ledger, looked up in its database: what a writer must know of all transfers, not keep.

Before a batch is decided, prepare() asks once for all its ids and evidence. What a refund, a match or a
reversal names is rare and is asked for when the rules ask. What is not answered is Unavailable, and the
writer then builds its memory again. Of evidence and hashes the database indexes 8 bytes, which only say
where to look: the whole value is compared here (FF75).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from struct import unpack
from typing import Any, Final

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import IntegrityError

from ledger import rules, tables
from ledger.batch import POSTGRESQL, insert_rows, raw
from ledger.database import reading
from ledger.evidence_index import EvidenceIndex
from ledger.fast import EVIDENCE, ID, Runs, is_transfer
from ledger.records import Invalid, Transfer, decode, keccak256
from ledger.store import asking

# How many transfers are hashed and indexed in one transaction.
PAGE: Final = 5_000


def tails(values: Sequence[bytes]) -> tuple[int, ...]:
    """The last 8 bytes of each hash, as the database indexes them."""
    return unpack(f">{len(values)}q", b"".join([value[-8:] for value in values]))


class Stored:
    """A rules.Past of the records in a database that stand before the current batch, and of that batch."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        state: rules.State,
        evidence: EvidenceIndex | None = None,
        *,
        is_reader: bool = False,
    ) -> None:
        """engine: the writer's, whichever it has then. state: whose past this is.

        evidence: an index of this database that is there already. is_reader: write nothing, and read what is
        not indexed yet.
        """
        self.evidence = EvidenceIndex() if evidence is None else evidence
        self._engine_now, self._state, self._is_reader = engine, state, is_reader
        self._first = state.size
        self._batch: Sequence[bytes] = ()
        # Hashes of what is in the batch, as far as somebody asked for one.
        self._hashes: dict[bytes, int] = {}
        self._hashed = 0
        # What was asked for, and of it what earlier records have.
        self._asked: tuple[frozenset[bytes], frozenset[bytes]] = (frozenset(), frozenset())
        self._ids: set[bytes] = set()
        self._evidence: set[bytes] = set()
        self._suspects: set[bytes] = set()
        with _asking(self._engine) as connection:
            self._highest = _highest_id(connection)

    @property
    def _engine(self) -> Engine:
        return self._engine_now()

    def prepare(self, records: Sequence[bytes], batch: Sequence[bytes]) -> set[bytes]:
        """Ask what is used among the ids and evidence of records that come; returns all that may be.

        batch: what is taken of them, a list that grows; those before it are in the database.
        """
        transfers = [data for data in records if is_transfer(data)]
        ids, evidence = [data[ID] for data in transfers], [data[EVIDENCE] for data in transfers]
        self._come_to(self._state.size)
        self._batch = batch
        self._hashes, self._hashed = {}, 0
        self._asked = frozenset(ids), frozenset(evidence)
        # Ids that grow with time are all above the highest one there is, and need no asking.
        unknown = [id for id in ids if id <= self._highest]
        self._ids = self._evidence = set()
        suspected = self.evidence.suspects(evidence)
        if unknown or suspected:
            with _asking(self._engine) as connection:
                self._ids = self._used_ids(connection, unknown) if unknown else set()
                self._evidence = self._used_evidence(connection, suspected)
        self._highest = max([self._highest, *ids])
        suspects = self._ids | self._evidence
        for values, distinct in zip((ids, evidence), self._asked, strict=True):
            if len(distinct) < len(values):
                suspects |= _repeated(values)
        self._suspects = suspects
        return suspects

    def _come_to(self, size: int) -> None:
        """What was in the batch before is in the database by now."""
        index = self.evidence
        if index.size == self._first and len(self._batch) == size - index.size:
            index.add(self._batch)
        self._seal()
        while index.size < size:
            # Run by run, so that a process that dies on the way has come as far as that.
            with _asking(self._engine) as connection:
                index.load(connection, size)
            self._seal()
        self._first = size

    def _seal(self) -> None:
        """Write what makes a run, or leave to the database what another has written."""
        index, before = self.evidence, -1
        while index.is_full and index.sealed != before:
            before = index.sealed
            if not self._is_reader:
                index.seal(self._engine)
            with _asking(self._engine) as connection:
                index.forget_sealed(connection)

    def forget(self) -> None:
        """What was in the batch is in the database by now."""
        self.prepare((), ())

    def has_id(self, id: bytes) -> bool:
        """Whether a transfer that was taken has this id."""
        if id not in self._asked[0]:
            with _asking(self._engine) as connection:
                if self._used_ids(connection, [id]):
                    return True
        elif id not in self._suspects:
            return False
        return id in self._ids or any(data[ID] == id for data in self._taken())

    def has_evidence(self, evidence: bytes) -> bool:
        """Whether a transfer that was taken has this evidence."""
        if evidence not in self._asked[1]:
            self._come_to(self._first)
            if self.evidence.suspects([evidence]):
                with _asking(self._engine) as connection:
                    if self._used_evidence(connection, [evidence]):
                        return True
        elif evidence not in self._suspects:
            return False
        if evidence in self._evidence:
            return True
        return any(data[EVIDENCE] == evidence for data in self._taken())

    def _taken(self) -> Iterator[bytes]:
        """The transfers of the batch; of a breach that stands in it nothing is used."""
        breaches = self._state.breaches
        for index, data in enumerate(self._batch, self._first):
            if index not in breaches and is_transfer(data):
                yield data

    def named(self, digest: bytes) -> tuple[int, Transfer] | None:
        """The transfer with this hash that was taken, and its index."""
        found = self._stored(digest)
        if found is None:
            for data in self._batch[self._hashed :]:
                if self._first + self._hashed not in self._state.breaches:
                    self._hashes.setdefault(keccak256(data), self._hashed)
                self._hashed += 1
            place = self._hashes.get(digest)
            if place is not None:
                found = self._first + place, self._batch[place]
        if found is None:
            # Not where it would be found, or not indexed yet.
            found = self._searched(digest)
        if found is None or not is_transfer(found[1]):
            return None
        return found[0], _decoded(found[1])

    def _used_ids(self, connection: Connection, ids: list[bytes]) -> set[bytes]:
        rows = _positions_of_ids(connection, ids, self._first)
        return {bytes(id) for id, position in rows if position not in self._state.breaches}

    def _used_evidence(self, connection: Connection, evidence: list[bytes]) -> set[bytes]:
        found = self.evidence.positions(connection, evidence)
        taken = [at for at in found if at < self._first and at not in self._state.breaches]
        records = _records_at(connection, taken) if taken else []
        return {data[EVIDENCE] for data in records if is_transfer(data)}.intersection(evidence)

    def _stored(self, digest: bytes) -> tuple[int, bytes] | None:
        with _asking(self._engine) as connection:
            rows = _with_hash(connection, tails([digest])[0], self._first)
        return self._first_taken(rows, digest)

    def _first_taken(self, rows: Sequence[tuple[int, bytes]], digest: bytes) -> tuple[int, bytes] | None:
        taken = (row for row in rows if row[0] not in self._state.breaches)
        return next((row for row in taken if keccak256(row[1]) == digest), None)

    def _searched(self, digest: bytes) -> tuple[int, bytes] | None:
        """Look for a hash where no index is yet."""
        if not self._is_reader:
            while index_named(self._engine):
                pass
            return self._stored(digest)
        found, after = None, None
        while found is None:
            with _asking(self._engine) as connection:
                rows = _not_indexed(connection, after, PAGE)
            if not rows:
                break
            after = rows[-1][0]
            found = self._first_taken([row for row in rows if row[0] < self._first], digest)
        return found

    def at(self, index: int) -> Transfer | None:
        """The transfer that was taken as the record at this index."""
        if index in self._state.breaches:
            return None
        if index >= self._first:
            place = index - self._first
            data = self._batch[place] if place < len(self._batch) else b""
        else:
            with _asking(self._engine) as connection:
                data = _record_at(connection, index)
        return _decoded(data) if is_transfer(data) else None

    def add(self, index: int, digest: bytes, record: Transfer) -> None:
        """Nothing to keep: it is in the batch, and then in the database."""


def replay(
    past: Stored,
    runs: Runs,
    records: Sequence[bytes],
    taken: list[bytes],
    broken: list[Invalid] | None = None,
) -> None:
    """Take the next records into the state of a past, in runs where they are plain; adds them to `taken`.

    broken: gets what breaks a rule, which then is a breach (rules.take); without it Invalid is raised.
    """
    state = runs.state
    suspects, at = past.prepare(records, taken), 0
    while at < len(records):
        count = runs.take(records[at:] if at else records, suspects)
        taken += records[at : at + count]
        at += count
        if at == len(records):
            break
        if broken is None:
            rules.apply(state, records[at])
        elif (breach := rules.take(state, records[at])) is not None:
            broken.append(breach)
        # A breach has its place, and nothing of it is in the past.
        taken.append(b"" if state.size - 1 in state.breaches else records[at])
        at += 1


@contextmanager
def _asking(engine: Engine) -> Iterator[Connection]:
    """A connection to read with; Unavailable where the database does not answer."""
    with asking(), reading(engine) as connection:
        if connection.dialect.name == POSTGRESQL:
            # A thousand values look to its planner like a good part of the table, above all before its first
            # ANALYZE; by the index they cost the same however long the ledger is.
            raw(connection).execute(b"SET LOCAL enable_seqscan = off")
        yield connection


def _decoded(data: bytes) -> Transfer:
    record = decode(data)
    assert isinstance(record, Transfer)
    return record


def _repeated(values: list[bytes]) -> set[bytes]:
    seen: set[bytes] = set()
    return {value for value in values if value in seen or seen.add(value)}  # type: ignore[func-returns-value]


# --- what is asked -----------------------------------------------------------------


def _rows(connection: Connection, query: str, values: list[Any], before: int) -> list[tuple[Any, ...]]:
    """The rows of a query with IN {values} and < {before}, in one statement for all values."""
    if connection.dialect.name == POSTGRESQL:
        statement = query.format(values="= ANY(%b)", before="%b").encode()
        with raw(connection).cursor(binary=True) as cursor:
            return cursor.execute(statement, (values, before)).fetchall()
    marks = ", ".join(["?"] * len(values))
    statement_ = query.format(values=f"IN ({marks})", before="?")
    return [tuple(row) for row in connection.exec_driver_sql(statement_, (*values, before))]


def _positions_of_ids(connection: Connection, ids: list[bytes], before: int) -> list[tuple[Any, ...]]:
    query = "SELECT id, position FROM ledger_transfer WHERE id {values} AND position < {before}"
    return _rows(connection, query, ids, before)


def _records_at(connection: Connection, positions: list[int]) -> list[bytes]:
    query = "SELECT data FROM ledger_record WHERE position {values} AND position < {before}"
    found: list[bytes] = []
    for at in range(0, len(positions), PAGE):
        some = positions[at : at + PAGE]
        found += [bytes(data) for (data,) in _rows(connection, query, some, max(some) + 1)]
    return found


def _with_hash(connection: Connection, hash_tail: int, before: int) -> list[tuple[int, bytes]]:
    query = (
        "SELECT r.position, r.data FROM ledger_named n JOIN ledger_record r ON r.position = n.position"
        " WHERE n.hash {values} AND n.position < {before} ORDER BY n.position"
    )
    return [(position, bytes(data)) for position, data in _rows(connection, query, [hash_tail], before)]


def _record_at(connection: Connection, position: int) -> bytes:
    record = tables.record
    found = connection.execute(select(record.c.data).where(record.c.position == position)).scalar()
    return b"" if found is None else bytes(found)


def _highest_id(connection: Connection) -> bytes:
    id = tables.transfer.c.id
    found = connection.execute(select(id).order_by(id.desc()).limit(1)).scalar()
    return b"" if found is None else bytes(found)


# --- transfers by their hash --------------------------------------------------------


def index_named(engine: Engine, most: int = PAGE) -> int:
    """Index the hashes of the next transfers that are not indexed yet; returns how many records were read.

    Dies before the commit: the next call does the same. Of two at once the second one's rows are refused.
    """
    try:
        with asking(), engine.begin() as connection:
            return _index_named(connection, most)
    except (IntegrityError, UniqueViolation):
        return most


def _index_named(connection: Connection, most: int) -> int:
    rows = _not_indexed(connection, None, most)
    hashes = tails([keccak256(data) for _, data in rows])
    # Every record, transfer or not: so the highest position says how far this has come.
    found = [(position, hash) for (position, _), hash in zip(rows, hashes, strict=True)]
    insert_rows(connection, tables.named, found)
    return len(rows)


def _not_indexed(connection: Connection, after: int | None, most: int) -> list[tuple[int, bytes]]:
    """The next records, at most so many, after what is indexed, or after a position."""
    record = tables.record
    if after is None:
        last = connection.execute(select(func.max(tables.named.c.position))).scalar()
        after = -1 if last is None else last
    rows = connection.execute(
        select(record.c.position, record.c.data)
        .where(record.c.position > after, record.c.position <= after + most)
        .order_by(record.c.position)
    )
    return [(row.position, bytes(row.data)) for row in rows]
