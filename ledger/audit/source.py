"""Where the bytes come from: a folder or an http(s) address, read with care and never written."""

from __future__ import annotations

import http.client
import os
import re
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from hashlib import sha256
from typing import IO, Any, Protocol

from ledger.records import Unavailable, reject

MOST_BYTES = 64 << 20
CONNECT_S = 20
FILE_S = 300
_MOST_DEPTH = 16
_CHUNK = 1 << 20
# What a manifest may name: no empty part, no part that begins with a dot, nothing to escape.
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


def is_path(path: str) -> bool:
    """Whether a path stays below the bundle and is spelled in one way everywhere."""
    return len(path) <= 255 and _PATH.fullmatch(path) is not None


class Source(Protocol):
    """A bundle's files by their paths."""

    name: str
    # Every path there is, or None where that cannot be known.
    paths: set[str] | None

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, or None if there is none; Invalid if it is not a plain file of sane size."""

    def digest(self, path: str) -> bytes | None:
        """The SHA-256 of a file, or None if there is none."""


def open_source(place: str) -> Source:
    """A folder's or an address's files; Unavailable if neither is there."""
    scheme = urllib.parse.urlsplit(place).scheme if "://" in place else ""
    if scheme in {"http", "https"}:
        return Web(place)
    if scheme:
        raise Unavailable("bundle", f"{scheme} is neither http nor https nor a folder")
    return Folder(place)


class Folder:
    """A folder; what is no plain file is listed in `strange` and never opened."""

    def __init__(self, place: str) -> None:
        self.name = place
        self.paths: set[str] | None = set()
        self.strange: dict[str, str] = {}
        try:
            self._walk(place, "", 0)
        except (OSError, ValueError) as error:
            raise Unavailable("bundle", f"{place} cannot be read: {error}") from None

    def _walk(self, place: str, below: str, depth: int) -> None:
        assert self.paths is not None
        with os.scandir(place) as entries:
            for entry in entries:
                path = below + entry.name
                if entry.is_symlink():
                    self.strange[path] = "a symbolic link"
                elif entry.is_dir(follow_symlinks=False):
                    if depth >= _MOST_DEPTH:
                        self.strange[path] = f"a folder {depth} folders deep"
                    else:
                        self._walk(entry.path, path + "/", depth + 1)
                elif entry.is_file(follow_symlinks=False):
                    self.paths.add(path)
                else:
                    self.strange[path] = "neither a file nor a folder"

    def _open(self, path: str) -> IO[bytes] | None:
        assert self.paths is not None
        if path not in self.paths:
            return None
        try:
            # Between listing and opening it may have become something else: never follow, never wait.
            handle = os.open(os.path.join(self.name, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # noqa: PTH118
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                return None
            return os.fdopen(handle, "rb")
        except OSError as error:
            raise Unavailable("bundle", f"{path} cannot be read: {error}") from None

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, or None if there is none."""
        opened = self._open(path)
        if opened is None:
            return None
        with opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            reject("D1", path, f"more than {MOST_BYTES} bytes")
        return content

    def digest(self, path: str) -> bytes | None:
        """The SHA-256 of a file of any size."""
        opened = self._open(path)
        if opened is None:
            return None
        found = sha256()
        with opened:
            while chunk := opened.read(_CHUNK):
                found.update(chunk)
        return found.digest()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address that sends us elsewhere is not the address that was named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def fetch(request: urllib.request.Request | str, service: str) -> bytes | None:
    """The body of an answer, None for 404 or 410, or Unavailable; at most MOST_BYTES and FILE_S seconds."""
    until = time.monotonic() + FILE_S
    content = bytearray()
    try:
        with _opener.open(request, timeout=CONNECT_S) as answer:
            while chunk := answer.read1(_CHUNK):
                content += chunk
                if len(content) > MOST_BYTES:
                    raise Unavailable(service, f"sent more than {MOST_BYTES} bytes")
                if time.monotonic() > until:
                    raise Unavailable(service, f"took more than {FILE_S} s")
            if answer.length:
                raise Unavailable(service, f"{answer.length} bytes of the answer are missing")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in {404, 410}:
            return None
        raise Unavailable(service, f"answered {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(service, f"did not answer: {type(error).__name__}: {error}") from None
    return bytes(content)


class Web:
    """A bundle behind an address: only what is asked for by name can be seen."""

    def __init__(self, address: str) -> None:
        self.name = address
        self.paths: set[str] | None = None
        self._base = address.rstrip("/") + "/"

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, or None if there is none."""
        try:
            return fetch(self._base + urllib.parse.quote(path), path)
        except UnicodeError as error:
            raise Unavailable(self.name, f"is no address: {error}") from None

    def digest(self, path: str) -> bytes | None:
        """The SHA-256 of a file."""
        content = self.read(path)
        return None if content is None else sha256(content).digest()
