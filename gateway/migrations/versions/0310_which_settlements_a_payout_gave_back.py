"""A payout that was not paid notes for ever which settlements it gave back.

Those of the time before noted none: should one of them turn out to be paid after all, a person finds them.
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import insert_only

revision = "0310"
down_revision = "0309"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payout_freed",
        sa.Column("payout_id", sa.Text, nullable=False),
        sa.Column("settlement_id", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["payout_id"], ["payout.id"], name=op.f("fk_payout_freed_payout_id")),
        sa.ForeignKeyConstraint(
            ["settlement_id"], ["settlement.id"], name=op.f("fk_payout_freed_settlement_id")
        ),
        sa.PrimaryKeyConstraint("payout_id", "settlement_id", name=op.f("pk_payout_freed")),
    )
    op.create_index(op.f("ix_payout_freed_settlement_id"), "payout_freed", ["settlement_id"])
    for statement in insert_only("payout_freed", op.get_bind().dialect.name):
        op.execute(statement)
