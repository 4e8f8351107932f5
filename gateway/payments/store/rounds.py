"""What rails keep between two rounds: cursors, files read, deposit addresses to flush."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from gateway.db import insert_into
from gateway.payments.store import tables
from gateway.payments.store.evidence import Seen
from gateway.payments.store.invoices import Invoice, _invoice_of
from gateway.rails import Kind, Stage


def cursor(connection: Connection, rail: str) -> int | None:
    """Where a rail has processed everything up to, itself included."""
    found: int | None = connection.execute(
        select(tables.cursor.c.position).where(tables.cursor.c.rail == rail)
    ).scalar()
    return found


def lock_rail(connection: Connection, rail: str, start: int = 0) -> tuple[int, int]:
    """Keep other workers from committing for this rail until we do; returns its position and round.

    start: where a rail begins that was never asked.
    """
    new = insert_into(connection, tables.cursor).values(rail=rail, position=start, seen_until_s=0, round=0)
    connection.execute(new.on_conflict_do_nothing(index_elements=["rail"]))
    asked = (
        select(tables.cursor.c.position, tables.cursor.c.round)
        .where(tables.cursor.c.rail == rail)
        .with_for_update()
    )
    row = connection.execute(asked).one()
    return row.position, row.round


def move_cursor(connection: Connection, rail: str, position: int, seen_until_s: int) -> None:
    """Move a locked rail's cursor, never back; it and what was found commit together (field failure 05)."""
    known = connection.execute(select(tables.cursor).where(tables.cursor.c.rail == rail)).one()
    connection.execute(
        update(tables.cursor)
        .where(tables.cursor.c.rail == rail)
        .values(
            position=max(position, known.position),
            seen_until_s=max(seen_until_s, known.seen_until_s),
            round=known.round + 1,
        )
    )


def seen_until(connection: Connection, rail: str) -> int:
    """Up to when everything that happened on a rail is known; 0 if it was never asked."""
    found: int | None = connection.execute(
        select(tables.cursor.c.seen_until_s).where(tables.cursor.c.rail == rail)
    ).scalar()
    return found or 0


def is_file_read(connection: Connection, sha256: bytes) -> bool:
    """Whether a bank's file with this content was taken before."""
    return (
        connection.execute(select(tables.file.c.sha256).where(tables.file.c.sha256 == sha256)).first()
        is not None
    )


def add_file(connection: Connection, sha256: bytes, name: str, problem: str | None, now: int) -> None:
    """Note that a bank's file was taken, or why it could not be."""
    connection.execute(insert(tables.file).values(sha256=sha256, name=name, problem=problem, read_s=now))


def unread_files(connection: Connection) -> list[tuple[str, str, int]]:
    """The bank's files that could not be taken: name, why, when."""
    rows = connection.execute(
        select(tables.file)
        .where(tables.file.c.problem.is_not(None))
        .order_by(tables.file.c.read_s, tables.file.c.name)
    )
    return [(row.name, row.problem, row.read_s) for row in rows]


def note_waiting(connection: Connection, invoice_id: str, seen: Sequence[Seen]) -> None:
    """Note whether a deposit address has final money that no live flush has taken."""
    came = sum(s.amount_minor for s in seen if s.kind is Kind.DEPOSIT and s.stage is Stage.FINAL)
    left = sum(s.amount_minor for s in seen if s.kind is Kind.FLUSH and s.stage is not Stage.GONE)
    if came > left:
        new = insert_into(connection, tables.flush_waiting).values(invoice_id=invoice_id)
        connection.execute(new.on_conflict_do_nothing(index_elements=["invoice_id"]))
    else:
        connection.execute(
            delete(tables.flush_waiting).where(tables.flush_waiting.c.invoice_id == invoice_id)
        )


def unflushed(connection: Connection) -> list[Invoice]:
    """Invoices whose deposit address has final money that no live flush has taken."""
    waiting = select(tables.flush_waiting.c.invoice_id)
    rows = connection.execute(
        select(tables.invoice).where(tables.invoice.c.id.in_(waiting)).order_by(tables.invoice.c.id)
    )
    return [_invoice_of(row) for row in rows]
