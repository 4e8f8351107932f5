"""A refund that its receiver could not receive is credited, waits visibly, and ends when the receiver pulls."""

from __future__ import annotations

import json
from dataclasses import replace

from gateway.db import reading
from gateway.payments.outgoing import Credit, Pull
from gateway.payments.refund_model import Refund, RefundState, Source
from gateway.payments.store import Invoice
from gateway.rails.evm.treasury_logs import REFUNDED
from ledger import store as ledger_store
from ledger.records import Unavailable, keccak256
from tests.gateway.anvil_town import AnvilTown
from tests.gateway.test_anvil_flushes import deny
from tests.gateway.test_refunds import ACTOR, Through, Treasury, bring, paid, payer


def asked(town: AnvilTown, treasury: Treasury, invoice: Invoice, amount: int, number: int) -> Refund:
    """A refund of the city's share of an invoice, that the Authority has signed."""
    seen = next(seen for seen in town.seen(invoice) if seen.city_minor)
    refund = treasury.refunds.request(
        ACTOR, invoice.id, seen.key, amount, None, f"k{number}", source=Source.CITY
    )
    treasury.refunds.approve(refund.id, ACTOR)
    treasury.sign("authority")
    return refund


def go(treasury: Treasury) -> None:
    """A round, what it sends, and what the chain says of that."""
    treasury.refunds.follow()
    treasury.sender.step()
    treasury.settle()


def test_refunds_that_are_credited_wait_for_the_pull_and_are_booked_by_it(anvil_town: AnvilTown):
    town = anvil_town
    treasury = Treasury(town)
    refunds = treasury.refunds
    asked_for = [asked(town, treasury, paid(town), 100 + number, number) for number in range(2)]
    treasury.anchor()
    deny(town, payer(town))
    go(treasury)
    for refund in asked_for:
        waiting = refunds.look(refund.id)
        assert waiting.state is RefundState.SENT
        assert str(waiting.problem).startswith("credited, waiting for the receiver to pull")
    assert town.city.city.credit("treasury", payer(town), town.token) == 201
    # Round after round it is looked for in what is new alone, and nothing else is asked.
    credited = refunds._going._credited
    watched = credited._sight = Watched(credited._sight)
    for _ in range(3):
        town.mine(40)
        town.finalise()
        watched.asked.clear()
        refunds.follow()
        assert all(last - first + 1 <= 40 + 70 for first, last in watched.asked)
    assert len(watched.asked) == 1, "one question for both, once both were asked about"
    assert len(treasury.sender.queued) == 2
    assert not {100, 101} & {record.amount for record in town.revenue()}
    # What cannot be read of one receiver stops no other.
    stranger = replace(refunds.look(asked_for[0].id), id="r_other", receiver=b"\x05" * 20)
    watched.fails_for = stranger.receiver
    town.mine(5)
    watched.asked.clear()
    assert credited.follow([stranger, *map(refunds.look, (one.id for one in asked_for))]) == 0
    assert len(watched.asked) == 2
    watched.fails_for = b""
    # Let receive again, anybody pulls for it, all at once.
    town.transact(town.payer, town.token, keccak256(b"deny(address)")[:4] + bytes(32))
    had = town.city.city.balance(town.token, payer(town))
    town.city.city.pull(town.city.keys.account("relayer"), "treasury", payer(town), town.token)
    refunds.follow()
    assert {refunds.look(one.id).state for one in asked_for} == {RefundState.SENT}, "not final yet"
    town.finalise()
    refunds.follow()
    assert town.city.city.balance(town.token, payer(town)) == had + 201
    town.record()
    for number, refund in enumerate(asked_for):
        ended = refunds.look(refund.id)
        assert (ended.state, ended.problem) == (RefundState.FINAL, None)
        [went] = [record for record in town.revenue() if record.amount == 100 + number]
        with reading(town.city.gateway.engine) as connection:
            evidence = json.loads(ledger_store.document(connection, went.evidence))
        # What docs/bundle.md demands: what the treasury said of this refund, and no log of the pull.
        assert (evidence["to"], evidence["amount"]) == ("0x" + payer(town).hex(), str(100 + number))
        told = town.city.outside.web3.eth.get_transaction_receipt(evidence["transaction"])["logs"]
        log = next(one for one in told if one["logIndex"] == int(evidence["logIndex"]))
        assert bytes(log["topics"][0]) == REFUNDED
    assert refunds.follow() == 0


def test_a_refund_that_somebody_else_had_credited_is_booked_by_the_pull_too(anvil_town: AnvilTown):
    town = anvil_town
    treasury = Treasury(town)
    refund = asked(town, treasury, paid(town), 100, 1)
    treasury.anchor()
    deny(town, payer(town))
    bring(town, treasury, refund)
    town.finalise()
    treasury.refunds.follow()
    waiting = treasury.refunds.look(refund.id)
    assert (waiting.state, waiting.outgoing_id) == (RefundState.SENT, None)
    town.transact(town.payer, town.token, keccak256(b"deny(address)")[:4] + bytes(32))
    town.city.city.pull(town.city.keys.account("relayer"), "treasury", payer(town), town.token)
    town.finalise()
    treasury.refunds.follow()
    town.record()
    assert treasury.refunds.look(refund.id).state is RefundState.FINAL
    assert town.revenue()[-1].amount == 100


def test_a_pull_before_the_credit_is_no_pull_of_it(anvil_town: AnvilTown):
    """The receiver had been credited before, and had pulled that."""
    town = anvil_town
    treasury = Treasury(town)
    refunds = treasury.refunds
    first = asked(town, treasury, paid(town), 100, 1)
    invoice = paid(town)
    treasury.anchor()
    deny(town, payer(town))
    go(treasury)
    town.transact(town.payer, town.token, keccak256(b"deny(address)")[:4] + bytes(32))
    town.city.city.pull(town.city.keys.account("relayer"), "treasury", payer(town), town.token)
    town.finalise()
    second = asked(town, treasury, invoice, 100, 2)
    treasury.anchor()
    assert refunds.look(first.id).state is RefundState.FINAL
    deny(town, payer(town))
    go(treasury)
    town.finalise()
    refunds.follow()
    found = refunds.look(second.id)
    assert (found.state, found.credited_block is not None) == (RefundState.SENT, True)
    pull = Pull(payer(town), found.credited_block, 100)
    with reading(town.city.gateway.engine) as connection:
        outcome = treasury.sender.outcome(connection, found.outgoing_id)
    credit = Credit("USDT", payer(town), 100, found.credited_block, outcome.transaction)
    assert refunds._going._credited._sight.paid_by_pull(credit, pull) is None


class Watched(Through):
    """Eyes that note which blocks are asked for pulls, and fail for one receiver."""

    def __init__(self, sight) -> None:
        super().__init__(sight)
        self.asked: list[tuple[int, int]] = []
        self.fails_for = b""

    def pulled(self, asset, receivers, first: int, last: int) -> object:
        if self.fails_for in receivers:
            raise Unavailable("chain", "a log that cannot be read")
        self.asked.append((first, last))
        return self._sight.pulled(asset, receivers, first, last)
