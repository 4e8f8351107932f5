"""The tables of the first ledgers, made before there were versions."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Hash32, Integer64
from ledger.tables import insert_only

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger_record",
        sa.Column("position", Integer64, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("leaf", Hash32, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_ledger_record"),
    )
    op.create_table(
        "ledger_transfer",
        sa.Column("id", Hash32),
        sa.Column("position", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_transfer"),
        sa.UniqueConstraint("position", name="uq_ledger_transfer_position"),
        sa.ForeignKeyConstraint(["position"], ["ledger_record.position"], name="fk_ledger_transfer_position"),
    )
    op.create_table(
        "ledger_balance",
        sa.Column("account", sa.Text),
        sa.Column("is_money", sa.Boolean, nullable=False),
        sa.Column("debits", Amount, nullable=False),
        sa.Column("credits", Amount, nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_ledger_balance"),
        sa.CheckConstraint(
            "NOT is_money OR debits >= credits", name=op.f("ck_ledger_balance_money_not_below_zero")
        ),
    )
    op.create_table(
        "ledger_edge",
        sa.Column("id", sa.Integer),
        sa.Column("size", Integer64, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.Column("fence", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_edge"),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_edge_one_row")),
    )
    op.create_table(
        "ledger_inbox",
        sa.Column("sequence", Integer64, primary_key=True, autoincrement=True),
        sa.Column("id", Hash32, nullable=False),
        sa.Column("template", sa.LargeBinary, nullable=False),
        sa.Column("submitted_s", Integer64, nullable=False),
        sa.UniqueConstraint("id", name="uq_ledger_inbox_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ledger_answer",
        sa.Column("id", Hash32),
        sa.Column("position", Integer64),
        sa.Column("rule", sa.Text),
        sa.Column("place", sa.Text),
        sa.Column("why", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_answer"),
        sa.ForeignKeyConstraint(["id"], ["ledger_inbox.id"], name="fk_ledger_answer_id"),
    )
    op.create_table(
        "ledger_document",
        sa.Column("sha256", Hash32),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_ledger_document"),
    )
    op.create_table(
        "ledger_anchor",
        sa.Column("chain_id", sa.Text),
        sa.Column("contract", sa.LargeBinary),
        sa.Column("size", Integer64, autoincrement=False),
        sa.Column("root", Hash32, nullable=False),
        sa.Column("transaction_hash", Hash32, nullable=False),
        sa.Column("block", Integer64, nullable=False),
        sa.Column("block_hash", Hash32, nullable=False),
        sa.Column("time_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "contract", "size", name="pk_ledger_anchor"),
    )
    dialect = op.get_bind().dialect.name
    for name in ("record", "transfer", "answer", "document", "anchor"):
        for statement in insert_only(f"ledger_{name}", dialect):
            op.execute(statement)
