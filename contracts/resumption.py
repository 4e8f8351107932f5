"""What the Council signs so that an anchor goes on from an earlier head (LEAKS 02)."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.records import U64, Hash, Record, describe


@dataclass(frozen=True, slots=True)
class Resumption(Record):
    """From which earlier head the log goes on, and by which act.

    Signed like a record and shown to the anchor alone: it is no record of a ledger, and decode() knows none.
    time is when it was written, so that the same head may be named again another time.
    """

    head_size: U64
    head_time: U64
    root: Hash
    act: Hash


describe(Resumption)
