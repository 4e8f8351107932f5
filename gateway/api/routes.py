"""All routes of /v1: each reads its request, calls one use case, and shapes the answer."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.api import (
    city,
    city_refunds,
    disputes,
    invoices,
    merchants,
    operators,
    refunds,
    statements,
    webhooks,
)

# In the order of the document.
PARTS = (invoices, refunds, merchants, webhooks, statements, operators, city_refunds, disputes, city)
router = APIRouter()
for part in PARTS:
    router.include_router(part.router)
