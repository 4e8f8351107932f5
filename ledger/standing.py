"""How firmly a record stands, in four plain words (field failure 82).

recorded: the ledger has it, and nobody outside has seen it. witnessed: somebody besides the log
signed a head that covers it. anchored: the newest block of a chain holds such a head, which a
reorganisation may still take back. final: a block that the chain will not take back holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger import anchor_store, store
from ledger.database import Connection
from ledger.proof import ED25519, Verifier, open_note, parse_checkpoint

STATES: Final = ("recorded", "witnessed", "anchored", "final")


@dataclass(frozen=True, slots=True)
class Reach:
    """How far each state reaches: the number of records from the first on that have come to it."""

    recorded: int
    witnessed: int = 0
    anchored: int = 0
    final: int = 0

    def states(self, position: int) -> list[tuple[str, bool]]:
        """Each state and whether a record has come to it; each stands on the one before."""
        sizes = (self.recorded, self.witnessed, self.anchored, self.final)
        reached = next((n for n, size in enumerate(sizes) if size <= position), len(sizes))
        return [(state, place < reached) for place, state in enumerate(STATES)]

    def standing(self, position: int) -> str | None:
        """The state that a record has come to; None for a position that is not recorded."""
        return next((state for state, done in reversed(self.states(position)) if done), None)


def reach(
    connection: Connection, note: bytes | None, verifiers: Sequence[Verifier], needed: int = 1
) -> Reach:
    """How far everything stands: the database, the published checkpoint, and the chains that were asked.

    needed: how many names besides the log's must have cosigned before a head counts as witnessed.
    """
    recorded = store.size_and_edge(connection)[0]
    held = anchor_store.held_sizes(connection)
    # A final head above what its chain holds now was left out by a resumption, and counts no more (LEAKS 02).
    finals = (
        min(one.size, held.get((one.chain_id, one.contract), one.size)) for one in store.anchors(connection)
    )
    final = max(finals, default=0)
    return Reach(recorded, _witnessed(note, verifiers, needed), max([final, *held.values()]), final)


def _witnessed(note: bytes | None, verifiers: Sequence[Verifier], needed: int) -> int:
    if note is None:
        return 0
    text, times = open_note(note, verifiers)
    checkpoint = parse_checkpoint(text)
    # A log's own kind of key states no time and is no witness, whatever its name.
    kinds = {verifier.key: verifier.key_type for verifier in verifiers}
    names = {key[0] for key in times if kinds[key] != ED25519} - {checkpoint.origin}
    return checkpoint.size if len(names) >= needed else 0
