"""The signed heads as the first ledgers kept them."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Hash32, Integer64
from ledger.tables import insert_only

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "signed_head",
        sa.Column("size", Integer64, autoincrement=False),
        sa.Column("root", Hash32, nullable=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_signed_head"),
    )
    for statement in insert_only("signed_head", op.get_bind().dialect.name):
        op.execute(statement)
