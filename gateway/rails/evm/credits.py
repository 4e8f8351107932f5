"""Money that Treasury credits, since its receiver could not receive, and when the receiver pulls it later.

A pull takes all that is credited to one receiver in one asset, and names no refund: what it proves of one
is told by the log of that refund itself (gateway/rails/evm/treasury_logs.py, decision 0029).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from gateway.payments.outgoing import Credit
from gateway.rails.evm.logs import Log
from gateway.rails.evm.rpc import to_hex
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


def is_credited(reader: Reader, treasury: bytes, token: bytes, credit: Credit) -> bool:
    """Whether a transaction of a final block credited a receiver with an amount."""
    to = {credit.receiver}
    logs = reader.logs(_asked(treasury, CREDITED, to, token, credit.block, credit.block), is_final=True)
    return any(
        (log.transaction, log.word(0)) == (credit.transaction, credit.amount_minor)
        for log in _said(logs, treasury, CREDITED, to, token)
    )


def pulls(
    reader: Reader, treasury: bytes, token: bytes, receivers: Collection[bytes], first: int, last: int
) -> list[Log]:
    """What receivers pulled, in final blocks, in the order of the chain."""
    logs = reader.logs(_asked(treasury, PULLED, receivers, token, first, last), is_final=True)
    return _said(logs, treasury, PULLED, receivers, token)
