"""Random sequences of acts, approvals, orders and certificates get the same verdict from rules.py and on the chain.

Drawn is what both can see. What only the ledger sees (limits in tiyn, that milestones add up) is kept true, and so
is what only the chain sees (that a contract's code is there, that a token is one asset).
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3 import HTTPProvider, Web3

from contracts.bindings import City, Deployment, Execution, deploy, deploy_token
from ledger import proof, rules
from ledger.records import (
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
    address_word,
    encode,
    encode_name,
    hash_struct,
    keccak256,
)
from tests import servers
from tests.city import ACT, Key, Log, digest
from tests.contracts.world import (
    AUTHORITY,
    BUILDER,
    CERTIFIER,
    COUNCIL,
    DAY,
    DEPLOYER,
    ETHER,
    FOREVER_S,
    LEDGER,
    OPERATOR,
    PAYER,
    RETENTION_END_S,
    START_S,
    World,
    founding,
    wallet,
)

RICH = 10**12
# 200, and 5,000 in `make prove`.
EXAMPLES = int(os.environ.get("QAZYNA_DIFFERENTIAL", "200"))
STRANGER, NEWCOMER = Key("stranger"), Key("newcomer")
PEOPLE = [*COUNCIL, AUTHORITY, CERTIFIER, STRANGER, NEWCOMER]
HOLDERS = {
    **{f"council-{number}": key for number, key in enumerate(COUNCIL)},
    "authority": AUTHORITY,
    "stranger": STRANGER,
    "newcomer": NEWCOMER,
    "builder": BUILDER,
    "second-builder": Key("second builder"),
}


@dataclass(frozen=True)
class Proposed:
    """A record in the ledger: its place, whose signatures the ledger took and refused, and whether it took effect."""

    record: Record
    place: int
    taken: list[Approval]
    refused: list[Approval]
    effective: bool

    def shown(self) -> list[list[Approval]]:
        """With what it is brought to the chain: what the ledger did not take must not help there either."""
        all_ = [*self.taken, *self.refused]
        return [self.taken] if self.effective or not self.refused else [self.taken, all_]


@dataclass(repr=False)
class Twin:
    """One ledger, twice."""

    log: Log
    world: World
    # How often each verdict was given: of acts, then of orders.
    taken: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def __repr__(self) -> str:
        return f"Twin({len(self.log.records)} records)"

    def propose(self, record: Record, signers: Sequence[Key]) -> Proposed:
        """Record and approve."""
        record = replace(record, time=self.log.now)
        place, hashed = self.log.state.size, hash_struct(record)
        approvals: list[Approval] = []
        try:
            self.log.add(record)
        except Invalid:
            self.log.breach(encode(record))
            # Whoever brings it brings all signatures that could be asked for.
            return Proposed(
                record, place, [], self.world.approve(record, COUNCIL[:3], 90 * DAY), effective=False
            )
        refused: list[Approval] = []
        for key in signers:
            approval = key.approve(self.log.state.domain, record, self.log.now + 90 * DAY, self.log.now)
            try:
                self.log.add(approval)
            except Invalid:
                refused.append(approval)
                continue
            approvals.append(approval)
        effective = self.log.state.proposals[hashed].effective_s is not None
        return Proposed(record, place, approvals, refused, effective)

    def anchor(self) -> None:
        """Anchor all there is."""
        self.world.log = self.log.records
        self.world.anchor()

    def path(self, place: int) -> tuple[int, int, list[bytes]]:
        """Where a record stands in the newest head."""
        leaves = [proof.leaf_hash(entry) for entry in self.log.records]
        return place, len(leaves), proof.inclusion_path(place, leaves)

    def compare_acts(self, acts: Sequence[tuple[Record, Sequence[Key]]]) -> None:
        """Propose all, anchor once, bring all in order; each verdict is the same."""
        proposed = [self.propose(record, signers) for record, signers in acts]
        self.anchor()
        for each in proposed:
            for shown in each.shown():
                refused = ""
                try:
                    self.world.city.enact(wallet(PAYER), each.record, *self.path(each.place), shown)
                except Invalid as refusal:
                    refused = str(refusal)
                verdicts = f"the ledger {'takes' if each.effective else 'refuses'}, the chain says {refused or 'yes'}: {each.record}"
                assert each.effective == (not refused), verdicts
            self.taken["act", each.effective] += 1

    def wait(self, seconds: int) -> None:
        """Let time pass in both."""
        self.world.wait(seconds)
        self.log.now = self.world.now()


def base_acts(now: int, deployment: Deployment, token: bytes) -> list[Record]:
    """What a city has after its first day."""
    treasury, chain_id = address_word(deployment.treasury), deployment.chain_id
    return [
        *deployment.contract_records(now, ACT),
        Asset(now, "TKZT", 6, chain_id, token, now, FOREVER_S, ACT),
        RevenueRule(now, "sale", "RETAINED", 100, now, ACT),
        Parameter(now, "direct_settlement", 1, now, ACT),
        Account(now, "treasury-tkzt", "TKZT", "RETAINED", "chain", treasury, ZERO_HASH, ACT),
        Account(
            now, "builder", "TKZT", "RETAINED", "payee", address_word(BUILDER.address), digest("bin"), ACT
        ),
        Project(now, "water-main", "water", "alatau-gate", 10**18, digest("project")),
    ]


@pytest.fixture(scope="module")
def base() -> Iterator[Twin]:
    """Founded and registered in both, and all notice over."""
    with servers.anvil("--timestamp", str(START_S)) as node:
        for key in (DEPLOYER, PAYER, OPERATOR):
            node.call("anvil_setBalance", wallet(key).address, hex(100 * ETHER))
        w3 = Web3(HTTPProvider(node.url))
        deployment = deploy(w3, wallet(DEPLOYER), LEDGER, RETENTION_END_S, founding())
        token = deploy_token(w3, wallet(DEPLOYER), "Test tenge", "TKZT")
        twin = Twin(Log(), World(w3, City(w3, deployment), token))
        log = twin.log
        bound = keccak256(b"".join(hash_struct(record) for record in founding()))
        first = log.add(
            Genesis(
                0,
                LEDGER,
                RETENTION_END_S,
                deployment.chain_id,
                deployment.council,
                deployment.anchor,
                ACT,
                bound,
            )
        )
        for record in founding():
            # The Genesis binds their exact bytes, which the chain hashed as well.
            rules.apply(log.state, encode(replace(record, time=START_S)))
            log.records.append(encode(record))
        log.approve(first, *COUNCIL[:3])
        log.now = twin.world.now()
        twin.compare_acts([(record, COUNCIL[:3]) for record in base_acts(0, deployment, token)])
        assert twin.taken == {("act", True): len(base_acts(0, deployment, token))}
        block = Block(0, "block", "RETAINED", 2026, 2030, 10**20, ACT)
        log.act(block)
        log.act(Account(0, "fees", "TKZT", "RETAINED", "revenue", encode_name("sale"), ZERO_HASH, ACT))
        twin.wait(15 * DAY)
        log.add(
            Transfer(
                0,
                digest("id"),
                "treasury-tkzt",
                "fees",
                "TKZT",
                RICH,
                "sale",
                hash_struct(log.state.revenue_rules["sale"][0][1]),
                digest("log"),
            )
        )
        twin.world.city.mint(wallet(DEPLOYER), token, deployment.treasury, RICH)
        yield twin


# --- what is drawn ----------------------------------------------------------------------------------

# Who signs, as places in PEOPLE: keys would fill a page each when a case is shown.
SIGNERS = st.one_of(
    st.just((0, 1, 2)),
    st.lists(st.integers(0, len(PEOPLE) - 1), max_size=6, unique=True).map(tuple),
)
DAYS = st.sampled_from([0, 5, 10, 400])
FUNDS = st.sampled_from(["RETAINED", "AUTHORITY", "MUNICIPAL", "CUSTODY", "OTHER"])


@dataclass(frozen=True)
class Act:
    """An act to be: its kind, then its members as text and numbers, from pools so small that they collide."""

    kind: str
    name: str = ""
    other: str = ""
    fund: str = "RETAINED"
    asset: str = "TKZT"
    number: int = 0
    days: tuple[int, int] = (0, 0)
    is_named: bool = True


ACTS = st.one_of(
    st.builds(
        Act,
        kind=st.just("seat"),
        name=st.sampled_from(["council", "authority", "certifier", "gateway", "friend"]),
        other=st.sampled_from(list(HOLDERS)),
        days=st.tuples(DAYS, DAYS),
    ),
    st.builds(
        Act,
        kind=st.just("quorum"),
        name=st.sampled_from(["council", "council", "authority", "friend"]),
        number=st.integers(0, 6),
    ),
    st.builds(
        Act,
        kind=st.just("parameter"),
        name=st.sampled_from(["direct_settlement", "anchor_gap", "rate_band", "refund_cap", "mood"]),
        number=st.sampled_from([0, 1, 2, 2_000, 2_001, 3_600, 10**15, 10**15 + 1]),
    ),
    st.builds(
        Act,
        kind=st.just("share"),
        name=st.sampled_from(["sale", "code-1", "code-2"]),
        fund=FUNDS,
        number=st.sampled_from([0, 1, 10_000, 10_001]),
    ),
    st.builds(
        Act,
        kind=st.sampled_from(["payee", "payee", "republic", "chain"]),
        name=st.sampled_from(["builder", "payee-1", "payee-2"]),
        other=st.sampled_from([*HOLDERS, "treasury", "router", "council", "zero"]),
        fund=FUNDS,
        asset=st.sampled_from(["TKZT", "TKZT", "NONE"]),
        is_named=st.sampled_from([True, True, False]),
    ),
    st.builds(
        Act,
        kind=st.just("project"),
        name=st.sampled_from(["water-main", "p-1", "p-2"]),
        other=st.sampled_from(["water", "roads", "social", "casino"]),
        fund=st.sampled_from(["alatau-gate", "alatau-green", "astana"]),
        number=st.sampled_from([0, 10**18]),
    ),
    st.builds(
        Act,
        kind=st.just("allocation"),
        name=st.sampled_from(["a-1", "a-2"]),
        asset=st.sampled_from(["TKZT", "TKZT", "NONE"]),
        number=st.sampled_from([1, 1_000]),
        days=st.tuples(st.integers(0, 1), st.just(0)),
    ),
)


def record_of(twin: Twin, drawn: Act, projects: Sequence[bytes], rate: bytes, act: bytes) -> Record:
    """The record that was drawn."""
    now, deployment = twin.log.now, twin.world.city.deployment
    if drawn.kind == "seat":
        start, last = (now + days * DAY for days in drawn.days)
        return Seat(0, drawn.name, HOLDERS[drawn.other].address, start, last, act)
    if drawn.kind == "quorum":
        return Quorum(0, drawn.name, drawn.number, act)
    if drawn.kind == "parameter":
        return Parameter(0, drawn.name, drawn.number, now, act)
    if drawn.kind == "share":
        return RevenueRule(0, drawn.name, drawn.fund, drawn.number, now, act)
    if drawn.kind == "project":
        return Project(0, drawn.name, drawn.other, drawn.fund, drawn.number, act)
    if drawn.kind == "allocation":
        named = projects[0] if drawn.days[0] else ACT
        return Allocation(0, drawn.name, "block", named, drawn.asset, drawn.number, rate, act)
    if drawn.other == "zero":
        owner = ZERO_HASH
    elif drawn.other in HOLDERS:
        owner = address_word(HOLDERS[drawn.other].address)
    else:
        owner = address_word(getattr(deployment, drawn.other))
    party = ACT if drawn.is_named else ZERO_HASH
    return Account(0, drawn.name, drawn.asset, drawn.fund, drawn.kind, owner, party, act)


OFFICERS: dict[str, list[Key]] = {
    "": [],
    "authority": [AUTHORITY],
    "certifier": [CERTIFIER],
    "newcomer": [NEWCOMER],
}


@dataclass(frozen=True)
class Spend:
    """An order with what it rests on, each part right or wrong in one way."""

    amount: int
    accepted: int
    ordered: int
    payee: str
    account: str
    order_signer: str
    certificate_signer: str


# Most are right: an order rests on so much that else hardly any would be due.
SPENDS = st.builds(
    Spend,
    amount=st.sampled_from([1, 400, 1_000]),
    accepted=st.sampled_from([1] * 7 + [0]),
    ordered=st.sampled_from([0] * 6 + [-1, 1]),
    payee=st.sampled_from(["builder"] * 7 + ["payee-1"]),
    account=st.sampled_from(["treasury-tkzt"] * 7 + ["builder"]),
    order_signer=st.sampled_from(["authority"] * 6 + ["", "certifier", "newcomer"]),
    certificate_signer=st.sampled_from(["certifier"] * 6 + ["", "authority"]),
)


def spend(twin: Twin, number: int, asked: Spend, allocation: bytes) -> tuple[Execution, int, bool]:
    """Record an order and all before it; what Treasury would be shown, and whether the ledger takes it."""
    names = f"c-{number}", f"m-{number}", f"o-{number}"
    commitment = twin.propose(
        Commitment(0, names[0], allocation, "builder", asked.amount, ACT), [AUTHORITY]
    ).record
    milestone = twin.propose(
        Milestone(0, names[1], hash_struct(commitment), asked.amount, ACT), [AUTHORITY]
    ).record
    certificate = twin.propose(
        Certificate(0, hash_struct(milestone), asked.amount, asked.accepted, ACT),
        OFFICERS[asked.certificate_signer],
    )
    order = twin.propose(
        Order(
            0,
            names[2],
            hash_struct(commitment),
            allocation,
            hash_struct(certificate.record),
            asked.account,
            asked.amount + asked.ordered or 1,
            asked.payee,
        ),
        OFFICERS[asked.order_signer],
    )
    assert isinstance(commitment, Commitment)
    assert isinstance(milestone, Milestone)
    assert isinstance(certificate.record, Certificate)
    assert isinstance(order.record, Order)
    # What the ledger did not take is shown as well; of a proposal that it refused, the officer's signature.
    shown = order.taken
    if not order.effective:
        shown = twin.world.approve(order.record, OFFICERS[asked.order_signer], 90 * DAY)
    certified = certificate.taken or twin.world.approve(
        certificate.record, OFFICERS[asked.certificate_signer], 90 * DAY
    )
    execution = Execution(
        order.record, commitment, milestone, certificate.record, shown, certified, order.place, 0, []
    )
    return execution, order.place, order.effective


def test_the_chain_and_the_ledger_give_the_same_verdicts(base: Twin) -> None:
    # The founded city is no argument of what is drawn: shown with each case, it would fill pages.
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        drawn=st.lists(st.tuples(ACTS, SIGNERS), min_size=1, max_size=6),
        spends=st.lists(SPENDS, min_size=0, max_size=2),
    )
    def verdicts_are_the_same(drawn: list[tuple[Act, tuple[int, ...]]], spends: list[Spend]) -> None:
        world = replace(base.world, log=list(base.log.records))
        snapshot = world.ask("evm_snapshot")
        log = Log()
        log.records, log.state, log.now = list(base.log.records), copy.deepcopy(base.log.state), world.now()
        twin = Twin(log, world, base.taken)
        try:
            rate = log.add(Rate(0, "TKZT", 1, 1, digest("one"), digest("two")))
            projects = list(log.state.projects)
            twin.compare_acts(
                [
                    # Each has an act of its own: the same record again is the same proposal (H4).
                    (
                        record_of(twin, one, projects, rate, digest(str(number))),
                        [PEOPLE[at] for at in signers],
                    )
                    for number, (one, signers) in enumerate(drawn)
                ]
            )
            _compare_orders(twin, spends, projects[0])
        finally:
            world.ask("evm_revert", snapshot)

    verdicts_are_the_same()
    # Both verdicts were given often enough to mean something.
    few = {key: base.taken[key] for key in product(("act", "order"), (True, False)) if base.taken[key] < 10}
    assert not few


def _compare_orders(twin: Twin, spends: Sequence[Spend], project: bytes) -> None:
    if not spends:
        return
    twin.wait(15 * DAY)
    rate = twin.log.add(Rate(0, "TKZT", 1, 1, digest("three"), digest("four")))
    seated = [key for key in COUNCIL if rules.is_seated(twin.log.state, key.address, "council", twin.log.now)]
    needed = rules.required(twin.log.state, "council", twin.log.now)
    allocation = Allocation(0, "spent", "block", project, "TKZT", 10_000, rate, ACT)
    allotted = twin.propose(allocation, seated[:needed])
    if not allotted.effective:
        return
    shown = [spend(twin, number, asked, hash_struct(allotted.record)) for number, asked in enumerate(spends)]
    twin.anchor()
    twin.world.city.enact(wallet(PAYER), allotted.record, *twin.path(allotted.place), allotted.taken)
    twin.wait(2 * DAY)
    for execution, at, due in shown:
        _, size, path = twin.path(at)
        refused = ""
        try:
            twin.world.city.execute(wallet(PAYER), replace(execution, head_size=size, path=path))
        except Invalid as refusal:
            refused = str(refusal)
        verdicts = (
            f"the ledger {'orders' if due else 'refuses'}, the chain says {refused or 'yes'}: {execution}"
        )
        assert due == (not refused), verdicts
        twin.taken["order", due] += 1


def test_contract_records_are_acts_as_well(base: Twin) -> None:
    known = base.log.state.contracts["treasury"]
    assert isinstance(known, Contract)
    assert known.at == base.world.city.deployment.treasury
