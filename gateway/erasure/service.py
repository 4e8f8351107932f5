"""Erasing at a request, and again whenever a backup brought something back (L7, field failure 76).

What a record commits to stays as it is: salt and content behind the commitment go, and then nobody can say
what it hid, while proofs, receipts and the audit are what they were. Money is not touched by any of this.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.db import Connection, Engine, reading
from gateway.erasure import store
from gateway.erasure.listing import Listing, Reason, Request, Target, What, check_request, evidence_name
from gateway.erasure.person import pattern_of, text_of
from gateway.payments import store as payments
from gateway.payments.refund_model import Refund, RefundState, Source
from gateway.payments.state import Clock
from gateway.payments.store import Decision, Seen, bank
from gateway.payments.store.refunds import refunds_of_evidence, refunds_of_invoice
from gateway.rails import Kind, Stage
from gateway.rails.tenge.rail import read_file_keys
from ledger.records import Unavailable, reject
from ledger.rules import TENGE

LOGGER = logging.getLogger(__name__)
# What is private about money, and so behind a commitment, comes from the bank.
_BANK = frozenset({Kind.BANK, Kind.TAKEN_BACK})


@dataclass
class Found:
    """What a request is about. kept: what names the person and stays, by table and key; files: the bank's."""

    targets: set[Target] = field(default_factory=set)
    kept: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


class Erasure:
    """The use case. bank: where the bank's files arrive, if here."""

    def __init__(self, engine: Engine, listing: Listing, clock: Clock, bank: Path | None = None) -> None:
        self._engine, self._listing, self._clock, self._bank = engine, listing, clock, bank

    # --- what a request is about ----------------------------------------------------------------

    def payment(self, invoice_id: str, *, words: bool = False) -> Found:
        """What is personal about a payment; words: also the title and reference that a merchant gave it."""
        found = Found()
        with reading(self._engine) as connection:
            if payments.invoice(connection, invoice_id) is None:
                reject("not_found", "invoice", f"no invoice is called {invoice_id[:40]!a}")
            self._take_invoice(connection, invoice_id, found)
            if words:
                found.targets.add(Target(What.INVOICE, invoice_id))
        found.files = self._files({one.name for one in found.targets if one.what is What.EVIDENCE}, None)
        return found

    def person(self, typed: str) -> Found:
        """All that names somebody by this IBAN, IIN or BIN, telephone or e-mail, each by itself."""
        pattern, found = pattern_of(typed), Found()
        with reading(self._engine) as connection:
            for commitment, content in store.private_rows(connection):
                if pattern.search(content):
                    found.targets.add(Target(What.PRIVATE, commitment.hex()))
                    for seen in store.evidence_under(connection, commitment):
                        self._take_evidence(connection, seen, found)
                    for booked in store.bookings_under(connection, commitment):
                        found.targets.add(Target(What.EVIDENCE, evidence_name(booked)))
            for what, words in store.WORDS.items():
                for key, told, of in store.words_of(connection, words):
                    # Of changes only those of a contact: account and wallet are accounting.
                    if pattern.search(told) and (what is not What.CHANGE or of == "contact"):
                        found.targets.add(Target(what, key))
            for words in store.KEPT:
                for key, told, of in store.words_of(connection, words):
                    if pattern.search(told) and of != "contact":
                        found.kept.append(f"{words.table} {key}")
        found.files = self._files({one.name for one in found.targets if one.what is What.EVIDENCE}, pattern)
        return found

    def _take_invoice(self, connection: Connection, invoice_id: str, found: Found) -> None:
        self._take_refunds(connection, refunds_of_invoice(connection, invoice_id), found)
        for seen in payments.evidence_of(connection, invoice_id):
            if seen.kind in _BANK:
                self._take_evidence(connection, seen, found)

    def _take_refunds(self, connection: Connection, refunds: Sequence[Refund], found: Found) -> None:
        by_bank = [one for one in refunds if one.source is Source.CITY and one.asset == TENGE]
        for refund in by_bank:
            if refund.state not in {RefundState.FINAL, RefundState.CANCELLED}:
                reject("L7", f"refund {refund.id}", f"it is {refund.state.value}: it has to end first")
            found.targets.add(Target(What.ACCOUNT, refund.id))
        for booked in bank.bookings_of(connection, [one.id for one in by_bank]):
            found.targets.add(Target(What.PRIVATE, booked.commitment.hex()))
            found.targets.add(Target(What.EVIDENCE, evidence_name(booked.key)))

    def _take_evidence(self, connection: Connection, seen: Seen, found: Found) -> None:
        if _waits(seen):
            # Else nobody could ever be given it back.
            reject("L7", seen.key, "this money waits in the queue: decide about it first, then erase")
        self._take_refunds(connection, refunds_of_evidence(connection, seen.key), found)
        found.targets.add(Target(What.EVIDENCE, evidence_name(seen.key)))
        if seen.evidence_hash is not None and not seen.document:
            found.targets.add(Target(What.PRIVATE, seen.evidence_hash.hex()))

    def _files(self, evidence: set[str], pattern: re.Pattern[str] | None) -> list[Path]:
        """The bank's files here that tell of this money or name this person."""
        if self._bank is None or not self._bank.is_dir():
            return []
        found = []
        for path in sorted(self._bank.glob("*.xml")):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise Unavailable("bank files", f"{path.name}: {error.strerror}") from error
            told = evidence & {evidence_name(key) for key in read_file_keys(content)}
            if told or (pattern is not None and pattern.search(text_of(content))):
                found.append(path)
        return found

    # --- carried out -------------------------------------------------------------------------------

    def carry_out(self, found: Found, reason: Reason, request: str) -> int:
        """Write it on the list, then erase it; returns of how many rows that changed anything.

        If the process dies between the two, the next start erases it.
        """
        check_request(request)
        if not found.targets:
            reject("L7", "erasure", "nothing here is to be erased")
        self._check_whole(self._listing.requests())
        targets = tuple(sorted(found.targets))
        line = self._listing.add(Request(self._clock(), reason, request, targets))
        rows = self._erase([(line, targets)])
        store.overwrite(self._engine)
        LOGGER.info("erased at request %s: %d things, %d rows", request, len(targets), rows)
        return rows

    def again(self) -> int:
        """Erase again whatever is on the list and is here, as after a restore; returns how many rows.

        Refused where the database knows of what is not on the list: it is not the newest, or another one.
        """
        requests = self._listing.requests()
        self._check_whole(requests)
        if not requests:
            return 0
        rows = self._erase([(line, one.targets) for line, one in enumerate(requests, start=1)])
        if rows:
            LOGGER.warning("%d rows that had been erased were here again, and are erased again", rows)
            store.overwrite(self._engine)
        return rows

    def _erase(self, lines: list[tuple[int, tuple[Target, ...]]]) -> int:
        now, rows = self._clock(), 0
        with self._engine.begin() as connection:
            store.overwriting(connection)
            for line, targets in lines:
                for target in targets:
                    rows += store.erase(connection, target, now)
                    store.note(connection, target, line)
        return rows

    def _check_whole(self, requests: Sequence[Request]) -> None:
        with reading(self._engine) as connection:
            known, noted = store.newest_line(connection), dict(store.noted_names(connection))
        where, length = str(self._listing.path), len(requests)
        if known > length:
            why = f"it has {length} lines, this database has carried out {known}: bring the newest list here"
            reject("L7", where, why)
        # A list of as many lines can still be another one, whose chain is whole.
        listed = {store.noted_name(target) for one in requests for target in one.targets}
        if strange := sorted(line for name, line in noted.items() if name not in listed):
            why = f"it lacks {len(strange)} of the {len(noted)} things that this database has carried out"
            reject("L7", where, f"{why}, the first by its line {strange[0]}: it is another list")


def _waits(seen: Seen) -> bool:
    """Whether somebody still has to decide about this money."""
    undecided = seen.invoice_id is None or seen.problem is not None
    is_late = seen.decision in {Decision.LATE, Decision.HELD}
    return seen.stage is not Stage.GONE and not seen.payment.is_spent and (undecided or is_late)
