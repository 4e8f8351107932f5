"""Others' money in custody, as the auditor sees it: it is gone within 30 days or it is named (LEAKS 08, decision 0034)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import rules
from ledger.audit import Wanted, audit
from ledger.audit.spread import in_turn
from ledger.records import Close
from tests import bundles, city
from tests.city import Log, digest
from tests.vectors import make

NEW_YEAR_S = 1_798_743_600  # 2027 in Alatau


def overdue(folder: Path, *, spread: bool = False) -> list[tuple[str, str, int | None, str]]:
    """What the auditor finds about custody."""
    wanted = Wanted(spread=in_turn if spread else None, sources_unavailable=True)
    found = audit(folder, wanted=wanted).findings
    return [(f.where, f.asset, f.amount, f.why) for f in found if f.rule == "F5"]


def is_valid(folder: Path) -> bool:
    """Whether the auditor finds nothing, who knows that the rates here have sources that nobody ever said."""
    return audit(folder, wanted=Wanted(sources_unavailable=True)).is_valid


def until(log: Log, time_s: int) -> Log:
    """Let time pass; a record at the end says that it has."""
    log.now = time_s
    log.add(city.revenue(log, 1, mark=f"at {time_s}"))
    return log


def test_leak_08_what_stands_in_custody_for_more_than_30_days_is_a_finding(tmp_path: Path) -> None:
    log, receipt = make.in_custody("works")
    last = log.state.receipts[receipt].time + rules.CUSTODY_S
    assert is_valid(bundles.write(tmp_path / "a", until(log, last)).folder)
    why = f"400 of others' money is in custody for more than 2592000 s before {last + 1}"
    found = overdue(bundles.write(tmp_path / "b", until(log, last + 1)).folder)
    assert found == [("account payable-held", "KZT", 400, why)]
    # Late is not too late: it goes, and the ledger is valid again.
    going = log.act(make.refund(receipt, 400))
    log.add(make.refunded(going, log.state.receipts[receipt], 400))
    assert is_valid(bundles.write(tmp_path / "c", log).folder)


@pytest.mark.parametrize("is_booked", [False, True])
def test_leak_08_a_refund_that_was_signed_in_a_closed_year_and_never_sent_is_named_by_every_audit(
    tmp_path: Path, is_booked: bool
) -> None:
    """Also by one that begins at the Close, whose state has no past of its own."""
    log = city.registered()
    log.now = NEW_YEAR_S - 10 * rules.DAY
    log.act(make.account("bank-held", fund=rules.CUSTODY))
    log.act(make.account("payable-held", fund=rules.CUSTODY, kind=rules.PAYABLE))
    receipt = log.add(make.held(log, 400))
    log.wait(1)
    going = log.act(make.refund(receipt, 400))
    log.now = NEW_YEAR_S
    states = {"states/2026.json": rules.dump(log.state)}
    log.act(Close(0, 2026, rules.state_hash(log.state)))
    came = log.state.receipts[receipt]
    if is_booked:
        log.add(make.refunded(going, came, 400))
    until(log, came.time + rules.CUSTODY_S + 1)
    folder = bundles.write(tmp_path / "b", log, public={**bundles.documents(), **states}).folder
    named = overdue(folder)
    assert [(where, amount) for where, _, amount, _ in named] == (
        [] if is_booked else [("account payable-held", 400)]
    )
    assert overdue(folder, spread=True) == named


def test_leak_08_a_merchants_money_goes_on_from_custody_to_the_merchant_by_two_seats() -> None:
    """It came for a merchant, who is not its payer: only the Authority and the Auditor together send it there."""
    log, receipt = make.in_custody("works")
    came = log.state.receipts[receipt]
    onward = log.add(make.refund(receipt, 400, digest("iban of the merchant")))
    log.approve(onward, city.AUTHORITY)
    assert city.refusal(log, make.refunded(onward, came, 400)) == "F3"
    log.approve(onward, city.AUDITOR)
    log.add(make.refunded(onward, came, 400))
    assert log.state.accounts["bank-held"].balance == 0
    totals = [t for t in rules.totals(log.state) if t.fund == rules.CUSTODY]
    assert [(t.closing, t.unmatched, t.paid, t.revenue) for t in totals] == [(0, 0, 0, 0)]
    # No other seat can stand for either.
    again = log.add(make.held(log, 400, "again"))
    for key in (city.CERTIFIER, city.OPERATOR, *city.COUNCIL):
        waits = log.state.proposals[log.add(make.refund(again, 400, digest("friend"), key.name))].record
        assert city.refusal(log, make.signed(log, key, waits)) == "A4"
