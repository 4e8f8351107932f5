"""A client of the API for a merchant's program. It imports nothing of the rest of the gateway.

from gateway.client import Client, NewInvoice

with Client("https://pay.example", key) as pay:
invoice = pay.create_invoice(NewInvoice("1250000", "USDT", "order-17", "Tea for two"))
"""

from gateway.client.answers import (
    Delivery,
    Event,
    Invoice,
    Key,
    Link,
    NewInvoice,
    Page,
    Refund,
    StatementLine,
)
from gateway.client.client import Client
from gateway.client.errors import ApiError, NotAnswered, NotSigned
from gateway.client.webhooks import check_webhook

__all__ = [
    "ApiError",
    "Client",
    "Delivery",
    "Event",
    "Invoice",
    "Key",
    "Link",
    "NewInvoice",
    "NotAnswered",
    "NotSigned",
    "Page",
    "Refund",
    "StatementLine",
    "check_webhook",
]
