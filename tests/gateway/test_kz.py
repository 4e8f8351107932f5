"""Facts of Kazakhstan: check digits, accounts, codes, the index, days and amounts as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway import kz
from ledger.audit.papers import TREASURY_BANK_CODE
from ledger.records import Invalid

DIGITS = "0123456789"
eleven_digits = st.text(alphabet=DIGITS, min_size=11, max_size=11)


def refused(rule: str, check: Callable[..., None], *arguments: object) -> str:
    with pytest.raises(Invalid) as caught:
        check(*arguments)
    assert caught.value.rule == rule, caught.value
    return str(caught.value)


@pytest.mark.parametrize(
    "number", ["081240013779", "000440003800", "910740000123", "971240001315", "200840000951"]
)
def test_real_bins_are_accepted(number: str):
    kz.check_bin(number)


def test_an_iin_of_the_second_pass_is_accepted():
    assert kz.check_digit("61080144088") == 2
    kz.check_iin("610801440882")
    assert kz.iin_facts("610801440882") == kz.PersonFacts(date(1961, 8, 1), "female")


def test_a_number_without_a_check_digit_does_not_exist():
    assert kz.check_digit("64051831230") is None
    for last in DIGITS:
        refused("K2", kz.check_iin, "64051831230" + last)


@given(eleven_digits)
def test_each_first_eleven_digits_have_at_most_one_check_digit(first: str):
    good = []
    for last in DIGITS:
        try:
            kz._check_number(first + last, "number")
        except Invalid:
            continue
        good.append(int(last))
    assert good == [kz.check_digit(first)] or (good == [] and kz.check_digit(first) is None)


@given(eleven_digits, st.integers(0, 9), st.sampled_from(DIGITS))
def test_a_single_wrong_digit_is_noticed_in_the_first_pass(first: str, at: int, other: str):
    # Digit 11 has weight 11, which is 0 modulo 11: the first pass does not see it.
    assume(first[at] != other)
    wrong = first[:at] + other + first[at + 1 :]
    one_pass = [sum(int(d) * w for d, w in zip(n, range(1, 12), strict=True)) % 11 for n in (first, wrong)]
    assume(max(one_pass) < 10)
    assert kz.check_digit(first) != kz.check_digit(wrong)


def with_digit(first: str) -> str:
    return f"{first}{kz.check_digit(first)}"


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        ("K1", "08124001377"),
        ("K1", "0812400137790"),
        ("K1", "08124001377٩"),
        ("K1", "081240013779\n"),
        ("K2", "081240013778"),
        ("K3", "610801440882"),
        ("K3", with_digit("08124301377")),
        ("K3", with_digit("08134001377")),
        ("K3", with_digit("08004001377")),
    ],
)
def test_what_is_no_bin_is_refused(rule: str, number: str):
    refused(rule, kz.check_bin, number)


@pytest.mark.parametrize(
    "number",
    [
        "081240013779",
        with_digit("61083244088"),
        with_digit("61130144088"),
        with_digit("61080174088"),
        with_digit("01022940000"),
    ],
)
def test_what_is_no_iin_is_refused(number: str):
    refused("K4", kz.check_iin, number)


def test_the_century_decides_whether_a_leap_day_exists():
    kz.check_iin(with_digit("00022950000"))
    refused("K4", kz.check_iin, with_digit("00022930000"))
    assert kz.iin_facts(with_digit("00022900000")) == kz.PersonFacts(None, None)


def test_a_bin_tells_kind_and_office():
    assert kz.bin_facts("081240013779") == kz.FirmFacts(8, 12, "resident entity", "head")
    assert kz.bin_facts(with_digit("08125200001")).kind == "non-resident entity"
    assert kz.bin_facts(with_digit("08126200001")).office == "representative office"


def test_no_refusal_repeats_the_number_of_a_person():
    for number in ("610801440883", with_digit("61083244088"), "61080144088x"):
        with pytest.raises(Invalid) as caught:
            kz.check_iin(number)
        assert number[:6] not in str(caught.value)


def test_the_treasurys_iban_is_valid_and_at_the_treasury():
    kz.check_iban(kz.TREASURY_IBAN)
    assert kz.iban_bank_code(kz.TREASURY_IBAN) == TREASURY_BANK_CODE
    assert kz.BANKS["070"].bic == "KKMFKZ2A"


@pytest.mark.parametrize(
    ("rule", "iban"),
    [
        ("K5", "KZ24070105KSN000000"),
        ("K5", "KZ24 0701 05KS N000 0000"),
        ("K5", "kz24070105ksn0000000"),
        ("K5", "KZ24070105КSN0000000"),
        ("K5", "DE24070105KSN0000000"),
        ("K5", "KZ24A70105KSN0000000"),
        ("K5", "KZ24070105KSN000000٠"),
        ("K6", "KZ25070105KSN0000000"),
        ("K6", "KZ24070105KSN0000001"),
    ],
)
def test_what_is_no_kazakh_iban_is_refused(rule: str, iban: str):
    refused(rule, kz.check_iban, iban)


accounts = st.from_regex(r"[0-9]{3}[0-9A-Z]{13}", fullmatch=True)


@given(accounts, st.integers(0, 99))
def test_of_a_hundred_check_digits_exactly_one_is_right(account: str, digits: int):
    right = kz.iban_check_digits("KZ", account)
    kz.check_iban(f"KZ{right}{account}")
    if f"{digits:02}" != right:
        refused("K6", kz.check_iban, f"KZ{digits:02}{account}")


@pytest.mark.parametrize(("right", "alias"), [("97", "00"), ("98", "01"), ("02", "99")])
def test_check_digits_that_are_only_equal_modulo_97_are_refused(right: str, alias: str):
    tried = (f"722{number:013}" for number in range(10_000))
    account = next(account for account in tried if kz.iban_check_digits("KZ", account) == right)
    kz.check_iban(f"KZ{right}{account}")
    refused("K6", kz.check_iban, f"KZ{alias}{account}")


@pytest.mark.parametrize("kbk", ["104102", "104302", "104402", "105101"])
def test_codes_of_budget_revenue_are_accepted(kbk: str):
    kz.check_kbk(kbk)
    assert kz.kbk_parts(kbk).category == 1


def test_a_kbk_splits_into_its_parts():
    assert kz.kbk_parts("104302") == kz.BudgetCode(1, 4, 3, 2)


@pytest.mark.parametrize(
    ("rule", "check", "code"),
    [
        ("K7", kz.check_kbk, "504302"),
        ("K7", kz.check_kbk, "10430"),
        ("K7", kz.check_kbk, "10430２"),
        ("K8", kz.check_knp, "91"),
        ("K8", kz.check_knp, "9110"),
        ("K8", kz.check_knp, "91x"),
        ("K9", kz.check_kbe, "10"),
        ("K9", kz.check_kbe, "31"),
        ("K9", kz.check_kbe, "117"),
    ],
)
def test_codes_of_another_shape_are_refused(rule: str, check: Callable[..., None], code: str):
    refused(rule, check, code)


def test_codes_of_payment_orders_are_accepted():
    for knp in ("911", "912"):
        kz.check_knp(knp)
    for kbe in ("11", "17", "19"):
        kz.check_kbe(kbe)


def test_the_index_of_an_unknown_year_is_refused():
    assert kz.mrp(2026) == 432_500
    assert "2027" in refused("K10", kz.mrp, 2027)
    refused("K10", kz.fee_amount, 1000, date(2025, 12, 31))


def test_a_fee_is_rounded_to_the_tiyn_a_half_upwards():
    day = date(2026, 7, 1)
    assert kz.fee_amount(1000, day) == 432_500
    assert kz.fee_amount(1500, day) == 648_750
    assert kz.fee_amount(1, day) == 433  # 432.5
    assert kz.fee_amount(2, day) == 865
    assert kz.fee_amount(3, day) == 1298  # 1297.5
    refused("K11", kz.fee_amount, 0, day)
    refused("K11", kz.fee_amount, -1, day)


@given(st.integers(1, 10**9))
def test_a_fee_is_within_half_a_tiyn_of_its_exact_value(coefficient: int):
    assert abs(kz.fee_amount(coefficient, date(2026, 1, 1)) * 1000 - 432_500 * coefficient) <= 500


def test_the_business_day_begins_at_midnight_in_almaty():
    midnight = kz.day_start_s(date(2026, 7, 1))
    assert midnight == 1_782_846_000
    assert kz.business_date(midnight) == date(2026, 7, 1)
    assert kz.business_date(midnight - 1) == date(2026, 6, 30)


def test_the_retention_end_is_the_first_second_of_2050():
    assert kz.day_start_s(date(2050, 1, 1)) == 2_524_590_000


def test_tenge_are_written_as_each_language_does():
    nb = "\u00a0"
    assert kz.format_tenge(123_456_789, "kk") == f"1{nb}234{nb}567,89{nb}₸"
    assert kz.format_tenge(123_456_789, "ru") == f"1{nb}234{nb}567,89{nb}₸"
    assert kz.format_tenge(123_456_789, "en") == f"KZT{nb}1,234,567.89"
    assert kz.format_tenge(-5, "ru") == f"-0,05{nb}₸"
    assert kz.format_tenge(-5, "en") == f"-KZT{nb}0.05"
    refused("K12", kz.format_tenge, 1, "en_KZ")


@given(st.integers(-(2**128), 2**128), st.sampled_from(["kk", "ru", "en"]))
def test_ff34_no_digit_of_an_amount_is_lost_in_text(amount: int, locale: str):
    text = kz.format_tenge(amount, locale)
    shown = int("".join(character for character in text if character in DIGITS))
    assert shown == abs(amount)
    assert text.startswith("-") == (amount < 0)
