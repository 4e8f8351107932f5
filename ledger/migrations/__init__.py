"""Brings a database to the tables of this version, whatever version made it.

An empty database gets today's tables at once; an older one is changed step by step, its rows
kept. Ledger and signed heads are two databases with a history each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, MetaData, String, column, inspect, select, table

from ledger import tables

HERE: Final = Path(__file__).parent
VERSION_TABLES: Final = {"ledger": "ledger_version", "heads": "signed_head_version"}
_METADATA: Final = {"ledger": tables.ledger, "heads": tables.heads}
FIRST: Final = "0001"


def upgrade(ledger: Engine, heads: Engine, to: str = "head") -> None:
    """Bring both databases to a version; what is there already is left alone."""
    for history, engine in (("ledger", ledger), ("heads", heads)):
        # One transaction for all: it ends with every step done or with none.
        with engine.begin() as connection:
            _upgrade(connection, history, _METADATA[history], to)


def _upgrade(connection: Connection, history: str, metadata: MetaData, to: str) -> None:
    found = set(inspect(connection).get_table_names())
    is_ours, name = bool(found & metadata.tables.keys()), VERSION_TABLES[history]
    if name in found and to == "head":
        version = select(column("version_num", String)).select_from(table(name))
        if connection.execute(version).scalar() == LATEST[history]:
            return
    # Only now: this import takes longer than all that a start has to do here.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("version_locations", str(HERE / history))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, version_table=name, metadata=metadata)
    if name not in found and not is_ours and to == "head":
        metadata.create_all(connection)
        command.stamp(config, "head")
        return
    if name not in found and is_ours:
        # Made before there were versions.
        command.stamp(config, FIRST)
    command.upgrade(config, to)


# The newest step of each history: a start that has nothing to do need not read the steps.
LATEST: Final = {
    history: max(path.name.partition("_")[0] for path in (HERE / history).glob("[0-9]*.py"))
    for history in VERSION_TABLES
}
