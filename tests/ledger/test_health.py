"""What an operator is told of database, heads, bundle and chains."""

from __future__ import annotations

import pytest

from ledger.health import look
from ledger.records import Unavailable
from tests.ledger.running import KEYS, Ledger
from tests.ledger.test_anchor import anchor, more, node


def test_where_all_tell_one_history_nothing_is_found_and_each_reach_is_told(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, chain = ledger.publisher(), node(ledger)
    writer.publish(publisher, ledger.watcher(), (anchor(chain),))
    size = writer.tree.size
    more(ledger, writer, log, 0, 2)
    found = look(ledger.engine, ledger.heads, publisher.target, KEYS.verifiers(), (anchor(chain),))
    assert found.is_well, found.troubles
    assert (found.recorded, found.signed, found.published) == (size + 2, size, size)
    assert list(found.held.values()) == [size]


def test_what_does_not_fit_is_named(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, chain = ledger.publisher(), node(ledger)
    writer.publish(publisher, ledger.watcher(), (anchor(chain),))
    other = Ledger(ledger.folder / "b", ledger.engine, ledger.heads, ledger.clock)
    # A chain that was silent, a checkpoint that was changed, and a chain that holds something else.
    silent = node(ledger, 2, is_silent=True)
    place = publisher.folder / "checkpoint"
    good = place.read_bytes()
    place.write_bytes(good.replace(str(writer.tree.size).encode(), b"9"))
    found = look(other.engine, other.heads, publisher.target, KEYS.verifiers(), (anchor(silent),))
    assert [trouble.partition(":")[0] for trouble in found.troubles] == ["the bundle", anchor(silent).name]
    place.write_bytes(KEYS.sign_checkpoint(writer.tree.size, bytes(32), log.now))
    found = look(ledger.engine, ledger.heads, publisher.target, KEYS.verifiers(), (anchor(chain),))
    (named,) = found.troubles
    assert f"size {writer.tree.size} has more than one root" in named
    place.write_bytes(KEYS.sign_checkpoint(writer.tree.size + 5, bytes(32), log.now))
    found = look(ledger.engine, ledger.heads, publisher.target, KEYS.verifiers())
    size = writer.tree.size
    assert found.troubles == [f"the checkpoint has size {size + 5}, the database {size} records (L9)"]
    with pytest.raises(Unavailable):
        anchor(silent).held()
