"""Signatures of webhooks (Standard Webhooks 1.0.0).

What is signed is `id.timestamp.body`; `v1` is HMAC-SHA256 under a `whsec_` secret, `v1a`
is Ed25519 under a `whsk_` key, which is checked with the `whpk_` key. Pure: the caller
tells the time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.records import reject

TOLERANCE_S: Final = 300
SIGNATURES_MAX: Final = 16
_ID: Final = re.compile(r"[!-\-/-~]{1,255}")  # visible ASCII without the full stop that separates
_TIMESTAMP: Final = re.compile(r"0|[1-9][0-9]{0,14}")


def new_id() -> str:
    """Make the id of an event, its second first; each retry and redelivery keeps it."""
    # With the time in front a new one goes to the end of the index, however many there are.
    return f"msg_{int(time.time()):08x}{secrets.token_hex(12)}"


def new_secret() -> str:
    """Make a secret for `v1`."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def new_key() -> str:
    """Make a private key for `v1a`: the 32 bytes of RFC 8032 section 5.1.5."""
    return "whsk_" + base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def public_key(key: str) -> str:
    """Give the `whpk_` key that the receiver checks with."""
    private = Ed25519PrivateKey.from_private_bytes(_decode(key, "whsk_", 32, 32))
    return "whpk_" + base64.b64encode(private.public_key().public_bytes_raw()).decode()


def sign(key: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Sign one message with a `whsec_` secret or a `whsk_` key."""
    content = _content(message_id, str(timestamp_s), body)
    if key.startswith("whsk_"):
        signature = Ed25519PrivateKey.from_private_bytes(_decode(key, "whsk_", 32, 32)).sign(content)
        return "v1a," + base64.b64encode(signature).decode()
    digest = hmac.digest(_decode(key, "whsec_", 24, 64), content, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def signed_headers(keys: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Give the three headers, with one signature for each key, so that keys can rotate."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(sign(key, message_id, timestamp_s, body) for key in keys),
    }


def check_signature(keys: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: int) -> None:
    """Refuse a message that none of the receiver's `whsec_` or `whpk_` keys signed just now."""
    sent = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = sent.get("webhook-id", ""), sent.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id):
        reject("webhook-signature", "webhook-id", "it is missing or malformed")
    if not _TIMESTAMP.fullmatch(timestamp):
        reject("webhook-signature", "webhook-timestamp", "it is missing or malformed")
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        reject("webhook-signature", "webhook-timestamp", f"signed at {timestamp}, now is {now_s}")
    signatures = sent.get("webhook-signature", "").split(" ")
    if len(signatures) > SIGNATURES_MAX:
        reject("webhook-signature", "webhook-signature", f"{len(signatures)} of at most {SIGNATURES_MAX}")
    content = _content(message_id, timestamp, body)
    # A list and not a generator: each pair is tried, so that the time tells nothing of which one fits.
    fits = [_is_signed(key, signature, content) for key in keys for signature in signatures]
    if not any(fits):
        reject("webhook-signature", "webhook-signature", "no signature fits a known key")


def _is_signed(key: str, signature: str, content: bytes) -> bool:
    version, _, encoded = signature.partition(",")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    # The key chooses the scheme, never the sender: a public key is not an HMAC secret.
    if key.startswith("whsec_"):
        digest = hmac.digest(_decode(key, "whsec_", 24, 64), content, hashlib.sha256)
        return version == "v1" and hmac.compare_digest(raw, digest)
    if version != "v1a":
        return False
    try:
        Ed25519PublicKey.from_public_bytes(_decode(key, "whpk_", 32, 32)).verify(raw, content)
    except InvalidSignature:
        return False
    return True


def _content(message_id: str, timestamp: str, body: bytes) -> bytes:
    assert _ID.fullmatch(message_id), "a full stop in the id would let it reach into the timestamp"
    return f"{message_id}.{timestamp}.".encode() + body


def _decode(key: str, prefix: str, least: int, most: int) -> bytes:
    # The reasons name no byte of the key: errors end in logs.
    if not key.startswith(prefix):
        reject("webhook-secret", prefix, "it begins otherwise")
    try:
        raw = base64.b64decode(key.removeprefix(prefix), validate=True)
    except binascii.Error:
        reject("webhook-secret", prefix, "it is not base64")
    if not least <= len(raw) <= most:
        reject("webhook-secret", prefix, f"{len(raw)} bytes, {least} to {most} wanted")
    return raw
