"""Payouts of which a provider tells what does not fit: a person ends that, and no settlement is paid twice.

A person may say that a payout was not paid, which frees its settlements, and the provider may confirm it
after all. Then it is disputed again and takes back what it gave: a payout that nobody was told of gives way,
and one that may be out is disputed too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.db import Connection, Engine, reading
from gateway.merchants import store as merchants
from gateway.payments.bounds import check_why
from gateway.payments.store import disputes as items
from gateway.payments.store import settlements as rows
from gateway.payments.store.settlements import PAYOUT_MOVES, Payout, PayoutState
from gateway.vasp.messages import Confirmation, Said, decode_confirmation
from ledger.records import reject

LOGGER = logging.getLogger(__name__)
STEP: Final = "payouts"


@dataclass(frozen=True)
class Doubt:
    """A payout about which somebody has to think. merchant: its name; told: what was last said to be paid."""

    payout: Payout
    merchant: str
    told: Confirmation | None


@dataclass(frozen=True)
class Word:
    """What a person said of a disputed payout, and when."""

    is_paid: bool
    why: str
    at_s: int


def dispute(connection: Connection, payout: Payout, why: str, now: int) -> int:
    """Note what does not fit; returns 1 where a person has to decide now. The payout is locked."""
    LOGGER.error("payout %s: %s", payout.id, why)
    if PayoutState.DISPUTED not in PAYOUT_MOVES[payout.state]:
        # What was paid stays paid: what else is said stands in the messages and here.
        rows.set_payout(connection, payout.id, problem=why)
        return 0
    rows.set_payout_state(connection, payout.id, PayoutState.DISPUTED, STEP, why, now, problem=why)
    if payout.state is PayoutState.REFUSED:
        others = items.take_back(connection, payout.id)
        if out := [other for other in others if not _gives_way(connection, other, payout.id, now)]:
            told = f"{why}; its settlements were paid out again as {', '.join(out)}, or may be"
            rows.set_payout(connection, payout.id, problem=told)
    return 1


def _gives_way(connection: Connection, other: str, to: str, now: int) -> bool:
    """Have a payout give way to an older one that had its settlements; False where it may be out itself."""
    held = rows.locked_payout(connection, other)
    assert held is not None
    why = f"settlements of it are of the payout {to}, which may be paid"
    if held.state is PayoutState.RESERVED:
        # Nobody was told of it.
        rows.set_payout_state(connection, other, PayoutState.REFUSED, STEP, why, now, problem=None)
        return True
    if held.state is PayoutState.REFUSED:
        # It gave them back while we waited for it, to the one that claims them.
        return True
    dispute(connection, held, f"{held.problem}; {why}" if held.problem else why, now)
    return False


def resolve(connection: Connection, reference: str, actor: str, why: str, now: int, *, is_paid: bool) -> None:
    """End a dispute by a person's word, once; of two persons at once the second is refused."""
    check_why("P7", why)
    payout = rows.locked_payout(connection, reference)
    if payout is None or payout.state is not PayoutState.DISPUTED:
        stands = "not known" if payout is None else payout.state.value
        reject("P7", "payout", f"only a disputed payout is resolved by a person, this is {stands}")
    state = PayoutState.PAID if is_paid else PayoutState.REFUSED
    rows.set_payout_state(connection, reference, state, actor, why, now, problem=None)


def was_told(connection: Connection, told: Confirmation) -> bool:
    """Whether the provider said this before, by whatever way."""
    known = rows.messages_of(connection, told.instruction.reference)
    return any(decode_confirmation(body) == told for body in known)


def doubts(engine: Engine, found: Sequence[Payout], now: int) -> list[Doubt]:
    """What somebody must know who decides about these payouts."""
    with reading(engine) as connection:
        return [_doubt(connection, payout, now) for payout in found]


def _doubt(connection: Connection, payout: Payout, now: int) -> Doubt:
    merchant = merchants.merchant_at(connection, payout.merchant_id, now)
    assert merchant is not None
    said = [decode_confirmation(body) for body in rows.messages_of(connection, payout.id)]
    paid = [one for one in said if one.said is Said.PAID]
    return Doubt(payout, merchant.name, paid[-1] if paid else None)


def word_of(connection: Connection, payout: Payout) -> Word | None:
    """What a person said that ended the dispute of a payout; None where nobody had to."""
    *_, before, last = [("", "", "", 0), *rows.payout_events(connection, payout.id)]
    state, actor, why, at_s = last
    is_end = state in {PayoutState.PAID.value, PayoutState.REFUSED.value}
    if not is_end or before[0] != PayoutState.DISPUTED.value or actor in {STEP, payout.provider}:
        return None
    return Word(state == PayoutState.PAID.value, why, at_s)
