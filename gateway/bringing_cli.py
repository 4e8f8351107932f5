"""`qazyna contracts enact|execute|...`: what anybody, a payee or a seat may ask of the contracts.

What is shown to them is taken from a public bundle: signatures and proofs decide, and who pays decides
nothing, but where a seat or a party speaks for itself (stop, dispute, withdraw). So nobody depends on the
city's own server to be paid, to stop an order or to end a freeze.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.contracts_cli import City, Noted, Rpc
from gateway.keyfile import read_key
from gateway.resumption_cli import city_of
from ledger.records import WORD, as_json, reject

if TYPE_CHECKING:
    from web3.types import TxReceipt

    from contracts import bindings
    from gateway.budget.from_bundle import Records

Bundle = Annotated[str, typer.Option(help="the public bundle: a folder, or the address of /log")]
Hash = Annotated[
    str, typer.Argument(metavar="HASH", help="0x and the record's hashStruct, as `sign --explain` says it")
]
Key = Annotated[Path, typer.Option(help="who pays: a keystore (JSON), or hex; it decides nothing")]
Own = Annotated[
    Path, typer.Option(help="the seat's or the party's own key: a keystore (JSON), or hex; it pays too")
]
HERE = "http://127.0.0.1:8545"


def enact(
    city: City,
    hashes: Annotated[list[str], typer.Argument(metavar="HASH...", help="the acts, in the ledger's order")],
    bundle: Bundle,
    key: Key,
    rpc: Rpc = HERE,
    deployment: Noted = None,
) -> None:
    """Bring acts of the Council into force on the chain: seats, assets, payees, projects, allocations."""
    from contracts.bindings import is_enactable

    named = [_word(each) for each in hashes]
    town, records = city_of(city, rpc, deployment), _records(bundle)
    for each in named:
        shown = records.act(each, town, _now(town))
        record = shown[0]
        if not is_enactable(record, town.deployment.chain_id):
            why = f"a {type(record).__name__} like this one is the ledger's alone, and no chain's"
            reject("C:bring", f"record 0x{each.hex()}", why)
        _tell("enacted", each, town.enact(read_key(key), *shown))


def execute(
    city: City, hash: Hash, bundle: Bundle, key: Key, rpc: Rpc = HERE, deployment: Noted = None
) -> None:
    """Have an order paid: to its registered payee, and to nobody else."""
    named, town = _word(hash), city_of(city, rpc, deployment)
    asked = _records(bundle).execution(named, town, _now(town))
    receipt = town.execute(read_key(key), asked)
    _tell("paid", named, receipt)
    _tell_credit(town, receipt)


def refund(
    city: City, hash: Hash, bundle: Bundle, key: Key, rpc: Rpc = HERE, deployment: Noted = None
) -> None:
    """Have a promised refund paid, to where its record says."""
    named, town = _word(hash), city_of(city, rpc, deployment)
    asked = _records(bundle).refunding(named, town, _now(town))
    receipt = town.refund(read_key(key), asked)
    _tell("refunded", named, receipt)
    _tell_credit(town, receipt)


def pull(
    city: City,
    owner: Annotated[str, typer.Argument(help="who was credited: 0x and 20 bytes; the money goes there")],
    token: Annotated[str, typer.Argument(help="0x and the token's 20 bytes, or coin")],
    key: Key,
    source: Annotated[
        str, typer.Option("--from", help="treasury (orders, refunds) or router (merchants)")
    ] = "treasury",
    rpc: Rpc = HERE,
    deployment: Noted = None,
) -> None:
    """Send somebody what it could not receive when it was paid, and was credited."""
    from contracts.bindings import COIN

    to, money = _address(owner, "OWNER"), _address(token, "TOKEN", {"coin": COIN})
    if source not in {"treasury", "router"}:
        reject("C:bring", "--from", f"{source[:40]!a} is neither treasury nor router")
    town = city_of(city, rpc, deployment)
    amount = town.credit(source, to, money)
    receipt = town.pull(read_key(key), source, to, money)
    print(f"pulled: {amount} base units of {token} to 0x{to.hex()}, {_where(receipt)}")


def stop(city: City, hash: Hash, bundle: Bundle, key: Own, rpc: Rpc = HERE, deployment: Noted = None) -> None:
    """Stop one order or refund for 30 days, once; the key holds an auditor's seat."""
    from ledger.records import Order, Record, Refund

    named, town = _word(hash), city_of(city, rpc, deployment)
    record, _ = _records(bundle).find(named, Record)
    if not isinstance(record, Order | Refund):
        reject("C:bring", f"record {hash}", f"is a {type(record).__name__}, neither an Order nor a Refund")
    _tell("stopped", named, town.stop(read_key(key), record))


def dispute(
    city: City,
    commitment: Annotated[str, typer.Argument(metavar="HASH", help="0x and the commitment's hashStruct")],
    bundle: Bundle,
    document: Annotated[str, typer.Option(help="0x and the SHA-256 of what it is about")],
    key: Own,
    rpc: Rpc = HERE,
    deployment: Noted = None,
) -> None:
    """Hold a commitment: its payee, a certifier or an auditor says so, and no order of it is paid.

    It counts on the chain at once, whoever keeps it out of the ledger, and until the Council resolves it. The
    record is printed, for the ledger to have it too.
    """
    from contracts.bindings import sign_digest
    from ledger.records import Approval, Commitment, Dispute, approve_digest, hash_struct

    account, named, what = read_key(key), _word(commitment), _word(document, "--document")
    town = city_of(city, rpc, deployment)
    held, _ = _records(bundle).find(named, Commitment)
    now, by = _now(town), bytes.fromhex(account.address[2:])
    record = Dispute(now, named, by, what)
    until = now + DISPUTE_LASTS_S
    signed = sign_digest(account, approve_digest(town.deployment.domain, record, until), until)
    approval = Approval(0, hash_struct(record), by, until, signed.v, signed.r, signed.s)
    receipt = town.dispute(account, record, held, approval)
    print(json.dumps(as_json(record)))
    _tell("disputed", named, receipt)


def resolve(
    city: City, hash: Hash, bundle: Bundle, key: Key, rpc: Rpc = HERE, deployment: Noted = None
) -> None:
    """Settle a dispute as the Council's recorded Resolution says: the commitment goes on, or ends."""
    named, town = _word(hash), city_of(city, rpc, deployment)
    _tell(
        "resolved", named, town.resolve(read_key(key), *_records(bundle).resolution(named, town, _now(town)))
    )


def withdraw(
    city: City,
    hash: Annotated[
        str, typer.Argument(metavar="HASH", help="0x and the hashStruct that the signature is over")
    ],
    key: Own,
    rpc: Rpc = HERE,
    deployment: Noted = None,
) -> None:
    """Take a seat's own signature back on the chain, before it has counted there."""
    from contracts.bindings import sign_digest
    from ledger.records import Withdrawal, withdraw_digest

    account, named, town = read_key(key), _word(hash), city_of(city, rpc, deployment)
    signed = sign_digest(account, withdraw_digest(town.deployment.domain, named))
    record = Withdrawal(_now(town), named, signed.signer, signed.v, signed.r, signed.s)
    _tell("taken back", named, town.withdraw(account, record))


def lift(city: City, hash: Hash, bundle: Bundle, key: Key, rpc: Rpc = HERE, deployment: Noted = None) -> None:
    """End the freeze of a breach, by the Acknowledgement that Council and Auditor signed in the ledger."""
    named, town = _word(hash), city_of(city, rpc, deployment)
    _tell("lifted", named, town.lift(read_key(key), *_records(bundle).lifting(named, town, _now(town))))
    print(f"left: {town.frozen()} breaches of the log freeze the treasury")


def report(
    city: City,
    rule: Annotated[str, typer.Argument(help="O1, O2, O3, O6, O7, G7, H2 or E1, as the audit names it")],
    named: Annotated[
        list[str],
        typer.Argument(
            metavar="RECORD...", help="hashes of the orders, or of the transfer (G7); places (H2, E1)"
        ),
    ],
    bundle: Bundle,
    key: Key,
    rpc: Rpc = HERE,
    deployment: Noted = None,
) -> None:
    """Show the Watchdog a breach: it freezes that commitment, or by H2 and E1 all of the treasury."""
    wanted = [_place(each) if rule in {"H2", "E1"} else _word(each, "RECORD") for each in named]
    town = city_of(city, rpc, deployment)
    function, size, shown = _records(bundle).report(rule, wanted, town)
    receipt = town.report(read_key(key), function, size, *shown)
    print(f"reported: {rule} of {', '.join(named)}, {_where(receipt)}")


def _place(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        reject("C:bring", "RECORD", f"{text[:80]!a} is no place of a record in 1 to 18 digits")
    return int(text)


DISPUTE_LASTS_S = 86_400
COMMANDS = (enact, execute, refund, pull, stop, dispute, resolve, withdraw, report, lift)


def register(app: typer.Typer) -> None:
    """Put these among the commands about contracts."""
    for command in COMMANDS:
        app.command()(command)


def _records(bundle: str) -> Records:
    from gateway.budget.from_bundle import Records
    from ledger.audit.source import open_source

    def progress(done: int, total: int) -> None:
        if done and done % 65_536 == 0:
            print(f"read {done} of {total} records", file=sys.stderr)

    return Records(open_source(bundle), progress)


def _now(town: bindings.City) -> int:
    from contracts.transactions import answering

    with answering("newest block"):
        return int(town.w3.eth.get_block("latest")["timestamp"])


def _word(text: str, where: str = "HASH") -> bytes:
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", text):
        reject(
            "C:bring", where, f"{text[:80]!a} has {len(text)} characters, expected 0x and {WORD} bytes in hex"
        )
    return bytes.fromhex(text[2:])


def _address(text: str, where: str, known: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    if text in known:
        return known[text]
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        reject("C:bring", where, f"{text[:80]!a} has {len(text)} characters, expected 0x and 20 bytes in hex")
    return bytes.fromhex(text[2:])


def _tell(what: str, hash: bytes, receipt: TxReceipt) -> None:
    print(f"{what}: 0x{hash.hex()}, {_where(receipt)}")


def _tell_credit(town: bindings.City, receipt: TxReceipt) -> None:
    """Say what was credited and must be pulled."""
    from gateway.rails.evm import log_of
    from gateway.rails.evm.treasury_logs import CREDITED

    for log in map(log_of, receipt["logs"]):
        if log.at == town.deployment.treasury and log.topics[0] == CREDITED:
            to, token = log.address(1).hex(), log.address(2).hex()
            print(f"credited: 0x{to} could not receive {log.word(0)} of 0x{token}: see `contracts pull`")


def _where(receipt: TxReceipt) -> str:
    return f"transaction 0x{bytes(receipt['transactionHash']).hex()} in block {receipt['blockNumber']}"
