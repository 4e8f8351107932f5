"""Speaking with a mail server: one connection for a handful of letters, encrypted wherever that can be.

What goes wrong is told by number alone: a server's words often repeat the address that they are about.
"""

from __future__ import annotations

import ipaddress
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final
from urllib.parse import unquote, urlsplit

from ledger.records import Unavailable, reject

PORTS: Final = {"smtp": 587, "smtps": 465}
# For each answer of the server, and for all of a connection: a server that sends a byte a second ends too.
ANSWER_S: Final = 15.0
CONNECTION_S: Final = 60.0
READY: Final = 220
SETTING: Final = "QAZYNA_SMTP_URL"


@dataclass(frozen=True)
class Server:
    """Where letters are handed over. is_encrypted: from the first byte (smtps); else by STARTTLS."""

    host: str
    port: int
    is_encrypted: bool
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether nobody stands between."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_server(url: str) -> Server:
    """Read smtp://user:pass@host:port, or smtps://; Invalid, without repeating what is secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        reject("settings", SETTING, "smtp://user:pass@host:port is needed, with % codes where needed")
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        reject("settings", SETTING, "smtp:// or smtps://, user:password@ where they are needed, host, port")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Server(parts.hostname, port or PORTS[parts.scheme], parts.scheme == "smtps", user, password)


class Refused(Exception):
    """The server did not take this one letter; code: its answer, 0 where it broke off."""

    def __init__(self, code: int) -> None:
        super().__init__(f"SMTP {code}" if code else "the connection broke")
        self.code = code


@dataclass(frozen=True)
class Post:
    """Hands letters over. is_strict: as production needs it, nothing leaves this machine unencrypted."""

    server: Server
    is_strict: bool
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    answer_s: float = ANSWER_S
    connection_s: float = CONNECTION_S

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """An open connection; Unavailable where there is none, or none that may be used."""
        made = self._unconnected()
        # Whatever else happens, the socket is shut then, and whoever reads from it goes on.
        timer = threading.Timer(self.connection_s, _shut, [made])
        timer.daemon = True
        timer.start()
        try:
            try:
                self._greet(made)
            except (OSError, smtplib.SMTPException) as error:
                raise Unavailable("mail server", f"{self.server.host}: {_told(error)}") from None
            yield Connection(made)
            # What it took it has taken, whatever it says now.
            with suppress(OSError, smtplib.SMTPException):
                made.quit()
        finally:
            timer.cancel()
            made.close()

    def _unconnected(self) -> smtplib.SMTP:
        made: smtplib.SMTP
        if self.server.is_encrypted:
            made = smtplib.SMTP_SSL(timeout=self.answer_s, context=self.context)
        else:
            made = smtplib.SMTP(timeout=self.answer_s)
        # Whose certificate is expected; the library notes it only where it connects at once, and then
        # nobody could end a greeting that never ends.
        made._host = self.server.host  # type: ignore[attr-defined]  # noqa: SLF001
        return made

    def _greet(self, made: smtplib.SMTP) -> None:
        server, is_secure = self.server, self.server.is_encrypted
        code, words = made.connect(server.host, server.port)
        if code != READY:
            raise smtplib.SMTPConnectError(code, words)
        made.ehlo_or_helo_if_needed()
        if not is_secure and made.has_extn("starttls"):
            made.starttls(context=self.context)
            made.ehlo()
            is_secure = True
        if not is_secure and not server.is_loopback and (self.is_strict or server.user):
            raise Unavailable("mail server", f"{server.host} offers no encryption, so it is told nothing")
        if server.user:
            made.login(server.user, server.password)


@dataclass(frozen=True)
class Connection:
    """An open connection."""

    made: smtplib.SMTP

    def send(self, message: EmailMessage, sender: str, recipient: str) -> None:
        """Hand one letter over; Refused where the server did not say that it took it."""
        try:
            self.made.send_message(message, sender, [recipient])
        except (OSError, smtplib.SMTPException) as error:
            raise Refused(_code(error)) from None

    @property
    def is_open(self) -> bool:
        """Whether another letter can be handed over; forgets what the last one left behind."""
        try:
            return self.made.rset()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False


def _shut(made: smtplib.SMTP) -> None:
    if made.sock is not None:
        # It may have been closed meanwhile.
        with suppress(OSError):
            made.sock.shutdown(socket.SHUT_RDWR)


def _code(error: Exception) -> int:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return next(iter(error.recipients.values()))[0]
    return error.smtp_code if isinstance(error, smtplib.SMTPResponseException) else 0


def _told(error: Exception) -> str:
    code = _code(error)
    return f"SMTP {code}" if code > 0 else type(error).__name__
