"""What must not change unseen: which calls move value, which instructions the code has, what a payment costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from web3 import HTTPProvider, Web3

from benchmarks import gas
from contracts.transactions import CONTRACTS, load_artifact
from ledger.records import keccak256
from tests import servers

GAS = servers.ROOT / "contracts" / "gas.json"
# A zero byte in a signature or a hash costs 12 less than another.
GAS_TOLERANCE = 150

# Every function that changes anything, with whether money can move by it. A new one must be entered here.
MOVES: dict[str, set[str]] = {
    "Council": set(),
    "LedgerAnchor": set(),
    "Watchdog": set(),
    "Treasury": {"execute", "pull", "refund", "receive"},
    "PaymentRouter": {
        "flush",
        "pay",
        "payNative",
        "payWithAuthorization",
        "payWithPermit",
        "payWithPermit2",
        "pull",
        "receive",
    },
    "DepositAddress": {"send", "receive"},
}
KEEPS: dict[str, set[str]] = {
    "Council": {"enact", "withdraw"},
    "LedgerAnchor": {"announceResumption", "append", "resume"},
    "Watchdog": {
        "lift",
        "reportKind",
        "reportOverspent",
        "reportPayee",
        "reportRefused",
        "reportRepublic",
        "reportTime",
        "reportTwice",
        "reportUnregistered",
    },
    "Treasury": {"dispute", "resolve", "stop"},
    "PaymentRouter": set(),
    "DepositAddress": set(),
}

# Instructions that no contract here may have: other people's code in our place, the end of a contract, and
# transient storage, which compilers have got wrong (field failure 62).
FORBIDDEN = {0xF2: "CALLCODE", 0xF4: "DELEGATECALL", 0xFF: "SELFDESTRUCT", 0x5C: "TLOAD", 0x5D: "TSTORE"}
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
def test_the_functions_that_change_anything_are_exactly_the_known_ones(name: str) -> None:
    entries = load_artifact(name)["abi"]
    changing = {
        entry["name"]
        for entry in entries
        if entry["type"] == "function" and entry["stateMutability"] not in {"view", "pure"}
    }
    changing |= {entry["type"] for entry in entries if entry["type"] in {"receive", "fallback"}}
    assert changing == MOVES[name] | KEEPS[name]
    taking = {entry.get("name", "receive") for entry in entries if entry.get("stateMutability") == "payable"}
    assert taking <= {"receive", "payNative"}


def test_ff57_what_moves_the_treasurys_money_is_execute_refund_and_pull_and_nothing_else() -> None:
    assert MOVES["Treasury"] - {"receive"} == {"execute", "pull", "refund"}
    found = instructions(code_of("Treasury"))
    # Each way out ends in one place, which sends the coin with one instruction and tokens with another.
    source = (servers.ROOT / "contracts" / "src" / "Treasury.sol").read_text(encoding="utf-8")
    assert source.count("Money.trySend") == 1
    assert source.count("_send(") == 3  # its definition, a payment, and a pull
    assert 0xF1 in found


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
    sources = Path(servers.ROOT / "contracts" / "src").rglob("*.sol")
    assert all("pragma solidity 0.8.37;" in each.read_text(encoding="utf-8") for each in sources)
    assert "via_ir = false" in (servers.ROOT / "foundry.toml").read_text(encoding="utf-8")


def test_assembly_stands_in_the_proof_library_alone() -> None:
    sources = (servers.ROOT / "contracts" / "src").rglob("*.sol")
    assert [each.name for each in sources if "assembly" in each.read_text(encoding="utf-8")] == ["Proofs.sol"]


def test_each_contract_fits_a_block_explorer_and_the_limit_of_the_chain() -> None:
    for name in CONTRACTS.values():
        assert len(code_of(name)) < 24_576


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
