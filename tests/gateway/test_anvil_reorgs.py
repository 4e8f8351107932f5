"""Reorganisations of a real node before finality: credit goes with its block, and comes with the next, once."""

from __future__ import annotations

import pytest

from gateway.rails import Kind, Stage
from tests.gateway.anvil_town import AnvilTown, check_against_a_rescan


@pytest.mark.parametrize("depth", [1, 5, 64])
def test_ff14_a_reorganisation_of_any_depth_takes_credit_back_and_gives_it_once(
    anvil_town: AnvilTown, depth: int
):
    town = anvil_town
    by_router, deposited = town.invoice(), town.invoice()
    stays = town.invoice()
    # Deep enough that nothing of it goes.
    town.pay(stays)
    town.mine(2)
    town.poll()
    with town.unmined():
        before = town.block()
        quote, signature = town.quote(by_router)
        sent = [
            town.send_later(town.payer, "pay", quote.words(), signature.r, signature.vs),
            town.transfer_later(town.payer, deposited.deposit_address, deposited.due_minor),
        ]
        town.mine(depth)
        town.poll()
        assert town.block() == before + depth
        assert {town.status(by_router), town.status(deposited)} == {"paid" if depth > 1 else "detected"}
        raws = [town.node.call("eth_getRawTransactionByHash", hash) for hash in sent]
        town.reorganise(depth)
        for hash in sent:
            assert town.node.call("eth_getTransactionReceipt", hash) is None
        town.poll()
        for invoice in (by_router, deposited):
            assert town.status(invoice) == town.stored_status(invoice) == "open"
            assert [piece.stage for piece in town.seen(invoice)] == [Stage.GONE]
        assert town.status(stays) in {"paid", "final"}
        town.mine_again(sent, raws)
        town.poll()
        assert {town.status(by_router), town.status(deposited)} == {"detected"}
    town.settle()
    for invoice in (by_router, deposited):
        assert town.notes(invoice) == set()
        stages = sorted(piece.stage for piece in town.seen(invoice) if piece.kind is not Kind.FLUSH)
        assert stages == [Stage.FINAL, Stage.GONE]
    check_against_a_rescan(town, [deposited], [by_router, stays])


def test_ff14_a_reorganisation_while_nobody_looked_is_seen_by_the_next_look(anvil_town: AnvilTown):
    """The block that was read last is no more, at the same height: its number alone would say nothing."""
    town = anvil_town
    invoice = town.invoice()
    receipt = town.pay(invoice)
    town.poll()
    assert town.status(invoice) == "detected"
    raw = town.raw(receipt)
    height = town.block()
    with town.unmined():
        town.node.call("anvil_reorg", 1, [])
        assert town.block() == height
        town.poll()
        assert town.status(invoice) == "open"
        town.resend(raw)
        town.mine()
    town.settle()
    check_against_a_rescan(town, [], [invoice])


def test_ff14_a_flush_that_a_reorganisation_undid_is_sent_again_and_counts_once(anvil_town: AnvilTown):
    town = anvil_town
    invoice = town.invoice()
    town.deposit(invoice)
    town.finalise()
    with town.unmined():
        assert town.city.worker.flush() == 1
        town.mine()
        town.poll()
        assert [piece.kind for piece in town.seen(invoice)].count(Kind.FLUSH) == 1
        town.reorganise(1)
        town.poll()
        assert town.city.city.balance(town.token, invoice.deposit_address or b"") == invoice.due_minor
        # It stands in the table, and is offered again.
        town.city.clock.wait(60)
        town.city.worker.flush()
        town.city.worker.flush()
        town.mine()
        town.poll()
    town.finalise()
    town.city.worker.flush()
    town.record()
    check_against_a_rescan(town, [invoice], [])
    assert len(town.revenue()) == 1
