"""Counts and ages for metrics. SQL and nothing else; each is one small query, asked when somebody scrapes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Column, Connection, MetaData, Table, Text, func, inspect, literal, select

from gateway.payments import store as payments
from gateway.payments.refund_model import RefundState
from gateway.payments.store.tables import refund
from ledger import tables

PAGE, UNMATCHED_MOST = 1_000, 20_000
_WORD = 32


@dataclass(frozen=True)
class RefusedBooking:
    """Money that went back and that the ledger would not book: it is out, and the books do not say so.

    transfer_id: 32 bytes; rule, place, why: the ledger's answer.
    """

    refund_id: str
    asset: str
    amount_minor: int
    transfer_id: bytes
    rule: str
    place: str
    why: str


def refused_bookings(connection: Connection) -> list[RefusedBooking]:
    """Final refunds whose transfer the ledger refused (SPEC W5) and nobody booked since, the oldest first."""
    answer, booked = tables.answer, tables.transfer
    rows = connection.execute(
        select(refund, answer.c.rule, answer.c.place, answer.c.why)
        .join(answer, answer.c.id == refund.c.transfer_id)
        .where(
            refund.c.state == RefundState.FINAL.value,
            answer.c.position.is_(None),
            ~select(booked.c.id).where(booked.c.id == refund.c.transfer_id).exists(),
        )
        .order_by(refund.c.changed_s, refund.c.id)
    )
    return [
        RefusedBooking(row.id, row.asset, row.amount, bytes(row.transfer_id), row.rule, row.place, row.why)
        for row in rows
    ]


def is_there(connection: Connection) -> bool:
    """Whether the database answers."""
    return connection.execute(select(literal(1))).scalar() == 1


def version(connection: Connection, table: str) -> str | None:
    """At which step a history of tables is; None where it never began."""
    if table not in inspect(connection).get_table_names():
        return None
    stepped = Table(table, MetaData(), Column("version_num", Text))
    found: str | None = connection.execute(select(stepped.c.version_num)).scalar()
    return found


def inbox(connection: Connection) -> tuple[int, int | None]:
    """How many submissions wait for the writer, and when the oldest came."""
    row = connection.execute(select(func.count(), func.min(tables.inbox.c.submitted_s))).one()
    return row[0], row[1]


def recorded(connection: Connection) -> int:
    """How many records the ledger has."""
    return connection.execute(select(tables.edge.c.size)).scalar() or 0


def record_time(connection: Connection, position: int) -> int | None:
    """When a record was made; None where there is none yet."""
    data = connection.execute(
        select(tables.record.c.data).where(tables.record.c.position == position)
    ).scalar()
    return None if data is None else int.from_bytes(bytes(data)[_WORD : 2 * _WORD], "big")


def anchored(connection: Connection) -> dict[str, tuple[int, int]]:
    """The newest anchor of each chain that is noted: its size and its time."""
    anchor = tables.anchor.c
    newest = select(anchor.chain_id, func.max(anchor.size).label("size")).group_by(anchor.chain_id).subquery()
    rows = connection.execute(
        select(anchor.chain_id, anchor.size, func.max(anchor.time_s))
        .join(newest, (newest.c.chain_id == anchor.chain_id) & (newest.c.size == anchor.size))
        .group_by(anchor.chain_id, anchor.size)
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def unmatched(connection: Connection) -> dict[str, tuple[int, int]]:
    """How much money waits for a person, by asset: pieces and base units; the oldest 20,000 pieces."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    after, seen = (-1, ""), 0
    while seen < UNMATCHED_MOST:
        page = payments.unmatched(connection, after, PAGE)
        for piece in page:
            totals[piece.asset][0] += 1
            totals[piece.asset][1] += piece.amount_minor
        seen += len(page)
        if len(page) < PAGE:
            break
        after = (page[-1].seen_s, page[-1].key)
    return {asset: (count, amount) for asset, (count, amount) in totals.items()}
