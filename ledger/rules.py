"""The rules: what makes a sequence of records a valid ledger.

A ledger is valid when every record, taken in order, is accepted by `apply`. That
is the whole definition; the writer asks it before it commits, an auditor asks it
again, and the contracts hold the part that moves money on a chain.

Pure: no clock, no I/O, nothing read but records. The table below is in the order
of checking; SPEC.md says why each rule is there and which vector breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import coincurve

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
    Investment,
    Milestone,
    Order,
    Parameter,
    Project,
    Quorum,
    Rate,
    Record,
    RevenueRule,
    Rules,
    Seat,
    Transfer,
    address_word,
    approve_digest,
    decode,
    domain_separator,
    encode_name,
    hash_struct,
    keccak256,
    reject,
)

RULES = {
    # The encoding: ledger/records.py.
    "E1": "A record has a known type hash and exactly the words of its kind.",
    "E2": "Every word is canonical: no dirty bits, integers inside their type.",
    "E3": "A name is 1 to 31 visible ASCII characters, padded with zeros.",
    "E4": "An amount is at least 1 and less than 2^128.",
    # The sequence.
    "H1": "Index 0 is the Genesis, and there is no other.",
    "H2": "Time never goes back, and stays before the year 3000.",
    "H3": "Until the Genesis has its approvals, only the seats it binds and approvals of it are recorded.",
    "H4": "The same record is not proposed twice.",
    "H5": "An act or a document is named by a hash that is not zero.",
    # Approvals: who may say what.
    "A1": "An approval names a recorded proposal that has not taken effect.",
    "A2": "A signature is canonical: v is 27 or 28, s is in the lower half.",
    "A3": "An approval is recorded at its deadline at the latest.",
    "A4": "The signer holds a seat of the role that signs this kind of record, in its term.",
    "A5": "A seat approves a proposal once.",
    "A6": "The signature is the signer's, over this record, on this ledger, chain and council.",
    # Offices and parameters.
    "S1": "A role is one of those that SPEC names.",
    "S2": "One holder has one role for ever, and is no payee and no contract.",
    "S3": "A term ends after it begins.",
    "S4": "A quorum is at least 1; for the council at least 3, and at most those seated.",
    "S5": "A parameter has a known name, and a value inside the bounds of SPEC.",
    # What is registered.
    "N1": "A name is given once to one thing of its kind; a contract's to an address with code on a chain.",
    "N2": "A fund and a kind of account are among those that SPEC names, and fit what they are given to.",
    "N3": "An account's asset is registered.",
    "N4": "A chain account belongs to the registered treasury contract.",
    "N5": "A revenue account belongs to a code that has a revenue rule of the same fund.",
    "N6": "A project account belongs to an approved project.",
    "N7": "A payee is no office holder, contract, account of the city or the republic, and names its party.",
    "N8": "A minimum share is at most 10,000 of 10,000.",
    "N9": "Tenge has no chain and no token; any other asset has both.",
    # Rates.
    "Q1": "A rate is of a registered asset and has two different sources.",
    "Q2": "A rate steps no further than the band from the last and from the first of the same day.",
    # Budgets.
    "B1": "Public money goes to a sector and a place that its fund may pay for.",
    "B2": "A block budget is of a fund, for years in order; an allocation falls inside them.",
    "B3": "An allocation in another asset names a fresh rate of that asset.",
    "B4": "Allocations stay inside the project's approved total.",
    "B5": "Allocations stay inside the block's limit.",
    # Contracts and work.
    "C1": "A commitment is inside an allocation that is in effect.",
    "C2": "A commitment is to a registered payee of the same asset and fund.",
    "C3": "Commitments stay inside their allocation.",
    "C4": "Milestones stay inside their commitment.",
    "C5": "A certificate is about a milestone that has none, for at most its amount.",
    # Orders.
    "O1": "An order names a commitment in effect, and that commitment's allocation.",
    "O2": "An order names an accepted certificate of a milestone of that commitment.",
    "O3": "An order pays the commitment's payee.",
    "O4": "An order pays the certified amount.",
    "O5": "An order pays from an account of the city, of the allocation's asset and fund.",
    "O7": "Orders stay inside the commitment, and so inside the allocation.",
    "O6": "A milestone is ordered once.",
    "O8": "The milestones of a commitment that is paid add up to it.",
    "O9": "A payee waits after it is registered before it is paid.",
    "O10": "An order is covered by money that no other order has.",
    "G7": "Nothing goes to the republican budget before the end of retention.",
    # Money.
    "M1": "A transfer is between two different registered accounts.",
    "M2": "Both accounts hold the transfer's asset.",
    "M3": "A transfer's id and its evidence are used once and are not zero.",
    "M4": "A transfer is inside a permitted flow.",
    "M5": "Both accounts and the authority belong to one fund.",
    "M6": "An account of money never goes below zero.",
    "V1": "Revenue names the revenue rule of its code that is in force.",
    "V2": "Revenue is taken in an asset that is allowed at that time.",
    "V3": "Revenue is taken on a chain only while an act allows direct settlement.",
    "V4": "A payment is of an order in effect, once, from its account, for its project, to the unit.",
    "I1": "An investment names a project in effect.",
}

# --- what SPEC.md names -------------------------------------------------------

COUNCIL, AUTHORITY, CERTIFIER, AUDITOR = "council", "authority", "certifier", "auditor"
ROLES = frozenset(
    {
        COUNCIL,
        AUTHORITY,
        "maslikhat",
        "akimat",
        "treasury",
        AUDITOR,
        CERTIFIER,
        "watcher",
        "operator",
        "gateway",
    }
)
RETAINED = "RETAINED"
CUSTODY = "CUSTODY"
FUNDS = frozenset({RETAINED, "AUTHORITY", "MUNICIPAL", CUSTODY})
MONEY = frozenset({"bank", "chain"})
REVENUE, PROJECT, PAYEE, REPUBLIC = "revenue", "project", "payee", "republic"
ACCOUNT_KINDS = MONEY | {REVENUE, PROJECT, PAYEE, REPUBLIC}
TENGE = "KZT"

INFRASTRUCTURE = frozenset(
    {"roads", "water", "sewerage", "drainage", "power", "heat", "gas", "transport", "telecom", "waste"}
)
# Which sectors a fund may pay for (G6, G8). CUSTODY is others' money: nothing.
SECTORS = {
    RETAINED: INFRASTRUCTURE,
    "AUTHORITY": INFRASTRUCTURE,
    "MUNICIPAL": frozenset({"social", "administration"}),
    CUSTODY: frozenset[str](),
}
PLACES = frozenset({"alatau-gate", "alatau-golden", "alatau-growing", "alatau-green"})

DAY = 86_400
NOTICE_S = 14 * DAY
ALMATY_OFFSET_S = 5 * 3_600
SHARE_WHOLE = 10_000
# 3000-01-01 in UTC: a later time is a slip, and calendars end before 2^64 seconds do.
TIME_LIMIT_S = 32_503_680_000

# name: (least, most, value until a Parameter is in force)
PARAMETERS = {
    "direct_settlement": (0, 1, 0),
    "self_sufficient": (0, 1, 0),
    "anchor_gap": (3_600, 7 * DAY, 2 * DAY),
    "order_delay": (DAY, 30 * DAY, DAY),
    "payee_wait": (14 * DAY, 365 * DAY, 14 * DAY),
    "rate_band": (1, 2_000, 1_000),
    "rate_age": (60, 7 * DAY, DAY),
}

# Who must approve a record before it has effect; what is not here is the writer's.
AUTHOR: dict[type[Record], str] = {
    Genesis: COUNCIL,
    Rules: COUNCIL,
    Contract: COUNCIL,
    Parameter: COUNCIL,
    Seat: COUNCIL,
    Quorum: COUNCIL,
    Asset: COUNCIL,
    Account: COUNCIL,
    RevenueRule: COUNCIL,
    Block: COUNCIL,
    Project: COUNCIL,
    Allocation: COUNCIL,
    Investment: COUNCIL,
    Commitment: AUTHORITY,
    Milestone: AUTHORITY,
    Order: AUTHORITY,
    Certificate: CERTIFIER,
}

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


# --- the state ----------------------------------------------------------------


@dataclass(slots=True)
class Proposal:
    """A record that waits for its approvals, or has had them."""

    record: Record
    index: int
    approvals: dict[bytes, int] = field(default_factory=dict)  # signer -> deadline
    effective_s: int | None = None


@dataclass(slots=True)
class ProjectState:
    """A project in effect; the totals are tiyn (G10)."""

    record: Project
    allotted: int = 0
    committed: int = 0
    certified: int = 0
    paid: int = 0
    invested: int = 0


@dataclass(slots=True)
class BlockState:
    """A block budget in effect; allotted is tiyn."""

    record: Block
    allotted: int = 0


@dataclass(slots=True)
class AllocationState:
    """An allocation in effect; totals in base units of its asset."""

    record: Allocation
    fund: str
    numerator: int
    denominator: int
    committed: int = 0
    certified: int = 0
    ordered: int = 0
    paid: int = 0

    def tiyn(self, amount: int) -> int:
        """What an amount of this allocation's asset is in tiyn, rounded up."""
        return -(-amount * self.numerator // self.denominator)

    def step(self, before: int, amount: int) -> int:
        """By how many tiyn a total grows; parts rounded one by one would outgrow the whole (G10)."""
        return self.tiyn(before + amount) - self.tiyn(before)


@dataclass(slots=True)
class CommitmentState:
    """A commitment in effect; totals in base units."""

    record: Commitment
    milestones: int = 0
    ordered: int = 0
    paid: int = 0


@dataclass(slots=True)
class MilestoneState:
    """A milestone in effect; certificate is the hash of the one it has."""

    record: Milestone
    certificate: bytes | None = None
    ordered: bool = False


@dataclass(slots=True)
class AccountState:
    """An account in effect; balance is debits less credits, reserved is ordered and unpaid."""

    record: Account
    effective_s: int
    balance: int = 0
    reserved: int = 0


@dataclass(slots=True)
class State:
    """All that a ledger says, after `size` records."""

    size: int = 0
    time: int = 0
    opened: bool = False
    genesis: Genesis | None = None
    domain: bytes = b""
    founding: list[bytes] = field(default_factory=list)
    proposals: dict[bytes, Proposal] = field(default_factory=dict)
    roles: dict[bytes, str] = field(default_factory=dict)
    # Things with a date: each list holds (in force from, ...) in the order they took effect.
    terms: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    quorums: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    parameters: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    revenue_rules: dict[str, list[tuple[int, RevenueRule]]] = field(default_factory=dict)
    rule_files: list[tuple[int, bytes]] = field(default_factory=list)
    contracts: dict[str, Contract] = field(default_factory=dict)
    assets: dict[str, Asset] = field(default_factory=dict)
    rates: dict[bytes, Rate] = field(default_factory=dict)
    last_rate: dict[str, Rate] = field(default_factory=dict)
    first_rate: dict[str, Rate] = field(default_factory=dict)  # of the day that last_rate is in
    accounts: dict[str, AccountState] = field(default_factory=dict)
    owners: dict[bytes, str] = field(default_factory=dict)
    blocks: dict[str, BlockState] = field(default_factory=dict)
    names: set[tuple[str, str]] = field(default_factory=set)
    projects: dict[bytes, ProjectState] = field(default_factory=dict)
    project_hashes: dict[str, bytes] = field(default_factory=dict)
    allocations: dict[bytes, AllocationState] = field(default_factory=dict)
    commitments: dict[bytes, CommitmentState] = field(default_factory=dict)
    milestones: dict[bytes, MilestoneState] = field(default_factory=dict)
    certificates: dict[bytes, Certificate] = field(default_factory=dict)
    orders: dict[bytes, Order] = field(default_factory=dict)
    paid_orders: set[bytes] = field(default_factory=set)
    transfer_ids: set[bytes] = field(default_factory=set)
    evidence: set[bytes] = field(default_factory=set)
    invested_tiyn: int = 0


_T = TypeVar("_T")


def _in_force(dated: list[tuple[int, _T]] | None, now: int) -> _T | None:
    """The latest of the dated things that is in force; later records supersede earlier ones."""
    for valid_from, thing in reversed(dated or []):
        if valid_from <= now:
            return thing
    return None


def parameter(state: State, name: str, now: int) -> int:
    """The value of a parameter at a second."""
    value = _in_force(state.parameters.get(name), now)
    return PARAMETERS[name][2] if value is None else value


def is_seated(state: State, holder: bytes, role: str, now: int) -> bool:
    """Whether the holder has a seat of the role whose term holds this second."""
    if state.roles.get(holder) != role:
        return False
    return any(start <= now < end for start, end in state.terms[holder])


def _seated(state: State, role: str, now: int) -> int:
    return sum(is_seated(state, holder, role, now) for holder, held in state.roles.items() if held == role)


def required(state: State, role: str, now: int) -> int:
    """How many approvals the role must give at a second; for the council not less than the floor."""
    needed = max(_in_force(state.quorums.get(role), now) or 0, 1)
    if role != COUNCIL:
        return needed
    return max(needed, _seated(state, COUNCIL, now) // 2 + 1, 3)


def revenue_rule(state: State, code: str, now: int) -> RevenueRule | None:
    """The revenue rule of a code at a second."""
    return _in_force(state.revenue_rules.get(code), now)


def almaty_year(time_s: int) -> int:
    """The calendar year in Alatau: UTC+5 since 1 March 2024."""
    return datetime.fromtimestamp(time_s + ALMATY_OFFSET_S, tz=UTC).year


# --- offices, parameters and what is registered -------------------------------
#
# For each kind of record a check, which raises and changes nothing, and an effect,
# which cannot fail. A proposal is checked when it is recorded and again when its
# last approval arrives (LEAKS 25).


def _check_named(state: State, space: str, name: str, at: str) -> None:
    if (space, name) in state.names:
        reject("N1", at, f"the {space} {name} exists already")


def _check_genesis(state: State, record: Genesis, now: int, at: str) -> None:
    if state.size:
        reject("H1", at, f"a Genesis is record 0, this is record {state.size}")
    if not record.retention_end > now:
        reject("H1", at, f"retention ends at {record.retention_end}, which is not after {now}")


def _effect_genesis(state: State, record: Genesis, digest: bytes, now: int) -> None:
    state.opened = True
    state.owners.setdefault(address_word(record.council), "contract council")
    state.owners.setdefault(address_word(record.anchor), "contract anchor")


def _check_rules(state: State, record: Rules, now: int, at: str) -> None:
    if record.sha256 == ZERO_HASH:
        reject("H5", at, "the hash of the rule files is zero")


def _effect_rules(state: State, record: Rules, digest: bytes, now: int) -> None:
    state.rule_files.append((max(record.valid_from, now), record.sha256))


def _check_contract(state: State, record: Contract, now: int, at: str) -> None:
    _check_named(state, "contract", record.name, at)
    if record.at == ZERO_ADDRESS or record.code_hash == ZERO_HASH or not record.chain_id:
        reject("N1", at, f"the contract {record.name} has no address, no code or no chain")
    owned = state.owners.get(address_word(record.at), state.roles.get(record.at, "contract"))
    if not owned.startswith("contract"):
        reject("N7", at, f"0x{record.at.hex()} is {owned} and would be the contract {record.name}")


def _effect_contract(state: State, record: Contract, digest: bytes, now: int) -> None:
    state.names.add(("contract", record.name))
    state.contracts[record.name] = record
    state.owners.setdefault(address_word(record.at), f"contract {record.name}")


def _check_parameter(state: State, record: Parameter, now: int, at: str) -> None:
    if record.name not in PARAMETERS:
        reject("S5", at, f"no parameter is called {record.name}")
    least, most, _ = PARAMETERS[record.name]
    if not least <= record.value <= most:
        reject("S5", at, f"{record.name} is {least} to {most}, this is {record.value}")


def _effect_parameter(state: State, record: Parameter, digest: bytes, now: int) -> None:
    state.parameters.setdefault(record.name, []).append(
        (max(record.valid_from, now + NOTICE_S), record.value)
    )


def _check_seat(state: State, record: Seat, now: int, at: str) -> None:
    if record.role not in ROLES:
        reject("S1", at, f"no role is called {record.role}")
    held = state.roles.get(record.holder, record.role)
    if held != record.role:
        reject("S2", at, f"0x{record.holder.hex()} holds {held} and would hold {record.role}")
    owned = state.owners.get(address_word(record.holder))
    if owned is not None or record.holder == ZERO_ADDRESS:
        reject("S2", at, f"0x{record.holder.hex()} is {owned or 'nobody'} and would hold {record.role}")
    if not record.valid_from < record.valid_to:
        reject("S3", at, f"the term begins at {record.valid_from} and ends at {record.valid_to}")


def _effect_seat(state: State, record: Seat, digest: bytes, now: int) -> None:
    # The founding seats are bound by the Genesis, which nobody could read 14 days before.
    start = max(record.valid_from, now + NOTICE_S) if state.opened else record.valid_from
    state.roles[record.holder] = record.role
    # A new term of the same holder takes the place of the old one from its start on.
    kept = [(begin, min(end, start)) for begin, end in state.terms.get(record.holder, [])]
    state.terms[record.holder] = [*kept, (start, record.valid_to)]


def _check_quorum(state: State, record: Quorum, now: int, at: str) -> None:
    if record.role not in ROLES:
        reject("S1", at, f"no role is called {record.role}")
    floor = 3 if record.role == COUNCIL else 1
    if record.needed < floor:
        reject("S4", at, f"{record.role} needs at least {floor}, this says {record.needed}")
    # A council that cannot reach its quorum could not lower it either.
    if state.opened and record.role == COUNCIL and record.needed > (seated := _seated(state, COUNCIL, now)):
        reject("S4", at, f"{seated} are seated in the council, this asks for {record.needed}")


def _effect_quorum(state: State, record: Quorum, digest: bytes, now: int) -> None:
    start = now + NOTICE_S if state.opened else now
    state.quorums.setdefault(record.role, []).append((start, record.needed))


def _check_asset(state: State, record: Asset, now: int, at: str) -> None:
    _check_named(state, "asset", record.asset, at)
    if record.asset == TENGE and (record.chain_id or record.token != ZERO_ADDRESS or record.decimals != 2):
        reject(
            "N9",
            at,
            f"tenge has 2 decimals and no chain, this has {record.decimals} on chain {record.chain_id}",
        )
    if record.asset != TENGE and (not record.chain_id or record.token == ZERO_ADDRESS):
        reject("N9", at, f"{record.asset} has chain {record.chain_id} and token 0x{record.token.hex()}")
    if not record.valid_from < record.valid_to:
        reject("S3", at, f"allowed from {record.valid_from} to {record.valid_to}")


def _effect_asset(state: State, record: Asset, digest: bytes, now: int) -> None:
    state.names.add(("asset", record.asset))
    state.assets[record.asset] = record


def _check_account(state: State, record: Account, now: int, at: str) -> None:
    _check_named(state, "account", record.account, at)
    if record.fund not in FUNDS or record.kind not in ACCOUNT_KINDS:
        reject("N2", at, f"no account is of fund {record.fund} and kind {record.kind}")
    asset = state.assets.get(record.asset)
    if asset is None:
        reject("N3", at, f"the asset {record.asset} is not registered")
    owned = state.owners.get(record.owner)
    if record.kind == "bank" and (owned is not None or record.owner == ZERO_HASH or asset.asset != TENGE):
        reject(
            "N2",
            at,
            f"a bank account holds {TENGE} and has an owner of its own, this is {asset.asset} of {owned}",
        )
    if record.kind == "chain":
        treasury = state.contracts.get("treasury")
        word = ZERO_HASH if treasury is None else address_word(treasury.at)
        if treasury is None or record.owner != word or asset.chain_id != treasury.chain_id:
            reject(
                "N4", at, f"the treasury is 0x{word.hex()}, this account's owner is 0x{record.owner.hex()}"
            )
        if record.fund != RETAINED:
            reject("N4", at, f"the treasury contract holds {RETAINED}, this account is {record.fund}")
    elif record.kind == REVENUE:
        rules = [
            rule for _, rule in state.revenue_rules.get(record.owner.rstrip(b"\0").decode("latin-1"), [])
        ]
        if not rules or rules[-1].fund != record.fund:
            reject("N5", at, f"no code 0x{record.owner.hex()} belongs to {record.fund}")
    elif record.kind == PROJECT:
        if record.owner not in state.projects:
            reject("N6", at, f"no project in effect has the hash 0x{record.owner.hex()}")
    elif record.kind in {PAYEE, REPUBLIC}:
        holder, is_address = record.owner[12:], not any(record.owner[:12])
        # What is once known as the republic's stays so; a payee may turn out to be the republic (LEAKS 07).
        if owned is not None and not owned.startswith((PAYEE, record.kind)):
            reject("N7", at, f"the owner 0x{record.owner.hex()} is {owned}")
        if asset.asset != TENGE and not is_address:
            reject("N7", at, f"a payee on a chain is an address, its owner is 0x{record.owner.hex()}")
        if is_address and (holder in state.roles or holder == ZERO_ADDRESS):
            reject("N7", at, f"0x{holder.hex()} holds {state.roles.get(holder, 'nothing')}")
        if record.party == ZERO_HASH:
            reject("N7", at, "a payee names its party")


def _effect_account(state: State, record: Account, digest: bytes, now: int) -> None:
    state.names.add(("account", record.account))
    state.accounts[record.account] = AccountState(record, now)
    if record.kind == PAYEE:
        state.owners.setdefault(record.owner, f"{PAYEE} {record.account}")
    elif record.kind == REPUBLIC:
        state.owners[record.owner] = f"{REPUBLIC} {record.account}"
    elif record.kind == "bank":
        state.owners[record.owner] = f"account {record.account}"


def _check_revenue_rule(state: State, record: RevenueRule, now: int, at: str) -> None:
    # What is in custody is others' money and never revenue (G5, LEAKS 08).
    if record.fund not in FUNDS - {CUSTODY}:
        reject("N2", at, f"no revenue belongs to a fund called {record.fund}")
    if record.min_share > SHARE_WHOLE:
        reject("N8", at, f"a share is at most {SHARE_WHOLE}, this is {record.min_share}")


def _effect_revenue_rule(state: State, record: RevenueRule, digest: bytes, now: int) -> None:
    state.revenue_rules.setdefault(record.code, []).append((max(record.valid_from, now), record))


def _check_rate(state: State, record: Rate, now: int, at: str) -> None:
    if record.asset not in state.assets or record.asset == TENGE:
        reject("Q1", at, f"the asset {record.asset} is not registered, or needs no rate")
    if record.source1 == record.source2 or ZERO_HASH in {record.source1, record.source2}:
        reject("Q1", at, f"the sources are 0x{record.source1.hex()} and 0x{record.source2.hex()}")
    # From the last alone, many small steps would go anywhere within a minute.
    for earlier in (state.last_rate.get(record.asset), state.first_rate.get(record.asset)):
        if earlier is None or now - earlier.time > DAY:
            continue
        before, after = earlier.numerator * record.denominator, record.numerator * earlier.denominator
        band = parameter(state, "rate_band", now)
        if abs(after - before) * SHARE_WHOLE > before * band:
            moved = abs(after - before) * SHARE_WHOLE // before
            reject("Q2", at, f"the rate moved by {moved} of 10,000, the band is {band}")


def _effect_rate(state: State, record: Rate, digest: bytes, now: int) -> None:
    state.rates[digest] = state.last_rate[record.asset] = record
    first = state.first_rate.get(record.asset)
    if first is None or now - first.time > DAY:
        state.first_rate[record.asset] = record


# --- budgets ------------------------------------------------------------------


def _check_block(state: State, record: Block, now: int, at: str) -> None:
    _check_named(state, "block", record.block, at)
    if record.fund not in FUNDS:
        reject("N2", at, f"no fund is called {record.fund}")
    if record.from_year > record.to_year:
        reject("B2", at, f"the years are {record.from_year} to {record.to_year}")


def _effect_block(state: State, record: Block, digest: bytes, now: int) -> None:
    state.names.add(("block", record.block))
    state.blocks[record.block] = BlockState(record)


def _check_project(state: State, record: Project, now: int, at: str) -> None:
    _check_named(state, "project", record.project, at)
    if record.place not in PLACES:
        reject("B1", at, f"{record.place} is not a place in Alatau")
    if record.limit and not any(record.sector in sectors for sectors in SECTORS.values()):
        reject("B1", at, f"no fund may pay for {record.sector}, the limit is {record.limit} and not 0")


def _effect_project(state: State, record: Project, digest: bytes, now: int) -> None:
    state.names.add(("project", record.project))
    state.projects[digest] = ProjectState(record)
    state.project_hashes[record.project] = digest


def _allocation_rate(state: State, record: Allocation, at: str) -> tuple[int, int]:
    if record.asset == TENGE:
        if record.rate_hash != ZERO_HASH:
            reject("B3", at, f"{TENGE} needs no rate, this names 0x{record.rate_hash.hex()}")
        return 1, 1
    rate = state.rates.get(record.rate_hash)
    if rate is None or rate.asset != record.asset:
        reject("B3", at, f"0x{record.rate_hash.hex()} is no rate of {record.asset}")
    # Dated by the record and not by the last approval: the Council signed this rate.
    age, most = record.time - rate.time, parameter(state, "rate_age", record.time)
    if age > most:
        reject("B3", at, f"the rate is {age} s old, at most {most} s is fresh")
    return rate.numerator, rate.denominator


def _check_allocation(state: State, record: Allocation, now: int, at: str) -> None:
    _check_named(state, "allocation", record.allocation, at)
    if record.asset not in state.assets:
        reject("N3", at, f"the asset {record.asset} is not registered")
    project = state.projects.get(record.project_hash)
    if project is None:
        reject("B1", at, f"no project in effect has the hash 0x{record.project_hash.hex()}")
    block = state.blocks.get(record.block)
    if block is None or not block.record.from_year <= almaty_year(now) <= block.record.to_year:
        reject("B2", at, f"the block {record.block} is not in effect in {almaty_year(now)}")
    if project.record.sector not in SECTORS[block.record.fund]:
        reject("B1", at, f"{block.record.fund} may not pay for {project.record.sector}")
    numerator, denominator = _allocation_rate(state, record, at)
    tiyn = -(-record.amount * numerator // denominator)
    if project.allotted + tiyn > project.record.limit:
        reject(
            "B4", at, f"allotted would be {project.allotted + tiyn} tiyn, approved is {project.record.limit}"
        )
    if block.allotted + tiyn > block.record.limit:
        reject(
            "B5", at, f"the block would be {block.allotted + tiyn} tiyn, its limit is {block.record.limit}"
        )


def _effect_allocation(state: State, record: Allocation, digest: bytes, now: int) -> None:
    state.names.add(("allocation", record.allocation))
    block = state.blocks[record.block]
    numerator, denominator = _allocation_rate(state, record, "")
    allocation = AllocationState(record, block.record.fund, numerator, denominator)
    state.allocations[digest] = allocation
    block.allotted += allocation.tiyn(record.amount)
    state.projects[record.project_hash].allotted += allocation.tiyn(record.amount)


def _check_investment(state: State, record: Investment, now: int, at: str) -> None:
    if record.project not in state.project_hashes:
        reject("I1", at, f"no project in effect is called {record.project}")


def _effect_investment(state: State, record: Investment, digest: bytes, now: int) -> None:
    state.projects[state.project_hashes[record.project]].invested += record.amount
    state.invested_tiyn += record.amount


# --- contracts, work, orders --------------------------------------------------


def _check_republic(state: State, payee: Account, now: int, at: str) -> None:
    assert state.genesis is not None
    owned = state.owners[payee.owner]
    if owned.startswith(REPUBLIC) and now < state.genesis.retention_end:
        reject(
            "G7",
            at,
            f"{payee.account} is the republican budget; {now} is before {state.genesis.retention_end}",
        )


def _check_commitment(state: State, record: Commitment, now: int, at: str) -> None:
    _check_named(state, "commitment", record.commitment, at)
    allocation = state.allocations.get(record.allocation_hash)
    if allocation is None:
        reject("C1", at, f"no allocation in effect has the hash 0x{record.allocation_hash.hex()}")
    payee = state.accounts.get(record.payee)
    if payee is None or payee.record.kind not in {PAYEE, REPUBLIC}:
        reject("C2", at, f"{record.payee} is not a registered payee")
    if (payee.record.asset, payee.record.fund) != (allocation.record.asset, allocation.fund):
        reject(
            "C2",
            at,
            f"the payee takes {payee.record.asset} of {payee.record.fund},"
            f" the allocation is {allocation.record.asset} of {allocation.fund}",
        )
    _check_republic(state, payee.record, now, at)
    total = allocation.committed + record.amount
    if total > allocation.record.amount:
        reject("C3", at, f"committed would be {total}, allotted is {allocation.record.amount}")


def _effect_commitment(state: State, record: Commitment, digest: bytes, now: int) -> None:
    state.names.add(("commitment", record.commitment))
    allocation = state.allocations[record.allocation_hash]
    project = state.projects[allocation.record.project_hash]
    project.committed += allocation.step(allocation.committed, record.amount)
    allocation.committed += record.amount
    state.commitments[digest] = CommitmentState(record)


def _check_milestone(state: State, record: Milestone, now: int, at: str) -> None:
    _check_named(state, "milestone", record.milestone, at)
    commitment = state.commitments.get(record.commitment_hash)
    if commitment is None:
        reject("C4", at, f"no commitment in effect has the hash 0x{record.commitment_hash.hex()}")
    total = commitment.milestones + record.amount
    if total > commitment.record.amount:
        reject("C4", at, f"milestones would be {total}, committed is {commitment.record.amount}")


def _effect_milestone(state: State, record: Milestone, digest: bytes, now: int) -> None:
    state.names.add(("milestone", record.milestone))
    state.commitments[record.commitment_hash].milestones += record.amount
    state.milestones[digest] = MilestoneState(record)


def _check_certificate(state: State, record: Certificate, now: int, at: str) -> None:
    milestone = state.milestones.get(record.milestone_hash)
    if milestone is None:
        reject("C5", at, f"no milestone in effect has the hash 0x{record.milestone_hash.hex()}")
    if milestone.certificate is not None:
        reject("C5", at, f"the milestone {milestone.record.milestone} has a certificate")
    if record.accepted > 1:
        reject("C5", at, f"accepted is 0 or 1, this is {record.accepted}")
    if record.amount > milestone.record.amount:
        reject("C5", at, f"certified is {record.amount}, the milestone is {milestone.record.amount}")


def _effect_certificate(state: State, record: Certificate, digest: bytes, now: int) -> None:
    milestone = state.milestones[record.milestone_hash]
    milestone.certificate = digest
    state.certificates[digest] = record
    if record.accepted:
        allocation = state.allocations[
            state.commitments[milestone.record.commitment_hash].record.allocation_hash
        ]
        project = state.projects[allocation.record.project_hash]
        project.certified += allocation.step(allocation.certified, record.amount)
        allocation.certified += record.amount


def _check_order(state: State, record: Order, now: int, at: str) -> None:
    _check_named(state, "order", record.order, at)
    commitment = state.commitments.get(record.commitment_hash)
    if commitment is None or commitment.record.allocation_hash != record.allocation_hash:
        reject("O1", at, f"no commitment in effect is 0x{record.commitment_hash.hex()} of that allocation")
    certificate = state.certificates.get(record.certificate_hash)
    milestone = state.milestones[certificate.milestone_hash] if certificate else None
    if certificate is None or milestone is None or milestone.record.commitment_hash != record.commitment_hash:
        reject("O2", at, f"no certificate 0x{record.certificate_hash.hex()} is about this commitment")
    if not certificate.accepted:
        reject("O2", at, f"the milestone {milestone.record.milestone} was refused")
    if record.payee != commitment.record.payee:
        reject("O3", at, f"the order pays {record.payee}, the commitment is to {commitment.record.payee}")
    if record.amount != certificate.amount:
        reject("O4", at, f"the order is {record.amount}, certified is {certificate.amount}")
    allocation = state.allocations[record.allocation_hash]
    account = state.accounts.get(record.account)
    if account is None or account.record.kind not in MONEY:
        reject("O5", at, f"{record.account} is not an account of the city's money")
    if (account.record.asset, account.record.fund) != (allocation.record.asset, allocation.fund):
        reject(
            "O5",
            at,
            f"the account is {account.record.asset} of {account.record.fund},"
            f" the allocation is {allocation.record.asset} of {allocation.fund}",
        )
    # Before O6, so that each can be seen to hold by itself. The allocation holds its commitments (C3).
    if commitment.ordered + record.amount > commitment.record.amount:
        total = commitment.ordered + record.amount
        reject("O7", at, f"ordered would be {total}, committed is {commitment.record.amount}")
    if milestone.ordered:
        reject("O6", at, f"the milestone {milestone.record.milestone} is ordered already")
    if commitment.milestones != commitment.record.amount:
        reject("O8", at, f"milestones are {commitment.milestones}, committed is {commitment.record.amount}")
    payee = state.accounts[record.payee]
    waited, wait = now - payee.effective_s, parameter(state, "payee_wait", now)
    if waited < wait:
        reject("O9", at, f"the payee was registered {waited} s ago, it waits {wait} s")
    if record.amount > account.balance - account.reserved:
        free = account.balance - account.reserved
        reject("O10", at, f"the order is {record.amount}, free in {record.account} is {free}")
    _check_republic(state, payee.record, now, at)


def _effect_order(state: State, record: Order, digest: bytes, now: int) -> None:
    state.names.add(("order", record.order))
    state.orders[digest] = record
    state.commitments[record.commitment_hash].ordered += record.amount
    allocation = state.allocations[record.allocation_hash]
    allocation.ordered += record.amount
    assert allocation.ordered <= allocation.record.amount
    state.milestones[state.certificates[record.certificate_hash].milestone_hash].ordered = True
    state.accounts[record.account].reserved += record.amount


# --- money --------------------------------------------------------------------


def _check_transfer(state: State, record: Transfer, now: int, at: str) -> None:
    debit, credit = state.accounts.get(record.debit), state.accounts.get(record.credit)
    if debit is None or credit is None or debit is credit:
        reject("M1", at, f"{record.debit} and {record.credit} are not two registered accounts")
    if not debit.record.asset == credit.record.asset == record.asset:
        reject("M2", at, f"{record.asset} between accounts of {debit.record.asset} and {credit.record.asset}")
    if record.id in state.transfer_ids or record.id == ZERO_HASH:
        reject("M3", at, f"the id 0x{record.id.hex()} is used or zero")
    if record.evidence in state.evidence or record.evidence == ZERO_HASH:
        reject("M3", at, f"the evidence 0x{record.evidence.hex()} is used or zero")
    if debit.record.kind in MONEY and credit.record.kind == REVENUE:
        _check_revenue(state, record, debit.record, credit.record, now, at)
    elif debit.record.kind == PROJECT and credit.record.kind in MONEY:
        _check_payment(state, record, debit.record, credit, now, at)
    else:
        reject("M4", at, f"no flow leads from {credit.record.kind} to {debit.record.kind}")


def _check_revenue(
    state: State, record: Transfer, money: Account, revenue: Account, now: int, at: str
) -> None:
    rule = revenue_rule(state, record.purpose, now)
    if rule is None or hash_struct(rule) != record.authority or revenue.owner != encode_name(record.purpose):
        reject("V1", at, f"0x{record.authority.hex()} is not the rule in force for the code {record.purpose}")
    if not money.fund == revenue.fund == rule.fund:
        reject(
            "M5",
            at,
            f"{record.purpose} belongs to {rule.fund}, the accounts to {money.fund} and {revenue.fund}",
        )
    asset = state.assets[record.asset]
    if not asset.valid_from <= now < asset.valid_to:
        reject(
            "V2", at, f"{record.asset} is allowed from {asset.valid_from} to {asset.valid_to}, now is {now}"
        )
    if money.kind == "chain" and not parameter(state, "direct_settlement", now):
        reject("V3", at, f"direct_settlement is 0 at {now}")


def _check_payment(
    state: State, record: Transfer, project: Account, money: AccountState, now: int, at: str
) -> None:
    # Orders reserve what they pay (O10), so that this stops only what no order covers.
    if record.amount > money.balance:
        reject("M6", at, f"{record.credit} has {money.balance}, the payment is {record.amount}")
    order = state.orders.get(record.authority)
    if order is None or record.authority in state.paid_orders:
        reject("V4", at, f"0x{record.authority.hex()} is no unpaid order in effect")
    if (record.purpose, record.credit, record.amount) != (order.order, order.account, order.amount):
        reject(
            "V4",
            at,
            f"the order {order.order} is {order.amount} from {order.account},"
            f" this is {record.purpose}: {record.amount} from {record.credit}",
        )
    allocation = state.allocations[order.allocation_hash]
    if project.owner != allocation.record.project_hash:
        reject(
            "V4",
            at,
            f"the order is for 0x{allocation.record.project_hash.hex()}, the account is {project.account}",
        )
    if not project.fund == money.record.fund == allocation.fund:
        reject(
            "M5",
            at,
            f"the order is of {allocation.fund}, the accounts of {project.fund} and {money.record.fund}",
        )
    _check_republic(state, state.accounts[order.payee].record, now, at)


def _effect_transfer(state: State, record: Transfer, digest: bytes, now: int) -> None:
    state.transfer_ids.add(record.id)
    state.evidence.add(record.evidence)
    debit, credit = state.accounts[record.debit], state.accounts[record.credit]
    debit.balance += record.amount
    credit.balance -= record.amount
    if debit.record.kind == PROJECT:
        order = state.orders[record.authority]
        credit.reserved -= record.amount
        state.paid_orders.add(record.authority)
        state.commitments[order.commitment_hash].paid += record.amount
        allocation = state.allocations[order.allocation_hash]
        project = state.projects[allocation.record.project_hash]
        project.paid += allocation.step(allocation.paid, record.amount)
        allocation.paid += record.amount


# --- the sequence -------------------------------------------------------------

# Each pair takes the record type of its key; the table is what ties them.
_Check = Callable[[State, Any, int, str], None]
_Effect = Callable[[State, Any, bytes, int], None]
_KINDS: dict[type[Record], tuple[_Check, _Effect]] = {
    Genesis: (_check_genesis, _effect_genesis),
    Rules: (_check_rules, _effect_rules),
    Contract: (_check_contract, _effect_contract),
    Parameter: (_check_parameter, _effect_parameter),
    Seat: (_check_seat, _effect_seat),
    Quorum: (_check_quorum, _effect_quorum),
    Asset: (_check_asset, _effect_asset),
    Account: (_check_account, _effect_account),
    RevenueRule: (_check_revenue_rule, _effect_revenue_rule),
    Rate: (_check_rate, _effect_rate),
    Block: (_check_block, _effect_block),
    Project: (_check_project, _effect_project),
    Allocation: (_check_allocation, _effect_allocation),
    Commitment: (_check_commitment, _effect_commitment),
    Milestone: (_check_milestone, _effect_milestone),
    Certificate: (_check_certificate, _effect_certificate),
    Order: (_check_order, _effect_order),
    Transfer: (_check_transfer, _effect_transfer),
    Investment: (_check_investment, _effect_investment),
}


def _check_documents(record: Record, at: str) -> None:
    for name in ("act", "document", "legal_ref"):
        if getattr(record, name, None) == ZERO_HASH:
            reject("H5", at, f"the {name} is zero")


def _check_canonical(record: Approval, at: str) -> None:
    r, s = int.from_bytes(record.r, "big"), int.from_bytes(record.s, "big")
    if record.v not in {27, 28} or not 0 < r < _CURVE_ORDER or not 0 < s <= _CURVE_ORDER // 2:
        reject("A2", at, f"v is {record.v}, r is {r}, s is {s}, the highest s is {_CURVE_ORDER // 2}")


def _recover(digest: bytes, record: Approval, at: str) -> bytes:
    """The address whose key made the approval's signature (A6)."""
    signature = record.r + record.s + bytes([record.v - 27])
    try:
        key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception as error:
        reject("A6", at, f"no key made this signature: {error}")
    return keccak256(key.format(compressed=False)[1:])[12:]


def _apply_approval(state: State, record: Approval, now: int, at: str) -> None:
    proposal = state.proposals.get(record.approves)
    if proposal is None:
        reject("A1", at, f"no proposal has the hash 0x{record.approves.hex()}")
    if proposal.effective_s is not None:
        reject("A1", at, f"record {proposal.index} took effect at {proposal.effective_s}")
    if not state.opened:
        _check_founding(state, proposal, at)
    _check_canonical(record, at)
    role = AUTHOR[type(proposal.record)]
    if now > record.valid_until:
        reject("A3", at, f"the approval was valid until {record.valid_until}, now is {now}")
    if not is_seated(state, record.signer, role, now):
        held = state.roles.get(record.signer, "no seat")
        reject(
            "A4", at, f"0x{record.signer.hex()} has {held}; {role} approves record {proposal.index} at {now}"
        )
    if record.signer in proposal.approvals:
        reject("A5", at, f"0x{record.signer.hex()} has approved record {proposal.index}")
    signer = _recover(approve_digest(state.domain, proposal.record, record.valid_until), record, at)
    if signer != record.signer:
        reject("A6", at, f"0x{signer.hex()} signed, the approval names 0x{record.signer.hex()}")
    # Seats that expired and deadlines that passed since they approved no longer count.
    standing = 1 + sum(
        until >= now and is_seated(state, holder, role, now) for holder, until in proposal.approvals.items()
    )
    if standing < required(state, role, now):
        proposal.approvals[record.signer] = record.valid_until
        return
    check, effect = _KINDS[type(proposal.record)]
    if not isinstance(proposal.record, Genesis):
        check(state, proposal.record, now, at)
    proposal.approvals[record.signer] = record.valid_until
    proposal.effective_s = now
    effect(state, proposal.record, record.approves, now)


def _check_founding(state: State, proposal: Proposal, at: str) -> None:
    assert state.genesis is not None
    found = keccak256(b"".join(state.founding))
    if found != state.genesis.founding:
        reject(
            "H3",
            at,
            f"the Genesis binds seats 0x{state.genesis.founding.hex()}, recorded are 0x{found.hex()}",
        )
    assert proposal.record is state.genesis


def apply(state: State, data: bytes) -> Record:
    """Take the next record into the state, or raise Invalid and leave the state as it was.

    data: the record's bytes. Returns what they say.
    """
    at = f"record {state.size}"
    try:
        record = decode(data)
    except Invalid as broken:
        reject(broken.rule, at, f"{broken.where}: {broken.why}")
    now = record.time
    if state.genesis is None and not isinstance(record, Genesis):
        reject("H1", at, f"record 0 is no Genesis, and this is a {type(record).__name__}")
    if not state.time <= now < TIME_LIMIT_S:
        reject("H2", at, f"time {now} is before {state.time}, or not before {TIME_LIMIT_S}")
    if isinstance(record, Approval):
        _apply_approval(state, record, now, at)
    else:
        _propose(state, record, keccak256(data), now, at)
    state.size += 1
    state.time = now
    return record


def _propose(state: State, record: Record, digest: bytes, now: int, at: str) -> None:
    check, effect = _KINDS[type(record)]
    founding = not state.opened and isinstance(record, Seat | Quorum)
    if not (state.opened or founding or isinstance(record, Genesis)):
        reject("H3", at, f"a {type(record).__name__} before the Genesis has its approvals")
    # What the writer says alone is checked by its own ids, and would fill this memory for nothing.
    authored = type(record) in AUTHOR
    if authored and digest in state.proposals:
        reject("H4", at, f"record {state.proposals[digest].index} is the same")
    _check_documents(record, at)
    check(state, record, now, at)
    if authored:
        state.proposals[digest] = Proposal(record, state.size)
    if isinstance(record, Genesis):
        state.genesis = record
        state.domain = domain_separator(record.chain_id, record.council, record.ledger)
    if founding:
        state.founding.append(digest)
        state.proposals[digest].effective_s = now
    if founding or not authored:
        effect(state, record, digest, now)


def replay(records: Iterable[bytes], state: State | None = None) -> tuple[State, list[Invalid]]:
    """Apply all records; one that is invalid has no effect and is a finding (G16)."""
    state = State() if state is None else state
    findings: list[Invalid] = []
    for data in records:
        try:
            apply(state, data)
        except Invalid as finding:
            findings.append(finding)
            state.size += 1
    return state, findings


# --- totals -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Totals:
    """One fund in one asset, in base units (G15): revenue - paid = closing = committed unpaid + free."""

    fund: str
    asset: str
    revenue: int
    paid: int
    closing: int
    committed_unpaid: int

    @property
    def free(self) -> int:
        """What no commitment claims; negative where more is committed than has come in."""
        return self.closing - self.committed_unpaid


def totals(state: State) -> list[Totals]:
    """The totals of every fund and asset that has an account of money, in order of name."""
    keys = sorted(
        {(a.record.fund, a.record.asset) for a in state.accounts.values() if a.record.kind in MONEY}
    )
    found = []
    for fund, asset in keys:
        mine = [a for a in state.accounts.values() if (a.record.fund, a.record.asset) == (fund, asset)]
        unpaid = sum(
            commitment.record.amount - commitment.paid
            for commitment in state.commitments.values()
            if (allocation := state.allocations[commitment.record.allocation_hash]).fund == fund
            and allocation.record.asset == asset
        )
        found.append(
            Totals(
                fund,
                asset,
                revenue=-sum(a.balance for a in mine if a.record.kind == REVENUE),
                paid=sum(a.balance for a in mine if a.record.kind == PROJECT),
                closing=sum(a.balance for a in mine if a.record.kind in MONEY),
                committed_unpaid=unpaid,
            )
        )
    return found
