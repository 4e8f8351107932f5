"""How firmly a record stands, in plain words (field failure 82)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.database import reading
from ledger.publish import Publisher
from ledger.standing import STATES, Reach, reach
from tests.ledger.running import Ledger, fees
from tests.ledger.test_anchor import anchor, node


def standing(ledger: Ledger, publisher: Publisher, position: int) -> str | None:
    with reading(ledger.engine) as connection:
        note = publisher.target.find("checkpoint")
        return reach(connection, note, publisher.trust.verifiers).standing(position)


def test_ff82_a_record_is_recorded_witnessed_anchored_and_final_in_this_order_and_each_is_told(
    ledger: Ledger,
):
    writer, log = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger, mines_at_once=False)
    (fee,) = fees(log, 0, 1)
    position = writer.tree.size
    told = [standing(ledger, publisher, position)]
    ledger.ask(fee)
    told.append(standing(ledger, publisher, position))  # asked for, and no record yet
    writer.drain()
    told.append(standing(ledger, publisher, position))
    writer.publish(publisher)
    told.append(standing(ledger, publisher, position))  # signed by the log alone, which says nothing new
    writer.publish(publisher, watcher, (anchor(chain),))
    told.append(standing(ledger, publisher, position))  # on its way to the chain, and in no block
    for _ in range(3):
        chain.mine()
        writer.publish(publisher, watcher, (anchor(chain),))
        told.append(standing(ledger, publisher, position))
    assert told == [
        None, None, "recorded", "recorded", "witnessed", "anchored", "anchored", "final",
    ]  # fmt: skip


def test_ff82_what_a_reorganisation_took_back_is_no_longer_called_anchored(ledger: Ledger):
    writer, _ = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger, lag=3)
    writer.publish(publisher, watcher, (anchor(chain),))
    assert standing(ledger, publisher, 0) == "anchored"
    chain.mines_at_once = False
    chain.reorganise(1, loses=True)
    ledger.clock.now += 1
    writer.publish(publisher, watcher, (anchor(chain),))
    assert standing(ledger, publisher, 0) == "witnessed"


def test_ff82_of_two_chains_the_first_that_holds_it_for_good_makes_it_final(ledger: Ledger):
    writer, _ = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    slow, quick = node(ledger, 1, lag=5), node(ledger, 2, lag=0)
    writer.publish(publisher, watcher, (anchor(slow), anchor(quick)))
    assert standing(ledger, publisher, 0) == "final"


@given(sizes=st.lists(st.integers(0, 9), min_size=4, max_size=4), position=st.integers(0, 10))
def test_ff82_no_state_is_told_without_the_ones_before_it(sizes: list[int], position: int):
    found = Reach(*sizes)
    done = [is_done for _, is_done in found.states(position)]
    assert [state for state, _ in found.states(position)] == list(STATES)
    assert done == sorted(done, reverse=True)
    assert done == [all(size > position for size in sizes[: place + 1]) for place in range(4)]
    assert found.standing(position) == ([None, *STATES][sum(done)])


@pytest.mark.parametrize("needed", [1, 2])
def test_ff82_the_logs_own_key_is_no_witness(ledger: Ledger, needed: int):
    writer, _ = ledger.opened()
    publisher = ledger.publisher()
    writer.publish(publisher, ledger.watcher())
    with reading(ledger.engine) as connection:
        note = publisher.target.find("checkpoint")
        found = reach(connection, note, publisher.trust.verifiers, needed)
        alone = reach(connection, note, publisher.keys.verifiers(), needed)
    assert found.witnessed == (writer.tree.size if needed == 1 else 0)
    assert alone.witnessed == 0
