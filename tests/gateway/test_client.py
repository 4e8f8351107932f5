"""The client, and the documents' examples, against a real city over real HTTP."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import ApiError, Client, NewInvoice, NotAnswered, NotSigned, check_webhook
from gateway.demo import serving
from gateway.webhooks import signing
from tests.gateway.conftest import Town

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
ORDER = NewInvoice("1250000", "USDT", "order-1", "Tea")


@pytest.fixture
def address(town: Town) -> Iterator[str]:
    with serving(town.city) as found:
        yield found


class Inbox:
    """A merchant's endpoint that keeps what arrives."""

    def __init__(self) -> None:
        inbox, self.arrived = self, list[tuple[dict[str, str], bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                inbox.arrived.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.close()


def test_the_examples_of_the_document_run_from_top_to_bottom(town: Town, address: str, inbox: Inbox):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 7
    known: dict[str, Any] = {"ADDRESS": address, "OWNER_KEY": town.merchant_key, "NOW": town.city.clock()}
    for block in blocks:
        if "WEBHOOK_SECRET" in block:
            # What the document has the reader receive: the events of the order that was paid above.
            with Client(address, known["sandbox_key"]) as shop:
                endpoint, known["WEBHOOK_SECRET"] = shop.create_endpoint(inbox.url)
                for event in shop.events().items:
                    shop.redeliver(event.id, endpoint)
            town.city.worker.deliver()
            known["ARRIVED"] = inbox.arrived
            assert len(inbox.arrived) == 2
        exec(compile(block, str(DOCUMENT), "exec"), known)  # noqa: S102 - our own document


def test_the_client_reads_what_the_api_tells(town: Town, address: str, inbox: Inbox):
    with Client(address, town.merchant_key) as shop:
        made = [shop.create_invoice(NewInvoice("5", "USDT", f"order-{n}", "Tea")) for n in range(5)]
        assert [one.id for one in shop.all_invoices()] == [
            one.id for one in sorted(made, key=lambda one: (one.created_s, one.id), reverse=True)
        ]
        assert shop.invoice(made[0].id) == made[0]
        assert shop.void_invoice(made[0].id).status == "void"
        endpoint, secret = shop.create_endpoint(inbox.url, "v1a")
        assert secret.startswith("whpk_")
        sent = shop.send_test_event(endpoint)
        town.city.worker.deliver()
        [(headers, body)] = inbox.arrived
        assert check_webhook([secret], headers, body, town.city.clock())["type"] == "webhook.test"
        assert headers["webhook-id"] == sent
        [event] = [one for one in shop.events().items if one.id == sent]
        assert [one.state for one in event.deliveries] == ["delivered"]
        shop.redeliver(sent, endpoint)
        town.city.worker.deliver()
        assert [one["webhook-id"] for one, _ in inbox.arrived] == [sent, sent]


def test_an_invoice_is_paid_and_stands_in_the_statement(town: Town, address: str):
    with Client(address, town.merchant_key) as shop:
        made = shop.create_invoice(replace(ORDER, return_url="https://cafe.example/orders/1"))
        assert made.return_url == "https://cafe.example/orders/1"
        invoice, _, _ = town.payments.look(made.id)
        town.pay(invoice)
        town.settle()
        paid = shop.invoice(made.id)
        assert (paid.status, paid.is_settled) == ("final", True)
        [line] = shop.statement(0, town.city.clock() + 1)
        assert (line.invoice, line.gross) == (made.id, paid.due)


class Flaky(httpx.BaseTransport):
    """A network that loses answers: what was asked was done all the same."""

    def __init__(self, inner: httpx.BaseTransport, losses: int) -> None:
        self.inner, self.losses, self.keys = inner, losses, list[str | None]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("idempotency-key"))
        answer = self.inner.handle_request(request)
        if self.losses:
            self.losses -= 1
            answer.read()
            answer.close()
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    def close(self) -> None:
        self.inner.close()


def test_a_lost_answer_is_asked_for_again_under_the_same_key_and_is_one_thing(town: Town, address: str):
    waits: list[float] = []
    flaky = Flaky(httpx.HTTPTransport(), 2)
    http = httpx.Client(base_url=address, transport=flaky, timeout=60)
    with Client(address, town.merchant_key, http=http, wait=waits.append) as shop:
        before = len(town.client().get("/v1/keys", headers=town.bearer).json()["keys"])
        shop.create_key("cashier")
        after = len(town.client().get("/v1/keys", headers=town.bearer).json()["keys"])
        assert (after - before, len(set(flaky.keys)), len(flaky.keys)) == (1, 1, 3)
        assert waits == [0.2, 0.4]
        flaky.losses = 99
        with pytest.raises(NotAnswered) as lost:
            shop.create_invoice(ORDER, "mine")
        assert lost.value.key == "mine"
        flaky.losses = 0
        made = shop.create_invoice(ORDER, "mine")
        assert [one.id for one in shop.all_invoices()] == [made.id]


def test_an_error_names_rule_place_and_reason_and_only_what_passes_is_asked_again(town: Town, address: str):
    waits: list[float] = []
    with Client(address, town.merchant_key, wait=waits.append) as shop:
        with pytest.raises(ApiError) as refused:
            shop.create_invoice(NewInvoice("5", "DOGE", "order-1", "Tea"))
        error = refused.value
        assert (error.status, error.rule, error.where) == (422, "V2", "asset")
        assert "DOGE" in error.why
        assert waits == []
        town.city.gateway.limits.keys.most = 0
        with pytest.raises(ApiError) as refused:
            shop.invoices()
        assert (refused.value.status, refused.value.rule) == (429, "quota")
        assert len(waits) == 4
        assert all(0 < wait <= 30 for wait in waits)


@pytest.mark.parametrize("made", [signing.new_secret, signing.new_key])
def test_a_webhook_is_believed_only_as_it_was_signed(made: Any):
    key = made()
    known = key if key.startswith("whsec_") else signing.public_key(key)
    body, now = b'{"type":"invoice.final"}', 1_790_000_000
    headers = signing.signed_headers([key], "msg_1", now, body)
    assert check_webhook([signing.new_secret(), known], headers, body, now)["type"] == "invoice.final"
    other = signing.new_secret()
    wrong: list[tuple[list[str], dict[str, str], bytes, int]] = [
        ([known], headers, body + b" ", now),
        ([known], headers, body, now + 301),
        ([known], headers, body, now - 301),
        ([other], headers, body, now),
        ([], headers, body, now),
        ([known], headers | {"webhook-id": "msg_2"}, body, now),
        ([known], headers | {"webhook-timestamp": str(now + 1)}, body, now),
        ([known], headers | {"webhook-signature": ""}, body, now),
        ([known], headers | {"webhook-signature": "v1,%%%"}, body, now),
        # A public key is no secret: a stranger who knows it signs nothing with it.
        ([known.replace("whsec_", "whpk_")], headers, body, now) if made is signing.new_secret else
        ([known], signing.signed_headers([known.replace("whpk_", "whsec_")], "msg_1", now, body), body, now),
        ([known], {}, body, now),
    ]  # fmt: skip
    for keys, sent, content, at in wrong:
        with pytest.raises(NotSigned):
            check_webhook(keys, sent, content, at)


@given(st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()))
def test_no_header_of_a_stranger_makes_another_error(headers: dict[str, str]):
    with pytest.raises(NotSigned):
        check_webhook([signing.new_secret()], headers, b"{}", 0)


def test_what_is_between_us_and_the_gateway_is_told_as_such():
    def page(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404, text="<html>go away</html>")

    http = httpx.Client(base_url="http://127.0.0.1:9", transport=httpx.MockTransport(page))
    with Client("http://127.0.0.1:9", "qz_x", http=http) as shop, pytest.raises(ApiError) as refused:
        shop.invoices()
    assert (refused.value.status, refused.value.rule) == (404, "http")
