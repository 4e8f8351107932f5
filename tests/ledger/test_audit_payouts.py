"""Which order or refund a payment was: alike orders, credits and pulls, on the real Treasury contract (T8, L8)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
from typer.testing import CliRunner
from web3.types import TxReceipt

from contracts.bindings import COIN, Execution, Refunding
from contracts.transactions import transact
from gateway.budget.bookings import Bookings
from gateway.cli import app
from gateway.ledger_view import LedgerView
from gateway.payments.outgoing import Credit, Moved
from gateway.rails.evm import HttpNode, Place, Pool
from gateway.rails.evm.logs import Log, log_of
from gateway.rails.evm.sight import EvmSight
from gateway.rails.evm.treasury_logs import CREDITED, EXECUTED, PULLED, REFUNDED, order_paid
from ledger import proof, rules, store
from ledger.audit import Verdict
from ledger.records import (
    ZERO_HASH,
    Account,
    Allocation,
    Block,
    Certificate,
    Commitment,
    Dispute,
    Invalid,
    Milestone,
    Order,
    Project,
    Rate,
    Record,
    Refund,
    Resolution,
    Transfer,
    address_word,
    as_json,
    decode,
    hash_struct,
)
from tests import city
from tests.ledger.test_audit_coins import PAYER, WEI, Town, town

__all__ = ["town"]

AMOUNT = WEI // 8
# A call with data says whether it takes the coin: sstore(0, the first word). Without data: revert while sload(0) is 0.
_DOOR = bytes.fromhex("3615600c5760003560005500" + "5b60005460185760006000fd5b00")
_MAKE = bytes.fromhex(f"60{len(_DOOR):02x}600c60003960{len(_DOOR):02x}6000f3") + _DOOR


@dataclass
class Site:
    """A project of the town's, and a builder who cannot receive the coin until its door is opened."""

    town: Town
    builder: bytes
    allocation: bytes = ZERO_HASH

    def open(self) -> None:
        """From now on the builder takes the coin."""
        self._set_door(1)

    def shut(self) -> None:
        """From now on it does not."""
        self._set_door(0)

    def _set_door(self, word: int) -> None:
        to = self.town.city.w3.to_checksum_address(self.builder)
        asked = {"to": to, "data": word.to_bytes(32, "big"), "gas": 100_000}
        transact(self.town.city.w3, PAYER, asked, "the door")

    def _act(self, record: Record) -> bytes:
        """Record it, and have it signed for as long as its delay lasts and longer."""
        log = self.town.on.log
        approves = log.add(record)
        log.approve(approves, valid_until=log.now + 60 * rules.DAY)
        return approves

    def run(self, command: str, *arguments: str, has_bundle: bool = True) -> list[str]:
        """What a command of `qazyna contracts` says, that whoever has the bundle gives."""
        folder = self.town.publisher.folder
        told = {"ledger": "0x" + city.digest("ledger").hex(), "retentionEnd": str(city.RETENTION_END_S)}
        founding = folder.parent / "founding.json"
        founding.write_text(json.dumps({**told, "founding": [as_json(each) for each in city.founding()]}))
        key = folder.parent / "key"
        key.write_text(PAYER.key.hex())
        bundle = ["--bundle", str(folder)] if has_bundle else []
        asked = [str(founding), *arguments, *bundle, "--key", str(key), "--rpc", self.town.url]
        done = CliRunner().invoke(app, ["contracts", command, *asked], catch_exceptions=False)
        self.town.chain.mine(3)
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()

    def order(self, name: str, amount: int = AMOUNT) -> Execution:
        """All acts up to an order, anchored, and its delay over."""
        log, town, places = self.town.on.log, self.town, []

        def act(record: Record) -> bytes:
            places.append(len(log.records))
            return self._act(record)

        commitment = act(Commitment(0, f"c-{name}", self.allocation, "builder-eth", amount, city.ACT))
        milestone = act(Milestone(0, f"m-{name}", commitment, amount, city.ACT))
        certificate = act(Certificate(0, milestone, amount, 1, city.ACT))
        act(
            Order(
                0,
                f"o-{name}",
                commitment,
                self.allocation,
                certificate,
                "treasury-eth",
                amount,
                "builder-eth",
            )
        )
        town.publish()
        leaves = [proof.leaf_hash(data) for data in log.records]
        size = len(leaves)
        town.wait(rules.DAY + 60)
        records: list[Any] = [decode(log.records[place]) for place in places]
        signed = [
            [key.approve(town.city.deployment.domain, record, log.now + 30 * rules.DAY, log.now)]
            for key, record in ((city.AUTHORITY, records[3]), (city.CERTIFIER, records[2]))
        ]
        path = proof.inclusion_path(places[3], leaves)
        return Execution(records[3], *records[:3], *signed, places[3], size, path)

    def refund(self, mark: str, amount: int = AMOUNT) -> Refunding:
        """A payment of which a part is to go back to the builder, promised, anchored and due."""
        town, log = self.town, self.town.on.log
        receipt_hash = town.record(town.document(town.paid(WEI)), WEI, self.builder)
        first = len(log.records) - 1
        self._act(
            Refund(
                0, city.digest(f"refund {mark}"), receipt_hash, amount, address_word(self.builder), city.ACT
            )
        )
        came, refund = decode(log.records[first]), decode(log.records[first + 1])
        assert isinstance(came, Transfer)
        assert isinstance(refund, Refund)
        town.publish()
        leaves = [proof.leaf_hash(data) for data in log.records]
        town.wait(rules.DAY + 60)
        signed = [
            city.AUTHORITY.approve(town.city.deployment.domain, refund, log.now + 30 * rules.DAY, log.now)
        ]
        paths = [proof.inclusion_path(at, leaves) for at in (first + 1, first)]
        return Refunding(refund, came, signed, [], first + 1, first, len(leaves), *paths)

    def execute(self, asked: Execution) -> TxReceipt:
        return self._final(self.town.city.execute(PAYER, asked))

    def pay_back(self, asked: Refunding) -> TxReceipt:
        return self._final(self.town.city.refund(PAYER, asked))

    def pull(self) -> TxReceipt:
        return self._final(self.town.city.pull(PAYER, "treasury", self.builder, COIN))

    def _final(self, receipt: TxReceipt) -> TxReceipt:
        self.town.chain.mine(3)
        return receipt

    def book(self, order: Order, log: Log, amount: int = AMOUNT, *, mark: str = "") -> None:
        """Have it in the ledger that this log paid this order."""
        self._book("spent-eth", order.order, hash_struct(order), log, amount, mark)

    def book_refund(self, refund: Refund, log: Log, amount: int = AMOUNT) -> None:
        """Have it in the ledger that this log paid this refund."""
        self._book("fees-eth", city.CODE, hash_struct(refund), log, amount, "")

    def document(self, log: Log, amount: int = AMOUNT) -> bytes:
        """The evidence that names this log, written by hand."""
        told = {
            "kind": "evm-coin", "chainId": str(city.CHAIN_ID), "blockHash": "0x" + log.block_hash.hex(),
            "transaction": "0x" + log.transaction.hex(), "logIndex": str(log.index), "token": "0x" + COIN.hex(),
            "to": "0x" + self.builder.hex(), "amount": str(amount),
        }  # fmt: skip
        return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()

    def _book(self, debit: str, purpose: str, authority: bytes, log: Log, amount: int, mark: str) -> None:
        document = self.document(log, amount)
        with self.town.on.ledger.engine.begin() as connection:
            store.add_document(connection, document)
        evidence = sha256(document).digest()
        id = city.digest(f"booked {authority.hex()} {mark}")
        self.town.on.log.add(
            Transfer(0, id, debit, "treasury-eth", "ETH", amount, purpose, authority, evidence)
        )

    def audit(self) -> Verdict:
        self.town.publish()
        return self.town.audit()


def said(receipt: TxReceipt, topic: bytes) -> Log:
    """The one log of a transaction that begins so."""
    (log,) = [log for log in map(log_of, receipt["logs"]) if log.topics[0] == topic]
    return log


@pytest.fixture
def site(town: Town) -> Site:
    made = transact(town.city.w3, PAYER, {"data": _MAKE, "gas": 300_000}, "a builder's wallet")
    assert made["contractAddress"] is not None
    builder = bytes.fromhex(made["contractAddress"][2:])
    log = town.on.log
    town.record(town.document(town.paid(8 * WEI)), 8 * WEI)
    log.act(Block(0, "block-2026", rules.RETAINED, 2026, 2028, 10**15, city.ACT))
    project = Project(0, "water-main", "water", "alatau-gate", 10**13, city.digest("project"))
    town.act(project)
    owner = log.state.project_hashes["water-main"]
    town.act(
        Account(0, "spent-eth", "ETH", rules.RETAINED, rules.PROJECT, owner, ZERO_HASH, city.ACT),
        Account(0, "builder-eth", "ETH", rules.RETAINED, rules.PAYEE, address_word(builder), city.digest("bin"), city.ACT),
    )  # fmt: skip
    town.wait(15 * rules.DAY)
    rate = log.add(Rate(0, "ETH", 1, 10**9, city.digest("source 1"), city.digest("source 2")))
    found = Site(town, builder)
    town.act(Allocation(0, "allocation-1", "block-2026", owner, "ETH", 4 * WEI, rate, city.ACT))
    (found.allocation,) = log.state.allocations
    return found


def paid_by(site: Site, order: Order, *receipts: TxReceipt) -> Log | None:
    """By which log the gateway would book an order; Invalid where it would not."""
    logs = [log_of(log) for receipt in receipts for log in receipt["logs"]]
    treasury = site.town.city.deployment.treasury
    return order_paid(logs, treasury, hash_struct(order), site.builder, order.amount).evidence


def t8(verdict: Verdict) -> list[str]:
    return [str(finding) for finding in verdict.findings if finding.rule == "T8"]


def test_orders_and_a_refund_that_one_pull_paid_are_each_booked_by_their_own_event(site: Site):
    one, two, back = site.order("one"), site.order("two", 3 * AMOUNT), site.refund("one")
    receipts = [site.execute(one), site.execute(two)]
    told = [said(receipt, EXECUTED) for receipt in receipts]
    told.append(said(site.pay_back(back), REFUNDED))
    # Credited, and not moved: nothing to book, and nothing that the ledger lacks.
    verdict = site.audit()
    assert (verdict.findings, verdict.pending) == ([], [])
    site.open()
    pulled = site.pull()
    assert said(pulled, PULLED).word(0) == 5 * AMOUNT
    for asked, receipt, event in zip((one, two), receipts, told, strict=False):
        with pytest.raises(Invalid, match="were credited to"):
            paid_by(site, asked.order, receipt)
        assert paid_by(site, asked.order, receipt, pulled) == event
    assert (len((verdict := site.audit()).pending), verdict.findings) == (3, [])
    site.book(one.order, told[0])
    site.book(two.order, told[1], 3 * AMOUNT)
    site.book_refund(back.refund, told[2])
    verdict = site.audit()
    assert (verdict.findings, verdict.pending) == ([], [])


def test_a_refund_that_was_credited_is_seen_by_payments_when_it_is_pulled(site: Site):
    town, deployment = site.town, site.town.city.deployment
    node = HttpNode(town.url)
    sight = EvmSight(Pool([node], city.CHAIN_ID), Place(deployment, {COIN: "ETH"}))

    def seen() -> list[Moved]:
        """What the gateway does: asked once whether it was credited, and then for what was pulled since."""
        told = said(receipt, REFUNDED)
        credit = Credit("ETH", site.builder, AMOUNT, told.block, told.transaction)
        assert sight.is_credited(credit)
        assert sight.moved("ETH", {deployment.treasury}, {site.builder}, told.block, told.block) == []
        pulled = sight.pulled("ETH", {site.builder}, told.block, sight.head().final)
        return [one for pull in pulled if (one := sight.paid_by_pull(credit, pull)) is not None]

    back = site.refund("one")
    receipt = site.pay_back(back)
    town.chain.mine(3)
    assert seen() == []
    site.open()
    town.city.pull(PAYER, "treasury", site.builder, COIN)
    assert seen() == []  # Not final.
    town.chain.mine(3)
    (moved,) = seen()
    node.close()
    event = said(receipt, REFUNDED)
    assert (moved.transaction, moved.amount_minor, moved.receiver) == (
        event.transaction,
        AMOUNT,
        site.builder,
    )
    assert moved.document == site.document(event)
    site.book_refund(back.refund, event)
    verdict = site.audit()
    assert (verdict.findings, verdict.pending) == ([], [])


def test_the_payment_of_an_order_is_none_of_another_that_is_alike(site: Site):
    site.open()
    paid, never = site.order("paid"), site.order("never")
    event = said(receipt := site.execute(paid), EXECUTED)
    with pytest.raises(
        Invalid, match=f"orders executed there: 0x{hash_struct(paid.order).hex()} of {AMOUNT}"
    ):
        paid_by(site, never.order, receipt)
    site.book(never.order, event)
    (finding,) = site.audit().findings
    assert (finding.rule, finding.severity, finding.amount) == ("T8", "critical", AMOUNT)
    assert f"it left by 0x{hash_struct(paid.order).hex()}" in finding.why
    assert f"the ledger means 0x{hash_struct(never.order).hex()}" in finding.why


def test_a_pull_is_no_payment_of_an_order_that_was_never_executed(site: Site):
    credited, never = site.order("credited"), site.order("never")
    executed = site.execute(credited)
    site.open()
    pulled = said(receipt := site.pull(), PULLED)
    for receipts in ([receipt], [executed, receipt]):
        with pytest.raises(Invalid, match="no log of the treasury says that it paid"):
            paid_by(site, never.order, *receipts)
    assert pulled.word(0) == AMOUNT == never.order.amount
    site.book(never.order, pulled)
    (found,) = t8(site.audit())
    assert "no movement of ETH is log" in found


def test_the_credit_of_a_refund_is_no_payment_of_an_order(site: Site):
    never, back = site.order("never"), site.refund("one")
    refunded = site.pay_back(back)
    event = said(refunded, REFUNDED)
    site.open()
    pulled = said(receipt := site.pull(), PULLED)
    with pytest.raises(Invalid, match="orders executed there: none"):
        paid_by(site, never.order, refunded, receipt)
    assert pulled.word(0) == AMOUNT == never.order.amount
    site.book(never.order, event)
    (found,) = t8(site.audit())
    assert f"it left by 0x{hash_struct(back.refund).hex()}" in found


def test_what_was_credited_after_a_pull_has_not_moved(site: Site):
    first, second = site.order("first"), site.order("second")
    told = [said(site.execute(first), EXECUTED)]
    site.open()
    assert said(site.pull(), PULLED).word(0) == AMOUNT
    # The builder shuts its door again: what follows is credited, and nobody pulls it.
    site.shut()
    told.append(said(receipt := site.execute(second), EXECUTED))
    assert said(receipt, CREDITED).word(0) == AMOUNT
    site.book(first.order, told[0])
    site.book(second.order, told[1])
    (found,) = t8(site.audit())
    assert "which has not pulled them by block" in found
    assert f"{AMOUNT} ETH were credited to 0x{site.builder.hex()}" in found
    site.open()
    site.pull()
    verdict = site.audit()
    assert (verdict.findings, verdict.pending) == ([], [])


def test_a_pull_that_is_not_final_yet_is_waited_for(site: Site):
    order = site.order("one")
    event = said(site.execute(order), EXECUTED)
    site.open()
    site.book(order.order, event)
    site.town.publish()
    site.town.city.pull(PAYER, "treasury", site.builder, COIN)
    verdict = site.town.audit()
    assert verdict.findings == []
    assert [told for told in verdict.pending if "the pull of its credit is not final" in told]


def test_a_payment_that_nobody_booked_is_named_by_its_order(site: Site):
    order = site.order("one")
    event = said(site.execute(order), EXECUTED)
    site.open()
    site.pull()
    site.town.wait(rules.DAY)
    site.town.record(site.town.document(site.town.paid(WEI)), WEI)
    (found,) = t8(site.audit())
    assert f"transaction 0x{event.transaction.hex()} log {event.index}" in found
    assert "is no transfer of the ledger" in found
    assert "no order or refund authorises it" not in found


def test_by_commands_a_payee_is_credited_and_pulls_what_an_order_and_a_refund_owe(site: Site):
    order, back = site.order("one").order, site.refund("one").refund
    site.town.wait(rules.DAY)
    token, to = f"0x{COIN.hex()}", f"0x{site.builder.hex()}"
    for command, record, what in (("execute", order, "paid"), ("refund", back, "refunded")):
        named = f"0x{hash_struct(record).hex()}"
        said = site.run(command, named)
        assert said[0].startswith(f"{what}: {named}, transaction 0x")
        assert said[1] == f"credited: {to} could not receive {AMOUNT} of {token}: see `contracts pull`"
    with pytest.raises(Invalid, match=r"^C:NotReceived at Treasury.pull"):
        site.run("pull", to, "coin", has_bundle=False)
    site.open()
    (said_last,) = site.run("pull", to, "coin", has_bundle=False)
    assert said_last.startswith(f"pulled: {2 * AMOUNT} base units of coin to {to}, transaction 0x")
    for wrong in (["0x11", "coin"], [to, "USDT"], [to, "coin", "--from", "bank"]):
        with pytest.raises(Invalid, match=r"C:bring at (OWNER|TOKEN|--from): "):
            site.run("pull", *wrong, has_bundle=False)
    assert (len((verdict := site.audit()).pending), verdict.findings) == (2, [])


def test_an_order_that_anybody_had_paid_is_booked_by_itself_once_its_credit_is_pulled(site: Site):
    town = site.town
    node, engine = HttpNode(town.url), town.on.ledger.engine
    place = Place(town.city.deployment, {COIN: "ETH"})
    view = LedgerView(engine)
    bookings = Bookings(Pool([node], city.CHAIN_ID), place, engine, view, town.on.ledger.clock)
    assert bookings.follow() == 0
    asked = [site.order("one"), site.order("two", 3 * AMOUNT), site.order("never")]
    site.execute(asked[0])
    site.open()
    # Executed by somebody's transaction in a block that is not final yet.
    town.city.execute(PAYER, asked[1])
    assert bookings.follow() == 0
    town.chain.mine(3)
    for _ in range(2):
        # Asked for once, however often it is found before the writer has come to it.
        assert bookings.follow() == 1
    site.pull()
    assert bookings.follow() == 2
    town.writer.drain()
    assert bookings.follow() == 0
    state = view.refresh()
    assert {hash_struct(one.order) for one in asked[:2]} == state.paid_orders
    for _ in range(2):
        town.writer.publish(town.publisher, town.on.ledger.watcher(), (town.on.anchor(),))
        town.chain.mine(3)
    verdict = town.audit()
    assert (verdict.findings, verdict.pending) == ([], [])
    # A process that starts anew finds the same, and nothing to do.
    assert Bookings(Pool([node], city.CHAIN_ID), place, engine, view, town.on.ledger.clock).follow() == 0
    node.close()


def test_a_payment_that_the_ledger_refused_in_a_dispute_is_booked_when_that_is_settled(site: Site):
    town, log = site.town, site.town.on.log
    node, engine, clock = HttpNode(town.url), town.on.ledger.engine, town.on.ledger.clock
    place, view = Place(town.city.deployment, {COIN: "ETH"}), LedgerView(engine)
    bookings = Bookings(Pool([node], city.CHAIN_ID), place, engine, view, clock)
    asked = site.order("one")
    site.open()
    site.execute(asked)
    disputed = log.add(Dispute(0, asked.order.commitment_hash, city.AUDITOR.address, city.ACT))
    log.approve(disputed, city.AUDITOR)
    town.publish()
    for count in (1, 1, 0, 0):
        # Under its own id, under that day's, and then no more today.
        assert bookings.follow() == count
        town.writer.drain()
    assert hash_struct(asked.order) not in view.refresh().paid_orders
    log.act(Resolution(0, asked.order.commitment_hash, 0, city.ACT))
    town.publish()
    town.wait(rules.DAY)
    assert bookings.follow() == 1
    town.writer.drain()
    assert hash_struct(asked.order) in view.refresh().paid_orders
    node.close()
