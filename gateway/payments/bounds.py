"""How much may go back: never more than came, of one receipt never more than it holds (P6; LEAKS 12).

Everything here is asked under the invoice's lock, so that two requests at once are never more than what came.
"""

from __future__ import annotations

from typing import Final

from gateway.db import Connection, Engine
from gateway.ledger_view import LedgerView
from gateway.payments import store
from gateway.payments.booking import UNMATCHED
from gateway.payments.refund_model import Refund, Source, reserves
from gateway.payments.store import Decision, Invoice, Seen
from gateway.payments.store import refunds as rows
from gateway.rails import BOOKS, PAYS, Kind, Stage
from gateway.rails.tenge.rail import taken_back_key
from ledger import store as ledger_store
from ledger.records import Transfer, decode, hash_struct, reject
from ledger.rules import TENGE

WHY_LIMIT: Final = 500


def check_why(rule: str, why: str) -> None:
    """Refuse a decision without a reason that people can read for ever."""
    if not why.isprintable() or not 1 <= len(why.strip()) <= WHY_LIMIT:
        reject(rule, "why", f"a decision needs a reason of 1 to {WHY_LIMIT} printable characters")


def piece_of(connection: Connection, invoice: Invoice, evidence_key: str | None) -> Seen | None:
    """The money that a refund is to be of; None where none is named, and none need be.

    A bill that one bank transfer paid names it by itself.
    """
    if evidence_key is not None:
        return evidence_of(connection, invoice, evidence_key)
    if invoice.asset != TENGE:
        return None
    came = [
        seen
        for seen in store.evidence_of(connection, invoice.id)
        if seen.kind is Kind.BANK and seen.stage is Stage.FINAL and seen.decision is not Decision.RETAINED
    ]
    if len(came) != 1:
        reject("P6", "evidence", f"{len(came)} bank transfers are final here: name the one that goes back")
    return came[0]


def evidence_of(connection: Connection, invoice: Invoice, key: str) -> Seen:
    """A piece of an invoice's evidence."""
    found = store.evidence(connection, key)
    if found is None or found.invoice_id != invoice.id:
        reject("not_found", "evidence", f"the invoice has no evidence {key[:80]!a}")
    return found


def received(connection: Connection, invoice: Invoice, asset: str) -> int:
    """Final money of an invoice in an asset, in units received: what came, not its worth (29)."""
    return sum(
        seen.amount_minor
        for seen in store.evidence_of(connection, invoice.id)
        if seen.kind in PAYS
        and seen.stage is Stage.FINAL
        and seen.asset == asset
        and seen.decision is not Decision.RETAINED
    )


def reserved(connection: Connection, invoice_id: str, asset: str) -> int:
    """What of it goes back already, or is asked back."""
    return sum(
        refund.amount_minor
        for refund in rows.refunds_of_invoice(connection, invoice_id)
        if refund.asset == asset and reserves(refund.state)
    )


def given_back(connection: Connection, seen: Seen, source: Source | None = None) -> int:
    """What goes back of a piece of money, or has gone, by those who named it and by those who named none."""
    return sum(
        one.amount_minor
        for one in rows.refunds_of_evidence(connection, seen.key)
        if reserves(one.state) and source in {None, one.source}
    ) + sum(
        amount
        for amount, state, of in rows.parts_of_evidence(connection, seen.key)
        if reserves(state) and source in {None, of}
    )


def check_left(connection: Connection, invoice: Invoice, refund: Refund) -> None:
    """Refuse more than what is left: of the invoice, of the piece of evidence, of the city's receipt."""
    if not 0 < refund.amount_minor < 1 << 128:
        reject("E4", "amount", f"a refund is of 1 unit or more and below 2^128, not of {refund.amount_minor}")
    came = received(connection, invoice, refund.asset)
    left = came - reserved(connection, invoice.id, refund.asset)
    if refund.amount_minor > left:
        reject(
            "F1",
            "amount",
            f"{came} final {refund.asset} came and {left} are left, this is {refund.amount_minor}",
        )
    if refund.evidence_key is not None:
        seen = evidence_of(connection, invoice, refund.evidence_key)
        if seen.stage is not Stage.FINAL:
            reject("P6", "evidence", f"this money is {seen.stage.value}, only final money goes back")
        bound = seen.city_minor if refund.source is Source.CITY else seen.amount_minor
        gone = given_back(connection, seen, refund.source)
        if refund.amount_minor > bound - gone:
            reject(
                "F1",
                "amount",
                f"{bound - gone} of {bound} are left of this, the refund is {refund.amount_minor}",
            )
    if refund.source is Source.CITY:
        _check_receipt(connection, invoice, refund)
    elif invoice.merchant_id is None or refund.asset == TENGE:
        reject("P6", "source", "this money never was a merchant's")
    else:
        _check_flushed(connection, invoice)


def _check_receipt(connection: Connection, invoice: Invoice, refund: Refund) -> None:
    if refund.evidence_key is None:
        reject("P6", "evidence", "the city pays back against one receipt, so the evidence must be named")
    seen = evidence_of(connection, invoice, refund.evidence_key)
    if seen.kind not in BOOKS or seen.position is None:
        reject("F1", "evidence", "this is not on the ledger yet, so no receipt bounds the refund")
    if seen.kind is Kind.BANK:
        check_not_taken_back(connection, seen)


def check_receipt_left(engine: Engine, view: LedgerView, seen: Seen, amount_minor: int) -> None:
    """Refuse tenge that the ledger would not let go: their receipt is matched or spoken for (F1).

    Money that was counted apart and then assigned was matched out of its receipt (SPEC W4). The seats can
    undo that (W7), within 30 days and whole, and then it is the receipt that goes back, whole too.
    """
    if seen.position is None:
        # Said in its place, with what else has to be there.
        return
    receipt = decode(next(ledger_store.records(engine, seen.position, seen.position + 1)))
    assert isinstance(receipt, Transfer)
    left = view.left_of(hash_struct(receipt))
    is_apart = receipt.purpose == UNMATCHED
    if amount_minor > left:
        why = f"left of its receipt, record {seen.position}, is {left}, the refund is {amount_minor}"
        if is_apart:
            why += ": it was matched, which the Authority and the Auditor can undo within 30 days (W7)"
        reject("F1", "evidence", why)
    if is_apart and amount_minor != seen.city_minor:
        why = f"money whose match was undone goes back whole: {seen.city_minor}, the refund is {amount_minor}"
        reject("F1", "amount", why)


def check_not_taken_back(connection: Connection, seen: Seen) -> None:
    """Refuse to give back what the payer's bank has taken back already."""
    key = taken_back_key(seen.key, seen.amount_minor)
    taken = None if key is None else store.evidence(connection, key)
    if taken is not None and taken.stage is not Stage.GONE:
        reject("P6", "evidence", f"the bank took {taken.amount_minor} of this back already, as {taken.key}")


def _check_flushed(connection: Connection, invoice: Invoice) -> None:
    """Money on a deposit address is nobody's yet: the merchant gets it when it is split."""
    seen = store.evidence_of(connection, invoice.id)
    came = sum(s.amount_minor for s in seen if s.kind is Kind.DEPOSIT and s.stage is Stage.FINAL)
    left = sum(s.amount_minor for s in seen if s.kind is Kind.FLUSH and s.stage is Stage.FINAL)
    if came > left:
        reject(
            "P6", "evidence", f"{came} came to the deposit address and {left} of it were split: flush first"
        )
