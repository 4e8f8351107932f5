"""Styles, scripts and pictures under addresses that hold the hash of their content.

One hash covers the whole folder, so that scripts find each other by relative addresses,
and a browser may keep a file for ever: another content has another address.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Response

from ledger.records import reject

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {
    item.name: item.read_bytes()
    for item in sorted(files("gateway.pages").joinpath("static").iterdir(), key=lambda item: item.name)
    if "." + item.name.rpartition(".")[2] in _TYPES
}
_DIGEST = sha256(
    b"".join(name.encode() + sha256(content).digest() for name, content in _FILES.items())
).hexdigest()[:16]

router = APIRouter(include_in_schema=False)


def asset(name: str) -> str:
    """The address of a file."""
    assert name in _FILES, name
    return f"/static/{_DIGEST}/{name}"


@router.get("/static/{digest}/{name}")
def _file(digest: str, name: str) -> Response:
    content = _FILES.get(name)
    if content is None or digest != _DIGEST:
        reject("not_found", "static", f"there is no file {name[:40]!a} of this version")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=_TYPES["." + name.rpartition(".")[2]], headers=headers)
