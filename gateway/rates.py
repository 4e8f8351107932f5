"""What an asset is worth in tenge: real sources, exact fractions, and guards; no rate, no quote (P9).

A rate is a fraction: tiyn for one base unit of the asset. A source that did not answer rightly is
Unavailable, also where it answered 200. Rates that answered but cannot be believed together are Invalid.
Nothing here ever falls back to 1:1.

Q1 the rates are of one asset
Q2 sources agree within the band
Q3 a declared peg holds: the market's price of the token stays near the price of what it is pegged to
Q4 a rate stays within the step of the last good one, which each day of silence widens as the ledger's own,
   and within what the ledger would record (gateway/rate_desk.py)
Q5 an amount to quote is above 0, a spread is from 0 to 10,000 basis points, the result is below 2^128
Q6 what is the city's as a whole, as a fee is, is quoted without a spread (gateway/payments/creation.py)
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from typing import Protocol
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
import httpx
from defusedxml.common import DefusedXmlException

from gateway.kz import FIRST_DAY_OF_ONE_ZONE, business_date, day_start_s
from ledger.records import Unavailable, reject
from ledger.rules import TIME_LIMIT_S, rate_band

BODY_LIMIT = 1024 * 1024
TIMEOUT = httpx.Timeout(5.0, connect=3.0)
# Days in a row that can have no rates of their own: Nauryz between two weekends.
HOLIDAYS_MOST = 7
ANSWER_LIMIT_S = 15  # A server that drips a byte a second never meets a read time-out.
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_WORD_LIMIT = 1 << 128


@dataclass(frozen=True)
class SourcedRate:
    """What one source said: numerator / denominator tiyn for one base unit, and the answer that proves it."""

    asset: str
    numerator: int
    denominator: int
    source: str
    time_s: int
    sha256: str
    body: bytes

    @property
    def fraction(self) -> Fraction:
        """The exact rate."""
        return Fraction(self.numerator, self.denominator)


@dataclass(frozen=True)
class CombinedRate:
    """The median of sources that agree, made at time_s; `sources` are those counted, lowest first."""

    asset: str
    numerator: int
    denominator: int
    time_s: int
    sources: tuple[SourcedRate, ...]

    @property
    def fraction(self) -> Fraction:
        """The exact rate."""
        return Fraction(self.numerator, self.denominator)


class RateSource(Protocol):
    """Something that can be asked for a rate: answers or raises Unavailable."""

    @property
    def name(self) -> str:
        """Under which its rates are known."""
        ...

    def fetch(self, now_s: int) -> SourcedRate:
        """Ask for the rate that holds now."""
        ...


@dataclass(frozen=True)
class Policy:
    """When rates are believed. Ages in seconds by source name; limits in basis points."""

    max_age_s: Mapping[str, int]
    band_bps: int
    # How far from the last good rate within a day; silence widens it by the ledger's rule (SPEC Q2).
    step_bps: int
    last_good_max_age_s: int
    least_sources: int = 2
    future_s: int = 60
    # Sources that price what the token is pegged to, not the token: the National Bank's USD for a dollar
    # token.
    peg_sources: frozenset[str] = frozenset()
    depeg_bps: int = 100


class _NothingSet(Unavailable):
    """A day without rates of its own: a holiday, on which those of the last business day hold."""


class _NotYet(Unavailable):
    """A rate that was set and does not hold yet."""


# --- reading: body in, rate out ---


def read_national_bank(
    body: bytes, asset: str, decimals: int, currency: str, day: date, source: str
) -> SourcedRate:
    """Read a currency's price in get_rates.cfm or rates_all.xml of the National Bank.

    Rate of one unit = description / quant. A date after `day` is tomorrow's rate and does not hold yet.
    """
    try:
        root = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise Unavailable(source, f"the answer is not XML of rates: {error}") from error
    items = [item for item in root.iter("item") if item.findtext("title", "").strip() == currency]
    if root.tag == "rates" and root.findtext("date") and root.find("item") is None:
        raise _NothingSet(source, f"nothing was set for {root.findtext('date', '')[:20]!r}")
    if root.tag not in {"rates", "rss"} or len(items) != 1:
        raise Unavailable(
            source, f"the answer holds {len(items)} rates of {currency} under {root.tag[:40]!r}, 1 is needed"
        )
    stated = root.findtext("date") if root.tag == "rates" else items[0].findtext("pubDate")
    rate_day = _read_day(stated or "", source)
    if rate_day > day:
        raise _NotYet(source, f"the rate is for {rate_day}, asked for {day}")
    price = _read_decimal(items[0].findtext("description", "").strip(), source)
    quant = items[0].findtext("quant", "").strip()
    if not re.fullmatch(r"[0-9]{1,6}", quant) or int(quant) == 0:
        raise Unavailable(source, f"quant is {quant[:20]!r}")
    return _sourced(asset, price / int(quant), decimals, source, day_start_s(rate_day), body)


def read_exchange(body: bytes, asset: str, decimals: int, symbol: str, source: str) -> SourcedRate:
    """Read an exchange's answer {"symbol": "USDT/KZT", "price": "474.10", "time": 1780000000}.

    The price is a decimal string in tenge for one whole unit: a JSON number would pass through a float.
    """
    try:
        answer = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Unavailable(source, f"the answer is not JSON: {error}") from error
    if not isinstance(answer, dict) or answer.get("symbol") != symbol:
        raise Unavailable(source, f"the answer is not about {symbol}")
    price, time_s = answer.get("price"), answer.get("time")
    if not isinstance(price, str):
        raise Unavailable(source, f"the price is {type(price).__name__}, a decimal string is needed")
    if type(time_s) is not int or not 0 <= time_s < TIME_LIMIT_S:
        raise Unavailable(source, "the time is not Unix seconds")
    return _sourced(asset, _read_decimal(price, source), decimals, source, time_s, body)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _read_day(text: str, source: str) -> date:
    match = re.fullmatch(r"\s*([0-9]{2})\.([0-9]{2})\.([0-9]{4}|[0-9]{2})\s*", text)
    try:
        if match is None:
            raise ValueError("not dd.mm.yyyy")
        day = date(int(match[3]) + (2000 if len(match[3]) == 2 else 0), int(match[2]), int(match[1]))
        if day < FIRST_DAY_OF_ONE_ZONE:
            raise ValueError(f"before {FIRST_DAY_OF_ONE_ZONE}, when Almaty's day began an hour earlier")
        return day
    except ValueError as error:
        raise Unavailable(source, f"the date {text[:20]!r}: {error}") from error


def _read_decimal(text: str, source: str) -> Fraction:
    if not _DECIMAL.fullmatch(text) or Fraction(text) == 0:
        raise Unavailable(source, f"the price is {text[:40]!r}")
    return Fraction(text)


def _sourced(
    asset: str, tenge: Fraction, decimals: int, source: str, time_s: int, body: bytes
) -> SourcedRate:
    rate = tenge * 100 / 10**decimals
    return SourcedRate(
        asset, rate.numerator, rate.denominator, source, time_s, hashlib.sha256(body).hexdigest(), body
    )


# --- asking ---


def _fetch(client: httpx.Client, url: str, query: dict[str, str], source: str) -> bytes:
    """Get a body of at most 1 MiB with status 200, or Unavailable; no redirects."""
    started = time.monotonic()
    body = bytearray()
    try:
        # In one piece with what the URL already asks for: httpx's params would replace it.
        target = httpx.URL(url).copy_merge_params(query)
        # Raw and uncompressed: the limit below must count what is held in memory.
        plain = {"Accept-Encoding": "identity"}
        with client.stream("GET", target, headers=plain, timeout=TIMEOUT, follow_redirects=False) as response:
            if response.status_code != 200:
                raise Unavailable(source, f"status {response.status_code}")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise Unavailable(source, f"more than {BODY_LIMIT} bytes")
                if time.monotonic() - started > ANSWER_LIMIT_S:
                    raise Unavailable(source, f"the answer took more than {ANSWER_LIMIT_S} s")
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Unavailable(source, f"{type(error).__name__}: {error}") from error
    return bytes(body)


@dataclass(frozen=True)
class NationalBank:
    """The National Bank's official rate for the day in Almaty (get_rates.cfm?fdate=dd.mm.yyyy)."""

    client: httpx.Client
    url: str
    asset: str
    decimals: int
    currency: str
    name: str = "nationalbank"

    def fetch(self, now_s: int) -> SourcedRate:
        """Ask for today's rate: set at 15:30 of the business day before, whenever that was."""
        day = business_date(now_s)
        for back in range(HOLIDAYS_MOST):
            asked = day - timedelta(days=back)
            body = _fetch(self.client, self.url, {"fdate": asked.strftime("%d.%m.%Y")}, self.name)
            try:
                return read_national_bank(body, self.asset, self.decimals, self.currency, day, self.name)
            except _NothingSet:
                continue
        raise Unavailable(self.name, f"no rate was set on {HOLIDAYS_MOST} days up to {day}")


@dataclass(frozen=True)
class NationalBankFeed:
    """The National Bank's feed of all rates (rates_all.xml).

    The same rates by another door, so it has the same name and is never a second source.
    """

    client: httpx.Client
    url: str
    asset: str
    decimals: int
    currency: str
    name: str = "nationalbank"
    # The newest rate that held: from 15:30 on the feed tells only the next business day's.
    _held: list[SourcedRate] = field(default_factory=list, repr=False, compare=False)

    def fetch(self, now_s: int) -> SourcedRate:
        """Ask for the newest rate; while that is not in force yet, the one before it still is."""
        body = _fetch(self.client, self.url, {}, self.name)
        day = business_date(now_s)
        try:
            rate = read_national_bank(body, self.asset, self.decimals, self.currency, day, self.name)
        except _NotYet:
            # With its own date, so that keeping it does not make it younger.
            if not self._held:
                raise
            return self._held[0]
        self._held[:] = [rate]
        return rate


@dataclass(frozen=True)
class Exchange:
    """An exchange's last price in tenge, GET url?symbol=... (format at read_exchange)."""

    client: httpx.Client
    url: str
    asset: str
    decimals: int
    symbol: str
    name: str

    def fetch(self, now_s: int) -> SourcedRate:
        """Ask for the last price; its own time tells its age."""
        del now_s
        body = _fetch(self.client, self.url, {"symbol": self.symbol}, self.name)
        return read_exchange(body, self.asset, self.decimals, self.symbol, self.name)


def ask_all(sources: Iterable[RateSource], now_s: int) -> tuple[list[SourcedRate], list[Unavailable]]:
    """Ask every source, one after another; give what answered, and why the others did not."""
    answered, missing = [], []
    for source in sources:
        try:
            answered.append(source.fetch(now_s))
        except Unavailable as error:
            missing.append(error)
    return answered, missing


# --- believing ---


def combine(
    rates: Iterable[SourcedRate], now_s: int, last_good: CombinedRate | None, policy: Policy
) -> CombinedRate:
    """Take the median of the sources that are fresh and agree (Q1 to Q4).

    Too few fresh sources: the last good rate while it is young enough, else Unavailable. Sources that
    contradict each other, the peg or the last good rate: Invalid, and never the last good rate, which may be
    what has become wrong.
    """
    by_source: dict[str, SourcedRate] = {}
    asset = None if last_good is None else last_good.asset
    for rate in rates:
        asset = asset or rate.asset
        if rate.asset != asset:
            reject("Q1", rate.source, f"the rate is of {rate.asset}, another is of {asset}")
        # One source told twice is one source; the newest telling counts.
        before = by_source.get(rate.source)
        if before is None or before.time_s < rate.time_s:
            by_source[rate.source] = rate
    fresh = sorted(
        (r for r in by_source.values() if _is_fresh(r, now_s, policy)), key=lambda r: (r.fraction, r.source)
    )
    market = [rate for rate in fresh if rate.source not in policy.peg_sources]
    # Without a market price a pegged token would be worth its peg by assumption.
    if asset is None or len(fresh) < policy.least_sources or not market:
        return _last_good_or_unavailable(last_good, now_s, policy, len(fresh), len(by_source))
    # The peg first: where it breaks, the sources disagree too, and "depeg" is what a person must read.
    for peg in fresh:
        for rate in market if peg.source in policy.peg_sources else ():
            _check_near(
                "Q3", rate.source, rate.fraction, peg.fraction, policy.depeg_bps, f"the peg by {peg.source}"
            )
    _check_near(
        "Q2", fresh[-1].source, fresh[-1].fraction, fresh[0].fraction, policy.band_bps, fresh[0].source
    )
    middle = len(fresh) // 2
    median = fresh[middle].fraction
    if len(fresh) % 2 == 0:
        median = (fresh[middle - 1].fraction + median) / 2
    step = None if last_good is None else rate_band(policy.step_bps, now_s - last_good.time_s)
    if last_good is not None and step is not None:
        _check_near("Q4", asset, median, last_good.fraction, step, "the last good rate")
    assert max(median.numerator, median.denominator) < _WORD_LIMIT, (
        "prices of 12 and 12 digits cannot make this"
    )
    return CombinedRate(asset, median.numerator, median.denominator, now_s, tuple(fresh))


def _is_fresh(rate: SourcedRate, now_s: int, policy: Policy) -> bool:
    # A source without a stated age is not one of ours.
    limit = policy.max_age_s.get(rate.source)
    return limit is not None and -policy.future_s <= now_s - rate.time_s <= limit


def _last_good_or_unavailable(
    last_good: CombinedRate | None, now_s: int, policy: Policy, fresh: int, answered: int
) -> CombinedRate:
    why = f"{fresh} of {answered} sources are fresh, {policy.least_sources} are needed, one of them a market"
    if last_good is None:
        raise Unavailable("rates", f"{why}; no last good rate")
    age_s = now_s - last_good.time_s
    if not 0 <= age_s <= policy.last_good_max_age_s:
        raise Unavailable(
            "rates", f"{why}; the last good rate is {age_s} s old, at most {policy.last_good_max_age_s}"
        )
    # Returned with its own time, so that using it does not make it younger.
    return last_good


def _check_near(
    rule: str, where: str, value: Fraction, reference: Fraction, limit_bps: int, name: str
) -> None:
    distance = abs(value - reference) * 10_000 / reference
    if distance > limit_bps:
        reject(rule, where, f"{_ceiling(distance)} basis points from {name}, at most {limit_bps}")


def _ceiling(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


# --- quoting ---


def quote_amount(amount_tiyn: int, rate: SourcedRate | CombinedRate, spread_bps: int) -> int:
    """Give the base units that pay an amount, rounded up (Q5).

    ceil(amount * denominator * (10000 + spread) / (numerator * 10000)): anyone recomputes it from the four
    integers.
    """
    if amount_tiyn <= 0:
        reject("Q5", "amount", f"{amount_tiyn} tiyn is not above 0")
    if not 0 <= spread_bps <= 10_000:
        reject("Q5", "spread", f"{spread_bps} basis points is not from 0 to 10000")
    assert min(rate.numerator, rate.denominator) > 0, "a rate is above 0"
    units = -(-amount_tiyn * rate.denominator * (10_000 + spread_bps) // (rate.numerator * 10_000))
    if units >= _WORD_LIMIT:
        reject("Q5", "amount", f"{units.bit_length()} bits of base units, at most 128")
    return units
