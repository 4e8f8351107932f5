"""`qazyna contracts`: deploy the contracts of a ledger, read them back, and show what is in force."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.records import WORD, Unavailable, reject

if TYPE_CHECKING:
    from web3 import Web3

    from contracts.bindings import Deployment
    from contracts.deployment import Difference, Founding

app = typer.Typer(no_args_is_help=True, help="Deploy the contracts of a ledger, verify and show them.")

City = Annotated[
    Path, typer.Argument(help="the founding: ledger, retentionEnd, and the Seat and Quorum records")
]
Rpc = Annotated[str, typer.Option(help="a node's JSON-RPC address")]
Noted = Annotated[Path | None, typer.Option(help="what `deploy --write` noted")]


@app.command()
def deploy(
    city: City,
    key: Annotated[Path, typer.Option(help="who pays: a keystore (JSON), or hex; it decides nothing")],
    rpc: Rpc = "http://127.0.0.1:8545",
    write: Annotated[Path | None, typer.Option(help="note places and code hashes here")] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(help="a token that counts, USDT=0x...; again for each"),
    ] = None,
    iban: Annotated[str, typer.Option(help="where residents pay in tenge")] = "",
    plan: Annotated[
        Path | None, typer.Option(help="with --token and --iban: the plan; without: where the settings say")
    ] = None,
) -> None:
    """Deploy what is not there yet, at addresses that code and founding decide, and read it back.

    With --token and --iban it leaves plan.json, by which server and worker start.
    """
    from contracts import bindings, deployment
    from gateway.keyfile import read_key
    from gateway.kz import check_iban

    founding = load_founding(city)
    w3 = deployment.connect(rpc)
    # What is wrong with the plan is told before anything costs gas.
    tokens = _tokens(w3, token or []) if token or iban or plan else {}
    if tokens:
        check_iban(iban, "--iban")
    made = bindings.deploy(w3, read_key(key), founding.ledger, founding.retention_end, founding.records)
    _tell(made, deployment.verify(w3, made, founding.retention_end, founding.records))
    if write is not None:
        write.write_text(json.dumps(deployment.as_json(made), indent=1) + "\n", encoding="utf-8")
    if tokens:
        print(f"plan: {_leave_plan(made, tokens, iban, plan)}")


@app.command()
def verify(city: City, rpc: Rpc = "http://127.0.0.1:8545", deployment: Noted = None) -> None:
    """Compare what stands on the chain with the founding and with the code that the sources give."""
    from contracts import deployment as chain

    founding = load_founding(city)
    w3 = chain.connect(rpc)
    found = chain.from_json(read_json(deployment)) if deployment else chain.find(w3, founding)
    _tell(found, chain.verify(w3, found, founding.retention_end, founding.records))


@app.command()
def show(
    city: City, rpc: Annotated[str, typer.Option(help="a node; without it, only where they will stand")] = ""
) -> None:
    """Show where the contracts stand, and with a node what is in force."""
    from contracts import bindings, deployment

    founding = load_founding(city)
    if not rpc:
        planned = bindings.plan(0, founding.ledger, founding.retention_end, founding.records)
        print(f"ledger 0x{founding.ledger.hex()}, on any chain:")
        print("\n".join(f"{name:>10}  0x{place.hex()}" for name, place in planned.places.items()))
        return
    w3 = deployment.connect(rpc)
    print("\n".join(deployment.show(bindings.City(w3, deployment.find(w3, founding)))))


@app.command()
def descriptors(
    city: City,
    to: Annotated[Path, typer.Option(help="the folder for the files")],
    chain_id: Annotated[int, typer.Option(help="the chain on which the contracts stand")],
    owner: Annotated[str, typer.Option(help="whose they are, as wallets will show it")],
    url: Annotated[str, typer.Option(help="the owner's page")],
    token: Annotated[
        list[str] | None,
        typer.Option(help="a token whose payers may sign by EIP-3009, 0x...; again for each"),
    ] = None,
) -> None:
    """Write the ERC-7730 descriptors by which wallets show what is signed for this ledger."""
    from contracts import bindings
    from gateway.budget.descriptors import Owner
    from gateway.budget.descriptors import descriptors as described

    founding = load_founding(city)
    places = bindings.plan(chain_id, founding.ledger, founding.retention_end, founding.records).places
    for each in (spelled := token or []):
        if not re.fullmatch("0x[0-9a-fA-F]{40}", each):
            reject("descriptors", "--token", f"{each[:80]!a} is no address: 0x and 40 hex digits")
    tokens = tuple(bytes.fromhex(each.removeprefix("0x")) for each in spelled)
    to.mkdir(parents=True, exist_ok=True)
    files = described(Owner(owner, url, chain_id, places["council"], places["router"], tokens))
    for name, content in files.items():
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (to / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"descriptors: {', '.join(f'{name}.json' for name in sorted(files))} in {to}")


def load_founding(path: Path) -> Founding:
    """Read {"ledger": "0x...", "retentionEnd": "...", "founding": [{"record": "Seat", ...}, ...]}."""
    from contracts.deployment import Founding
    from gateway.budget.typed_data import read_record_json

    told = read_json(path)
    try:
        ledger, end = bytes.fromhex(told["ledger"].removeprefix("0x")), int(told["retentionEnd"])
        founders = list(told["founding"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reject("C:founding", str(path), f"no ledger, retentionEnd or founding as they should be: {error!r}")
    if len(ledger) != WORD or not 0 < end < 1 << 64:
        reject("C:founding", str(path), f"a ledger of {len(ledger)} bytes, not {WORD}, or no second: {end}")
    records = tuple(read_record_json(each, f"founding[{n}]") for n, each in enumerate(founders))
    return Founding(ledger, end, records)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file."""
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reject("C:founding", str(path), f"is no JSON: {error}")
    except OSError as error:
        raise Unavailable("file", f"{path}: {error.strerror}") from error
    if not isinstance(told, dict):
        reject("C:founding", str(path), f"holds no object but {type(told).__name__}")
    return told


def _tokens(w3: Web3, told: Sequence[str]) -> dict[str, bytes]:
    """Token by asset name, as they are given; each must be a contract on this chain."""
    from contracts.bindings import code_at
    from contracts.transactions import answering

    found: dict[str, bytes] = {}
    for one in told:
        asset, _, address = one.partition("=")
        if not re.fullmatch(r"[A-Z][A-Z0-9.-]{0,30}=0x[0-9a-fA-F]{40}", one) or asset in found:
            reject("plan", "--token", f"{one[:80]!a} is no ASSET=0x... of 20 bytes, or is named twice")
        found[asset] = bytes.fromhex(address[2:])
        with answering("plan"):
            code = code_at(w3, found[asset])
        if not code:
            reject("plan", "--token", f"{asset}: there is no contract at {address} on this chain")
    if not found:
        reject("plan", "--token", "a plan needs a token that counts, as USDT=0x...")
    return found


def _leave_plan(made: Deployment, tokens: dict[str, bytes], iban: str, path: Path | None) -> Path:
    """Write the plan; another ledger's is never overwritten."""
    from gateway.plan import Plan
    from gateway.settings import Settings

    place = Settings().plan_path if path is None else path
    if place.exists():
        before = Plan.load(place).deployment
        if (before.ledger, before.chain_id) != (made.ledger, made.chain_id):
            why = f"it is of ledger 0x{before.ledger.hex()} on chain {before.chain_id}"
            reject("plan", str(place), f"{why}, and is not overwritten with 0x{made.ledger.hex()}'s")
        # Whoever deploys again is not told when it was: 0 would have all of the chain read.
        made = replace(made, block=made.block or before.block)
    (first, token), *others = tokens.items()
    place.parent.mkdir(parents=True, exist_ok=True)
    Plan(made, token, iban, first, dict(others)).save(place)
    return place


def _tell(found: Deployment, differences: Sequence[Difference]) -> None:
    from contracts.transactions import CONTRACTS

    for name in CONTRACTS:
        print(f"{name:>10}  0x{getattr(found, name).hex()}  code 0x{found.code_hashes[name].hex()}")
    if differences:
        print("\n".join(str(each) for each in differences))
        raise typer.Exit(1)
    print(f"valid: {len(CONTRACTS)} contracts of ledger 0x{found.ledger.hex()} on chain {found.chain_id}")
