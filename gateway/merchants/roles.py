"""Who may do what: scopes, and the roles that bundle them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OWNER: Final = "owner"
CASHIER: Final = "cashier"
OPERATOR: Final = "operator"

# scope: what a key with it may do. A scope lets write or read one kind of thing, never both.
SCOPES: Final = {
    "invoices.read": "look at invoices and payments",
    "invoices.write": "make and void invoices",
    "links.read": "look at payment links",
    "links.write": "make and close payment links",
    "refunds.read": "look at refunds",
    "refunds.write": "ask for, approve and cancel refunds",
    "statements.read": "read statements, settlements and payouts",
    "payouts.write": "ask a provider to pay out in tenge",
    "webhooks.read": "look at webhook endpoints and events",
    "webhooks.write": "register, rotate and disable webhook endpoints, send events again",
    "merchant.read": "look at the merchant's own data and policy",
    "merchant.write": "change the merchant's own data and policy",
    "keys.read": "list keys, never what opens with them",
    "keys.write": "make, rotate and revoke keys",
    "merchants.write": "take merchants on and give them keys",
    "unmatched.read": "look at money that belongs to no invoice",
    "unmatched.write": "assign, refund or keep money that belongs to no invoice",
    "operations.read": "look at lag, rates and queues",
}
_OPERATORS: Final = frozenset(
    {
        "merchants.write",
        "unmatched.read",
        "unmatched.write",
        "operations.read",
        "keys.write",
    }
)
ROLES: Final[dict[str, frozenset[str]]] = {
    OWNER: frozenset(SCOPES) - _OPERATORS | {"keys.write"},
    # Takes payments, and nothing that moves money out, changes where it goes or opens another door.
    CASHIER: frozenset({"invoices.read", "invoices.write", "links.read"}),
    # Does nothing in a merchant's name: neither may do what the other does with money.
    OPERATOR: _OPERATORS,
}


@dataclass(frozen=True)
class Caller:
    """Who a key belongs to and what it may do. sandbox: only in a world where no money is.

    revoked: the key opens nothing any more but a way to stop a thief (LEAKS 21).
    """

    key_id: str
    role: str
    merchant_id: str | None
    scopes: frozenset[str]
    sandbox: bool = False
    created_s: int = 0
    revoked: bool = False

    @property
    def owner(self) -> str:
        """Whose things it sees: a merchant, the same merchant's sandbox, or the operator."""
        if self.merchant_id is None:
            return OPERATOR
        return sandbox_of(self.merchant_id) if self.sandbox else self.merchant_id


def sandbox_of(merchant_id: str) -> str:
    """Under which name a merchant's sandbox keeps what it has."""
    return f"sandbox:{merchant_id}"
