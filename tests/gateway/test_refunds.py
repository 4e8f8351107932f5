"""Money goes back in the units that came, to whom it is proved to belong, once, and is refunded when final."""

from __future__ import annotations

import threading

import pytest
from eth_account.messages import encode_defunct, encode_typed_data
from sqlalchemy import text
from web3 import Web3

from contracts import transactions
from gateway.budget.desk import Desk, Proposed
from gateway.budget.from_bundle import Records
from gateway.db import reading
from gateway.demo import Day, enact_all
from gateway.eip55 import checksummed
from gateway.merchants import store as merchants
from gateway.merchants.policy import Over, Policy, set_policy
from gateway.payments import by_wallet, promises
from gateway.payments.going_back import GoingBack
from gateway.payments.receivers import WAIT_S, plain_terms, typed_terms
from gateway.payments.refund_model import MOVES, Proof, Refund, RefundState, Source
from gateway.payments.refunds import Refunds
from gateway.payments.store import Invoice
from gateway.payments.store import refunds as rows
from gateway.rails.evm.sight import EvmSight
from gateway.rails.evm.treasury import EvmTreasury
from ledger import store as ledger_store
from ledger.audit import audit
from ledger.audit.source import open_source
from ledger.records import Account, Contract, Invalid, Transfer, Unavailable, decode, hash_struct
from ledger.records import Refund as RefundRecord
from tests.gateway.conftest import DAY, MERCHANT_IBAN, Town
from tests.gateway.sending import TownSender

ACTOR = "key_1"
# How far the chain of the town is ahead of what is final in it, at most.
UNFINAL = 5


def refunds_of(town: Town) -> Refunds:
    found = town.city.gateway.refunds
    assert found is not None
    return found


def payer(town: Town) -> bytes:
    return town.city.keys.address("payer")


def paid(town: Town, **more: object) -> Invoice:
    """A merchant's invoice that is final; the merchant's wallet can send what it got."""
    invoice = town.invoice(**{"refund_to": payer(town), **more})
    town.pay(invoice)
    town.settle()
    assert town.status(invoice) == "final"
    return invoice


def send(town: Town, refund: Refund, amount: int | None = None) -> object:
    """What the merchant does with its own wallet, from what was prepared for it."""
    prepared = refunds_of(town).prepared(refund)
    data = prepared.data
    if amount is not None:
        data = data[:-32] + amount.to_bytes(32, "big")
    asked = {"to": Web3.to_checksum_address(prepared.to), "data": data, "gas": 100_000}
    return transactions.transact(town.city.outside.web3, town.city.keys.account("merchant"), asked, "refund")


def test_a_merchants_refund_goes_by_its_own_wallet_and_is_refunded_when_final(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    amount = invoice.due_minor * 9 // 10
    refund = refunds.request(ACTOR, invoice.id, None, amount, None, "k1")
    assert (refund.state, refund.proof, refund.source) == (
        RefundState.REQUESTED,
        Proof.FIXED,
        Source.MERCHANT,
    )
    assert town.status(invoice) == "refund_pending"
    refund = refunds.approve(refund.id, ACTOR)
    assert refund.state is RefundState.PENDING
    prepared = refunds.prepared(refund)
    token, receiver = checksummed(town.token), checksummed(payer(town))
    assert prepared.link == (
        f"ethereum:{token}@{prepared.chain_id}/transfer?address={receiver}&uint256={amount}"
    )
    before = town.city.city.balance(town.token, payer(town))
    send(town, refund)
    assert town.city.city.balance(town.token, payer(town)) == before + amount
    refunds.follow()
    # Sent is not refunded (field failure 30).
    assert (refunds.look(refund.id).state, town.status(invoice)) == (RefundState.SENT, "refund_pending")
    assert "refunded" not in town.notes(invoice)
    town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.FINAL
    assert (town.status(invoice), town.notes(invoice)) == ("refunded", {"refunded"})
    assert town.payments.look(invoice.id)[1].refunded_minor == amount
    states = [state for state, _, _, _ in refunds.events(refund.id)]
    assert states == ["requested", "approved", "pending", "sent", "final"]
    assert town.events(invoice)[-2:] == ["invoice.updated", "invoice.refunded"]
    assert refunds.follow() == 0


def test_a_part_goes_back_and_the_rest_still_pays(town: Town):
    with town.city.gateway.engine.begin() as connection:
        policy = Policy(tolerance_bps=500, tolerance_minor_max=10**9)
        set_policy(connection, town.merchant_id, policy, ACTOR, town.city.clock())
    invoice, refunds = paid(town), refunds_of(town)
    part = invoice.due_minor // 100
    for number in range(3):
        refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, part, None, f"k{number}").id, ACTOR)
        send(town, refund)
    town.finalise()
    refunds.follow()
    # 97 of 100 are still there, and the policy forgives 5.
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"refunded"})
    assert refunds.left(invoice.id) == invoice.due_minor - 3 * part
    keys = [refunds.look(one.id).transfer_key for one in refunds.of(town.merchant_id, (1 << 62, ""), 10)]
    assert len(set(keys)) == 3, "one transfer stands for one refund"


def test_one_transfer_never_stands_for_two_refunds(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    asked = [refunds.request(ACTOR, invoice.id, None, 1_000, None, f"k{number}") for number in range(2)]
    both = [refunds.approve(one.id, ACTOR) for one in asked]
    send(town, both[0])
    town.finalise()
    for _ in range(3):
        refunds.follow()
    assert sorted(refunds.look(one.id).state for one in both) == [RefundState.FINAL, RefundState.PENDING]


def test_another_amount_another_receiver_or_another_sender_is_no_refund(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k").id, ACTOR)
    send(town, refund, 999)
    city, keys = town.city.city, town.city.keys
    city.transfer(keys.account("merchant"), town.token, keys.address("builder"), 1_000)
    city.transfer(keys.account("payer"), town.token, payer(town), 1_000)
    town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.PENDING


def test_what_was_sent_before_the_refund_was_asked_is_not_it(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    town.city.city.transfer(town.city.keys.account("merchant"), town.token, payer(town), 1_000)
    town.finalise()
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k").id, ACTOR)
    town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.PENDING


def transfer_like(town: Town, amount: int) -> str:
    """The merchant pays its customer, outside of any refund."""
    made = town.city.city.transfer(town.city.keys.account("merchant"), town.token, payer(town), amount)
    return str(made)


def test_what_the_merchant_had_just_paid_the_same_customer_is_no_refund_of_it(town: Town):
    """A minute later it approves a refund of the same amount, and nothing of this minute is final."""
    invoice, refunds = paid(town), refunds_of(town)
    transfer_like(town, 1_000)
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k").id, ACTOR)
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.PENDING
    town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.PENDING
    send(town, refund)
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.SENT


def test_what_was_sent_before_is_no_refund_in_a_later_block_either(town: Town):
    """Its block goes, and the same transaction comes again above the block from which on it would count."""
    invoice, refunds, web3 = paid(town), refunds_of(town), town.city.outside.web3
    merchant = town.city.keys.account("merchant")
    signed = merchant.sign_transaction(
        {
            "to": Web3.to_checksum_address(town.token), "value": 0, "gas": 100_000, "gasPrice": 10**11,
            "data": b"\xa9\x05\x9c\xbb" + payer(town).rjust(32, b"\0") + (1_000).to_bytes(32, "big"),
            "nonce": web3.eth.get_transaction_count(merchant.address), "chainId": web3.eth.chain_id,
        }
    )  # fmt: skip
    snapshot = web3.provider.make_request("evm_snapshot", [])["result"]
    web3.eth.send_raw_transaction(signed.raw_transaction)
    town.mine()
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k").id, ACTOR)
    web3.provider.make_request("evm_revert", [snapshot])
    town.mine(5)
    web3.eth.send_raw_transaction(signed.raw_transaction)
    town.mine()
    block = web3.eth.get_transaction_receipt(signed.hash)["blockNumber"]
    assert block >= refund.since_block
    for _ in range(2):
        refunds.follow()
        assert refunds.look(refund.id).state is RefundState.PENDING
        town.finalise()
    send(town, refund)
    town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.FINAL


def test_a_refund_that_was_sent_is_not_cancelled_before_the_next_round_has_seen_it(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k1").id, ACTOR)
    send(town, refund)
    # No round has looked yet.
    with pytest.raises(Invalid, match="it is sent and may be under way"):
        refunds.cancel(refund.id, ACTOR, "to ask again")
    town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.FINAL
    # What was not sent is cancelled, and asked again it is not ended by what another one was ended by.
    second = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k2").id, ACTOR)
    assert refunds.cancel(second.id, ACTOR, "a mistake").state is RefundState.CANCELLED
    third = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k3").id, ACTOR)
    town.finalise()
    refunds.follow()
    assert refunds.look(third.id).state is RefundState.PENDING


def test_what_may_have_been_sent_is_not_cancelled_while_the_chain_cannot_be_asked(town: Town):
    invoice = paid(town)
    sight = Broken(refunds_of(town)._sight)
    refunds = Refunds(town.payments, sight)
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k").id, ACTOR)
    sight.is_away = True
    with pytest.raises(Unavailable):
        refunds.cancel(refund.id, ACTOR, "no")
    assert refunds.look(refund.id).state is RefundState.PENDING
    # Nor does one begin of which nobody knows what was sent before.
    other = refunds.approve(refunds.request(ACTOR, invoice.id, None, 5, None, "k2").id, ACTOR)
    assert (other.state, "away" in str(other.problem)) == (RefundState.APPROVED, True)
    sight.is_away = False
    assert refunds.cancel(refund.id, ACTOR, "no").state is RefundState.CANCELLED
    refunds.follow()
    assert refunds.look(other.id).state is RefundState.PENDING


def test_a_transfer_that_ended_another_refund_does_not_hide_the_next_one(town: Town):
    """Two of the same amount are open, and the first is final before anybody looks for the second."""
    invoice, refunds = paid(town), refunds_of(town)
    asked = [refunds.request(ACTOR, invoice.id, None, 1_000, None, f"k{number}") for number in range(2)]
    # Of two of one second the id decides whose turn it is.
    asked.sort(key=lambda one: (one.created_s, one.id))
    both = [refunds.approve(one.id, ACTOR) for one in asked]
    send(town, both[0])
    town.finalise()
    refunds.follow()
    assert [refunds.look(one.id).state.value for one in both] == ["final", "pending"]
    send(town, both[1])
    town.finalise()
    with town.city.gateway.engine.begin() as connection:
        # As one that was begun before rounds kept how far they had looked.
        rows.set_refund(connection, both[1].id, scanned_block=None)
    refunds.follow()
    first, second = (refunds.look(one.id) for one in both)
    assert (first.state, second.state) == (RefundState.FINAL, RefundState.FINAL)
    assert first.transfer_key != second.transfer_key


def test_a_round_asks_for_what_is_new_however_long_ago_a_refund_was_asked(town: Town):
    invoice = paid(town)
    sight = Counting(refunds_of(town)._sight)
    refunds = Refunds(town.payments, sight)
    old = refunds.approve(refunds.request(ACTOR, invoice.id, None, 7, None, "never sent").id, ACTOR)
    for number in range(4):
        town.mine(300)
        town.finalise()
        sight.asked.clear()
        refunds.follow()
        blocks = sum(max(last - first + 1, 0) for first, last in sight.asked)
        # What is new, and the blocks that are not final.
        assert blocks <= 300 + 2 * UNFINAL, (number, sight.asked)
    assert refunds.look(old.id).scanned_block == town.city.outside.web3.eth.get_block("finalized")["number"]
    # A refund that is further behind is caught up with in bounded pieces, and found.
    send(town, old)
    town.mine(50)
    town.finalise()
    sight.asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_wallet, "BLOCKS_A_ROUND", 20)
        for _ in range(20):
            refunds.follow()
            assert all(last - first < 20 for first, last in sight.asked)
    assert refunds.look(old.id).state is RefundState.FINAL


def test_one_merchants_question_that_fails_stops_no_other_merchant(town: Town):
    mine = paid(town)
    with town.city.gateway.engine.begin() as connection:
        other = merchants.Merchant(
            "m_fedcba9876543210", "Other", "990140000011", MERCHANT_IBAN, town.city.keys.address("builder")
        )
        merchants.add_merchant(connection, other, town.city.clock())
    theirs = paid(town, merchant_id=other.id, payee=other.wallet)
    sight = Counting(refunds_of(town)._sight)
    refunds = Refunds(town.payments, sight)
    asked = [refunds.request(ACTOR, one.id, None, 9, None, "k") for one in (theirs, mine, mine)]
    asked[2] = refunds.request(ACTOR, mine.id, None, 8, None, "k2")
    for one in asked:
        refunds.approve(one.id, ACTOR)
    # A wallet that has written more logs than a node will tell about.
    sight.fails_for = other.wallet
    send(town, refunds.look(asked[1].id))
    refunds.follow()
    assert [refunds.look(one.id).state.value for one in asked] == ["pending", "sent", "pending"]
    assert "too many" in str(refunds.look(asked[0].id).problem)
    assert refunds.look(asked[2].id).problem is None
    sight.fails_for = b""
    town.finalise()
    refunds.follow()
    assert [refunds.look(one.id).state.value for one in asked] == ["pending", "final", "pending"]
    assert refunds.look(asked[0].id).problem is None


class Through:
    """The town's eyes, seen through."""

    def __init__(self, sight) -> None:
        self._sight = sight

    def __getattr__(self, name: str) -> object:
        return getattr(self._sight, name)


class Broken(Through):
    """Eyes that close."""

    is_away = False

    def head(self) -> object:
        if self.is_away:
            raise Unavailable("chain", "away")
        return self._sight.head()


class Counting(Through):
    """Eyes that note what they are asked, and fail for whoever asks about one wallet."""

    def __init__(self, sight) -> None:
        super().__init__(sight)
        self.asked: list[tuple[int, int]] = []
        self.fails_for = b""

    def moved(self, asset, senders, receivers, first: int, last: int, **more: object) -> object:
        self.asked.append((first, last))
        if self.fails_for in senders:
            raise Unavailable("chain", "too many logs")
        return self._sight.moved(asset, senders, receivers, first, last, **more)


def test_ff30_refunded_is_said_when_the_outgoing_transfer_is_final_and_a_reorganisation_takes_it_back(
    town: Town,
):
    invoice, refunds = paid(town), refunds_of(town)
    amount = invoice.due_minor // 2
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, amount, None, "k").id, ACTOR)
    web3 = town.city.outside.web3
    snapshot = web3.provider.make_request("evm_snapshot", [])["result"]
    send(town, refund)
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.SENT
    web3.provider.make_request("evm_revert", [snapshot])
    town.mine(3)
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.PENDING
    assert (town.status(invoice), town.notes(invoice)) == ("refund_pending", {"refund_pending"})
    send(town, refund)
    refunds.follow()
    town.finalise()
    refunds.follow()
    assert (refunds.look(refund.id).state, town.status(invoice)) == (RefundState.FINAL, "refunded")


def test_ff29_a_refund_is_in_the_units_received_and_never_more_than_came(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    key = next(seen.key for seen in town.seen(invoice))
    due = invoice.due_minor
    for amount in (due + 1, 0, -1, 1 << 128):
        with pytest.raises(Invalid):
            refunds.request(ACTOR, invoice.id, None, amount, None, "k")
    refunds.request(ACTOR, invoice.id, key, due - 1, None, "k1")
    with pytest.raises(Invalid, match="1 are left"):
        refunds.request(ACTOR, invoice.id, key, 2, None, "k2")
    last = refunds.request(ACTOR, invoice.id, None, 1, None, "k3")
    with pytest.raises(Invalid, match="0 are left"):
        refunds.request(ACTOR, invoice.id, None, 1, None, "k4")
    # What is cancelled is free again.
    refunds.cancel(last.id, ACTOR, "a mistake")
    refunds.request(ACTOR, invoice.id, None, 1, None, "k5")
    assert refunds.left(invoice.id) == 0


def test_only_final_money_goes_back(town: Town):
    invoice, refunds = town.invoice(refund_to=payer(town)), refunds_of(town)
    town.pay(invoice)
    town.poll()
    assert town.status(invoice) == "detected"
    with pytest.raises(Invalid, match="0 final USDT came"):
        refunds.request(ACTOR, invoice.id, None, 1, None, "k")


def test_money_on_a_deposit_address_goes_back_only_after_it_was_split(town: Town):
    invoice, refunds = town.invoice(refund_to=payer(town)), refunds_of(town)
    town.deposit(invoice)
    town.finalise()
    with pytest.raises(Invalid, match="flush first"):
        refunds.request(ACTOR, invoice.id, None, 1, None, "k")
    town.settle()
    refunds.request(ACTOR, invoice.id, None, 1, None, "k")


def test_the_same_key_is_the_same_refund_and_for_another_it_is_a_conflict(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    first = refunds.request(ACTOR, invoice.id, None, 5, None, "k")
    assert refunds.request(ACTOR, invoice.id, None, 5, None, "k") == first
    with pytest.raises(Invalid, match="another refund"):
        refunds.request(ACTOR, invoice.id, None, 6, None, "k")
    with pytest.raises(Invalid, match="needs a key"):
        refunds.request(ACTOR, invoice.id, None, 5, None, "")
    assert refunds.approve(first.id, ACTOR) == refunds.approve(first.id, ACTOR)
    assert len(refunds.events(first.id)) == 3


@pytest.mark.parametrize("database", ["town", "postgres_town"])
def test_of_two_at_once_for_all_of_it_one_is_refused(request: pytest.FixtureRequest, database: str):
    town: Town = request.getfixturevalue(database)
    invoice, refunds = paid(town), refunds_of(town)
    results: list[object] = []
    gate = threading.Barrier(6)

    def ask(number: int) -> None:
        gate.wait(60)
        try:
            results.append(
                refunds.request(ACTOR, invoice.id, None, invoice.due_minor, None, f"k{number % 3}")
            )
        except Invalid as refused:
            results.append(refused)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 6
    made = {one.id for one in results if isinstance(one, Refund)}
    assert len(made) == 1, "two threads share its key, four are refused"
    assert sum(isinstance(one, Invalid) for one in results) == 4
    assert refunds.left(invoice.id) == 0


# --- to whom ------------------------------------------------------------------------------


def test_where_nothing_was_fixed_the_address_signs_and_waits_48_hours(town: Town):
    invoice, refunds = paid(town, refund_to=None), refunds_of(town)
    account, chain = town.city.keys.account("builder"), town.city.plan.deployment.chain_id
    to = town.city.keys.address("builder")
    with pytest.raises(Invalid, match="fixed no address"):
        refunds.request(ACTOR, invoice.id, None, 5, None, "k")
    with pytest.raises(Invalid, match="has signed nothing"):
        refunds.request(ACTOR, invoice.id, None, 5, to, "k")
    terms = (chain, invoice.id, "USDT", 5, to)
    signature = account.sign_message(encode_typed_data(full_message=typed_terms(*terms))).signature
    for wrong in (
        (chain, invoice.id, "USDT", 6, to),
        (chain + 1, invoice.id, "USDT", 5, to),
        (chain, "x", "USDT", 5, to),
    ):
        other = account.sign_message(encode_typed_data(full_message=typed_terms(*wrong))).signature
        with pytest.raises(Invalid, match="did not sign"):
            refunds.request(ACTOR, invoice.id, None, 5, to, "k", signature=bytes(other))
    for rubbish in (b"", b"\0" * 65, b"\xff" * 64, b"\x01" * 200):
        with pytest.raises(Invalid, match="did not sign"):
            refunds.request(ACTOR, invoice.id, None, 5, to, "k", signature=rubbish)
    refund = refunds.request(ACTOR, invoice.id, None, 5, to, "k", signature=bytes(signature))
    assert (refund.proof, refund.ripe_s) == (Proof.SIGNED, town.city.clock() + WAIT_S)
    with pytest.raises(Invalid, match="it may go from"):
        refunds.approve(refund.id, "cashier")
    town.wait(WAIT_S)
    assert refunds.approve(refund.id, "cashier").state is RefundState.PENDING


def test_an_owner_need_not_wait_and_a_text_is_a_signature_too(town: Town):
    invoice, refunds = paid(town, refund_to=None), refunds_of(town)
    account, to = town.city.keys.account("builder"), town.city.keys.address("builder")
    text = plain_terms(town.city.plan.deployment.chain_id, invoice.id, "USDT", 5, to)
    signature = bytes(account.sign_message(encode_defunct(text=text)).signature)
    refund = refunds.request(ACTOR, invoice.id, None, 5, to, "k", signature=signature)
    assert refunds.approve(refund.id, "owner", is_owner=True).state is RefundState.PENDING


def test_a_contract_that_says_yes_is_proved_by_erc_1271(town: Town):
    """A contract as a wallet: it answers the magic value to whatever it is asked."""
    invoice, refunds = paid(town, refund_to=None), refunds_of(town)
    magic = bytes.fromhex("1626ba7e").ljust(32, b"\0")
    # PUSH32 magic, MSTORE at 0, RETURN 32.
    says_yes = b"\x7f" + magic + b"\x60\x00\x52\x60\x20\x60\x00\xf3"
    says_no = b"\x60\x00\x60\x00\xfd"
    for code, is_proof in ((says_yes, True), (says_no, False)):
        size = len(code)
        creation = (
            b"\x60" + bytes([size]) + b"\x60\x0c\x60\x00\x39\x60" + bytes([size]) + b"\x60\x00\xf3" + code
        )
        receipt = transactions.transact(
            town.city.outside.web3, town.payer, {"data": creation, "gas": 300_000}, "wallet"
        )
        wallet = bytes.fromhex(receipt["contractAddress"][2:])
        if is_proof:
            refund = refunds.request(ACTOR, invoice.id, None, 5, wallet, f"k{size}", signature=b"owners")
            assert refund.proof is Proof.CONTRACT
        else:
            with pytest.raises(Invalid, match="did not sign"):
                refunds.request(ACTOR, invoice.id, None, 5, wallet, f"k{size}", signature=b"owners")


def test_money_goes_to_nobody_and_to_nothing_of_the_city_s(town: Town):
    invoice, refunds, other = paid(town, refund_to=None), refunds_of(town), town.invoice()
    place = town.city.plan.deployment
    nowhere = [b"\0" * 20, b"\1" * 19, b"", place.treasury, place.router, town.token, other.deposit_address]
    for to in nowhere:
        with pytest.raises(Invalid):
            refunds.request(ACTOR, invoice.id, None, 5, to, "k", signature=b"\1" * 65)
    with pytest.raises(Invalid, match="20 bytes"):
        town.invoice(refund_to=b"\1" * 19)


# --- moves --------------------------------------------------------------------------------


def test_what_may_be_under_way_is_not_cancelled_and_what_was_cancelled_does_not_go(town: Town):
    invoice, refunds = paid(town), refunds_of(town)
    gone = refunds.cancel(refunds.request(ACTOR, invoice.id, None, 5, None, "k1").id, ACTOR, "no")
    assert gone.state is RefundState.CANCELLED
    assert refunds.cancel(gone.id, ACTOR, "no") == gone
    with pytest.raises(Invalid, match="was cancelled"):
        refunds.approve(gone.id, ACTOR)
    assert (town.status(invoice), town.notes(invoice)) == ("final", set())
    sent = refunds.approve(refunds.request(ACTOR, invoice.id, None, 5, None, "k2").id, ACTOR)
    send(town, sent)
    refunds.follow()
    with pytest.raises(Invalid, match="may be under way"):
        refunds.cancel(sent.id, ACTOR, "too late")


def test_refunded_and_cancelled_are_ends():
    assert [state for state, moves in MOVES.items() if not moves] == [
        RefundState.FINAL,
        RefundState.CANCELLED,
    ]
    assert set(MOVES) == set(RefundState)


def test_what_is_over_is_asked_back_by_itself_where_the_policy_says_so(town: Town):
    with town.city.gateway.engine.begin() as connection:
        set_policy(connection, town.merchant_id, Policy(over_policy=Over.REFUND), ACTOR, town.city.clock())
    refunds = refunds_of(town)
    unknown, invoice = town.invoice(), town.invoice(refund_to=payer(town))
    for one in (unknown, invoice):
        town.pay(one)
        town.deposit(one, 700)
    town.settle()
    [asked] = refunds.of(town.merchant_id, (1 << 62, ""), 10)
    assert (asked.invoice_id, asked.amount_minor, asked.receiver) == (invoice.id, 700, payer(town))
    assert town.notes(unknown) == {"overpaid"}
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"overpaid", "refund_pending"})
    town.deposit(invoice, 40)
    town.settle()
    amounts = [one.amount_minor for one in refunds.of(town.merchant_id, (1 << 62, ""), 10)]
    assert sorted(amounts) == [40, 700]


# --- the city's share, through the Treasury contract ------------------------------------------


class Treasury:
    """The town's refunds with a sender, and seats that sign."""

    def __init__(self, town: Town) -> None:
        self.town, self.sender = town, TownSender(town)
        city, gateway = town.city, town.city.gateway
        sight = EvmSight(city.worker.rail.pool, city.worker.rail.place)
        door = EvmTreasury(city.city, city.publisher, gateway.engine, gateway.view, city.clock)
        self.refunds = Refunds(town.payments, sight, self.sender, door)
        # The Council contract is shown the act by which the treasury has its account.
        day = Day(city, lambda _: None)
        enact_all(day, [Contract])
        enact_all(day, [Account], ["treasury-usdt"])

    def sign(self, *roles: str) -> None:
        """The seats find the refund on the ledger and sign it."""
        self.town.record()
        self.sign_at(self.promised()[-1], *roles)

    def promised(self) -> list[int]:
        """Where refunds stand on the ledger."""
        found = map(decode, ledger_store.records(self.town.city.gateway.engine))
        return [at for at, record in enumerate(found) if isinstance(record, RefundRecord)]

    def sign_at(self, position: int, *roles: str) -> None:
        engine, keys = self.town.city.gateway.engine, self.town.city.keys
        record = decode(next(ledger_store.records(engine, position, position + 1)))
        desk = Desk(self.town.city.writer)
        desk.approve(Proposed(position, record), [keys.account(role) for role in roles])

    def anchor(self) -> None:
        self.town.city.worker.publish()
        # Sent, then held, then final: only what is final counts as anchored.
        for _ in range(3):
            self.town.finalise()
            self.town.city.worker.publish_if_new()
        self.refunds.follow()
        self.town.wait(2 * DAY)

    def settle(self) -> None:
        self.town.finalise()
        self.sender.settle()
        self.refunds.follow()
        self.town.record()


def city_refund(town: Town, **more: object) -> tuple[Treasury, Invoice, Refund]:
    treasury = Treasury(town)
    invoice = paid(town, **more)
    seen = next(seen for seen in town.seen(invoice) if seen.city_minor)
    refund = treasury.refunds.request(
        ACTOR, invoice.id, seen.key, seen.city_minor, None, "city", source=Source.CITY
    )
    return treasury, invoice, treasury.refunds.approve(refund.id, ACTOR)


def test_the_city_s_share_goes_back_through_the_treasury_against_its_receipt(town: Town):
    treasury, invoice, refund = city_refund(town)
    refunds = treasury.refunds
    assert (refund.state, refund.record_id is not None) == (RefundState.PENDING, True)
    with pytest.raises(Invalid, match="may be under way"):
        refunds.cancel(refund.id, ACTOR, "no")
    for _ in range(2):
        refunds.follow()
    # Nothing goes without the Authority's signature, an anchor and the delay.
    assert treasury.sender.queued == []
    treasury.sign("authority")
    refunds.follow()
    assert treasury.sender.queued == []
    treasury.anchor()
    refunds.follow()
    refunds.follow()
    assert treasury.sender.queued == [f"{refund.id}/1"]
    before, had = town.city.city.balance(town.token, payer(town)), town.treasury()
    treasury.sender.step()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.SENT
    assert town.city.city.balance(town.token, payer(town)) == before + refund.amount_minor
    treasury.settle()
    assert refunds.look(refund.id).state is RefundState.FINAL
    assert town.treasury() == had - refund.amount_minor
    # The ledger has booked it, out of the accounts of its receipt, and holds what the treasury holds.
    town.record()
    came, went = town.revenue()
    assert (went.debit, went.credit, went.amount) == (came.credit, came.debit, refund.amount_minor)
    assert came.amount - went.amount == town.treasury()
    assert came.refund_to[12:] == payer(town)
    assert "refunded" in town.notes(invoice)
    with pytest.raises(Invalid, match="are left"):
        refunds.request(ACTOR, invoice.id, refund.evidence_key, 1, None, "more", source=Source.CITY)


def test_a_round_reads_of_the_ledger_what_is_new_and_finds_approvals_by_an_index(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    """Through the delay of a day a round does not read each record since the promise again."""
    treasury, _, refund = city_refund(town)
    treasury.sign("authority")
    read: list[int] = []
    records = ledger_store.records

    def counted(engine, start: int = 0, end: int | None = None):
        for data in records(engine, start, end):
            read.append(start)
            yield data

    monkeypatch.setattr(promises.ledger_store, "records", counted)
    treasury.refunds.follow()
    first = len(read)
    assert first > 50
    for _ in range(3):
        read.clear()
        treasury.refunds.follow()
        # The approval itself, and nothing that was read before.
        assert len(read) <= 1
    # What nobody waits for is passed over, and what is behind is read in pieces.
    with town.city.gateway.engine.begin() as connection:
        connection.execute(text("DELETE FROM approval_place"))
        connection.execute(text(f"UPDATE rail_cursor SET position = 0 WHERE rail = '{promises.CURSOR}'"))
    monkeypatch.setattr(promises, "RECORDS_AT_ONCE", 1)
    for _ in range(4):
        read.clear()
        treasury.refunds.follow()
        assert len(read) <= 2
    assert len(treasury.refunds._going._promises.of(treasury.refunds.look(refund.id)).approvals) == 1
    treasury.anchor()
    treasury.refunds.follow()
    assert treasury.sender.queued == [f"{refund.id}/1"]


def test_ff19_a_refund_whose_reply_was_lost_is_unknown_and_not_sent_again(town: Town):
    treasury, invoice, refund = city_refund(town)
    treasury.sign("authority")
    treasury.anchor()
    treasury.refunds.follow()
    treasury.sender.loses = True
    treasury.sender.step()
    for _ in range(3):
        treasury.refunds.follow()
    assert treasury.refunds.look(refund.id).state is RefundState.UNKNOWN
    assert "unknown" in town.notes(invoice)
    assert treasury.sender.queued == [f"{refund.id}/1"]
    # The chain is asked, and it went.
    treasury.settle()
    assert treasury.refunds.look(refund.id).state is RefundState.FINAL
    assert len(town.revenue()) == 2


def bring(town: Town, treasury: Treasury, refund: Refund) -> None:
    """Anybody has the refund paid out of the public bundle, as `qazyna contracts refund` does."""
    city = town.city.city
    promised = treasury.refunds._going._promises.of(treasury.refunds.look(refund.id))
    records = Records(open_source(str(town.city.folder / "bundle")))
    asked = records.refunding(hash_struct(promised.refund), city, city.newest_time())
    city.refund(town.city.keys.account("payer"), asked)


@pytest.mark.parametrize("is_queued", [False, True])
def test_a_refund_that_somebody_else_had_paid_ends_by_that_and_is_booked(town: Town, is_queued: bool):
    """Whoever is to get it needs no leave to bring it; what we send then cannot go, and is no failure (T8)."""
    treasury, _, refund = city_refund(town)
    refunds = treasury.refunds
    treasury.sign("authority")
    treasury.anchor()
    if is_queued:
        refunds.follow()
    bring(town, treasury, refund)
    had = town.treasury()
    if is_queued:
        treasury.sender.reverts = 1
        treasury.sender.step()
    refunds.follow()
    assert refunds.look(refund.id).state is not RefundState.FINAL
    for _ in range(3):
        treasury.settle()
    assert treasury.sender.queued == ([f"{refund.id}/1"] if is_queued else [])
    assert refunds.look(refund.id).state is RefundState.FINAL
    went = town.revenue()[-1]
    assert (went.amount, town.treasury()) == (refund.amount_minor, had)
    town.city.worker.publish_if_new()
    verdict = audit(town.city.folder / "bundle", rpcs=[town.city.outside.rpc_url])
    assert [finding for finding in verdict.findings if finding.rule in {"T8", "T9"}] == []


def test_ff23_a_refund_that_certainly_did_not_go_is_tried_again_under_a_number_of_its_own(town: Town):
    treasury, _, refund = city_refund(town)
    treasury.sign("authority")
    treasury.anchor()
    treasury.sender.reverts, treasury.sender.forgets = 1, 1
    for _ in range(6):
        treasury.refunds.follow()
        treasury.sender.step()
        treasury.refunds.follow()
    assert treasury.sender.queued == [f"{refund.id}/{number}" for number in (1, 2, 3)]
    treasury.settle()
    assert treasury.refunds.look(refund.id).state is RefundState.FINAL
    assert sum(isinstance(record, Transfer) for record in town.revenue()) == 2


def test_what_fails_three_times_waits_for_a_person(town: Town):
    treasury, _, refund = city_refund(town)
    treasury.sign("authority")
    treasury.anchor()
    treasury.sender.reverts = 9
    for _ in range(8):
        treasury.refunds.follow()
        treasury.sender.step()
    found = treasury.refunds.look(refund.id)
    assert (found.state, found.problem) == (RefundState.FAILED, "reverted: NotEnough")
    assert len(treasury.sender.queued) == 3
    with pytest.raises(Invalid, match="may be under way"):
        treasury.refunds.cancel(refund.id, ACTOR, "the ledger promises it")
    treasury.sender.reverts = 0
    treasury.refunds.retry(refund.id, ACTOR, "there is money now")
    treasury.refunds.follow()
    treasury.sender.step()
    treasury.settle()
    assert treasury.refunds.look(refund.id).state is RefundState.FINAL


def test_what_the_ledger_refuses_fails_and_says_why(town: Town):
    """Another refund of the receipt was recorded past the gateway, so that too little is left."""
    treasury, invoice, refund = city_refund(town)
    [receipt] = town.revenue()
    with reading(town.city.gateway.engine) as connection:
        document = ledger_store.document_names(connection)[0]
    other = RefundRecord(0, b"\7" * 32, hash_struct(receipt), receipt.amount, receipt.refund_to, document)
    desk, keys = Desk(town.city.writer), town.city.keys
    with town.city.gateway.engine.begin() as connection:
        connection.execute(text("DELETE FROM ledger_inbox"))
    desk.act(other, [keys.account("authority")])
    with town.city.gateway.engine.begin() as connection:
        GoingBack(town.payments, None, None, None)._promise(connection, refund, town.city.clock())
    town.record()
    treasury.refunds.follow()
    found = treasury.refunds.look(refund.id)
    assert (found.state, "F1" in str(found.problem)) == (RefundState.FAILED, True)
    # It stays reserved until a person has seen why.
    assert town.status(invoice) == "refund_pending"
    with pytest.raises(Invalid, match="only a failed one that is promised"):
        treasury.refunds.retry(refund.id, ACTOR, "again")
    treasury.refunds.cancel(refund.id, ACTOR, "the ledger refused it")
    assert town.status(invoice) == "final"


def test_the_city_pays_back_only_against_a_receipt_on_the_ledger(town: Town):
    refunds, invoice = refunds_of(town), town.invoice(refund_to=payer(town))
    town.pay(invoice)
    town.finalise()
    key = town.seen(invoice)[0].key
    with pytest.raises(Invalid, match="not on the ledger yet"):
        refunds.request(ACTOR, invoice.id, key, 1, None, "k", source=Source.CITY)
    with pytest.raises(Invalid, match="must be named"):
        refunds.request(ACTOR, invoice.id, None, 1, None, "k", source=Source.CITY)


def test_the_city_s_share_goes_back_by_the_gateways_own_sender(town: Town):
    """The same with what runs in earnest: the durable sender of the worker."""
    treasury = Treasury(town)
    treasury.refunds = refunds_of(town)
    invoice = paid(town)
    seen = next(seen for seen in town.seen(invoice) if seen.city_minor)
    refunds, worker = treasury.refunds, town.city.worker
    refund = refunds.request(ACTOR, invoice.id, seen.key, 100, None, "city", source=Source.CITY)
    refunds.approve(refund.id, ACTOR)
    treasury.sign("authority")
    treasury.anchor()
    had = town.city.city.balance(town.token, payer(town))
    for _ in range(4):
        refunds.follow()
        worker.sender.step()
        town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.FINAL
    assert town.city.city.balance(town.token, payer(town)) == had + 100
    town.record()
    assert [transfer.amount for transfer in town.revenue()][1:] == [100]


def test_the_coin_goes_back_by_the_transaction_that_its_sender_names(town: Town):
    """The coin leaves no log, so that the wallet's own transaction is looked at, and believed when final."""
    invoice = paid(town)
    sight = town.city.gateway.refunds._sight
    refunds = Refunds(town.payments, AsCoin(sight))
    refund = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k").id, ACTOR)
    prepared = refunds.prepared(refund)
    assert (prepared.to, prepared.data, prepared.value) == (payer(town), b"", 1_000)
    assert prepared.link == f"ethereum:{checksummed(payer(town))}@{prepared.chain_id}?value=1000"

    def transfer(value: int) -> bytes:
        asked = {"to": Web3.to_checksum_address(prepared.to), "value": value, "gas": 30_000}
        merchant = town.city.keys.account("merchant")
        receipt = transactions.transact(town.city.outside.web3, merchant, asked, "coin")
        return bytes(receipt["transactionHash"])

    refunds.follow()
    wrong = transfer(999)
    refunds.report(refund.id, wrong, ACTOR)
    refunds.follow()
    assert (refunds.look(refund.id).state, refunds.look(refund.id).reported) == (RefundState.PENDING, None)
    for unknown in (b"\1" * 32, b"\1" * 31):
        if len(unknown) == 32:
            refunds.report(refund.id, unknown, ACTOR)
            refunds.follow()
            assert refunds.look(refund.id).state is RefundState.PENDING
        else:
            with pytest.raises(Invalid, match="32 bytes"):
                refunds.report(refund.id, unknown, ACTOR)
    right = transfer(1_000)
    refunds.report(refund.id, right, ACTOR)
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.SENT
    town.finalise()
    refunds.follow()
    assert refunds.look(refund.id).state is RefundState.FINAL
    other = refunds.approve(refunds.request(ACTOR, invoice.id, None, 1_000, None, "k2").id, ACTOR)
    with pytest.raises(Invalid, match="named for the refund"):
        refunds.report(other.id, right, ACTOR)
    with pytest.raises(Invalid, match="takes no transaction"):
        refunds_of(town).report(other.id, b"\2" * 32, ACTOR)


class AsCoin:
    """The town's eyes, to which its token is the coin."""

    def __init__(self, sight) -> None:
        self._sight = sight

    def __getattr__(self, name: str) -> object:
        return getattr(self._sight, name)

    def is_coin(self, asset: str) -> bool:
        return asset == "USDT"
