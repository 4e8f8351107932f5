"""A merchant who is paid in tenge reads what came of each payout, and what to do about it."""

from __future__ import annotations

from dataclasses import replace

from gateway.kz import format_tenge
from gateway.vasp.simulator import Misbehaviour
from tests.gateway.conftest import MERCHANT_IBAN
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_refunds_shown import read
from tests.gateway.test_settlements import Vasp, vasp

__all__ = ["vasp"]


def money(vasp: Vasp) -> str:
    """The page of an owner, as it is read."""
    city = vasp.town.city
    city.gateway = replace(city.gateway, settlements=vasp.settlements)
    owner = Visitor(vasp.town)
    owner.sign_in(vasp.town.merchant_key)
    return read(owner, "/merchant/money")


def test_a_payout_that_was_paid_is_found_in_the_bank_statement(vasp: Vasp):
    vasp.earned(1)
    payout = vasp.instruct()
    vasp.follow()
    paid = vasp.settlements.confirm("vasp", *vasp.simulator.pay(payout.id, 1))
    assert paid.tiyn is not None
    assert paid.fee_tiyn is not None
    page = money(vasp)
    assert f"→ {format_tenge(paid.tiyn, 'en')} paid out".replace("\N{NO-BREAK SPACE}", " ") in page
    assert f"{MERCHANT_IBAN} · {payout.id}" in page
    fee = format_tenge(paid.fee_tiyn, "en").replace("\N{NO-BREAK SPACE}", " ")
    assert f"The provider kept {fee}. In your bank statement it is {paid.bank_reference}" in page
    assert "or to the provider that pays you in tenge" in page
    vasp.settlements.confirm("vasp", *vasp.simulator.refuse(payout.id, "not me"))
    assert "later the provider said something else" in money(vasp)


def test_a_payout_that_was_refused_or_is_disputed_says_what_becomes_of_the_money(vasp: Vasp):
    vasp.earned(1)
    vasp.simulator.misbehaves = Misbehaviour.REFUSES
    vasp.instruct()
    vasp.follow()
    assert "refused" in (page := money(vasp))
    assert "The sum goes into the next payout." in page
    vasp.simulator.misbehaves = None
    again = vasp.instruct()
    vasp.settlements.follow()
    found = vasp.settlements.confirm("vasp", *vasp.simulator.pay(again.id, 1, tiyn=1))
    page = money(vasp)
    assert f"Until the operator has cleared it up, it is not paid out again. {found.problem}" in page
