"""What a transaction offers for its place in a block (EIP-1559), and what it offers the next time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GWEI = 10**9
# Nodes take another transaction with the same nonce only if it offers at least an eighth more, of both.
BUMP_NUMERATOR, BUMP_DENOMINATOR = 9, 8


@dataclass(frozen=True)
class Fees:
    """Wei for each gas. max_fee: at most, with the tip; tip: for who builds the block."""

    max_fee: int
    tip: int


def first(base_fee: int, tip: int, most: int) -> Fees | None:
    """What is offered at first: room for the base fee to double. None where even the base fee is too dear."""
    if base_fee + tip > most:
        return None
    return Fees(min(2 * base_fee + tip, most), tip)


def bumped(before: Fees, base_fee: int, tip: int, most: int) -> Fees | None:
    """What replaces an offer: at least 12.5 % more of both, and what is usual now; None above the cap."""
    tip = max(_more(before.tip), tip)
    if base_fee + tip > most:
        # It could not be taken now, and having offered the cap nothing could be offered any more.
        return None
    max_fee = max(_more(before.max_fee), tip)
    if max_fee > most:
        return None
    # More than is needed is not offered beyond the cap.
    return Fees(max(max_fee, min(2 * base_fee + tip, most)), tip)


def _more(offered: int) -> int:
    return -(-offered * BUMP_NUMERATOR // BUMP_DENOMINATOR)
