"""A reader's state of the ledger: it follows the records in the database and writes nothing.

The past is looked up there as the writer does it (decision 0014), so a reader needs no more memory for
each payment than the writer. The writer has judged these records: a reader that finds one that breaks a
rule stops until an act acknowledges it, or takes it for the breach that it is.
"""

from __future__ import annotations

from hashlib import sha256

from ledger import rules, store
from ledger.breaches import check_acknowledged
from ledger.database import Engine, reading
from ledger.fast import Runs
from ledger.lookup import Stored, replay
from ledger.records import Invalid, Unavailable


class Follower:
    """Follows one ledger; not for two threads at once."""

    def __init__(
        self, engine: Engine, heads: Engine | None = None, broken: list[Invalid] | None = None
    ) -> None:
        """heads: the store of signed heads, for who may read it; from there a start can be a snapshot.

        broken: gets the breaches there are; without it the first one that no act acknowledges is
        raised, each time.
        """
        self._engine, self._heads, self._is_strict = engine, heads, broken is None
        self._broken: list[Invalid] = [] if broken is None else broken
        self._past: Stored | None = None

    def follow(self, end: int | None = None) -> rules.State:
        """The state after all records there are now, or the first `end`; one query where nothing is new."""
        past = self._begin() if self._past is None else self._past
        while end is None or self._state.size < end:
            size = self._state.size
            most = store.PAGE if end is None else min(store.PAGE, end - size)
            with store.asking(), reading(self._engine) as connection:
                found = [recorded.data for recorded in store.page(connection, size - 1, most)]
            if found:
                self._take(past, found)
            if len(found) < most:
                break
        if self._is_strict:
            check_acknowledged(self._state, self._broken)
        return self._state

    def _take(self, past: Stored, found: list[bytes]) -> None:
        # What ends this in between may leave a state that is none: then all is built again.
        self._past = None
        replay(past, self._runs, found, [], self._broken)
        past.forget()
        self._past = past

    def _begin(self) -> Stored:
        self._state = self._kept() or rules.State()
        self._broken.clear()
        past = Stored(lambda: self._engine, self._state, is_reader=True)
        self._state.past, self._runs, self._past = past, Runs(self._state), past
        return past

    def _kept(self) -> rules.State | None:
        """The newest snapshot, if a signed head has its hash; it tells nothing of why a breach is one."""
        if self._heads is None or not self._is_strict:
            return None
        try:
            with store.asking("store of signed heads"), reading(self._heads) as connection:
                head = store.last_head_with_state(connection)
            if head is None:
                return None
            with store.asking(), reading(self._engine) as connection:
                data = store.snapshot(connection, head.size)
            if data is None or sha256(data).digest() != head.state:
                return None
            return rules.load(data)
        except (Invalid, Unavailable):
            # It takes longer without, and comes to the same.
            return None
