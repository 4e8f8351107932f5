"""How merchants are paid: at once on chain, or in tenge by a provider that confirms (P7).

A direct settlement is a fact of the paying transaction and is noted with its evidence. For a merchant
who is paid in tenge the net went to its provider, and a payout asks that provider for tenge:
reserved under our own reference, noted as sent before it is sent, and believed when a signed
confirmation says exactly what was instructed. What is not known is asked, never told again blindly.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from gateway.db import Connection, reading
from gateway.eip55 import checksummed
from gateway.merchants import store as merchants
from gateway.merchants.policy import WHOLE_BPS
from gateway.payments import disputes
from gateway.payments.disputes import STEP, Doubt, Word
from gateway.payments.service import Payments
from gateway.payments.store import settlements as rows
from gateway.payments.store.settlements import DECIDED, PAYOUT_MOVES, Payout, PayoutState, Settlement
from gateway.vasp.client import Provider
from gateway.vasp.messages import Confirmation, Instruction, Said, decode_confirmation
from ledger import rules
from ledger.records import Invalid, Unavailable, reject

LOGGER = logging.getLogger(__name__)
AT_ONCE: Final = 100
ITEMS_MOST: Final = 1_000
# Nobody else looks after a payout in this time; longer than a provider is waited for.
LEASE_S: Final = 60
ASK_AGAIN_S: Final = 600
# After so long an instruction that the provider never heard of is told once more, under its reference.
TELL_AGAIN_S: Final = 120
_STATE: Final = {
    Said.ACCEPTED: PayoutState.INSTRUCTED,
    Said.PAID: PayoutState.PAID,
    Said.REFUSED: PayoutState.REFUSED,
}


class Settlements:
    """The use cases. providers: by name; the first pays out where none is named."""

    def __init__(self, payments: Payments, providers: Mapping[str, Provider] | None = None) -> None:
        self._payments, self._providers = payments, dict(providers or {})
        self._engine, self._clock = payments.engine, payments.clock

    # --- reading --------------------------------------------------------------------

    def of(self, merchant_id: str, before: tuple[int, str], most: int) -> Sequence[Settlement]:
        """What a merchant was given, newest first, a page at a time (keyset)."""
        with reading(self._engine) as connection:
            return rows.settlements_of(connection, merchant_id, before, most)

    def payouts_of(self, merchant_id: str, before: tuple[int, str], most: int) -> Sequence[Payout]:
        """A merchant's payouts in tenge, newest first, a page at a time (keyset)."""
        with reading(self._engine) as connection:
            return rows.payouts_of(connection, merchant_id, before, most)

    def look(self, reference: str) -> Payout:
        """One payout, by our reference."""
        with reading(self._engine) as connection:
            found = (
                rows.payout(connection, reference)
                if reference.isascii() and reference.isprintable()
                else None
            )
        if found is None:
            reject("not_found", "payout", f"no payout is called {reference[:40]!a}")
        return found

    def events(self, reference: str) -> list[tuple[str, str, str, int]]:
        """The moves of a payout: state, who, why, when."""
        with reading(self._engine) as connection:
            return rows.payout_events(connection, reference)

    def check_wallet(self, wallet: bytes) -> None:
        """Refuse a wallet to which no provider's units would come, for a merchant that one is to pay out.

        The router sends the net to the merchant's wallet: it must be an address of the provider.
        """
        if not self._providers:
            reject("policy", "settle_by", "no provider pays out here: vasp.json names none")
        if any(one.takes_at(wallet) for one in self._providers.values()):
            return
        known = [(one.name, address) for one in self._providers.values() for address in sorted(one.addresses)]
        told = ", ".join(f"{name} {checksummed(address)}" for name, address in known)
        why = f"paid out by a provider, a merchant's wallet is an address of it ({told})"
        why = f"{why}, not {checksummed(wallet)}"
        reject("policy", "settle_by", f"{why}: set the wallet first")

    # --- instructing ----------------------------------------------------------------

    def instruct(self, merchant_id: str, asset: str, actor: str, provider: str | None = None) -> Payout:
        """Reserve all that a merchant's provider holds in an asset for one payout; a round sends it.

        Dies after this: the reference is ours and stored, and the next round goes on with it.
        """
        name = provider or next(iter(self._providers), None)
        if name is None or name not in self._providers:
            reject("not_found", "provider", f"no provider is called {name!a}")
        now = self._clock()
        with self._engine.begin() as connection:
            merchant = merchants.merchant_at(connection, merchant_id, now)
            if merchant is None:
                reject("not_found", "merchant", f"no merchant is called {merchant_id[:40]!a}")
            waiting = rows.unpaid_settlements(connection, merchant_id, asset, ITEMS_MOST)
            items = [item for item in waiting if self._providers[name].takes_at(item.receiver)]
            if waiting and not items:
                # It would be asked to pay out what it never got.
                why = f"{len(waiting)} settlements went to {checksummed(waiting[0].receiver)}"
                reject("P7", "payout", f"{why}, which is no address of the provider {name}")
            amount = sum(item.net_minor for item in items)
            if not amount:
                reject("P7", "payout", f"nothing in {asset} waits to be paid out to {merchant_id}")
            payout = Payout(
                id=f"p_{secrets.token_hex(12)}",
                merchant_id=merchant_id,
                provider=name,
                asset=asset,
                amount_minor=amount,
                iban=merchant.iban,
                state=PayoutState.RESERVED,
                attempts=0,
                due_s=now,
                created_s=now,
                changed_s=now,
            )
            rows.add_payout(connection, payout, [item.id for item in items], actor)
        return payout

    def follow(self) -> int:
        """Tell providers what is reserved, ask about what is not known; returns how many moved."""
        with reading(self._engine) as connection:
            states = (PayoutState.RESERVED, PayoutState.UNKNOWN, PayoutState.INSTRUCTED)
            due = rows.payouts_due(connection, states, self._clock(), AT_ONCE)
        return sum(self._follow_one(payout) for payout in due)

    def _follow_one(self, payout: Payout) -> int:
        provider = self._providers.get(payout.provider)
        if provider is None or not self._claim(payout):
            return 0
        instruction = _instruction(payout)
        try:
            # What was noted as sent is asked about first: it may be there (field failures 19, 43).
            told = None if payout.state is PayoutState.RESERVED else provider.ask(instruction)
            if told is None:
                if not self._may_tell(payout):
                    return 0
                told = provider.instruct(instruction)
        except Unavailable as error:
            LOGGER.warning("payout %s is not known: %s", payout.id, error)
            with self._engine.begin() as connection:
                rows.set_payout(connection, payout.id, problem=str(error))
            return 0
        return self._note(told, STEP)

    def _claim(self, payout: Payout) -> bool:
        """Note that it may be out from now on, before it is; False where another worker has it."""
        now = self._clock()
        with self._engine.begin() as connection:
            locked = rows.locked_payout(connection, payout.id)
            assert locked is not None
            if locked.state is not payout.state or locked.due_s != payout.due_s:
                return False
            wait = ASK_AGAIN_S if locked.state is PayoutState.INSTRUCTED else LEASE_S
            noted = {"attempts": locked.attempts + 1, "due_s": now + wait}
            if locked.state is PayoutState.RESERVED:
                why = "told to the provider, no answer yet"
                rows.set_payout_state(connection, payout.id, PayoutState.UNKNOWN, STEP, why, now, **noted)
            else:
                rows.set_payout(connection, payout.id, **noted)
        return True

    def _may_tell(self, payout: Payout) -> bool:
        """What the provider never heard of is told again, once what we said can no longer be on its way."""
        if payout.state is PayoutState.INSTRUCTED:
            # It said that it had this.
            with self._engine.begin() as connection:
                # It may have been confirmed while we asked.
                held = rows.locked_payout(connection, payout.id)
                assert held is not None
                if held.state is PayoutState.INSTRUCTED:
                    why = "the provider accepted this and knows nothing of it now"
                    disputes.dispute(connection, held, why, self._clock())
            return False
        return payout.state is PayoutState.RESERVED or self._clock() - payout.changed_s >= TELL_AGAIN_S

    # --- confirming -----------------------------------------------------------------

    def confirm(self, provider: str, body: bytes, signature: str) -> Payout:
        """Take a provider's signed confirmation; the same again changes nothing and is answered the same.

        No age is checked: a message that is brought again says what it said before. What differs from
        what was instructed, or from what was confirmed, is kept and a person decides.
        """
        known = self._providers.get(provider)
        if known is None:
            reject("not_found", "provider", f"no provider is called {provider[:40]!a}")
        known.verifier.check(body, signature)
        told = decode_confirmation(body)
        self._note(told, provider, body, signature)
        return self.look(told.instruction.reference)

    def _note(self, told: Confirmation, actor: str, body: bytes | None = None, signature: str = "") -> int:
        """Bring a payout to what the provider says, and keep what it said."""
        now, body = self._clock(), told.encode() if body is None else body
        reference = told.instruction.reference
        with self._engine.begin() as connection:
            payout = rows.locked_payout(connection, reference)
            if payout is None:
                reject("not_found", "payout", f"no payout is called {reference}")
            # What was said before a person decided is not said against the decision.
            is_old = payout.state in DECIDED and disputes.was_told(connection, told)
            problem = None if is_old else self._problem(connection, payout, told)
            digest = sha256(actor.encode() + b"\0" + body).digest()
            answer = problem or told.said.value
            rows.add_message(connection, digest, payout.provider, reference, body, signature, answer, now)
            if is_old:
                return 0
            if problem is not None:
                return disputes.dispute(connection, payout, problem, now)
            return self._apply(connection, payout, told, actor, now)

    def _apply(self, connection: Connection, payout: Payout, told: Confirmation, actor: str, now: int) -> int:
        noted: dict[str, object] = {"problem": None}
        why = told.why
        if told.said is Said.ACCEPTED:
            noted["due_s"] = now + ASK_AGAIN_S
        elif told.said is Said.PAID:
            why = told.bank_reference
            names = ("tiyn", "fee_tiyn", "numerator", "denominator", "bank_reference", "paid_s")
            noted.update({name: getattr(told, name) for name in names})
            if payout.state is PayoutState.PAID and payout.bank_reference is None:
                # A person said so first: now it is known how much came, and under which reference.
                rows.set_payout(connection, payout.id, **noted)
                return 0
        state = _STATE[told.said]
        if state not in PAYOUT_MOVES[payout.state]:
            # Said before, or less than what is known already.
            return 0
        rows.set_payout_state(connection, payout.id, state, actor, why, now, **noted)
        return 1

    def _problem(self, connection: Connection, payout: Payout, told: Confirmation) -> str | None:
        """Why a confirmation cannot be believed as it stands; None if it says what was instructed."""
        ours, theirs = _instruction(payout), told.instruction
        if ours != theirs:
            return (
                f"instructed {ours.amount_minor} {ours.asset} to {ours.iban}, "
                f"confirmed {theirs.amount_minor} {theirs.asset} to {theirs.iban}"
            )
        if told.said is Said.REFUSED and payout.state is PayoutState.PAID:
            under = payout.bank_reference
            by = f"it was confirmed as paid under {under}" if under else "a person said that it was paid"
            return f"{by} and is refused now"
        if told.said is not Said.PAID:
            return None
        worth = payout.amount_minor * told.numerator // told.denominator
        if told.tiyn + told.fee_tiyn != worth:
            return f"at that rate this is {worth} tiyn, not {told.tiyn} and a fee of {told.fee_tiyn}"
        if payout.state is PayoutState.REFUSED:
            return "it was refused before and is confirmed as paid now"
        before = (payout.tiyn, payout.fee_tiyn, payout.bank_reference)
        if payout.bank_reference is not None and before != (told.tiyn, told.fee_tiyn, told.bank_reference):
            return f"paid {payout.tiyn} tiyn under {payout.bank_reference} before, {told.tiyn} now"
        other = rows.payout_of_bank_reference(connection, payout.provider, told.bank_reference)
        if other not in {None, payout.id}:
            return f"the bank's reference {told.bank_reference} is of the payout {other}"
        return self._off_band(payout, told)

    def _off_band(self, payout: Payout, told: Confirmation) -> str | None:
        """A rate too far from the one that the ledger knows; where it knows none, nothing is compared."""
        state, now = self._payments.view.refresh(), self._clock()
        rate = state.last_rate.get(payout.asset)
        if rate is None:
            return None
        band = rules.parameter(state, "exchange_band", now)
        ours, theirs = rate.numerator * told.denominator, told.numerator * rate.denominator
        if abs(theirs - ours) * WHOLE_BPS > band * ours:
            return (
                f"its rate is {told.numerator}/{told.denominator}, ours {rate.numerator}/{rate.denominator}"
            )
        return None

    # --- what a person decides --------------------------------------------------------

    def resolve(
        self, reference: str, *, is_paid: bool, actor: str, why: str, is_sure: bool = False
    ) -> Payout:
        """End a dispute by a person's word: paid after all, or not, and its settlements are free again.

        is_sure: the provider has confirmed in writing that nothing left; without it nothing is freed.
        """
        if not is_paid and not is_sure:
            why = "settlements are freed once the provider has confirmed in writing that nothing left"
            reject("P7", "sure", why)
        self.look(reference)
        with self._engine.begin() as connection:
            disputes.resolve(connection, reference, actor, why, self._clock(), is_paid=is_paid)
        return self.look(reference)

    def disputed(self, after: tuple[int, str], most: int) -> list[Doubt]:
        """All merchants' payouts that wait for a person, the longest waiting first (keyset)."""
        with reading(self._engine) as connection:
            found = rows.disputed_payouts(connection, after, most)
        return disputes.doubts(self._engine, found, self._clock())

    def contradicted(self, most: int) -> list[Doubt]:
        """Payouts that stay paid although something else was said of them since, newest first."""
        with reading(self._engine) as connection:
            found = rows.contradicted_payouts(connection, most)
        return disputes.doubts(self._engine, found, self._clock())

    def words_of(self, payouts: Sequence[Payout]) -> dict[str, Word]:
        """What persons said of these payouts, by their references; nothing where nobody had to."""
        with reading(self._engine) as connection:
            found = {one.id: disputes.word_of(connection, one) for one in payouts}
        return {id: word for id, word in found.items() if word is not None}


def _instruction(payout: Payout) -> Instruction:
    return Instruction(payout.id, payout.asset, payout.amount_minor, payout.iban)


__all__ = ["Invalid", "Payout", "PayoutState", "Settlement", "Settlements"]
