"""Acts after the founding, by commands alone and beside a running worker: proposed, signed, in effect, audited."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.acts import Acts, Inbox, in_force_s, read_acts, state_of
from gateway.acts_file import find, read_rounds
from gateway.db import reading
from gateway.server import Server
from gateway.settings import Settings
from gateway.signing_folder import SigningFolder
from gateway.steps.loop import Loop
from ledger import rules, store
from ledger.audit.papers import Paper
from ledger.records import (
    Approval,
    Invalid,
    KeyChange,
    Parameter,
    Quorum,
    Rate,
    Record,
    Release,
    Seat,
    Transfer,
    Unavailable,
    decode,
    hash_struct,
)
from ledger.writer import Writer, only_writer, submit
from tests import servers
from tests.city import CODE, COUNCIL, FOREVER_S, Key, digest, registered
from tests.contracts.world import AUDITOR, AUTHORITY, CERTIFIER, DEPLOYER, wallet
from tests.gateway.test_founding import ACT, NOTHING, Operator, account, founded
from tests.gateway.test_founding import operator as operator  # noqa: PLC0414 - a fixture
from tests.gateway.test_restoring import Place
from tests.gateway.test_restoring import databases as databases  # noqa: PLC0414 - a fixture
from tests.payee_papers import GOOD, account_of, write_papers

DAYS_15 = 15 * rules.DAY
FEE = 4_325_00
ACT_BYTES, SIGNED_S = digest("act"), 1_790_000_000
PAPER = {"document": f"0x{digest('paper').hex()}"}


class City:
    """A founded city, whose seats sign on machines of their own and whose worker runs when it is told to."""

    def __init__(self, operator: Operator, anvil: servers.Anvil, patch: pytest.MonkeyPatch) -> None:
        self.operator, self.anvil, self._patch = operator, anvil, patch
        self.now = operator.now
        # Who anchors and who watches hold seats of the founding.
        self.place = Place(operator, anvil, None)
        (operator.folder / "rates.json").write_text(json.dumps({"assets": {}}))
        self.seats = {rules.COUNCIL: operator.council[:3]}
        for role, key in (
            (rules.AUTHORITY, AUTHORITY),
            (rules.CERTIFIER, CERTIFIER),
            (rules.AUDITOR, AUDITOR),
        ):
            path = operator.folder.parent / role
            path.write_text(key.secret.secret.hex())
            path.chmod(0o600)
            self.seats[role] = [path]

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds
        self._patch.setenv("QAZYNA_TIME_SHIFT_S", str(self.now - self.operator.now))
        self.anvil.call("evm_increaseTime", hex(seconds))
        self.anvil.call("anvil_mine", "0x4")

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A worker is the writer: as `qazyna worker --only record` runs it."""
        stop = threading.Event()
        with Server(Settings()) as server:
            loop = Loop(server.engine, server.steps(["record"]))
            thread = threading.Thread(target=loop.run, args=(stop,))
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    def write(self, name: str, rounds: object) -> Path:
        path = self.operator.folder / f"{name}.json"
        path.write_text(json.dumps({"rounds": rounds}))
        return path

    def act(self, path: Path, *more: str) -> str:
        return self.operator.run("ledger", "act", str(path), *more)

    def sign(self, name: str, *kinds: str, most: int = 3) -> int:
        """Have seats sign what is asked for of a file; returns how many signatures are in `signed`."""
        place = self.operator.folder / "acts" / name
        (place / "signed").mkdir(exist_ok=True)
        for path in sorted((place / "to-sign").iterdir()):
            kind = path.name.split("-")[1]
            if kinds and kind not in kinds:
                continue
            roles = rules.AUTHOR[next(one for one in rules.AUTHOR if one.__name__ == kind)]
            for seat in [seat for role in roles for seat in self.seats[role]][:most]:
                said = self.operator.run("sign", str(path), "--key", str(seat))
                (place / "signed" / f"{path.stem}-{seat.name}").write_text(said)
        return len(list((place / "signed").iterdir()))

    def records(self, kind: str = "") -> list[Any]:
        found = [decode(data) for data in self.operator.records()]
        return [one for one in found if not kind or type(one).__name__ == kind]

    def inbox(self) -> int:
        """How many submissions wait."""
        with Server(Settings()) as server, reading(server.engine) as connection:
            return len(store.waiting(connection, 1_000))

    def publish(self) -> None:
        """Publish what there is, have it watched, and anchor it."""
        with Server(Settings()) as server, only_writer(server.engine, self.operator.folder / "writer.lock"):
            writer = Writer(server.engine, server.heads, server.log_keys(), server.clock)
            self.place.publish(server, writer)

    def fee(self) -> None:
        """A fee has come in."""
        (rule,) = self.records("RevenueRule")
        fee = Transfer(
            0, digest("fee"), "bank-kzt", "fees-kzt", "KZT", FEE, CODE, hash_struct(rule), digest("entry")
        )
        with Server(Settings()) as server, server.engine.begin() as connection:
            submit(connection, fee, server.clock())

    def rate(self) -> None:
        """A rate is recorded, as the worker's step `rates` has it."""
        rate = Rate(0, "USDT", 51_234, 1_000_000, digest("one source"), digest("another"))
        self.submit(rate)

    def coins(self, amount: int) -> None:
        """Coins came to the treasury, and the ledger has them as a fee's."""
        (rule,) = self.records("RevenueRule")
        self.submit(
            Transfer(
                0,
                digest("coins"),
                "treasury-usdt",
                "fees-usdt",
                "USDT",
                amount,
                CODE,
                hash_struct(rule),
                digest("log"),
            )
        )
        with Server(Settings()) as server:
            server.city.mint(wallet(DEPLOYER), server.plan.token, server.plan.deployment.treasury, amount)

    def submit(self, record: Record) -> None:
        """Ask the writer for a record and wait for it."""
        with Server(Settings()) as server, server.engine.begin() as connection:
            submit(connection, record, server.clock())
        servers.until(lambda: self.inbox() == 0, "it is recorded")

    def bring(self, what: str, *hashes: str) -> str:
        """Bring records out of the bundle to the contracts."""
        folder = self.operator.folder
        asked = [str(folder / "founding.json"), *hashes, "--bundle", str(self.place.bundle)]
        return self.operator.run(
            "contracts", what, *asked, "--key", str(folder.parent / "deployer"), "--rpc", self.anvil.url
        )


@pytest.fixture
def anvil() -> Iterator[servers.Anvil]:
    """A chain of each test's own, because time passes on it; a block is final two blocks later."""
    with servers.anvil("--slots-in-an-epoch", "1") as node:
        yield node


@pytest.fixture
def city(operator: Operator, anvil: servers.Anvil, monkeypatch: pytest.MonkeyPatch) -> City:
    founded(operator)
    return City(operator, anvil, monkeypatch)


def project(name: str = "water-main", limit: int = 10**9) -> dict[str, str]:
    told = {"record": "Project", "project": name, "sector": "water", "place": "alatau-gate"}
    return {**told, "limit": str(limit), **PAPER}


def whole_way(now: int) -> list[list[dict[str, str]]]:
    """From a project to the order that pays for it, in tenge."""
    year, most = rules.almaty_year(now), rules.PARAMETERS["block_budget_until"][1]
    payee = account_of(GOOD)
    amount = {"amount": "400000"}
    allocation = {"record": "Allocation", "allocation": "pipes-1", "block": "block-1", "asset": "KZT"}
    return [
        [
            project(),
            {"record": "Block", "block": "block-1", "fund": "RETAINED", "fromYear": str(year),
             "toYear": str(year + 1), "limit": "1000000000", "act": ACT},
            {"record": "Parameter", "name": "block_budget_until", "value": str(most), "validFrom": "0", "act": ACT},
        ],
        [
            {**allocation, "projectHash": "@project:water-main", **amount, "rateHash": NOTHING, "act": ACT},
            account("spent-kzt", "project", "@project:water-main"),
            {**account(payee.account, "payee", f"0x{payee.owner.hex()}"), "party": f"0x{payee.party.hex()}"},
        ],
        [{"record": "Commitment", "commitment": "pipes-contract", "allocationHash": "@allocation:pipes-1",
          "payee": payee.account, **amount, **PAPER}],
        [{"record": "Milestone", "milestone": "pipes-laid", "commitmentHash": "@commitment:pipes-contract",
          **amount, **PAPER}],
        [{"record": "Certificate", "milestoneHash": "@milestone:pipes-laid", "accepted": "1", **amount, **PAPER}],
        [{"record": "Order", "order": "pipes-payment", "commitmentHash": "@commitment:pipes-contract",
          "allocationHash": "@allocation:pipes-1", "certificateHash": "@certificate:pipes-laid",
          "account": "bank-kzt", "payee": payee.account, **amount}],
    ]  # fmt: skip


def test_from_a_project_to_its_order_by_commands_alone_beside_a_worker_and_audited_valid(city: City):
    papers = write_papers(city.operator.folder / "papers.json", GOOD)
    path = city.write("pipes", whole_way(city.now))
    asked = "--payees", str(papers)
    founding = city.operator.records()

    # A rehearsal needs no worker, says what would be, and leaves nothing at all.
    said = city.act(path, *asked, "--dry-run")
    assert "would be: round 1: 3 records proposed" in said
    assert "council 3 more of 3" in said
    assert city.operator.records() == founding
    assert city.inbox() == 0
    assert not (city.operator.folder / "acts").exists()

    with city.worker():
        said = city.act(path, *asked)
        assert "round 1: 3 records proposed" in said
        assert "waiting: 0 of 6 rounds in effect, 3 proposals need signatures" in said
        before = city.operator.records()
        assert len(before) == len(founding) + 3
        # Asked again without a new signature, nothing comes of it; nor does fewer than the quorum.
        assert city.act(path, *asked).count("to sign: ") == 3
        assert city.operator.records() == before
        assert city.sign("pipes", most=2) == 6
        said = city.act(path, *asked)
        assert "6 signatures recorded" in said
        assert said.count("council 1 more of 3") == 3
        assert "waiting: 0 of 6" in said
        city.sign("pipes")
        said = city.act(path, *asked)
    # The parameter is signed, and counts after its notice: until then what rests on it is not proposed.
    (signed,) = {one.time for one in city.records("Approval")[-3:]}
    until = signed + rules.NOTICE_S
    assert f"(second {until} UTC)" in said
    assert "waiting: 1 of 6 rounds in effect, round 2 is proposed from 2" in said
    assert city.records("Allocation") == []

    city.publish()
    city.wait(DAYS_15)
    city.fee()
    with city.worker():
        # A round's signatures bring the next one; the payee has to wait before an order of it.
        for number in range(2, 6):
            assert f"round {number}: " in city.act(path, *asked)
            city.sign("pipes")
        said = city.act(path, *asked)
    assert "waiting: 5 of 6 rounds in effect, round 6 is proposed from 2" in said
    assert city.records("Order") == []
    city.publish()
    city.wait(DAYS_15)
    with city.worker():
        assert "authority 1 more of 1" in city.act(path, *asked)
        city.sign("pipes")
        assert "acts: all 6 rounds in effect" in city.act(path, *asked)
        before = city.operator.records()
        assert "acts: all 6 rounds in effect" in city.act(path, *asked)
        # A year is closed by the hash of what the ledger is then.
        year = rules.almaty_year(city.now) - 1
        close = city.write("close", [[{"record": "Close", "year": str(year), "stateHash": "@state"}]])
        city.act(close)
        city.sign("close")
        assert "acts: all 1 rounds in effect" in city.act(close)
        assert len(city.operator.records()) == len(before) + 2
        both_bodies(city)
    state, findings = rules.replay(city.operator.records())
    assert findings == []
    assert [one.order for one in state.orders.values()] == ["pipes-payment"]
    assert set(state.closed) == {year}

    city.publish()
    verdict = city.place.audit()
    assert (verdict.findings, verdict.pending, verdict.chain_checked) == ([], [], True)
    assert verdict.last_line().startswith(f"valid: {state.size} records, ")


def both_bodies(city: City) -> None:
    """A refund of what was paid in before, by Authority and Auditor; a dispute by whoever raises it."""
    (fee,) = city.records("Transfer")
    told = {"record": "Refund", "id": f"0x{digest('id').hex()}", "receiptHash": f"0x{hash_struct(fee).hex()}"}
    refund = city.write("refund", [[{**told, "amount": "100", "to": ACT, **PAPER}]])
    assert "authority 1 more of 1, auditor 1 more of 1" in city.act(refund)
    by = f"0x{AUDITOR.address.hex()}"
    told = {"record": "Dispute", "commitmentHash": "@commitment:pipes-contract", "by": by, **PAPER}
    dispute = city.write("dispute", [[told]])
    assert f": {by} 1 more of 1" in city.act(dispute)
    for name, path in (("refund", refund), ("dispute", dispute)):
        city.sign(name)
        assert "acts: all 1 rounds in effect" in city.act(path)


def documented(city: City, payee: Paper) -> list[list[dict[str, str]]]:
    """The example of the operator's document, with hashes where it has dots, and years that are not over."""
    text = (servers.ROOT / "docs" / "operator.md").read_text("utf-8")
    start = text.index('    {"rounds": [', text.index("## Acts after the founding"))
    example = text[start : text.index("]]}", start) + 3]
    example = example.replace("0x<24 zeros><address>", f"0x{payee.owner.hex()}").replace("0x00...", NOTHING)
    rounds: list[list[dict[str, str]]] = json.loads(example.replace("0x...", ACT))["rounds"]
    (block,) = [one for one in rounds[0] if one["record"] == "Block"]
    block |= {"fromYear": str(rules.almaty_year(city.now)), "toYear": str(rules.almaty_year(city.now) + 1)}
    (told,) = [one for one in rounds[0] if one.get("kind") == "payee"]
    told["party"] = f"0x{payee.party.hex()}"
    return rounds


def test_the_documented_example_goes_from_its_first_act_to_the_payment_that_the_ledger_books(city: City):
    payee = replace(GOOD, account="builder-usdt", iban=None, address=digest("builder")[:20])
    papers = write_papers(city.operator.folder / "papers.json", payee)
    most = str(rules.PARAMETERS["block_budget_until"][1])
    usual = {"record": "Parameter", "validFrom": "0", "act": ACT}
    before = city.write(
        "before",
        [[{**usual, "name": "direct_settlement", "value": "1"}, {**usual, "name": "block_budget_until", "value": most},
          account("fees-usdt", "revenue", f"@code:{CODE}", "USDT")]],
    )  # fmt: skip
    water = city.write("water", documented(city, payee))
    asked = "--payees", str(papers)
    with city.worker():
        city.act(before)
        city.sign("before")
        city.act(before)
    city.publish()
    city.place.enact()
    city.wait(DAYS_15)
    with city.worker():
        city.rate()
        for _ in range(5):
            city.act(water, *asked)
            city.sign("water")
        said = city.act(water, *asked)
    assert "waiting: 5 of 6 rounds in effect, round 6 is proposed from 2" in said
    city.publish()
    acts = [
        line.split()[5]
        for line in said.splitlines()
        if re.search(r"in effect: record \d+ (Project|Account|Allocation) ", line)
    ]
    assert len(acts) == 4
    chain = {one.account: f"0x{hash_struct(one).hex()}" for one in city.records("Account")}
    said = city.bring("enact", *(one for one in acts if one != chain["spent-water-usdt"]))
    assert said.count("enacted: ") == 3
    city.wait(DAYS_15)
    with city.worker():
        city.coins(40_000_000)
        city.act(water, *asked)
        city.sign("water")
        assert "acts: all 6 rounds in effect" in city.act(water, *asked)
    city.publish()
    city.wait(2 * rules.DAY)
    (order,) = city.records("Order")
    named = f"0x{hash_struct(order).hex()}"
    said = city.bring("execute", named)
    assert said.startswith(f"paid: {named}, transaction 0x")
    transaction = re.findall(r"transaction (0x[0-9a-f]{64})", said)[0]
    city.anvil.call("anvil_mine", "0x4")
    with city.worker():
        assert "asked: transfer 0x" in city.operator.run("ledger", "book", named, transaction)
        servers.until(lambda: city.inbox() == 0, "the payment is booked")
    state, findings = rules.replay(city.operator.records())
    assert findings == []
    assert {hash_struct(order)} == state.paid_orders


def dying(most: int) -> Callable[[Inbox, bytes, Any], bytes]:
    """What asks for so many records, and dies."""
    ask, numbers = Inbox.ask, count()

    def asks(inbox: Inbox, key: bytes, record: Any) -> bytes:
        if next(numbers) == most:
            raise Unavailable("power", "gone")
        return ask(inbox, key, record)

    return asks


def test_without_a_worker_what_is_asked_for_waits_and_is_recorded_once_however_often_it_was_asked(
    city: City, monkeypatch: pytest.MonkeyPatch
):
    path = city.write("two", [[project("one"), project("two")]])
    before = city.operator.records()
    for _ in range(2):
        with pytest.raises(Unavailable, match="no worker with the log's keys has recorded it yet, ask again"):
            city.act(path, "--wait", "0")
        assert city.inbox() == 2
    assert city.operator.records() == before
    with city.worker():
        city.act(path)
    assert city.inbox() == 0
    assert len(city.operator.records()) == len(before) + 2
    # So do signatures, wherever it dies while it asks for them.
    city.sign("two")
    for most in range(6):
        with monkeypatch.context() as patch:
            patch.setattr(Inbox, "ask", dying(most))
            with pytest.raises(Unavailable, match="gone"):
                city.act(path)
        assert city.inbox() == most
    with city.worker():
        assert "acts: all 1 rounds in effect" in city.act(path)
    assert len(city.operator.records()) == len(before) + 2 + 6


def test_two_who_ask_for_the_same_from_one_state_have_it_recorded_once(city: City):
    path = city.write("two", [[project("one"), project("two")]])

    def machines(server: Server) -> list[Acts]:
        """Two machines that both have read the ledger before either asks."""
        now = server.clock()
        rounds = read_acts(path, server.plan)
        return [
            Acts(
                rounds,
                SigningFolder(city.operator.folder / "acts" / name, now),
                print,
                server.engine,
                state_of(server.engine, server.heads),
                Inbox(server.engine, server.clock, 30),
                now,
            )
            for name in ("two", "other")
        ]

    before = len(city.operator.records())
    with Server(Settings()) as server, city.worker():
        first, second = [one.go_on() for one in machines(server)]
        assert len(first.waiting) == len(second.waiting) == 2
        assert len(city.operator.records()) == before + 2
        # One of them has another member's signature, which is then one too many.
        city.act(path)
        city.sign("two")
        shutil.copytree(
            city.operator.folder / "acts" / "two" / "to-sign",
            city.operator.folder / "acts" / "other" / "to-sign",
        )
        city.seats[rules.COUNCIL] = city.operator.council[1:4]
        city.sign("other")
        stands = [one.go_on() for one in machines(server)]
    assert [one.rounds for one in stands] == [1, 1]
    assert len(city.operator.records()) == before + 2 + 6


def test_the_next_round_is_proposed_at_once_where_the_worker_has_another_clock(
    city: City, monkeypatch: pytest.MonkeyPatch
):
    path = city.write("two", [[project("one")], [account("spent-one", "project", "@project:one")]])
    with monkeypatch.context() as patch:
        # The worker's clock is ahead, and so is what it records.
        patch.setenv("QAZYNA_TIME_SHIFT_S", "20")
        worker = city.worker()
        worker.__enter__()
    try:
        city.act(path)
        city.sign("two")
        assert "round 2: 1 records proposed" in city.act(path)
    finally:
        worker.__exit__(None, None, None)


def refused(city: City, path: Path, rule: str, *needed: str) -> None:
    """The command is refused by a rule, names place and numbers, and leaves nothing."""
    before = city.operator.records()
    for more in (["--dry-run"], ["--wait", "0"]):
        with pytest.raises(Invalid) as error:
            city.act(path, *more)
        assert error.value.rule == rule, error.value
        for each in needed:
            assert each in str(error.value)
        assert city.operator.records() == before
        assert city.inbox() == 0


def test_what_does_not_fit_is_refused_by_rule_and_place_and_nothing_is_asked_for(city: City):
    good = project()
    payee = account_of(GOOD)
    stranger = {**account("paver-kzt", "payee", f"0x{payee.owner.hex()}"), "party": f"0x{payee.party.hex()}"}
    genesis: dict[str, str] = {"record": "Genesis", "ledger": ACT, "retentionEnd": "1", "chainId": "1"}
    genesis |= dict.fromkeys(("council", "anchor"), f"0x{'11' * 20}") | {"legalRef": ACT, "founding": ACT}
    for rounds, rule, needed in [
        ([], "acts", ["has 0 rounds"]),
        ([[]], "acts", ["round 1"]),
        ([[genesis]], "acts", ["a Genesis is no act"]),
        ([[{**good, "time": "5"}]], "acts", ["states time 5"]),
        ([[good], [good]], "acts", ["round 2 record 1", "says what"]),
        ([[{**good, "document": NOTHING}]], "H5", ["round 1 record 1"]),
        # The first of the round would be taken: it is not asked for either.
        ([[good, {**project("b"), "place": "moon"}]], "B1", ["round 1 record 2", "moon"]),
        ([[{"record": "Parameter", "name": "rate_band", "value": "2001", "validFrom": "0", "act": ACT}]],
         "S5", ["round 1 record 1", "2000", "2001"]),
        ([[account("a", "project", "@project:nowhere")]], "acts", ["record 1.owner", "no project 'nowhere'"]),
        ([[stranger]], "U1", ["round 1 record 1"]),
    ]:  # fmt: skip
        refused(city, city.write("bad", rounds), rule, *needed)
    both = city.operator.folder / "both.json"
    both.write_text(json.dumps({"legalRef": ACT, "rounds": [[good]]}))
    refused(city, both, "acts", "legalRef", "not rounds alone")
    assert not (city.operator.folder / "acts" / "bad").exists()


def test_a_signature_that_is_not_the_seats_is_refused_by_rule_and_file_and_none_is_asked_for(city: City):
    path = city.write("one", [[project("one")]])
    with city.worker():
        city.act(path)
        city.act(city.write("other", [[project("other")]]))
    city.sign("one")
    city.sign("other", most=1)
    signed = city.operator.folder / "acts" / "one" / "signed"
    good = max(signed.iterdir())
    text = good.read_text()
    told = json.loads(text.splitlines()[-1])
    (foreign,) = (city.operator.folder / "acts" / "other" / "signed").iterdir()
    for content, rule, needed in [
        (json.dumps({**told, "validUntil": str(int(told["validUntil"]) + 1)}), "A6", "signed, the record names"),
        (json.dumps({**told, "validUntil": str(city.now)}), "A3", f"was valid until {city.now}"),
        (json.dumps({**told, "r": "0x12"}), "signed", "is no signature"),
        (json.dumps({**told, "validUntil": float("inf")}), "signed", "is no signature"),
        (foreign.read_text(), "signed", "none of the 1 proposals of this file"),
        (city.operator.run("sign", str(next((signed.parent / "to-sign").iterdir())), "--key",
                           str(city.seats[rules.AUDITOR][0])), "A4", "council approves"),
        ("nothing", "signed", "has no line of JSON"),
    ]:  # fmt: skip
        good.write_text(content)
        refused(city, path, rule, str(good), needed)
    good.write_text(text)
    (signed / "again").write_text(text)
    refused(city, path, "A5", "has approved record", str(good))
    (signed / "again").unlink()
    # More than are needed are no mistake.
    city.seats[rules.COUNCIL] = city.operator.council[:4]
    city.sign("one", most=4)
    with city.worker():
        assert "3 signatures recorded" in city.act(path)
        assert "acts: all 1 rounds" in city.act(path)


def test_what_the_writer_refuses_is_told_by_rule_and_place_and_asked_for_anew_later(city: City):
    """Two Seats for one holder: both may be proposed, and of both signed at once the rules take one."""
    holder = f"0x{digest('somebody')[:20].hex()}"
    term = {"holder": holder, "validFrom": "0", "validTo": str(city.now + 10**8), "act": ACT}
    first = city.write("first", [[{"record": "Seat", "role": "operator", **term}]])
    second = city.write("second", [[{"record": "Seat", "role": "watcher", **term}]])
    with city.worker():
        city.act(first)
        city.act(second)
    city.sign("first")
    city.sign("second")
    with pytest.raises(Unavailable):
        city.act(first, "--wait", "0")
    later = threading.Event()

    def work() -> None:
        servers.until(lambda: city.inbox() == 6, "both have asked")
        with city.worker():
            later.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(Invalid, match=r"S2 at .*second/signed/.*holds operator and would hold watcher"):
        city.act(second)
    later.set()
    thread.join()
    # From now on it is refused before it is asked for.
    before = city.operator.records()
    with pytest.raises(Invalid, match="S2 at"):
        city.act(second)
    assert city.operator.records() == before
    with city.worker():
        assert "in force from" in city.act(first)


def test_a_year_is_closed_although_other_records_come_between_the_question_and_its_answer(
    city: City, monkeypatch: pytest.MonkeyPatch
):
    year = rules.almaty_year(city.now) - 1
    close = {"record": "Close", "year": str(year)}
    refused(city, city.write("stale", [[{**close, "stateHash": ACT}]]), "Y1", "round 1 record 1", ACT)
    path = city.write("close", [[{**close, "stateHash": "@state"}]])
    ask, numbers = Inbox.ask, count()

    def is_late(inbox: Inbox, key: bytes, record: Any) -> bytes:
        if (number := next(numbers)) < 3:
            city.submit(Rate(0, "USDT", 51_234, 1_000_000, digest(f"one {number}"), digest(f"two {number}")))
        return ask(inbox, key, record)

    with city.worker():
        with monkeypatch.context() as patch:
            patch.setattr(Inbox, "ask", is_late)
            assert "round 1: 1 records proposed" in city.act(path)
        city.sign("close")
        assert "acts: all 1 rounds in effect" in city.act(path)
    assert len(city.records("Rate")) == 3
    (recorded,) = city.records("Close")
    state, _ = rules.replay(city.operator.records())
    assert state.closed == {year: recorded.state_hash}


class Thief(Writer):
    """Somebody with the log's keys who records what the rules refuse."""

    def _judge(self, data: bytes) -> Record:
        rules.take(self.state, data)
        return decode(data)


def test_a_breach_is_acknowledged_by_the_act_that_ends_it_though_nothing_else_goes_on(city: City):
    twice = Rate(0, "USDT", 1, 1, digest("a source"), digest("a source"))
    with Server(Settings()) as server, only_writer(server.engine, city.operator.folder / "writer.lock"):
        thief = Thief(server.engine, server.heads, server.log_keys(), server.clock)
        with server.engine.begin() as connection:
            submit(connection, twice, server.clock())
        thief.drain()
        thief.publish(server.publisher)
        ((index, rule),) = thief.state.breaches.items()
    assert rule == "Q1"
    act = {"record": "Acknowledgement", "index": str(index), "rule": rule, "act": ACT}
    refused(
        city, city.write("wrong", [[{**act, "rule": "M3"}]]), "K1", f"record {index} breaks Q1 and not M3"
    )
    path = city.write("pardon", [[act]])
    with city.worker():
        assert "council 3 more of 3, auditor 1 more of 1" in city.act(path)
        city.sign("pardon", most=3)
        assert "auditor 1 more of 1" in city.act(path)
        city.sign("pardon", most=4)
        assert "acts: all 1 rounds in effect" in city.act(path)
    state, (breach,) = rules.replay(city.operator.records())
    assert breach.rule == rule
    assert set(state.acknowledged) == {index}


def test_what_was_refused_is_another_submission_when_it_is_asked_for_again(city: City):
    with Server(Settings()) as server:
        inbox = Inbox(server.engine, server.clock, 30)
        (rule,) = city.records("RevenueRule")
        stale = Approval(0, hash_struct(rule), bytes(20), 1, 27, ACT_BYTES, ACT_BYTES)
        first = inbox.ask(b"key", stale)
        assert inbox.ask(b"key", stale) == first
        # Whoever asks at the same time, by another rate or with a later deadline, has asked for the same.
        assert inbox.ask(b"key", replace(stale, valid_until=2)) == first
        assert city.inbox() == 1
        with city.worker():
            (answer,) = inbox.answers([first])
            assert answer is not None
            assert answer.rule == "A1"
            assert inbox.ask(b"key", stale) != first


def test_an_act_by_the_newest_rate_is_the_same_act_after_the_next_rate(
    tmp_path: Path, plan_of: Callable[[], Any]
):
    log = registered()
    rates = [
        log.add(Rate(0, "USDT", 51_234 + step, 1_000_000, digest(f"a{step}"), digest(f"b{step}")))
        for step in range(2)
    ]
    told = {"record": "Allocation", "allocation": "a", "block": "block-2026", "asset": "USDT", "amount": "5"}
    told |= {"projectHash": "@project:water-main", "rateHash": "@rate:USDT", "act": ACT}
    ((planned,),) = read_rounds([[told]], tmp_path / "acts.json", plan_of(), has_references=True)
    first = planned.resolved(log.state)
    assert first.record == replace(
        first.record, rate_hash=rates[1], project_hash=log.state.project_hashes["water-main"]
    )
    assert find(log.state, first) is None
    log.act(first.record)
    log.add(Rate(0, "USDT", 51_240, 1_000_000, digest("a9"), digest("b9")))
    again = planned.resolved(log.state)
    assert again.record != first.record
    assert again.content() == first.content()
    found = find(log.state, again)
    assert found is not None
    assert found.record == replace(first.record, time=log.now)


@pytest.fixture
def plan_of(operator: Operator) -> Callable[[], Any]:
    def plan() -> Any:
        with Server(Settings()) as server:
            return server.plan

    return plan


@pytest.mark.parametrize(
    ("record", "start_s"),
    [
        (Parameter(0, "rate_age", 60, 0, ACT_BYTES), SIGNED_S + rules.NOTICE_S),
        (Parameter(0, "rate_age", 60, SIGNED_S + 10**7, ACT_BYTES), SIGNED_S + 10**7),
        (Quorum(0, rules.COUNCIL, 3, ACT_BYTES), SIGNED_S + rules.NOTICE_S),
        (KeyChange(0, "watcher", ACT_BYTES, 0, ACT_BYTES), SIGNED_S + rules.NOTICE_S),
        (Release(0, ACT_BYTES, 1, ACT_BYTES), SIGNED_S),
    ],
)
def test_an_act_is_in_force_when_its_notice_is_over(record: Record, start_s: int):
    assert in_force_s(rules.State(), rules.Proposal(record, 1, effective_s=SIGNED_S)) == start_s


@pytest.mark.parametrize("notice_s", [rules.NOTICE_S, rules.RECOVERY_S])
def test_a_seat_is_in_force_when_the_rules_begin_its_term(notice_s: int):
    log = registered()
    if notice_s == rules.RECOVERY_S:
        # Of the council two are left: those whose terms are over may call others in.
        for key in COUNCIL[2:]:
            log.act(Seat(0, rules.COUNCIL, key.address, 0, log.now + 20 * rules.DAY, ACT_BYTES))
        log.wait(30 * rules.DAY)
    called = log.act(Seat(0, rules.COUNCIL, Key("new").address, 0, FOREVER_S, ACT_BYTES))
    assert in_force_s(log.state, log.state.proposals[called]) == log.now + notice_s
    assert log.state.terms[Key("new").address] == [(log.now + notice_s, FOREVER_S)]
