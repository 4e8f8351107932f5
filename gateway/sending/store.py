"""The rows of the sender: accounts with their nonces, calls, signed transactions. SQL and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)

from gateway.db import Amount, Hash32, Integer64, insert_into, metadata
from gateway.sending.call import LIVE, Call, Outcome, State

_account = Table(
    # The next nonce of an account, and who sends for it until when.
    "sending_account",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("address", LargeBinary, primary_key=True),
    Column("next_nonce", Integer64, nullable=False),
    Column("holder", Text, nullable=False),
    Column("until_s", Integer64, nullable=False),
)
_call = Table(
    "sending_call",
    metadata,
    Column("id", Text, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("to", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("value", Amount, nullable=False),
    Column("gas_limit", Integer64, nullable=False),
    Column("state", Text, nullable=False),
    # Whose nonce it has, once it is signed; for ever.
    Column("account", LargeBinary, nullable=True),
    Column("nonce", Integer64, nullable=True),
    Column("transaction", Hash32, nullable=True),
    Column("block", Integer64, nullable=True),
    Column("block_hash", Hash32, nullable=True),
    Column("why", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_s", Integer64, nullable=False),
    Column("created_s", Integer64, nullable=False),
    Column("changed_s", Integer64, nullable=False),
    # In which order calls were queued.
    Column("sequence", Integer64, nullable=False),
    UniqueConstraint("kind", "reference"),
    # Two calls never have one nonce, whatever the program does (field failure 25).
    UniqueConstraint("chain", "account", "nonce"),
    Index("ix_sending_call_work", "chain", "state", "due_s"),
)
_transaction = Table(
    # Each version of a call that was ever signed, stored before any node sees it (field failure 23).
    "sending_transaction",
    metadata,
    Column("hash", Hash32, primary_key=True),
    Column("call_id", Text, ForeignKey("sending_call.id"), nullable=False, index=True),
    Column("raw", LargeBinary, nullable=False),
    Column("max_fee", Amount, nullable=False),
    Column("tip", Amount, nullable=False),
    # 1: it does nothing but use up the nonce, so that the call can never be executed.
    Column("fills", Integer, nullable=False),
    Column("signed_s", Integer64, nullable=False),
    Column("sent_s", Integer64, nullable=True),
)


@dataclass(frozen=True)
class Stored:
    """A call as it stands."""

    id: str
    chain: str
    call: Call
    state: State
    account: bytes | None
    nonce: int | None
    transaction: bytes | None
    block: int | None
    block_hash: bytes | None
    why: str
    attempts: int
    due_s: int
    created_s: int
    changed_s: int

    @property
    def outcome(self) -> Outcome:
        """What others may know of it."""
        return Outcome(self.state, self.transaction, self.block, self.why)


@dataclass(frozen=True)
class Signed:
    """A signed transaction. fills: it only uses up the nonce."""

    hash: bytes
    call_id: str
    raw: bytes
    max_fee: int
    tip: int
    fills: bool
    signed_s: int
    sent_s: int | None


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def _stored(row: Any) -> Stored:
    called = Call(row.kind, row.reference, bytes(row.to), bytes(row.data), row.value, row.gas_limit)
    return Stored(
        row.id, row.chain, called, State(row.state), _bytes(row.account), row.nonce, _bytes(row.transaction),
        row.block, _bytes(row.block_hash), row.why, row.attempts, row.due_s, row.created_s, row.changed_s,
    )  # fmt: skip


# --- calls ----------------------------------------------------------------------------


def call(connection: Connection, id: str) -> Stored | None:
    """The call with this id."""
    row = connection.execute(select(_call).where(_call.c.id == id)).first()
    return None if row is None else _stored(row)


def add_call(connection: Connection, chain: str, new: Call, now: int) -> bool:
    """Store a call for the first time; False if another was first."""
    last = select(func.coalesce(func.max(_call.c.sequence), 0)).scalar_subquery()
    added = (
        insert_into(connection, _call)
        .values(
            id=new.id,
            chain=chain,
            kind=new.kind,
            reference=new.reference,
            to=new.to,
            data=new.data,
            value=new.value,
            gas_limit=new.gas_limit,
            state=State.QUEUED.value,
            why="",
            attempts=0,
            due_s=now,
            created_s=now,
            changed_s=now,
            sequence=last + 1,
        )
        .on_conflict_do_nothing()
        .returning(_call.c.id)
    )
    return connection.execute(added).first() is not None


def due(connection: Connection, chain: str, now: int, most: int) -> list[Stored]:
    """Calls that wait to be signed, in the order in which they were queued."""
    rows = connection.execute(
        select(_call)
        .where(_call.c.chain == chain, _call.c.state == State.QUEUED.value, _call.c.due_s <= now)
        .order_by(_call.c.sequence, _call.c.id)
        .limit(most)
    )
    return [_stored(row) for row in rows]


def live(connection: Connection, chain: str, account: bytes) -> list[Stored]:
    """Calls of an account that may be executed or taken back, by nonce."""
    rows = connection.execute(
        select(_call)
        .where(
            _call.c.chain == chain,
            _call.c.state.in_([state.value for state in sorted(LIVE)]),
            _call.c.account == account,
        )
        .order_by(_call.c.nonce)
    )
    return [_stored(row) for row in rows]


def set_call(connection: Connection, id: str, now: int, **members: Any) -> None:
    """Note what has changed about a call."""
    connection.execute(update(_call).where(_call.c.id == id).values(changed_s=now, **members))


def counts(connection: Connection, chain: str) -> dict[str, int]:
    """How many calls are in each state."""
    rows = connection.execute(
        select(_call.c.state, func.count()).where(_call.c.chain == chain).group_by(_call.c.state)
    )
    return {row[0]: row[1] for row in rows}


def oldest_live(connection: Connection, chain: str) -> int | None:
    """When the oldest call that has not ended was queued; None where none waits."""
    waiting = [State.QUEUED.value, *(state.value for state in sorted(LIVE))]
    found: int | None = connection.execute(
        select(func.min(_call.c.created_s)).where(_call.c.chain == chain, _call.c.state.in_(waiting))
    ).scalar()
    return found


# --- transactions ---------------------------------------------------------------------


def add_transaction(connection: Connection, new: Signed) -> None:
    """Store a signed transaction, before any node sees it."""
    connection.execute(
        insert(_transaction).values(
            hash=new.hash,
            call_id=new.call_id,
            raw=new.raw,
            max_fee=new.max_fee,
            tip=new.tip,
            fills=int(new.fills),
            signed_s=new.signed_s,
            sent_s=new.sent_s,
        )
    )


def transactions(connection: Connection, ids: Sequence[str]) -> dict[str, list[Signed]]:
    """Every version of these calls that was ever signed, oldest first."""
    found: dict[str, list[Signed]] = {id: [] for id in ids}
    rows = connection.execute(
        select(_transaction)
        .where(_transaction.c.call_id.in_(list(ids)))
        # Each version pays more than the one before.
        .order_by(_transaction.c.signed_s, _transaction.c.max_fee, _transaction.c.tip)
    )
    for row in rows:
        found[row.call_id].append(
            Signed(
                bytes(row.hash),
                row.call_id,
                bytes(row.raw),
                row.max_fee,
                row.tip,
                bool(row.fills),
                row.signed_s,
                row.sent_s,
            )
        )
    return found


def set_sent(connection: Connection, hashes: Collection[bytes], now: int | None) -> None:
    """Note when transactions were last offered to a node; None: they are to be offered at once."""
    connection.execute(update(_transaction).where(_transaction.c.hash.in_(list(hashes))).values(sent_s=now))


# --- accounts -------------------------------------------------------------------------


def hold_account(
    connection: Connection, chain: str, address: bytes, holder: str, now: int, until_s: int
) -> bool:
    """Become the one who sends for an account, or stay it; False while another is."""
    new = insert_into(connection, _account).values(
        chain=chain, address=address, next_nonce=0, holder=holder, until_s=until_s
    )
    connection.execute(new.on_conflict_do_nothing(index_elements=["chain", "address"]))
    taken = connection.execute(
        update(_account)
        .where(
            _account.c.chain == chain,
            _account.c.address == address,
            (_account.c.holder == holder) | (_account.c.until_s <= now),
        )
        .values(holder=holder, until_s=until_s)
        .returning(_account.c.address)
    )
    return taken.first() is not None


def lock_account(connection: Connection, chain: str, address: bytes, holder: str) -> int | None:
    """The next nonce of an account that we hold, locked until we commit; None if another holds it now."""
    found: int | None = connection.execute(
        select(_account.c.next_nonce)
        .where(_account.c.chain == chain, _account.c.address == address, _account.c.holder == holder)
        .with_for_update()
    ).scalar()
    return found


def set_next_nonce(connection: Connection, chain: str, address: bytes, next_nonce: int) -> None:
    """Note the next nonce of a locked account."""
    connection.execute(
        update(_account)
        .where(_account.c.chain == chain, _account.c.address == address)
        .values(next_nonce=next_nonce)
    )


def nonces(connection: Connection, chain: str, account: bytes, first: int) -> set[int]:
    """The nonces of an account, from the first on, that a call has."""
    rows = connection.execute(
        select(_call.c.nonce).where(
            _call.c.chain == chain, _call.c.account == account, _call.c.nonce >= first
        )
    )
    return {row[0] for row in rows}
