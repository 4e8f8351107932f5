"""The last good rate of each asset is kept for all processes and over a restart."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Integer64

revision = "0308"
down_revision = "0307"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "last_rate",
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("numerator", Amount(), nullable=False),
        sa.Column("denominator", Amount(), nullable=False),
        sa.Column("time_s", Integer64, nullable=False),
        sa.Column("sources", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("asset", name=op.f("pk_last_rate")),
    )
