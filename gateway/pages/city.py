"""What the public page says of the city: the ledger up to its last checkpoint, and nothing beyond it.

So every figure here is one that anybody computes again from the public bundle; the sums are
made by the auditor's own code. Breaches are shown, not raised: a page that hides one lies.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.db import reading
from gateway.pages.history import CAME, HELD, PAID, History, Key, Payment
from ledger import rules, store
from ledger.audit.summary import summarise
from ledger.audit.verdict import Findings, Flow, Line, ProjectLine, Verdict
from ledger.following import Follower
from ledger.proof import ED25519, ML_DSA_44, open_note, parse_checkpoint
from ledger.records import Invalid, Parameter
from ledger.standing import reach

if TYPE_CHECKING:
    from gateway.app import Gateway

# How many days a drawing shows.
DAYS = 30
# Parameters that lift a limit while they are in force (G8).
_LIFTED = {"direct_settlement": 1, "self_sufficient": 1}


@dataclass(frozen=True)
class Signer:
    """Who signed a checkpoint, with which kind of key, and when; 0 where the kind states no time."""

    name: str
    kind: str
    time_s: int


@dataclass(frozen=True)
class Head:
    """The checkpoint that stands in the public bundle, and how far chains hold it.

    anchored and final are sizes: the largest that a chain holds, and that it holds for good.
    anchors are the final ones.
    """

    origin: str
    size: int
    root: bytes
    signers: Sequence[Signer]
    anchors: Sequence[store.Anchored]
    anchored: int
    final: int

    @property
    def time_s(self) -> int:
        """When it was signed."""
        return max((signer.time_s for signer in self.signers), default=0)

    @property
    def witnessed(self) -> int:
        """Its size if somebody besides the log signed it, else 0."""
        return self.size if any(signer.kind == "witness" for signer in self.signers) else 0

    def anchor_of(self, index: int) -> store.Anchored | None:
        """The first anchor that covers a record."""
        return next((anchored for anchored in self.anchors if anchored.size > index), None)


@dataclass(frozen=True)
class Lifted:
    """A limit that an act lifted."""

    index: int
    name: str
    act: bytes


@dataclass(frozen=True)
class City:
    """All that the page shows, of one checkpoint."""

    size: int
    totals: Sequence[Line]
    flows: Sequence[Flow]
    projects: Sequence[ProjectLine]
    invested: int
    exceptions: Sequence[Lifted]
    breaches: Sequence[Invalid]
    names: dict[str, dict[str, str]]
    is_sample: bool
    decimals: dict[str, int]
    # Of each fund and asset: what came by code on each of the last days, and where it was by their ends.
    came: dict[Key, dict[str, list[int]]]
    held: dict[Key, dict[tuple[str, str], list[int]]]
    last: date | None
    payments: Sequence[Payment]

    def name(self, project: str, language: str) -> str:
        """What the project's own document calls it."""
        return self.names.get(project, {}).get(language, project)

    @property
    def public(self) -> list[ProjectLine]:
        """Projects that public money may go to."""
        return [project for project in self.projects if project.approved]

    @property
    def begun(self) -> list[ProjectLine]:
        """Of these the ones that money was allotted to."""
        return [project for project in self.public if project.allotted]

    @property
    def districts(self) -> list[tuple[str, list[ProjectLine]]]:
        """All projects by district, the largest private investment first."""
        places = sorted({project.place for project in self.projects})
        ordered = sorted(self.projects, key=lambda project: (-project.invested, project.project))
        return [(place, [p for p in ordered if p.place == place]) for place in places]


class CityView:
    """Follows the ledger as far as it is public; one for each application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._breaches: list[Invalid] = []
        self._follower = Follower(gateway.engine, broken=self._breaches)
        self._history = History(partial(store.records, gateway.engine))
        self._lock = threading.Lock()
        self._city: City | None = None

    def city(self) -> City:
        """The figures of the checkpoint that is public now."""
        size = self._gateway.publisher.published()
        # A state of its own, under a lock: nobody applies a record while sums are made of it.
        with self._lock:
            if self._city is None or self._city.size < size:
                self._city = self._sum_up(self._follower.follow(size))
            return self._city

    def _sum_up(self, state: rules.State) -> City:
        verdict, findings = Verdict(), Findings()
        summarise(state, verdict, findings)
        history, keys = self._history, [(line.fund, line.asset) for line in verdict.totals]
        history.follow(state, frozenset(breach.where for breach in self._breaches))
        told = [self._document(project.record.document) for project in state.projects.values()]
        names = {
            one["project"]: one["names"]
            for document in told
            for one in document.get("projects", [])
            if isinstance(one, dict) and isinstance(one.get("names"), dict)
        }
        return City(
            state.size,
            verdict.totals,
            verdict.flows,
            verdict.projects,
            verdict.invested,
            _exceptions(state),
            tuple(self._breaches)
            + tuple(Invalid(found.rule, found.where, found.why) for found in findings.listed()),
            names,
            any(document.get("sample") is True for document in told),
            {name: asset.decimals for name, asset in state.assets.items()},
            {key: history.daily(key, CAME, DAYS) for key in keys},
            {key: _held(history, key) for key in keys},
            history.last,
            history.payments[::-1],
        )

    def _document(self, name: bytes) -> dict[str, Any]:
        """A published document that is JSON; nothing of it counts but names for people."""
        place = self._gateway.publisher.folder / "documents" / name.hex()
        try:
            told = json.loads(place.read_bytes())
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def head(self) -> Head | None:
        """The checkpoint in the public bundle; None before there is one."""
        gateway = self._gateway
        place = gateway.publisher.folder / "checkpoint"
        if not place.exists():
            return None
        note = place.read_bytes()
        text, times = open_note(note, gateway.publisher.trust.verifiers)
        checkpoint = parse_checkpoint(text)
        kinds = {verifier.key: verifier.key_type for verifier in gateway.publisher.trust.verifiers}
        signers = []
        for key, time_s in times.items():
            names = {ED25519: "ed25519", ML_DSA_44: "mldsa"}
            kind = names.get(kinds[key], "witness") if key[0] == checkpoint.origin else "witness"
            signers.append(Signer(key[0], kind, time_s))
        with reading(gateway.engine) as connection:
            anchors = store.anchors(connection)
            reached = reach(connection, note, gateway.publisher.trust.verifiers)
        held = [anchored for anchored in anchors if anchored.size <= checkpoint.size]
        return Head(
            checkpoint.origin,
            checkpoint.size,
            checkpoint.root,
            signers,
            held,
            # What is not in the checkpoint yet is not public, whatever a chain holds.
            anchored=min(reached.anchored, checkpoint.size),
            final=min(reached.final, checkpoint.size),
        )


def _held(history: History, key: Key) -> dict[tuple[str, str], list[int]]:
    """What is in the treasury, and what went to each project, by the end of each day."""
    return {
        (kind, name): amounts
        for kind in (HELD, PAID)
        for name, amounts in history.standing(key, kind, DAYS).items()
        if any(amounts)
    }


def _exceptions(state: rules.State) -> tuple[Lifted, ...]:
    return tuple(
        Lifted(proposal.index, proposal.record.name, proposal.record.act)
        for proposal in state.proposals.values()
        if isinstance(proposal.record, Parameter)
        and proposal.effective_s is not None
        and _LIFTED.get(proposal.record.name) == proposal.record.value
    )
