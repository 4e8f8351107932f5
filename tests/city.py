"""A small city for tests: keys that are made up on the spot, and a log that keeps to the rules.

Nothing here is a mock: the records are encoded, signed and applied by the ledger's own code.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace

import coincurve

from ledger import rules
from ledger.records import (
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
    Milestone,
    Order,
    Parameter,
    Project,
    Quorum,
    Rate,
    Record,
    RevenueRule,
    Seat,
    Transfer,
    Withdrawal,
    address_word,
    approve_digest,
    encode,
    encode_name,
    hash_struct,
    keccak256,
    withdraw_digest,
)

START_S = 1_790_000_000
RETENTION_END_S = 2_524_590_000
FOREVER_S = RETENTION_END_S + 100 * 365 * rules.DAY
CHAIN_ID = 31337


def digest(text: str) -> bytes:
    """A hash that stands for a document of this name."""
    return hashlib.sha256(text.encode()).digest()


ACT = digest("act")


class Key:
    """A secp256k1 key made from its name, so that vectors are the same on every run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.secret = coincurve.PrivateKey(digest(f"test key {name}"))
        self.address = keccak256(self.secret.public_key.format(compressed=False)[1:])[12:]

    def approve(self, domain: bytes, record: Record, valid_until: int, time: int) -> Approval:
        """This key's approval of a record, recorded at a time."""
        signature = self.secret.sign_recoverable(approve_digest(domain, record, valid_until), hasher=None)
        return Approval(
            time,
            hash_struct(record),
            self.address,
            valid_until,
            27 + signature[64],
            signature[:32],
            signature[32:64],
        )

    def withdraw(self, domain: bytes, approves: bytes, time: int) -> Withdrawal:
        """This key takes its approval of a record back."""
        signature = self.secret.sign_recoverable(withdraw_digest(domain, approves), hasher=None)
        return Withdrawal(time, approves, self.address, 27 + signature[64], signature[:32], signature[32:64])


COUNCIL = [Key(f"council {n}") for n in range(5)]
AUTHORITY, CERTIFIER, AUDITOR = Key("authority"), Key("certifier"), Key("auditor")
WATCHER, OPERATOR, GATEWAY = Key("watcher"), Key("operator"), Key("gateway")
# No founders: the local budget's bodies take their seats in hall().
MASLIKHAT, AKIMAT = Key("maslikhat deputy"), Key("akim")
SIGNERS = {
    rules.COUNCIL: COUNCIL[:3],
    rules.AUTHORITY: [AUTHORITY],
    rules.CERTIFIER: [CERTIFIER],
    rules.AUDITOR: [AUDITOR],
    rules.MASLIKHAT: [MASLIKHAT],
    rules.AKIMAT: [AKIMAT],
}
COUNCIL_CONTRACT, ANCHOR, TREASURY, TOKEN = (
    Key(n).address for n in ("council contract", "anchor", "treasury", "token")
)
PAYEE = Key("payee")
PAYEE_ADDRESS = PAYEE.address
CODE = "108125"


class Log:
    """Records in order, and the state they add up to; add() refuses what the rules refuse."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.state = rules.State()
        self.now = START_S
        self.breaches: list[int] = []

    def add(self, record: Record) -> bytes:
        """Record it now; returns its hashStruct."""
        record = replace(record, time=self.now)
        data = encode(record)
        rules.apply(self.state, data)
        self.records.append(data)
        return keccak256(data)

    def breach(self, data: bytes) -> int:
        """Leave bytes in the log that the rules refuse, as a log's keeper can; returns their place."""
        place = self.state.size
        assert rules.take(self.state, data) is not None
        self.records.append(data)
        self.breaches.append(place)
        return place

    def withdraw(self, approves: bytes, *keys: Key) -> None:
        """Take approvals of a waiting proposal back."""
        for key in keys:
            self.add(key.withdraw(self.state.domain, approves, self.now))

    def approve(self, approves: bytes, *keys: Key, valid_until: int | None = None) -> None:
        """Approvals of a recorded proposal, by these keys or by just enough of its role."""
        record = self.state.proposals[approves].record
        roles = rules.authors(self.state, record)
        for key in keys or [signer for role in roles for signer in SIGNERS[role]]:
            until = self.now + rules.DAY if valid_until is None else valid_until
            self.add(key.approve(self.state.domain, record, until, self.now))

    def act(self, record: Record) -> bytes:
        """Record a proposal and approve it."""
        approves = self.add(record)
        self.approve(approves)
        return approves

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds


def refusal(log: Log, record: Record) -> str:
    """The rule by which the log refuses a record; refusing changes nothing."""
    kept = copy.deepcopy(log.state)
    try:
        log.add(record)
    except Invalid as refused:
        assert log.state == kept, "what is refused has changed the state"
        return refused.rule
    raise AssertionError(f"accepted: {record}")


def retained(log: Log) -> int:
    """All RETAINED money, in base units of all assets."""
    return sum(total.closing for total in rules.totals(log.state) if total.fund == rules.RETAINED)


def founding() -> list[Record]:
    """The seats and quorums that the Genesis binds."""
    offices = [
        *((rules.COUNCIL, key) for key in COUNCIL),
        (rules.AUTHORITY, AUTHORITY),
        (rules.CERTIFIER, CERTIFIER),
        (rules.AUDITOR, AUDITOR),
        ("watcher", WATCHER),
        ("operator", OPERATOR),
        ("gateway", GATEWAY),
    ]
    seats: list[Record] = [Seat(START_S, role, key.address, START_S, FOREVER_S, ACT) for role, key in offices]
    quorums: list[Record] = [
        Quorum(START_S, role, needed, ACT) for role, needed in ((rules.COUNCIL, 3), (rules.AUTHORITY, 1))
    ]
    return seats + quorums


def genesis(seats: list[Record]) -> Genesis:
    """The Genesis that binds these seats."""
    bound = keccak256(b"".join(hash_struct(seat) for seat in seats))
    return Genesis(START_S, digest("ledger"), RETENTION_END_S, CHAIN_ID, COUNCIL_CONTRACT, ANCHOR, ACT, bound)


def opened() -> Log:
    """A ledger with its Genesis approved and nothing else."""
    log = Log()
    first = log.add(genesis(founding()))
    for seat in founding():
        log.add(seat)
    log.approve(first, *COUNCIL[:3])
    return log


def registered() -> Log:
    """Contracts, assets, funds' accounts, revenue rules, a block and a project are in effect."""
    log = opened()
    log.act(Contract(0, "treasury", CHAIN_ID, TREASURY, digest("code"), ACT))
    log.act(Asset(0, "KZT", 2, 0, ZERO_ADDRESS, START_S, FOREVER_S, ACT))
    log.act(Asset(0, "USDT", 6, CHAIN_ID, TOKEN, START_S, FOREVER_S, ACT))
    log.act(RevenueRule(0, CODE, rules.RETAINED, 10_000, START_S, ACT))
    log.act(Parameter(0, "direct_settlement", 1, START_S, ACT))
    log.act(Account(0, "bank-kzt", "KZT", rules.RETAINED, "bank", digest("iban"), ZERO_HASH, ACT))
    log.act(
        Account(0, "treasury-usdt", "USDT", rules.RETAINED, "chain", address_word(TREASURY), ZERO_HASH, ACT)
    )
    for asset in ("kzt", "usdt"):
        log.act(
            Account(
                0,
                f"fees-{asset}",
                asset.upper(),
                rules.RETAINED,
                rules.REVENUE,
                encode_name(CODE),
                ZERO_HASH,
                ACT,
            )
        )
    log.act(Block(0, "block-2026", rules.RETAINED, 2026, 2028, 10**15, ACT))
    project = log.act(Project(0, "water-main", "water", "alatau-gate", 10**13, digest("project")))
    log.act(Account(0, "spent-water-usdt", "USDT", rules.RETAINED, rules.PROJECT, project, ZERO_HASH, ACT))
    log.act(
        Account(
            0,
            "builder-usdt",
            "USDT",
            rules.RETAINED,
            rules.PAYEE,
            address_word(PAYEE_ADDRESS),
            digest("bin"),
            ACT,
        )
    )
    log.wait(rules.NOTICE_S)
    return log


def hall(log: Log) -> None:
    """Seat the Maslikhat and the Akimat, and let their notice pass."""
    for role, key in ((rules.MASLIKHAT, MASLIKHAT), (rules.AKIMAT, AKIMAT)):
        log.act(Seat(0, role, key.address, START_S, FOREVER_S, ACT))
    log.wait(rules.NOTICE_S)


def rule_hash(log: Log, code: str = CODE) -> bytes:
    """The hash of the revenue rule in force."""
    rule = rules.revenue_rule(log.state, code, log.now)
    assert rule is not None
    return hash_struct(rule)


def revenue(log: Log, amount: int = 50_000_000, asset: str = "usdt", mark: str = "1") -> Transfer:
    """A fee that has come in."""
    money = "treasury-usdt" if asset == "usdt" else "bank-kzt"
    return Transfer(
        0,
        digest(f"id {asset} {mark}"),
        money,
        f"fees-{asset}",
        asset.upper(),
        amount,
        CODE,
        rule_hash(log),
        digest(f"evidence {asset} {mark}"),
    )


def certified(
    amount: int = 40_000_000,
    sources: Callable[[int], tuple[bytes, bytes]] = lambda _: (b"source 1", b"source 2"),
) -> tuple[Log, Order]:
    """Revenue is in, work is certified; returns the log and the order that may follow.

    sources: what two sources of the rate of 512.34 said at a time.
    """
    log = registered()
    log.add(revenue(log))
    names = (hashlib.sha256(body).digest() for body in sources(log.now))
    rate = log.add(Rate(0, "USDT", 51_234, 1_000_000, *names))
    project = log.state.project_hashes["water-main"]
    allocation = log.act(Allocation(0, "allocation-1", "block-2026", project, "USDT", amount, rate, ACT))
    commitment = log.act(
        Commitment(0, "commitment-1", allocation, "builder-usdt", amount, digest("contract"))
    )
    milestone = log.act(Milestone(0, "milestone-1", commitment, amount, digest("milestone")))
    certificate = log.act(Certificate(0, milestone, amount, 1, digest("survey")))
    return log, Order(
        0, "order-1", commitment, allocation, certificate, "treasury-usdt", amount, "builder-usdt"
    )


def payment(order: Order, order_hash: bytes) -> Transfer:
    """The transfer that pays an order."""
    return Transfer(
        0,
        digest("id payment"),
        "spent-water-usdt",
        order.account,
        "USDT",
        order.amount,
        order.order,
        order_hash,
        digest("evidence payment"),
    )


def paid(certified: Callable[[], tuple[Log, Order]] = certified) -> Log:
    """The whole way of the money, once."""
    log, order = certified()
    order_hash = log.act(order)
    log.add(payment(order, order_hash))
    return log


def bound() -> Log:
    """A ledger with its Genesis and the seats that it binds, and no approval yet."""
    log = Log()
    log.add(genesis(founding()))
    for seat in founding():
        log.add(seat)
    return log


def ordered() -> tuple[Log, Order, bytes]:
    """Certified, and the order is in effect; returns the log, the order and its hash."""
    log, order = certified()
    order_hash = log.act(order)
    return log, order, order_hash


def second_before_2050() -> tuple[Log, Commitment]:
    """The last second of retention; returns the log and a commitment to the republican budget."""
    log = registered()
    log.act(
        Account(
            0,
            "republic",
            "KZT",
            rules.RETAINED,
            rules.REPUBLIC,
            digest("iban of 070"),
            digest("bin of 070"),
            ACT,
        )
    )
    log.act(Block(0, "block-2049", rules.RETAINED, 2049, 2050, 10**15, ACT))
    log.act(Parameter(0, "block_budget_until", rules.PARAMETERS["block_budget_until"][1], START_S, ACT))
    log.wait(RETENTION_END_S - 1 - log.now)
    project = log.state.project_hashes["water-main"]
    allocation = log.act(
        Allocation(0, "allocation-2049", "block-2049", project, "KZT", 1_000, ZERO_HASH, ACT)
    )
    return log, Commitment(0, "commitment-2049", allocation, "republic", 1_000, digest("contract 2049"))
