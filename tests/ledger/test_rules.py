"""Requirements as the rules see them, and what holds whatever is tried.

The leaks are in test_leaks.py. Each refusal also stands in tests/vectors/rules for other languages.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import rules
from ledger.records import (
    KINDS,
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
    Transfer,
    Withdrawal,
    address_word,
    encode,
    encode_name,
    hash_struct,
)
from tests import city
from tests.city import (
    ACT,
    AUTHORITY,
    CERTIFIER,
    COUNCIL,
    FOREVER_S,
    RETENTION_END_S,
    START_S,
    Key,
    Log,
    digest,
    refusal,
    retained,
)
from tests.vectors import make

THIEF = Key("thief")
DAY = rules.DAY


# --- requirements -----------------------------------------------------------------------


def test_g1_each_change_of_an_office_is_a_record_with_a_term_and_an_act() -> None:
    log = city.registered()
    for role in rules.ROLES:
        key = Key(f"g1 {role}")
        seat = Seat(0, role, key.address, START_S, FOREVER_S, ACT)
        assert refusal(log, replace(seat, act=ZERO_HASH)) == "H5"
        assert refusal(log, replace(seat, valid_to=START_S)) == "S3"
        log.act(seat)
        assert not rules.is_seated(log.state, key.address, role, log.now + rules.NOTICE_S - 1)
        assert rules.is_seated(log.state, key.address, role, log.now + rules.NOTICE_S)
        for other in rules.ROLES - {role}:
            assert not rules.is_seated(log.state, key.address, other, log.now + rules.NOTICE_S)


@pytest.mark.parametrize(
    "record",
    [
        make.project(),
        Block(0, "block-2", rules.RETAINED, 2026, 2027, 10**6, ACT),
        RevenueRule(0, "108126", rules.RETAINED, 10_000, START_S, ACT),
        make.account("bank-two"),
        make.payee("shell"),
        Parameter(0, "rate_band", 1, START_S, ACT),
        Quorum(0, rules.COUNCIL, 4, ACT),
        Seat(0, rules.COUNCIL, THIEF.address, START_S, FOREVER_S, ACT),
        Asset(0, "EUR", 2, 1, THIEF.address, START_S, FOREVER_S, ACT),
        Contract(0, "router", 1, THIEF.address, digest("code"), ACT),
        Rules(0, digest("rules"), START_S, ACT),
        make.investment(),
    ],
    ids=lambda record: type(record).__name__,
)
def test_g2_only_the_council_decides(record: Record) -> None:
    log = city.registered()
    akim, deputy = Key("akim"), Key("maslikhat deputy")
    log.act(Seat(0, "akimat", akim.address, START_S, FOREVER_S, ACT))
    log.act(Seat(0, "maslikhat", deputy.address, START_S, FOREVER_S, ACT))
    log.wait(rules.NOTICE_S)
    approves = log.add(record)
    waits = log.state.proposals[approves].record
    for key in (AUTHORITY, CERTIFIER, city.AUDITOR, city.GATEWAY, city.OPERATOR, akim, deputy, THIEF):
        assert refusal(log, make.signed(log, key, waits)) == "A4"
    log.approve(approves, *COUNCIL[:2])
    assert log.state.proposals[approves].effective_s is None
    log.approve(approves, COUNCIL[2])
    assert log.state.proposals[approves].effective_s == log.now


def test_g3_the_authority_commits_and_orders_inside_allocations_only() -> None:
    log = make.at("works")
    two, certified = make.named_work(log)
    outside = Commitment(0, "outside", digest("no allocation"), "builder-kzt", 1, digest("contract"))
    assert refusal(log, outside) == "C1"
    assert refusal(log, replace(outside, allocation_hash=two[0])) == "C3"
    assert refusal(log, replace(make.order(two, certified, 600), allocation_hash=ZERO_HASH)) == "O1"
    allotted = log.add(make.allocation(log))
    assert refusal(log, make.signed(log, AUTHORITY, log.state.proposals[allotted].record)) == "A4"


def local(log: Log) -> bytes:
    """A clinic, and money of the local budget for it; returns the hash of the allocation."""
    log.act(make.project("clinic", "social"))
    log.act(Block(0, "local", "MUNICIPAL", 2026, 2028, 10**9, ACT))
    log.act(replace(make.payee("nurses", "KZT", digest("iban nurses")), fund="MUNICIPAL"))
    log.act(make.account("bank-local", fund="MUNICIPAL"))
    clinic = log.state.project_hashes["clinic"]
    return log.act(make.allocation(log, "clinic", block="local", project_hash=clinic))


def test_g3_the_maslikhat_and_the_akimat_act_on_the_local_budget_and_on_nothing_else() -> None:
    log = make.at("trade")
    allotted = local(log)
    contract = Commitment(0, "clinic", allotted, "nurses", 1_000, digest("clinic"))
    signed: dict[bytes, tuple[str, ...]] = {}
    hashes = [log.act(contract)]
    hashes.append(log.act(Milestone(0, "clinic", hashes[0], 1_000, digest("clinic part"))))
    hashes.append(log.act(make.certificate(hashes[1], 1_000)))
    log.act(RevenueRule(0, "local-fee", "MUNICIPAL", 10_000, START_S, ACT))
    log.act(make.account("fees-local", fund="MUNICIPAL", kind=rules.REVENUE, owner=encode_name("local-fee")))
    fee = city.revenue(log, 2_000, "kzt", "local")
    log.add(
        replace(
            fee,
            debit="bank-local",
            credit="fees-local",
            purpose="local-fee",
            authority=city.rule_hash(log, "local-fee"),
        )
    )
    log.wait(rules.NOTICE_S)
    order = Order(0, "clinic", hashes[0], allotted, hashes[2], "bank-local", 1_000, "nurses")
    hashes.append(log.act(order))
    for proposed in log.state.proposals.values():
        signed[hash_struct(proposed.record)] = rules.authors(log.state, proposed.record)
    assert [signed[named] for named in (allotted, *hashes)] == [
        (rules.MASLIKHAT,), (rules.AKIMAT,), (rules.AKIMAT,), (rules.CERTIFIER,), (rules.AKIMAT,),
    ]  # fmt: skip
    for record in (
        make.allocation(log, "ours"), make.project("road"), Block(0, "b", "AUTHORITY", 2026, 2027, 1, ACT),
        make.investment(),
    ):  # fmt: skip
        waits = log.state.proposals[log.add(record)].record
        for key in (city.MASLIKHAT, city.AKIMAT):
            assert refusal(log, make.signed(log, key, waits)) == "A4"


def test_g4_who_orders_who_certifies_and_who_approves_are_different_keys() -> None:
    log, _, _ = city.ordered()
    # The same key cannot have signed twice along the way of one payment, since it has one role for ever.
    by_role: dict[str, set[bytes]] = {}
    for proposal in log.state.proposals.values():
        for role in rules.authors(log.state, proposal.record):
            by_role.setdefault(role, set()).update(proposal.approvals)
    signers = [by_role[role] for role in (rules.COUNCIL, rules.AUTHORITY, rules.CERTIFIER)]
    assert all(signers)
    assert sum(map(len, signers)) == len(set().union(*signers))


def test_g5_no_transfer_and_no_exchange_leads_from_one_fund_to_another() -> None:
    log = make.at("trade")
    owners = {rules.PROJECT: log.state.project_hashes["water-main"]}
    for fund in sorted(rules.FUNDS - {rules.RETAINED}):
        for kind in ("bank", rules.PAYABLE, rules.PROJECT):
            log.act(make.account(f"{kind}-{fund}", fund=fund, kind=kind, owner=owners.get(kind)))
    known, newest = make.receipts(log), hash_struct(log.state.last_rate["USDT"])
    tried = 0
    for debit in log.state.accounts.values():
        for credit in log.state.accounts.values():
            one, other = debit.record, credit.record
            if one.fund == other.fund:
                continue
            for authority in (known["unmatched 1"], city.rule_hash(log), digest("none")):
                move = replace(city.revenue(log, 1, "kzt", "g5"), time=log.now, authority=authority)
                move = replace(move, debit=one.account, credit=other.account, asset=one.asset)
                refused = make.refusal(copy.deepcopy(log.state), encode(move))
                assert refused is not None
                assert refused.rule in {"M2", "M4", "M5", "M6", "F3", "V1", "V4"}, refused
                tried += 1
            swap = Exchange(log.now, digest("x"), one.account, other.account, 100, 5, newest, digest("e"))
            refused = make.refusal(log.state, encode(swap))
            assert refused is not None
            assert refused.rule == "Q3"
    assert tried > 300


def test_g6_retained_money_is_for_infrastructure_in_alatau() -> None:
    log = city.registered()
    for place in ("almaty", "astana", "alatau"):
        assert refusal(log, make.project("p", place=place)) == "B1"
    for sector in ("social", "administration"):
        log.act(make.project(sector, sector))
        owner = log.state.project_hashes[sector]
        assert refusal(log, make.allocation(log, project_hash=owner)) == "B1"
    for number, sector in enumerate(sorted(rules.INFRASTRUCTURE)):
        log.act(make.project(f"p-{number}", sector))
        log.act(make.allocation(log, f"a-{number}", project_hash=log.state.project_hashes[f"p-{number}"]))


@pytest.mark.parametrize(("offset", "refused"), [(-1, True), (0, False), (1, False)])
def test_g7_nothing_goes_to_the_republic_before_retention_ends(offset: int, refused: bool) -> None:
    log, commitment = city.second_before_2050()
    log.now = RETENTION_END_S + offset
    assert RETENTION_END_S == 2_524_590_000
    if refused:
        assert refusal(log, commitment) == "G7"
    else:
        assert log.state.proposals[log.act(commitment)].effective_s == log.now


@pytest.mark.parametrize(("offset", "refused"), [(-1, True), (0, False), (1, False)])
def test_g7_a_payee_unmasked_as_the_republic_is_not_paid_before_retention_ends(
    offset: int, refused: bool
) -> None:
    log, order, order_hash = city.ordered()
    owner = address_word(city.PAYEE_ADDRESS)
    log.act(make.payee("republic", "USDT", owner, rules.REPUBLIC))
    log.now = RETENTION_END_S + offset
    before = retained(log)
    if refused:
        assert refusal(log, city.payment(order, order_hash)) == "G7"
    else:
        log.add(city.payment(order, order_hash))
    assert retained(log) == before - (0 if refused else order.amount)


def test_g8_the_local_budget_pays_for_what_is_its_own_and_moves_nowhere() -> None:
    log = make.at("trade")
    local(log)
    water = log.state.project_hashes["water-main"]
    assert refusal(log, make.allocation(log, "w", block="local", project_hash=water)) == "B1"
    assert rules.parameter(log.state, "self_sufficient", log.now) == 0
    log.act(Parameter(0, "self_sufficient", 1, START_S, ACT))
    assert rules.parameter(log.state, "self_sufficient", log.now + rules.NOTICE_S) == 1
    log.wait(rules.NOTICE_S)
    # No flow between budgets exists, whatever the flag says.
    move = replace(city.revenue(log, 1, "kzt", "m"), debit="bank-kzt", credit="bank-local")
    assert refusal(log, move) == "M4"


def test_g9_lines_move_inside_a_block_of_the_authority_and_its_limit_stays() -> None:
    log = make.at("trade")
    one, two = (log.act(make.allocation(log, name, 50, block="lines")) for name in ("one", "two"))
    assert refusal(log, make.allocation(log, "three", 1, block="lines")) == "B5"
    log.act(Move(0, one, two, 20, digest("move")))
    assert [log.state.allocations[line].amount for line in (one, two)] == [30, 70]
    assert refusal(log, Move(0, one, two, 31, digest("move"))) == "B7"
    # Unused money is still there in the block's next year, and gone with the rule's version unless prolonged.
    pilot_over = rules.PARAMETERS["block_budget_until"][2]
    log.now = pilot_over - 1
    log.act(Move(0, two, one, 5, digest("move back")))
    assert log.state.blocks["lines"].allotted == 100
    log.wait(1)
    assert refusal(log, Move(0, two, one, 5, digest("again"))) == "B6"
    assert refusal(log, make.allocation(log, "late")) == "B6"
    log.act(Parameter(0, "block_budget_until", pilot_over + 365 * DAY, 0, ACT))
    log.wait(rules.NOTICE_S)
    log.act(Move(0, two, one, 5, digest("again")))


def check_five_totals(state: rules.State) -> None:
    """Approved, allotted, committed, certified, paid: each at most the one before (G10)."""
    for project in state.projects.values():
        totals = [project.record.limit, project.allotted, project.committed, project.certified, project.paid]
        assert totals == sorted(totals, reverse=True), project
        assert project.paid >= 0
    for allocation in state.allocations.values():
        units = [
            allocation.amount,
            allocation.committed,
            allocation.certified,
            allocation.ordered,
            allocation.paid,
        ]
        assert units == sorted(units, reverse=True), allocation
        assert min(units) >= 0
    for block in state.blocks.values():
        mine = [a for a in state.allocations.values() if a.record.block == block.record.block]
        assert block.allotted == sum(a.tiyn(a.amount) for a in mine) <= block.record.limit
    for digest_, project in state.projects.items():
        of_project = [a for a in state.allocations.values() if a.record.project_hash == digest_]
        for total in ("allotted", "committed", "certified", "paid"):
            unit = "amount" if total == "allotted" else total
            assert getattr(project, total) == sum(a.tiyn(getattr(a, unit)) for a in of_project), total
    for digest_, allocation in state.allocations.items():
        contracts = [c for c in state.commitments.values() if c.record.allocation_hash == digest_]
        assert allocation.committed == sum(c.amount for c in contracts)
        for unit in ("certified", "ordered", "paid"):
            assert getattr(allocation, unit) == sum(getattr(c, unit) for c in contracts), unit


def test_g10_parts_that_are_rounded_never_add_up_to_more_than_the_whole() -> None:
    log = city.registered()
    log.add(city.revenue(log))
    rate = log.add(Rate(0, "USDT", 51_234, 1_000_000, digest("s 1"), digest("s 2")))
    water = log.state.project_hashes["water-main"]
    allocation = log.act(Allocation(0, "a", "block-2026", water, "USDT", 100, rate, ACT))
    project = log.state.projects[water]
    for part in range(100):
        commitment = log.act(Commitment(0, f"c{part}", allocation, "builder-usdt", 1, digest("contract")))
        milestone = log.act(Milestone(0, f"m{part}", commitment, 1, digest("milestone")))
        certificate = log.act(Certificate(0, milestone, 1, 1, digest("survey")))
        order = Order(0, f"o{part}", commitment, allocation, certificate, "treasury-usdt", 1, "builder-usdt")
        paid = replace(
            city.payment(order, log.act(order)), id=digest(f"id {part}"), evidence=digest(f"evidence {part}")
        )
        log.add(paid)
        check_five_totals(log.state)
    assert [project.allotted, project.committed, project.certified, project.paid] == [6, 6, 6, 6]


def test_g11_a_milestone_is_paid_once_a_refused_one_never_and_they_add_up() -> None:
    log = make.at("works")
    two, certified = make.named_work(log)
    order = make.order(two, certified, 600)
    log.act(make.account("spent-kzt", kind=rules.PROJECT, owner=log.state.project_hashes["water-main"]))
    order_hash = log.act(order)
    payment = Transfer(
        0, digest("p"), "spent-kzt", "bank-kzt", "KZT", 600, "order-k", order_hash, digest("e")
    )
    log.add(payment)
    assert refusal(log, replace(payment, id=digest("p2"), evidence=digest("e2"))) == "V4"
    refused = log.act(make.certificate(two[3], 400, 0))
    assert refusal(log, make.order(two, refused, 400, "order-refused")) == "O2"
    assert refusal(log, make.certificate(two[3], 400)) == "C5"
    assert refusal(log, Milestone(0, "more", two[1], 1, digest("more"))) == "C4"
    partial = make.contracted(log, "part", 100, 99)
    work = log.act(make.certificate(partial[2], 99))
    assert refusal(log, make.order(partial, work, 99, "order-part")) == "O8"


def _worked(log: Log) -> tuple[bytes, list[bytes]]:
    """A contract of 1,000: 300 paid, 200 ordered, 100 of 150 certified, 350 planned; 400 not even that."""
    hashes = make.contracted(log, "d", 1_400, 300, 200, 150, 350, 400, allotted=2_000)
    works = [
        log.act(make.certificate(part, amount))
        for part, amount in zip(hashes[2:5], (300, 200, 100), strict=True)
    ]
    orders = [log.act(make.order(hashes, works[n], amount, f"o-{n}")) for n, amount in enumerate((300, 200))]
    pay = Transfer(0, digest("p"), "spent-kzt", "bank-kzt", "KZT", 300, "o-0", orders[0], digest("e"))
    log.add(pay)
    return hashes[1], orders


def test_g12_a_dispute_freezes_one_contract_and_its_end_frees_what_is_unpaid() -> None:
    log = make.at("trade")
    commitment, orders = _worked(log)
    allocation = log.state.allocations[log.state.commitments[commitment].record.allocation_hash]
    two, certified = make.named_work(log)
    water = log.state.projects[log.state.project_hashes["water-main"]]
    before = (water.committed, water.certified, water.paid)
    log.act(Dispute(0, commitment, city.AUDITOR.address, digest("dispute")))
    # The treasury goes on: another contract is ordered and paid.
    other = log.act(make.order(two, certified, 600))
    pay = replace(make.matched(log, other, 600), debit="spent-kzt", credit="bank-kzt", purpose="order-k")
    log.add(pay)
    frozen = replace(
        pay, id=digest("i"), evidence=digest("j"), amount=200, purpose="o-1", authority=orders[1]
    )
    assert refusal(log, frozen) == "C9"
    assert log.state.accounts["bank-kzt"].reserved == 200
    going = copy.deepcopy(log)
    log.act(Resolution(0, commitment, 1, digest("end")))
    assert (allocation.committed, allocation.certified, allocation.ordered, allocation.paid) == (300,) * 4
    assert (before[0] - water.committed, before[1] - water.certified) == (1_100, 300)
    assert log.state.accounts["bank-kzt"].reserved == 0
    assert refusal(log, frozen) == "V4"
    check_five_totals(log.state)
    # What the bank sends back after the end is nobody's any more.
    place = make.place(log, "e")
    log.act(make.reversal(place))
    assert (allocation.committed, allocation.certified, allocation.ordered, allocation.paid) == (0,) * 4
    assert log.state.accounts["bank-kzt"].reserved == 0
    check_five_totals(log.state)
    check_money(log.state)
    # And with the other outcome it goes on as if nothing had been, but for the record.
    going.act(Resolution(0, commitment, 0, digest("go on")))
    going.add(frozen)
    check_five_totals(going.state)
    assert refusal(going, Dispute(0, commitment, THIEF.address, digest("spam"))) == "C7"
    going.approve(going.add(Dispute(0, commitment, CERTIFIER.address, digest("again"))), CERTIFIER)


@pytest.mark.parametrize(
    "amounts", [[180_000_000_000_000] * 44, [4_090_909_090_910] * 4 + [4_090_909_090_909] * 40]
)
def test_g13_44_projects_of_private_money_load_and_are_no_public_money(amounts: list[int]) -> None:
    log = city.registered()
    before = rules.totals(log.state)
    water = copy.deepcopy(log.state.projects)
    for number, amount in enumerate(amounts):
        log.act(Project(0, f"project-{number}", "factory", "alatau-growing", 0, digest(f"project {number}")))
        log.act(Investment(0, f"project-{number}", amount, digest(f"investment {number}")))
    assert log.state.invested_tiyn == sum(amounts) in {44 * 180_000_000_000_000, 180_000_000_000_000}
    assert rules.totals(log.state) == before
    assert all(log.state.projects[known] == project for known, project in water.items())
    for number, amount in enumerate(amounts):
        project = log.state.projects[log.state.project_hashes[f"project-{number}"]]
        assert (project.invested, project.allotted, project.paid) == (amount, 0, 0)
        # Private money is no approval: not a tiyn of public money may follow it.
        owner = log.state.project_hashes[f"project-{number}"]
        assert refusal(log, make.allocation(log, project_hash=owner)) == "B1"
    # Even where its sector is the city's own, a limit of 0 is nothing.
    log.act(Project(0, "private-road", "roads", "alatau-gate", 0, digest("road")))
    road = log.state.project_hashes["private-road"]
    assert refusal(log, make.allocation(log, project_hash=road, amount=1)) == "B4"


def test_g14_rules_take_effect_on_their_dates() -> None:
    log = city.registered()
    dates = [1_798_743_600, 1_814_382_000]  # 2027-01-01 and 2027-07-01 in Alatau
    for date, share in zip(dates, (9_000, 8_000), strict=True):
        log.act(RevenueRule(0, city.CODE, rules.RETAINED, share, date, ACT))
    for now, share in ((dates[0] - 1, 10_000), (dates[0], 9_000), (dates[1] - 1, 9_000), (dates[1], 8_000)):
        rule = rules.revenue_rule(log.state, city.CODE, now)
        assert rule is not None
        assert rule.min_share == share


# The law's three dates at midnight in Alatau, 1 Jul 2026, 1 Jan 2027 and 1 Jul 2027: its phases (KAZAKHSTAN).
PHASES = (1_782_846_000, 1_798_743_600, 1_814_382_000)


def test_g14_what_the_law_dates_takes_effect_in_its_phases_and_an_experiment_ends_on_its_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ledger that begins three weeks before the law: a rule, a file of rules and a flag for each phase."""
    assert [rules.almaty_year(phase) for phase in PHASES] == [2026, 2027, 2027]
    assert [rules.almaty_year(phase - 1) for phase in PHASES] == [2026, 2026, 2027]
    monkeypatch.setattr(city, "START_S", PHASES[0] - 21 * DAY)
    log = city.opened()
    log.act(Asset(0, "KZT", 2, 0, ZERO_ADDRESS, 0, FOREVER_S, ACT))
    log.act(Asset(0, "USDT", 6, city.CHAIN_ID, city.TOKEN, PHASES[0], PHASES[2], digest("fixed value")))
    log.act(Contract(0, "treasury", city.CHAIN_ID, city.TREASURY, digest("code"), ACT))
    for phase, share in zip(PHASES, (10_000, 9_000, 8_000), strict=True):
        log.act(RevenueRule(0, city.CODE, rules.RETAINED, share, phase, ACT))
        log.act(Rules(0, digest(f"rules of {phase}"), phase, ACT))
    # The experiment: coins are taken on a chain in the first phase only, and both days are known beforehand.
    log.act(Parameter(0, "direct_settlement", 1, PHASES[0], digest("experiment")))
    log.act(Parameter(0, "direct_settlement", 0, PHASES[1], digest("its end")))
    chain = make.account("treasury-usdt", "USDT", kind="chain", owner=address_word(city.TREASURY))
    log.act(chain)
    log.act(make.account("fees-usdt", "USDT", kind=rules.REVENUE, owner=encode_name(city.CODE)))
    assert [start for start, _ in log.state.rule_files] == list(PHASES)

    def taken(now: int) -> str:
        """How a fee in coins is taken at a second under the rule then in force."""
        later = copy.deepcopy(log)
        later.now = now
        rule = rules.revenue_rule(later.state, city.CODE, now) or log.state.revenue_rules[city.CODE][0][1]
        fee = replace(city.revenue(at_rules, 5), authority=hash_struct(rule))
        refused = make.refusal(later.state, encode(replace(fee, time=now)))
        return "taken" if refused is None else refused.rule

    at_rules = copy.deepcopy(log)
    at_rules.now = PHASES[2]
    for now, expected in (
        (PHASES[0] - 1, "V1"),  # no rule is in force
        (PHASES[0], "taken"),
        (PHASES[1] - 1, "taken"),
        (PHASES[1], "V3"),  # the experiment is over
        (PHASES[2], "V2"),  # and so is the asset's allowance
    ):
        assert taken(now) == expected, now
    for now, share in ((PHASES[0], 10_000), (PHASES[1] - 1, 10_000), (PHASES[1], 9_000), (PHASES[2], 8_000)):
        rule = rules.revenue_rule(log.state, city.CODE, now)
        assert rule is not None
        assert rule.min_share == share
    assert rules.revenue_rule(log.state, city.CODE, PHASES[0] - 1) is None


def check_money(state: rules.State) -> None:
    """No account of money is below zero, debits equal credits, and the totals foot (G15)."""
    assert all(a.balance >= 0 for a in state.accounts.values() if a.record.kind in rules.MONEY)
    assert all(0 <= a.reserved <= max(a.balance, 0) for a in state.accounts.values())
    for asset in state.assets:
        mine = [a for a in state.accounts.values() if a.record.asset == asset]
        assert sum(a.balance - a.exchanged for a in mine) == 0
    for named, receipt in state.receipts.items():
        assert 0 <= state.claimed.get(named, 0) <= receipt.amount
    for name, account in state.accounts.items():
        if account.record.kind == rules.PAYABLE:
            mine_ = [(named, r) for named, r in state.receipts.items() if r.credit == name]
            waiting = sum(
                refund.amount for named, refund in state.refunds.items()
                if named not in state.booked_refunds and state.receipts[refund.receipt_hash].credit == name
            )  # fmt: skip
            left = sum(r.amount - state.claimed.get(named, 0) for named, r in mine_)
            assert -account.balance == left + waiting
    for total in rules.totals(state):
        came = total.opening + total.revenue - total.refunds + total.exchanged + total.unmatched
        assert came - total.paid == total.closing == total.committed_unpaid + total.free
        assert min(total.revenue, total.refunds, total.paid, total.closing, total.committed_unpaid) >= 0


def test_g15_what_came_in_less_what_was_paid_is_what_is_there() -> None:
    log = city.paid()
    check_money(log.state)
    (kzt, usdt) = rules.totals(log.state)
    assert (kzt.asset, kzt.revenue, kzt.closing) == ("KZT", 0, 0)
    assert (usdt.revenue, usdt.paid, usdt.closing, usdt.committed_unpaid, usdt.free) == (
        50_000_000, 40_000_000, 10_000_000, 0, 10_000_000,
    )  # fmt: skip


def test_g15_a_period_opens_with_what_the_one_before_closed_with() -> None:
    log = make.at("trade")
    opening = copy.deepcopy(log.state)
    known = make.receipts(log)
    said = log.state.receipts[known["said"]]
    log.add(make.exchanged(log, 400_000, 19_700))
    log.add(make.matched(log, known["unmatched 1"]))
    log.add(make.refunded(log.act(make.refund(known["said"], 250)), said, 250))
    log.add(city.revenue(log, 70, "kzt", "period"))
    kzt, usdt = (t for t in rules.totals(log.state, opening) if t.fund == rules.RETAINED)
    first, second = (t for t in rules.totals(opening) if t.fund == rules.RETAINED)
    assert (kzt.opening, usdt.opening) == (first.closing, second.closing)
    assert (kzt.revenue, kzt.refunds, kzt.exchanged, kzt.unmatched, kzt.paid) == (570, 250, 19_700, -500, 0)
    assert (usdt.revenue, usdt.exchanged) == (0, -400_000)
    check_money(log.state)


def test_g16_a_proposal_has_no_effect_before_its_approvals() -> None:
    for record in (make.project(), make.account("bank-two"), make.payee("shell"), make.investment()):
        log = city.registered()
        kept = copy.deepcopy(log.state)
        approves = log.add(record)
        log.approve(approves, *COUNCIL[:2])
        assert kept.accounts == log.state.accounts
        assert (kept.projects, kept.names, kept.owners) == (
            log.state.projects,
            log.state.names,
            log.state.owners,
        )
        log.approve(approves, COUNCIL[2])
        assert (kept.accounts, kept.projects) != (log.state.accounts, log.state.projects)


def test_g16_an_invalid_record_has_no_effect_and_is_a_finding() -> None:
    log = city.paid()
    order_hash = next(iter(log.state.orders))
    twice = encode(replace(city.payment(city.certified()[1], order_hash), time=log.now, id=digest("id 2")))
    more = encode(replace(city.revenue(log, mark="2"), time=log.now))
    state, findings = rules.replay([*log.records, twice, b"\xff", more])
    clean, none = rules.replay([*log.records, more])
    assert [(finding.rule, finding.where) for finding in findings] == [
        ("M3", "record 84"),
        ("E1", "record 85"),
    ]
    assert none == []
    assert (state.size, clean.size) == (87, 85)
    assert state.breaches == {84: "M3", 85: "E1"}
    state.size, state.breaches = clean.size, {}
    assert rules.dump(state) == rules.dump(clean)
    assert (state.past.ids, state.past.evidence) == (clean.past.ids, clean.past.evidence)
    assert state.receipts == clean.receipts


def test_a_log_whose_first_record_is_broken_never_begins() -> None:
    log = city.opened()
    broken = log.records[0][:-1] + bytes([log.records[0][-1] ^ 1])
    state, findings = rules.replay([b"nothing", *log.records])
    assert {finding.rule for finding in findings} == {"E1", "H1"}
    assert len(findings) == len(log.records) + 1
    assert not state.opened
    # Another Genesis binds other seats, and the founders never signed it.
    state, findings = rules.replay([broken, *log.records[1:]])
    assert not state.opened
    assert len(findings) == 3


def test_what_no_key_could_have_signed_is_refused() -> None:
    log = city.registered()
    waits = log.state.proposals[log.add(make.investment())].record
    good = make.signed(log, COUNCIL[0], waits)
    for bit in range(0, 256, 7):
        flipped = bytearray(good.r)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refusal(log, replace(good, r=bytes(flipped))) == "A6"


# --- the books ------------------------------------------------------------------------------


def test_l1_an_id_and_its_evidence_are_used_once_by_whatever_moves_money() -> None:
    log = make.at("trade")
    fee = city.revenue(log, asset="kzt", mark="said")
    known = make.receipts(log)
    log.add(make.exchanged(log, 1_000, 50))
    swap = make.exchanged(log, 1_000, 50, "2")
    undo = make.reversal(make.place(log, "evidence kzt said"))
    for record in (
        replace(city.revenue(log, 1, "kzt", "new"), id=fee.id), replace(city.revenue(log, 1, "kzt", "new"), evidence=fee.evidence),
        replace(swap, id=fee.id), replace(swap, evidence=fee.evidence), replace(swap, id=ZERO_HASH),
        replace(undo, id=fee.id), replace(undo, evidence=fee.evidence), replace(make.refund(known["said"], 1), id=swap.id and fee.id),
    ):  # fmt: skip
        assert refusal(log, record) == "M3"


def test_l5_each_broken_record_is_named_where_it_stands() -> None:
    log = make.at("trade")
    records = list(log.records)
    fees = [at for at, data in enumerate(records) if data[:32] == Transfer.type_hash]
    records[fees[-1]] = records[fees[-2]]
    bent = bytearray(records[fees[0]])
    bent[-40] ^= 1  # its evidence: another record, and nothing in the log says it is wrong
    for place, data in ((fees[-1], records[fees[-1]]), (fees[1], b"")):
        changed = [*log.records[:place], data, *log.records[place + 1 :]]
        state, breaches = rules.replay(changed)
        assert state.size == len(changed)
        assert f"record {place}" in [breach.where for breach in breaches]


def test_l8_a_debit_that_nothing_authorises_is_a_breach_and_moves_nothing() -> None:
    log = make.at("trade")
    before = rules.totals(log.state)
    for debit in ("spent-kzt", "fees-kzt", "payable-kzt", "builder-kzt", "provider-usdt"):
        out = replace(city.revenue(log, 1, "kzt", debit), debit=debit, credit="bank-kzt", time=log.now)
        log.breach(encode(out))
    assert rules.totals(log.state) == before
    assert sorted(log.state.breaches.values()) == ["F3", "F3", "M2", "M4", "V4"]


def test_l9_a_key_changes_in_public_and_an_audit_may_start_at_a_close() -> None:
    log = make.at("trade")
    change = KeyChange(0, "log-ed25519", digest("vkey"), 0, ACT)
    for key in (AUTHORITY, city.OPERATOR, city.WATCHER, THIEF):
        waits = log.state.proposals.get(hash_struct(replace(change, time=log.now)))
        waiting = log.state.proposals[log.add(change)].record if waits is None else waits.record
        assert refusal(log, make.signed(log, key, waiting)) == "A4"
    log.approve(hash_struct(replace(change, time=log.now)))
    assert log.state.keys == {"log-ed25519": [(log.now + rules.NOTICE_S, digest("vkey"))]}
    log.now = 1_798_743_600
    # A proposal waits over the year's end, and money is on its way.
    road = log.add(make.project())
    log.approve(road, COUNCIL[0])
    size = log.state.size
    kept = rules.dump(log.state)
    log.act(make.close(log))
    assert log.state.closed[2026] == rules.state_hash(rules.load(kept))
    loaded = rules.recall(rules.load(kept), log.records)
    log.approve(road, *COUNCIL[1:3])
    log.add(city.revenue(log, 5, "kzt", "next year"))
    log.breach(b"nothing")
    state, breaches = rules.replay(log.records[size:], loaded)
    assert len(breaches) == 1
    assert state == log.state
    assert rules.dump(state) == rules.dump(log.state)


def test_what_a_bank_may_correct_is_found_again_after_a_state_was_loaded() -> None:
    log = make.at("trade")
    kept = rules.recall(rules.load(rules.dump(log.state)), log.records)
    found = [index for index in range(log.state.size) if rules.reversible(log.state, index)]
    assert found
    assert found == [index for index in range(kept.size) if rules.reversible(kept, index)]
    assert kept.receipts == log.state.receipts
    assert kept == log.state


def test_a_state_without_its_past_is_not_the_state_and_its_hash_is_the_same() -> None:
    log = make.at("trade")
    bare = rules.load(rules.dump(log.state))
    assert bare != log.state
    assert rules.state_hash(bare) == rules.state_hash(log.state)


def test_a_history_is_read_as_the_list_of_what_it_was_given() -> None:
    entries = [(5, 1), (5, 2), (9, 2**127), (30, 0)]
    history = rules.History(entries)
    assert history == [(5, 2), (9, 2**127), (30, 0)]
    assert [history.at(second) for second in (4, 5, 8, 9, 29, 30, 99)] == [None, 2, 2, 2**127, 2**127, 0, 0]
    history.forget(9)
    assert history == [(30, 0)]
    assert history.at(29) is None


def _tampered(thing: Any, path: list[Any], value: Any) -> bytes:
    inside = thing
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    return json.dumps(thing, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"1", b"[]", b"{}", b'"State"', b"\xff", b"1.5", b'{"o":["State",{}]}', b'{"o":["Exit",{}]}', b'{"o":[1]}', b'{"i":"x"}',
        b'{"b":"zz"}', b'{"r":"00"}', b'{"d":[[{"l":[]},1]]}', b'{"s":[{"d":[]}]}', b'{"o":["State",{"size":{"i":"-"}}]}',
        b'{"i":"' + b"9" * 5_000 + b'"}', b"[" * 3_000, b'{"l":[' * 3_000 + b"]}" * 3_000, b'{"o":["State",{"no_such_part":null}]}',
    ],
    ids=range(22),
)  # fmt: skip
def test_what_is_no_state_is_refused_and_never_a_traceback(data: bytes) -> None:
    with pytest.raises(Invalid, match="Y1 at state: these bytes"):
        rules.load(data)


def test_a_state_in_another_form_is_refused() -> None:
    data = rules.dump(make.at("opened").state)
    for other in (
        data + b" ",
        b" " + data,
        data.replace(b":", b": ", 1),
        json.dumps(json.loads(data)).encode(),
    ):
        with pytest.raises(Invalid, match="these bytes are not what"):
            rules.load(other)
    twice = _tampered(json.loads(data), ["o", 1, "names"], {"s": [{"t": ["a", "b"]}, {"t": ["a", "b"]}]})
    with pytest.raises(Invalid, match="these bytes are not what"):
        rules.load(twice)


# --- whatever is tried --------------------------------------------------------------------

Draw = Callable[[int], int]


def _pick(draw: Draw, things: list[Any], otherwise: Any) -> Any:
    """One of the newest things, which the way of the money goes on from, or none of them."""
    if not things or not draw(9):
        return otherwise
    return things[-1 - draw(min(len(things), 4))]


def _revenue(log: Log, draw: Draw) -> None:
    fee = city.revenue(log, 1 + draw(400), ("usdt", "kzt")[draw(2)], f"fee {draw(12)}")
    log.add(replace(fee, debit=_pick(draw, sorted(log.state.accounts), fee.debit)) if not draw(6) else fee)


def _rate(log: Log, draw: Draw) -> None:
    log.add(make.usdt_rate(48_000 + draw(8_000), f" {draw(100)}"))


def _allocation(log: Log, draw: Draw) -> None:
    coins = bool(draw(2))
    rate = _pick(draw, list(log.state.rates), ZERO_HASH) if coins else ZERO_HASH
    name = f"a{draw(200)}"
    log.act(make.allocation(log, name, 1 + draw(300), asset="USDT" if coins else "KZT", rate_hash=rate))


def _commitment(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.allocations), digest("none"))
    known = log.state.allocations.get(chosen)
    fitting = f"builder-{known.record.asset.lower()}" if known else "builder-kzt"
    payee = fitting if draw(4) else ("builder-usdt", "builder-kzt", "republic", "bank-kzt")[draw(4)]
    log.act(Commitment(0, f"c{draw(200)}", chosen, payee, 1 + draw(200), digest("contract")))


def _milestone(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.commitments), digest("none"))
    known = log.state.commitments.get(chosen)
    rest = known.record.amount - known.milestones if known else 1
    # Often the whole rest, since only then an order may follow.
    log.act(
        Milestone(0, f"m{draw(200)}", chosen, max(1, rest if draw(3) else draw(200)), digest("milestone"))
    )


def _certificate(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.milestones), digest("none"))
    known = log.state.milestones.get(chosen)
    most = known.record.amount if known else 1
    log.act(
        Certificate(
            0, chosen, most if draw(3) else 1 + draw(most + 1), (1, 1, 1, 1, 0, 2)[draw(6)], digest("survey")
        )
    )


def _order(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.certificates), digest("none"))
    known = log.state.certificates.get(chosen)
    if known is None:
        return
    milestone = log.state.milestones[known.milestone_hash].record
    commitment = log.state.commitments[milestone.commitment_hash].record
    coins = log.state.allocations[commitment.allocation_hash].record.asset == "USDT"
    account = ("treasury-usdt", "bank-kzt")[not coins if draw(5) else coins]
    amount = known.amount + (0 if draw(4) else draw(3))
    log.act(
        Order(
            0, f"o{draw(200)}", milestone.commitment_hash, commitment.allocation_hash, chosen, account, amount,
            commitment.payee if draw(5) else "builder-usdt",
        )
    )  # fmt: skip


def _payment(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.orders), digest("none"))
    order = log.state.orders.get(chosen)
    if order is None:
        return
    asset = log.state.accounts[order.account].record.asset
    log.add(
        Transfer(
            0, digest(f"pay {draw(200)}"), f"spent-water-{asset.lower()}", order.account, asset,
            order.amount + (0 if draw(4) else draw(2)), order.order, chosen, digest(f"pay evidence {draw(200)}"),
        )
    )  # fmt: skip


def _theft(log: Log, draw: Draw) -> None:
    """Any two accounts, any amount, any authority that is there."""
    names = sorted(log.state.accounts)
    hashes = [*log.state.orders, *log.state.proposals, city.rule_hash(log)]
    debit, credit, authority = names[draw(len(names))], names[draw(len(names))], hashes[draw(len(hashes))]
    mark, purpose = draw(1_000), ("order-1", city.CODE)[draw(2)]
    log.add(
        Transfer(
            0, digest(f"theft {mark}"), debit, credit, log.state.accounts[debit].record.asset, 1 + draw(100),
            purpose, authority, digest(f"no evidence {mark}"),
        )
    )  # fmt: skip


def _wait(log: Log, draw: Draw) -> None:
    log.wait(draw(3) * DAY // 4)


def _unmatched(log: Log, draw: Draw) -> None:
    log.add(make.unmatched(log, 1 + draw(100), f"{draw(50)}"))


def _matched(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.receipts), digest("none"))
    given_ = replace(
        make.matched(log, chosen, 1 + draw(120)), id=digest(f"m {draw(99)}"), evidence=digest(f"n {draw(99)}")
    )
    log.add(given_)


def _provided(log: Log, draw: Draw) -> None:
    log.add(make.provided(log, 1 + draw(5_000), f"{draw(50)}"))


def _exchange(log: Log, draw: Draw) -> None:
    rate, owed = log.state.last_rate["USDT"], log.state.accounts["provider-usdt"].balance
    amount = 1 + draw(max(owed, 1) + 1)
    fair = amount * rate.numerator // rate.denominator
    log.add(make.exchanged(log, amount, max(1, fair - fair // 60 + draw(3)), f"{draw(99)}"))


def _refund(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.receipts), digest("none"))
    known = log.state.receipts.get(chosen)
    to = known.refund_to if known and draw(2) else digest("friend")
    log.act(make.refund(chosen, 1 + draw(known.amount + 2 if known else 9), to, f"{draw(99)}"))


def _booking(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.refunds), None)
    if chosen is None:
        return
    of = log.state.receipts[log.state.refunds[chosen].receipt_hash]
    booked = make.refunded(chosen, of, log.state.refunds[chosen].amount + (0 if draw(5) else 1))
    log.add(replace(booked, id=digest(f"b {draw(99)}"), evidence=digest(f"c {draw(99)}")))


def _reversal(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.past.transfers), log.state.size)
    log.act(make.reversal(chosen, f"{draw(99)}"))


def _quarrel(log: Log, draw: Draw) -> None:
    chosen = _pick(draw, list(log.state.commitments), digest("none"))
    if draw(2):
        log.act(Dispute(0, chosen, city.AUDITOR.address, digest(f"dispute {draw(99)}")))
    else:
        log.act(Resolution(0, chosen, draw(3), digest(f"resolution {draw(99)}")))


def _release(log: Log, draw: Draw) -> None:
    log.act(
        Release(0, _pick(draw, list(log.state.commitments), digest("none")), 1 + draw(60), digest("release"))
    )


def _move(log: Log, draw: Draw) -> None:
    known = log.state.allocations.items()
    lines = [named for named, a in known if a.record.block == "lines" or not draw(9)] or [digest("none")]
    log.act(Move(0, lines[-1 - draw(len(lines))], lines[-1 - draw(len(lines))], 1 + draw(60), digest("move")))


def _line(log: Log, draw: Draw) -> None:
    rate = hash_struct(log.state.last_rate["USDT"])
    name = f"l{draw(200)}"
    log.act(make.allocation(log, name, 1 + draw(300), block="lines", asset="USDT", rate_hash=rate))


def _statement(log: Log, draw: Draw) -> None:
    account = ("bank-kzt", "treasury-usdt", "provider-usdt")[draw(3)]
    log.act(make.statement(log, log.now - draw(3), account))


def _half_signed(log: Log, draw: Draw) -> None:
    """A proposal that waits, or the taking back of what it has."""
    waiting = [named for named, p in log.state.proposals.items() if p.effective_s is None and p.approvals]
    chosen = _pick(draw, waiting, None)
    if chosen is None:
        log.approve(log.add(make.investment(1 + draw(9))), COUNCIL[draw(3)])
    elif draw(2):
        log.withdraw(chosen, COUNCIL[draw(3)])
    else:
        log.approve(chosen, COUNCIL[draw(3)])


ACTIONS = [
    _revenue, _revenue, _rate, _allocation, _allocation, _commitment, _commitment, _milestone, _milestone,
    _certificate, _certificate, _order, _order, _order, _payment, _payment, _theft, _wait, _unmatched, _matched,
    _provided, _exchange, _refund, _refund, _booking, _reversal, _quarrel, _order, _payment, _payment, _certificate, _release, _move, _line, _statement, _half_signed,
]  # fmt: skip


class Watched(Log):
    """A log with a second state that was loaded from the first: both must answer alike (Y1)."""

    refused = 0
    twin: rules.State

    def add(self, record: Record) -> bytes:
        kept, size = pickle.dumps(self.state), self.state.size
        other = make.refusal(self.twin, encode(replace(record, time=self.now)))
        try:
            added = super().add(record)
        except Invalid as refused:
            here: Invalid | None = refused
            self.refused += 1
            raise
        else:
            here = None
            return added
        finally:
            # By value: the same state may be other bytes, where two of its members were one object before.
            assert self.state.size == size + (here is None)
            assert here is None or self.state == pickle.loads(kept)
            assert str(here) == str(other)


@functools.cache
def _started() -> bytes:
    log = make.at("works")
    log.act(make.payee("republic", "KZT", digest("iban of 070"), rules.REPUBLIC))
    log.act(make.account("spent-water-kzt", kind=rules.PROJECT, owner=log.state.project_hashes["water-main"]))
    log.act(make.account("payable-kzt", kind=rules.PAYABLE))
    log.act(make.account("provider-usdt", "USDT", kind=rules.PROVIDER))
    log.act(Block(0, "lines", "AUTHORITY", 2026, 2028, 40, ACT))
    for name, value in (("refund_cap", 300), ("exchange_loss", 20)):
        log.act(Parameter(0, name, value, START_S, ACT))
    log.wait(rules.NOTICE_S)
    log.add(make.usdt_rate())
    for asset in ("usdt", "kzt"):
        log.add(replace(city.revenue(log, 500, asset, "first"), refund_to=make.SAID))
    watched = Watched()
    watched.records, watched.state, watched.now = log.records, log.state, log.now
    watched.twin = rules.recall(rules.load(rules.dump(log.state)), log.records)
    return pickle.dumps(watched)


def _start() -> Watched:
    """A city whose money can move; its own one, for each who asks."""
    watched = pickle.loads(_started())
    assert isinstance(watched, Watched)
    return watched


@functools.cache
def _start_replayed() -> tuple[int, bytes]:
    """How many records every such city begins with, and what replay makes of them."""
    log = _start()
    state, findings = rules.replay(log.records)
    assert findings == []
    assert state == log.state == log.twin
    return len(log.records), pickle.dumps(state)


def _exits(state: rules.State) -> tuple[int, ...]:
    return len(state.paid_orders), len(state.booked_refunds), len(state.reversed), sum(state.losses.values())


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2**64)), max_size=60))
def test_whatever_is_tried_the_money_foots_and_the_totals_are_in_order(
    tried: list[tuple[Callable[[Log, Draw], None], int]],
) -> None:
    log = _start()
    for action, seed in tried:
        rest = seed

        def draw(bound: int) -> int:
            nonlocal rest
            rest, drawn = divmod(rest, bound)
            return drawn

        before, exits = retained(log), _exits(log.state)
        with contextlib.suppress(Invalid):
            action(log, draw)
        # RETAINED is lessened by what stands in the list of flows and by nothing else.
        assert retained(log) >= before or _exits(log.state) != exits or action is _exchange
        check_money(log.state)
        check_five_totals(log.state)
        assert sum(log.state.losses.values()) <= 20
        assert sum(log.state.elsewhere.values()) <= 300
    first, start = _start_replayed()
    state, findings = rules.replay(log.records[first:], pickle.loads(start))
    assert findings == []
    assert state == log.state == log.twin
    dumped = rules.dump(state)
    assert rules.recall(rules.load(dumped), log.records) == state
    assert rules.dump(log.twin) == dumped


def test_what_is_tried_at_random_also_gets_somewhere() -> None:
    """The actions above are worth something only if a good part of them is accepted."""
    paid = refused = 0
    reached: set[type[Record]] = set()
    for seed in range(16):
        chance, log = random.Random(seed), _start()
        for _ in range(150):
            with contextlib.suppress(Invalid):
                chance.choice(ACTIONS)(log, chance.randrange)
        check_money(log.state)
        check_five_totals(log.state)
        paid += len(log.state.paid_orders)
        refused += log.refused
        reached |= {type(p.record) for p in log.state.proposals.values() if p.effective_s}
        reached |= {Exchange} if log.state.losses else set()
    assert paid > 5
    assert refused > 100
    assert {Refund, Reversal, Dispute, Resolution, Release, Move, Exchange} <= reached


TRADE = make.at("trade")
_TRADE = pickle.dumps(TRADE)
_HASHES = [
    ZERO_HASH, digest("none"), *TRADE.state.proposals, *TRADE.state.rates, *TRADE.state.receipts, make.SAID,
    address_word(THIEF.address), address_word(city.TREASURY), encode_name(city.CODE),
]  # fmt: skip
_NAMES_KNOWN = sorted(
    {*TRADE.state.accounts, *TRADE.state.assets, *TRADE.state.blocks, *TRADE.state.project_hashes, *rules.FUNDS, *rules.ROLES}
    | {*rules.ACCOUNT_KINDS, *rules.PLACES, *rules.PARAMETERS, *rules.KEYS, city.CODE, "water", "none", "Q1"}
)  # fmt: skip
_KEYS_KNOWN = [*COUNCIL, AUTHORITY, CERTIFIER, city.AUDITOR, city.MASLIKHAT, city.AKIMAT, THIEF, city.PAYEE]
_ADDRESSES: list[Any] = [*(key.address for key in _KEYS_KNOWN), city.TREASURY, ZERO_ADDRESS]
_NUMBERS = st.sampled_from(
    [
        0,
        1,
        2,
        3,
        100,
        1_000,
        2026,
        2027,
        START_S,
        TRADE.now,
        TRADE.now - 1,
        TRADE.now + 1,
        2**63,
        2**64 - 1,
        2**128 - 1,
    ]
) | st.integers(0, 200)


def _member(draw: st.DrawFn, solidity: str, form: str) -> Any:
    pools: dict[str, list[Any]] = {"name": [*_NAMES_KNOWN], "hash": [*_HASHES], "address": _ADDRESSES}
    known = pools.get(form)
    if known is not None:
        return draw(st.sampled_from(known))
    number = draw(_NUMBERS) % (1 << int(solidity.removeprefix("uint")))
    return max(number, 1) if form == "amount" else number


@st.composite
def _any_record(draw: st.DrawFn) -> Record:
    kind = draw(st.sampled_from(KINDS))
    return kind(**{name: _member(draw, solidity, form) for name, solidity, form in kind.members})


@given(st.lists(st.tuples(_any_record(), st.booleans()), max_size=12))
def test_whatever_a_record_says_it_is_taken_or_refused(tried: list[tuple[Record, bool]]) -> None:
    """Everything that is known, in every place, from 0 to 2^128 - 1: Invalid or taken, and never a traceback."""
    log = pickle.loads(_TRADE)
    for record, signs in tried:
        with contextlib.suppress(Invalid):
            named = log.add(record)
            if signs and named in log.state.proposals:
                for key in _KEYS_KNOWN:
                    with contextlib.suppress(Invalid):
                        log.approve(named, key)
    check_money(log.state)
    check_five_totals(log.state)
    rules.overdue(log.state, log.now + 400 * DAY)
    assert rules.recall(rules.load(rules.dump(log.state)), log.records) == log.state


@functools.cache
def _paid() -> tuple[bytes, ...]:
    return tuple(city.paid().records)


@given(st.lists(st.integers(0, 83), min_size=1, max_size=4), st.integers(0, 10_000))
def test_a_record_left_out_repeated_or_bent_never_gives_more_to_spend(places: list[int], bit: int) -> None:
    """Whoever keeps the log may leave out, repeat and bend; invalid records have no effect (G16)."""
    records = list(_paid())
    for place in places:
        records.insert(place, records[min(place + 3, len(records) - 1)])
        bent = bytearray(records[place + 1])
        bent[bit // 8 % len(bent)] ^= 1 << bit % 8
        records[place + 1] = bytes(bent)
    state, findings = rules.replay(records)
    assert findings or tuple(records) == _paid()
    check_money(state)
    check_five_totals(state)
    assert state.size == len(records)


def test_kinds_and_tables_agree() -> None:
    """Every kind of record is handled; what needs no approval is said here, once."""
    assert set(rules._KINDS) | {Approval, Withdrawal} == set(KINDS)
    assert set(KINDS) - set(rules.AUTHOR) == {Rate, Transfer, Exchange, Approval, Withdrawal}
    assert {role for roles in rules.AUTHOR.values() for role in roles} <= rules.ROLES
    assert set(rules.SECTORS) == rules.FUNDS
    assert all(least <= first <= most for least, most, first in rules.PARAMETERS.values())
    assert ZERO_ADDRESS not in {key.address for key in COUNCIL}
    assert {Genesis, Account} <= set(rules.AUTHOR)
    assert hash_struct(make.investment()) not in city.registered().state.proposals
