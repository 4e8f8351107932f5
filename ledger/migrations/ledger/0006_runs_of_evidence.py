"""Evidence is found by runs of many records, which the next writer makes; its index and its column go.

So does each record's leaf hash, which nobody read: what is signed and published is hashed from the bytes.
"""

import sqlalchemy as sa
from alembic import op

from ledger.database import Integer64
from ledger.tables import insert_only

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_ledger_transfer_evidence", "ledger_transfer")
    op.drop_column("ledger_transfer", "evidence")
    op.drop_column("ledger_record", "leaf")
    op.create_table(
        "ledger_evidence",
        sa.Column("bucket", Integer64, autoincrement=False),
        sa.Column("start", Integer64, autoincrement=False),
        sa.Column("stop", Integer64, nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("bucket", "start", name="pk_ledger_evidence"),
    )
    for statement in insert_only("ledger_evidence", op.get_bind().dialect.name):
        op.execute(statement)
