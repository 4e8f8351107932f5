"""Keys get roles and scopes; merchants a contact and changes that wait; sandbox, links, kept answers."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Hash32, Integer64

revision = "0301"
down_revision = "0201"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _change_keys()
    op.add_column("merchant", sa.Column("contact", sa.Text))
    _hold_changes()
    _keep_answers()
    _open_sandbox()
    op.create_table(
        "payment_link",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("tiyn", Amount),
        sa.Column("reusable", sa.Integer, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("expires_s", Integer64),
        sa.Column("closed_s", Integer64),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchant.id"], name=op.f("fk_payment_link_merchant_id_merchant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_link")),
    )
    op.create_index("ix_payment_link_page", "payment_link", ["merchant_id", "created_s", "id"])
    op.create_index("ix_webhook_event_page", "webhook_event", ["merchant_id", "created", "id"])


def _change_keys() -> None:
    op.execute("ALTER TABLE api_key RENAME COLUMN scope TO role")
    # Who had a merchant's key could do all that there was.
    op.execute("UPDATE api_key SET role = 'owner' WHERE role = 'merchant'")
    op.add_column("api_key", sa.Column("scopes", sa.Text))
    op.add_column("api_key", sa.Column("name", sa.Text, nullable=False, server_default=""))
    op.add_column("api_key", sa.Column("sandbox", sa.Integer, nullable=False, server_default="0"))
    op.add_column("api_key", sa.Column("expires_s", Integer64))
    op.add_column("api_key", sa.Column("last_used_s", Integer64))
    op.create_index("ix_api_key_page", "api_key", ["merchant_id", "created_s", "id"])


def _hold_changes() -> None:
    op.create_table(
        "merchant_change",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("old", sa.Text, nullable=False),
        sa.Column("new", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("asked_s", Integer64, nullable=False),
        sa.Column("effective_s", Integer64, nullable=False),
        sa.Column("cancelled_s", Integer64),
        sa.Column("cancelled_by", sa.Text),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchant.id"], name=op.f("fk_merchant_change_merchant_id_merchant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_merchant_change")),
    )
    op.create_index("ix_merchant_change_merchant_id", "merchant_change", ["merchant_id"])
    op.create_table(
        "email_outbox",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("sent_s", Integer64),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchant.id"], name=op.f("fk_email_outbox_merchant_id_merchant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_email_outbox")),
    )
    op.create_index("ix_email_outbox_merchant_id", "email_outbox", ["merchant_id"])


def _keep_answers() -> None:
    op.create_table(
        "api_answer",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", Hash32, nullable=False),
        sa.Column("claimed_s", Integer64, nullable=False),
        sa.Column("claim", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("media_type", sa.Text),
        sa.Column("content", sa.LargeBinary),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_api_answer")),
    )
    op.create_index("ix_api_answer_age", "api_answer", ["claimed_s"])


def _open_sandbox() -> None:
    op.create_table(
        "sandbox_invoice",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("tiyn", Amount, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("due", Amount, nullable=False),
        sa.Column("rate", sa.Text, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("expires_s", Integer64, nullable=False),
        sa.Column("voided", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_invoice")),
        sa.UniqueConstraint(
            "merchant_id",
            "reference",
            "attempt",
            name=op.f("uq_sandbox_invoice_merchant_id_reference_attempt"),
        ),
    )
    op.create_index("ix_sandbox_invoice_page", "sandbox_invoice", ["merchant_id", "created_s", "id"])
    op.create_table(
        "sandbox_payment",
        sa.Column("number", Integer64, autoincrement=True, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["sandbox_invoice.id"], name=op.f("fk_sandbox_payment_invoice_id_sandbox_invoice")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sandbox_payment")),
    )
    op.create_index("ix_sandbox_payment_invoice_id", "sandbox_payment", ["invoice_id"])
