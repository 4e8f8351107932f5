"""Sends what is queued: allocates the nonce, signs, stores, offers, bumps, and follows it until it is final.

In this order, so that it may die anywhere: a nonce, a signature and its row commit together before any node
sees them, and what was stored is offered again, the same bytes, until the chain says what became of it.
Whatever happens, a call has one nonce for ever, so that one version of it at most is executed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from gateway.db import Connection, Engine, reading
from gateway.rails.evm import Pool
from gateway.rails.evm.pool import Endpoint
from gateway.sending import fees, store
from gateway.sending.call import Call, State
from gateway.sending.chain import AccountChain, Answer, Facts, Receipt
from gateway.sending.fees import GWEI, Fees
from gateway.sending.store import Signed, Stored
from ledger.records import Unavailable, keccak256

LOGGER = logging.getLogger(__name__)
FILL_GAS = 21_000
FILL_KIND = "fill"


@dataclass(frozen=True)
class Policy:
    """How patient and how generous the sender is. Fees are wei for each gas.

    lease_s: for how long nobody else sends for the account; resend_s: when stored bytes are offered again;
    bump_after_s: when more is offered; in_flight: how many wait on the chain at once; tries: how often a
    call is simulated, with back-off, before it is given up.
    """

    lease_s: int = 30
    resend_s: int = 15
    bump_after_s: int = 60
    in_flight: int = 16
    tries: int = 6
    back_off_s: int = 10
    tip_least: int = GWEI
    tip_most: int = 50 * GWEI
    fee_most: int = 1_000 * GWEI


@dataclass(frozen=True)
class Standing:
    """How the sender does, for status and metrics: calls by state, and how long the oldest has waited."""

    calls: dict[str, int]
    oldest_s: int


class Sender:
    """Sends for one account on one chain. Of any number of these one is active, by a row of the database."""

    def __init__(
        self,
        engine: Engine,
        pool: Pool,
        account: LocalAccount,
        clock: Callable[[], int],
        policy: Policy = Policy(),
    ) -> None:
        self._engine, self._account, self._clock, self.policy = engine, account, clock, policy
        self.address = bytes.fromhex(account.address[2:])
        self._chain = AccountChain(pool, self.address)
        self.chain, self._chain_id = pool.name, pool.chain_id
        self._holder = secrets.token_hex(8)
        # Which nodes took what stands at a nonce, as far as this process offered it.
        self._takers: dict[int, set[str]] = {}

    def step(self) -> int:
        """Do what can be done now; returns how many calls changed their state."""
        now = self._clock()
        if not self._has_work() or not self._hold(now):
            return 0
        facts = self._chain.facts(self.policy.tip_least, self.policy.tip_most)
        changed = self._follow(facts, now)
        self._fill_gaps(facts, now)
        self._sign_queued(facts, now)
        return changed + self._offer_all(facts, now)

    def standing(self) -> Standing:
        """How it does."""
        with reading(self._engine) as connection:
            calls = store.counts(connection, self.chain)
            oldest = store.oldest_live(connection, self.chain)
        return Standing(calls, 0 if oldest is None else max(self._clock() - oldest, 0))

    def release(self) -> None:
        """Let another send at once; else it waits until the lease ends."""
        now = self._clock()
        with self._engine.begin() as connection:
            store.hold_account(connection, self.chain, self.address, self._holder, now, now)

    # --- who sends ----------------------------------------------------------------------

    def _has_work(self) -> bool:
        with reading(self._engine) as connection:
            return store.oldest_live(connection, self.chain) is not None

    def _hold(self, now: int) -> bool:
        until_s = now + self.policy.lease_s
        with self._engine.begin() as connection:
            return store.hold_account(connection, self.chain, self.address, self._holder, now, until_s)

    def _lock(self, connection: Connection) -> int:
        """The next nonce; nobody else allocates one before we commit.

        The lease is for quiet, this is for safety: whoever lost the lease meanwhile changes nothing.
        """
        next_nonce = store.lock_account(connection, self.chain, self.address, self._holder)
        if next_nonce is None:
            raise Unavailable("sending", f"another sends for 0x{self.address.hex()} now")
        return next_nonce

    # --- following ----------------------------------------------------------------------

    def _follow(self, facts: Facts, now: int) -> int:
        """Ask the chain what became of what may have been executed."""
        with reading(self._engine) as connection:
            calls = store.live(connection, self.chain, self.address)
            versions = store.transactions(connection, [call.id for call in calls])
        hashes = [signed.hash for call in calls for signed in versions[call.id]]
        receipts = self._chain.receipts(facts.nodes, hashes)
        return sum(self._follow_one(facts, call, versions[call.id], receipts, now) for call in calls)

    def _follow_one(
        self, facts: Facts, call: Stored, versions: list[Signed], receipts: dict[bytes, Receipt], now: int
    ) -> bool:
        assert call.nonce is not None
        for signed in versions:
            if receipt := receipts.get(signed.hash):
                return self._mined(facts, call, signed, receipt, now)
        if facts.used_finally > call.nonce:
            return self._used_by_another(facts, call, versions, now)
        if call.state is State.MINED:
            return self._taken_back(call, versions, now)
        if call.state is State.UNKNOWN and self._chain.is_waiting(
            facts.nodes, [signed.hash for signed in versions]
        ):
            return self._note(call, now, State.SENT, "")
        return False

    def _taken_back(self, call: Stored, versions: list[Signed], now: int) -> bool:
        """Its block is gone. The same bytes are offered again: they may go into another."""
        with self._engine.begin() as connection:
            self._lock(connection)
            store.set_sent(connection, [signed.hash for signed in versions], None)
        return self._note(call, now, State.SIGNED, "its block is gone", block=None, block_hash=None)

    def _mined(self, facts: Facts, call: Stored, signed: Signed, receipt: Receipt, now: int) -> bool:
        place = {"transaction": signed.hash, "block": receipt.block, "block_hash": receipt.block_hash}
        if receipt.block > facts.head.final or not self._chain.confirms(facts, receipt):
            return self._note(call, now, State.MINED, "" if receipt.succeeded else "it was refused", **place)
        if signed.fills:
            return self._note(call, now, State.DROPPED, call.why or "another used its nonce", **place)
        if not receipt.succeeded:
            why = f"the contract refused it: {self._why_refused(facts, call, receipt)}"
            return self._note(call, now, State.REVERTED, why[:300], **place)
        return self._note(call, now, State.FINAL, "", **place)

    def _why_refused(self, facts: Facts, call: Stored, receipt: Receipt) -> str:
        try:
            why = self._chain.simulate(facts.nodes, call.call, receipt.block)
        except Unavailable as error:
            why = str(error)
        return why or "refused in its place in the block, or out of gas; it would go now"

    def _used_by_another(self, facts: Facts, call: Stored, versions: list[Signed], now: int) -> bool:
        """Its nonce is used for ever and no receipt is ours: the chain itself must show whose it was.

        A node that forgot a receipt is not proof that nothing was executed (field failure 19).
        """
        assert call.nonce is not None
        try:
            user = self._chain.user_of(facts, call.nonce)
        except Unavailable as error:
            return self._note(call, now, State.UNKNOWN, f"nonce {call.nonce} is used: {error}"[:300])
        if user is None or user in {signed.hash for signed in versions}:
            return self._note(call, now, State.UNKNOWN, f"nonce {call.nonce} is used, and no node tells how")
        why = f"transaction 0x{user.hex()}, which is none of ours, used nonce {call.nonce}"
        LOGGER.error("call %s %s: %s", call.call.kind, call.call.reference, why)
        return self._note(call, now, State.DROPPED, why)

    def _note(self, call: Stored, now: int, state: State, why: str, **members: Any) -> bool:
        """Store what has changed; True if the state did."""
        known = {name: getattr(call, name) for name in members}
        if (state, why, members) == (call.state, call.why, known):
            return False
        with self._engine.begin() as connection:
            self._lock(connection)
            store.set_call(connection, call.id, now, state=state.value, why=why, **members)
        return state is not call.state

    # --- signing ------------------------------------------------------------------------

    def _fill_gaps(self, facts: Facts, now: int) -> None:
        """Use up nonces that no call has: nothing after a gap is ever executed (field failure 25)."""
        with self._engine.begin() as connection:
            next_nonce = self._lock(connection)
            taken = store.nonces(connection, self.chain, self.address, facts.used)
            missing = [nonce for nonce in range(facts.used, next_nonce) if nonce not in taken]
            for nonce in missing:
                LOGGER.error("nonce %d of 0x%s is missing and is filled", nonce, self.address.hex())
                reference = f"{self.chain} 0x{self.address.hex()} {nonce}"
                filling = Call(FILL_KIND, reference, self.address, b"", 0, FILL_GAS)
                offer = fees.first(facts.base_fee, facts.tip, self.policy.fee_most)
                if offer is None or not store.add_call(connection, self.chain, filling, now):
                    return
                self._store_signed(connection, filling, nonce, offer, now)

    def _sign_queued(self, facts: Facts, now: int) -> None:
        """Sign what waits, in its order, as many as may wait on the chain at once."""
        with reading(self._engine) as connection:
            room = self.policy.in_flight - len(store.live(connection, self.chain, self.address))
            waiting = store.due(connection, self.chain, now, room) if room > 0 else []
        for call in waiting:
            refusal = self._chain.simulate(facts.nodes, call.call)
            if refusal is not None:
                self._postpone(call, refusal, now)
                continue
            offer = fees.first(facts.base_fee, facts.tip, self.policy.fee_most)
            if offer is None:
                why = f"gas costs {facts.base_fee + facts.tip} wei, the cap is {self.policy.fee_most}"
                self._note(call, now, State.QUEUED, why)
                continue
            with self._engine.begin() as connection:
                # The chain may be ahead of us: then another used this account, which nobody should.
                nonce = max(self._lock(connection), facts.used)
                store.set_next_nonce(connection, self.chain, self.address, nonce + 1)
                self._store_signed(connection, call.call, nonce, offer, now)
            # Dies here: the transaction is stored, and the next step offers it.

    def _postpone(self, call: Stored, refusal: str, now: int) -> None:
        """A call that the chain would refuse now is tried later; nothing was signed, so it may be dropped."""
        attempts = call.attempts + 1
        state = State.DROPPED if attempts >= self.policy.tries else State.QUEUED
        due_s = now + self.policy.back_off_s * 2 ** min(attempts - 1, 10)
        self._note(call, now, state, refusal, attempts=attempts, due_s=due_s)

    def _store_signed(
        self, connection: Connection, call: Call, nonce: int, offer: Fees, now: int, *, fills: bool = False
    ) -> Signed:
        """Sign one version of a call and store it, before anybody sees it (field failures 23, 24)."""
        asked: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "to": self.address if fills else call.to,
            "value": 0 if fills else call.value,
            "data": b"" if fills else call.data,
            # Bounded by who made the call, never estimated here (field failure 26).
            "gas": FILL_GAS if fills else call.gas_limit,
            "maxFeePerGas": offer.max_fee,
            "maxPriorityFeePerGas": offer.tip,
        }
        raw = bytes(self._account.sign_transaction(asked).raw_transaction)
        signed = Signed(keccak256(raw), call.id, raw, offer.max_fee, offer.tip, fills, now, None)
        store.add_transaction(connection, signed)
        members = {"account": self.address, "nonce": nonce, "transaction": signed.hash}
        store.set_call(connection, call.id, now, state=State.SIGNED.value, **members)
        return signed

    # --- offering -----------------------------------------------------------------------

    def _offer_all(self, facts: Facts, now: int) -> int:
        """Offer what is stored and not mined, by nonce; more for what has waited too long."""
        with reading(self._engine) as connection:
            calls = store.live(connection, self.chain, self.address)
            versions = store.transactions(connection, [call.id for call in calls])
        self._takers = {nonce: names for nonce, names in self._takers.items() if nonce >= facts.used}
        changed, open_nodes = 0, facts.nodes
        for call in calls:
            if call.state is State.MINED or call.nonce is None or call.nonce < facts.used:
                # Used: the receipts say by whom, in the next step.
                continue
            newest = versions[call.id][-1]
            why = call.why if newest.fills else ""
            # Only the first of those that wait can be what all wait for.
            if call.nonce == facts.used and self._is_slow(newest, facts, now):
                bumped = self._bump(facts, call, newest, now)
                if bumped is None:
                    why = f"an eighth more than {newest.max_fee} wei for each gas is over the cap"
                newest = bumped or newest
            is_due = newest.sent_s is None or now - newest.sent_s >= self.policy.resend_s
            if is_due:
                changed += self._offer_one(facts, open_nodes, call, newest, now, why)
            open_nodes = self._open_after(open_nodes, call, offered=is_due)
            if not open_nodes:
                # What comes after it would be a gap, which many nodes refuse: it waits for its turn.
                break
        return changed

    def _open_after(self, nodes: list[Endpoint], call: Stored, *, offered: bool) -> list[Endpoint]:
        """The nodes to which what comes after a call may be offered: those that have the call."""
        assert call.nonce is not None
        if not offered and call.state is not State.SENT:
            return []
        takers = self._takers.get(call.nonce)
        # Sent by a process before this one: some node has it, and one that has not says `early`.
        return nodes if takers is None else [one for one in nodes if one.node.name in takers]

    def _is_slow(self, newest: Signed, facts: Facts, now: int) -> bool:
        return newest.sent_s is not None and (
            now - newest.signed_s >= self.policy.bump_after_s or newest.max_fee < facts.base_fee
        )

    def _bump(
        self, facts: Facts, call: Stored, newest: Signed, now: int, *, fills: bool = False
    ) -> Signed | None:
        """Sign the next version, None over the cap: the same nonce, so that one at most is executed."""
        assert call.nonce is not None
        before = Fees(newest.max_fee, newest.tip)
        offer = fees.bumped(before, facts.base_fee, facts.tip, self.policy.fee_most)
        if offer is None:
            return None
        fills = fills or newest.fills
        with self._engine.begin() as connection:
            self._lock(connection)
            return self._store_signed(connection, call.call, call.nonce, offer, now, fills=fills)

    def _offer_one(
        self, facts: Facts, nodes: list[Endpoint], call: Stored, signed: Signed, now: int, slow: str
    ) -> bool:
        assert call.nonce is not None
        answer, why, takers = self._chain.offer(nodes, signed.raw)
        self._takers[call.nonce] = takers
        with self._engine.begin() as connection:
            self._lock(connection)
            store.set_sent(connection, [signed.hash], now)
        match answer:
            case Answer.TAKEN:
                return self._note(call, now, State.SENT, slow)
            case Answer.USED | Answer.SILENT:
                # Neither done nor not done: the chain is asked before anything else is (field failure 19).
                return self._note(call, now, State.UNKNOWN, why[:300])
            case Answer.POOR:
                LOGGER.error("0x%s cannot pay for gas: %s", self.address.hex(), why)
                return self._note(call, now, State.SIGNED, why[:300])
            case Answer.EARLY:
                # No verdict about the call, so none of its tries is used up.
                return self._note(call, now, State.SIGNED, why[:300])
            case Answer.CHEAP:
                # The next step offers this version, if it was not offered meanwhile.
                self._bump(facts, call, signed, now)
                return self._note(call, now, State.SIGNED, why[:300])
            case Answer.REFUSED:
                return self._give_up(facts, call, signed, why, now)

    def _give_up(self, facts: Facts, call: Stored, signed: Signed, why: str, now: int) -> bool:
        """No node will ever take it: its nonce is used up by nothing, and then it is dropped."""
        if self._chain.is_waiting(facts.nodes, [signed.hash]):
            return self._note(call, now, State.SENT, "")
        LOGGER.error("call %s %s is refused: %s", call.call.kind, call.call.reference, why)
        attempts = call.attempts + 1
        if attempts >= self.policy.tries and not signed.fills:
            self._bump(facts, call, signed, now, fills=True)
        return self._note(call, now, State.SIGNED, why[:300], attempts=attempts)
