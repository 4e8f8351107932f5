"""Whether database, signed heads, bundle and chains tell one history: for an operator (L9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger import store
from ledger.anchoring import Anchor
from ledger.database import Engine, reading
from ledger.proof import Verifiers, check_checkpoint
from ledger.records import WORD, Invalid, Unavailable
from ledger.target import Target
from ledger.tree import Tree


@dataclass
class Health:
    """How far each of them reaches, in records; troubles: what does not fit, each a sentence."""

    recorded: int = 0
    signed: int = 0
    published: int = 0
    held: dict[str, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether nothing was found."""
        return not self.troubles


def look(
    engine: Engine, heads: Engine, bundle: Target, log: Verifiers, anchors: Sequence[Anchor] = ()
) -> Health:
    """Ask all of them and change none; that every byte is right a start or an audit says."""
    found = Health()
    roots: dict[int, dict[str, bytes]] = {}
    with store.asking(), reading(engine) as connection:
        found.recorded, edge = store.size_and_edge(connection)
    hashes = [edge[at : at + WORD] for at in range(0, len(edge), WORD)]
    tree = Tree.from_edge(found.recorded, hashes)
    roots.setdefault(found.recorded, {})["the database"] = tree.root()
    with store.asking("store of signed heads"), reading(heads) as connection:
        head = store.last_head(connection)
    if head is not None:
        found.signed = head.size
        roots.setdefault(head.size, {})["the last signed head"] = head.root
    _look_at_bundle(bundle, log, found, roots)
    for anchor in anchors:
        _look_at_chain(anchor, found, roots)
    reach = {"the last signed head": found.signed, "the checkpoint": found.published, **found.held}
    for who, size in reach.items():
        if size > found.recorded:
            found.troubles.append(f"{who} has size {size}, the database {found.recorded} records (L9)")
    for size, told in sorted(roots.items()):
        if size and len(set(told.values())) > 1:
            listed = ", ".join(f"{who} {root.hex()}" for who, root in told.items())
            found.troubles.append(f"size {size} has more than one root: {listed} (L9)")
    return found


def _look_at_bundle(
    bundle: Target, log: Verifiers, found: Health, roots: dict[int, dict[str, bytes]]
) -> None:
    try:
        note = bundle.find("checkpoint")
        if note is not None:
            checkpoint, _ = check_checkpoint(note, log, log)
            found.published = checkpoint.size
            roots.setdefault(checkpoint.size, {})["the checkpoint"] = checkpoint.root
    except (Invalid, Unavailable) as error:
        found.troubles.append(f"the bundle: {error}")


def _look_at_chain(anchor: Anchor, found: Health, roots: dict[int, dict[str, bytes]]) -> None:
    try:
        held = anchor.held()
    except Unavailable as error:
        found.troubles.append(f"{anchor.name}: {error.why}")
        return
    found.held[anchor.name] = held.size
    roots.setdefault(held.size, {})[anchor.name] = held.root
