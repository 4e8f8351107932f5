"""What the Treasury contract says of money that left it by an order or a refund (decision 0029).

Its code, which the ledger names by its hash, says Executed or Refunded before it tries to pay, and names the
order or the refund. Where the receiver could not receive, the next that it says is Credited, and nothing left
until that receiver's credit is Pulled, in one sum with all else that was credited to it. So a pull alone is
nobody's payment. A token that was paid at once has a Transfer log; the coin has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.bindings import COIN
from contracts.transactions import load_artifact
from gateway.rails.evm.logs import TRANSFER, Log
from ledger.records import WORD, keccak256, reject


def _topic(name: str) -> bytes:
    abi = load_artifact("Treasury")["abi"]
    event = next(entry for entry in abi if (entry["type"], entry.get("name")) == ("event", name))
    return keccak256(f"{name}({','.join(member['type'] for member in event['inputs'])})".encode())


EXECUTED, REFUNDED, CREDITED, PULLED = map(_topic, ("Executed", "Refunded", "Credited", "Pulled"))


@dataclass(frozen=True, slots=True)
class Payout:
    """What a treasury let go by an order or a refund. log: what it said of it.

    evidence: the log that says that it left: a token's Transfer, else `log`; None while it is credited.
    """

    log: Log
    authority: bytes
    to: bytes
    token: bytes
    amount: int
    evidence: Log | None


def payouts(logs: Sequence[Log], treasury: bytes, topic: bytes) -> list[Payout]:
    """What these logs say that a treasury let go; topic: EXECUTED or REFUNDED.

    logs: whole transactions, those that pay and those that pull.
    """
    ordered = sorted(logs, key=lambda log: (log.block, log.index))
    said = [log for log in ordered if log.at == treasury and _is_whole(log)]
    found = []
    for place, log in enumerate(said):
        if log.topics[0] != topic:
            continue
        following = said[place + 1] if place + 1 < len(said) else None
        if following is not None and following.transaction != log.transaction:
            following = None
        token, amount = log.data[12:WORD], log.word(1)
        evidence = None
        if following is not None and _is_about(following, CREDITED, log) and following.word(0) == amount:
            # A pull empties the credit whole: any later one has this in it.
            if any(_is_about(later, PULLED, log) and later.word(0) >= amount for later in said[place + 2 :]):
                evidence = log
        elif token == COIN:
            evidence = log
        else:
            evidence = _transfer(ordered, log, following, treasury)
        found.append(Payout(log, log.topics[1], log.address(3), token, amount, evidence))
    return found


# Topics of each event, and the words of its data.
_SHAPES = {EXECUTED: (4, 2), REFUNDED: (4, 2), CREDITED: (3, 1), PULLED: (3, 1)}


def _is_whole(log: Log) -> bool:
    """Whether it is one of these events, in its shape."""
    shape = _SHAPES.get(log.topics[0]) if log.topics else None
    return shape is not None and (len(log.topics), len(log.data)) == (shape[0], WORD * shape[1])


def _is_about(log: Log, topic: bytes, payout: Log) -> bool:
    """Whether a Credited or Pulled is of the receiver and the token of a payout."""
    return log.topics == (topic, payout.topics[3], payout.data[:WORD])


def _transfer(logs: Sequence[Log], log: Log, following: Log | None, treasury: bytes) -> Log | None:
    """The Transfer that a payout made: after it, and before the treasury said anything else."""
    topics = (TRANSFER, treasury.rjust(WORD, b"\0"), log.topics[3])
    return next(
        (
            one
            for one in logs
            if (one.transaction, one.at, one.topics) == (log.transaction, log.data[12:WORD], topics)
            and one.data == log.data[WORD:]
            and log.index < one.index
            and (following is None or one.index < following.index)
        ),
        None,
    )


def order_paid(logs: Sequence[Log], treasury: bytes, order_hash: bytes, to: bytes, amount: int) -> Payout:
    """What an order's own execution paid to its payee, at once or by a later pull.

    Invalid (L8) where nothing moved: no execution of this order, or a credit that nobody has pulled.
    """
    where = f"order 0x{order_hash.hex()}"
    for payout in payouts(logs, treasury, EXECUTED):
        if (payout.authority, payout.to, payout.amount) != (order_hash, to, amount):
            continue
        if payout.evidence is None:
            told = f"{amount} were credited to 0x{to.hex()} in block {payout.log.block}"
            reject("L8", where, f"{told}, and no log says that it has pulled them since")
        return payout
    seen = {one.authority.hex(): one.amount for one in payouts(logs, treasury, EXECUTED)}
    told = ", ".join(f"0x{authority} of {paid}" for authority, paid in seen.items()) or "none"
    why = f"no log of the treasury says that it paid {amount} to 0x{to.hex()}; orders executed there: {told}"
    return reject("L8", where, why)
