"""The outbox of letters says what became of each; and it is told when a change holds."""

import time

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
    op.add_column("merchant_change", sa.Column("told_s", Integer64))
    # What held before this version is no news.
    held = sa.text("UPDATE merchant_change SET told_s = effective_s WHERE effective_s <= :now")
    op.execute(held.bindparams(now=int(time.time())))
    op.create_index("ix_merchant_change_untold", "merchant_change", ["told_s", "effective_s"])
    op.create_index("ix_email_outbox_due", "email_outbox", ["sent_s", "gave_up_s", "due_s"])
