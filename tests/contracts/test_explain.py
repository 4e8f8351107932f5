"""What is shown to whoever signs: descriptors for wallets, and words for a second device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account._utils.encode_typed_data.encoding_and_hashing import encode_type
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from contracts.bindings import COIN, Quote, plan
from gateway.budget.descriptors import NOBODY, approvals, descriptors
from gateway.budget.explain import LANGUAGES, MEMBERS, SAYS, explain
from gateway.budget.typed_data import SIGNED, read_typed_data, typed_data
from gateway.cli import app
from gateway.relayer.tokens import TokenDomain
from gateway.relayer.typed_data import authorization_asked, permit2_asked
from ledger import records
from ledger.records import Invalid, Order, Resolution, as_json, hash_struct, member_name
from tests import servers
from tests.city import ACT
from tests.contracts.test_sign import some
from tests.contracts.world import LEDGER, RETENTION_END_S, founding

DESCRIPTORS = servers.ROOT / "contracts" / "erc7730"


def test_every_record_and_every_member_has_words_in_three_languages() -> None:
    assert set(SAYS) == {kind.__name__ for kind in SIGNED}
    assert set(MEMBERS) == {name for kind in SIGNED for name, _, _ in kind.members}
    assert all(all(words) for words in (*SAYS.values(), *MEMBERS.values()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_order_is_told_with_all_of_its_words(language: str) -> None:
    order = Order(1_790_000_000, "order-1", ACT, ACT, ACT, "treasury", 1_234_567, "builder")
    lines = explain(order, language)
    assert len(lines) == 1 + 8 + 2
    assert "1 234 567" in "\n".join(lines)
    assert "2026-09-21 14:13:20 UTC (1790000000)" in lines[1]
    assert lines[-1] == f"  hashStruct: 0x{hash_struct(order).hex()}"


def test_two_records_that_differ_in_one_word_are_told_differently() -> None:
    ends, goes_on = (Resolution(1, ACT, outcome, ACT) for outcome in (1, 0))
    for language in LANGUAGES:
        assert explain(ends, language)[3] != explain(goes_on, language)[3]
    with pytest.raises(Invalid, match="language"):
        explain(ends, "de")


def test_a_descriptor_names_every_member_of_what_a_seat_signs() -> None:
    told = json.loads((DESCRIPTORS / "approvals.json").read_text(encoding="utf-8"))
    formats = told["display"]["formats"]
    # Each record, what is shown to an anchor alone, and a signature taken back.
    assert len(formats) == len(records.KINDS) + 2
    taken_back = formats["Withdraw(bytes32 approves)"]
    assert [field["path"] for field in taken_back["fields"]] == taken_back["required"] == ["approves"]
    for kind in SIGNED:
        key = f"Approve({kind.__name__} record,uint64 validUntil){kind.type_string}"
        paths = [field["path"] for field in formats[key]["fields"]]
        assert paths == [*(f"record.{member_name(name)}" for name, _, _ in kind.members), "validUntil"]
        assert set(formats[key]["required"]) == set(paths)


def test_a_descriptor_names_every_member_of_what_a_payer_signs() -> None:
    from contracts.transactions import load_artifact

    told = json.loads((DESCRIPTORS / "payments.json").read_text(encoding="utf-8"))
    functions = {
        entry["name"]: entry
        for entry in load_artifact("PaymentRouter")["abi"]
        if entry["type"] == "function" and entry["name"].startswith("pay")
    }
    members = [member["name"] for member in functions["pay"]["inputs"][0]["components"]]
    assert {key.split("(")[0] for key in told["display"]["formats"]} == set(functions)
    for key, shown in told["display"]["formats"].items():
        paths = [field["path"] for field in shown["fields"]]
        assert paths == shown["required"] == [f"quote.{name}" for name in members]
        others = [member["name"] for member in functions[key.split("(")[0]]["inputs"][1:]]
        assert shown["excluded"] == others
        (amount,) = (field for field in shown["fields"] if field["path"] == "quote.amount")
        assert amount["params"]["nativeCurrencyAddress"] == f"0x{COIN.hex()}"


def leaves(types: dict[str, list[dict[str, str]]], kind: str, where: str = "") -> set[str]:
    """The path of each member of a message that is no struct itself."""
    found: set[str] = set()
    for member in types[kind]:
        base, many = member["type"].removesuffix("[]"), member["type"].endswith("[]")
        path = f"{where}{member['name']}{'.[]' if many else ''}"
        found |= leaves(types, base, f"{path}.") if base in types else {path}
    return found


@pytest.mark.parametrize("way", ["authorizations", "permit2"])
def test_what_a_payer_signs_for_a_relayer_to_bring_is_shown_with_every_member(way: str) -> None:
    quote = Quote(ACT, "fee", bytes(20), b"\1" * 20, 1_000, 300, 2_000_000_000, 7)
    asked = {
        "authorizations": authorization_asked(
            TokenDomain("Tenge", "1", 5, b"\1" * 20), quote, b"\2" * 20, b"\3" * 20
        ),
        "permit2": permit2_asked(5, quote, 30, 9, b"\3" * 20),
    }[way]
    told = descriptors(replace(NOBODY, chain_id=5, tokens=(b"\1" * 20,)))[way]
    place = told["context"]["eip712"]
    domain = asked["domain"]
    assert place["deployments"] == [{"chainId": 5, "address": domain["verifyingContract"]}]
    assert place["domain"].items() <= domain.items()
    assert place["schemas"] == [{"primaryType": asked["primaryType"], "types": asked["types"]}]
    ((key, shown),) = told["display"]["formats"].items()
    # As another implementation writes the type whose hash is signed.
    assert key == encode_type(asked["primaryType"], asked["types"])
    assert {field["path"] for field in shown["fields"]} == leaves(asked["types"], asked["primaryType"])


def test_without_a_token_there_is_no_descriptor_of_authorizations() -> None:
    assert set(descriptors(replace(NOBODY, tokens=()))) == {"approvals", "payments", "permit2"}


def test_descriptors_are_what_the_published_schema_asks_for_and_what_is_in_the_repository(
    vectors: Path,
) -> None:
    schema = json.loads(
        (vectors / "public" / "erc7730" / "descriptor.schema.json").read_text(encoding="utf-8")
    )
    validator = Draft202012Validator(schema)
    validator.check_schema(schema)
    for name, content in descriptors(NOBODY).items():
        assert not [f"{error.json_path}: {error.message}"[:300] for error in validator.iter_errors(content)]
        kept = json.loads((DESCRIPTORS / f"{name}.json").read_text(encoding="utf-8"))
        assert content == kept, "run `python tools/build_descriptors.py`"
        # The schema notices what is missing.
        for member in ("context", "metadata", "display"):
            less = {key: value for key, value in content.items() if key != member}
            assert list(validator.iter_errors(less))


def test_the_types_of_a_descriptor_are_those_that_are_signed() -> None:
    *schemas, last = approvals(NOBODY)["context"]["eip712"]["schemas"]
    for kind, schema in zip(SIGNED, schemas, strict=True):
        asked = typed_data(some(kind), 1, 1, NOBODY.council, ACT)
        assert schema == {"primaryType": "Approve", "types": asked["types"]}
    asked = {**last, "message": {"approves": f"0x{ACT.hex()}"}, "domain": asked["domain"]}
    assert read_typed_data(asked).approves == ACT
    assert last["primaryType"] == "Withdraw"


def test_the_command_writes_descriptors_for_where_a_ledgers_contracts_stand(tmp_path: Path) -> None:
    city = tmp_path / "city.json"
    told = {
        "ledger": f"0x{LEDGER.hex()}",
        "retentionEnd": str(RETENTION_END_S),
        "founding": [as_json(record) for record in founding()],
    }
    city.write_text(json.dumps(told))
    asked = [
        "--to",
        str(tmp_path),
        "--chain-id",
        "1",
        "--owner",
        "Alatau",
        "--url",
        "https://alatau.example/",
    ]
    done = CliRunner().invoke(app, ["contracts", "descriptors", str(city), *asked], catch_exceptions=False)
    assert done.exit_code == 0
    written = json.loads((tmp_path / "payments.json").read_text(encoding="utf-8"))
    place = plan(1, LEDGER, RETENTION_END_S, founding()).places["router"]
    assert written["context"]["contract"]["deployments"] == [{"chainId": 1, "address": f"0x{place.hex()}"}]
    assert written["metadata"]["info"]["legalName"] == "Alatau"
    assert done.stdout == f"descriptors: approvals.json, payments.json, permit2.json in {tmp_path}\n"
    token = f"0x{b'token'.ljust(20, bytes(1)).hex()}"
    run = ["contracts", "descriptors", str(city), *asked]
    done = CliRunner().invoke(app, [*run, "--token", token], catch_exceptions=False)
    assert done.exit_code == 0
    written = json.loads((tmp_path / "authorizations.json").read_text(encoding="utf-8"))
    assert written["context"]["eip712"]["deployments"] == [{"chainId": 1, "address": token}]
    with pytest.raises(Invalid, match=r"descriptors at --token: '0x12' is no address"):
        CliRunner().invoke(app, [*run, "--token", "0x12"], catch_exceptions=False)
