"""Webhooks against real receivers on loopback, on SQLite and on PostgreSQL."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, MetaData, Table, Text, insert, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from gateway import db
from gateway.webhooks import deliver, egress, signing, store
from gateway.webhooks.receiver import Receiver
from ledger.records import Invalid, Unavailable
from tests.servers import until

NOW = 1_800_000_000
KEY = "x8bHqTnwYvRk3e1Uu0bZ5sJm2cWq7iDfLtAoGp9hNlE="
BODY = b'{"version":"1","type":"invoice.paid"}'
LOOPBACK = ("127.0.0.0/8", "::1/128")


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Endpoint:
    """A real HTTP server that answers as it is told to, and remembers what came."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.sent_bytes = 0
        self.behave: Callable[[BaseHTTPRequestHandler, int], None] = lambda handler, _n: answer(handler, 204)
        self.released = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                endpoint.requests.append((headers, body))
                try:
                    endpoint.behave(self, len(endpoint.requests))
                except OSError:
                    self.close_connection = True

            do_GET = do_POST  # noqa: N815 - a followed redirect would come as GET

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self.server = Server((host, 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}/hook?shop=1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def answer(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("content-length", "0")
    handler.end_headers()


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    opened: list[Endpoint] = []

    def start(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Endpoint:
        opened.append(Endpoint(host, tls))
        return opened[-1]

    yield start
    for endpoint in opened:
        endpoint.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = db.engine(database_url)
    ours = [table for table in db.metadata.sorted_tables if table.name.startswith("webhook_")]
    db.metadata.drop_all(opened, ours)
    db.create_all(opened)
    yield opened
    db.metadata.drop_all(opened, ours)
    opened.dispose()


@pytest.fixture
def sealer() -> store.Sealer:
    return store.Sealer([KEY])


def gate(**options: object) -> egress.Egress:
    return egress.Egress(LOOPBACK, **{"timeout_s": 60, **options})  # type: ignore[arg-type]


def register(engine: Engine, sealer: store.Sealer, url: str, merchant: str = "m1") -> tuple[str, str]:
    with engine.begin() as connection:
        return store.add_endpoint(connection, sealer, merchant, gate().parse(url), NOW)


def enqueue(engine: Engine, invoice: str, body: bytes = BODY, merchant: str = "m1", now: int = NOW) -> str:
    with engine.begin() as connection:
        return store.enqueue(connection, merchant, invoice, "invoice.paid", body, now)


def states(engine: Engine) -> dict[str, str]:
    with db.reading(engine) as connection:
        rows = connection.execute(select(store.deliveries.c.event_id, store.deliveries.c.state))
        return {row.event_id: row.state for row in rows}


# --- the database --------------------------------------------------------------------------------


probe_metadata = MetaData()
probe = Table(
    "webhook_probe",
    probe_metadata,
    Column("name", Text, primary_key=True),
    Column("amount", db.Amount),
    Column("hash", db.Hash32),
    sqlite_strict=True,
)


@pytest.fixture
def probe_engine(engine: Engine) -> Iterator[Engine]:
    probe_metadata.drop_all(engine)
    probe_metadata.create_all(engine)
    yield engine
    probe_metadata.drop_all(engine)


def test_an_amount_comes_back_exactly_and_sorts_as_a_number(probe_engine: Engine) -> None:
    amounts = [0, 1, 255, 256, 2**63 - 1, 2**63, 2**64, 10**30, 2**128 - 1]
    rows = [{"name": str(amount), "amount": amount} for amount in reversed(amounts)]
    with probe_engine.begin() as connection:
        connection.execute(insert(probe), rows)
        kept = connection.scalars(select(probe.c.amount).order_by(probe.c.amount)).all()
        above = connection.scalars(select(probe.c.name).where(probe.c.amount > 2**64)).all()
    assert kept == amounts
    assert set(above) == {str(10**30), str(2**128 - 1)}


@pytest.mark.parametrize("wrong", [True, -1, 2**128, 1.0, "1", b"\x00" * 16])
def test_what_is_not_an_amount_is_refused(probe_engine: Engine, wrong: object) -> None:
    with probe_engine.begin() as connection, pytest.raises((StatementError, AssertionError)):
        connection.execute(insert(probe), {"name": "a", "amount": wrong})


def test_amounts_cannot_be_added_in_sql() -> None:
    with pytest.raises(AssertionError, match="no arithmetic"):
        probe.c.amount + probe.c.amount


@pytest.mark.parametrize("wrong", [b"", b"\x00" * 31, b"\x00" * 33, "0" * 32])
def test_a_hash_that_is_not_32_bytes_is_refused(probe_engine: Engine, wrong: object) -> None:
    with probe_engine.begin() as connection, pytest.raises((StatementError, AssertionError)):
        connection.execute(insert(probe), {"name": "a", "hash": wrong})


def test_sqlite_is_durable_and_strict(tmp_path: Path) -> None:
    opened = db.engine(f"sqlite:///{tmp_path / 'a.sqlite'}")
    db.create_all(opened)
    with opened.begin() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
        orphan = {"event_id": "msg_none", "endpoint_id": "ep_none", "invoice_id": "i", "sequence": 1}
        rest = {"attempt": 0, "due": 0, "leased_until": 0, "state": "pending"}
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            connection.execute(insert(store.deliveries).values(**orphan, **rest))
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15_000}
    opened.dispose()


def test_a_transaction_takes_tables_back_too(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE webhook_passing (a TEXT)"))
        connection.rollback()
        with pytest.raises(Exception, match="webhook_passing"):
            connection.execute(text("SELECT * FROM webhook_passing"))


def test_writers_on_sqlite_queue_and_lose_no_update(tmp_path: Path) -> None:
    opened = db.engine(f"sqlite:///{tmp_path / 'a.sqlite'}")
    probe_metadata.create_all(opened)
    with opened.begin() as connection:
        connection.execute(insert(probe).values(name="sum", amount=0))

    def add_one(_: int) -> None:
        with opened.begin() as connection:
            seen = connection.scalar(select(probe.c.amount))
            assert seen is not None
            connection.execute(probe.update().values(amount=seen + 1))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add_one, range(60)))
    with db.reading(opened) as connection:
        assert connection.scalar(select(probe.c.amount)) == 60
    opened.dispose()


def test_a_reader_on_sqlite_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    opened = db.engine(f"sqlite:///{tmp_path / 'a.sqlite'}")
    probe_metadata.create_all(opened)
    with opened.begin() as writing:
        writing.execute(insert(probe).values(name="a"))
        begun = time.monotonic()
        with db.reading(opened) as connection:
            assert connection.execute(select(probe)).all() == []
        # As long as a database's lock is waited for.
        assert time.monotonic() - begun < 15
    opened.dispose()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "mysql://a/b", "no url", "sqlite:///file:a?mode=memory&uri=true"],
)
def test_a_database_that_cannot_keep_money_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="database-url"):
        db.engine(url)


# --- signatures ----------------------------------------------------------------------------------


def test_the_published_example_of_standard_webhooks_signs_the_same() -> None:
    # standard-webhooks/standard-webhooks libraries/python/tests/test_webhooks.py, MIT.
    secret, message_id = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    signature = signing.sign(secret, message_id, 1_614_265_330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def pair(scheme: str) -> tuple[str, str]:
    if scheme == "v1":
        secret = signing.new_secret()
        return secret, secret
    key = signing.new_key()
    return key, signing.public_key(key)


@pytest.mark.parametrize("scheme", ["v1", "v1a"])
def test_ff39_a_changed_message_is_refused(scheme: str) -> None:
    key, check = pair(scheme)
    headers = signing.signed_headers([key], "msg_1", NOW, BODY)
    signing.check_signature([check], headers, BODY, NOW)
    other = signing.signed_headers([pair(scheme)[0]], "msg_1", NOW, BODY)["webhook-signature"]
    wrong = [
        ({}, BODY + b" "),
        ({"webhook-id": "msg_2"}, BODY),
        ({"webhook-timestamp": str(NOW + 1)}, BODY),
        ({"webhook-signature": other}, BODY),
        ({"webhook-signature": ""}, BODY),
        ({"webhook-signature": headers["webhook-signature"].split(",")[1]}, BODY),
        ({"webhook-signature": headers["webhook-signature"].replace(scheme + ",", "v2,")}, BODY),
        ({"webhook-id": ""}, BODY),
        ({"webhook-timestamp": f"+{NOW}"}, BODY),
    ]
    for change, body in wrong:
        with pytest.raises(Invalid, match="webhook-signature"):
            signing.check_signature([check], {**headers, **change}, body, NOW)


@pytest.mark.parametrize("scheme", ["v1", "v1a"])
def test_ff39_an_old_or_future_message_is_refused(scheme: str) -> None:
    key, check = pair(scheme)
    headers = signing.signed_headers([key], "msg_1", NOW, BODY)
    for now in (NOW - 300, NOW + 300):
        signing.check_signature([check], headers, BODY, now)
    for now in (NOW - 301, NOW + 301):
        with pytest.raises(Invalid, match=str(now)):
            signing.check_signature([check], headers, BODY, now)


def test_ff39_a_public_key_is_never_taken_for_a_secret() -> None:
    public = signing.public_key(signing.new_key())
    disguised = "whsec_" + public.removeprefix("whpk_")
    headers = signing.signed_headers([disguised], "msg_1", NOW, BODY)
    with pytest.raises(Invalid, match="no signature fits"):
        signing.check_signature([public], headers, BODY, NOW)


def test_one_good_signature_among_others_is_enough_and_too_many_are_refused() -> None:
    secret = signing.new_secret()
    good = signing.sign(secret, "msg_1", NOW, BODY)
    headers = signing.signed_headers([signing.new_secret()], "msg_1", NOW, BODY)
    headers["webhook-signature"] += f" v1,### v9,AAAA {good}"
    signing.check_signature([secret], headers, BODY, NOW)
    headers["webhook-signature"] = " ".join([good] * 17)
    with pytest.raises(Invalid, match="17 of at most 16"):
        signing.check_signature([secret], headers, BODY, NOW)


@pytest.mark.parametrize("length", [23, 65])
def test_a_secret_of_a_wrong_length_is_refused_and_not_shown(length: int) -> None:
    secret = "whsec_" + "QUJD" * 22 if length == 65 else "whsec_" + "QUJD" * 7 + "QUI="
    with pytest.raises(Invalid, match="24 to 64 wanted") as refused:
        signing.sign(secret, "msg_1", NOW, BODY)
    assert "QUJD" not in str(refused.value)


# --- FF37: one bad endpoint must not hold up others ---------------------------------------------


def test_ff37_a_delivery_waits_for_its_own_invoice_and_for_no_other(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint, clock = serve(), Clock()
    register(engine, sealer, endpoint.url)
    early = enqueue(engine, "b", b"b1")
    deliver.deliver_due(engine, gate(), sealer, clock)
    first = enqueue(engine, "a", b"a1")
    second = enqueue(engine, "a", b"a2")
    # Its number in its own invoice is higher than that of what fails below.
    other = enqueue(engine, "b", b"b2")
    endpoint.behave = lambda handler, _n: answer(handler, 500 if endpoint.requests[-1][1] == b"a1" else 204)
    deliver.deliver_due(engine, gate(), sealer, clock)
    assert states(engine) == {
        early: "delivered",
        first: "pending",
        second: "pending",
        other: "delivered",
    }
    assert sorted(body for _, body in endpoint.requests) == [b"a1", b"b1", b"b2"]
    endpoint.behave = lambda handler, _n: answer(handler, 204)
    clock.now += 10
    deliver.deliver_due(engine, gate(), sealer, clock)
    assert [body for _, body in endpoint.requests[-2:]] == [b"a1", b"a2"]
    assert set(states(engine).values()) == {"delivered"}


def test_ff37_an_endpoint_that_hangs_leaves_room_for_the_others(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    hanging, quick = serve(), serve()
    hanging.behave = lambda _handler, _n: (hanging.released.wait(120), None)[1]
    register(engine, sealer, hanging.url, "slow")
    register(engine, sealer, quick.url, "fast")
    for number in range(20):
        enqueue(engine, f"slow{number}", merchant="slow")
    for number in range(40):
        enqueue(engine, f"fast{number}", merchant="fast", now=NOW + 1)
    running = threading.Thread(
        target=deliver.deliver_due,
        args=(engine, gate(timeout_s=120), sealer, Clock(NOW + 1)),
        kwargs={"limit": 44, "at_once": 32},
    )
    running.start()
    until(lambda: len(quick.requests) >= 40 and len(hanging.requests) >= 4, "all of the others are told")
    arrived, held = len(quick.requests), len(hanging.requests)
    hanging.released.set()
    running.join(60)
    assert arrived == 40
    assert held == 4


def test_ff37_an_endpoint_that_failed_is_given_one_at_a_time_until_it_answers(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    register(engine, sealer, endpoint.url)
    enqueue(engine, "first")
    endpoint.behave = lambda handler, _n: answer(handler, 500)
    deliver.deliver_due(engine, gate(), sealer, Clock())
    for number in range(10):
        enqueue(engine, f"i{number}")
    with engine.begin() as connection:
        one = store.claim(connection, NOW, 10, 4)
        assert len(one) == 1
        assert store.claim(connection, NOW, 10, 4, {one[0].endpoint_id: 1}) == []
        store.record(connection, [store.Conclusion(one[0], "delivered", 204, None, NOW, NOW)])
        assert len(store.claim(connection, NOW, 10, 4)) == 4


def test_ff37_an_event_that_is_late_in_the_table_is_sent_when_it_is_due(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint, clock = serve(), Clock(NOW - 1)
    register(engine, sealer, endpoint.url)
    enqueue(engine, "a")
    assert deliver.deliver_due(engine, gate(), sealer, clock) == 0
    clock.now = NOW
    assert deliver.deliver_due(engine, gate(), sealer, clock) == 1


def test_ff37_two_workers_share_the_work_and_send_nothing_twice(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint, second = serve(), db.engine(str(engine.url.render_as_string(hide_password=False)))
    register(engine, sealer, endpoint.url)
    ids = [enqueue(engine, f"i{number % 10}") for number in range(40)]
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(deliver.deliver_due, one, gate(), sealer, Clock()) for one in (engine, second)]
        assert sum(run.result() for run in runs) == 40
    assert sorted(headers["webhook-id"] for headers, _ in endpoint.requests) == sorted(ids)
    second.dispose()


# --- FF38: retries outlive the process -----------------------------------------------------------


def test_ff38_an_event_exists_exactly_if_its_cause_does(engine: Engine, sealer: store.Sealer) -> None:
    register(engine, sealer, "https://hooks.example.kz/")
    with engine.connect() as connection:
        store.enqueue(connection, "m1", "a", "invoice.paid", BODY, NOW)
        connection.rollback()
    assert states(engine) == {}
    with engine.connect() as connection:
        kept = store.enqueue(connection, "m1", "a", "invoice.paid", BODY, NOW)
        connection.commit()
    assert states(engine) == {kept: "pending"}


KILLED = """
import sys
from gateway import db
from gateway.webhooks import deliver, egress, store
url, key, now = sys.argv[1], sys.argv[2], int(sys.argv[3])
deliver.deliver_due(db.engine(url), egress.Egress(["127.0.0.0/8"], timeout_s=60), store.Sealer([key]), lambda: now)
"""


def test_ff38_a_delivery_outlives_the_death_of_its_process(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    endpoint.behave = lambda _handler, _n: (endpoint.released.wait(120), None)[1]
    register(engine, sealer, endpoint.url)
    event_id = enqueue(engine, "a")
    url = engine.url.render_as_string(hide_password=False)
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, url, KEY, str(NOW)], cwd=Path(__file__).parents[2]
    )
    until(lambda: endpoint.requests, "the worker delivers")
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert len(endpoint.requests) == 1
    endpoint.behave = lambda handler, _n: answer(handler, 204)
    # Until the lease ends the dead worker might still be alive.
    assert deliver.deliver_due(engine, gate(), sealer, Clock(NOW + store.LEASE_S - 1)) == 0
    assert deliver.deliver_due(engine, gate(), sealer, Clock(NOW + store.LEASE_S)) == 1
    assert [headers["webhook-id"] for headers, _ in endpoint.requests] == [event_id, event_id]
    assert states(engine) == {event_id: "delivered"}


def test_ff38_a_failing_delivery_is_tried_ten_times_in_three_days_and_then_dies(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint, clock = serve(), Clock()
    endpoint.behave = lambda handler, _n: answer(handler, 503)
    register(engine, sealer, endpoint.url)
    event_id = enqueue(engine, "a")
    waits = []
    while states(engine)[event_id] == "pending":
        # A new engine each time: nothing that counts is in memory.
        fresh = db.engine(engine.url.render_as_string(hide_password=False))
        assert deliver.deliver_due(fresh, gate(), sealer, clock) == 1
        with db.reading(fresh) as connection:
            due = connection.scalar(select(store.deliveries.c.due))
        fresh.dispose()
        assert due is not None
        waits.append(due - clock.now)
        clock.now = due
    assert len(endpoint.requests) == 10
    assert waits[-1] == 0
    for wait, planned in zip(waits, deliver.SCHEDULE_S, strict=False):
        assert abs(wait - planned) <= max(1, planned // 10)
    assert sum(deliver.SCHEDULE_S) == 75 * 3600 + 35 * 60 + 5
    with db.reading(engine) as connection:
        row = store.deliveries_of(connection, "m1", "a")[0]
    assert (row.state, row.last_status, row.attempt) == ("dead", 503, 10)


def test_ff38_what_is_dead_or_delivered_can_be_sent_again_under_its_old_id(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    endpoint_id, _ = register(engine, sealer, endpoint.url)
    event_id = enqueue(engine, "a")
    for number in range(3):
        deliver.deliver_due(engine, gate(), sealer, Clock(NOW + number))
        assert states(engine) == {event_id: "delivered"}
        with engine.begin() as connection:
            store.redeliver(connection, "m1", event_id, endpoint_id, NOW + number)
    assert [headers["webhook-id"] for headers, _ in endpoint.requests] == [event_id] * 3


def test_ff38_an_outcome_that_comes_after_the_lease_changes_nothing(
    engine: Engine, sealer: store.Sealer
) -> None:
    register(engine, sealer, "https://hooks.example.kz/")
    event_id = enqueue(engine, "a")
    with engine.begin() as connection:
        late = store.claim(connection, NOW, 1, 1)[0]
        assert store.claim(connection, NOW, 1, 1) == []
        current = store.claim(connection, NOW + store.LEASE_S, 1, 1)[0]
        assert store.record(connection, [store.Conclusion(late, "dead", 500, "late", NOW, NOW)]) == 0
        assert store.record(connection, [store.Conclusion(current, "delivered", 204, None, NOW, NOW)]) == 1
        assert store.record(connection, [store.Conclusion(current, "dead", 500, "twice", NOW, NOW)]) == 0
    assert states(engine) == {event_id: "delivered"}


def test_a_receiver_that_asks_for_time_gets_it(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    endpoint.behave = lambda handler, _n: answer(handler, 429, {"retry-after": "3600"})
    register(engine, sealer, endpoint.url)
    enqueue(engine, "a")
    deliver.deliver_due(engine, gate(), sealer, Clock())
    with db.reading(engine) as connection:
        assert connection.scalar(select(store.deliveries.c.due)) == NOW + 3600
    assert deliver.wait_s(1, 10**8) == deliver.RETRY_AFTER_MAX_S


def test_an_endpoint_that_is_gone_gets_nothing_more(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    endpoint.behave = lambda handler, _n: answer(handler, 410)
    endpoint_id, _ = register(engine, sealer, endpoint.url)
    enqueue(engine, "a"), enqueue(engine, "a")
    deliver.deliver_due(engine, gate(), sealer, Clock())
    assert set(states(engine).values()) == {"dead"}
    later = enqueue(engine, "b")
    assert later not in states(engine)
    with engine.begin() as connection:
        with pytest.raises(Invalid, match="410 Gone"):
            store.redeliver(connection, "m1", later, endpoint_id, NOW)
        store.enable_endpoint(connection, "m1", endpoint_id)
        store.redeliver(connection, "m1", later, endpoint_id, NOW)
    assert states(engine)[later] == "pending"
    assert len(endpoint.requests) == 1


# --- FF39: each endpoint has a secret of its own, which rotates ----------------------------------


def test_ff39_both_secrets_sign_for_a_day_after_a_rotation(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint, clock = serve(), Clock()
    endpoint_id, old = register(engine, sealer, endpoint.url)
    with engine.begin() as connection:
        new = store.rotate_secret(connection, sealer, "m1", endpoint_id, NOW)
        with pytest.raises(Invalid, match=f"until {NOW + 86_400}"):
            store.rotate_secret(connection, sealer, "m1", endpoint_id, NOW + 86_399)
    for clock.now, old_holds in ((NOW + 86_399, True), (NOW + 86_400, False)):
        enqueue(engine, f"at{clock.now}", now=clock.now)
        deliver.deliver_due(engine, gate(), sealer, clock)
        headers, body = endpoint.requests[-1]
        signing.check_signature([new], headers, body, clock.now)
        if old_holds:
            signing.check_signature([old], headers, body, clock.now)
        else:
            with pytest.raises(Invalid, match="no signature fits"):
                signing.check_signature([old], headers, body, clock.now)


def test_ff39_a_leaked_secret_signs_nothing_more(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    endpoint_id, old = register(engine, sealer, endpoint.url)
    with engine.begin() as connection:
        new = store.rotate_secret(connection, sealer, "m1", endpoint_id, NOW, keep_old=False)
    enqueue(engine, "a")
    deliver.deliver_due(engine, gate(), sealer, Clock())
    signing.check_signature([new], *endpoint.requests[0], NOW)
    with pytest.raises(Invalid, match="no signature fits"):
        signing.check_signature([old], *endpoint.requests[0], NOW)


def test_ff39_each_endpoint_has_a_secret_of_its_own_and_the_table_shows_none(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    receivers = [serve(), serve()]
    keys = [register(engine, sealer, receiver.url)[1] for receiver in receivers]
    enqueue(engine, "a")
    deliver.deliver_due(engine, gate(), sealer, Clock())
    for receiver, mine, other in zip(receivers, keys, reversed(keys), strict=True):
        signing.check_signature([mine], *receiver.requests[0], NOW)
        with pytest.raises(Invalid, match="no signature fits"):
            signing.check_signature([other], *receiver.requests[0], NOW)
    with db.reading(engine) as connection:
        kept = b"".join(connection.scalars(select(store.endpoints.c.secret)))
    assert not any(key.removeprefix("whsec_").encode() in kept for key in keys)
    with pytest.raises(Invalid, match="no key opens"):
        store.Sealer([Fernet.generate_key().decode()]).unseal(kept)


def test_ff39_an_endpoint_can_ask_for_signatures_that_only_we_can_make(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    endpoint = serve()
    with engine.begin() as connection:
        target = gate().parse(endpoint.url)
        endpoint_id, public = store.add_endpoint(connection, sealer, "m1", target, NOW, "v1a")
        rotated = store.rotate_secret(connection, sealer, "m1", endpoint_id, NOW)
    assert public.startswith("whpk_")
    enqueue(engine, "a")
    deliver.deliver_due(engine, gate(), sealer, Clock())
    for key in (public, rotated):
        signing.check_signature([key], *endpoint.requests[0], NOW)


def test_a_merchant_cannot_touch_the_endpoints_or_events_of_another(
    engine: Engine, sealer: store.Sealer
) -> None:
    mine, _ = register(engine, sealer, "https://a.example.kz/", "m1")
    theirs, _ = register(engine, sealer, "https://b.example.kz/", "m2")
    event_id = enqueue(engine, "a", merchant="m1")
    with engine.begin() as connection:
        attempts: list[Callable[[], object]] = [
            lambda: store.rotate_secret(connection, sealer, "m2", mine, NOW),
            lambda: store.enable_endpoint(connection, "m2", mine),
            lambda: store.redeliver(connection, "m2", event_id, theirs, NOW),
            lambda: store.redeliver(connection, "m2", event_id, mine, NOW),
        ]
        for one in attempts:
            with pytest.raises(Invalid, match="has no such"):
                one()
        assert store.deliveries_of(connection, "m2", "a") == []


def test_a_merchant_has_at_most_ten_endpoints(engine: Engine, sealer: store.Sealer) -> None:
    for number in range(10):
        register(engine, sealer, f"https://h{number}.example.kz/")
    with pytest.raises(Invalid, match="10 endpoints, at most 10"):
        register(engine, sealer, "https://h10.example.kz/")


# --- FF40: an event that arrives twice works once ------------------------------------------------


def test_ff40_an_event_that_arrives_twice_works_once(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint], tmp_path: Path
) -> None:
    endpoint, clock = serve(), Clock()
    _, secret = register(engine, sealer, endpoint.url)
    work = tmp_path / "merchant.sqlite"
    receiver = Receiver(
        [secret], work, lambda db, body: db.execute("INSERT INTO orders VALUES (?)", (body,)), clock
    )
    with closing(sqlite3.connect(work)) as orders:
        orders.execute("CREATE TABLE orders (body BLOB)")

    def lose_the_first_answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        status = receiver.receive(*endpoint.requests[-1])
        if number == 1:
            handler.connection.shutdown(socket.SHUT_RDWR)
        else:
            answer(handler, status)

    endpoint.behave = lose_the_first_answer
    event_id = enqueue(engine, "a")
    deliver.deliver_due(engine, gate(), sealer, clock)
    assert states(engine) == {event_id: "pending"}
    clock.now += 10
    deliver.deliver_due(engine, gate(), sealer, clock)
    assert states(engine) == {event_id: "delivered"}
    first, second = (headers for headers, _ in endpoint.requests)
    assert first["webhook-id"] == second["webhook-id"] == event_id
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
    with closing(sqlite3.connect(work)) as orders:
        assert orders.execute("SELECT body FROM orders").fetchall() == [(BODY,)]


def test_ff40_the_receiver_forgets_an_id_whose_work_failed(tmp_path: Path) -> None:
    secret, done = signing.new_secret(), []

    def work(_: object, body: bytes) -> None:
        done.append(body)
        if len(done) == 1:
            raise RuntimeError("the shop is down")

    receiver = Receiver([secret], tmp_path / "merchant.sqlite", work, Clock())
    headers = signing.signed_headers([secret], "msg_1", NOW, BODY)
    with pytest.raises(RuntimeError):
        receiver.receive(headers, BODY)
    assert [receiver.receive(headers, BODY) for _ in range(3)] == [204] * 3
    assert len(done) == 2
    assert receiver.receive({**headers, "webhook-id": "msg_2"}, BODY) == 401


def test_ff40_the_example_receiver_serves_and_refuses_what_is_not_ours(
    engine: Engine, sealer: store.Sealer, tmp_path: Path
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    _, secret = register(engine, sealer, url)
    done: list[bytes] = []
    receiver = Receiver([secret], tmp_path / "m.sqlite", lambda _db, body: done.append(body), Clock())
    server.RequestHandlerClass = receiver.handler()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    event_id = enqueue(engine, "a")
    deliver.deliver_due(engine, gate(), sealer, Clock())
    forged = signing.signed_headers([signing.new_secret()], "msg_1", NOW, BODY)
    assert gate().post(url, forged, BODY).status == 401
    assert gate().post(url, {}, b" " * (64 * 1024 + 1)).status == 413
    server.shutdown()
    server.server_close()
    assert states(engine) == {event_id: "delivered"}
    assert done == [BODY]


def test_ff40_events_of_one_invoice_are_numbered_in_the_order_of_their_commits(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: enqueue(engine, "a", str(number).encode()), range(20)))
    with db.reading(engine) as connection:
        rows = store.deliveries_of(connection, "m1", "a")
    assert [row.sequence for row in rows] == list(range(1, 21))


# --- FF44: a callback URL never leads inside -----------------------------------------------------


def answering(*addresses: str) -> egress.Resolver:
    return lambda _host, _port: addresses


def redirecting(status: int, url: str) -> Callable[[BaseHTTPRequestHandler, int], None]:
    return lambda handler, _number: answer(handler, status, {"location": url})


INSIDE_TEXT = """
0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.1.2.3 169.254.169.254 172.16.0.1 192.0.0.192 192.0.2.1 192.168.1.1
192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::a00:1 100::1
2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:808:808:: 2620:4f:8000::1 3fff::1
5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 2606:4700::5efe:a00:1 2606:4700::200:5efe:a00:1
"""


@pytest.mark.parametrize("address", INSIDE_TEXT.split())
def test_ff44_no_address_of_ours_is_reached_by_name_or_by_number(address: str) -> None:
    strict = egress.Egress(resolve=lambda _host, _port: [address])
    by_number = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    for url in ("https://hooks.example.kz/", by_number):
        with pytest.raises(Invalid, match="webhook-address") as refused:
            strict.post(url, {}, BODY)
        assert address not in refused.value.why


def test_ff44_one_inside_address_among_public_ones_spoils_the_name() -> None:
    for addresses in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"]):
        strict = egress.Egress(resolve=answering(*addresses))
        with pytest.raises(Invalid, match="webhook-address"):
            strict.addresses(strict.parse("https://hooks.example.kz/"))


@given(st.ip_addresses())
def test_ff44_what_passes_as_public_is_global_for_the_standard_library_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if egress.is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


def test_ff44_ordinary_public_addresses_pass() -> None:
    for address in ("1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e", "95.56.234.1"):
        assert egress.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.kz/",
        "ftp://hooks.example.kz/",
        "file:///etc/passwd",
        "//hooks.example.kz/",
        "https://",
        "https:///path",
        "https://user@hooks.example.kz/",
        "https://hooks.example.kz@127.0.0.1/",
        "https://127.1/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://2130706433/",
        "https://[::1%25eth0]/",
        "https://[127.0.0.1]/",
        "https://hooks.example.kz\\@127.0.0.1/",
        "https://hooks.example.kz/a b",
        "https://hooks.example.kz/\r\nHost: a",
        "https://hooks.example.kz/#fragment",
        "https://hooks.example.kz:99999/",
        "https://hooks.example.kz:/",
        "https://hooks.example.kz./",
        "https://hooks..example.kz/",
        "https://хукс.example.kz/",
        "https://①②⑦.0.0.1/",
        "https://" + "a" * 2048 + "/",
    ],
)
def test_ff44_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="webhook-url"):
        egress.Egress().parse(url)


def test_ff44_only_the_ports_of_the_policy_are_reached() -> None:
    strict = egress.Egress(resolve=lambda _host, _port: ["8.8.8.8"])
    assert strict.addresses(strict.parse("https://hooks.example.kz:8443/")) == ["8.8.8.8"]
    for port in (22, 25, 80, 6379):
        with pytest.raises(Invalid, match=f"{port} is not one of"):
            strict.post(f"https://hooks.example.kz:{port}/", {}, BODY)


def test_ff44_http_is_only_for_the_networks_that_the_operator_named() -> None:
    with pytest.raises(Invalid, match="https is wanted"):
        egress.Egress(["127.0.0.0/8"], resolve=lambda _host, _port: ["8.8.8.8"]).post(
            "http://a.kz/", {}, BODY
        )


def test_ff44_a_name_that_changes_its_answer_is_asked_once_and_pinned(serve: Callable[..., Endpoint]) -> None:
    outside, asked = serve("127.0.0.1"), []

    def rebind(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.99"]

    policy = egress.Egress(["127.0.0.1/32"], resolve=rebind)
    assert policy.post(f"http://hooks.example.kz:{outside.port}/", {}, BODY).status == 204
    assert asked == ["hooks.example.kz"]
    assert outside.requests[0][0]["host"] == f"hooks.example.kz:{outside.port}"


def test_ff44_a_redirect_is_not_followed(
    engine: Engine, sealer: store.Sealer, serve: Callable[..., Endpoint]
) -> None:
    outside, inside = serve(), serve()
    register(engine, sealer, outside.url)
    for status in (301, 302, 303, 307, 308):
        outside.behave = redirecting(status, inside.url)
        event_id = enqueue(engine, f"i{status}")
        deliver.deliver_due(engine, gate(), sealer, Clock())
        assert states(engine)[event_id] == "pending"
    assert len(outside.requests) == 5
    assert inside.requests == []


def test_ff44_an_environment_proxy_does_not_carry_us_elsewhere(
    serve: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, proxy = serve(), serve()
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    gate().post(outside.url, {}, BODY)
    assert (len(outside.requests), len(proxy.requests)) == (1, 0)


def test_ff44_a_huge_answer_is_cut_off(serve: Callable[..., Endpoint]) -> None:
    endpoint = serve()
    total, ended = 256 * 1024 * 1024, threading.Event()

    def flood(handler: BaseHTTPRequestHandler, _number: int) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(total))
        handler.end_headers()
        while endpoint.sent_bytes < total:
            handler.wfile.write(b"x" * 65536)
            endpoint.sent_bytes += 65536

    def flooding(handler: BaseHTTPRequestHandler, number: int) -> None:
        try:
            flood(handler, number)
        finally:
            ended.set()

    endpoint.behave = flooding
    assert gate().post(endpoint.url, {}, BODY).status == 200
    assert ended.wait(60), "it goes on writing"
    # The rest of what was written lies in the kernel's buffers.
    assert endpoint.sent_bytes < 32 * 1024 * 1024


@pytest.mark.parametrize("part", ["silence", "headers", "informational"])
def test_ff44_drops_do_not_add_up_to_more_than_the_time_allowed(
    serve: Callable[..., Endpoint], part: str
) -> None:
    endpoint = serve()

    def drip(handler: BaseHTTPRequestHandler, _number: int) -> None:
        while part == "silence" and not endpoint.released.wait(0.1):
            pass
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: " if part == "headers" else b"")
        while not endpoint.released.wait(0.1):
            handler.wfile.write(b"x" if part == "headers" else b"HTTP/1.1 100 Continue\r\n\r\n")

    endpoint.behave = drip
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="webhook"):
        gate(timeout_s=0.5).post(endpoint.url, {}, BODY)
    assert 0.45 < time.monotonic() - begun < 60


def test_ff44_a_body_that_drips_ends_the_reading_and_not_the_delivery(serve: Callable[..., Endpoint]) -> None:
    endpoint = serve()

    def drip(handler: BaseHTTPRequestHandler, _number: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
        while not endpoint.released.wait(0.1):
            handler.wfile.write(b"x")

    endpoint.behave = drip
    begun = time.monotonic()
    # Time enough for a status, and for no body of 1000 s.
    assert gate(timeout_s=3).post(endpoint.url, {}, BODY).status == 200
    assert time.monotonic() - begun < 60


def test_ff44_a_receiver_that_reads_slowly_cannot_hold_us(serve: Callable[..., Endpoint]) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    stop = threading.Event()

    def sip() -> None:
        connection, _ = listener.accept()
        while not stop.wait(0.1):
            connection.recv(2048)
        connection.close()

    reader = threading.Thread(target=sip, daemon=True)
    reader.start()
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="webhook"):
        gate(timeout_s=0.5).post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"x" * 32_000_000)
    # All of it would take half an hour.
    assert time.monotonic() - begun < 60
    stop.set()
    reader.join()
    listener.close()


def test_ff44_a_name_server_that_is_silent_cannot_hold_us() -> None:
    stop = threading.Event()
    slow = egress.Egress(timeout_s=0.3, resolve=lambda _host, _port: [str(stop.wait(240))])
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="dns"):
        slow.post("https://hooks.example.kz/", {}, BODY)
    assert time.monotonic() - begun < 60
    stop.set()


def test_an_endpoint_at_an_address_of_version_6_is_reached(serve: Callable[..., Endpoint]) -> None:
    endpoint = serve("::1")
    assert gate().post(endpoint.url, {}, BODY).status == 204
    assert endpoint.requests[0][0]["host"] == f"[::1]:{endpoint.port}"


def test_a_second_address_is_tried_where_the_first_does_not_answer(serve: Callable[..., Endpoint]) -> None:
    endpoint = serve("127.0.0.1")
    policy = gate(resolve=lambda _host, _port: ["127.0.0.98", "127.0.0.1"])
    assert policy.post(f"http://hooks.example.kz:{endpoint.port}/", {}, BODY).status == 204


def certify(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a server's TLS context for a name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    day = dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


def test_ff44_a_pinned_connection_still_checks_the_name_on_the_certificate(
    serve: Callable[..., Endpoint], tmp_path: Path
) -> None:
    server, client = certify(tmp_path, "hooks.example.kz")
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    endpoint = serve("127.0.0.1", server)
    policy = gate(resolve=lambda _host, _port: ["127.0.0.1"], tls=client)
    assert policy.post(f"https://hooks.example.kz:{endpoint.port}/", {}, BODY).status == 204
    assert asked == ["hooks.example.kz"]
    with pytest.raises(Unavailable, match="SSLCertVerificationError"):
        policy.post(f"https://other.example.kz:{endpoint.port}/", {}, BODY)
    with pytest.raises(Unavailable, match="SSLCertVerificationError"):
        gate(resolve=lambda _host, _port: ["127.0.0.1"]).post(
            f"https://hooks.example.kz:{endpoint.port}/", {}, BODY
        )
    assert len(endpoint.requests) == 1
