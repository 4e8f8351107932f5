"""The tables of the first gateways, made before there were versions."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Hash32, Integer64

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bank_file",
        sa.Column("sha256", Hash32, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("problem", sa.Text, nullable=True),
        sa.Column("read_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_bank_file")),
    )
    op.create_table(
        "invoice",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("number", Hash32, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=True),
        sa.Column("merchant_reference", sa.Text, nullable=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("tiyn", Amount, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("due", Amount, nullable=False),
        sa.Column("share_bps", sa.Integer, nullable=False),
        sa.Column("rate", sa.Text, nullable=False),
        sa.Column("payee", sa.LargeBinary, nullable=False),
        sa.Column("deposit_address", sa.LargeBinary, nullable=True),
        sa.Column("quote_signature", sa.LargeBinary, nullable=True),
        sa.Column("nonce", Integer64, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("expires_s", Integer64, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("voided", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice")),
        sa.UniqueConstraint("deposit_address", name=op.f("uq_invoice_deposit_address")),
        sa.UniqueConstraint(
            "merchant_id",
            "merchant_reference",
            "attempt",
            name=op.f("uq_invoice_merchant_id_merchant_reference_attempt"),
        ),
        sa.UniqueConstraint("number", name=op.f("uq_invoice_number")),
        sa.UniqueConstraint("reference", name=op.f("uq_invoice_reference")),
    )
    op.create_index("ix_invoice_due", "invoice", ["status", "expires_s"], unique=False)
    op.create_index("ix_invoice_page", "invoice", ["merchant_id", "created_s", "id"], unique=False)
    op.create_table(
        "merchant",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("bin", sa.Text, nullable=False),
        sa.Column("iban", sa.Text, nullable=False),
        sa.Column("wallet", sa.LargeBinary, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_merchant")),
        sa.UniqueConstraint("bin", name=op.f("uq_merchant_bin")),
    )
    op.create_table(
        "private_evidence",
        sa.Column("commitment", Hash32, nullable=False),
        sa.Column("salt", Hash32, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("commitment", name=op.f("pk_private_evidence")),
    )
    op.create_table(
        "quote_nonce",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("next", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quote_nonce")),
    )
    op.create_table(
        "rail_cursor",
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("position", Integer64, nullable=False),
        sa.Column("seen_until_s", Integer64, nullable=False),
        sa.Column("round", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("rail", name=op.f("pk_rail_cursor")),
    )
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("previous_secret", sa.LargeBinary, nullable=True),
        sa.Column("previous_until", Integer64, nullable=True),
        sa.Column("created", Integer64, nullable=False),
        sa.Column("disabled", Integer64, nullable=True),
        sa.Column("disabled_why", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoint")),
        sqlite_strict=True,
    )
    op.create_index(
        op.f("ix_webhook_endpoint_merchant_id"), "webhook_endpoint", ["merchant_id"], unique=False
    )
    op.create_table(
        "webhook_event",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("sequence", Integer64, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_event")),
        sa.UniqueConstraint("invoice_id", "sequence", name=op.f("uq_webhook_event_invoice_id_sequence")),
        sqlite_strict=True,
    )
    op.create_table(
        "webhook_sequence",
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("last", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("invoice_id", name=op.f("pk_webhook_sequence")),
        sqlite_strict=True,
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=True),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("hash", Hash32, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("revoked_s", Integer64, nullable=True),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("fk_api_key_merchant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_index(op.f("ix_api_key_merchant_id"), "api_key", ["merchant_id"], unique=False)
    op.create_table(
        "evidence",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("city", Amount, nullable=False),
        sa.Column("block", Integer64, nullable=True),
        sa.Column("address", sa.LargeBinary, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("evidence_hash", Hash32, nullable=True),
        sa.Column("transfer_id", Hash32, nullable=True),
        sa.Column("position", Integer64, nullable=True),
        sa.Column("problem", sa.Text, nullable=True),
        sa.Column("at_s", Integer64, nullable=True),
        sa.Column("seen_s", Integer64, nullable=False),
        sa.Column("changed_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_evidence_invoice_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_evidence")),
    )
    op.create_index(op.f("ix_evidence_invoice_id"), "evidence", ["invoice_id"], unique=False)
    op.create_index(op.f("ix_evidence_stage"), "evidence", ["stage"], unique=False)
    op.create_index(op.f("ix_evidence_transfer_id"), "evidence", ["transfer_id"], unique=False)
    op.create_table(
        "flush_claim",
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("until_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_flush_claim_invoice_id")),
        sa.PrimaryKeyConstraint("invoice_id", name=op.f("pk_flush_claim")),
    )
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", Hash32, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_idempotency_invoice_id")),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency")),
    )
    op.create_table(
        "invoice_event",
        sa.Column("sequence", Integer64, autoincrement=True, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_invoice_event_invoice_id")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_invoice_event")),
    )
    op.create_index(op.f("ix_invoice_event_invoice_id"), "invoice_event", ["invoice_id"], unique=False)
    op.create_table(
        "webhook_delivery",
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("sequence", Integer64, nullable=False),
        sa.Column("attempt", Integer64, nullable=False),
        sa.Column("due", Integer64, nullable=False),
        sa.Column("leased_until", Integer64, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("last_status", Integer64, nullable=True),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'dead')", name=op.f("ck_webhook_delivery_state")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoint.id"], name=op.f("fk_webhook_delivery_endpoint_id")
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["webhook_event.id"], name=op.f("fk_webhook_delivery_event_id")
        ),
        sa.PrimaryKeyConstraint("event_id", "endpoint_id", name=op.f("pk_webhook_delivery")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_webhook_delivery_due",
        "webhook_delivery",
        ["due"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_webhook_delivery_order",
        "webhook_delivery",
        ["endpoint_id", "invoice_id", "sequence"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
