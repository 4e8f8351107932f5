"""Bringing what was signed on the ledger to the contracts, and what they paid back to the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from eth_account.signers.local import LocalAccount
from web3.types import TxReceipt

from contracts.bindings import City, Execution
from gateway.budget.desk import Desk, Proposed
from gateway.rails.evm import Log, log_of, order_paid, payout_document
from ledger import store
from ledger.publish import Publisher
from ledger.records import Certificate, Commitment, Milestone, Order, Transfer, hash_struct, reject
from ledger.writer import Writer


@dataclass(frozen=True)
class Work:
    """What an order rests on, as it was recorded and signed."""

    commitment: Proposed
    milestone: Proposed
    certificate: Proposed
    order: Proposed


def enact(city: City, publisher: Publisher, account: LocalAccount, act: Proposed) -> TxReceipt:
    """Show the Council contract an anchored act with its signatures; anybody may pay for it."""
    head = city.head().size
    path = publisher.inclusion(act.position, head)
    return city.enact(account, act.record, act.position, head, path, act.approvals)


def execution(city: City, publisher: Publisher, work: Work) -> Execution:
    """All that Treasury asks to see for an order."""
    head = city.head().size
    order, commitment = work.order.record, work.commitment.record
    milestone, certificate = work.milestone.record, work.certificate.record
    assert isinstance(order, Order)
    assert isinstance(commitment, Commitment)
    assert isinstance(milestone, Milestone)
    assert isinstance(certificate, Certificate)
    return Execution(
        order,
        commitment,
        milestone,
        certificate,
        work.order.approvals,
        work.certificate.approvals,
        work.order.position,
        head,
        publisher.inclusion(work.order.position, head),
    )


def book_payment(
    writer: Writer,
    desk: Desk,
    receipt: TxReceipt,
    order: Order,
    payee: bytes,
    project_account: str,
    pull: TxReceipt | None = None,
) -> Proposed:
    """Record that the Treasury contract paid an order; the evidence is the log that says what moved.

    receipt: of the order's own execution; pull: of a later one, where the payee could not receive.
    """
    logs = [log_of(log) for one in (receipt, pull) if one is not None for log in one["logs"]]
    document = _evidence(writer, logs, order, payee)
    with writer.engine.begin() as connection:
        evidence = store.add_document(connection, document)
    record = Transfer(
        time=0,
        id=sha256(b"transfer " + document).digest(),
        debit=project_account,
        credit=order.account,
        asset=writer.state.accounts[order.account].record.asset,
        amount=order.amount,
        purpose=order.order,
        authority=hash_struct(order),
        evidence=evidence,
    )
    return desk.propose(record)


def _evidence(writer: Writer, logs: list[Log], order: Order, payee: bytes) -> bytes:
    """The public document of what an order's payment moved; Invalid (L8) where it moved nothing."""
    treasury, asset = writer.state.contracts["treasury"], writer.state.accounts[order.account].record.asset
    paid = order_paid(logs, treasury.at, hash_struct(order), payee, order.amount)
    token = writer.state.assets[asset].token
    if paid.token != token:
        where = f"order 0x{hash_struct(order).hex()}"
        reject("L8", where, f"the treasury paid 0x{paid.token.hex()}, {asset} is 0x{token.hex()}")
    return payout_document(treasury.chain_id, paid)
