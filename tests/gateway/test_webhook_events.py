"""What events say and to whom they go: published schemas, filters, history, redelivery; and the documents' receiver."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy import Engine, select

from gateway import db
from gateway.db import reading
from gateway.merchants.store import HOLD_S
from gateway.webhooks import deliver, events, store
from gateway.webhooks.egress import Egress
from gateway.webhooks.history import store as history
from ledger.records import Invalid
from tests import servers
from tests.gateway.conftest import Town
from tests.gateway.test_webhooks import (
    NOW,
    Clock,
    Endpoint,
    answer,
    database_url,
    engine,
    enqueue,
    gate,
    register,
    sealer,
    serve,
    states,
)

__all__ = ["database_url", "engine", "sealer", "serve"]
DOCUMENTS = servers.ROOT / "docs" / "webhooks"
GOLDEN = servers.ROOT / "tests" / "vectors" / "webhooks" / "v1.json"


def bodies(town: Town) -> list[dict[str, Any]]:
    with reading(town.city.gateway.engine) as connection:
        rows = connection.execute(
            select(store.events).order_by(store.events.c.created, store.events.c.sequence)
        )
        return [json.loads(row.body) for row in rows]


# --- FF41: events and documents say the same ------------------------------------------------------------


def test_ff41_the_published_schema_is_the_one_that_events_are_checked_by():
    assert (DOCUMENTS / "v1.schema.json").read_text() == events.schema()


def test_ff41_golden_events_of_this_version_stay_valid_for_ever():
    """A change that would refuse what receivers were once sent is a new version, not an edit of this file."""
    golden = json.loads(GOLDEN.read_text())
    schema = json.loads((DOCUMENTS / "v1.schema.json").read_text())
    assert {event["type"] for event in golden} == events.TYPES
    for event in golden:
        jsonschema.validate(event, schema)
        events.check(json.dumps(event).encode())


def test_ff41_no_member_of_a_golden_event_is_taken_away():
    for event in json.loads(GOLDEN.read_text()):
        shown = next(
            model for model in (events.InvoiceEvent, events.ChangeEvent, events.TestEvent)
            if event["type"] in model.model_fields["type"].annotation.__args__
        )  # fmt: skip
        assert set(event) == set(shown.model_fields)
        assert set(event["data"]) == set(shown.model_fields["data"].annotation.model_fields)


@pytest.mark.parametrize("member", ["version", "type", "timestamp", "data"])
def test_ff41_an_event_without_a_member_or_with_another_is_found(member: str):
    event = json.loads(GOLDEN.read_text())[0]
    without = {name: value for name, value in event.items() if name != member}
    for wrong in (without, event | {"more": 1}, event | {"data": event["data"] | {"paid": 5}}):
        with pytest.raises(Invalid) as refused:
            events.check(json.dumps(wrong).encode())
        assert refused.value.rule == "webhook-schema"


def test_ff41_every_event_of_a_day_fits_the_published_schema(town: Town):
    """Paid, part, over, late, reorganised, expired: what is really sent, and not what we believe is."""
    paid, parts, expired = town.invoice(), town.invoice(), town.invoice()
    town.pay(paid)
    for amount in (parts.due_minor // 4, parts.due_minor // 4, parts.due_minor):
        town.deposit(parts, amount)
        town.mine()
        town.poll()
    town.finalise()
    town.wait(1_000)
    town.poll()
    town.payments.expire()
    town.payments.void(town.invoice().id)
    told = bodies(town)
    schema = json.loads((DOCUMENTS / "v1.schema.json").read_text())
    for event in told:
        jsonschema.validate(event, schema)
        events.check(json.dumps(event).encode())
    types = {event["type"] for event in told}
    assert {"invoice.open", "invoice.paid", "invoice.final", "invoice.expired", "invoice.void"} <= types
    assert "invoice.updated" in types
    assert expired.id in {event["data"]["invoice"] for event in told if event["type"] == "invoice.expired"}
    assert {event["version"] for event in told} == {events.VERSION}


def test_ff41_every_event_of_a_change_as_the_api_sends_it_fits_the_published_schema(town: Town):
    """Asked, cancelled and applied, of each field, from the outbox that the API and the worker fill."""
    client, schema = town.client(), json.loads((DOCUMENTS / "v1.schema.json").read_text())
    changes = (
        {"contact": "boss@cafe.example"},
        {"wallet": "0x" + "66" * 20},
        {"iban": "KZ86125KZT5004100100"},
    )
    for change in changes:
        asked = client.post("/v1/merchant/changes", json=change, headers=town.bearer)
        assert asked.status_code == 201, asked.text
        url = f"/v1/merchant/changes/{asked.json()['id']}"
        assert client.delete(url, headers=town.bearer).status_code == 204
        assert client.post("/v1/merchant/changes", json=change, headers=town.bearer).status_code == 201
    steps = {step.name: step for step in town.city.worker.steps()}
    town.city.clock.wait(HOLD_S - 1)
    assert steps["changes"].run() == 0
    town.city.clock.wait(1)
    assert steps["changes"].run() == 3
    assert steps["changes"].run() == 0, "each is told once"
    told = [event for event in bodies(town) if event["type"].startswith("merchant.change.")]
    assert Counter(event["type"] for event in told) == {
        "merchant.change.asked": 6, "merchant.change.cancelled": 3, "merchant.change.applied": 3
    }  # fmt: skip
    golden = {event["type"]: event for event in json.loads(GOLDEN.read_text())}
    for event in told:
        jsonschema.validate(event, schema)
        events.check(json.dumps(event).encode())
        assert _shape(event) == _shape(golden[event["type"]])
    # What it says to do is a route that there is.
    method, path = told[-1]["data"]["cancel"].split(" ")
    assert client.request(method, path, headers=town.bearer).json()["rule"] == "conflict"


def _shape(value: Any) -> Any:
    """Members and their types, and nothing of what they say."""
    if isinstance(value, dict):
        return {name: _shape(member) for name, member in value.items()}
    return type(value)


def test_the_documents_name_every_type_of_event():
    text = (DOCUMENTS / "README.md").read_text()
    named = set(re.findall(r"`([a-z]+\.[a-z.]+)`", text))
    named |= {f"merchant.change{end}" for end in re.findall(r"`(\.[a-z]+)`", text)}
    assert named >= events.TYPES


# --- which endpoint gets what ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wants", "type", "does"),
    [
        ("", "invoice.paid", True),
        ("invoice.paid,", "invoice.paid", True),
        ("invoice.paid,", "invoice.final", False),
        ("invoice.*,", "invoice.final", True),
        ("merchant.*,", "invoice.final", False),
        ("invoice.paid_late,", "invoice.paid", False),
        ("webhook.test,merchant.*,", "merchant.change.asked", True),
    ],
)
def test_an_endpoint_wants_types_or_families(wants: str, type: str, does: bool):
    assert store.does_want(wants, type) is does


def test_an_endpoint_gets_only_what_it_wants_and_another_all(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    some, everything = serve(), serve()
    with engine.begin() as connection:
        some_id, _ = store.add_endpoint(
            connection, sealer, "m1", gate().parse(some.url), NOW, wants=["invoice.final"]
        )
    register(engine, sealer, everything.url)
    for type in ("invoice.paid", "invoice.final"):
        with engine.begin() as connection:
            store.enqueue(connection, "m1", "a", type, b'{"type":"' + type.encode() + b'"}', NOW)
    deliver.deliver_due(engine, gate(), sealer, Clock())
    assert [json.loads(body)["type"] for _, body in some.requests] == ["invoice.final"]
    assert [json.loads(body)["type"] for _, body in everything.requests] == ["invoice.paid", "invoice.final"]
    with engine.begin() as connection:
        store.change_endpoint(connection, "m1", some_id, gate().parse(everything.url), ["invoice.paid"])
        store.enqueue(connection, "m1", "a", "invoice.paid", b'{"type":"invoice.paid"}', NOW)
    deliver.deliver_due(engine, gate(), sealer, Clock())
    assert (len(some.requests), len(everything.requests)) == (1, 4)


def test_a_type_that_is_none_is_refused_and_not_waited_for():
    events.check_wants(["invoice.final", "merchant.*"])
    with pytest.raises(Invalid, match="settled"):
        events.check_wants(["invoice.settled"])


def test_an_event_for_one_endpoint_goes_to_that_one_whatever_it_wants(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    one, other = serve(), serve()
    with engine.begin() as connection:
        id, _ = store.add_endpoint(
            connection, sealer, "m1", gate().parse(one.url), NOW, wants=["invoice.paid"]
        )
    register(engine, sealer, other.url)
    with engine.begin() as connection:
        store.enqueue(connection, "m1", "test", "webhook.test", b'{"type":"webhook.test"}', NOW, only=id)
    deliver.deliver_due(engine, gate(), sealer, Clock())
    assert (len(one.requests), len(other.requests)) == (1, 0)


# --- history and redelivery -----------------------------------------------------------------------------


def test_each_attempt_is_kept_with_its_time_status_and_error(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint, clock = serve(), Clock()
    endpoint.behave = lambda handler, n: answer(handler, 204 if n == 3 else 503)
    endpoint_id, _ = register(engine, sealer, endpoint.url)
    event_id = enqueue(engine, "a")
    for _ in range(3):
        deliver.deliver_due(engine, gate(), sealer, clock)
        clock.now += 1_000
    with reading(engine) as connection:
        found = history.attempts_of(connection, "m1")
        assert history.attempts_of(connection, "m2") == []
        assert history.attempts_of(connection, "m1", event_id="none") == []
        page = history.attempts_of(connection, "m1", found[0].id, 1, endpoint_id=endpoint_id)
    told = [(one.attempt, one.at_s, one.status, one.error) for one in found]
    assert told == [
        (3, NOW + 2_000, 204, None),
        (2, NOW + 1_000, 503, "status 503"),
        (1, NOW, 503, "status 503"),
    ]
    assert {(one.event_id, one.event_type) for one in found} == {(event_id, "invoice.paid")}
    assert page == [found[1]]
    with engine.begin() as connection:
        assert history.forget(connection, NOW + 1_500 + history.KEEP_S) == 2
        assert history.forget(connection, NOW + 1_500 + history.KEEP_S) == 0


def test_ff38_all_events_since_a_time_are_sent_again_in_their_order_under_their_ids(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    endpoint_id, _ = register(engine, sealer, endpoint.url)
    before = enqueue(engine, "a", now=NOW - 1)
    ids = [enqueue(engine, name, now=NOW) for name in ("a", "b", "a")]
    enqueue(engine, "x", merchant="m2", now=NOW)
    deliver.deliver_due(engine, gate(), sealer, Clock())
    assert len(endpoint.requests) == 4
    endpoint.requests.clear()
    with engine.begin() as connection:
        assert history.redeliver_since(connection, "m1", endpoint_id, NOW, NOW + 5) == 3
    deliver.deliver_due(engine, gate(), sealer, Clock(NOW + 5))
    again = [headers["webhook-id"] for headers, _ in endpoint.requests]
    assert sorted(again) == sorted(ids)
    assert before not in again
    assert again.index(ids[0]) < again.index(ids[2])


def test_ff38_an_endpoint_that_is_new_can_be_sent_what_happened_before_it(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    event_id = enqueue(engine, "a")
    endpoint = serve()
    endpoint_id, _ = register(engine, sealer, endpoint.url)
    with engine.begin() as connection:
        assert history.redeliver_since(connection, "m1", endpoint_id, NOW, NOW) == 1
    deliver.deliver_due(engine, gate(), sealer, Clock())
    assert states(engine) == {event_id: "delivered"}


def test_redelivery_leaves_alone_what_is_under_way(engine: Engine, sealer: store.Sealer) -> None:
    endpoint_id, _ = register(engine, sealer, "http://127.0.0.1:9/")
    enqueue(engine, "a")
    with engine.begin() as connection:
        claimed = store.claim(connection, NOW, 1, 1)
        history.redeliver_since(connection, "m1", endpoint_id, NOW, NOW)
        assert store.claim(connection, NOW, 1, 1) == []
        assert store.record(connection, [store.Conclusion(claimed[0], "delivered", 204, None, NOW, NOW)]) == 1


def test_redelivery_of_too_many_is_refused_with_both_numbers(
    engine: Engine, sealer: store.Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_id, _ = register(engine, sealer, "http://127.0.0.1:9/")
    for name in ("a", "b"):
        enqueue(engine, name)
    monkeypatch.setattr(history, "REDELIVER_MAX", 1)
    with pytest.raises(Invalid, match="2 events since 1800000000, at most 1"), engine.begin() as connection:
        history.redeliver_since(connection, "m1", endpoint_id, NOW, NOW)


def test_what_waits_and_what_fails_is_counted(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    endpoint.behave = lambda handler, _n: answer(handler, 500)
    register(engine, sealer, endpoint.url)
    enqueue(engine, "a", now=NOW - 7)
    with reading(engine) as connection:
        assert history.waiting(connection) == history.Waiting(1, NOW - 7, 0)
    deliver.deliver_due(engine, gate(), sealer, Clock())
    with reading(engine) as connection:
        assert history.waiting(connection).failing_endpoints == 1


def test_a_connection_is_used_again_and_a_closed_one_is_made_anew(serve: Callable[..., Endpoint]) -> None:
    endpoint = serve()
    ports: list[int] = []
    gone = threading.Event()

    def behave(handler: Any, n: int) -> None:
        ports.append(handler.client_address[1])
        answer(handler, 204)
        if n == 2:
            # Hangs up without a word after the second answer, as servers do at any time.
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            gone.set()

    endpoint.behave = behave
    endpoint.server.RequestHandlerClass.protocol_version = "HTTP/1.1"
    policy = gate()
    for number in range(3):
        assert number < 2 or gone.wait(60)
        assert policy.post(endpoint.url, {}, b"{}").status == 204
    assert ports[0] == ports[1] != ports[2]
    policy.close()


def test_ff44_a_kept_connection_does_not_outlive_the_address_that_was_checked(
    serve: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name moves to an inside address: the kept connection still goes to the old one, and soon no more."""
    endpoint = serve()
    endpoint.server.RequestHandlerClass.protocol_version = "HTTP/1.1"
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    policy = gate(resolve=resolve)
    url = f"http://hooks.example.kz:{endpoint.port}/"
    for _ in range(3):
        policy.post(url, {}, b"{}")
    assert (len(endpoint.requests), asked) == (3, ["hooks.example.kz"])
    monkeypatch.setattr("gateway.webhooks.egress.REUSE_S", 0)
    with pytest.raises(Invalid, match="not public"):
        policy.post(url, {}, b"{}")
    assert len(endpoint.requests) == 3
    policy.close()


# --- the documents' receiver ----------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Callable[[str], tuple[int, Path]]]:
    """Start the program that stands in docs/webhooks/README.md."""
    text = (DOCUMENTS / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    database, running = tmp_path / "shop.db", []

    def start(secret: str) -> tuple[int, Path]:
        environment = {**os.environ, "WEBHOOK_SECRET": secret, "SHOP_DATABASE": str(database)}
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline()), database

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def come_back(database: Path, invoice: str) -> None:
    """The buyer's browser comes back, again and again, while the webhook arrives: it claims the same row."""
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        for _ in range(50):
            connection.execute("INSERT OR IGNORE INTO shipped VALUES (?)", (invoice,))
            time.sleep(0.005)


def test_ff42_the_receiver_in_the_documents_ships_each_order_once_whoever_comes_first(
    engine: Engine, sealer: store.Sealer, shop: Callable[[str], tuple[int, Path]]
) -> None:
    with engine.begin() as connection:
        # The address is known only once the receiver runs, and the receiver needs the secret first.
        target = gate().parse("http://127.0.0.1:9/")
        endpoint_id, secret = store.add_endpoint(connection, sealer, "m1", target, NOW)
    port, database = shop(secret)
    with engine.begin() as connection:
        store.change_endpoint(connection, "m1", endpoint_id, gate().parse(f"http://127.0.0.1:{port}/"))
    golden = next(e for e in json.loads(GOLDEN.read_text()) if e["type"] == "invoice.final")
    body = json.dumps(golden).encode()
    now = int(time.time())
    with engine.begin() as connection:
        event_id = store.enqueue(connection, "m1", "a", "invoice.final", body, now)
    browser = threading.Thread(target=come_back, args=(database, golden["data"]["invoice"]))
    browser.start()
    for _ in range(3):
        deliver.deliver_due(engine, gate(), sealer, lambda: int(time.time()))
        assert states(engine) == {event_id: "delivered"}
        with engine.begin() as connection:
            store.redeliver(connection, "m1", event_id, endpoint_id, int(time.time()))
    browser.join()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT invoice FROM shipped").fetchall() == [(golden["data"]["invoice"],)]
        assert connection.execute("SELECT id FROM received").fetchall() == [(event_id,)]
    forged = Egress(["127.0.0.0/8"]).post(f"http://127.0.0.1:{port}/", {"webhook-id": event_id}, body)
    assert forged.status == 401


def test_the_databases_tables_are_those_of_the_models(engine: Engine) -> None:
    from sqlalchemy import inspect

    found = {column["name"] for column in inspect(engine).get_columns("webhook_endpoint")}
    assert found == {column.name for column in db.metadata.tables["webhook_endpoint"].columns}
