"""What the ledger keeps in a database: the only SQL of this package.

Records, transfer ids, documents and answers are insert-only, and the database itself
refuses UPDATE, DELETE and TRUNCATE of them. Balances and the tree's right edge are
derived, and stand in the same transaction as the records they come from.

The signed heads are in a database of their own, so that a restored backup of the
ledger cannot take back what was signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import (
    DDL,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
    func,
    insert,
    select,
    update,
)

from ledger.database import Amount, Hash32, Integer64, naming, reading
from ledger.records import Invalid, reject

ADVISORY_LOCK = 0x71617A796E61  # "qazyna"

tables = MetaData(naming_convention=naming)
heads_tables = MetaData(naming_convention=naming)

_record = Table(
    "ledger_record",
    tables,
    Column("position", Integer64, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    Column("leaf", Hash32, nullable=False),
)
_transfer = Table(
    "ledger_transfer",
    tables,
    Column("id", Hash32, primary_key=True),
    Column("position", Integer64, ForeignKey("ledger_record.position"), nullable=False, unique=True),
)
_balance = Table(
    "ledger_balance",
    tables,
    Column("account", Text, primary_key=True),
    Column("is_money", Boolean, nullable=False),
    Column("debits", Amount, nullable=False),
    Column("credits", Amount, nullable=False),
    # The rules refuse this first; here it stops a writer whose memory and database disagree.
    CheckConstraint("NOT is_money OR debits >= credits", name="money_not_below_zero"),
)
_edge = Table(
    "ledger_edge",
    tables,
    Column("id", Integer, primary_key=True),
    Column("size", Integer64, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    Column("fence", Integer64, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
_inbox = Table(
    "ledger_inbox",
    tables,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("id", Hash32, nullable=False, unique=True),
    Column("template", LargeBinary, nullable=False),
    Column("submitted_s", Integer64, nullable=False),
    sqlite_autoincrement=True,
)
_answer = Table(
    "ledger_answer",
    tables,
    Column("id", Hash32, ForeignKey("ledger_inbox.id"), primary_key=True),
    Column("position", Integer64, nullable=True),
    Column("rule", Text, nullable=True),
    Column("place", Text, nullable=True),
    Column("why", Text, nullable=True),
)
_document = Table(
    "ledger_document",
    tables,
    Column("sha256", Hash32, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
_anchor = Table(
    "ledger_anchor",
    tables,
    Column("chain_id", Text, primary_key=True),
    Column("contract", LargeBinary, primary_key=True),
    Column("size", Integer64, primary_key=True, autoincrement=False),
    Column("root", Hash32, nullable=False),
    Column("transaction_hash", Hash32, nullable=False),
    Column("block", Integer64, nullable=False),
    Column("block_hash", Hash32, nullable=False),
    Column("time_s", Integer64, nullable=False),
)
_head = Table(
    "signed_head",
    heads_tables,
    Column("size", Integer64, primary_key=True, autoincrement=False),
    Column("root", Hash32, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

INSERT_ONLY = (_record, _transfer, _answer, _document, _anchor, _head)


def _after_create(table: Table, statement: str, dialect: str) -> None:
    event.listen(table, "after_create", DDL(statement).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]


def _refuse_changes(table: Table) -> None:
    name = table.name
    for action in ("UPDATE", "DELETE"):
        trigger = (
            f"CREATE TRIGGER {name}_no_{action.lower()} BEFORE {action} ON {name}"
            f" BEGIN SELECT RAISE(ABORT, '{name} is insert-only'); END"
        )
        _after_create(table, trigger, "sqlite")
    function = (
        f"CREATE OR REPLACE FUNCTION {name}_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{name} is insert-only'; END $$"
    )
    trigger = (
        f"CREATE TRIGGER {name}_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {name}_refuse()"
    )
    for statement in (function, trigger):
        _after_create(table, statement, "postgresql")


for _table in INSERT_ONLY:
    _refuse_changes(_table)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer to a submission that is now a record."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A submission that has no answer yet; the template's time is zero."""

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
class Batch:
    """What one group commit writes."""

    first: int
    records: Sequence[tuple[bytes, bytes]]  # bytes and leaf hash, in order
    transfer_ids: Sequence[tuple[bytes, int]]
    answers: Sequence[tuple[bytes, int | None, Invalid | None]]
    changes: dict[str, tuple[bool, int, int]]  # account: is money, debits and credits to add
    edge: bytes


def create(engine: Engine, heads: Engine) -> None:
    """Create the tables that are missing."""
    tables.create_all(engine)
    heads_tables.create_all(heads)
    with engine.begin() as connection:
        if connection.execute(select(_edge.c.id)).first() is None:
            connection.execute(insert(_edge).values(id=1, size=0, hashes=b"", fence=0))


# --- the inbox ------------------------------------------------------------------


def submit(connection: Connection, id: bytes, template: bytes, now: int) -> None:
    """Ask the writer for a record, inside the caller's transaction.

    The same id with the same content is one submission; with other content it is a conflict.
    """
    known = connection.execute(select(_inbox.c.template).where(_inbox.c.id == id)).scalar()
    if known is None:
        connection.execute(insert(_inbox).values(id=id, template=template, submitted_s=now))
    elif bytes(known) != template:
        reject(
            "inbox",
            f"0x{id.hex()}",
            f"{len(template)} bytes differ from {len(known)} submitted under this id",
        )


def answer(connection: Connection, id: bytes) -> Recorded | None:
    """What became of a submission; None while it waits, Invalid where it was refused."""
    row = connection.execute(
        select(_answer, _record.c.data)
        .outerjoin(_record, _record.c.position == _answer.c.position)
        .where(_answer.c.id == id)
    ).first()
    if row is None:
        return None
    if row.position is None:
        raise Invalid(row.rule, row.place, row.why)
    return Recorded(row.position, bytes(row.data))


def waiting(connection: Connection, most: int) -> list[Waiting]:
    """The oldest submissions without an answer, in order."""
    rows = connection.execute(
        select(_inbox.c.id, _inbox.c.template)
        .outerjoin(_answer, _answer.c.id == _inbox.c.id)
        .where(_answer.c.id.is_(None))
        .order_by(_inbox.c.sequence)
        .limit(most)
    )
    return [Waiting(bytes(row.id), bytes(row.template)) for row in rows]


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


# --- records ----------------------------------------------------------------------


def take_fence(connection: Connection) -> int:
    """Become the writer: raise the fencing number, so that an older writer's commit fails."""
    connection.execute(update(_edge).values(fence=_edge.c.fence + 1))
    fence: int = connection.execute(select(_edge.c.fence)).scalar_one()
    return fence


def commit(connection: Connection, fence: int, batch: Batch) -> None:
    """Write a batch, in the caller's transaction: all of it or nothing."""
    size = batch.first + len(batch.records)
    moved = connection.execute(
        update(_edge)
        .where(_edge.c.fence == fence, _edge.c.size == batch.first)
        .values(size=size, hashes=batch.edge)
    )
    assert moved.rowcount == 1, f"another writer has the ledger, or it is not at {batch.first}"
    if batch.records:
        rows = [
            {"position": batch.first + at, "data": data, "leaf": leaf}
            for at, (data, leaf) in enumerate(batch.records)
        ]
        connection.execute(insert(_record), rows)
    if batch.transfer_ids:
        connection.execute(insert(_transfer), [{"id": i, "position": p} for i, p in batch.transfer_ids])
    if batch.changes:
        _change_balances(connection, batch.changes)
    if batch.answers:
        connection.execute(insert(_answer), [_answer_row(*answered) for answered in batch.answers])


def _answer_row(id: bytes, position: int | None, refused: Invalid | None) -> dict[str, object]:
    if refused is None:
        return {"id": id, "position": position, "rule": None, "place": None, "why": None}
    return {"id": id, "position": None, "rule": refused.rule, "place": refused.where, "why": refused.why}


def _change_balances(connection: Connection, changes: dict[str, tuple[bool, int, int]]) -> None:
    known = {
        row.account: row
        for row in connection.execute(select(_balance).where(_balance.c.account.in_(changes)))
    }
    for account, (is_money, debits, credits) in sorted(changes.items()):
        row = known.get(account)
        if row is None:
            connection.execute(
                insert(_balance).values(account=account, is_money=is_money, debits=debits, credits=credits)
            )
        else:
            connection.execute(
                update(_balance)
                .where(_balance.c.account == account)
                .values(debits=row.debits + debits, credits=row.credits + credits)
            )


def size_and_edge(connection: Connection) -> tuple[int, bytes]:
    """How many records there are, and the tree's right edge, 32 bytes a hash."""
    row = connection.execute(select(_edge.c.size, _edge.c.hashes)).one()
    return row.size, bytes(row.hashes)


def records(engine: Engine, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The records from start to before end, in order, read in pages."""
    page = 1_000
    while end is None or start < end:
        last = start + page if end is None else min(start + page, end)
        with reading(engine) as connection:
            rows = connection.execute(
                select(_record.c.data)
                .where(_record.c.position >= start, _record.c.position < last)
                .order_by(_record.c.position)
            ).all()
        yield from (bytes(row.data) for row in rows)
        if len(rows) < last - start:
            return
        start = last


def position_of_transfer(connection: Connection, id: bytes) -> int | None:
    """Where the transfer with this id is recorded."""
    found: int | None = connection.execute(select(_transfer.c.position).where(_transfer.c.id == id)).scalar()
    return found


def balances(connection: Connection) -> dict[str, int]:
    """Debits less credits of every account that has moved."""
    return {row.account: row.debits - row.credits for row in connection.execute(select(_balance))}


# --- documents, anchors, heads ------------------------------------------------------


def add_document(connection: Connection, content: bytes) -> bytes:
    """Keep a public document; returns its SHA-256, which is its name."""
    name = sha256(content).digest()
    if connection.execute(select(_document.c.sha256).where(_document.c.sha256 == name)).first() is None:
        connection.execute(insert(_document).values(sha256=name, content=content))
    return name


def documents(connection: Connection) -> Iterable[tuple[bytes, bytes]]:
    """All public documents: SHA-256 and content."""
    for row in connection.execute(select(_document).order_by(_document.c.sha256)):
        yield bytes(row.sha256), bytes(row.content)


def add_anchor(connection: Connection, anchored: Anchored) -> None:
    """Note that a chain holds a head; noting it again changes nothing."""
    known = select(_anchor.c.size).where(
        _anchor.c.chain_id == str(anchored.chain_id),
        _anchor.c.contract == anchored.contract,
        _anchor.c.size == anchored.size,
    )
    if connection.execute(known).first() is None:
        connection.execute(
            insert(_anchor).values(
                chain_id=str(anchored.chain_id),
                contract=anchored.contract,
                size=anchored.size,
                root=anchored.root,
                transaction_hash=anchored.transaction_hash,
                block=anchored.block,
                block_hash=anchored.block_hash,
                time_s=anchored.time_s,
            )
        )


def anchors(connection: Connection) -> list[Anchored]:
    """The heads that chains hold, by size."""
    rows = connection.execute(select(_anchor).order_by(_anchor.c.size, _anchor.c.chain_id))
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


def last_head(connection: Connection) -> tuple[int, bytes, bytes] | None:
    """The last signed head: size, root, note."""
    row = connection.execute(select(_head).order_by(_head.c.size.desc()).limit(1)).first()
    return None if row is None else (row.size, bytes(row.root), bytes(row.note))


def swap_head(connection: Connection, expected: int, size: int, root: bytes, note: bytes) -> None:
    """Make this the last signed head if `expected` still is; 0 expects none.

    The caller's transaction holds the write lock on SQLite; on PostgreSQL two writers
    meet at the primary key, and the fence decides between them before.
    """
    found = connection.execute(select(func.max(_head.c.size))).scalar() or 0
    if found != expected:
        reject("L9", "signed head", f"the last signed size is {found}, this writer knows {expected}")
    connection.execute(insert(_head).values(size=size, root=root, note=note))
