"""A real small city for each test: built once, copied, opened. Nothing in it is a mock."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from web3 import Web3

from contracts import bindings, transactions
from contracts.bindings import Quote, Signature, Terms
from gateway.app import create_app
from gateway.db import reading
from gateway.demo import MERCHANT_BIN, SALE_CODE, START_S, enact_all, open_city
from gateway.embedded import Clock, EmbeddedCity
from gateway.kz import iban_check_digits
from gateway.limits import Most
from gateway.merchants import store as merchants
from gateway.payments import store
from gateway.payments.service import Request
from gateway.payments.store import Invoice, Seen
from gateway.plan import Plan
from gateway.rails.evm import EvmRail, Place
from gateway.rails.tenge.simulator import Transfer as BankTransfer
from gateway.webhooks import store as webhooks
from gateway.worker import Worker
from ledger import store as ledger_store
from ledger.records import Asset, Parameter, RevenueRule, Transfer, decode
from tests import servers
from tests.gateway.replayed import remembered

DAY = 86_400
LAX = Most(lag_s=10 * 366 * DAY, rate_age_s=900)
MERCHANT_IBAN = f"KZ{iban_check_digits('KZ', '722S000012345678')}722S000012345678"
PRICE_TIYN = 1_250_000
PAYER_UNITS = 10**15
TEMPLATE = "built_town"


@dataclass
class Town:
    """A city with a merchant, an operator and a payer who has money; and what outsiders do in it."""

    city: EmbeddedCity
    merchant_id: str
    merchant_key: str
    operator_key: str
    references: int = field(default=0)

    # --- what is in it ---

    @property
    def payments(self) -> Any:
        return self.city.gateway.payments

    @property
    def token(self) -> bytes:
        return self.city.plan.token

    @property
    def chain(self) -> Any:
        assert self.city.outside.chain is not None
        return self.city.outside.chain

    @property
    def payer(self) -> Any:
        return self.city.keys.account("payer")

    def client(self) -> TestClient:
        """The application; our own bugs are raised and not answered."""
        return TestClient(create_app(self.city.gateway), raise_server_exceptions=True)

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.merchant_key}"}

    @property
    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.operator_key}"}

    # --- what people do ---

    def invoice(self, tiyn: int = PRICE_TIYN, **changes: Any) -> Invoice:
        """A merchant's invoice in USDT, with a reference of its own."""
        self.references += 1
        asked: dict[str, Any] = {
            "merchant_id": self.merchant_id,
            "merchant_reference": f"order-{self.references}",
            "payee": self.city.keys.address("merchant"),
            **changes,
        }
        made: Invoice = self.payments.create(Request(SALE_CODE, "Tea", tiyn, "USDT", **asked))
        return made

    def bill(self, asset: str = "KZT") -> Invoice:
        """A resident's fee."""
        from gateway.city_fees.service import bill

        return bill(self.payments, "parking-year", asset)

    def quote(self, invoice: Invoice) -> tuple[Quote, Signature]:
        """What a wallet is given."""
        signed = invoice.quote_signature
        assert signed is not None
        quote = Quote(
            invoice.number, invoice.purpose, invoice.payee, self.token, invoice.due_minor, invoice.share_bps,
            invoice.expires_s, invoice.nonce,
        )  # fmt: skip
        return quote, Signature(b"", 0, signed[64], signed[:32], signed[32:64])

    def pay(self, invoice: Invoice) -> Any:
        """By wallet, through the router."""
        return self.city.city.pay(self.payer, *self.quote(invoice))

    def deposit(self, invoice: Invoice, units: int | None = None, token: bytes | None = None) -> Any:
        """By plain transfer, as an exchange does."""
        assert invoice.deposit_address is not None
        amount = invoice.due_minor if units is None else units
        return self.city.city.transfer(self.payer, token or self.token, invoice.deposit_address, amount)

    def flush(self, invoice: Invoice) -> Any:
        """By anybody: here by the payer."""
        terms = Terms(invoice.number, invoice.purpose, invoice.payee, invoice.share_bps)
        return self.city.city.flush(self.payer, [terms], self.token)

    def send(self, *parts: bytes) -> Any:
        """A transaction that runs these parts of code, one after the other, in a contract of its own."""
        code = assemble(*parts)
        return transactions.transact(
            self.city.outside.web3, self.payer, {"data": code, "gas": 5_000_000}, "batch"
        )

    def next_contract(self, after: int = 0) -> bytes:
        """Where the contract of the next `send` will stand; `after` so many other transactions."""
        count = self.city.outside.web3.eth.get_transaction_count(self.payer.address)
        return bindings.created_address(self.city.keys.address("payer"), count + after)

    def transfer_in_tenge(self, amount_tiyn: int, text: str, **more: Any) -> str:
        """A bank transfer to the city."""
        return self.city.outside.bank.receive(
            self.city.plan.bank_iban, BankTransfer(amount_tiyn, text, **more)
        )

    # --- what time does ---

    def poll(self) -> list[str]:
        touched: list[str] = self.city.worker.poll_chain()
        self.payments.decide_late()
        return touched

    def mine(self, blocks: int = 1) -> None:
        self.city.outside.mine(blocks)

    def finalise(self) -> None:
        """Let what the chain holds become final, and take it."""
        self.city.outside.finalise()
        self.poll()

    def settle(self) -> None:
        """All that follows from final money: flushed, booked, recorded."""
        self.finalise()
        self.city.worker.flush()
        self.finalise()
        self.record()

    def record(self) -> None:
        self.city.worker.record()
        self.payments.take_answers()

    def take_bank_files(self) -> list[str]:
        self.city.take_bank_files()
        return self.city.worker.poll_bank()

    def stay_in_one_minute(self) -> None:
        """Quotas are of the clock's minutes: let none begin while a test counts."""
        gateway, at_s = self.city.gateway, 60.0 * 30_000_000
        for quota in (
            gateway.limits.keys, gateway.limits.addresses, gateway.limits.failures, gateway.invoice_quota,
            gateway.bill_quota, gateway.authorization_quota, gateway.offer_quota,
        ):  # fmt: skip
            quota._now = lambda: at_s

    def wait(self, seconds: int) -> None:
        """Let time pass; a block shows it."""
        self.city.clock.wait(seconds)
        self.city.outside.shift(seconds)

    # --- what is seen of it ---

    def status(self, invoice: Invoice) -> str:
        return str(self.payments.look(invoice.id)[1].status.value)

    def stored_status(self, invoice: Invoice) -> str:
        """What lists and webhooks go by; it must be what is derived."""
        return str(self.payments.look(invoice.id)[0].status.value)

    def notes(self, invoice: Invoice) -> set[str]:
        return {note.value for note in self.payments.look(invoice.id)[1].notes}

    def seen(self, invoice: Invoice) -> list[Seen]:
        found: list[Seen] = self.payments.look(invoice.id)[2]
        return found

    def unmatched(self) -> list[Seen]:
        with reading(self.city.gateway.engine) as connection:
            return store.unmatched(connection, (0, ""), 1_000)

    def revenue(self) -> list[Transfer]:
        """The transfers on the ledger."""
        records = [decode(data) for data in ledger_store.records(self.city.gateway.engine)]
        return [record for record in records if isinstance(record, Transfer)]

    def submitted(self) -> list[bytes]:
        """What waits in the ledger's inbox."""
        with reading(self.city.gateway.engine) as connection:
            return [waiting.id for waiting in ledger_store.waiting(connection, 1_000)]

    def treasury(self) -> int:
        return self.city.city.balance(self.token, self.city.plan.deployment.treasury)

    def events(self, invoice: Invoice) -> list[str]:
        """What the merchant was told of an invoice."""
        with reading(self.city.gateway.engine) as connection:
            return [row.type for row in webhooks.deliveries_of(connection, self.merchant_id, invoice.id)]


# --- code of a contract that lives as long as its transaction ----------------------------------------


def call(target: bytes, data: bytes) -> bytes:
    """Call a contract, and fail if it refuses."""
    return b"C" + target + data


def emit(topics: list[bytes], data: bytes) -> bytes:
    """Emit a log in this contract's own name."""
    return b"L" + bytes([len(topics)]) + b"".join(topics) + data


def assemble(*parts: bytes) -> bytes:
    """Creation code that does the parts in order and leaves no contract behind."""

    def code(base: int) -> bytes:
        made, tail = b"", b""
        for part in parts:
            if part[:1] == b"C":
                target, data = part[1:21], part[21:]
            else:
                count = part[1]
                target, data = part[2 : 2 + 32 * count], part[2 + 32 * count :]
            size, offset = len(data).to_bytes(2, "big"), (base + len(tail)).to_bytes(2, "big")
            made += b"\x61" + size + b"\x61" + offset + b"\x60\x00\x39"  # CODECOPY to memory 0
            if part[:1] == b"C":
                # CALL(gas, target, 0, 0, size, 0, 0), then jump over the REVERT if it went.
                made += b"\x60\x00\x60\x00\x61" + size + b"\x60\x00\x60\x00\x73" + target + b"\x5a\xf1"
                after = len(made) + 3 + 1 + 5
                made += b"\x61" + after.to_bytes(2, "big") + b"\x57\x60\x00\x60\x00\xfd\x5b"
            else:
                topics = [target[at : at + 32] for at in range(0, len(target), 32)]
                made += b"".join(b"\x7f" + topic for topic in reversed(topics))
                made += b"\x61" + size + b"\x60\x00" + bytes([0xA0 + len(topics)])
            tail += data
        return made + b"\x60\x00\x60\x00\xf3" + tail

    length = len(code(0)) - sum(len(part) - (21 if part[:1] == b"C" else 2 + 32 * part[1]) for part in parts)
    return code(length)


# --- fixtures ---------------------------------------------------------------------------------------


def build(folder: Path, database: str = "", rpc_url: str = "") -> None:
    """A city whose acts are in force, with a merchant and a payer who has money."""
    with EmbeddedCity(folder, Clock(START_S), database=database, rpc_url=rpc_url) as city:
        day = open_city(city, lambda _: None)
        day.publish()
        enact_all(day, [Asset], ["USDT"])
        enact_all(day, [RevenueRule, Parameter])
        day.wait(14 * DAY + 60)
        day.rate()
        day.publish()
        keys = city.keys
        with city.gateway.engine.begin() as connection:
            operator = merchants.new_key(connection, merchants.OPERATOR, None, day.now)
            merchant = merchants.Merchant(
                "m_0123456789abcdef", "Sample cafe", MERCHANT_BIN, MERCHANT_IBAN, keys.address("merchant")
            )
            merchants.add_merchant(connection, merchant, day.now)
            key = merchants.new_key(connection, merchants.MERCHANT, merchant.id, day.now)
        city.city.mint(keys.account("deployer"), city.plan.token, keys.address("payer"), PAYER_UNITS)
        city.city.allow(keys.account("payer"), city.plan.token, PAYER_UNITS)
        # An hour later, so that the last good rate is nobody's stand-in any more; the step from it holds.
        day.wait(3_600)
        city.worker.poll_chain()
    told = {"merchant_id": merchant.id, "merchant_key": key, "operator_key": operator}
    (folder / "town.json").write_text(json.dumps(told))


@pytest.fixture(scope="session", autouse=True)
def _journals_run_once() -> Iterator[None]:
    with remembered():
        yield


@pytest.fixture(scope="session")
def built_town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that city."""
    folder = tmp_path_factory.mktemp("town") / "city"
    build(folder)
    return folder


@pytest.fixture(scope="session")
def built_on_postgres(postgres: servers.Postgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same city on PostgreSQL; its database is the template of the tests' own."""
    folder = tmp_path_factory.mktemp("town-on-postgres") / "city"
    postgres.execute(f"CREATE DATABASE {TEMPLATE}")
    build(folder, postgres.url(TEMPLATE))
    return folder


@pytest.fixture
def postgres_town(built_on_postgres: Path, postgres: servers.Postgres, tmp_path: Path) -> Iterator[Town]:
    """A copy of that city, open, for one test alone."""
    folder = tmp_path / "city"
    shutil.copytree(built_on_postgres, folder)
    with postgres.database(TEMPLATE) as database, opened(folder, database) as found:
        yield found


@pytest.fixture
def town(built_town: Path, tmp_path: Path) -> Iterator[Town]:
    """A copy of that city, open, for one test alone."""
    folder = tmp_path / "city"
    shutil.copytree(built_town, folder)
    with opened(folder) as found:
        yield found


class opened:  # noqa: N801 - used as a function
    """Open the town in a folder; its clock stands still until the test moves it."""

    def __init__(self, folder: Path, database: str = "", most: Most = LAX) -> None:
        self._folder = folder
        clock = Clock(int((folder / "clock").read_text()))
        # A test lets days pass at once; those about limits set their own.
        self._city = EmbeddedCity(folder, clock, database=database, most=most)

    def __enter__(self) -> Town:
        plan = Plan.load(self._city.plan_path)
        self._city.start(plan)
        # The simulated bank begins anew at each start; its first account is always the same.
        assert self._city.outside.bank.open_account() == plan.bank_iban
        return Town(self._city, **json.loads((self._folder / "town.json").read_text()))

    def __exit__(self, *error: object) -> None:
        self._city.__exit__(*error)


# --- a node that misbehaves ---------------------------------------------------------------------------


class Node:
    """JSON-RPC over HTTP in front of the town's chain, which does what `wrong` says.

    wrong: takes a method, its parameters and the true answer, and gives what is told instead; it
    may raise Refuse with an HTTP status, or Silence.
    """

    def __init__(self, town: Town) -> None:
        self.town = town
        self.asked: list[str] = []
        self.wrong: Callable[[str, list[Any], Any], Any] | None = None
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                node._answer(self)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # How long an answer is waited for: short only where none will come.
        self.asking: dict[str, float] = {"timeout": 60}
        provider = Web3.HTTPProvider(self.url, request_kwargs=self.asking, exception_retry_configuration=None)
        rail = EvmRail(Web3(provider), Place(town.city.plan.deployment, {town.token: "USDT"}))
        old = town.city.worker
        self.worker = Worker(old.gateway, old.publication, rail, old._city, old._relayer, old._bank)

    def close(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        asked = json.loads(body)
        self.asked.append(asked["method"])
        status, content = 200, self.town.chain.answer(body)
        try:
            if self.wrong is not None:
                answer = json.loads(content)
                told = self.wrong(asked["method"], asked["params"], answer.get("result"))
                content = told if isinstance(told, bytes) else json.dumps({**answer, "result": told}).encode()
        except Refuse as refused:
            status, content = refused.status, b"<html>go away</html>"
        except Silence:
            self._stopped.wait(2)
            return
        with contextlib.suppress(ConnectionError):
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)


class Refuse(Exception):
    """Answer with this HTTP status."""

    def __init__(self, status: int) -> None:
        self.status = status


class Silence(Exception):
    """Do not answer."""


@pytest.fixture
def node(town: Town) -> Iterator[Node]:
    """A node in front of the town's chain, and a worker that asks it."""
    made = Node(town)
    yield made
    made.close()


@pytest.fixture(scope="module")
def town_of_module(built_town: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A copy for the tests of one module that leave nothing behind."""
    folder = tmp_path_factory.mktemp("shared") / "city"
    shutil.copytree(built_town, folder)
    with opened(folder) as found:
        yield found


# --- the town on a real node ---------------------------------------------------------------------------


# One for each file: after some 500 blocks, going back included, anvil forgets states, and a reorganisation ends
# on a chain without contracts.
@pytest.fixture(scope="module")
def built_on_anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node with the whole city on it, the one that mines it, and the city's folder."""
    from tests.gateway.anvil_town import built

    folder = tmp_path_factory.mktemp("anvil") / "city"
    with built(folder) as (node, miner):
        yield node, miner, folder


@pytest.fixture
def anvil_town(built_on_anvil: Any, tmp_path: Path) -> Iterator[Any]:
    """A copy of that city for one test; the node goes back to where it was afterwards."""
    from tests.gateway.anvil_town import opened_on

    with opened_on(*built_on_anvil, tmp_path / "city") as found:
        yield found


@pytest.fixture
def coin_town(built_on_anvil: Any, tmp_path: Path) -> Iterator[Any]:
    """The same, and it takes the chain's coin."""
    from tests.gateway.coin_town import coin_town_on

    with coin_town_on(built_on_anvil, tmp_path / "city") as found:
        yield found
