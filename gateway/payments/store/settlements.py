"""What merchants were given, and what providers pay out to them in tenge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, case, func, insert, literal, select, tuple_, update

from gateway.db import insert_into, newest_first
from gateway.payments.store import disputes, tables
from ledger.records import reject


class PayoutState(StrEnum):
    """Where a payout in tenge stands."""

    RESERVED = "reserved"  # its settlements are taken and its reference is ours; nothing is out yet
    INSTRUCTED = "instructed"  # the provider said that it has it
    UNKNOWN = "unknown"  # the provider did not answer: it is asked by our reference, never told again blindly
    PAID = "paid"  # confirmed, with the bank's reference
    REFUSED = "refused"  # the provider will not, or did not: the settlements are free again
    DISPUTED = "disputed"  # it says something else than what was instructed: a person decides


PAYOUT_MOVES: dict[PayoutState, frozenset[PayoutState]] = {
    PayoutState.RESERVED: frozenset(PayoutState) - {PayoutState.RESERVED},
    PayoutState.UNKNOWN: frozenset(PayoutState) - {PayoutState.UNKNOWN, PayoutState.RESERVED},
    PayoutState.INSTRUCTED: frozenset({PayoutState.PAID, PayoutState.REFUSED, PayoutState.DISPUTED}),
    PayoutState.DISPUTED: frozenset({PayoutState.PAID, PayoutState.REFUSED}),
    PayoutState.PAID: frozenset(),
    # Said to be paid after all: a person decides, for its settlements may have been paid twice.
    PayoutState.REFUSED: frozenset({PayoutState.DISPUTED}),
}
# About these somebody has decided, or must.
DECIDED = frozenset({PayoutState.DISPUTED, PayoutState.PAID, PayoutState.REFUSED})


@dataclass(frozen=True)
class Settlement:
    """Final money of a merchant: gross of the payment, the city's share, the merchant's net.

    id: the key of the evidence; receiver: the address that got the net, the merchant's or its
    provider's; at_s: when the money moved.
    """

    id: str
    merchant_id: str
    invoice_id: str
    method: str
    asset: str
    gross_minor: int
    city_minor: int
    net_minor: int
    receiver: bytes
    at_s: int
    noted_s: int


@dataclass(frozen=True)
class Payout:
    """Units that a provider takes and pays in tenge. id: our own reference (field failure 43).

    tiyn: what came to the merchant's account; fee_tiyn: what the provider kept; the rate is a
    fraction, tiyn for one base unit. All None until confirmed.
    """

    id: str
    merchant_id: str
    provider: str
    asset: str
    amount_minor: int
    iban: str
    state: PayoutState
    attempts: int
    due_s: int
    created_s: int
    changed_s: int
    tiyn: int | None = None
    fee_tiyn: int | None = None
    numerator: int | None = None
    denominator: int | None = None
    bank_reference: str | None = None
    paid_s: int | None = None
    problem: str | None = None


def add_settlement(connection: Connection, made: Settlement) -> bool:
    """Note a settlement for ever; False where it was noted before."""
    new = insert_into(connection, tables.settlement).values(
        id=made.id,
        merchant_id=made.merchant_id,
        invoice_id=made.invoice_id,
        method=made.method,
        asset=made.asset,
        gross=made.gross_minor,
        city=made.city_minor,
        net=made.net_minor,
        receiver=made.receiver,
        at_s=made.at_s,
        noted_s=made.noted_s,
    )
    added = new.on_conflict_do_nothing(index_elements=["id"]).returning(tables.settlement.c.id)
    return connection.execute(added).first() is not None


def _settlement_of(row: Any) -> Settlement:
    return Settlement(
        row.id,
        row.merchant_id,
        row.invoice_id,
        row.method,
        row.asset,
        row.gross,
        row.city,
        row.net,
        bytes(row.receiver),
        row.at_s,
        row.noted_s,
    )


def settlements_of(
    connection: Connection, merchant_id: str, before: tuple[int, str], most: int
) -> list[Settlement]:
    """A merchant's settlements, newest first, after the last one of the page before (keyset)."""
    column = tables.settlement.c
    theirs = select(tables.settlement).where(column.merchant_id == merchant_id)
    page = newest_first(theirs, column.noted_s, column.id, before, most)
    return [_settlement_of(row) for row in connection.execute(page)]


def settlements_of_invoice(connection: Connection, invoice_id: str) -> list[Settlement]:
    """The settlements of an invoice."""
    rows = connection.execute(
        select(tables.settlement)
        .where(tables.settlement.c.invoice_id == invoice_id)
        .order_by(tables.settlement.c.noted_s, tables.settlement.c.id)
    )
    return [_settlement_of(row) for row in rows]


def unpaid_settlements(connection: Connection, merchant_id: str, asset: str, most: int) -> list[Settlement]:
    """What a merchant's provider holds in an asset and no payout has taken, oldest first."""
    taken = select(tables.payout_item.c.settlement_id).where(
        tables.payout_item.c.settlement_id == tables.settlement.c.id
    )
    rows = connection.execute(
        select(tables.settlement)
        .where(
            tables.settlement.c.merchant_id == merchant_id,
            tables.settlement.c.method == "vasp",
            tables.settlement.c.asset == asset,
            ~taken.exists(),
        )
        .order_by(tables.settlement.c.noted_s, tables.settlement.c.id)
        .limit(most)
    )
    return [_settlement_of(row) for row in rows]


# --- payouts ------------------------------------------------------------------------------


def _payout_of(row: Any) -> Payout:
    return Payout(
        id=row.id,
        merchant_id=row.merchant_id,
        provider=row.provider,
        asset=row.asset,
        amount_minor=row.amount,
        iban=row.iban,
        state=PayoutState(row.state),
        attempts=row.attempts,
        due_s=row.due_s,
        created_s=row.created_s,
        changed_s=row.changed_s,
        tiyn=row.tiyn,
        fee_tiyn=row.fee_tiyn,
        numerator=row.numerator,
        denominator=row.denominator,
        bank_reference=row.bank_reference,
        paid_s=row.paid_s,
        problem=row.problem,
    )


def add_payout(connection: Connection, payout: Payout, items: Sequence[str], actor: str) -> None:
    """Reserve settlements for a payout; the database refuses one that another payout has."""
    connection.execute(
        insert(tables.payout).values(
            id=payout.id,
            merchant_id=payout.merchant_id,
            provider=payout.provider,
            asset=payout.asset,
            amount=payout.amount_minor,
            iban=payout.iban,
            state=payout.state.value,
            attempts=payout.attempts,
            due_s=payout.due_s,
            created_s=payout.created_s,
            changed_s=payout.changed_s,
        )
    )
    new = insert_into(connection, tables.payout_item).on_conflict_do_nothing(index_elements=["settlement_id"])
    for item in items:
        values = new.values(settlement_id=item, payout_id=payout.id)
        if connection.execute(values.returning(tables.payout_item.c.payout_id)).first() is None:
            reject("conflict", item, "another payout has this settlement")
    _note(connection, payout.id, payout.state, actor, f"{len(items)} settlements", payout.created_s)


def payout(connection: Connection, id: str) -> Payout | None:
    """The payout with this reference."""
    row = connection.execute(select(tables.payout).where(tables.payout.c.id == id)).first()
    return None if row is None else _payout_of(row)


def locked_payout(connection: Connection, id: str) -> Payout | None:
    """The payout with this reference; nobody else moves it until we commit."""
    row = connection.execute(select(tables.payout).where(tables.payout.c.id == id).with_for_update()).first()
    return None if row is None else _payout_of(row)


def payout_of_bank_reference(connection: Connection, provider: str, bank_reference: str) -> str | None:
    """The payout that a provider paid under a bank's reference."""
    found: str | None = connection.execute(
        select(tables.payout.c.id).where(
            tables.payout.c.provider == provider, tables.payout.c.bank_reference == bank_reference
        )
    ).scalar()
    return found


def payouts_of(connection: Connection, merchant_id: str, before: tuple[int, str], most: int) -> list[Payout]:
    """A merchant's payouts, newest first, after the last one of the page before (keyset)."""
    column = tables.payout.c
    theirs = select(tables.payout).where(column.merchant_id == merchant_id)
    page = newest_first(theirs, column.created_s, column.id, before, most)
    return [_payout_of(row) for row in connection.execute(page)]


def disputed_payouts(connection: Connection, after: tuple[int, str], most: int) -> list[Payout]:
    """All merchants' payouts that a person must decide about, the longest waiting first (keyset)."""
    column = tables.payout.c
    place = tuple_(literal(after[0]), literal(after[1]))
    rows = connection.execute(
        select(tables.payout)
        .where(column.state == PayoutState.DISPUTED.value, tuple_(column.changed_s, column.id) > place)
        .order_by(column.changed_s, column.id)
        .limit(most)
    )
    return [_payout_of(row) for row in rows]


def count_disputed(connection: Connection) -> int:
    """How many payouts wait for a person."""
    disputed = tables.payout.c.state == PayoutState.DISPUTED.value
    return connection.execute(select(func.count()).select_from(tables.payout).where(disputed)).scalar_one()


def contradicted_payouts(connection: Connection, most: int) -> list[Payout]:
    """Payouts that are paid and of which something else was said, newest first."""
    column = tables.payout.c
    rows = connection.execute(
        select(tables.payout)
        .where(column.state == PayoutState.PAID.value, column.problem.is_not(None))
        .order_by(column.changed_s.desc(), column.id.desc())
        .limit(most)
    )
    return [_payout_of(row) for row in rows]


def payouts_due(connection: Connection, states: Collection[PayoutState], now: int, most: int) -> list[Payout]:
    """Payouts in these states whose time has come, the longest due first.

    What a provider has accepted is only asked about, again and again: it comes after what nobody was told,
    or a provider that confirms late would keep new payouts waiting.
    """
    is_accepted = case((tables.payout.c.state == PayoutState.INSTRUCTED.value, 1), else_=0)
    rows = connection.execute(
        select(tables.payout)
        .where(
            tables.payout.c.state.in_(sorted(state.value for state in states)), tables.payout.c.due_s <= now
        )
        .order_by(is_accepted, tables.payout.c.due_s, tables.payout.c.id)
        .limit(most)
    )
    return [_payout_of(row) for row in rows]


def _note(connection: Connection, id: str, state: PayoutState, actor: str, why: str, at_s: int) -> None:
    connection.execute(
        insert(tables.payout_event).values(payout_id=id, state=state.value, actor=actor, why=why, at_s=at_s)
    )


def set_payout_state(
    connection: Connection, id: str, state: PayoutState, actor: str, why: str, now: int, **noted: Any
) -> None:
    """Move a payout and note for ever who did it and why; a refused one gives its settlements back."""
    connection.execute(
        update(tables.payout)
        .where(tables.payout.c.id == id)
        .values(state=state.value, changed_s=now, **noted)
    )
    _note(connection, id, state, actor, why, now)
    if state is PayoutState.REFUSED:
        disputes.free(connection, id)


def set_payout(connection: Connection, id: str, **noted: Any) -> None:
    """Note what became known of a payout without moving it."""
    connection.execute(update(tables.payout).where(tables.payout.c.id == id).values(**noted))


def payout_events(connection: Connection, id: str) -> list[tuple[str, str, str, int]]:
    """The moves of a payout: state, who, why, when."""
    rows = connection.execute(
        select(tables.payout_event)
        .where(tables.payout_event.c.payout_id == id)
        .order_by(tables.payout_event.c.sequence)
    )
    return [(row.state, row.actor, row.why, row.at_s) for row in rows]


def add_message(
    connection: Connection,
    sha256: bytes,
    provider: str,
    reference: str,
    body: bytes,
    signature: str,
    answer: str,
    now: int,
) -> bool:
    """Keep what a provider told us, as it signed it; False where we have it already."""
    new = insert_into(connection, tables.message).values(
        sha256=sha256,
        provider=provider,
        reference=reference,
        body=body,
        signature=signature,
        answer=answer,
        at_s=now,
    )
    added = new.on_conflict_do_nothing(index_elements=["sha256"]).returning(tables.message.c.sha256)
    return connection.execute(added).first() is not None


def messages_of(connection: Connection, reference: str) -> list[bytes]:
    """What a provider told us of a payout, as it sent it, in the order in which it came."""
    found = tables.message
    rows = connection.execute(
        select(found.c.body).where(found.c.reference == reference).order_by(found.c.at_s, found.c.sha256)
    )
    return [bytes(row.body) for row in rows]
