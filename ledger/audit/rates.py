"""Rates computed again from the documents that they name (LEAKS 05; docs/bundle.md says how they are read).

The reading is written here once more and not taken from the city's software: who made the rate
does not also check it. That both read the same is a test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree as ET
from xml.parsers import expat

from ledger import rules
from ledger.audit.bundle import Bundle
from ledger.audit.replay import Replayed
from ledger.audit.trust import check_depth, number
from ledger.audit.verdict import Findings
from ledger.records import WORD, Invalid, Rate, decode, reject

# An official rate holds over the longest holidays; a market's may be as old as rate_age allows.
OFFICIAL_DAYS: Final = 10
FUTURE_S: Final = 60
# A feed on a chain answers at its heartbeat, a day as a rule, and is late by some blocks.
FEED_LATE_S: Final = 3_600
# As much as the gateway takes of an answer; read as XML it needs sixty times the memory.
MOST_BYTES: Final = 1 << 20
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_DAY = re.compile(r"\s*([0-9]{2})\.([0-9]{2})\.([0-9]{4}|[0-9]{2})\s*")
_QUANT = re.compile(r"[0-9]{1,6}")
_FEED: Final = "evm-feed"
_FEED_DECIMALS: Final = 36
# Almaty's day began an hour earlier before this one, and no ledger is as old.
_FIRST_DAY = date(2024, 3, 1)


class Told(NamedTuple):
    """What one source said: tiyn for one base unit, when, and whether it is a day's official rate.

    late_s: how much older than rate_age it may be; through_s: of when the official rate is that it uses.
    """

    rate: Fraction
    time_s: int
    is_official: bool
    late_s: int = 0
    through_s: int | None = None


def check_rates(
    bundle: Bundle, done: Replayed, findings: Findings, *, sources_unavailable: bool = False
) -> None:
    """Every rate in effect is what its two published sources make of it (D18).

    sources_unavailable: the auditor knows that some are not to be had, and reads of them as a remark.
    """

    @lru_cache(maxsize=1_024)
    def document(digest: bytes) -> bytes | None:
        content = bundle.document(digest)
        return content and content[: MOST_BYTES + 1]

    missing: list[str] = []
    count = computed = 0
    for index, rate in _rates(done):
        count += 1
        where = f"record {index}"
        bodies = [document(rate.source1), document(rate.source2)]
        if None in bodies:
            absent = (rate.source1, rate.source2)[bodies.index(None)]
            missing.append(f"{where}: source 0x{absent.hex()} is not published")
            continue
        try:
            _check_rate(rate, where, bodies, done.state)
            computed += 1
        except Invalid as broken:
            findings.take(broken)
    if count:
        findings.say(f"{computed} of {count} rates were computed again from their published sources")
    # Who publishes none hides as much as who hides one: money was counted by a rate that nobody can make.
    for told in missing:
        if sources_unavailable:
            findings.say(told)
            continue
        where, _, why = told.partition(": ")
        findings.add("D18", where, why)


def _rates(done: Replayed) -> Iterator[tuple[int, Rate]]:
    for index, data in enumerate(done.entries):
        if data[:WORD] == Rate.type_hash and done.in_effect(index):
            record = decode(data)
            assert isinstance(record, Rate)
            yield index, record


def _check_rate(rate: Rate, where: str, bodies: list[bytes | None], state: rules.State) -> None:
    asset = state.assets[rate.asset]
    told = [
        read_rate(body, f"{where}: source{place}", rate.asset, asset.decimals)
        for place, body in enumerate(bodies, 1)
        if body is not None
    ]
    for place, one in enumerate(told, 1):
        _check_age(one, rate, f"{where}: source{place}", state)
    if all(one.is_official for one in told):
        # Two of its days, or one day told in two ways, are one bank's opinion, which is of the peg.
        reject("D18", where, "both sources are the National Bank's: 1 source, 2 are needed")
    # Of an even number of sources the two in the middle are named, of an odd one the middle one first.
    stated = Fraction(rate.numerator, rate.denominator)
    allowed = [told[0].rate, (told[0].rate + told[1].rate) / 2]
    if stated not in allowed:
        first, mean = allowed
        why = f"the rate is {stated}, its sources say {first} and {told[1].rate}, the mean is {mean}"
        reject("D18", where, why)


def _check_age(one: Told, rate: Rate, where: str, state: rules.State) -> None:
    official = OFFICIAL_DAYS * rules.DAY
    most = official if one.is_official else rules.parameter(state, "rate_age", rate.time) + one.late_s
    limits = [(rate.time - one.time_s, most, "is")]
    if one.through_s is not None:
        limits.append((rate.time - one.through_s, official, "goes through a rate that is"))
    for age, oldest, what in limits:
        if not -FUTURE_S <= age <= oldest:
            why = f"{what} {age} s old when the rate is recorded, from -{FUTURE_S} to {oldest} is allowed"
            reject("D18", where, why)


def read_rate(body: bytes, where: str, asset: str, decimals: int) -> Told:
    """Read one source's answer: XML of the National Bank, or JSON of an exchange or of a feed (D18)."""
    if len(body) > MOST_BYTES:
        reject("D18", where, f"more than {MOST_BYTES} bytes")
    if body.lstrip()[:1] == b"<":
        return _read_official(body, where, asset, decimals)
    return _read_exchange(body, where, asset, decimals)


# --- the National Bank: get_rates.cfm and rates_all.xml --------------------------------


def _read_official(body: bytes, where: str, asset: str, decimals: int) -> Told:
    root = _parse(body, where)
    if root.tag not in {"rates", "rss"}:
        reject("D18", where, f"is XML of {root.tag[:40]!r}, not of rates")
    # A token is worth what it is pegged to: USDT is read as USD, unless the bank prices USDT itself.
    by_title: dict[str, list[ET.Element]] = {}
    for item in root.iter("item"):
        by_title.setdefault(item.findtext("title", "").strip(), []).append(item)
    items = by_title.get(asset) or by_title.get(asset[:3], [])
    if len(items) != 1:
        reject("D18", where, f"holds {len(items)} rates of {asset} or {asset[:3]}, 1 is needed")
    stated = root.findtext("date") if root.tag == "rates" else items[0].findtext("pubDate")
    price = _decimal(items[0].findtext("description", "").strip(), where)
    quant = items[0].findtext("quant", "").strip()
    if not _QUANT.fullmatch(quant) or int(quant) == 0:
        reject("D18", where, f"quant is {quant[:20]!r}")
    midnight = datetime.combine(_day(stated or "", where), datetime.min.time(), tzinfo=UTC)
    start = int(midnight.timestamp()) - rules.ALMATY_OFFSET_S
    return Told(price / int(quant) * 100 / 10**decimals, start, is_official=True)


def _parse(body: bytes, where: str) -> ET.Element:
    def declared(name: str, *_: object) -> None:
        reject("D18", where, f"declares a document type, {name[:40]!r}")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = declared
    try:
        parser.Parse(body, True)  # noqa: FBT003 - whether it is the last part
        return ET.fromstring(body)  # noqa: S314 - no entity is declared, since there is no document type
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError) as error:
        reject("D18", where, f"is not XML: {error}")


def _day(text: str, where: str) -> date:
    match = _DAY.fullmatch(text)
    try:
        if match is None:
            raise ValueError("not dd.mm.yyyy")
        day = date(int(match[3]) + (2000 if len(match[3]) == 2 else 0), int(match[2]), int(match[1]))
        if day < _FIRST_DAY:
            raise ValueError(f"before {_FIRST_DAY}")
        return day
    except ValueError as error:
        reject("D18", where, f"the date is {text[:20]!r}: {error}")


# --- an exchange: {"symbol": "USDT/KZT", "price": "474.10", "time": 1780000000} -------------


def _read_exchange(body: bytes, where: str, asset: str, decimals: int) -> Told:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a number")

    check_depth("D18", where, body)
    try:
        told = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reject("D18", where, f"is neither XML nor JSON: {error}")
    if isinstance(told, dict) and told.get("kind") == _FEED:
        return _read_feed(body, told, where, decimals)
    symbol = f"{asset}/{rules.TENGE}"
    if not isinstance(told, dict) or told.get("symbol") != symbol:
        reject("D18", where, f"is not about {symbol}")
    price, time_s = told.get("price"), told.get("time")
    if not isinstance(price, str):
        reject("D18", where, f"the price is {type(price).__name__}, a decimal string is needed")
    if type(time_s) is not int or not 0 <= time_s < rules.TIME_LIMIT_S:
        reject("D18", where, "the time is not Unix seconds")
    return Told(_decimal(price, where) * 100 / 10**decimals, time_s, is_official=False)


# --- a feed on a chain, as the gateway read it (gateway/rails/evm_feed.py) ------------------------


def _read_feed(body: bytes, told: dict[str, Any], where: str, decimals: int) -> Told:
    """A feed's answer in tenge, or through an official rate; it does not say of which asset."""
    if json.dumps(told, sort_keys=True, separators=(",", ":")).encode() != body:
        reject("D18", where, "has spaces or members out of order")

    def read(thing: object, name: str, below: int = 1 << 128, least: int = 1) -> int:
        found = number("D18", where, thing, name, below)
        if found < least:
            reject("D18", where, f"{name} is {found}, at least {least}")
        return found

    price = Fraction(read(told, "answer"), 10 ** read(told, "decimals", _FEED_DECIMALS + 1, 0)) * 100
    through, through_s = told.get("through"), None
    if through is not None:
        price *= Fraction(read(through, "numerator"), read(through, "denominator")) / 100
        through_s = read(through, "time", rules.TIME_LIMIT_S)
    updated_s = read(told, "updatedAt", rules.TIME_LIMIT_S)
    return Told(price / 10**decimals, updated_s, is_official=False, late_s=FEED_LATE_S, through_s=through_s)


def _decimal(text: str, where: str) -> Fraction:
    if not _DECIMAL.fullmatch(text) or Fraction(text) == 0:
        reject("D18", where, f"the price is {text[:40]!r}")
    return Fraction(text)
