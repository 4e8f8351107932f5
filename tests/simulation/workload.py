"""What a ledger is asked to record: one year has all that real ones have, the other little but fees."""

from __future__ import annotations

import functools

from ledger.records import Contract, Transfer
from tests import city
from tests.city import digest
from tests.vectors import make

SECOND_CHAIN = 31_338
# 2027-01-01 in Alatau.
NEW_YEAR_S = 1_798_743_600


@functools.cache
def fees_alone() -> city.Log:
    """The city is registered; only fees come."""
    log = city.registered()
    _second_anchor(log)
    return log


@functools.cache
def whole_year() -> city.Log:
    """Work is certified, ordered and paid; money is refunded, matched, exchanged and taken back; the year ends."""
    log = make.at("trade")
    _second_anchor(log)
    known = make.receipts(log)
    work, certified = make.named_work(log)
    ordered = log.act(make.order(work, certified, 600))
    paid = Transfer(
        0, digest("id k"), "spent-kzt", "bank-kzt", "KZT", 600, "order-k", ordered, digest("evidence k")
    )
    log.add(paid)
    said = log.state.receipts[known["said"]]
    log.add(make.refunded(log.act(make.refund(known["said"], 1_000)), said, 1_000))
    log.add(make.matched(log, known["unmatched 1"]))
    log.act(make.reversal(make.place(log, "evidence kzt unmatched other")))
    log.add(make.exchanged(log))
    log.wait(10)
    log.act(make.statement(log, log.now - 1))
    log.now = NEW_YEAR_S
    log.act(make.close(log))
    return log


def _second_anchor(log: city.Log) -> None:
    """The second chain's anchor is one that the ledger names."""
    log.act(Contract(0, "anchor-2", SECOND_CHAIN, city.ANCHOR, digest("code"), city.ACT))
