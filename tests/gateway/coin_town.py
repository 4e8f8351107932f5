"""The town on a real node, which takes the chain's coin too: by acts of its Council, on the ledger and on chain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from contracts.bindings import COIN
from gateway.demo import ACT, DAY, RETENTION_END_S, SALE_CODE, Day, enact_all
from gateway.payments.service import Request
from gateway.payments.store import Invoice
from ledger import rules
from ledger.records import ZERO_HASH, Account, Asset, address_word, encode_name
from tests.gateway.anvil_town import AnvilTown, opened_on

COIN_ASSET = "ETH"
TIYN = 1_250_000


@contextmanager
def coin_town_on(built: Any, folder: Path, database: str = "") -> Iterator[AnvilTown]:
    """The town of `opened_on`, with the coin allowed, quoted, and with accounts for its revenue."""
    with opened_on(*built, folder, database, more={COIN_ASSET: COIN}) as town:
        day = Day(town.city, lambda _: None, sha256(ACT).digest())
        deployment = town.city.plan.deployment
        asset = Asset(0, COIN_ASSET, 18, deployment.chain_id, COIN, day.now, RETENTION_END_S, day.act)
        day.desk.act(asset, day.council)
        accounts = [
            ("treasury-eth", "chain", address_word(deployment.treasury)),
            (f"revenue-{SALE_CODE}-eth", "revenue", encode_name(SALE_CODE)),
        ]
        day.desk.act_all(
            [
                Account(0, name, COIN_ASSET, rules.RETAINED, kind, owner, ZERO_HASH, day.act)
                for name, kind, owner in accounts
            ],
            day.council,
        )
        day.publish()
        enact_all(day, [Asset], [COIN_ASSET])
        day.wait(14 * DAY + 60)
        day.rate()
        day.publish()
        town.poll()
        yield town


def coin_invoice(town: AnvilTown, **changes: Any) -> Invoice:
    """A merchant's invoice in the coin, quoted as any other."""
    town.references += 1
    asked: dict[str, Any] = {
        "merchant_id": town.merchant_id,
        "merchant_reference": f"coin-{town.references}",
        "payee": town.city.keys.address("merchant"),
        **changes,
    }
    made: Invoice = town.payments.create(Request(SALE_CODE, "Tea", TIYN, COIN_ASSET, **asked))
    return made
