"""Money that strangers push into the treasury: it makes no honest ledger invalid, and hides no payment (T8, T9)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256

import pytest
from eth_account import Account as Wallet
from web3.types import TxReceipt

from contracts.bindings import Quote, Terms, deploy_token, quote_digest, sign_digest
from gateway.rails import Stage
from gateway.rails.evm import Place
from gateway.rails.evm.logs import FLUSHED, PAID, TRANSFER, log_of
from gateway.rails.evm.split import split
from ledger import rules, store
from ledger.audit import Verdict
from ledger.records import ZERO_ADDRESS, ZERO_HASH, Account, Asset, Transfer, address_word, encode_name
from tests import city
from tests.ledger.test_audit_coins import PAYER, Town, town

__all__ = ["town"]

UNIT = 10**6
ALLOWED_S = 40 * rules.DAY


@dataclass
class Market:
    """The town, in which fees may be paid in a token too, for some time."""

    town: Town
    token: bytes

    def paid(self, amount: int) -> TxReceipt:
        """Somebody pays a quote of the city's."""
        town, wallet = self.town, Wallet.from_key(city.GATEWAY.secret.secret)
        town.numbers += 1
        until = town.on.log.now + rules.DAY
        invoice = city.digest(f"invoice {town.numbers}")
        quote = Quote(invoice, city.CODE, ZERO_ADDRESS, self.token, amount, 10_000, until, town.numbers)
        town.city.allow(PAYER, self.token, amount)
        return town.city.pay(
            PAYER, quote, sign_digest(wallet, quote_digest(town.city.deployment.domain, quote))
        )

    def flushed(self, amount: int, purpose: str = city.CODE) -> TxReceipt:
        """Somebody flushes a deposit address of terms that they made up, which nobody's leave is needed for."""
        self.town.numbers += 1
        terms = Terms(city.digest(f"own {self.town.numbers}"), purpose, ZERO_ADDRESS, 10_000)
        self.town.city.transfer(PAYER, self.token, self.town.city.deposit_address(terms), amount)
        return self.town.city.flush(PAYER, [terms], self.token)

    def given(self, amount: int) -> TxReceipt:
        """Somebody sends the token straight to the treasury."""
        return self.town.city.transfer(PAYER, self.token, self.town.city.deployment.treasury, amount)

    def record(self, receipt: TxReceipt) -> None:
        """Book what a router brought, with the evidence that the gateway makes."""
        logs = [log_of(told) for told in receipt["logs"]]
        (event,) = [log for log in logs if log.topics[0] in {PAID, FLUSHED}]
        treasury = self.town.city.deployment.treasury
        moved = [log for log in logs if log.topics[0] == TRANSFER and log.address(2) == treasury]
        seen = split(Place(self.town.city.deployment, {self.token: "USDT"}), event, moved, Stage.FINAL)
        assert seen is not None
        with self.town.on.ledger.engine.begin() as connection:
            store.add_document(connection, seen.document)
        digest, log = sha256(seen.document).digest(), self.town.on.log
        log.add(
            Transfer(
                0, digest, "treasury-usdt", "fees-usdt", "USDT", seen.city_minor, city.CODE,
                city.rule_hash(log), digest, ZERO_HASH,
            )
        )  # fmt: skip

    def audit(self) -> Verdict:
        """Publish what there is and audit it, a day later, so that nothing is newer than the ledger."""
        self.town.wait(rules.DAY)
        self.record(self.paid(1))
        self.town.publish()
        return self.town.audit()


@pytest.fixture
def market(town: Town) -> Market:
    token = deploy_token(town.city.w3, PAYER, "Tether", "USDT")
    town.city.mint(PAYER, token, bytes.fromhex(PAYER.address[2:]), 1_000 * UNIT)
    treasury, until = address_word(town.city.deployment.treasury), town.on.log.now + ALLOWED_S
    town.act(
        Asset(0, "USDT", 6, city.CHAIN_ID, token, city.START_S, until, city.ACT),
        Account(0, "treasury-usdt", "USDT", rules.RETAINED, "chain", treasury, ZERO_HASH, city.ACT),
        Account(
            0, "fees-usdt", "USDT", rules.RETAINED, rules.REVENUE, encode_name(city.CODE), ZERO_HASH, city.ACT
        ),
    )
    made = Market(town, token)
    made.record(made.paid(5 * UNIT))
    return made


def test_what_anybody_sends_straight_to_the_treasury_is_told_and_no_finding(market: Market) -> None:
    assert market.audit().findings == []
    market.given(1)
    market.given(6)
    verdict = market.audit()
    assert (verdict.findings, verdict.pending) == ([], [])
    assert [
        told for told in verdict.said if "got 7 base units of USDT by 2 movements that no payment was" in told
    ]
    # It is in no total: nothing can be ordered out of it.
    (line,) = [line for line in verdict.totals if line.asset == "USDT"]
    assert line.closing == 5 * UNIT + 2


def test_a_payment_by_the_router_that_is_not_booked_is_found_among_what_strangers_sent(
    market: Market,
) -> None:
    market.given(3 * UNIT)
    market.paid(3 * UNIT)
    market.given(3 * UNIT)
    verdict = market.audit()
    assert [(f.rule, f.amount, f.asset) for f in verdict.findings] == [
        ("T9", 3 * UNIT, "USDT"),
        ("T8", 3 * UNIT, "USDT"),
    ]


def test_a_flush_of_strangers_terms_is_booked_as_the_city_books_any(market: Market) -> None:
    receipt = market.flushed(2)
    assert {(f.rule, f.amount) for f in market.audit().findings} == {("T8", 2), ("T9", 2)}
    market.record(receipt)
    assert market.audit().findings == []


def test_what_came_when_its_asset_was_not_allowed_any_more_is_told_and_no_finding(market: Market) -> None:
    assert market.audit().findings == []
    market.town.wait(ALLOWED_S)
    # V2: no record could book it, and the router takes it all the same.
    market.flushed(2)
    market.town.record(market.town.document(market.town.paid(4)), 4)
    market.town.wait(rules.DAY)
    market.town.record(market.town.document(market.town.paid(5)), 5)
    market.town.publish()
    verdict = market.town.audit()
    assert verdict.findings == []
    assert [told for told in verdict.said if "got 2 base units of USDT by 1 movements" in told]


def test_evidence_of_a_gift_is_still_one_movement_for_one_record(market: Market) -> None:
    gift = market.given(4)
    (log,) = [log_of(told) for told in gift["logs"]]
    told = {
        "kind": "evm-log", "chainId": str(city.CHAIN_ID), "blockHash": "0x" + log.block_hash.hex(),
        "transaction": "0x" + log.transaction.hex(), "logIndex": str(log.index), "token": "0x" + market.token.hex(),
        "to": "0x" + market.town.city.deployment.treasury.hex(), "amount": "4",
    }  # fmt: skip
    document = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    with market.town.on.ledger.engine.begin() as connection:
        store.add_document(connection, document)
    digest, ledger = sha256(document).digest(), market.town.on.log
    ledger.add(
        Transfer(
            0, digest, "treasury-usdt", "fees-usdt", "USDT", 4, city.CODE, city.rule_hash(ledger), digest,
        )
    )  # fmt: skip
    verdict = market.audit()
    assert verdict.findings == []
    assert not [told for told in verdict.said if "that no payment was" in told]
