"""What a merchant decides about money that is not exactly what was asked: too little, too late, too much.

A policy is data, inside bounds. An invoice keeps the one that was in force when it was made, so
that a later change does not change what a payer was told.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from gateway.db import Connection
from ledger.records import reject

WHOLE_BPS: Final = 10_000
DAY_S: Final = 86_400


class Over(StrEnum):
    """What becomes of money above what was asked."""

    CREDIT = "credit"  # stays with the merchant, who sees it on the invoice
    REFUND = "refund"  # a refund is requested by itself, where the payer said to where


class SettleBy(StrEnum):
    """How a merchant is paid."""

    DIRECT = "direct"  # in the paying transaction, to its own wallet
    VASP = "vasp"  # in tenge, by a licensed provider that takes the units


# What a policy may say, both ends included.
BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "tolerance_bps": (0, 500),
    "tolerance_minor_max": (0, (1 << 128) - 1),
    "lifetime_s": (60, 7 * DAY_S),
    "late_accept_s": (0, 30 * DAY_S),
    "late_band_bps": (0, 1_000),
}


@dataclass(frozen=True)
class Policy:
    """One policy.

    tolerance_bps of what is due, and at most tolerance_minor_max base units of its asset, may be
    missing. An invoice can be paid for lifetime_s. Money that comes at most late_accept_s after that
    counts if the rate has moved by at most late_band_bps since the quote.
    """

    tolerance_bps: int = 0
    tolerance_minor_max: int = 0
    lifetime_s: int = 900
    late_accept_s: int = 7 * DAY_S
    late_band_bps: int = 200
    over_policy: Over = Over.CREDIT
    settle_by: SettleBy = SettleBy.DIRECT

    def tolerance_minor(self, due_minor: int) -> int:
        """How much of an amount may be missing, rounded down."""
        return min(due_minor * self.tolerance_bps // WHOLE_BPS, self.tolerance_minor_max)

    def accepts_late(self, late_s: int) -> bool:
        """Whether money that came so many seconds after the time may count at all."""
        return late_s <= self.late_accept_s

    def to_json(self) -> str:
        """As it is stored: amounts are strings."""
        told = asdict(self)
        told["tolerance_minor_max"] = str(self.tolerance_minor_max)
        return json.dumps(told, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Read what was stored; what is not said there is as in NO_POLICY."""
        told = json.loads(text)
        if "tolerance_minor_max" in told:
            told["tolerance_minor_max"] = int(told["tolerance_minor_max"])
        if "over_policy" in told:
            told["over_policy"] = Over(told["over_policy"])
        if "settle_by" in told:
            told["settle_by"] = SettleBy(told["settle_by"])
        return cls(**told)


# In force for the city itself and for merchants who set none.
NO_POLICY: Final = Policy()


def check_policy(policy: Policy) -> None:
    """Refuse a policy outside its bounds, naming the member and both numbers."""
    for name, (least, most) in BOUNDS.items():
        value = getattr(policy, name)
        if not least <= value <= most:
            reject("policy", name, f"{least} to {most} is allowed, this is {value}")


def policy_of(connection: Connection, merchant_id: str | None) -> Policy:
    """The policy in force for a merchant; None is the city."""
    from gateway.payments.store import policies

    if merchant_id is None or (found := policies.newest_policy(connection, merchant_id)) is None:
        return NO_POLICY
    return Policy.from_json(found)


def set_policy(connection: Connection, merchant_id: str, policy: Policy, actor: str, now: int) -> None:
    """Put a policy in force for invoices that are made from now on; the same again changes nothing."""
    from gateway.payments.store import policies

    check_policy(policy)
    if policies.newest_policy(connection, merchant_id) != policy.to_json():
        policies.add_policy(connection, merchant_id, policy.to_json(), actor, now)
