"""A gateway from its settings: any database, any nodes, and only the keys that this process needs.

The same parts as the embedded city, with the operator's own outside: PostgreSQL, JSON-RPC nodes, rate
sources, the folder in which the bank's files arrive. One program serves requests, another works; each may
run on any number of machines.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Self, cast

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from contracts.bindings import City
from contracts.transactions import CONTRACTS
from gateway import db, migrations
from gateway.app import Gateway, create_app
from gateway.erasure.listing import Listing
from gateway.erasure.service import Erasure
from gateway.keyring import Keyring, sealer
from gateway.ledger_view import LedgerView
from gateway.limits import Limits, Most
from gateway.mail.sending import mailer_of
from gateway.measures import store as measures
from gateway.metrics import Health, Measures, Timing, registry_of
from gateway.payments.refunds import Refunds
from gateway.payments.service import ChainQuotes, Payments
from gateway.payments.settlements import Settlements
from gateway.payments.unmatched import Unmatched
from gateway.plan import Plan
from gateway.rails.evm import EvmRail, HttpNode, Place, Pool, Quotes
from gateway.rails.evm.provider import web3_of
from gateway.rails.evm.sight import EvmSight
from gateway.rails.evm.treasury import EvmTreasury
from gateway.rate_desk import RateDesk
from gateway.rate_plan import RatePlan, policy_of, read_plan, sources_of
from gateway.rate_recording import RateRecorder
from gateway.relayer.service import Relayer
from gateway.sending import service as sending
from gateway.sequencer import Sequencer
from gateway.settings import Mode, Settings
from gateway.steps.loop import Step, select_steps
from gateway.vasp.client import Provider
from gateway.vasp.plan import providers_of
from gateway.vasp.plan import read_plan as read_providers
from gateway.webhooks.egress import Egress
from gateway.webhooks.store import Sealer
from gateway.worker import Worker, courier_steps
from ledger import migrations as ledger_migrations
from ledger import store as ledger_store
from ledger.anchor import EvmAnchor
from ledger.cosigning import Policy
from ledger.proof import Verifier, parse_vkey
from ledger.publish import LogKeys, Publisher, Trust
from ledger.records import reject
from ledger.timekeeping import ChainTime, Timekeeper, steady
from ledger.watcher import Watcher

WATCHER_NAME = "watcher"
# What the writer alone does; it needs the keys of the log.
LEDGER_STEPS = frozenset({"record", "publish"})


@dataclass(frozen=True)
class _Rail:
    """The chain's name and coin alone, for a process that signs no quotes."""

    rail: str
    coin_asset: str | None


class Server:
    """The parts of one process, made when they are needed. Use it as a context."""

    def __init__(self, settings: Settings, keyring: Keyring | None = None) -> None:
        settings.check()
        is_strict = settings.mode is Mode.PRODUCTION
        self.settings = settings

        def clock() -> int:
            return int(time.time()) + settings.time_shift_s

        self.clock = clock
        self.keyring = keyring or Keyring.open(settings.keys_folder, is_strict=is_strict)
        self.keyring.check()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- outside --------------------------------------------------------------------

    @cached_property
    def plan(self) -> Plan:
        """The deployment."""
        return Plan.load(self.settings.plan_path)

    @cached_property
    def engine(self) -> db.Engine:
        """The database, with the tables of this version."""
        opened = db.engine(self.settings.database_url)
        self._stack.callback(opened.dispose)
        return opened

    @cached_property
    def heads(self) -> db.Engine:
        """The database of signed heads."""
        opened = db.engine(self.settings.heads_url)
        self._stack.callback(opened.dispose)
        return opened

    def upgrade(self) -> None:
        """Bring the databases to the tables of this version, whichever process is first."""
        migrations.upgrade(self.engine)
        ledger_store.create(self.engine, self.heads)

    def versions(self) -> list[tuple[str, str | None, str]]:
        """Each history of tables: its name, at which step it is, and the step of this version."""
        asked = [
            ("gateway", self.engine, migrations.VERSION_TABLE, migrations.LATEST),
            *(
                (name, self.heads if name == "heads" else self.engine, table, ledger_migrations.LATEST[name])
                for name, table in ledger_migrations.VERSION_TABLES.items()
            ),
        ]
        told = []
        for name, engine, table, wanted in asked:
            with db.reading(engine) as connection:
                told.append((name, measures.version(connection, table), wanted))
        return told

    @cached_property
    def erasure(self) -> Erasure:
        """Erases what is personal, and whatever a backup brought back."""
        listing = Listing(self.settings.erasures_path)
        return Erasure(self.engine, listing, self.clock, self.settings.bank_folder)

    @cached_property
    def pool(self) -> Pool:
        """The nodes of the chain."""
        urls = self.settings.nodes
        if not urls:
            reject("settings", "QAZYNA_RPC_URLS", "this process needs a chain: name one node or more")
        nodes = [HttpNode(url) for url in urls]
        for node in nodes:
            self._stack.callback(node.close)
        return Pool(nodes, self.plan.deployment.chain_id)

    @cached_property
    def place(self) -> Place:
        """Contracts and tokens."""
        return Place(self.plan.deployment, self.plan.tokens)

    @cached_property
    def rail(self) -> EvmRail:
        """The chain, as it is read."""
        return EvmRail(self.pool, self.place, self.settings.confirmations)

    @cached_property
    def city(self) -> City:
        """The contracts, as they are called."""
        return City(web3_of(self.pool), self.plan.deployment)

    @cached_property
    def rate_plan(self) -> RatePlan:
        """The operator's list of rate sources."""
        return read_plan(self.settings.rates_path)

    @cached_property
    def view(self) -> LedgerView:
        """The ledger, as it is read."""
        return LedgerView(self.engine, self.heads)

    @cached_property
    def rates(self) -> RateDesk:
        """The rates in use."""
        client = self._stack.enter_context(httpx.Client(timeout=5, trust_env=False))
        sources = sources_of(self.rate_plan, client, self.pool, self.plan.deployment.chain_id)
        return RateDesk(sources, policy_of(self.rate_plan), self.clock, self.engine, self.view)

    # --- inside ---------------------------------------------------------------------

    @cached_property
    def limits(self) -> Limits:
        """When nobody is quoted."""
        most = Most(self.settings.lag_most_s, self.settings.rate_age_most_s)
        return Limits(self.engine, self.clock, self.rates, self.place.rail, most)

    @cached_property
    def payments(self) -> Payments:
        """The use cases; with quotes where this process has the key that signs them."""
        chain: ChainQuotes = self.quotes or cast("ChainQuotes", _Rail(self.place.rail, self.place.coin_asset))
        return Payments(self.engine, self.view, self.clock, self.rates, chain, self.limits)

    @cached_property
    def quotes(self) -> Quotes | None:
        """Signs quotes; None without the gateway's key."""
        if not self.keyring.has("gateway"):
            return None
        return Quotes(self.city, self.place, self.keyring.account("gateway"))

    @cached_property
    def egress(self) -> Egress:
        """How webhooks leave."""
        made = Egress(self.settings.egress_networks)
        self._stack.callback(made.close)
        return made

    @cached_property
    def sealer(self) -> Sealer:
        """What seals webhook secrets."""
        return sealer(self.settings.secret.get_secret_value())

    @cached_property
    def publisher(self) -> Publisher:
        """The public bundle; it can be signed only where the log's keys are."""
        deployment = self.plan.deployment
        contracts = {name: getattr(deployment, name) for name in CONTRACTS}
        keys = self.log_keys() if self.keyring.has("log") else None
        witnesses = [] if self._witnesses is None else self._witnesses.verifiers
        trusted = [] if keys is None else [*keys.verifiers(), *self._watchers(), *witnesses]
        quorum = () if self._witnesses is None else (self._witnesses.names, self._witnesses.needed)
        trust = Trust(deployment.ledger, deployment.chain_id, contracts, trusted, *quorum)
        return Publisher(self.settings.bundle_place, cast("LogKeys", keys), trust)

    @cached_property
    def gateway(self) -> Gateway:
        """What requests and steps share."""
        settings = self.settings
        return Gateway(
            self.engine,
            self.payments.view,
            self.payments,
            self.quotes,
            self.publisher,
            self.sealer,
            self.egress,
            self.clock,
            settings.public_url,
            self.plan.bank_iban,
            relayer=self._relayer(),
            refunds=Refunds(self.payments, EvmSight(self.pool, self.place), sending, self._treasury()),
            unmatched=Unmatched(self.payments),
            settlements=Settlements(self.payments, self._providers()),
        )

    def _providers(self) -> dict[str, Provider]:
        """Who pays merchants out in tenge."""
        # Each question says how long it waits.
        client = self._stack.enter_context(httpx.Client(trust_env=False))
        return providers_of(read_providers(self.settings.vasp_path), client, self.keyring)

    def _treasury(self) -> EvmTreasury:
        """Asks the Treasury for the city's share of a refund, against the public bundle."""
        return EvmTreasury(self.city, self.publisher, self.engine, self.payments.view, self.clock)

    def _relayer(self) -> Relayer | None:
        if self.settings.relayer:
            address = bytes.fromhex(self.settings.relayer.removeprefix("0x"))
        elif self.keyring.has("relayer"):
            address = bytes.fromhex(self.keyring.account("relayer").address[2:])
        else:
            return None
        return Relayer(self.payments, self.rail, address)

    # --- serving and working ----------------------------------------------------------

    def application(self) -> FastAPI:
        """The HTTP application, with /healthz and /readyz, and its requests timed."""
        if self.quotes is None:
            reject("keys", "gateway", "this process signs quotes and needs the gateway's key")
        app = create_app(self.gateway)
        health = Health(self.engine)

        @app.get("/healthz", include_in_schema=False)
        def _healthz() -> dict[str, str]:
            return {"status": "alive"}

        @app.get("/readyz", include_in_schema=False)
        def _readyz() -> JSONResponse:
            # Whoever asks learns whether, and not why: that is on the operator's own port.
            is_ready = not health.problems()
            return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

        self.registry = registry_of(self.measures)
        app.add_middleware(Timing, registry=self.registry)
        return app

    @cached_property
    def measures(self) -> Measures:
        """What is measured in this process."""
        assets = tuple(self.rate_plan.assets)
        made = Measures(
            self.engine, self.clock, self.limits, assets, self.rail, published=self.publisher.published
        )
        made.gauges["unmatched_overdue"] = lambda: len(Unmatched(self.payments).overdue())
        return made

    @cached_property
    def worker(self) -> Worker:
        """The worker's pieces of work."""
        self.settings.bank_folder.mkdir(parents=True, exist_ok=True)
        relayer = self.keyring.account("relayer") if self.keyring.has("relayer") else None
        settings = self.settings
        view, assets = self.payments.view, tuple(self.rate_plan.assets)
        return Worker(
            self.gateway,
            None,
            self.rail,
            self.city,
            relayer,
            settings.bank_folder,
            settings.retention_code,
            RateRecorder(self.engine, view, self.rates, assets, self.clock),
        )

    def steps(self, only: Sequence[str] = ()) -> tuple[Step, ...]:
        """The steps of this process: those that are named; else all that it has the keys for."""
        mailer = mailer_of(self.settings, self.engine, self.clock)
        courier = courier_steps(self.engine, self.egress, self.sealer, self.clock, mailer)
        if only and set(only) <= {step.name for step in courier}:
            # Neither a node nor a key of the city: such a process can stand where webhooks leave.
            self.measures = Measures(self.engine, self.clock)
            return select_steps(courier, only)
        # In a loop of its own, slow endpoints hold up nobody from one turn to the next.
        table = [step for step in self.worker.steps() if step.name not in {one.name for one in courier}]
        steps = select_steps([*table, *courier], only)
        wants_ledger = bool(LEDGER_STEPS & {step.name for step in steps})
        if wants_ledger and not self.keyring.has("log"):
            if only:
                reject("keys", "log", "the steps record and publish need the keys of the log")
            steps = tuple(step for step in steps if step.name not in LEDGER_STEPS)
        elif wants_ledger:
            sequencer = self.sequencer
            own = {"record": sequencer.record, "publish": sequencer.publish}
            steps = tuple(
                Step(step.name, own[step.name], step.every_s, step.budget_s, shared=True)
                if step.name in own
                else step
                for step in steps
            )
        return steps

    @cached_property
    def sequencer(self) -> Sequencer:
        """Records and publishes while this process is the writer."""
        keys = self.log_keys()
        witness = None
        if self.keyring.has("watcher") and self.keyring.has("cosigner"):
            witness = Watcher(
                self.settings.watcher or WATCHER_NAME,
                keys.verifiers(),
                self.keyring.seat("watcher"),
                self.keyring.cosigner(),
                self.clock,
                self.settings.folder / "watcher",
            )
        anchors: tuple[EvmAnchor, ...] = ()
        if self.keyring.has("operator"):
            anchors = (EvmAnchor(self.city, self.keyring.account("operator"), self.clock),)
        lock = self.settings.folder / "writer.lock"
        made = Sequencer(
            self.worker, self.heads, keys, lock, witness, anchors, self._witnesses, self.timekeeper
        )
        self._stack.callback(made.close)
        self.measures.is_writer = lambda: made.is_writer
        return made

    @cached_property
    def timekeeper(self) -> Timekeeper:
        """Says whether this machine's clock can be believed: the chain shows what time it is."""
        chain = ChainTime(f"chain {self.plan.deployment.chain_id}", self.city.newest_time)
        return Timekeeper(steady, [chain], self.settings.clock_confirmed_until_s)

    @cached_property
    def _witnesses(self) -> Policy | None:
        """Which witnesses must have signed before a chain gets a head: the file `witnesses`, if there."""
        return Policy.of(self.settings.folder / "witnesses")

    def log_keys(self) -> LogKeys:
        """The keys by which the log signs."""
        origin = self.settings.origin
        if not origin:
            reject("settings", "QAZYNA_ORIGIN", "the log's name, under which it signs: a schema-less URL")
        return self.keyring.log(origin)

    def _watchers(self) -> list[Verifier]:
        """Whose cosignatures are taken: the keys that are named, or the watcher in this process."""
        if self.keyring.has("cosigner"):
            from ledger.proof import COSIGNATURE

            public = self.keyring.cosigner().public_key().public_bytes_raw()
            return [Verifier(self.settings.watcher or WATCHER_NAME, COSIGNATURE, public)]
        return [parse_vkey(vkey) for vkey in self.settings.watcher_vkeys.split()]
