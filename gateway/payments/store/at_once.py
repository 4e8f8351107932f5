"""A new invoice and all that goes with it in one statement, which is its own transaction. PostgreSQL.

A round trip and a commit cost more than all that an invoice needs of arithmetic. What the steps of
`Creation` ask one after the other is asked here where the rows are: whether the key still opens
anything, whether the reference or the Idempotency-Key was used. Where the answer is not the plain one,
nothing is stored, and the steps are taken one by one.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.payments.store.invoices import Invoice
from gateway.webhooks import signing

_COLUMNS: Final = (
    "id", "number", "merchant_id", "merchant_reference", "attempt", "purpose", "title", "tiyn", "asset",
    "due", "share_bps", "rate", "payee", "deposit_address", "quote_signature", "nonce", "reference",
    "created_s", "expires_s", "status", "voided", "policy", "refund_to",
    "return_url", "origin",
)  # fmt: skip
# Types are said where PostgreSQL cannot see them from the column.
_CASTS: Final = {
    "attempt": "int",
    "share_bps": "int",
    "voided": "int",
    "nonce": "bigint",
    "created_s": "bigint",
    "expires_s": "bigint",
}
_BYTES: Final = frozenset(
    {"number", "tiyn", "due", "payee", "deposit_address", "quote_signature", "refund_to"}
)
_VALUES: Final = ", ".join(
    f"%({name})s::{'bytea' if name in _BYTES else _CASTS.get(name, 'text')}" for name in _COLUMNS
)
_ADD: Final = f"""
WITH standing AS (
    SELECT 1 FROM api_key
    WHERE id = %(key_id)s AND revoked_s IS NULL AND (expires_s IS NULL OR expires_s > %(created_s)s::bigint)
), made AS (
    INSERT INTO invoice ({", ".join(_COLUMNS)}) SELECT {_VALUES} FROM standing
    ON CONFLICT (merchant_id, merchant_reference, attempt) DO NOTHING RETURNING id
), noted AS (
    INSERT INTO invoice_event (invoice_id, status, at_s) SELECT id, 'open', %(created_s)s::bigint FROM made
), kept AS (
    INSERT INTO idempotency (owner, key, request, invoice_id)
    SELECT %(merchant_id)s::text, %(idempotency_key)s::text, %(request)s::bytea, id FROM made
    WHERE %(idempotency_key)s::text IS NOT NULL
), told AS (
    INSERT INTO webhook_event (id, merchant_id, invoice_id, sequence, type, body, created)
    SELECT %(event_id)s::text, %(merchant_id)s::text, id, 1, 'invoice.open', %(event)s::bytea,
        %(created_s)s::bigint FROM made
    RETURNING id
), sent AS (
    INSERT INTO webhook_delivery
        (event_id, endpoint_id, invoice_id, sequence, attempt, due, leased_until, state)
    SELECT told.id, webhook_endpoint.id, %(id)s::text, 1, 0, %(created_s)s::bigint, 0, 'pending'
    FROM told CROSS JOIN webhook_endpoint
    WHERE webhook_endpoint.merchant_id = %(merchant_id)s::text AND webhook_endpoint.disabled IS NULL
)
SELECT id FROM made
"""  # noqa: S608 - names of our own columns; values are always parameters


class AtOnce:
    """Stores invoices, each in a transaction of one statement."""

    def __init__(self, engine: Engine) -> None:
        # No ping before and no rollback after each use: a connection that is gone is noticed by the
        # statement itself, and then the steps are taken, which find what it may have done.
        self._engine = create_engine(engine.url, isolation_level="AUTOCOMMIT", pool_size=10, max_overflow=40)
        event.listen(engine, "engine_disposed", lambda _: self._engine.dispose())

    @staticmethod
    def serves(engine: Engine) -> bool:
        """Whether this database can."""
        return engine.dialect.name == "postgresql"

    def add(
        self, invoice: Invoice, key_id: str, idempotency_key: str | None, request: bytes, event: bytes
    ) -> bool:
        """Store a merchant's first invoice of a reference; False, and nothing stored, where it is not plain.

        key_id: the key that asks, and is looked at once more; event: the body of invoice.open.
        """
        values: dict[str, Any] = {
            "id": invoice.id,
            "number": invoice.number,
            "merchant_id": invoice.merchant_id,
            "merchant_reference": invoice.merchant_reference,
            "attempt": invoice.attempt,
            "purpose": invoice.purpose,
            "title": invoice.title,
            "tiyn": invoice.tiyn.to_bytes(16, "big"),
            "asset": invoice.asset,
            "due": invoice.due_minor.to_bytes(16, "big"),
            "share_bps": invoice.share_bps,
            "rate": invoice.rate,
            "payee": invoice.payee,
            "deposit_address": invoice.deposit_address,
            "quote_signature": invoice.quote_signature,
            "nonce": invoice.nonce,
            "reference": invoice.reference,
            "created_s": invoice.created_s,
            "expires_s": invoice.expires_s,
            "status": invoice.status.value,
            "voided": int(invoice.voided),
            "policy": invoice.policy.to_json(),
            "refund_to": invoice.refund_to,
            "return_url": invoice.return_url,
            "origin": invoice.origin.value,
            "key_id": key_id,
            "idempotency_key": idempotency_key,
            "request": request,
            "event_id": signing.new_id(),
            "event": event,
        }
        try:
            with self._engine.connect() as connection:
                return connection.exec_driver_sql(_ADD, values).first() is not None
        except IntegrityError:
            # The Idempotency-Key was used, perhaps for another request.
            return False
        except DBAPIError as error:
            if error.connection_invalidated:
                return False
            raise
