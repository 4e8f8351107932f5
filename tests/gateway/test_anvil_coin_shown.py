"""A deposit in the chain's coin is told as detected before its flush, and is no more than told."""

from __future__ import annotations

import pytest

from contracts.bindings import COIN
from gateway.payments.store import Invoice
from ledger.records import Invalid
from tests.gateway.anvil_town import AnvilTown
from tests.gateway.coin_town import COIN_ASSET, coin_invoice


def give(town: AnvilTown, invoice: Invoice, wei: int) -> None:
    assert invoice.deposit_address is not None
    town.city.city.transfer(town.payer, COIN, invoice.deposit_address, wei)


def look(town: AnvilTown) -> None:
    """One look at the chain as a worker does it, without sending anything."""
    town.poll()
    town.city.worker._coins.poll()


def told(town: AnvilTown, invoice: Invoice) -> tuple[str, int, int]:
    assert town.stored_status(invoice) == town.status(invoice), "what lists and webhooks go by"
    derived = town.payments.look(invoice.id)[1]
    return derived.status.value, derived.paid_minor, derived.missing_minor


def test_a_deposit_in_the_coin_is_detected_before_its_flush_and_books_nothing(coin_town: AnvilTown):
    town, invoice = coin_town, coin_invoice(coin_town)
    part, rest = invoice.due_minor // 3, invoice.due_minor - invoice.due_minor // 3
    before = len(town.revenue())
    give(town, invoice, part)
    look(town)
    assert told(town, invoice) == ("detected", part, rest)
    assert town.notes(invoice) == {"partially_paid"}
    give(town, invoice, rest)
    look(town)
    assert told(town, invoice) == ("detected", invoice.due_minor, 0)
    assert town.events(invoice) == ["invoice.open", "invoice.detected", "invoice.updated"]
    answer = town.client().get(f"/v1/invoices/{invoice.id}", headers=town.bearer).json()
    assert (answer["status"], answer["paid"]) == ("detected", str(invoice.due_minor))
    # However old it gets it is no more than detected: no evidence, no record, no goods.
    for _ in range(2):
        town.mine(65)
        look(town)
    town.record()
    assert (told(town, invoice)[0], town.seen(invoice), len(town.revenue())) == ("detected", [], before)
    with pytest.raises(Invalid, match="final money"):
        town.payments.claim(invoice.id, "shop")
    # The flush takes its place: counted once, never told as gone in between.
    town.city.worker.flush()
    town.mine()
    look(town)
    assert told(town, invoice)[1] == invoice.due_minor
    town.finalise()
    look(town)
    assert told(town, invoice) == ("final", invoice.due_minor, 0)
    assert town.events(invoice).count("invoice.open") == 1
    town.record()
    [seen] = town.seen(invoice)
    assert [one.amount for one in town.revenue() if one.asset == COIN_ASSET] == [seen.city_minor]


def test_logs_are_taken_before_a_balance_that_fell_is_believed(coin_town: AnvilTown):
    """The balance is read after the flush and its event is not: then nothing is told as gone."""
    town, invoice = coin_town, coin_invoice(coin_town)
    give(town, invoice, invoice.due_minor)
    look(town)
    town.flush_coin(invoice)
    town.city.worker._coins.poll()
    assert told(town, invoice) == ("detected", invoice.due_minor, 0)
    town.poll()
    assert told(town, invoice)[1] == invoice.due_minor, "counted twice"
    town.city.worker._coins.poll()
    assert told(town, invoice)[1] == invoice.due_minor
    assert town.events(invoice).count("invoice.open") == 1


def test_a_deposit_in_the_coin_goes_with_its_block(coin_town: AnvilTown):
    town, invoice = coin_town, coin_invoice(coin_town)
    with town.unmined():
        give_later = town.city.outside.web3.eth
        raw = town.payer.sign_transaction(
            {
                "type": 2, "chainId": town.city.plan.deployment.chain_id, "data": b"", "gas": 21_000,
                "value": invoice.due_minor, "to": invoice.deposit_address, "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
                "nonce": give_later.get_transaction_count(town.payer.address),
            }
        ).raw_transaction  # fmt: skip
        town.node.call("eth_sendRawTransaction", "0x" + raw.hex())
        town.mine()
        look(town)
        assert told(town, invoice)[0] == "detected"
        town.node.call("anvil_reorg", 1, [])
        town.node.call("anvil_dropAllTransactions")
        town.mine()
        look(town)
        assert told(town, invoice) == ("open", 0, invoice.due_minor)
    assert town.events(invoice) == ["invoice.open", "invoice.detected", "invoice.open"]


def test_money_that_came_late_is_held_and_goes_with_its_block_too(coin_town: AnvilTown):
    """An expired invoice is looked at now and then only, but whatever is told as held each time."""
    town, invoice = coin_town, coin_invoice(coin_town)
    town.wait(2_000)
    look(town)
    town.payments.expire()
    assert told(town, invoice)[0] == "expired"
    snapshot = town.node.call("evm_snapshot")
    give(town, invoice, invoice.due_minor)
    town.city.worker._coins._looks = 0
    look(town)
    assert told(town, invoice) == ("expired", 0, invoice.due_minor)
    assert town.notes(invoice) == {"held", "late"}
    assert town.node.call("evm_revert", snapshot)
    town.mine(3)
    look(town)
    assert (town.notes(invoice), town.payments.look(invoice.id)[1].held_minor) == (set(), 0)
