"""The embedded chain: an EVM inside this process that survives a restart.

py-evm executes: the engine under eth-tester, whose own wrapper draws random block seeds, fixes the chain id
and reads every block for each lookup. Each change of the chain is one line of an append-only journal, and
opening the journal runs it again, so all that decides a block's hash is there: genesis, transaction, time.

What holds if the process dies: a line is synced after its block is built and before anyone hears of it, so
what was acknowledged is on disk, and what is lost was never acknowledged.

Top to bottom: journal, machine, JSON-RPC, DevChain (which is all of it), values, how nodes write blocks.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import logging
import os
import re
import socketserver
import sys
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

from eth.chains.base import Chain
from eth.db.atomic import AtomicDB
from eth.exceptions import PyEVMError, Revert
from eth.vm.forks.london.transactions import UnsignedDynamicFeeTransaction
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.state import PragueTransactionExecutor
from eth.vm.spoof import SpoofTransaction
from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from rlp import encode as rlp_encode  # type: ignore[import-untyped]
from rlp.exceptions import RLPException  # type: ignore[import-untyped]
from typing_extensions import override
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from ledger.records import Invalid, Unavailable, reject

RULES = {
    "J1": "Each journal line is the canonical JSON of one entry, chained by SHA-256 to the line before it.",
    "J2": "The first line is the genesis, and it is the genesis that was asked for.",
    "J3": "Running the journal again gives the block hashes that it names.",
    "N1": "A request is JSON.",
    "N2": "A request is a JSON-RPC 2.0 request, or a batch of 1 to 1,000 of them.",
    "N3": "The method exists.",
    "N4": "The parameters are those of the method.",
    "N5": "The chain can do what was asked.",
    "N6": "The called contract did not revert.",
}
# JSON-RPC 2.0 section 5.1 names four; nodes give -32000 for the rest, and 3 with the bytes of a revert.
RPC_CODES = {"N1": -32700, "N2": -32600, "N3": -32601, "N4": -32602, "N5": -32000, "N6": 3}
INTERNAL_ERROR = -32603

FORK = "prague"
GAS_LIMIT = 30_000_000
PRIORITY_FEE_WEI = 1_000_000_000
REQUEST_LIMIT_BYTES = 5 * 1024 * 1024
BATCH_LIMIT = 1_000
READ_TIMEOUT_S = 30
CALL_STIPEND = 2_300
# No block can follow one whose time cannot grow any more.
TIME_LIMIT_S = 1 << 40
NOWHERE = bytes(20)
QUANTITY = re.compile("0x[0-9a-fA-F]{1,64}")
DATA = re.compile("0x(?:[0-9a-fA-F]{2})*")
ERROR_STRING = bytes.fromhex("08c379a0")
# What py-evm raises in decoding, signature recovery and validation of a transaction that somebody got wrong.
BAD_TRANSACTION = (ValidationError, PyEVMError, RLPException, BadSignature, ValueError, TypeError, IndexError)

# py-evm's headers and transactions gain members with each fork, which its abstract types do not show.
Header = Any
Transaction = Any
Computation = Any

LOGGER = logging.getLogger(__name__)

# py-evm and py_ecc raise this to 100,000 for the whole process when they are imported, and then JSON of as
# many brackets overruns the C stack and kills the process, here or in an API beside us. Calls within calls
# end at some 600 (30,000,000 gas, each passes on 63/64), and that takes fewer than 3,500 Python frames.
sys.setrecursionlimit(6_000)


class Reverted(Invalid):
    """A contract refused, and said why in `data`."""

    def __init__(self, data: bytes) -> None:
        super().__init__("N6", "execution", "execution reverted" + _reason(data))
        self.data = data


@dataclass(frozen=True, slots=True)
class Block:
    """A block of at most one transaction, with what running it left behind."""

    number: int
    time_s: int
    hash: bytes
    size_bytes: int
    header: Header
    transaction: Transaction | None
    receipt: Any


class Journal:
    """An append-only file of JSON lines, each chained to the one before (J1)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sum = ""
        self._closed = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # Two processes on one journal would each continue a chain of their own.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise Unavailable("devchain", f"{path} is in use by another process") from error
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each entry with its place, and cut off a last line that was torn."""
        content = self._path.read_bytes()
        *lines, torn = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            where = f"{self._path} line {number}"
            try:
                entry = dict(json.loads(line)["entry"])
                expected, following = self._line(entry)
            except (ValueError, TypeError, KeyError, RecursionError):
                reject("J1", where, f"not a journal line: {line[:80]!r}")
            if expected != line + b"\n":
                reject("J1", where, f"ends in {line[-80:]!r}, expected {expected[-81:-1]!r}")
            self._sum = following
            yield where, entry
        if torn:
            LOGGER.warning("%s: dropped a torn last line of %d bytes", self._path, len(torn))
            os.ftruncate(self._file, len(content) - len(torn))
            os.fsync(self._file)

    def append(self, entry: dict[str, Any]) -> None:
        """Put one entry on the disk."""
        if self._closed:
            raise Unavailable("devchain", f"{self._path}: {self._closed}")
        line, following = self._line(entry)
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(f"wrote {written} of {len(line)} bytes")
            os.fsync(self._file)
        except OSError as error:
            # What the disk has now is unknown until the next start reads it, so nothing may follow.
            self._closed = f"{error}; reopen to go on"
            raise Unavailable("devchain", f"{self._path}: {self._closed}") from error
        self._sum = following

    def close(self) -> None:
        """Let another process have the file."""
        self._closed = "closed"
        os.close(self._file)

    def _line(self, entry: dict[str, Any]) -> tuple[bytes, str]:
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
        following = hashlib.sha256((self._sum + text).encode()).hexdigest()
        return f'{{"entry":{text},"sum":"{following}"}}\n'.encode(), following


class Machine:
    """The chain: its blocks, what they did, and the journal that brings them back.

    journal: where the chain is kept, or None for a chain that ends with the process. balances: wei by address
    in the genesis. now: the only clock; a block's time is max(parent + 1, now()). finality_lag: how many
    blocks `finalized` and `safe` are behind `latest`.
    """

    def __init__(
        self,
        journal: Path | None,
        balances: Mapping[str, int],
        now: Callable[[], int],
        *,
        chain_id: int = 31_337,
        finality_lag: int = 2,
    ) -> None:
        self.chain_id = chain_id
        # One lock for every thread: py-evm's state is not made for two at once.
        self.lock = threading.RLock()
        self._now = now
        self._finality_lag = finality_lag
        self._shift_s = 0
        self._forced_time_s: int | None = None
        self._reverts = 0
        self._journal = Journal(journal) if journal else None
        genesis = {
            "kind": "genesis",
            "balances": {address.lower(): str(wei) for address, wei in balances.items()},
            "chainId": chain_id,
            "fork": FORK,
            "gasLimit": GAS_LIMIT,
        }
        try:
            self._open(genesis)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the journal; what the chain was can still be read."""
        with self.lock:
            if self._journal:
                self._journal.close()

    # ---- what changes the chain ----

    def mine(self, count: int = 1) -> None:
        """Add blocks without transactions."""
        with self.lock:
            for _ in range(count):
                self._mine(None)

    def send(self, raw: bytes) -> bytes:
        """Put one signed transaction into a block of its own and return its hash (N4, N5)."""
        with self.lock:
            try:
                transaction = self._decode(raw)
                sender = transaction.sender
            except BAD_TRANSACTION as error:
                reject("N4", "transaction", f"cannot be decoded: {error}")
            self._check_transaction(transaction, sender)
            self._mine(transaction)
            return bytes(transaction.hash)

    def snapshot(self) -> bytes:
        """Name the present, which is the hash of the newest block."""
        with self.lock:
            return self._blocks[-1].hash

    def revert(self, snapshot: bytes) -> bool:
        """Go back to a block of this chain, finalized or not; say whether there was such a block."""
        with self.lock:
            block = self.find_hash(snapshot)
            if block:
                self._write({"kind": "revert", "to": _hex(snapshot)})
                self._truncate(block.number)
            return block is not None

    def shift_clock(self, seconds: int) -> int:
        """Put this chain ahead of its clock for good, and return by how much it is ahead in all."""
        with self.lock:
            if not 0 <= self._shift_s + seconds < TIME_LIMIT_S:
                reject("N4", "seconds", f"{self._shift_s} + {seconds} is not from 0 to {TIME_LIMIT_S}")
            self._write({"kind": "shift", "seconds": seconds})
            self._shift_s += seconds
            return self._shift_s

    def force_next_time(self, time_s: int) -> None:
        """Choose the next block's time; a restart forgets it, since no block has it yet."""
        with self.lock:
            latest = self._blocks[-1].time_s
            if not latest < time_s < TIME_LIMIT_S:
                why = f"{time_s} is not after the latest block's {latest} and before {TIME_LIMIT_S}"
                reject("N4", "timestamp", why)
            self._forced_time_s = time_s

    # ---- what reads it; the caller holds the lock ----

    def find(self, tag: object) -> Block | None:
        """Find a block by number or by the names that nodes know; none is the latest."""
        latest = len(self._blocks) - 1
        match tag:
            case None | "latest" | "pending":
                number = latest
            case "finalized" | "safe":
                number = max(0, latest - self._finality_lag)
            case "earliest":
                number = 0
            case {"blockHash": text}:
                return self.find_hash(_data(text, "blockHash", 32))
            case {"blockNumber": text}:
                number = _quantity(text, "blockNumber")
            case _:
                number = _quantity(tag, "block")
        return self._blocks[number] if number <= latest else None

    def find_hash(self, block: bytes) -> Block | None:
        """Find a block of the present chain by its hash."""
        number = self._numbers.get(block)
        return None if number is None else self._blocks[number]

    def find_transaction(self, transaction: bytes) -> Block | None:
        """Find the block that holds a transaction."""
        number = self._transactions.get(transaction)
        return None if number is None else self._blocks[number]

    def blocks(self, first: int, last: int) -> list[Block]:
        """Give the blocks from first to last."""
        return self._blocks[first : last + 1]

    def events(self, first: int, last: int) -> list[dict[str, Any]]:
        """Give the logs of the blocks from first to last, as nodes write them."""
        return self._events[bisect_left(self._event_blocks, first) : bisect_right(self._event_blocks, last)]

    def header(self, tag: object) -> Header:
        """Give the header to execute under: `pending` has the time of a block mined now (N5)."""
        if tag == "pending":
            return self._next_header(self._next_time())
        block = self.find(tag)
        return block.header if block else reject("N5", "block", f"header not found: {tag}")

    def state(self, header: Header) -> Any:
        """Give the accounts as they are after a block."""
        return self._chain.get_vm(header).state

    def execute(self, header: Header, message: dict[str, Any], gas: int) -> Computation:
        """Run a message after a block, without fees, and forget what it changed (N4, N5)."""
        state = self.state(header.copy(base_fee_per_gas=0))
        sender = _data(message.get("from") or _hex(NOWHERE), "from", 20)
        target = message.get("to")
        unsigned: Transaction = UnsignedDynamicFeeTransaction(
            chain_id=self.chain_id,
            nonce=state.get_nonce(sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=gas,
            to=_data(target, "to", 20) if target else b"",
            value=_quantity(message.get("value") or 0, "value"),
            data=_data(message.get("input") or message.get("data") or "0x", "data"),
            access_list=(),
        )
        balance = state.get_balance(sender)
        if balance < unsigned.value:
            why = f"insufficient funds for gas * price + value: have {balance}, want {unsigned.value}"
            reject("N5", "value", why)
        if gas < (least := _least_gas(unsigned)):
            reject("N5", "gas", f"intrinsic gas too low: have {gas}, want {least}")
        try:
            return state.apply_transaction(SpoofTransaction(unsigned, from_=sender))
        except ValidationError as error:
            reject("N5", "call", str(error))

    # ---- how blocks come about ----

    def _open(self, genesis: dict[str, Any]) -> None:
        entries = self._journal.entries() if self._journal else iter(())
        where, first = next(entries, ("", None))
        if first is None:
            first = genesis | {"time": self._now()}
            self._write(first)
        asked = genesis | {"time": first.get("time")}
        if first != asked or type(first["time"]) is not int:
            reject("J2", where, f"the genesis is {first}, asked for {asked}")
        self._begin(first)
        for where, entry in entries:
            try:
                self._replay(where, entry)
            except (KeyError, *BAD_TRANSACTION) as error:
                reject("J3", where, f"cannot be run again: {error!r}")

    def _begin(self, genesis: dict[str, Any]) -> None:
        chain_class: Any = Chain.configure("Chain", chain_id=self.chain_id, vm_configuration=((0, PragueVM),))
        state = {
            _data(address, "balances", 20): {"balance": int(wei), "nonce": 0, "code": b"", "storage": {}}
            for address, wei in genesis["balances"].items()
        }
        parameters = {"gas_limit": genesis["gasLimit"], "timestamp": genesis["time"], "difficulty": 0}
        self._chain: Any = chain_class.from_genesis(AtomicDB(), parameters, state)
        header: Header = self._chain.get_canonical_head()
        size = len(rlp_encode(self._chain.get_block_by_header(header)))
        self._blocks = [Block(0, header.timestamp, header.hash, size, header, None, None)]
        self._numbers = {self._blocks[0].hash: 0}
        self._transactions: dict[bytes, int] = {}
        # In order and beside their blocks' numbers: a query is two bisections and one pass over the slice.
        self._events: list[dict[str, Any]] = []
        self._event_blocks: list[int] = []

    def _replay(self, where: str, entry: dict[str, Any]) -> None:
        match entry["kind"]:
            case "block":
                raw = entry["transaction"]
                transaction = None if raw is None else self._decode(_data(raw, where))
                block = self._build(transaction, entry["time"])
                if _hex(block.hash) != entry["hash"]:
                    why = f"block {block.number} is {_hex(block.hash)}, the journal says {entry['hash']}"
                    reject("J3", where, why)
                self._extend(block)
            case "revert":
                self._truncate(self._numbers[_data(entry["to"], where, 32)])
            case "shift":
                self._shift_s += entry["seconds"]
            case kind:
                reject("J3", where, f"unknown kind {kind!r}")

    def _write(self, entry: dict[str, Any]) -> None:
        if self._journal:
            self._journal.append(entry)

    def _decode(self, raw: bytes) -> Transaction:
        return PragueVM.get_transaction_builder().decode(raw)

    def _next_time(self) -> int:
        if self._forced_time_s is not None:
            return self._forced_time_s
        return max(self._blocks[-1].time_s + 1, self._now() + self._shift_s)

    def _next_header(self, time_s: int) -> Header:
        parent = self._blocks[-1]
        # A block after a revert must not repeat the hash of the one it replaces: PREVRANDAO tells them apart.
        seed = keccak(parent.hash + self._reverts.to_bytes(8, "big"))
        return PragueVM.create_header_from_parent(
            parent.header, gas_limit=GAS_LIMIT, timestamp=time_s, coinbase=NOWHERE, mix_hash=seed
        )

    def _check_transaction(self, transaction: Transaction, sender: bytes) -> None:
        # py-evm checks most of this again, but not the chain id, nor in the words that clients look for.
        header = self._next_header(self._next_time())
        state = self.state(header)
        nonce, balance = state.get_nonce(sender), state.get_balance(sender)
        fee, tip = transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
        cost = transaction.gas * fee + transaction.value
        if transaction.chain_id not in {None, self.chain_id}:
            why = f"invalid chain id for signer: have {transaction.chain_id} want {self.chain_id}"
        elif transaction.nonce != nonce:
            # A node would keep a nonce from the future until the gap is filled; here nothing waits.
            word = "low" if transaction.nonce < nonce else "high"
            why = f"nonce too {word}: next nonce {nonce}, tx nonce {transaction.nonce}"
        elif transaction.gas > GAS_LIMIT:
            why = f"exceeds block gas limit: tx gas {transaction.gas}, limit {GAS_LIMIT}"
        elif transaction.gas < (least := _least_gas(transaction)):
            why = f"intrinsic gas too low: have {transaction.gas}, want {least}"
        elif fee < header.base_fee_per_gas:
            why = f"max fee per gas less than block base fee: have {fee}, base fee {header.base_fee_per_gas}"
        elif tip > fee:
            why = f"max priority fee per gas higher than max fee per gas: {tip} > {fee}"
        elif balance < cost:
            why = f"insufficient funds for gas * price + value: have {balance}, want {cost}"
        else:
            return
        reject("N5", "transaction", why)

    def _mine(self, transaction: Transaction | None) -> None:
        time_s = self._next_time()
        try:
            block = self._build(transaction, time_s)
        except BAD_TRANSACTION as error:
            reject("N5", "transaction", str(error))
        raw = None if transaction is None else _hex(transaction.encode())
        self._write({"kind": "block", "time": time_s, "transaction": raw, "hash": _hex(block.hash)})
        # Dies here: the block is on disk and nobody heard of it; the next start has it.
        self._extend(block)

    def _build(self, transaction: Transaction | None, time_s: int) -> Block:
        header = self._next_header(time_s)
        vm: Any = self._chain.get_vm(header)
        transactions = () if transaction is None else (transaction,)
        header, receipts, _ = vm.apply_all_transactions(transactions, header)
        filled = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, transactions, receipts)
        mined = vm.mine_block(filled).block
        header, size = mined.header, len(rlp_encode(mined))
        receipt = receipts[0] if receipts else None
        return Block(header.block_number, time_s, header.hash, size, header, transaction, receipt)

    def _extend(self, block: Block) -> None:
        self._chain.chaindb.persist_header(block.header)
        self._blocks.append(block)
        self._numbers[block.hash] = block.number
        self._forced_time_s = None
        if block.transaction is not None:
            self._transactions[block.transaction.hash] = block.number
        for event in _events_json(block):
            self._events.append(event)
            self._event_blocks.append(block.number)

    def _truncate(self, number: int) -> None:
        for block in self._blocks[number + 1 :]:
            del self._numbers[block.hash]
            if block.transaction is not None:
                del self._transactions[block.transaction.hash]
        del self._blocks[number + 1 :]
        kept = bisect_right(self._event_blocks, number)
        del self._events[kept:], self._event_blocks[kept:]
        self._reverts += 1
        self._forced_time_s = None


class JsonRpc:
    """What a node answers, for the part of it that Qazyna and its auditor ask."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._methods: dict[str, Callable[..., Any]] = {
            "eth_accounts": list,
            "eth_blockNumber": lambda: hex(machine.header("latest").block_number),
            "eth_call": self._call,
            "eth_chainId": lambda: hex(machine.chain_id),
            "eth_estimateGas": self._estimate_gas,
            "eth_feeHistory": self._fee_history,
            "eth_gasPrice": lambda: hex(machine.header("pending").base_fee_per_gas + PRIORITY_FEE_WEI),
            "eth_getBalance": self._balance,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getCode": self._code,
            "eth_getLogs": self._logs,
            "eth_getStorageAt": self._storage,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionCount": self._nonce,
            "eth_getTransactionReceipt": self._receipt,
            "eth_maxPriorityFeePerGas": lambda: hex(PRIORITY_FEE_WEI),
            "eth_sendRawTransaction": lambda raw: _hex(machine.send(_data(raw, "transaction"))),
            "eth_syncing": lambda: False,
            "net_version": lambda: str(machine.chain_id),
            "web3_clientVersion": lambda: f"qazyna-devchain/py-evm/{FORK}",
            "anvil_mine": lambda count=1: machine.mine(_quantity(count, "count")),
            "evm_increaseTime": lambda seconds: machine.shift_clock(_quantity(seconds, "seconds")),
            "evm_mine": self._mine,
            "evm_revert": lambda snapshot: machine.revert(_data(snapshot, "snapshot", 32)),
            "evm_setNextBlockTimestamp": lambda time_s: machine.force_next_time(
                _quantity(time_s, "timestamp")
            ),
            "evm_snapshot": lambda: _hex(machine.snapshot()),
        }

    def answer(self, body: bytes) -> bytes:
        """Answer a request or a batch; with nothing where only notifications came."""
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as error:
            return _json(_failure(None, Invalid("N1", "request", f"parse error: {error}")))
        if not isinstance(request, list):
            response = self._respond(request)
            return _json(response) if response else b""
        if not 1 <= len(request) <= BATCH_LIMIT:
            why = f"a batch of {len(request)}, allowed 1 to {BATCH_LIMIT}"
            return _json(_failure(None, Invalid("N2", "request", why)))
        responses = [response for one in request if (response := self._respond(one))]
        return _json(responses) if responses else b""

    def _respond(self, request: object) -> dict[str, Any] | None:
        fields = request if isinstance(request, dict) else {}
        identity = fields.get("id")
        try:
            response = {"jsonrpc": "2.0", "id": identity, "result": self._invoke(fields)}
        except Invalid as invalid:
            response = _failure(identity, invalid)
        except Unavailable as unavailable:
            response = _error(identity, RPC_CODES["N5"], str(unavailable))
        except Exception:
            # A bug of ours must not leave the rest of a batch without its answers.
            LOGGER.exception("a JSON-RPC request failed")
            response = _error(identity, INTERNAL_ERROR, "internal error")
        # No id, no answer (JSON-RPC 2.0 section 4.1); what is no request at all has none and is answered.
        return response if "id" in fields or "method" not in fields else None

    def _invoke(self, fields: dict[str, Any]) -> Any:
        name, parameters = fields.get("method"), fields.get("params", [])
        if not isinstance(name, str):
            reject("N2", "request", "not a JSON-RPC request object")
        if name not in self._methods:
            reject("N3", name, f"the method {name} does not exist/is not available")
        if not isinstance(parameters, list):
            reject("N4", name, "params must be an array")
        method = self._methods[name]
        try:
            inspect.signature(method).bind(*parameters)
        except TypeError as error:
            reject("N4", name, str(error))
        with self._machine.lock:
            return method(*parameters)

    def _block_by_number(self, tag: object, full: object = False) -> dict[str, Any] | None:
        block = self._machine.find(tag)
        return _block_json(block, full=bool(full)) if block else None

    def _block_by_hash(self, text: object, full: object = False) -> dict[str, Any] | None:
        block = self._machine.find_hash(_data(text, "hash", 32))
        return _block_json(block, full=bool(full)) if block else None

    def _transaction(self, text: object) -> dict[str, Any] | None:
        block = self._machine.find_transaction(_data(text, "hash", 32))
        return _transaction_json(block) if block else None

    def _receipt(self, text: object) -> dict[str, Any] | None:
        block = self._machine.find_transaction(_data(text, "hash", 32))
        return _receipt_json(block) if block else None

    def _state(self, tag: object) -> Any:
        # Nothing waits for a block here, so the state that is pending is the latest.
        return self._machine.state(self._machine.header("latest" if tag == "pending" else tag))

    def _nonce(self, address: object, tag: object = None) -> str:
        return hex(self._state(tag).get_nonce(_data(address, "address", 20)))

    def _balance(self, address: object, tag: object = None) -> str:
        return hex(self._state(tag).get_balance(_data(address, "address", 20)))

    def _code(self, address: object, tag: object = None) -> str:
        return _hex(self._state(tag).get_code(_data(address, "address", 20)))

    def _storage(self, address: object, slot: object, tag: object = None) -> str:
        word = self._state(tag).get_storage(_data(address, "address", 20), _quantity(slot, "slot"))
        return _hex(word.to_bytes(32, "big"))

    def _call(self, message: object, tag: object = None) -> str:
        fields = _object(message)
        computation = self._machine.execute(self._machine.header(tag), fields, _gas_of(fields))
        _check_succeeded(computation)
        return _hex(computation.output)

    def _estimate_gas(self, message: object, tag: object = "pending") -> str:
        fields, header = _object(message), self._machine.header(tag)
        limit = _gas_of(fields)
        computation = self._machine.execute(header, fields, limit)
        _check_succeeded(computation)
        used = limit - computation.get_gas_remaining()
        refund = min(computation.get_gas_refund(), used // 5)
        # The most that is held at any time: refunds come at the end, and calldata has a floor (EIP-7623).
        gas = max(used, used - refund + computation.data_floor_gas)
        # What was used may still not suffice: a call passes on 63/64 of what is left (EIP-150).
        while gas < limit and self._machine.execute(header, fields, gas).is_error:
            gas = (gas + CALL_STIPEND) * 64 // 63 + 1
        return hex(min(gas, limit))

    def _fee_history(self, count: object, newest: object, percentiles: object = None) -> dict[str, Any]:
        last = self._machine.find(newest) or reject("N5", "block", f"header not found: {newest}")
        first = max(0, last.number + 1 - min(max(1, _quantity(count, "blockCount")), 1_024))
        blocks = self._machine.blocks(first, last.number)
        following = self._machine.find(hex(last.number + 1))
        next_header = following.header if following else self._machine.header("pending")
        history: dict[str, Any] = {
            "oldestBlock": hex(first),
            "baseFeePerGas": [
                hex(header.base_fee_per_gas) for header in [*(b.header for b in blocks), next_header]
            ],
            # A ratio is a JSON number in this method; it is not money.
            "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in blocks],
        }
        if isinstance(percentiles, list) and percentiles:
            # With one transaction in a block, each percentile is its tip.
            tips = (_gas_price_of(b) - b.header.base_fee_per_gas if b.transaction else 0 for b in blocks)
            history["reward"] = [[hex(tip)] * len(percentiles) for tip in tips]
        return history

    def _logs(self, query: object) -> list[dict[str, Any]]:
        fields = _object(query)
        if "blockHash" in fields:
            if "fromBlock" in fields or "toBlock" in fields:
                reject("N4", "filter", "blockHash excludes fromBlock and toBlock")
            block = self._machine.find_hash(_data(fields["blockHash"], "blockHash", 32))
            first = last = block.number if block else reject("N5", "filter", "unknown block")
        else:
            first, last = (self._filter_number(fields.get(key)) for key in ("fromBlock", "toBlock"))
            if first > last:
                reject("N4", "filter", f"invalid block range: from {first} to {last}")
        topics = fields.get("topics") or []
        if not isinstance(topics, list) or len(topics) > 4:
            reject("N4", "topics", "not an array of at most 4 topics")
        addresses = _options(fields.get("address"), "address", 20)
        wanted = [_options(topic, "topics", 32) for topic in topics]
        return [event for event in self._machine.events(first, last) if _is_wanted(event, addresses, wanted)]

    def _filter_number(self, tag: object) -> int:
        # A block that does not exist yet is no error in a filter: there is nothing to find beyond the newest.
        block = self._machine.find(tag)
        return block.number if block else _quantity(tag, "filter")

    def _mine(self, time_s: object = None) -> str:
        if time_s is not None:
            self._machine.force_next_time(_quantity(time_s, "timestamp"))
        self._machine.mine()
        return "0x0"


class Provider(JSONBaseProvider):
    """web3's way to the chain of this process: the same bytes as over HTTP, without the socket."""

    def __init__(self, rpc: JsonRpc) -> None:
        super().__init__()
        self._rpc = rpc

    @override
    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        return self.decode_rpc_response(self._rpc.answer(self.encode_rpc_request(method, params)))

    @override
    def make_batch_request(self, requests: list[tuple[RPCEndpoint, Any]]) -> list[RPCResponse] | RPCResponse:
        return self.decode_rpc_response(self._rpc.answer(self.encode_batch_rpc_request(requests)))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, rpc: JsonRpc, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.rpc = rpc

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        LOGGER.debug("the connection of %s ended early", client_address)


class _Handler(BaseHTTPRequestHandler):
    """POST of JSON to any path; everything else is refused before it is read."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = READ_TIMEOUT_S
    # Headers and body leave as one segment; two would wait 40 ms for the other side's acknowledgement.
    wbufsize = -1

    def do_POST(self) -> None:
        """Read one request of a size that was announced and is allowed, and answer it."""
        status, length = self._examine()
        if status == 200:
            body = self.rfile.read(length)
            if len(body) == length:
                self._reply(200, self.server.rpc.answer(body))
        else:
            self._reply(status, b"")

    def _examine(self) -> tuple[int, int]:
        # A page elsewhere can make a browser post here, but not as JSON, nor under this name (DNS rebinding).
        if self.headers.get("Host", "").rpartition(":")[0] not in {"127.0.0.1", "localhost"}:
            return 403, 0
        if self.headers.get_content_type() != "application/json":
            return 415, 0
        digits = self.headers.get("Content-Length", "")
        if not (digits.isascii() and digits.isdigit()):
            return 411, 0
        if len(digits) > 9 or int(digits) > REQUEST_LIMIT_BYTES:
            return 413, 0
        return 200, int(digits)

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 200:
            # The body was not read, so the next request cannot be found on this connection.
            self.send_header("Connection", "close")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        LOGGER.debug(format, *args)


class DevChain(Machine):
    """One chain for every thread of this process, and for others over loopback JSON-RPC.

    The arguments are those of Machine. `provider` is for `Web3(chain.provider)`.
    """

    def __init__(
        self,
        journal: Path | None,
        balances: Mapping[str, int],
        now: Callable[[], int],
        *,
        chain_id: int = 31_337,
        finality_lag: int = 2,
    ) -> None:
        self._server: _Server | None = None
        super().__init__(journal, balances, now, chain_id=chain_id, finality_lag=finality_lag)
        self._rpc = JsonRpc(self)
        self.provider = Provider(self._rpc)

    def answer(self, body: bytes) -> bytes:
        """Answer JSON-RPC in bytes, as `serve` does over HTTP."""
        return self._rpc.answer(body)

    def serve(self, port: int = 0) -> str:
        """Answer JSON-RPC on 127.0.0.1, on a free port if none is given, and return the URL."""
        assert self._server is None, "already serving"
        try:
            self._server = _Server(self._rpc, port)
        except OSError as error:
            raise Unavailable("devchain", f"127.0.0.1:{port}: {error}") from error
        # Polled often, so that closing does not wait half a second.
        serve = partial(self._server.serve_forever, poll_interval=0.02)
        threading.Thread(target=serve, name="devchain", daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @override
    def close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- values ----


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _object(value: object) -> dict[str, Any]:
    return (
        value if isinstance(value, dict) else reject("N4", "params", f"expected an object, got {value!r:.80}")
    )


def _quantity(value: object, where: str) -> int:
    """Read a hexadecimal quantity, or the plain number with which development methods are called."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**256:
        return value
    if not isinstance(value, str) or not QUANTITY.fullmatch(value):
        reject("N4", where, f"expected a hexadecimal quantity, got {value!r:.80}")
    return int(value, 16)


def _data(value: object, where: str, size: int | None = None) -> bytes:
    if not isinstance(value, str) or not DATA.fullmatch(value) or size not in {None, len(value) // 2 - 1}:
        reject("N4", where, f"expected {size or 'any number of'} bytes in hexadecimal, got {value!r:.80}")
    return bytes.fromhex(value[2:])


def _least_gas(transaction: Transaction) -> int:
    """Give the gas without which a transaction cannot start; py-evm leaves out the floor of EIP-7623."""
    floor = PragueTransactionExecutor.calc_data_floor_gas(transaction, 0, 0)
    return int(max(transaction.intrinsic_gas, floor))


def _gas_of(message: dict[str, Any]) -> int:
    return min(_quantity(message.get("gas") or GAS_LIMIT, "gas"), GAS_LIMIT)


def _options(value: object, where: str, size: int) -> frozenset[str] | None:
    """Read one value, or a list of which one must be met; null and the empty list leave it open."""
    values: Sequence[object] = [] if value is None else value if isinstance(value, list) else [value]
    return frozenset(_hex(_data(one, where, size)) for one in values) or None


def _is_wanted(
    event: dict[str, Any], addresses: frozenset[str] | None, topics: Sequence[frozenset[str] | None]
) -> bool:
    if addresses is not None and event["address"] not in addresses:
        return False
    # A filter of n topics asks for at least n of them, open places included, as nodes do.
    have = event["topics"]
    return len(topics) <= len(have) and all(
        wanted is None or topic in wanted for wanted, topic in zip(topics, have, strict=False)
    )


def _reason(data: bytes) -> str:
    if data[:4] != ERROR_STRING:
        return ""
    try:
        return f": {abi_decode(['string'], data[4:])[0]}"
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return ""


def _check_succeeded(computation: Computation) -> None:
    if not computation.is_error:
        return
    if isinstance(computation.error, Revert):
        raise Reverted(bytes(computation.output))
    reject("N5", "execution", f"{type(computation.error).__name__}: {computation.error}")


def _error(identity: object, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}}


def _failure(identity: object, invalid: Invalid) -> dict[str, Any]:
    # Clients look for the words of nodes at the start of what the chain refused.
    message = invalid.why if invalid.rule in {"N3", "N5", "N6"} else f"{invalid.where}: {invalid.why}"
    response = _error(identity, RPC_CODES[invalid.rule], message)
    if isinstance(invalid, Reverted):
        response["error"]["data"] = _hex(invalid.data)
    return response


# ---- how nodes write blocks ----


def _gas_price_of(block: Block) -> int:
    transaction = block.transaction
    assert transaction is not None
    price: int = min(
        transaction.max_fee_per_gas, block.header.base_fee_per_gas + transaction.max_priority_fee_per_gas
    )
    return price


def _place_json(block: Block) -> dict[str, Any]:
    return {"blockHash": _hex(block.hash), "blockNumber": hex(block.number), "transactionIndex": "0x0"}


def _block_json(block: Block, *, full: bool) -> dict[str, Any]:
    header = block.header
    transactions: list[Any] = []
    if block.transaction is not None:
        transactions = [_transaction_json(block) if full else _hex(block.transaction.hash)]
    return {
        "number": hex(block.number),
        "hash": _hex(block.hash),
        "parentHash": _hex(header.parent_hash),
        "sha3Uncles": _hex(header.uncles_hash),
        "miner": _hex(header.coinbase),
        "stateRoot": _hex(header.state_root),
        "transactionsRoot": _hex(header.transaction_root),
        "receiptsRoot": _hex(header.receipt_root),
        "logsBloom": _hex(header.bloom.to_bytes(256, "big")),
        "difficulty": hex(header.difficulty),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "extraData": _hex(header.extra_data),
        "mixHash": _hex(header.mix_hash),
        "nonce": _hex(header.nonce),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "withdrawalsRoot": _hex(header.withdrawals_root),
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": _hex(header.parent_beacon_block_root),
        "requestsHash": _hex(header.requests_hash),
        "size": hex(block.size_bytes),
        "uncles": [],
        "withdrawals": [],
        "transactions": transactions,
    }


def _transaction_json(block: Block) -> dict[str, Any]:
    transaction = block.transaction
    assert transaction is not None
    kind = transaction.type_id or 0
    written = _place_json(block) | {
        "type": hex(kind),
        "hash": _hex(transaction.hash),
        "nonce": hex(transaction.nonce),
        "from": _hex(transaction.sender),
        "to": _hex(transaction.to) if transaction.to else None,
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "gasPrice": hex(_gas_price_of(block)),
        "input": _hex(transaction.data),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
        "v": hex(transaction.y_parity if kind else transaction.v),
    }
    if transaction.chain_id is not None:
        written["chainId"] = hex(transaction.chain_id)
    if kind > 0:
        written["yParity"] = written["v"]
        written["accessList"] = [
            {"address": _hex(address), "storageKeys": [_hex(key.to_bytes(32, "big")) for key in keys]}
            for address, keys in transaction.access_list
        ]
    if kind > 1:
        written["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        written["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    return written


def _receipt_json(block: Block) -> dict[str, Any]:
    transaction, receipt = block.transaction, block.receipt
    assert transaction is not None
    created = None
    if not transaction.to:
        created = _hex(keccak(rlp_encode([transaction.sender, transaction.nonce]))[12:])
    return _place_json(block) | {
        "type": hex(transaction.type_id or 0),
        "status": hex(receipt.state_root == b"\x01"),
        "transactionHash": _hex(transaction.hash),
        "from": _hex(transaction.sender),
        "to": _hex(transaction.to) if transaction.to else None,
        "contractAddress": created,
        "gasUsed": hex(receipt.gas_used),
        "cumulativeGasUsed": hex(receipt.gas_used),
        "effectiveGasPrice": hex(_gas_price_of(block)),
        "logsBloom": _hex(receipt.bloom.to_bytes(256, "big")),
        "logs": _events_json(block),
    }


def _events_json(block: Block) -> list[dict[str, Any]]:
    if block.transaction is None:
        return []
    place = _place_json(block) | {
        "transactionHash": _hex(block.transaction.hash),
        "blockTimestamp": hex(block.time_s),
        "removed": False,
    }
    return [
        place
        | {
            "address": _hex(log.address),
            "topics": [_hex(topic.to_bytes(32, "big")) for topic in log.topics],
            "data": _hex(log.data),
            "logIndex": hex(index),
        }
        for index, log in enumerate(block.receipt.logs)
    ]
