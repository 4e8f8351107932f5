"""An invoice knows where its payer goes back to, and by which door it was asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0305"
down_revision = "0304"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("invoice", sa.Column("return_url", sa.Text, nullable=True))
    op.add_column("sandbox_invoice", sa.Column("return_url", sa.Text, nullable=True))
    # Of what was made before nobody knows it: no page offers to make those again.
    op.add_column("invoice", sa.Column("origin", sa.Text, nullable=False, server_default="api"))
