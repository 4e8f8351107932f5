"""Leaks on the chain: a thief with the named powers tries it against the contracts. Most are in Solidity, by number."""

from __future__ import annotations

import re

import pytest

from contracts.bindings import Refunding
from ledger.records import (
    ZERO_HASH,
    Account,
    Dispute,
    Invalid,
    Parameter,
    Refund,
    Resolution,
    RevenueRule,
    Seat,
    Transfer,
    address_word,
    hash_struct,
)
from tests.city import ACT, Key, digest
from tests.contracts.test_field_failures import names
from tests.contracts.world import (
    AUDITOR,
    AUTHORITY,
    COUNCIL,
    DAY,
    DEPLOYER,
    FOREVER_S,
    PAYER,
    SALE,
    World,
    payable,
    quote_for,
    refused,
    wallet,
)

# The others are the ledger's alone: rates, limits in tiyn, banks and promises no contract here knows, and there is no call
# that exchanges, lends, reverses or moves a balance to a successor (test_snapshot.py has all that there are).
ON_CHAIN = (1, 2, 3, 6, 7, 8, 12, 14, 15, 17, 18, 23, 24, 25, 26)
THIEF = Key("thief")


@pytest.mark.parametrize("number", ON_CHAIN)
def test_each_leak_of_the_chain_has_a_test(number: int) -> None:
    assert re.search(rf"^test(Fuzz)?_leak_{number:02}_", names(), re.MULTILINE)


def receipt(world: World, refund_to: bytes) -> Transfer:
    """Revenue that came in, as the writer recorded it."""
    rule = next(record for record in world.acts() if isinstance(record, RevenueRule) and record.code == SALE)
    return Transfer(
        world.now(),
        digest("receipt"),
        "treasury-tkzt",
        "fees",
        "TKZT",
        1_000,
        SALE,
        hash_struct(rule),
        digest("log"),
        refund_to,
    )


def refunding(world: World, to: bytes, amount: int, auditors: list[Key]) -> Refunding:
    """A refund of a receipt whose payer said PAYER, payable now."""
    came = receipt(world, address_word(PAYER.address))
    back = Refund(world.now(), digest(f"refund {amount}"), hash_struct(came), amount, to, digest("why"))
    first, second = world.add(came), world.add(back)
    world.anchor()
    place, receipt_place = world.path(second), world.path(first)
    approvals = world.approve(back, [AUTHORITY], 9 * DAY), world.approve(back, auditors, 9 * DAY)
    world.wait(DAY + 1)
    return Refunding(back, came, *approvals, place[0], first, place[1], place[2], receipt_place[2])


def test_leak_12_a_refund_goes_back_and_elsewhere_only_with_two_signatures(open_world: World) -> None:
    city, token = open_world.city, open_world.token
    city.mint(wallet(DEPLOYER), token, city.deployment.treasury, 5_000)
    back = refunding(open_world, address_word(PAYER.address), 400, [])
    before = city.balance(token, PAYER.address)
    city.refund(wallet(PAYER), back)
    assert city.balance(token, PAYER.address) - before == 400
    with refused("C:AlreadyPaid", "Treasury.refund"):
        city.refund(wallet(PAYER), back)
    assert city.is_refund_paid(back.refund)
    elsewhere = refunding(open_world, address_word(THIEF.address), 401, [])
    with refused("C:NoQuorum", "Treasury.refund"):
        city.refund(wallet(PAYER), elsewhere)


def test_leak_17_a_dispute_holds_a_commitment_and_a_resolution_lets_it_go(open_world: World) -> None:
    city, token = open_world.city, open_world.token
    execution = payable(open_world)
    city.mint(wallet(DEPLOYER), token, city.deployment.treasury, 60_000_000)
    open_world.wait(DAY)
    held = Dispute(open_world.now(), hash_struct(execution.commitment), AUDITOR.address, digest("doubt"))
    (approval,) = open_world.approve(held, [AUDITOR])
    city.dispute(wallet(PAYER), held, execution.commitment, approval)
    assert city.disputed_at(execution.commitment) == held.time
    with refused("C:CommitmentDisputed", "Treasury.execute"):
        city.execute(wallet(PAYER), execution)
    settled = Resolution(open_world.now(), held.commitment_hash, 0, digest("settled"))
    index = open_world.add(settled)
    open_world.anchor()
    approvals = open_world.approve(settled, COUNCIL[:3])
    city.resolve(wallet(PAYER), settled, *open_world.path(index), approvals)
    city.execute(wallet(PAYER), execution)
    assert city.is_order_paid(execution.order)


def test_leak_24_a_withdrawal_of_the_ledger_counts_on_the_chain(world: World) -> None:
    city, now = world.city, world.now()
    act = RevenueRule(now, "parking", "RETAINED", 1, now, ACT)
    index = world.add(act)
    world.anchor()
    city.withdraw(wallet(PAYER), COUNCIL[1].withdraw(city.deployment.domain, hash_struct(act), now))
    with refused("C:SignatureWithdrawn", "Council.enact"):
        city.enact(wallet(PAYER), act, *world.path(index), world.approve(act, COUNCIL[:3]))
    city.enact(wallet(PAYER), act, *world.path(index), world.approve(act, [COUNCIL[0], *COUNCIL[2:4]]))
    assert city.min_share("parking") == 1


def test_leak_15_direct_settlement_ends_for_quotes_already_signed(open_world: World) -> None:
    now = open_world.now()
    open_world.enact(Parameter(now, "direct_settlement", 0, now, ACT))
    open_world.wait(14 * DAY + 1)
    with pytest.raises(Invalid, match="C:DirectSettlementOff"):
        open_world.city.pay(wallet(PAYER), *quote_for(open_world, open_world.token, 1_000))


def test_leak_06_nobody_of_the_city_is_a_payee(world: World) -> None:
    now = world.now()
    seat = address_word(COUNCIL[0].address)
    with refused("C:OwnerHoldsSeat", "Council.enact"):
        world.enact(Account(now, "shell", "TKZT", "RETAINED", "payee", seat, digest("bin"), ACT))
    builder = next(
        record.owner for record in world.acts() if isinstance(record, Account) and record.kind == "payee"
    )
    with refused("C:HolderIsPayeeOrContract", "Council.enact"):
        world.enact(Seat(now, "authority", builder[12:], now, FOREVER_S, ACT))
    assert builder != ZERO_HASH
