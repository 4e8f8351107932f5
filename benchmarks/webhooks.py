"""How fast events leave the outbox: claimed, signed, posted over HTTP, and the outcome committed.

Real PostgreSQL with fsync; the receiver is a process of its own on loopback that keeps connections
open. The reference is the least any sender of ours could do: the same bodies posted by as many threads on
connections of http.client that stay open, with no signature, no policy and no database.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import insert, select

from benchmarks.result import Result, Results, Wanted, in_turn
from benchmarks.servers import durable_postgres
from gateway import db
from gateway.webhooks import signing, store
from gateway.webhooks.deliver import AT_ONCE, deliver_due
from gateway.webhooks.egress import Egress
from gateway.webhooks.store import Sealer

COUNT, RUNS = 4_000, 3
# Merchants with an endpoint each; and events for each invoice, which wait for each other.
ENDPOINTS, EVENTS_EACH = 50, 4
WAITING = 100_000
BODY = b'{"type":"invoice.paid","timestamp":1800000000,"data":{"invoice":"%s"}}' % (b"0" * 600)

RECEIVER = """
import asyncio, sys
class Receiver(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.data[:end].lower()
            at = head.index(b"content-length:") + 15
            length = int(head[at:].partition(b"\\r\\n")[0])
            if len(self.data) < end + 4 + length:
                return
            self.data = self.data[end + 4 + length:]
            self.transport.write(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
async def main():
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def _receiver() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Outbox:
    """A database with endpoints of many merchants, and events that wait."""

    def __init__(self, url: str, port: int, now: int) -> None:
        self.engine, self.now, self._invoices = db.engine(url), now, 0
        db.create_all(self.engine)
        self.sealer = Sealer(["x8bHqTnwYvRk3e1Uu0bZ5sJm2cWq7iDfLtAoGp9hNlE="])
        self.egress = Egress(["127.0.0.0/8"])
        with self.engine.begin() as connection:
            for number in range(ENDPOINTS):
                target = self.egress.parse(f"http://127.0.0.1:{port}/{number}")
                store.add_endpoint(connection, self.sealer, f"m{number}", target, now)

    def fill(self, count: int) -> None:
        """Let so many events wait, of invoices of every merchant in turn: rows as `enqueue` writes them."""
        with self.engine.begin() as connection:
            ids = {row.merchant_id: row.id for row in connection.execute(select(store.endpoints))}
            told, waiting = [], []
            for number in range(count):
                invoice, sequence = divmod(number, EVENTS_EACH)
                merchant = f"m{invoice % ENDPOINTS}"
                about = {"invoice_id": f"i{self._invoices + invoice}", "sequence": sequence + 1}
                event = {
                    "id": signing.new_id(),
                    "merchant_id": merchant,
                    "type": "invoice.paid",
                    "body": BODY,
                }
                told.append({**event, **about, "body": BODY, "created": self.now})
                due = {"attempt": 0, "due": self.now, "leased_until": 0, "state": "pending"}
                waiting.append({"event_id": event["id"], "endpoint_id": ids[merchant], **about, **due})
            connection.execute(insert(store.events), told)
            connection.execute(insert(store.deliveries), waiting)
        self._invoices += count // EVENTS_EACH

    def deliver(self, count: int) -> float:
        """Events a second."""
        started = time.perf_counter()
        taken = deliver_due(self.engine, self.egress, self.sealer, lambda: self.now, limit=count)
        took = time.perf_counter() - started
        assert taken == count, f"{taken} of {count} were taken"
        return taken / took


def _bare(port: int, count: int) -> float:
    def post(share: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(share):
            connection.request("POST", "/0", BODY, {"Content-Type": "application/json"})
            connection.getresponse().read()
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(post, [count // AT_ONCE] * AT_ONCE))
    return count / (time.perf_counter() - started)


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Deliveries a second, alone and while many wait."""
    now = int(time.time())
    with durable_postgres() as server, _receiver() as port:
        server.execute("CREATE DATABASE webhooks")
        outbox = _Outbox(server.url("webhooks"), port, now)

        def filled() -> float:
            outbox.fill(COUNT)
            return outbox.deliver(COUNT)

        filled()
        delivered, bare = in_turn(RUNS, filled, lambda: _bare(port, COUNT))
        n = f"{COUNT} x {RUNS}, {ENDPOINTS} endpoints"
        yield Result("webhooks.deliver", delivered, "webhooks/s", bare, n)
        if wanted("webhooks.deliver.at_1e5"):
            outbox.fill(WAITING)
            behind, alone = in_turn(RUNS, lambda: outbox.deliver(COUNT), lambda: _bare(port, COUNT))
            yield Result("webhooks.deliver.at_1e5", behind, "webhooks/s", alone, f"{n}, {WAITING} wait")
        outbox.engine.dispose()
