"""The hash of the rules' state is kept with a head; heads from before have none, and starts replay."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Hash32

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("signed_head", sa.Column("state", Hash32, nullable=True))
