"""The embedded city: SQLite, an in-process EVM and simulators of the outside, in one folder.

For trying out and for the demonstration. Keys are made at the first start, stay in the
folder, and are worth nothing elsewhere. Everything else is the code that runs in earnest.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Self

import coincurve
import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import RPCEndpoint

from contracts.bindings import City
from contracts.devchain import DevChain
from contracts.transactions import CONTRACTS
from gateway import db, migrations
from gateway.app import Gateway
from gateway.ledger_view import LedgerView
from gateway.limits import Limits, Most
from gateway.metrics import Measures
from gateway.payments.refunds import Refunds
from gateway.payments.service import Payments
from gateway.payments.settlements import Settlements
from gateway.payments.unmatched import Unmatched
from gateway.plan import Plan
from gateway.rails.evm import EvmRail, Place, Quotes
from gateway.rails.evm.sight import EvmSight
from gateway.rails.evm.treasury import EvmTreasury
from gateway.rails.tenge.simulator import Bank
from gateway.rate_desk import RateDesk
from gateway.rate_recording import RateRecorder
from gateway.rates import Exchange, NationalBank, Policy, RateSource
from gateway.rates_simulator import RatesSimulator
from gateway.relayer.service import Relayer
from gateway.sending import service as sending
from gateway.webhooks.egress import Egress, trusted_by_the_system
from gateway.webhooks.store import Sealer
from gateway.worker import Publication, Worker
from ledger.anchor import EvmAnchor
from ledger.cosigning import Policy as WitnessPolicy
from ledger.publish import LogKeys, Publisher, Trust
from ledger.records import Unavailable
from ledger.watcher import Watcher
from ledger.writer import Writer, only_writer

ORIGIN = "alatau.qazyna.sample/ledger"
WATCHER_NAME = "watcher.qazyna.sample"
CHAIN_ID = 31_337
COUNCIL_SEATS = 5
SEATS = ("authority", "certifier", "auditor", "watcher", "operator", "gateway")
OTHERS = ("deployer", "relayer", "merchant", "payer", "builder", "republic")
ETHER = 10**18
RATES = Policy(
    max_age_s={"nationalbank": 4 * 86_400, "exchange-a": 600, "exchange-b": 600},
    band_bps=300,
    step_bps=1_000,
    last_good_max_age_s=900,
    peg_sources=frozenset({"nationalbank"}),
    depeg_bps=200,
)
# As a city in earnest has it (docs/operator.md).
MOST = Most(lag_s=300, rate_age_s=900)


class Clock:
    """Unix seconds that never go back, for a city that has a time of its own.

    A sample city lives in 2026, where its sample prices and budgets are; so it can be made in
    any year. A scenario sets the time; a city that is served lets it run.
    """

    def __init__(self, at_s: int, *, runs: bool = False) -> None:
        self._at_s = at_s
        self._since = time.monotonic() if runs else None

    def __call__(self) -> int:
        """Now."""
        return self._at_s + (0 if self._since is None else int(time.monotonic() - self._since))

    def wait(self, seconds: int) -> None:
        """Let time pass at once."""
        assert seconds >= 0
        self._at_s += seconds

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Let the time of the city in a folder run on from where it stopped."""
        return cls(int((folder / "clock").read_text()), runs=True)

    def save(self, folder: Path) -> None:
        """Note the time, for the next start."""
        beside = folder / ".clock"
        beside.write_text(str(self()))
        beside.replace(folder / "clock")


class Keys:
    """The keys of an embedded city, in a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            made = {
                name: secrets.token_hex(32)
                for name in (*self.names(), "log", "ml_dsa", "cosigner", "webhooks")
            }
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as handle:
                json.dump(made, handle)
        self._hex: dict[str, str] = json.loads(path.read_text())

    @staticmethod
    def names() -> list[str]:
        """Who has a key on the chain."""
        return [*(f"council-{n}" for n in range(COUNCIL_SEATS)), *SEATS, *OTHERS]

    def account(self, name: str) -> LocalAccount:
        """A key that signs transactions and approvals."""
        account: LocalAccount = Account.from_key(bytes.fromhex(self._hex[name]))
        return account

    def address(self, name: str) -> bytes:
        """Its address."""
        return bytes.fromhex(self.account(name).address[2:])

    def council(self, count: int) -> list[LocalAccount]:
        """The first so many members of the Council."""
        return [self.account(f"council-{n}") for n in range(count)]

    def log(self) -> LogKeys:
        """The log's keys."""
        ed25519 = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self._hex["log"]))
        return LogKeys(ORIGIN, ed25519, MLDSA44PrivateKey.from_seed_bytes(bytes.fromhex(self._hex["ml_dsa"])))

    def cosigner(self) -> Ed25519PrivateKey:
        """The watcher's key for notes."""
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self._hex["cosigner"]))

    def seat(self, name: str) -> coincurve.PrivateKey:
        """A seat's key for 32 bytes."""
        return coincurve.PrivateKey(bytes.fromhex(self._hex[name]))

    def sealer(self) -> Sealer:
        """What seals webhook secrets."""
        return Sealer([urlsafe_b64encode(bytes.fromhex(self._hex["webhooks"])).decode()])


class Outside:
    """What is outside the city, simulated: a chain, a bank, rate sources; web3 may be another node's."""

    def __init__(
        self, folder: Path, clock: Clock, keys: Keys, stack: ExitStack, rpc_url: str = "", port: int = 0
    ) -> None:
        self.chain: DevChain | None = None
        if rpc_url:
            self.web3, self.rpc_url = Web3(Web3.HTTPProvider(rpc_url)), rpc_url
            for name in keys.names():
                self._ask("anvil_setBalance", keys.account(name).address, hex(1_000 * ETHER))
        else:
            balances: dict[str, int] = {keys.account(name).address: 1_000 * ETHER for name in keys.names()}
            chain = DevChain(folder / "chain.jsonl", balances, clock, chain_id=CHAIN_ID)
            self.chain = stack.enter_context(chain)
            self.web3, self.rpc_url = Web3(chain.provider), chain.serve(port)
        self.bank = Bank(clock)
        prices = {
            "exchange-a": {"USDT/KZT": Decimal("512.40"), "ETH/KZT": Decimal(1280500)},
            "exchange-b": {"USDT/KZT": Decimal("512.10"), "ETH/KZT": Decimal(1280100)},
        }
        self.rates = stack.enter_context(RatesSimulator(clock, {"USD": (Decimal("511.90"), 1)}, prices))
        client = stack.enter_context(httpx.Client(timeout=5, trust_env=False, verify=trusted_by_the_system()))
        self.rate_sources: dict[str, Sequence[RateSource]] = {
            "USDT": (
                NationalBank(client, self.rates.daily_url, "USDT", 6, "USD"),
                *(
                    Exchange(client, self.rates.exchange_url(name), "USDT", 6, "USDT/KZT", name)
                    for name in prices
                ),
            ),
            # For a city that takes the chain's coin (Plan.more).
            "ETH": tuple(
                Exchange(client, self.rates.exchange_url(name), "ETH", 18, "ETH/KZT", name) for name in prices
            ),
        }

    def shift(self, seconds: int) -> None:
        """Move another node's clock with ours (the in-process chain asks ours); let a block show it."""
        if self.chain is None:
            self._ask("evm_increaseTime", seconds)
        self.mine()

    def _ask(self, method: str, *parameters: object) -> None:
        answer = self.web3.provider.make_request(RPCEndpoint(method), list(parameters))
        if "error" in answer:
            raise Unavailable("chain", f"{method}: {answer['error']}")

    def finalise(self) -> None:
        """Let the chain go on until what it holds now is final."""
        target = self.web3.eth.block_number
        while (behind := target - self.web3.eth.get_block("finalized")["number"]) > 0:
            self.mine(behind)

    def mine(self, blocks: int = 1) -> None:
        """Let the chain go on, so that what stands on it becomes final."""
        if self.chain is not None:
            self.chain.mine(blocks)
        else:
            for _ in range(blocks):
                self._ask("evm_mine")


class EmbeddedCity:
    """A whole city in a folder. Use it as a context; `start` after the contracts are deployed."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        database: str = "",
        rpc_url: str = "",
        chain_port: int = 0,
        most: Most = MOST,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.clock, self._most = folder, clock, most
        self._stack = ExitStack()
        self.keys = Keys(folder / "keys.json")
        self.bank_folder = folder / "bank"
        self.bank_folder.mkdir(exist_ok=True)
        self._database = database or f"sqlite:///{folder.resolve()}/qazyna.db"
        self._heads = f"sqlite:///{folder.resolve()}/heads.db"
        self.outside = Outside(folder, clock, self.keys, self._stack, rpc_url, chain_port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clock.save(self.folder)
        self._stack.close()

    @property
    def plan_path(self) -> Path:
        """Where the plan stands once the contracts are deployed."""
        return self.folder / "plan.json"

    def start(self, plan: Plan, public_url: str = "http://127.0.0.1:8000") -> None:
        """Open databases, become the writer, and put the gateway together."""
        self.plan = plan
        engine, heads = db.engine(self._database), db.engine(self._heads)
        self._stack.callback(engine.dispose)
        self._stack.callback(heads.dispose)
        migrations.upgrade(engine)
        view = LedgerView(engine, heads)
        self.rate_desk = RateDesk(self.outside.rate_sources, RATES, self.clock, engine, view)
        self._stack.enter_context(only_writer(engine, self.folder / "writer.lock"))
        log = self.keys.log()
        self.writer = Writer(engine, heads, log, self.clock)
        # A process that died may have noted an earlier time than it recorded.
        self.clock.wait(max(0, self.writer.state.time - self.clock()))
        self.watcher = Watcher(
            WATCHER_NAME,
            log.verifiers(),
            self.keys.seat("watcher"),
            self.keys.cosigner(),
            self.clock,
            self.folder / "watcher",
        )
        deployment = plan.deployment
        contracts = {name: getattr(deployment, name) for name in CONTRACTS}
        policy = WitnessPolicy.of(self.folder / "witnesses")
        known = [] if policy is None else policy.verifiers
        verifiers = [*log.verifiers(), self.watcher.verifier(), *known]
        quorum = () if policy is None else (policy.names, policy.needed)
        trust = Trust(deployment.ledger, deployment.chain_id, contracts, verifiers, *quorum)
        self.publisher = Publisher(self.folder / "bundle", log, trust)
        self.city = City(self.outside.web3, deployment)
        place = Place(deployment, plan.tokens)
        quotes = Quotes(self.city, place, self.keys.account("gateway"))
        limits = Limits(engine, self.clock, self.rate_desk, place.rail, self._most)
        payments = Payments(engine, view, self.clock, self.rate_desk, quotes, limits)
        rail = EvmRail(self.outside.web3, place)
        treasury = EvmTreasury(self.city, self.publisher, engine, view, self.clock)
        refunds = Refunds(payments, EvmSight(rail.pool, place), sending, treasury)
        self.gateway = Gateway(
            engine,
            view,
            payments,
            quotes,
            self.publisher,
            self.keys.sealer(),
            Egress(["127.0.0.0/8"]),
            self.clock,
            public_url,
            plan.bank_iban,
            relayer=Relayer(payments, rail, self.keys.address("relayer")),
            refunds=refunds,
            unmatched=Unmatched(payments),
            settlements=Settlements(payments),
        )
        self.measures = Measures(
            engine,
            self.clock,
            limits,
            tuple(plan.tokens.values()),
            rail,
            published=self.publisher.published,
            is_writer=lambda: True,
        )
        anchor = EvmAnchor(self.city, self.keys.account("operator"), self.clock)
        self.worker = Worker(
            self.gateway,
            Publication(self.writer, self.watcher, (anchor,), policy),
            rail,
            self.city,
            self.keys.account("relayer"),
            self.bank_folder,
            rates=RateRecorder(engine, view, self.rate_desk, tuple(plan.tokens.values()), self.clock),
        )

    def take_bank_files(self) -> None:
        """What a bank's file transfer does: new files appear in the folder."""
        for content in self.outside.bank.collect():
            name = sha256(content).hexdigest()[:16]
            beside = self.bank_folder / f".{name}"
            beside.write_bytes(content)
            beside.replace(self.bank_folder / f"{name}.xml")

    def run(self, stop: threading.Event) -> None:
        """Work in the background until told to stop; the chain goes on by itself."""
        while not stop.wait(1.0):
            self.take_bank_files()
            self.worker.round()
            self.outside.mine()
            self.clock.save(self.folder)
