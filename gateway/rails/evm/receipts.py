"""What a transaction wrote, once its block is final and all nodes that agree about it say the same."""

from __future__ import annotations

from dataclasses import replace

from gateway.rails.evm.blocks import MALFORMED
from gateway.rails.evm.logs import Log, read_log
from gateway.rails.evm.pool import Endpoint, Pool
from gateway.rails.evm.rpc import Refused, quantity
from ledger.records import Unavailable, reject


def final_logs(pool: Pool, transaction: bytes) -> list[Log]:
    """The logs of a final transaction, in order.

    Invalid (L8) where it reverted; Unavailable where no node has it, or its block may still go.
    """
    where, final = f"transaction 0x{transaction.hex()}", pool.head().final

    def read(endpoint: Endpoint) -> tuple[int, int, tuple[Log, ...]] | Refused | None:
        try:
            told = endpoint.node.ask("eth_getTransactionReceipt", f"0x{transaction.hex()}")
        except Refused as refused:
            return refused
        if told is None:
            return None
        try:
            # Not every node says a log's time.
            logs = tuple(replace(read_log(raw), time_s=None) for raw in told["logs"])
            return quantity(told["status"]), quantity(told["blockNumber"]), logs
        except MALFORMED as error:
            raise Unavailable(endpoint.node.name, f"{type(error).__name__}: {error}"[:300]) from error

    found = pool.confirmed(read)
    if isinstance(found, Refused):
        raise Unavailable(pool.name, f"{where}: {found}"[:300])
    if found is None:
        raise Unavailable(pool.name, f"{where}: in no block")
    status, block, logs = found
    if block > final:
        raise Unavailable(pool.name, f"{where}: in block {block}, final is {final}: ask again when it is")
    if status != 1:
        reject("L8", where, f"its status is {status}, wanted is 1: it moved nothing")
    return list(logs)
