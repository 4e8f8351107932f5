"""A Web3 over several nodes: what asks through it goes on while one of them answers."""

from __future__ import annotations

from typing import Any, cast

from typing_extensions import override
from web3 import Web3
from web3.providers import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from gateway.rails.evm.pool import Pool
from gateway.rails.evm.rpc import Refused


class PoolProvider(BaseProvider):
    """Asks whichever node of a pool answers; a refusal is passed on as the node's own error.

    The chain module behind it turns ConnectionError, which this raises where no node answers, into
    Unavailable.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool

    @override
    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        try:
            told = {"jsonrpc": "2.0", "id": 1, "result": self._pool.ask(method, *params)}
        except Refused as refused:
            error = {"code": refused.code, "message": refused.message, "data": refused.data}
            told = {"jsonrpc": "2.0", "id": 1, "error": error}
        return cast("RPCResponse", told)


def web3_of(pool: Pool) -> Web3:
    """A Web3 that asks a pool."""
    return Web3(PoolProvider(pool))
