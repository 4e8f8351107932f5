"""Taking merchants on."""

from __future__ import annotations

import secrets

from gateway.db import Connection
from gateway.kz import check_bin, check_iban
from gateway.merchants import store
from gateway.merchants.store import Merchant
from ledger.records import ZERO_ADDRESS, reject


def enrol(
    connection: Connection, name: str, number: str, iban: str, wallet: bytes, now: int
) -> tuple[Merchant, str]:
    """Take a merchant on: a valid BIN, a valid IBAN, a wallet; returns it and its first key (P7)."""
    check_bin(number, "bin")
    check_iban(iban, "iban")
    if len(wallet) != 20 or wallet == ZERO_ADDRESS:
        reject("E2", "wallet", "a wallet is an address of 20 bytes, and not zero")
    if not name.isprintable():
        reject("text", "name", "a name has no control characters and no surrogates")
    if not 1 <= len(name.strip()) <= 200:
        reject("E3", "name", f"a merchant's name has 1 to 200 characters, this one {len(name.strip())}")
    if (known := store.merchant_of_bin(connection, number)) is not None:
        reject("conflict", "bin", f"a merchant with this BIN is enrolled as {known.id}")
    merchant = Merchant(f"m_{secrets.token_hex(8)}", name.strip(), number, iban, wallet)
    store.add_merchant(connection, merchant, now)
    return merchant, store.new_key(connection, store.MERCHANT, merchant.id, now)
