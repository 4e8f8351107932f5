"""Checking a webhook (Standard Webhooks 1.0.0): `v1` is HMAC-SHA256, `v1a` is Ed25519."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.client.errors import NotSigned

TOLERANCE_S = 300


def check_webhook(
    keys: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: float | None = None
) -> dict[str, Any]:
    """The event in a request, if one of our keys signed it just now; NotSigned otherwise.

    keys: the `whsec_` secrets or `whpk_` keys that hold, both during a rotation; body: the bytes that came.
    An event can come twice: remember its id (the header webhook-id) in the transaction that does the work.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    id, stamp = sent.get("webhook-id", ""), sent.get("webhook-timestamp", "")
    now = time.time() if now_s is None else now_s
    if not id or "." in id or not stamp.isascii() or not stamp.isdigit() or len(stamp) > 15:
        raise NotSigned("no webhook-id or webhook-timestamp")
    if abs(now - int(stamp)) > TOLERANCE_S:
        raise NotSigned(f"signed at {stamp}, now is {int(now)}")
    content = f"{id}.{stamp}.".encode() + body
    signatures = sent.get("webhook-signature", "").split(" ")[:16]
    # Each pair is tried, so that the time tells nothing of which one fits.
    fits = [_fits(key, signature, content) for key in keys for signature in signatures]
    if not any(fits):
        raise NotSigned("no signature fits a known key")
    event: dict[str, Any] = json.loads(body)
    return event


def _fits(key: str, signature: str, content: bytes) -> bool:
    version, _, encoded = signature.partition(",")
    kind, _, text = key.partition("_")
    try:
        raw, secret = base64.b64decode(encoded, validate=True), base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    # The key chooses the scheme, never the sender: a public key is no HMAC secret.
    if kind == "whsec":
        digest = hmac.digest(secret, content, hashlib.sha256)
        return version == "v1" and hmac.compare_digest(raw, digest)
    if kind != "whpk" or version != "v1a" or len(secret) != 32:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(secret).verify(raw, content)
    except InvalidSignature:
        return False
    return True
