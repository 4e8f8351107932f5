"""What the Treasury contract says of the coin that left it: the coin leaves no Transfer log (docs/bundle.md).

Its code, which the ledger names by its hash, says Executed or Refunded before it tries to pay: where the
receiver could not receive, the next log says Credited, and nothing left until it is Pulled.
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.bindings import COIN
from contracts.transactions import load_artifact
from gateway.rails.evm.logs import Log
from ledger.records import WORD, keccak256, reject


def _topic(name: str) -> bytes:
    abi = load_artifact("Treasury")["abi"]
    event = next(entry for entry in abi if (entry["type"], entry.get("name")) == ("event", name))
    return keccak256(f"{name}({','.join(member['type'] for member in event['inputs'])})".encode())


EXECUTED, REFUNDED, CREDITED, PULLED = map(_topic, ("Executed", "Refunded", "Credited", "Pulled"))
_COIN = COIN.rjust(WORD, b"\0")


def coin_sent(logs: Sequence[Log], treasury: bytes, topic: bytes, to: bytes) -> list[Log]:
    """The Executed or Refunded logs by which a treasury's coin went to a receiver, and was not credited."""
    credited = {
        (log.transaction, log.index)
        for log in logs
        if log.at == treasury and log.topics[:1] == (CREDITED,) and log.topics[2:3] == (_COIN,)
    }
    return [
        log
        for log in logs
        if log.at == treasury
        and (len(log.topics), len(log.data), log.topics[:1]) == (4, 2 * WORD, (topic,))
        and (log.address(3), log.data[:WORD]) == (to, _COIN)
        and (log.transaction, log.index + 1) not in credited
    ]


def coin_paid(logs: Sequence[Log], treasury: bytes, order_hash: bytes, to: bytes, amount: int) -> Log:
    """The log by which an order's coin went to its payee: Executed, or Pulled where it was credited first.

    Invalid (L8) where none does: then nothing moved.
    """
    for log in coin_sent(logs, treasury, EXECUTED, to):
        if (log.topics[1], log.word(1)) == (order_hash, amount):
            return log
    for log in logs:
        is_pulled = log.at == treasury and (len(log.topics), len(log.data)) == (3, WORD)
        if is_pulled and log.topics == (PULLED, to.rjust(WORD, b"\0"), _COIN) and log.word(0) == amount:
            return log
    told = f"no log of the treasury says that {amount} of the coin went to 0x{to.hex()}"
    if any(log.at == treasury and log.topics[:1] == (CREDITED,) for log in logs):
        told += ": it was credited, and is booked when the payee has pulled it"
    return reject("L8", f"order 0x{order_hash.hex()}", told)
