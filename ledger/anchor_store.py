"""What the ledger's database knows of anchoring: where each chain stands on its way to the newest head."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Row, delete, insert, select

from ledger import tables

_SENT = ("size", "root", "transaction", "nonce", "fee_wei", "tip_wei", "s")


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that was signed to bring a head to a chain; fees are wei for one unit of gas."""

    size: int
    root: bytes
    transaction_hash: bytes
    nonce: int
    fee_wei: int
    tip_wei: int
    time_s: int


@dataclass(frozen=True, slots=True)
class Progress:
    """held_size: what the chain's newest block held when it was asked last; sent: what was signed last."""

    held_size: int = 0
    sent: Sent | None = None


def progress(connection: Connection, chain_id: int, contract: bytes) -> Progress:
    """Where a chain stands; nothing of a chain that nobody asked yet."""
    table = tables.anchor_progress
    row = connection.execute(
        select(table).where(table.c.chain_id == str(chain_id), table.c.contract == contract)
    ).first()
    return Progress() if row is None else _read(row)


def held_sizes(connection: Connection) -> dict[tuple[int, bytes], int]:
    """The size that each chain's newest block held when it was asked last, by chain and contract."""
    rows = connection.execute(select(tables.anchor_progress))
    return {(int(row.chain_id), bytes(row.contract)): row.held_size for row in rows}


def save_progress(connection: Connection, chain_id: int, contract: bytes, now: Progress) -> None:
    """Note where a chain stands."""
    table = tables.anchor_progress
    connection.execute(delete(table).where(table.c.chain_id == str(chain_id), table.c.contract == contract))
    sent = now.sent
    values = (
        (None,) * len(_SENT)
        if sent is None
        else (
            sent.size,
            sent.root,
            sent.transaction_hash,
            sent.nonce,
            sent.fee_wei,
            sent.tip_wei,
            sent.time_s,
        )
    )
    told = {f"sent_{name}": value for name, value in zip(_SENT, values, strict=True)}
    home = {"chain_id": str(chain_id), "contract": contract, "held_size": now.held_size}
    connection.execute(insert(table).values(home | told))


def _read(row: Row[tuple[object, ...]]) -> Progress:
    if row.sent_size is None:
        return Progress(row.held_size)
    values = [getattr(row, f"sent_{name}") for name in _SENT]
    size, root, transaction, *numbers = values
    return Progress(row.held_size, Sent(size, bytes(root), bytes(transaction), *numbers))
