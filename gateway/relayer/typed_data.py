"""What a wallet is asked to sign, as eth_signTypedData_v4 takes it (EIP-712) and can show it. Pure.

The hashes of these are `authorization_digest` and `permit2_digest` of contracts/bindings.py; a test compares.
"""

from __future__ import annotations

from typing import Any

from contracts.bindings import PERMIT2, Quote
from gateway.rails.evm.rpc import to_hex
from gateway.relayer.tokens import TokenDomain
from ledger.records import encode_name


def _members(text: str) -> list[dict[str, str]]:
    """The members of a struct from how EIP-712 writes them: "address token,uint256 amount"."""
    pairs = (member.split(" ") for member in text.split(","))
    return [{"name": name, "type": kind} for kind, name in pairs]


_CONTRACT = "uint256 chainId,address verifyingContract"
AUTHORIZATION_TYPES = {
    "EIP712Domain": _members(f"string name,string version,{_CONTRACT}"),
    "ReceiveWithAuthorization": _members(
        "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce"
    ),
}
PERMIT2_TYPES = {
    "EIP712Domain": _members(f"string name,{_CONTRACT}"),
    "PermitBatchWitnessTransferFrom": _members(
        "TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline,Quote witness"
    ),
    "Quote": _members(
        "bytes32 invoice,bytes32 purpose,address merchant,address token,uint256 amount,uint256 shareBps,"
        "uint256 validUntil,uint256 nonce"
    ),
    "TokenPermissions": _members("address token,uint256 amount"),
}


def authorization_asked(domain: TokenDomain, quote: Quote, payer: bytes, router: bytes) -> dict[str, Any]:
    """EIP-3009: the token's own ReceiveWithAuthorization, whose nonce is the quote's hash."""
    return {
        "types": AUTHORIZATION_TYPES,
        "primaryType": "ReceiveWithAuthorization",
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": to_hex(domain.contract),
        },
        "message": {
            "from": to_hex(payer),
            "to": to_hex(router),
            "value": str(quote.amount),
            "validAfter": "0",
            "validBefore": str(quote.valid_until + 1),
            "nonce": to_hex(quote.hash()),
        },
    }


def permit2_asked(chain_id: int, quote: Quote, city_amount: int, nonce: int, router: bytes) -> dict[str, Any]:
    """Permit2: two permissions, the city's part and the rest, with the whole quote as witness."""
    token = to_hex(quote.token)
    return {
        "types": PERMIT2_TYPES,
        "primaryType": "PermitBatchWitnessTransferFrom",
        "domain": {"name": "Permit2", "chainId": chain_id, "verifyingContract": to_hex(PERMIT2)},
        "message": {
            "permitted": [
                {"token": token, "amount": str(city_amount)},
                {"token": token, "amount": str(quote.amount - city_amount)},
            ],
            "spender": to_hex(router),
            "nonce": str(nonce),
            "deadline": str(quote.valid_until),
            "witness": {
                "invoice": to_hex(quote.invoice),
                "purpose": to_hex(encode_name(quote.purpose)),
                "merchant": to_hex(quote.merchant),
                "token": token,
                "amount": str(quote.amount),
                "shareBps": str(quote.share_bps),
                "validUntil": str(quote.valid_until),
                "nonce": str(quote.nonce),
            },
        },
    }
