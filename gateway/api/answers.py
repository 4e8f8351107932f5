"""How things of the gateway look in answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.api.schemas import (
    ChangeAnswer,
    InvoiceAnswer,
    KeyView,
    LinkAnswer,
    MerchantView,
    Rate,
    UnmatchedMoney,
    WalletPayment,
)
from gateway.merchants.links.store import Link
from gateway.merchants.store import Change, Key, Merchant
from gateway.payments.model import Derived
from gateway.payments.store import Invoice, Seen
from gateway.sandbox.store import SandboxInvoice
from ledger.records import encode_name

if TYPE_CHECKING:
    from gateway.app import Gateway


def hexed(data: bytes) -> str:
    """Bytes as 0x and hexadecimal digits."""
    return "0x" + data.hex()


def show(gateway: Gateway, id: str) -> InvoiceAnswer:
    """An invoice as an answer: one derived state for API, page and webhook."""
    invoice, derived, _ = gateway.payments.look(id)
    return invoice_answer(gateway, invoice, derived, gateway.payments.position(invoice.id))


def invoice_answer(gateway: Gateway, invoice: Invoice, derived: Derived, record: int | None) -> InvoiceAnswer:
    """An invoice as an answer; record: where on the ledger the city's share stands."""
    quote = invoice.quote
    return InvoiceAnswer(
        id=invoice.id,
        reference=invoice.merchant_reference,
        title=invoice.title,
        amount=str(invoice.tiyn),
        asset=invoice.asset,
        due=str(invoice.due_minor),
        **state(derived),
        created_s=invoice.created_s,
        expires_s=invoice.expires_s,
        rate=Rate(**quote) if quote else None,
        wallet=_wallet(gateway, invoice),
        deposit_address=hexed(invoice.deposit_address) if invoice.deposit_address else None,
        payment_reference=invoice.reference if invoice.in_tenge else None,
        record=record,
        page=f"{gateway.public_url}/pay/{invoice.id}",
        return_url=invoice.return_url,
    )


def sandbox_answer(gateway: Gateway, invoice: SandboxInvoice, derived: Derived) -> InvoiceAnswer:
    """An invoice of the sandbox: marked, and with nothing in it that could be paid."""
    return InvoiceAnswer(
        id=invoice.id,
        sandbox=True,
        reference=invoice.reference,
        title=invoice.title,
        amount=str(invoice.tiyn),
        asset=invoice.asset,
        due=str(invoice.due_minor),
        **state(derived),
        created_s=invoice.created_s,
        expires_s=invoice.expires_s,
        rate=Rate(**invoice.quote),
        wallet=None,
        deposit_address=None,
        payment_reference=None,
        record=None,
        page=f"{gateway.public_url}/sandbox/pay/{invoice.id}",
        return_url=invoice.return_url,
    )


def state(derived: Derived) -> dict[str, object]:
    """The members of an answer that the evidence decides."""
    return {
        "paid": str(derived.paid_minor),
        "missing": str(derived.missing_minor),
        "over": str(derived.over_minor),
        "held": str(derived.held_minor),
        "refunded": str(derived.refunded_minor),
        "status": derived.status.value,
        "notes": sorted(note.value for note in derived.notes),
    }


def _wallet(gateway: Gateway, invoice: Invoice) -> WalletPayment | None:
    if gateway.quotes is None or invoice.quote_signature is None:
        return None
    signature = invoice.quote_signature
    return WalletPayment(
        router=hexed(gateway.quotes.place.deployment.router),
        token=hexed(gateway.quotes.place.token(invoice.asset)),
        invoice=hexed(invoice.number),
        purpose=hexed(encode_name(invoice.purpose)),
        merchant=hexed(invoice.payee),
        amount=str(invoice.due_minor),
        share_bps=invoice.share_bps,
        valid_until=invoice.expires_s,
        nonce=str(invoice.nonce),
        v=signature[64],
        r=hexed(signature[:32]),
        s=hexed(signature[32:64]),
    )


def change_answer(change: Change) -> ChangeAnswer:
    """A change of a merchant's data."""
    return ChangeAnswer(
        id=change.id,
        field=change.field,
        old=change.old,
        new=change.new,
        asked_s=change.asked_s,
        effective_s=change.effective_s,
        cancelled=change.cancelled_s is not None,
    )


def merchant_view(merchant: Merchant, waiting: list[Change]) -> MerchantView:
    """A merchant's own data."""
    return MerchantView(
        id=merchant.id,
        name=merchant.name,
        bin=merchant.bin,
        iban=merchant.iban,
        wallet=hexed(merchant.wallet),
        contact=merchant.contact,
        waiting=[change_answer(change) for change in waiting],
    )


def key_view(key: Key) -> KeyView:
    """A key as lists show it."""
    return KeyView(
        id=key.id,
        role=key.role,
        scopes=sorted(key.scopes),
        name=key.name,
        sandbox=key.sandbox,
        created_s=key.created_s,
        expires_s=key.expires_s,
        last_used_s=key.last_used_s,
        revoked_s=key.revoked_s,
    )


def link_answer(gateway: Gateway, link: Link) -> LinkAnswer:
    """A payment link."""
    return LinkAnswer(
        id=link.id,
        title=link.title,
        asset=link.asset,
        amount=None if link.tiyn is None else str(link.tiyn),
        purpose=link.purpose,
        reusable=link.reusable,
        open=gateway.links.is_open(link),
        created_s=link.created_s,
        expires_s=link.expires_s,
        page=f"{gateway.public_url}/link/{link.id}",
    )


def unmatched_money(piece: Seen) -> UnmatchedMoney:
    """Money that a person must decide about."""
    return UnmatchedMoney(
        key=piece.key,
        kind=piece.kind.value,
        stage=piece.stage.value,
        asset=piece.asset,
        amount=str(piece.amount_minor),
        city=str(piece.city_minor),
        reference=piece.reference,
        address=hexed(piece.address) if piece.address else None,
        invoice=piece.invoice_id,
        problem=piece.problem,
        seen_s=piece.seen_s,
    )
