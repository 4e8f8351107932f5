"""A private key from a file: an encrypted keystore (Web3 Secret Storage), or 64 digits of hex."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.records import reject

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

PASSWORD = "QAZYNA_KEY_PASSWORD"  # noqa: S105 - the name of a variable


def read_key(path: Path) -> LocalAccount:
    """Read it; a keystore's password comes from QAZYNA_KEY_PASSWORD or is asked for."""
    import typer
    from eth_account import Account

    text = path.read_text(encoding="ascii").strip()
    try:
        if text.startswith("{"):
            password = os.environ.get(PASSWORD) or typer.prompt("password", hide_input=True, err=True)
            text = bytes(Account.decrypt(json.loads(text), password)).hex()
        account: LocalAccount = Account.from_key(text)
    except (ValueError, TypeError, KeyError) as error:
        # Never the text itself: it may be nearly a key.
        reject(
            "key",
            str(path),
            f"is no keystore that this password opens, and no key in hex ({type(error).__name__})",
        )
    return account
