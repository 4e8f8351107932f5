"""Merchants' policies, as they were set one after the other."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from gateway.payments.store import tables


def add_policy(connection: Connection, merchant_id: str, terms: str, actor: str, now: int) -> None:
    """Put a policy in force."""
    connection.execute(
        insert(tables.policy).values(merchant_id=merchant_id, terms=terms, actor=actor, at_s=now)
    )


def newest_policy(connection: Connection, merchant_id: str) -> str | None:
    """The policy in force, as it was stored; None where the merchant never set one."""
    found: str | None = connection.execute(
        select(tables.policy.c.terms)
        .where(tables.policy.c.merchant_id == merchant_id)
        .order_by(tables.policy.c.sequence.desc())
        .limit(1)
    ).scalar()
    return found


def policies_of(connection: Connection, merchant_id: str) -> list[tuple[str, str, int]]:
    """All policies of a merchant, oldest first: terms, who set them, when."""
    rows = connection.execute(
        select(tables.policy)
        .where(tables.policy.c.merchant_id == merchant_id)
        .order_by(tables.policy.c.sequence)
    )
    return [(row.terms, row.actor, row.at_s) for row in rows]
