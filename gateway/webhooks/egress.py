"""Requests to addresses that a merchant chose, kept away from our own network (SSRF).

The URL is parsed once, the name is resolved once, every address that it has must be
public, and the connection goes to that very address, so that a second answer of the
name server changes nothing. A connection is used again for a while, at the address that
was checked when it was made. Redirects are answers like any other. The response's body
is read to be polite and forgotten: what a server says never reaches the merchant.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
from typing_extensions import override

from ledger.records import Unavailable, reject

TIMEOUT_S: Final = 20
RESPONSE_MAX: Final = 64 * 1024
PORTS: Final = frozenset({443, 8443})
# How long a checked address may serve before the name is asked again, and a connection may wait unused.
REUSE_S: Final = 60
IDLE_S: Final = 15
KEPT_PER_PLACE: Final = 8
KEPT_MAX: Final = 512
URL_MAX: Final = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Iterable[str]]

_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Unicast IPv6 that the world routes lies in 2000::/3. So NAT64 (64:ff9b::/96 and 64:ff9b:1::/48),
# IPv4-mapped and IPv4-compatible addresses, unique local, link-local and multicast are outside.
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# From IANA's special-purpose registries: IPv4 with multicast and reserved, and one cloud's metadata
# service on an address that looks public; then what is special inside 2000::/3: protocol
# assignments with Teredo, documentation, 6to4, AS112.
_REFUSED_TEXT: Final = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15
    198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32
    2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
"""
_REFUSED: Final[tuple[Network, ...]] = tuple(map(ipaddress.ip_network, _REFUSED_TEXT.split()))


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the open Internet and hides no other address."""
    if isinstance(address, ipaddress.IPv6Address):
        # ISATAP carries an IPv4 address behind 0:5efe or 200:5efe in any prefix.
        isatap = (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE
        if address not in _UNICAST or address.scope_id is not None or isatap:
            return False
    return not any(address in network for network in _REFUSED)


def resolve_by_system(host: str, port: int) -> list[str]:
    """Ask the system's resolver for the addresses of a host."""
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Target:
    """A URL that was parsed and may be kept; only `Egress.parse` makes one."""

    url: str
    scheme: str
    authority: str
    host: str
    port: int
    path: str
    literal: bool = False


@dataclass(frozen=True)
class Answer:
    """The status of a response, and the wait that it asked for."""

    status: int
    retry_after_s: int | None


@cache
def trusted_by_the_system() -> ssl.SSLContext:
    """Whom this machine trusts, read once: there are many hundred certificates."""
    return ssl.create_default_context()


class Egress:
    """Sends requests out, by one policy.

    allow: networks of the operator's own that may be reached all the same, by http and on
    any port; empty in production.
    """

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        ports: frozenset[int] = PORTS,
        timeout_s: float = TIMEOUT_S,
        resolve: Resolver = resolve_by_system,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow = tuple(ipaddress.ip_network(text) for text in allow)
        self._ports = ports
        self._timeout_s = timeout_s
        self._resolve = resolve
        self._tls = tls or trusted_by_the_system()
        self._kept = _Kept()

    def parse(self, url: str) -> Target:
        """Take a URL apart, refusing what two parsers could read in two ways; no look-up is made."""
        if len(url) > URL_MAX:
            reject("webhook-url", "url", f"{len(url)} characters, at most {URL_MAX}")
        if not re.fullmatch(r"[!-~]+", url) or re.search(r'[\\#<>"^`{|}]', url):
            reject("webhook-url", "url", "only visible ASCII, without a fragment, can stand in it")
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        except ValueError:
            reject("webhook-url", "url", "it cannot be parsed")
        if scheme != "https" and not (scheme == "http" and self._allow):
            reject("webhook-url", "scheme", f"https is wanted, not {scheme or 'nothing'}")
        if "@" in parts.netloc or parts.netloc.endswith(":"):
            reject("webhook-url", "host", "a user name, a password or an empty port cannot stand in it")
        is_numeric = bool(_NUMBER.fullmatch(host.rsplit(".", 1)[-1]))
        if parts.netloc.startswith("["):
            _literal(host, 6)
        elif is_numeric:
            _literal(host, 4)  # 127.1, 0x7f.1 and 2130706433 are addresses for some and names for others
        elif not _NAME.fullmatch(host):
            reject("webhook-url", "host", "it is neither a name nor an address")
        if port is None:
            port = 443 if scheme == "https" else 80
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        literal = is_numeric or parts.netloc.startswith("[")
        return Target(url, scheme, parts.netloc, host, port, path, literal)

    def addresses(self, target: Target) -> list[str]:
        """Resolve a target, refusing it unless each of its addresses may be reached."""
        found = self._look_up(target)
        for text in found:
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise Unavailable("dns", f"{target.host} has an unreadable address") from None
            if any(address in network for network in self._allow):
                continue
            # One bad address spoils the name: otherwise the attacker lets chance choose.
            if not is_public(address):
                # The address itself is not told: the merchant would read our own name server with it.
                reject("webhook-address", target.host, "it has an address that is not public")
            if target.scheme != "https":
                reject("webhook-url", "scheme", "https is wanted, not http")
            if target.port not in self._ports:
                reject("webhook-url", "port", f"{target.port} is not one of {sorted(self._ports)}")
        return found

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body to a URL and tell the status; at most `timeout_s` in all.

        Raises Invalid where the policy refuses, Unavailable where no status came. Where a kept connection
        turns out to be closed the body is sent once more on a new one, and so may arrive twice.
        """
        deadline = time.monotonic() + self._timeout_s
        target = self.parse(url)
        sent = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": "Qazyna-Webhooks/1",
            **headers,
        }
        location = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        request = httpcore.Request("POST", location, headers=list(sent.items()), content=body)
        place = (target.scheme, target.host, target.port)
        try:
            kept = self._kept.take(place, deadline)
            if kept is not None:
                with contextlib.suppress(OSError, httpcore.NetworkError, httpcore.ProtocolError):
                    return self._exchange(place, kept, request)
                _left(deadline)
            return self._exchange(place, self._connect(target, deadline), request)
        except _TRANSPORT_ERRORS as error:
            raise Unavailable("webhook", type(error).__name__) from None

    def _connect(self, target: Target, deadline: float) -> _Line:
        stream = _connect_pinned(self.addresses(target), target.port, deadline)
        try:
            if target.scheme == "https":
                stream = stream.start_tls(self._tls, target.host)
        except _TRANSPORT_ERRORS:
            stream.close()
            raise
        origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
        return _Line(httpcore.HTTP11Connection(origin, stream), stream, time.monotonic())

    def _exchange(self, place: Place, line: _Line, request: httpcore.Request) -> Answer:
        is_whole = False
        try:
            response = line.connection.handle_request(request)
            is_whole = _drain(response)
            response.close()
            return Answer(response.status, _retry_after_s(response.headers))
        finally:
            # A body that was not read to its end would be read as the next answer.
            if is_whole and line.connection.is_available():
                self._kept.give(place, line)
            else:
                line.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        self._kept.close()

    def _look_up(self, target: Target) -> list[str]:
        if target.literal:
            return [target.host]
        # The system's resolver knows no time-out, so it runs beside us and may be left behind.
        answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(list(dict.fromkeys(self._resolve(target.host, target.port))))
            except (OSError, UnicodeError) as error:
                answers.put(OSError(str(error)))

        threading.Thread(target=ask, daemon=True).start()
        try:
            found = answers.get(timeout=self._timeout_s)
        except queue.Empty:
            raise Unavailable("dns", f"no answer for {target.host} in {self._timeout_s} s") from None
        if isinstance(found, OSError) or not found:
            raise Unavailable("dns", f"{target.host} has no address")
        return found


Place = tuple[str, str, int]


@dataclass
class _Line:
    """A connection to an address that was checked, and when that was."""

    connection: httpcore.HTTP11Connection
    stream: _Stream
    made_s: float
    used_s: float = 0.0

    def close(self) -> None:
        with contextlib.suppress(*_TRANSPORT_ERRORS, RuntimeError):
            self.connection.close()


class _Kept:
    """Connections that wait for the next event to the same place."""

    def __init__(self) -> None:
        self._lines: dict[Place, list[_Line]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def take(self, place: Place, deadline: float) -> _Line | None:
        """The one used last that is still good; its waits end at the new deadline."""
        now = time.monotonic()
        with self._lock:
            lines = self._lines.get(place, [])
            while lines:
                line = lines.pop()
                self._count -= 1
                is_young = now - line.made_s < REUSE_S and now - line.used_s < IDLE_S
                if is_young and not line.connection.has_expired():
                    line.stream.deadline = deadline
                    return line
                line.close()
            self._lines.pop(place, None)
        return None

    def give(self, place: Place, line: _Line) -> None:
        """Keep a connection; the oldest of all goes where there are too many."""
        line.used_s = time.monotonic()
        with self._lock:
            lines = self._lines.setdefault(place, [])
            lines.append(line)
            self._count += 1
            if len(lines) > KEPT_PER_PLACE:
                lines.pop(0).close()
                self._count -= 1
            if self._count > KEPT_MAX:
                # Places stand in the order of their first connection.
                oldest = next(iter(self._lines))
                gone = self._lines.pop(oldest)
                self._count -= len(gone)
                for one in gone:
                    one.close()

    def close(self) -> None:
        with self._lock:
            for lines in self._lines.values():
                for line in lines:
                    line.close()
            self._lines, self._count = {}, 0


def _connect_pinned(addresses: Sequence[str], port: int, deadline: float) -> _Stream:
    """Connect to the first of these addresses that answers."""
    failure: OSError = OSError("no address")
    for tries, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            connection = socket.create_connection((address, port), _left(deadline) / tries)
            # Headers and body are two writes: the second must not wait for the other side's delayed word.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _Stream(connection, deadline)
        except OSError as error:
            failure = error
    raise failure


class _Stream(httpcore.NetworkStream):
    """A socket whose every wait ends at one deadline, so that slow drops cannot add up."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self.deadline = deadline

    @override
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._socket.settimeout(_left(self.deadline))
        return self._socket.recv(max_bytes)

    @override
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        while buffer:
            self._socket.settimeout(_left(self.deadline))
            buffer = buffer[self._socket.send(buffer) :]

    @override
    def close(self) -> None:
        self._socket.close()

    @override
    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> _Stream:
        self._socket.settimeout(_left(self.deadline))
        secured = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        return _Stream(secured, self.deadline)

    @override
    def get_extra_info(self, info: str) -> Any:
        # What is readable though nothing was asked is the other side hanging up, or worse.
        if info == "is_readable":
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return None


_TRANSPORT_ERRORS: Final = (
    OSError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the request is over")
    return left


def _drain(response: httpcore.Response) -> bool:
    # The status has been said: a body that is too long or too slow only ends the reading.
    taken = 0
    with contextlib.suppress(*_TRANSPORT_ERRORS):
        for chunk in response.iter_stream():
            taken += len(chunk)
            if taken >= RESPONSE_MAX:
                return False
        return True
    return False


def _retry_after_s(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name.lower() == b"retry-after" and re.fullmatch(rb"[0-9]{1,9}", value):
            return int(value)
    return None


def _literal(host: str, version: int) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or address.version != version or "%" in host:
        reject("webhook-url", "host", f"it is not an IPv{version} address in its usual form")
