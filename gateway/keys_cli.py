"""`qazyna keys`: make the keys that processes and seats need, and say what others must know of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.records import reject

if TYPE_CHECKING:
    from gateway.keyring import Keyring

app = typer.Typer(no_args_is_help=True, help="Keys of processes and seats, a file each.")
NAME = re.compile("[a-z][a-z0-9_-]{0,39}")
Names = Annotated[list[str], typer.Argument(help="gateway, relayer, operator, log, ml_dsa, watcher ...")]
Folder = Annotated[Path | None, typer.Option(help="without: the folder of keys of the settings")]


@app.command()
def new(names: Names, folder: Folder = None) -> None:
    """Make random keys, each in a file of its name that only its owner may read; none is ever overwritten."""
    from gateway.keyring import make

    place = _folder(folder)
    for name in names:
        if not NAME.fullmatch(name):
            reject("keys", name[:40], f"a key's name is of the form {NAME.pattern}")
    make(place, names)
    show(names, place)


@app.command()
def show(names: Names, folder: Folder = None) -> None:
    """Say the address or the public key of each: what is public, and never the key."""
    from gateway.keyring import Keyring

    ring = Keyring.open(_folder(folder), is_strict=False)
    for name in names:
        print(f"{name:>10}  {_public(ring, name)}")


def _folder(folder: Path | None) -> Path:
    from gateway.settings import Settings

    return Settings().keys_folder if folder is None else folder


def _public(ring: Keyring, name: str) -> str:
    if name in {"log", "cosigner"}:
        return f"ed25519 {ring.ed25519(name)}"
    if name == "ml_dsa":
        return "ML-DSA-44, see trust.json of the bundle"
    if name.startswith("vasp-"):
        return "a secret that the provider has too: give it the content of this file, over a safe way"
    return ring.account(name).address
