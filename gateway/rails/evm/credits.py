"""Money that Treasury credits, since its receiver could not receive, and what the receiver pulls of it later.

A pull takes all that is credited to one receiver in one asset. Treasury says Pulled before the token moves,
so that the Transfer which proves it (docs/bundle.md) is the first of that amount after it; the coin leaves
none, and there the Pulled log itself is the proof.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from contracts.bindings import COIN
from gateway.payments.outgoing import Moved
from gateway.rails.evm.logs import Log
from gateway.rails.evm.rpc import to_hex
from gateway.rails.evm.split import coin_document, evidence_key
from gateway.rails.evm.treasury_logs import CREDITED, PULLED
from ledger.records import WORD


class Reader(Protocol):
    """Who asks nodes for logs."""

    def logs(self, asked: Mapping[str, object], *, is_final: bool = False) -> list[Log]:
        """What eth_getLogs answers."""
        ...


def _asked(
    treasury: bytes, topic: bytes, receivers: Collection[bytes], token: bytes, first: int, last: int
) -> dict[str, object]:
    padded = [to_hex(one.rjust(WORD, b"\0")) for one in sorted(receivers)]
    return {
        "fromBlock": to_hex(first), "toBlock": to_hex(last), "address": to_hex(treasury),
        "topics": [[to_hex(topic)], padded, [to_hex(token.rjust(WORD, b"\0"))]],
    }  # fmt: skip


def _said(
    logs: Sequence[Log], treasury: bytes, topic: bytes, receivers: Collection[bytes], token: bytes
) -> list[Log]:
    """The logs of one kind among these; what was not asked for is passed over."""
    return [
        log
        for log in logs
        if log.at == treasury
        and (len(log.topics), len(log.data), log.topics[:1]) == (3, WORD, (topic,))
        and log.address(1) in receivers
        and log.address(2) == token
    ]


def is_credited(
    reader: Reader, treasury: bytes, token: bytes, to: bytes, amount: int, block: int, transaction: bytes
) -> bool:
    """Whether a transaction of a final block credited a receiver with an amount."""
    logs = reader.logs(_asked(treasury, CREDITED, {to}, token, block, block), is_final=True)
    return any(
        (log.transaction, log.word(0)) == (transaction, amount)
        for log in _said(logs, treasury, CREDITED, {to}, token)
    )


def pulls(
    reader: Reader, treasury: bytes, token: bytes, receivers: Collection[bytes], first: int, last: int
) -> list[Log]:
    """What receivers pulled, in final blocks, in the order of the chain."""
    logs = reader.logs(_asked(treasury, PULLED, receivers, token, first, last), is_final=True)
    return _said(logs, treasury, PULLED, receivers, token)


def proof_of_pull(
    chain_id: int, asset: str, token: bytes, pulled: Log, transfers: Sequence[Moved]
) -> Moved | None:
    """The movement that a pull made. transfers: of the token, from Treasury to the receiver, in its block."""
    to, amount = pulled.address(1), pulled.word(0)
    if token == COIN:
        document = coin_document(chain_id, pulled, to, amount)
        key = evidence_key(chain_id, pulled)
        return Moved(key, asset, pulled.at, to, amount, pulled.block, pulled.transaction, document)
    after = [
        one
        for one in transfers
        if (one.transaction, one.receiver, one.amount_minor) == (pulled.transaction, to, amount)
        and _place(one) > pulled.index
    ]
    return min(after, key=_place, default=None)


def _place(moved: Moved) -> int:
    return int(moved.key.rpartition(":")[2])
