"""Artifacts of the contracts, transactions on a chain, and what a refusal says.

A refusal of a contract is Invalid with rule "C:<its error>" and the error's numbers; a node that does not
answer is Unavailable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, cast

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import (
    ContractLogicError,
    ContractPanicError,
    MismatchedABI,
    Web3Exception,
    Web3ValidationError,
)
from web3.types import TxParams, TxReceipt, Wei

from ledger.records import (
    Invalid,
    Unavailable,
    decode_name,
    keccak256,
    reject,
)

RECEIPT_TIMEOUT_S = 120
# In the order of deployment, which is what their addresses follow from.
CONTRACTS = {
    "council": "Council",
    "anchor": "LedgerAnchor",
    "watchdog": "Watchdog",
    "treasury": "Treasury",
    "router": "PaymentRouter",
}


@cache
def load_artifact(name: str) -> dict[str, Any]:
    """The committed ABI and bytecode of a contract."""
    text = files("contracts").joinpath("artifacts", f"{name}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def transact(w3: Web3, account: LocalAccount, asked: TxParams, where: str) -> TxReceipt:
    """Try, sign here, send, wait; a refusal costs no gas unless the chain moved in between."""
    asked = {**asked, "from": account.address, "chainId": w3.eth.chain_id}
    w3.eth.call(asked)
    base_fee = w3.eth.get_block("latest").get("baseFeePerGas", Wei(0))
    tip = w3.eth.max_priority_fee
    filled: TxParams = {
        **asked,
        "nonce": w3.eth.get_transaction_count(account.address, "pending"),
        "maxFeePerGas": Wei(2 * base_fee + tip),
        "maxPriorityFeePerGas": tip,
        "value": asked.get("value", Wei(0)),
        "type": 2,
    }
    raw = account.sign_transaction(cast("dict[str, Any]", filled)).raw_transaction
    sent = w3.eth.send_raw_transaction(raw)
    receipt = w3.eth.wait_for_transaction_receipt(sent, timeout=RECEIPT_TIMEOUT_S, poll_latency=0.05)
    if receipt["status"] != 1:
        # Somebody was faster: ask again after that block. If nothing refuses any more, gas decided.
        w3.eth.call(asked, receipt["blockNumber"])
        reject(
            "C:Reverted",
            where,
            f"transaction {sent.to_0x_hex()} used {receipt['gasUsed']} of {asked['gas']} gas and reverted",
        )
    return receipt


@contextmanager
def answering(where: str) -> Iterator[None]:
    """Turn what web3 raises into the two answers that everybody here knows."""
    try:
        yield
    except ContractPanicError as error:
        reject("C:Panic", where, str(error))
    except ContractLogicError as error:
        rule, why = explain(error.data)
        reject(rule, where, why or str(error))
    except (MismatchedABI, Web3ValidationError) as error:
        reject("C:arguments", where, " ".join(str(error).split())[:500])
    except (Web3Exception, RequestException, OSError, TimeoutError) as error:
        raise Unavailable("chain", f"{where}: {error}") from error


@cache
def _errors() -> dict[bytes, tuple[str, list[dict[str, str]]]]:
    """Name and members of every custom error, by its first four bytes."""
    found: dict[bytes, tuple[str, list[dict[str, str]]]] = {}
    for artifact in (*CONTRACTS.values(), "DepositAddress", "TestToken"):
        for entry in load_artifact(artifact)["abi"]:
            if entry["type"] == "error":
                types = ",".join(member["type"] for member in entry["inputs"])
                found[keccak256(f"{entry['name']}({types})".encode())[:4]] = entry["name"], entry["inputs"]
    return found


def explain(data: object) -> tuple[str, str]:
    """The rule and the sentence of a contract's refusal: its error's name, then each member and its value."""
    match = re.search("0x[0-9a-fA-F]*", str(data))
    raw = bytes.fromhex(match.group()[2:]) if match else b""
    name, members = _errors().get(raw[:4], ("", []))
    if not name:
        return "C:Reverted", f"reverted with 0x{raw.hex()}" if raw else ""
    try:
        values = abi_decode([member["type"] for member in members], raw[4:])
    except DecodingError:
        return f"C:{name}", f"reverted with 0x{raw.hex()}"
    shown = [
        f"{member['name'] or member['type']} {_show(value)}"
        for member, value in zip(members, values, strict=True)
    ]
    return f"C:{name}", ", ".join(shown) or name


def _show(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return decode_name(value)
    except Invalid:
        return f"0x{value.hex()}"
