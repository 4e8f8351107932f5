"""Requirements and leaks as the rules see them, and what holds whatever is tried.

A test_leak_NN gives a thief named powers and lets him try; the thief of the log may write
any record, and has no seat's key but where the test gives it to him. Each refusal also
stands in tests/vectors/rules for other languages.
"""

from __future__ import annotations

import contextlib
import copy
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
    domain_separator,
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
)
from tests.vectors import make

THIEF = Key("thief")
DAY = rules.DAY


def refusal(log: Log, record: Record) -> str:
    """The rule by which the log refuses a record; refusing changes nothing."""
    kept = copy.deepcopy(log.state)
    with pytest.raises(Invalid) as refused:
        log.add(record)
    assert log.state == kept
    return refused.value.rule


def late_refusal(log: Log, record: Record) -> str:
    """The rule by which the last approval of a proposal is refused."""
    approves = log.add(record)
    *most, last = city.SIGNERS[rules.AUTHOR[type(record)]]
    if most:
        log.approve(approves, *most)
    waits = log.state.proposals[approves].record
    return refusal(log, last.approve(log.state.domain, waits, log.now + DAY, log.now))


def retained(log: Log) -> int:
    """All RETAINED money, in base units of all assets."""
    return sum(total.closing for total in rules.totals(log.state) if total.fund == rules.RETAINED)


# --- leaks ------------------------------------------------------------------------------


def test_leak_01_the_logs_keeper_alone_can_propose_and_moves_nothing() -> None:
    log, order = city.certified()
    before = retained(log)
    for proposal in (
        make.project("palace"),
        make.payee("shell"),
        make.allocation(log),
        Block(0, "mine", rules.RETAINED, 2026, 2050, 10**30, ACT),
        Contract(0, "treasury-2", city.CHAIN_ID, THIEF.address, digest("code"), ACT),
    ):
        log.add(proposal)
    order_hash = log.add(order)
    # Nothing that he wrote can be built on.
    assert refusal(log, city.payment(order, order_hash)) == "V4"
    assert "palace" not in log.state.project_hashes
    assert "shell" not in log.state.accounts
    # He cannot sign it himself, nor in another's name.
    forged = make.signed(log, THIEF, log.state.proposals[order_hash].record)
    assert refusal(log, forged) == "A4"
    assert refusal(log, replace(forged, signer=AUTHORITY.address)) == "A6"
    assert refusal(log, replace(order, amount=order.amount + 1)) == "O4"
    assert retained(log) == before


def test_leak_01_the_logs_keeper_cannot_change_who_founded_it() -> None:
    log = city.bound()
    log.add(Seat(0, rules.COUNCIL, THIEF.address, START_S, FOREVER_S, ACT))
    genesis = log.state.genesis
    assert genesis is not None
    for key in [THIEF, *COUNCIL]:
        assert refusal(log, key.approve(log.state.domain, genesis, log.now + DAY, log.now)) == "H3"
    assert not log.state.opened


def test_leak_03_no_time_goes_back_and_none_is_out_of_any_calendar() -> None:
    log = city.registered()
    log.add(make.usdt_rate())
    for time in (log.state.time - 1, 0, START_S):
        back = make.refusal(log.state, encode(replace(make.usdt_rate(mark="b"), time=time)))
        assert back is not None
        assert back.rule == "H2"
    for time in (rules.TIME_LIMIT_S, 2**63, 2**64 - 1):
        for record in (make.usdt_rate(mark="b"), make.allocation(log), city.genesis(city.founding())):
            refused = make.refusal(log.state, encode(replace(record, time=time)))
            assert refused is not None
            assert refused.rule == "H2"


def test_leak_05_a_rate_cannot_be_walked_away_in_one_day() -> None:
    log = city.registered()
    log.add(make.usdt_rate(50_000))
    lowest, numerator = 50_000, 50_000
    # The thief holds the log's key and takes the largest step that is allowed, again and again.
    for step in range(200):
        for cut in (10, 50, 200, 1_000, 10_000):
            cheaper = make.usdt_rate(numerator - numerator // cut, f"{step}-{cut}")
            refused = make.refusal(log.state, encode(replace(cheaper, time=log.now)))
            if refused is None:
                numerator = lowest = cheaper.numerator
                break
            assert refused.rule == "Q2"
        log.wait(60)
    assert lowest >= 45_000
    assert refusal(log, replace(make.usdt_rate(), source1=digest("one"), source2=digest("one"))) == "Q1"


def test_leak_06_a_shell_waits_14_days_and_an_insider_is_never_paid() -> None:
    log = city.registered()
    for insider in (*COUNCIL, AUTHORITY, CERTIFIER, city.AUDITOR, city.OPERATOR):
        assert refusal(log, make.payee("insider", owner=address_word(insider.address))) == "N7"
    for own in (city.TREASURY, city.ANCHOR, city.COUNCIL_CONTRACT):
        assert refusal(log, make.payee("own", owner=address_word(own))) == "N7"
    # A payee cannot take a seat afterwards; a proposal that was there first is checked again.
    seat = log.add(Seat(0, rules.AUDITOR, Key("shell").address, START_S, FOREVER_S, ACT))
    log.act(make.payee("shell"))
    log.approve(seat, *COUNCIL[:2])
    last = make.signed(log, COUNCIL[2], log.state.proposals[seat].record)
    assert refusal(log, last) == "S2"
    log.add(city.revenue(log, asset="kzt", amount=1_000))
    log.act(make.payee("builder-kzt", "KZT", digest("iban builder")))
    hashes = make.contracted(log, "s", 1_000, 1_000)
    certified = log.act(make.certificate(hashes[2], 1_000))
    log.wait(14 * DAY - 1)
    assert refusal(log, make.order(hashes, certified, 1_000)) == "O9"
    log.wait(1)
    log.act(make.order(hashes, certified, 1_000))


def test_leak_07_the_republic_under_another_name_is_still_the_republic() -> None:
    log = make.at("works")
    log.act(make.payee("republic", "KZT", digest("iban of 070"), rules.REPUBLIC))
    assert refusal(log, make.payee("shell", "KZT", digest("iban of 070"))) == "N7"
    # A payee that turns out to be the republic keeps its contract and is paid nothing.
    two, certified = make.named_work(log)
    log.act(make.payee("republic-2", "KZT", digest("iban builder"), rules.REPUBLIC))
    assert refusal(log, make.order(two, certified, 600)) == "G7"


def test_leak_08_revenue_stays_in_the_fund_of_its_code() -> None:
    log = city.registered()
    log.act(make.account("bank-local", fund="MUNICIPAL"))
    log.act(make.account("bank-held", fund=rules.CUSTODY))
    fee = city.revenue(log, asset="kzt")
    for debit in ("bank-local", "bank-held"):
        assert refusal(log, replace(fee, debit=debit)) == "M5"
    assert (
        refusal(
            log, make.account("fees-m", fund="MUNICIPAL", kind=rules.REVENUE, owner=encode_name(city.CODE))
        )
        == "N5"
    )
    for fund, rule in ((rules.CUSTODY, "N2"), ("SALE", "N2")):
        assert refusal(log, RevenueRule(0, "108126", fund, 10_000, START_S, ACT)) == rule
    assert refusal(log, replace(fee, purpose="sale")) == "V1"


def test_leak_09_costs_are_never_netted_from_revenue() -> None:
    log = make.at("works")
    log.act(make.account("spent-kzt", kind=rules.PROJECT, owner=log.state.project_hashes["water-main"]))
    fee = city.revenue(log, asset="kzt", mark="2")
    assert refusal(log, replace(fee, debit="spent-kzt")) == "M4"
    assert refusal(log, replace(fee, debit="builder-kzt")) == "M4"


def test_leak_10_no_flow_lends_pledges_deposits_or_moves_to_an_own_account() -> None:
    log = make.at("works")
    for kind in ("loan", "deposit", "pledge", "bond"):
        assert refusal(log, make.account("lent", kind=kind)) == "N2"
    log.act(make.account("bank-two"))
    log.act(make.account("bank-authority", fund="AUTHORITY"))
    move = replace(city.revenue(log, asset="kzt", mark="2"), credit="bank-kzt")
    for debit in ("bank-two", "bank-authority", "builder-kzt"):
        assert refusal(log, replace(move, debit=debit)) == "M4"
    assert refusal(log, replace(move, debit="bank-kzt")) == "M1"
    assert refusal(log, replace(move, debit="cash-box")) == "M1"


def test_leak_14_a_minority_an_expired_seat_or_one_hand_cannot_act() -> None:
    log = city.registered()
    # Two members and a stranger are no quorum, and the floor of three cannot be lowered.
    road = log.add(make.project())
    log.approve(road, *COUNCIL[:2])
    assert log.state.proposals[road].effective_s is None
    assert refusal(log, Quorum(0, rules.COUNCIL, 2, ACT)) == "S4"
    # One holder has one role, whatever the Council says.
    for role in (rules.AUTHORITY, rules.CERTIFIER, rules.AUDITOR, "watcher"):
        assert refusal(log, Seat(0, role, COUNCIL[0].address, START_S, FOREVER_S, ACT)) == "S2"
    # A captured Council seats four more: none of them counts for 14 days, whatever start they write.
    friends = [Key(f"friend {n}") for n in range(4)]
    for friend in friends:
        log.act(Seat(0, rules.COUNCIL, friend.address, 0, FOREVER_S, ACT))
    log.wait(rules.NOTICE_S - 1)
    waits = log.state.proposals[log.add(make.investment())].record
    assert refusal(log, make.signed(log, friends[0], waits)) == "A4"
    # Then nine are seated and five must sign.
    log.wait(1)
    assert rules.required(log.state, rules.COUNCIL, log.now) == 5


def test_leak_14_approvals_of_seats_and_deadlines_that_are_over_no_longer_count() -> None:
    log = city.registered()
    start = log.now + rules.NOTICE_S
    guest = Key("guest")
    log.act(Seat(0, rules.COUNCIL, guest.address, 0, start + 10, ACT))
    log.wait(rules.NOTICE_S)
    road = log.add(make.project())
    log.approve(road, guest)
    log.approve(road, COUNCIL[0], valid_until=start + 20)
    log.wait(10)  # the guest's term is over
    log.approve(road, COUNCIL[1], COUNCIL[2])
    assert log.state.proposals[road].effective_s == log.now  # three of five; the guest is none of them
    dam = log.add(make.project("dam"))
    log.approve(dam, COUNCIL[0], valid_until=log.now + 5)
    log.wait(6)
    log.approve(dam, COUNCIL[1], COUNCIL[2])
    assert log.state.proposals[dam].effective_s is None  # the first deadline has passed
    log.approve(dam, COUNCIL[3])
    assert log.state.proposals[dam].effective_s == log.now


def test_leak_14_a_term_is_cut_with_notice_only_and_a_past_start_gives_nothing() -> None:
    log = city.registered()
    log.act(Seat(0, rules.COUNCIL, COUNCIL[4].address, 0, 1, ACT))
    assert rules.is_seated(log.state, COUNCIL[4].address, rules.COUNCIL, log.now + rules.NOTICE_S - 1)
    assert not rules.is_seated(log.state, COUNCIL[4].address, rules.COUNCIL, log.now + rules.NOTICE_S)
    # A later start leaves the old term as it is; an overlapping one adds nothing before its notice.
    log.act(Seat(0, rules.COUNCIL, COUNCIL[3].address, log.now + 100 * DAY, log.now + 200 * DAY, ACT))
    for days, seated in ((99, True), (100, True), (199, True), (200, False), (300, False)):
        assert rules.is_seated(log.state, COUNCIL[3].address, rules.COUNCIL, log.now + days * DAY) == seated


def test_leak_15_a_parameter_stays_in_its_bounds_and_waits_14_days() -> None:
    log = city.registered()
    for name, (least, most, _) in rules.PARAMETERS.items():
        for value in {least - 1, most + 1} - {-1}:
            assert refusal(log, Parameter(0, name, value, START_S, ACT)) == "S5"
        log.act(Parameter(0, name, most, 0, ACT))
        assert rules.parameter(log.state, name, log.now + rules.NOTICE_S) == most
    # No parameter, no second Genesis and nothing else moves the end of retention.
    assert refusal(log, Parameter(0, "retention_end", 0, START_S, ACT)) == "S5"
    assert refusal(log, replace(city.genesis(city.founding()), retention_end=log.now + 1)) == "H1"
    before = city.registered()
    before.act(Parameter(0, "rate_band", 1, 0, ACT))
    assert rules.parameter(before.state, "rate_band", before.now + rules.NOTICE_S - 1) == 1_000
    assert rules.parameter(before.state, "rate_band", before.now + rules.NOTICE_S) == 1


def test_leak_16_another_asset_does_not_stretch_the_limit() -> None:
    log = city.registered()
    log.act(make.project("well", "water", limit=100))
    well = log.state.project_hashes["well"]
    rate = log.add(Rate(0, "USDT", 51_234, 1_000_000, digest("s 1"), digest("s 2")))
    coins = Allocation(0, "a", "block-2026", well, "USDT", 1_951, rate, ACT)  # 99.96 tiyn
    assert refusal(log, replace(coins, amount=1_952)) == "B4"
    # One base unit is a twentieth of a tiyn, and is counted as a whole one each time.
    for part in range(100):
        log.act(replace(coins, allocation=f"a{part}", amount=1))
    assert refusal(log, replace(coins, amount=1)) == "B4"
    assert log.state.projects[well].allotted == 100
    log.wait(DAY + 1)
    assert refusal(log, replace(coins, amount=1)) == "B3"


def test_leak_17_an_order_cannot_be_split_or_given_twice() -> None:
    log, order, _ = city.ordered()
    for amount in (1, order.amount // 2, order.amount + 1):
        assert refusal(log, replace(order, order="split", amount=amount)) == "O4"
    assert refusal(log, replace(order, order="again")) == "O7"


def test_leak_18_the_treasury_is_the_registered_contract_and_stays_it() -> None:
    log = city.registered()
    fake = Contract(0, "treasury", city.CHAIN_ID, THIEF.address, digest("code"), ACT)
    assert refusal(log, fake) == "N1"
    log.act(replace(fake, name="treasury-2"))
    owned = make.account("chain-2", "USDT", kind="chain", owner=address_word(THIEF.address))
    assert refusal(log, owned) == "N4"
    # A payee's or a member's address is no contract of the city.
    for other in (city.PAYEE_ADDRESS, COUNCIL[0].address):
        assert refusal(log, replace(fake, name="treasury-3", at=other)) == "N7"


def test_leak_24_a_signature_is_good_for_one_ledger_chain_and_council() -> None:
    log = city.registered()
    genesis = log.state.genesis
    assert genesis is not None
    waits = log.state.proposals[log.add(make.investment())].record
    for domain in (
        domain_separator(1, genesis.council, genesis.ledger),
        domain_separator(city.CHAIN_ID, THIEF.address, genesis.ledger),
        domain_separator(city.CHAIN_ID, genesis.council, digest("other")),
    ):
        assert refusal(log, make.signed(log, COUNCIL[0], waits, domain)) == "A6"
    good = make.signed(log, COUNCIL[0], waits)
    log.wait(DAY + 1)
    assert refusal(log, good) == "A3"
    log.wait(-1)
    log.add(good)
    assert refusal(log, good) == "A5"


def test_leak_25_limits_are_checked_again_when_the_last_approval_arrives() -> None:
    log = city.registered()
    first = log.add(make.allocation(log, "first", 6 * 10**12))
    second = make.allocation(log, "second", 6 * 10**12)
    second_hash = log.add(second)
    log.approve(second_hash, *COUNCIL[:2])
    log.approve(first)
    last = make.signed(log, COUNCIL[2], log.state.proposals[second_hash].record)
    assert refusal(log, last) == "B4"
    assert log.state.proposals[second_hash].effective_s is None


# --- requirements -----------------------------------------------------------------------


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


def test_g4_who_orders_who_certifies_and_who_approves_are_different_keys() -> None:
    log, _, _ = city.ordered()
    # The same key cannot have signed twice along the way of one payment, since it has one role for ever.
    by_role: dict[str, set[bytes]] = {}
    for proposal in log.state.proposals.values():
        by_role.setdefault(rules.AUTHOR[type(proposal.record)], set()).update(proposal.approvals)
    signers = [by_role[role] for role in (rules.COUNCIL, rules.AUTHORITY, rules.CERTIFIER)]
    assert all(signers)
    assert sum(map(len, signers)) == len(set().union(*signers))


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


def check_five_totals(state: rules.State) -> None:
    """Approved, allotted, committed, certified, paid: each at most the one before (G10)."""
    for project in state.projects.values():
        totals = [project.record.limit, project.allotted, project.committed, project.certified, project.paid]
        assert totals == sorted(totals, reverse=True), project
        assert project.paid >= 0
    for allocation in state.allocations.values():
        units = [
            allocation.record.amount,
            allocation.committed,
            allocation.certified,
            allocation.ordered,
            allocation.paid,
        ]
        assert units == sorted(units, reverse=True), allocation


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


def check_money(state: rules.State) -> None:
    """No account of money is below zero, debits equal credits, and the totals foot (G15)."""
    assert all(a.balance >= 0 for a in state.accounts.values() if a.record.kind in rules.MONEY)
    assert all(0 <= a.reserved <= max(a.balance, 0) for a in state.accounts.values())
    for asset in state.assets:
        assert sum(a.balance for a in state.accounts.values() if a.record.asset == asset) == 0
    for total in rules.totals(state):
        assert total.revenue - total.paid == total.closing == total.committed_unpaid + total.free
        assert min(total.revenue, total.paid, total.closing, total.committed_unpaid) >= 0


def test_g15_what_came_in_less_what_was_paid_is_what_is_there() -> None:
    log = city.paid()
    check_money(log.state)
    (kzt, usdt) = rules.totals(log.state)
    assert (kzt.asset, kzt.revenue, kzt.closing) == ("KZT", 0, 0)
    assert (usdt.revenue, usdt.paid, usdt.closing, usdt.committed_unpaid, usdt.free) == (
        50_000_000, 40_000_000, 10_000_000, 0, 10_000_000,
    )  # fmt: skip


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
    state.size = clean.size
    assert state == clean


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


ACTIONS = [
    _revenue, _revenue, _rate, _allocation, _allocation, _commitment, _commitment, _milestone, _milestone,
    _certificate, _certificate, _order, _order, _order, _payment, _payment, _theft, _wait,
]  # fmt: skip


class Watched(Log):
    """A log that sees to it that what is refused has changed nothing."""

    refused = 0

    def add(self, record: Record) -> bytes:
        kept = copy.deepcopy(self.state)
        try:
            return super().add(record)
        except Invalid:
            assert self.state == kept
            self.refused += 1
            raise


def _start() -> Watched:
    log = make.at("registered")
    log.act(make.payee("builder-kzt", "KZT", digest("iban builder")))
    log.act(make.payee("republic", "KZT", digest("iban of 070"), rules.REPUBLIC))
    log.act(make.account("spent-water-kzt", kind=rules.PROJECT, owner=log.state.project_hashes["water-main"]))
    log.wait(rules.NOTICE_S)
    log.add(make.usdt_rate())
    for asset in ("usdt", "kzt"):
        log.add(city.revenue(log, 500, asset, "first"))
    watched = Watched()
    watched.records, watched.state, watched.now = log.records, log.state, log.now
    return watched


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

        before = retained(log)
        paid = len(log.state.paid_orders)
        with contextlib.suppress(Invalid):
            action(log, draw)
        # RETAINED is lessened by the payment of an order and by nothing else.
        assert retained(log) >= before or len(log.state.paid_orders) == paid + 1
        check_money(log.state)
        check_five_totals(log.state)
    state, findings = rules.replay(log.records)
    assert findings == []
    assert state == log.state


def test_what_is_tried_at_random_also_gets_somewhere() -> None:
    """The actions above are worth something only if a good part of them is accepted."""
    paid = refused = 0
    for seed in range(8):
        chance, log = random.Random(seed), _start()
        for _ in range(120):
            try:
                chance.choice(ACTIONS)(log, chance.randrange)
            except Invalid:
                continue
        check_money(log.state)
        check_five_totals(log.state)
        paid += len(log.state.paid_orders)
        refused += log.refused
    assert paid > 5
    assert refused > 100


@given(st.lists(st.integers(0, 83), min_size=1, max_size=4), st.integers(0, 10_000))
def test_a_record_left_out_repeated_or_bent_never_gives_more_to_spend(places: list[int], bit: int) -> None:
    """Whoever keeps the log may leave out, repeat and bend; invalid records have no effect (G16)."""
    records = city.paid().records
    for place in places:
        records.insert(place, records[min(place + 3, len(records) - 1)])
        bent = bytearray(records[place + 1])
        bent[bit // 8 % len(bent)] ^= 1 << bit % 8
        records[place + 1] = bytes(bent)
    state, findings = rules.replay(records)
    assert findings or records == city.paid().records
    check_money(state)
    check_five_totals(state)
    assert state.size == len(records)


def test_kinds_and_tables_agree() -> None:
    """Every kind of record is handled; what needs no approval is said here, once."""
    assert set(rules._KINDS) | {Approval} == set(KINDS)
    assert set(KINDS) - set(rules.AUTHOR) == {Rate, Transfer, Approval}
    assert set(rules.AUTHOR.values()) <= rules.ROLES
    assert set(rules.SECTORS) == rules.FUNDS
    assert all(least <= first <= most for least, most, first in rules.PARAMETERS.values())
    assert ZERO_ADDRESS not in {key.address for key in COUNCIL}
    assert {Genesis, Account} <= set(rules.AUTHOR)
    assert hash_struct(make.investment()) not in city.registered().state.proposals
