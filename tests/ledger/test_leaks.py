"""The 26 ways by which kept money could go elsewhere (LEAKS), each as far as the rules see it.

A thief holds the powers that a test names: the log's key (he may write any record, in any order), a seat, two
seats, a provider, a payee. Each refusal also stands in tests/vectors/rules for other languages.

What stops a leak elsewhere, and the test of it:

- 02, a stolen anchor key: contracts/test/LedgerAnchor.t.sol (an operator and a watcher in time; only an extension);
  going on from a named earlier head, by act and notice: N10 here, the rest in test_audit_chain.py.
- 03, the year 2050 in one record: here the order of time, and that an audit names it; the writer refuses it and does not
  believe its own clock in test_writer_clock.py; more of T3 in test_audit.py, the contract in contracts/test/LedgerAnchor.t.sol.
- 05, a made-up rate: here the band, also after silence; made again from its two documents in test_audit_rates.py.
- 08, revenue booked as something else: here the funds and custody, which test_custody.py has audited; the least city share
  in contracts/test/PaymentRouter.t.sol.
- 11, a forged or hidden statement: here L1, L2 and overdue(); the auditor's own copy in test_audit_statement.py.
- 17, orders flooded: here once, to the unit and a day's part; the delay and the day's payments in
  contracts/test/Treasury.t.sol and Dispute.t.sol.
- 18, a swapped Treasury or Router: here the register; the code on the chain in test_audit_chain.py.
- 19, rules relaxed in the code: here who may say it; the comparison in test_audit.py (D11).
- 20, a tenge receipt never recorded: test_audit_promises.py, and tests/gateway/test_promises.py from the bank's file on.
- 21, a merchant's pay-out address swapped: tests/gateway; merchants are no records.
- 22, two chains with two heads: test_leaks_outside.py, and test_anchor.py on two nodes.
- 23, a successor contract: test_leaks_outside.py; contracts/src/Treasury.sol has no function that migrates.
- 26, a breach among thousands: here that it stays for ever; weights and floods in test_audit_report.py.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from ledger import rules
from ledger.audit import Wanted, audit
from ledger.records import (
    Acknowledgement,
    Allocation,
    Block,
    Contract,
    Exchange,
    Invalid,
    Move,
    Parameter,
    Quorum,
    Rate,
    Record,
    RevenueRule,
    Rules,
    Seat,
    address_word,
    domain_separator,
    encode,
    encode_name,
    hash_struct,
)
from tests import bundles, city
from tests.city import (
    ACT,
    AUTHORITY,
    CERTIFIER,
    COUNCIL,
    FOREVER_S,
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


def test_leak_03_a_record_stamped_2050_in_a_finished_bundle_is_named_with_both_times(tmp_path: Path) -> None:
    log = city.paid()
    honest = bundles.write(tmp_path / "honest", log)
    wanted = Wanted(sources_unavailable=True)
    assert audit(honest.folder, wanted=wanted).findings == []
    # The thief holds the keys of the log, the watcher and the anchor, and the rules alone have no clock.
    anchored = bundles.anchors(log.records)
    log.wait(city.RETENTION_END_S - log.now)
    log.add(make.usdt_rate(mark="2050"))
    place = len(log.records) - 1
    covering = int(anchored[-1]["time"]) + 60
    anchored.append(bundles.anchor(log.records, place + 1, time=str(covering)))
    named = [
        one
        for one in audit(bundles.write(tmp_path / "stamped", log, anchored=anchored).folder).findings
        if one.rule == "T3"
    ]
    assert [one.where for one in named] == [f"record {place}"]
    assert str(city.RETENTION_END_S) in named[0].why
    assert str(covering) in named[0].why


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


# How long no rate was recorded, and the least that 50,000 may then become: a tenth for each day begun.
SILENCES = [
    (0, 45_000), (DAY, 45_000), (DAY + 1, 40_000), (2 * DAY, 40_000), (3 * DAY, 35_000), (3 * DAY + 1, 30_000),
    (4 * DAY + 1, 25_000), (30 * DAY, 25_000), (rules.RECOVERY_S, 25_000),
]  # fmt: skip


@pytest.mark.parametrize(("silent_s", "lowest"), SILENCES)
def test_leak_05_silence_takes_the_band_from_no_rate(silent_s: int, lowest: int) -> None:
    """The thief holds the log's key: he records no rate for as long as he likes, and then what he likes."""
    for least, edge in ((lowest, lowest - 1), (100_000 - lowest, 100_001 - lowest)):
        log = city.registered()
        log.add(make.usdt_rate(50_000))
        log.wait(silent_s)
        for silly in (edge, 50 if edge < least else 50_000_000, 1 if edge < least else 2**128 - 1):
            assert refusal(log, make.usdt_rate(silly)) == "Q2"
        log.add(make.usdt_rate(least))
        # It is the first of a day of its own, and binds both ways at once.
        assert refusal(log, make.usdt_rate(50 if edge < least else 50_000_000)) == "Q2"


def test_leak_05_the_band_of_silence_is_the_parameters_and_at_most_half() -> None:
    for band, days, most in ((1, 3, 3), (1, 180, 180), (2_000, 2, 4_000), (2_000, 3, 5_000)):
        log = make.at_with(Parameter(0, "rate_band", band, START_S, ACT))
        log.wait(rules.NOTICE_S)
        log.add(make.usdt_rate(50_000))
        log.wait(days * DAY)
        assert refusal(log, make.usdt_rate(50_000 - 5 * most - 1)) == "Q2"
        log.add(make.usdt_rate(50_000 - 5 * most))


def test_leak_05_after_half_a_year_in_public_a_series_begins_anew_and_is_bound_again() -> None:
    log = city.registered()
    log.add(make.usdt_rate(50_000))
    log.wait(rules.RECOVERY_S)
    assert refusal(log, make.usdt_rate(10_000)) == "Q2"
    log.wait(1)
    log.add(make.usdt_rate(10_000))
    for back in (50_000, 11_001, 8_999):
        assert refusal(log, make.usdt_rate(back)) == "Q2"
    log.wait(DAY)
    assert refusal(log, make.usdt_rate(11_001)) == "Q2"
    log.add(make.usdt_rate(11_000, "b"))


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


def test_leak_16_a_rate_after_a_day_of_silence_does_not_stretch_the_limit() -> None:
    """The log's key and a deceived Council: 100 USDT, which are 50,000 tenge, counted as 100 tiyn."""
    log = city.registered()
    log.act(make.project("well", "water", limit=100))
    well = log.state.project_hashes["well"]
    log.add(make.usdt_rate(50_000))
    log.wait(DAY + 1)
    silly = Rate(log.now, "USDT", 1, 1_000_000, digest("s 1"), digest("s 2"))
    assert refusal(log, silly) == "Q2"
    coins = Allocation(0, "a", "block-2026", well, "USDT", 100_000_000, hash_struct(silly), ACT)
    assert refusal(log, coins) == "B3"
    lowest = log.add(make.usdt_rate(40_000))
    assert refusal(log, replace(coins, rate_hash=lowest)) == "B4"
    # 2,500 base units are 125 tiyn at the true rate: what the band leaves, and nothing beyond it.
    assert refusal(log, replace(coins, rate_hash=lowest, amount=2_501)) == "B4"
    log.act(replace(coins, rate_hash=lowest, amount=2_500))


def test_leak_17_an_order_cannot_be_split_or_given_twice() -> None:
    log, order, _ = city.ordered()
    for amount in (1, order.amount // 2, order.amount + 1):
        assert refusal(log, replace(order, order="split", amount=amount)) == "O4"
    assert refusal(log, replace(order, order="again")) == "O7"


def test_leak_17_of_a_commitment_a_day_takes_one_order_and_then_only_its_part() -> None:
    """Authority, certifier and log's key together: everything that is certified is ordered, again and again."""
    log = make.at("works")
    split = make.contracted(log, "flood", 1_000, 600, *[50] * 8)
    certified = [log.act(make.certificate(split[2], 600))]
    certified += [log.act(make.certificate(milestone, 50)) for milestone in split[3:]]
    ordered: dict[int, int] = {}
    for _ in range(4):
        log.wait(DAY)
        for number, certificate in enumerate(certified):
            amount = 600 if number == 0 else 50
            with contextlib.suppress(Invalid):
                log.act(make.order(split, certificate, amount, f"order-{number}"))
                ordered[log.now // DAY] = ordered.get(log.now // DAY, 0) + amount
    # The largest went alone on its day; what was left went in parts of at most half of the contract a day.
    assert list(ordered.values()) == [600, 400]
    # Less in a day is an act of the Council, with its notice and inside its bounds.
    assert refusal(log, Parameter(0, "commitment_day_cap", 99, START_S, ACT)) == "S5"


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


# --- exchanges: the log's key and a provider --------------------------------------------


def _washed(log: Log, amounts: tuple[int, ...]) -> Fraction:
    """Exchange for as little as the rules take, again and again; returns what that lost, in tiyn."""
    lost = Fraction(0)
    for number in range(60):
        amount = amounts[number % len(amounts)]
        rate = log.state.last_rate["USDT"]
        fair = Fraction(amount * rate.numerator, rate.denominator)
        for came in range(int(fair) * 97 // 100, int(fair) + 2):
            with contextlib.suppress(Invalid):
                log.add(make.exchanged(log, amount, max(came, 1), f"{log.state.size}"))
                lost += fair - max(came, 1)
                break
    return lost


@pytest.mark.parametrize("amounts", [(39,), (1, 59, 61), (10_000,), (19, 100_000, 333)])
def test_leak_04_washing_through_exchanges_loses_no_more_than_a_year_may(amounts: tuple[int, ...]) -> None:
    log = make.at_with(Parameter(0, "exchange_loss", 40, START_S, ACT), stage="trade")
    log.wait(rules.NOTICE_S)
    log.add(make.usdt_rate(50_000, "c"))
    assert _washed(log, amounts) <= 40
    assert log.state.losses[2026] <= 40


def test_leak_04_a_new_year_gives_one_more_cap_and_not_more() -> None:
    log = make.at_with(Parameter(0, "exchange_loss", 20, START_S, ACT), stage="trade")
    log.now = 1_798_743_600 - 1  # the last second of 2026 in Alatau
    log.add(make.usdt_rate(50_000, "c"))
    lost = _washed(log, (10_000,))
    assert 0 < lost <= 20
    log.wait(1)
    assert 0 < _washed(log, (10_000,)) <= 20


def test_leak_04_the_lowest_rate_of_the_day_hides_no_loss() -> None:
    log = make.at("trade")
    low = make.exchanged(log, came=49_000)
    log.add(make.usdt_rate(54_000, "high"))
    assert refusal(log, low) == "Q4"
    assert refusal(log, replace(low, rate_hash=hash_struct(log.state.last_rate["USDT"]))) == "Q4"


def test_leak_04_a_provider_that_waits_for_a_day_without_a_rate_pays_what_it_owes() -> None:
    """The log's key and a provider: silence, then a coin for almost nothing, then all that is owed at once."""
    log = make.at("trade")
    owed = log.state.accounts["provider-usdt"].balance
    log.wait(DAY + 1)
    assert refusal(log, make.usdt_rate(50, "silly")) == "Q2"
    assert refusal(log, make.exchanged(log, owed, 50)) == "Q4"  # there is no fresh rate
    # Whatever rate he may record, the provider pays what two days' bands and the exchange's own leave.
    log.add(make.usdt_rate(40_000, "lowest"))
    for less in (50, 39_199):
        assert refusal(log, make.exchanged(log, owed, less)) == "Q4"
    log.add(make.exchanged(log, owed, 39_200))
    assert log.state.losses == {2026: 800}


def test_leak_04_what_a_provider_owes_is_capped_and_three_days_old_at_most() -> None:
    log = make.at("trade")
    cap = rules.parameter(log.state, "provider_cap", log.now)
    most = cap * 20 - log.state.accounts["provider-usdt"].balance
    assert refusal(log, make.provided(log, most + 1, "more")) == "Q6"
    assert rules.overdue(log.state, log.now + rules.PROVIDER_S) == []
    late = rules.overdue(log.state, log.now + rules.PROVIDER_S + 1)
    assert [(finding.rule, finding.where) for finding in late] == [("Q6", "account provider-usdt")]
    log.wait(rules.PROVIDER_S + 1)
    assert refusal(log, make.provided(log, 1, "late")) == "Q6"
    # Leaving a coin owed does not make the debt a new one.
    log.add(make.usdt_rate(50_000, "c"))
    log.add(make.exchanged(log, 999_980, 49_999))
    assert refusal(log, make.provided(log, 1, "late")) == "Q6"
    log.add(make.exchanged(log, 20, 1, "2"))
    log.add(make.provided(log, 1, "late"))
    # Nothing is paid from what is owed, and no second name doubles the cap.
    two, certified = make.named_work(log)
    assert refusal(log, replace(make.order(two, certified, 600), account="provider-usdt")) == "O5"
    owner = log.state.accounts["provider-usdt"].record.owner
    assert refusal(log, make.account("provider-b", "USDT", kind=rules.PROVIDER, owner=owner)) == "N2"


def test_leak_05_an_exchange_cannot_choose_its_rate() -> None:
    log = make.at("trade")
    made_up = Exchange(0, digest("x"), "provider-usdt", "bank-kzt", 1_000_000, 1, digest("rate"), digest("e"))
    assert refusal(log, made_up) == "Q4"
    assert refusal(log, replace(made_up, rate_hash=hash_struct(log.state.last_rate["USDT"]))) == "Q4"


def test_leak_07_no_refund_goes_to_the_republic_either() -> None:
    log = make.at("trade")
    known = make.receipts(log)
    waits = log.add(make.refund(known["said"], 1_000))
    log.act(make.payee("republic", "KZT", make.SAID, rules.REPUBLIC))
    assert refusal(log, make.signed(log, AUTHORITY, log.state.proposals[waits].record)) == "G7"
    assert refusal(log, make.refund(known["unmatched 1"], 500)) == "G7"


def test_leak_08_what_is_parked_as_unmatched_stays_retained_and_is_named_after_a_year() -> None:
    log = make.at("trade")
    before = retained(log)
    log.add(make.unmatched(log, 700, "parked"))
    assert retained(log) == before + 700
    log.act(make.account("payable-local", fund="MUNICIPAL", kind=rules.PAYABLE))
    log.act(make.account("payable-two", kind=rules.PAYABLE))
    parked = make.unmatched(log, 700, "parked again")
    assert refusal(log, replace(parked, credit="payable-local")) == "M5"
    for debit, credit in (
        ("payable-two", "payable-kzt"),
        ("spent-kzt", "payable-kzt"),
        ("bank-kzt", "bank-kzt"),
    ):
        assert refusal(log, replace(parked, debit=debit, credit=credit)) in {"M1", "M4"}
    known = make.receipts(log)
    log.add(make.matched(log, known["unmatched 1"]))
    log.wait(rules.UNMATCHED_S + 1)
    assert refusal(log, make.refund(known["unmatched other"], 300)) == "F5"
    named = [str(finding) for finding in rules.overdue(log.state, log.now) if finding.rule == "F5"]
    assert len(named) == 1
    assert "1000 is unmatched" in named[0]  # 300 and 700; what was matched is not
    # It still becomes its code's.
    log.add(replace(make.matched(log, known["unmatched other"], 300), id=digest("m"), evidence=digest("m e")))


def test_leak_08_others_money_in_custody_goes_back_however_late_and_becomes_nobodys() -> None:
    """Everybody together, and a year of waiting: others' money is sent back or stands where it is."""
    log, receipt = make.in_custody()
    came = log.state.receipts[receipt]
    log.wait(10 * 365 * DAY)
    taken = replace(make.matched(log, receipt, 400), debit="payable-held")
    assert refusal(log, taken) == "M5"
    assert refusal(log, RevenueRule(0, "108126", rules.CUSTODY, 10_000, START_S, ACT)) == "N2"
    for debit in ("bank-kzt", "spent-kzt", "fees-kzt", "payable-kzt"):
        assert refusal(log, replace(taken, debit=debit, credit="bank-held")) in {"M4", "F3", "V4"}
    # The same year for the city's own is over; for others' money there is none.
    assert refusal(log, make.refund(make.receipts(log)["unmatched 1"], 500)) == "F5"
    going = log.act(make.refund(receipt, 400))
    log.add(make.refunded(going, came, 400))
    assert log.state.accounts["bank-held"].balance == log.state.accounts["payable-held"].balance == 0
    assert refusal(log, make.refund(receipt, 1, mark="2")) == "F1"


def _in_custody_too_long(log: Log, now: int) -> list[str]:
    late = rules.overdue(log.state, now)
    return [found.why for found in late if (found.rule, found.where) == ("F5", "account payable-held")]


def test_leak_08_custody_nets_to_zero_for_each_receipt_within_30_days_or_is_named() -> None:
    log, receipt = make.in_custody()
    came = log.state.receipts[receipt]
    last = came.time + rules.CUSTODY_S
    assert _in_custody_too_long(log, last) == []
    named = f"400 of others' money is in custody for more than {30 * DAY} s before {last + 1}"
    assert _in_custody_too_long(log, last + 1) == [named]
    # What came later hides nothing, and is named when its own days are over.
    log.wait(10 * DAY)
    later = log.add(make.held(log, 1_000, "later"))
    assert _in_custody_too_long(log, last + 1) == [named]
    assert "1400 of" in _in_custody_too_long(log, log.now + rules.CUSTODY_S + 1)[0]
    # Signed is not sent: until the bank has paid it stands, and a part that went is no longer counted.
    first = log.act(make.refund(receipt, 150))
    second = log.act(make.refund(receipt, 250, mark="2"))
    assert _in_custody_too_long(log, last + 1) == [named]
    log.add(make.refunded(first, came, 150))
    assert "250 of" in _in_custody_too_long(log, last + 1)[0]
    gone = make.refunded(second, came, 250)
    log.add(replace(gone, id=digest("gone"), evidence=digest("gone e")))
    young = log.add(make.held(log, 70, "young"))
    log.act(make.refund(young, 70, mark="young"))
    assert _in_custody_too_long(log, last + 1) == []
    assert "1070 of" in _in_custody_too_long(log, log.now + rules.CUSTODY_S + 1)[0]
    # What the bank took back is not there any more either.
    log.act(make.reversal(make.place(log, "evidence kzt unmatched later")))
    assert later not in log.state.unmatched
    assert "70 of" in _in_custody_too_long(log, log.now + 365 * DAY)[0]


def test_leak_10_a_provider_owes_no_tenge_and_a_bank_lends_nothing() -> None:
    log = make.at("trade")
    assert refusal(log, make.account("loan", kind=rules.PROVIDER)) == "N2"
    out = make.exchanged(log)
    assert refusal(log, replace(out, from_account="bank-kzt", to_account="provider-usdt")) == "Q3"
    assert refusal(log, replace(out, to_account="payable-kzt")) == "Q3"


def test_leak_11_statements_follow_one_another_and_a_missing_one_is_named() -> None:
    log = make.at("trade")
    first = log.state.accounts["bank-kzt"].history[0][0]
    for seconds, named in ((0, []), (1, ["account bank-kzt"])):
        found = rules.overdue(log.state, first + rules.STATEMENT_S + seconds)
        assert [finding.where for finding in found if finding.rule == "L1"] == named
    log.wait(1)
    told = make.statement(log, log.now - 1)
    for closing in (told.closing - 1, told.closing + 1, 0):
        assert refusal(log, replace(told, closing=closing)) == "L2"
    # The thief of the log cannot say it himself, and what comes later falls into the next one.
    waits = log.add(told)
    assert refusal(log, make.signed(log, AUTHORITY, log.state.proposals[waits].record)) == "A4"
    log.approve(waits)
    assert log.state.accounts["bank-kzt"].history == []
    log.add(make.unmatched(log, 40, "late"))
    log.wait(1)
    assert refusal(log, replace(told, as_of=log.now - 1)) == "L1"
    log.act(make.statement(log, log.now - 1))
    assert log.state.accounts["bank-kzt"].stated == told.closing + 40


# --- refunds and reversals: the Authority, the Auditor, both -----------------------------


def test_leak_12_one_seat_sends_money_only_to_where_the_payer_said() -> None:
    log = make.at("trade")
    known = make.receipts(log)
    friend = log.add(make.refund(known["said"], 1_000, digest("friend")))
    for alone in (AUTHORITY, city.AUDITOR):
        one = copy.deepcopy(log)
        one.approve(friend, alone)
        assert one.state.proposals[friend].effective_s is None
        said = one.state.receipts[known["said"]]
        assert refusal(one, make.refunded(friend, said, 1_000)) == "F3"
    for stranger in (THIEF, CERTIFIER, COUNCIL[0], city.OPERATOR):
        assert refusal(log, make.signed(log, stranger, log.state.proposals[friend].record)) == "A4"
    back = log.act(make.refund(known["said"], 1_000, mark="2"))
    assert list(log.state.proposals[back].approvals) == [AUTHORITY.address]


def test_leak_12_a_receipt_goes_back_once_in_whatever_parts() -> None:
    log = make.at("trade")
    known = make.receipts(log)
    said = log.state.receipts[known["said"]]
    waiting = [log.add(make.refund(known["said"], 400, mark=f"{n}")) for n in range(5)]
    for place, hash_ in enumerate(waiting):
        if place < 2:
            log.approve(hash_)
        else:
            last = make.signed(log, AUTHORITY, log.state.proposals[hash_].record)
            assert refusal(log, last) == "F1"
    assert log.state.accounts["bank-kzt"].reserved == 800
    before = retained(log)
    for place, hash_ in enumerate(waiting[:2]):
        booked = make.refunded(hash_, said, 400)
        log.add(replace(booked, id=digest(f"b {place}"), evidence=digest(f"e {place}")))
        again = replace(booked, id=digest(f"c {place}"), evidence=digest(f"f {place}"))
        assert refusal(log, again) == "F3"
    assert before - retained(log) == 800
    (kzt,) = [t for t in rules.totals(log.state) if (t.asset, t.fund) == ("KZT", rules.RETAINED)]
    assert kzt.refunds == 800


def test_leak_12_what_was_matched_or_is_going_back_is_not_given_twice() -> None:
    log = make.at("trade")
    known = make.receipts(log)
    log.add(make.matched(log, known["unmatched 1"], 499))
    assert refusal(log, make.refund(known["unmatched 1"], 2)) == "F1"
    log.act(make.refund(known["unmatched 1"], 1))
    rest = replace(make.matched(log, known["unmatched 1"], 1), id=digest("r"), evidence=digest("r e"))
    assert refusal(log, rest) == "V5"
    assert refusal(log, make.reversal(make.place(log, "evidence kzt unmatched 1"))) == "R1"


def test_leak_12_and_13_the_authority_and_the_auditor_together_get_a_years_cap() -> None:
    """Log's key, Authority and Auditor: all receipts are sent to a friend or undone, in any order."""
    cap = 1_200
    log = make.at_with(Parameter(0, "refund_cap", cap, START_S, ACT), stage="trade")
    log.wait(rules.NOTICE_S)
    log.add(make.usdt_rate(50_000, "c"))
    for part in range(6):
        log.add(city.revenue(log, 300, "kzt", f"more {part}"))
    before = retained(log)
    for number, (named, receipt) in enumerate(list(log.state.receipts.items())):
        attempts: list[Record] = [make.refund(named, receipt.amount, digest("friend"), f"a{number}")]
        attempts.append(make.refund(named, 100, digest("friend"), f"b{number}"))
        attempts.append(make.reversal(log.records.index(encode(receipt)), f"{number}"))
        for attempt in attempts[number % 2 :]:
            with contextlib.suppress(Invalid):
                done = log.act(attempt)
                if done in log.state.refunds:
                    booked = make.refunded(done, receipt, log.state.refunds[done].amount)
                    log.add(replace(booked, id=digest(f"x{done.hex()}"), evidence=digest(f"y{done.hex()}")))
    assert 0 < before - retained(log) <= cap


def test_leak_13_an_order_is_paid_at_most_twice_and_only_when_the_bank_sent_it_back() -> None:
    log = make.at("trade")
    two, certified = make.named_work(log)
    order = log.act(make.order(two, certified, 600))
    payments = 0
    for turn in range(4):
        pay = replace(
            make.matched(log, order, 600), id=digest(f"p{turn}"), evidence=digest(f"q{turn}"),
            debit="spent-kzt", credit="bank-kzt", purpose="order-k",
        )  # fmt: skip
        with contextlib.suppress(Invalid):
            log.add(pay)
            payments += 1
            log.act(make.reversal(len(log.records) - 1, f"{turn}"))
    assert payments == 2
    assert log.state.commitments[two[1]].paid == 600
    # One seat alone undoes nothing, and neither does anybody undo final money on a chain.
    fee = log.add(make.reversal(make.place(log, "evidence kzt said"), "z"))
    log.approve(fee, AUTHORITY)
    assert log.state.proposals[fee].effective_s is None
    assert refusal(log, make.reversal(make.place(log, "evidence usdt 1"), "chain")) == "R1"


# --- offices -----------------------------------------------------------------------------


def _left_with_two() -> Log:
    log = city.registered()
    for key in COUNCIL[2:]:
        log.act(Seat(0, rules.COUNCIL, key.address, 0, 1, ACT))
    log.wait(rules.NOTICE_S)
    return log


def test_leak_14_those_whose_terms_are_over_fill_seats_in_public_and_do_nothing_else() -> None:
    log = _left_with_two()
    for record in (
        make.project(), make.payee("shell"), Parameter(0, "refund_cap", 10**15, START_S, ACT),
        make.investment(),
        Seat(0, rules.AUDITOR, THIEF.address, START_S, FOREVER_S, ACT),
        Contract(0, "router", 1, THIEF.address, digest("code"), ACT),
    ):  # fmt: skip
        waits = log.state.proposals[log.add(record)].record
        assert refusal(log, make.signed(log, COUNCIL[2], waits)) == "A4"
    friends = [Key(f"friend {n}") for n in range(3)]
    for friend in friends:
        seat = log.add(Seat(0, rules.COUNCIL, friend.address, 0, FOREVER_S, ACT))
        log.approve(seat, *COUNCIL[2:4])
        assert log.state.proposals[seat].effective_s is None  # two are too few here too
        stranger = make.signed(log, THIEF, log.state.proposals[seat].record)
        assert refusal(log, stranger) == "A4"
        log.approve(seat, COUNCIL[4])
    assert refusal(log, Seat(0, rules.COUNCIL, COUNCIL[1].address, 0, log.now + DAY, ACT)) == "S7"
    assert not any(
        rules.is_seated(log.state, friend.address, rules.COUNCIL, log.now + rules.RECOVERY_S - 1)
        for friend in friends
    )
    # In these 180 days the others may come back, and put the friends out again.
    for key in COUNCIL[2:]:
        seat = log.add(Seat(1, rules.COUNCIL, key.address, 0, FOREVER_S, digest("back")))
        log.approve(seat, COUNCIL[0], COUNCIL[1], COUNCIL[2])
    log.wait(rules.RECOVERY_S)
    assert rules.required(log.state, rules.COUNCIL, log.now) == 5  # of eight
    for friend in friends:
        seat = log.add(Seat(1, rules.COUNCIL, friend.address, 0, 2, digest("out")))
        log.approve(seat, *COUNCIL)
    log.wait(rules.NOTICE_S)
    assert rules.required(log.state, rules.COUNCIL, log.now) == 3


def test_leak_14_a_recovery_ends_where_the_council_is_whole_again() -> None:
    log = _left_with_two()
    seat = Seat(0, rules.COUNCIL, Key("third").address, 0, FOREVER_S, ACT)
    log.approve(log.add(seat), *COUNCIL[2:])
    late = log.add(replace(seat, holder=Key("fourth").address))
    log.approve(late, *COUNCIL[2:4])
    log.wait(rules.RECOVERY_S)
    last = make.signed(log, COUNCIL[4], log.state.proposals[late].record)
    assert refusal(log, last) == "A4"
    # What they gave while the council was not whole no longer counts.
    log.approve(late, Key("third"), valid_until=log.now + DAY)
    assert log.state.proposals[late].effective_s is None


def test_leak_16_moving_a_line_stretches_neither_project_nor_block() -> None:
    log = make.at("trade")
    newest = hash_struct(log.state.last_rate["USDT"])
    coins = make.allocation(log, "l-0", 501, block="lines", asset="USDT", rate_hash=newest)
    found = [
        log.act(replace(coins, allocation=f"l-{n}", amount=amount))
        for n, amount in enumerate((501, 501, 900))
    ]
    block = log.state.blocks["lines"]
    for step in range(200):
        source, target = found[step % 3], found[(step * step + 1) % 3]
        with contextlib.suppress(Invalid):
            log.act(Move(0, source, target, 1 + step * 7 % 60, digest(f"move {step}")))
        assert block.allotted <= block.record.limit
        assert block.allotted == sum(a.tiyn(a.amount) for a in map(log.state.allocations.__getitem__, found))
    assert len(log.state.proposals) > 100


def test_leak_19_only_the_council_says_which_rule_files_decide() -> None:
    log = city.registered()
    relaxed = log.add(Rules(0, digest("relaxed"), 0, ACT))
    assert log.state.rule_files == []
    for key in (THIEF, AUTHORITY, city.OPERATOR, city.WATCHER, city.AUDITOR):
        assert refusal(log, make.signed(log, key, log.state.proposals[relaxed].record)) == "A4"
    log.approve(relaxed)
    # Not for what was recorded before.
    assert log.state.rule_files == [(log.now, digest("relaxed"))]


def test_leak_24_a_signature_can_be_taken_back_before_the_quorum_and_is_then_gone() -> None:
    log = city.registered()
    road = log.add(make.project())
    log.approve(road, *COUNCIL[:2])
    waits = log.state.proposals[road].record
    given = make.signed(log, COUNCIL[0], waits)
    log.withdraw(road, COUNCIL[0])
    log.approve(road, COUNCIL[2])
    assert log.state.proposals[road].effective_s is None
    # Neither the old signature nor a new one counts again, and nobody takes back for another.
    assert refusal(log, given) == "A5"
    forged = COUNCIL[3].withdraw(log.state.domain, road, log.now)
    assert refusal(log, replace(forged, signer=COUNCIL[1].address)) == "A6"
    log.approve(road, COUNCIL[3])
    assert refusal(log, COUNCIL[1].withdraw(log.state.domain, road, log.now)) == "A1"


def test_leak_26_a_breach_is_excused_by_act_and_stays_a_breach() -> None:
    log = city.registered()
    place = log.breach(encode(replace(city.payment(make.ORDER, digest("no order")), time=log.now)))
    rule = log.state.breaches[place]
    excuse = log.add(Acknowledgement(0, place, rule, ACT))
    log.approve(excuse, *COUNCIL[:3])
    assert log.state.acknowledged == {}  # the Auditor must say so too
    log.approve(excuse, city.AUDITOR)
    assert log.state.acknowledged == {place: ACT}
    state, breaches = rules.replay(log.records)
    assert [(breach.rule, breach.where) for breach in breaches] == [(rule, f"record {place}")]
    assert state.breaches == {place: rule}
    assert refusal(log, Acknowledgement(0, place, rule, digest("again"))) == "K1"
