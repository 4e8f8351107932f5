"""Attacks on a finished bundle by whoever holds the true log key: the auditor finds each and names its rule.

The thief writes what he likes, leaves out, puts in another order, signs checkpoint and manifest again and anchors the
new heads. Where an attack says so he also holds a seat. Each is one row: what is done to the log, the rule, the place.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from ledger import rules
from ledger.audit import audit
from ledger.records import (
    WORD,
    ZERO_HASH,
    Acknowledgement,
    Approval,
    Asset,
    Certificate,
    Close,
    Commitment,
    Contract,
    Dispute,
    Genesis,
    KeyChange,
    Milestone,
    Move,
    Order,
    Parameter,
    Project,
    Quorum,
    Record,
    Release,
    Resolution,
    RevenueRule,
    Seat,
    Transfer,
    address_word,
    decode,
    domain_separator,
    encode,
    hash_struct,
)
from tests import bundles, city
from tests.city import ACT, AUTHORITY, COUNCIL, FOREVER_S, START_S, Key, Log, digest
from tests.vectors import make

THIEF = Key("thief")
R = TypeVar("R", bound=Record)


@functools.cache
def _finished() -> Log:
    log = make.at("trade")
    known = make.receipts(log)
    said = log.state.receipts[known["said"]]
    log.add(make.exchanged(log, 400_000, 19_800))
    log.add(make.matched(log, known["unmatched 1"]))
    log.add(make.refunded(log.act(make.refund(known["said"], 250)), said, 250))
    two, certified = make.named_work(log)
    first = log.act(make.order(two, certified, 600))
    log.add(replace(make.matched(log, first, 600), id=digest("paid k"), evidence=digest("bank k"),
                    debit="spent-kzt", credit="bank-kzt", purpose="order-k"))  # fmt: skip
    log.act(make.reversal(make.place(log, "evidence kzt unmatched other")))
    log.act(make.account("spent-usdt", "USDT", kind=rules.PROJECT, owner=log.state.project_hashes["water-main"]))
    log.act(make.ORDER)
    log.act(make.payee("republic", "KZT", digest("iban of 070"), rules.REPUBLIC))
    log.act(Dispute(0, two[1], city.AUDITOR.address, digest("dispute")))
    log.wait(60)
    log.act(make.statement(log, log.now - 1))
    log.add(make.usdt_rate(51_000, "later"))
    log.add(city.revenue(log, 5, "kzt", "last"))
    return log


def finished() -> Log:
    """A city in which everything has happened, and in which nothing is wrong."""
    return copy.deepcopy(_finished())


def find(log: Log, kind: type[R], name: str = "", number: int = 0) -> tuple[int, R]:
    """The place and the content of a record of a kind that mentions a name."""
    found = [(at, record) for at, data in enumerate(log.records) if isinstance(record := decode(data), kind)]
    return [(at, record) for at, record in found if not name or name in vars_of(record)][number]


def vars_of(record: Record) -> list[object]:
    """What a record's members hold."""
    return [getattr(record, name) for name, _, _ in record.members]


Done = tuple[list[bytes], int]
Act = Callable[[Log], Done]


@dataclass(frozen=True)
class Attack:
    """A row: what is done, and by which rule and where it must be found."""

    name: str
    rule: str
    act: Act


def extra(make_record: Callable[[Log], Record | bytes]) -> Act:
    """One more record at the end."""

    def act(log: Log) -> Done:
        made = make_record(log)
        if isinstance(made, Record):
            made = encode(made if made.time else replace(made, time=log.now))
        return [*log.records, made], len(log.records)

    return act


def after(*accepted: Callable[[Log], Record]) -> Callable[[Callable[[Log], Record | bytes]], Act]:
    """Some records that the rules take, then one more."""

    def then(make_record: Callable[[Log], Record | bytes]) -> Act:
        def act(log: Log) -> Done:
            for made in accepted:
                log.add(made(log))
            return extra(make_record)(log)

        return act

    return then


def without(kind: type[Record], name: str, number: int, found_at: Callable[[Log], int]) -> Act:
    """One record left out; what is found moves up by one place."""

    def act(log: Log) -> Done:
        place, _ = find(log, kind, name, number)
        later = found_at(log)
        return log.records[:place] + log.records[place + 1 :], later - 1

    return act


def approval_of(log: Log, place: int, number: int) -> int:
    """Where an approval of the record at a place stands."""
    wanted = hash_struct(decode(log.records[place]))
    found = [at for at, data in enumerate(log.records) if data[2 * WORD : 3 * WORD] == wanted and data[:WORD] == Approval.type_hash]
    return found[number]


def unapproved(kind: type[Record], name: str, found_at: Callable[[Log], int]) -> Act:
    """The last approval that a proposal needed is left out."""

    def act(log: Log) -> Done:
        place = approval_of(log, find(log, kind, name)[0], -1)
        return log.records[:place] + log.records[place + 1 :], found_at(log) - 1

    return act


def swapped(first: Callable[[Log], int], second: Callable[[Log], int], second_is_found: bool = False) -> Act:
    """Two records in each other's place."""

    def act(log: Log) -> Done:
        one, other = first(log), second(log)
        records = list(log.records)
        records[one], records[other] = records[other], records[one]
        return records, other if second_is_found else one

    return act


def changed(kind: type[R], name: str, change: Callable[[R], Record], place: Callable[[Log, int], int] | None = None) -> Act:
    """One record with other content where it stood."""

    def act(log: Log) -> Done:
        at, record = find(log, kind, name)
        records = list(log.records)
        records[at] = encode(change(record))
        return records, at if place is None else place(log, at)

    return act


def _waiting(log: Log) -> Record:
    waits: Record = log.state.proposals[log.add(make.investment(mark="waits"))].record
    return waits


def _vote(change: Callable[[Approval], Approval], key: Key = COUNCIL[0], chain_id: int = city.CHAIN_ID) -> Act:
    """An approval of a proposal that waits, changed after it was signed."""

    def act(log: Log) -> Done:
        waits = _waiting(log)
        domain = domain_separator(chain_id, city.COUNCIL_CONTRACT, digest("ledger"))
        return extra(lambda log: change(make.signed(log, key, waits, domain)))(log)

    return act


def _recorded_vote(log: Log) -> Record:
    """An approval that was given to another proposal, given to this one."""
    waits = _waiting(log)
    _, old = find(log, Approval, number=-1)
    return replace(old, time=log.now, approves=hash_struct(waits), signer=old.signer)


def _late_vote(log: Log) -> Done:
    waits = _waiting(log)
    vote = make.signed(log, COUNCIL[0], waits)
    return extra(lambda _: replace(vote, time=vote.valid_until + 1))(log)


def _two_kzt(log: Log) -> list[bytes]:
    return make.named_work(log)[0]


def _pay(log: Log, **members: object) -> Transfer:
    place, _ = find(log, Transfer, "order-k")
    paid = decode(log.records[place])
    assert isinstance(paid, Transfer)
    return replace(paid, time=log.now, id=digest("again"), evidence=digest("again e"), **members)  # type: ignore[arg-type]


def _fee(log: Log, amount: int = 7, **members: object) -> Transfer:
    return replace(city.revenue(log, amount, "kzt", "attack"), time=log.now, **members)  # type: ignore[arg-type]


def _word(log: Log, record: Record, index: int, word: bytes) -> bytes:
    return make.with_word(encode(replace(record, time=log.now)), index, word)


def _republic(log: Log) -> Record:
    allotted = log.act(make.allocation(log, "for-the-republic"))
    return Commitment(0, "republic", allotted, "republic", 1_000, digest("contract"))


def _refund_booked(log: Log, place: str, **members: object) -> Record:
    known = make.receipts(log)
    named = next(iter(log.state.refunds))
    return replace(make.refunded(named, log.state.receipts[known[place]], 250), id=digest("ra"), evidence=digest("rb"), **members)  # type: ignore[arg-type]


def _first(kind: type[Record], name: str = "", number: int = 0) -> Callable[[Log], int]:
    return lambda log: find(log, kind, name, number)[0]


def _receipt(name: str) -> Callable[[Log], bytes]:
    return lambda log: make.receipts(log)[name]


# A row a line: what the formatter makes of them cannot be read as a table.
# fmt: off
ATTACKS = [
    # Money, with the log's key alone.
    Attack("an order is paid twice", "V4", extra(_pay)),
    Attack("a payment that nobody ordered", "V4", extra(lambda log: _pay(log, authority=digest("no order")))),
    Attack("a payment of an order that nobody signed", "V4", extra(lambda log: _pay(log, authority=log.add(replace(find(log, Order, "order-1")[1], order="mine"))) if False else _pay(log, authority=hash_struct(find(log, Project, "water-main")[1])))),
    Attack("a payment while its contract is in dispute", "V4", extra(lambda log: _pay(log, amount=599))),
    Attack("money to another account of the city", "M4", after(lambda log: make.account("bank-two"))(lambda log: _fee(log, debit="payable-kzt", credit="spent-kzt"))),
    Attack("a payment straight to the payee", "M4", extra(lambda log: _fee(log, debit="builder-kzt", credit="bank-kzt"))),
    Attack("an account that nobody registered", "M1", extra(lambda log: _fee(log, debit="cash-box"))),
    Attack("coins booked as tenge", "M2", extra(lambda log: _fee(log, debit="treasury-usdt"))),
    Attack("the same id with another amount", "M3", extra(lambda log: replace(find(log, Transfer, number=1)[1], time=log.now, amount=9))),
    Attack("the same line of the bank again", "M3", extra(lambda log: _fee(log, evidence=find(log, Transfer, number=1)[1].evidence))),
    Attack("a balance beyond what a contract holds", "M7", extra(lambda log: _fee(log, 2**128 - 1))),
    Attack("more than there is", "M6", extra(lambda log: _pay(log, amount=10**9))),
    Attack("revenue of a code without a rule", "V1", extra(lambda log: _fee(log, purpose="gift"))),
    Attack("a rule of the thief's own", "V1", extra(lambda log: _fee(log, authority=digest("mine")))),
    Attack("unmatched money matched twice", "V5", extra(lambda log: replace(make.matched(log, _receipt("unmatched 1")(log), 1), id=digest("m2"), evidence=digest("m3")))),
    Attack("revenue booked back out", "F3", extra(lambda log: _fee(log, debit="fees-kzt", credit="bank-kzt"))),
    Attack("a refund booked twice", "F3", extra(lambda log: _refund_booked(log, "said"))),
    Attack("a refund that nobody signed", "F3", extra(lambda log: _refund_booked(log, "said", authority=log.add(make.refund(_receipt("said")(log), 300, mark="x")), amount=300))),
    Attack("an oversized refund", "F1", extra(lambda log: make.refund(_receipt("said")(log), 751, mark="x"))),
    Attack("a refund of what never came", "F1", extra(lambda log: make.refund(digest("never"), 1, mark="x"))),
    Attack("a refund of what was matched", "F1", extra(lambda log: make.refund(_receipt("unmatched 1")(log), 1, mark="x"))),
    Attack("a refund to the republic", "G7", extra(lambda log: make.refund(_receipt("said")(log), 1, digest("iban of 070"), "x"))),
    Attack("a reversal used twice", "R1", extra(lambda log: make.reversal(make.place(log, "evidence kzt unmatched other"), "x"))),
    Attack("final money on a chain undone", "R1", extra(lambda log: make.reversal(make.place(log, "evidence usdt 1"), "x"))),
    Attack("a refunded receipt undone", "R1", extra(lambda log: make.reversal(make.place(log, "evidence kzt said"), "x"))),
    # Rates and exchanges.
    Attack("a silly rate", "Q2", extra(lambda log: make.usdt_rate(5_000, "silly"))),
    Attack("a rate of one source", "Q1", extra(lambda log: replace(make.usdt_rate(51_000, "x"), source1=digest("source 2x")))),
    Attack("an exchange at a silly price", "Q4", extra(lambda log: make.exchanged(log, 500_000, 1, "x"))),
    Attack("an exchange at the lowest rate of the day", "Q4", extra(lambda log: replace(make.exchanged(log, 500_000, 24_600, "x"), rate_hash=hash_struct(find(log, type(make.usdt_rate()), number=-2)[1])))),
    Attack("an exchange into revenue", "Q3", extra(lambda log: replace(make.exchanged(log, 500_000, 25_500, "x"), to_account="fees-kzt"))),
    Attack("an exchange of coins that were never taken", "M6", extra(lambda log: make.exchanged(log, 700_000, 35_700, "x"))),
    Attack("a provider that owes too much", "Q6", extra(lambda log: make.provided(log, 10**13, "x"))),
    # Proposals that no honest seat could have made.
    Attack("a project that is a palace", "B1", extra(lambda _: make.project("palace", "palaces"))),
    Attack("a project elsewhere", "B1", extra(lambda _: make.project("far", place="astana"))),
    Attack("coins allotted at no rate", "B3", extra(lambda log: make.allocation(log, asset="USDT"))),
    Attack("more allotted than approved", "B4", extra(lambda log: make.allocation(log, amount=10**13))),
    Attack("a line of retained money moved", "B7", extra(lambda log: Move(0, *list(log.state.allocations)[:2], 1, digest("move")))),  # type: ignore[misc]
    Attack("a contract with the republic", "G7", extra(_republic)),
    Attack("a contract above its allocation", "C3", extra(lambda log: Commitment(0, "c", _two_kzt(log)[0], "builder-kzt", 1, digest("c")))),
    Attack("work cut in a disputed contract", "C9", extra(lambda log: Milestone(0, "m", _two_kzt(log)[1], 1, digest("m")))),
    Attack("work certified twice", "C5", extra(lambda log: make.certificate(_two_kzt(log)[2], 600))),
    Attack("a milestone's money released", "C6", extra(lambda log: Release(0, make.ORDER.commitment_hash, 1, digest("r")))),
    Attack("a stranger's dispute", "C7", extra(lambda _: Dispute(0, make.ORDER.commitment_hash, THIEF.address, digest("d")))),
    Attack("a contract ended that nobody disputes", "C8", extra(lambda _: Resolution(0, make.ORDER.commitment_hash, 1, digest("e")))),
    Attack("an order split", "O4", extra(lambda _: replace(make.ORDER, order="split", amount=1))),
    Attack("an order to another payee", "O3", extra(lambda _: replace(make.ORDER, order="other", payee="builder-kzt"))),
    Attack("an order given again", "O7", extra(lambda _: replace(make.ORDER, order="again"))),
    Attack("a council member as payee", "N7", extra(lambda _: make.payee("friend", owner=address_word(COUNCIL[0].address)))),
    Attack("a loan", "N2", extra(lambda _: make.account("loan", kind="loan"))),
    Attack("another treasury under its name", "N1", extra(lambda _: Contract(0, "treasury", city.CHAIN_ID, THIEF.address, digest("code"), ACT))),
    Attack("a coin on no chain", "N9", extra(lambda _: Asset(0, "COIN", 6, 0, THIEF.address, START_S, FOREVER_S, ACT))),
    Attack("the Authority certifies", "S2", extra(lambda _: Seat(0, rules.CERTIFIER, AUTHORITY.address, START_S, FOREVER_S, ACT))),
    Attack("a council of two", "S4", extra(lambda _: Quorum(0, rules.COUNCIL, 2, ACT))),
    Attack("an end of retention by parameter", "S5", extra(lambda _: Parameter(0, "retention_end", 0, 0, ACT))),
    Attack("a key that the ledger does not know", "S6", extra(lambda _: KeyChange(0, "back-door", digest("k"), 0, ACT))),
    Attack("an act without a paper", "H5", extra(lambda _: Quorum(0, rules.AUTHORITY, 1, ZERO_HASH))),
    Attack("a statement that says less", "L2", extra(lambda log: (lambda told: replace(told, closing=told.closing - 1))(_told(log)))),
    Attack("a statement that leaves a gap", "L1", extra(lambda log: (lambda told: replace(told, opening=0))(_told(log)))),
    Attack("a year closed before it is over", "Y1", extra(lambda log: Close(0, 2026, rules.state_hash(log.state)))),
    Attack("an excuse for what is no breach", "K1", extra(lambda _: Acknowledgement(0, 3, "M4", ACT))),
    # Signatures.
    Attack("a stranger's approval", "A4", _vote(lambda vote: vote, THIEF)),
    Attack("an approval forged in a member's name", "A6", _vote(lambda vote: replace(vote, signer=COUNCIL[0].address), THIEF) if False else _vote(lambda vote: replace(vote, signer=COUNCIL[1].address))),
    Attack("an approval for another chain", "A6", _vote(lambda vote: vote, chain_id=1)),
    Attack("an approval with a later deadline", "A6", _vote(lambda vote: replace(vote, valid_until=vote.valid_until + 1))),
    Attack("an approval in its other form", "A2", _vote(lambda vote: replace(vote, v=55 - vote.v, s=make.number(make.CURVE_ORDER - int.from_bytes(vote.s, "big"))))),
    Attack("an approval of something else used again", "A6", extra(_recorded_vote)),
    Attack("an approval recorded again", "A1", extra(lambda log: replace(find(log, Approval, number=-1)[1], time=log.now))),
    Attack("an approval after its deadline", "A3", _late_vote),
    # Bytes and time.
    Attack("a record cut short", "E1", extra(lambda log: encode(_fee(log))[:-1])),
    Attack("dirty bits", "E2", extra(lambda log: _word(log, make.usdt_rate(51_000, "x"), 1, make.number(log.now + 2**64)))),
    Attack("a name that looks like another", "E3", extra(lambda log: _word(log, _fee(log), 3, b"bank kzt".ljust(WORD, b"\0")))),
    Attack("an amount of nothing", "E4", extra(lambda log: _word(log, _fee(log), 6, bytes(WORD)))),
    Attack("time goes back", "H2", extra(lambda log: _fee(log).__class__(**{**{n: getattr(_fee(log), n) for n, _, _ in Transfer.members}, "time": log.now - 1}))),
    Attack("one record of the year 3000", "H2", extra(lambda log: replace(_fee(log), time=rules.TIME_LIMIT_S))),
    Attack("a second Genesis", "H1", extra(lambda log: replace(city.genesis(city.founding()), time=log.now, retention_end=log.now + 1))),
    # What is left out, put elsewhere or changed where it stands.
    Attack("an approval of a project left out", "B1", unapproved(Project, "water-main", lambda log: find(log, type(make.allocation(log)), "allocation-1")[0])),
    Attack("an approval of an order left out", "V4", unapproved(Order, "order-k", _first(Transfer, "order-k"))),
    Attack("a fee left out", "O10", without(Transfer, "treasury-usdt", 0, _first(Order, "order-1"))),
    Attack("a certificate left out", "A1", without(Certificate, "", 1, lambda log: approval_of(log, find(log, Certificate, number=1)[0], 0))),
    Attack("a founding seat left out", "H3", without(Seat, "auditor", 0, lambda log: approval_of(log, 0, 0))),
    Attack("an approval before its proposal", "A1", swapped(_first(Project, "water-main"), lambda log: approval_of(log, find(log, Project, "water-main")[0], 0))),
    Attack("a payment before its order", "V4", swapped(_first(Order, "order-k"), _first(Transfer, "order-k"))),
    Attack("a Genesis that is not the first", "H1", swapped(lambda _: 0, lambda _: 1)),
    Attack("a record twice in a row", "M3", lambda log: (lambda at: ([*log.records[: at + 1], log.records[at], *log.records[at + 1 :]], at + 1))(find(log, Transfer, number=2)[0])),
    Attack("a payment to another project", "V4", changed(Transfer, "order-k", lambda paid: replace(paid, debit="spent-water-usdt") if False else replace(paid, purpose="order-1"))),
    Attack("a code's revenue in another fund", "A1", changed(RevenueRule, city.CODE, lambda rule: replace(rule, fund="MUNICIPAL"), lambda log, at: approval_of(log, at, 0))),
    Attack("another payee in a signed contract", "A1", changed(Commitment, "c-two", lambda signed: replace(signed, payee="builder-usdt") if False else replace(signed, amount=999), lambda log, at: approval_of(log, at, 0))),
    Attack("another founder", "H3", changed(Seat, COUNCIL[4].address, lambda seat: replace(seat, holder=THIEF.address), lambda log, _: approval_of(log, 0, 0)) if False else changed(Seat, rules.AUDITOR, lambda seat: replace(seat, holder=THIEF.address), lambda log, _: approval_of(log, 0, 0))),
    Attack("an earlier end of retention", "A1", changed(Genesis, "", lambda first: replace(first, retention_end=START_S + 1), lambda log, _: approval_of(log, 0, 0))),
]
# fmt: on


def _told(log: Log) -> rules.Statement:
    return make.statement(log, log.now - 1, "bank-kzt") if False else replace(make.statement(log, log.now), as_of=log.now)
