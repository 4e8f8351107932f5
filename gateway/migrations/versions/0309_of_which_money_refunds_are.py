"""Refunds that name no money note of which money they are; whose refund was cancelled is asked about again.

Refunds of the time before have no such rows: they go on taking from what counts. Money of no invoice whose
refund was cancelled stood nowhere: it is in the queue again.
"""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount
from ledger.tables import insert_only

revision = "0309"
down_revision = "0308"
branch_labels = None
depends_on = None


# Money that was to go back, and of which no refund stands.
LEFT = (
    "decision = 'refund' AND NOT EXISTS"
    " (SELECT 1 FROM refund WHERE refund.evidence_key = evidence.key AND refund.state <> 'cancelled')"
)


def upgrade() -> None:
    op.create_table(
        "refund_part",
        sa.Column("refund_id", sa.Text, nullable=False),
        sa.Column("evidence_key", sa.Text, nullable=False),
        sa.Column("amount", Amount(), nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name=op.f("fk_refund_part_refund_id")),
        sa.ForeignKeyConstraint(["evidence_key"], ["evidence.key"], name=op.f("fk_refund_part_evidence_key")),
        sa.PrimaryKeyConstraint("refund_id", "evidence_key", name=op.f("pk_refund_part")),
    )
    op.create_index(op.f("ix_refund_part_evidence_key"), "refund_part", ["evidence_key"])
    for statement in insert_only("refund_part", op.get_bind().dialect.name):
        op.execute(statement)
    op.execute(
        "INSERT INTO evidence_decision (key, action, actor, why, at_s)"
        " SELECT key, 'reopened', 'migration', 'its refund was cancelled',"
        " (SELECT COALESCE(MAX(changed_s), evidence.changed_s) FROM refund"
        f" WHERE refund.evidence_key = evidence.key) FROM evidence WHERE {LEFT}"
    )
    op.execute(f"UPDATE evidence SET decision = 'reopened' WHERE {LEFT}")
