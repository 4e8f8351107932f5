"""ERC-7730 descriptors: what wallets show of what seats sign, and of the calls by which payers pay.

The words are those of explain.py, in English, as the standard has it. Where the contracts of a ledger stand
is filled in by `qazyna contracts descriptors`; contracts/erc7730 has them for no place at all, to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.transactions import load_artifact
from gateway.budget.explain import MEMBERS, SAYS, TIMES
from gateway.budget.typed_data import APPROVE, DOMAIN_TYPE, SIGNED, approve_types
from ledger.records import DOMAIN_NAME, DOMAIN_VERSION, ZERO_ADDRESS, Record, member_name

SCHEMA = "https://eips.ethereum.org/assets/eip-7730/erc7730-v1.schema.json"
ENGLISH = 2
QUOTE = {
    "invoice": "Invoice",
    "purpose": "Purpose",
    "merchant": "Merchant",
    "token": "Token",
    "amount": "Amount",
    "shareBps": "City's share, 1/10,000",
    "validUntil": "Valid until",
    "nonce": "Number of the quote",
}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose contracts these are, and where; an ERC-7730 descriptor counts for these addresses alone."""

    name: str
    url: str
    chain_id: int
    council: bytes
    router: bytes

    def metadata(self) -> dict[str, Any]:
        """Who owns them."""
        return {"owner": "Qazyna", "info": {"legalName": self.name, "url": self.url}}

    def deployments(self, place: bytes) -> list[dict[str, Any]]:
        """Where one of them stands."""
        return [{"chainId": self.chain_id, "address": f"0x{place.hex()}"}]


NOBODY = Owner("The ledger of a city", "https://city.example/", 31337, ZERO_ADDRESS, ZERO_ADDRESS)


def descriptors(owner: Owner) -> dict[str, dict[str, Any]]:
    """Both files, by name."""
    return {"approvals": approvals(owner), "payments": payments(owner)}


def _field(path: str, label: str, form: str, name: str) -> dict[str, Any]:
    if name in TIMES:
        return {"path": path, "label": label, "format": "date", "params": {"encoding": "timestamp"}}
    return {"path": path, "label": label, "format": "addressName" if form == "address" else "raw"}


def _approve(kind: type[Record]) -> dict[str, Any]:
    fields = [
        _field(f"record.{member_name(name)}", MEMBERS[name][ENGLISH].capitalize(), form, name)
        for name, _, form in kind.members
    ]
    fields.append(_field("validUntil", "Signature valid until", "", "valid_until"))
    required = [field["path"] for field in fields]
    return {"intent": SAYS[kind.__name__][ENGLISH], "fields": fields, "required": required}


def _schema(kind: type[Record]) -> dict[str, Any]:
    types = {"EIP712Domain": DOMAIN_TYPE, **approve_types(kind)}
    named = {
        name: [{"name": member, "type": form} for member, form in members] for name, members in types.items()
    }
    return {"primaryType": APPROVE, "types": named}


def approvals(owner: Owner) -> dict[str, Any]:
    """The EIP-712 messages of seats."""
    formats = {
        f"Approve({kind.__name__} record,uint64 validUntil){kind.type_string}": _approve(kind)
        for kind in SIGNED
    }
    domain = {"name": DOMAIN_NAME, "version": DOMAIN_VERSION, "chainId": owner.chain_id}
    schemas = [_schema(kind) for kind in SIGNED]
    place = {"deployments": owner.deployments(owner.council), "domain": domain, "schemas": schemas}
    return {
        "$schema": SCHEMA,
        "context": {"eip712": place},
        "metadata": owner.metadata(),
        "display": {"formats": formats},
    }


def payments(owner: Owner) -> dict[str, Any]:
    """The calls by which a payer pays."""
    formats = {}
    abi = [entry for entry in load_artifact("PaymentRouter")["abi"] if entry["type"] == "function"]
    for entry in abi:
        if not entry["name"].startswith("pay"):
            continue
        fields: list[dict[str, Any]] = []
        for name, label in QUOTE.items():
            path = f"quote.{name}"
            if name == "amount":
                shown = {"format": "tokenAmount", "params": {"tokenPath": "quote.token"}}
            elif name == "validUntil":
                shown = {"format": "date", "params": {"encoding": "timestamp"}}
            else:
                shown = {"format": "addressName" if name in {"merchant", "token"} else "raw"}
            fields.append({"path": path, "label": label, **shown})
        told = ",".join(_typed(member) for member in entry["inputs"])
        formats[f"{entry['name']}({told})"] = {
            "intent": "Pay an invoice; the city's share goes to its treasury",
            "fields": fields,
            "required": [field["path"] for field in fields],
        }
    return {
        "$schema": SCHEMA,
        "context": {"contract": {"deployments": owner.deployments(owner.router), "abi": abi}},
        "metadata": owner.metadata(),
        "display": {"formats": formats},
    }


def _typed(member: dict[str, Any]) -> str:
    if member["type"] == "tuple":
        return f"({','.join(_typed(part) for part in member['components'])}) {member['name']}"
    return f"{member['type']} {member['name']}"
