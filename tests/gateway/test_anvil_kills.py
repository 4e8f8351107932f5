"""A worker killed at random lines of its own code, on a real node; then all of it is compared with a full rescan.

QAZYNA_KILLS says how often; `make prove` asks for 500.
"""

from __future__ import annotations

import os
import random
from typing import Any

from gateway.db import reading
from gateway.payments.store import Invoice
from gateway.sending import store as sending_store
from tests.gateway.anvil_town import AnvilTown, check_against_a_rescan
from tests.gateway.killed import WORKER, WORKER_LINES, Killed

KILLS = int(os.environ.get("QAZYNA_KILLS", "25"))
SEED = 20261124


def transactions_of(town: AnvilTown, address: str, first: int) -> list[dict[str, Any]]:
    """All that an account has sent, read from the blocks."""
    found = []
    for number in range(first, town.block() + 1):
        block = town.node.call("eth_getBlockByNumber", hex(number), *(True,))
        found += [sent for sent in block["transactions"] if sent["from"] == address.lower()]
    return found


def test_ff23_a_worker_killed_at_any_line_pays_and_books_and_sends_everything_once(anvil_town: AnvilTown):
    town, chance = anvil_town, random.Random(SEED)
    steps = ("poll_chain", "flush", "poll_chain", "expire")
    process = Killed(town, WORKER, WORKER_LINES, steps=steps)
    deposited: list[Invoice] = []
    by_router: list[Invoice] = []
    start = town.block()
    try:
        deposited.append(town.invoice())
        town.deposit(deposited[-1])
        town.mine(65)
        lines = process.work()
        assert lines is not None
        killed = 0
        for count in range(KILLS):
            # Money comes in each way now and then; what came before becomes final.
            if count % 3 == 0:
                deposited.append(town.invoice())
                town.deposit(deposited[-1])
            if count % 5 == 0:
                by_router.append(town.invoice())
                town.pay(by_router[-1])
            town.mine(33)
            with town.unmined():
                killed += process.work(kill=chance.randrange(1, lines)) is None
                town.mine()
            # The lease of the killed one ends.
            town.city.clock.wait(31)
        assert killed >= KILLS * 3 // 4
        for _ in range(4):
            assert process.work()
            town.mine(65)
            town.city.clock.wait(61)
    finally:
        process.close()
    town.record()
    check_against_a_rescan(town, deposited, by_router)
    # Each flush was executed once, and nothing else was ever sent.
    with reading(town.city.gateway.engine) as connection:
        counts = sending_store.counts(connection, town.city.worker.rail.name)
    sent = transactions_of(town, town.city.keys.account("relayer").address, start)
    assert counts == {"final": len(sent)}
    assert len({transaction["nonce"] for transaction in sent}) == len(sent)
    assert town.flushes() == len(deposited)
