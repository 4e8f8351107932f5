"""The operator's list of providers that pay merchants out in tenge, vasp.json; the first is the usual one.

    {"providers": [{"name": "sample", "url": "https://vasp.example/api",
                    "addresses": ["0x<40 digits of hex>"], "public_key": "<64 digits of hex>"}]}

addresses: where it takes merchants' units; a merchant that it pays out has one of them as its wallet.
Its key for what we say (HMAC) is secret and not in the list: it is the key `vasp-<name>` of the keyring.
Without public_key (Ed25519) what the provider says is signed with that same key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.keyring import Keyring
from gateway.vasp.client import Provider
from gateway.vasp.messages import ProviderKey, SharedKey, Verifier
from ledger.records import Unavailable, reject


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProviderPlan(_Strict):
    """One provider."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,30}$")]
    url: Annotated[str, Field(pattern="^https?://[^/?#]+(/[^?#]*)?$")]
    addresses: Annotated[list[Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$")]], Field(min_length=1)]
    public_key: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None


class VaspPlan(_Strict):
    """The whole file."""

    providers: list[ProviderPlan]


def read_plan(path: Path) -> VaspPlan:
    """Read the file; no file is no provider. Refused where it says what nobody understands."""
    try:
        made = VaspPlan.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        return VaspPlan(providers=[])
    except OSError as error:
        raise Unavailable("vasp.json", f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        return reject("vasp.json", ".".join(str(part) for part in first["loc"]), first["msg"])
    except ValueError as error:
        return reject("vasp.json", str(path), f"it is not JSON: {error}")
    names = [one.name for one in made.providers]
    if len(set(names)) < len(names):
        reject("vasp.json", "providers", f"{len(names)} providers have {len(set(names))} names")
    return made


def providers_of(plan: VaspPlan, client: httpx.Client, keyring: Keyring) -> dict[str, Provider]:
    """The providers by name, in the order of the list; needs each one's key."""
    made = {}
    for one in plan.providers:
        if keyring.is_strict and not one.url.startswith("https://"):
            reject("vasp.json", one.name, "production needs an https address")
        ours = SharedKey(keyring.shared(f"vasp-{one.name}"))
        theirs: Verifier = ours
        if one.public_key is not None:
            theirs = ProviderKey(Ed25519PublicKey.from_public_bytes(bytes.fromhex(one.public_key)))
        addresses = frozenset(bytes.fromhex(address[2:]) for address in one.addresses)
        url = one.url.rstrip("/")
        made[one.name] = Provider(one.name, url, client, ours, theirs, addresses=addresses)
    return made
