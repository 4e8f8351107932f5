"""A refund that its receiver could not receive is credited, waits visibly, and ends when the receiver pulls."""

from __future__ import annotations

import json

import pytest

from contracts.bindings import COIN
from gateway.payments import by_wallet
from gateway.payments.refund_model import Refund, RefundState, Source
from gateway.payments.store import Invoice
from gateway.rails.evm.credits import proof_of_pull, pulls
from gateway.rails.evm.logs import TRANSFER, Log
from gateway.rails.evm.treasury_logs import PULLED
from ledger import store as ledger_store
from ledger.records import keccak256
from tests.gateway.anvil_town import AnvilTown
from tests.gateway.test_anvil_flushes import deny
from tests.gateway.test_refunds import ACTOR, Counting, Treasury, paid, payer


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


def test_a_refund_that_is_credited_waits_for_the_pull_and_is_booked_by_it(anvil_town: AnvilTown):
    town = anvil_town
    treasury = Treasury(town)
    sight = Counting(treasury.refunds._sight)
    refunds = treasury.refunds
    invoices = [paid(town) for _ in range(2)]
    first = asked(town, treasury, invoices[0], 100, 1)
    treasury.anchor()
    deny(town, payer(town))
    go(treasury)
    # Another to the same receiver is promised, and due.
    second = asked(town, treasury, invoices[1], 100, 2)
    treasury.anchor()
    go(treasury)
    waiting = refunds.look(first.id)
    assert waiting.state is RefundState.SENT
    assert str(waiting.problem).startswith("credited, waiting for the receiver to pull")
    assert town.city.city.credit("treasury", payer(town), town.token) == 100
    # The next one to the same receiver goes after it: pulled together, no movement would be of one refund.
    assert f"it goes after {first.id}" in str(refunds.look(second.id).problem)
    assert len(treasury.sender.queued) == 1
    # Round after round it is looked for in what is new alone, and nothing is raised.
    refunds._going._credited._sight = sight
    for _ in range(3):
        town.mine(40)
        town.finalise()
        sight.asked.clear()
        refunds.follow()
        assert sum(last - first_block + 1 for first_block, last in sight.asked) <= 40 + 70
        assert refunds.look(first.id).problem == waiting.problem
    assert [record.amount for record in town.revenue()].count(100) == 0
    # Let receive again, anybody pulls for it.
    town.transact(town.payer, town.token, keccak256(b"deny(address)")[:4] + bytes(32))
    had = town.city.city.balance(town.token, payer(town))
    receipt = town.city.city.pull(town.city.keys.account("relayer"), "treasury", payer(town), town.token)
    refunds.follow()
    assert refunds.look(first.id).state is RefundState.SENT, "it is not final yet"
    town.finalise()
    refunds.follow()
    ended = refunds.look(first.id)
    assert (ended.state, ended.problem) == (RefundState.FINAL, None)
    assert town.city.city.balance(town.token, payer(town)) == had + 100
    town.record()
    went = [record for record in town.revenue() if record.amount == 100]
    with ledger_store.reading(town.city.gateway.engine) as connection:
        evidence = json.loads(ledger_store.document(connection, went[0].evidence))
    # What docs/bundle.md demands: the Transfer log of the token, and no log of Treasury.
    log = next(log for log in receipt["logs"] if bytes(log["topics"][0]) == TRANSFER)
    told = {name: evidence[name] for name in ("kind", "token", "to", "amount", "logIndex", "transaction")}
    assert told == {
        "kind": "evm-log", "token": "0x" + town.token.hex(), "to": "0x" + payer(town).hex(), "amount": "100",
        "logIndex": str(log["logIndex"]), "transaction": "0x" + bytes(receipt["transactionHash"]).hex(),
    }  # fmt: skip
    # Now the other one goes, by itself.
    for _ in range(2):
        go(treasury)
    assert refunds.look(second.id).state is RefundState.FINAL
    town.record()
    assert [record.amount for record in town.revenue()].count(100) == 2


def log(topics: tuple[bytes, ...], data: int, index: int) -> Log:
    treasury, token = b"\x01" * 20, b"\x02" * 20
    at = token if topics[0] == TRANSFER else treasury
    return Log(at, topics, data.to_bytes(32, "big"), 9, b"\x09" * 32, b"\x08" * 32, index)


def test_of_the_coin_the_pull_itself_is_the_proof_and_what_was_not_asked_for_is_none():
    treasury, to, other = b"\x01" * 20, b"\x03" * 20, b"\x04" * 20

    def word(address: bytes) -> bytes:
        return address.rjust(32, b"\0")

    said = [
        log((PULLED, word(to), word(COIN)), 7, 1),
        log((PULLED, word(other), word(COIN)), 7, 2),
        log((PULLED, word(to), word(b"\x02" * 20)), 7, 3),
        log((TRANSFER, word(treasury), word(to)), 7, 4),
    ]

    class Node:
        def logs(self, asked: dict[str, object], *, is_final: bool = False) -> list[Log]:
            assert is_final
            assert (asked["fromBlock"], asked["toBlock"]) == ("0x5", "0x9")
            return said

    [found] = pulls(Node(), treasury, COIN, {to}, 5, 9)
    assert found is said[0]
    proof = proof_of_pull(31337, "ETH", COIN, found, [])
    assert proof is not None
    document = json.loads(proof.document)
    assert (document["kind"], document["amount"], document["logIndex"]) == ("evm-coin", "7", "1")
    # A token's pull is proved by its Transfer alone, of the same amount and after it.
    assert proof_of_pull(31337, "USDT", b"\x02" * 20, said[2], []) is None
    assert by_wallet.BLOCKS_A_ROUND > 0


@pytest.mark.parametrize("way", ["another amount"])
def test_a_pull_of_another_amount_ends_nothing_and_is_shown_with_both_numbers(
    anvil_town: AnvilTown, way: str
):
    town = anvil_town
    treasury = Treasury(town)
    refund = asked(town, treasury, paid(town), 100, 1)
    treasury.anchor()
    deny(town, payer(town))
    go(treasury)
    sight = treasury.refunds._sight

    class Joint(Counting):
        """As if an order to the same receiver had been credited too."""

        def pulled(self, asset, receivers, first: int, last: int):
            made = self._sight.pulled(asset, receivers, first, last)
            return [type(one)(**{**vars(one), "amount_minor": 150}) for one in made]

    treasury.refunds._going._credited._sight = Joint(sight)
    town.transact(town.payer, town.token, keccak256(b"deny(address)")[:4] + bytes(32))
    town.city.city.pull(town.city.keys.account("relayer"), "treasury", payer(town), town.token)
    town.finalise()
    treasury.refunds.follow()
    found = treasury.refunds.look(refund.id)
    assert (found.state, way) == (RefundState.SENT, "another amount")
    assert "the receiver pulled 150, the refund is of 100" in str(found.problem)
