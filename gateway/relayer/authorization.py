"""What a payer signs so that another may bring the payment, and the router's call that brings it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

import coincurve

from contracts.bindings import GAS, Quote
from gateway.payments.store import Invoice
from gateway.rails.evm.rpc import to_hex
from gateway.relayer.encoding import router_call
from gateway.sending.call import Call
from ledger.records import WORD, encode_name, keccak256

GASLESS_KIND = "gasless"
SIGNATURE_BYTES = 65
# EIP-2: of the two signatures that say the same, the one with the greater s is refused.
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class Scheme(StrEnum):
    """How a payer authorizes."""

    EIP3009 = "eip3009"
    PERMIT2 = "permit2"


FUNCTIONS = {Scheme.EIP3009: "payWithAuthorization", Scheme.PERMIT2: "payWithPermit2"}


@dataclass(frozen=True)
class Authorization:
    """What a payer signed. nonce: Permit2's, which the payer chooses; EIP-3009's is the quote itself."""

    scheme: Scheme
    payer: bytes
    signature: bytes
    nonce: int = 0


def nonce_of(quote: Quote, asked: Authorization) -> bytes:
    """What makes an authorization one of its kind for its token and payer: 32 bytes."""
    if asked.scheme is Scheme.EIP3009:
        return quote.hash()
    return sha256(b"permit2" + asked.nonce.to_bytes(WORD, "big")).digest()


def bring_call(router: bytes, invoice: Invoice, quote: Quote, asked: Authorization, attempt: int) -> Call:
    """The call of the router that brings an authorization; another attempt is another call."""
    signed, own = invoice.quote_signature, asked.signature
    assert signed is not None
    function = FUNCTIONS[asked.scheme]
    words: tuple[object, ...] = (to_hex(asked.payer), own[64], own[:32], own[32:64])
    if asked.scheme is Scheme.PERMIT2:
        words = (to_hex(asked.payer), asked.nonce, own)
    encoded = quoted_call(function, quote, signed, words)
    named = quote.token + asked.payer + nonce_of(quote, asked) + attempt.to_bytes(4, "big")
    return Call(GASLESS_KIND, sha256(named).hexdigest(), router, encoded, 0, GAS[function])


def quoted_call(function: str, quote: Quote, signed: bytes, *more: object) -> bytes:
    """The data of a call of the router with a quote and the 65 bytes that the gateway signed over it."""
    vs = ((signed[64] - 27) << 255 | int.from_bytes(signed[32:64], "big")).to_bytes(WORD, "big")
    return router_call(function, _words(quote), signed[:32], vs, *more)


def quote_of(invoice: Invoice, token: bytes) -> Quote:
    """The quote that was signed when an invoice was made."""
    return Quote(
        invoice.number,
        invoice.purpose,
        invoice.payee,
        token,
        invoice.due_minor,
        invoice.share_bps,
        invoice.expires_s,
        invoice.nonce,
    )


def signer_of(digest: bytes, signature: bytes) -> bytes | None:
    """Who signed 32 bytes with r, s, v; None where nobody did."""
    v = signature[64]
    if v not in {27, 28} or int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return None
    try:
        compact = signature[:64] + bytes([v - 27])
        key = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except ValueError:
        return None
    return keccak256(key.format(compressed=False)[1:])[12:]


def _words(quote: Quote) -> tuple[object, ...]:
    """A quote's members as they are encoded: addresses as text."""
    return (
        quote.invoice,
        encode_name(quote.purpose),
        to_hex(quote.merchant),
        to_hex(quote.token),
        quote.amount,
        quote.share_bps,
        quote.valid_until,
        quote.nonce,
    )
