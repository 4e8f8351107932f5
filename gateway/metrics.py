"""What an operator watches, for Prometheus: read when it is asked for, from the database and this process.

What cannot be read is told as such (`qazyna_unreadable`) and does not hide the rest. Nothing in it is of one
payer or merchant; it is served on a port of its own, on loopback.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from gateway.db import Engine, reading
from gateway.limits import Limits
from gateway.mail import store as mail
from gateway.measures import store
from gateway.rails.evm import EvmRail
from gateway.sending import store as sending
from gateway.steps.loop import Loop
from gateway.watching import store as watching
from gateway.webhooks.deliver import Clock
from gateway.webhooks.history import store as webhooks
from ledger.records import Invalid, Unavailable

LOGGER = logging.getLogger(__name__)
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(eq=False)
class Measures(Collector):
    """Everything that is measured in this process; what it has no part of is not told.

    gauges: others' numbers, by name; each is asked when somebody scrapes.
    """

    engine: Engine
    clock: Clock
    limits: Limits | None = None
    assets: tuple[str, ...] = ()
    rail: EvmRail | None = None
    loop: Loop | None = None
    published: Callable[[], int] | None = None
    is_writer: Callable[[], bool] | None = None
    gauges: dict[str, Callable[[], float]] = field(default_factory=dict)

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked when it is registered."""
        return []

    @override
    def collect(self) -> Iterator[Metric]:
        """Ask for everything now."""
        unreadable: dict[str, float] = {}
        parts = (
            self._chain,
            self._nodes,
            self._rates,
            self._money,
            self._webhooks,
            self._letters,
            self._ledger,
            self._calls,
            self._steps,
            self._others,
        )
        for part in parts:
            name = part.__name__.strip("_")
            unreadable[name] = 0
            try:
                # A whole part or nothing of it.
                yield from list(part())
            except (Unavailable, Invalid) as error:
                unreadable[name] = 1
                LOGGER.info("metrics of %s: %s", name, error)
            except Exception:
                unreadable[name] = 1
                LOGGER.exception("metrics of %s", name)
        yield _gauge("unreadable", "1 where a part of these metrics could not be read", unreadable, "part")

    def _chain(self) -> Iterator[Metric]:
        if self.limits is None or self.limits.rail is None:
            return
        rail, lag_s = self.limits.rail, self.limits.lag_s()
        yield _gauge("chain_lag_seconds", "since when payments are not known", {rail: lag_s}, "rail")
        if self.rail is not None:
            heads = [one.latest for one in self.rail.conditions() if one.latest is not None]
            with reading(self.engine) as connection:
                tail = watching.tail(connection, rail)
            if heads and tail is not None:
                lag = max(max(heads) - tail.number, 0)
                yield _gauge("chain_lag_blocks", "blocks not taken yet", {rail: lag}, "rail")

    def _nodes(self) -> Iterator[Metric]:
        found = [] if self.rail is None else self.rail.conditions()
        used = {one.name: float(one.is_used) for one in found}
        yield _gauge("node_is_used", "0 while a node is left alone", used, "node")
        failures = {one.name: float(one.failures) for one in found}
        yield _gauge("node_failures", "failures of a node in a row", failures, "node")
        behind = {one.name: float(one.lag_blocks) for one in found if one.lag_blocks is not None}
        yield _gauge("node_lag_blocks", "how far a node is behind the furthest", behind, "node")

    def _rates(self) -> Iterator[Metric]:
        if self.limits is None:
            return
        ages, stopped = {}, {}
        for asset in self.assets:
            stopped[asset] = 0.0
            try:
                ages[asset] = float(self.limits.rate_age_s(asset))
                self.limits.check(asset)
            except Unavailable:
                stopped[asset] = 1.0
        yield _gauge("rate_age_seconds", "age of the rate; missing: none", ages, "asset")
        yield _gauge("quotes_stopped", "1 while nobody is quoted in an asset", stopped, "asset")

    def _money(self) -> Iterator[Metric]:
        with reading(self.engine) as connection:
            found = store.unmatched(connection)
            refused = store.refused_bookings(connection)
        told = "refunds that went and that the ledger would not book"
        yield _gauge("bookings_refused", told, len(refused))
        counts = {asset: float(count) for asset, (count, _) in found.items()}
        sums = {asset: float(minor) for asset, (_, minor) in found.items()}
        yield _gauge("unmatched_pieces", "pieces of money that wait for a person", counts, "asset")
        yield _gauge("unmatched_minor", "their sum in base units, rounded as Prometheus does", sums, "asset")

    def _webhooks(self) -> Iterator[Metric]:
        with reading(self.engine) as connection:
            found = webhooks.waiting(connection)
        age_s = 0 if found.oldest_due_s is None else max(self.clock() - found.oldest_due_s, 0)
        yield _gauge("outbox_pending", "webhooks that wait", found.pending)
        yield _gauge("outbox_age_seconds", "how long the oldest webhook has been due", age_s)
        yield _gauge("outbox_failing_endpoints", "endpoints that fail now", found.failing_endpoints)

    def _letters(self) -> Iterator[Metric]:
        with reading(self.engine) as connection:
            found = mail.waiting(connection)
        age_s = 0 if found.oldest_s is None else max(self.clock() - found.oldest_s, 0)
        yield _gauge("letters_waiting", "e-mails to merchants that are not sent", found.count)
        yield _gauge("letters_age_seconds", "age of the oldest", age_s)
        yield _gauge("letters_given_up", "e-mails that no server took in days", found.given_up)

    def _ledger(self) -> Iterator[Metric]:
        now = self.clock()
        with reading(self.engine) as connection:
            depth, oldest = store.inbox(connection)
            size, anchors = store.recorded(connection), store.anchored(connection)
            public = size if self.published is None else self.published()
            first_hidden = store.record_time(connection, public)
        yield _gauge("inbox_depth", "submissions that wait for the writer", depth)
        waited_s = 0 if oldest is None else max(now - oldest, 0)
        yield _gauge("inbox_age_seconds", "age of the oldest", waited_s)
        yield _gauge("recorded_size", "records of the ledger", size)
        hidden_s = 0 if first_hidden is None else max(now - first_hidden, 0)
        if self.published is not None:
            yield _gauge("published_size", "records that are public", public)
            yield _gauge("unpublished_age_seconds", "age of the oldest that is not", hidden_s)
        sizes = {chain: float(anchored) for chain, (anchored, _) in anchors.items()}
        ages = {chain: float(max(now - time_s, 0)) for chain, (_, time_s) in anchors.items()}
        yield _gauge("anchored_size", "records that a chain has an anchor of", sizes, "chain")
        yield _gauge("anchor_age_seconds", "age of the newest anchor", ages, "chain")
        if self.is_writer is not None:
            yield _gauge("is_writer", "1 in the one process that records", float(self.is_writer()))

    def _calls(self) -> Iterator[Metric]:
        if self.limits is None or self.limits.rail is None:
            return
        with reading(self.engine) as connection:
            counts = sending.counts(connection, self.limits.rail)
            oldest = sending.oldest_live(connection, self.limits.rail)
        by_state = {state: float(count) for state, count in counts.items()}
        yield _gauge("transactions", "calls to the chain by state", by_state, "state")
        age_s = 0 if oldest is None else max(self.clock() - oldest, 0)
        yield _gauge("transactions_age_seconds", "age of the oldest call that is not final", age_s)

    def _steps(self) -> Iterator[Metric]:
        if self.loop is None:
            return
        now, progress = time.monotonic(), self.loop.progress
        ages = {
            name: now - one.succeeded_at for name, one in progress.items() if one.succeeded_at is not None
        }
        yield _gauge("step_age_seconds", "since a step last came to its end", ages, "step")
        took = {name: one.took_s for name, one in progress.items()}
        yield _gauge("step_took_seconds", "how long it took then", took, "step")
        failures = {name: float(one.failures) for name, one in progress.items()}
        yield _gauge("step_failures", "how often it failed since the start", failures, "step")
        failing = {name: float(one.error is not None) for name, one in progress.items()}
        yield _gauge("step_is_failing", "1 where it failed the last time", failing, "step")

    def _others(self) -> Iterator[Metric]:
        for name, ask in self.gauges.items():
            yield _gauge(name, "see docs/operator.md", ask())


def _gauge(name: str, told: str, values: float | Mapping[str, float], label: str = "") -> Metric:
    """One number, or one for each value of a label."""
    family = GaugeMetricFamily(f"qazyna_{name}", told, labels=[label] if label else [])
    if isinstance(values, int | float):
        family.add_metric([], values)
    else:
        for of, value in values.items():
            family.add_metric([of], value)
    return family


def registry_of(measures: Measures) -> CollectorRegistry:
    """A registry of this process alone, so that tests and processes share nothing."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(measures)
    return registry


class Timing:
    """How long requests take, by route as it is written and never as it was asked: ids are no labels."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ("method", "route", "status")
        self._seconds = Histogram(
            "qazyna_request_seconds", "time to answer", labels, buckets=BUCKETS, registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how long it took."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = (
                scope["method"] if scope["method"] in {"GET", "POST", "PUT", "DELETE", "PATCH"} else "other"
            )
            taken = time.perf_counter() - started
            self._seconds.labels(method, route, str(status or 500)).observe(taken)


@dataclass(frozen=True)
class Health:
    """Whether a process lives and may be given work. late: names of steps that should have ended by now."""

    engine: Engine
    loop: Loop | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def problems(self) -> list[str]:
        """Why it should not be given work now; none: it is ready."""
        found = ["it is stopping"] if self.stopping.is_set() else []
        try:
            with reading(self.engine) as connection:
                store.is_there(connection)
        except Exception as error:
            found.append(f"the database does not answer: {type(error).__name__}")
        if self.loop is not None:
            found += [f"step {name} is late" for name in self.loop.late()]
            if self.loop.broken is not None:
                found.append("a step broke")
        return found

    def warnings(self) -> list[str]:
        """What a person must see to, though work goes on."""
        progress = {} if self.loop is None else self.loop.progress
        failing = [
            f"step {name} fails: {one.error}" for name, one in progress.items() if one.error is not None
        ]
        try:
            with reading(self.engine) as connection:
                refused = store.refused_bookings(connection)
        except Exception as error:
            return [*failing, f"refused bookings cannot be read: {type(error).__name__}"]
        return failing + [
            f"the ledger did not book the refund {one.refund_id}: {one.rule} {one.why}" for one in refused
        ]


def serve(registry: CollectorRegistry, health: Health, host: str, port: int) -> ThreadingHTTPServer:
    """Serve /metrics, /healthz and /readyz in a thread; port 0 takes any that is free."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer one request."""
            if self.path == "/metrics":
                self._answer(200, TYPE, generate_latest(registry))
            elif self.path == "/healthz":
                self._answer(200, "application/json", b'{"status":"alive"}')
            elif self.path == "/readyz":
                problems = health.problems()
                told: dict[str, object] = {"status": "not ready" if problems else "ready"}
                # A warning takes no process out of service: that would make nothing better.
                told |= {"problems": problems, "warnings": health.warnings()}
                self._answer(503 if problems else 200, "application/json", json.dumps(told).encode())
            else:
                self._answer(404, "text/plain", b"only /metrics, /healthz and /readyz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True, name="metrics").start()
    return server
