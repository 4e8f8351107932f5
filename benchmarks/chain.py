"""Gas: what benchmarks/gas.py measures, each beside the peer it is compared with."""

from __future__ import annotations

from web3 import HTTPProvider, Web3

from benchmarks import gas
from benchmarks.result import Result, Results, Wanted
from tests import servers


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """All of them from one node."""
    with servers.anvil() as node:
        found = gas.measure(Web3(HTTPProvider(node.url)), node.call)
    for name, used in found.items():
        yield Result(name, used, "gas", gas.PEERS.get(name), "1")
