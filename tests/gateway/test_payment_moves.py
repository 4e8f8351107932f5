"""The table of legal moves against all that can happen to one invoice: each move is made, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.payments.model import MOVES, Derived, Note, Payment, Returned, Status, Terms, derive, follow
from gateway.rails import Kind, Stage

DUE, EXPIRES = 2, 10
# A piece of money: units, how far it has come, and "in" time, late and "held", late and "accepted", or "kept".
Piece = tuple[int, Stage, str] | None
IDLE = {"held", "kept"}
# Units that go back, whether they have, and how many are of each piece that did not count when it was asked for.
Back = tuple[int, bool, tuple[int, int]]
# Two pieces of money, at most two refunds, whether the time is over, whether it was voided.
World = tuple[tuple[Piece, ...], tuple[Back, ...], bool, bool]
START: World = ((None, None), (), False, False)


def state(world: World) -> Derived:
    money, back, is_over, is_void = world
    terms = Terms("USDT", DUE, DUE, EXPIRES, voided=is_void)
    payments = [
        Payment(
            Kind.ROUTER, piece[1], "USDT", piece[0], 1 if piece[2] == "in" else EXPIRES + 1,
            is_accepted=piece[2] == "accepted", is_spent=piece[2] == "kept",
        )
        for piece in money
        if piece is not None
    ]  # fmt: skip
    returned = []
    for units, is_final, parts in back:
        idle = sum(
            part for part, piece in zip(parts, money, strict=True) if piece is not None and piece[2] in IDLE
        )
        told = ((units - idle, False), (idle, True))
        returned += [Returned("USDT", some, is_final, is_held=held) for some, held in told if some]
    return derive(terms, payments, EXPIRES + 1 if is_over else 1, returned)


def pieces_after(piece: Piece, given: int) -> Iterator[Piece]:
    """What one piece of money can become by one event; given: how much of it goes back by its name."""
    if piece is None:
        for units in (1, DUE):
            for stage in set(Stage) - {Stage.GONE}:
                for when in ("in", "held", "accepted"):
                    yield units, stage, when
        return
    units, stage, when = piece
    if stage is not Stage.FINAL:
        yield from ((units, other, when) for other in Stage if other is not stage)
    if when == "held" and stage is not Stage.GONE:
        # Accepted, or kept apart, or given to another invoice, which what goes back is not.
        yield from [(units, stage, "accepted"), (units, stage, "kept") if given else None]


def after(world: World) -> Iterator[World]:
    """What can happen that the state is followed after, each by itself."""
    money, back, is_over, is_void = world
    for at, piece in enumerate(money):
        for other in pieces_after(piece, sum(parts[at] for _, _, parts in back)):
            yield sort((*money[:at], other, *money[at + 1 :]), back, is_over, is_void)
    yield (money, back, is_over, True)
    final = sum(piece[0] for piece in money if piece is not None and piece[1] is Stage.FINAL)
    if len(back) < 2:
        for units in (1, DUE):
            if sum(one for one, _, _ in back) + units <= final:
                for parts in parts_of(money, back, units):
                    yield sort(money, (*back, (units, False, parts)), is_over, is_void)
    for at, (units, is_done, parts) in enumerate(back):
        if not is_done:
            yield sort(money, (*back[:at], (units, True, parts), *back[at + 1 :]), is_over, is_void)
            yield sort(money, (*back[:at], *back[at + 1 :]), is_over, is_void)
    yield (money, back, True, is_void)


def parts_of(money: tuple[Piece, ...], back: tuple[Back, ...], units: int) -> set[tuple[int, int]]:
    """Of which pieces that do not count a refund can be: of none, or of them first, whichever was there first."""
    room = [
        piece[0] - sum(parts[at] for _, _, parts in back)
        if piece is not None and piece[1] is Stage.FINAL and piece[2] in IDLE
        else 0
        for at, piece in enumerate(money)
    ]
    first = min(units, room[0])
    last = min(units, room[1])
    return {(0, 0), (first, min(units - first, room[1])), (min(units - last, room[0]), last)}


def sort(money: tuple[Piece, ...], back: tuple[Back, ...], is_over: bool, is_void: bool) -> World:
    # Which came first makes no difference to a state, and half as many worlds.
    if str(money[0]) > str(money[1]):
        money = money[::-1]
        back = tuple((units, is_done, parts[::-1]) for units, is_done, parts in back)
    return money, tuple(sorted(back)), is_over, is_void


@pytest.fixture(scope="module")
def made() -> dict[Status, set[Status]]:
    """Every move that is made, from every world that can be come to."""
    moves: dict[Status, set[Status]] = {status: set() for status in Status}
    known: dict[World, Derived] = {}
    # Time passes unseen until `expire` or something else happens: the status may be one of before.
    start = (START, Status.OPEN)
    seen, todo = {start}, [start]
    while todo:
        world, stored = todo.pop()
        reached = [((*world[:2], True, world[3]), stored)]
        for other in after(world):
            if other not in known:
                known[other] = state(other)
            derived = known[other]
            assert follow(stored, derived) is derived.status, (stored, other)
            if derived.status is not stored:
                moves[stored].add(derived.status)
            reached.append((other, derived.status))
        todo += set(reached) - seen
        seen.update(reached)
    assert len(seen) > 10_000
    return moves


@pytest.mark.parametrize("status", list(Status))
def test_the_table_has_every_move_that_is_made_and_no_other(made: dict[Status, set[Status]], status: Status):
    by_clocks = {Status.OPEN} if status is Status.EXPIRED else set()
    assert MOVES[status] == made[status] | by_clocks


def test_what_was_final_stays_final_even_where_our_own_bug_derives_something_else():
    for status in Status:
        derived = Derived(status, frozenset(), 0, 0, 0)
        assert follow(Status.FINAL, derived) is Status.FINAL
        for note in (Note.REFUND_PENDING, Note.REFUNDED):
            assert follow(Status.FINAL, Derived(status, frozenset({note}), 0, 0, 0)) is status
        if status is not Status.FINAL:
            assert follow(status, Derived(Status.PAID, frozenset(), 0, 0, 0)) is Status.PAID


def test_void_is_never_taken_back_and_final_only_by_a_refund():
    assert not MOVES[Status.VOID] & {Status.OPEN, Status.EXPIRED, Status.REFUNDED}
    assert not MOVES[Status.FINAL] & {Status.OPEN, Status.EXPIRED, Status.VOID, Status.REFUNDED}
    assert set(MOVES) == set(Status)
