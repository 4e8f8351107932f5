"""How it is known that money may go back to an address (P6; LEAKS 12).

Fixed before paying, it is known. Given afterwards, the address has to sign the terms of this one
refund, as a wallet (EIP-712, or EIP-191 where a wallet knows no more) or as a contract (ERC-1271),
and then 48 hours pass or an owner of the merchant says yes: who has only stolen a session
can do neither unseen.
"""

from __future__ import annotations

from typing import Any, Final

from eth_account import Account
from eth_account.messages import SignableMessage, _hash_eip191_message, encode_defunct, encode_typed_data

from gateway.eip55 import checksummed
from gateway.payments.outgoing import Sight
from gateway.payments.refund_model import Proof
from ledger.records import ZERO_ADDRESS, reject

WAIT_S: Final = 48 * 3600
_TYPES: Final = {
    "EIP712Domain": [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
    ],
    "RefundTerms": [
        {"name": "invoice", "type": "string"},
        {"name": "asset", "type": "string"},
        {"name": "amount", "type": "uint256"},
        {"name": "to", "type": "address"},
    ],
}


def typed_terms(chain_id: int, invoice_id: str, asset: str, amount_minor: int, to: bytes) -> dict[str, Any]:
    """What a wallet is shown and signs: this invoice, this amount in base units, this address."""
    return {
        "types": _TYPES,
        "primaryType": "RefundTerms",
        "domain": {"name": "Qazyna refund", "version": "1", "chainId": chain_id},
        "message": {"invoice": invoice_id, "asset": asset, "amount": amount_minor, "to": "0x" + to.hex()},
    }


def plain_terms(chain_id: int, invoice_id: str, asset: str, amount_minor: int, to: bytes) -> str:
    """The same as a text, for wallets that sign texts alone (EIP-191)."""
    return (
        f"Qazyna refund\nchain: {chain_id}\ninvoice: {invoice_id}\nasset: {asset}\n"
        f"amount in base units: {amount_minor}\nto: 0x{to.hex()}"
    )


def check_receiver(to: bytes, sight: Sight | None) -> None:
    """Refuse an address at which money would be lost or would be the city's again."""
    if len(to) != 20 or to == ZERO_ADDRESS:
        reject("E2", "to", f"an address has 20 bytes and is not zero, this has {len(to)}")
    if sight is not None and sight.is_ours(to):
        reject("P6", "to", "this is a contract of the city or a token, nobody could take the money there")


def prove_receiver(
    sight: Sight, invoice_id: str, asset: str, amount_minor: int, to: bytes, signature: bytes
) -> Proof:
    """How a signature proves the receiver, or Invalid; a node is asked where it may be a contract."""
    terms = (sight.chain_id, invoice_id, asset, amount_minor, to)
    typed = encode_typed_data(full_message=typed_terms(*terms))
    for message in (typed, encode_defunct(text=plain_terms(*terms))):
        if _signer(message, signature) == to:
            return Proof.SIGNED
    if sight.is_signed_by_contract(to, bytes(_hash_eip191_message(typed)), signature):
        return Proof.CONTRACT
    return reject(
        "P6", "signature", f"{checksummed(to)} did not sign a refund of {amount_minor} {asset} to itself"
    )


def _signer(message: SignableMessage, signature: bytes) -> bytes | None:
    try:
        return bytes.fromhex(Account.recover_message(message, signature=signature)[2:])
    except Exception:  # whatever eth_account finds wrong with bytes from outside, they prove nothing
        return None
