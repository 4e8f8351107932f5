"""ERC-7730 descriptors of what payers sign: calls of the router, and messages that a relayer brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contracts.bindings import COIN, PERMIT2
from contracts.transactions import load_artifact
from gateway.relayer.typed_data import AUTHORIZATION_TYPES, PERMIT2_TYPES

if TYPE_CHECKING:
    from gateway.budget.descriptors import Owner

SCHEMA = "https://eips.ethereum.org/assets/eip-7730/erc7730-v1.schema.json"
INTENT = "Pay an invoice; the city's share goes to its treasury"
DATE = {"format": "date", "params": {"encoding": "timestamp"}}
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


def payments(owner: Owner) -> dict[str, Any]:
    """The calls by which a payer pays."""
    formats = {}
    abi = [entry for entry in load_artifact("PaymentRouter")["abi"] if entry["type"] == "function"]
    for entry in abi:
        if not entry["name"].startswith("pay"):
            continue
        told = ",".join(_typed(member) for member in entry["inputs"])
        others = [member["name"] for member in entry["inputs"] if member["name"] != "quote"]
        formats[f"{entry['name']}({told})"] = _format(_quote("quote"), excluded=others)
    place = {"deployments": owner.deployments(owner.router), "abi": abi}
    return _file(owner, {"contract": place}, formats)


def authorizations(owner: Owner) -> dict[str, Any]:
    """EIP-3009: each token's own ReceiveWithAuthorization, which a relayer brings to the router."""
    fields: list[dict[str, Any]] = [
        {"path": "to", "label": "Who may bring it", "format": "addressName"},
        {"path": "value", "label": "Amount", "format": "tokenAmount", "params": {"tokenPath": "@.to"}},
        {"path": "from", "label": "From", "format": "addressName"},
        {"path": "validAfter", "label": "Not before", **DATE},
        {"path": "validBefore", "label": "Before", **DATE},
        {"path": "nonce", "label": "Hash of the quote that it pays", "format": "raw"},
    ]
    name = "ReceiveWithAuthorization"
    places = [place for token in owner.tokens for place in owner.deployments(token)]
    context = _signed(owner, places, name, AUTHORIZATION_TYPES)
    return _file(owner, context, {_encoded(name, AUTHORIZATION_TYPES): _format(fields)})


def permit2(owner: Owner) -> dict[str, Any]:
    """Permit2: two amounts, the city's and the merchant's, with the whole quote beside them."""
    amount = {"format": "tokenAmount", "params": {"tokenPath": "permitted.[].token"}}
    fields: list[dict[str, Any]] = [
        {"path": "spender", "label": "Who may bring it", "format": "addressName"},
        {"path": "permitted.[].token", "label": "Token", "format": "addressName"},
        {"path": "permitted.[].amount", "label": "City's part, then the merchant's", **amount},
        {"path": "deadline", "label": "Until", **DATE},
        {"path": "nonce", "label": "Number of the permit", "format": "raw"},
        *_quote("witness"),
    ]
    name = "PermitBatchWitnessTransferFrom"
    context = _signed(owner, owner.deployments(PERMIT2), name, PERMIT2_TYPES)
    context["eip712"]["domain"]["name"] = "Permit2"
    return _file(owner, context, {_encoded(name, PERMIT2_TYPES): _format(fields)})


def _quote(where: str) -> list[dict[str, Any]]:
    shown: dict[str, Any]
    fields = []
    for name, label in QUOTE.items():
        if name == "amount":
            native = f"0x{COIN.hex()}"
            params = {"tokenPath": f"{where}.token", "nativeCurrencyAddress": native}
            shown = {"format": "tokenAmount", "params": params}
        elif name == "validUntil":
            shown = DATE
        else:
            shown = {"format": "addressName" if name in {"merchant", "token"} else "raw"}
        fields.append({"path": f"{where}.{name}", "label": label, **shown})
    return fields


def _format(fields: list[dict[str, Any]], *, excluded: list[str] | None = None) -> dict[str, Any]:
    """Every field must be shown; what is left out on purpose is proof of it and no term."""
    told = {"intent": INTENT, "fields": fields, "required": [field["path"] for field in fields]}
    return told | ({"excluded": excluded} if excluded else {})


def _signed(
    owner: Owner, places: list[dict[str, Any]], name: str, types: dict[str, list[dict[str, str]]]
) -> dict[str, Any]:
    schema = {"primaryType": name, "types": types}
    return {"eip712": {"deployments": places, "domain": {"chainId": owner.chain_id}, "schemas": [schema]}}


def _file(owner: Owner, context: dict[str, Any], formats: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "context": context,
        "metadata": owner.metadata(),
        "display": {"formats": formats},
    }


def _encoded(name: str, types: dict[str, list[dict[str, str]]]) -> str:
    """What EIP-712 hashes of a type: the type, then those that it has in it, by name."""
    others = sorted(set(types) - {name, "EIP712Domain"})
    told = {each: ",".join(f"{part['type']} {part['name']}" for part in types[each]) for each in types}
    return "".join(f"{each}({told[each]})" for each in (name, *others))


def _typed(member: dict[str, Any]) -> str:
    if member["type"] == "tuple":
        return f"({','.join(_typed(part) for part in member['components'])}) {member['name']}"
    return f"{member['type']} {member['name']}"
