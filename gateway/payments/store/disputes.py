"""Which settlements payouts gave back, and whose they are should one turn out to be paid after all."""

from __future__ import annotations

from sqlalchemy import Connection, Select, delete, select

from gateway.db import insert_into
from gateway.payments.store import tables

# Of these the money may be out, so that what they gave back is theirs again.
_CLAIMS = ("disputed", "paid")


def free(connection: Connection, id: str) -> None:
    """Give a payout's settlements back; what another may have paid after all goes to that one."""
    item, freed = tables.payout_item, tables.payout_freed
    held = select(item.c.payout_id, item.c.settlement_id).where(item.c.payout_id == id)
    noted = insert_into(connection, freed).from_select(["payout_id", "settlement_id"], held)
    connection.execute(noted.on_conflict_do_nothing())
    connection.execute(delete(item).where(item.c.payout_id == id))
    of_this = select(freed.c.settlement_id).where(freed.c.payout_id == id)
    _take(
        connection,
        select(freed.c.settlement_id, freed.c.payout_id)
        .join(tables.payout, tables.payout.c.id == freed.c.payout_id)
        .where(tables.payout.c.state.in_(_CLAIMS), freed.c.settlement_id.in_(of_this)),
    )


def take_back(connection: Connection, id: str) -> list[str]:
    """Take what a payout gave back and no other has; answers the payouts that have the rest of it."""
    item, freed = tables.payout_item, tables.payout_freed
    _take(connection, select(freed.c.settlement_id, freed.c.payout_id).where(freed.c.payout_id == id))
    others = connection.execute(
        select(item.c.payout_id)
        .join(freed, freed.c.settlement_id == item.c.settlement_id)
        .where(freed.c.payout_id == id, item.c.payout_id != id)
        .distinct()
        .order_by(item.c.payout_id)
    )
    return list(others.scalars())


def _take(connection: Connection, rows: Select[tuple[str, str]]) -> None:
    taken = insert_into(connection, tables.payout_item).from_select(["settlement_id", "payout_id"], rows)
    connection.execute(taken.on_conflict_do_nothing(index_elements=["settlement_id"]))
