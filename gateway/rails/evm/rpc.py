"""JSON-RPC to one node, read strictly: whatever is not an answer of the standard's shape is no answer.

web3's formatters cost more than reading a log does, so that the rail asks for plain JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import count
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
from requests.exceptions import HTTPError, RequestException, Timeout
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from ledger.records import Unavailable

ANSWER_LIMIT_BYTES = 64 << 20
TIMEOUT_S = 10.0
LIMITED_CODE = -32005
TOO_MANY_REQUESTS = 429
RETRY_AFTER_LIMIT_S = 600
# How nodes and those who sell access to them say that a range of blocks holds too much.
_TOO_MUCH = re.compile(
    "(more than|exceed|too (large|big|many|wide)|limited to|maximum|up to).{0,60}"
    "(result|log|block|range|response|size)"
    "|(block range|range|response size|query).{0,60}(too|limit|exceed|more than|larger|max)"
    "|query timeout|timed? ?out",
    re.IGNORECASE | re.DOTALL,
)
_QUANTITY = re.compile("0x(0|[1-9a-f][0-9a-f]{0,63})")


class Refused(Exception):
    """A node answered with an error: it heard us, and will not do it."""

    def __init__(self, service: str, code: int, message: str, data: object = None) -> None:
        super().__init__(service, code, message)
        self.service, self.code, self.message, self.data = service, code, message, data

    def __str__(self) -> str:
        return f"{self.service}: {self.message} ({self.code})"


class Limited(Unavailable):
    """A node that was asked too often (field failure 07). retry_s: when it may be asked again, or 0."""

    def __init__(self, service: str, why: str, retry_s: float = 0) -> None:
        super().__init__(service, why)
        self.retry_s = retry_s


class TooMuch(Unavailable):
    """A node that will not, or could not in time, answer about so many blocks at once."""

    def __init__(self, service: str, why: str, *, timed_out: bool = False) -> None:
        super().__init__(service, why)
        self.timed_out = timed_out


class Node(Protocol):
    """One node. name: what people are shown; it holds no key that stands in an address."""

    name: str

    def ask(self, method: str, *parameters: object) -> Any:
        """The result; Refused with the node's own error, else Unavailable."""
        ...

    def ask_all(self, asked: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Results in the order of the questions; an error stands as Refused in its place."""
        ...


class HttpNode:
    """A node at an address. Its answers are bounded in size and in time."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self._url = url
        self._client = httpx.Client(timeout=timeout_s, trust_env=False, follow_redirects=False)
        self._numbers = count(1)

    def close(self) -> None:
        """Let go of its connections."""
        self._client.close()

    def ask(self, method: str, *parameters: object) -> Any:
        """The result of one question."""
        number = next(self._numbers)
        told = self._post({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters})
        return _result(self.name, told, number)

    def ask_all(self, asked: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """The results of many questions in one request."""
        if not asked:
            return []
        numbered = {next(self._numbers): (method, parameters) for method, parameters in asked}
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
            for number, (method, parameters) in numbered.items()
        ]
        told = self._post(body)
        if not isinstance(told, list):
            # Some nodes take no batches, and answer one error to all of it.
            return _one_by_one(self, asked)
        by_number = {answer.get("id"): answer for answer in told if isinstance(answer, dict)}
        return [_result_or_refusal(self.name, by_number.get(number), number) for number in numbered]

    def _post(self, body: object) -> Any:
        content = json.dumps(body).encode()
        chunks, size = [], 0
        try:
            request = {"content": content, "headers": {"content-type": "application/json"}}
            with self._client.stream("POST", self._url, **request) as answer:  # type: ignore[arg-type]
                _check_status(self.name, answer.status_code, answer.headers.get("retry-after"))
                for chunk in answer.iter_bytes():
                    size += len(chunk)
                    if size > ANSWER_LIMIT_BYTES:
                        raise TooMuch(self.name, f"an answer of more than {ANSWER_LIMIT_BYTES} bytes")
                    chunks.append(chunk)
        except httpx.TimeoutException as error:
            raise TooMuch(self.name, "no answer in time", timed_out=True) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Not the error's own text: an address can stand in it, and a key in the address.
            raise Unavailable(self.name, type(error).__name__) from error
        return _parse(self.name, b"".join(chunks))


class WebNode:
    """The node behind a Web3, or a chain in this process."""

    def __init__(self, web3: Web3, name: str = "") -> None:
        address = urlsplit(str(getattr(web3.provider, "endpoint_uri", "")))
        self.name = name or (f"{address.hostname}:{address.port}" if address.port else "chain")
        self._web3 = web3

    def ask(self, method: str, *parameters: object) -> Any:
        """The result of one question."""
        try:
            told: Any = self._web3.provider.make_request(RPCEndpoint(method), list(parameters))
        except HTTPError as error:
            response = error.response
            status = 0 if response is None else response.status_code
            retry = None if response is None else response.headers.get("retry-after")
            _check_status(self.name, status, retry)
            raise Unavailable(self.name, f"HTTP {status}") from error
        except Timeout as error:
            raise TooMuch(self.name, "no answer in time", timed_out=True) from error
        except (Web3Exception, RequestException, OSError, ValueError, TypeError) as error:
            raise Unavailable(self.name, type(error).__name__) from error
        return _result(self.name, told, None)

    def ask_all(self, asked: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """The results of many questions, one after the other."""
        return _one_by_one(self, asked)


def _one_by_one(node: Node, asked: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
    found: list[Any] = []
    for method, parameters in asked:
        try:
            found.append(node.ask(method, *parameters))
        except Refused as refused:
            found.append(refused)
    return found


def _check_status(name: str, status: int, retry_after: str | None) -> None:
    if status == TOO_MANY_REQUESTS:
        seconds = int(retry_after) if retry_after and re.fullmatch("[0-9]{1,6}", retry_after) else 0
        raise Limited(name, "limits how often it is asked (HTTP 429)", min(seconds, RETRY_AFTER_LIMIT_S))
    if status == 413:
        raise TooMuch(name, "HTTP 413")
    if status != 200:
        raise Unavailable(name, f"HTTP {status}")


def _parse(name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unavailable(name, f"answers what is no JSON: {content[:60]!r}") from error


def _result(name: str, told: Any, number: int | None) -> Any:
    found = _result_or_refusal(name, told, number)
    if isinstance(found, Refused):
        raise found
    return found


def _result_or_refusal(name: str, told: Any, number: int | None) -> Any:
    if not isinstance(told, dict) or (number is not None and told.get("id") != number):
        raise Unavailable(name, f"answers what is no JSON-RPC: {told!r:.80}")
    if told.get("error") is not None:
        return _refusal(name, told["error"])
    if "result" not in told:
        raise Unavailable(name, "answers neither a result nor an error")
    return told["result"]


def _refusal(name: str, error: Any) -> Refused:
    if not isinstance(error, dict):
        return Refused(name, 0, str(error)[:300])
    code, message = error.get("code"), str(error.get("message", ""))[:300]
    code = code if isinstance(code, int) else 0
    refused = Refused(name, code, message, error.get("data"))
    is_limit = code in {LIMITED_CODE, TOO_MANY_REQUESTS} or "rate limit" in message.lower()
    # Some say under the same code that too much was asked at once; that is for the range to answer.
    if is_limit and not is_too_much(refused):
        raise Limited(name, f"{message} ({code})")
    return refused


def is_too_much(refused: Refused) -> bool:
    """Whether a node refused a range of blocks because it holds too much."""
    return _TOO_MUCH.search(refused.message) is not None


# --- values ---------------------------------------------------------------------------


def quantity(value: object) -> int:
    """A quantity as nodes write it; ValueError for anything else."""
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        return int(value, 16)
    raise ValueError(f"no quantity: {value!r:.40}")


def data(value: object, size: int | None = None) -> bytes:
    """Bytes as nodes write them, of this size if one is given; ValueError for anything else."""
    if not isinstance(value, str) or value[:2] != "0x":
        raise ValueError(f"no bytes: {value!r:.40}")
    found = bytes.fromhex(value[2:])
    if size is not None and len(found) != size:
        raise ValueError(f"{len(found)} bytes, expected {size}")
    return found


def to_hex(value: int | bytes) -> str:
    """A quantity or bytes as nodes read them."""
    return hex(value) if isinstance(value, int) else "0x" + value.hex()
