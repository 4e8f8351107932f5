"""The inbox keeps only what waits, a transfer's row is its answer, and balances are kept in time.

Answered submissions leave the inbox: what was refused moves to its answer, the rest is in the
records. Foreign keys go, because they cost as much as the rows they check. Of the time before
this step, balances are known from the records alone, so they are added up here once.
"""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Hash32, Integer64
from ledger.records import Transfer, decode
from ledger.tables import insert_only

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    dialect = connection.dialect.name
    # Insert-only tables cannot be changed, so each is made again and filled from the one before.
    _set_aside("ledger_answer", dialect)
    _set_aside("ledger_transfer", dialect)
    op.create_table(
        "ledger_transfer",
        sa.Column("id", Hash32),
        sa.Column("position", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_transfer"),
    )
    op.create_table(
        "ledger_answer",
        sa.Column("id", Hash32),
        sa.Column("position", Integer64),
        sa.Column("rule", sa.Text),
        sa.Column("place", sa.Text),
        sa.Column("why", sa.Text),
        sa.Column("template", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_answer"),
    )
    op.create_table(
        "ledger_balance_then",
        sa.Column("account", sa.Text),
        sa.Column("time_s", Integer64, autoincrement=False),
        sa.Column("size", Integer64, autoincrement=False),
        sa.Column("debits", Amount, nullable=False),
        sa.Column("credits", Amount, nullable=False),
        sa.PrimaryKeyConstraint("account", "time_s", "size", name="pk_ledger_balance_then"),
    )
    op.execute("INSERT INTO ledger_transfer SELECT id, position FROM ledger_transfer_before")
    op.execute(
        "INSERT INTO ledger_answer SELECT a.id, a.position, a.rule, a.place, a.why,"
        " CASE WHEN a.position IS NULL THEN i.template END"
        " FROM ledger_answer_before a JOIN ledger_inbox i ON i.id = a.id"
        " WHERE a.id NOT IN (SELECT id FROM ledger_transfer)"
    )
    op.drop_table("ledger_answer_before")
    op.drop_table("ledger_transfer_before")
    for answered in ("ledger_answer", "ledger_transfer"):
        op.execute(f"DELETE FROM ledger_inbox WHERE id IN (SELECT id FROM {answered})")
    for name in ("ledger_transfer", "ledger_answer", "ledger_balance_then"):
        for statement in insert_only(name, dialect):
            op.execute(statement)
    _add_up(connection)


def _set_aside(name: str, dialect: str) -> None:
    if dialect == "postgresql":
        op.execute(f"DROP TRIGGER {name}_insert_only ON {name}")
        op.execute(f"ALTER TABLE {name} DROP CONSTRAINT pk_{name}")
    else:
        op.execute(f"DROP TRIGGER {name}_no_update")
        op.execute(f"DROP TRIGGER {name}_no_delete")
    op.rename_table(name, f"{name}_before")


def _add_up(connection: sa.Connection) -> None:
    then = sa.table(
        "ledger_balance_then",
        sa.column("account"),
        sa.column("time_s"),
        sa.column("size"),
        sa.column("debits", Amount),
        sa.column("credits", Amount),
    )
    records = sa.table("ledger_record", sa.column("position"), sa.column("data"))
    totals: dict[str, tuple[int, int]] = {}
    after, page = -1, 1_000
    while True:
        chosen = sa.select(records.c.position, records.c.data).where(records.c.position > after)
        rows = connection.execute(chosen.order_by(records.c.position).limit(page)).all()
        moved = []
        for position, data in rows:
            record = decode(bytes(data))
            if isinstance(record, Transfer):
                for account, debit, credit in (
                    (record.debit, record.amount, 0),
                    (record.credit, 0, record.amount),
                ):
                    debits, credits = totals.get(account, (0, 0))
                    totals[account] = (debits + debit, credits + credit)
                    moved.append(
                        {
                            "account": account,
                            "time_s": record.time,
                            "size": position + 1,
                            "debits": debits + debit,
                            "credits": credits + credit,
                        }
                    )
        if moved:
            connection.execute(sa.insert(then), moved)
        if len(rows) < page:
            return
        after = rows[-1].position
