"""Rates: real formats over real HTTP, exact fractions, guards, and never 1:1."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import rates
from gateway.kz import day_start_s
from gateway.rates import CombinedRate, Policy, SourcedRate, combine, quote_amount
from gateway.rates_simulator import Misbehaviour, RatesSimulator
from ledger.records import Invalid, Unavailable
from ledger.rules import RECOVERY_S, rate_band

DAY = date(2026, 7, 1)
NOW = day_start_s(DAY) + 10 * 3600
POLICY = Policy(
    max_age_s={"nationalbank": 36 * 3600, "alpha": 120, "beta": 120},
    band_bps=200,
    step_bps=500,
    last_good_max_age_s=900,
    peg_sources=frozenset({"nationalbank"}),
    depeg_bps=100,
)


def rated(source: str, tenge: str, *, asset: str = "USDT", age_s: int = 0) -> SourcedRate:
    price = Fraction(tenge) * 100 / 10**6
    return SourcedRate(
        asset, price.numerator, price.denominator, source, NOW - age_s, hashlib.sha256(b"").hexdigest(), b""
    )


def good(tenge: str, age_s: int, asset: str = "USDT") -> CombinedRate:
    price = Fraction(tenge) * 100 / 10**6
    return CombinedRate(asset, price.numerator, price.denominator, NOW - age_s, ())


def refused(
    rule: str, answers: list[SourcedRate], last_good: CombinedRate | None = None, policy: Policy = POLICY
) -> str:
    with pytest.raises(Invalid) as caught:
        combine(answers, NOW, last_good, policy)
    assert caught.value.rule == rule, caught.value
    return caught.value.why


def nothing(
    answers: list[SourcedRate], last_good: CombinedRate | None = None, policy: Policy = POLICY
) -> None:
    with pytest.raises(Unavailable):
        combine(answers, NOW, last_good, policy)


@pytest.fixture
def simulator():
    prices = {"USDT/KZT": Decimal("474.10")}
    official = {"USD": (Decimal("473.59"), 1), "UZS": (Decimal("3.74"), 100), "EUR": (Decimal("550.1"), 1)}
    with RatesSimulator(
        lambda: NOW, official, {"alpha": prices, "beta": {"USDT/KZT": Decimal("474.00")}}
    ) as running:
        yield running


@pytest.fixture
def client():
    with httpx.Client(trust_env=False, timeout=60) as opened:
        yield opened


@pytest.fixture
def sources(simulator: RatesSimulator, client: httpx.Client):
    return [
        rates.NationalBank(client, simulator.daily_url, "USDT", 6, "USD"),
        rates.Exchange(client, simulator.exchange_url("alpha"), "USDT", 6, "USDT/KZT", "alpha"),
        rates.Exchange(client, simulator.exchange_url("beta"), "USDT", 6, "USDT/KZT", "beta"),
    ]


def test_three_sources_over_http_make_the_median(sources: list[rates.RateSource]):
    answers, missing = rates.ask_all(sources, NOW)
    assert missing == []
    combined = combine(answers, NOW, None, POLICY)
    assert combined.fraction == Fraction("474.00") * 100 / 10**6
    assert [rate.source for rate in combined.sources] == ["nationalbank", "beta", "alpha"]
    assert all(rate.sha256 == hashlib.sha256(rate.body).hexdigest() for rate in combined.sources)


def test_the_median_of_two_is_their_exact_mean(sources: list[rates.RateSource]):
    answers, _ = rates.ask_all(sources[:2], NOW)
    assert combine(answers, NOW, None, POLICY).fraction == Fraction("473.845") / 10**4


def test_the_national_banks_feed_gives_the_same_rate_by_another_door(
    simulator: RatesSimulator, client: httpx.Client, sources: list[rates.RateSource]
):
    feed = rates.NationalBankFeed(client, simulator.feed_url, "USDT", 6, "USD").fetch(NOW)
    daily = sources[0].fetch(NOW)
    assert (feed.fraction, feed.time_s, feed.source) == (daily.fraction, daily.time_s, daily.source)
    assert daily.time_s == day_start_s(DAY)


def test_ff35_the_quant_divides_the_rate(simulator: RatesSimulator, client: httpx.Client):
    assert rates.NationalBank(client, simulator.daily_url, "UZS", 2, "UZS").fetch(NOW).fraction == Fraction(
        "0.0374"
    )


def test_ff35_decimals_of_the_asset_are_part_of_the_rate(simulator: RatesSimulator, client: httpx.Client):
    url = simulator.exchange_url("alpha")
    six, eighteen = (rates.Exchange(client, url, "USDT", d, "USDT/KZT", "alpha").fetch(NOW) for d in (6, 18))
    assert six.fraction == eighteen.fraction * 10**12


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (name, wrong)
        for name in ("nationalbank", "alpha")
        for wrong in Misbehaviour
        # XML has no numbers, only text.
        if (name, wrong) != ("nationalbank", Misbehaviour.NUMBER_INSTEAD_OF_STRING)
    ],
)
def test_ff32_one_source_that_misbehaves_stops_nobody(
    simulator: RatesSimulator,
    sources: list[rates.RateSource],
    name: str,
    wrong: Misbehaviour,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(rates, "TIMEOUT", httpx.Timeout(0.3))
    simulator.misbehaves[name] = wrong
    answers, missing = rates.ask_all(sources, NOW)
    policy = Policy(**{**vars(POLICY), "peg_sources": frozenset()})
    if wrong is Misbehaviour.TEN_TIMES_TOO_HIGH:
        refused("Q2", answers, policy=policy)
        refused("Q3", answers)
        return
    if wrong is not Misbehaviour.STALE:
        assert [error.service for error in missing] == [name]
    combined = combine(answers, NOW, None, policy)
    assert name not in {rate.source for rate in combined.sources}
    assert len(combined.sources) == 2


def test_ff32_an_error_page_with_status_200_is_unavailable(
    simulator: RatesSimulator, sources: list[rates.RateSource]
):
    simulator.misbehaves["nationalbank"] = Misbehaviour.ERROR_PAGE_WITH_200
    with pytest.raises(Unavailable) as caught:
        sources[0].fetch(NOW)
    assert caught.value.service == "nationalbank"


def test_ff32_a_source_that_is_not_there_is_unavailable(client: httpx.Client):
    with pytest.raises(Unavailable):
        rates.NationalBank(client, "http://127.0.0.1:1/rates", "USDT", 6, "USD").fetch(NOW)
    with pytest.raises(Unavailable):
        rates.NationalBank(client, "no url at all", "USDT", 6, "USD").fetch(NOW)


def test_ff32_an_endless_answer_is_cut(simulator: RatesSimulator, sources: list[rates.RateSource]):
    simulator.misbehaves["nationalbank"] = Misbehaviour.ENDLESS
    with pytest.raises(Unavailable, match="more than"):
        sources[0].fetch(NOW)


def test_ff32_a_server_that_drips_is_left(
    simulator: RatesSimulator, sources: list[rates.RateSource], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rates, "ANSWER_LIMIT_S", -1)
    with pytest.raises(Unavailable, match="took more"):
        sources[0].fetch(NOW)


def test_ff32_the_last_good_rate_stands_in_for_a_bounded_time_and_does_not_get_younger():
    young = good("474", 900)
    assert combine([rated("alpha", "474")], NOW, young, POLICY) is young
    assert combine([], NOW, young, POLICY) is young
    nothing([], good("474", 901))
    nothing([], good("474", -1))


def test_ff31_no_rate_is_no_rate():
    nothing([])
    nothing([rated("alpha", "474")])
    nothing([rated("alpha", "474"), rated("alpha", "474", age_s=1)])
    nothing([rated("alpha", "474"), rated("unknown", "474")])


def test_ff31_of_two_tellings_of_one_source_the_newest_counts():
    tellings = [rated("alpha", "474", age_s=9), rated("alpha", "475"), rated("alpha", "470", age_s=5)]
    combined = combine([*tellings, rated("beta", "475")], NOW, None, POLICY)
    assert combined.fraction == Fraction(475, 10**4)
    assert len(combined.sources) == 2


def test_ff31_an_old_rate_and_one_from_the_future_do_not_count():
    assert (
        len(combine([rated("alpha", "474", age_s=120), rated("beta", "474")], NOW, None, POLICY).sources) == 2
    )
    nothing([rated("alpha", "474", age_s=121), rated("beta", "474")])
    assert (
        len(combine([rated("alpha", "474", age_s=-60), rated("beta", "474")], NOW, None, POLICY).sources) == 2
    )
    nothing([rated("alpha", "474", age_s=-61), rated("beta", "474")])


def test_ff31_sources_that_disagree_beyond_the_band_are_refused_with_both_numbers():
    # 100 and 102 are exactly 200 basis points apart.
    combine([rated("alpha", "100"), rated("beta", "102")], NOW, None, POLICY)
    why = refused("Q2", [rated("alpha", "100"), rated("beta", "102.0001")])
    assert "201" in why
    assert "200" in why


def test_ff31_disagreement_does_not_fall_back_to_the_last_good_rate():
    refused("Q2", [rated("alpha", "100"), rated("beta", "110")], good("105", 1))


def test_ff31_a_step_from_the_last_good_rate_is_refused_and_silence_widens_it_a_day_at_a_time():
    """As on the ledger: silence took the band away once, after which anything was believed (decision 0033)."""
    day = 86_400

    def at(tenge: str, age_s: int) -> tuple[list[SourcedRate], CombinedRate]:
        return [rated("alpha", tenge), rated("beta", tenge)], good("500", age_s)

    for age_s, most in ((1, "525"), (day, "525"), (day + 1, "550"), (2 * day + 1, "575"), (100 * day, "750")):
        answers, last = at(most, age_s)
        assert combine(answers, NOW, last, POLICY).fraction * 10**4 == Fraction(most)
        assert "basis points from the last good rate" in refused("Q4", *at(f"{most}.1", age_s))
    refused("Q4", *at("474.9", 1))
    # After half a year without any rate the series begins anew, and not a second earlier.
    refused("Q4", *at("5000", RECOVERY_S))
    answers, last = at("5000", RECOVERY_S + 1)
    combine(answers, NOW, last, POLICY)


@given(st.integers(1, 2_000), st.integers(0, RECOVERY_S + 10))
def test_the_step_from_the_last_good_rate_is_the_ledgers_own(step_bps: int, age_s: int):
    """One place for the rule: what it says is the most is believed, and what is above it is not."""
    policy, most = replace(POLICY, step_bps=step_bps), rate_band(step_bps, age_s)
    assert (most is None) is (age_s > RECOVERY_S)
    if most is None:
        return
    for rate in (Fraction(500 * (10_000 + most), 10_000), Fraction(500 * (10_000 - most), 10_000)):
        combine([rated("alpha", str(rate)), rated("beta", str(rate))], NOW, good("500", age_s), policy)
        beyond = str(rate + (rate - 500) / 10**6)
        refused("Q4", [rated("alpha", beyond), rated("beta", beyond)], good("500", age_s), policy)


def test_ff33_a_token_that_leaves_its_peg_is_refused():
    peg = rated("nationalbank", "500", age_s=10 * 3600)
    combine([peg, rated("alpha", "495")], NOW, None, POLICY)
    refused("Q3", [peg, rated("alpha", "494.9")])
    refused("Q3", [peg, rated("alpha", "505.1")])
    refused("Q3", [peg, rated("alpha", "494"), rated("beta", "494")])


def test_ff33_the_peg_alone_is_no_price_of_the_token():
    policy = Policy(**{**vars(POLICY), "least_sources": 1})
    nothing([rated("nationalbank", "500")], policy=policy)
    both = Policy(**{**vars(POLICY), "peg_sources": frozenset({"nationalbank", "alpha"})})
    nothing([rated("nationalbank", "500"), rated("alpha", "500")], policy=both)


def test_ff35_rates_of_two_assets_are_never_mixed():
    refused("Q1", [rated("alpha", "474"), rated("beta", "474", asset="USDC")])
    refused("Q1", [rated("alpha", "474"), rated("beta", "474")], good("474", 1, asset="USDC"))


def exchange_answer(body: str) -> SourcedRate:
    return rates.read_exchange(body.encode(), "USDT", 6, "USDT/KZT", "alpha")


@pytest.mark.parametrize(
    "body",
    [
        '{"symbol": "USDT/KZT", "price": 474.1, "time": 1}',
        '{"symbol": "USDT/KZT", "price": 474, "time": 1}',
        '{"symbol": "USDT/KZT", "price": "4.741e2", "time": 1}',
        '{"symbol": "USDT/KZT", "price": "474,1", "time": 1}',
        '{"symbol": "USDT/KZT", "price": "-474", "time": 1}',
        '{"symbol": "USDT/KZT", "price": "0.00", "time": 1}',
        '{"symbol": "USDT/KZT", "price": "٤٧٤", "time": 1}',
        '{"symbol": "USDT/KZT", "price": "1/3", "time": 1}',
        '{"symbol": "USDT/KZT", "price": "' + "9" * 5000 + '", "time": 1}',
        '{"symbol": "USDT/KZT", "price": "474", "time": 1.5}',
        '{"symbol": "USDT/KZT", "price": "474", "time": true}',
        '{"symbol": "USDT/KZT", "price": "474", "time": ' + "9" * 5000 + "}",
        '{"symbol": "USDT/KZT", "price": "474"}',
        '{"symbol": "USDT/USD", "price": "1", "time": 1}',
        '{"symbol": "USDT/KZT", "price": NaN, "time": 1}',
        '["USDT/KZT"]',
        "[" * 100_000,
        "",
        "<html>",
    ],
)
def test_ff34_an_exchange_answer_of_another_shape_is_unavailable(body: str):
    with pytest.raises(Unavailable):
        exchange_answer(body)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_rate_or_unavailable(body: bytes):
    for read in (
        lambda: rates.read_exchange(body, "USDT", 6, "USDT/KZT", "alpha"),
        lambda: rates.read_national_bank(body, "USDT", 6, "USD", DAY, "nationalbank"),
    ):
        with pytest.raises(Unavailable):
            read()


BANK = "<rates><date>{date}</date><item><title>USD</title><description>{price}</description><quant>{quant}</quant></item>{more}</rates>"


@pytest.mark.parametrize(
    "change",
    [
        {"date": "02.07.2026"},
        {"date": "31.06.2026"},
        {"date": "2026-07-01"},
        {"date": ""},
        {"price": "473,59"},
        {"price": ""},
        {"price": "0"},
        {"quant": "0"},
        {"quant": ""},
        {"quant": "-1"},
        {"quant": "1.5"},
        {"more": "<item><title>USD</title><description>1</description><quant>1</quant></item>"},
    ],
)
def test_a_national_bank_answer_of_another_shape_is_unavailable(change: dict[str, str | int]):
    body = BANK.format(**{"date": "01.07.2026", "price": "473.59", "quant": "1", "more": ""} | change)
    with pytest.raises(Unavailable):
        rates.read_national_bank(body.encode(), "USDT", 6, "USD", DAY, "nationalbank")


def test_entities_in_a_national_bank_answer_are_unavailable():
    body = '<!DOCTYPE rates [<!ENTITY p "1">]>' + BANK.format(
        date="01.07.2026", price="&p;", quant="1", more=""
    )
    with pytest.raises(Unavailable):
        rates.read_national_bank(body.encode(), "USDT", 6, "USD", DAY, "nationalbank")


@pytest.mark.parametrize(("text", "age_days"), [("01.07.2026", 0), ("30.06.26", 1)])
def test_both_ways_to_write_a_date_are_read(text: str, age_days: int):
    body = BANK.format(date=text, price="473.59", quant="1", more="").encode()
    rate = rates.read_national_bank(body, "USDT", 6, "USD", DAY, "nationalbank")
    assert rate.time_s == day_start_s(DAY) - age_days * 86_400


@given(st.integers(1, 10**12 - 1), st.integers(0, 12), st.integers(0, 18))
def test_ff34_any_decimal_price_is_read_exactly(digits: int, places: int, decimals: int):
    price = f"{Decimal(digits).scaleb(-places):f}"
    body = f'{{"symbol": "S", "price": "{price}", "time": 1}}'.encode()
    rate = rates.read_exchange(body, "A", decimals, "S", "alpha")
    assert rate.fraction == Fraction(digits * 100, 10 ** (places + decimals))


@given(st.integers(1, 10**24), st.integers(1, 10**15), st.integers(1, 10**15), st.integers(0, 10_000))
def test_ff34_a_quote_is_the_least_whole_number_that_pays(
    amount: int, numerator: int, denominator: int, spread: int
):
    rate = CombinedRate("USDT", numerator, denominator, NOW, ())
    units = quote_amount(amount, rate, spread)
    owed = Fraction(amount) * (10_000 + spread) / 10_000
    assert units * rate.fraction >= owed > (units - 1) * rate.fraction
    assert units >= 1


def test_ff34_the_smallest_amount_never_quotes_to_zero():
    assert quote_amount(1, rated("alpha", "999999999999"), 0) == 1


def test_a_quote_of_a_known_amount():
    # 4,325.00 tenge at 474.00 and 1 % spread: 432500 / (474 * 100) * 1.01 tokens.
    assert quote_amount(432_500, rated("alpha", "474"), 100) == 9_215_718


@pytest.mark.parametrize(("amount", "spread"), [(0, 0), (-1, 0), (1, -1), (1, 10_001), (2**128, 0)])
def test_ff34_what_cannot_be_quoted_is_refused(amount: int, spread: int):
    with pytest.raises(Invalid) as caught:
        quote_amount(amount, good("0.000001", 0), spread)
    assert caught.value.rule == "Q5"


def test_no_price_that_is_read_overflows_a_word():
    widest = '{{"symbol": "S", "price": "{}", "time": {}}}'
    long = [
        widest.format(p, NOW).encode() for p in ("999999999999.999999999999", "999999999999.999999999997")
    ]
    pair = [rates.read_exchange(b, "A", 18, "S", s) for b, s in zip(long, ("alpha", "beta"), strict=True)]
    combined = combine(pair, NOW, None, POLICY)
    assert max(combined.numerator, combined.denominator) < 2**128
