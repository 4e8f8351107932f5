"""Facts of Kazakhstan that money needs: numbers of people and firms, accounts, codes, the index, the day.

Pure: no clock, no I/O. What the law may change is in a dated table with its source; what is not in a table is
refused.

No message here repeats an IIN, a BIN or an account: refusals are logged, and an IIN is personal data.

K1  an IIN or BIN is 12 digits
K2  its check digit is right, by one pass or two
K3  a BIN has 4, 5 or 6 at digit 5, 0 to 2 at digit 6, and a month
K4  an IIN holds a day of the calendar and a known century
K5  an IBAN is KZ, 18 more digits or capital letters, of which the first five are digits
K6  the IBAN's check digits are right
K7  a KBK is six digits, the first from 1 to 4
K8  a KNP is three digits
K9  a KBe is residence 1 or 2 and sector 1 to 9
K10 the monthly calculation index of that year is in the table
K11 a fee's coefficient is a positive number of thousandths
K12 an amount is shown in kk, ru or en
"""

from __future__ import annotations

import decimal
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from babel.numbers import format_currency

from ledger.records import Unavailable, reject

_TWELVE_DIGITS = re.compile(r"[0-9]{12}")
_CENTURIES = (1800, 1900, 2000)
_WEIGHTS = (tuple(range(1, 12)), (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2))


# --- IIN and BIN ---


def check_digit(first_eleven: str) -> int | None:
    """Compute the twelfth digit of an IIN or BIN; None where no such number exists.

    8.3 % of the numbers need the second pass, so a validator with one pass refuses real firms. The first
    pass does not see digit 11 (its weight is 11): a check digit that is right is no proof of a number.
    """
    assert re.fullmatch(r"[0-9]{11}", first_eleven), "eleven digits"
    for weights in _WEIGHTS:
        remainder = sum(int(d) * w for d, w in zip(first_eleven, weights, strict=True)) % 11
        if remainder < 10:
            return remainder
    return None


def _check_number(number: str, where: str) -> None:
    if not _TWELVE_DIGITS.fullmatch(number):
        reject("K1", where, f"12 digits are needed, {len(number)} characters are given")
    expected = check_digit(number[:11])
    if expected is None:
        reject("K2", where, "no number begins with these 11 digits")
    if expected != int(number[11]):
        reject("K2", where, f"the check digit is {number[11]}, computed {expected}")


def check_bin(number: str, where: str = "bin") -> None:
    """Refuse what is not the number of a firm (K1 to K3)."""
    _check_number(number, where)
    if number[4] not in "456":
        reject("K3", where, f"digit 5 of a BIN is 4, 5 or 6, here {number[4]}: 0 to 3 is a person's IIN")
    if number[5] not in "012":
        reject("K3", where, f"digit 6 of a BIN is 0, 1 or 2, here {number[5]}")
    if not 1 <= int(number[2:4]) <= 12:
        reject("K3", where, f"the month of registration is {number[2:4]}")


def check_iin(number: str, where: str = "iin") -> None:
    """Refuse what is not the number of a person (K1, K2, K4)."""
    _check_number(number, where)
    if number[4] in "456":
        reject("K4", where, f"digit 5 of an IIN is 0 to 3, here {number[4]}: that is a firm's BIN")
    if not _possible_birth_dates(number):
        reject("K4", where, "the first seven digits are not a century and a day of the calendar")


def _possible_birth_dates(number: str) -> list[date]:
    # 0 is met for some foreigners and tells no century: the day must exist in one of them.
    digit = int(number[6])
    starts = _CENTURIES if digit == 0 else _CENTURIES[(digit - 1) // 2 : (digit + 1) // 2]
    days = []
    for start in starts:
        try:
            days.append(date(start + int(number[:2]), int(number[2:4]), int(number[4:6])))
        except ValueError:
            continue
    return days


@dataclass(frozen=True)
class PersonFacts:
    """What an IIN says; birth date and sex are None where digit 7 is 0."""

    born: date | None
    sex: Literal["male", "female"] | None


@dataclass(frozen=True)
class FirmFacts:
    """What a BIN says; year is the last two digits of the year of registration."""

    year: int
    month: int
    kind: Literal["resident entity", "non-resident entity", "joint entrepreneur"]
    office: Literal["head", "branch", "representative office"]


def iin_facts(number: str) -> PersonFacts:
    """Read birth date and sex from an IIN."""
    check_iin(number)
    if number[6] == "0":
        return PersonFacts(None, None)
    return PersonFacts(_possible_birth_dates(number)[0], "male" if number[6] in "135" else "female")


def bin_facts(number: str) -> FirmFacts:
    """Read the month of registration and the kind of a firm from a BIN."""
    check_bin(number)
    kinds: dict[str, Literal["resident entity", "non-resident entity", "joint entrepreneur"]]
    kinds = {"4": "resident entity", "5": "non-resident entity", "6": "joint entrepreneur"}
    offices: dict[str, Literal["head", "branch", "representative office"]]
    offices = {"0": "head", "1": "branch", "2": "representative office"}
    return FirmFacts(int(number[:2]), int(number[2:4]), kinds[number[4]], offices[number[5]])


# --- accounts ---


@dataclass(frozen=True)
class Bank:
    """A bank as IBANs and payment orders know it."""

    code: str
    bic: str
    name: str


# As stated by public lists in 2026; a bank that is missing here is shown by its code, never refused.
BANKS = {
    bank.code: bank
    for bank in (
        Bank("070", "KKMFKZ2A", "Treasury Committee, Ministry of Finance"),
        Bank("125", "NBRKKZKX", "National Bank of Kazakhstan"),
        Bank("551", "KSNVKZKA", "Freedom Bank Kazakhstan"),
        Bank("601", "HSBKKZKX", "Halyk Bank"),
        Bank("722", "CASPKZKA", "Kaspi Bank"),
        Bank("856", "KCJBKZKX", "Bank CenterCredit"),
        Bank("948", "EURIKZKA", "Eurasian Bank"),
        Bank("965", "IRTYKZKA", "ForteBank"),
        Bank("998", "TSESKZKA", "Alatau City Bank"),  # A commercial bank, not the city.
    )
}
TREASURY_IBAN = "KZ24070105KSN0000000"  # All taxes and fees of the republic; it does not say the purpose.


def iban_check_digits(country: str, account: str) -> str:
    """Compute the two check digits of an IBAN (ISO 13616, mod 97)."""
    digits = "".join(str(int(character, 36)) for character in account + country + "00")
    return f"{98 - int(digits) % 97:02}"


def check_iban(iban: str, where: str = "iban") -> None:
    """Refuse what is not a Kazakh account number in its one spelling (K5, K6).

    Capital ASCII without spaces: a Cyrillic letter that looks the same is another account.
    """
    if not re.fullmatch(r"KZ[0-9]{5}[0-9A-Z]{13}", iban):
        reject(
            "K5",
            where,
            f"KZ, 5 digits and 13 digits or capital letters are needed, {len(iban)} characters are given",
        )
    # Computed and compared, not only "mod 97 is 1": 00 and 97 would pass for one another.
    expected = iban_check_digits("KZ", iban[4:])
    if iban[2:4] != expected:
        reject("K6", where, f"the check digits are {iban[2:4]}, computed {expected}")


def iban_bank_code(iban: str) -> str:
    """Name the three-digit code of the bank that holds an account."""
    check_iban(iban)
    return iban[4:7]


# --- codes of a payment order ---


@dataclass(frozen=True)
class BudgetCode:
    """The parts of a KBK: category 1 tax, 2 non-tax, 3 sale of fixed capital, 4 transfers."""

    category: int
    budget_class: int
    subclass: int
    specifics: int


def check_kbk(kbk: str, where: str = "kbk") -> None:
    """Refuse what is not a code of budget revenue (K7); whether it is in force is reference data."""
    if not re.fullmatch(r"[1-4][0-9]{5}", kbk):
        reject("K7", where, "six digits are needed, the first from 1 to 4")


def kbk_parts(kbk: str) -> BudgetCode:
    """Split a KBK into category, class, subclass and specifics."""
    check_kbk(kbk)
    return BudgetCode(int(kbk[0]), int(kbk[1:3]), int(kbk[3]), int(kbk[4:]))


def check_knp(knp: str, where: str = "knp") -> None:
    """Refuse what is not a payment purpose code (K8)."""
    if not re.fullmatch(r"[0-9]{3}", knp):
        reject("K8", where, "three digits are needed")


def check_kbe(kbe: str, where: str = "kbe") -> None:
    """Refuse what is not residence (1 or 2) and sector (1 to 9) (K9)."""
    if not re.fullmatch(r"[12][1-9]", kbe):
        reject("K9", where, "residence 1 or 2 and sector 1 to 9 are needed")


# --- the index, fees, days, text ---

# Monthly calculation index by year, in tiyn: the law on the republican budget of that year.
_MRP_TIYN = {2026: 432_500}


def mrp(year: int) -> int:
    """Give the monthly calculation index of a year in tiyn (K10)."""
    if year not in _MRP_TIYN:
        reject(
            "K10", "year", f"no index is known for {year}, only for {', '.join(map(str, sorted(_MRP_TIYN)))}"
        )
    return _MRP_TIYN[year]


def fee_amount(coefficient_thousandths: int, day: date) -> int:
    """Give a fee in tiyn: the index of that day's year times the coefficient (K10, K11).

    Rounded to the whole tiyn, a half upwards. 1500 thousandths is one and a half indices.
    """
    if coefficient_thousandths <= 0:
        reject("K11", "coefficient", f"{coefficient_thousandths} thousandths is not above 0")
    return (mrp(day.year) * coefficient_thousandths + 500) // 1000


_ALMATY = ZoneInfo("Asia/Almaty")
# The first day that all of Kazakhstan began at UTC+5.
FIRST_DAY_OF_ONE_ZONE: Final = date(2024, 3, 1)
_ITS_NOON = datetime(2024, 3, 1, 7, tzinfo=UTC)


def business_date(time_s: int) -> date:
    """Give the day in Almaty on which an instant falls, from Unix seconds.

    Unavailable where the machine's time zones are older than 2024a: they put midnight an hour wrong.
    """
    if _ITS_NOON.astimezone(_ALMATY).utcoffset() != timedelta(hours=5):
        raise Unavailable("time zone data", "Asia/Almaty is not UTC+5 in 2024: install tzdata 2024a or later")
    return datetime.fromtimestamp(time_s, _ALMATY).date()


def day_start_s(day: date) -> int:
    """Give the Unix second at which a day begins in Almaty."""
    return int(datetime(day.year, day.month, day.day, tzinfo=_ALMATY).timestamp())


# en_KZ does not exist in CLDR, and plain `en` joins the code to the number.
_FORMATS = {"kk": ("kk", None), "ru": ("ru_KZ", None), "en": ("en", "¤\u00a0#,##0.00;-¤\u00a0#,##0.00")}


def format_tenge(amount_tiyn: int, locale: str) -> str:
    """Write an amount as people of that language do, with no-break spaces (K12)."""
    if locale not in _FORMATS:
        reject("K12", "locale", f"{locale!r} is not one of kk, ru, en")
    name, pattern = _FORMATS[locale]
    sign, (tenge, tiyn) = "-" if amount_tiyn < 0 else "", divmod(abs(amount_tiyn), 100)
    # Babel rounds in the current context, and 28 digits are too few for 128 bits.
    with decimal.localcontext(prec=60):
        return format_currency(
            decimal.Decimal(f"{sign}{tenge}.{tiyn:02}"), "KZT", format=pattern, locale=name
        )
