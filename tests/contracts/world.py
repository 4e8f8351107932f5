"""A deployed city on one chain, and the ledger that a test writes for it: shared by the tests of contracts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from eth_account import Account as Wallet
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import RPCEndpoint

from contracts.bindings import (
    COIN,
    City,
    Execution,
    Quote,
    Signature,
    deploy,
    deploy_token,
    quote_digest,
    sign_digest,
)
from ledger import proof
from ledger.records import (
    Account,
    Allocation,
    Approval,
    Asset,
    Certificate,
    Commitment,
    Invalid,
    Milestone,
    Order,
    Parameter,
    Project,
    Quorum,
    Record,
    RevenueRule,
    Seat,
    address_word,
    decode,
    encode,
    hash_struct,
    head_digest,
)
from tests.city import ACT, Key, digest

DAY = 86_400
START_S = 1_790_000_000
RETENTION_END_S = 2_524_590_000
FOREVER_S = RETENTION_END_S + 50 * 365 * DAY
LEDGER = digest("ledger")
ETHER = 10**18
FEE, SALE = "108125", "sale"

COUNCIL = [Key(f"council {number}") for number in range(5)]
AUTHORITY, CERTIFIER, AUDITOR = Key("authority"), Key("certifier"), Key("auditor")
WATCHER, OPERATOR, GATEWAY = Key("watcher"), Key("operator"), Key("gateway")
OFFICES = [*(("council", key) for key in COUNCIL), ("authority", AUTHORITY), ("certifier", CERTIFIER), ("auditor", AUDITOR),
           ("watcher", WATCHER), ("operator", OPERATOR), ("gateway", GATEWAY)]  # fmt: skip
DEPLOYER, PAYER, MERCHANT, BUILDER = Key("deployer"), Key("payer"), Key("merchant"), Key("builder")


def wallet(key: Key) -> LocalAccount:
    account: LocalAccount = Wallet.from_key(key.secret.secret)
    return account


@dataclass
class World:
    """A deployed city on one chain, and the ledger that the test writes for it."""

    w3: Web3
    city: City
    token: bytes = b""
    log: list[bytes] = field(default_factory=list)

    def now(self) -> int:
        return int(self.w3.eth.get_block("latest")["timestamp"])

    def ask(self, method: str, *parameters: Any) -> Any:
        answer = self.w3.provider.make_request(RPCEndpoint(method), list(parameters))
        assert "error" not in answer, answer
        return answer["result"]

    def wait(self, seconds: int) -> None:
        self.ask("evm_setNextBlockTimestamp", self.now() + seconds)
        self.ask("evm_mine")

    def add(self, record: Record) -> int:
        self.log.append(encode(record))
        return len(self.log) - 1

    def acts(self) -> list[Record]:
        """What was recorded."""
        return [decode(data) for data in self.log]

    def leaves(self, size: int | None = None) -> list[bytes]:
        return [proof.leaf_hash(entry) for entry in self.log[:size]]

    def root(self, size: int | None = None) -> bytes:
        return proof.root_of(self.leaves(size))

    def extension(self) -> list[bytes]:
        old = self.city.head().size
        return proof.consistency_path(old, self.leaves()) if old else []

    def witness(self, size: int, root: bytes, by: Key = WATCHER, valid_for: int = DAY) -> Signature:
        until = self.now() + valid_for
        return sign_digest(wallet(by), head_digest(self.city.deployment.domain, size, root, until), until)

    def anchor(self, by: Key = OPERATOR) -> Any:
        size, root = len(self.log), self.root()
        return self.city.append(wallet(by), size, root, self.extension(), self.witness(size, root))

    def approve(self, record: Record, keys: Sequence[Key], valid_for: int = DAY) -> list[Approval]:
        domain, now = self.city.deployment.domain, self.now()
        return [key.approve(domain, record, now + valid_for, now) for key in keys]

    def path(self, index: int) -> tuple[int, int, list[bytes]]:
        size = self.city.head().size
        return index, size, proof.inclusion_path(index, self.leaves(size))

    def enact(self, *acts: Record) -> list[int]:
        """Record the acts, anchor once, and bring each into force."""
        indexes = [self.add(act) for act in acts]
        self.anchor()
        for act, index in zip(acts, indexes, strict=True):
            self.city.enact(wallet(PAYER), act, *self.path(index), self.approve(act, COUNCIL[:3]))
        return indexes


def founding() -> list[Record]:
    seats: list[Record] = [Seat(START_S, role, key.address, START_S, FOREVER_S, ACT) for role, key in OFFICES]
    return [*seats, Quorum(START_S, "council", 3, ACT), Quorum(START_S, "authority", 1, ACT)]


def project(now: int) -> Project:
    return Project(now, "water-main", "water", "alatau-gate", 10**13, digest("project"))


def allocation(now: int) -> Allocation:
    return Allocation(
        now, "alloc-1", "block-2026", hash_struct(project(now)), "TKZT", 50_000_000, digest("rate"), ACT
    )


def refused(rule: str, where: str) -> Any:
    """Expect exactly this refusal."""
    return pytest.raises(Invalid, match=f"^{re.escape(rule)} at {re.escape(where)}: ")


def quote_for(world: World, token: bytes, amount: int, /, **changes: Any) -> tuple[Quote, Signature]:
    plain = Quote(digest("invoice 1"), SALE, MERCHANT.address, token, amount, 300, world.now() + DAY, 7)
    quote = replace(plain, **changes)
    return quote, sign_digest(wallet(GATEWAY), quote_digest(world.city.deployment.domain, quote))


def payable(world: World, amount: int = 20_000_000) -> Execution:
    """An order with all it rests on, recorded and anchored; not yet payable."""
    now = world.now()
    stage = allocation(decode_time(world))
    commitment = Commitment(now, "contract-1", hash_struct(stage), "builder", 40_000_000, digest("contract"))
    milestone = Milestone(now, "stage-1", hash_struct(commitment), amount, digest("stage"))
    certificate = Certificate(now, hash_struct(milestone), amount, 1, digest("photos"))
    order = Order(now, "order-1", hash_struct(commitment), hash_struct(stage), hash_struct(certificate), "treasury-tkzt",
                  amount, "builder")  # fmt: skip
    for record in (commitment, milestone, certificate):
        world.add(record)
    index = world.add(order)
    world.anchor()
    return Execution(order, commitment, milestone, certificate, world.approve(order, [AUTHORITY], 60 * DAY),
                     world.approve(certificate, [CERTIFIER], 60 * DAY), *world.path(index))  # fmt: skip


def decode_time(world: World) -> int:
    """When the allocation was recorded."""
    return next(record.time for record in map(decode, world.log) if isinstance(record, Allocation))


def found(chain: Web3) -> World:
    """Deployed, with the acts of the first day enacted and their notice over."""
    deployment = deploy(chain, wallet(DEPLOYER), LEDGER, RETENTION_END_S, founding())
    world = World(chain, City(chain, deployment), deploy_token(chain, wallet(DEPLOYER), "Test tenge", "TKZT"))
    for record in founding():
        world.add(record)
    # One head before the acts, so that every later one is proved to extend another.
    world.anchor()
    now, chain_id = world.now(), deployment.chain_id
    world.enact(
        *deployment.contract_records(now, ACT),
        Asset(now, "TKZT", 6, chain_id, world.token, now, FOREVER_S, ACT),
        Asset(now, "COIN", 18, chain_id, COIN, now, FOREVER_S, ACT),
        RevenueRule(now, FEE, "RETAINED", 10_000, now, ACT),
        RevenueRule(now, SALE, "RETAINED", 100, now, ACT),
        Parameter(now, "direct_settlement", 1, now, ACT),
        Account(
            now,
            "treasury-tkzt",
            "TKZT",
            "RETAINED",
            "chain",
            address_word(deployment.treasury),
            digest(""),
            ACT,
        ),
        Account(
            now, "builder", "TKZT", "RETAINED", "payee", address_word(BUILDER.address), digest("bin"), ACT
        ),
        project(now),
        allocation(now),
    )
    return world
