"""What is given out once: numbers of quotes, answers under an Idempotency-Key, goods of an order."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.db import insert_into
from gateway.payments.store import tables


def reserve_nonces(connection: Connection, count: int) -> int:
    """Take so many numbers of quotes, from the one that is returned on; nobody gets them again."""
    new = insert_into(connection, tables.nonce).values(id=1, next=count)
    raised = new.on_conflict_do_update(index_elements=["id"], set_={"next": tables.nonce.c.next + count})
    return int(connection.execute(raised.returning(tables.nonce.c.next)).scalar_one()) - count


def idempotent(connection: Connection, owner: str, key: str) -> tuple[bytes, str] | None:
    """What a caller asked before under this Idempotency-Key: hash of the request, invoice."""
    row = connection.execute(
        select(tables.idempotency).where(tables.idempotency.c.owner == owner, tables.idempotency.c.key == key)
    ).first()
    return None if row is None else (bytes(row.request), row.invoice_id)


def add_idempotent(connection: Connection, owner: str, key: str, request: bytes, invoice_id: str) -> bool:
    """Remember what was answered under an Idempotency-Key; False if another was first."""
    new = insert_into(connection, tables.idempotency).values(
        owner=owner, key=key, request=request, invoice_id=invoice_id
    )
    added = new.on_conflict_do_nothing(index_elements=["owner", "key"]).returning(tables.idempotency.c.key)
    return connection.execute(added).first() is not None


def claim_order(connection: Connection, invoice_id: str, actor: str, now: int) -> bool:
    """Take an order for handing over its goods; False if somebody has it already."""
    new = insert_into(connection, tables.order_claim).values(invoice_id=invoice_id, actor=actor, at_s=now)
    taken = new.on_conflict_do_nothing(index_elements=["invoice_id"]).returning(
        tables.order_claim.c.invoice_id
    )
    return connection.execute(taken).first() is not None


def order_claim(connection: Connection, invoice_id: str) -> tuple[str, int] | None:
    """Who claimed an order, and when."""
    row = connection.execute(
        select(tables.order_claim).where(tables.order_claim.c.invoice_id == invoice_id)
    ).first()
    return None if row is None else (row.actor, row.at_s)
