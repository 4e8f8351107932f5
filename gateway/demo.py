"""The city's day, end to end, on real parts (see README). Each step says what it did, and fails loudly."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import httpx
import uvicorn
from eth_account.signers.local import LocalAccount

from contracts.bindings import Quote, Signature, deploy, deploy_token
from gateway.app import create_app
from gateway.budget.acts import Work, book_payment, enact, execution
from gateway.budget.desk import Desk, Proposed
from gateway.city_fees.catalogue import CATALOGUE
from gateway.db import engine as open_engine
from gateway.db import reading
from gateway.embedded import COUNCIL_SEATS, SEATS, Clock, EmbeddedCity
from gateway.kz import iban_check_digits
from gateway.merchants import store as merchants
from gateway.payments.service import Request
from gateway.plan import Plan
from gateway.rails.tenge.simulator import Transfer as BankTransfer
from gateway.rate_desk import rate_record
from gateway.webhooks.receiver import Receiver
from ledger import rules, store
from ledger.audit.papers import Paper, write_papers
from ledger.proof import COSIGNATURE, format_note, leaf_hash, sign
from ledger.publish import Publisher
from ledger.records import (
    RULE_FILES,
    ZERO_ADDRESS,
    ZERO_HASH,
    Account,
    Allocation,
    Approval,
    Asset,
    Block,
    Certificate,
    Commitment,
    Contract,
    Genesis,
    Invalid,
    Investment,
    Milestone,
    Order,
    Parameter,
    Project,
    Quorum,
    Record,
    RevenueRule,
    Rules,
    Seat,
    Transfer,
    address_word,
    decode,
    encode,
    encode_name,
    hash_struct,
    keccak256,
    rules_hash,
)
from ledger.tree import Tree

DAY = 86_400
START_S = 1_788_235_200  # 2026-09-01, 09:00 in Almaty
RETENTION_END_S = 2_524_590_000  # 2050-01-01T00:00:00+05:00
FEE_CODE, SALE_CODE = "108125", "206108"
SALE_SHARE_BPS = 100
INVOICE_TIYN = 1_250_000
ORDER_UNITS = 20_000_000
MERCHANT_BIN = "081240013779"
# A number that exists in form; the sample's builder is nobody.
BUILDER_BIN = "971240001315"
BUILDING_GROUP = "07"
SAMPLE_SALT = b"sample salt, 32 bytes of its own"
ACT = b"SAMPLE: the acts by which the Council opened this ledger, and the documents of its projects.\n"

Say = Callable[[str], None]


class DemoFailed(Exception):
    """Something that must hold did not."""


def must(condition: object, what: str) -> None:
    """Stop the day if something that must hold does not; not an assert, which -O would remove."""
    if not condition:
        raise DemoFailed(what)


def must_refuse(what: str, rule: str, attempt: Callable[[], object]) -> str:
    """The attempt must be refused under this rule (or, for a contract, with this error)."""
    try:
        attempt()
    except Invalid as refused:
        must(refused.rule == rule, f"{what}: refused by {refused} and not by {rule}")
        return str(refused)
    raise DemoFailed(f"{what} was not refused")


@dataclass
class Day:
    """The state of a day as it goes on."""

    city: EmbeddedCity
    say: Say
    act: bytes = ZERO_HASH

    @property
    def now(self) -> int:
        """The clock of the scenario."""
        return self.city.clock()

    @property
    def desk(self) -> Desk:
        """Where records are put before the ledger."""
        papers = (builder_paper(self.city, asset) for asset in ("usdt", "eth"))
        return Desk(self.city.writer, {paper.account: paper for paper in papers})

    @property
    def council(self) -> list[LocalAccount]:
        """Three of the five."""
        return self.city.keys.council(3)

    def wait(self, seconds: int) -> None:
        """Let time pass, for the chain too."""
        self.city.clock.wait(seconds)
        self.city.outside.shift(seconds)

    def publish(self) -> int:
        """Sign, publish, witness, anchor."""
        size = self.city.worker.publish()
        assert size is not None
        # Nobody waits for a block but whoever wants to show it.
        for _ in range(200):
            if self.city.city.head().size >= size:
                break
            time.sleep(0.05)
        return size

    def document(self, content: bytes) -> bytes:
        """Publish a document; returns its hash."""
        with self.city.writer.engine.begin() as connection:
            return store.add_document(connection, content)

    def rate(self) -> Proposed:
        """Record the rate that the sources give now."""
        believed = self.city.rate_desk.current("USDT")
        with self.city.writer.engine.begin() as connection:
            record = rate_record(connection, believed)
        return self.desk.propose(record, key=f"rate {self.now}".encode())


# --- 1: the ledger opens ------------------------------------------------------------------


def open_city(city: EmbeddedCity, say: Say) -> Day:
    """Deploy the contracts and open the ledger; nothing has effect without its authors (step 1)."""
    keys, clock, w3 = city.keys, city.clock, city.outside.web3
    now = clock()
    act = sha256(ACT).digest()
    offices = [(rules.COUNCIL, f"council-{n}") for n in range(COUNCIL_SEATS)] + [
        (role, role) for role in SEATS
    ]
    founding: list[Record] = [
        Seat(now, role, keys.address(name), now, RETENTION_END_S + 50 * 365 * DAY, act)
        for role, name in offices
    ]
    founding += [Quorum(now, rules.COUNCIL, 3, act), Quorum(now, rules.AUTHORITY, 1, act)]
    ledger = sha256(b"sample ledger " + str(now).encode()).digest()
    deployment = deploy(w3, keys.account("deployer"), ledger, RETENTION_END_S, founding)
    token = deploy_token(w3, keys.account("deployer"), "Sample dollar", "USDT")
    plan = Plan(deployment, token, city.outside.bank.open_account())
    plan.save(city.plan_path)
    city.start(plan)
    day = Day(city, say)
    places = {name: getattr(deployment, name).hex() for name in deployment.code_hashes}
    say(f"contracts: {', '.join(f'{name} 0x{place[:8]}…' for name, place in places.items())}")
    day.act = day.document(ACT)
    bound = keccak256(b"".join(hash_struct(record) for record in founding))
    genesis = Genesis(
        now,
        ledger,
        RETENTION_END_S,
        deployment.chain_id,
        deployment.council,
        deployment.anchor,
        day.act,
        bound,
    )
    opened = day.desk.propose(genesis)
    day.desk.propose_all(founding)
    must_refuse("a record before the Genesis is approved", "H3", lambda: day.desk.propose(_block(day)))
    day.desk.approve(opened, day.council)
    must(city.writer.state.opened, "the Genesis has its approvals")
    _register(day)
    return day


def _block(day: Day) -> Block:
    return Block(0, "block-2026", rules.RETAINED, 2026, 2028, 10**15, day.act)


def _register(day: Day) -> None:
    """Rules, contracts, parameters, assets, accounts, revenue rules, the budget."""
    plan, now, act = day.city.plan, day.now, day.act
    package = files("ledger")
    decided_by = rules_hash([package.joinpath(name).read_bytes() for name in RULE_FILES])
    chain_id = plan.deployment.chain_id
    records: list[Record] = [
        Rules(0, decided_by, now, act),
        *plan.deployment.contract_records(0, act),
        Parameter(0, "direct_settlement", 1, now, act),
        Asset(0, "KZT", 2, 0, ZERO_ADDRESS, now, RETENTION_END_S, act),
        Asset(0, "USDT", 6, chain_id, plan.token, now, RETENTION_END_S, act),
        *(RevenueRule(0, fee.code, rules.RETAINED, 10_000, now, act) for fee in CATALOGUE),
        RevenueRule(0, SALE_CODE, rules.RETAINED, SALE_SHARE_BPS, now, act),
        _block(day),
    ]
    day.desk.act_all(records, day.council)
    iban = sha256(b"iban:" + plan.bank_iban.encode()).digest()
    treasury = address_word(plan.deployment.treasury)
    accounts: list[Record] = [
        Account(0, "bank-kzt", "KZT", rules.RETAINED, "bank", iban, ZERO_HASH, act),
        Account(0, "treasury-usdt", "USDT", rules.RETAINED, "chain", treasury, ZERO_HASH, act),
        *(
            Account(
                0,
                f"revenue-{code}-{asset.lower()}",
                asset,
                rules.RETAINED,
                "revenue",
                encode_name(code),
                ZERO_HASH,
                act,
            )
            for code in (*(fee.code for fee in CATALOGUE), SALE_CODE)
            for asset in ("KZT", "USDT")
        ),
        *(_payee(day, name) for name in ("builder", "republic")),
    ]
    day.desk.act_all(accounts, day.council)
    day.say(
        f"ledger open: {day.city.writer.state.size} records, {len(day.city.writer.state.accounts)} accounts"
    )


def _payee(day: Day, name: str) -> Account:
    kind = rules.REPUBLIC if name == "republic" else rules.PAYEE
    party = sha256(SAMPLE_SALT + name.encode()).digest()
    if name == "builder":
        party = builder_paper(day.city).party
    owner = address_word(day.city.keys.address(name))
    return Account(0, f"{name}-usdt", "USDT", rules.RETAINED, kind, owner, party, day.act)


def builder_paper(city: EmbeddedCity, asset: str = "usdt") -> Paper:
    """What the city knows of the builder in the clear, and shows to who signs and audits."""
    address = city.keys.address("builder")
    return Paper(f"builder-{asset}", None, address, BUILDER_BIN, SAMPLE_SALT, BUILDING_GROUP)


# --- 2: projects ---------------------------------------------------------------------------


def load_projects(day: Day) -> None:
    """44 sample projects and their private investment; two of five do not make an act (step 2)."""
    content = files("gateway").joinpath("budget", "sample_projects.json").read_bytes()
    told = json.loads(content)
    document = day.document(content)
    projects: list[Record] = [
        Project(0, one["project"], one["sector"], one["place"], int(one["limit_tiyn"]), document)
        for one in told["projects"]
    ]
    proposed = day.desk.propose_all(projects)
    day.desk.approve_all(proposed, day.city.keys.council(2))
    must(not day.city.writer.state.projects, "two of five approve no project")
    must_refuse(
        "an investment in a project that two of five signed",
        "I1",
        lambda: day.desk.propose(Investment(0, "water-main", 1, document)),
    )
    third = day.city.keys.council(3)[2:]
    day.desk.approve_all(proposed, third)
    investments: list[Record] = [
        Investment(0, one["project"], int(one["investment_tiyn"]), document) for one in told["projects"]
    ]
    day.desk.act_all(investments, day.council)
    state = day.city.writer.state
    must(len(state.projects) == 44, f"{len(state.projects)} projects, not 44")
    must(state.invested_tiyn == 180_000_000_000_000, f"{state.invested_tiyn} tiyn of private investment")
    must(all(t.revenue == 0 for t in rules.totals(state)), "private investment is not revenue")
    day.desk.act(
        Account(
            0,
            "spent-water-main-usdt",
            "USDT",
            rules.RETAINED,
            rules.PROJECT,
            state.project_hashes["water-main"],
            ZERO_HASH,
            day.act,
        ),
        day.council,
    )
    day.say(f"44 projects (sample); {state.invested_tiyn:,} tiyn of private investment, never public money")


def enact_all(day: Day, records: Sequence[type[Record]], names: Sequence[str] = ()) -> int:
    """Show the Council contract all anchored acts of these kinds; returns how many."""
    count = 0
    relayer = day.city.keys.account("relayer")
    state = day.city.writer.state
    approvals = _approvals(day)
    for digest, proposal in state.proposals.items():
        record = proposal.record
        if not isinstance(record, tuple(records)) or proposal.effective_s is None or not state.opened:
            continue
        if names and getattr(record, record.members[1][0]) not in names:
            continue
        act = Proposed(proposal.index, record, tuple(approvals.get(digest, ())))
        enact(day.city.city, day.city.publisher, relayer, act)
        count += 1
    return count


def _approvals(day: Day) -> dict[bytes, list[Approval]]:
    found: dict[bytes, list[Approval]] = {}
    for data in store.records(day.city.writer.engine):
        record = decode(data)
        if isinstance(record, Approval):
            found.setdefault(record.approves, []).append(record)
    return found


def give_notice(day: Day) -> None:
    """Fourteen days, each with its rate, its checkpoint and its anchor; then the acts are in force."""
    size = day.publish()
    day.say(f"checkpoint of {size} records signed, witnessed and anchored")
    count = enact_all(day, [Contract])
    count += enact_all(day, [Asset], ["USDT"])
    count += enact_all(day, [RevenueRule, Parameter])
    count += enact_all(day, [Account], ["treasury-usdt", "builder-usdt", "republic-usdt"])
    count += enact_all(day, [Project], ["water-main"])
    day.say(f"{count} acts brought to the Council contract, each against its inclusion proof")
    for _ in range(14):
        day.wait(DAY)
        day.rate()
        day.publish()
    day.wait(60)
    must(rules.parameter(day.city.writer.state, "direct_settlement", day.now) == 1, "the act is in force")
    day.say("14 days of notice passed, a rate and an anchored checkpoint for each")


# --- 3: a merchant -------------------------------------------------------------------------


@contextmanager
def serving(city: EmbeddedCity) -> Iterator[str]:
    """The gateway over HTTP on loopback; gives its address."""
    config = uvicorn.Config(
        create_app(city.gateway), host="127.0.0.1", port=0, log_level="warning", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    must(server.started, "the HTTP server starts")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


class Inbox:
    """A merchant's webhook consumer: a real HTTP server with the documented code."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def take(self, connection: sqlite3.Connection, body: bytes) -> None:
        """Handle one event, once; a shop would write its order through the connection."""
        del connection
        self.events.append(json.loads(body))

    def types(self, invoice: str) -> list[str]:
        """The types of an invoice's events, in order."""
        return [str(e["type"]) for e in self.events if e["data"]["invoice"] == invoice]  # type: ignore[index]


def take_payments(day: Day, http: httpx.Client) -> None:
    """One invoice paid by wallet, one by plain transfer; both found from logs (step 3)."""
    city, keys = day.city, day.city.keys
    merchant_address = keys.address("merchant")
    # Nobody is quoted before somebody has looked at the chain.
    city.worker.poll_chain()
    with city.gateway.engine.begin() as connection:
        operator_key = merchants.new_key(connection, merchants.OPERATOR, None, day.now)
    iban = f"KZ{iban_check_digits('KZ', '722S000012345678')}722S000012345678"
    enrolled = {
        "name": "Sample café",
        "bin": MERCHANT_BIN,
        "iban": iban,
        "wallet": "0x" + merchant_address.hex(),
    }
    wrong = http.post(
        "/v1/merchants", json={**enrolled, "bin": "081240013778"}, headers=_bearer(operator_key)
    )
    must(wrong.status_code == 422, f"a wrong BIN is refused, not {wrong.status_code}")
    merchant = _ok(http.post("/v1/merchants", json=enrolled, headers=_bearer(operator_key)))
    bearer = _bearer(str(merchant["key"]))

    inbox = Inbox()
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    url = f"http://127.0.0.1:{server.server_port}/hook"
    endpoint = _ok(http.post("/v1/webhook-endpoints", json={"url": url}, headers=bearer))
    consumer = Receiver([str(endpoint["secret"])], city.folder / "merchant.db", inbox.take, city.clock)
    server.RequestHandlerClass = consumer.handler()
    threading.Thread(target=server.serve_forever, daemon=True).start()

    try:
        first = _ok(
            http.post("/v1/invoices", json=_invoice("order-1"), headers=bearer | {"Idempotency-Key": "a1"})
        )
        _pay_by_wallet(day, first)
        city.outside.finalise()
        city.worker.round()
        _check_paid(day, http, bearer, first, inbox, merchant_address)
        second = _ok(
            http.post("/v1/invoices", json=_invoice("order-2"), headers=bearer | {"Idempotency-Key": "a2"})
        )
        _pay_by_transfer(day, second)
        _check_paid(day, http, bearer, second, inbox, merchant_address)
    finally:
        server.shutdown()
        server.server_close()


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _ok(answer: httpx.Response) -> dict[str, object]:
    must(
        answer.is_success,
        f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}",
    )
    found: dict[str, object] = answer.json()
    return found


def _invoice(reference: str) -> dict[str, str]:
    return {"amount": str(INVOICE_TIYN), "asset": "USDT", "reference": reference, "title": "Sample order"}


def _pay_by_wallet(day: Day, invoice: dict[str, object]) -> None:
    """What a wallet does with an invoice: allow, then pay the signed quote."""
    city, keys = day.city.city, day.city.keys
    payer, token = keys.account("payer"), day.city.plan.token
    wallet = invoice["wallet"]
    assert isinstance(wallet, dict)
    amount = int(wallet["amount"])
    city.mint(keys.account("deployer"), token, keys.address("payer"), 10 * amount)
    quote = Quote(
        bytes.fromhex(wallet["invoice"][2:]),
        bytes.fromhex(wallet["purpose"][2:]).rstrip(b"\0").decode(),
        bytes.fromhex(wallet["merchant"][2:]),
        bytes.fromhex(wallet["token"][2:]),
        amount,
        wallet["share_bps"],
        wallet["valid_until"],
        int(wallet["nonce"]),
    )
    signature = Signature(b"", 0, wallet["v"], bytes.fromhex(wallet["r"][2:]), bytes.fromhex(wallet["s"][2:]))
    city.allow(payer, token, amount)
    city.pay(payer, quote, signature)
    day.say(f"invoice of 12,500 KZT quoted at {amount} base units of USDT and paid by wallet, once:")
    again = must_refuse("the same quote again", "C:QuoteUsed", lambda: city.pay(payer, quote, signature))
    day.say(f"  paid again: refused ({again.split(':')[1]})")


def _pay_by_transfer(day: Day, invoice: dict[str, object]) -> None:
    """What an exchange does: a plain transfer to the invoice's address; anybody then flushes it."""
    city = day.city
    address = bytes.fromhex(str(invoice["deposit_address"])[2:])
    city.city.transfer(city.keys.account("payer"), city.plan.token, address, int(str(invoice["due"])))
    city.outside.finalise()
    city.worker.round()  # sees the final deposit and flushes it
    city.outside.finalise()
    city.worker.round()  # sees the final flush and books the city's share
    must(city.city.balance(city.plan.token, address) == 0, "the deposit address is empty after the flush")


def _check_paid(
    day: Day,
    http: httpx.Client,
    bearer: dict[str, str],
    invoice: dict[str, object],
    inbox: Inbox,
    merchant: bytes,
) -> None:
    shown = _ok(http.get(f"/v1/invoices/{invoice['id']}", headers=bearer))
    must(shown["status"] == "final", f"the invoice is {shown['status']}, not final")
    must(shown["record"] is not None, "the city's share is on the ledger")
    day.city.worker.deliver()
    types = inbox.types(str(invoice["id"]))
    must(types[-1:] == ["invoice.final"], f"the merchant was told {types}")
    token, plan = day.city.plan.token, day.city.plan
    held = day.city.writer.state.accounts["treasury-usdt"].balance
    on_chain = day.city.city.balance(token, plan.deployment.treasury)
    must(on_chain == held, f"Treasury holds {on_chain}, the ledger says {held}")
    net = day.city.city.balance(token, merchant)
    told = ", ".join(types)
    day.say(f"  {invoice['reference']}: final, merchant has {net}, Treasury {on_chain}, webhooks {told}")


# --- 4: a resident -------------------------------------------------------------------------


def pay_fee(day: Day, http: httpx.Client) -> Path:
    """A fee in tenge by bank transfer, and its receipt (step 4); returns the receipt's file."""
    city = day.city
    bill = _ok(http.post("/v1/fees/bills", json={"fee": "parking-year"}))
    amount, reference = int(str(bill["due"])), str(bill["payment_reference"])
    note = f"Parking, ref. {reference[:6].lower()} {reference[6:]}"
    city.outside.bank.receive(
        city.plan.bank_iban, BankTransfer(amount, note, "A Resident", "KZ86125KZT5004100100")
    )
    city.take_bank_files()
    city.worker.poll_bank()
    city.worker.record()
    day.publish()
    shown = city.gateway.payments.look(str(bill["id"]))[1]
    must(shown.status.value == "final", f"the bill is {shown.status.value}")
    answer = http.get(f"/v1/receipts/{bill['id']}")
    must(answer.is_success, f"the receipt: {answer.text}")
    path = city.folder / "receipt.txt"
    path.write_bytes(answer.content)
    (city.folder / "bill.txt").write_text(str(bill["id"]))
    checked = subprocess.run(  # noqa: S603 - our own program
        [
            sys.executable,
            "-m",
            "gateway.cli",
            "show",
            str(path),
            "--trust",
            str(city.publisher.folder / "trust.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    must(checked.returncode == 0, f"the receipt does not check: {checked.stdout}{checked.stderr}")
    day.say(
        f"resident's fee of {amount} tiyn came in a camt.054 file, was matched by its reference, is RETAINED"
    )
    day.say(f"  {checked.stdout.strip().splitlines()[-1]}")
    return path


# --- 5: money is spent ---------------------------------------------------------------------


def spend(day: Day) -> None:
    """Commit, certify, order, anchor, wait, execute; and the four ways that are refused (step 5)."""
    city, desk, keys = day.city, day.desk, day.city.keys
    authority, certifier = [keys.account("authority")], [keys.account("certifier")]
    # The treasury needs more than two cups of coffee to pay for a water main.
    _donate(day, 10 * ORDER_UNITS)
    rate = day.rate()
    project = city.writer.state.project_hashes["water-main"]
    proposed = desk.propose(
        Allocation(0, "allocation-1", "block-2026", project, "USDT", 2 * ORDER_UNITS, rate.hash, day.act)
    )
    two = desk.approve(proposed, keys.council(2))
    wanted = Commitment(0, "commitment-1", proposed.hash, "builder-usdt", ORDER_UNITS, day.act)
    refused = must_refuse("a commitment on two signatures", "C1", lambda: desk.propose(wanted))
    day.say(f"allocation with 2 of 5 signatures: {refused}")
    day.publish()
    refused = must_refuse(
        "two signatures on chain", "C:NoQuorum", lambda: enact(city.city, city.publisher, authority[0], two)
    )
    day.say(f"  and on chain: {refused}")
    third = desk.approve(Proposed(proposed.position, proposed.record), keys.council(3)[2:])
    allocation = Proposed(proposed.position, proposed.record, (*two.approvals, *third.approvals))
    for rule, what, bad in (
        ("G7", "to the republican budget before 2050", replace(wanted, payee="republic-usdt")),
        ("C3", "one unit over the allocation", replace(wanted, amount=2 * ORDER_UNITS + 1)),
    ):
        day.say(f"  {what}: {must_refuse(what, rule, lambda bad=bad: desk.propose(bad))}")  # type: ignore[misc]
    commitment = desk.act(wanted, authority)
    milestone = desk.act(Milestone(0, "milestone-1", commitment.hash, ORDER_UNITS, day.act), authority)
    order = Order(
        0, "order-1", commitment.hash, allocation.hash, day.act, "treasury-usdt", ORDER_UNITS, "builder-usdt"
    )
    what = "without a certificate"
    day.say(f"  {what}: {must_refuse(what, 'O2', lambda: desk.propose(order))}")
    certificate = desk.act(Certificate(0, milestone.hash, ORDER_UNITS, 1, day.act), certifier)
    order = replace(order, certificate_hash=certificate.hash)
    for rule, what, bad_order in (
        ("O3", "to another payee", replace(order, payee="republic-usdt")),
        ("O4", "one unit over what is certified", replace(order, amount=ORDER_UNITS + 1)),
    ):
        day.say(f"  {what}: {must_refuse(what, rule, lambda bad=bad_order: desk.propose(bad))}")  # type: ignore[misc]
    ordered = desk.act(order, authority)
    work = Work(commitment, milestone, certificate, ordered)
    day.publish()
    enact(city.city, city.publisher, keys.account("relayer"), allocation)
    _execute(day, work)


def _donate(day: Day, units: int) -> None:
    """City fees paid by wallet, so that there is money to spend."""
    city, keys = day.city, day.city.keys
    token, payer = city.plan.token, keys.account("payer")
    tiyn = units * 512 // 10_000
    invoice = city.gateway.payments.create(Request(FEE_CODE, "parking-year", tiyn, "USDT"))
    place = city.plan.deployment
    quote = Quote(
        invoice.number,
        FEE_CODE,
        ZERO_ADDRESS,
        token,
        invoice.due_minor,
        invoice.share_bps,
        invoice.expires_s,
        invoice.nonce,
    )
    signed = invoice.quote_signature
    assert signed is not None
    city.city.mint(keys.account("deployer"), token, keys.address("payer"), invoice.due_minor)
    city.city.allow(payer, token, invoice.due_minor)
    city.city.pay(payer, quote, Signature(b"", 0, signed[64], signed[:32], signed[32:64]))
    city.outside.finalise()
    city.worker.round()
    must(city.city.balance(token, place.treasury) > units * 9 // 10, "the fees are in Treasury")


def _execute(day: Day, work: Work) -> None:
    city, keys = day.city, day.city.keys
    relayer = keys.account("relayer")
    asked = execution(city.city, city.publisher, work)
    treasury = city.city
    day.say("Treasury.execute against the inclusion proof of the order:")
    bad = [
        ("C:OrderTooEarly", "before the delay", asked),
    ]
    for rule, what, one in bad:
        day.say(f"  {what}: {must_refuse(what, rule, lambda one=one: treasury.execute(relayer, one))}")  # type: ignore[misc]
    day.wait(DAY + 60)
    other = replace(asked.order, payee="republic-usdt")
    certificate = replace(asked.certificate, amount=ORDER_UNITS + 1)
    cases = [
        ("C:NotIncluded", "another payee, not the order that is anchored", replace(asked, order=other)),
        ("C:CertificateDiffers", "another certificate", replace(asked, certificate=certificate)),
        ("C:NoQuorum", "without the certifier's signature", replace(asked, certificate_approvals=())),
    ]
    for rule, what, one in cases:
        day.say(f"  {what}: {must_refuse(what, rule, lambda one=one: treasury.execute(relayer, one))}")  # type: ignore[misc]
    builder = keys.address("builder")
    receipt = treasury.execute(relayer, asked)
    must(treasury.balance(city.plan.token, builder) == ORDER_UNITS, "the payee has the money")
    city.outside.finalise()
    book_payment(city.writer, day.desk, receipt, asked.order, builder, "spent-water-main-usdt")
    must_refuse("the same order again", "C:AlreadyPaid", lambda: treasury.execute(relayer, asked))
    day.publish()
    # Only what a chain will not take back counts as anchored.
    city.outside.finalise()
    size = day.publish()
    day.say(f"  paid {ORDER_UNITS} to the builder, once; {size} records anchored")


# --- 6: anybody checks ---------------------------------------------------------------------


def check(day: Day) -> None:
    """The auditor says valid; then a byte changes; then a thief with the log's keys writes (step 6)."""
    city = day.city
    bundle = city.publisher.folder
    # What the city shows to an auditor who asks who is paid.
    papers = city.folder / "payees.json"
    write_papers(papers, [builder_paper(city)])
    report = str(city.folder / "report.html")
    verdict = run_audit(bundle, "--rpc", city.outside.rpc_url, "--report", report, "--payees", str(papers))
    must(verdict.returncode == 0, f"the audit must say valid:\n{verdict.stdout}{verdict.stderr}")
    for line in verdict.stdout.strip().splitlines():
        day.say(f"  {line}")
    copy = city.folder / "tampered"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy)
    _change_a_byte(copy)
    verdict = run_audit(copy)
    must(verdict.returncode == 1, f"a changed byte must be found:\n{verdict.stdout}{verdict.stderr}")
    day.say("one byte changed in a copy:")
    for line in verdict.stdout.strip().splitlines()[:4]:
        day.say(f"  {line}")
    stolen = city.folder / "stolen"
    shutil.rmtree(stolen, ignore_errors=True)
    position = steal(city, stolen)
    verdict = run_audit(stolen)
    named = [line for line in verdict.stdout.splitlines() if line.startswith(f"M4 at record {position}")]
    must(verdict.returncode == 1 and named, f"the theft must be named:\n{verdict.stdout}{verdict.stderr}")
    day.say("a record that steals, signed with the true keys of log and watcher (LEAKS 10):")
    day.say(f"  {named[0]}")


def run_audit(bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The auditor as anybody runs it: its own process, on the public folder."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "ledger.audit", str(bundle), *options],
        capture_output=True,
        text=True,
        check=False,
    )


def _change_a_byte(bundle: Path) -> None:
    path = min(p for p in (bundle / "tile" / "entries").rglob("*") if p.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def steal(city: EmbeddedCity, folder: Path) -> int:
    """Publish what a thief would who holds the keys of the log and of the watcher's notes: money to a payee.

    Returns the position of the record that steals.
    """
    engine = open_engine(f"sqlite:///{(city.folder / 'thief.db').resolve()}")
    heads = open_engine(f"sqlite:///{(city.folder / 'thief-heads.db').resolve()}")
    try:
        store.create(engine, heads)
        records = list(store.records(city.writer.engine))
        theft = Transfer(
            city.writer.state.time,
            sha256(b"theft").digest(),
            "builder-usdt",
            "treasury-usdt",
            "USDT",
            1,
            "thanks",
            sha256(b"nobody").digest(),
            sha256(b"nothing").digest(),
        )
        records.append(encode(theft))
        tree = Tree()
        tree.extend(leaf_hash(data) for data in records)
        batch = store.Batch(0, records, [], [], {}, lambda: b"".join(tree.edge()))
        with reading(city.writer.engine) as connection:
            documents, anchors = list(store.documents(connection)), store.anchors(connection)
        with engine.begin() as connection:
            fence = store.take_fence(connection)
            store.commit(connection, fence, batch)
            for _, content in documents:
                store.add_document(connection, content)
            for anchored in anchors:
                store.add_anchor(connection, anchored)
        publisher = Publisher(folder, city.publisher.keys, city.publisher.trust)
        note = city.publisher.keys.sign_checkpoint(tree.size, tree.root(), city.clock())
        publisher.publish(engine, note)
        text = note.split(b"\n\n")[0].decode() + "\n"
        line = sign(text, city.watcher.name, COSIGNATURE, city.keys.cosigner(), city.clock())
        publisher.add_cosignature(format_note((text, (line,)))[len(text.encode()) + 1 :])
        publisher.finish(engine)
        return tree.size - 1
    finally:
        engine.dispose()
        heads.dispose()


# --- the whole ------------------------------------------------------------------------------


def run_day(folder: Path, say: Say, *, database: str = "", rpc_url: str = "", start_s: int = START_S) -> None:
    """The whole day in an empty folder; raises where anything is not as it must be."""
    with EmbeddedCity(folder, Clock(start_s), database=database, rpc_url=rpc_url) as city:
        day = open_city(city, say)
        load_projects(day)
        give_notice(day)
        with serving(city) as address, httpx.Client(base_url=address, timeout=30, trust_env=False) as http:
            take_payments(day, http)
            pay_fee(day, http)
            spend(day)
        check(day)
