"""The last good rate of each asset, one for all processes. SQL and nothing else."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256

from sqlalchemy import Column, Connection, Table, Text, select, update

from gateway.db import Amount, Integer64, insert_into, metadata
from gateway.rates import CombinedRate, SourcedRate

_last_rate = Table(
    "last_rate",
    metadata,
    Column("asset", Text, primary_key=True),
    Column("numerator", Amount, nullable=False),
    Column("denominator", Amount, nullable=False),
    Column("time_s", Integer64, nullable=False),
    # What the sources said, with their bodies: the rate can still be put on the ledger after a restart.
    Column("sources", Text, nullable=False),
)


def last_rate(connection: Connection, asset: str) -> CombinedRate | None:
    """The last good rate of an asset, whichever process believed it; None where there never was one."""
    row = connection.execute(select(_last_rate).where(_last_rate.c.asset == asset)).first()
    if row is None:
        return None
    sources = tuple(_source(asset, told) for told in json.loads(row.sources))
    return CombinedRate(asset, row.numerator, row.denominator, row.time_s, sources)


def replace_last_rate(connection: Connection, before: CombinedRate | None, after: CombinedRate) -> bool:
    """Keep a rate in the place of the one it was held against; False where another process was first."""
    values = {
        "numerator": after.numerator,
        "denominator": after.denominator,
        "time_s": after.time_s,
        "sources": json.dumps([_told(source) for source in after.sources]),
    }
    if before is None:
        new = insert_into(connection, _last_rate).values(asset=after.asset, **values)
        first = new.on_conflict_do_nothing(index_elements=["asset"]).returning(_last_rate.c.asset)
        return connection.execute(first).first() is not None
    swapped = (
        update(_last_rate)
        .where(
            _last_rate.c.asset == after.asset,
            _last_rate.c.numerator == before.numerator,
            _last_rate.c.denominator == before.denominator,
            _last_rate.c.time_s == before.time_s,
        )
        .values(**values)
        .returning(_last_rate.c.asset)
    )
    return connection.execute(swapped).first() is not None


def _told(source: SourcedRate) -> dict[str, str]:
    return {
        "source": source.source,
        "numerator": str(source.numerator),
        "denominator": str(source.denominator),
        "time_s": str(source.time_s),
        "body": b64encode(source.body).decode(),
    }


def _source(asset: str, told: dict[str, str]) -> SourcedRate:
    body = b64decode(told["body"])
    return SourcedRate(
        asset,
        int(told["numerator"]),
        int(told["denominator"]),
        told["source"],
        int(told["time_s"]),
        sha256(body).hexdigest(),
        body,
    )
