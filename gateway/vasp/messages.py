"""What is said to a provider and what it says, as signed JSON; amounts are strings, a rate is a fraction.

A message is bytes and a signature over them. Instructions are ours, by HMAC-SHA256 with a key that both
have; confirmations are the provider's, by HMAC or by Ed25519, whose private key only it has.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.records import reject

BODY_LIMIT: Final = 16 * 1024
_REFERENCE = re.compile("[0-9a-z_]{1,64}")
_DIGITS = re.compile("0|[1-9][0-9]{0,38}")
_BANK_REFERENCE = re.compile("[!-~]{1,64}")


class Said(StrEnum):
    """What a provider says of a payout."""

    ACCEPTED = "accepted"
    PAID = "paid"
    REFUSED = "refused"


@dataclass(frozen=True)
class Instruction:
    """Take these units and pay them to this account. reference: our own, once for ever."""

    reference: str
    asset: str
    amount_minor: int
    iban: str

    def encode(self) -> bytes:
        """The body."""
        told = {
            "reference": self.reference,
            "asset": self.asset,
            "amount": str(self.amount_minor),
            "iban": self.iban,
        }
        return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Confirmation:
    """What a provider says it did. tiyn: what reached the account; fee_tiyn: what it kept.

    The last six are there when it says paid; why, when it refuses.
    """

    instruction: Instruction
    said: Said
    tiyn: int = 0
    fee_tiyn: int = 0
    numerator: int = 0
    denominator: int = 0
    bank_reference: str = ""
    paid_s: int = 0
    why: str = ""

    def encode(self) -> bytes:
        """The body."""
        told: dict[str, Any] = json.loads(self.instruction.encode())
        told["status"] = self.said.value
        if self.said is Said.PAID:
            told.update(
                tiyn=str(self.tiyn),
                fee_tiyn=str(self.fee_tiyn),
                numerator=str(self.numerator),
                denominator=str(self.denominator),
                bank_reference=self.bank_reference,
                paid_s=str(self.paid_s),
            )
        if self.said is Said.REFUSED:
            told["why"] = self.why
        return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def decode_confirmation(body: bytes) -> Confirmation:
    """Read a provider's body; Invalid, with the member, for whatever is not as agreed."""
    if len(body) > BODY_LIMIT:
        reject("size", "body", f"at most {BODY_LIMIT} bytes, this has {len(body)}")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        reject("vasp", "body", "this is no JSON object")
    said = told.get("status")
    if said not in {one.value for one in Said}:
        reject("vasp", "status", f"accepted, paid or refused, not {str(said)[:40]!a}")
    instruction = Instruction(
        _text(told, "reference", _REFERENCE),
        _text(told, "asset", re.compile("[A-Za-z0-9_.-]{1,31}")),
        _number(told, "amount"),
        _text(told, "iban", re.compile("[A-Z0-9]{5,34}")),
    )
    if said == Said.PAID:
        numbers = {
            name: _number(told, name) for name in ("tiyn", "fee_tiyn", "numerator", "denominator", "paid_s")
        }
        if not numbers["denominator"]:
            reject("vasp", "denominator", "a rate is a fraction with a denominator of 1 or more")
        bank_reference = _text(told, "bank_reference", _BANK_REFERENCE)
        return Confirmation(
            instruction,
            Said.PAID,
            numbers["tiyn"],
            numbers["fee_tiyn"],
            numbers["numerator"],
            numbers["denominator"],
            bank_reference,
            numbers["paid_s"],
        )
    why = told.get("why", "")
    if not isinstance(why, str) or not why.isprintable():
        reject("vasp", "why", "a reason is printable text")
    return Confirmation(instruction, Said(said), why=why[:500])


def _text(told: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        reject("vasp", name, f"{str(value)[:60]!a} is not of the form {form.pattern}")
    return value


def _number(told: dict[str, Any], name: str) -> int:
    return int(_text(told, name, _DIGITS))


class Signer(Protocol):
    """Signs a body."""

    def sign(self, body: bytes) -> str:
        """The signature as text: scheme, equals sign, hex."""
        ...


class Verifier(Protocol):
    """Knows whether a body was signed."""

    def check(self, body: bytes, signature: str) -> None:
        """Invalid unless the signature is over exactly this body."""
        ...


@dataclass(frozen=True)
class SharedKey:
    """HMAC-SHA256, `hmac-sha256=<hex>`: both sides can sign, so it says only that no third party did."""

    key: bytes

    def sign(self, body: bytes) -> str:
        """Sign."""
        return f"hmac-sha256={hmac.new(self.key, body, sha256).hexdigest()}"

    def check(self, body: bytes, signature: str) -> None:
        """Compare in constant time."""
        if not hmac.compare_digest(self.sign(body).encode(), signature.encode()):
            reject("signature", "vasp", "the signature is not of this body with our key")


@dataclass(frozen=True)
class ProviderKey:
    """Ed25519, `ed25519=<hex>`: only the provider can have signed, which an auditor can be shown."""

    key: Ed25519PublicKey

    def check(self, body: bytes, signature: str) -> None:
        """Verify."""
        scheme, _, text = signature.partition("=")
        try:
            if scheme != "ed25519":
                raise ValueError(scheme)
            self.key.verify(bytes.fromhex(text), body)
        except (InvalidSignature, ValueError):
            reject("signature", "vasp", "the signature is not of this body with the provider's key")


@dataclass(frozen=True)
class ProviderSigner:
    """The provider's side of ProviderKey."""

    key: Ed25519PrivateKey

    def sign(self, body: bytes) -> str:
        """Sign."""
        return f"ed25519={self.key.sign(body).hex()}"
