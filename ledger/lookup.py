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
from ledger.fast import EVIDENCE, ID, is_transfer
from ledger.records import Transfer, decode, keccak256
from ledger.store import asking

# How many transfers are hashed and indexed in one transaction.
PAGE: Final = 5_000


def tails(values: Sequence[bytes]) -> tuple[int, ...]:
    """The last 8 bytes of each hash, as the database indexes them."""
    return unpack(f">{len(values)}q", b"".join([value[-8:] for value in values]))


class Stored:
    """A rules.Past of the records in a database that stand before the current batch, and of that batch."""

    def __init__(self, engine: Callable[[], Engine], state: rules.State) -> None:
        """engine: the writer's, whichever it has then. state: whose past this is."""
        self._engine_now, self._state = engine, state
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
        self._first, self._batch = self._state.size, batch
        self._hashes, self._hashed = {}, 0
        self._asked = frozenset(ids), frozenset(evidence)
        # Ids that grow with time are all above the highest one there is, and need no asking.
        unknown = [id for id in ids if id <= self._highest]
        with _asking(self._engine) as connection:
            self._ids = _used_ids(connection, unknown, self._first) if unknown else set()
            self._evidence = _used_evidence(connection, evidence, self._first) if evidence else set()
        self._highest = max([self._highest, *ids])
        suspects = self._ids | self._evidence
        for values, distinct in zip((ids, evidence), self._asked, strict=True):
            if len(distinct) < len(values):
                suspects |= _repeated(values)
        self._suspects = suspects
        return suspects

    def has_id(self, id: bytes) -> bool:
        """Whether a transfer that was taken has this id."""
        if id not in self._asked[0]:
            with _asking(self._engine) as connection:
                if _used_ids(connection, [id], self._first):
                    return True
        elif id not in self._suspects:
            return False
        return id in self._ids or any(data[ID] == id for data in self._batch if is_transfer(data))

    def has_evidence(self, evidence: bytes) -> bool:
        """Whether a transfer that was taken has this evidence."""
        if evidence not in self._asked[1]:
            with _asking(self._engine) as connection:
                if _used_evidence(connection, [evidence], self._first):
                    return True
        elif evidence not in self._suspects:
            return False
        if evidence in self._evidence:
            return True
        return any(data[EVIDENCE] == evidence for data in self._batch if is_transfer(data))

    def named(self, digest: bytes) -> tuple[int, Transfer] | None:
        """The transfer with this hash that was taken, and its index."""
        found = self._stored(digest)
        if found is None:
            for data in self._batch[self._hashed :]:
                self._hashes[keccak256(data)] = self._hashed
                self._hashed += 1
            place = self._hashes.get(digest)
            if place is not None:
                found = self._first + place, self._batch[place]
        if found is None:
            # Not where it would be found, or not indexed yet.
            while index_named(self._engine):
                pass
            found = self._stored(digest)
        if found is None or not is_transfer(found[1]):
            return None
        return found[0], _decoded(found[1])

    def _stored(self, digest: bytes) -> tuple[int, bytes] | None:
        with _asking(self._engine) as connection:
            rows = _with_hash(connection, tails([digest])[0], self._first)
        return next((row for row in rows if keccak256(row[1]) == digest), None)

    def at(self, index: int) -> Transfer | None:
        """The transfer that was taken as the record at this index."""
        if index >= self._first:
            place = index - self._first
            data = self._batch[place] if place < len(self._batch) else b""
        else:
            with _asking(self._engine) as connection:
                data = _record_at(connection, index)
        return _decoded(data) if is_transfer(data) else None

    def add(self, index: int, digest: bytes, record: Transfer) -> None:
        """Nothing to keep: it is in the batch, and then in the database."""


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


def _used_ids(connection: Connection, ids: list[bytes], before: int) -> set[bytes]:
    query = "SELECT id FROM ledger_transfer WHERE id {values} AND position < {before}"
    return {bytes(id) for (id,) in _rows(connection, query, ids, before)}


def _used_evidence(connection: Connection, evidence: list[bytes], before: int) -> set[bytes]:
    query = "SELECT position FROM ledger_transfer WHERE evidence {values} AND position < {before}"
    rows = _rows(connection, query, list(tails(evidence)), before)
    return {_record_at(connection, position)[EVIDENCE] for (position,) in rows}.intersection(evidence)


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
    named, record = tables.named, tables.record
    last = connection.execute(select(func.max(named.c.position))).scalar()
    after = -1 if last is None else last
    rows = connection.execute(
        select(record.c.position, record.c.data)
        .where(record.c.position > after, record.c.position <= after + most)
        .order_by(record.c.position)
    ).all()
    hashes = tails([keccak256(bytes(row.data)) for row in rows])
    # Every record, transfer or not: so the highest position says how far this has come.
    insert_rows(connection, named, [(row.position, hash) for row, hash in zip(rows, hashes, strict=True)])
    return len(rows)
