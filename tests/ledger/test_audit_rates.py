"""Rates that the auditor makes again from their published sources (LEAKS 05)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rates import read_exchange, read_national_bank
from ledger.audit import Wanted, audit
from ledger.audit.__main__ import main
from ledger.audit.rates import read_rate
from ledger.records import Invalid, Rate, Unavailable
from ledger.rules import ALMATY_OFFSET_S, DAY
from tests import bundles, city


def official(
    price: str = "511.90", quant: str = "1", currency: str = "USD", time_s: int = 1_780_000_000
) -> bytes:
    """The National Bank's answer for a day."""
    day = datetime.fromtimestamp(time_s + ALMATY_OFFSET_S, UTC)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><rates><date>{day:%d.%m.%Y}</date><item><fullname>x</fullname>'
        f"<title>{currency}</title><description>{price}</description><quant>{quant}</quant></item></rates>"
    ).encode()


def market(price: object = "512.40", time_s: object = 0, symbol: str = "USDT/KZT") -> bytes:
    """An exchange's answer."""
    return json.dumps({"symbol": symbol, "price": price, "time": time_s}).encode()


def on_chain(time_s: int, through_s: int, answer: str = "100000000") -> bytes:
    """A feed's answer in dollars, through the official rate, as the gateway publishes it."""
    through = {"numerator": "51240", "denominator": "1", "time": str(through_s), "source": "nationalbank"}
    told = {
        "kind": "evm-feed",
        "answer": answer,
        "decimals": "8",
        "updatedAt": str(time_s),
        "through": through,
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def rated(log: city.Log, fraction: Fraction, first: bytes, second: bytes) -> None:
    """Record a rate that names these two documents."""
    tiyn = fraction * 100 / 10**6
    names = sha256(first).digest(), sha256(second).digest()
    log.add(Rate(0, "USDT", tiyn.numerator, tiyn.denominator, *names))


def findings(folder: Path, log: city.Log, *public: bytes) -> list[str]:
    """What the audit finds about rates in a bundle that publishes these documents too."""
    more: Mapping[str, bytes] = {f"documents/{sha256(body).hexdigest()}": body for body in public}
    bundle = bundles.write(folder, log, public={**bundles.documents(), **more})
    return [str(one) for one in audit(str(bundle.folder)).findings if one.rule == "D18"]


def test_leak_05_a_rate_that_its_two_sources_do_not_make_is_named(tmp_path: Path) -> None:
    log = city.registered()
    first, second = market("512.40", log.now), market("512.10", log.now)
    pegged = official(time_s=log.now)
    good = [
        (Fraction("512.25"), first, second),
        (Fraction("512.10"), second, pegged),
        ((Fraction("512.10") + Fraction("511.90")) / 2, pegged, second),
    ]
    for rate, one, other in good:
        rated(log, rate, one, other)
    assert findings(tmp_path / "good", log, first, second, pegged) == []
    # Both documents are true, and the rate is one that they do not make: a tiyn off, or the other source's.
    for wrong in (Fraction("512.26"), Fraction("512.10"), Fraction("512.2500001")):
        cheating = city.registered()
        rated(cheating, wrong, first, second)
        (named,) = findings(tmp_path / f"wrong {wrong}".replace("/", "-"), cheating, first, second)
        assert f"D18 at record {len(cheating.records) - 1}: the rate is " in named


def test_leak_05_a_source_that_is_no_rate_or_of_another_time_or_asset_is_named(tmp_path: Path) -> None:
    log = city.registered()
    good = market("512.40", log.now)
    wrong = {
        "other asset": market("512.40", log.now, "USDC/KZT"),
        "float": market(512.40, log.now),
        "old": market("512.40", log.now - DAY - 1),
        "future": market("512.40", log.now + 61),
        "no json": b"512.40",
        "stopped feed": on_chain(log.now - DAY - 3_601, log.now),
        "feed through an old rate": on_chain(log.now, log.now - 11 * DAY),
        "other currency": official(currency="EUR", time_s=log.now),
        "old official": official("512.40", time_s=log.now - 11 * DAY),
        "tomorrow's official": official("512.40", time_s=log.now + DAY),
        "doctype": b'<!DOCTYPE rates [<!ENTITY a "b">]><rates><date>01.01.2026</date></rates>',
        "bomb": b"[" * 5_000,
    }
    for name, body in wrong.items():
        each = city.registered()
        rated(each, Fraction("512.40"), good, body)
        named = findings(tmp_path / name, each, good, body)
        assert len(named) == 1, name
        assert "source2" in named[0], name


def test_leak_05_hiding_sources_is_named_whether_it_is_some_or_all(tmp_path: Path) -> None:
    log = city.registered()
    first, second, third = (market(price, log.now) for price in ("512.40", "512.10", "512.30"))
    rated(log, Fraction("512.25"), first, second)
    rated(log, Fraction("512.20"), second, third)
    (named,) = findings(tmp_path / "some", log, first, second)
    assert f"source 0x{sha256(third).hexdigest()} is not published" in named
    named, other = findings(tmp_path / "none", log)
    assert f"source 0x{sha256(first).hexdigest()} is not published" in named
    assert f"source 0x{sha256(second).hexdigest()} is not published" in other
    verdict = audit(str(tmp_path / "none"))
    assert not verdict.is_valid
    assert {finding.severity for finding in verdict.findings} == {"critical"}
    assert "0 of 2 rates were computed again from their published sources" in verdict.said


def test_an_auditor_may_know_that_sources_are_not_to_be_had_and_reads_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = city.registered()
    first, second = market("512.40", log.now), market("512.10", log.now)
    rated(log, Fraction("512.25"), first, second)
    assert len(findings(tmp_path / "none", log)) == 1
    place = str(tmp_path / "none")
    verdict = audit(place, wanted=Wanted(sources_unavailable=True))
    assert verdict.is_valid
    last = len(log.records) - 1
    assert f"record {last}: source 0x{sha256(first).hexdigest()} is not published" in verdict.said
    assert main([place]) == 1
    assert main([place, "--sources-unavailable"]) == 0
    assert "is not published" in capsys.readouterr().out
    # What is published is checked all the same.
    rated(log, Fraction("512.11"), first, second)
    more = bundles.documents(first, second)
    cheating = bundles.write(tmp_path / "wrong", log, public=more)
    named = audit(str(cheating.folder), wanted=Wanted(sources_unavailable=True)).findings
    assert [one.rule for one in named] == ["D18"]


def test_a_rate_of_tokens_with_other_decimals_and_quants_is_read_exactly() -> None:
    told = read_rate(official("47.55", "100", "JPY"), "x", "JPY", 0)
    assert told.rate == Fraction("47.55") / 100 * 100
    assert read_rate(market("0.000001", 1, "WEI/KZT"), "x", "WEI", 18).rate == Fraction(1, 10**22)


_days = st.one_of(st.dates(date(2024, 2, 20)), st.dates(date(1999, 12, 30), date(2025, 1, 1)))
_texts = st.text(alphabet="0123456789.-, eE", max_size=14)
_prices = st.one_of(st.decimals("0.000001", 10**9, places=6).map(str), _texts)


@given(
    price=st.one_of(_prices, st.integers(), st.none(), st.floats()),
    time_s=st.one_of(
        st.integers(-1, 1 << 34),
        st.integers(32_503_679_998, 32_503_680_002),
        st.text(max_size=3),
        st.booleans(),
    ),
    symbol=st.sampled_from(["USDT/KZT", "USDT/KZT ", "USDC/KZT", "usdt/kzt"]),
    decimals=st.integers(0, 18),
    extra=st.dictionaries(
        st.text(max_size=4), st.one_of(st.floats(), st.integers(), st.lists(st.none())), max_size=2
    ),
)
def test_the_auditor_reads_an_exchange_as_the_gateway_does(price, time_s, symbol, decimals, extra) -> None:
    body = json.dumps({**extra, "symbol": symbol, "price": price, "time": time_s}).encode()
    _same(body, decimals, lambda: read_exchange(body, "USDT", decimals, "USDT/KZT", "x"))


@given(
    price=_prices,
    quant=st.one_of(st.integers(0, 10_000).map(str), _texts),
    currency=st.sampled_from(["USD", " USD ", "EUR", "USDX", ""]),
    day=st.one_of(_days.map(lambda day: f"{day:%d.%m.%Y}"), _days.map(lambda day: f"{day:%d.%m.%y}"), _texts),
    root=st.sampled_from(["rates", "rss", "html"]),
    twice=st.booleans(),
    cut=st.integers(0, 400),
)
def test_the_auditor_reads_the_national_bank_as_the_gateway_does(
    price, quant, currency, day, root, twice, cut
) -> None:
    item = (
        f"<item><title>{currency}</title><pubDate>{day}</pubDate><description>{price}</description>"
        f"<quant>{quant}</quant></item>"
    )
    body = f"<{root}><date>{day}</date>{item * (1 + twice)}</{root}>".encode()
    body = body[: len(body) - cut] if cut < 3 else body
    last = date.max
    _same(body, 6, lambda: read_national_bank(body, "USDT", 6, "USD", last, "x"))


def _same(body: bytes, decimals: int, read) -> None:
    """Both readers give the same rate and time, or both refuse."""
    try:
        expected = read()
    except Unavailable:
        expected = None
    try:
        found = read_rate(body, "x", "USDT", decimals)
    except Invalid:
        found = None
    assert (found is None) == (expected is None), (body, found, expected)
    if found is not None:
        assert (found.rate, found.time_s) == (expected.fraction, expected.time_s)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_the_gateway_names_the_two_sources_that_make_its_rate(count: int, tmp_path: Path) -> None:
    from gateway.rate_desk import rate_record
    from gateway.rates import CombinedRate
    from ledger import store
    from ledger.database import engine

    log = city.registered()
    bodies = [market(f"51{number}.10", log.now) for number in range(count)]
    told = [read_exchange(body, "USDT", 6, "USDT/KZT", f"x{n}") for n, body in enumerate(bodies)]
    # Two that say the same in the same bytes are one document.
    told.insert(count // 2, replace(told[count // 2], source="twin"))
    sources = tuple(told)
    middle = [sources[(len(sources) - 1) // 2].fraction, sources[len(sources) // 2].fraction]
    median = sum(middle, Fraction()) / 2
    opened, heads = engine(f"sqlite:///{tmp_path}/l.db"), engine(f"sqlite:///{tmp_path}/h.db")
    store.create(opened, heads)
    with opened.begin() as connection:
        rate = CombinedRate("USDT", median.numerator, median.denominator, log.now, sources)
        record = rate_record(connection, rate)
    log.add(record)
    opened.dispose()
    heads.dispose()
    assert findings(tmp_path / "bundle", log, *bodies) == []
