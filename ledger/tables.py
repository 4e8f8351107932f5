"""The tables of the ledger: what a database of ours may hold, and what it refuses by itself.

Records, transfer ids, balances in time, answers, documents, anchors and signed heads are
insert-only: the database refuses UPDATE, DELETE and TRUNCATE of them. Current balances and
the tree's right edge are derived, and stand in the same transaction as the records they
come from. The inbox holds only what still waits.

The signed heads are in a database of their own, so that a restored backup of the ledger
cannot take back what was signed.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import (
    DDL,
    Boolean,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
)

from ledger.database import Amount, Hash32, Integer64, naming

ledger = MetaData(naming_convention=naming)
heads = MetaData(naming_convention=naming)

record = Table(
    "ledger_record",
    ledger,
    Column("position", Integer64, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
# The answer to a submitted transfer, too: its id is the submission's. No foreign key: both rows are of
# one transaction and neither can ever be changed, and a check for each row would cost as much as the row.
transfer = Table(
    "ledger_transfer",
    ledger,
    Column("id", Hash32, primary_key=True),
    Column("position", Integer64, nullable=False),
)
# Where evidence stands, in runs of many records, once they are so many (evidence_index.py); derived from the
# records, behind them, and never changed. From `start` to before `stop` is what a run covers.
evidence = Table(
    "ledger_evidence",
    ledger,
    Column("bucket", Integer64, primary_key=True, autoincrement=False),
    Column("start", Integer64, primary_key=True, autoincrement=False),
    Column("stop", Integer64, nullable=False),
    Column("entries", LargeBinary, nullable=False),
)
# Transfers by their hash, of which again 8 bytes: so that a refund finds its receipt. Behind the records,
# and brought up to them when there is time, when something is published, or when somebody asks.
named = Table(
    "ledger_named",
    ledger,
    Column("position", Integer64, primary_key=True, autoincrement=False),
    Column("hash", Integer64, nullable=False, index=True),
)
# The state of the rules after so many records, as rules.dump() wrote it: a start needs not replay them all.
# Believed only if a signed head of this size has its SHA-256; older ones may be deleted.
snapshot = Table(
    "ledger_snapshot",
    ledger,
    Column("size", Integer64, primary_key=True, autoincrement=False),
    Column("state", LargeBinary, nullable=False),
)
# The state that the Close at a position names, and the position at which that Close took effect: what is
# published as states/<year>.json. Of a Close that can have no effect any more it is dropped.
closing_state = Table(
    "ledger_closing_state",
    ledger,
    Column("position", Integer64, primary_key=True, autoincrement=False),
    Column("year", Integer, nullable=False),
    Column("sha256", Hash32, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("effective", Integer64, nullable=True),
)
balance = Table(
    "ledger_balance",
    ledger,
    Column("account", Text, primary_key=True),
    Column("is_money", Boolean, nullable=False),
    Column("debits", Amount, nullable=False),
    Column("credits", Amount, nullable=False),
    # The rules refuse this first; here it stops a writer whose memory and database disagree.
    CheckConstraint("NOT is_money OR debits >= credits", name="money_not_below_zero"),
)
# What an account had come to after each batch that moved it; all records of a batch have one time.
balance_then = Table(
    "ledger_balance_then",
    ledger,
    Column("account", Text, primary_key=True),
    Column("time_s", Integer64, primary_key=True, autoincrement=False),
    Column("size", Integer64, primary_key=True, autoincrement=False),
    Column("debits", Amount, nullable=False),
    Column("credits", Amount, nullable=False),
)
edge = Table(
    "ledger_edge",
    ledger,
    Column("id", Integer, primary_key=True),
    Column("size", Integer64, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    Column("fence", Integer64, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
inbox = Table(
    "ledger_inbox",
    ledger,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("id", Hash32, nullable=False, unique=True),
    Column("template", LargeBinary, nullable=False),
    Column("submitted_s", Integer64, nullable=False),
    sqlite_autoincrement=True,
)
# A position, or a rule, a place and a reason together with what was refused.
answer = Table(
    "ledger_answer",
    ledger,
    Column("id", Hash32, primary_key=True),
    Column("position", Integer64, nullable=True),
    Column("rule", Text, nullable=True),
    Column("place", Text, nullable=True),
    Column("why", Text, nullable=True),
    Column("template", LargeBinary, nullable=True),
)
document = Table(
    "ledger_document",
    ledger,
    Column("sha256", Hash32, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
anchor = Table(
    "ledger_anchor",
    ledger,
    Column("chain_id", Text, primary_key=True),
    Column("contract", LargeBinary, primary_key=True),
    Column("size", Integer64, primary_key=True, autoincrement=False),
    Column("root", Hash32, nullable=False),
    Column("transaction_hash", Hash32, nullable=False),
    Column("block", Integer64, nullable=False),
    Column("block_hash", Hash32, nullable=False),
    Column("time_s", Integer64, nullable=False),
)
# Where each chain stands on its way to the newest head: derived, for the chain itself can be asked again.
anchor_progress = Table(
    "ledger_anchor_progress",
    ledger,
    Column("chain_id", Text, primary_key=True),
    Column("contract", LargeBinary, primary_key=True),
    # What the newest block held when it was looked at last; a reorganisation can still take it back.
    Column("held_size", Integer64, nullable=False),
    # The transaction that was signed last, null before the first. Fees are wei for one unit of gas.
    Column("sent_size", Integer64, nullable=True),
    Column("sent_root", Hash32, nullable=True),
    Column("sent_transaction", Hash32, nullable=True),
    Column("sent_nonce", Integer64, nullable=True),
    Column("sent_fee_wei", Integer64, nullable=True),
    Column("sent_tip_wei", Integer64, nullable=True),
    Column("sent_s", Integer64, nullable=True),
)
head = Table(
    "signed_head",
    heads,
    Column("size", Integer64, primary_key=True, autoincrement=False),
    Column("root", Hash32, nullable=False),
    Column("note", LargeBinary, nullable=False),
    # The tree's right edge at this size, from which the next head is computed; it adds up to the root.
    Column("edge", LargeBinary, nullable=True),
    # The SHA-256 of the state of the rules at this size, where it was kept.
    Column("state", Hash32, nullable=True),
)

INSERT_ONLY = (record, transfer, evidence, named, balance_then, answer, document, anchor, head)


def insert_only(name: str, dialect: str) -> Iterator[str]:
    """The statements by which a database refuses every change of a table's rows.

    Triggers compare nothing, so no NULL can slip past one; SQLite has no TRUNCATE.
    """
    if dialect == "sqlite":
        for action in ("UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER {name}_no_{action.lower()} BEFORE {action} ON {name}"
                f" BEGIN SELECT RAISE(ABORT, '{name} is insert-only'); END"
            )
    else:
        yield (
            f"CREATE OR REPLACE FUNCTION {name}_refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{name} is insert-only'; END $$"
        )
        yield (
            f"CREATE TRIGGER {name}_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {name}_refuse()"
        )


for _table in INSERT_ONLY:
    for _dialect in ("sqlite", "postgresql"):
        for _statement in insert_only(_table.name, _dialect):
            _create = DDL(_statement).execute_if(dialect=_dialect)  # type: ignore[no-untyped-call]
            event.listen(_table, "after_create", _create)
