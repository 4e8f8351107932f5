"""Bringing what was signed on the ledger to the contracts, and what they paid back to the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from eth_account.signers.local import LocalAccount
from web3.types import TxReceipt

from contracts.bindings import City, Execution
from gateway.budget.desk import Desk, Proposed
from gateway.db import Engine
from gateway.rails.evm import Log, log_of, order_paid, payout_document
from ledger import store
from ledger.publish import Publisher
from ledger.records import Certificate, Commitment, Invalid, Milestone, Order, Transfer, hash_struct, reject
from ledger.rules import PROJECT, State
from ledger.writer import Writer, submit

DAY_S = 86_400


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
    record, document = payment(writer.state, logs, hash_struct(order), payee, project_account)
    with writer.engine.begin() as connection:
        assert store.add_document(connection, document) == record.evidence
    return desk.propose(record)


def payment(
    state: State, logs: list[Log], order_hash: bytes, payee: bytes | None = None, project_account: str = ""
) -> tuple[Transfer, bytes]:
    """The transfer that books an order's payment, and its evidence, from the logs that say what moved.

    Invalid (V4) for no order that waits to be paid, (L8) where these logs moved nothing for it. payee,
    project_account: another one than the ledger's own is refused by the logs, and by the writer.
    """
    where, order = f"order 0x{order_hash.hex()}", state.orders.get(order_hash)
    if order is None or order_hash in state.void_orders:
        reject("V4", where, f"is none of the {len(state.orders)} orders in effect")
    if order_hash in state.paid_orders:
        reject("V4", where, f"{order.order} of {order.amount} is booked already")
    account = state.accounts[order.account].record
    to = state.accounts[order.payee].record.owner[12:] if payee is None else payee
    treasury, token = state.contracts["treasury"], state.assets[account.asset].token
    paid = order_paid(logs, treasury.at, order_hash, to, order.amount)
    if paid.token != token:
        reject("L8", where, f"the treasury paid 0x{paid.token.hex()}, {account.asset} is 0x{token.hex()}")
    document = payout_document(treasury.chain_id, paid)
    record = Transfer(
        time=0,
        id=sha256(b"transfer " + document).digest(),
        debit=project_account or _project_account(state, order),
        credit=order.account,
        asset=account.asset,
        amount=order.amount,
        purpose=order.order,
        authority=order_hash,
        evidence=sha256(document).digest(),
    )
    return record, document


def ask_to_book(engine: Engine, record: Transfer, document: bytes, now: int) -> bytes:
    """Ask the writer to book a payment; returns the submission's id. The same is asked for once.

    What the ledger refused, because its contract is in dispute, can be right later: it is asked for again
    under an id of that day. Invalid with the refusal where this day's was refused too.
    """
    with engine.begin() as connection:
        store.add_document(connection, document)
        try:
            store.answer(connection, record.id)
        except Invalid:
            again = sha256(b"transfer " + document + b" on day %d" % (now // DAY_S)).digest()
            record = replace(record, id=again)
            store.answer(connection, again)
        return submit(connection, record, now)


def _project_account(state: State, order: Order) -> str:
    """Where it is counted what a project was paid, in the order's asset and fund."""
    account = state.accounts[order.account].record
    project = state.allocations[order.allocation_hash].record.project_hash
    wanted = (PROJECT, project, account.asset, account.fund)
    for name, known in state.accounts.items():
        one = known.record
        if (one.kind, one.owner, one.asset, one.fund) == wanted:
            return name
    return reject(
        "N6", f"order {order.order}", f"project 0x{project.hex()} has no account in {account.asset}"
    )
