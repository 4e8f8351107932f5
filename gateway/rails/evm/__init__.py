"""The EVM rail: logs in, evidence out; quotes and deposit addresses, computed without a call.

Push is no part of it: the truth is a range of blocks asked for from a cursor. What is not
final can go with its block, and what is final is read again, from two nodes where there are two.
"""

from __future__ import annotations

from gateway.rails.evm.logs import FLUSHED, PAID, TRANSFER, Log, log_of
from gateway.rails.evm.place import Place, Term, rail_name
from gateway.rails.evm.pool import Head, Pool
from gateway.rails.evm.quotes import Quotes
from gateway.rails.evm.reading import EvmRail, gone
from gateway.rails.evm.rpc import HttpNode, Node, Refused, WebNode
from gateway.rails.evm.split import payout_document
from gateway.rails.evm.treasury_logs import order_paid

__all__ = [
    "FLUSHED",
    "PAID",
    "TRANSFER",
    "EvmRail",
    "Head",
    "HttpNode",
    "Log",
    "Node",
    "Place",
    "Pool",
    "Quotes",
    "Refused",
    "Term",
    "WebNode",
    "gone",
    "log_of",
    "order_paid",
    "payout_document",
    "rail_name",
]
