"""Noting what a merchant was given: once for each final payment or flush, with its date."""

from __future__ import annotations

from gateway.db import Connection
from gateway.payments import store
from gateway.payments.store import Seen
from gateway.payments.store.settlements import Settlement, add_settlement
from gateway.rails import Kind


def note_settled(connection: Connection, seen: Seen, now: int) -> None:
    """Note the merchant's net of final money that the router split; the same again changes nothing."""
    if seen.kind not in {Kind.ROUTER, Kind.FLUSH} or seen.invoice_id is None:
        return
    invoice = store.invoice(connection, seen.invoice_id)
    assert invoice is not None
    if invoice.merchant_id is None:
        return
    add_settlement(
        connection,
        Settlement(
            id=seen.key,
            merchant_id=invoice.merchant_id,
            invoice_id=invoice.id,
            method=invoice.policy.settle_by.value,
            asset=seen.asset,
            gross_minor=seen.amount_minor,
            city_minor=seen.city_minor,
            net_minor=seen.amount_minor - seen.city_minor,
            receiver=invoice.payee,
            at_s=seen.seen_s if seen.at_s is None else seen.at_s,
            noted_s=now,
        ),
    )
