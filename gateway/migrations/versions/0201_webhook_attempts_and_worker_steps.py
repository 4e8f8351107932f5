"""Endpoints choose their events, attempts are kept, and a worker's steps are noted."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Integer64

revision = "0201"
down_revision = "0101"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhook_endpoint", sa.Column("wants", sa.Text, nullable=False, server_default=""))
    op.add_column("webhook_endpoint", sa.Column("failing_since_s", Integer64))
    pending = sa.text("state = 'pending'")
    op.drop_index("ix_webhook_delivery_due", "webhook_delivery")
    op.create_index(
        "ix_webhook_delivery_due",
        "webhook_delivery",
        ["endpoint_id", "due", "sequence"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
    op.create_table(
        "webhook_attempt",
        sa.Column("id", Integer64, autoincrement=True, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("attempt", Integer64, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.Column("took_ms", Integer64, nullable=False),
        sa.Column("status", Integer64),
        sa.Column("error", sa.Text),
        sa.ForeignKeyConstraint(
            ["event_id"], ["webhook_event.id"], name=op.f("fk_webhook_attempt_event_id_webhook_event")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoint.id"],
            name=op.f("fk_webhook_attempt_endpoint_id_webhook_endpoint"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempt")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_webhook_attempt_event_id"), "webhook_attempt", ["event_id"])
    op.create_index(op.f("ix_webhook_attempt_at_s"), "webhook_attempt", ["at_s"])
    op.create_index("ix_webhook_attempt_endpoint", "webhook_attempt", ["endpoint_id", "id"])
    op.create_table(
        "worker_step",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("started_ms", Integer64, nullable=False),
        sa.Column("took_ms", Integer64, nullable=False),
        sa.Column("succeeded_ms", Integer64, nullable=False),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker_step")),
    )
