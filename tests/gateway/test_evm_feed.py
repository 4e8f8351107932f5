"""A price feed on a chain: a real contract, read by eth_call; whatever is wrong with a round is no rate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from web3 import Web3

from contracts.bindings import City
from gateway.kz import business_date, day_start_s
from gateway.rails.evm import HttpNode, Pool, WebNode
from gateway.rails.evm_feed import ChainFeed
from gateway.rate_desk import RateDesk, rate_record
from gateway.rate_plan import RatePlan, policy_of, read_plan, sources_of
from gateway.rates import NationalBank, NationalBankFeed
from gateway.rates_simulator import Misbehaviour, RatesSimulator
from ledger.audit import audit
from ledger.audit.rates import read_rate
from ledger.records import Invalid, Rate, Unavailable
from ledger.store import records
from ledger.writer import submit
from tests import servers
from tests.gateway.aggregator import Aggregator, Says
from tests.gateway.conftest import Town

HEARTBEAT_S = 3_600
_opened: list[httpx.Client] = []


def opened_client() -> httpx.Client:
    """A client that is closed when the test ends."""
    _opened.append(httpx.Client(trust_env=False, timeout=60))
    return _opened[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture
def feed(town: Town) -> Aggregator:
    return Aggregator.deployed(town.city.outside.web3, town.city.keys.account("deployer"))


def reader(town: Town, feed: Aggregator, **changes: Any) -> ChainFeed:
    outside = town.city.outside
    chain_id = town.city.plan.deployment.chain_id
    with_dollar = NationalBank(opened_client(), outside.rates.daily_url, "USD", 0, "USD")
    made = ChainFeed(
        WebNode(outside.web3),
        chain_id,
        feed.address,
        "USDT",
        6,
        "chainlink",
        HEARTBEAT_S,
        with_dollar,
        4 * 86_400,
    )
    return replace(made, **changes)


def test_a_feed_in_dollars_through_the_official_rate_is_exact(town: Town, feed: Aggregator):
    now = town.city.clock()
    feed.say(Says.now(99_950_000, now))
    rate = reader(town, feed).fetch(now)
    # 0.9995 dollars for a whole token, 511.90 tenge for a dollar, 6 decimals.
    assert rate.fraction == Fraction("0.9995") * Fraction("511.90") * 100 / 10**6
    assert (rate.asset, rate.source, rate.time_s) == ("USDT", "chainlink", now - 60)


def test_a_feed_in_tenge_needs_nothing_else(town: Town, feed: Aggregator):
    now = town.city.clock()
    feed.say(Says.now(51_190_000_000, now))
    assert reader(town, feed, through=None).fetch(now).fraction == Fraction("511.90") * 100 / 10**6


def test_the_document_of_a_feed_lets_anyone_ask_again(town: Town, feed: Aggregator):
    now = town.city.clock()
    feed.say(Says.now(100_000_000, now))
    rate = reader(town, feed).fetch(now)
    told = json.loads(rate.body)
    assert rate.sha256 == hashlib.sha256(rate.body).hexdigest()
    block = town.city.outside.web3.eth.get_block(int(told["block"]))
    assert told["blockHash"] == block["hash"].to_0x_hex()
    assert (told["answer"], told["decimals"], told["roundId"]) == ("100000000", "8", "7")
    assert told["through"]["source"] == "nationalbank"
    assert Fraction(int(told["through"]["numerator"]), int(told["through"]["denominator"])) == 51_190


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"answer": 0}, "the answer is 0"),
        ({"answer": -1}, "the answer is -1"),
        ({"answer": 1 << 128}, "the answer is"),
        ({"updated_s": 0}, "not complete"),
        ({"started_s": 0}, "not complete"),
        ({"answered_in": 6}, "repeats the answer of round 6"),
        ({"decimals": 37}, "37 decimals, at most 36"),
    ],
)
def test_ff31_a_round_that_is_wrong_is_no_rate(
    town: Town, feed: Aggregator, changes: dict[str, int], why: str
):
    now = town.city.clock()
    feed.say(Says.now(100_000_000, now), **changes)
    with pytest.raises(Unavailable, match=why):
        reader(town, feed).fetch(now)


@pytest.mark.parametrize(("age_s", "is_taken"), [(HEARTBEAT_S, True), (HEARTBEAT_S + 1, False)])
def test_ff31_a_feed_that_has_stopped_is_no_rate(town: Town, feed: Aggregator, age_s: int, is_taken: bool):
    now = town.city.clock()
    feed.say(Says.now(100_000_000, now), started_s=now - age_s, updated_s=now - age_s)
    if is_taken:
        assert reader(town, feed).fetch(now).time_s == now - age_s
    else:
        with pytest.raises(Unavailable, match=f"{age_s} s old, at most {HEARTBEAT_S}"):
            reader(town, feed).fetch(now)


def test_ff31_an_answer_from_the_future_is_no_rate(town: Town, feed: Aggregator):
    now = town.city.clock()
    feed.say(Says.now(100_000_000, now), updated_s=now + 3_600)
    with pytest.raises(Unavailable, match="updated at"):
        reader(town, feed).fetch(now)


def test_ff32_an_address_without_a_feed_and_a_node_of_another_chain_are_unavailable(
    town: Town, feed: Aggregator
):
    now = town.city.clock()
    with pytest.raises(Unavailable, match="0 and 0 bytes"):
        reader(town, replace_address(feed, bytes(19) + b"\x01")).fetch(now)
    with pytest.raises(Unavailable):
        # A contract that has no such function.
        reader(town, replace_address(feed, town.token)).fetch(now)
    feed.say(Says.now(100_000_000, now))
    with pytest.raises(Unavailable, match="not of 1"):
        reader(town, feed, chain_id=1).fetch(now)


def replace_address(feed: Aggregator, address: bytes) -> Aggregator:
    return replace(feed, address=address)


def test_ff32_a_feed_whose_other_half_is_away_or_old_is_unavailable(town: Town, feed: Aggregator):
    now = town.city.clock()
    feed.say(Says.now(100_000_000, now))
    with pytest.raises(Unavailable, match=r"nationalbank is .* s old, at most 0"):
        reader(town, feed, through_age_s=0).fetch(now)
    town.city.outside.rates.misbehaves["nationalbank"] = Misbehaviour.STATUS_500
    with pytest.raises(Unavailable, match="status 500"):
        reader(town, feed).fetch(now)


def test_a_feed_is_read_over_http_from_whichever_node_answers():
    with servers.anvil() as node:
        web3 = Web3(Web3.HTTPProvider(node.url))
        from eth_account import Account

        account = Account.create()
        node.call("anvil_setBalance", account.address, hex(10**18))
        feed = Aggregator.deployed(web3, account)
        now = web3.eth.get_block("latest")["timestamp"]
        feed.say(Says.now(51_190_000_000, now))
        dead = HttpNode(f"http://127.0.0.1:{servers.closed_port()}", timeout_s=1)
        alive = HttpNode(node.url)
        pool = Pool([dead, alive], 31_337)
        made = ChainFeed(pool, 31_337, feed.address, "USDT", 6, "chainlink", HEARTBEAT_S)
        assert made.fetch(now).fraction == Fraction("511.90") * 100 / 10**6
        dead.close()
        alive.close()


# --- the operator's list of sources ---------------------------------------------------------------------


def plan_of(town: Town, feed: Aggregator) -> dict[str, Any]:
    rates = town.city.outside.rates
    bank = {"kind": "national_bank", "url": rates.daily_url, "currency": "USD", "max_age_s": 4 * 86_400}
    exchange = {"kind": "exchange", "name": "exchange-a", "url": rates.exchange_url("exchange-a"),
                "symbol": "USDT/KZT", "max_age_s": 600}  # fmt: skip
    on_chain = {"kind": "evm_feed", "name": "chainlink", "address": "0x" + feed.address.hex(),
                "heartbeat_s": HEARTBEAT_S, "through": bank}  # fmt: skip
    return {"assets": {"USDT": {"decimals": 6, "sources": [bank, exchange, on_chain]}}}


def desk_of(town: Town, told: dict[str, Any], folder: Path) -> RateDesk:
    path = folder / "rates.json"
    path.write_text(json.dumps(told))
    plan = read_plan(path)
    client, chain = opened_client(), WebNode(town.city.outside.web3)
    found = sources_of(plan, client, chain, town.city.plan.deployment.chain_id)
    return RateDesk(found, policy_of(plan), town.city.clock, town.city.gateway.engine)


def test_three_kinds_of_source_from_a_file_make_one_rate(town: Town, feed: Aggregator, tmp_path: Path):
    now = town.city.clock()
    feed.say(Says.now(100_010_000, now))
    rate = desk_of(town, plan_of(town, feed), tmp_path).current("USDT")
    assert {source.source for source in rate.sources} == {"nationalbank", "exchange-a", "chainlink"}
    # The middle one of 511.90, 511.95119 and 512.40.
    assert rate.fraction == Fraction("1.0001") * Fraction("511.90") * 100 / 10**6


def test_leak_05_the_auditor_makes_a_rate_again_that_a_feed_had_a_part_in(
    town: Town, feed: Aggregator, tmp_path: Path
):
    """Else each rate of a city that uses a feed, as the handbook shows it, is a critical finding (D18)."""
    now = town.city.clock()
    feed.say(Says.now(100_010_000, now))
    rate = desk_of(town, plan_of(town, feed), tmp_path).current("USDT")
    with town.city.gateway.engine.begin() as connection:
        submit(connection, rate_record(connection, rate), now, b"a rate by a feed")
    town.record()
    town.city.worker.publish_if_new()
    verdict = audit(town.city.folder / "bundle")
    assert [finding for finding in verdict.findings if finding.rule == "D18"] == []
    count = len([data for data in records(town.city.gateway.engine) if data[:32] == Rate.type_hash])
    assert f"{count} of {count} rates were computed again from their published sources" in verdict.said


def test_the_auditor_reads_a_feed_as_the_gateway_does_and_refuses_what_is_none(town: Town, feed: Aggregator):
    now = town.city.clock()
    feed.say(Says.now(99_950_000, now))
    for through in (None, reader(town, feed).through):
        rate = reader(town, feed, through=through).fetch(now)
        read = read_rate(rate.body, "source1", "USDT", 6)
        assert (read.rate, read.time_s, read.is_official) == (rate.fraction, rate.time_s, False)
    told = json.loads(rate.body)
    for changed in (
        {"answer": "0"}, {"answer": "-1"}, {"answer": "1.5"}, {"answer": 1}, {"decimals": "37"}, {"updatedAt": "0"},
        {"updatedAt": "99999999999999"}, {"through": {}}, {"through": {**told["through"], "denominator": "0"}},
    ):  # fmt: skip
        body = json.dumps({**told, **changed}, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(Invalid, match="D18 at source1"):
            read_rate(body, "source1", "USDT", 6)
    with pytest.raises(Invalid, match="spaces or members out of order"):
        read_rate(rate.body + b" ", "source1", "USDT", 6)


def test_ff33_a_feed_that_shows_a_broken_peg_suspends_the_asset(town: Town, feed: Aggregator, tmp_path: Path):
    feed.say(Says.now(90_000_000, town.city.clock()))
    with pytest.raises(Unavailable, match=r"Q3.*chainlink.*the peg by nationalbank"):
        desk_of(town, plan_of(town, feed), tmp_path).current("USDT")


def test_ff32_with_the_exchange_away_the_feed_is_the_market(town: Town, feed: Aggregator, tmp_path: Path):
    feed.say(Says.now(100_000_000, town.city.clock()))
    town.city.outside.rates.misbehaves["exchange-a"] = Misbehaviour.ERROR_PAGE_WITH_200
    rate = desk_of(town, plan_of(town, feed), tmp_path).current("USDT")
    assert [source.source for source in rate.sources] == ["chainlink", "nationalbank"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"band": 3}, "band"),
        ({"least_sources": 1}, "least_sources"),
        ({"assets": {"USDT": {"decimals": 6, "sources": []}}}, "assets.USDT.sources"),
        ({"assets": {"USDT": {"decimals": 6, "sources": [{"kind": "guess"}] * 2}}}, "assets.USDT.sources.0"),
    ],
)
def test_a_list_of_sources_that_nobody_understands_is_refused(
    tmp_path: Path, change: dict[str, Any], where: str
):
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"assets": {}} | change))
    with pytest.raises(Invalid) as refused:
        read_plan(path)
    assert refused.value.where == where


def test_one_source_by_two_doors_is_not_two(town: Town, feed: Aggregator, tmp_path: Path):
    told = plan_of(town, feed)
    bank = told["assets"]["USDT"]["sources"][0]
    told["assets"]["USDT"]["sources"] = [bank, bank | {"kind": "national_bank_feed"}]
    with pytest.raises(Invalid, match="2 are needed"):
        desk_of(town, told, tmp_path)


@pytest.mark.parametrize(
    ("place", "change", "why"),
    [
        (0, {"currency": "EUR"}, "reads USDT by USDT or USD, this is EUR"),
        (1, {"symbol": "USDTKZT"}, "reads USDT/KZT, this is USDTKZT"),
    ],
)
def test_a_source_that_no_auditor_could_read_is_refused_before_a_rate_names_it(
    town: Town, feed: Aggregator, tmp_path: Path, place: int, change: dict[str, str], why: str
):
    told = plan_of(town, feed)
    told["assets"]["USDT"]["sources"][place] |= change
    with pytest.raises(Invalid, match=why):
        desk_of(town, told, tmp_path)


def test_a_feed_without_a_node_is_refused(town: Town, feed: Aggregator):
    plan = RatePlan.model_validate(plan_of(town, feed))
    with pytest.raises(Invalid, match="QAZYNA_RPC_URLS"):
        sources_of(plan, opened_client(), None, 0)


# --- the National Bank's days ---------------------------------------------------------------------------

NOON = day_start_s(business_date(1_788_235_200)) + 12 * 3600


@pytest.fixture
def bank() -> Iterator[RatesSimulator]:
    with RatesSimulator(lambda: NOON, {"USD": (Decimal("511.90"), 1)}, {}) as running:
        yield running


def test_on_a_holiday_the_rate_of_the_last_business_day_holds(bank: RatesSimulator):
    """Set on Friday at 15:30 for the next business day; the days between have no rates of their own."""
    source = NationalBank(opened_client(), bank.daily_url, "USDT", 6, "USD")
    bank.holidays = {business_date(NOON), business_date(NOON - 86_400)}
    rate = source.fetch(NOON)
    assert rate.time_s == day_start_s(business_date(NOON - 2 * 86_400))
    bank.holidays = {business_date(NOON - back * 86_400) for back in range(7)}
    with pytest.raises(Unavailable, match="no rate was set on 7 days"):
        source.fetch(NOON)


def test_from_1530_on_the_feed_tells_tomorrows_rate_and_todays_still_holds(bank: RatesSimulator):
    source = NationalBankFeed(opened_client(), bank.feed_url, "USDT", 6, "USD")
    today = source.fetch(NOON)
    bank.official["USD"] = (Decimal(600), 1)
    bank.sets_for_tomorrow = True
    evening = NOON + 6 * 3_600
    assert source.fetch(evening) == today
    fresh = NationalBankFeed(opened_client(), bank.feed_url, "USDT", 6, "USD")
    with pytest.raises(Unavailable, match="the rate is for"):
        fresh.fetch(evening)
    bank.sets_for_tomorrow = False
    bank.clock = lambda: NOON + 86_400
    assert source.fetch(NOON + 86_400).fraction == Fraction("600") * 100 / 10**6


def test_the_contracts_of_a_city_are_no_feed(town: Town):
    city: City = town.city.city
    made = ChainFeed(
        WebNode(town.city.outside.web3), city.deployment.chain_id, city.deployment.router, "USDT", 6, "x", 10
    )
    with pytest.raises(Unavailable):
        made.fetch(town.city.clock())
