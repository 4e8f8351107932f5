"""Of which money refunds are: what is of money that does not count takes nothing from the price.

Who names a piece of money gives that back. Who names none gives back first what pays nothing (it came late
and is held, was kept, or waits for a decision), in the order in which it was seen, and the rest from what
counts. That is settled when it is asked for, of what is final then, and stands as rows: money that comes
later never is what went back before. What is over is asked back by the policy, and is of what counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.db import Connection
from gateway.payments.model import Returned, counts
from gateway.payments.refund_model import Part, Refund, reserves
from gateway.payments.store import Decision, Invoice, Seen
from gateway.payments.store import refunds as rows
from gateway.rails import PAYS, Stage


def going_back(connection: Connection, invoice: Invoice, seen: Sequence[Seen]) -> list[Returned]:
    """What goes back of an invoice, or has gone, by whether it is of money that counts."""
    refunds, parts = _refunds(connection, invoice)
    return _allot(refunds, parts, _uncounted(invoice, seen))


def parts_to_take(
    connection: Connection, invoice: Invoice, seen: Sequence[Seen], refund: Refund
) -> list[Part]:
    """Of which money that does not count a new refund is that names none; what is missing is of what does."""
    room = _uncounted(invoice, seen)
    others, parts = _refunds(connection, invoice)
    _allot([one for one in others if one.id != refund.id], parts, room)
    found, left = [], refund.amount_minor
    for piece in seen:
        taken = min(room.get(piece.key, 0), left) if piece.asset == refund.asset else 0
        if taken:
            found.append(Part(piece.key, taken))
            left -= taken
    return found


def _refunds(connection: Connection, invoice: Invoice) -> tuple[list[Refund], Mapping[str, Sequence[Part]]]:
    refunds = [one for one in rows.refunds_of_invoice(connection, invoice.id) if reserves(one.state)]
    unnamed = [one.id for one in refunds if one.evidence_key is None]
    return refunds, rows.parts_of(connection, unnamed) if unnamed else {}


def _uncounted(invoice: Invoice, seen: Sequence[Seen]) -> dict[str, int]:
    """Final money of an invoice that is somebody's and pays nothing: how much each piece is."""
    return {
        piece.key: piece.amount_minor
        for piece in seen
        if piece.kind in PAYS
        and piece.stage is Stage.FINAL
        and piece.decision is not Decision.RETAINED
        and not counts(invoice.terms, piece.payment)
    }


def _allot(
    refunds: Sequence[Refund], parts: Mapping[str, Sequence[Part]], room: dict[str, int]
) -> list[Returned]:
    """Refunds by what counts and what does not; room: how much of each piece that does not, made less here.

    A piece gives no more than it is: whatever else was paid back in its name is of what counts.
    """
    found = []
    for refund in refunds:
        named = [Part(refund.evidence_key, refund.amount_minor)] if refund.evidence_key is not None else []
        held = 0
        for part in named or parts.get(refund.id, ()):
            taken = min(room.get(part.evidence_key, 0), part.amount_minor)
            if taken:
                room[part.evidence_key] -= taken
                held += taken
        told = refund.returned
        for amount, is_held in ((refund.amount_minor - held, False), (held, True)):
            if amount:
                found.append(replace(told, amount_minor=amount, is_held=is_held))
    return found
