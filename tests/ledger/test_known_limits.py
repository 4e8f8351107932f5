"""What SPEC.md says that the rules do not do: each sentence is tried here, so that none outlives its limit.

The docstring of a test is the sentence, word for word. A sentence without a test is a failure, and so is a
test whose sentence is no longer there; a limit that was lifted fails its own test.
"""

from __future__ import annotations

import copy
import re
import sys
from dataclasses import replace

import pytest

from ledger import rules
from ledger.records import (
    AMOUNT_LIMIT,
    KINDS,
    Asset,
    Block,
    Close,
    Dispute,
    Investment,
    Parameter,
    Rate,
    Release,
    Resolution,
    RevenueRule,
    Seat,
    hash_struct,
)
from tests import city
from tests.city import ACT, AUTHORITY, COUNCIL, FOREVER_S, START_S, Key, digest, refusal
from tests.ledger.test_spec import section
from tests.vectors import make

DAY = rules.DAY
NAME = "test_limit_"


def _said() -> list[str]:
    known = section("What the rules do not see").partition("Known limits of the rules as they are")[2]
    return [" ".join(one.split()) for one in re.split(r"^- ", known, flags=re.MULTILINE)[1:]]


def test_every_known_limit_is_tried_here_and_nothing_else_is_called_one() -> None:
    tried = [
        " ".join((getattr(test, "__doc__", "") or "").split())
        for name, test in vars(sys.modules[__name__]).items()
        if name.startswith(NAME)
    ]
    assert sorted(tried) == sorted(_said())
    assert len(set(tried)) == len(tried) > 10
    assert "What is not here yet" not in section("What the rules do not see")


def test_limit_names() -> None:
    """A name is given once, so an asset's allowance cannot be prolonged, and an account cannot be closed."""
    log = city.registered()
    known = log.state.assets["USDT"]
    assert refusal(log, replace(known, valid_to=known.valid_to + 1, act=digest("prolonged"))) == "N1"
    assert refusal(log, make.account("bank-kzt", owner=digest("closed"))) == "N1"
    # And no record is about an account that exists, but for what moves and what is stated.
    about = {kind.__name__ for kind in KINDS if any(name == "account" for name, *_ in kind.members)}
    assert about == {"Account", "Order", "Statement"}


def test_limit_deadlines() -> None:
    """An approval's deadline has no longest date."""
    log = city.registered()
    road = log.add(make.project())
    log.approve(road, *COUNCIL[:2], valid_until=2**64 - 1)
    log.wait(50 * 365 * DAY)
    log.approve(road, COUNCIL[2])
    assert log.state.proposals[road].effective_s == log.now


def test_limit_refunds() -> None:
    """A Refund in effect cannot be taken back; its money stays reserved until it is booked."""
    log = make.at("trade")
    known = make.receipts(log)["said"]
    going = log.act(make.refund(known, 1_000))
    log.wait(10 * 365 * DAY)
    assert refusal(log, AUTHORITY.withdraw(log.state.domain, going, log.now)) == "A1"
    assert log.state.accounts["bank-kzt"].reserved == 1_000
    log.add(make.refunded(going, log.state.receipts[known], 1_000))
    assert log.state.accounts["bank-kzt"].reserved == 0


def test_limit_refused_work() -> None:
    """What was refused, or certified in part, stays committed until the contract is disputed and ended (C8)."""
    log = make.at("works")
    hashes = make.contracted(log, "half", 1_000, 600, 400)
    log.act(make.certificate(hashes[2], 600, accepted=0))
    log.act(make.certificate(hashes[3], 100))
    commitment = log.state.commitments[hashes[1]]
    assert refusal(log, Release(0, hashes[1], 1, digest("release"))) == "C6"
    assert refusal(log, make.certificate(hashes[2], 600)) == "C5"
    assert commitment.amount == 1_000
    log.act(Dispute(0, hashes[1], city.AUDITOR.address, digest("dispute")))
    log.act(Resolution(0, hashes[1], 1, digest("end")))
    assert commitment.amount == commitment.paid == 0


def test_limit_orders() -> None:
    """No order can be stopped or taken back here; the delay before payment is the Treasury contract's
    (`order_delay`).
    """
    log, order, order_hash = city.ordered()
    assert refusal(log, AUTHORITY.withdraw(log.state.domain, order_hash, log.now)) == "A1"
    assert rules.parameter(log.state, "order_delay", log.now) == DAY
    log.add(city.payment(order, order_hash))  # in the same second


def test_limit_first_order_of_a_day() -> None:
    """The first order of a day is as large as its certificate, whatever `commitment_day_cap` says (O11)."""
    log = make.at_with(Parameter(0, "commitment_day_cap", 100, START_S, ACT), stage="works")
    log.wait(rules.NOTICE_S)
    hashes = make.contracted(log, "whole", 1_000, 1_000)
    log.act(make.order(hashes, log.act(make.certificate(hashes[2], 1_000)), 1_000, "whole"))
    assert log.state.commitments[hashes[1]].ordered_then == 1_000


def test_limit_payees_in_tenge() -> None:
    """A payee that is paid in tenge has no key here and disputes through an auditor or a certifier (G12)."""
    log = make.at("works")
    (_, commitment, *_), _ = make.named_work(log)
    owner = log.state.accounts["builder-kzt"].record.owner
    assert any(owner[:12])  # a hash: no address has such a word
    for by in (owner[12:], owner[:20], Key("builder-kzt").address):
        assert refusal(log, Dispute(0, commitment, by, digest("mine"))) == "C7"
    log.act(Dispute(0, commitment, city.AUDITOR.address, digest("the payee's")))
    # A payee in coins has one.
    mine = log.add(Dispute(0, make.ORDER.commitment_hash, city.PAYEE_ADDRESS, digest("mine")))
    log.approve(mine, city.PAYEE)
    assert log.state.commitments[make.ORDER.commitment_hash].disputed


def test_limit_the_authority_disputes_nothing() -> None:
    """The Authority cannot dispute what it signed (C7): it need only order nothing, and without an order
    nothing is paid (G12).
    """
    log, order = city.certified()
    stop = Dispute(0, order.commitment_hash, AUTHORITY.address, digest("dispute"))
    assert refusal(log, stop) == "C7"
    waits = log.add(order)
    assert refusal(log, city.payment(order, waits)) == "V4"
    assert refusal(log, make.signed(log, city.AUDITOR, log.state.proposals[waits].record)) == "A4"
    log.approve(waits, AUTHORITY)
    log.add(city.payment(order, waits))


def test_limit_investors() -> None:
    """An investor has no seat and no key, since an Investment names nobody: an auditor or a certifier disputes
    for it (G12).
    """
    assert {name for name, *_ in Investment.members} == {"time", "project", "amount", "document"}
    assert "investor" not in rules.ROLES
    log = make.at("works")
    log.act(make.investment())
    (_, commitment, *_), _ = make.named_work(log)
    assert refusal(log, Dispute(0, commitment, Key("investor").address, digest("mine"))) == "C7"
    log.act(Dispute(0, commitment, city.AUDITOR.address, digest("the investor's")))


def test_limit_no_override_of_the_local_budget() -> None:
    """No override lets the local budget pay for anything else or move to another, also where
    `self_sufficient` is 1: it would be another version of the rules, which is an act with its date, and public
    (G8).
    """
    log = make.at("trade")
    log.act(Parameter(0, "self_sufficient", 1, START_S, ACT))
    log.act(Block(0, "local", "MUNICIPAL", 2026, 2028, 10**9, ACT))
    log.act(make.account("bank-local", fund="MUNICIPAL"))
    log.act(make.account("payable-local", fund="MUNICIPAL", kind=rules.PAYABLE))
    log.wait(rules.NOTICE_S)
    assert rules.parameter(log.state, "self_sufficient", log.now) == 1
    assert refusal(log, make.allocation(log, block="local")) == "B1"
    move = make.unmatched(log, 1, "moved")
    for debit, credit in (("bank-kzt", "bank-local"), ("bank-local", "bank-kzt")):
        assert refusal(log, replace(move, debit=debit, credit=credit)) == "M4"
    for debit, credit in (("bank-kzt", "payable-local"), ("bank-local", "payable-kzt")):
        assert refusal(log, replace(move, debit=debit, credit=credit)) == "M5"


def test_limit_target_indicators() -> None:
    """A Block has no member for target indicators: they stand in the paper that its `act` names (G9)."""
    names = [name for name, *_ in Block.members]
    assert names == ["time", "block", "fund", "from_year", "to_year", "limit", "act"]
    log = city.registered()
    assert refusal(log, Block(0, "aims", "AUTHORITY", 2026, 2027, 1, bytes(32))) == "H5"


def test_limit_experiments() -> None:
    """An experiment of the regulator is no record of its own but a Parameter, an asset's allowance or a
    RevenueRule with its act and its date; where it ends is a second one, so that it ends only if the Council
    says so, which it may say on the first day (G14).
    """
    log = city.opened()
    log.act(Asset(0, "USDT", 6, city.CHAIN_ID, city.TOKEN, START_S, FOREVER_S, ACT))
    begins, ends = log.now + 30 * DAY, log.now + 60 * DAY
    # Both ends on the first day.
    log.act(Parameter(0, "direct_settlement", 1, begins, digest("the experiment")))
    alone = copy.deepcopy(log)
    log.act(Parameter(0, "direct_settlement", 0, ends, digest("its end")))
    for now, flag in ((begins - 1, 0), (begins, 1), (ends - 1, 1), (ends, 0)):
        assert rules.parameter(log.state, "direct_settlement", now) == flag
    assert rules.parameter(alone.state, "direct_settlement", ends + 100 * 365 * DAY) == 1


def test_limit_codes() -> None:
    """Another RevenueRule may move a code to another fund from its date on, without notice; it is the
    Council's act, and public.
    """
    log = city.registered()
    log.act(RevenueRule(0, city.CODE, "MUNICIPAL", 10_000, START_S, ACT))
    rule = rules.revenue_rule(log.state, city.CODE, log.now)
    assert rule is not None
    assert rule.fund == "MUNICIPAL"


def test_limit_recovery() -> None:
    """In a recovery any three who ever sat in the council are enough, however long ago; the 180 days are what
    stops them.
    """
    log = city.registered()
    for key in COUNCIL[2:]:
        log.act(Seat(0, rules.COUNCIL, key.address, 0, 1, ACT))
    log.wait(20 * 365 * DAY)
    friend = Key("friend")
    log.approve(log.add(Seat(0, rules.COUNCIL, friend.address, 0, FOREVER_S, ACT)), *COUNCIL[2:])
    for waited_s, seated in ((rules.RECOVERY_S - 1, False), (rules.RECOVERY_S, True)):
        assert rules.is_seated(log.state, friend.address, rules.COUNCIL, log.now + waited_s) == seated


def test_limit_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash of a Close is made from the whole state: a log of many wrong ones costs an auditor that much
    time each.
    """
    log = make.at("trade")
    log.wait(366 * DAY)
    dumped: list[int] = []
    dump = rules.dump

    def counted(state: rules.State) -> bytes:
        dumped.append(state.size)
        return dump(state)

    monkeypatch.setattr(rules, "dump", counted)
    for wrong in range(3):
        assert refusal(log, Close(0, 2026, digest(f"wrong {wrong}"))) == "Y1"
    assert len(dumped) == 3


@pytest.mark.parametrize(("first", "second"), [(40_000, 36_000), (60_000, 66_000)])
def test_limit_rates(first: int, second: int) -> None:
    """Who keeps the log and goes to the edge of Q2 in a day and a second makes a rate 28 of 100 less or 33 of 100
    more than a day's first, and then each day 28 less or 32 more; only the two published sources show that it
    is not true (D18, LEAKS 05).
    """
    log, sign = city.registered(), 1 if first > 50_000 else -1
    log.add(make.usdt_rate(50_000))
    for turn in range(2):
        log.wait(DAY + 1)
        for at, edge in enumerate((first, second)):
            step = Rate(
                0, "USDT", edge * second**turn, 10**6 * 50_000**turn, digest(f"{turn} {at}"), digest("other")
            )
            # No further than to the edge, which nothing but the sources forbids.
            assert refusal(log, replace(step, numerator=step.numerator + sign)) == "Q2"
            log.add(step)
        assert refusal(log, replace(step, numerator=step.numerator + sign)) == "Q2"
    last = log.state.last_rate["USDT"]
    assert last.numerator * 50_000**2 * 10**6 == second**2 * 50_000 * last.denominator
    assert last.numerator < AMOUNT_LIMIT
    # Steps without silence go further up, once: to the edge of one day and then of the next.
    log = city.registered()
    for wait, price in ((0, 50_000), (0, 55_000), (DAY + 1, 60_500), (0, 66_550)):
        log.wait(wait)
        log.add(make.usdt_rate(price, f"step to {price}"))
    assert refusal(log, make.usdt_rate(66_551, "further")) == "Q2"


def test_limit_a_price_that_moved_by_more_than_half() -> None:
    """A coin whose true price moved by more than half between two rates has no rate until 180 days are over
    (Q2): until then it is neither exchanged nor allotted, since an old rate is not fresh (Q4, B3).
    """
    log = make.at("trade")
    old, true = hash_struct(log.state.last_rate["USDT"]), make.usdt_rate(24_999, "true")
    start = log.now
    for days in (1, 2, 3, 5, 6, 100, 180):
        log.now = start + days * DAY
        assert refusal(log, true) == "Q2"
    assert refusal(log, make.exchanged(log)) == "Q4"
    assert refusal(log, make.allocation(log, asset="USDT", rate_hash=old)) == "B3"
    log.wait(1)
    newest = log.add(true)
    log.add(make.exchanged(log, came=24_999))
    log.act(make.allocation(log, asset="USDT", rate_hash=newest))


def test_limit_custody_shares_the_cap() -> None:
    """What goes back out of custody to where its payer did not say counts to the same `refund_cap` as the
    city's own refunds (F4).
    """
    log, receipt = make.in_custody()
    log.act(Parameter(0, "refund_cap", 399, START_S, ACT))
    log.wait(rules.NOTICE_S)
    elsewhere = make.refund(receipt, 400, digest("friend"))
    assert refusal(log, elsewhere) == "F4"
    said = log.add(replace(make.held(log, 400, "said"), refund_to=make.SAID))
    log.act(make.refund(said, 400, mark="2"))
    log.act(replace(elsewhere, amount=399))
    assert refusal(log, make.refund(receipt, 1, digest("friend"), "3")) == "F4"
