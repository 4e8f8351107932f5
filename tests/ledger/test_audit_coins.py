"""Money in the chain's own coin: what router and treasury say of it, and the evidence that names that (T8, T9)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account as Wallet
from web3 import Web3
from web3.types import TxReceipt

from contracts.bindings import (
    COIN,
    City,
    Quote,
    Refunding,
    Terms,
    deploy_token,
    is_enactable,
    quote_digest,
    sign_digest,
)
from contracts.devchain import DevChain
from contracts.transactions import transact
from gateway.rails import Stage
from gateway.rails.evm.logs import FLUSHED, PAID, log_of
from gateway.rails.evm.place import Place
from gateway.rails.evm.split import split
from ledger import proof, rules, store
from ledger.audit import Verdict, Wanted, audit
from ledger.publish import Publisher, Trust
from ledger.records import (
    ZERO_ADDRESS,
    ZERO_HASH,
    Account,
    Asset,
    Parameter,
    Record,
    Refund,
    RevenueRule,
    Transfer,
    address_word,
    decode,
    encode_name,
    keccak256,
)
from ledger.writer import Writer
from tests import city
from tests.ledger.running import KEYS, Clock
from tests.ledger.test_anchor import ETHER, OnChain, opened

PAYER = Wallet.from_key(city.Key("payer").secret.secret)
PAYER_ADDRESS = city.Key("payer").address
REFUNDED = keccak256(b"Refunded(bytes32,bytes32,address,address,uint256)")
WEI = 10**16


@dataclass
class Town:
    """A ledger and its contracts on one chain, where fees may be paid in the coin."""

    on: OnChain
    chain: DevChain
    url: str
    publisher: Publisher
    writer: Writer
    numbers: int = 0

    @property
    def city(self) -> City:
        return self.on.city

    def act(self, *records: Record) -> None:
        """Decide it in the ledger, anchor that, and bring what a chain takes to the Council contract."""
        log, domain = self.on.log, self.city.deployment.domain
        places = []
        for record in records:
            places.append(len(log.records))
            log.act(record)
        self.publish()
        leaves = [proof.leaf_hash(data) for data in log.records]
        for place in places:
            record, size = decode(log.records[place]), len(leaves)
            if is_enactable(record, city.CHAIN_ID):
                until = log.now + rules.DAY
                approvals = [key.approve(domain, record, until, log.now) for key in city.COUNCIL[:3]]
                self.city.enact(PAYER, record, place, size, proof.inclusion_path(place, leaves), approvals)

    def publish(self) -> None:
        """Write what the log has, anchor it, and let that become final."""
        self.on.ledger.feed(self.writer, self.on.log.records[self.writer.tree.size :])
        for _ in range(2):
            self.writer.publish(self.publisher, self.on.ledger.watcher(), (self.on.anchor(),))
            self.chain.mine(3)

    def wait(self, seconds: int) -> None:
        self.on.log.wait(seconds)
        self.on.ledger.clock.now = self.on.log.now
        self.chain.mine(1)

    def paid(self, amount: int) -> TxReceipt:
        """Somebody pays a quote with the coin."""
        self.numbers += 1
        until = self.on.log.now + rules.DAY
        invoice = city.digest(f"invoice {self.numbers}")
        quote = Quote(invoice, city.CODE, ZERO_ADDRESS, COIN, amount, 10_000, until, self.numbers)
        gateway = Wallet.from_key(city.GATEWAY.secret.secret)
        signature = sign_digest(gateway, quote_digest(self.city.deployment.domain, quote))
        return self.city.pay(PAYER, quote, signature)

    def flushed(self, amount: int) -> TxReceipt:
        """Somebody sends the coin to a deposit address, and it is emptied."""
        self.numbers += 1
        terms = Terms(city.digest(f"invoice {self.numbers}"), city.CODE, ZERO_ADDRESS, 10_000)
        self.city.transfer(PAYER, COIN, self.city.deposit_address(terms), amount)
        return self.city.flush(PAYER, [terms], COIN)

    def document(self, receipt: TxReceipt) -> bytes:
        """The evidence, as the gateway makes it."""
        place = Place(self.city.deployment, {COIN: "ETH"})
        (log,) = [log_of(told) for told in receipt["logs"] if bytes(told["topics"][0]) in {PAID, FLUSHED}]
        seen = split(place, log, [], Stage.FINAL)
        assert seen is not None
        return seen.document

    def record(self, document: bytes, amount: int, refund_to: bytes = PAYER_ADDRESS) -> bytes:
        """Revenue in the coin."""
        digest = sha256(document).digest()
        with self.on.ledger.engine.begin() as connection:
            store.add_document(connection, document)
        id = city.digest(f"id {digest.hex()}")
        record = Transfer(
            0, id, "treasury-eth", "fees-eth", "ETH", amount, city.CODE, city.rule_hash(self.on.log), digest,
            address_word(refund_to),
        )  # fmt: skip
        return self.on.log.add(record)

    def audit(self) -> Verdict:
        # Its rate has sources that nobody ever said.
        wanted = Wanted(sources_unavailable=True)
        return audit(self.publisher.folder, rpcs=[self.url], wanted=wanted)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    keys = (city.Key("deployer"), city.OPERATOR, city.Key("payer"))
    balances = {Wallet.from_key(key.secret.secret).address: 100 * ETHER for key in keys}
    clock = Clock()
    with DevChain(None, balances, clock, chain_id=city.CHAIN_ID) as chain:

        def start(ledger: Any) -> tuple[Web3, Callable[[int], None]]:
            ledger.clock = clock
            return Web3(chain.provider), chain.mine

        with opened(tmp_path, start) as on:
            deployment = on.city.deployment
            names = ("council", "anchor", "treasury", "router")
            contracts = {name: getattr(deployment, name) for name in names}
            verifiers = [*KEYS.verifiers(), on.ledger.watcher().verifier()]
            trust = Trust(city.digest("ledger"), city.CHAIN_ID, contracts, verifiers)
            publisher = Publisher(tmp_path / "bundle", KEYS, trust)
            made = Town(on, chain, chain.serve(), publisher, on.ledger.writer())
            treasury = address_word(deployment.treasury)
            made.act(
                *deployment.contract_records(0, city.ACT),
                Asset(0, "ETH", 18, city.CHAIN_ID, COIN, city.START_S, city.FOREVER_S, city.ACT),
                RevenueRule(0, city.CODE, rules.RETAINED, 10_000, city.START_S, city.ACT),
                Parameter(0, "direct_settlement", 1, city.START_S, city.ACT),
                Account(0, "treasury-eth", "ETH", rules.RETAINED, "chain", treasury, ZERO_HASH, city.ACT),
                Account(
                    0, "fees-eth", "ETH", rules.RETAINED, rules.REVENUE, encode_name(city.CODE), ZERO_HASH,
                    city.ACT,
                ),
            )  # fmt: skip
            made.wait(rules.NOTICE_S + 60)
            yield made


def test_revenue_in_the_coin_is_compared_with_what_the_router_says(town: Town):
    for amount, receipt in ((WEI, town.paid(WEI)), (3 * WEI, town.flushed(3 * WEI))):
        town.record(town.document(receipt), amount)
    town.publish()
    verdict = town.audit()
    assert (verdict.findings, verdict.pending) == ([], [])
    assert verdict.chain_checked
    line = next(line for line in verdict.totals if line.asset == "ETH")
    assert line.revenue == line.closing == 4 * WEI
    # Coin that nobody's event names is no revenue; anybody can send it, so it is told and no more.
    with_value = {"to": Web3.to_checksum_address(town.city.deployment.treasury), "value": 7, "gas": 100_000}
    transact(town.city.w3, PAYER, with_value, "a gift")
    town.chain.mine(3)
    verdict = town.audit()
    assert verdict.findings == []
    assert [told for told in verdict.said if "holds 7 base units of ETH that no event" in told]


def test_a_payment_in_the_coin_that_the_ledger_leaves_out_is_named(town: Town):
    town.record(town.document(town.paid(WEI)), WEI)
    town.flushed(5 * WEI)
    town.publish()
    town.wait(rules.DAY)
    town.record(town.document(town.paid(2 * WEI)), 2 * WEI)
    town.publish()
    (finding,) = town.audit().findings
    assert (finding.rule, finding.amount, finding.asset) == ("T8", 5 * WEI, "ETH")
    assert "is no transfer of the ledger" in finding.why


def _changed(**changed: str) -> Callable[[Town, bytes], bytes]:
    def change(_: Town, document: bytes) -> bytes:
        return json.dumps(json.loads(document) | changed, sort_keys=True, separators=(",", ":")).encode()

    return change


def _worthless(town: Town, _: bytes) -> bytes:
    """The event of a router that nobody registered, which says what its maker wants."""
    # It begins with what Paid looks like and stands at another address.
    topics = [PAID, city.digest("invoice"), address_word(COIN)]
    words = [WEI.to_bytes(32, "big")] * 2
    code = b"".join(b"\x7f" + word + b"\x60" + bytes([32 * at]) + b"\x52" for at, word in enumerate(words))
    code += b"".join(b"\x7f" + topic for topic in reversed(topics)) + b"\x60\x40\x60\x00\xa3\x00"
    receipt = transact(town.city.w3, PAYER, {"data": code, "gas": 300_000}, "a router of its own")
    (log,) = [log_of(told) for told in receipt["logs"]]
    seen = split(Place(town.city.deployment, {COIN: "ETH"}), log, [], Stage.FINAL)
    assert seen is not None
    return seen.document


FORGED: dict[str, tuple[Callable[[Town, bytes], bytes], str]] = {
    "amount": (_changed(amount=str(2 * WEI)), "amount is"),
    "receiver": (_changed(to="0x" + PAYER_ADDRESS.hex()), "recipient is"),
    "token": (_changed(token="0x" + city.TOKEN.hex()), "token is"),
    "block": (_changed(blockHash="0x" + "00" * 32), "block is"),
    "log": (_changed(logIndex="9"), "no movement of ETH is"),
    "transaction": (_changed(transaction="0x" + "11" * 32), "no movement of ETH is"),
    "chain": (_changed(chainId="5"), "no movement of ETH is"),
    "kind of a token": (_changed(kind="evm-log"), "its evidence is of kind evm-log"),
    "kind of nothing": (_changed(kind="evm-coin-transfer"), "is no evidence of kind"),
    "another router": (_worthless, "no movement of ETH is"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_evidence_of_a_payment_in_the_coin_is_a_finding(town: Town, name: str):
    forge, why = FORGED[name]
    document = town.document(town.paid(WEI))
    forged = forge(town, document)
    amount = int(json.loads(forged)["amount"])
    assert forged != document
    town.record(forged, amount)
    town.publish()
    found = [finding for finding in town.audit().findings if finding.rule == "T8"]
    assert [one for one in found if one.where.startswith("record ") and why in one.why], found


def test_one_payment_in_the_coin_is_no_evidence_for_two(town: Town):
    document = town.document(town.paid(WEI))
    town.record(document, WEI)
    # The writer refuses the same evidence; the same movement in another spelling is another document.
    town.record(document + b"\n", WEI)
    town.publish()
    # And the treasury holds less than the ledger says.
    found = {finding.rule: finding for finding in town.audit().findings}
    assert set(found) == {"T8", "T9"}
    assert (found["T9"].amount, found["T9"].asset) == (WEI, "ETH")


def _refund(town: Town, to: bytes) -> tuple[TxReceipt, bytes]:
    """A quarter of a payment goes back by the treasury; returns that transaction and the refund's hash."""
    log, deployment = town.on.log, town.city.deployment
    receipt_hash = town.record(town.document(town.paid(WEI)), WEI, to)
    receipt_place = len(log.records) - 1
    place = receipt_place + 1
    authority = log.act(Refund(0, city.digest("refund"), receipt_hash, WEI // 4, address_word(to), city.ACT))
    came, refund = decode(log.records[receipt_place]), decode(log.records[place])
    assert isinstance(came, Transfer)
    assert isinstance(refund, Refund)
    town.publish()
    leaves = [proof.leaf_hash(data) for data in log.records]
    town.wait(2 * rules.DAY)
    signed = [city.AUTHORITY.approve(deployment.domain, refund, log.now + rules.DAY, log.now)]
    paths = [proof.inclusion_path(at, leaves) for at in (place, receipt_place)]
    asked = Refunding(refund, came, signed, [], place, receipt_place, len(leaves), *paths)
    receipt = town.city.refund(PAYER, asked)
    town.chain.mine(3)
    return receipt, authority


def test_a_refund_in_the_coin_that_nobody_could_receive_has_not_moved(town: Town):
    # A contract without a door for the coin: the treasury keeps what it owes until it is pulled.
    refuses = deploy_token(town.city.w3, PAYER, "No coin", "NONE")
    _refund(town, refuses)
    deployment = town.city.deployment
    assert town.city.credit("treasury", refuses, COIN) == WEI // 4
    assert town.city.balance(COIN, deployment.treasury) == WEI
    verdict = town.audit()
    assert (verdict.findings, verdict.pending) == ([], [])


def test_a_refund_in_the_coin_is_compared_with_what_the_treasury_says(town: Town):
    receipt, authority = _refund(town, PAYER_ADDRESS)
    # It has gone, and is not booked yet.
    verdict = town.audit()
    assert (verdict.findings, len(verdict.pending)) == ([], 1)
    (event,) = [log_of(told) for told in receipt["logs"] if bytes(told["topics"][0]) == REFUNDED]
    told = {
        "kind": "evm-coin",
        "chainId": str(city.CHAIN_ID),
        "blockHash": "0x" + event.block_hash.hex(),
        "transaction": "0x" + event.transaction.hex(),
        "logIndex": str(event.index),
        "token": "0x" + COIN.hex(),
        "to": "0x" + PAYER_ADDRESS.hex(),
        "amount": str(WEI // 4),
    }
    document = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    with town.on.ledger.engine.begin() as connection:
        store.add_document(connection, document)
    booked = Transfer(
        0, city.digest("refund booked"), "fees-eth", "treasury-eth", "ETH", WEI // 4, city.CODE, authority,
        sha256(document).digest(),
    )  # fmt: skip
    town.on.log.add(booked)
    town.publish()
    verdict = town.audit()
    assert (verdict.findings, verdict.pending) == ([], [])
    line = next(line for line in verdict.totals if line.asset == "ETH")
    assert (line.revenue, line.refunds, line.closing) == (WEI, WEI // 4, WEI - WEI // 4)
