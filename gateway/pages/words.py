"""The pages' languages: their words, and how each writes amounts, numbers and days. Integers only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from babel.dates import format_date
from fastapi import Request

from gateway.kz import business_date, format_tenge
from ledger.rules import TENGE

# The first is the state language, and what is spoken to who names none of them.
LANGUAGES = {"kk": "Қазақша", "ru": "Русский", "en": "English"}
COOKIE = "lang"
# What the ledger's rules are about, and the gateway's (P) and its files' (T), by their letters.
_FAMILIES = frozenset(
    ("A", "B", "C", "E", "F", "G", "H", "I", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "V", "Y")
)
NO_BREAK = "\u00a0"
_ALMATY = ZoneInfo("Asia/Almaty")
# Where thousands end and units begin, as CLDR has it.
_MARKS = {"kk": (NO_BREAK, ","), "ru": (NO_BREAK, ","), "en": (",", ".")}


@cache
def load(language: str) -> dict[str, str]:
    """All words of a language."""
    text = files("gateway.pages").joinpath("locales", f"{language}.json").read_text("utf-8")
    words: dict[str, str] = json.loads(text)
    return words


@dataclass(frozen=True)
class Tongue:
    """One language."""

    code: str

    def __call__(self, key: str, **values: object) -> str:
        """The words of a key, with values put in; a key that is missing is our bug."""
        text = load(self.code)[key]
        return text.format(**values) if values else text

    def name(self, space: str, key: str) -> str:
        """The name of something that the ledger calls by an id; the id itself where there is none."""
        return load(self.code).get(f"{space}.{key}", key)

    def reason(self, rule: str, where: str = "") -> str:
        """Why something was refused, in this language: of the rule and place, the rule, or the rule's family.

        What the program says to programs (`why`) is English, and stands small beside it, for support.
        """
        words, family = load(self.code), rule.rstrip("0123456789")
        if rule.startswith("C:"):
            return words["reason.contract"]
        if f"reason.{rule}.{where}" in words:
            return words[f"reason.{rule}.{where}"]
        kind = rule if f"reason.{rule}" in words else family if family in _FAMILIES else "other"
        return words[f"reason.{kind}"]

    def group(self, prefix: str) -> str:
        """The words of a prefix as JSON, for a script."""
        words = {
            key.removeprefix(prefix): text for key, text in load(self.code).items() if key.startswith(prefix)
        }
        return json.dumps(words, ensure_ascii=False)

    def number(self, value: int) -> str:
        """A whole number with its thousands apart."""
        return f"{value:,}".replace(",", _MARKS[self.code][0])

    def amount(self, minor: int, asset: str, decimals: int) -> str:
        """An amount of base units with its asset."""
        if asset == TENGE:
            return format_tenge(minor, self.code)
        whole, _, part = plain(abs(minor), decimals).partition(".")
        mark = _MARKS[self.code][1] if part else ""
        sign = "-" if minor < 0 else ""
        return f"{sign}{self.number(int(whole))}{mark}{part}{NO_BREAK}{asset}"

    def quantity(self, value: int, decimals: int) -> str:
        """A number with as many decimals as it needs."""
        whole, _, part = plain(value, decimals).partition(".")
        part = part.rstrip("0")
        return f"{whole}{_MARKS[self.code][1]}{part}" if part else whole

    def share(self, part: int, whole: int) -> str:
        """How much of something, in hundredths of a percent where it is little, rounded down."""
        parts = part * 10_000 // whole if whole else 0
        shown = self.quantity(parts // 100 * 100 if parts >= 1_000 else parts, 2)
        least = f"<0{_MARKS[self.code][1]}01"
        return self("rate.percent", percent=least if part and not parts else shown)

    def tenge(self, tiyn: int) -> str:
        """An amount of tenge."""
        return format_tenge(tiyn, self.code)

    def day(self, time_s: int) -> str:
        """The business day in Almaty."""
        return format_date(business_date(time_s), "long", locale=self.code)

    def day_of(self, day: date) -> str:
        """A day of the calendar."""
        return format_date(day, "long", locale=self.code)

    def month(self, day: date) -> str:
        """A month of the calendar."""
        return format_date(day, "LLLL y", locale=self.code)

    def moment(self, time_s: int) -> str:
        """Day and minute in Almaty."""
        day = self.day(time_s)  # First: it refuses a machine whose time zones are too old.
        return f"{day}, {datetime.fromtimestamp(time_s, _ALMATY):%H:%M}"

    def duration(self, seconds: int) -> str:
        """How long, in the largest unit of which there are two or more, rounded down."""
        for key, size in (("time.d", 86_400), ("time.h", 3600), ("time.min", 60)):
            if seconds >= 2 * size:
                return self(key, count=self.number(seconds // size))
        return self("time.s", count=self.number(seconds))

    def rate(self, numerator: int, denominator: int, decimals: int) -> str:
        """What one whole unit costs in tenge, to a hundredth of a tiyn, rounded half up."""
        scaled = (2 * numerator * 10 ** (decimals + 2) + denominator) // (2 * denominator)
        whole, _, part = plain(scaled, 4).partition(".")
        return f"{self.number(int(whole))}{_MARKS[self.code][1]}{part}{NO_BREAK}{TENGE}"


def plain(minor: int, decimals: int) -> str:
    """An amount as a wallet or a bank's form takes it: digits and a point."""
    digits = str(abs(minor)).rjust(decimals + 1, "0")
    text = f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
    return f"-{text}" if minor < 0 else text


def tongue_of(request: Request) -> Tongue:
    """The language of a request: what it asks for, what its cookie remembers, what its browser prefers."""
    for wanted in (request.query_params.get("lang"), request.cookies.get(COOKIE)):
        if wanted in LANGUAGES:
            return Tongue(wanted)
    return Tongue(preferred(request.headers.get("accept-language", "")))


def preferred(header: str) -> str:
    """The language that an Accept-Language header likes best (RFC 9110 section 12.5.4)."""
    ranked: list[tuple[int, int, str]] = []
    for place, part in enumerate(header[:500].split(",")):
        tag, _, weight = part.partition(";")
        code = tag.strip().lower().split("-")[0]
        if code in LANGUAGES:
            ranked.append((-_thousandths(weight), place, code))
    usable = [code for weight, _, code in sorted(ranked) if weight < 0]
    return usable[0] if usable else next(iter(LANGUAGES))


def _thousandths(weight: str) -> int:
    """A quality of 0 to 1 with at most three decimals, in thousandths; 1 where there is none."""
    value = weight.strip().lower().removeprefix("q=")
    whole, _, part = value.partition(".")
    if not value:
        return 1000
    if not (whole.isdecimal() and (part or "0").isdecimal() and len(part) <= 3):
        return 0
    return min(int(whole + part.ljust(3, "0")), 1000)
