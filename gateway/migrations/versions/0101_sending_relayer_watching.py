"""The sender's calls, what the relayer brings and flushes, and up to where a chain was watched."""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Hash32, Integer64

revision = "0101"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rail_tail",
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("number", Integer64, nullable=False),
        sa.Column("hash", Hash32, nullable=False),
        sa.PrimaryKeyConstraint("rail", name=op.f("pk_rail_tail")),
    )
    op.create_table(
        "sending_account",
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("address", sa.LargeBinary, nullable=False),
        sa.Column("next_nonce", Integer64, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("chain", "address", name=op.f("pk_sending_account")),
    )
    op.create_table(
        "sending_call",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("to", sa.LargeBinary, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("value", Amount, nullable=False),
        sa.Column("gas_limit", Integer64, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("account", sa.LargeBinary, nullable=True),
        sa.Column("nonce", Integer64, nullable=True),
        sa.Column("transaction", Hash32, nullable=True),
        sa.Column("block", Integer64, nullable=True),
        sa.Column("block_hash", Hash32, nullable=True),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_s", Integer64, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("changed_s", Integer64, nullable=False),
        sa.Column("sequence", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sending_call")),
        sa.UniqueConstraint("chain", "account", "nonce", name=op.f("uq_sending_call_chain_account_nonce")),
        sa.UniqueConstraint("kind", "reference", name=op.f("uq_sending_call_kind_reference")),
    )
    op.create_index("ix_sending_call_work", "sending_call", ["chain", "state", "due_s"], unique=False)
    op.create_table(
        "coin_deposit",
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("address", sa.LargeBinary, nullable=False),
        sa.Column("balance", Amount, nullable=False),
        sa.Column("block", Integer64, nullable=False),
        sa.Column("since_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_coin_deposit_invoice_id")),
        sa.PrimaryKeyConstraint("invoice_id", name=op.f("pk_coin_deposit")),
        sa.UniqueConstraint("address", name=op.f("uq_coin_deposit_address")),
    )
    op.create_table(
        "deposit_flush",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("noted_s", Integer64, nullable=False),
        sa.Column("due_s", Integer64, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("call_id", sa.Text, nullable=True),
        sa.Column("done", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_deposit_flush_invoice_id")),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_deposit_flush")),
    )
    op.create_index(op.f("ix_deposit_flush_call_id"), "deposit_flush", ["call_id"], unique=False)
    op.create_index(op.f("ix_deposit_flush_invoice_id"), "deposit_flush", ["invoice_id"], unique=False)
    op.create_index("ix_deposit_flush_work", "deposit_flush", ["done", "due_s"], unique=False)
    op.create_table(
        "gasless_payment",
        sa.Column("token", sa.LargeBinary, nullable=False),
        sa.Column("payer", sa.LargeBinary, nullable=False),
        sa.Column("nonce", Hash32, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("scheme", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("gas_limit", Integer64, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("created_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_gasless_payment_invoice_id")),
        sa.PrimaryKeyConstraint("token", "payer", "nonce", name=op.f("pk_gasless_payment")),
        sa.UniqueConstraint("id", name=op.f("uq_gasless_payment_id")),
    )
    op.create_index(op.f("ix_gasless_payment_call_id"), "gasless_payment", ["call_id"], unique=False)
    op.create_index(op.f("ix_gasless_payment_created_s"), "gasless_payment", ["created_s"], unique=False)
    op.create_index(op.f("ix_gasless_payment_invoice_id"), "gasless_payment", ["invoice_id"], unique=False)
    op.create_index("ix_gasless_payment_payer", "gasless_payment", ["payer", "created_s"], unique=False)
    op.create_index(op.f("ix_gasless_payment_state"), "gasless_payment", ["state"], unique=False)
    op.create_table(
        "sending_transaction",
        sa.Column("hash", Hash32, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("max_fee", Amount, nullable=False),
        sa.Column("tip", Amount, nullable=False),
        sa.Column("fills", sa.Integer, nullable=False),
        sa.Column("signed_s", Integer64, nullable=False),
        sa.Column("sent_s", Integer64, nullable=True),
        sa.ForeignKeyConstraint(
            ["call_id"], ["sending_call.id"], name=op.f("fk_sending_transaction_call_id")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sending_transaction")),
    )
    op.create_index(op.f("ix_sending_transaction_call_id"), "sending_transaction", ["call_id"], unique=False)
    # Each deposit of the time before is looked at once: what was flushed then is done, the rest is flushed.
    op.execute(
        "INSERT INTO deposit_flush (source, invoice_id, asset, noted_s, due_s, attempts, call_id, done) "
        "SELECT key, invoice_id, asset, changed_s, 0, 0, NULL, 0 FROM evidence "
        "WHERE kind = 'deposit' AND stage = 'final' AND invoice_id IS NOT NULL"
    )
