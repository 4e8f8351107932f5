"""What moved on a chain to and from an owner, and by which order or refund (T8).

What leaves the treasury is told by its own contract, whose code the ledger's Contract records name (T6):
Executed or Refunded names the order or refund. Where the receiver could not receive, the next event is its
Credited; then nothing has moved until the credit is Pulled, in one sum with whatever else was credited to
that receiver. A token's movement has a Transfer log besides. The chain's own coin has none: what came in of
it is told by the router, which says Paid and Flushed only after the treasury took its part.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Final, NamedTuple

from ledger.audit.rpc import Log, Refused, Rpc
from ledger.records import WORD, address_word, keccak256

# What stands for the chain's own coin in Asset records and in the contracts; N9 keeps zero for none.
COIN: Final = b"\xee" * 20

Place = tuple[bytes, int]  # Transaction and index of the event in its block.


class Move(NamedTuple):
    """Money that moved, with the event that evidence of it names; to: who got it; is_out: it left the owner.

    authority: the order or refund by which it left, nothing if none did; block: since when it has moved, None
    while it is credited and nobody has pulled it. is_unasked: it came by no router of the ledger.
    """

    log: Log
    token: bytes
    to: bytes
    amount: int
    is_out: bool
    block: int | None
    authority: bytes = b""
    is_unasked: bool = False


class _Payout(NamedTuple):
    """What an order or a refund let go; pulled: what emptied its credit, None where there was or is none."""

    log: Log
    to: bytes
    amount: int
    is_credited: bool
    pulled: Log | None = None

    def move(self, token: bytes) -> Move:
        """It as a movement that its own event names."""
        last = self.pulled or self.log
        block = None if self.is_credited and self.pulled is None else last.block
        return Move(
            self.log, token, self.to, self.amount, is_out=True, block=block, authority=self.log.topics[1]
        )


def _topic(event: str) -> str:
    return "0x" + keccak256(event.encode()).hex()


TRANSFER = _topic("Transfer(address,address,uint256)")
PAID = _topic("Paid(bytes32,address,uint256,uint256)")
FLUSHED = _topic("Flushed(bytes32,address,address,uint256,uint256)")
EXECUTED = _topic("Executed(bytes32,bytes32,address,address,uint256)")
REFUNDED = _topic("Refunded(bytes32,bytes32,address,address,uint256)")
CREDITED = _topic("Credited(address,address,uint256)")
PULLED = _topic("Pulled(address,address,uint256)")
# Topics of each event of the treasury, and the words of its data.
_SHAPES = {EXECUTED: (4, 2), REFUNDED: (4, 2), CREDITED: (3, 1), PULLED: (3, 1)}


def token_moves(
    node: Rpc, token: bytes, owner: bytes, block: int, routers: Iterable[bytes] = ()
) -> dict[Place, Move]:
    """Each movement of a token to or from an owner, up to a block.

    routers: by which money comes in. With one, what comes past them is nobody's payment (decision 0042).
    """
    mine = address_word(owner)
    found = node.logs(token, [TRANSFER, None, "0x" + mine.hex()], 0, block)
    found += node.logs(token, [TRANSFER, "0x" + mine.hex()], 0, block)
    # Anybody can write a movement of nothing in the treasury's name, and one to itself moves nothing.
    moves = _placed(
        Move(
            log, log.at, log.topics[2][12:], int.from_bytes(log.data, "big"), log.topics[1] == mine, log.block
        )
        for log in found
        if len(log.topics) == 3 and len(log.data) == WORD and any(log.data) and log.topics[1] != log.topics[2]
    )
    payouts, told = _payouts(node, owner, token, block)
    sent = _transfers(told, [move.log for move in moves.values() if move.is_out], owner)
    for payout in payouts:
        place = _place(payout.log)
        if payout.is_credited:
            moves[place] = payout.move(token)
        elif place in sent:
            moves[sent[place]] = moves[sent[place]]._replace(authority=payout.log.topics[1])
    # The Transfer of a pull is what the pull emptied, which stands there one by one.
    for place in {_place(payout.pulled) for payout in payouts if payout.pulled is not None} & set(sent):
        del moves[sent[place]]
    if paying := [router for router in routers if _pays(node, router, owner, block)]:
        came = [move.log for move in moves.values() if not move.is_out]
        told = [log for router in paying for log in _told_in(node, router, token, block)]
        for place in {_place(log) for log in came} - _routed(told, came):
            moves[place] = moves[place]._replace(is_unasked=True)
    return moves


def _told_in(node: Rpc, router: bytes, token: bytes, block: int) -> list[Log]:
    """What a router says of a token, or of the coin, that it brought to the treasury, a unit at least."""
    named = "0x" + address_word(token).hex()
    asked: tuple[list[str | None], ...] = ([PAID, None, named], [FLUSHED, None, None, named])
    found = [(log, len(topics)) for topics in asked for log in node.logs(router, topics, 0, block)]
    return [log for log, count in found if (words := _words(log, count, 2)) and any(words[1])]


def _routed(told: list[Log], came: list[Log]) -> set[Place]:
    """Which Transfers a router's events are of: each of one, Paid of the next and Flushed of the last."""
    left: dict[bytes, list[Log]] = {}
    for log in came:
        left.setdefault(log.transaction, []).append(log)
    found: set[Place] = set()
    for event in sorted(told, key=lambda log: (log.block, log.index)):
        sign = 1 if _event(event) == PAID else -1
        fitting = [
            log
            for log in left.get(event.transaction, [])
            if log.data == event.data[WORD:] and sign * (log.index - event.index) > 0
        ]
        if fitting:
            nearest = min(fitting, key=lambda log: sign * log.index)
            left[event.transaction].remove(nearest)
            found.add(_place(nearest))
    return found


def coin_moves(node: Rpc, routers: Iterable[bytes], treasury: bytes, block: int) -> dict[Place, Move]:
    """Each movement of the coin into a treasury by its routers, and out of it, up to a block."""
    found: list[Move] = []
    for router in routers:
        if not _pays(node, router, treasury, block):
            continue
        for log in _told_in(node, router, COIN, block):
            city = int.from_bytes(log.data[WORD:], "big")
            found.append(Move(log, COIN, treasury, city, is_out=False, block=log.block))
    payouts, told = _payouts(node, treasury, COIN, block)
    found += [payout.move(COIN) for payout in payouts]
    known = {_place(payout.pulled) for payout in payouts if payout.pulled is not None}
    # A pull of what was not credited, which the contract does not do, is a movement that nothing authorises.
    found += [
        Move(log, COIN, log.topics[1][12:], int.from_bytes(log.data, "big"), is_out=True, block=log.block)
        for log in told
        if _event(log) == PULLED and _place(log) not in known
    ]
    return _placed(found)


def is_pulled_later(node: Rpc, move: Move, treasury: bytes, block: int) -> bool:
    """Whether what is credited was pulled after a block."""
    latest = node.block("latest")
    if latest is None or latest[0] <= block:
        return False
    words = [address_word(move.to), address_word(move.token)]
    return bool(node.logs(treasury, [PULLED, *("0x" + word.hex() for word in words)], block + 1, latest[0]))


def _payouts(node: Rpc, treasury: bytes, token: bytes, block: int) -> tuple[list[_Payout], list[Log]]:
    """What orders and refunds let go of a token or the coin, and all that the treasury told of it."""
    word = address_word(token)
    named = "0x" + word.hex()
    asked: list[tuple[str, list[str | None]]] = [
        (EXECUTED, []), (REFUNDED, []), (CREDITED, [None, named]), (PULLED, [None, named])
    ]  # fmt: skip
    told = [
        log
        for event, topics in asked
        for log in node.logs(treasury, [event, *topics], 0, block)
        if _words(log, *_SHAPES[event]) and (topics or log.data[:WORD] == word)
    ]
    told.sort(key=lambda log: (log.block, log.index))
    done: list[_Payout] = []
    waiting: dict[bytes, list[int]] = {}
    for log, following in zip_longest(told, told[1:]):
        if _event(log) in {EXECUTED, REFUNDED}:
            to, amount = log.topics[3], log.data[WORD:]
            # Told before it is tried; an event of another call cannot stand between it and its credit.
            is_credited = (
                following is not None
                and (_event(following), following.transaction) == (CREDITED, log.transaction)
                and (following.topics[1], following.data) == (to, amount)
            )
            if is_credited:
                waiting.setdefault(to, []).append(len(done))
            done.append(_Payout(log, to[12:], int.from_bytes(amount, "big"), is_credited))
        elif _event(log) == PULLED:
            credits = waiting.get(log.topics[1], [])
            # A pull empties the credit, whole.
            if sum(done[at].amount for at in credits) == int.from_bytes(log.data, "big"):
                for at in waiting.pop(log.topics[1], []):
                    done[at] = done[at]._replace(pulled=log)
    return done, told


def _transfers(told: list[Log], sent: list[Log], treasury: bytes) -> dict[Place, Place]:
    """Which Transfer followed which event of the treasury, before it told of anything else."""
    found: dict[Place, Place] = {}
    last: Log | None = None
    for log in sorted([*told, *sent], key=lambda log: (log.block, log.index)):
        if log.at == treasury:
            last = log if _event(log) != CREDITED else None
        elif last is not None and last.transaction == log.transaction:
            # Executed and Refunded name the receiver in their last topic, Pulled in its first.
            to = last.topics[1] if _event(last) == PULLED else last.topics[3]
            if (log.topics[2], log.data) == (to, last.data[-WORD:]):
                found[_place(last)] = _place(log)
                last = None
    return found


def _event(log: Log) -> str:
    return "0x" + log.topics[0].hex()


def _place(log: Log) -> Place:
    return log.transaction, log.index


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
