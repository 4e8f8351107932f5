"""ERC-7730 descriptors: what wallets show of what seats sign, and of what payers do (payer_descriptors.py).

The words are those of explain.py, in English, as the standard has it. Where the contracts of a ledger stand
is filled in by `qazyna contracts descriptors`; contracts/erc7730 has them for no place at all, to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.budget.explain import MEMBERS, SAYS, TIMES, WITHDRAWN
from gateway.budget.payer_descriptors import SCHEMA, authorizations, payments, permit2
from gateway.budget.typed_data import APPROVE, DOMAIN_TYPE, SIGNED, WITHDRAW, WITHDRAW_TYPES, approve_types
from ledger.records import DOMAIN_NAME, DOMAIN_VERSION, ZERO_ADDRESS, Record, member_name

ENGLISH = 2


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose contracts these are, and where; an ERC-7730 descriptor counts for these addresses alone.

    tokens: those whose payers may sign an EIP-3009 authorization, 20 bytes each; none, no descriptor of it.
    """

    name: str
    url: str
    chain_id: int
    council: bytes
    router: bytes
    tokens: tuple[bytes, ...] = ()

    def metadata(self) -> dict[str, Any]:
        """Who owns them."""
        return {"owner": "Qazyna", "info": {"legalName": self.name, "url": self.url}}

    def deployments(self, place: bytes) -> list[dict[str, Any]]:
        """Where one of them stands."""
        return [{"chainId": self.chain_id, "address": f"0x{place.hex()}"}]


NOBODY = Owner(
    "The ledger of a city", "https://city.example/", 31337, ZERO_ADDRESS, ZERO_ADDRESS, (ZERO_ADDRESS,)
)


def descriptors(owner: Owner) -> dict[str, dict[str, Any]]:
    """The files, by name."""
    files = {"approvals": approvals(owner), "payments": payments(owner), "permit2": permit2(owner)}
    return files | ({"authorizations": authorizations(owner)} if owner.tokens else {})


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


def _withdraw() -> dict[str, Any]:
    field = _field("approves", MEMBERS["approves"][ENGLISH].capitalize(), "hash", "approves")
    return {"intent": WITHDRAWN[ENGLISH], "fields": [field], "required": ["approves"]}


def _schema(primary: str, types: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, Any]:
    named = {
        name: [{"name": member, "type": form} for member, form in members]
        for name, members in {"EIP712Domain": DOMAIN_TYPE, **types}.items()
    }
    return {"primaryType": primary, "types": named}


def approvals(owner: Owner) -> dict[str, Any]:
    """The EIP-712 messages of seats."""
    formats = {
        f"Approve({kind.__name__} record,uint64 validUntil){kind.type_string}": _approve(kind)
        for kind in SIGNED
    }
    formats["Withdraw(bytes32 approves)"] = _withdraw()
    domain = {"name": DOMAIN_NAME, "version": DOMAIN_VERSION, "chainId": owner.chain_id}
    schemas = [_schema(APPROVE, approve_types(kind)) for kind in SIGNED]
    schemas.append(_schema(WITHDRAW, WITHDRAW_TYPES))
    place = {"deployments": owner.deployments(owner.council), "domain": domain, "schemas": schemas}
    return {
        "$schema": SCHEMA,
        "context": {"eip712": place},
        "metadata": owner.metadata(),
        "display": {"formats": formats},
    }
