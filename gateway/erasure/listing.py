"""The list of what was erased: a file of its own, outside the database and its backups (field failure 76).

One line of JSON for each request, only ever added. A line names commitments, hashes and random ids, and
nothing personal. Each names the SHA-256 of the line before it, so that a line that was changed or taken out
is seen. The list is written before anything is erased: whoever dies in between is finished at the next start.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from ledger.records import Unavailable, reject

FIRST: Final = "0" * 64
# The reference of a request is typed by people: no name, no number of a person.
_REQUEST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9./_-]{0,39}")
_LONG_NUMBER: Final = re.compile(r"[0-9]{9,}")


class Reason(StrEnum):
    """Why something is erased; one of these, so that nothing personal is written here."""

    WITHDRAWN = "withdrawn"  # consent was taken back
    ENDED = "ended"  # what it was kept for is over
    UNLAWFUL = "unlawful"  # it should not have been taken
    COURT = "court"


class What(StrEnum):
    """What is erased."""

    PRIVATE = "private"  # what a commitment hides, named by the commitment
    EVIDENCE = "evidence"  # by the hash of its key: read from the bank again, it is not kept again
    INVOICE = "invoice"  # the words that a merchant gave it
    LINK = "link"
    LETTER = "letter"
    CONTACT = "contact"  # of a merchant
    CHANGE = "change"  # of a merchant's contact
    ACCOUNT = "account"  # to which a refund is paid
    SANDBOX = "sandbox"  # an invoice that nobody can pay


class Target(NamedTuple):
    """One thing that is erased."""

    what: What
    name: str


@dataclass(frozen=True)
class Request:
    """One request, as the list has it. request: the reference under which it is filed."""

    at_s: int
    reason: Reason
    request: str
    targets: tuple[Target, ...]


def evidence_name(key: str) -> str:
    """How a piece of evidence is called on the list."""
    return sha256(b"evidence " + key.encode()).hexdigest()


class Listing:
    """The file. Any number of processes may read it while one adds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def requests(self) -> list[Request]:
        """All requests, oldest first; a line that is not whole was never carried out."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable("list of erasures", f"{self.path}: {error.strerror}") from error
        return [request for request, _ in self._read(content)]

    def add(self, new: Request) -> int:
        """Add a request and bring it to the disk; returns which line it is, from 1."""
        check_request(new.request)
        with self._locked() as file:
            content = file.read()
            known = list(self._read(content))
            # What a process left behind that died while it wrote.
            file.truncate(content.rfind(b"\n") + 1)
            before = known[-1][1] if known else FIRST
            file.seek(0, os.SEEK_END)
            file.write(_line(new, before))
            file.flush()
            os.fsync(file.fileno())
        return len(known) + 1

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        try:
            is_new = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                yield file
            if is_new:
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            raise Unavailable("list of erasures", f"{self.path}: {error.strerror}") from error

    def _read(self, content: bytes) -> Iterator[tuple[Request, str]]:
        before = FIRST
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            where = f"{self.path.name} line {number}"
            try:
                told = json.loads(line)
                targets = tuple(
                    Target(What(what), str(name)) for what, names in told["targets"].items() for name in names
                )
                found = Request(int(told["at_s"]), Reason(told["reason"]), str(told["request"]), targets)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                reject("L7", where, f"this is no line of erasures: {error}")
            if told.get("before") != before:
                reject("L7", where, f"it follows {told.get('before')!a:.70}, the line before it is {before}")
            before = sha256(line).hexdigest()
            yield found, before


def check_request(request: str) -> None:
    """Refuse a reference that could say who asked (L7)."""
    if not _REQUEST.fullmatch(request) or _LONG_NUMBER.search(request):
        reject("L7", "request", "a reference is 1 to 40 of A-Z a-z 0-9 . / _ - and has no number of 9 digits")


def _line(new: Request, before: str) -> bytes:
    targets: dict[str, list[str]] = {}
    for target in new.targets:
        targets.setdefault(target.what.value, []).append(target.name)
    told = {
        "at_s": new.at_s,
        "before": before,
        "reason": new.reason.value,
        "request": new.request,
        "targets": targets,
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode() + b"\n"
