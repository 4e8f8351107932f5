"""What the router says, believed only with what moved the city's share (field failures 13, 15, 21)."""

from __future__ import annotations

import json

from contracts.bindings import COIN
from gateway.rails import Evidence, Kind, Stage
from gateway.rails.evm.logs import FLUSHED, PAID, Log, check_shape
from gateway.rails.evm.place import Place
from gateway.rails.evm.treasury_logs import Payout

AMOUNT_LIMIT = 1 << 128


def evidence_key(chain_id: int, log: Log) -> str:
    """The log is the identity: chain, block hash, transaction, index (field failures 14, 15)."""
    return f"evm:{chain_id}:{log.block_hash.hex()}:{log.transaction.hex()}:{log.index}"


def evidence_document(chain_id: int, transfer: Log, amount: int) -> bytes:
    """The public evidence that an ERC-20 Transfer log moved money, in the form of docs/bundle.md."""
    return _document("evm-log", chain_id, transfer, transfer.at, transfer.address(2), amount)


def coin_document(chain_id: int, log: Log, to: bytes, amount: int) -> bytes:
    """The public evidence that the coin moved, by the log of the contract of the city that says so."""
    return _document("evm-coin", chain_id, log, COIN, to, amount)


def payout_document(chain_id: int, payout: Payout) -> bytes:
    """The public evidence that an order or a refund was paid, by the log that says that it left."""
    assert payout.evidence is not None
    kind = "evm-coin" if payout.token == COIN else "evm-log"
    return _document(kind, chain_id, payout.evidence, payout.token, payout.to, payout.amount)


def _document(kind: str, chain_id: int, log: Log, token: bytes, to: bytes, amount: int) -> bytes:
    told = {
        "kind": kind,
        "chainId": str(chain_id),
        "blockHash": "0x" + log.block_hash.hex(),
        "transaction": "0x" + log.transaction.hex(),
        "logIndex": str(log.index),
        "token": "0x" + token.hex(),
        "to": "0x" + to.hex(),
        "amount": str(amount),
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def split(place: Place, log: Log, moved: list[Log], stage: Stage) -> Evidence | None:
    """What a payment or a flush says; None where nothing that counts moved.

    moved: the Transfers to the treasury in the same transaction; the one that moved this money is taken
    out, since one transfer stands for one payment.
    """
    check_shape(log)
    paid = log.topics[0] == PAID
    assert paid or log.topics[0] == FLUSHED
    token = log.address(2 if paid else 3)
    amount, city = log.word(0), log.word(1)
    if token not in place.tokens or not 0 < amount < AMOUNT_LIMIT or city > amount:
        return None
    chain_id, treasury = place.deployment.chain_id, place.deployment.treasury
    document = b""
    if city and token == COIN:
        # The coin leaves no log of its own. The router's code, which the ledger names by its hash, says
        # this only after the treasury took the coin: it reverts where that does not.
        document = coin_document(chain_id, log, treasury, city)
    elif city:
        # Paid is told before its transfers, Flushed after them.
        transfer = _nearest(log, moved, token, city, after=paid)
        if transfer is None:
            return None
        moved.remove(transfer)
        document = evidence_document(chain_id, transfer, city)
    # A deposit in the coin left no log when it came, so that its flush is what pays the invoice.
    pays = paid or token == COIN
    return Evidence(
        key=evidence_key(chain_id, log),
        kind=Kind.ROUTER if pays else Kind.FLUSH,
        stage=stage,
        asset=place.tokens[token],
        amount_minor=amount,
        city_minor=city,
        block=log.block,
        number=log.topics[1] if paid else b"",
        # Whoever flushes names the invoice; the address is what we gave.
        address=b"" if paid else log.address(2),
        document=document,
    )


def _nearest(log: Log, moved: list[Log], token: bytes, amount: int, *, after: bool) -> Log | None:
    sign = 1 if after else -1
    fitting = [
        transfer
        for transfer in moved
        if transfer.at == token and transfer.word(0) == amount and sign * (transfer.index - log.index) > 0
    ]
    return min(fitting, key=lambda transfer: sign * transfer.index, default=None)
