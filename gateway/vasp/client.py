"""Speaking with a provider over HTTP: instruct, and ask by our own reference.

There are three answers and no fourth: what it says, that it has no such payout, or that it is not
known (Unavailable). A time-out is the last, never a refusal (field failures 19, 43).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import httpx

from gateway.vasp.messages import (
    BODY_LIMIT,
    Confirmation,
    Instruction,
    Said,
    Signer,
    Verifier,
    decode_confirmation,
)
from ledger.records import Invalid, Unavailable

TIMEOUT_S: Final = 10.0
SIGNATURE: Final = "Vasp-Signature"


@dataclass(frozen=True)
class Provider:
    """One provider. signer: ours, over what we say; verifier: over what it says.

    addresses: where it takes units, 20 bytes each; none: it was not told, and any is believed to be its own.
    """

    name: str
    url: str
    client: httpx.Client
    signer: Signer = field(repr=False)
    verifier: Verifier = field(repr=False)
    timeout_s: float = TIMEOUT_S
    addresses: frozenset[bytes] = frozenset()

    def takes_at(self, address: bytes) -> bool:
        """Whether units at an address are with this provider."""
        return not self.addresses or address in self.addresses

    def instruct(self, instruction: Instruction) -> Confirmation:
        """Have a payout made; the same reference again is the same payout there."""
        body = instruction.encode()
        headers = {"Content-Type": "application/json", SIGNATURE: self.signer.sign(body)}
        try:
            answer = self.client.post(
                f"{self.url}/v1/payouts", content=body, headers=headers, timeout=self.timeout_s
            )
        except httpx.HTTPError as error:
            raise Unavailable(self.name, f"{type(error).__name__}: {error}") from error
        return self._read(answer, instruction)

    def ask(self, instruction: Instruction) -> Confirmation | None:
        """What became of a payout, by our reference; None where the provider never heard of it."""
        path = f"/v1/payouts/{instruction.reference}"
        headers = {SIGNATURE: self.signer.sign(path.encode())}
        try:
            answer = self.client.get(f"{self.url}{path}", headers=headers, timeout=self.timeout_s)
        except httpx.HTTPError as error:
            raise Unavailable(self.name, f"{type(error).__name__}: {error}") from error
        return None if answer.status_code == 404 else self._read(answer, instruction)

    def _read(self, answer: httpx.Response, instruction: Instruction) -> Confirmation:
        """Only what is signed is an answer: an error page says nothing about money."""
        if len(answer.content) > BODY_LIMIT:
            raise Unavailable(self.name, f"HTTP {answer.status_code} with {len(answer.content)} bytes")
        try:
            self.verifier.check(answer.content, answer.headers.get(SIGNATURE, ""))
            told = decode_confirmation(answer.content)
        except Invalid as error:
            raise Unavailable(self.name, f"HTTP {answer.status_code} and {error}") from error
        if told.instruction.reference != instruction.reference:
            why = f"asked about {instruction.reference}, it tells of {told.instruction.reference}"
            raise Unavailable(self.name, why)
        return told


def is_end(said: Said) -> bool:
    """Whether a provider will say nothing else of a payout."""
    return said is not Said.ACCEPTED
