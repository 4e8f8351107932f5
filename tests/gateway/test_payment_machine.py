"""Payments as a machine: whatever happens, in whatever order, through the real service and a real database.

Money comes in parts, too much and too late; blocks go; the process dies in the middle of a statement
and starts again; rates move and are not to be had; a person assigns and refunds. After each step
the database is compared with a plain list of what happened, kept beside it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count, pairwise

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, event

from gateway import db
from gateway.db import reading
from gateway.demo import SALE_CODE
from gateway.ledger_view import LedgerView
from gateway.merchants.policy import Over, Policy, set_policy
from gateway.payments import store
from gateway.payments.booking import transfer_id
from gateway.payments.model import MOVES, Status
from gateway.payments.outgoing import CoinSent, Credit, Moved, Pull, Seen
from gateway.payments.refund_model import MOVES as REFUND_MOVES
from gateway.payments.refund_model import RefundState
from gateway.payments.refunds import Refunds
from gateway.payments.service import Payments, Request
from gateway.payments.store import Decision, Invoice
from gateway.payments.store import refunds as refund_rows
from gateway.payments.store.settlements import settlements_of_invoice
from gateway.payments.unmatched import Unmatched
from gateway.rails import BOOKS, PAYS, Evidence, Kind, Stage
from gateway.rates import CombinedRate
from gateway.webhooks import store as webhooks
from ledger import store as ledger_store
from ledger.records import Invalid, Transfer, Unavailable, decode
from tests.commits import after_commits
from tests.gateway.conftest import Town

RAIL, PAYER, ACTOR = "evm-1", b"\5" * 20, "machine"
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "25"))
ORDER = [Stage.DETECTED, Stage.CONFIRMING, Stage.PAID, Stage.FINAL]
_numbers = count(1)


class Died(Exception):
    """The process ended here."""


# Fakes have the signature of what they stand for.
# ruff: noqa: ARG002
class Rates:
    """A rate that moves, and sometimes is not to be had."""

    def __init__(self) -> None:
        self.numerator, self.is_there = 51_200, True

    def current(self, asset: str) -> CombinedRate:
        if not self.is_there:
            raise Unavailable("rates", "nobody answers")
        return CombinedRate(asset, self.numerator, 1_000_000, 0, ())


class Quotes:
    """What an invoice needs of a chain, without one."""

    rail, coin_asset = RAIL, None

    def deposit_address(self, number: bytes, purpose: str, payee: bytes, share_bps: int) -> bytes:
        return sha256(number + purpose.encode() + payee + bytes([share_bps % 256])).digest()[:20]

    def sign_quote(self, number: bytes, *terms: object) -> bytes:
        return sha256(number + repr(terms).encode()).digest() * 2 + b"\x1b"


class Chain:
    """Where merchants' wallets send: blocks that can go until they are final."""

    rail, chain_id, treasury = RAIL, 1, b"\6" * 20

    def __init__(self) -> None:
        self.latest = self.final = 0
        self.transfers: list[Moved] = []

    def token(self, asset: str) -> bytes:
        return b"\7" * 20

    def is_coin(self, asset: str) -> bool:
        return False

    def is_credited(self, credit: Credit) -> bool:
        return False

    def pulled(self, asset: str, receivers: Collection[bytes], first: int, last: int) -> list[Pull]:
        return []

    def paid_by_pull(self, credit: Credit, pull: Pull) -> Moved | None:
        return None

    def coin_moved(self, asked: CoinSent, final: int, known_key: str | None = None) -> Moved | None:
        raise AssertionError("no coin here")

    def is_ours(self, address: bytes) -> bool:
        return address == self.treasury

    def head(self) -> Seen:
        return Seen(self.latest, self.final)

    def moved(
        self,
        asset: str,
        senders: Collection[bytes],
        receivers: Collection[bytes],
        first: int,
        last: int,
        *,
        is_final: bool = False,
    ) -> list[Moved]:
        assert not is_final or last <= self.final
        return [
            one
            for one in self.transfers
            if one.sender in senders and one.receiver in receivers and first <= one.block <= last
        ]

    def is_signed_by_contract(self, address: bytes, digest: bytes, signature: bytes) -> bool:
        return False

    def send(self, sender: bytes, receiver: bytes, amount: int) -> None:
        self.latest += 1
        key = f"evm:1:{self.latest}:{len(self.transfers)}:{next(_numbers)}"
        transaction = sha256(key.encode()).digest()
        self.transfers.append(Moved(key, "USDT", sender, receiver, amount, self.latest, transaction, b"{}"))


@dataclass
class Piece:
    """A piece of evidence as the machine knows it; decision: the newest that it saw made."""

    evidence: Evidence
    invoice: str | None


class Deaths:
    """Lets the process die at the n-th statement of what runs within, or after its n-th commit."""

    def __init__(self, engine: Engine) -> None:
        self.statements: int | None = None
        self.commits: int | None = None
        event.listen(engine, "before_cursor_execute", self._count)
        self._engine, self._end_of_commits = engine, after_commits(engine, self._count_commit)

    def _count(self, *_: object) -> None:
        if self.statements is not None:
            self.statements -= 1
            if self.statements <= 0:
                raise Died

    def _count_commit(self) -> None:
        if self.commits is not None:
            self.commits -= 1
            if self.commits <= 0:
                raise Died

    def none(self) -> None:
        """From here on the process lives."""
        self.statements = self.commits = None

    def close(self) -> None:
        event.remove(self._engine, "before_cursor_execute", self._count)
        self._end_of_commits()


class Machine(RuleBasedStateMachine):
    """One town's gateway, and what an outsider wrote down about it."""

    town: Town

    def __init__(self) -> None:
        super().__init__()
        town = self.town
        self.clock = town.city.clock
        self.writer = town.city.writer
        self.engine = town.city.gateway.engine
        self.rates, self.chain = Rates(), Chain()
        self.merchant = f"m_{next(_numbers):016x}"
        self.deaths = Deaths(self.engine)
        self.pieces: dict[str, Piece] = {}
        self.invoices: list[Invoice] = []
        self.next_death: tuple[int | None, int | None] = None, None
        self.voided: set[str] = set()
        # Of which pieces that did not count a refund was when it was asked for: key and amount.
        self.parts: dict[str, list[tuple[str, int]]] = {}
        self.seen_s = 0
        self.start()

    def start(self) -> None:
        """A process starts: it knows nothing but the database."""
        engine = self.engine
        self.payments = Payments(engine, LedgerView(engine), self.clock, self.rates, Quotes())
        self.refunds = Refunds(self.payments, self.chain)
        self.queue = Unmatched(self.payments)

    def teardown(self) -> None:
        self.deaths.close()

    # --- what happens ---------------------------------------------------------------

    @initialize(
        tolerance=st.sampled_from([0, 200]),
        late_s=st.sampled_from([0, 3_000, 7 * 86_400]),
        band=st.sampled_from([0, 200]),
        over=st.sampled_from(list(Over)),
    )
    def agree(self, tolerance: int, late_s: int, band: int, over: Over) -> None:
        policy = Policy(tolerance, 10**12, 900, late_s, band, over)
        with self.engine.begin() as connection:
            set_policy(connection, self.merchant, policy, ACTOR, self.clock())
            store.lock_rail(connection, RAIL)
        self.tolerance = tolerance
        self.see()

    def see(self) -> None:
        with self.engine.begin() as connection:
            store.lock_rail(connection, RAIL)
            store.move_cursor(connection, RAIL, self.chain.final, self.clock())
        self.seen_s = self.clock()

    @precondition(lambda self: len(self.invoices) < 3)
    @rule(fixed=st.booleans(), tiyn=st.sampled_from([500_000, 1_234_567]))
    def ask(self, fixed: bool, tiyn: int) -> None:
        request = Request(
            SALE_CODE, "Tea", tiyn, "USDT", self.merchant, f"o{len(self.invoices)}", b"\x0a" * 20,
            refund_to=PAYER if fixed else None,
        )  # fmt: skip
        try:
            made = self.alive(lambda: self.payments.create(request, request.merchant_reference))
        except Unavailable:
            assert not self.rates.is_there
            return
        # Asked again it is the same, whatever died in between.
        assert self.payments.create(request, request.merchant_reference).id == made.id
        self.invoices.append(made)

    @precondition(lambda self: self.invoices)
    @rule(
        at=st.integers(0, 2),
        hundredths=st.sampled_from([1, 40, 60, 99, 100, 100, 130]),
        by_wallet=st.booleans(),
        stage=st.sampled_from(ORDER),
    )
    def pay(self, at: int, hundredths: int, by_wallet: bool, stage: Stage) -> None:
        invoice = self.invoices[at % len(self.invoices)]
        amount = max(invoice.due_minor * hundredths // 100, 1)
        number, address = (invoice.number, b"") if by_wallet else (b"", invoice.deposit_address or b"")
        kind = Kind.ROUTER if by_wallet else Kind.DEPOSIT
        self.come(kind, stage, amount, amount // 10 + 1 if by_wallet else 0, number, address, invoice.id)

    @rule(amount=st.sampled_from([1, 10**7]), stage=st.sampled_from(ORDER))
    def pay_nobody(self, amount: int, stage: Stage) -> None:
        self.come(Kind.ROUTER, stage, amount, amount, b"\x99" * 32, b"", None)

    def come(
        self,
        kind: Kind,
        stage: Stage,
        amount: int,
        city: int,
        number: bytes,
        address: bytes,
        whose: str | None,
    ) -> None:
        key = f"machine:{next(_numbers)}"
        document = f'{{"of":"{key}"}}'.encode() if city else b""
        evidence = Evidence(
            key, kind, stage, "USDT", amount, city, 1, number, address, document=document, at_s=self.clock()
        )
        self.take(evidence)
        self.pieces[key] = Piece(evidence, whose)

    def take(self, evidence: Evidence) -> None:
        def once() -> None:
            with self.engine.begin() as connection:
                self.payments.take(connection, [evidence])

        self.alive(once)

    @precondition(lambda self: self.open_pieces())
    @rule(at=st.integers(0, 30), stage=st.sampled_from([*ORDER, Stage.GONE, Stage.FINAL]))
    def move(self, at: int, stage: Stage) -> None:
        """It gets further, or its block is gone, or comes again."""
        keys = self.open_pieces()
        piece = self.pieces[keys[at % len(keys)]]
        moved = replace(piece.evidence, stage=stage)
        # As in `come`: what died on the way did not happen, and is looked at before it is tried again.
        self.take(moved)
        piece.evidence = moved

    def open_pieces(self) -> list[str]:
        return [key for key, piece in self.pieces.items() if piece.evidence.stage is not Stage.FINAL]

    @precondition(lambda self: any(p.evidence.kind is Kind.DEPOSIT for p in self.pieces.values()))
    @rule(at=st.integers(0, 2), stage=st.sampled_from([Stage.DETECTED, Stage.FINAL, Stage.FINAL]))
    def flush(self, at: int, stage: Stage) -> None:
        with reading(self.engine) as connection:
            waiting = [one for one in store.unflushed(connection) if one.merchant_id == self.merchant]
        if not waiting:
            return
        invoice = waiting[at % len(waiting)]
        mine = [p.evidence for p in self.pieces.values() if p.evidence.address == invoice.deposit_address]
        came = sum(e.amount_minor for e in mine if e.kind is Kind.DEPOSIT and e.stage is Stage.FINAL)
        left = sum(e.amount_minor for e in mine if e.kind is Kind.FLUSH and e.stage is not Stage.GONE)
        amount = came - left
        assert amount > 0, "what waits to be flushed is there"
        assert invoice.deposit_address is not None
        self.come(Kind.FLUSH, stage, amount, amount // 10 + 1, b"", invoice.deposit_address, invoice.id)

    @rule(seconds=st.sampled_from([1, 400, 901, 5_000]), is_blind=st.booleans())
    def wait(self, seconds: int, is_blind: bool) -> None:
        self.clock.wait(seconds)
        if not is_blind:
            self.see()

    @rule(by_bps=st.sampled_from([-300, -150, 0, 150, 300]), is_there=st.sampled_from([True, True, False]))
    def change_rate(self, by_bps: int, is_there: bool) -> None:
        self.rates.numerator = max(self.rates.numerator * (10_000 + by_bps) // 10_000, 1)
        self.rates.is_there = is_there

    @rule()
    def decide_late(self) -> None:
        self.alive(self.payments.decide_late)

    @rule()
    def expire(self) -> None:
        self.alive(self.payments.expire)

    @rule()
    def restart(self) -> None:
        self.start()

    @rule()
    def record(self) -> None:
        self.writer.drain()
        self.alive(self.payments.take_answers)

    @rule(statement=st.integers(1, 30))
    def die_soon(self, statement: int) -> None:
        """The next thing that is done dies at this statement, and the process starts again."""
        self.next_death = statement, None

    @rule(commit=st.integers(1, 3))
    def die_with_the_answer_soon(self, commit: int) -> None:
        """The next thing that is done is done so far, and whoever asked for it does not hear of that."""
        self.next_death = None, commit

    def alive(self, what):
        """Do it, and if the process dies in the middle start again and do it once more."""
        self.deaths.statements, self.deaths.commits = self.next_death
        self.next_death = None, None
        was_done = self.deaths.commits is not None
        try:
            return what()
        except Died:
            self.deaths.none()
            self.start()
            if not was_done:
                self.check()
            return what()
        finally:
            self.deaths.none()

    def refused(self, refused: Invalid, *rules: str) -> None:
        assert refused.rule in rules, refused

    # --- what people do -----------------------------------------------------------------

    @precondition(lambda self: self.invoices)
    @rule(at=st.integers(0, 30), to=st.integers(0, 2), how=st.sampled_from(["assign", "assign", "keep"]))
    def decide(self, at: int, to: int, how: str) -> None:
        with reading(self.engine) as connection:
            waiting = [one for one in store.unmatched(connection, (0, ""), 500) if one.key in self.pieces]
        waiting = [one for one in waiting if one.problem is None]
        if not waiting:
            return
        seen, invoice = waiting[at % len(waiting)], self.invoices[to % len(self.invoices)]
        try:
            if how == "keep":
                self.alive(lambda: self.queue.keep(seen.key, ACTOR, "why not"))
            else:
                self.alive(lambda: self.queue.assign(seen.key, invoice.id, ACTOR, "why not"))
                self.pieces[seen.key].invoice = invoice.id
        except Invalid as refused:
            self.refused(refused, "P5")

    @precondition(lambda self: self.invoices)
    @rule(
        at=st.integers(0, 2),
        hundredths=st.sampled_from([1, 50, 100, 130]),
        approves=st.booleans(),
        names=st.sampled_from([None, None, 0, 1]),
    )
    def refund(self, at: int, hundredths: int, approves: bool, names: int | None) -> None:
        invoice = self.invoices[at % len(self.invoices)]
        amount, key = max(invoice.due_minor * hundredths // 100, 1), f"r{next(_numbers)}"
        with reading(self.engine) as connection:
            idle = self.idle_by_hand(connection, invoice)
        named = None if names is None or not idle else idle[names % len(idle)][0]
        try:
            made = self.alive(lambda: self.refunds.request(ACTOR, invoice.id, named, amount, None, key))
        except Invalid as refused:
            self.refused(refused, "P6", "F1")
            return
        left, taken = amount, []
        for piece, free in [(named, amount)] if named is not None else idle:
            if part := min(free, left):
                taken.append((piece, part))
                left -= part
        self.parts[made.id] = taken
        # With the same key it is the same.
        assert self.refunds.request(ACTOR, invoice.id, named, amount, None, key).id == made.id
        if approves:
            self.alive(lambda: self.refunds.approve(made.id, ACTOR))

    def idle_by_hand(self, connection: db.Connection, invoice: Invoice) -> list[tuple[str, int]]:
        """Final money of an invoice that does not count, oldest first, and what of it is not given back."""
        going = [
            part
            for one in refund_rows.refunds_of_invoice(connection, invoice.id)
            if one.state != "cancelled"
            for part in self.parts.get(one.id, [])
        ]
        found = []
        for key, piece in sorted(self.pieces.items(), key=lambda one: (one[1].evidence.at_s, one[0])):
            evidence = piece.evidence
            is_there = piece.invoice == invoice.id and evidence.kind in PAYS and evidence.stage is Stage.FINAL
            if is_there and not self.counts_by_hand(connection, key, invoice):
                found.append((key, evidence.amount_minor - sum(n for of, n in going if of == key)))
        return found

    def counts_by_hand(self, connection: db.Connection, key: str, invoice: Invoice) -> bool:
        made = store.decisions_of(connection, key)
        if made:
            return made[-1].action in {Decision.ACCEPTED, Decision.ASSIGNED}
        return (self.pieces[key].evidence.at_s or 0) <= invoice.expires_s

    @rule(
        what=st.sampled_from(["approve", "cancel", "send", "send", "final", "reorganise"]),
        at=st.integers(0, 9),
    )
    def go_on(self, what: str, at: int) -> None:
        """Somebody decides about a refund, a wallet sends, blocks become final or go."""
        mine = self.refunds.of(self.merchant, (1 << 62, ""), 100)
        wanted = {
            "approve": RefundState.REQUESTED,
            "cancel": RefundState.REQUESTED,
            "send": RefundState.PENDING,
        }
        if what == "final":
            self.chain.final = self.chain.latest
        elif what == "reorganise":
            kept = [one for one in self.chain.transfers if one.block <= self.chain.final]
            self.chain.transfers, self.chain.latest = kept, self.chain.latest + 1
        elif open_ := [one for one in mine if one.state is wanted[what]]:
            one = open_[at % len(open_)]
            if what == "send":
                self.chain.send(b"\x0a" * 20, one.receiver, one.amount_minor)
            elif what == "approve":
                self.alive(lambda: self.refunds.approve(one.id, ACTOR))
            else:
                self.alive(lambda: self.refunds.cancel(one.id, ACTOR, "no"))

    @rule()
    def follow_refunds(self) -> None:
        self.alive(self.refunds.follow)

    @precondition(lambda self: self.invoices)
    @rule(at=st.integers(0, 2))
    def claim(self, at: int) -> None:
        invoice = self.invoices[at % len(self.invoices)]
        try:
            first = self.alive(lambda: self.payments.claim(invoice.id, ACTOR))
        except Invalid as refused:
            self.refused(refused, "P4")
            return
        assert self.payments.look(invoice.id)[1].status is Status.FINAL
        assert not (first and self.payments.claim(invoice.id, "another"))

    @precondition(lambda self: self.invoices)
    @rule(at=st.integers(0, 2))
    def void(self, at: int) -> None:
        id = self.invoices[at % len(self.invoices)].id
        self.alive(lambda: self.payments.void(id))
        self.voided.add(id)

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        with reading(self.engine) as connection:
            self.no_evidence_is_lost(connection)
            for invoice in self.invoices:
                self.the_state_is_what_the_evidence_says(connection, invoice)
                self.every_move_is_in_the_table_and_told_in_order(connection, invoice)
                self.refunds_are_never_more_than_what_came(connection, invoice)
            self.the_ledger_has_what_is_final(connection)

    def no_evidence_is_lost(self, connection: db.Connection) -> None:
        for key, piece in self.pieces.items():
            seen = store.evidence(connection, key)
            assert seen is not None, key
            assert (seen.amount_minor, seen.kind) == (piece.evidence.amount_minor, piece.evidence.kind)
            assert seen.invoice_id == piece.invoice
            stages = [stage for stage, _ in store.stages_of(connection, key)]
            assert stages[-1] == seen.stage.value
            # A stage is told once: taking the same again changes nothing.
            assert all(one != after for one, after in pairwise(stages))
            if seen.stage is not Stage.FINAL:
                assert piece.evidence.stage is seen.stage

    def the_state_is_what_the_evidence_says(self, connection: db.Connection, invoice: Invoice) -> None:
        now = self.clock()
        stored = store.invoice(connection, invoice.id)
        assert stored is not None
        derived, seen = self.payments.states.derive(connection, stored, now)
        told = self.status_by_hand(connection, invoice)
        assert derived.status is told, (told, derived)
        # Nothing but time, which nobody is told of until `expire`, may lie between the two.
        waits = told is Status.EXPIRED and stored.status in {Status.OPEN, Status.DETECTED}
        assert stored.status is told or waits, (stored.status, told)
        counted = held = 0
        for piece in seen:
            if piece.kind not in PAYS or piece.stage is Stage.GONE:
                continue
            is_late = (piece.at_s or 0) > invoice.expires_s
            if piece.decision in {Decision.KEPT, Decision.REFUND, Decision.RETAINED}:
                continue
            if not is_late or piece.decision in {Decision.ACCEPTED, Decision.ASSIGNED}:
                counted += piece.amount_minor
            else:
                held += piece.amount_minor
        assert (derived.paid_minor, derived.held_minor) == (counted, held)
        # An old invoice keeps the policy that it was made with.
        assert stored.policy == invoice.policy

    def status_by_hand(self, connection: db.Connection, invoice: Invoice) -> Status:
        """What an outsider says who has the list of pieces, the decisions and the refunds, and counts."""
        came = dict.fromkeys(ORDER, 0)
        for key, piece in self.pieces.items():
            stage, is_theirs = piece.evidence.stage, piece.invoice == invoice.id
            is_there = is_theirs and piece.evidence.kind in PAYS and stage in came
            if is_there and self.counts_by_hand(connection, key, invoice):
                came[stage] += piece.evidence.amount_minor
        back = [
            one for one in refund_rows.refunds_of_invoice(connection, invoice.id) if one.state != "cancelled"
        ]
        needed = invoice.due_minor - invoice.due_minor * self.tolerance // 10_000
        # What goes back of money that does not count takes nothing from what does.
        for one in back:
            needed += one.amount_minor
            needed -= sum(
                amount
                for key, amount in self.parts.get(one.id, [])
                if not self.counts_by_hand(connection, key, invoice)
            )
        there = 0
        for stage in reversed(ORDER):
            there += came[stage]
            if there >= needed:
                return Status(stage.value)
        if back:
            return Status.REFUNDED if all(one.state == "final" for one in back) else Status.REFUND_PENDING
        if invoice.id in self.voided:
            return Status.VOID
        # While the chain is not seen nothing expires.
        if min(self.clock(), self.seen_s) > invoice.expires_s:
            return Status.EXPIRED
        return Status.DETECTED if there else Status.OPEN

    def every_move_is_in_the_table_and_told_in_order(
        self, connection: db.Connection, invoice: Invoice
    ) -> None:
        moves = [Status(status) for status, _ in store.events_of(connection, invoice.id)]
        assert moves[0] is Status.OPEN
        assert all(after in MOVES[before] for before, after in pairwise(moves)), moves
        told = webhooks.deliveries_of(connection, self.merchant, invoice.id)
        assert [row.sequence for row in told] == list(range(1, len(told) + 1))
        kinds = [row.type.removeprefix("invoice.") for row in told if row.type != "invoice.updated"]
        assert kinds == [status.value for status in moves]

    def refunds_are_never_more_than_what_came(self, connection: db.Connection, invoice: Invoice) -> None:
        came = sum(
            seen.amount_minor
            for seen in store.evidence_of(connection, invoice.id)
            if seen.kind in PAYS and seen.stage is Stage.FINAL
        )
        mine = refund_rows.refunds_of_invoice(connection, invoice.id)
        assert sum(one.amount_minor for one in mine if one.state is not RefundState.CANCELLED) <= came
        final = {one.key for one in self.chain.transfers if one.block <= self.chain.final}
        taken = [one.transfer_key for one in mine if one.transfer_key is not None]
        assert all(n == 1 for n in Counter(taken).values())
        for one in mine:
            moves = [RefundState(state) for state, _, _, _ in refund_rows.refund_events(connection, one.id)]
            assert moves[-1] is one.state
            assert all(after in REFUND_MOVES[before] for before, after in pairwise(moves)), moves
            if one.state is RefundState.FINAL:
                assert one.transfer_key in final, "refunded is said of a final transfer alone"

    def the_ledger_has_what_is_final(self, connection: db.Connection) -> None:
        """sum(ledger) = sum(final logs): the inbox and the records, against what the machine saw."""
        ids = {transfer_id(key): key for key in self.pieces}
        booked: dict[str, int] = {}
        asked = [decode(one.template) for one in ledger_store.waiting(connection, 10_000)]
        state_records = self.records()
        for record in (*asked, *state_records):
            if isinstance(record, Transfer) and record.id in ids:
                assert ids[record.id] not in booked, "booked twice"
                booked[ids[record.id]] = record.amount
        wanted = {}
        for key, piece in self.pieces.items():
            seen = store.evidence(connection, key)
            assert seen is not None
            if seen.stage is Stage.FINAL and seen.kind in BOOKS and piece.invoice is not None:
                wanted[key] = seen.city_minor
                noted = [one for one in settlements_of_invoice(connection, piece.invoice) if one.id == key]
                assert [one.net_minor for one in noted] == [seen.amount_minor - seen.city_minor]
        assert booked == wanted

    def records(self) -> list[Transfer]:
        cache = self.__dict__.setdefault("_records", [])
        start = self.__dict__.setdefault("_start", 0)
        for data in ledger_store.records(self.engine, start):
            self._start += 1
            record = decode(data)
            if isinstance(record, Transfer):
                cache.append(record)
        return cache


def run(town: Town, examples: int, steps: int) -> None:
    Machine.town = town
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            # A failure tells its steps; making them fewer would take longer than all the rest.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )


def test_whatever_happens_the_database_says_what_happened_on_sqlite(town: Town):
    run(town, EXAMPLES, 40)


def test_whatever_happens_the_database_says_what_happened_on_postgresql(postgres_town: Town):
    run(postgres_town, max(EXAMPLES // 3, 5), 25)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_says_where_it_leads(status: Status):
    assert status not in MOVES[status]
