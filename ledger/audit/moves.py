"""What moved on a chain to and from an owner: Transfer logs, and of the coin what contracts say (T8).

The chain's own coin leaves no log. What moved of it is told by the contracts of the city whose code the
ledger's Contract records name (T6): the router says Paid and Flushed only after the treasury took
its part, the treasury says what it paid, and credits where the receiver could not receive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ledger.audit.rpc import Log, Refused, Rpc
from ledger.records import WORD, address_word, keccak256

# What stands for the chain's own coin in Asset records and in the contracts; N9 keeps zero for none.
COIN: Final = b"\xee" * 20

Place = tuple[bytes, int]  # Transaction and index of the event in its block.


class Move(NamedTuple):
    """Money that moved, with the event that says so; to: who got it; is_out: it left the owner."""

    log: Log
    token: bytes
    to: bytes
    amount: int
    is_out: bool


def _topic(event: str) -> str:
    return "0x" + keccak256(event.encode()).hex()


TRANSFER = _topic("Transfer(address,address,uint256)")
PAID = _topic("Paid(bytes32,address,uint256,uint256)")
FLUSHED = _topic("Flushed(bytes32,address,address,uint256,uint256)")
EXECUTED = _topic("Executed(bytes32,bytes32,address,address,uint256)")
REFUNDED = _topic("Refunded(bytes32,bytes32,address,address,uint256)")
CREDITED = _topic("Credited(address,address,uint256)")
PULLED = _topic("Pulled(address,address,uint256)")
_COIN_TOPIC = "0x" + address_word(COIN).hex()


def token_moves(node: Rpc, token: bytes, owner: bytes, block: int) -> dict[Place, Move]:
    """Each movement of a token to or from an owner, up to a block."""
    mine = address_word(owner)
    found = node.logs(token, [TRANSFER, None, "0x" + mine.hex()], 0, block)
    found += node.logs(token, [TRANSFER, "0x" + mine.hex()], 0, block)
    # Anybody can write a movement of nothing in the treasury's name, and one to itself moves nothing.
    return _placed(
        Move(log, log.at, log.topics[2][12:], int.from_bytes(log.data, "big"), log.topics[1] == mine)
        for log in found
        if len(log.topics) == 3 and len(log.data) == WORD and any(log.data) and log.topics[1] != log.topics[2]
    )


def coin_moves(node: Rpc, routers: Iterable[bytes], treasury: bytes, block: int) -> dict[Place, Move]:
    """Each movement of the coin into a treasury by its routers, and out of it, up to a block."""
    found: list[Move] = []
    for router in routers:
        if not _pays(node, router, treasury, block):
            continue
        for topics in ([PAID, None, _COIN_TOPIC], [FLUSHED, None, None, _COIN_TOPIC]):
            for log in node.logs(router, topics, 0, block):
                amounts = _words(log, len(topics), 2)
                if amounts and (city := int.from_bytes(amounts[1], "big")):
                    found.append(Move(log, COIN, treasury, city, is_out=False))
    credited = {
        (log.transaction, log.index) for log in node.logs(treasury, [CREDITED, None, _COIN_TOPIC], 0, block)
    }
    for topic in (EXECUTED, REFUNDED):
        for log in node.logs(treasury, [topic], 0, block):
            told = _words(log, 4, 2)
            # Told before it is tried: where the receiver could not receive, the next log is its credit.
            if told and told[0] == address_word(COIN) and (log.transaction, log.index + 1) not in credited:
                found.append(_out(log, log.topics[3], told[1]))
    pulled = node.logs(treasury, [PULLED, None, _COIN_TOPIC], 0, block)
    found += [_out(log, log.topics[1], told[0]) for log in pulled if (told := _words(log, 3, 1))]
    return _placed(found)


def _out(log: Log, to: bytes, amount: bytes) -> Move:
    return Move(log, COIN, to[12:], int.from_bytes(amount, "big"), is_out=True)


def _pays(node: Rpc, router: bytes, treasury: bytes, block: int) -> bool:
    try:
        return node.call(router, "treasury()", block=block)[0] == address_word(treasury)
    except Refused:
        return False


def _words(log: Log, topics: int, words: int) -> list[bytes]:
    """The words of an event's data; none where it has another shape."""
    if (len(log.topics), len(log.data)) != (topics, words * WORD):
        return []
    return [log.data[at : at + WORD] for at in range(0, len(log.data), WORD)]


def _placed(moves: Iterable[Move]) -> dict[Place, Move]:
    return {(move.log.transaction, move.log.index): move for move in moves}
