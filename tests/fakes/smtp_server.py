"""An SMTP server on loopback (RFC 5321, STARTTLS, AUTH PLAIN) that remembers letters and can misbehave."""

from __future__ import annotations

import base64
import contextlib
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from enum import Enum, auto
from typing import Self


class Misbehaviour(Enum):
    """How it answers what it should not."""

    NONE = auto()
    BUSY = auto()  # 421 instead of a greeting
    GREYLISTS = auto()  # 451 to each recipient
    UNKNOWN = auto()  # 550 to each recipient, with its address in the words
    DROPS_BEFORE = auto()  # closes when the letter's data would come
    DROPS_AFTER = auto()  # takes the letter, and closes without saying so
    DRIPS = auto()  # a byte of the greeting at a time, for ever
    HANGS_AFTER = auto()  # takes the letter and says nothing


@dataclass
class Taken:
    """A letter that arrived, by its envelope."""

    sender: str
    recipient: str
    message: EmailMessage
    was_encrypted: bool
    user: str


@dataclass
class SmtpServer:
    """Use it as a context. refuses: recipients that it never takes; tls: offered by STARTTLS where given."""

    tls: ssl.SSLContext | None = None
    password: str = ""
    misbehaves: Misbehaviour = Misbehaviour.NONE
    refuses: set[str] = field(default_factory=set)
    taken: list[Taken] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        told = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                told.connections += 1
                # Whoever spoke to us may go away.
                with contextlib.suppress(OSError), contextlib.closing(_Talk(told, self)) as talk:
                    talk.run()

        class Threads(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

        self._server = Threads(("127.0.0.1", 0), Handler)
        self.stopped = threading.Event()
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Talk:
    """One connection."""

    def __init__(self, server: SmtpServer, handler: socketserver.StreamRequestHandler) -> None:
        self.server, self.socket = server, handler.request
        self.read = handler.rfile
        self.user, self.sender, self.recipient, self.is_encrypted = "", "", "", False

    def close(self) -> None:
        if self.is_encrypted:
            self.read.close()
            self.socket.close()

    def say(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\r\n")

    def run(self) -> None:
        if self.server.misbehaves is Misbehaviour.BUSY:
            self.say("421 too busy for boss@cafe.example")
            return
        if self.server.misbehaves is Misbehaviour.DRIPS:
            while not self.server.stopped.wait(0.05):
                self.socket.sendall(b"2")
            return
        self.say("220 fake")
        while line := self.read.readline(1_000):
            word, _, rest = line.decode().strip().partition(" ")
            if not self.answer(word.upper(), rest):
                return

    def answer(self, word: str, rest: str) -> bool:
        """False: the connection ends."""
        match word:
            case "EHLO" | "HELO":
                offers = ["fake", "AUTH PLAIN"]
                if self.server.tls is not None and not self.is_encrypted:
                    offers.append("STARTTLS")
                last = offers.pop()
                self.say("\r\n".join([*(f"250-{one}" for one in offers), f"250 {last}"]))
            case "STARTTLS" if self.server.tls is not None:
                self.say("220 go on")
                self.socket = self.server.tls.wrap_socket(self.socket, server_side=True)
                self.read, self.is_encrypted = self.socket.makefile("rb"), True
            case "AUTH":
                _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
                self.user = user
                self.say("235 welcome" if password == self.server.password else "535 wrong")
            case "MAIL":
                self.sender = rest.partition("<")[2].partition(">")[0]
                self.say("250 ok")
            case "RCPT":
                self.recipient = rest.partition("<")[2].partition(">")[0]
                self.say(self.of_recipient())
            case "DATA":
                return self.data()
            case "RSET" | "NOOP":
                self.say("250 ok")
            case "QUIT":
                self.say("221 bye")
                return False
            case _:
                self.say("502 unknown")
        return True

    def of_recipient(self) -> str:
        if self.server.misbehaves is Misbehaviour.GREYLISTS:
            return "451 4.7.1 come again"
        if self.server.misbehaves is Misbehaviour.UNKNOWN or self.recipient in self.server.refuses:
            return f"550 no mailbox {self.recipient}"
        return "250 ok"

    def data(self) -> bool:
        how = self.server.misbehaves
        if how is Misbehaviour.DROPS_BEFORE:
            return False
        self.say("354 go on")
        lines = []
        while (line := self.read.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b"."))
        made = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(made, EmailMessage)
        self.server.taken.append(Taken(self.sender, self.recipient, made, self.is_encrypted, self.user))
        if how is Misbehaviour.DROPS_AFTER:
            return False
        if how is Misbehaviour.HANGS_AFTER:
            self.server.stopped.wait(120)
            return False
        self.say("250 taken")
        return True
