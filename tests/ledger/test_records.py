"""The one encoding: it round-trips, it is canonical, and a wallet hashes the same (L1)."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import records
from ledger.records import (
    KINDS,
    WORD,
    Approval,
    Invalid,
    Record,
    Seat,
    Transfer,
    approve_digest,
    as_json,
    decode,
    decode_name,
    domain_separator,
    encode,
    encode_name,
    hash_struct,
    keccak256,
    member_name,
    rules_hash,
)
from tests import city

with warnings.catch_warnings():
    # The wallet's library brings its own warnings; they are no finding about us.
    warnings.simplefilter("ignore")
    from eth_account import Account as Wallet
    from eth_account.messages import encode_typed_data

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=31)


def values(solidity: str, form: str) -> st.SearchStrategy[Any]:
    """All values of a member."""
    match form:
        case "name":
            return NAMES
        case "hash":
            return st.binary(min_size=32, max_size=32)
        case "address":
            return st.binary(min_size=20, max_size=20)
        case "amount":
            return st.integers(1, records.AMOUNT_LIMIT - 1)
        case _:
            return st.integers(0, (1 << int(solidity.removeprefix("uint"))) - 1)


def of_kind(kind: type[Record]) -> st.SearchStrategy[Record]:
    """All records of a kind."""
    return st.builds(kind, **{name: values(solidity, form) for name, solidity, form in kind.members})


R = TypeVar("R", bound=Record)
ANY = st.one_of([of_kind(kind) for kind in KINDS])


def sample(kind: type[R]) -> R:
    """One record of a kind, with every word different."""
    made: dict[str, Any] = {}
    for position, (name, solidity, form) in enumerate(kind.members, 1):
        filled = {
            "name": f"{name}-{position}",
            "hash": city.digest(f"{kind.__name__} {name}"),
            "address": city.Key(f"{kind.__name__} {name}").address,
        }
        made[name] = filled.get(form, 200 + position if solidity == "uint8" else 1_000 + position)
    return kind(**made)


def read(data: bytes) -> Record | Invalid:
    """What the bytes say, or how they are refused."""
    try:
        return decode(data)
    except Invalid as refused:
        return refused


@given(ANY)
def test_what_is_encoded_decodes_to_the_same(record: Record) -> None:
    assert decode(encode(record)) == record


@given(ANY, ANY)
def test_two_records_have_one_hash_only_when_they_are_equal(one: Record, other: Record) -> None:
    assert (hash_struct(one) == hash_struct(other)) == (one == other and type(one) is type(other))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_flipped_bit_is_refused_or_says_something_else(kind: type[Record]) -> None:
    record = sample(kind)
    data = encode(record)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        other = read(bytes(flipped))
        if isinstance(other, Invalid):
            assert other.rule in {"E1", "E2", "E3", "E4"}
        else:
            assert other != record
            assert encode(other) == flipped


@given(st.binary(max_size=400))
def test_whatever_bytes_come_are_refused_or_canonical(data: bytes) -> None:
    record = read(data)
    if isinstance(record, Invalid):
        assert record.rule == "E1"
    else:
        assert encode(record) == data


@given(st.sampled_from(KINDS), st.data())
def test_whatever_words_come_are_refused_or_canonical(kind: type[Record], data: st.DataObject) -> None:
    words = st.one_of(
        st.binary(min_size=WORD, max_size=WORD),
        st.integers(0, 300).map(lambda value: value.to_bytes(WORD, "big")),
        st.binary(max_size=20).map(lambda value: value.rjust(WORD, b"\0")),
        NAMES.map(encode_name),
    )
    joined = kind.type_hash + b"".join(data.draw(words) for _ in kind.members)
    record = read(joined)
    if isinstance(record, Invalid):
        assert record.rule in {"E2", "E3", "E4"}
        assert record.where.startswith(kind.__name__ + ".")
    else:
        assert encode(record) == joined


@given(st.binary(min_size=WORD, max_size=WORD))
def test_a_name_word_is_refused_or_comes_back(word: bytes) -> None:
    try:
        assert encode_name(decode_name(word)) == word
    except Invalid as refused:
        if refused.rule != "E3":
            raise


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"amount": 0}, "E4"),
        ({"amount": -1}, "E4"),
        ({"amount": 1 << 128}, "E4"),
        ({"amount": True}, "E2"),
        ({"amount": 1.0}, "E2"),
        ({"time": -1}, "E2"),
        ({"time": 1 << 64}, "E2"),
        ({"id": b"short"}, "E2"),
        ({"id": "x" * 32}, "E2"),
        ({"debit": ""}, "E3"),
        ({"debit": "x" * 32}, "E3"),
        ({"debit": "two words"}, "E3"),
        ({"debit": "қазына"}, "E3"),
    ],
)
def test_a_member_that_does_not_fit_is_not_encoded(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(Invalid) as refused:
        encode(dataclasses.replace(sample(Transfer), **changed))
    assert refused.value.rule == rule
    assert refused.value.where == f"Transfer.{next(iter(changed))}"


def test_an_address_of_another_length_is_not_encoded() -> None:
    with pytest.raises(Invalid, match=r"E2 at Seat\.holder"):
        encode(dataclasses.replace(sample(Seat), holder=bytes(21)))


def test_no_two_kinds_have_one_type_hash() -> None:
    assert len({kind.type_hash for kind in KINDS} | {kind.approve_type_hash for kind in KINDS}) == 2 * len(
        KINDS
    )


def test_only_static_words_are_members() -> None:
    types = {solidity for kind in KINDS for _, solidity, _ in kind.members}
    assert types == {"bytes32", "address", "uint8", "uint16", "uint64", "uint128", "uint256"}
    assert all(kind.members[0] == ("time", "uint64", "uint") for kind in KINDS)


# --- what a wallet makes of it ------------------------------------------------------


def as_wallet_sees(record: Record, valid_until: int | None = None) -> dict[str, Any]:
    """The EIP-712 message as JSON for a wallet: the record alone, or an approval of it."""
    kind = type(record).__name__
    plain = {member_name(name): getattr(record, name) for name, _, _ in record.members}
    for name, _, form in record.members:
        value = getattr(record, name)
        if form == "name":
            plain[member_name(name)] = encode_name(value)
        elif form == "address":
            plain[member_name(name)] = "0x" + value.hex()
    types: dict[str, Any] = {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
            {"name": "verifyingContract", "type": "address"},
            {"name": "salt", "type": "bytes32"},
        ],
        kind: [{"name": member_name(name), "type": solidity} for name, solidity, _ in record.members],
    }
    message: dict[str, Any] = plain
    if valid_until is not None:
        types["Approve"] = [{"name": "record", "type": kind}, {"name": "validUntil", "type": "uint64"}]
        message = {"record": plain, "validUntil": valid_until}
    return {
        "types": types,
        "primaryType": kind if valid_until is None else "Approve",
        "domain": {
            "name": "Qazyna",
            "version": "1",
            "chainId": city.CHAIN_ID,
            "verifyingContract": "0x" + city.COUNCIL_CONTRACT.hex(),
            "salt": city.digest("ledger"),
        },
        "message": message,
    }


DOMAIN = domain_separator(city.CHAIN_ID, city.COUNCIL_CONTRACT, city.digest("ledger"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_wallet_hashes_and_signs_each_kind_as_the_ledger_does(kind: type[Record]) -> None:
    record = sample(kind)
    alone = encode_typed_data(full_message=as_wallet_sees(record))
    assert (alone.header, alone.body) == (DOMAIN, hash_struct(record))
    approval = encode_typed_data(full_message=as_wallet_sees(record, 1_800_000_000))
    digest = keccak256(b"\x19" + approval.version + approval.header + approval.body)
    assert digest == approve_digest(DOMAIN, record, 1_800_000_000)


@given(ANY)
def test_a_wallet_hashes_any_record_as_the_ledger_does(record: Record) -> None:
    assert encode_typed_data(full_message=as_wallet_sees(record)).body == hash_struct(record)


def test_a_wallets_signature_is_the_approval_that_the_ledger_takes() -> None:
    log = city.registered()
    project = log.state.proposals[log.state.project_hashes["water-main"]].record
    waits = log.state.proposals[log.add(dataclasses.replace(project, project="second"))].record  # type: ignore[call-arg]
    key, until = city.COUNCIL[0], log.now + 60
    signed = Wallet.sign_typed_data(key.secret.secret, full_message=as_wallet_sees(waits, until))
    r, s = (value.to_bytes(WORD, "big") for value in (signed.r, signed.s))
    log.add(Approval(0, hash_struct(waits), key.address, until, signed.v, r, s))
    assert list(log.state.proposals[hash_struct(waits)].approvals) == [key.address]


def test_people_are_shown_every_member_and_no_float() -> None:
    shown = as_json(sample(Transfer))
    assert list(shown) == ["record", *(member_name(name) for name, _, _ in Transfer.members)]
    assert {type(value) for value in shown.values()} == {str}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_people_are_told_what_every_record_is_and_lose_none_of_its_members(kind: type[Record]) -> None:
    record = sample(kind)
    shown = as_json(record)
    assert shown.pop("record") == kind.__name__
    said = [getattr(record, name) for name, _, _ in kind.members]
    assert [shown[member_name(name)] for name, _, _ in kind.members] == [
        f"0x{value.hex()}" if isinstance(value, bytes) else str(value) for value in said
    ]
    assert len(shown) == len(kind.members)


def test_the_hash_of_the_rule_files_depends_on_each_and_on_their_order() -> None:
    hashes = {
        rules_hash(files)
        for files in ([b"a", b"b", b"c"], [b"b", b"a", b"c"], [b"ab", b"", b"c"], [b"a", b"b"])
    }
    assert len(hashes) == 4
