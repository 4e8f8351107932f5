"""`qazyna contracts resume`: by the Council's signatures an anchor goes on from an earlier head (LEAKS 02).

`ask` writes what the seats sign with `qazyna sign`; `announce` and, 14 days later, `finish` bring it to the
chain. Anybody may bring it: who pays decides nothing. The same signatures serve both.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from contracts.resumption import Resumption
from gateway.budget.typed_data import Typed, read_signature, read_typed_data, typed_data
from gateway.contracts_cli import Noted, load_founding, read_json
from gateway.keyfile import read_key
from ledger.records import WORD, hash_struct, reject

if TYPE_CHECKING:
    from contracts import bindings

app = typer.Typer(no_args_is_help=True, help="Go on from an earlier head where a poisoned one stands.")

DAY_S: Final = 86_400
# The notice of 14 days, and as long again to bring it.
VALID_DAYS: Final = 28

City = Annotated[Path, typer.Argument(help="the founding, as for `qazyna contracts deploy`")]
Rpc = Annotated[str, typer.Option(help="a node's JSON-RPC address")]
Asked = Annotated[Path, typer.Argument(help="what `ask` wrote")]
Signed = Annotated[list[Path], typer.Argument(help="what `qazyna sign` printed, a file for each seat")]
Key = Annotated[Path, typer.Option(help="who pays: a keystore (JSON), or hex; it decides nothing")]


@app.command()
def ask(
    city: City,
    size: Annotated[int, typer.Option(help="the size of the earlier head, which the chain must have")],
    act: Annotated[str, typer.Option(help="0x and the SHA-256 of the act, as in the record anchor@SIZE")],
    to: Annotated[Path, typer.Option(help="write what the seats sign here")],
    rpc: Rpc = "http://127.0.0.1:8545",
    days: Annotated[int, typer.Option(help="how long the signatures count")] = VALID_DAYS,
    deployment: Noted = None,
) -> None:
    """Write what a quorum of the Council signs, about a head that the chain has."""
    from contracts.transactions import answering

    word = _word(act)
    if not 0 < days <= 366:
        reject("C:resumption", "--days", f"{days} is not in 1 to 366")
    town = city_of(city, rpc, deployment)
    head = town.head_at(size)
    with answering("newest block"):
        now = town.w3.eth.get_block("latest")["timestamp"]
    asked = Resumption(now, head.size, head.time, head.root, word)
    place = town.deployment
    told = typed_data(asked, now + days * DAY_S, place.chain_id, place.council, place.ledger)
    to.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"asked: {to}; each seat reads it with `qazyna sign {to} --explain` and signs it with --key")


@app.command()
def announce(city: City, asked: Asked, signed: Signed, key: Key, rpc: Rpc = "http://127.0.0.1:8545") -> None:
    """Bring a quorum's signatures to the anchor; 14 days later it may go on."""
    from contracts.events import ResumptionAnnounced, read_events

    town, resumption, approvals = _brought(city, asked, signed, rpc)
    block = town.announce_resumption(read_key(key), resumption, approvals)["blockNumber"]
    place, named = [town.deployment.anchor], hash_struct(resumption)
    (told,) = read_events(town.w3, ResumptionAnnounced, place, block, block, named)
    print(f"announced: 0x{named.hex()}, from size {told.head_size}, not before {_shown(told.from_s)}")


@app.command()
def finish(city: City, asked: Asked, signed: Signed, key: Key, rpc: Rpc = "http://127.0.0.1:8545") -> None:
    """Go on from the earlier head once the notice is over: every later head is void from then on."""
    town, resumption, approvals = _brought(city, asked, signed, rpc)
    town.resume(read_key(key), resumption, approvals)
    newest = town.head()
    named, root = hash_struct(resumption), newest.root
    print(f"resumed: 0x{named.hex()}, newest head is size {newest.size}, root 0x{root.hex()}")


def _brought(
    city: Path, file: Path, signed: list[Path], rpc: str
) -> tuple[bindings.City, Resumption, list[bindings.Signature]]:
    """The city, what was asked for there, and the signatures of it; another city's is refused."""
    typed = read_typed_data(read_json(file))
    if not isinstance(typed.record, Resumption):
        reject("C:resumption", str(file), f"is a {type(typed.record).__name__}, not what `ask` writes")
    town = city_of(city, rpc)
    place = town.deployment
    found, here = (typed.chain_id, typed.council, typed.ledger), (place.chain_id, place.council, place.ledger)
    if found != here:
        reject("C:resumption", str(file), f"is for {_place(*found)}; these contracts are {_place(*here)}")
    return town, typed.record, [_signature(one, typed) for one in signed]


def _signature(file: Path, typed: Typed) -> bindings.Signature:
    """What `qazyna sign` printed last, if it is over these typed data."""
    from contracts.bindings import Signature

    *_, last = file.read_text(encoding="utf-8").splitlines() or [""]
    signer, approves, until, v, r, s = read_signature(last, str(file))
    if (approves, until) != (typed.approves, typed.valid_until):
        why = f"approves 0x{approves.hex()} until {until}"
        reject(
            "C:resumption", str(file), f"{why}, asked is 0x{typed.approves.hex()} until {typed.valid_until}"
        )
    return Signature(signer, until, v, r, s)


def city_of(city: Path, rpc: str, noted: Path | None = None) -> bindings.City:
    """The contracts of a founding; what `deploy --write` noted says from which block on events are read."""
    from contracts import bindings, deployment

    founding, w3 = load_founding(city), deployment.connect(rpc)
    found = deployment.find(w3, founding)
    if noted is not None:
        found = replace(found, block=deployment.from_json(read_json(noted)).block)
    return bindings.City(w3, found)


def _word(text: str) -> bytes:
    try:
        word = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        word = b""
    if len(word) != WORD or not any(word):
        reject("C:resumption", "--act", f"{text[:80]!a} is no 0x and {WORD} bytes in hex, or is zero")
    return word


def _place(chain_id: int, council: bytes, ledger: bytes) -> str:
    return f"council 0x{council.hex()} on chain {chain_id}, ledger 0x{ledger.hex()}"


def _shown(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, tz=UTC):%Y-%m-%d %H:%M:%S} UTC ({time_s})"
