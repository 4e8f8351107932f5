"""Keys to sign in with in a sample city: its first merchant's, a cashier's, and an operator's.

In a file that only its owner can read, beside the city's other sample keys; worth nothing elsewhere.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from gateway.app import Gateway
from gateway.merchants import store
from gateway.merchants.roles import CASHIER, OPERATOR, OWNER

FILE = "sign-in.json"


def sample_keys(gateway: Gateway, folder: Path) -> Path:
    """Make them at the first time; returns where they are."""
    path = folder / FILE
    if path.exists():
        return path
    now = gateway.clock()
    with gateway.engine.begin() as connection:
        made = {"operator": store.new_key(connection, OPERATOR, None, now, name="sample")}
        for merchant in store.merchants(connection, "", 1):
            for role, sandbox in ((OWNER, False), (CASHIER, False), (OWNER, True)):
                name = "sandbox" if sandbox else role
                made[name] = store.new_key(connection, role, merchant.id, now, name="sample", sandbox=sandbox)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        json.dump(made, handle, indent=1)
    return path
