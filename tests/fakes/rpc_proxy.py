"""A JSON-RPC proxy on loopback in front of a real node, which can be told to misbehave."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


class Refuse(Exception):
    """Answer with this HTTP status, and these headers."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, headers


class Cut(Exception):
    """Close the connection without an answer, after the node has done what it was asked."""


class Silence(Exception):
    """Do not answer, and do not ask the node."""


# Takes a method, its parameters and the node's answer, and gives what is told instead.
Wrong = Callable[[str, list[Any], dict[str, Any]], dict[str, Any]]


class RpcProxy:
    """Passes questions on. before: may raise before the node is asked; wrong: changes what it answered."""

    def __init__(self, target: str) -> None:
        self.before: Callable[[str, list[Any]], None] | None = None
        self.wrong: Wrong | None = None
        self.asked: list[str] = []
        self._target = urlsplit(target)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # One segment for headers and body: two would wait for an acknowledgement.
            wbufsize = -1

            def do_POST(self) -> None:
                proxy._answer(self)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        try:
            told = [self._one(asked) for asked in body] if isinstance(body, list) else self._one(body)
            status, headers, content = 200, {}, json.dumps(told).encode()
        except Refuse as refused:
            status, headers, content = refused.status, refused.headers, b"go away"
        except Cut:
            request.close_connection = True
            return
        except Silence:
            self._stopped.wait(5)
            request.close_connection = True
            return
        with contextlib.suppress(ConnectionError):
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)

    def _one(self, asked: dict[str, Any]) -> dict[str, Any]:
        method, parameters = asked["method"], asked.get("params", [])
        self.asked.append(method)
        if self.before is not None:
            self.before(method, parameters)
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        try:
            content = json.dumps(asked).encode()
            connection.request("POST", "/", content, {"content-type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer if self.wrong is None else self.wrong(method, parameters, answer)
