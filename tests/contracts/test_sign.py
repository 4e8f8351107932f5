"""What a seat is asked to sign is read again, hashed again and told in words, on a second device (field failure 58)."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account as Wallet
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from gateway.budget.explain import LANGUAGES, explain_typed
from gateway.budget.typed_data import (
    SIGNED,
    Typed,
    message_hash,
    read_record_json,
    read_typed_data,
    typed_data,
)
from gateway.cli import app
from ledger.records import (
    KINDS,
    Invalid,
    Order,
    Record,
    approve_digest,
    as_json,
    decode,
    domain_separator,
    encode,
    hash_struct,
    withdraw_digest,
)
from tests.city import ACT, Key, digest

CHAIN_ID, COUNCIL_PLACE, LEDGER_ID = 31337, Key("council contract").address, digest("ledger")
UNTIL_S = 1_800_000_000
PLACE = CHAIN_ID, COUNCIL_PLACE, LEDGER_ID
ORDER = Order(1_790_000_000, "order-1", ACT, ACT, ACT, "treasury", 1_234_567, "builder")
AUTHORITY = Key("authority")


def some(kind: type[Record]) -> Record:
    """A record of a kind with something in each member."""
    values: dict[str, Any] = {"name": "a-name", "hash": ACT, "address": AUTHORITY.address}
    return kind(*(values.get(form, 1) for _, _, form in kind.members))


@pytest.mark.parametrize("kind", SIGNED, ids=lambda kind: str(kind.__name__))
def test_our_hashes_of_every_kind_are_those_of_another_implementation(kind: type[Record]) -> None:
    record = some(kind)
    asked = typed_data(record, UNTIL_S, *PLACE)
    typed = read_typed_data(json.loads(json.dumps(asked)))
    assert typed.record == record
    theirs = encode_typed_data(full_message=asked)
    assert theirs.header == typed.domain == domain_separator(*PLACE)
    assert theirs.body == message_hash(typed)
    assert typed.digest == approve_digest(typed.domain, record, UNTIL_S)
    signed = Wallet.sign_typed_data(AUTHORITY.secret.secret, full_message=asked)
    assert signed.message_hash == typed.digest
    shown = json.loads(json.dumps(as_json(record)))
    assert shown["record"] == kind.__name__
    if kind not in KINDS:
        # What is shown to an anchor alone is no record of a ledger.
        with pytest.raises(Invalid, match=r"^E1 at "):
            read_record_json(shown)
        with pytest.raises(Invalid, match=r"^E1 at "):
            decode(encode(record))
        return
    assert read_record_json(shown) == record
    # As files had it before `record` said what a record is; an Account's own kind stood in its place.
    told = shown.pop("record")
    assert read_record_json({"kind": told} | shown) == record


def tampered(change: str) -> Any:
    """The same order with one thing changed after it was shown."""
    asked: Any = copy.deepcopy(typed_data(ORDER, UNTIL_S, *PLACE))
    match change:
        case "another payee":
            asked["message"]["record"]["payee"] = "0x" + b"thief".ljust(32, b"\0").hex()
        case "a thousandfold":
            asked["message"]["record"]["amount"] = "1234567000"
        case "another contract":
            asked["domain"]["verifyingContract"] = "0x" + Key("thief").address.hex()
        case "another chain":
            asked["domain"]["chainId"] = "1"
        case "for ever":
            asked["message"]["validUntil"] = str(2**64 - 1)
    return asked


@pytest.mark.parametrize(
    "change", ["another payee", "a thousandfold", "another contract", "another chain", "for ever"]
)
def test_ff58_what_was_changed_after_it_was_shown_has_other_words_and_another_hash(change: str) -> None:
    shown = read_typed_data(typed_data(ORDER, UNTIL_S, *PLACE))
    signed = read_typed_data(tampered(change))
    assert signed.digest != shown.digest
    for language in LANGUAGES:
        told, expected = explain_typed(signed, language), explain_typed(shown, language)
        assert [one for one, other in zip(told, expected, strict=True) if one != other][:-1]


def hidden(where: str) -> Any:
    """An order with something that its words would not say."""
    asked: Any = copy.deepcopy(typed_data(ORDER, UNTIL_S, *PLACE))
    match where:
        case "a member of the type":
            asked["types"]["Order"].append({"name": "tip", "type": "uint256"})
        case "a member of the message":
            asked["message"]["record"]["tip"] = "1"
        case "a type beside it":
            asked["types"]["Tip"] = [{"name": "amount", "type": "uint256"}]
        case "two members in another order":
            order = asked["types"]["Order"]
            order[-1], order[-2] = order[-2], order[-1]
        case "another primary type":
            asked["primaryType"] = "Order"
        case "a name that is none of ours":
            asked["domain"]["name"] = "Permit2"
        case "a float":
            asked["message"]["record"]["amount"] = 1234567.0
        case "no record":
            del asked["message"]["record"]
        case "a domain without a ledger":
            del asked["domain"]["salt"]
            asked["types"]["EIP712Domain"].pop()
        case "nothing at all":
            return []
    return asked


@pytest.mark.parametrize(
    "where",
    [
        "a member of the type",
        "a member of the message",
        "a type beside it",
        "two members in another order",
        "another primary type",
        "a name that is none of ours",
        "a float",
        "no record",
        "a domain without a ledger",
        "nothing at all",
    ],
)
def test_ff58_what_the_words_would_not_say_is_refused(where: str) -> None:
    with pytest.raises(Invalid, match=r"^(FF58|E2) at "):
        read_typed_data(hidden(where))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["types", "primaryType", "domain", "message", "record", "amount", "Order"]))
def test_whatever_is_brought_is_read_or_refused(value: Any, where: str) -> None:
    asked: Any = copy.deepcopy(typed_data(ORDER, UNTIL_S, *PLACE))
    place = {"record": asked["message"], "amount": asked["message"]["record"], "Order": asked["types"]}
    place.get(where, asked)[where] = value
    for content in (asked, value):
        with suppress(Invalid):
            read_typed_data(content)


def test_a_withdrawal_is_told_with_what_it_takes_back() -> None:
    asked: Any = typed_data(ORDER, UNTIL_S, *PLACE)
    del asked["types"]["Order"], asked["types"]["Approve"]
    asked["types"]["Withdraw"] = [{"name": "approves", "type": "bytes32"}]
    asked |= {"primaryType": "Withdraw", "message": {"approves": f"0x{hash_struct(ORDER).hex()}"}}
    typed = read_typed_data(asked)
    assert typed.digest == withdraw_digest(typed.domain, hash_struct(ORDER))
    assert encode_typed_data(full_message=asked).body == message_hash(typed)
    for language in LANGUAGES:
        assert f"0x{hash_struct(ORDER).hex()}" in explain_typed(typed, language)[1]


# --- the command ------------------------------------------------------------------------------------


def run(*arguments: str, piped: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["sign", *arguments], input=piped, catch_exceptions=False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_command_explains_typed_data_a_record_and_its_bytes(language: str, tmp_path: Path) -> None:
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps(typed_data(ORDER, UNTIL_S, *PLACE)))
    told = run(str(asked), "--explain", "--language", language)
    typed = read_typed_data(json.loads(asked.read_text()))
    assert told.exit_code == 0
    assert told.stdout.splitlines() == explain_typed(typed, language)
    for piped in (json.dumps(as_json(ORDER)).encode(), encode(ORDER), b"0x" + encode(ORDER).hex().encode()):
        words = run("-", "--explain", "--language", language, piped=piped).stdout
        assert f"0x{hash_struct(ORDER).hex()}" in words
        assert "1 234 567" in words


def test_ff58_a_hash_that_the_wallet_shows_and_this_does_not_find_is_refused(tmp_path: Path) -> None:
    asked, key = tmp_path / "asked.json", tmp_path / "key"
    asked.write_text(json.dumps(typed_data(ORDER, UNTIL_S, *PLACE)))
    key.write_text(AUTHORITY.secret.to_hex())
    typed = read_typed_data(typed_data(ORDER, UNTIL_S, *PLACE))
    for shown in (typed.digest, message_hash(typed), hash_struct(ORDER)):
        assert run(str(asked), "--explain", "--expect", f"0x{shown.hex()}").exit_code == 0
    with pytest.raises(Invalid, match="FF58 at expect"):
        run(str(asked), "--key", str(key), "--expect", f"0x{ACT.hex()}")


def test_the_command_signs_what_it_explained(tmp_path: Path) -> None:
    asked, key = tmp_path / "asked.json", tmp_path / "key"
    asked.write_text(json.dumps(typed_data(ORDER, UNTIL_S, *PLACE)))
    key.write_text(AUTHORITY.secret.to_hex())
    told = json.loads(run(str(asked), "--key", str(key)).stdout.splitlines()[-1])
    expected = AUTHORITY.approve(domain_separator(*PLACE), ORDER, UNTIL_S, 0)
    assert told["signer"] == f"0x{expected.signer.hex()}"
    assert (int(told["v"]), told["r"], told["s"]) == (
        expected.v,
        f"0x{expected.r.hex()}",
        f"0x{expected.s.hex()}",
    )
    with pytest.raises(Invalid, match="key at sign"):
        run(str(asked))
    key.write_text("not a key")
    with pytest.raises(Invalid, match="is no keystore"):
        run(str(asked), "--key", str(key))


def test_what_is_typed_has_its_parts() -> None:
    typed = read_typed_data(typed_data(ORDER, UNTIL_S, *PLACE))
    assert typed == Typed(ORDER, hash_struct(ORDER), UNTIL_S, *PLACE, domain_separator(*PLACE), typed.digest)
