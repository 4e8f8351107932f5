"""Policies, decisions, refunds, settlements and payouts; and what happened can only be added to.

Of the time before this step, how far evidence came is told as it stands now, what merchants were
given is noted from the final payments, and which deposit addresses hold money is added up once.
"""

import sqlalchemy as sa
from alembic import op

from ledger.database import Amount, Hash32, Integer64
from ledger.tables import insert_only

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSERT_ONLY = (
    "invoice_event",
    "evidence_event",
    "evidence_decision",
    "merchant_policy",
    "refund_event",
    "settlement",
    "payout_event",
    "provider_message",
)


def upgrade() -> None:
    op.create_table(
        "merchant_policy",
        sa.Column("sequence", Integer64, autoincrement=True, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_merchant_policy")),
    )
    op.create_index(op.f("ix_merchant_policy_merchant_id"), "merchant_policy", ["merchant_id"], unique=False)
    op.create_table(
        "outgoing_attempt",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("outgoing_id", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("kind", "reference", "attempt", name=op.f("pk_outgoing_attempt")),
        sa.UniqueConstraint("outgoing_id", name=op.f("uq_outgoing_attempt_outgoing_id")),
    )
    op.create_table(
        "payout",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("iban", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_s", Integer64, nullable=False),
        sa.Column("tiyn", Amount, nullable=True),
        sa.Column("fee_tiyn", Amount, nullable=True),
        sa.Column("numerator", Amount, nullable=True),
        sa.Column("denominator", Amount, nullable=True),
        sa.Column("bank_reference", sa.Text, nullable=True),
        sa.Column("paid_s", Integer64, nullable=True),
        sa.Column("problem", sa.Text, nullable=True),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("changed_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout")),
        sa.UniqueConstraint("provider", "bank_reference", name=op.f("uq_payout_provider_bank_reference")),
    )
    op.create_index("ix_payout_due", "payout", ["state", "due_s"], unique=False)
    op.create_index("ix_payout_page", "payout", ["merchant_id", "created_s", "id"], unique=False)
    op.create_table(
        "provider_message",
        sa.Column("sha256", Hash32, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_provider_message")),
    )
    op.create_index(op.f("ix_provider_message_reference"), "provider_message", ["reference"], unique=False)
    op.create_table(
        "flush_waiting",
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_flush_waiting_invoice_id")),
        sa.PrimaryKeyConstraint("invoice_id", name=op.f("pk_flush_waiting")),
    )
    op.create_table(
        "order_claim",
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_order_claim_invoice_id")),
        sa.PrimaryKeyConstraint("invoice_id", name=op.f("pk_order_claim")),
    )
    op.create_table(
        "payout_event",
        sa.Column("sequence", Integer64, autoincrement=True, nullable=False),
        sa.Column("payout_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["payout_id"], ["payout.id"], name=op.f("fk_payout_event_payout_id")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_payout_event")),
    )
    op.create_index(op.f("ix_payout_event_payout_id"), "payout_event", ["payout_id"], unique=False)
    op.create_table(
        "evidence_decision",
        sa.Column("sequence", Integer64, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=True),
        sa.Column("receiver", sa.LargeBinary, nullable=True),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_evidence_decision_invoice_id")),
        sa.ForeignKeyConstraint(["key"], ["evidence.key"], name=op.f("fk_evidence_decision_key")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_evidence_decision")),
    )
    op.create_index(op.f("ix_evidence_decision_key"), "evidence_decision", ["key"], unique=False)
    op.create_table(
        "evidence_event",
        sa.Column("sequence", Integer64, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["key"], ["evidence.key"], name=op.f("fk_evidence_event_key")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_evidence_event")),
    )
    op.create_index(op.f("ix_evidence_event_key"), "evidence_event", ["key"], unique=False)
    op.create_table(
        "refund",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=True),
        sa.Column("evidence_key", sa.Text, nullable=True),
        sa.Column("merchant_id", sa.Text, nullable=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("receiver", sa.LargeBinary, nullable=False),
        sa.Column("proof", sa.Text, nullable=False),
        sa.Column("ripe_s", Integer64, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("request", Hash32, nullable=False),
        sa.Column("since_block", Integer64, nullable=True),
        sa.Column("outgoing_id", sa.Text, nullable=True),
        sa.Column("transfer_key", sa.Text, nullable=True),
        sa.Column("record_id", Hash32, nullable=True),
        sa.Column("transfer_id", Hash32, nullable=True),
        sa.Column("problem", sa.Text, nullable=True),
        sa.Column("created_s", Integer64, nullable=False),
        sa.Column("changed_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["evidence_key"], ["evidence.key"], name=op.f("fk_refund_evidence_key")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_refund_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refund")),
        sa.UniqueConstraint("outgoing_id", name=op.f("uq_refund_outgoing_id")),
        sa.UniqueConstraint("owner", "idempotency_key", name=op.f("uq_refund_owner_idempotency_key")),
        sa.UniqueConstraint("record_id", name=op.f("uq_refund_record_id")),
        sa.UniqueConstraint("transfer_id", name=op.f("uq_refund_transfer_id")),
        sa.UniqueConstraint("transfer_key", name=op.f("uq_refund_transfer_key")),
    )
    op.create_index(op.f("ix_refund_evidence_key"), "refund", ["evidence_key"], unique=False)
    op.create_index(op.f("ix_refund_invoice_id"), "refund", ["invoice_id"], unique=False)
    op.create_index("ix_refund_page", "refund", ["merchant_id", "created_s", "id"], unique=False)
    op.create_index("ix_refund_state", "refund", ["state", "created_s"], unique=False)
    op.create_table(
        "settlement",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("gross", Amount, nullable=False),
        sa.Column("city", Amount, nullable=False),
        sa.Column("net", Amount, nullable=False),
        sa.Column("receiver", sa.LargeBinary, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.Column("noted_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["id"], ["evidence.key"], name=op.f("fk_settlement_id")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name=op.f("fk_settlement_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement")),
    )
    op.create_index(op.f("ix_settlement_invoice_id"), "settlement", ["invoice_id"], unique=False)
    op.create_index("ix_settlement_page", "settlement", ["merchant_id", "noted_s", "id"], unique=False)
    op.create_table(
        "payout_item",
        sa.Column("settlement_id", sa.Text, nullable=False),
        sa.Column("payout_id", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["payout_id"], ["payout.id"], name=op.f("fk_payout_item_payout_id")),
        sa.ForeignKeyConstraint(
            ["settlement_id"], ["settlement.id"], name=op.f("fk_payout_item_settlement_id")
        ),
        sa.PrimaryKeyConstraint("settlement_id", name=op.f("pk_payout_item")),
    )
    op.create_index(op.f("ix_payout_item_payout_id"), "payout_item", ["payout_id"], unique=False)
    op.create_table(
        "refund_event",
        sa.Column("sequence", Integer64, autoincrement=True, nullable=False),
        sa.Column("refund_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at_s", Integer64, nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name=op.f("fk_refund_event_refund_id")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_refund_event")),
    )
    op.create_index(op.f("ix_refund_event_refund_id"), "refund_event", ["refund_id"], unique=False)
    op.add_column("evidence", sa.Column("decision", sa.Text, nullable=True))
    op.create_index(op.f("ix_evidence_decision"), "evidence", ["decision"], unique=False)
    op.create_index(
        "ix_evidence_problem",
        "evidence",
        ["seen_s"],
        unique=False,
        sqlite_where=sa.text("problem IS NOT NULL"),
        postgresql_where=sa.text("problem IS NOT NULL"),
    )
    op.create_index(
        "ix_evidence_unanswered",
        "evidence",
        ["seen_s"],
        unique=False,
        sqlite_where=sa.text("transfer_id IS NOT NULL AND position IS NULL AND problem IS NULL"),
        postgresql_where=sa.text("transfer_id IS NOT NULL AND position IS NULL AND problem IS NULL"),
    )
    op.create_index(
        "ix_evidence_unmatched",
        "evidence",
        ["seen_s"],
        unique=False,
        sqlite_where=sa.text("invoice_id IS NULL"),
        postgresql_where=sa.text("invoice_id IS NULL"),
    )
    op.add_column("invoice", sa.Column("policy", sa.Text, server_default="{}", nullable=False))
    op.add_column("invoice", sa.Column("refund_to", sa.LargeBinary, nullable=True))
    connection = op.get_bind()
    op.execute(
        "INSERT INTO evidence_event (key, stage, at_s) SELECT key, stage, changed_s FROM evidence"
        " ORDER BY changed_s, key"
    )
    _note_settled(connection)
    _note_waiting(connection)
    for name in INSERT_ONLY:
        for statement in insert_only(name, connection.dialect.name):
            op.execute(statement)


def _evidence() -> sa.TableClause:
    return sa.table(
        "evidence",
        sa.column("key"),
        sa.column("invoice_id"),
        sa.column("kind"),
        sa.column("stage"),
        sa.column("asset"),
        sa.column("amount", Amount),
        sa.column("city", Amount),
        sa.column("at_s"),
        sa.column("seen_s"),
        sa.column("changed_s"),
    )


def _note_settled(connection: sa.Connection) -> None:
    evidence = _evidence()
    invoice = sa.table(
        "invoice", sa.column("id"), sa.column("merchant_id"), sa.column("payee", sa.LargeBinary)
    )
    settlement = sa.table(
        "settlement",
        *(
            sa.column(name)
            for name in ("id", "merchant_id", "invoice_id", "method", "asset", "at_s", "noted_s")
        ),
        *(sa.column(name, Amount) for name in ("gross", "city", "net")),
        sa.column("receiver", sa.LargeBinary),
    )
    found = connection.execute(
        sa.select(evidence, invoice.c.merchant_id, invoice.c.payee)
        .join(invoice, invoice.c.id == evidence.c.invoice_id)
        .where(
            evidence.c.kind.in_(["router", "flush"]),
            evidence.c.stage == "final",
            invoice.c.merchant_id.is_not(None),
        )
        .order_by(evidence.c.key)
    ).all()
    for row in found:
        connection.execute(
            sa.insert(settlement).values(
                id=row.key,
                merchant_id=row.merchant_id,
                invoice_id=row.invoice_id,
                method="direct",
                asset=row.asset,
                gross=row.amount,
                city=row.city,
                net=row.amount - row.city,
                receiver=row.payee,
                at_s=row.seen_s if row.at_s is None else row.at_s,
                noted_s=row.changed_s,
            )
        )


def _note_waiting(connection: sa.Connection) -> None:
    evidence, left = _evidence(), dict[str, int]()
    rows = connection.execute(
        sa.select(evidence).where(
            evidence.c.invoice_id.is_not(None),
            evidence.c.kind.in_(["deposit", "flush"]),
            evidence.c.stage != "gone",
        )
    )
    for row in rows:
        if row.kind == "flush":
            left[row.invoice_id] = left.get(row.invoice_id, 0) - row.amount
        elif row.stage == "final":
            left[row.invoice_id] = left.get(row.invoice_id, 0) + row.amount
    waiting = [{"invoice_id": id} for id, amount in sorted(left.items()) if amount > 0]
    if waiting:
        connection.execute(sa.insert(sa.table("flush_waiting", sa.column("invoice_id"))), waiting)
