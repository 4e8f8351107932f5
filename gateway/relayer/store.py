"""The rows of the relayer: deposits that wait for their flush, and authorizations that were brought."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    case,
    func,
    select,
    update,
)

from gateway.db import Hash32, Integer64, insert_into, metadata

# Of the states that gateway.relayer.service names, the one that failures are counted by.
FAILED: Final = "failed"

_flush = Table(
    # Money on a deposit address that a flush is to split; source: the evidence that brought it.
    "deposit_flush",
    metadata,
    Column("source", Text, primary_key=True),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=False, index=True),
    Column("asset", Text, nullable=False),
    Column("noted_s", Integer64, nullable=False),
    Column("due_s", Integer64, nullable=False),
    Column("attempts", Integer, nullable=False),
    # The call that flushes it, while there is one; done: the address was emptied of it.
    Column("call_id", Text, nullable=True, index=True),
    Column("done", Integer, nullable=False),
    Index("ix_deposit_flush_work", "done", "due_s"),
)
_gasless = Table(
    # One authorization, brought once at a time (field failure 22).
    "gasless_payment",
    metadata,
    Column("token", LargeBinary, primary_key=True),
    Column("payer", LargeBinary, primary_key=True),
    Column("nonce", Hash32, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("scheme", Text, nullable=False),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("call_id", Text, nullable=False, index=True),
    # Of all its attempts together, but those that cost nothing.
    Column("gas_limit", Integer64, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("why", Text, nullable=False),
    Column("created_s", Integer64, nullable=False, index=True),
    # Whether there was code at the payer's address.
    Column("has_code", Integer, nullable=False),
    Index("ix_gasless_payment_payer", "payer", "created_s"),
)


@dataclass(frozen=True)
class Waiting:
    """Money that waits for its flush."""

    source: str
    invoice_id: str
    asset: str
    noted_s: int
    attempts: int
    call_id: str | None


@dataclass(frozen=True)
class Gasless:
    """An authorization that was brought. state: of gateway.relayer.service.Progress.

    gas_limit: what all its attempts cost at most; has_code: whether there was code at the payer's address.
    """

    id: str
    token: bytes
    payer: bytes
    nonce: bytes
    scheme: str
    invoice_id: str
    attempt: int
    call_id: str
    gas_limit: int
    state: str
    why: str
    created_s: int
    has_code: bool


# --- flushes --------------------------------------------------------------------------


def note_deposit(connection: Connection, source: str, invoice_id: str, asset: str, now: int) -> None:
    """Note money that is to be flushed; once, however often it is told."""
    new = insert_into(connection, _flush).values(
        source=source, invoice_id=invoice_id, asset=asset, noted_s=now, due_s=now, attempts=0, done=0
    )
    connection.execute(new.on_conflict_do_nothing(index_elements=["source"]))


def _waiting(row: Any) -> Waiting:
    return Waiting(row.source, row.invoice_id, row.asset, row.noted_s, row.attempts, row.call_id)


def is_due(connection: Connection, now: int) -> bool:
    """Whether there is money that no flush was queued for."""
    asked = select(_flush.c.source).where(
        _flush.c.done == 0, _flush.c.call_id.is_(None), _flush.c.due_s <= now
    )
    return connection.execute(asked.limit(1)).first() is not None


def due(connection: Connection, now: int, most: int) -> list[Waiting]:
    """Money that no flush was queued for, oldest first; nobody else gets these until we commit."""
    asked = (
        select(_flush)
        .where(_flush.c.done == 0, _flush.c.call_id.is_(None), _flush.c.due_s <= now)
        .order_by(_flush.c.noted_s, _flush.c.source)
        .limit(most)
    )
    return [_waiting(row) for row in connection.execute(asked.with_for_update(skip_locked=True))]


def is_flushing(connection: Connection, invoice_id: str) -> bool:
    """Whether money of an invoice waits for a flush, or for its end."""
    asked = select(_flush.c.source).where(_flush.c.invoice_id == invoice_id, _flush.c.done == 0).limit(1)
    return connection.execute(asked).first() is not None


def set_flushing(connection: Connection, sources: Collection[str], call_id: str) -> None:
    """Note the call that flushes these."""
    connection.execute(update(_flush).where(_flush.c.source.in_(list(sources))).values(call_id=call_id))


def set_flushed(connection: Connection, sources: Collection[str]) -> None:
    """Note that nothing of these is left to flush."""
    connection.execute(update(_flush).where(_flush.c.source.in_(list(sources))).values(done=1))


def postpone(connection: Connection, source: str, due_s: int) -> None:
    """Look at it again later."""
    connection.execute(update(_flush).where(_flush.c.source == source).values(call_id=None, due_s=due_s))


def flush_again(connection: Connection, source: str, due_s: int) -> None:
    """Let another call flush it, later."""
    connection.execute(
        update(_flush)
        .where(_flush.c.source == source)
        .values(call_id=None, due_s=due_s, attempts=_flush.c.attempts + 1)
    )


def flushing(connection: Connection) -> dict[str, list[Waiting]]:
    """What is being flushed, by call."""
    found: dict[str, list[Waiting]] = {}
    rows = connection.execute(select(_flush).where(_flush.c.done == 0, _flush.c.call_id.is_not(None)))
    for row in rows:
        found.setdefault(row.call_id, []).append(_waiting(row))
    return found


# --- authorizations -------------------------------------------------------------------


def _gasless_of(row: Any) -> Gasless:
    return Gasless(
        row.id,
        bytes(row.token),
        bytes(row.payer),
        bytes(row.nonce),
        row.scheme,
        row.invoice_id,
        row.attempt,
        row.call_id,
        row.gas_limit,
        row.state,
        row.why,
        row.created_s,
        bool(row.has_code),
    )


def authorization(connection: Connection, token: bytes, payer: bytes, nonce: bytes) -> Gasless | None:
    """What was brought under this authorization."""
    asked = select(_gasless).where(
        _gasless.c.token == token, _gasless.c.payer == payer, _gasless.c.nonce == nonce
    )
    row = connection.execute(asked).first()
    return None if row is None else _gasless_of(row)


def authorization_by_id(connection: Connection, invoice_id: str, id: str) -> Gasless | None:
    """What was brought for an invoice under this id."""
    asked = select(_gasless).where(_gasless.c.id == id, _gasless.c.invoice_id == invoice_id)
    row = connection.execute(asked).first()
    return None if row is None else _gasless_of(row)


def bring(connection: Connection, new: Gasless) -> bool:
    """Store an authorization, or its next attempt; False if another brought it at the same time."""
    values = {
        "id": new.id,
        "token": new.token,
        "payer": new.payer,
        "nonce": new.nonce,
        "scheme": new.scheme,
        "invoice_id": new.invoice_id,
        "attempt": new.attempt,
        "call_id": new.call_id,
        "gas_limit": new.gas_limit,
        "state": new.state,
        "why": new.why,
        "created_s": new.created_s,
        "has_code": int(new.has_code),
    }
    names = ("attempt", "call_id", "gas_limit", "state", "why", "created_s", "has_code")
    row = (
        insert_into(connection, _gasless)
        .values(**values)
        .on_conflict_do_update(
            index_elements=["token", "payer", "nonce"],
            set_={name: values[name] for name in names},
            where=_gasless.c.attempt == new.attempt - 1,
        )
        .returning(_gasless.c.id)
    )
    return connection.execute(row).first() is not None


def of_invoice(connection: Connection, invoice_id: str) -> list[Gasless]:
    """All that was brought for an invoice."""
    rows = connection.execute(select(_gasless).where(_gasless.c.invoice_id == invoice_id))
    return [_gasless_of(row) for row in rows]


def count_of_payer(
    connection: Connection, payer: bytes, since_s: int, states: Sequence[str] | None = None
) -> int:
    """How many authorizations of an address were brought since a second, and are in one of these states."""
    asked = select(func.count()).where(_gasless.c.payer == payer, _gasless.c.created_s >= since_s)
    if states is not None:
        asked = asked.where(_gasless.c.state.in_(list(states)))
    return int(connection.execute(asked.select_from(_gasless)).scalar_one())


def _failures(connection: Connection, *which: ColumnElement[bool]) -> int:
    # Each attempt but a last one that has not failed.
    failed = _gasless.c.attempt - case((_gasless.c.state == FAILED, 0), else_=1)
    asked = select(func.coalesce(func.sum(failed), 0)).where(*which)
    return int(connection.execute(asked).scalar_one())


def failures_of_payer(connection: Connection, payer: bytes, since_s: int) -> int:
    """How often authorizations of an address failed that were brought since a second."""
    return _failures(connection, _gasless.c.payer == payer, _gasless.c.created_s >= since_s)


def contract_failures(connection: Connection, since_s: int) -> int:
    """How often authorizations of addresses with code failed that were brought since a second."""
    return _failures(connection, _gasless.c.has_code == 1, _gasless.c.created_s >= since_s)


def _gas(connection: Connection, *which: ColumnElement[bool]) -> int:
    asked = select(func.coalesce(func.sum(_gasless.c.gas_limit), 0)).where(*which)
    return int(connection.execute(asked).scalar_one())


def gas_since(connection: Connection, since_s: int) -> int:
    """How much gas at most the authorizations cost that were brought since a second."""
    return _gas(connection, _gasless.c.created_s >= since_s)


def contract_gas_since(connection: Connection, since_s: int) -> int:
    """How much gas of that addresses with code cost."""
    return _gas(connection, _gasless.c.has_code == 1, _gasless.c.created_s >= since_s)


def in_state(connection: Connection, states: Sequence[str]) -> list[Gasless]:
    """Authorizations in one of these states."""
    rows = connection.execute(select(_gasless).where(_gasless.c.state.in_(list(states))))
    return [_gasless_of(row) for row in rows]


def set_state(connection: Connection, call_id: str, state: str, why: str, spared: int = 0) -> None:
    """Note how far an authorization has come; spared: gas that its last attempt did not cost after all."""
    asked = update(_gasless).where(_gasless.c.call_id == call_id)
    # Of two workers that note the same end one gives back the gas.
    left = case((_gasless.c.state == state, _gasless.c.gas_limit), else_=_gasless.c.gas_limit - spared)
    connection.execute(asked.values(state=state, why=why, gas_limit=left))
