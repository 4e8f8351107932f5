"""The database knows how far the list of erasures was carried out in it."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Hash32, Integer64

revision = "0306"
down_revision = "0305"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erased",
        sa.Column("name", Hash32, nullable=False),
        sa.Column("line", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_erased")),
    )
    op.create_index(op.f("ix_erased_line"), "erased", ["line"])
