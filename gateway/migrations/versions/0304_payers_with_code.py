"""Gasless payments are bounded by whether there is code at the payer's address."""

import sqlalchemy as sa
from alembic import op

revision = "0304"
down_revision = "0303"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of what was brought before it is not known; its hour is over when this version has started.
    op.add_column("gasless_payment", sa.Column("has_code", sa.Integer, nullable=False, server_default="0"))
