"""Whether a transaction sent so much of the chain's coin from a wallet to a receiver: it leaves no log.

A transaction that itself goes from the one to the other says so. A contract wallet sends from within, and no
node need keep traces, so that both balances are compared before and after the block, less all that the
block's other transactions visibly moved. What else could have moved them makes it no proof
(docs/decisions/0026).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gateway.payments.outgoing import CoinSent, Moved
from gateway.rails.evm.blocks import MALFORMED
from gateway.rails.evm.rpc import Node, Refused, data, quantity, to_hex
from ledger.records import WORD, Unavailable

ADDRESS_BYTES = 20


@dataclass(frozen=True)
class No:
    """Why a transaction does not prove that the coin was sent."""

    why: str


def read_coin(
    node: Node, chain_id: int, asked: CoinSent, known_key: str | None = None
) -> Moved | No | Refused | None:
    """What a node says of a transaction: the transfer, why it proves none, or None where it is in no block.

    known_key: of what was read before; if the transaction stands where it stood, that holds. Refused, which
    is returned, is of a node that keeps no state so old: it is not at fault, and nothing is known.
    """
    try:
        return _read(node, chain_id, asked, known_key)
    except Refused as error:
        return error
    except MALFORMED as error:
        raise Unavailable(node.name, f"{type(error).__name__}: {error}"[:300]) from error


def _read(node: Node, chain_id: int, asked: CoinSent, known_key: str | None) -> Moved | No | None:
    hash = to_hex(asked.transaction)
    sent, receipt = node.ask("eth_getTransactionByHash", hash), node.ask("eth_getTransactionReceipt", hash)
    if sent is None or receipt is None:
        return None
    block_hash, block = data(receipt["blockHash"], WORD), quantity(receipt["blockNumber"])
    if data(sent["hash"], WORD) != asked.transaction or data(sent["blockHash"], WORD) != block_hash:
        raise ValueError("a transaction that was not asked for")
    if quantity(receipt["status"]) != 1:
        return No(f"{hash} failed")
    if block < asked.since_block:
        return No(f"{hash} is of block {block}, the refund of {asked.since_block}")
    place = f"evm:{chain_id}:{block_hash.hex()}"
    told = {"chainId": str(chain_id), "blockHash": to_hex(block_hash), "transaction": hash}
    if (_address(sent["from"]), _address(sent["to"])) == (asked.sender, asked.receiver):
        amount = quantity(sent["value"])
        if amount != asked.amount_minor:
            return No(
                f"{hash} sends {amount} to 0x{asked.receiver.hex()}, the refund is {asked.amount_minor}"
            )
        told |= {"kind": "evm-coin-transfer"}
        return _moved(asked, f"{place}:{asked.transaction.hex()}:coin", block, told)
    # One rise of a balance in a block stands for one refund, whoever names which transaction of it.
    key = f"{place}:{asked.receiver.hex()}:coin-rise"
    told |= {"kind": "evm-coin-rise", "from": to_hex(asked.sender), "to": to_hex(asked.receiver)}
    if key != known_key:
        why = _why_not_of(asked, sent, receipt) or _why_not_moved(node, asked, block_hash, block)
        if why is not None:
            return No(f"{hash}: {why}")
    return _moved(asked, key, block, told)


def _moved(asked: CoinSent, key: str, block: int, told: dict[str, str]) -> Moved:
    document = json.dumps(told | {"amount": str(asked.amount_minor)}, sort_keys=True, separators=(",", ":"))
    return Moved(
        key, asked.asset, asked.sender, asked.receiver, asked.amount_minor, block, asked.transaction,
        document.encode(),
    )  # fmt: skip


def _address(told: Any) -> bytes | None:
    return None if told is None else data(told, ADDRESS_BYTES)


def _why_not_of(asked: CoinSent, sent: dict[str, Any], receipt: dict[str, Any]) -> str | None:
    """Whether the wallet did anything in a transaction, and the receiver is named in it."""
    own = [log for log in receipt["logs"] if _address(log["address"]) == asked.sender]
    wallet = f"0x{asked.sender.hex()}"
    if asked.sender not in {_address(sent["from"]), _address(sent["to"])} and not own:
        return f"it is neither from nor to the merchant's wallet {wallet}, nor does that say anything in it"
    if asked.receiver in {_address(sent["from"]), _address(sent["to"])}:
        return "the receiver itself sends or is called, so that what it got cannot be told from what it spent"
    said = [data(sent["input"]), *(data(log["data"]) for log in own)]
    said += [data(topic, WORD) for log in own for topic in log["topics"]]
    if not any(asked.receiver in part for part in said):
        return f"it does not name the receiver 0x{asked.receiver.hex()}"
    return None


def _why_not_moved(node: Node, asked: CoinSent, block_hash: bytes, block: int) -> str | None:
    """Whether the wallet lost and the receiver got the amount in the block, and nobody else was about it."""
    told = node.ask("eth_getBlockByHash", to_hex(block_hash), *(True,))
    if data(told["hash"], WORD) != block_hash or quantity(told["number"]) != block:
        raise ValueError("a block that was not asked for")
    others = [one for one in told["transactions"] if data(one["hash"], WORD) != asked.transaction]
    own = [one for one in told["transactions"] if data(one["hash"], WORD) == asked.transaction]
    if len(own) != 1:
        raise ValueError("a block without the transaction that stands in it")
    rewarded = {_address(told["miner"])} | {_address(one["address"]) for one in told.get("withdrawals") or ()}
    if asked.receiver in rewarded:
        return f"block {block} rewards the receiver"
    receiver_before, receiver_after = _balances(node, asked.receiver, block)
    wallet_before, wallet_after = _balances(node, asked.sender, block)
    given = 0
    for one in others:
        is_called = _address(one["to"]) == asked.receiver
        is_plain = is_called and not data(node.ask("eth_getCode", to_hex(asked.receiver), to_hex(block)))
        touches = asked.receiver == _address(one["from"]) or asked.receiver in data(one["input"])
        if touches or (is_called and not is_plain):
            return f"0x{data(one['hash'], WORD).hex()} of the same block is about the receiver too"
        given += _value(node, one) if is_plain else 0
    rise = receiver_after - receiver_before - given
    if rise != asked.amount_minor:
        return f"0x{asked.receiver.hex()} got {rise} in block {block}, the refund is {asked.amount_minor}"
    # What came to the wallet in the meantime hides what left it.
    came = sum(_value(node, one) for one in told["transactions"] if _address(one["to"]) == asked.sender)
    # What it sent elsewhere by another transaction is no part of this one.
    went = sum(_value(node, one) for one in others if _address(one["from"]) == asked.sender)
    fall = wallet_before + came - went - wallet_after
    if fall < asked.amount_minor:
        return f"the wallet lost {fall} in block {block}, the refund is {asked.amount_minor}"
    return None


def _balances(node: Node, address: bytes, block: int) -> tuple[int, int]:
    """What an address held before a block and after it."""
    before, after = (
        quantity(node.ask("eth_getBalance", to_hex(address), to_hex(at))) for at in (block - 1, block)
    )
    return before, after


def _value(node: Node, sent: dict[str, Any]) -> int:
    """What a transaction brought to whom it called; nothing where it failed."""
    value = quantity(sent["value"])
    if not value:
        return 0
    receipt = node.ask("eth_getTransactionReceipt", sent["hash"])
    return value if quantity(receipt["status"]) == 1 else 0
