"""What a batch says about the close of years: the states that Close records name, as bytes.

A Close names the hash of the state just before it. Nobody can write that state down later without
replaying all that came before; so the writer keeps its bytes in the transaction that records the Close, and
the publisher shows them once the Close is in effect (docs/bundle.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger import rules, store
from ledger.database import Connection
from ledger.records import WORD, Approval, Close, Record


@dataclass
class Closes:
    """The Closes that one batch records, and those that take effect in it."""

    recorded: list[store.ClosingState] = field(default_factory=list)
    # Where a Close stands, and the approval that gave it effect.
    effective: list[tuple[int, int]] = field(default_factory=list)
    _before: bytes = b""

    def before(self, state: rules.State, data: bytes) -> None:
        """A record comes: of a Close the state is written down before the rules are asked."""
        if data[:WORD] == Close.type_hash:
            self._before = rules.dump(state)

    def after(self, state: rules.State, record: Record) -> None:
        """The rules took it as the last record of the state."""
        index = state.size - 1
        if isinstance(record, Close):
            self.recorded.append(store.ClosingState(index, record.year, record.state_hash, self._before))
            self._before = b""
        elif isinstance(record, Approval):
            proposal = state.proposals[record.approves]
            # Of what is in effect no approval is taken: it was this one.
            if isinstance(proposal.record, Close) and proposal.effective_s is not None:
                self.effective.append((proposal.index, index))

    def keep(self, connection: Connection) -> None:
        """Write it down, in the transaction that writes the batch."""
        for closing in self.recorded:
            store.keep_closing_state(connection, closing)
        for position, effective in self.effective:
            store.close_year(connection, position, effective)
