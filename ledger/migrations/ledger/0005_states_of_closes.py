"""The state that a Close names is kept, so that it can be published; of earlier Closes nobody has it."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Hash32, Integer64

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger_closing_state",
        sa.Column("position", Integer64, autoincrement=False),
        sa.Column("year", sa.Integer, nullable=False),
        sa.Column("sha256", Hash32, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("effective", Integer64),
        sa.PrimaryKeyConstraint("position", name="pk_ledger_closing_state"),
    )
