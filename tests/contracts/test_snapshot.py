"""What must not change unseen: which calls move value, which instructions the code has, what a payment costs."""

from __future__ import annotations

import json
import re

import pytest
from eth_utils.abi import function_abi_to_4byte_selector
from web3 import HTTPProvider, Web3

from benchmarks import gas
from contracts.transactions import CONTRACTS, load_artifact
from ledger.records import keccak256
from tests import servers

SOURCES = servers.ROOT / "contracts" / "src"
GAS = servers.ROOT / "contracts" / "gas.json"
# A zero byte in a signature or a hash costs 12 less than another.
GAS_TOLERANCE = 150

# Every function that changes anything, by its selector, so that another under the same name is another; those by which
# money can move stand apart. A new one must be entered here.
MOVES: dict[str, dict[str, str]] = {
    "Council": {},
    "LedgerAnchor": {},
    "Watchdog": {},
    "Treasury": {"e5b4cd9c": "execute", "66b3bcb0": "pull", "6be87e6f": "refund", "receive": "receive"},
    "PaymentRouter": {
        "e12519bd": "flush",
        "17b627f3": "pay",
        "6e7e355b": "payNative",
        "1c925a01": "payWithAuthorization",
        "beb0e913": "payWithPermit",
        "290e01c5": "payWithPermit2",
        "66b3bcb0": "pull",
        "receive": "receive",
    },
    "DepositAddress": {"0779afe6": "send", "receive": "receive"},
}
KEEPS: dict[str, dict[str, str]] = {
    "Council": {"b89f2c76": "enact", "8e19899e": "withdraw", "cc8f0b48": "withdraw"},
    "LedgerAnchor": {"b97afb89": "announceResumption", "4a100ad9": "append", "d3048933": "resume"},
    "Watchdog": {
        "7953e1cc": "lift",
        "a7ec826f": "reportKind",
        "ebace66a": "reportOverspent",
        "d025e92a": "reportPayee",
        "801f71ac": "reportRefused",
        "815d65d9": "reportRepublic",
        "23aa7214": "reportTime",
        "e7ca32b0": "reportTwice",
        "8e4d00b2": "reportUnregistered",
    },
    "Treasury": {"5294b062": "dispute", "563b57a8": "resolve", "63c4f031": "stop"},
    "PaymentRouter": {},
    "DepositAddress": {},
}

# Instructions that no contract here may have: other people's code in our place, the end of a contract, and
# transient storage, which compilers have got wrong (field failure 62).
FORBIDDEN = {0xF2: "CALLCODE", 0xF4: "DELEGATECALL", 0xFF: "SELFDESTRUCT", 0x5C: "TLOAD", 0x5D: "TSTORE"}
CALL = 0xF1
MAKES = {0xF0: "CREATE", 0xF5: "CREATE2"}


def instructions(code: bytes) -> list[int]:
    """The instructions of a contract, without what they push."""
    found, at = [], 0
    while at < len(code):
        found.append(code[at])
        at += 1 + (code[at] - 0x5F if 0x60 <= code[at] <= 0x7F else 0)
    return found


def code_of(name: str) -> bytes:
    return bytes.fromhex(load_artifact(name)["deployedBytecode"][2:])


@pytest.mark.parametrize("name", MOVES)
def test_the_selectors_that_change_anything_are_exactly_the_known_ones(name: str) -> None:
    entries = load_artifact(name)["abi"]
    changing = {
        function_abi_to_4byte_selector(entry).hex(): entry["name"]
        for entry in entries
        if entry["type"] == "function" and entry["stateMutability"] not in {"view", "pure"}
    }
    changing |= {
        entry["type"]: entry["type"] for entry in entries if entry["type"] in {"receive", "fallback"}
    }
    assert not MOVES[name].keys() & KEEPS[name].keys()
    assert changing == MOVES[name] | KEEPS[name]
    taking = {entry.get("name", "receive") for entry in entries if entry.get("stateMutability") == "payable"}
    assert taking <= {"receive", "payNative"}


@pytest.mark.parametrize("name", [name for name, moving in MOVES.items() if not moving])
def test_a_contract_by_which_no_money_moves_cannot_call_anybody_but_to_ask(name: str) -> None:
    assert CALL not in instructions(code_of(name))


def test_ff57_what_moves_the_treasurys_money_is_execute_refund_and_pull_and_nothing_else() -> None:
    assert set(MOVES["Treasury"].values()) - {"receive"} == {"execute", "pull", "refund"}
    # Each way out ends in one place, which sends the coin with one instruction and tokens with another.
    assert instructions(code_of("Treasury")).count(CALL) == 2
    source = (SOURCES / "Treasury.sol").read_text(encoding="utf-8")
    assert source.count("Money.trySend") == 1
    assert source.count("_send(") == 3  # its definition, a payment, and a pull


@pytest.mark.parametrize("name", [*CONTRACTS.values(), "DepositAddress"])
def test_ff62_no_contract_has_an_instruction_that_could_hand_it_over(name: str) -> None:
    found = set(instructions(code_of(name)))
    assert not {FORBIDDEN[byte] for byte in found & set(FORBIDDEN)}
    makes = {MAKES[byte] for byte in found & set(MAKES)}
    # The router makes deposit addresses, which are clones at an address that their terms decide.
    assert makes == ({"CREATE2"} if name == "PaymentRouter" else set())


@pytest.mark.parametrize("name", [*CONTRACTS.values(), "DepositAddress"])
def test_ff62_one_compiler_with_the_legacy_pipeline(name: str) -> None:
    built = load_artifact(name)
    assert built["solc"].startswith("0.8.37+")
    assert built["settings"].get("viaIR") in {None, False}
    assert built["settings"]["evmVersion"] == "cancun"
    assert all(
        "pragma solidity 0.8.37;" in each.read_text(encoding="utf-8") for each in SOURCES.rglob("*.sol")
    )
    assert "via_ir = false" in (servers.ROOT / "foundry.toml").read_text(encoding="utf-8")


def test_assembly_stands_in_the_proof_library_alone() -> None:
    assert [
        each.name for each in SOURCES.rglob("*.sol") if "assembly" in each.read_text(encoding="utf-8")
    ] == ["Proofs.sol"]


def test_each_contract_fits_a_block_explorer_and_the_limit_of_the_chain() -> None:
    for name in CONTRACTS.values():
        assert len(code_of(name)) < 24_576


def test_what_is_refused_is_refused_by_an_error_with_a_name_and_what_it_is_about() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.sol")}
    assert not [
        name for name, text in sources.items() if re.search(r"\brequire\(|revert\(\"|revert\(\)", text)
    ]
    errors = [each for text in sources.values() for each in re.findall(r"error (\w+)\(([^)]*)\)", text)]
    assert len(errors) > 100
    assert not [name for name, members in errors if not members]
    # What is more or less than it may be is told with both numbers.
    compared = r"if \(([^()]* [<>]=? [^()]*)\) revert (\w+)\(([^;]*)\);"
    found = [each for text in sources.values() for each in re.findall(compared, text)]
    assert len(found) > 30
    assert not [name for _, name, told in found if "," not in told]


def test_errors_and_events_have_one_meaning_each() -> None:
    seen: dict[bytes, str] = {}
    for name in (*CONTRACTS.values(), "DepositAddress"):
        for entry in load_artifact(name)["abi"]:
            if entry["type"] == "error":
                told = f"{entry['name']}({','.join(member['type'] for member in entry['inputs'])})"
                assert seen.setdefault(keccak256(told.encode())[:4], told) == told


def test_gas_is_what_the_repository_says() -> None:
    kept = json.loads(GAS.read_text(encoding="utf-8"))
    with servers.anvil() as node:
        found = gas.measure(Web3(HTTPProvider(node.url)), node.call)
    assert found.keys() == kept.keys()
    moved = {
        name: (kept[name], round(used))
        for name, used in found.items()
        if abs(used - kept[name]) > GAS_TOLERANCE
    }
    assert not moved, "run `python -m benchmarks.gas --write` if that is meant"


def test_gas_is_within_what_the_issue_allows() -> None:
    kept = json.loads(GAS.read_text(encoding="utf-8"))
    assert not {name: (kept[name], most) for name, most in gas.TARGETS.items() if kept[name] > most}


# What a row of the tables in the documents is about, by how it begins.
ROWS = {
    "native coin": "gas.native",
    "ERC-20 by allowance": "gas.allowance",
    "EIP-3009 signature": "gas.eip3009",
    "Permit2 signature": "gas.permit2",
    "deposit address": "gas.deposit_batch20",
    "anchor from exactly 10^6": "gas.anchor_1e6",
    "anchor at exactly 10^6": "gas.anchor_1e6",
    "anchor from exactly 10^9": "gas.anchor_1e9",
    "anchor at exactly 10^9": "gas.anchor_1e9",
}


@pytest.mark.parametrize("document", ["benchmarks.md", "contracts-gas.md"])
def test_the_gas_tables_of_the_documents_say_what_was_measured_and_asked(document: str) -> None:
    kept = json.loads(GAS.read_text(encoding="utf-8"))
    text = (servers.ROOT / "docs" / document).read_text(encoding="utf-8")
    told = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = next((name for begin, name in ROWS.items() if cells[0].startswith(begin)), "")
        if name and len(cells) == 4:
            told[name] = int(cells[1].split(";")[0].replace(",", "")), int(cells[2].replace(",", ""))
            assert cells[3]
    assert told.keys() == gas.TARGETS.keys()
    assert {name: most for name, (_, most) in told.items()} == gas.TARGETS
    assert not {name: used for name, (used, _) in told.items() if abs(used - kept[name]) > GAS_TOLERANCE}
