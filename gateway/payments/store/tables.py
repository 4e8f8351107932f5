"""The tables of payments.

What happened is only ever added: the database itself refuses UPDATE, DELETE and TRUNCATE of the
events, decisions, policies, settlements and messages. The other rows say how things stand now
and can be derived again from those.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

from gateway.db import Amount, Hash32, Integer64, metadata
from ledger.tables import insert_only

invoice = Table(
    "invoice",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Hash32, nullable=False, unique=True),
    Column("merchant_id", Text, nullable=True),
    Column("merchant_reference", Text, nullable=True),
    # A reference is quoted again when its quote expired unpaid; of two at once the database takes one.
    Column("attempt", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("tiyn", Amount, nullable=False),
    Column("asset", Text, nullable=False),
    Column("due", Amount, nullable=False),
    Column("share_bps", Integer, nullable=False),
    Column("rate", Text, nullable=False),
    Column("payee", LargeBinary, nullable=False),
    Column("deposit_address", LargeBinary, nullable=True, unique=True),
    Column("quote_signature", LargeBinary, nullable=True),
    Column("nonce", Integer64, nullable=False),
    Column("reference", Text, nullable=False, unique=True),
    Column("created_s", Integer64, nullable=False),
    Column("expires_s", Integer64, nullable=False),
    Column("status", Text, nullable=False),
    Column("voided", Integer, nullable=False, default=0),
    # The merchant's policy as it was when this was made, as JSON; and where the payer wants money back.
    Column("policy", Text, nullable=False, server_default="{}"),
    Column("refund_to", LargeBinary, nullable=True),
    # Where the payer goes afterwards; and by which door this was asked for.
    Column("return_url", Text, nullable=True),
    Column("origin", Text, nullable=False, server_default="api"),
    UniqueConstraint("merchant_id", "merchant_reference", "attempt"),
    Index("ix_invoice_page", "merchant_id", "created_s", "id"),
    Index("ix_invoice_due", "status", "expires_s"),
)
invoice_event = Table(
    "invoice_event",
    metadata,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
evidence = Table(
    "evidence",
    metadata,
    Column("key", Text, primary_key=True),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=True, index=True),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False, index=True),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("city", Amount, nullable=False),
    Column("block", Integer64, nullable=True),
    Column("address", LargeBinary, nullable=False),
    Column("reference", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("evidence_hash", Hash32, nullable=True),
    # Under which transfer the city's share was submitted, and where the ledger recorded it.
    Column("transfer_id", Hash32, nullable=True, index=True),
    Column("position", Integer64, nullable=True),
    # Why it could not be booked: a person decides.
    Column("problem", Text, nullable=True),
    # The newest decision about it, where one was asked for (evidence_decision has them all).
    Column("decision", Text, nullable=True, index=True),
    Column("at_s", Integer64, nullable=True),
    Column("seen_s", Integer64, nullable=False),
    Column("changed_s", Integer64, nullable=False),
)
# What rounds ask for each time, and what a person looks at: few rows, however long the history.
for _name, _column, _where in (
    ("unanswered", evidence.c.seen_s, "transfer_id IS NOT NULL AND position IS NULL AND problem IS NULL"),
    ("problem", evidence.c.seen_s, "problem IS NOT NULL"),
    ("unmatched", evidence.c.seen_s, "invoice_id IS NULL"),
):
    Index(f"ix_evidence_{_name}", _column, sqlite_where=text(_where), postgresql_where=text(_where))
private = Table(
    # What a salted commitment hides. Erasing a row leaves the proof valid (L7).
    "private_evidence",
    metadata,
    Column("commitment", Hash32, primary_key=True),
    Column("salt", Hash32, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
erased = Table(
    # How far the list of erasures was carried out here (gateway/erasure). name: of a piece of evidence, the
    # hash of its key, so that it is not kept again when the bank's file is read again.
    "erased",
    metadata,
    Column("name", Hash32, primary_key=True),
    Column("line", Integer64, nullable=False, index=True),
)
cursor = Table(
    "rail_cursor",
    metadata,
    Column("rail", Text, primary_key=True),
    Column("position", Integer64, nullable=False),
    # Up to when all that happened is known; and a count that tells one poll from another.
    Column("seen_until_s", Integer64, nullable=False, default=0),
    Column("round", Integer64, nullable=False, default=0),
)
nonce = Table(
    "quote_nonce",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("next", Integer64, nullable=False),
)
file = Table(
    "bank_file",
    metadata,
    Column("sha256", Hash32, primary_key=True),
    Column("name", Text, nullable=False),
    Column("problem", Text, nullable=True),
    Column("read_s", Integer64, nullable=False),
)
idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Hash32, nullable=False),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=False),
)


# --- what happened, for ever ------------------------------------------------------------

evidence_event = Table(
    # How far each piece of evidence came, and back.
    "evidence_event",
    metadata,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("key", Text, ForeignKey("evidence.key"), nullable=False, index=True),
    Column("stage", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
decision = Table(
    # What was decided about money that came late or matched nothing; the newest of a key holds.
    "evidence_decision",
    metadata,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("key", Text, ForeignKey("evidence.key"), nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=True),
    Column("receiver", LargeBinary, nullable=True),
    Column("actor", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
policy = Table(
    # The newest of a merchant is in force; an invoice keeps what was in force when it was made.
    "merchant_policy",
    metadata,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("merchant_id", Text, nullable=False, index=True),
    Column("terms", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
refund_event = Table(
    "refund_event",
    metadata,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("refund_id", Text, ForeignKey("refund.id"), nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
refund_part = Table(
    # Of which money that does not count a refund is that names none, as it was when it was asked for.
    "refund_part",
    metadata,
    Column("refund_id", Text, ForeignKey("refund.id"), primary_key=True),
    Column("evidence_key", Text, ForeignKey("evidence.key"), primary_key=True, index=True),
    Column("amount", Amount, nullable=False),
)
settlement = Table(
    # What final money a merchant was given, in the transaction that paid; one row for each evidence.
    "settlement",
    metadata,
    Column("id", Text, ForeignKey("evidence.key"), primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=False, index=True),
    Column("method", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("gross", Amount, nullable=False),
    Column("city", Amount, nullable=False),
    Column("net", Amount, nullable=False),
    Column("receiver", LargeBinary, nullable=False),
    Column("at_s", Integer64, nullable=False),
    Column("noted_s", Integer64, nullable=False),
    Index("ix_settlement_page", "merchant_id", "noted_s", "id"),
)
payout_event = Table(
    "payout_event",
    metadata,
    Column("sequence", Integer64, primary_key=True, autoincrement=True),
    Column("payout_id", Text, ForeignKey("payout.id"), nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
message = Table(
    # What providers told us, as they signed it.
    "provider_message",
    metadata,
    Column("sha256", Hash32, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("reference", Text, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
    Column("signature", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)

# --- how it stands now --------------------------------------------------------------------

refund = Table(
    "refund",
    metadata,
    Column("id", Text, primary_key=True),
    Column("invoice_id", Text, ForeignKey("invoice.id"), nullable=True, index=True),
    Column("evidence_key", Text, ForeignKey("evidence.key"), nullable=True, index=True),
    Column("merchant_id", Text, nullable=True),
    # Whose money goes back: the merchant's net, or what the city holds.
    Column("source", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("receiver", LargeBinary, nullable=False),
    # How the receiver is known: what the payer fixed, or a signature that has to wait.
    Column("proof", Text, nullable=False),
    Column("ripe_s", Integer64, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("request", Hash32, nullable=False),
    # From which block on its outgoing transfer can be, and which transfer it was: one for each refund.
    Column("since_block", Integer64, nullable=True),
    # Transactions that had sent the like before, in blocks that could go and come again higher up (JSON).
    Column("earlier", Text, nullable=False, server_default="[]"),
    # Up to this final block nothing on the chain is its end; and the block in which Treasury credited it.
    Column("scanned_block", Integer64, nullable=True),
    Column("credited_block", Integer64, nullable=True),
    Column("outgoing_id", Text, nullable=True, unique=True),
    # The coin leaves no log: whoever sent it names the transaction, and one is of one refund.
    Column("reported", Hash32, nullable=True, unique=True),
    Column("transfer_key", Text, nullable=True, unique=True),
    # The ledger's promise, and the transfer that books what has gone.
    Column("record_id", Hash32, nullable=True, unique=True),
    Column("transfer_id", Hash32, nullable=True, unique=True),
    Column("problem", Text, nullable=True),
    Column("created_s", Integer64, nullable=False),
    Column("changed_s", Integer64, nullable=False),
    UniqueConstraint("owner", "idempotency_key"),
    Index("ix_refund_page", "merchant_id", "created_s", "id"),
    Index("ix_refund_state", "state", "created_s"),
)
attempt = Table(
    # One row for each try to send something out; the number is reserved before anything is signed.
    "outgoing_attempt",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("reference", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("outgoing_id", Text, nullable=True, unique=True),
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
payout = Table(
    "payout",
    metadata,
    # Our own reference, which the provider is asked by (field failure 43).
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("iban", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_s", Integer64, nullable=False),
    # What the provider confirmed: tiyn that it paid and kept, and its rate as a fraction.
    Column("tiyn", Amount, nullable=True),
    Column("fee_tiyn", Amount, nullable=True),
    Column("numerator", Amount, nullable=True),
    Column("denominator", Amount, nullable=True),
    Column("bank_reference", Text, nullable=True),
    Column("paid_s", Integer64, nullable=True),
    Column("problem", Text, nullable=True),
    Column("created_s", Integer64, nullable=False),
    Column("changed_s", Integer64, nullable=False),
    Index("ix_payout_page", "merchant_id", "created_s", "id"),
    Index("ix_payout_due", "state", "due_s"),
    # A bank's reference is of one payment: the database refuses to believe it twice.
    UniqueConstraint("provider", "bank_reference"),
)
payout_item = Table(
    # A settlement is paid out once.
    "payout_item",
    metadata,
    Column("settlement_id", Text, ForeignKey("settlement.id"), primary_key=True),
    Column("payout_id", Text, ForeignKey("payout.id"), nullable=False, index=True),
)
payout_freed = Table(
    # Which settlements a payout gave back: should it turn out to be paid after all, these are not paid again.
    "payout_freed",
    metadata,
    Column("payout_id", Text, ForeignKey("payout.id"), primary_key=True),
    Column("settlement_id", Text, ForeignKey("settlement.id"), primary_key=True, index=True),
)
refund_account = Table(
    # To which account the bank is to pay a refund: the ledger has the SHA-256 alone. Personal, can be erased.
    "refund_account",
    metadata,
    Column("refund_id", Text, ForeignKey("refund.id"), primary_key=True),
    Column("iban", Text, nullable=False),
)
bank_refund = Table(
    # What the bank booked under the reference of a refund: money out, or back (gateway/payments/by_bank.py).
    "bank_refund",
    metadata,
    Column("key", Text, primary_key=True),
    Column("refund_id", Text, ForeignKey("refund.id"), nullable=False, index=True),
    Column("amount", Amount, nullable=False),
    Column("is_back", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    # Hides what the bank said of it.
    Column("commitment", Hash32, nullable=False),
    Column("seen_s", Integer64, nullable=False),
)
approval_place = Table(
    # Where approvals stand on the ledger, by what they approve: derived from the records.
    "approval_place",
    metadata,
    Column("position", Integer64, primary_key=True, autoincrement=False),
    Column("approves", Hash32, nullable=False, index=True),
)
order_claim = Table(
    # Goods are handed over once for each order (field failure 42).
    "order_claim",
    metadata,
    Column("invoice_id", Text, ForeignKey("invoice.id"), primary_key=True),
    Column("actor", Text, nullable=False),
    Column("at_s", Integer64, nullable=False),
)
flush_waiting = Table(
    # Whose deposit address holds final money that no flush has taken, so that nobody searches for it.
    "flush_waiting",
    metadata,
    Column("invoice_id", Text, ForeignKey("invoice.id"), primary_key=True),
)

INSERT_ONLY = (
    invoice_event, evidence_event, decision, policy, refund_event, refund_part, settlement, payout_event,
    message, payout_freed,
)  # fmt: skip
ALL = (
    invoice, invoice_event, evidence, evidence_event, decision, policy, private, erased, cursor, nonce,
    flush_waiting, file, idempotency, refund, refund_event, attempt, settlement, payout, payout_item,
    payout_event, message, order_claim, refund_account, bank_refund, approval_place, refund_part,
    payout_freed,
)  # fmt: skip

for _table in INSERT_ONLY:
    for _dialect in ("sqlite", "postgresql"):
        for _statement in insert_only(_table.name, _dialect):
            _create = DDL(_statement).execute_if(dialect=_dialect)  # type: ignore[no-untyped-call]
            event.listen(_table, "after_create", _create)
