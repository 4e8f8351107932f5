"""Brings the gateway's tables in a database to this version, whatever version made them.

An empty database gets today's tables at once; an older one is changed step by step, its rows
kept. The ledger's tables in the same database have a history of their own (ledger/migrations).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import String, column, inspect, select, table

# Each puts its tables into the metadata.
from gateway import db
from gateway.api import store as _api
from gateway.last_rates import store as _last_rates
from gateway.merchants import store as _merchants
from gateway.merchants.links import store as _links
from gateway.payments.store import tables as _payments
from gateway.relayer import store as _relayer
from gateway.sandbox import store as _sandbox
from gateway.sending import store as _sending
from gateway.steps import store as _steps
from gateway.watching import store as _watching
from gateway.webhooks import store as _webhooks
from gateway.webhooks.listing import store as _listing

HERE: Final = Path(__file__).parent
VERSION_TABLE: Final = "gateway_version"
FIRST: Final = "0001"
# What every gateway ever had; it tells an old database from an empty one.
OLDEST_TABLE: Final = "invoice"
STORES: Final = (
    _api, _last_rates, _links, _listing, _merchants, _payments, _relayer, _sandbox, _sending, _steps,
    _watching, _webhooks,
)  # fmt: skip


def upgrade(engine: db.Engine, to: str = "head") -> None:
    """Bring the gateway's tables to a version; what is there already is left alone.

    One transaction for all: it ends with every step done or with none.
    """
    with engine.begin() as connection:
        found = set(inspect(connection).get_table_names())
        if VERSION_TABLE in found and to == "head":
            version = select(column("version_num", String)).select_from(table(VERSION_TABLE))
            if connection.execute(version).scalar() == LATEST:
                return
        # Only now: this import takes longer than all that a start has to do here.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(HERE))
        config.set_main_option("version_locations", str(HERE / "versions"))
        config.set_main_option("path_separator", "os")
        config.attributes.update(connection=connection, version_table=VERSION_TABLE, metadata=db.metadata)
        if VERSION_TABLE not in found and OLDEST_TABLE not in found and to == "head":
            db.metadata.create_all(connection)
            command.stamp(config, "head")
            return
        if VERSION_TABLE not in found and OLDEST_TABLE in found:
            # Made before there were versions.
            command.stamp(config, FIRST)
        command.upgrade(config, to)


def _latest() -> str:
    return max(path.name.partition("_")[0] for path in (HERE / "versions").glob("[0-9]*.py"))


# The newest step: a start that has nothing to do need not read the steps.
LATEST: Final = _latest()
