"""The gateway's tables, and its engine and column types, which are the ledger's.

The ledger has tables of its own in the same database, so that evidence, invoice, inbox and
webhook commit together; it does not know this file.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Engine, MetaData

from ledger.database import Amount, Hash32, Integer64, engine, naming, reading

metadata: Final = MetaData(naming_convention=naming)


def create_all(opened: Engine) -> None:
    """Create the tables that are missing."""
    metadata.create_all(opened)


__all__ = [
    "Amount",
    "Connection",
    "Engine",
    "Hash32",
    "Integer64",
    "create_all",
    "engine",
    "metadata",
    "reading",
]
