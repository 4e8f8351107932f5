"""Refunds keep how far the chain and the ledger were looked at for them, and what the bank booked."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Hash32, Integer64

revision = "0307"
down_revision = "0306"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("refund", sa.Column("earlier", sa.Text, nullable=False, server_default="[]"))
    op.add_column("refund", sa.Column("scanned_block", Integer64, nullable=True))
    op.add_column("refund", sa.Column("credited_block", Integer64, nullable=True))
    op.create_table(
        "refund_account",
        sa.Column("refund_id", sa.Text, nullable=False),
        sa.Column("iban", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name=op.f("fk_refund_account_refund_id")),
        sa.PrimaryKeyConstraint("refund_id", name=op.f("pk_refund_account")),
    )
    op.create_table(
        "bank_refund",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("refund_id", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("is_back", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("commitment", Hash32, nullable=False),
        sa.Column("seen_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name=op.f("fk_bank_refund_refund_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_bank_refund")),
    )
    op.create_index(op.f("ix_bank_refund_refund_id"), "bank_refund", ["refund_id"])
    op.create_table(
        "approval_place",
        sa.Column("position", Integer64, autoincrement=False, nullable=False),
        sa.Column("approves", Hash32, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_approval_place")),
    )
    op.create_index(op.f("ix_approval_place_approves"), "approval_place", ["approves"])
