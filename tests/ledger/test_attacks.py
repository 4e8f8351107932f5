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
from typing import Any, TypeVar

import pytest

from ledger import audit as auditor
from ledger import rules
from ledger.audit.verdict import Verdict
from ledger.records import (
    WORD,
    ZERO_HASH,
    Account,
    Acknowledgement,
    Approval,
    Asset,
    Certificate,
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
    Rate,
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
    log.act(
        make.account("spent-usdt", "USDT", kind=rules.PROJECT, owner=log.state.project_hashes["water-main"])
    )
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


def find(log: Log, kind: type[R], name: object = "", number: int = 0) -> tuple[int, R]:
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
    found = [
        at
        for at, data in enumerate(log.records)
        if data[2 * WORD : 3 * WORD] == wanted and data[:WORD] == Approval.type_hash
    ]
    return found[number]


def unapproved(kind: type[Record], name: str, found_at: Callable[[Log], int]) -> Act:
    """The last approval that a proposal needed is left out."""

    def act(log: Log) -> Done:
        place = approval_of(log, find(log, kind, name)[0], -1)
        return log.records[:place] + log.records[place + 1 :], found_at(log) - 1

    return act


def swapped(first: Callable[[Log], int], second: Callable[[Log], int]) -> Act:
    """Two records in each other's place; the earlier place is where it is found."""

    def act(log: Log) -> Done:
        one, other = first(log), second(log)
        records = list(log.records)
        records[one], records[other] = records[other], records[one]
        return records, one

    return act


def changed(
    kind: type[R], name: str, change: Callable[[R], Record], found_at: Callable[[Log], int] | None = None
) -> Act:
    """One record with other content where it stood."""

    def act(log: Log) -> Done:
        at, record = find(log, kind, name)
        records = list(log.records)
        records[at] = encode(change(record))
        return records, at if found_at is None else found_at(log)

    return act


def _waiting(log: Log) -> Record:
    return log.state.proposals[log.add(make.investment(mark="waits"))].record


def vote(change: Callable[[Approval], Approval], key: Key = COUNCIL[0], chain_id: int = city.CHAIN_ID) -> Act:
    """An approval of a proposal that waits, changed after it was signed."""
    domain = domain_separator(chain_id, city.COUNCIL_CONTRACT, digest("ledger"))
    return extra(lambda log: change(make.signed(log, key, _waiting(log), domain)))


def _vote_for_another(log: Log) -> Record:
    waits = _waiting(log)
    _, old = find(log, Approval, COUNCIL[0].address, -1)
    return replace(old, time=log.now, approves=hash_struct(waits))


def _again(log: Log, **members: Any) -> Transfer:
    """The payment of an order that was paid."""
    _, paid = find(log, Transfer, "order-k")
    return replace(paid, time=log.now, id=digest("again"), evidence=digest("again e"), **members)


def _fee(log: Log, amount: int = 7, **members: Any) -> Transfer:
    return replace(city.revenue(log, amount, "kzt", "attack"), time=log.now, **members)


def _refund(log: Log, mark: str, amount: int, to: bytes = make.SAID) -> Record:
    return make.refund(make.receipts(log)[mark], amount, to, "attack")


def _booked(log: Log, refunding: bytes, amount: int) -> Record:
    said = log.state.receipts[make.receipts(log)["said"]]
    return replace(make.refunded(refunding, said, amount), id=digest("ra"), evidence=digest("rb"))


def _undone(log: Log, evidence: str) -> Record:
    return make.reversal(make.place(log, evidence), "attack")


def _word(log: Log, record: Record, index: int, word: bytes) -> bytes:
    return make.with_word(encode(replace(record, time=log.now)), index, word)


def _told(log: Log, **members: Any) -> Record:
    log.wait(10)
    return replace(make.statement(log, log.now - 1), **members)


def _unsigned_order(log: Log) -> Record:
    """The Authority never saw it."""
    hashes = make.contracted(log, "mine", 10, 10)
    order = log.add(make.order(hashes, log.act(make.certificate(hashes[2], 10)), 10, "mine"))
    return _again(log, amount=10, purpose="mine", authority=order)


def _for_the_republic(log: Log) -> Record:
    allotted = log.act(make.allocation(log, "for-the-republic"))
    return Commitment(0, "republic", allotted, "republic", 1_000, digest("contract"))


def _retained_line(log: Log) -> Record:
    one, other = list(log.state.allocations)[:2]
    return Move(0, one, other, 1, digest("move"))


def _older_rate(log: Log) -> Record:
    older = hash_struct(find(log, Rate, number=-2)[1])
    return replace(make.exchanged(log, 500_000, 24_600, "x"), rate_hash=older)


def _at_a_silly_rate(log: Log, silent_s: int) -> tuple[list[bytes], int, int]:
    """100 USDT of an approved project allotted as 100 tiyn: by the log's key, and a Council that signed it.

    Returns the records, and the places of the rate and of the allocation.
    """
    log.wait(silent_s)
    silly = replace(make.usdt_rate(1, "silly"), time=log.now)
    rate = log.breach(encode(silly))
    coins = make.allocation(log, amount=10**8, time=log.now, asset="USDT", rate_hash=hash_struct(silly))
    allotted = log.breach(encode(coins))
    for member in COUNCIL[:3]:
        log.breach(encode(make.signed(log, member, coins)))
    return log.records, rate, allotted


def _late_vote(log: Log) -> Record:
    given = make.signed(log, COUNCIL[0], _waiting(log))
    return replace(given, time=given.valid_until + 1)


def _twice_in_a_row(log: Log) -> Done:
    place, _ = find(log, Transfer, number=2)
    return [*log.records[: place + 1], *log.records[place:]], place + 1


def place_of(kind: type[Record], name: object = "", number: int = 0) -> Callable[[Log], int]:
    """Where a record of a kind stands that mentions a name."""
    return lambda log: find(log, kind, name, number)[0]


def vote_of(kind: type[Record], name: object = "", number: int = 0) -> Callable[[Log], int]:
    """Where the first approval of such a record stands."""
    return lambda log: approval_of(log, find(log, kind, name, number)[0], 0)


C1 = make.ORDER.commitment_hash
HIGH_S = make.CURVE_ORDER
OPENING = vote_of(Genesis)

# A row a line: what the formatter makes of them cannot be read as a table.
# fmt: off
ATTACKS = [
    # Money, with the log's key alone.
    Attack("an order is paid twice", "V4", extra(_again)),
    Attack("a payment that nobody ordered", "V4", extra(lambda log: _again(log, authority=digest("no order")))),
    Attack("a payment of an order that nobody signed", "V4", extra(_unsigned_order)),
    Attack("money moved between accounts", "M4", extra(lambda log: _fee(log, debit="payable-kzt", credit="spent-kzt"))),
    Attack("a payment straight to the payee", "M4", extra(lambda log: _fee(log, debit="builder-kzt", credit="bank-kzt"))),
    Attack("an account that nobody registered", "M1", extra(lambda log: _fee(log, debit="cash-box"))),
    Attack("coins booked as tenge", "M2", extra(lambda log: _fee(log, debit="treasury-usdt"))),
    Attack("a fund change", "M5", lambda log: extra(lambda log: _fee(log, debit="bank-local"))(_with_a_local_bank(log))),
    Attack("the same id with another amount", "M3", extra(lambda log: _fee(log, id=find(log, Transfer)[1].id))),
    Attack("the same line of the bank again", "M3", extra(lambda log: _fee(log, evidence=find(log, Transfer)[1].evidence))),
    Attack("a balance beyond what a contract holds", "M7", extra(lambda log: _fee(log, 2**128 - 1))),
    Attack("a payment of more than there is", "M6", extra(lambda log: _again(log, amount=10**9))),
    Attack("revenue of a code without a rule", "V1", extra(lambda log: _fee(log, purpose="gift"))),
    Attack("revenue under a rule of the thief's own", "V1", extra(lambda log: _fee(log, authority=digest("mine")))),
    Attack("unmatched money matched twice", "V5", extra(lambda log: replace(make.matched(log, make.receipts(log)["unmatched 1"], 1), id=digest("m2"), evidence=digest("m3")))),
    Attack("revenue booked back out", "F3", extra(lambda log: _fee(log, debit="fees-kzt", credit="bank-kzt"))),
    Attack("a refund booked twice", "F3", extra(lambda log: _booked(log, next(iter(log.state.refunds)), 250))),
    Attack("a refund that nobody signed", "F3", extra(lambda log: _booked(log, log.add(_refund(log, "said", 300)), 300))),
    Attack("an oversized refund", "F1", extra(lambda log: _refund(log, "said", 751))),
    Attack("a refund of what never came", "F1", extra(lambda _: make.refund(digest("never"), 1, mark="x"))),
    Attack("a refund of what was matched", "F1", extra(lambda log: _refund(log, "unmatched 1", 1))),
    Attack("a refund of more than a year allows", "F4", lambda log: extra(lambda log: _refund(log, "said", 300, digest("friend")))(_with_a_low_cap(log))),
    Attack("a refund to the republic", "G7", extra(lambda log: _refund(log, "said", 1, digest("iban of 070")))),
    Attack("a reversal used twice", "R1", extra(lambda log: _undone(log, "evidence kzt unmatched other"))),
    Attack("final money on a chain undone", "R1", extra(lambda log: _undone(log, "evidence usdt 1"))),
    Attack("a refunded receipt undone", "R1", extra(lambda log: _undone(log, "evidence kzt said"))),
    # Rates and exchanges: the log's key and a provider.
    Attack("a silly rate", "Q2", extra(lambda _: make.usdt_rate(5_000, "silly"))),
    Attack("a rate of one source", "Q1", extra(lambda _: replace(make.usdt_rate(51_000, "x"), source1=digest("source 2x")))),
    Attack("an exchange at a silly price", "Q4", extra(lambda log: make.exchanged(log, 500_000, 1, "x"))),
    Attack("an exchange at the lowest rate of the day", "Q4", extra(_older_rate)),
    Attack("an exchange into revenue", "Q3", extra(lambda log: replace(make.exchanged(log, 500_000, 25_500, "x"), to_account="fees-kzt"))),
    Attack("an exchange of coins that were never taken", "M6", extra(lambda log: make.exchanged(log, 700_000, 35_700, "x"))),
    Attack("a provider that owes too much", "Q6", extra(lambda log: make.provided(log, 10**13, "x"))),
    # Proposals that can never take effect.
    Attack("a project that is a palace", "B1", extra(lambda _: make.project("palace", "palaces"))),
    Attack("a project elsewhere", "B1", extra(lambda _: make.project("far", place="astana"))),
    Attack("money for a project that nobody approved", "B1", extra(lambda log: make.allocation(log, asset="USDT", project_hash=digest("palace")))),
    Attack("a silly rate after a day of silence", "Q2", lambda log: _at_a_silly_rate(log, rules.DAY + 1)[:2]),
    Attack("coins allotted to an approved project at a silly rate", "B3", lambda log: _at_a_silly_rate(log, 60)[::2]),
    Attack("coins allotted at a silly rate after a day of silence", "B3", lambda log: _at_a_silly_rate(log, rules.DAY + 1)[::2]),
    Attack("coins allotted at no rate", "B3", extra(lambda log: make.allocation(log, asset="USDT"))),
    Attack("more allotted than approved", "B4", extra(lambda log: make.allocation(log, amount=10**13))),
    Attack("a line of retained money moved", "B7", extra(_retained_line)),
    Attack("a contract with the republic", "G7", extra(_for_the_republic)),
    Attack("a contract above its allocation", "C3", extra(lambda log: Commitment(0, "c", make.named_work(log)[0][0], "builder-kzt", 1, digest("c")))),
    Attack("a part more in a disputed contract", "C9", extra(lambda log: Milestone(0, "m", make.named_work(log)[0][1], 1, digest("m")))),
    Attack("work certified twice", "C5", extra(lambda log: make.certificate(make.named_work(log)[0][2], 600))),
    Attack("a milestone's money released", "C6", extra(lambda _: Release(0, C1, 1, digest("r")))),
    Attack("a stranger's dispute", "C7", extra(lambda _: Dispute(0, C1, THIEF.address, digest("d")))),
    Attack("a contract ended that nobody disputes", "C8", extra(lambda _: Resolution(0, C1, 1, digest("e")))),
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
    Attack("a statement that says less", "L2", extra(lambda log: _told(log, closing=1))),
    Attack("a statement that leaves a gap", "L1", extra(lambda log: _told(log, opening=0))),
    Attack("a year closed before it is over", "Y1", extra(make.close)),
    Attack("an excuse for what is no breach", "K1", extra(lambda _: Acknowledgement(0, 3, "M4", ACT))),
    # Signatures.
    Attack("a stranger's approval", "A4", vote(lambda given: given, THIEF)),
    Attack("an approval by a seat of another role", "A4", vote(lambda given: given, AUTHORITY)),
    Attack("an approval forged in a member's name", "A6", vote(lambda given: replace(given, signer=COUNCIL[1].address), THIEF)),
    Attack("an approval for another chain", "A6", vote(lambda given: given, chain_id=1)),
    Attack("an approval with a later deadline", "A6", vote(lambda given: replace(given, valid_until=given.valid_until + 1))),
    Attack("an approval in its other form", "A2", vote(lambda given: replace(given, v=55 - given.v, s=make.number(HIGH_S - int.from_bytes(given.s, "big"))))),
    Attack("an approval of something else used again", "A6", extra(_vote_for_another)),
    Attack("an approval recorded again", "A1", extra(lambda log: replace(find(log, Approval)[1], time=log.now))),
    Attack("an approval after its deadline", "A3", extra(_late_vote)),
    Attack("an approval withdrawn in another's name", "A7", extra(lambda log: THIEF.withdraw(log.state.domain, hash_struct(_waiting(log)), log.now))),
    # Bytes and time.
    Attack("a record cut short", "E1", extra(lambda log: encode(_fee(log))[:-1])),
    Attack("dirty bits", "E2", extra(lambda log: _word(log, _fee(log), 1, make.number(log.now + 2**64)))),
    Attack("a name that looks like another", "E3", extra(lambda log: _word(log, _fee(log), 3, b"bank kzt".ljust(WORD, b"\0")))),
    Attack("an amount of nothing", "E4", extra(lambda log: _word(log, _fee(log), 6, bytes(WORD)))),
    Attack("time goes back", "H2", extra(lambda log: replace(_fee(log), time=log.now - 1))),
    Attack("one record of the year 3000", "H2", extra(lambda log: replace(_fee(log), time=rules.TIME_LIMIT_S))),
    Attack("a second Genesis", "H1", extra(lambda log: replace(city.genesis(city.founding()), time=log.now, retention_end=log.now + 1))),
    Attack("the same proposal again", "H4", extra(lambda log: encode(_waiting(log)))),
    # What is left out, put elsewhere, or changed where it stands.
    Attack("an approval of a project left out", "N6", unapproved(Project, "water-main", place_of(Account, "spent-water-usdt"))),
    Attack("an approval of an order left out", "V4", unapproved(Order, "order-k", place_of(Transfer, "order-k"))),
    Attack("a fee left out", "O10", without(Transfer, "treasury-usdt", 0, place_of(Order, "order-1"))),
    Attack("a certificate left out", "A1", without(Certificate, "", 1, vote_of(Certificate, "", 1))),
    Attack("a founding seat left out", "H3", without(Seat, rules.AUDITOR, 0, OPENING)),
    Attack("a dispute left out", "A1", without(Dispute, "", 0, vote_of(Dispute))),
    Attack("an approval before its proposal", "A1", swapped(place_of(Project, "water-main"), vote_of(Project, "water-main"))),
    Attack("a payment before its order", "V4", swapped(place_of(Order, "order-k"), place_of(Transfer, "order-k"))),
    Attack("a Genesis that is not the first", "H1", swapped(lambda _: 0, lambda _: 1)),
    Attack("a record twice in a row", "M3", _twice_in_a_row),
    Attack("a payment under another order's name", "V4", changed(Transfer, "order-k", lambda paid: replace(paid, purpose="order-1"))),
    Attack("a payment of a tiyn more", "V4", changed(Transfer, "order-k", lambda paid: replace(paid, amount=601))),
    Attack("a code's revenue in another fund", "A1", changed(RevenueRule, city.CODE, lambda rule: replace(rule, fund="MUNICIPAL"), vote_of(RevenueRule, city.CODE))),
    Attack("another amount in a signed contract", "A1", changed(Commitment, "c-two", lambda signed: replace(signed, amount=999), vote_of(Commitment, "c-two"))),
    Attack("another founder", "H3", changed(Seat, rules.AUDITOR, lambda seat: replace(seat, holder=THIEF.address), OPENING)),
    Attack("an earlier end of retention", "A1", changed(Genesis, "", lambda first: replace(first, retention_end=START_S + 1), OPENING)),
]
# fmt: on


def _with_a_local_bank(log: Log) -> Log:
    log.act(make.account("bank-local", fund="MUNICIPAL"))
    return log


def _with_a_low_cap(log: Log) -> Log:
    log.act(Parameter(0, "refund_cap", 299, START_S, ACT))
    log.wait(rules.NOTICE_S)
    return log


def audit(folder: Path) -> Verdict:
    """The real auditor, who knows that the rates of the vectors have sources that nobody ever said."""
    return auditor.audit(folder, wanted=auditor.Wanted(sources_unavailable=True))


def found(folder: Path) -> list[tuple[str, str]]:
    """The findings of the real auditor, by rule and place."""
    return [(finding.rule, finding.where) for finding in audit(folder).findings]


def test_the_finished_city_is_valid(tmp_path: Path) -> None:
    log = finished()
    verdict = audit(bundles.write(tmp_path / "b", log).folder)
    assert verdict.findings == []
    assert verdict.last_line().startswith(f"valid: {len(log.records)} records, ")
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) > 50


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_auditor_names_the_rule_and_the_record(attack: Attack, tmp_path: Path) -> None:
    records, place = attack.act(finished())
    folder = bundles.write(tmp_path / "b", records).folder
    verdict = audit(folder)
    assert not verdict.is_valid
    assert (attack.rule, f"record {place}") in [(finding.rule, finding.where) for finding in verdict.findings]


@pytest.mark.parametrize("silent_s", [60, rules.DAY + 1])
def test_what_is_allotted_at_a_silly_rate_stays_without_effect_to_the_last_signature(
    silent_s: int, tmp_path: Path
) -> None:
    """The project is approved and there is room in it: nothing but the rate is wrong."""
    log = finished()
    project = log.state.projects[log.state.project_hashes["water-main"]]
    assert project.record.limit - project.allotted > 100
    true = copy.deepcopy(log)
    records, rate, allotted = _at_a_silly_rate(log, silent_s)
    named = found(bundles.write(tmp_path / "b", records).folder)
    votes = [("A1", f"record {place}") for place in range(allotted + 1, allotted + 4)]
    assert sorted(named) == sorted([("Q2", f"record {rate}"), ("B3", f"record {allotted}"), *votes])
    # The same at a rate that is allowed counts for what it is worth.
    true.wait(silent_s)
    newest = true.add(make.usdt_rate(51_000, "true"))
    before = true.state.projects[true.state.project_hashes["water-main"]].allotted
    true.act(make.allocation(true, amount=10**8, asset="USDT", rate_hash=newest))
    assert true.state.projects[true.state.project_hashes["water-main"]].allotted - before == 5_100_000


# --- what was anchored before stays ------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        attack
        for attack in ATTACKS
        if attack.name in {"a fee left out", "another founder", "a record twice in a row"}
    ],
    ids=lambda attack: attack.name,
)
def test_a_fork_that_is_signed_again_is_named_by_the_anchors(attack: Attack, tmp_path: Path) -> None:
    log = finished()
    anchored = bundles.anchors(log.records)
    records, _ = attack.act(log)
    folder = bundles.write(tmp_path / "b", records, anchored=anchored).folder
    assert {rule for rule, where in found(folder) if where.startswith("anchors.json")} == {"T2"}


def test_a_fork_in_which_every_rule_is_kept_is_named_by_the_anchors(tmp_path: Path) -> None:
    """Another fee in the place of the last one: nothing in the log itself is wrong."""
    log = finished()
    anchored = bundles.anchors(log.records)
    records = [*log.records[:-1], encode(_fee(log))]
    assert found(bundles.write(tmp_path / "fork", records).folder) == []
    folder = bundles.write(tmp_path / "b", records, anchored=anchored).folder
    assert found(folder) == [("T2", f"anchors.json entry {len(anchored) - 1}")]


def test_a_log_that_forgot_its_end_is_named_by_the_anchors(tmp_path: Path) -> None:
    log = finished()
    folder = bundles.write(tmp_path / "b", log.records[:-2], anchored=bundles.anchors(log.records)).folder
    assert ("T2", f"anchors.json entry {len(bundles.anchors(log.records)) - 1}") in found(folder)


def test_a_head_that_too_few_witnesses_have_seen_is_named_though_the_log_and_its_watcher_signed(
    tmp_path: Path,
) -> None:
    """A second history, shown to one resident alone: the thief has every key of the city and one witness."""
    names = ["bank", "press", "university"]
    vkeys = [*bundles.vkeys(), *map(bundles.witness_vkey, names)]
    said = {"needed": "2", "names": [bundles.witness(name)[0] for name in names]}
    written = bundles.write(tmp_path / "b", finished(), trusted=bundles.trust(vkeys=vkeys, witnesses=said))
    written.sign_checkpoint(witnesses=["bank", "press"])
    written.sign_manifest()
    assert found(written.folder) == []
    written.sign_checkpoint(witnesses=["press"])
    written.sign_manifest()
    assert found(written.folder) == [("D20", "checkpoint")]


def test_a_record_dated_before_the_anchor_that_it_follows_is_named(tmp_path: Path) -> None:
    log = finished()
    anchored = bundles.anchors(log.records)
    late = int(anchored[-1]["time"]) + 10 * rules.DAY
    anchored.append(bundles.anchor(log.records, len(log.records), time=str(late)))
    anchored[-2:] = anchored[-1:]
    records = [*log.records, encode(_fee(log))]
    anchored.append(bundles.anchor(records, len(records), time=str(late + 60)))
    folder = bundles.write(tmp_path / "b", records, anchored=anchored).folder
    assert ("T3", f"record {len(log.records)}") in found(folder)
