"""The rules: what makes a sequence of records a valid ledger.

A ledger is valid when every record, taken in order, is accepted by `apply`. That
is the whole definition; the writer asks it before it commits, an auditor asks it
again, and the contracts hold the part that moves money on a chain.

Pure: no clock, no I/O, nothing read but records. The table below is in the order
of checking; SPEC.md says why each rule is there and which vector breaks it.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import coincurve

from ledger.records import (
    AMOUNT_LIMIT,
    KINDS,
    WORD,
    ZERO_ADDRESS,
    ZERO_HASH,
    Account,
    Acknowledgement,
    Allocation,
    Approval,
    Asset,
    Block,
    Certificate,
    Close,
    Commitment,
    Contract,
    Dispute,
    Exchange,
    Genesis,
    Invalid,
    Investment,
    KeyChange,
    Milestone,
    Move,
    Order,
    Parameter,
    Project,
    Quorum,
    Rate,
    Record,
    Refund,
    Release,
    Resolution,
    RevenueRule,
    Reversal,
    Rules,
    Seat,
    Statement,
    Transfer,
    Withdrawal,
    address_word,
    approve_digest,
    decode,
    domain_separator,
    encode,
    encode_name,
    hash_struct,
    keccak256,
    reject,
    withdraw_digest,
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
    "A7": "An approval is withdrawn by its signer, once, before the proposal takes effect.",
    "A6": "The signature is the signer's, over this record, on this ledger, chain and council.",
    # Offices and parameters.
    "S1": "A role is one of those that SPEC names.",
    "S2": "One holder has one role for ever, and is no payee and no contract.",
    "S3": "A term ends after it begins.",
    "S4": "A quorum is at least 1; for the council at least 3, and at most those seated.",
    "S6": "A key is changed for one that the ledger knows by name.",
    "S5": "A parameter has a known name, and a value inside the bounds of SPEC.",
    "S7": "A recovery fills seats of the council and ends no term.",
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
    "N10": "An anchor that goes on from an earlier head names a size that the ledger has.",
    # Rates.
    "Q1": "A rate is of a registered asset and has two different sources.",
    "Q2": "A rate steps no further than the band from the day's first and the last, however old that is.",
    "Q3": "An exchange is between two accounts of money in different assets of one fund.",
    "Q4": "An exchange names the newest rate, a fresh one, and what came is within the band of what left.",
    "Q5": "What exchanges lose in a year stays inside the cap.",
    "Q6": "What a provider owes stays inside the cap, and is exchanged within three days.",
    # Budgets.
    "B1": "Public money goes to a sector and a place that its fund may pay for.",
    "B2": "A block budget is of a fund, for years in order; an allocation falls inside them.",
    "B3": "An allocation in another asset names a fresh rate of that asset.",
    "B4": "Allocations stay inside the project's approved total.",
    "B5": "Allocations stay inside the block's limit.",
    "B6": "A block budget is prolonged by a parameter after 2027.",
    "B7": "A move is of what is not committed, between allocations of one block and rate of the Authority.",
    # Contracts and work.
    "C1": "A commitment is inside an allocation that is in effect.",
    "C2": "A commitment is to a registered payee of the same asset and fund.",
    "C3": "Commitments stay inside their allocation.",
    "C4": "Milestones stay inside their commitment.",
    "C5": "A certificate is about a milestone that has none, for at most its amount.",
    "C6": "A release is of what no milestone claims.",
    "C7": "A dispute is raised by an auditor, a certifier or the payee, on a commitment that goes on.",
    "C8": "A resolution is of a commitment in dispute; the outcome is 0 or 1.",
    "C9": "Nothing is cut, released, certified, ordered or paid on a commitment in dispute or ended.",
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
    "O11": "Of a commitment one order goes in a day, and more only inside the day's part of it.",
    "G7": "Nothing goes to the republican budget before the end of retention.",
    # Money.
    "M1": "A transfer is between two different registered accounts.",
    "M2": "Both accounts hold the transfer's asset.",
    "M3": "A transfer's id and its evidence are used once and are not zero.",
    "M4": "A transfer is inside a permitted flow.",
    "M5": "Both accounts and the authority belong to one fund.",
    "M6": "An account of money never goes below zero.",
    "M7": "No balance reaches 2^128, either way.",
    "V1": "Revenue names the revenue rule of its code that is in force.",
    "V2": "Revenue is taken in an asset that is allowed at that time.",
    "V3": "Revenue is taken on a chain only while an act allows direct settlement.",
    "V4": "A payment is of an order in effect, once, from its account, for its project, to the unit.",
    "V5": "Money that nobody could match is given to a code, once, out of the receipt that it came by.",
    "F1": "A refund is of a receipt of money, and stays inside what is left of it.",
    "F2": "A refund is covered by money that nothing else has.",
    "F3": "A refund is booked once, against the accounts of its receipt, to the unit.",
    "F4": "What is refunded elsewhere than the payer said, or undone, stays inside the cap of the year.",
    "F5": "Money that nobody could match goes back within a year, and what is in custody at any time.",
    "R1": "A reversal is of a match or of a transfer of a bank account, within 30 days, once.",
    "R2": "A reversal leaves no account of money below what is spoken for.",
    "L1": "A statement begins where the one before ended, and its time is over.",
    "L2": "A statement's closing balance is the ledger's at that time.",
    "K1": "An acknowledgement names a breach that stands in the ledger, once.",
    "Y1": "A year is closed once, when it is over, with the hash of the state.",
    "I1": "An investment names a project in effect.",
}

# --- what SPEC.md names -------------------------------------------------------

COUNCIL, AUTHORITY, CERTIFIER, AUDITOR = "council", "authority", "certifier", "auditor"
# The local budget has its own bodies (G3); every other fund is the Council's and the Authority's.
MASLIKHAT, AKIMAT, MUNICIPAL = "maslikhat", "akimat", "MUNICIPAL"
ROLES = frozenset(
    {
        COUNCIL,
        AUTHORITY,
        MASLIKHAT,
        AKIMAT,
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
FUNDS = frozenset({RETAINED, "AUTHORITY", MUNICIPAL, CUSTODY})
# A provider owes what it took for the city until it is exchanged: money, but nothing can be paid from it.
PAYING = frozenset({"bank", "chain"})
PROVIDER = "exchange"
MONEY = PAYING | {PROVIDER}
PAYABLE = "payable"
REVENUE, PROJECT, PAYEE, REPUBLIC = "revenue", "project", "payee", "republic"
ACCOUNT_KINDS = MONEY | {REVENUE, PROJECT, PAYEE, REPUBLIC, PAYABLE}
TENGE = "KZT"

INFRASTRUCTURE = frozenset(
    {"roads", "water", "sewerage", "drainage", "power", "heat", "gas", "transport", "telecom", "waste"}
)
# Which sectors a fund may pay for (G6, G8). CUSTODY is others' money: nothing.
SECTORS = {
    RETAINED: INFRASTRUCTURE,
    "AUTHORITY": INFRASTRUCTURE,
    MUNICIPAL: frozenset({"social", "administration"}),
    CUSTODY: frozenset[str](),
}
PLACES = frozenset({"alatau-gate", "alatau-golden", "alatau-growing", "alatau-green"})

DAY = 86_400
RECOVERY_S = 180 * DAY
REVERSAL_S = 30 * DAY
PROVIDER_S = 3 * DAY
UNMATCHED_S = 365 * DAY
CUSTODY_S = 30 * DAY
STATEMENT_S = 62 * DAY
KEYS = frozenset({"log-ed25519", "log-ml-dsa-44", "watcher"})
NOTICE_S = 14 * DAY
ALMATY_OFFSET_S = 5 * 3_600
SHARE_WHOLE = 10_000
# However long no rate was recorded, the next one is at least half of the last and at most half more.
RATE_BAND_MOST = 5_000  # of 10,000
# 3000-01-01 in UTC: a later time is a slip, and calendars end before 2^64 seconds do.
TIME_LIMIT_S = 32_503_680_000

# name: (least, most, value until a Parameter is in force)
PARAMETERS = {
    "direct_settlement": (0, 1, 0),
    "self_sufficient": (0, 1, 0),
    "anchor_gap": (3_600, 7 * DAY, 2 * DAY),
    "order_delay": (DAY, 30 * DAY, DAY),
    "commitment_day_cap": (100, 10_000, 5_000),  # of 10,000
    "payee_wait": (14 * DAY, 365 * DAY, 14 * DAY),
    "rate_band": (1, 2_000, 1_000),
    "rate_age": (60, 7 * DAY, DAY),
    "exchange_band": (1, 500, 200),  # of 10,000
    "exchange_loss": (0, 10**15, 10**11),  # tiyn in a year
    "provider_cap": (0, 10**15, 10**11),  # tiyn
    "refund_cap": (0, 10**15, 10**11),  # tiyn in a year, to where the payer did not say, or undone
    # 2028-01-01 in Almaty, when resolution 602's pilot of block budgets ends, to 2100.
    "block_budget_until": (1_830_279_600, 4_102_444_800, 1_830_279_600),
}

# Who must approve a record before it has effect; each role named must reach its quorum. What is
# not here is the writer's. Where a record's body depends on what it names, authors() decides.
AUTHOR: dict[type[Record], tuple[str, ...]] = {
    Genesis: (COUNCIL,),
    Rules: (COUNCIL,),
    Contract: (COUNCIL,),
    Parameter: (COUNCIL,),
    Seat: (COUNCIL,),
    Quorum: (COUNCIL,),
    KeyChange: (COUNCIL,),
    Asset: (COUNCIL,),
    Account: (COUNCIL,),
    RevenueRule: (COUNCIL,),
    Block: (COUNCIL,),
    Project: (COUNCIL,),
    Allocation: (COUNCIL,),
    Investment: (COUNCIL,),
    Resolution: (COUNCIL,),
    Acknowledgement: (COUNCIL, AUDITOR),
    Commitment: (AUTHORITY,),
    Milestone: (AUTHORITY,),
    Release: (AUTHORITY,),
    Move: (AUTHORITY,),
    Order: (AUTHORITY,),
    Refund: (AUTHORITY, AUDITOR),
    Reversal: (AUTHORITY, AUDITOR),
    Certificate: (CERTIFIER,),
    Statement: (AUDITOR,),
    Close: (AUDITOR,),
    Dispute: (AUDITOR,),
}
# Commitments and what follows from them, where the fund is the local budget's (G3).
_LOCAL = {COUNCIL: MASLIKHAT, AUTHORITY: AKIMAT}

# Codes come back in almost every transfer.
_code_word = lru_cache(maxsize=1 << 12)(encode_name)

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


# --- the state ----------------------------------------------------------------


@dataclass(slots=True)
class Proposal:
    """A record that waits for its approvals, or has had them."""

    record: Record
    index: int
    approvals: dict[bytes, int] = field(default_factory=dict)  # signer -> deadline
    withdrawn: set[bytes] = field(default_factory=set)
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
    amount: int = 0  # what the record says, and what moves made of it (G9)
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
    amount: int = 0  # what the record says less what was released
    milestones: int = 0
    certified: int = 0
    ordered: int = 0
    # What was ordered on the last day, of UTC, on which anything was.
    ordered_day: int = 0
    ordered_then: int = 0
    paid: int = 0
    disputed: bool = False
    ended: bool = False


@dataclass(slots=True)
class MilestoneState:
    """A milestone in effect; certificate is the hash of the one it has."""

    record: Milestone
    certificate: bytes | None = None
    ordered: bool = False


class History:
    """What an account of money came to, second by second: (time, balance after it), in order of time.

    24 bytes a second, because a busy account has each second of two months (STATEMENT_S).
    """

    __slots__ = ("_balances", "_times")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self._times, self._balances = array("Q"), bytearray()
        for time_s, balance in entries:
            self.note(time_s, balance)

    def note(self, time_s: int, balance: int) -> None:
        """The balance after the newest second; what was noted of that second before is replaced."""
        if self._times and self._times[-1] == time_s:
            del self._balances[-_BALANCE:]
        else:
            self._times.append(time_s)
        self._balances += balance.to_bytes(_BALANCE, "big")

    def forget(self, until_s: int) -> None:
        """Drop what is not after a second."""
        count = bisect_right(self._times, until_s)
        del self._times[:count]
        del self._balances[: count * _BALANCE]

    def at(self, time_s: int) -> int | None:
        """The balance after a second; None if nothing is noted until then."""
        count = bisect_right(self._times, time_s)
        return self[count - 1][1] if count else None

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, place: int) -> tuple[int, int]:
        place = range(len(self._times))[place]
        start = place * _BALANCE
        return self._times[place], int.from_bytes(self._balances[start : start + _BALANCE], "big")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return (self[place] for place in range(len(self._times)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


# An account of money is never below zero and never reaches 2^128 (M6, M7).
_BALANCE = 16


@dataclass(slots=True)
class AccountState:
    """An account in effect; balance is debits less credits, reserved is ordered and unpaid."""

    record: Account
    effective_s: int
    balance: int = 0
    reserved: int = 0
    refunded: int = 0
    exchanged: int = 0
    # For accounts of money: (time, balance after it) since the last statement, and that one.
    history: History = field(default_factory=History)
    stated_s: int = 0
    stated: int = 0
    # For a provider: since when it owes something.
    owes_since_s: int = 0


class Past(Protocol):
    """The transfers that a ledger has taken, of which one may be asked for at any time (M3, F1, V5, R1).

    They are all in its records: so they are no part of what dump() writes, and whoever has the records
    at hand may look a transfer up there instead of keeping it in memory (decision 0014).
    """

    def has_id(self, id: bytes) -> bool:
        """Whether a transfer that was taken has this id."""
        ...

    def has_evidence(self, evidence: bytes) -> bool:
        """Whether a transfer that was taken has this evidence."""
        ...

    def named(self, digest: bytes) -> tuple[int, Transfer] | None:
        """The transfer with this hash that was taken, and its index."""
        ...

    def at(self, index: int) -> Transfer | None:
        """The transfer that was taken as the record at this index."""
        ...

    def add(self, index: int, digest: bytes, record: Transfer) -> None:
        """Take a transfer."""
        ...


@dataclass(slots=True)
class Remembered:
    """A past that is kept whole in memory."""

    transfers: dict[int, Transfer] = field(default_factory=dict)
    indexes: dict[bytes, int] = field(default_factory=dict)  # by hash
    ids: set[bytes] = field(default_factory=set)
    evidence: set[bytes] = field(default_factory=set)

    def has_id(self, id: bytes) -> bool:
        """Whether a transfer that was taken has this id."""
        return id in self.ids

    def has_evidence(self, evidence: bytes) -> bool:
        """Whether a transfer that was taken has this evidence."""
        return evidence in self.evidence

    def named(self, digest: bytes) -> tuple[int, Transfer] | None:
        """The transfer with this hash that was taken, and its index."""
        index = self.indexes.get(digest)
        return None if index is None else (index, self.transfers[index])

    def at(self, index: int) -> Transfer | None:
        """The transfer that was taken as the record at this index."""
        return self.transfers.get(index)

    def add(self, index: int, digest: bytes, record: Transfer) -> None:
        """Take a transfer."""
        self.transfers[index] = record
        self.indexes[digest] = index
        self.ids.add(record.id)
        self.evidence.add(record.evidence)


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
    # The transfers that were taken; and what else has ids (refunds, too) and evidence: exchanges, reversals.
    past: Past = field(default_factory=Remembered)
    other_ids: set[bytes] = field(default_factory=set)
    other_evidence: set[bytes] = field(default_factory=set)
    invested_tiyn: int = 0
    # How much of a receipt, by its hash, was refunded or matched; refunds that took effect.
    claimed: dict[bytes, int] = field(default_factory=dict)
    # Receipts that nobody could match and of which something is left.
    unmatched: dict[bytes, Transfer] = field(default_factory=dict)
    refunds: dict[bytes, Refund] = field(default_factory=dict)
    booked_refunds: set[bytes] = field(default_factory=set)
    void_orders: set[bytes] = field(default_factory=set)
    # What was undone, by index, and the orders whose payment was.
    reversed: set[int] = field(default_factory=set)
    restored_orders: set[bytes] = field(default_factory=set)
    losses: dict[int, int] = field(default_factory=dict)  # tiyn that exchanges lost, by year
    elsewhere: dict[int, int] = field(
        default_factory=dict
    )  # tiyn refunded where no payer said, or undone, by year
    breaches: dict[int, str] = field(default_factory=dict)
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    closed: dict[int, bytes] = field(default_factory=dict)
    keys: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    @property
    def receipts(self) -> Mapping[bytes, Transfer]:
        """Every receipt that stands, by its hash; gone through only where the past is in memory."""
        assert isinstance(self.past, Remembered), "this past is looked up and not gone through"
        found = {digest: receipt(self, digest) for digest in self.past.indexes}
        return {digest: record for digest, record in found.items() if record is not None}


def receipt(state: State, digest: bytes) -> Transfer | None:
    """The receipt of money with this hash, unless it was undone."""
    found = state.past.named(digest)
    if found is None or found[0] in state.reversed:
        return None
    return found[1] if state.accounts[found[1].debit].record.kind in PAYING else None


def reversible(state: State, index: int) -> Transfer | None:
    """The transfer at an index if it is of a kind that a bank corrects; the rest is R1's to say."""
    found = state.past.at(index)
    if found is None:
        return None
    kinds = {state.accounts[name].record.kind for name in (found.debit, found.credit)}
    return found if kinds & _CORRECTED else None


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
    if record.name.startswith("anchor@"):
        size = record.name.removeprefix("anchor@")
        if not (size.isdecimal() and str(int(size)) == size and 0 < int(size) <= state.size):
            reject(
                "N10",
                at,
                f"{record.name} goes on from no size of this ledger, which has {state.size} records",
            )
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
    # Those whose terms are over may call others in; they may not put out those who are still there.
    latest = max((end for _, end in state.terms.get(record.holder, [])), default=0)
    if record.valid_to < latest and _is_recovery(state, record, now):
        reject("S7", at, f"0x{record.holder.hex()} has a term until {latest}, this ends at {record.valid_to}")


def _effect_seat(state: State, record: Seat, digest: bytes, now: int) -> None:
    # The founding seats are bound by the Genesis, which nobody could read 14 days before.
    notice = RECOVERY_S if _is_recovery(state, record, now) else NOTICE_S
    start = max(record.valid_from, now + notice) if state.opened else record.valid_from
    state.roles[record.holder] = record.role
    # A new term of the same holder takes the place of the old one from its start on.
    kept = [(begin, min(end, start)) for begin, end in state.terms.get(record.holder, [])]
    state.terms[record.holder] = [*kept, (start, record.valid_to)]


def _is_recovery(state: State, record: Record, now: int) -> bool:
    """Whether so few are seated that those whose terms are over may fill the council's seats (LEAKS 14)."""
    is_seat = isinstance(record, Seat) and record.role == COUNCIL
    return is_seat and state.opened and _seated(state, COUNCIL, now) < required(state, COUNCIL, now)


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


def _check_key_change(state: State, record: KeyChange, now: int, at: str) -> None:
    if record.key not in KEYS or record.vkey_hash == ZERO_HASH:
        reject("S6", at, f"no key is called {record.key}, or its hash is zero")


def _effect_key_change(state: State, record: KeyChange, digest: bytes, now: int) -> None:
    start = max(record.valid_from, now + NOTICE_S)
    state.keys.setdefault(record.key, []).append((start, record.vkey_hash))


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
    elif record.kind == PROVIDER:
        # A second account for the same would double the cap of what is owed (LEAKS 04).
        known = any(
            (a.record.kind, a.record.owner, a.record.asset, a.record.fund)
            == (PROVIDER, record.owner, record.asset, record.fund)
            for a in state.accounts.values()
        )
        if known or asset.asset == TENGE or not _is_provider(state, record.owner):
            reject(
                "N2", at, f"a provider owes {asset.asset} once, not {TENGE}, and is nobody else here: {owned}"
            )
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


def _is_provider(state: State, owner: bytes) -> bool:
    """Whether an owner is a provider or may become one: no office, no payee, nothing of the city."""
    seated = not any(owner[:12]) and owner[12:] in state.roles
    return owner != ZERO_HASH and not seated and state.owners.get(owner, PROVIDER).startswith(PROVIDER)


def _effect_account(state: State, record: Account, digest: bytes, now: int) -> None:
    state.names.add(("account", record.account))
    state.accounts[record.account] = AccountState(record, now)
    if record.kind in {PAYEE, PROVIDER}:
        state.owners.setdefault(record.owner, f"{record.kind} {record.account}")
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
    check_rate_step(state, record, now, at)


def check_rate_step(state: State, rate: Rate, now: int, at: str) -> None:
    """Refuse a rate that is further from those before it than the days since allow (Q2)."""
    band, last, first = parameter(state, "rate_band", now), state.last_rate.get(rate.asset), None
    if last is not None and (most := rate_band(band, now - last.time)) is not None:
        first = state.first_rate.get(rate.asset)
        _check_step(last, rate, most, f"{now - last.time} s after the last", at)
    # From the last alone, many small steps would go anywhere within a minute.
    if first is not None and now - first.time <= DAY:
        _check_step(first, rate, band, f"{now - first.time} s after the first of the day", at)


def rate_band(band: int, silent_s: int) -> int | None:
    """How far from the last rate one may be after so much silence, of 10,000; None: as far as it likes.

    Silence makes room a day at a time: if it took the band away, the log's keeper would only wait.
    """
    if silent_s > RECOVERY_S:
        return None
    return min(max(1, -(-silent_s // DAY)) * band, RATE_BAND_MOST)


def _check_step(earlier: Rate, rate: Rate, band: int, when: str, at: str) -> None:
    before, after = earlier.numerator * rate.denominator, rate.numerator * earlier.denominator
    if abs(after - before) * SHARE_WHOLE > before * band:
        moved = -(-abs(after - before) * SHARE_WHOLE // before)
        reject("Q2", at, f"the rate moved by {moved} of 10,000 {when}, the band is {band}")


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


def _check_block_year(state: State, block: Block, now: int, at: str) -> None:
    if not block.from_year <= almaty_year(now) <= block.to_year:
        reject("B2", at, f"{block.block} is of {block.from_year} to {block.to_year}, not {almaty_year(now)}")
    until = parameter(state, "block_budget_until", now)
    if now >= until:
        reject("B6", at, f"block budgets end at {until}, now is {now}")


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
    if block is None:
        reject("B2", at, f"no block in effect is called {record.block}")
    _check_block_year(state, block.record, now, at)
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
    allocation = AllocationState(record, block.record.fund, numerator, denominator, record.amount)
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


def _check_republic(state: State, owner: bytes, now: int, at: str) -> None:
    assert state.genesis is not None
    owned, end = state.owners.get(owner, ""), state.genesis.retention_end
    if owned.startswith(REPUBLIC) and now < end:
        reject("G7", at, f"0x{owner.hex()} is the republican budget ({owned}); {now} is before {end}")


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
    _check_republic(state, payee.record.owner, now, at)
    total = allocation.committed + record.amount
    if total > allocation.amount:
        reject("C3", at, f"committed would be {total}, allotted is {allocation.amount}")


def _effect_commitment(state: State, record: Commitment, digest: bytes, now: int) -> None:
    state.names.add(("commitment", record.commitment))
    allocation = state.allocations[record.allocation_hash]
    project = state.projects[allocation.record.project_hash]
    project.committed += allocation.step(allocation.committed, record.amount)
    allocation.committed += record.amount
    state.commitments[digest] = CommitmentState(record, record.amount)


def _check_milestone(state: State, record: Milestone, now: int, at: str) -> None:
    _check_named(state, "milestone", record.milestone, at)
    commitment = state.commitments.get(record.commitment_hash)
    if commitment is None:
        reject("C4", at, f"no commitment in effect has the hash 0x{record.commitment_hash.hex()}")
    _check_going_on(commitment, at)
    total = commitment.milestones + record.amount
    if total > commitment.amount:
        reject("C4", at, f"milestones would be {total}, committed is {commitment.amount}")


def _effect_milestone(state: State, record: Milestone, digest: bytes, now: int) -> None:
    state.names.add(("milestone", record.milestone))
    state.commitments[record.commitment_hash].milestones += record.amount
    state.milestones[digest] = MilestoneState(record)


def _check_going_on(commitment: CommitmentState, at: str) -> None:
    if commitment.disputed or commitment.ended:
        reject("C9", at, f"{commitment.record.commitment} is {'ended' if commitment.ended else 'in dispute'}")


def _check_release(state: State, record: Release, now: int, at: str) -> None:
    commitment = state.commitments.get(record.commitment_hash)
    if commitment is None:
        reject("C6", at, f"no commitment in effect has the hash 0x{record.commitment_hash.hex()}")
    _check_going_on(commitment, at)
    free = commitment.amount - commitment.milestones
    if record.amount > free:
        reject("C6", at, f"released would be {record.amount}, no milestone claims {free}")


def _effect_release(state: State, record: Release, digest: bytes, now: int) -> None:
    _uncommit(state, state.commitments[record.commitment_hash], record.amount)


def _uncommit(state: State, commitment: CommitmentState, amount: int) -> None:
    allocation = state.allocations[commitment.record.allocation_hash]
    project = state.projects[allocation.record.project_hash]
    commitment.amount -= amount
    allocation.committed -= amount
    project.committed -= allocation.step(allocation.committed, amount)


def _check_move(state: State, record: Move, now: int, at: str) -> None:
    source, target = state.allocations.get(record.from_hash), state.allocations.get(record.to_hash)
    if source is None or target is None or source is target:
        reject("B7", at, f"0x{record.from_hash.hex()} and 0x{record.to_hash.hex()} are not two allocations")
    same = (source.record.block, source.record.asset, source.record.rate_hash)
    # Only the Authority's own budget is a block budget in the law's sense; retained money is the Council's.
    if (
        same != (target.record.block, target.record.asset, target.record.rate_hash)
        or source.fund != "AUTHORITY"
    ):
        reject(
            "B7", at, f"{source.record.block} and {target.record.block} are not one block of the Authority"
        )
    block = state.blocks[target.record.block]
    _check_block_year(state, block.record, now, at)
    free = source.amount - source.committed
    if record.amount > free:
        reject("B7", at, f"moved would be {record.amount}, not committed is {free}")
    left, came = _moved(source, target, record.amount)
    project = state.projects[target.record.project_hash]
    allotted = project.allotted + came
    if source.record.project_hash == target.record.project_hash:
        allotted -= left
    if allotted > project.record.limit:
        reject("B4", at, f"allotted would be {allotted} tiyn, approved is {project.record.limit}")
    # Each allocation is rounded up by itself, so that a move may need a tiyn more than it frees.
    if block.allotted + came - left > block.record.limit:
        total = block.allotted + came - left
        reject("B5", at, f"the block would be {total} tiyn, its limit is {block.record.limit}")


def _moved(source: AllocationState, target: AllocationState, amount: int) -> tuple[int, int]:
    """By how many tiyn one allocation shrinks and the other grows."""
    return source.step(source.amount - amount, amount), target.step(target.amount, amount)


def _effect_move(state: State, record: Move, digest: bytes, now: int) -> None:
    source, target = state.allocations[record.from_hash], state.allocations[record.to_hash]
    left, came = _moved(source, target, record.amount)
    source.amount -= record.amount
    target.amount += record.amount
    state.projects[source.record.project_hash].allotted -= left
    state.projects[target.record.project_hash].allotted += came
    state.blocks[source.record.block].allotted += came - left


def _check_dispute(state: State, record: Dispute, now: int, at: str) -> None:
    commitment = state.commitments.get(record.commitment_hash)
    if commitment is None or commitment.ended or commitment.disputed:
        reject("C7", at, f"no commitment that goes on has the hash 0x{record.commitment_hash.hex()}")
    payee = state.accounts[commitment.record.payee].record.owner
    official = any(is_seated(state, record.by, role, now) for role in (AUDITOR, CERTIFIER))
    if not official and payee != address_word(record.by):
        reject("C7", at, f"0x{record.by.hex()} is no auditor, certifier or payee of this commitment")


def _effect_dispute(state: State, record: Dispute, digest: bytes, now: int) -> None:
    state.commitments[record.commitment_hash].disputed = True


def _check_resolution(state: State, record: Resolution, now: int, at: str) -> None:
    commitment = state.commitments.get(record.commitment_hash)
    if commitment is None or not commitment.disputed:
        reject("C8", at, f"no commitment in dispute has the hash 0x{record.commitment_hash.hex()}")
    if record.outcome > 1:
        reject("C8", at, f"the outcome is 0 or 1, this is {record.outcome}")


def _effect_resolution(state: State, record: Resolution, digest: bytes, now: int) -> None:
    commitment = state.commitments[record.commitment_hash]
    commitment.disputed = False
    if not record.outcome:
        return
    commitment.ended = True
    for order_hash, order in state.orders.items():
        if order.commitment_hash == record.commitment_hash and order_hash not in state.paid_orders:
            state.accounts[order.account].reserved -= order.amount
            state.void_orders.add(order_hash)
    _drop_unpaid(state, commitment)


def _drop_unpaid(state: State, commitment: CommitmentState) -> None:
    """Of a commitment that ended only what was paid stays, in each of the totals (G10)."""
    allocation = state.allocations[commitment.record.allocation_hash]
    project = state.projects[allocation.record.project_hash]
    allocation.ordered -= commitment.ordered - commitment.paid
    commitment.ordered = commitment.paid
    certified = commitment.certified - commitment.paid
    allocation.certified -= certified
    project.certified -= allocation.step(allocation.certified, certified)
    commitment.certified = commitment.paid
    _uncommit(state, commitment, commitment.amount - commitment.paid)


def _check_certificate(state: State, record: Certificate, now: int, at: str) -> None:
    milestone = state.milestones.get(record.milestone_hash)
    if milestone is None:
        reject("C5", at, f"no milestone in effect has the hash 0x{record.milestone_hash.hex()}")
    if milestone.certificate is not None:
        reject("C5", at, f"the milestone {milestone.record.milestone} has a certificate")
    if record.accepted > 1:
        reject("C5", at, f"accepted is 0 or 1, this is {record.accepted}")
    _check_going_on(state.commitments[milestone.record.commitment_hash], at)
    if record.amount > milestone.record.amount:
        reject("C5", at, f"certified is {record.amount}, the milestone is {milestone.record.amount}")


def _effect_certificate(state: State, record: Certificate, digest: bytes, now: int) -> None:
    milestone = state.milestones[record.milestone_hash]
    milestone.certificate = digest
    state.certificates[digest] = record
    if record.accepted:
        commitment = state.commitments[milestone.record.commitment_hash]
        commitment.certified += record.amount
        allocation = state.allocations[commitment.record.allocation_hash]
        project = state.projects[allocation.record.project_hash]
        project.certified += allocation.step(allocation.certified, record.amount)
        allocation.certified += record.amount


def _check_order(state: State, record: Order, now: int, at: str) -> None:
    _check_named(state, "order", record.order, at)
    commitment = state.commitments.get(record.commitment_hash)
    if commitment is None or commitment.record.allocation_hash != record.allocation_hash:
        reject("O1", at, f"no commitment in effect is 0x{record.commitment_hash.hex()} of that allocation")
    _check_going_on(commitment, at)
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
    if account is None or account.record.kind not in PAYING:
        reject("O5", at, f"{record.account} is not an account of the city's money")
    if (account.record.asset, account.record.fund) != (allocation.record.asset, allocation.fund):
        reject(
            "O5",
            at,
            f"the account is {account.record.asset} of {account.record.fund},"
            f" the allocation is {allocation.record.asset} of {allocation.fund}",
        )
    # Before O6, so that each can be seen to hold by itself. The allocation holds its commitments (C3).
    if commitment.ordered + record.amount > commitment.amount:
        total = commitment.ordered + record.amount
        reject("O7", at, f"ordered would be {total}, committed is {commitment.amount}")
    if milestone.ordered:
        reject("O6", at, f"the milestone {milestone.record.milestone} is ordered already")
    if commitment.milestones != commitment.amount:
        reject("O8", at, f"milestones are {commitment.milestones}, committed is {commitment.amount}")
    payee = state.accounts[record.payee]
    waited, wait = now - payee.effective_s, parameter(state, "payee_wait", now)
    if waited < wait:
        reject("O9", at, f"the payee was registered {waited} s ago, it waits {wait} s")
    if record.amount > account.balance - account.reserved:
        free = account.balance - account.reserved
        reject("O10", at, f"the order is {record.amount}, free in {record.account} is {free}")
    if commitment.ordered_day == now // DAY:
        today = commitment.ordered_then + record.amount
        # Of the contract as it was signed, as the Treasury contract counts it.
        whole, part = commitment.record.amount, parameter(state, "commitment_day_cap", now)
        if today > whole * part // SHARE_WHOLE:
            most = whole * part // SHARE_WHOLE
            reject("O11", at, f"ordered of the commitment would be {today} today, at most {most} is in a day")
    _check_republic(state, payee.record.owner, now, at)


def _effect_order(state: State, record: Order, digest: bytes, now: int) -> None:
    state.names.add(("order", record.order))
    state.orders[digest] = record
    commitment = state.commitments[record.commitment_hash]
    commitment.ordered += record.amount
    if commitment.ordered_day != now // DAY:
        commitment.ordered_day, commitment.ordered_then = now // DAY, 0
    commitment.ordered_then += record.amount
    allocation = state.allocations[record.allocation_hash]
    allocation.ordered += record.amount
    assert allocation.ordered <= allocation.amount
    state.milestones[state.certificates[record.certificate_hash].milestone_hash].ordered = True
    state.accounts[record.account].reserved += record.amount


# --- money --------------------------------------------------------------------


def _check_new(state: State, id: bytes, evidence: bytes, at: str) -> None:
    if _is_id_used(state, id) or id == ZERO_HASH:
        reject("M3", at, f"the id 0x{id.hex()} is used or zero")
    if evidence in state.other_evidence or state.past.has_evidence(evidence) or evidence == ZERO_HASH:
        reject("M3", at, f"the evidence 0x{evidence.hex()} is used or zero")


def _is_id_used(state: State, id: bytes) -> bool:
    return id in state.other_ids or state.past.has_id(id)


def _check_room(account: AccountState, change: int, at: str) -> None:
    # A contract, a database and a statement count to 2^128.
    if not -AMOUNT_LIMIT < account.balance + change < AMOUNT_LIMIT:
        reject("M7", at, f"{account.record.account} has {account.balance} and would change by {change}")


def check_transfer(state: State, record: Transfer, now: int, at: str) -> None:
    """Refuse a transfer that the rules do not allow at a second (M1 to M7, V1 to V5, F3, Q6)."""
    debit, credit = state.accounts.get(record.debit), state.accounts.get(record.credit)
    if debit is None or credit is None or debit is credit:
        reject("M1", at, f"{record.debit} and {record.credit} are not two registered accounts")
    if not debit.record.asset == credit.record.asset == record.asset:
        reject("M2", at, f"{record.asset} between accounts of {debit.record.asset} and {credit.record.asset}")
    _check_new(state, record.id, record.evidence, at)
    _check_room(debit, record.amount, at)
    _check_room(credit, -record.amount, at)
    came, gone = debit.record.kind, credit.record.kind
    if came in MONEY and gone == REVENUE:
        _check_revenue(state, record, debit.record, credit.record, now, at)
        if came == PROVIDER:
            _check_provider(state, record, debit, now, at)
    elif came == PROJECT and gone in PAYING:
        _check_payment(state, record, debit.record, credit, now, at)
    elif came == "bank" and gone == PAYABLE:
        _check_same_fund(debit.record, credit.record, at)
    elif came == PAYABLE and gone == REVENUE:
        _check_matched(state, record, debit.record, credit.record, now, at)
    elif came in {REVENUE, PAYABLE} and gone in PAYING:
        _check_refund_booked(state, record, now, at)
    else:
        reject("M4", at, f"no flow leads from {gone} to {came}")


def _check_same_fund(one: Account, other: Account, at: str) -> None:
    if one.fund != other.fund:
        reject("M5", at, f"the accounts are of {one.fund} and {other.fund}")


def _check_matched(
    state: State, record: Transfer, payable: Account, revenue: Account, now: int, at: str
) -> None:
    rule = revenue_rule(state, record.purpose, now)
    _check_code(record, rule, payable, revenue, at)
    # Out of its own receipt and not of the pot: else one payer's money is matched and another's refunded.
    came = receipt(state, record.authority)
    if came is None or came.credit != record.debit:
        reject("V5", at, f"0x{record.authority.hex()} is no receipt in {record.debit}")
    left = came.amount - state.claimed.get(record.authority, 0)
    if record.amount > left:
        reject("V5", at, f"left of the receipt is {left}, this is {record.amount}")


def _check_refund_booked(state: State, record: Transfer, now: int, at: str) -> None:
    refund = state.refunds.get(record.authority)
    if refund is None or record.authority in state.booked_refunds:
        reject("F3", at, f"0x{record.authority.hex()} is no refund in effect that waits to be booked")
    came = receipt(state, refund.receipt_hash)
    assert came is not None  # what was refunded is not undone (R1)
    wanted = (came.credit, came.debit, came.purpose, refund.amount)
    if (record.debit, record.credit, record.purpose, record.amount) != wanted:
        reject("F3", at, f"the refund is {refund.amount} from {came.debit}, this is {record.amount}")
    _check_republic(state, refund.to, now, at)


def _check_provider(state: State, record: Transfer, provider: AccountState, now: int, at: str) -> None:
    rate = state.last_rate.get(record.asset)
    if rate is None:
        reject("Q6", at, f"there is no rate of {record.asset} to measure what the provider owes")
    owed, cap = _worth(rate, provider.balance + record.amount), parameter(state, "provider_cap", now)
    if owed > cap:
        reject("Q6", at, f"the provider would owe {owed} tiyn, at most {cap}")
    if provider.balance and now - provider.owes_since_s > PROVIDER_S:
        reject(
            "Q6", at, f"the provider owes since {provider.owes_since_s}, at most {PROVIDER_S} s before {now}"
        )


def _worth(rate: Rate, amount: int) -> int:
    """What an amount is in tiyn, rounded up: what is less than a tiyn is not lost a thousand times."""
    return -(-amount * rate.numerator // rate.denominator)


def _check_code(
    record: Transfer, rule: RevenueRule | None, money: Account, revenue: Account, at: str
) -> None:
    if rule is None or revenue.owner != _code_word(record.purpose):
        reject("V1", at, f"{revenue.account} is not of the code {record.purpose}, or no rule is in force")
    if not money.fund == revenue.fund == rule.fund:
        reject(
            "M5",
            at,
            f"{record.purpose} belongs to {rule.fund}, the accounts to {money.fund} and {revenue.fund}",
        )


def _check_revenue(
    state: State, record: Transfer, money: Account, revenue: Account, now: int, at: str
) -> None:
    rule, named = revenue_rule(state, record.purpose, now), state.proposals.get(record.authority)
    if named is None or named.record != rule:
        reject("V1", at, f"0x{record.authority.hex()} is not the rule in force for the code {record.purpose}")
    _check_code(record, rule, money, revenue, at)
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
    if order is None or record.authority in state.paid_orders or record.authority in state.void_orders:
        reject("V4", at, f"0x{record.authority.hex()} is no unpaid order in effect")
    _check_going_on(state.commitments[order.commitment_hash], at)
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
    _check_republic(state, state.accounts[order.payee].record.owner, now, at)


def _post(account: AccountState, change: int, now: int) -> None:
    """Change a balance; what a statement will be compared with is kept until it comes."""
    account.balance += change
    if account.record.kind in MONEY:
        account.history.note(now, account.balance)


def _effect_transfer(state: State, record: Transfer, digest: bytes, now: int) -> None:
    state.past.add(state.size, digest, record)
    debit, credit = state.accounts[record.debit], state.accounts[record.credit]
    if debit.record.kind == PROVIDER and not debit.balance:
        debit.owes_since_s = now
    _post(debit, record.amount, now)
    _post(credit, -record.amount, now)
    if debit.record.kind == PROJECT:
        credit.reserved -= record.amount
        _mark_paid(state, record, 1)
    elif credit.record.kind in PAYING:
        state.booked_refunds.add(record.authority)
        credit.reserved -= record.amount
        if debit.record.kind == REVENUE:
            debit.refunded += record.amount
    elif credit.record.kind == PAYABLE:
        state.unmatched[digest] = record
    elif debit.record.kind == PAYABLE:
        _claim(state, record.authority, record.amount)


# What a bank corrects: transfers of its accounts, and what was made of receipts that nobody could match.
_CORRECTED = frozenset({"bank", PAYABLE})


def _claim(state: State, receipt_hash: bytes, amount: int) -> None:
    claimed = state.claimed[receipt_hash] = state.claimed.get(receipt_hash, 0) + amount
    came = receipt(state, receipt_hash)
    assert came is not None
    if state.accounts[came.credit].record.kind == PAYABLE:
        if came.amount > claimed:
            state.unmatched[receipt_hash] = came
        else:
            state.unmatched.pop(receipt_hash, None)


def _mark_paid(state: State, record: Transfer, sign: int) -> None:
    """Count an order as paid, or, with sign -1, no more."""
    order = state.orders[record.authority]
    state.commitments[order.commitment_hash].paid += sign * record.amount
    allocation = state.allocations[order.allocation_hash]
    project = state.projects[allocation.record.project_hash]
    if sign > 0:
        state.paid_orders.add(record.authority)
        project.paid += allocation.step(allocation.paid, record.amount)
        allocation.paid += record.amount
    else:
        state.paid_orders.remove(record.authority)
        allocation.paid -= record.amount
        project.paid -= allocation.step(allocation.paid, record.amount)


def _is_said(came: Transfer, refund: Refund) -> bool:
    """Whether a refund goes where the payer said before paying that money may go back to (LEAKS 12)."""
    return came.refund_to == refund.to != ZERO_HASH


def _check_refund(state: State, record: Refund, now: int, at: str) -> None:
    came = receipt(state, record.receipt_hash)
    if came is None:
        reject("F1", at, f"no receipt has the hash 0x{record.receipt_hash.hex()}")
    if _is_id_used(state, record.id) or ZERO_HASH in {record.id, record.to}:
        reject("M3", at, f"the id 0x{record.id.hex()} is used or zero, or it goes nowhere")
    left = came.amount - state.claimed.get(record.receipt_hash, 0)
    if record.amount > left:
        reject("F1", at, f"left of the receipt is {left}, the refund is {record.amount}")
    money = state.accounts[came.debit]
    free = money.balance - money.reserved
    if record.amount > free:
        reject("F2", at, f"free in {came.debit} is {free}, the refund is {record.amount}")
    _check_republic(state, record.to, now, at)
    # Others' money never becomes the city's, so that this is its way out for ever (LEAKS 08).
    held = state.accounts[came.credit].record
    if held.kind == PAYABLE and held.fund != CUSTODY and now - came.time > UNMATCHED_S:
        reject("F5", at, f"the receipt is {now - came.time} s old, at most {UNMATCHED_S}")
    if not _is_said(came, record):
        _check_elsewhere(state, came.asset, record.amount, now, at)


def _check_elsewhere(state: State, asset: str, amount: int, now: int, at: str) -> None:
    # Two people may send money back; they may not send it all (LEAKS 12, 13).
    tiyn = _tiyn_now(state, asset, amount)
    if tiyn is None:
        reject("F4", at, f"there is no rate of {asset} to measure what goes back")
    total, cap = state.elsewhere.get(almaty_year(now), 0) + tiyn, parameter(state, "refund_cap", now)
    if total > cap:
        reject("F4", at, f"in the year {total} tiyn would go back elsewhere, at most {cap}")


def _effect_elsewhere(state: State, asset: str, amount: int, now: int) -> None:
    tiyn = _tiyn_now(state, asset, amount)
    assert tiyn is not None
    year = almaty_year(now)
    state.elsewhere[year] = state.elsewhere.get(year, 0) + tiyn


def _tiyn_now(state: State, asset: str, amount: int) -> int | None:
    """What an amount is in tiyn by the newest rate; None where there is none."""
    if asset == TENGE:
        return amount
    rate = state.last_rate.get(asset)
    return None if rate is None else _worth(rate, amount)


def _effect_refund(state: State, record: Refund, digest: bytes, now: int) -> None:
    came = receipt(state, record.receipt_hash)
    assert came is not None
    state.other_ids.add(record.id)
    state.refunds[digest] = record
    _claim(state, record.receipt_hash, record.amount)
    state.accounts[came.debit].reserved += record.amount
    if not _is_said(came, record):
        _effect_elsewhere(state, came.asset, record.amount, now)


def _check_exchange(state: State, record: Exchange, now: int, at: str) -> None:
    source, target = state.accounts.get(record.from_account), state.accounts.get(record.to_account)
    if source is None or target is None or source.record.kind != PROVIDER or target.record.kind != "bank":
        reject("Q3", at, f"{record.from_account} and {record.to_account} are no provider and bank account")
    if source.record.fund != target.record.fund:
        reject("Q3", at, f"the accounts are of {source.record.fund} and {target.record.fund}")
    _check_new(state, record.id, record.evidence, at)
    # Of a day's rates the lowest would hide a loss from the band and from the cap of the year (LEAKS 04).
    rate = state.last_rate.get(source.record.asset)
    if rate is None or state.rates.get(record.rate_hash) != rate:
        reject("Q4", at, f"0x{record.rate_hash.hex()} is not the newest rate of {source.record.asset}")
    age, most = now - rate.time, parameter(state, "rate_age", now)
    if age > most:
        reject("Q4", at, f"the rate is {age} s old, at most {most} s is fresh")
    worth = _worth(rate, record.amount_from)
    band = parameter(state, "exchange_band", now)
    if abs(record.amount_to - worth) * SHARE_WHOLE > worth * band:
        reject("Q4", at, f"{record.amount_to} tiyn came for {worth}, the band is {band} of 10,000")
    if record.amount_from > source.balance:
        reject("M6", at, f"{record.from_account} has {source.balance}, the exchange is {record.amount_from}")
    _check_room(target, record.amount_to, at)
    lost = state.losses.get(almaty_year(now), 0) + max(0, worth - record.amount_to)
    cap = parameter(state, "exchange_loss", now)
    if lost > cap:
        reject("Q5", at, f"lost in the year would be {lost} tiyn, at most {cap}")


def _effect_exchange(state: State, record: Exchange, digest: bytes, now: int) -> None:
    state.other_ids.add(record.id)
    state.other_evidence.add(record.evidence)
    source, target = state.accounts[record.from_account], state.accounts[record.to_account]
    lost = max(0, _worth(state.rates[record.rate_hash], record.amount_from) - record.amount_to)
    year = almaty_year(now)
    state.losses[year] = state.losses.get(year, 0) + lost
    _post(source, -record.amount_from, now)
    _post(target, record.amount_to, now)
    source.exchanged -= record.amount_from
    target.exchanged += record.amount_to


def _check_reversal(state: State, record: Reversal, now: int, at: str) -> None:
    undone = reversible(state, record.index)
    if undone is None or record.index in state.reversed:
        reject("R1", at, f"record {record.index} is no match or transfer of a bank account that stands")
    if now - undone.time > REVERSAL_S:
        reject("R1", at, f"record {record.index} is {now - undone.time} s old, at most {REVERSAL_S}")
    _check_new(state, record.id, record.evidence, at)
    debit, credit = state.accounts[undone.debit], state.accounts[undone.credit]
    if debit.record.kind == PROJECT:
        # Else one order could be paid, undone and paid again for ever, each time with a new paper.
        if undone.authority in state.restored_orders:
            reject("R1", at, f"a payment of the order {undone.purpose} was undone before")
        _check_room(credit, undone.amount, at)
    elif credit.record.kind in MONEY:
        reject("R1", at, f"record {record.index} books a refund, which is not undone")
    elif debit.record.kind == "bank":
        if state.claimed.get(hash_struct(undone), 0):
            reject("R1", at, f"record {record.index} was refunded or matched")
        free = debit.balance - debit.reserved
        if undone.amount > free:
            reject("R2", at, f"free in {undone.debit} is {free}, record {record.index} is {undone.amount}")
        _check_elsewhere(state, undone.asset, undone.amount, now, at)


def _effect_reversal(state: State, record: Reversal, digest: bytes, now: int) -> None:
    undone = reversible(state, record.index)
    assert undone is not None
    state.other_ids.add(record.id)
    state.other_evidence.add(record.evidence)
    state.reversed.add(record.index)
    debit, credit = state.accounts[undone.debit], state.accounts[undone.credit]
    _post(debit, -undone.amount, now)
    _post(credit, undone.amount, now)
    if debit.record.kind == "bank":
        state.unmatched.pop(hash_struct(undone), None)
        _effect_elsewhere(state, undone.asset, undone.amount, now)
    elif debit.record.kind == PAYABLE:
        _claim(state, undone.authority, -undone.amount)
    else:
        _mark_paid(state, undone, -1)
        state.restored_orders.add(undone.authority)
        # The order stands again and its money is held for it, unless its commitment has ended since.
        commitment = state.commitments[state.orders[undone.authority].commitment_hash]
        if commitment.ended:
            state.void_orders.add(undone.authority)
            _drop_unpaid(state, commitment)
        else:
            credit.reserved += undone.amount


def _check_statement(state: State, record: Statement, now: int, at: str) -> None:
    account = state.accounts.get(record.account)
    if account is None or account.record.kind not in MONEY:
        reject("L1", at, f"{record.account} is no account of money")
    # Before now: what is recorded from now on cannot fall into what was stated.
    if not account.stated_s < record.as_of < now:
        reject("L1", at, f"as of {record.as_of}; the one before is of {account.stated_s}, now is {now}")
    if record.opening != account.stated:
        reject("L1", at, f"it opens with {record.opening}, the one before closed with {account.stated}")
    if record.evidence == ZERO_HASH:
        reject("H5", at, "the evidence is zero")
    balance = balance_at(account, record.as_of)
    if record.closing != balance:
        reject("L2", at, f"it closes with {record.closing}, the ledger had {balance} at {record.as_of}")


def balance_at(account: AccountState, time_s: int) -> int:
    """The balance of an account of money at a second not before its last statement."""
    found = account.history.at(time_s)
    return account.stated if found is None else found


def _effect_statement(state: State, record: Statement, digest: bytes, now: int) -> None:
    account = state.accounts[record.account]
    account.stated_s, account.stated = record.as_of, record.closing
    account.history.forget(record.as_of)


# --- the books themselves -------------------------------------------------------


def _check_acknowledgement(state: State, record: Acknowledgement, now: int, at: str) -> None:
    broken = state.breaches.get(record.index)
    if broken != record.rule or record.index in state.acknowledged:
        known = broken or "no rule"
        reject("K1", at, f"record {record.index} breaks {known} and not {record.rule}, or is acknowledged")


def _effect_acknowledgement(state: State, record: Acknowledgement, digest: bytes, now: int) -> None:
    state.acknowledged[record.index] = record.act


def _check_close(state: State, record: Close, now: int, at: str) -> None:
    if record.year in state.closed or any(record.year < year for year in state.closed):
        reject("Y1", at, f"{record.year} or a later year is closed")
    if almaty_year(now) <= record.year:
        reject("Y1", at, f"{record.year} is not over in {almaty_year(now)}")


def _effect_close(state: State, record: Close, digest: bytes, now: int) -> None:
    state.closed[record.year] = record.state_hash


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
    Transfer: (check_transfer, _effect_transfer),
    Investment: (_check_investment, _effect_investment),
    KeyChange: (_check_key_change, _effect_key_change),
    Release: (_check_release, _effect_release),
    Move: (_check_move, _effect_move),
    Exchange: (_check_exchange, _effect_exchange),
    Refund: (_check_refund, _effect_refund),
    Reversal: (_check_reversal, _effect_reversal),
    Statement: (_check_statement, _effect_statement),
    Dispute: (_check_dispute, _effect_dispute),
    Resolution: (_check_resolution, _effect_resolution),
    Acknowledgement: (_check_acknowledgement, _effect_acknowledgement),
    Close: (_check_close, _effect_close),
}


_DOCUMENTS = {
    kind: [name for name, _, _ in kind.members if name in {"act", "document", "legal_ref"}] for kind in KINDS
}


def _check_documents(record: Record, at: str) -> None:
    for name in _DOCUMENTS[type(record)]:
        if getattr(record, name) == ZERO_HASH:
            reject("H5", at, f"the {name} is zero")


def _check_canonical(record: Approval | Withdrawal, at: str) -> None:
    r, s = int.from_bytes(record.r, "big"), int.from_bytes(record.s, "big")
    if record.v not in {27, 28} or not 0 < r < _CURVE_ORDER or not 0 < s <= _CURVE_ORDER // 2:
        reject("A2", at, f"v is {record.v}, r is {r}, s is {s}, the highest s is {_CURVE_ORDER // 2}")


def _check_signature(digest: bytes, record: Approval | Withdrawal, at: str) -> None:
    signature = record.r + record.s + bytes([record.v - 27])
    try:
        key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception as error:
        reject("A6", at, f"no key made this signature: {error}")
    signer = keccak256(key.format(compressed=False)[1:])[12:]
    if signer != record.signer:
        reject("A6", at, f"0x{signer.hex()} signed, the record names 0x{record.signer.hex()}")


def authors(state: State, record: Record) -> tuple[str, ...]:
    """The roles that must approve a record, each with its quorum (G2, G3)."""
    roles = AUTHOR[type(record)]
    fund = None
    if isinstance(record, Block):
        fund = record.fund
    elif isinstance(record, Allocation):
        fund = state.blocks[record.block].record.fund
    elif isinstance(record, Commitment):
        fund = state.allocations[record.allocation_hash].fund
    elif isinstance(record, Milestone | Order | Release):
        commitment = state.commitments[record.commitment_hash].record
        fund = state.allocations[commitment.allocation_hash].fund
    elif isinstance(record, Refund | Reversal):
        # A receipt may have been undone, and a transfer be too old, since this was proposed.
        if isinstance(record, Refund):
            moved = receipt(state, record.receipt_hash)
            # Where the payer said beforehand, one signature is enough; anywhere else needs two (LEAKS 12).
            if moved is not None and _is_said(moved, record):
                roles = (AUTHORITY,)
        else:
            moved = reversible(state, record.index)
        fund = None if moved is None else state.accounts[moved.debit].record.fund
    return tuple(_LOCAL.get(role, role) for role in roles) if fund == MUNICIPAL else roles


def _may_sign(state: State, proposal: Proposal, signer: bytes, now: int) -> bool:
    """Whether a signer's approval of a proposal counts at a second."""
    record = proposal.record
    if isinstance(record, Dispute):
        return signer == record.by
    if _is_recovery(state, record, now) and state.roles.get(signer) == COUNCIL:
        # Who has sat, not who has only been called: else the first three to come would call the rest at once.
        return any(start <= now and start < end for start, end in state.terms[signer])
    return any(is_seated(state, signer, role, now) for role in authors(state, record))


def _is_complete(state: State, proposal: Proposal, signers: list[bytes], now: int) -> bool:
    """Whether these signers are enough, role by role."""
    record = proposal.record
    if isinstance(record, Dispute):
        return bool(signers)
    if _is_recovery(state, record, now):
        return len(signers) >= required(state, COUNCIL, now)
    return all(
        sum(state.roles[signer] == role for signer in signers) >= required(state, role, now)
        for role in authors(state, record)
    )


def _proposal(state: State, approves: bytes, at: str) -> Proposal:
    proposal = state.proposals.get(approves)
    if proposal is None:
        reject("A1", at, f"no proposal has the hash 0x{approves.hex()}")
    if proposal.effective_s is not None:
        reject("A1", at, f"record {proposal.index} took effect at {proposal.effective_s}")
    return proposal


def _apply_approval(state: State, record: Approval, now: int, at: str) -> None:
    proposal = _proposal(state, record.approves, at)
    if not state.opened:
        _check_founding(state, proposal, at)
    _check_canonical(record, at)
    if now > record.valid_until:
        reject("A3", at, f"the approval was valid until {record.valid_until}, now is {now}")
    if not _may_sign(state, proposal, record.signer, now):
        held = state.roles.get(record.signer, "no seat")
        waiting = proposal.record
        named = f"0x{waiting.by.hex()}" if isinstance(waiting, Dispute) else None
        wanted = named or " and ".join(authors(state, waiting))
        reject(
            "A4",
            at,
            f"0x{record.signer.hex()} has {held}; {wanted} approves record {proposal.index} at {now}",
        )
    if record.signer in proposal.approvals or record.signer in proposal.withdrawn:
        reject("A5", at, f"0x{record.signer.hex()} has approved record {proposal.index}")
    _check_signature(approve_digest(state.domain, proposal.record, record.valid_until), record, at)
    # Seats that expired and deadlines that passed since they approved no longer count.
    standing = [
        holder
        for holder, until in proposal.approvals.items()
        if until >= now and _may_sign(state, proposal, holder, now)
    ]
    if not _is_complete(state, proposal, [*standing, record.signer], now):
        proposal.approvals[record.signer] = record.valid_until
        return
    check, effect = _KINDS[type(proposal.record)]
    if not isinstance(proposal.record, Genesis):
        check(state, proposal.record, now, at)
    proposal.approvals[record.signer] = record.valid_until
    proposal.effective_s = now
    effect(state, proposal.record, record.approves, now)


def _apply_withdrawal(state: State, record: Withdrawal, now: int, at: str) -> None:
    proposal = _proposal(state, record.approves, at)
    _check_canonical(record, at)
    if record.signer not in proposal.approvals:
        reject("A7", at, f"0x{record.signer.hex()} has no approval of record {proposal.index} to withdraw")
    _check_signature(withdraw_digest(state.domain, record.approves), record, at)
    del proposal.approvals[record.signer]
    proposal.withdrawn.add(record.signer)


def _check_founding(state: State, proposal: Proposal, at: str) -> None:
    assert state.genesis is not None
    found = keccak256(b"".join(state.founding))
    if found != state.genesis.founding:
        reject(
            "H3",
            at,
            f"the Genesis binds seats 0x{state.genesis.founding.hex()}, recorded are 0x{found.hex()}",
        )
    assert proposal.record == state.genesis


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
    elif isinstance(record, Withdrawal):
        _apply_withdrawal(state, record, now, at)
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
    # Only when it is recorded: an approval changes the state that the hash is of.
    if isinstance(record, Close) and (found := state_hash(state)) != record.state_hash:
        reject("Y1", at, f"the state's hash is 0x{found.hex()}, this says 0x{record.state_hash.hex()}")
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


def take(state: State, data: bytes) -> Invalid | None:
    """Take the next record as it stands in a log: one that is invalid has no effect and is a breach (G16)."""
    try:
        apply(state, data)
    except Invalid as breach:
        state.breaches[state.size] = breach.rule
        state.size += 1
        return breach
    return None


def replay(records: Iterable[bytes], state: State | None = None) -> tuple[State, list[Invalid]]:
    """Take all records; returns the state and the breaches, acknowledged ones among them."""
    state = State() if state is None else state
    return state, [breach for data in records if (breach := take(state, data)) is not None]


def overdue(state: State, now: int) -> list[Invalid]:
    """What should have been recorded by a second and was not, which no record shows (LEAKS 04, 11, 12)."""
    found = []
    for name, account in sorted(state.accounts.items()):
        kind = account.record.kind
        if kind == PROVIDER and account.balance and now - account.owes_since_s > PROVIDER_S:
            why = (
                f"{account.balance} is owed since {account.owes_since_s}, at most {PROVIDER_S} s before {now}"
            )
            found.append(Invalid("Q6", f"account {name}", why))
        first = account.history[0][0] if len(account.history) else now
        if kind == "bank" and now - first > STATEMENT_S:
            why = f"money moved at {first} and no statement tells of it, at most {STATEMENT_S} s before {now}"
            found.append(Invalid("L1", f"account {name}", why))
        if kind == PAYABLE and account.balance:
            most = CUSTODY_S if account.record.fund == CUSTODY else UNMATCHED_S
            left = _unmatched_for(state, account.record, now - most)
            if left and account.record.fund == CUSTODY:
                why = f"{left} of others' money is in custody for more than {CUSTODY_S} s before {now}"
                found.append(Invalid("F5", f"account {name}", why))
            elif left:
                why = f"{left} is unmatched for more than {UNMATCHED_S} s and belongs to a code by now"
                found.append(Invalid("F5", f"account {name}", why))
    return found


def _unmatched_for(state: State, account: Account, since_s: int) -> int:
    """What is left on an account of receipts from before a second that nobody could match."""
    left = sum(
        came.amount - state.claimed.get(digest, 0)
        for digest, came in state.unmatched.items()
        if came.credit == account.account and came.time < since_s
    )
    if account.fund != CUSTODY:
        return left
    # A refund that was signed and never sent is no exit: the money is still there.
    for digest in state.refunds.keys() - state.booked_refunds:
        came = receipt(state, state.refunds[digest].receipt_hash)
        if came is not None and came.credit == account.account and came.time < since_s:
            left += state.refunds[digest].amount
    return left


# --- the state as bytes -----------------------------------------------------------


_PARTS = {
    part.__name__: part
    for part in (
        State,
        Proposal,
        ProjectState,
        BlockState,
        AllocationState,
        CommitmentState,
        MilestoneState,
        AccountState,
    )
}
# What is written of each, in order: the past is what the records say themselves.
_MEMBERS = {
    part: tuple(sorted(each.name for each in fields(part) if each.name != "past")) for part in _PARTS.values()
}


def _text(value: Any) -> str:
    """A value of the state as JSON, one way only: sets, mappings and members sorted, integers as text.

    Integers are sorted as such: what is kept by index is gone through in order of index.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, int):
        return f'{{"i":"{value}"}}'
    if isinstance(value, bytes):
        return f'{{"b":"{value.hex()}"}}'
    if isinstance(value, Record):
        return f'{{"r":"{encode(value).hex()}"}}'
    if isinstance(value, dict):
        pairs = ",".join([f"[{_text(key)},{_text(value[key])}]" for key in sorted(value)])
        return f'{{"d":[{pairs}]}}'
    if isinstance(value, set | frozenset):
        return f'{{"s":[{",".join(map(_text, sorted(value)))}]}}'
    if isinstance(value, History):
        pairs = ",".join([f'["{time_s}","{balance}"]' for time_s, balance in value])
        return f'{{"h":[{pairs}]}}'
    if isinstance(value, list | tuple):
        return f'{{"{"l" if isinstance(value, list) else "t"}":[{",".join(map(_text, value))}]}}'
    kind = type(value)
    named = ",".join([f'"{name}":{_text(getattr(value, name))}' for name in _MEMBERS[kind]])
    return f'{{"o":["{kind.__name__}",{{{named}}}]}}'


def _untagged(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((tag, held),) = value.items()
    match tag:
        case "i":
            return int(held)
        case "b":
            return bytes.fromhex(held)
        case "r":
            return decode(bytes.fromhex(held))
        case "d":
            return {_untagged(k): _untagged(v) for k, v in held}
        case "s":
            return {_untagged(item) for item in held}
        case "l":
            return [_untagged(item) for item in held]
        case "t":
            return tuple(_untagged(item) for item in held)
        case "h":
            return History((int(time_s), int(balance)) for time_s, balance in held)
        case _:
            kind, named = held
            return _PARTS[kind](**{name: _untagged(item) for name, item in named.items()})


def dump(state: State) -> bytes:
    """The state without its past, the same bytes for the same state; load() is its twin.

    The past is what the records say themselves: recall() reads it from there.
    """
    return _text(state).encode()


def load(data: bytes) -> State:
    """The state that dump() wrote, else Invalid (Y1); trust it only if a Close in effect has its hash.

    Before it goes on it needs its past: recall(), or a Past that looks it up.
    """
    try:
        found = _untagged(json.loads(data))
        same = isinstance(found, State) and dump(found) == data
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, Invalid) as error:
        reject("Y1", "state", f"these bytes are no state: {type(error).__name__}")
    if not same:
        reject("Y1", "state", "these bytes are not what dump() writes")
    assert isinstance(found, State)
    return found


def recall(state: State, records: Iterable[bytes]) -> State:
    """Give a loaded state its past, from the records before it, the first one first."""
    for index, data in zip(range(state.size), records, strict=False):
        if data[:WORD] == Transfer.type_hash and index not in state.breaches:
            record = decode(data)
            assert isinstance(record, Transfer)
            state.past.add(index, keccak256(data), record)
    return state


def state_hash(state: State) -> bytes:
    """The hash that a Close record names: SHA-256 of dump()."""
    return hashlib.sha256(dump(state)).digest()


# --- totals -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Totals:
    """One fund in one asset, in base units (G15).

    opening + revenue - refunds + exchanged + unmatched - paid = closing = committed unpaid + free.
    """

    fund: str
    asset: str
    opening: int
    revenue: int
    refunds: int
    exchanged: int
    unmatched: int
    paid: int
    closing: int
    committed_unpaid: int

    @property
    def free(self) -> int:
        """What no commitment claims; negative where more is committed than has come in."""
        return self.closing - self.committed_unpaid


def totals(state: State, opening: State | None = None) -> list[Totals]:
    """The totals of every fund and asset that has an account of money, in order of name.

    opening: the state at the beginning of the period; without it the period is the whole ledger.
    """
    before = {} if opening is None else {(t.fund, t.asset): t for t in totals(opening)}
    keys = sorted(
        {(a.record.fund, a.record.asset) for a in state.accounts.values() if a.record.kind in MONEY}
    )
    nothing = (0,) * 8
    found = []
    for fund, asset in keys:
        mine = [a for a in state.accounts.values() if (a.record.fund, a.record.asset) == (fund, asset)]
        unpaid = sum(
            commitment.amount - commitment.paid
            for commitment in state.commitments.values()
            if (allocation := state.allocations[commitment.record.allocation_hash]).fund == fund
            and allocation.record.asset == asset
        )
        start = before.get((fund, asset), Totals(fund, asset, *nothing))
        refunds = sum(a.refunded for a in mine)
        found.append(
            Totals(
                fund,
                asset,
                opening=start.closing,
                revenue=refunds - sum(a.balance for a in mine if a.record.kind == REVENUE) - start.revenue,
                refunds=refunds - start.refunds,
                exchanged=sum(a.exchanged for a in mine) - start.exchanged,
                unmatched=-sum(a.balance for a in mine if a.record.kind == PAYABLE) - start.unmatched,
                paid=sum(a.balance for a in mine if a.record.kind == PROJECT) - start.paid,
                closing=sum(a.balance for a in mine if a.record.kind in MONEY),
                committed_unpaid=unpaid,
            )
        )
    return found
