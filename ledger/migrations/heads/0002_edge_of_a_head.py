"""A head keeps the tree's right edge, so that the next one need not read the whole ledger again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("signed_head", sa.Column("edge", sa.LargeBinary, nullable=True))
