"""How an invoice can be paid: the fields to copy and the codes to scan (field failure 46)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import segno

from gateway.city_fees.catalogue import CATALOGUE, Fee
from gateway.db import reading
from gateway.eip55 import checksummed
from gateway.pages.words import NO_BREAK, plain
from gateway.payments.model import Derived, Note, Status, counts, worth
from gateway.payments.refund_model import RefundState, reserves
from gateway.payments.store import Invoice, Seen
from gateway.payments.store import refunds as refund_rows
from gateway.rails import PAYS, Stage
from gateway.rails.evm.place import chain_named
from gateway.renewal import Renewable, Renewal
from ledger.rules import TENGE

if TYPE_CHECKING:
    from gateway.app import Gateway

PAYEE = "Alatau"


@dataclass(frozen=True)
class Field:
    """One thing to type in or copy: shown as people read it, copied as programs take it."""

    key: str
    shown: str
    copied: str


@dataclass(frozen=True)
class Code:
    """One picture to scan: what is in it, and the picture as a data URI."""

    key: str
    content: str
    picture: str


@dataclass(frozen=True)
class Ways:
    """All that somebody needs who wants to pay now."""

    fields: Sequence[Field]
    codes: Sequence[Code]


def transfer_uri(token: bytes, chain_id: int, to: bytes, amount_minor: int) -> str:
    """Ask a wallet for one ERC-20 transfer (EIP-681)."""
    return (
        f"ethereum:{checksummed(token)}@{chain_id}/transfer?address={checksummed(to)}&uint256={amount_minor}"
    )


def coin_uri(chain_id: int, to: bytes, amount_minor: int) -> str:
    """Ask a wallet for so much of the chain's coin (EIP-681)."""
    return f"ethereum:{checksummed(to)}@{chain_id}?value={amount_minor}"


def picture(content: str) -> str:
    """A QR code as a data URI, black on white whatever the page's colours, with its quiet zone."""
    code = segno.make(content, error="m", micro=False)
    uri: str = code.svg_data_uri(scale=4, border=4, dark="#000", light="#fff")
    return uri


def _code(key: str, content: str) -> Code:
    return Code(key, content, picture(content))


def grouped(text: str) -> str:
    """Four characters at a time, as people copy them by hand."""
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def fee_of(invoice: Invoice) -> Fee | None:
    """The fee that an invoice of the city bills; None for a merchant's."""
    if invoice.merchant_id is not None:
        return None
    return next((fee for fee in CATALOGUE if fee.id == invoice.title), None)


def is_payable(invoice: Invoice, derived: Derived, now: int) -> bool:
    """Whether money may still be sent at the quoted rate."""
    waiting = derived.status in {Status.OPEN, Status.DETECTED} and derived.missing_minor > 0
    return waiting and now <= invoice.expires_s


def ways(gateway: Gateway, invoice: Invoice, derived: Derived, shown: str, decimals: int) -> Ways:
    """How to pay what is missing; shown: that amount for people."""
    # Where it does not fit a line its unit goes to the next one whole, and is not torn.
    amount = Field("amount", " ".join(shown.rsplit(NO_BREAK, 1)), plain(derived.missing_minor, decimals))
    if invoice.asset == TENGE:
        return _tenge(gateway.bank_iban, invoice, amount)
    if gateway.quotes is None or invoice.deposit_address is None:
        return Ways((), ())
    place = gateway.quotes.place
    if invoice.asset not in place.tokens.values():
        # No longer taken here: nobody is asked to send it.
        return Ways((), ())
    token, chain_id, to = place.token(invoice.asset), place.deployment.chain_id, invoice.deposit_address
    address, chain = (
        Field("address", checksummed(to), checksummed(to)),
        Field("chain", chain_named(chain_id), str(chain_id)),
    )
    if invoice.asset == gateway.quotes.coin_asset:
        # It has no contract that could be named, or taken for the receiver.
        request = coin_uri(chain_id, to, derived.missing_minor)
        return Ways((amount, address, chain), (_code("wallet", request), _code("address", checksummed(to))))
    fields = (
        amount,
        address,
        Field("token", f"{invoice.asset} {checksummed(token)}", checksummed(token)),
        chain,
    )
    request = transfer_uri(token, chain_id, to, derived.missing_minor)
    return Ways(fields, (_code("wallet", request), _code("address", checksummed(to))))


def _tenge(iban: str, invoice: Invoice, amount: Field) -> Ways:
    fee = fee_of(invoice)
    codes = () if fee is None else (
        Field("kbk", fee.code, fee.code),
        Field("knp", fee.knp, fee.knp),
        Field("kbe", fee.kbe, fee.kbe),
    )  # fmt: skip
    fields = (
        amount,
        Field("iban", grouped(iban), iban),
        Field("reference", grouped(invoice.reference), invoice.reference),
        *codes,
    )
    return Ways(fields, (_code("reference", invoice.reference),))


@dataclass(frozen=True)
class Late:
    """What is to be said of money that came after the time: some counts, some does not, or not yet."""

    counts: bool
    waits: bool


def late_money(invoice: Invoice, derived: Derived, seen: Sequence[Seen]) -> Late:
    """What became of the money that came after the time; where all of it goes back, that is said already."""
    late = [
        piece.payment
        for piece in seen
        if piece.kind in PAYS and piece.stage is not Stage.GONE and piece.payment.at_s > invoice.expires_s
    ]
    goes_back = derived.status in {Status.REFUND_PENDING, Status.REFUNDED}
    return Late(any(counts(invoice.terms, one) for one in late), Note.HELD in derived.notes and not goes_back)


def state_word(derived: Derived) -> str:
    """Which words of `status.` say a state: its own, or that it is true of a part of the money."""
    if derived.status is Status.REFUNDED and derived.refunded_minor < derived.paid_minor + derived.held_minor:
        return "refunded.part"
    if derived.status is Status.DETECTED and Note.PARTIAL in derived.notes:
        return "part"
    return derived.status.value


@dataclass(frozen=True)
class Back:
    """What is on its way back, and what came beyond the price and stays, in base units of the asset."""

    going_minor: int
    over_minor: int


def money_back(gateway: Gateway, invoice: Invoice, derived: Derived) -> Back:
    """What refunds leave to be said: of what is too much, that which nobody sends back yet."""
    going = 0
    if Note.REFUND_PENDING in derived.notes:
        with reading(gateway.engine) as connection:
            refunds = refund_rows.refunds_of_invoice(connection, invoice.id)
        asked = [one for one in refunds if reserves(one.state) and one.state is not RefundState.FINAL]
        going = worth(invoice.terms, [one.returned for one in asked])
    left = derived.paid_minor + derived.held_minor - derived.refunded_minor - going - invoice.due_minor
    return Back(going, max(min(derived.over_minor, left), 0))


def renewal_of(gateway: Gateway) -> Renewal:
    """What makes the next invoice of one that ran out."""
    return Renewal(gateway.payments, gateway.links, gateway.spread_bps)


def version(
    derived: Derived, position: int | None, back: Back, *, payable: bool, renewable: Renewable
) -> str:
    """Changes when the page must be shown anew, and only then."""
    money = (derived.paid_minor, derived.refunded_minor, back)
    told = (derived.status, sorted(derived.notes), money, position, payable, renewable)
    return sha256(repr(told).encode()).hexdigest()[:16]
