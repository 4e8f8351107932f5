"""Which witnesses must have cosigned a head before a chain gets it (LEAKS 22, L3).

A chain's head is for ever, so strangers should have seen the log before it goes there. Each is
asked at the same time as the others: one that is away, slow, lies or was shown another history
costs its own cosignature and nobody else's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from ledger.proof import (
    ED25519,
    Verifier,
    add_signatures,
    format_vkey,
    open_note,
    parse_checkpoint,
    parse_note,
    parse_vkey,
)
from ledger.publish import Publisher
from ledger.records import Invalid, Unavailable, reject
from ledger.target import read
from ledger.witness import ask

LOGGER = logging.getLogger(__name__)
# For all of them together: what has not answered by then is away for this head.
PATIENCE_S: Final = 5.0
# Once as many as are needed have answered, the others get so much longer.
GRACE_S: Final = 1.0
MOST_WITNESSES: Final = 16

Ask = Callable[[str, bytes, int, Callable[[int], Sequence[bytes]]], bytes]


@dataclass(frozen=True)
class Cosigner:
    """A witness: where it listens and its keys, which are of one name; also in trust.json."""

    url: str
    verifiers: tuple[Verifier, ...]

    @property
    def name(self) -> str:
        """The name of its keys."""
        return self.verifiers[0].name


def read_witnesses(text: str) -> tuple[list[Cosigner], int]:
    """Read the policy of an operator: a line `quorum K`, then a line `witness URL VKEY...` for each.

    Empty lines and those that begin with # are skipped. Invalid where it asks for more than there are.
    """
    cosigners, needed = [], None
    for number, line in enumerate(text.splitlines(), 1):
        words, where = line.split(), f"witness policy line {number}"
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "quorum" and len(words) == 2 and words[1].isdecimal() and needed is None:
            needed = int(words[1])
        elif words[0] == "witness" and len(words) >= 3 and words[1].startswith(("http://", "https://")):
            verifiers = tuple(parse_vkey(vkey) for vkey in words[2:])
            if len({verifier.name for verifier in verifiers}) != 1:
                reject("witness", where, f"{len(verifiers)} keys of more than one name")
            if any(verifier.key_type == ED25519 for verifier in verifiers):
                reject(
                    "witness", where, f"{format_vkey(verifiers[0])} is a log's kind of key and states no time"
                )
            cosigners.append(Cosigner(words[1], verifiers))
        else:
            reject("witness", where, f"{line[:80]!r} is neither `quorum K` nor `witness URL VKEY`")
    owners: dict[bytes, str] = {}
    for verifier in (verifier for one in cosigners for verifier in one.verifiers):
        owner = owners.setdefault(verifier.public_key, verifier.name)
        if owner != verifier.name:
            why = f"{owner} and {verifier.name} have one key: one witness, not two"
            reject("witness", "witness policy", why)
    names = {cosigner.name for cosigner in cosigners}
    if len(names) != len(cosigners) or len(cosigners) > MOST_WITNESSES:
        why = f"{len(cosigners)} witnesses of {len(names)} names, at most {MOST_WITNESSES}, each once"
        reject("witness", "witness policy", why)
    if needed is None or not 0 <= needed <= len(cosigners):
        reject("witness", "witness policy", f"a quorum of {needed} of {len(cosigners)} witnesses")
    return cosigners, needed


@dataclass
class Policy:
    """k of n: how many of these witnesses must have cosigned a head before it is anchored."""

    witnesses: Sequence[Cosigner]
    needed: int
    patience_s: float = PATIENCE_S
    grace_s: float = GRACE_S
    ask: Ask = ask
    # How far each has signed, as far as this process knows: a first guess, which it corrects.
    _sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a quorum that can never be reached."""
        if not 0 <= self.needed <= len(self.witnesses):
            reject(
                "witness", "witness policy", f"a quorum of {self.needed} of {len(self.witnesses)} witnesses"
            )

    @classmethod
    def of(cls, path: Path) -> Policy | None:
        """The policy in a file of the form of docs/operator.md; None where there is no file."""
        return cls(*read_witnesses(path.read_text(encoding="utf-8"))) if path.exists() else None

    @property
    def verifiers(self) -> list[Verifier]:
        """The keys of all its witnesses."""
        return [verifier for one in self.witnesses for verifier in one.verifiers]

    @property
    def names(self) -> list[str]:
        """Its witnesses by name, as trust.json says them."""
        return [one.name for one in self.witnesses]

    def collect(self, publisher: Publisher) -> Unavailable | None:
        """Have the published head cosigned, and add what comes; what is missing of the quorum, or None.

        Dies in between: a witness that signed before is asked again and signs the same head again.
        """
        note = read(publisher.target, "checkpoint")
        signed = self._signed(note)
        waiting = [one for one in self.witnesses if one.name not in signed]
        silent = self._ask_all(waiting, note, publisher) if waiting else []
        for why in silent:
            LOGGER.warning("witness %s", why)
        signed = self._signed(read(publisher.target, "checkpoint"))
        if len(signed) >= self.needed:
            return None
        told = (
            f"{len(signed)} of {len(self.witnesses)} witnesses cosigned, {self.needed} are needed to anchor"
        )
        return Unavailable("witnesses", "; ".join([told, *silent]))

    def _signed(self, note: bytes) -> set[str]:
        """The names of those whose cosignature stands under a note and is right."""
        verifiers = [verifier for one in self.witnesses for verifier in one.verifiers]
        keys = {verifier.key for verifier in verifiers}
        if not any(signature.key in keys for signature in parse_note(note)[1]):
            return set()
        return {name for name, _ in open_note(note, verifiers)[1]}

    def _ask_all(self, waiting: Sequence[Cosigner], note: bytes, publisher: Publisher) -> list[str]:
        """Ask each in a thread of its own; returns why those did not sign that did not."""
        size = parse_checkpoint(parse_note(note)[0]).size
        answers: SimpleQueue[tuple[Cosigner, bytes | Exception]] = SimpleQueue()

        def path(old: int) -> list[bytes]:
            return publisher.consistency(old, size)

        def work(one: Cosigner) -> None:
            try:
                answers.put((one, self.ask(one.url, note, self._sizes.get(one.name, 0), path)))
            except Exception as error:
                answers.put((one, error))

        for one in waiting:
            # Of a thread that still waits for somebody slow nothing is wanted any more, so none is joined.
            threading.Thread(target=work, args=(one,), daemon=True, name=f"witness {one.name}").start()
        enough = self.needed - (len(self.witnesses) - len(waiting))
        deadline, found = time.monotonic() + self.patience_s, dict[str, bytes | Exception]()
        while len(found) < len(waiting):
            try:
                one, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            found[one.name] = answer
            if sum(isinstance(each, bytes) for each in found.values()) >= enough:
                deadline = min(deadline, time.monotonic() + self.grace_s)
        silent = []
        # In the order of the policy and not of the network, so that the same answers make the same note.
        for one in waiting:
            late = Unavailable("witness", f"no answer in {self.patience_s:g} s")
            why = self._take(one, found.get(one.name, late), note, publisher)
            if why is None:
                self._sizes[one.name] = size
            else:
                silent.append(f"{one.name}: {why}")
        return silent

    def _take(
        self, one: Cosigner, answer: bytes | Exception, note: bytes, publisher: Publisher
    ) -> str | None:
        """Add what one witness signed to the checkpoint; why not, where it did not sign this head."""
        if isinstance(answer, Invalid | Unavailable):
            return answer.why
        if isinstance(answer, Exception):
            return f"{type(answer).__name__}: {answer}"
        try:
            # Its own keys only: a witness that hands in another's line has not signed.
            cosigned = add_signatures(note, answer, one.verifiers)
            text = parse_note(note)[0].encode()
            publisher.add_cosignature(cosigned[len(text) + 1 :])
        except Invalid as error:
            return f"its answer is not a cosignature: {error}"
        return None
