"""The outbox of letters says what became of each."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Integer64

revision = "0302"
down_revision = "0301"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("email_outbox", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    op.add_column("email_outbox", sa.Column("due_s", Integer64, nullable=False, server_default="0"))
    op.add_column("email_outbox", sa.Column("gave_up_s", Integer64))
    op.add_column("email_outbox", sa.Column("error", sa.Text))
    op.create_index("ix_email_outbox_due", "email_outbox", ["sent_s", "gave_up_s", "due_s"])
