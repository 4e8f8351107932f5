"""What the ledger reads from its database and asks of it; tables.py and batch.py have the rest of its SQL.

What the database does not answer is Unavailable, which is never a verdict about a record;
what it refuses although the rules accepted it is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

import psycopg
from sqlalchemy import Connection, Engine, Select, delete, func, insert, null, select, update
from sqlalchemy import exc as sql_errors
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.dialects.sqlite import insert as sqlite_insert_or

from ledger import tables
from ledger.batch import POSTGRESQL, Answered, Batch, commit, raw
from ledger.database import reading
from ledger.migrations import upgrade
from ledger.records import WORD, Invalid, Unavailable, reject

ADVISORY_LOCK: Final = 0x71617A796E61  # "qazyna"
HEADS_LOCK: Final = ADVISORY_LOCK + 1
# Beyond this many the inbox takes no more: at 25,000 a second the last one would wait four seconds.
INBOX_LIMIT: Final = 100_000
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer to a submission that is now a record."""

    position: int
    data: bytes


class Waiting(NamedTuple):
    """A submission that has no answer yet; sequence: its place in the inbox, None if it came another way."""

    sequence: int | None
    id: bytes
    template: bytes


@dataclass(frozen=True, slots=True)
class Anchored:
    """A head that a chain holds."""

    chain_id: int
    contract: bytes
    size: int
    root: bytes
    transaction_hash: bytes
    block: int
    block_hash: bytes
    time_s: int


@dataclass(frozen=True, slots=True)
class Head:
    """A signed head; edge is the tree's right edge at this size, None if it was not kept then.

    state: the SHA-256 of the rules' state at this size, None where no snapshot was kept.
    """

    size: int
    root: bytes
    note: bytes
    edge: bytes | None
    state: bytes | None = None


class ClosingState(NamedTuple):
    """The state that a Close names: where that stands, its year, the hash, the bytes of rules.dump()."""

    position: int
    year: int
    sha256: bytes
    state: bytes


@contextmanager
def asking(service: str = "ledger database") -> Iterator[None]:
    """Turn a database that did not answer into Unavailable; what it did answer stays what it is."""
    try:
        yield
    except (
        sql_errors.OperationalError,
        sql_errors.InterfaceError,
        sql_errors.TimeoutError,
        psycopg.OperationalError,
        psycopg.InterfaceError,
    ) as error:
        raise Unavailable(service, str(error).partition("\n")[0]) from error


def create(engine: Engine, heads: Engine) -> None:
    """Bring both databases to the tables of this version, and an empty one to an empty ledger."""
    with asking():
        upgrade(engine, heads)
        with engine.begin() as connection:
            if connection.execute(select(tables.edge.c.id)).first() is None:
                connection.execute(insert(tables.edge).values(id=1, size=0, hashes=b"", fence=0))


# --- the inbox ------------------------------------------------------------------


def submit(connection: Connection, id: bytes, template: bytes, now: int, most: int = INBOX_LIMIT) -> None:
    """Ask the writer for a record, inside the caller's transaction.

    The same id with the same content is one submission; with other content it is a conflict.
    Unavailable when more than `most` wait already.
    """
    submit_all(connection, [(id, template)], now, most)


def submit_all(
    connection: Connection, asked: Sequence[tuple[bytes, bytes]], now: int, most: int = INBOX_LIMIT
) -> None:
    """Ask for several records: (id, template) each."""
    into = insert_or if connection.dialect.name == POSTGRESQL else sqlite_insert_or
    statement = into(tables.inbox).on_conflict_do_nothing(index_elements=["id"]).returning(tables.inbox.c.id)
    rows = [{"id": id, "template": template, "submitted_s": now} for id, template in asked]
    new = {row.id for row in connection.execute(statement, rows)}
    # First in, then look: an answer that was committed in between is seen, since its row left the inbox
    # with it, and one that is not committed yet still holds its row there, on which the insert waited.
    ids = [id for id, _ in asked]
    known = _answered(connection, ids)
    if repeated := new & known.keys():
        connection.execute(delete(tables.inbox).where(tables.inbox.c.id.in_(repeated)))
    if len(new) < len(set(ids)):
        waits = select(tables.inbox.c.id, tables.inbox.c.template).where(tables.inbox.c.id.in_(ids))
        known = {row.id: bytes(row.template) for row in connection.execute(waits)} | known
    for id, template in asked:
        before = known.get(id, template)
        if before != template:
            why = f"{len(template)} bytes differ from the {len(before)} submitted under this id"
            reject("inbox", f"0x{id.hex()}", why)
    if new - known.keys():
        _check_room(connection, most)


def _answered(connection: Connection, ids: Sequence[bytes]) -> dict[bytes, bytes]:
    """What was submitted under those of the ids that have their answer."""
    record, transfer, answer = tables.record, tables.transfer, tables.answer
    accepted = select(transfer.c.id, record.c.data, null().label("template")).join(
        record, record.c.position == transfer.c.position
    )
    others = select(answer.c.id, record.c.data, answer.c.template).outerjoin(
        record, record.c.position == answer.c.position
    )
    both = accepted.where(transfer.c.id.in_(ids)).union_all(others.where(answer.c.id.in_(ids)))
    return {
        bytes(row.id): _without_time(bytes(row.data)) if row.template is None else bytes(row.template)
        for row in connection.execute(both)
    }


def _without_time(data: bytes) -> bytes:
    return data[:WORD] + bytes(WORD) + data[2 * WORD :]


def _check_room(connection: Connection, most: int) -> None:
    # Two ends of an index, whatever the number; numbers that a rollback skipped count as waiting.
    sequence = tables.inbox.c.sequence
    first, last = (select(end(sequence)).scalar_subquery() for end in (func.min, func.max))
    waiting = connection.execute(select(last - first + 1)).scalar_one()
    if waiting > most:
        raise Unavailable("ledger inbox", f"{waiting} submissions wait, at most {most} may; try again soon")


def answer(connection: Connection, id: bytes) -> Recorded | None:
    """What became of a submission; None while it waits, Invalid where it was refused."""
    record, transfer, answers = tables.record, tables.transfer, tables.answer
    accepted = select(transfer.c.position).where(transfer.c.id == id)
    row = connection.execute(
        select(answers.c.position, answers.c.rule, answers.c.place, answers.c.why).where(answers.c.id == id)
    ).first()
    if row is not None and row.position is None:
        raise Invalid(row.rule, row.place, row.why)
    position = connection.execute(accepted).scalar() if row is None else row.position
    if position is None:
        return None
    data = connection.execute(select(record.c.data).where(record.c.position == position)).scalar_one()
    return Recorded(position, bytes(data))


def waiting(connection: Connection, most: int) -> list[Waiting]:
    """The oldest submissions without an answer, in order."""
    inbox = tables.inbox
    if connection.dialect.name == POSTGRESQL:
        query = f"SELECT sequence, id, template FROM {inbox.name} ORDER BY sequence LIMIT %b"
        with raw(connection).cursor(binary=True) as cursor:
            return [Waiting(*row) for row in cursor.execute(query.encode(), (most,))]
    statement = select(inbox.c.sequence, inbox.c.id, inbox.c.template).order_by(inbox.c.sequence)
    return [Waiting(*row) for row in connection.execute(statement.limit(most))]


# --- one writer -------------------------------------------------------------------


def try_lock(connection: Connection) -> bool:
    """Take the writer's advisory lock of PostgreSQL, for as long as this connection lives."""
    taken = bool(connection.execute(select(func.pg_try_advisory_lock(ADVISORY_LOCK))).scalar())
    connection.commit()
    return taken


def unlock(connection: Connection) -> None:
    """Give the advisory lock back."""
    connection.execute(select(func.pg_advisory_unlock(ADVISORY_LOCK)))
    connection.commit()


def take_fence(connection: Connection) -> int:
    """Become the writer: raise the fencing number, so that an older writer's commit fails."""
    connection.execute(update(tables.edge).values(fence=tables.edge.c.fence + 1))
    fence: int = connection.execute(select(tables.edge.c.fence)).scalar_one()
    return fence


# --- records ----------------------------------------------------------------------


def size_and_edge(connection: Connection) -> tuple[int, bytes]:
    """How many records there are, and the tree's right edge, 32 bytes a hash."""
    row = connection.execute(select(tables.edge.c.size, tables.edge.c.hashes)).one()
    return row.size, bytes(row.hashes)


def records(engine: Engine, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The records from start to before end, in order, read in pages; Unavailable where they are not read."""
    while end is None or start < end:
        most = PAGE if end is None else min(PAGE, end - start)
        with asking(), reading(engine) as connection:
            found = page(connection, start - 1, most)
        yield from (recorded.data for recorded in found)
        if len(found) < most:
            return
        start += most


def page(connection: Connection, after: int = -1, most: int = PAGE) -> list[Recorded]:
    """The records whose positions follow `after`, at most so many: ask again after the last one's."""
    record = tables.record
    rows = connection.execute(
        select(record.c.position, record.c.data)
        .where(record.c.position > after, record.c.position <= after + most)
        .order_by(record.c.position)
    )
    return [Recorded(row.position, bytes(row.data)) for row in rows]


def position_of_transfer(connection: Connection, id: bytes) -> int | None:
    """Where the transfer with this id is recorded."""
    transfer = tables.transfer
    found: int | None = connection.execute(select(transfer.c.position).where(transfer.c.id == id)).scalar()
    return found


def balances(connection: Connection) -> dict[str, int]:
    """Debits less credits of every account that has moved."""
    return {row.account: row.debits - row.credits for row in connection.execute(select(tables.balance))}


def balance_at(connection: Connection, account: str, time_s: int) -> int:
    """Debits less credits of an account after all records of this second, Unix time."""
    then = tables.balance_then
    row = connection.execute(
        select(then.c.debits, then.c.credits)
        .where(then.c.account == account, then.c.time_s <= time_s)
        .order_by(then.c.time_s.desc(), then.c.size.desc())
        .limit(1)
    ).first()
    return 0 if row is None else row.debits - row.credits


# --- documents, anchors, heads ------------------------------------------------------


def add_document(connection: Connection, content: bytes) -> bytes:
    """Keep a public document; returns its SHA-256, which is its name."""
    name = sha256(content).digest()
    document = tables.document
    if connection.execute(select(document.c.sha256).where(document.c.sha256 == name)).first() is None:
        connection.execute(insert(document).values(sha256=name, content=content))
    return name


def documents(connection: Connection) -> Iterable[tuple[bytes, bytes]]:
    """All public documents: SHA-256 and content."""
    for row in connection.execute(select(tables.document).order_by(tables.document.c.sha256)):
        yield bytes(row.sha256), bytes(row.content)


def document_names(connection: Connection) -> list[bytes]:
    """The SHA-256 of every public document, in order."""
    rows = connection.execute(select(tables.document.c.sha256).order_by(tables.document.c.sha256))
    return [bytes(row.sha256) for row in rows]


def document(connection: Connection, name: bytes) -> bytes:
    """The content of a document that is there."""
    statement = select(tables.document.c.content).where(tables.document.c.sha256 == name)
    return bytes(connection.execute(statement).scalar_one())


def add_anchor(connection: Connection, anchored: Anchored) -> None:
    """Note that a chain holds a head; noting it again changes nothing."""
    anchor = tables.anchor
    known = select(anchor.c.size).where(
        anchor.c.chain_id == str(anchored.chain_id),
        anchor.c.contract == anchored.contract,
        anchor.c.size == anchored.size,
    )
    if connection.execute(known).first() is None:
        told = {name: getattr(anchored, name) for name in anchor.c.keys()}  # noqa: SIM118 (columns, not keys)
        connection.execute(insert(anchor).values(told | {"chain_id": str(anchored.chain_id)}))


def anchors(connection: Connection) -> list[Anchored]:
    """The heads that chains hold, by size."""
    anchor = tables.anchor
    rows = connection.execute(select(anchor).order_by(anchor.c.size, anchor.c.chain_id))
    return [
        Anchored(
            int(row.chain_id),
            bytes(row.contract),
            row.size,
            bytes(row.root),
            bytes(row.transaction_hash),
            row.block,
            bytes(row.block_hash),
            row.time_s,
        )
        for row in rows
    ]


def last_head(connection: Connection) -> Head | None:
    """The last signed head."""
    return _head(connection, select(tables.head))


def last_head_with_state(connection: Connection) -> Head | None:
    """The last signed head with which the hash of the rules' state was kept."""
    return _head(connection, select(tables.head).where(tables.head.c.state.is_not(None)))


def _head(connection: Connection, chosen: Select[Any]) -> Head | None:
    row = connection.execute(chosen.order_by(tables.head.c.size.desc()).limit(1)).first()
    if row is None:
        return None
    edge, state = (None if value is None else bytes(value) for value in (row.edge, row.state))
    return Head(row.size, bytes(row.root), bytes(row.note), edge, state)


def swap_head(connection: Connection, expected: int, head: Head) -> None:
    """Make this the last signed head if the one of size `expected` still is; 0 expects none.

    SQLite's transactions that write are one after another; on PostgreSQL a lock makes them so.
    """
    if connection.dialect.name == POSTGRESQL:
        connection.execute(select(func.pg_advisory_xact_lock(HEADS_LOCK)))
    found = connection.execute(select(func.max(tables.head.c.size))).scalar() or 0
    if found != expected:
        reject("L9", "signed head", f"the last signed size is {found}, this writer knows {expected}")
    connection.execute(
        insert(tables.head).values(
            size=head.size, root=head.root, note=head.note, edge=head.edge, state=head.state
        )
    )


# --- the state of the rules ---------------------------------------------------------


def keep_snapshot(connection: Connection, size: int, state: bytes, oldest: int) -> None:
    """Keep the rules' state after so many records, and of earlier ones those from `oldest` on."""
    snapshot = tables.snapshot
    connection.execute(delete(snapshot).where((snapshot.c.size == size) | (snapshot.c.size < oldest)))
    connection.execute(insert(snapshot).values(size=size, state=state))


def snapshot(connection: Connection, size: int) -> bytes | None:
    """The rules' state that was kept after so many records."""
    kept = tables.snapshot
    found = connection.execute(select(kept.c.state).where(kept.c.size == size)).scalar()
    return None if found is None else bytes(found)


def keep_closing_state(connection: Connection, closing: ClosingState) -> None:
    """Keep the state that a Close names."""
    connection.execute(insert(tables.closing_state).values(closing._asdict()))


def close_year(connection: Connection, position: int, effective: int) -> None:
    """The Close at a position took effect with the record at `effective`; others of its year never will."""
    closing = tables.closing_state
    year = select(closing.c.year).where(closing.c.position == position).scalar_subquery()
    connection.execute(update(closing).where(closing.c.position == position).values(effective=effective))
    # Of an earlier year none can take effect any more, either (Y1).
    connection.execute(delete(closing).where(closing.c.effective.is_(None), closing.c.year <= year))


def closed_years(connection: Connection, size: int) -> list[tuple[int, bytes]]:
    """The years that the first `size` records close, in order, and the hash of each one's state."""
    closing = tables.closing_state
    rows = connection.execute(
        select(closing.c.year, closing.c.sha256).where(closing.c.effective < size).order_by(closing.c.year)
    )
    return [(row.year, bytes(row.sha256)) for row in rows]


def closing_state(connection: Connection, year: int) -> bytes:
    """The state that the Close in effect of a year names."""
    closing = tables.closing_state
    chosen = select(closing.c.state).where(closing.c.year == year, closing.c.effective.is_not(None))
    return bytes(connection.execute(chosen).scalar_one())


__all__ = [
    "Anchored",
    "Answered",
    "Batch",
    "ClosingState",
    "Head",
    "Recorded",
    "Waiting",
    "add_anchor",
    "add_document",
    "anchors",
    "answer",
    "asking",
    "balance_at",
    "balances",
    "close_year",
    "closed_years",
    "closing_state",
    "commit",
    "create",
    "document",
    "document_names",
    "documents",
    "keep_closing_state",
    "keep_snapshot",
    "last_head",
    "last_head_with_state",
    "page",
    "position_of_transfer",
    "records",
    "size_and_edge",
    "snapshot",
    "submit",
    "submit_all",
    "swap_head",
    "take_fence",
    "try_lock",
    "unlock",
    "waiting",
]
