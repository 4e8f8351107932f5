"""A receiver of our webhooks, as a merchant could write it.

Three things make it right: the signature is checked over the bytes as they came; the id
is remembered in the transaction that does the work, so that an event which arrives twice
works once; and the answer is given after the commit, so that what was not done comes
again. It needs nothing of the gateway but how to check a signature.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final

from typing_extensions import override

from gateway.webhooks.signing import check_signature
from ledger.records import Invalid

BODY_MAX: Final = 64 * 1024


class Receiver:
    """Checks, remembers and handles each event once.

    keys: the `whsec_` secrets, or `whpk_` keys, that hold now; both during a rotation.
    handle: does the work through the connection that it is given, and does not commit.
    """

    def __init__(
        self,
        keys: Sequence[str],
        database: Path,
        handle: Callable[[sqlite3.Connection, bytes], object],
        clock: Callable[[], int],
    ) -> None:
        self._keys = keys
        self._database = database
        self._handle = handle
        self._clock = clock
        with closing(self._connect()) as connection:
            # Ids are kept for good: a redelivery may be asked for at any time.
            connection.execute("CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY) STRICT")

    def receive(self, headers: Mapping[str, str], body: bytes) -> int:
        """Take one request and give the status to answer: 204, or 401 where it is not from us."""
        try:
            check_signature(self._keys, headers, body, self._clock())
        except Invalid:
            return 401
        message_id = {name.lower(): value for name, value in headers.items()}["webhook-id"]
        with closing(self._connect()) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            fresh = connection.execute("INSERT OR IGNORE INTO received VALUES (?)", (message_id,)).rowcount
            if fresh:
                self._handle(connection, body)
        return 204

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Give a request handler for `http.server`."""
        receive = self.receive

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Answer one event."""
                length = self.headers.get("content-length", "")
                if not length.isascii() or not length.isdigit() or int(length) > BODY_MAX:
                    self.send_error(413)
                    return
                body = self.rfile.read(int(length))
                self.send_response(receive(dict(self.headers.items()), body))
                self.end_headers()

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet: a body or a signature has no place in a log."""

        return Handler

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._database, timeout=15, isolation_level=None)
