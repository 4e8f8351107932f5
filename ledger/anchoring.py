"""Bringing heads to chains: the newest size supersedes, and only what is final counts as anchored.

A head is sent, then in a block, then final. Until it is final it may be lost: a transaction can
wait for ever, be replaced, or be taken back with its block. So nothing here waits. Each round
asks the chain what it holds and does what is missing, and any round may be the first after a
crash. Only final heads go into `ledger_anchor`, and from there into anchors.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from ledger import anchor_store, rules, store
from ledger.anchor_store import Progress, Sent
from ledger.database import Connection, Engine, reading
from ledger.publish import Publisher
from ledger.records import Invalid, Unavailable, reject
from ledger.watcher import SignedHead

# The name of a Contract record that says from which size its contract goes on.
RESUMES: Final = "anchor@"


class Held(NamedTuple):
    """The head in a chain's newest block; size 0 where there is none."""

    size: int
    root: bytes


@dataclass(frozen=True)
class Signed:
    """A transaction and its bytes, which are only handed over once it is noted."""

    sent: Sent
    raw: bytes


class Anchor(Protocol):
    """A chain that takes heads."""

    @property
    def name(self) -> str:
        """Which chain this is, for people."""
        ...

    @property
    def chain_id(self) -> int:
        """Which chain this is, for programs."""
        ...

    @property
    def contract(self) -> bytes:
        """The address that takes heads there."""
        ...

    def held(self) -> Held:
        """The head in the newest block, whoever brought it."""
        ...

    def finals(self, after: store.Anchored | None) -> list[store.Anchored]:
        """The final heads above the last one that was noted and that count, in order of size."""
        ...

    def voided(self, heads: Sequence[store.Anchored]) -> list[store.Anchored]:
        """Those of these heads that a resumption from an earlier one has left out (LEAKS 02)."""
        ...

    def prepare(
        self, size: int, root: bytes, path: list[bytes], head: SignedHead, before: Sent | None
    ) -> Signed | None:
        """Sign what brings a head, or replaces what waits; None where what waits is still good."""
        ...

    def send(self, signed: Signed) -> None:
        """Hand a signed transaction over; it may be lost on the way, and the reply too."""
        ...


@dataclass
class Outcome:
    """What a round came to: how many heads it noted as final, and what went wrong, by chain.

    told: what is no failure and what the operator should know, each a sentence.
    """

    noted: int = 0
    told: list[str] = field(default_factory=list)
    broken: list[Invalid] = field(default_factory=list)
    silent: list[Unavailable] = field(default_factory=list)


def anchor_all(
    engine: Engine, publisher: Publisher, anchors: Sequence[Anchor], head: SignedHead | None
) -> Outcome:
    """Bring each chain up to a head, or only follow it where head is None.

    One chain that is gone, or that holds another ledger, does not keep the others from going on.
    """
    outcome = Outcome()
    for anchor in anchors:
        try:
            outcome.noted += _anchor(engine, publisher, anchor, head, outcome.told)
        except Unavailable as error:
            outcome.silent.append(Unavailable("anchor", f"{anchor.name}: {error.why}"))
        except Invalid as error:
            outcome.broken.append(Invalid(error.rule, f"{anchor.name}: {error.where}", error.why))
    return outcome


def resumptions(state: rules.State) -> dict[tuple[int, bytes], int]:
    """Which contracts go on from which size, by an act that is in effect (LEAKS 02)."""
    found: dict[tuple[int, bytes], int] = {}
    for name, contract in state.contracts.items():
        if name.startswith(RESUMES):
            home, size = (contract.chain_id, contract.at), int(name.removeprefix(RESUMES))
            found[home] = max(size, found.get(home, 0))
    return found


def check_not_behind(
    size: int,
    publisher: Publisher,
    anchors: Sequence[Anchor],
    resumed: Mapping[tuple[int, bytes], int] = MappingProxyType({}),
) -> list[Anchor]:
    """Refuse to sign below what a chain holds (L9); returns the chains that did not answer.

    The store of signed heads says the same, unless it was lost together with the ledger. resumed: above
    these sizes a chain holds what the Council has given up, and the act that says so has to be published.
    """
    silent = []
    for anchor in anchors:
        try:
            held = anchor.held()
        except Unavailable:
            silent.append(anchor)
            continue
        if held.size > resumed.get((anchor.chain_id, anchor.contract), held.size):
            continue
        if held.size > size:
            reject("L9", anchor.name, f"the chain holds size {held.size}, this ledger has {size} records")
        if held.size <= publisher.published():
            _check_root(publisher, held.size, held.root, anchor.name)
    return silent


def is_settled(engine: Engine, anchors: Sequence[Anchor], size: int) -> bool:
    """Whether each of these chains holds the head of this size for good; of no records nothing is held.

    What was final and stands above what the chain holds now was left out by a resumption.
    """
    if not size:
        return True
    with store.asking(), reading(engine) as connection:
        final = {(one.chain_id, one.contract) for one in store.anchors(connection) if one.size >= size}
    homes = {(anchor.chain_id, anchor.contract) for anchor in anchors}
    return homes <= final and is_held(engine, anchors, size)


def is_held(engine: Engine, anchors: Sequence[Anchor], size: int) -> bool:
    """Whether each of these chains held the head of this size when asked last: nothing is to be sent."""
    with store.asking(), reading(engine) as connection:
        found = [anchor_store.progress(connection, one.chain_id, one.contract) for one in anchors]
    return all(one.held_size >= size for one in found)


def _anchor(
    engine: Engine, publisher: Publisher, anchor: Anchor, head: SignedHead | None, told: list[str]
) -> int:
    with store.asking(), reading(engine) as connection:
        before = anchor_store.progress(connection, anchor.chain_id, anchor.contract)
    held = anchor.held()
    published = publisher.published()
    if held.size > published:
        reject("L9", anchor.name, f"the chain holds size {held.size}, published is {published}")
    _check_root(publisher, held.size, held.root, anchor.name)
    if held.size < before.held_size:
        told += _left_out(engine, anchor, held.size)
    now = Progress(held.size, before.sent)
    if head is not None and held.size < head.size:
        path = publisher.consistency(held.size, head.size) if held.size else []
        signed = anchor.prepare(head.size, head.root, path, head, before.sent)
        if signed is not None:
            now = Progress(held.size, signed.sent)
            with store.asking(), engine.begin() as connection:
                _save(connection, anchor, now)
            # Dies here, or before the reply: what was noted is taken to wait, and is replaced in time.
            anchor.send(signed)
            now = Progress(anchor.held().size, signed.sent)
    if now != before:
        with store.asking(), engine.begin() as connection:
            _save(connection, anchor, now)
    return _note_finals(engine, publisher, anchor)


def _note_finals(engine: Engine, publisher: Publisher, anchor: Anchor) -> int:
    """Note each final head, also those that somebody else brought or an earlier process of ours."""
    known = _known(engine, anchor)
    found = anchor.finals(known[-1] if known else None)
    for final in found:
        _check_root(publisher, final.size, final.root, anchor.name)
    if found:
        with store.asking(), engine.begin() as connection:
            for final in found:
                store.add_anchor(connection, final)
    return len(found)


def _known(engine: Engine, anchor: Anchor) -> list[store.Anchored]:
    """The heads of one chain that were noted as final, by size."""
    home = (anchor.chain_id, anchor.contract)
    with store.asking(), reading(engine) as connection:
        return [one for one in store.anchors(connection) if (one.chain_id, one.contract) == home]


def _left_out(engine: Engine, anchor: Anchor, held_size: int) -> list[str]:
    """What to tell where a chain holds less than before, once: a resumption, and which final heads it cost.

    Where a reorganisation took a head back, or a node is behind, no resumption left it out.
    """
    above = [one for one in _known(engine, anchor) if one.size > held_size]
    sizes = [str(one.size) for one in (anchor.voided(above) if above else [])]
    if not sizes:
        return []
    listed = ", ".join(sizes)
    return [f"{anchor.name} goes on from size {held_size}: final heads that count there no more: {listed}"]


def _check_root(publisher: Publisher, size: int, root: bytes, where: str) -> None:
    ours = publisher.root(size) if size else root
    if root != ours:
        reject("L9", where, f"at size {size} the chain holds {root.hex()}, this ledger has {ours.hex()}")


def _save(connection: Connection, anchor: Anchor, now: Progress) -> None:
    anchor_store.save_progress(connection, anchor.chain_id, anchor.contract, now)
