"""The rows that hold something personal: found, and emptied. SQL and nothing else.

`WORDS` is what is emptied, `KEPT` what names people and stays, and why. Every other table has nothing
personal in it; a test goes through all of them, so that a new table cannot be forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select, text, update

from gateway.db import insert_into, metadata
from gateway.erasure.listing import Target, What, evidence_name
from gateway.erasure.person import text_of
from gateway.merchants import store as _merchants
from gateway.merchants.links import store as _links
from gateway.payments import store as payments
from gateway.payments.store import Seen, tables
from gateway.sandbox import store as _sandbox
from gateway.webhooks import store as webhooks

# What stands where something was.
ERASED: Final = "erased"


class Words(NamedTuple):
    """Where a kind of thing keeps what people wrote; a column that may be empty is emptied."""

    table: str
    key: str
    columns: tuple[str, ...]


# Each of these tables is in the metadata since its store is loaded.
_LOADED: Final = (_merchants, _links, _sandbox)
WORDS: Final = {
    What.INVOICE: Words("invoice", "id", ("title", "merchant_reference")),
    What.LINK: Words("payment_link", "id", ("title",)),
    What.LETTER: Words("email_outbox", "id", ("recipient", "body")),
    What.CONTACT: Words("merchant", "id", ("contact",)),
    What.CHANGE: Words("merchant_change", "id", ("old", "new")),
    What.SANDBOX: Words("sandbox_invoice", "id", ("title", "reference")),
    What.ACCOUNT: Words("refund_account", "refund_id", ("iban",)),
}
# A merchant's reference is of one invoice.
_REFERENCES: Final = {"merchant_reference", "reference"}
# Accounting documents of the city and a merchant, and what staff answer for by name: the database refuses
# to change most of these, and the law says how long they are kept.
KEPT: Final = (
    Words("merchant", "id", ("name", "bin", "iban")),
    Words("merchant_change", "id", ("old", "new")),
    Words("payout", "id", ("iban", "problem")),
    Words("provider_message", "reference", ("body", "answer")),
    Words("evidence_decision", "sequence", ("why",)),
    Words("refund_event", "sequence", ("why",)),
    Words("payout_event", "sequence", ("why",)),
    Words("api_key", "id", ("name",)),
)


def words_of(connection: Connection, words: Words) -> Iterator[tuple[str, str, str]]:
    """Every row: its key, what people wrote in it, and for a change of which field."""
    table = metadata.tables[words.table]
    field = table.c.field if "field" in table.c else text("''")
    columns = [table.c[name] for name in words.columns]
    for row in connection.execute(select(table.c[words.key], *columns, field)):
        told = [text_of(bytes(one)) if isinstance(one, bytes) else str(one) for one in row[1:-1] if one]
        yield str(row[0]), "\n".join(told), str(row[-1])


def private_rows(connection: Connection) -> Iterator[tuple[bytes, str]]:
    """What commitments hide: the commitment, and what can be read in it."""
    for row in connection.execute(select(tables.private.c.commitment, tables.private.c.content)):
        yield bytes(row.commitment), text_of(bytes(row.content))


def bookings_under(connection: Connection, commitment: bytes) -> list[str]:
    """The keys of what the bank booked of refunds that has this commitment."""
    column = tables.bank_refund.c
    return list(connection.execute(select(column.key).where(column.commitment == commitment)).scalars())


def evidence_under(connection: Connection, commitment: bytes) -> list[Seen]:
    """The evidence that has this commitment."""
    keys = connection.execute(
        select(tables.evidence.c.key).where(tables.evidence.c.evidence_hash == commitment)
    ).scalars()
    return [seen for key in list(keys) if (seen := payments.evidence(connection, key)) is not None]


# --- emptied --------------------------------------------------------------------------------------


def erase(connection: Connection, target: Target, now: int) -> int:
    """Empty one thing; returns of how many rows that changed anything."""
    if target.what is What.PRIVATE:
        gone = delete(tables.private).where(tables.private.c.commitment == bytes.fromhex(target.name))
        return int(connection.execute(gone).rowcount)
    if target.what is What.EVIDENCE:
        return 0
    return _empty(connection, target, WORDS[target.what], now)


def _empty(connection: Connection, target: Target, words: Words, now: int) -> int:
    table = metadata.tables[words.table]
    mine = table.c[words.key] == target.name
    row = connection.execute(select(table).where(mine)).mappings().first()
    if row is None:
        return 0
    emptied: dict[str, Any] = {name: ERASED for name in words.columns if row[name]}
    told = dict.fromkeys(_REFERENCES & set(emptied), f"{ERASED}:{target.name}")
    emptied |= told
    match target.what:
        case What.CONTACT:
            emptied["contact"] = None
        case What.ACCOUNT:
            gone = connection.execute(delete(table).where(mine))
            return int(gone.rowcount)
        case What.CHANGE:
            emptied = dict.fromkeys(words.columns, "")
        case What.LETTER if row["sent_s"] is None and row["gave_up_s"] is None:
            # There is nobody to send it to any more.
            emptied["gave_up_s"] = now
    if all(row[name] == value for name, value in emptied.items()):
        return 0
    connection.execute(update(table).where(mine).values(**emptied))
    if target.what is What.CHANGE:
        _empty_events(connection, target.name, emptied)
    elif told:
        _empty_events(connection, target.name, dict.fromkeys(["reference"], *told.values()))
    return 1


def _empty_events(connection: Connection, of: str, emptied: Mapping[str, str]) -> None:
    """Empty it in what is told, and was told, by webhook; the event stays, and its signature is new."""
    events = webhooks.events
    rows = connection.execute(select(events.c.id, events.c.body).where(events.c.invoice_id == of))
    for row in rows.all():
        told = json.loads(bytes(row.body))
        told["data"] |= {name: value for name, value in emptied.items() if told["data"].get(name)}
        body = json.dumps(told, separators=(",", ":")).encode()
        connection.execute(update(events).where(events.c.id == row.id).values(body=body))


# --- what the database knows of the list ---------------------------------------------------------------


def note(connection: Connection, target: Target, line: int) -> None:
    """Note that a line of the list was carried out about a thing."""
    new = insert_into(connection, tables.erased).values(name=noted_name(target), line=line)
    connection.execute(new.on_conflict_do_nothing(index_elements=["name"]))


def noted_name(target: Target) -> bytes:
    """How the database calls a thing that was erased."""
    return bytes.fromhex(target.name if target.what is What.EVIDENCE else evidence_name(" ".join(target)))


def newest_line(connection: Connection) -> int:
    """How far the list has been carried out in this database."""
    return connection.execute(select(func.max(tables.erased.c.line))).scalar() or 0


def noted_names(connection: Connection) -> Iterator[tuple[bytes, int]]:
    """All that was carried out in this database, each with the line of the list that asked for it first."""
    for row in connection.execute(select(tables.erased.c.name, tables.erased.c.line)):
        yield bytes(row.name), row.line


def overwrite(engine: Engine) -> None:
    """Have the database let go of the bytes themselves: a deleted row can be read in its files for long."""
    if engine.dialect.name == "sqlite":
        # Not inside a transaction, which SQLAlchemy would begin.
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            raw.close()
        return
    names = [tables.private.name, *(words.table for words in WORDS.values()), webhooks.events.name]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in names:
            connection.exec_driver_sql(f"VACUUM {name}")


def overwriting(connection: Connection) -> None:
    """Let SQLite write zeros over what is deleted in this transaction."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
