"""Nobody claims the flush of a deposit address: it is a call of the sender; quotas hold for all processes."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Integer64

revision = "0303"
down_revision = "0302"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A claim was a lease of seconds, and nothing has asked for one since 0101: no row says anything.
    op.drop_table("flush_claim")
    op.create_table(
        "quota_lease",
        sa.Column("period", Integer64, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("caller", sa.LargeBinary, nullable=False),
        sa.Column("taken", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("period", "name", "caller", name=op.f("pk_quota_lease")),
    )
