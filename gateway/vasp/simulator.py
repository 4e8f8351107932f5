"""A provider with the real HTTP interface, for tests and trying out: it pays, and it can misbehave.

It keeps its payouts for as long as it runs, each under the customer's reference, so that the same
instruction again is the same payout. What it confirms it signs with its own key.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from gateway.vasp.client import SIGNATURE
from gateway.vasp.messages import Confirmation, Instruction, Said, Signer, Verifier
from ledger.records import Invalid

SILENCE_S = 1.5


class Misbehaviour(StrEnum):
    """What goes wrong with instructions."""

    SILENT_BEFORE = "silent_before"  # does not answer, and did not take it
    SILENT_AFTER = "silent_after"  # took it, and the answer is lost
    ERROR_PAGE = "error_page"  # took it, and something before it answers HTML with status 502
    WRONG_KEY = "wrong_key"  # answers with a signature of somebody else's
    REFUSES = "refuses"
    FORGETS = "forgets"  # says that it has it, and has nothing


@dataclass
class Made:
    """A payout as the provider has it; told: how often it was instructed."""

    instruction: Instruction
    confirmation: Confirmation
    told: int = 1


@dataclass
class VaspSimulator:
    """Serve on loopback within the context. customer: checks what we say; signer: its own key.

    numerator, denominator: its rate, tiyn for one base unit; fee_bps: what it keeps of the tenge.
    """

    customer: Verifier
    signer: Signer
    stranger: Signer
    numerator: int = 51_230
    denominator: int = 1_000_000
    fee_bps: int = 30
    misbehaves: Misbehaviour | None = None
    payouts: dict[str, Made] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start."""
        self._lock = threading.Lock()
        simulator = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                simulator._instructed(self)

            def do_GET(self) -> None:
                simulator._looked_up(self)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def pay(self, reference: str, paid_s: int, **changes: object) -> tuple[bytes, str]:
        """Pay a payout in tenge; returns what it sends, signed. changes: what it says wrongly."""
        with self._lock:
            made = self.payouts[reference]
            worth = made.instruction.amount_minor * self.numerator // self.denominator
            fee = worth * self.fee_bps // 10_000
            told = Confirmation(
                made.instruction,
                Said.PAID,
                worth - fee,
                fee,
                self.numerator,
                self.denominator,
                f"KZ{reference[-16:]}",
                paid_s,
            )
            made.confirmation = replace(told, **changes)  # type: ignore[arg-type]
            return self._signed(made.confirmation)

    def refuse(self, reference: str, why: str) -> tuple[bytes, str]:
        """Refuse a payout that was accepted before."""
        with self._lock:
            made = self.payouts[reference]
            made.confirmation = Confirmation(made.instruction, Said.REFUSED, why=why)
            return self._signed(made.confirmation)

    def _signed(self, told: Confirmation) -> tuple[bytes, str]:
        body = told.encode()
        return body, self.signer.sign(body)

    # --- HTTP -------------------------------------------------------------------------

    def _instructed(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        try:
            self.customer.check(body, request.headers.get(SIGNATURE, ""))
        except Invalid:
            _answer(request, 401, b"{}", "")
            return
        told = json.loads(body)
        instruction = Instruction(told["reference"], told["asset"], int(told["amount"]), told["iban"])
        how = self.misbehaves
        if how is Misbehaviour.SILENT_BEFORE:
            time.sleep(SILENCE_S)
            return
        status, answer, signature = self._take(instruction)
        if how is Misbehaviour.SILENT_AFTER:
            time.sleep(SILENCE_S)
            return
        if how is Misbehaviour.ERROR_PAGE:
            status, answer, signature = 502, b"<html>bad gateway</html>", ""
        if how is Misbehaviour.WRONG_KEY:
            signature = self.stranger.sign(answer)
        _answer(request, status, answer, signature)

    def _take(self, instruction: Instruction) -> tuple[int, bytes, str]:
        with self._lock:
            made = self.payouts.get(instruction.reference)
            if made is not None:
                made.told += 1
                status = 200 if made.instruction == instruction else 409
                return status, *self._signed(made.confirmation)
            said = Said.REFUSED if self.misbehaves is Misbehaviour.REFUSES else Said.ACCEPTED
            told = Confirmation(instruction, said, why="account closed" if said is Said.REFUSED else "")
            if self.misbehaves is not Misbehaviour.FORGETS:
                self.payouts[instruction.reference] = Made(instruction, told)
            return 201, *self._signed(told)

    def _looked_up(self, request: BaseHTTPRequestHandler) -> None:
        reference = request.path.rpartition("/")[2]
        self.asked.append(reference)
        with self._lock:
            made = self.payouts.get(reference)
            if made is None:
                _answer(request, 404, b"{}", "")
                return
            _answer(request, 200, *self._signed(made.confirmation))


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes, signature: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.send_header(SIGNATURE, signature)
    request.end_headers()
    request.wfile.write(body)
