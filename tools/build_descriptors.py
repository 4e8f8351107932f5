"""Write contracts/erc7730: what wallets show of what seats sign and of the calls that payers make."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contracts.bindings import load_artifact
from gateway.budget.explain import MEMBERS, SAYS
from ledger.records import DOMAIN_NAME, DOMAIN_VERSION, KINDS, Record, member_name

FOLDER = Path(__file__).resolve().parent.parent / "contracts" / "erc7730"
SCHEMA = "https://eips.ethereum.org/assets/eip-7730/erc7730-v1.schema.json"
ENGLISH = 2
SECONDS = frozenset({"time", "valid_from", "valid_to", "valid_until", "as_of", "retention_end"})
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


def _field(path: str, label: str, form: str, name: str) -> dict[str, Any]:
    if name in SECONDS:
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


def approvals() -> dict[str, Any]:
    """The EIP-712 messages of seats. Addresses of a deployment are added by whoever registers the file."""
    formats = {
        f"Approve({kind.__name__} record,uint64 validUntil){kind.type_string}": _approve(kind)
        for kind in KINDS
    }
    domain = {"name": DOMAIN_NAME, "version": DOMAIN_VERSION}
    return {
        "$schema": SCHEMA,
        "context": {"eip712": {"deployments": [], "domain": domain}},
        "metadata": {"owner": "Qazyna", "info": {"legalName": "Qazyna, the ledger of a city"}},
        "display": {"formats": formats},
    }


def payments() -> dict[str, Any]:
    """The calls by which a payer pays."""
    formats = {}
    for entry in load_artifact("PaymentRouter")["abi"]:
        if entry["type"] != "function" or not entry["name"].startswith("pay"):
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
        "context": {"contract": {"deployments": [], "abi": load_artifact("PaymentRouter")["abi"]}},
        "metadata": {"owner": "Qazyna", "info": {"legalName": "Qazyna, the ledger of a city"}},
        "display": {"formats": formats},
    }


def _typed(member: dict[str, Any]) -> str:
    if member["type"] == "tuple":
        return f"({','.join(_typed(part) for part in member['components'])}) {member['name']}"
    return f"{member['type']} {member['name']}"


def main() -> None:
    """Write, or compare with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    asked = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, content in {"approvals": approvals(), "payments": payments()}.items():
        path, text = FOLDER / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not asked.check:
                path.write_text(text, encoding="utf-8")
    if asked.check and stale:
        sys.exit(f"descriptors: {', '.join(stale)} differ; run `make contracts`")
    print(f"descriptors: {len(stale)} {'differ' if asked.check else 'written'}")


if __name__ == "__main__":
    main()
