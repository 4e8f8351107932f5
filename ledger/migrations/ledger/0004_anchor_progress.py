"""Heads are noted as anchored once they are final; until then each chain has a row of progress."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Hash32, Integer64

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger_anchor_progress",
        sa.Column("chain_id", sa.Text),
        sa.Column("contract", sa.LargeBinary),
        sa.Column("held_size", Integer64, nullable=False),
        sa.Column("sent_size", Integer64),
        sa.Column("sent_root", Hash32),
        sa.Column("sent_transaction", Hash32),
        sa.Column("sent_nonce", Integer64),
        sa.Column("sent_fee_wei", Integer64),
        sa.Column("sent_tip_wei", Integer64),
        sa.Column("sent_s", Integer64),
        sa.PrimaryKeyConstraint("chain_id", "contract", name="pk_ledger_anchor_progress"),
    )
