"""What a receipt says: the record of a payment, and how firmly it stands (field failure 82)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.city_fees.catalogue import Fee
from gateway.db import reading
from gateway.pages.checkout import fee_of
from gateway.pages.city import Head
from gateway.payments import store
from gateway.payments.model import Derived
from gateway.payments.store import Invoice
from gateway.promises import promises_of
from gateway.rails import Evidence, Kind, Stage
from gateway.rails.tenge.reference import find_reference
from ledger.proof import leaf_hash
from ledger.records import Transfer, as_json, decode
from ledger.rules import TENGE
from ledger.standing import STATES as STEPS
from ledger.standing import Reach
from ledger.store import Anchored, records

if TYPE_CHECKING:
    from gateway.app import Gateway

# An invoice's number: the end of its page's address.
_NUMBER = re.compile(r"(?<![0-9a-z])[0-9a-hjkmnp-tv-z]{26}(?![0-9a-z])")


@dataclass(frozen=True)
class Receipt:
    """An invoice and the record that its payment became; None while it has not."""

    invoice: Invoice
    derived: Derived
    fee: Fee | None
    position: int | None
    record: Transfer | None
    data: bytes
    head: Head | None
    steps: Sequence[tuple[str, bool]]
    # How many of its payments the log has promised to record.
    promises: int = 0

    @property
    def is_published(self) -> bool:
        """Whether a proof can be had: the checkpoint covers the record."""
        return self.position is not None and self.head is not None and self.position < self.head.size

    @property
    def anchor(self) -> Anchored | None:
        """Where a chain holds it."""
        return None if self.head is None or self.position is None else self.head.anchor_of(self.position)

    @property
    def version(self) -> str:
        """Changes when the page must be shown anew, and only then."""
        reached = sum(done for _, done in self.steps)
        return f"{self.derived.status.value}-{self.derived.refunded_minor}-{reached}"

    def as_json(self) -> dict[str, object]:
        """For programs: numbers of money as text."""
        record, head = self.record, self.head
        told: dict[str, object] = {"invoice": self.invoice.id, "status": self.derived.status.value}
        if self.fee is not None:
            told |= {
                "fee": self.fee.id,
                "names": self.fee.names,
                "kbk": self.fee.code,
                "knp": self.fee.knp,
                "kbe": self.fee.kbe,
            }
        if record is not None:
            told |= {
                "asset": record.asset,
                "amount": str(record.amount),
                "time_s": record.time,
                "position": self.position,
                "leaf": "0x" + leaf_hash(self.data).hex(),
                "record": as_json(record),
            }
        if head is not None and self.is_published:
            told["checkpoint"] = {"origin": head.origin, "size": head.size, "root": "0x" + head.root.hex()}
            told["proof"] = f"/v1/receipts/{self.invoice.id}"
        if self.promises:
            told["promises"] = [
                f"/receipt/{self.invoice.id}/promise-{number}.txt" for number in range(1, self.promises + 1)
            ]
        return told | {"states": dict(self.steps)}


def receipt(gateway: Gateway, head: Head | None, id: str) -> Receipt:
    """The receipt of an invoice, as far as it has come."""
    invoice, derived, seen = gateway.payments.look(id)
    position = gateway.payments.position(id)
    data, record = b"", None
    if position is not None:
        data = next(records(gateway.engine, position, position + 1))
        found = decode(data)
        assert isinstance(found, Transfer)
        record = found
    steps = steps_of(position, head)
    promised = len(promises_of(invoice, seen))
    return Receipt(invoice, derived, fee_of(invoice), position, record, data, head, steps, promised)


def steps_of(position: int | None, head: Head | None) -> Sequence[tuple[str, bool]]:
    """The four states, and which of them the record has come to."""
    if position is None:
        return tuple((state, False) for state in STEPS)
    recorded = position + 1
    reached = Reach(recorded) if head is None else Reach(recorded, head.witnessed, head.anchored, head.final)
    return tuple(reached.states(position))


def find(gateway: Gateway, text: str) -> str | None:
    """The invoice whose payment reference or number stands in what a person typed; None where there is none.

    References of a merchant's invoices stand on no bank's statement and can be guessed: they open nothing.
    """
    typed = text[:200]
    with reading(gateway.engine) as connection:
        # As it stands in a sentence or an address, or in groups.
        if number := _NUMBER.search(typed.lower()) or _NUMBER.search(re.sub(r"\s", "", typed.lower())):
            return None if store.invoice(connection, number[0]) is None else number[0]
        reference = find_reference(typed)
        if reference is None:
            return None
        # Asked the way a bank's entry asks: by reference alone.
        asked = Evidence("", Kind.BANK, Stage.DETECTED, TENGE, 0, 0, reference=reference)
        found = store.invoice_for(connection, asked)
    return None if found is None else found.id
