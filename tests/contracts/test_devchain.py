"""The embedded chain: what it keeps, what it answers, and that a node would answer the same."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rlp
from eth_account import Account
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractCustomError, Web3RPCError

from contracts.devchain import GAS_LIMIT, RPC_CODES, RULES, DevChain
from ledger.records import Invalid, Unavailable

ROOT = Path(__file__).resolve().parents[2]
CHAIN_ID = 31_337
START_S = 1_800_000_000
# The last parameter of the methods that answer blocks: transactions by hash, not in full.
HASHES = False
ETHER = 10**18
ACCOUNTS = [Account.from_key(hashlib.sha256(b"devchain account %d" % number).digest()) for number in range(4)]
BALANCES = {account.address: 1_000 * ETHER for account in ACCOUNTS}

# solc 0.8.37, optimizer 200 runs, evmVersion cancun, no metadata:
#
#   contract Probe {
#       error TooLittle(uint256 have, uint256 want);
#       event Noted(address indexed by, uint256 indexed topic, bytes32 indexed tag, uint256 value);
#       event Plain(uint256 value);
#       uint256 public value;
#       function note(uint256 topic, bytes32 tag, uint256 amount) external payable {
#           value = amount;
#           emit Noted(msg.sender, topic, tag, amount);
#           emit Plain(amount);
#       }
#       function refuse(uint256 have) external pure { revert TooLittle(have, 7); }
#       function complain() external pure { require(false, "no"); }
#       function burn() external pure { assert(false); }
#       function loop(Probe next) external { next.loop(next); }
#       function clock() external view returns (uint256, uint256, uint256) {
#           return (block.timestamp, block.number, block.prevrandao);
#       }
#   }
PROBE = bytes.fromhex(
    "6080604052348015600e575f5ffd5b506102ea8061001c5f395ff3fe60806040526004361061006e575f3560e01c806344df"
    "8e701161004c57806344df8e70146100cd57806391ddadf4146100e1578063961b13861461010a578063a60a07b21461011e"
    "575f5ffd5b80630ff4477c14610072578063162d13cc146100935780633fa4f245146100a6575b5f5ffd5b34801561007d57"
    "5f5ffd5b5061009161008c366004610269565b61013d565b005b6100916100a1366004610296565b610195565b3480156100"
    "b1575f5ffd5b506100ba5f5481565b6040519081526020015b60405180910390f35b3480156100d8575f5ffd5b5061009161"
    "020a565b3480156100ec575f5ffd5b506040805142815243602082015244918101919091526060016100c4565b3480156101"
    "15575f5ffd5b50610091610214565b348015610129575f5ffd5b506100916101383660046102bf565b610246565b60405163"
    "03fd11df60e21b81526001600160a01b0382166004820181905290630ff4477c906024015f604051808303815f87803b1580"
    "1561017c575f5ffd5b505af115801561018e573d5f5f3e3d5ffd5b5050505050565b5f819055604051818152829084903390"
    "7f976dcfb3bc13e5a64f608e22a9919e8d2080983b2cbf533ab678a66c3d03f8ae9060200160405180910390a46040518181"
    "527fff0c7f7b06a20eca4250394c03d994f0560c2cc82c3349fe9d95f30ee2d9d2d79060200160405180910390a150505056"
    "5b6102126102d6565b565b60405162461bcd60e51b81526020600482015260026024820152616e6f60f01b60448201526064"
    "015b60405180910390fd5b60405163618bc7c960e01b8152600481018290526007602482015260440161023d565b5f602082"
    "84031215610279575f5ffd5b81356001600160a01b038116811461028f575f5ffd5b9392505050565b5f5f5f606084860312"
    "156102a8575f5ffd5b505081359360208301359350604090920135919050565b5f602082840312156102cf575f5ffd5b5035"
    "919050565b634e487b7160e01b5f52600160045260245ffd"
)
WORD = {"type": "uint256"}
PROBE_ABI: list[Any] = [
    {"type": "function", "name": "note", "stateMutability": "payable", "outputs": [],
     "inputs": [WORD | {"name": "topic"}, {"name": "tag", "type": "bytes32"}, WORD | {"name": "amount"}]},
    {"type": "function", "name": "value", "stateMutability": "view", "inputs": [], "outputs": [WORD | {"name": ""}]},
    {"type": "function", "name": "refuse", "stateMutability": "pure", "inputs": [WORD | {"name": "have"}], "outputs": []},
    {"type": "function", "name": "complain", "stateMutability": "pure", "inputs": [], "outputs": []},
    {"type": "function", "name": "burn", "stateMutability": "pure", "inputs": [], "outputs": []},
    {"type": "function", "name": "loop", "stateMutability": "nonpayable", "outputs": [],
     "inputs": [{"name": "next", "type": "address"}]},
    {"type": "function", "name": "clock", "stateMutability": "view", "inputs": [],
     "outputs": [WORD | {"name": ""}, WORD | {"name": ""}, WORD | {"name": ""}]},
    {"type": "error", "name": "TooLittle", "inputs": [WORD | {"name": "have"}, WORD | {"name": "want"}]},
]  # fmt: skip


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.time_s = START_S

    def __call__(self) -> int:
        return self.time_s


def open_chain(path: Path | None, clock: Clock | None = None, **options: Any) -> DevChain:
    return DevChain(path, BALANCES, clock or Clock(), **options)


@pytest.fixture
def chain() -> Iterator[DevChain]:
    with open_chain(None) as opened:
        yield opened


@pytest.fixture
def url(chain: DevChain) -> str:
    return chain.serve()


def rpc(chain: DevChain, method: str, *params: Any) -> Any:
    response = json.loads(
        chain.answer(json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode())
    )
    assert response.get("id") == 7
    return response["error"] if "error" in response else response["result"]


def post(url: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def over_http(url: str, method: str, *params: Any) -> Any:
    status, body = post(
        url, json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    )
    assert status == 200
    return json.loads(body)


def signed(nonce: int, account: Any = ACCOUNTS[0], **members: Any) -> bytes:
    terms = {"chainId": CHAIN_ID, "nonce": nonce, "gas": 300_000, "value": 0,
             "maxFeePerGas": 5 * 10**9, "maxPriorityFeePerGas": 10**9}  # fmt: skip
    return bytes(account.sign_transaction(terms | members).raw_transaction)


def transfer(nonce: int, wei: int = 1, account: Any = ACCOUNTS[0]) -> bytes:
    return signed(nonce, account, to=ACCOUNTS[1].address, value=wei, gas=21_000)


def deploy_probe(chain: DevChain, nonce: int = 0) -> Any:
    """Deploy the contract from the first account and give web3's view of it."""
    web3 = Web3(chain.provider)
    receipt = web3.eth.get_transaction_receipt(chain.send(signed(nonce, data=PROBE)))
    assert receipt["status"] == 1
    return web3.eth.contract(receipt["contractAddress"], abi=PROBE_ABI)


def note(probe: Any, nonce: int, topic: int, tag: int, amount: int = 1, account: Any = ACCOUNTS[0]) -> bytes:
    data = probe.encode_abi("note", [topic, tag.to_bytes(32, "big"), amount])
    return signed(nonce, account, to=probe.address, data=data)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[DevChain]:
    """A chain of one block that nothing which is refused may change."""
    with open_chain(None) as opened:
        opened.send(transfer(0))
        yield opened


def everything(chain: DevChain) -> list[Any]:
    """All that the chain can be asked about itself."""
    blocks = [
        rpc(chain, "eth_getBlockByNumber", hex(number), "full")
        for number in range(int(rpc(chain, "eth_blockNumber"), 16) + 1)
    ]
    receipts = [
        rpc(chain, "eth_getTransactionReceipt", sent["hash"])
        for block in blocks
        for sent in block["transactions"]
    ]
    balances = [rpc(chain, "eth_getBalance", address, "latest") for address in BALANCES]
    return [blocks, receipts, balances, rpc(chain, "eth_getLogs", {"fromBlock": "earliest"})]


# ---- the journal ----


def test_a_restart_gives_the_same_chain_and_continues_it(tmp_path: Path):
    path, clock = tmp_path / "deep" / "chain.jsonl", Clock()
    with open_chain(path, clock) as chain:
        probe = deploy_probe(chain)
        clock.time_s += 600
        for nonce in range(1, 6):
            chain.send(note(probe, nonce, nonce, nonce))
        chain.mine(3)
        before = everything(chain)
    clock.time_s += 1
    with open_chain(path, clock) as chain:
        assert everything(chain) == before
        assert chain.find_transaction(chain.send(note(probe, 6, 6, 6))).number == 10
        after = everything(chain)
    with open_chain(path, Clock()) as chain:
        assert everything(chain) == after
        assert after[0][:10] == before[0]


def test_a_restart_repeats_reverts_and_clock_shifts(tmp_path: Path):
    path, clock = tmp_path / "chain.jsonl", Clock()
    with open_chain(path, clock) as chain:
        chain.send(transfer(0))
        point = chain.snapshot()
        gone = chain.send(transfer(1))
        assert chain.revert(point)
        assert chain.shift_clock(3_600) == 3_600
        chain.send(transfer(1, wei=2))
        before = everything(chain)
    clock.time_s += 60
    with open_chain(path, clock) as chain:
        assert everything(chain) == before
        assert rpc(chain, "eth_getTransactionReceipt", "0x" + gone.hex()) is None
        chain.mine()
        assert rpc(chain, "eth_getBlockByNumber", "latest")["timestamp"] == hex(START_S + 3_660)


@pytest.mark.parametrize("kept", [1, 2, 30, -1])
def test_a_torn_last_line_is_dropped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: int
):
    path = tmp_path / "chain.jsonl"
    with open_chain(path) as chain:
        first = chain.send(transfer(0))
        chain.send(transfer(1))
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[:last] + whole[last:][:kept])
    with caplog.at_level(logging.WARNING), open_chain(path) as chain:
        assert "dropped a torn last line" in caplog.text
        assert rpc(chain, "eth_blockNumber") == "0x1"
        assert chain.find_transaction(first)
        chain.send(transfer(1))
    with open_chain(path) as chain:
        assert rpc(chain, "eth_blockNumber") == "0x2"


def test_a_journal_torn_in_its_genesis_begins_again(tmp_path: Path):
    path = tmp_path / "chain.jsonl"
    path.write_bytes(b'{"entry":{"bal')
    with open_chain(path) as chain:
        chain.mine()
    with open_chain(path) as chain:
        assert rpc(chain, "eth_blockNumber") == "0x1"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "chain.jsonl"
    with open_chain(path) as chain:
        for nonce in range(3):
            chain.send(transfer(nonce))
    return path.read_bytes()


@given(data=st.data())
def test_a_changed_byte_anywhere_in_the_journal_is_named(
    written: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    # The last newline alone may change: without it the line is torn, which is another matter.
    place = data.draw(st.integers(0, len(written) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != written[place]))
    path = tmp_path_factory.mktemp("changed") / "chain.jsonl"
    path.write_bytes(written[:place] + bytes([byte]) + written[place + 1 :])
    with pytest.raises(Invalid) as error:
        open_chain(path)
    assert error.value.rule == "J1"


@pytest.mark.parametrize("dropped", [1, 2])
def test_a_missing_line_is_named(tmp_path: Path, written: bytes, dropped: int):
    lines = written.splitlines(keepends=True)
    path = tmp_path / "chain.jsonl"
    path.write_bytes(b"".join(lines[:dropped] + lines[dropped + 1 :]))
    with pytest.raises(Invalid) as error:
        open_chain(path)
    assert error.value.rule == "J1"
    assert error.value.where.endswith(f"line {dropped + 1}")


def rewrite(path: Path, lines: bytes, change: Any) -> None:
    """Write a journal whose checksums are right, after a change to its entries."""
    entries = [json.loads(line)["entry"] for line in lines.splitlines()]
    change(entries)
    checksum, content = "", b""
    for entry in entries:
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
        checksum = hashlib.sha256((checksum + text).encode()).hexdigest()
        content += f'{{"entry":{text},"sum":"{checksum}"}}\n'.encode()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("line", "member", "value"),
    [
        (2, "hash", "0x" + "00" * 32),
        (2, "time", START_S + 1_000),
        (2, "time", START_S),
        (2, "time", "soon"),
        (2, "transaction", "0x02c0"),
        (2, "transaction", None),
        (2, "kind", "gift"),
        (2, "kind", "revert"),
        (2, "kind", None),
    ],
)
def test_a_journal_that_cannot_be_run_again_is_named(
    tmp_path: Path, written: bytes, line: int, member: str, value: Any
):
    path = tmp_path / "chain.jsonl"
    rewrite(path, written, lambda entries: entries[line].update({member: value}))
    with pytest.raises(Invalid) as error:
        open_chain(path)
    assert error.value.rule == "J3"
    assert error.value.where.endswith(f"line {line + 1}")


def test_the_unchanged_journal_can_be_run_again(tmp_path: Path, written: bytes):
    path = tmp_path / "chain.jsonl"
    rewrite(path, written, list)
    assert path.read_bytes() == written
    with open_chain(path) as chain:
        assert rpc(chain, "eth_blockNumber") == "0x3"


def test_a_journal_of_another_genesis_is_refused(tmp_path: Path, written: bytes):
    path = tmp_path / "chain.jsonl"
    path.write_bytes(written)
    with pytest.raises(Invalid, match="J2"):
        open_chain(path, chain_id=1)
    with pytest.raises(Invalid, match="J2"):
        DevChain(path, {ACCOUNTS[0].address: 5}, Clock())
    rewrite(path, written, lambda entries: entries[0].update(time="soon"))
    with pytest.raises(Invalid, match="J2"):
        open_chain(path)


def test_a_journal_has_one_user_at_a_time(tmp_path: Path):
    path = tmp_path / "chain.jsonl"
    with open_chain(path), pytest.raises(Unavailable, match="in use"):
        open_chain(path)
    open_chain(path).close()


def test_a_closed_chain_can_be_read_but_not_changed(tmp_path: Path):
    chain = open_chain(tmp_path / "chain.jsonl")
    chain.close()
    with pytest.raises(Unavailable, match="closed"):
        chain.mine()
    assert rpc(chain, "evm_mine")["code"] == -32000
    assert rpc(chain, "eth_blockNumber") == "0x0"


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path):
    path = tmp_path / "chain.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_chain(path) as chain:
        chain.send(transfer(0))
        before = everything(chain)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
            with pytest.raises(Unavailable):
                chain.send(transfer(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        # What is on the disk is unknown now, so nothing may follow it.
        with pytest.raises(Unavailable, match="reopen"):
            chain.send(transfer(1))
        assert everything(chain) == before
    with open_chain(path) as chain:
        assert everything(chain) == before
        chain.send(transfer(1))


WRITER = """
import json, sys
from pathlib import Path
from contracts.devchain import DevChain
path, balances, now, transactions = json.loads(sys.stdin.readline())
with DevChain(Path(path), balances, lambda: now) as chain:
    for raw in transactions:
        print(chain.send(bytes.fromhex(raw)).hex(), flush=True)
"""


def test_a_kill_loses_at_most_what_was_not_acknowledged(tmp_path: Path):
    path, acknowledged = tmp_path / "chain.jsonl", []
    for heard in (7, 40):
        transactions = [transfer(nonce).hex() for nonce in range(len(acknowledged), len(acknowledged) + 300)]
        with subprocess.Popen(
            [sys.executable, "-c", WRITER], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
            # It waits while nobody reads: so it cannot have come to its end when it is killed.
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=4096,
        ) as process:  # fmt: skip
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps([str(path), BALANCES, START_S, transactions]) + "\n")
            process.stdin.flush()
            acknowledged += [process.stdout.readline().strip() for _ in range(heard)]
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split()
        assert process.returncode == -signal.SIGKILL
        with open_chain(path) as chain:
            mined = int(rpc(chain, "eth_blockNumber"), 16)
            assert mined - len(acknowledged) in {0, 1}
            assert all(chain.find_transaction(bytes.fromhex(sent)) for sent in acknowledged)
            # No answer is no refusal: the block that nobody heard of counts from here on.
            blocks = [rpc(chain, "eth_getBlockByNumber", hex(number)) for number in range(1, mined + 1)]
            acknowledged = [block["transactions"][0][2:] for block in blocks]


# ---- blocks and time ----


def test_finalized_and_safe_lag_behind_latest():
    with open_chain(None, finality_lag=3) as chain:
        for expected in ["0x0", "0x0", "0x0", "0x0", "0x1", "0x2"]:
            for tag in ("finalized", "safe"):
                assert rpc(chain, "eth_getBlockByNumber", tag)["number"] == expected
            chain.mine()
        chain.send(transfer(0, wei=5))
        before = rpc(chain, "eth_getBalance", ACCOUNTS[1].address, "finalized")
        chain.mine(3)
        assert int(rpc(chain, "eth_getBalance", ACCOUNTS[1].address, "finalized"), 16) == int(before, 16) + 5


def test_block_times_follow_the_clock_and_always_grow():
    clock = Clock()
    with open_chain(None, clock) as chain:
        times = []
        for at in [START_S, START_S, START_S + 100, START_S + 50, START_S + 102]:
            clock.time_s = at
            chain.mine()
            times.append(int(rpc(chain, "eth_getBlockByNumber", "latest")["timestamp"], 16) - START_S)
        assert times == [1, 2, 100, 101, 102]


def test_a_pending_call_sees_the_clock_and_a_latest_call_the_block():
    clock = Clock()
    with open_chain(None, clock) as chain:
        probe = deploy_probe(chain)
        clock.time_s += 86_400
        assert probe.functions.clock().call()[:2] == [START_S + 1, 1]
        assert probe.functions.clock().call(block_identifier="pending")[:2] == [START_S + 86_400, 2]


def test_a_block_hash_is_the_hash_of_the_header_that_is_answered(chain: DevChain):
    deploy_probe(chain)
    names = [
        "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty",
        "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot",
        "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
    ]  # fmt: skip
    quantities = {
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "baseFeePerGas",
        "blobGasUsed",
        "excessBlobGas",
    }
    for number in ("0x0", "0x1"):
        block = rpc(chain, "eth_getBlockByNumber", number)
        fields = [
            int(block[name], 16) if name in quantities else bytes.fromhex(block[name][2:]) for name in names
        ]
        assert block["hash"] == "0x" + keccak(rlp.encode(fields)).hex()


def test_a_revert_takes_back_blocks_and_what_follows_is_another_chain(chain: DevChain):
    probe = deploy_probe(chain)
    chain.send(note(probe, 1, 1, 1))
    point = rpc(chain, "evm_snapshot")
    kept = everything(chain)
    raw = note(probe, 2, 2, 2)
    chain.send(raw)
    other = chain.snapshot()
    assert rpc(chain, "evm_revert", point) is True
    assert everything(chain) == kept
    chain.send(raw)
    assert chain.snapshot() != other
    assert rpc(chain, "eth_getBlockByHash", "0x" + other.hex()) is None
    assert [log["topics"][2][-1] for log in everything(chain)[3] if len(log["topics"]) == 4] == ["1", "2"]
    assert rpc(chain, "evm_revert", "0x" + other.hex()) is False


def test_development_methods_move_time(chain: DevChain):
    assert rpc(chain, "evm_increaseTime", 1_000) == 1_000
    assert rpc(chain, "evm_mine") == "0x0"
    assert rpc(chain, "eth_getBlockByNumber", "latest")["timestamp"] == hex(START_S + 1_000)
    assert rpc(chain, "evm_setNextBlockTimestamp", hex(START_S + 5_000)) is None
    chain.send(transfer(0))
    assert rpc(chain, "eth_getBlockByNumber", "latest")["timestamp"] == hex(START_S + 5_000)
    assert rpc(chain, "evm_setNextBlockTimestamp", START_S)["code"] == -32602
    assert rpc(chain, "evm_mine", START_S + 6_000) == "0x0"
    assert rpc(chain, "anvil_mine", "0x3") is None
    assert rpc(chain, "eth_blockNumber") == "0x6"
    assert rpc(chain, "eth_getBlockByNumber", "latest")["timestamp"] == hex(START_S + 6_003)


# ---- transactions ----


def test_a_transfer_moves_the_value_and_takes_the_fee(chain: DevChain):
    web3 = Web3(chain.provider)
    receipt = web3.eth.get_transaction_receipt(chain.send(transfer(0, wei=3 * ETHER)))
    assert receipt["gasUsed"] == 21_000
    assert web3.eth.get_balance(ACCOUNTS[1].address) == 1_003 * ETHER
    assert web3.eth.get_balance(ACCOUNTS[0].address) == 997 * ETHER - 21_000 * receipt["effectiveGasPrice"]
    assert web3.eth.get_transaction_count(ACCOUNTS[0].address) == 1


@pytest.mark.parametrize(
    "members",
    [
        {"gasPrice": 5 * 10**9},
        {
            "gasPrice": 5 * 10**9,
            "accessList": [{"address": ACCOUNTS[2].address, "storageKeys": ["0x" + "00" * 31 + "07"]}],
        },
        {"maxFeePerGas": 5 * 10**9, "maxPriorityFeePerGas": 10**9},
    ],
)
def test_each_kind_of_transaction_is_mined_and_read_back(chain: DevChain, members: dict[str, Any]):
    terms = {"chainId": CHAIN_ID, "nonce": 0, "gas": 50_000, "value": 9, "to": ACCOUNTS[1].address}
    raw = ACCOUNTS[0].sign_transaction(terms | members).raw_transaction
    web3 = Web3(chain.provider)
    sent = web3.eth.get_transaction(web3.eth.send_raw_transaction(raw))
    assert (sent["from"], sent["to"], sent["value"]) == (ACCOUNTS[0].address, ACCOUNTS[1].address, 9)
    assert sent["chainId"] == CHAIN_ID
    assert Account.recover_transaction(raw) == sent["from"]


def test_a_transaction_that_reverts_is_mined_as_failed(chain: DevChain):
    probe = deploy_probe(chain)
    sent = chain.send(signed(1, to=probe.address, data=probe.encode_abi("refuse", [1])))
    receipt = rpc(chain, "eth_getTransactionReceipt", "0x" + sent.hex())
    assert (receipt["status"], receipt["logs"]) == ("0x0", [])


REFUSED = {
    "nonce too low: next nonce 1, tx nonce 0": transfer(0),
    "nonce too high: next nonce 1, tx nonce 2": transfer(2),
    "invalid chain id for signer: have 1 want 31337": signed(1, to=ACCOUNTS[1].address, chainId=1),
    "insufficient funds for gas * price + value": transfer(1, wei=1_000 * ETHER),
    "exceeds block gas limit": signed(1, to=ACCOUNTS[1].address, gas=GAS_LIMIT + 1),
    "intrinsic gas too low: have 20999, want 21000": signed(1, to=ACCOUNTS[1].address, gas=20_999),
    # 21,000 and 16 for each byte of data are not enough: EIP-7623 asks for 40.
    "intrinsic gas too low: have 37000, want 61000": signed(
        1, to=ACCOUNTS[1].address, data=b"\1" * 1_000, gas=37_000
    ),
    "max fee per gas less than block base fee": signed(
        1, to=ACCOUNTS[1].address, maxFeePerGas=1, maxPriorityFeePerGas=1
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_transaction_is_refused_in_the_words_of_nodes(tmp_path: Path, words: str):
    path = tmp_path / "chain.jsonl"
    with open_chain(path) as chain:
        chain.send(transfer(0))
        before = path.read_bytes()
        error = rpc(chain, "eth_sendRawTransaction", "0x" + REFUSED[words].hex())
        assert error["code"] == -32000
        assert error["message"].startswith(words)
        assert path.read_bytes() == before
        assert rpc(chain, "eth_blockNumber") == "0x1"


@given(data=st.data())
def test_a_broken_transaction_is_refused_and_changes_nothing(fuzzed: DevChain, data: st.DataObject):
    raw = bytearray(transfer(0))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.sampled_from([len(raw), len(raw) - 1, 1, 0]))]
    answer = rpc(fuzzed, "eth_sendRawTransaction", "0x" + raw.hex())
    # A changed signature has another sender, who has no money here; the unchanged one is refused for its nonce.
    assert answer["code"] in {-32602, -32000}
    assert rpc(fuzzed, "eth_blockNumber") == "0x1"


def test_an_estimate_suffices_exactly(chain: DevChain):
    web3 = Web3(chain.provider)
    transfer_terms = {"from": ACCOUNTS[0].address, "to": ACCOUNTS[1].address, "value": 1}
    assert web3.eth.estimate_gas(transfer_terms) == 21_000
    probe = deploy_probe(chain)
    gas = probe.functions.note(1, bytes(32), 5).estimate_gas({"from": ACCOUNTS[0].address})
    data = probe.encode_abi("note", [1, bytes(32), 5])
    results = [
        chain.send(signed(nonce, to=probe.address, data=data, gas=gas - less))
        for nonce, less in ((1, 1), (2, 0))
    ]
    assert [web3.eth.get_transaction_receipt(sent)["status"] for sent in results] == [0, 1]
    with pytest.raises(ContractCustomError):
        probe.functions.refuse(1).estimate_gas()


def test_threads_share_one_chain(tmp_path: Path):
    path = tmp_path / "chain.jsonl"
    with open_chain(path) as chain:
        web3s = [Web3(chain.provider), Web3(HTTPProvider(chain.serve()))]
        failures: list[BaseException] = []

        def work(account: Any, web3: Web3) -> None:
            try:
                for nonce in range(8):
                    sent = web3.eth.send_raw_transaction(transfer(nonce, account=account))
                    assert web3.eth.get_transaction_receipt(sent)["status"] == 1
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=work, args=(account, web3s[index % 2]))
            for index, account in enumerate(ACCOUNTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert rpc(chain, "eth_blockNumber") == hex(8 * len(ACCOUNTS))
        before = everything(chain)
    with open_chain(path) as chain:
        assert everything(chain) == before


def test_nobody_reads_while_somebody_writes(chain: DevChain):
    answers: list[str] = []
    reader = threading.Thread(target=lambda: answers.append(rpc(chain, "eth_blockNumber")))
    with chain.lock:
        reader.start()
        reader.join(0.3)
        assert answers == []
        chain.mine()
    reader.join()
    assert answers == ["0x1"]


# ---- calls and logs ----


@pytest.mark.parametrize("way", ["in process", "over HTTP"])
def test_a_custom_error_can_be_decoded(chain: DevChain, url: str, way: str):
    address = deploy_probe(chain).address
    web3 = Web3(chain.provider if way == "in process" else HTTPProvider(url))
    probe = web3.eth.contract(address, abi=PROBE_ABI)
    with pytest.raises(ContractCustomError) as error:
        probe.functions.refuse(3).call()
    expected = (
        Web3.keccak(text="TooLittle(uint256,uint256)")[:4] + (3).to_bytes(32, "big") + (7).to_bytes(32, "big")
    )
    assert error.value.data == "0x" + expected.hex()
    answer = rpc(chain, "eth_call", {"to": address, "data": probe.encode_abi("complain", [])}, "latest")
    assert (answer["code"], answer["message"]) == (3, "execution reverted: no")


def test_a_call_sees_the_state_of_its_block(chain: DevChain):
    probe = deploy_probe(chain)
    for nonce in range(1, 4):
        chain.send(note(probe, nonce, 0, 0, amount=nonce * 11))
    assert [probe.functions.value().call(block_identifier=number) for number in (1, 2, 3, 4)] == [
        0,
        11,
        22,
        33,
    ]
    assert (
        rpc(chain, "eth_getStorageAt", probe.address, "0x0", "0x3") == "0x" + (22).to_bytes(32, "big").hex()
    )
    assert rpc(chain, "eth_getCode", probe.address, "0x0") == "0x"
    assert rpc(chain, "eth_getCode", probe.address, "0x1") != "0x"
    by_hash = {"blockHash": "0x" + chain.find(3).hash.hex()}
    assert rpc(chain, "eth_getStorageAt", probe.address, "0x0", by_hash)[-2:] == "16"
    assert rpc(chain, "eth_getBalance", probe.address, "0x63")["message"].startswith("header not found")


def test_a_call_cannot_spend_what_is_not_there(chain: DevChain):
    message = {"from": "0x" + "22" * 20, "to": ACCOUNTS[0].address, "value": "0x5"}
    assert (
        rpc(chain, "eth_call", message)["message"]
        == "insufficient funds for gas * price + value: have 0, want 5"
    )


def test_the_deepest_recursion_that_gas_allows_is_executed(chain: DevChain, url: str):
    # PUSH0 x5, ADDRESS, GAS, CALL: a contract that calls itself as cheaply as can be; the constructor returns these bytes.
    deepest = bytes.fromhex("5f5f5f5f5f305af1")
    created = chain.send(signed(0, data=bytes.fromhex("67") + deepest + bytes.fromhex("5f5260086018f3")))
    address = rpc(chain, "eth_getTransactionReceipt", "0x" + created.hex())["contractAddress"]
    assert rpc(chain, "eth_getCode", address) == "0x" + deepest.hex()
    assert over_http(url, "eth_call", {"to": address}, "latest")["result"] == "0x"


@pytest.fixture(scope="module")
def noted() -> Iterator[tuple[DevChain, list[Any]]]:
    """A chain with two contracts, 24 notes, and empty blocks between; and all its logs."""
    with open_chain(None) as chain:
        probes = [deploy_probe(chain, 0), deploy_probe(chain, 1)]
        for index in range(24):
            account = ACCOUNTS[index % 2]
            nonce = index // 2 + (2 if index % 2 == 0 else 0)
            chain.send(note(probes[index % 3 % 2], nonce, index % 4, index % 5, account=account))
            chain.mine(index % 3)
        receipts = everything(chain)[1]
        yield chain, [log for receipt in receipts for log in receipt["logs"]]


@given(data=st.data())
def test_a_log_filter_finds_what_reading_every_receipt_finds(
    noted: tuple[DevChain, list[Any]], data: st.DataObject
):
    chain, logs = noted
    latest = int(rpc(chain, "eth_blockNumber"), 16)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, latest + 3)] * 2)))
    addresses = sorted({log["address"] for log in logs})
    address = data.draw(
        st.sampled_from(
            [None, *addresses, [addresses[0]], addresses, [], Web3.to_checksum_address(addresses[1])]
        )
    )
    topics = []
    for place in range(data.draw(st.integers(0, 4))):
        seen = sorted({log["topics"][place] for log in logs if len(log["topics"]) > place})
        one = st.sampled_from([*seen, "0x" + "ab" * 32])
        topics.append(data.draw(st.one_of(st.none(), one, st.lists(one, max_size=3))))
    query = {"fromBlock": hex(first), "toBlock": hex(last), "topics": topics} | (
        {} if address is None else {"address": address}
    )

    def is_one_of(value: str, wanted: Any) -> bool:
        return not wanted or value in [
            one.lower() for one in (wanted if isinstance(wanted, list) else [wanted])
        ]

    expected = [
        log for log in logs
        if first <= int(log["blockNumber"], 16) <= last
        and is_one_of(log["address"], address)
        and len(log["topics"]) >= len(topics)
        and all(is_one_of(log["topics"][place], wanted) for place, wanted in enumerate(topics))
    ]  # fmt: skip
    assert rpc(chain, "eth_getLogs", query) == expected


def test_a_log_filter_by_block_hash_finds_that_block_only(noted: tuple[DevChain, list[Any]]):
    chain, logs = noted
    wanted = logs[6]["blockHash"]
    assert rpc(chain, "eth_getLogs", {"blockHash": wanted}) == [
        log for log in logs if log["blockHash"] == wanted
    ]
    assert rpc(chain, "eth_getLogs", {"blockHash": "0x" + "00" * 32})["message"] == "unknown block"
    assert rpc(chain, "eth_getLogs", {"blockHash": wanted, "fromBlock": "0x0"})["code"] == -32602
    assert rpc(chain, "eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x1"})["code"] == -32602
    assert rpc(chain, "eth_getLogs", {}) == [
        log for log in logs if log["blockNumber"] == rpc(chain, "eth_blockNumber")
    ]


# ---- JSON-RPC ----


def test_plain_http_is_enough(chain: DevChain, url: str):
    chain.send(transfer(0))
    assert over_http(url, "eth_chainId") == {"jsonrpc": "2.0", "id": 1, "result": hex(CHAIN_ID)}
    assert over_http(url, "net_version")["result"] == str(CHAIN_ID)
    sent = over_http(url, "eth_sendRawTransaction", "0x" + transfer(1).hex())["result"]
    receipt = over_http(url, "eth_getTransactionReceipt", sent)["result"]
    block = over_http(url, "eth_getBlockByHash", receipt["blockHash"])["result"]
    assert block["transactions"] == [sent]
    history = over_http(url, "eth_feeHistory", "0x2", "latest", [50])["result"]
    assert (len(history["baseFeePerGas"]), history["oldestBlock"], history["reward"]) == (
        3,
        "0x1",
        [[hex(10**9)]] * 2,
    )
    assert int(over_http(url, "eth_gasPrice")["result"], 16) == int(history["baseFeePerGas"][2], 16) + 10**9


def test_web3_fills_in_fees_and_sends_over_http(url: str):
    web3 = Web3(HTTPProvider(url))
    terms = {
        "from": ACCOUNTS[0].address,
        "to": ACCOUNTS[1].address,
        "value": 1,
        "nonce": 0,
        "chainId": web3.eth.chain_id,
    }
    terms |= {"gas": web3.eth.estimate_gas(terms), "maxPriorityFeePerGas": web3.eth.max_priority_fee}
    terms["maxFeePerGas"] = 2 * web3.eth.get_block("latest")["baseFeePerGas"] + terms["maxPriorityFeePerGas"]
    sent = web3.eth.send_raw_transaction(ACCOUNTS[0].sign_transaction(terms).raw_transaction)
    assert web3.eth.wait_for_transaction_receipt(sent)["status"] == 1
    with pytest.raises(Web3RPCError, match="nonce too low"):
        web3.eth.send_raw_transaction(ACCOUNTS[0].sign_transaction(terms).raw_transaction)


def test_a_batch_is_answered_in_order_and_notifications_not_at_all(url: str):
    call = {"jsonrpc": "2.0", "method": "eth_chainId"}
    batch = [call | {"id": "a"}, call, 5, call | {"id": 2, "method": "eth_nothing"}]
    answers = json.loads(post(url, json.dumps(batch).encode())[1])
    assert [(answer["id"], answer.get("error", {}).get("code")) for answer in answers] == [
        ("a", None), (None, -32600), (2, -32601),
    ]  # fmt: skip
    assert post(url, json.dumps([call]).encode()) == (200, b"")
    assert post(url, json.dumps(call).encode()) == (200, b"")
    with Web3(HTTPProvider(url)).batch_requests() as requests:
        requests.add(Web3(HTTPProvider(url)).eth.get_block("latest"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff", -32700),
        (b"[" * 1_000_000, -32700),
        (b'{"a":' * 1_000_000, -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b"{}", -32600),
        (json.dumps([{}] * 1_001).encode(), -32600),
        (b'{"id":1,"method":5}', -32600),
        (b'{"id":1,"method":"eth_nothing"}', -32601),
        (b'{"id":1,"method":"eth_getBalance"}', -32602),
        (b'{"id":1,"method":"eth_getBalance","params":{}}', -32602),
        (b'{"id":1,"method":"eth_getBalance","params":["0x12"]}', -32602),
        (b'{"id":1,"method":"eth_getBalance","params":["0x12","latest",1]}', -32602),
        (b'{"id":1,"method":"eth_getBlockByNumber","params":["newest",false]}', -32602),
        (b'{"id":1,"method":"eth_getBlockByNumber","params":["0x",false]}', -32602),
        (b'{"id":1,"method":"eth_getBlockByNumber","params":["0x1_0",false]}', -32602),
        (b'{"id":1,"method":"eth_getBlockByHash","params":["0x00",false]}', -32602),
        (b'{"id":1,"method":"eth_call","params":[7]}', -32602),
        (b'{"id":1,"method":"eth_call","params":[{"data":"0x1"}]}', -32602),
        (b'{"id":1,"method":"eth_getLogs","params":[{"topics":[null,null,null,null,null]}]}', -32602),
        (b'{"id":1,"method":"eth_sendRawTransaction","params":["0x"]}', -32602),
    ],
)
def test_a_bad_request_gets_its_code(chain: DevChain, body: bytes, code: int):
    assert json.loads(chain.answer(body))["error"]["code"] == code


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["0x", "0x1", "0x" + "11" * 20, "0x" + "11" * 32, "latest", "pending", ACCOUNTS[0].address]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["to", "from", "data", "value", "gas", "topics", "address", "fromBlock", "toBlock", "blockHash", "blockNumber"]),
        inner, max_size=4,
    ),
    max_leaves=6,
)  # fmt: skip
READING = [
    "eth_call", "eth_estimateGas", "eth_feeHistory", "eth_getBalance", "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getCode",
    "eth_getLogs", "eth_getStorageAt", "eth_getTransactionByHash", "eth_getTransactionCount", "eth_getTransactionReceipt",
    "eth_sendRawTransaction", "evm_revert",
]  # fmt: skip


@given(method=st.sampled_from(READING), params=st.lists(ANYTHING, max_size=3))
def test_no_parameters_are_our_bug(fuzzed: DevChain, method: str, params: list[Any]):
    answer = rpc(fuzzed, method, *params)
    if isinstance(answer, dict) and "code" in answer:
        assert answer["code"] in RPC_CODES.values()


def test_every_code_belongs_to_a_rule():
    assert set(RPC_CODES) <= set(RULES)


def test_http_refuses_what_a_page_elsewhere_could_send(url: str):
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    assert post(url, body)[0] == 200
    assert post(url, body, Content_Type="text/plain")[0] == 415
    assert post(url, body, Host="evil.example:80")[0] == 403
    assert post(url, body, Host="127.0.0.1.evil.example:80")[0] == 403


def test_http_refuses_a_request_over_the_size_limit_before_reading_it(url: str):
    assert post(url, b"", Content_Length=str(5 * 1024 * 1024 + 1))[0] == 413
    assert post(url, b"", Content_Length="9" * 5_000)[0] == 413
    assert post(url, b"", Content_Length="-1")[0] == 411
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(url, timeout=60)


def test_a_port_in_use_is_unavailable(chain: DevChain, url: str):
    with open_chain(None) as other, pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        other.serve(int(url.rpartition(":")[2]))


# ---- beside a node of somebody else's ----

VOLATILE = {"blockHash", "blockTimestamp", "effectiveGasPrice", "gasPrice", "hash", "parentHash", "stateRoot", "timestamp",
            "mixHash", "baseFeePerGas", "size", "parentBeaconBlockRoot", "blockNumber", "number"}  # fmt: skip
# What one node adds and another does not; web3 asks for none of it.
EXTRAS = {"blobGasPrice", "totalDifficulty", "blockTimestamp"}


def shape(answer: Any) -> Any:
    """An answer without what depends on the time and on the blocks before."""
    if isinstance(answer, list):
        return [shape(one) for one in answer]
    if isinstance(answer, dict):
        return {name: type(value).__name__ if name in VOLATILE else shape(value)
                for name, value in answer.items() if name not in EXTRAS}  # fmt: skip
    return answer


def test_anvil_answers_the_same(chain: DevChain, url: str, anvil_url: str):
    account = Account.create()
    over_http(anvil_url, "anvil_setBalance", account.address, hex(ETHER))
    chain.send(signed(0, to=account.address, value=ETHER))
    contract = Web3().eth.contract(abi=PROBE_ABI)
    told = []
    for node in (url, anvil_url):

        def send(nonce: int, node: str = node, **members: Any) -> Any:
            raw = signed(nonce, account, **members)
            sent = over_http(node, "eth_sendRawTransaction", "0x" + raw.hex())["result"]
            # A node mines after it has answered; here the block is there before the answer.
            deadline = time.monotonic() + 60
            while not (receipt := over_http(node, "eth_getTransactionReceipt", sent)["result"]):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return receipt, over_http(node, "eth_getTransactionByHash", sent)["result"]

        created, _ = send(0, data=PROBE)
        address = created["contractAddress"]
        target = Web3.to_checksum_address(address)
        noted, sent = send(1, to=target, data=contract.encode_abi("note", [5, b"\1" * 32, 9]), value=1)
        failed, _ = send(2, to=target, data=contract.encode_abi("refuse", [1]))
        block = over_http(node, "eth_getBlockByHash", noted["blockHash"], HASHES)["result"]
        by_hash = over_http(node, "eth_getLogs", {"blockHash": noted["blockHash"]})["result"]
        by_topic = over_http(
            node,
            "eth_getLogs",
            {
                "fromBlock": noted["blockNumber"],
                "address": [address],
                "topics": [None, None, ["0x" + "0" * 63 + "5"]],
            },
        )["result"]
        calls: list[Any] = []
        for method in ("eth_call", "eth_estimateGas"):
            for name, arguments in {"value": [], "refuse": [3], "complain": [], "burn": []}.items():
                message = {
                    "from": account.address,
                    "to": address,
                    "data": contract.encode_abi(name, arguments),
                }
                answer = over_http(node, method, message, "latest")
                # The words of an error are each node's own, but for the reason that the contract gave.
                calls.append(answer.get("result") or [answer["error"]["code"], answer["error"]["data"]])
        state = [
            over_http(node, method, *params, "latest")["result"]
            for method, params in {
                "eth_getCode": [address], "eth_getStorageAt": [address, "0x0"],
                "eth_getTransactionCount": [account.address], "eth_getBalance": [address],
            }.items()
        ]  # fmt: skip
        absent = [
            over_http(node, "eth_getTransactionReceipt", "0x" + "00" * 32),
            over_http(node, "eth_getBlockByNumber", "0xffffff", HASHES),
        ]
        told.append(shape([created, noted, sent, failed, block, by_hash, by_topic, calls, state, absent]))
    assert told[0] == told[1]
    assert len(told[0][6]) == 1
