"""What goes in and comes out, typed. Amounts are strings of digits in the smallest unit, never floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

Some = TypeVar("Some")
Told = Mapping[str, Any]


@dataclass(frozen=True)
class NewInvoice:
    """An invoice to ask for. amount: tiyn; asset: what it is to be paid in; reference: the shop's own.

    return_url: the page of the shop (https) that the payer may go back to, after payment or expiry.
    """

    amount: str
    asset: str
    reference: str
    title: str
    purpose: str = "206108"
    refund_to: str | None = None
    return_url: str | None = None


@dataclass(frozen=True)
class Invoice:
    """An invoice and its state. amount: tiyn; due, paid, missing and over: base units of the asset.

    wallet: what a wallet needs to pay through the router; page: where to send the payer.
    """

    id: str
    sandbox: bool
    reference: str | None
    title: str
    amount: str
    asset: str
    due: str
    paid: str
    missing: str
    over: str
    held: str
    refunded: str
    status: str
    notes: list[str]
    created_s: int
    expires_s: int
    page: str
    return_url: str | None
    deposit_address: str | None
    wallet: Mapping[str, Any] | None
    rate: Mapping[str, Any] | None
    record: int | None

    @property
    def is_settled(self) -> bool:
        """Whether the goods may be handed over: it is paid, and stays so unless blocks are replaced."""
        return self.status in {"paid", "final"}


@dataclass(frozen=True)
class Refund:
    """A refund. transaction: what the merchant's own wallet is to send, while it must."""

    id: str
    invoice: str | None
    asset: str
    amount: str
    to: str
    state: str
    ripe_s: int
    problem: str | None
    transaction: Mapping[str, Any] | None


@dataclass(frozen=True)
class Link:
    """A payment link. amount None: the payer says how much; page: what to give to payers."""

    id: str
    title: str
    asset: str
    amount: str | None
    reusable: bool
    open: bool
    page: str
    expires_s: int | None


@dataclass(frozen=True)
class Key:
    """A key that was just made. key: shown this once; expires_s: None if it never ends."""

    id: str
    key: str
    expires_s: int | None


@dataclass(frozen=True)
class StatementLine:
    """One piece of final money: gross = city + net, base units of the asset; tiyn: gross as it was quoted.

    held: late money that pays nothing yet, which is in no other sum.
    """

    final_s: str
    day: str
    moved_s: str
    invoice: str
    reference: str
    title: str
    method: str
    asset: str
    gross: str
    city: str
    net: str
    tiyn: str
    evidence: str
    held: str


@dataclass(frozen=True)
class Delivery:
    """What became of an event at one endpoint."""

    endpoint: str
    state: str
    attempts: int
    due_s: int
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True)
class Event:
    """An event, as it was or is to be sent."""

    id: str
    type: str
    about: str
    created_s: int
    body: str
    deliveries: list[Delivery]


@dataclass(frozen=True)
class Page(Generic[Some]):
    """A page of a list; next: what to give as `after` for the page after, None at the end."""

    items: list[Some]
    next: str | None


def read(kind: Callable[..., Some], told: Told) -> Some:
    """Take the members that a dataclass has; what the gateway adds later does no harm."""
    known = [member.name for member in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: told[name] for name in known})


def read_event(told: Told) -> Event:
    """An event with its deliveries."""
    found = [read(Delivery, one) for one in told["deliveries"]]
    return Event(told["id"], told["type"], told["about"], told["created_s"], told["body"], found)
