"""A witness: cosigns each head of a log that extends the last one it saw (C2SP tlog-witness).

It replays nothing and needs no chain: its one promise is that it never signs two histories.
So strangers can run one, and a log that shows different heads to different people is found
out (LEAKS 22). Beside it stands the client that asks such a witness.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.proof import (
    COSIGNATURE,
    ML_DSA_44,
    Checkpoint,
    Verifier,
    check_checkpoint,
    check_extension,
    format_add_checkpoint,
    format_checkpoint,
    format_note,
    parse_add_checkpoint,
    parse_checkpoint,
    parse_note,
    sign,
)
from ledger.records import Invalid, Unavailable

LOGGER = logging.getLogger(__name__)
BODY_LIMIT_BYTES = 64 * 1024
TIMEOUT_S = 10
SIZE_TYPE = "text/x.tlog.size"


@dataclass(frozen=True)
class Answer:
    """An answer to add-checkpoint: signature lines with 200, the known size with 409, else a reason."""

    status: int
    body: bytes
    media_type: str = "text/plain; charset=utf-8"


class Witness:
    """Cosigns under one name for the logs that it knows. folder: what it has signed, a file a log."""

    def __init__(
        self,
        name: str,
        keys: Sequence[Ed25519PrivateKey | MLDSA44PrivateKey],
        logs: Sequence[Sequence[Verifier]],
        folder: Path,
        clock: Callable[[], int],
    ) -> None:
        self.name, self._keys, self._clock, self._folder = name, keys, clock, folder
        self._logs = {verifiers[0].name: verifiers for verifiers in logs}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def verifiers(self) -> list[Verifier]:
        """The public half of its keys."""
        return [Verifier(self.name, _type(key), key.public_key().public_bytes_raw()) for key in self._keys]

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosign a checkpoint whose tree extends the last that was seen, and remember it first."""
        try:
            old_size, path, note = parse_add_checkpoint(body)
            origin = parse_checkpoint(parse_note(note)[0]).origin
        except Invalid as error:
            return _refusal(400, error)
        if origin not in self._logs:
            return Answer(404, b"this witness does not know the log\n")
        try:
            checkpoint, _ = check_checkpoint(note, self._logs[origin])
        except Invalid as error:
            return _refusal(403, error)
        if old_size > checkpoint.size:
            return Answer(400, f"old {old_size} is above {checkpoint.size}\n".encode())
        with self._lock:
            return self._extend(old_size, path, checkpoint)

    def _extend(self, old_size: int, path: Sequence[bytes], checkpoint: Checkpoint) -> Answer:
        place = self._folder / f"{_file_name(checkpoint.origin)}.json"
        with place.with_suffix(".lock").open("w") as lock:
            # Another process of the same witness must not sign from the same old head.
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _load(place, checkpoint.origin)
            if old_size != known.size:
                return Answer(409, f"{known.size}\n".encode(), SIZE_TYPE)
            try:
                check_extension(known, checkpoint, path)
            except Invalid as error:
                return _refusal(422, error)
            # Dies after this and before the answer: the log asks again from 409's size, with an empty proof.
            _save(place, checkpoint)
        text = format_checkpoint(checkpoint)
        lines = tuple(sign(text, self.name, _type(key), key, self._clock()) for key in self._keys)
        return Answer(200, format_note((text, lines))[len(text.encode()) + 1 :])

    def serve(self, port: int = 0) -> ThreadingHTTPServer:
        """Answer POST /add-checkpoint on loopback in a thread; the caller shuts it down."""
        witness = self

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT_S

            def do_POST(self) -> None:
                """Answer one request of a size that was announced and is allowed."""
                length = self.headers.get("Content-Length", "")
                if self.path != "/add-checkpoint" or not (length.isascii() and length.isdigit()):
                    answer = Answer(404 if self.path != "/add-checkpoint" else 411, b"")
                elif int(length) > BODY_LIMIT_BYTES:
                    answer = Answer(413, b"")
                else:
                    answer = witness.add_checkpoint(self.rfile.read(int(length)))
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.media_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:
                """Tell it to the log and not to the console."""
                LOGGER.debug(format, *args)

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        # Asked often, so that closing does not wait half a second.
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


def _type(key: Ed25519PrivateKey | MLDSA44PrivateKey) -> int:
    return ML_DSA_44 if isinstance(key, MLDSA44PrivateKey) else COSIGNATURE


def _refusal(status: int, error: Invalid) -> Answer:
    return Answer(status, f"{error}\n".encode())


def _file_name(origin: str) -> str:
    return origin.encode().hex()


def _load(place: Path, origin: str) -> Checkpoint:
    if not place.exists():
        return Checkpoint(origin, 0, b"")
    told = json.loads(place.read_text())
    return Checkpoint(origin, int(told["size"]), bytes.fromhex(told["root"]))


def _save(place: Path, checkpoint: Checkpoint) -> None:
    beside = place.with_suffix(".new")
    with beside.open("w") as handle:
        json.dump({"size": str(checkpoint.size), "root": checkpoint.root.hex()}, handle)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        # A rename that a power cut takes back would let the witness sign another history.
        os.fsync(folder)
    finally:
        os.close(folder)


# --- asking one -------------------------------------------------------------------------


def post(url: str, body: bytes) -> Answer:
    """Bring a request to the witness at a URL; Unavailable where it does not answer."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", f"{parts.path.rstrip('/')}/add-checkpoint", body)
        response = connection.getresponse()
        return Answer(response.status, response.read(BODY_LIMIT_BYTES))
    except (OSError, HTTPException) as error:
        raise Unavailable("witness", f"{url}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def ask(
    url: str,
    note: bytes,
    old_size: int,
    consistency: Callable[[int], Sequence[bytes]],
    post: Callable[[str, bytes], Answer] = post,
) -> bytes:
    """Ask the witness at a URL to cosign a note; returns its signature lines, checked by nobody yet.

    consistency: the path from an old size to the note's; post: what brings a request there. A
    witness that knows another size says so once, and is asked again from there. Invalid where it
    refuses, Unavailable where it is away.
    """
    for _ in range(2):
        path = consistency(old_size) if old_size else []
        answer = post(url, format_add_checkpoint((old_size, path, note)))
        if answer.status == 200:
            return answer.body
        size = parse_checkpoint(parse_note(note)[0]).size
        text = answer.body[:32].decode("ascii", "replace").strip()
        if answer.status != 409 or not text.isdigit() or int(text) > size:
            why = answer.body[:200].decode("utf-8", "replace").strip()
            raise Invalid("witness", url, f"answered {answer.status}: {why}")
        old_size = int(text)
    raise Invalid("witness", url, f"named the size {old_size} and refused it when asked from there")
