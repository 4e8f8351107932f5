"""What is to be done on a chain, and how far it has come. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from ledger.records import reject

GAS_LIMIT_MOST = 15_000_000
DATA_LIMIT_BYTES = 100_000
NAME_LIMIT = 200


class State(StrEnum):
    """How far a call has come. Only the last three are ends; a block that goes takes `mined` back."""

    QUEUED = "queued"  # nothing is signed yet
    SIGNED = "signed"  # a transaction is stored, and may be on its way
    SENT = "sent"  # a node has it
    UNKNOWN = "unknown"  # it was offered, and no node said whether it took it: the chain is asked
    MINED = "mined"  # it stands in a block that is not final
    FINAL = "final"  # it was executed, for ever
    REVERTED = "reverted"  # it was executed and refused, for ever: it changed nothing
    DROPPED = "dropped"  # it was never executed and can never be


ENDS = frozenset({State.FINAL, State.REVERTED, State.DROPPED})
# Whose transaction is stored, and may be executed at any time.
LIVE = frozenset({State.SIGNED, State.SENT, State.UNKNOWN, State.MINED})


@dataclass(frozen=True)
class Call:
    """What is to be done on a chain: one transaction, executed once at most.

    kind, reference: the caller's own name of it, unique together; the same again is the same call.
    to: 20 bytes; value: wei; gas_limit: a bound that is known for this kind of call, not an estimate
    made on a state that has changed by the time it counts (field failure 26).
    """

    kind: str
    reference: str
    to: bytes
    data: bytes
    value: int
    gas_limit: int

    @property
    def id(self) -> str:
        """The id of the call, which follows from its name."""
        return sha256(f"{len(self.kind)} {self.kind} {self.reference}".encode()).hexdigest()[:32]

    def check(self) -> None:
        """Refuse a call that no chain could execute, or that could cost without bound."""
        where = f"call {self.kind} {self.reference}"[:NAME_LIMIT]
        if not 0 < len(self.kind) <= NAME_LIMIT or not 0 < len(self.reference) <= NAME_LIMIT:
            reject("call", where, f"kind and reference have 1 to {NAME_LIMIT} characters")
        if len(self.to) != 20:
            reject("call", where, f"an address has 20 bytes, this has {len(self.to)}")
        if not 0 <= self.value < 1 << 128:
            reject("call", where, f"a value is 0 to 2^128 - 1, this is {self.value}")
        if not 21_000 <= self.gas_limit <= GAS_LIMIT_MOST:
            reject("call", where, f"gas is 21000 to {GAS_LIMIT_MOST}, this is {self.gas_limit}")
        if len(self.data) > DATA_LIMIT_BYTES:
            reject("call", where, f"data has at most {DATA_LIMIT_BYTES} bytes, this has {len(self.data)}")


@dataclass(frozen=True)
class Outcome:
    """How far a call has come.

    transaction: the one that was executed, or else the newest; block: where it stands; why: what hinders.
    """

    state: State
    transaction: bytes | None
    block: int | None
    why: str

    @property
    def is_end(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDS
