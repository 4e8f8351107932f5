"""Requests to the API: each write has an Idempotency-Key, and is tried again with it until it is answered."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import httpx

from gateway.client.answers import (
    Event,
    Invoice,
    Key,
    Link,
    NewInvoice,
    Page,
    Refund,
    StatementLine,
    read,
    read_event,
)
from gateway.client.errors import ApiError, NotAnswered

TRIES = 5
WAIT_S = 0.2
WAIT_MOST_S = 30.0
TIMEOUT_S = 20.0


class Client:
    """A merchant's door to the gateway. address: https://...; key: qz_..., sent in a header and nowhere else.

    http: another transport, for tests; wait: how to sleep.
    """

    def __init__(
        self,
        address: str,
        key: str,
        *,
        http: httpx.Client | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._http = http or httpx.Client(base_url=address, timeout=TIMEOUT_S)
        self._headers, self._wait = {"Authorization": f"Bearer {key}"}, wait

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- invoices -------------------------------------------------------------------

    def create_invoice(self, invoice: NewInvoice, idempotency_key: str | None = None) -> Invoice:
        """Make an invoice. Keep an idempotency_key of your own where the program may die in between."""
        body = {name: value for name, value in asdict(invoice).items() if value is not None}
        return read(Invoice, self._write("POST", "/v1/invoices", body, idempotency_key))

    def invoice(self, id: str) -> Invoice:
        """One invoice as it is now."""
        return read(Invoice, self._ask("GET", f"/v1/invoices/{id}"))

    def invoices(self, after: str | None = None, limit: int = 50) -> Page[Invoice]:
        """A page of invoices, newest first."""
        told = self._list("/v1/invoices", after, limit)
        return Page([read(Invoice, one) for one in told["invoices"]], told["next"])

    def all_invoices(self) -> Iterator[Invoice]:
        """All invoices, newest first, asked for a page at a time."""
        after: str | None = None
        while True:
            page = self.invoices(after, 200)
            yield from page.items
            if (after := page.next) is None:
                return

    def void_invoice(self, id: str, idempotency_key: str | None = None) -> Invoice:
        """Withdraw an invoice."""
        return read(Invoice, self._write("POST", f"/v1/invoices/{id}/void", None, idempotency_key))

    def pay_in_sandbox(self, id: str, amount: str | None = None, stage: str = "final") -> Invoice:
        """Pretend, with a sandbox key, that money came: by default all that is missing."""
        body = {"stage": stage} | ({} if amount is None else {"amount": amount})
        return read(Invoice, self._write("POST", f"/v1/invoices/{id}/test-payment", body, None))

    # --- refunds --------------------------------------------------------------------

    def request_refund(
        self,
        invoice: str,
        amount: str,
        idempotency_key: str,
        *,
        to: str | None = None,
        signature: str | None = None,
        evidence: str | None = None,
        why: str = "",
    ) -> Refund:
        """Ask for a refund. The key is yours to keep: a refund moves money, and must happen once.

        evidence: which money goes back; None: first what does not count, as a late duplicate.
        """
        body: dict[str, Any] = {"amount": amount, "to": to, "signature": signature, "why": why}
        body |= {} if evidence is None else {"evidence": evidence}
        return read(Refund, self._write("POST", f"/v1/invoices/{invoice}/refunds", body, idempotency_key))

    def approve_refund(self, id: str) -> Refund:
        """Let a refund go."""
        return read(Refund, self._write("POST", f"/v1/refunds/{id}/approve", None, None))

    def name_refund_transaction(self, id: str, transaction: str) -> Refund:
        """Say by which transaction (0x and its hash) your wallet sent a refund in the chain's coin."""
        return read(
            Refund, self._write("POST", f"/v1/refunds/{id}/transaction", {"transaction": transaction}, None)
        )

    def refund(self, id: str) -> Refund:
        """One refund as it is now."""
        return read(Refund, self._ask("GET", f"/v1/refunds/{id}"))

    # --- an operator's: the city's own refunds ------------------------------------------

    def refund_bill(
        self,
        invoice: str,
        amount: str,
        idempotency_key: str,
        *,
        why: str,
        evidence: str | None = None,
        iban: str | None = None,
    ) -> Refund:
        """Ask that money of a bill goes back; tenge to the account that they came from.

        iban: only where the bank told no account. The key is yours to keep: it must happen once.
        """
        body = {"invoice": invoice, "amount": amount, "why": why, "evidence": evidence, "iban": iban}
        return read(Refund, self._write("POST", "/v1/unmatched/refunds", body, idempotency_key))

    def approve_city_refund(self, id: str) -> Refund:
        """Let a refund of the city go."""
        return read(Refund, self._write("POST", f"/v1/unmatched/refunds/{id}/approve", None, None))

    def cancel_city_refund(self, id: str, why: str) -> Refund:
        """Let a refund of the city not go, before the money went; it can then be asked for again."""
        return read(Refund, self._write("POST", f"/v1/unmatched/refunds/{id}/cancel", {"why": why}, None))

    # --- links, statements --------------------------------------------------------------

    def create_link(
        self,
        title: str,
        asset: str,
        amount: str | None = None,
        *,
        reusable: bool = True,
        expires_s: int | None = None,
        idempotency_key: str | None = None,
    ) -> Link:
        """Make a payment link; amount None: the payer says how much."""
        body = {
            "title": title,
            "asset": asset,
            "amount": amount,
            "reusable": reusable,
            "expires_s": expires_s,
        }
        return read(Link, self._write("POST", "/v1/payment-links", body, idempotency_key))

    def statement(self, since_s: int, until_s: int) -> Iterator[StatementLine]:
        """All final money of an interval, oldest first."""
        after: str | None = None
        while True:
            asked = {"since_s": since_s, "until_s": until_s} | ({} if after is None else {"after": after})
            told = self._ask("GET", "/v1/statements", query=asked)
            yield from (read(StatementLine, one) for one in told["lines"])
            if (after := told["next"]) is None:
                return

    # --- keys and webhooks --------------------------------------------------------------

    def create_key(
        self,
        role: str = "owner",
        *,
        name: str = "",
        scopes: list[str] | None = None,
        sandbox: bool = False,
        lifetime_s: int | None = None,
        idempotency_key: str | None = None,
    ) -> Key:
        """Make a key that may do no more than yours, and never ends after it."""
        body = {
            "role": role, "name": name, "scopes": scopes, "sandbox": sandbox, "lifetime_s": lifetime_s,
        }  # fmt: skip
        return read(Key, self._write("POST", "/v1/keys", body, idempotency_key))

    def create_endpoint(
        self, url: str, scheme: str = "v1", idempotency_key: str | None = None
    ) -> tuple[str, str]:
        """Register where webhooks go; gives its id and the secret to check them with, shown this once."""
        told = self._write("POST", "/v1/webhook-endpoints", {"url": url, "scheme": scheme}, idempotency_key)
        return told["id"], told["secret"]

    def send_test_event(self, endpoint: str) -> str:
        """Have a test event sent to an endpoint; gives its id."""
        return str(self._write("POST", f"/v1/webhook-endpoints/{endpoint}/test", None, None)["event"])

    def events(self, after: str | None = None, limit: int = 50) -> Page[Event]:
        """A page of events, newest first, and what became of each."""
        told = self._list("/v1/events", after, limit)
        return Page([read_event(one) for one in told["events"]], told["next"])

    def redeliver(self, event: str, endpoint: str) -> None:
        """Have an event sent once more."""
        self._write("POST", f"/v1/events/{event}/redeliver", {"endpoint": endpoint}, None)

    # --- asking -----------------------------------------------------------------------

    def _list(self, path: str, after: str | None, limit: int) -> dict[str, Any]:
        return self._ask("GET", path, query={"limit": limit} | ({} if after is None else {"after": after}))

    def _write(self, method: str, path: str, body: dict[str, Any] | None, key: str | None) -> dict[str, Any]:
        return self._ask(method, path, body=body, key=key or secrets.token_urlsafe(18))

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Ask, and ask again what may be asked again: reads, and writes under their key."""
        headers = self._headers | ({} if key is None else {"Idempotency-Key": key})
        why = ""
        for attempt in range(TRIES):
            try:
                answer = self._http.request(method, path, json=body, params=query, headers=headers)
            except httpx.TransportError as error:
                why, pause = f"{type(error).__name__}: {error}", WAIT_S * 2**attempt
            else:
                if answer.is_success:
                    told: dict[str, Any] = answer.json() if answer.content else {}
                    return told
                refused = _error(answer)
                if not _is_passing(refused) or attempt == TRIES - 1:
                    raise refused
                pause = WAIT_S * 2**attempt if refused.retry_after_s is None else refused.retry_after_s
            if attempt < TRIES - 1:
                self._wait(min(pause, WAIT_MOST_S))
        raise NotAnswered(f"asked {TRIES} times: {why}", key)


def _is_passing(error: ApiError) -> bool:
    return error.status in {429, 500, 502, 503, 504} or error.rule == "busy"


def _error(answer: httpx.Response) -> ApiError:
    after = answer.headers.get("Retry-After", "")
    retry_after_s = int(after) if after.isascii() and after.isdigit() else None
    try:
        told = answer.json()
        return ApiError(answer.status_code, told["rule"], told["where"], told["why"], retry_after_s)
    except (ValueError, KeyError, TypeError):
        # Something between us and the gateway answered.
        return ApiError(answer.status_code, "http", str(answer.url.path), answer.reason_phrase, retry_after_s)
